"""Moves of members, or their places, explained by the columns of the data."""

from collections.abc import Hashable, Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from aljax.columns import as_member, as_plain, check_hashable, is_missing
from aljax.config import SYNONYMS
from aljax.contributions.paths import Paths, follow_paths
from aljax.contributions.result import Contributions
from aljax.contributions.surroundings import dense
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError, few_of, in_words
from aljax.graph.conditioning import ANGLES, DEVICE_METRICS
from aljax.relations.mates import Mates, chain
from aljax.transform import check_fitted

LEAST = 4  # rows of a slice
TOLD = 3  # members that a message names


def explain(
    maps: Any,
    members: Any,
    *,
    between: Any = None,
    at: Any = None,
    columns: Sequence[str] | None = None,
) -> Contributions:
    """Returns how far each column of the data moved members from one slice to another.

    In the map of slice u a member's data go straight from those of slice t to those of
    slice u, while all others stay; the member follows the minimum of its loss, and

        move = sum_j int dy/dx_j dx_j + others + unexplained.

    The integral of column j is its contribution, and `others` is how far the member
    would have moved with its own data unchanged.  Unchanged means (in euclidean data)
    changed as the median of all mates in each column: where all rows change alike,
    nobody moves.  Members are moved alone, also those of a group, whose contributions
    are their means (`Contributions.mean`).  The members' mates, and what else holds
    them in the layout, hold them along the way.

    Args:
        maps: The maps, as `aljax.fit` returns them, or an estimator.
        members: An id, or a list of ids; without ids in the maps rows of slice t.
        between: The slices t and u, or their labels.
        at: A slice, instead of `between`: contributions are then to the members' places
            in it, from where a row like the slice's mean would lie.
        columns: The names of the columns; None for the model's own, or their numbers.

    Returns:
        A contribution for each member and column, and what else moved the members.

    Raises:
        InputError: A slice does not exist, has no data or fewer than 4 rows; the two
            are the same, or have other columns or no mates; a member is absent from
            one, or pinned there; the metric is not euclidean, cosine or correlation;
            or the maps are not Euclidean.

    Source: integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365) of
        the equilibrium of one point.
    """
    maps = getattr(maps, "maps_", maps)
    check_fitted(maps)
    if (between is None) == (at is None):
        got = "is None, and `at` too" if at is None else "is set beside `at`"
        raise InputError("between", got, "two slices, or else one as `at`")
    t, u = _read_pair(maps, between) if at is None else (_index(maps, at, "at"),) * 2
    name = "between" if at is None else "at"
    _check(maps, (t, u), name)
    named = _listed(maps, members)
    before = after = _rows(maps, named, t)
    if t == u:
        first = dense(maps.data[t]).mean(axis=0)
    else:
        mates = _mates(maps, t, u)
        after = _present(maps, named, [mates.get(row) for row in before.tolist()], u)
        first = dense(maps.data[t][before]) + _usual(maps, t, u, mates)
    _check_free(maps, named, after, u)
    last = dense(maps.data[u][after])
    first = np.broadcast_to(first, last.shape)
    followed = follow_paths(maps, u, Paths(first, last, after))
    end = np.asarray(maps.maps[u], float)[after]
    start = followed.starts if t == u else np.asarray(maps.maps[t], float)[before]
    names = _names(maps, u, last.shape[1], columns)
    labels = maps.slice_labels or [f"slice {s}" for s in range(len(maps.maps))]
    ends = [in_words(labels[s]) for s in (t, u)]
    title = f"at {ends[0]}" if t == u else " to ".join(ends)
    return Contributions(
        members=tuple(named),
        columns=names,
        values=followed.columns,
        start=start,
        end=end,
        others=followed.starts - start,
        lists=followed.lists,
        leaps=followed.leaps,
        unexplained=end - followed.starts - followed.columns.sum(axis=1),
        title=title,
    )


def _index(maps: AlignedEmbedding, slice: Any, name: str) -> int:  # noqa: A002
    try:
        return maps.index(slice)
    except InputError as error:
        raise error.renamed(name) from None


def _read_pair(maps: AlignedEmbedding, between: Any) -> tuple[int, int]:
    """Returns the two slices, which differ."""
    pair = as_plain(between)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise InputError("between", f"is {between!r}", "two slices, (t, u)")
    if len(maps.maps) < 2:
        got, remedy = "is set, but there is one slice", "Ask `at` it."
        raise InputError("between", got, "maps of several slices", remedy)
    t, u = (_index(maps, end, "between") for end in pair)
    if t == u:
        got, remedy = f"is twice {maps.slice_name(t)}", f"Or ask `at={t}`."
        raise InputError("between", got, "two different slices", remedy)
    return t, u


def _check(maps: AlignedEmbedding, pair: tuple[int, int], name: str) -> None:
    """Checks that the maps and two slices can be explained by columns."""
    metric = SYNONYMS.get(maps.graph.metric, maps.graph.metric)
    if metric not in DEVICE_METRICS:
        got, known = f"of the maps is {metric!r}", ", ".join(DEVICE_METRICS)
        remedy = "Others have no derivatives here."
        raise InputError("metric", got, f"one of {known}", remedy)
    if maps.params.space is not None:
        got = f"of the maps is {maps.params.space[0]!r}"
        raise InputError("output_metric", got, "'euclidean'")
    widths = []
    for s in pair:
        rows = maps.data[s]
        if rows is None:
            got = f"has no data of {maps.slice_name(s)}"
            expected = "maps that were fitted and saved with their data"
            raise InputError("maps", got, expected)
        if rows.shape[0] < LEAST:
            got = f"names {maps.slice_name(s)}, which has {rows.shape[0]} rows"
            raise InputError(name, got, f"slices of at least {LEAST} rows")
        widths.append(rows.shape[1])
    names = [None if maps.columns is None else maps.columns[s] for s in pair]
    if widths[0] != widths[1] or (all(names) and names[0] != names[1]):
        got = f"names {' and '.join(map(maps.slice_name, pair))}, whose columns differ"
        remedy = f"Ask for the places in one of them: `at={pair[1]}`."
        raise InputError(name, got, "slices of the same columns", remedy)


def _listed(maps: AlignedEmbedding, members: Any) -> list[Any]:
    """Returns the members, at least one."""
    plain = as_plain(members)
    single = not isinstance(plain, list | tuple | set | dict)
    single |= isinstance(plain, tuple) and any(plain in ids for ids in maps.ids or ())
    named = [plain] if single else list(plain)
    if not named:
        raise InputError("members", "is empty", "at least one member")
    check_hashable(named, "members")
    return named


def _names(maps: AlignedEmbedding, u: int, count: int, columns: Any) -> tuple[Any, ...]:
    """Returns the names of the columns, or their numbers."""
    slice_columns = None if maps.columns is None else maps.columns[u]
    names = tuple(
        as_plain(slice_columns if columns is None else columns) or range(count)
    )
    if len(names) != count:
        expected = f"a name for each of the {count} columns"
        raise InputError("columns", f"has {len(names)} names", expected)
    return names


def _rows(maps: AlignedEmbedding, named: Sequence[Hashable], t: int) -> np.ndarray:
    """Returns the members' rows in slice t."""
    if maps.ids is None:
        count = len(maps.maps[t])
        rows = [i if type(i) is int and 0 <= i < count else None for i in named]
    else:
        rows = [*map(_first_rows(maps.ids[t]).get, map(as_member, named))]
    return _present(maps, named, rows, t)


def _first_rows(members: Iterable[Hashable]) -> dict[Hashable, int]:
    """Returns the first row of each member of a slice; a missing id is nobody's."""
    rows = reversed([*enumerate(members)])
    return {as_member(m): row for row, m in rows if not is_missing(m)}


def _present(
    maps: AlignedEmbedding, named: Sequence[Any], rows: Sequence[Any], t: int
) -> np.ndarray:
    """Returns the members' rows of slice t; every member must have one."""
    lacking = [member for member, row in zip(named, rows, strict=True) if row is None]
    if lacking:
        got = f"names {few_of([*map(repr, lacking)], TOLD)}"
        got += f", absent from {maps.slice_name(t)}"
        kind = "rows" if maps.ids is None else "ids"
        raise InputError("members", got, f"{kind} of {maps.slice_name(t)}")
    return np.array(rows, int)


def _mates(maps: AlignedEmbedding, t: int, u: int) -> dict[int, int]:
    """Returns each row of slice t with its first mate in u, or one along others."""
    if maps.ids is not None:
        rows = _first_rows(maps.ids[u])
        pairs = enumerate(map(rows.get, map(as_member, maps.ids[t])))
        mates = {row: other for row, other in pairs if other is not None}
    else:
        first, last = min(t, u), max(t, u)
        linked = maps.relations.get((first, last - first))
        if linked is None:
            nobody = Mates(*np.zeros((3, 0), int))
            steps = [maps.relations.get((s, 1), nobody) for s in range(first, last)]
            linked = reduce(chain, steps)
        ends = (linked.rows, linked.others) if t < u else (linked.others, linked.rows)
        mates = dict(reversed([*zip(*map(np.ndarray.tolist, ends), strict=True)]))
    if not mates:
        names = " and ".join(map(maps.slice_name, (t, u)))
        remedy = "Fit with relations between them."
        raise InputError("between", f"names {names}, without mates", "mates", remedy)
    return mates


def _usual(maps: AlignedEmbedding, t: int, u: int, mates: dict[int, int]) -> Any:
    """Returns mates' median change in each column, which keeps distances."""
    if SYNONYMS.get(maps.graph.metric, maps.graph.metric) in ANGLES:
        return 0.0
    rows = [*mates], [*mates.values()]
    before, after = (
        dense(maps.data[s])[chosen] for s, chosen in zip((t, u), rows, strict=True)
    )
    return np.median(after - before, axis=0)


def _check_free(
    maps: AlignedEmbedding, named: Sequence[Any], rows: np.ndarray, u: int
) -> None:
    pinned = maps.pinned[u]
    if pinned is None:
        return
    held = [member for member, row in zip(named, rows, strict=True) if pinned[row]]
    if held:
        got = f"names {held[0]!r}, which is pinned in {maps.slice_name(u)}"
        raise InputError("members", got, "members whose data put them in their place")
