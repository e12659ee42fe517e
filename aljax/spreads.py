"""Columns or cells that decide the distances alone, or number the rows: warned of.

The share of a column in the squared distances between rows of a slice is the share of
its variance, sum_t n_t v_t over all columns' (v_t is the variance within slice t).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from aljax.columns import as_plain
from aljax.config import SYNONYMS
from aljax.errors import few_of, warn
from aljax.graph.slices import Slice

# Parts of the squared distances that a quarter of the columns (or one), or a twentieth,
# should not make.
MOST = ((0.99, 1 / 4, 1), (0.9, 1 / 20, 0))
FEWEST = 3  # columns, which can be compared
CODES = 10  # ids or rows, from which on a column may be a code of them
NEARLY = 0.9  # of the numbers are those of a row or id
FAR, RARE = 50, 0.01  # quartile ranges from the median, of all cells of a column
SCREEN = 10  # deviations, within which no cell is sought that is far
SAMPLE = 1000  # rows of a slice whose variance stands for all
UNITS = ("euclidean", "manhattan", "chebyshev", "minkowski")  # metrics that have them

NUMBER = "numbers the rows: each has a whole number of its own"
CODE = "is a code: each id has a whole number, always the same"

# What helps against unlike units, and against cells far out: of `fit`, of `UMAP`.
OF_FIT = (
    '`scale="standard"` compares columns in units of their own spread; `scale="none"` '
    "is quiet.",
    'Correct it, or take `scale="robust"`.',
)
OF_PIPELINES = (
    "scikit-learn's `make_pipeline(StandardScaler(), UMAP(...))` compares columns in "
    "units of their own spread.",
    "Correct it, or take `make_pipeline(RobustScaler(), UMAP(...))`.",
)

Rows = Sequence[np.ndarray]
Place = Callable[[int, int], str]  # says where a cell is, by its slice and row


def warn_of_columns(
    slices: Sequence[Slice],
    ids: Any = None,
    scale: Any = None,
    remedies: tuple[str, str] = OF_FIT,
) -> None:
    """Warns of columns of slices that decide alone, or look like codes.

    Args:
        slices: As they came; without gaps if `scale` is None.
        ids: For each slice its rows' ids, if relations are ids.
        scale: As in `fit`: None warns of units, "standard" of single cells, and all
            but "none" of codes.
        remedies: What helps against unlike units, and against cells far out.
    """
    rows: list[Any] = [slice_.dense for slice_ in slices]
    metric = slices[0].metric
    if not isinstance(metric, str) or SYNONYMS.get(metric, metric) not in UNITS:
        return
    if any(x is None for x in rows) or len({x.shape[1] for x in rows}) > 1:
        return
    if not any(map(len, rows)):
        return
    width = rows[0].shape[1]
    names = slices[0].columns or tuple(range(width))

    def place(t: int, row: int) -> str:
        return f"row {row} of {slices[t].name}"

    remedy, robust = remedies
    if scale is None:
        warn_of_units(rows, names, place, remedy=remedy, robust=robust)
    elif isinstance(scale, str) and scale == "standard":
        warn_of_cells(rows, names, place, robust)
    if isinstance(scale, str) and scale == "none":
        return
    if ids is not None:
        ids = [row_id for ids_of_slice in ids for row_id in as_plain(ids_of_slice)]
    warn_of_codes(rows, names, ids, lambda _: "Leave it out.")


def warn_of_units(
    rows: Rows, names: Sequence[Hashable], place: Place, *, remedy: str, robust: str
) -> None:
    """Warns if a few of many columns make nearly all of the distances.

    Args:
        rows: Of each slice.
        names: Of the columns.
        place: Says where a cell is.
        remedy: The last sentence of the warning.
        robust: That of the warning of single cells, if they are what makes it.
    """
    share = shares(rows)
    order = np.argsort(-share, kind="stable")
    varying = np.count_nonzero(share)
    if not varying and max(map(len, rows)) >= FEWEST:
        warn("rows do not differ in any column within their slices: maps show nothing.")
    for most, fraction, least in MOST if varying >= FEWEST else ():
        needed = int(np.searchsorted(np.cumsum(share[order]), most)) + 1
        if needed > max(int(fraction * varying), least):
            continue
        if _warn_of_far(rows, names, order[:needed], place, robust) < needed:
            shown = few_of([repr(names[column]) for column in order[:needed]])
            warn(
                f"{most:.0%} of the squared distances between rows come from {needed} "
                f"of {len(share)} columns ({shown}); the others hardly count. {remedy}"
            )
        return


def warn_of_cells(
    rows: Rows, names: Sequence[Hashable], place: Place, robust: str
) -> None:
    """Warns of cells so far from others that a deviation measures nothing but them."""
    tables = [table for table in rows if len(table)]
    count = np.maximum(sum(np.isfinite(table).sum(axis=0) for table in tables), 1)
    mean = sum(np.nansum(table, axis=0, dtype=float) for table in tables) / count
    moments = [np.nansum((table - mean) ** 2, axis=0) for table in tables]
    reach = np.max(
        [np.nan_to_num(np.abs(x - mean)).max(axis=0) for x in tables], axis=0
    )
    columns = np.flatnonzero(reach > SCREEN * np.sqrt(sum(moments) / count))
    _warn_of_far(rows, names, columns, place, robust)


def _warn_of_far(
    rows: Rows, names: Sequence[Hashable], columns: Any, place: Place, robust: str
) -> int:
    """Warns of a few cells that make a column's spread; returns of how many columns."""
    sizes, count = [*map(len, rows)], 0
    for column in columns:
        values = np.concatenate([table[:, column] for table in rows]).astype(float)
        low, middle, high = np.nanpercentile(values, [25, 50, 75])
        gaps = np.nan_to_num(np.abs(values - middle))
        far = np.flatnonzero(gaps > FAR * (high - low)) if high > low else np.zeros(0)
        rare = 0 < len(far) <= max(RARE * len(values), 1)
        if not rare or (gaps[far] ** 2).sum() < 0.9 * (gaps**2).sum():
            continue
        count += 1
        farthest = int(gaps.argmax())
        t = int(np.searchsorted(np.cumsum(sizes), farthest, side="right"))
        cells = "one cell makes" if len(far) == 1 else f"{len(far)} cells make"
        warn(
            f"{cells} nearly all of the spread of column {names[column]!r}, such as "
            f"{values[farthest]:g} in {place(t, farthest - sum(sizes[:t]))}. {robust}"
        )
    return count


def shares(rows: Rows) -> np.ndarray:
    """Returns each column's share of the squared distances within slices."""
    total = np.zeros(rows[0].shape[1])
    for table in rows:
        if len(table):
            total += len(table) * table[:: 1 + len(table) // SAMPLE].var(
                axis=0, dtype=float
            )
    return total / max(total.sum(), np.finfo(float).tiny)


def warn_of_codes(
    rows: Rows,
    names: Sequence[Hashable],
    ids: Sequence[Any] | None,
    remedy: Callable[[Sequence[Hashable]], str],
) -> None:
    """Warns of whole numbers that count the rows, or of which each id has its own.

    `remedy` says how columns of these names are left out.
    """
    count = sum(map(len, rows))
    known = None if ids is None or len(ids) != count else ids
    members = count if known is None else len({*known})
    if count < CODES:
        return
    known = known if members >= CODES else None
    low = np.fmin.reduce([np.fmin.reduce(table) for table in rows if len(table)])
    high = np.fmax.reduce([np.fmax.reduce(table) for table in rows if len(table)])
    columns_of: dict[str, list[Any]] = {NUMBER: [], CODE: []}
    # Most whole numbers, as those of images, are too few for a code.
    least = NEARLY * max(members, CODES)
    for column in np.flatnonzero(high - low + 1 >= least).tolist():
        values = np.concatenate([table[:, column] for table in rows])
        held = np.flatnonzero(~np.isnan(values)).tolist()
        values = values[held]
        if (values != np.floor(values)).any():
            continue
        numbers = high[column] - low[column] + 1  # some may be of rows left out
        if len(np.unique(values)) == count >= NEARLY * numbers:
            columns_of[NUMBER].append(names[column])
        elif known is not None and _is_code(values, [known[row] for row in held]):
            columns_of[CODE].append(names[column])
    if len(columns_of[NUMBER]) > 1:  # ranks
        columns_of[NUMBER].clear()
    for suspicion, columns in columns_of.items():
        if columns:
            shown = few_of([*map(repr, columns)])
            alone = "Rows are compared by nothing else: add columns."
            advice = alone if len(columns) == len(names) else remedy(columns)
            warn(f"it seems that column {shown} {suspicion}. {advice}")


def _is_code(values: np.ndarray, ids: Sequence[Any]) -> bool:
    """Tells if each id has a number, and nearly each another one."""
    members, distinct = len({*ids}), len(np.unique(values))
    pairs = {*zip(ids, values.tolist(), strict=True)}
    repeat = members < len(values)
    return repeat and len(pairs) == members and distinct >= NEARLY * members
