"""Links from ids: rows with one id are mates, wherever in the window they stand."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from aljax.graph.links import Correspondence, Slices, by_row

SliceIds = tuple[Hashable, ...]
OFFENDERS = 3  # how many are named


def read_ids(ids: Any, slices: Slices) -> tuple[SliceIds, ...]:
    """Checked ids: for each slice one for each row; None and NaN are nobody's.

    Raises:
        ValueError: Not as many ids as slices or rows, an id that repeats within its
            slice (names the first) or cannot be hashed.
    """
    if len(ids) != len(slices.sizes):
        raise ValueError(
            f"`relations` has ids for {len(ids)} slices, but there are "
            f"{len(slices.sizes)}; expected one sequence of ids for each slice."
        )
    return tuple(read_slice_ids(one, t, slices) for t, one in enumerate(ids))


def read_slice_ids(
    given: Any, t: int, slices: Slices, *, argument: str = "relations"
) -> SliceIds:
    """One slice's ids, as `read_ids` checks them; messages name the argument."""
    name = f"`{argument}`: the ids of {slices.name(t)}"
    ids = as_plain(given)
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        raise ValueError(
            f"{name} are a {type(given).__name__}; expected a sequence "
            "with one id for each row."
        )
    if len(ids) != slices.sizes[t]:
        raise ValueError(
            f"{name} are {len(ids)} for {slices.sizes[t]} rows; expected "
            "one for each row (None for a row without mates)."
        )
    rows: dict[Hashable, int] = {}
    repeated = []
    for row, one in enumerate(ids):
        try:
            first = row if is_missing(one) else rows.setdefault(one, row)
        except TypeError as error:
            raise ValueError(
                f"{name} have {one!r} ({type(one).__name__}) in row {row}, which "
                "cannot be hashed; expected strings, numbers or tuples."
            ) from error
        if first != row:
            repeated.append(f"{one!r} in rows {rows[one]} and {row}")
    if repeated:
        more = len(repeated) - OFFENDERS
        raise ValueError(
            f"{name} repeat: {'; '.join(repeated[:OFFENDERS])}"
            f"{f'; and {more} more' if more > 0 else ''}. Expected every id at most "
            "once in a slice; drop rows, or give pairs {(s, t): array (m, 2)}."
        )
    return tuple(None if is_missing(one) else one for one in ids)


def as_plain(values: Any) -> Any:
    """A column, whichever library it is from, as a list of plain Python values.

    What is neither a column nor a list stays as it is.
    """
    if isinstance(values, np.ndarray | np.generic) and values.dtype == "M8[ns]":
        # Of nanoseconds, which Python's times do not have, `tolist` makes numbers.
        values = values.astype("M8[us]")
    convert = getattr(values, "tolist", None) or getattr(values, "to_list", None)
    column = convert() if convert else values
    if isinstance(column, list | tuple):
        return [as_plain(one) if isinstance(one, np.generic) else one for one in column]
    return column


def is_missing(one: Hashable) -> bool:
    """Whether an id or label stands for none: None, NaN, or pandas' NA and NaT."""
    if one is None or type(one).__name__ in ("NAType", "NaTType"):  # pandas' own
        return True
    return isinstance(one, float) and one != one


def join_ids(ids: Sequence[SliceIds], *, window: int) -> Correspondence:
    """Rows with the same id in every pair of slices within the window."""
    rows = [
        {one: row for row, one in enumerate(of) if not is_missing(one)} for of in ids
    ]
    links: Correspondence = {}
    for t in range(len(ids) - 1):
        for offset in range(1, min(window, len(ids) - 1 - t) + 1):
            later = rows[t + offset]
            pair = [(row, later[one]) for one, row in rows[t].items() if one in later]
            links[t, offset] = by_row(np.array(pair, dtype=np.int64).reshape(-1, 2))
    return links
