"""Mates: rows of two slices that are the same member, and how strongly they hold.

Members are such rows followed through the sequence.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from aljax.columns import RowValues, as_member, as_plain, is_missing, per_row
from aljax.errors import InputError, kind_of
from aljax.graph.slices import Slice


class Mates(NamedTuple):
    """Mates between two slices, each pair once, in the order of the earlier's rows.

    Attributes:
        rows: Rows of the earlier slice.
        others: For each of them a row of the later slice.
        strengths: How strongly each pair holds (at least 0).  Before `relate` the
            user's weights, or None.
        moves: How far each pair lies apart in the data; None where not measured.
    """

    rows: Int[np.ndarray, "_"]
    others: Int[np.ndarray, "_"]
    # Typed as arrays, which they are in all that a fit returns.
    strengths: Float[np.ndarray, "_"] = None  # pyright: ignore[reportAssignmentType]
    moves: Float[np.ndarray, "_"] = None  # pyright: ignore[reportAssignmentType]

    def where(self, chosen: Bool[np.ndarray, "_"]) -> "Mates":
        """Returns the chosen pairs."""
        parts = self._asdict().items()
        return self._replace(**{name: v[chosen] for name, v in parts if v is not None})


# Keyed by (earlier slice, offset).
Relations = dict[tuple[int, int], Mates]


def by_row(pairs: Int[np.ndarray, "_ 2"], weights: Any = None) -> Mates:
    """Returns mates in the order of the earlier slice's rows, then of the later's."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    rows, others = pairs[order].T
    sorted_weights: Any = None if weights is None else weights[order]
    return Mates(rows, others, sorted_weights)


def chain(first: Mates, second: Mates) -> Mates:
    """Returns mates (i, k) with (i, j) in `first` and (j, k) in `second` for some j."""
    size = 1 + max(int(side.max(initial=0)) for side in (*first[:2], *second[:2]))
    links, more = (
        csr_array((np.ones(mates.rows.size), mates[:2]), shape=(size, size))
        for mates in (first, second)
    )
    return by_row(np.column_stack((links @ more).nonzero()).astype(np.int64))


def companions(
    rows: Int[np.ndarray, "_"], others: Int[np.ndarray, "_"]
) -> Int[np.ndarray, "_"]:
    """Returns for each pair the larger of its two rows' numbers of mates."""
    return np.maximum(*(np.bincount(side)[side] for side in (rows, others)))


def read_weights(
    weights: Any, count: int, name: str, owner: str
) -> Float[np.ndarray, "_"] | None:
    """Returns `count` finite weights of at least 0; None stays None.

    In messages `name` is the argument that they are, and `owner` the slices.

    Raises:
        InputError: Another shape or kind, a weight below 0, NaN or infinite.
    """
    if weights is None:
        return None
    expected = f"{count} finite numbers of at least 0, one for each"
    try:
        checked = np.array(weights, dtype=float)  # a copy: they are kept
    except (TypeError, ValueError) as error:
        got = f"of {owner} cannot be read as numbers ({error})"
        raise InputError(name, got, expected) from error
    if checked.shape != (count,):
        raise InputError(name, f"of {owner} has shape {checked.shape}", expected)
    wrong = np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))
    if wrong.size:
        got = f"of {owner} has {checked[wrong[0]]} at {wrong[0]}"
        raise InputError(name, got, expected)
    return checked


def check_mates(relations: Any) -> None:
    """Checks that relations are `Mates`, as a fit has them, not as users give them.

    Raises:
        InputError: They are anything else.
    """
    got = f"is {kind_of(relations)}"
    if isinstance(relations, Mapping):
        if all(isinstance(mates, Mates) for mates in relations.values()):
            return
        got += " of other values than `Mates`"
    expected, remedy = "the mates that a fit found", "Pass `fitted.relations`."
    raise InputError("relations", got, expected, remedy)


def linked(relations: Relations) -> Relations:
    """Returns the relations that have mates: others need no place in a layout."""
    return {pair: mates for pair, mates in relations.items() if mates.rows.size}


def read_pull(weights: Any, name: str, slice_: Slice, _: int) -> np.ndarray | None:
    """Returns how strongly each row of a slice pulls at its mates, checked."""
    return read_weights(weights, slice_.rows, name, slice_.name)


class Members(NamedTuple):
    """The members of each slice, by row, as places in `names`."""

    codes: list[Int[np.ndarray, "_"]]
    names: list[str]


def members_by_id(ids: RowValues, sizes: Sequence[int]) -> Members:
    """Returns the members of rows with the same id; a missing id is nobody's."""
    places: dict[Any, int] = {}
    names: list[str] = []
    codes = []
    for t, rows in enumerate(per_row("ids", ids, sizes, exact=True)):
        code = np.empty(len(rows), dtype=int)
        for row, name in enumerate(as_plain(rows)):
            missing = is_missing(name)
            # A row without an id is nobody's mate.
            key = object() if missing else as_member(name)
            code[row] = places.setdefault(key, len(names))
            if code[row] == len(names):
                names.append("" if missing else str(name))
        if len(np.unique(code)) < len(code):
            got = f"has the same id in several rows of slice {t}"
            raise InputError("ids", got, "every id at most once in a slice")
        codes.append(code)
    return Members(codes, names)


def members_by_relations(relations: Relations, sizes: Sequence[int]) -> Members:
    """Each row takes the member of its nearest earlier mate that is not taken yet."""
    codes: list[np.ndarray] = []
    names: list[str] = []
    for t, size in enumerate(sizes):
        code = np.full(size, -1)
        for before in range(t - 1, -1, -1):
            mates = relations.get((before, t - before))
            if mates is None:
                continue
            rows, others = np.asarray(mates.rows), np.asarray(mates.others)
            _, first = np.unique(others, return_index=True)
            free = first[code[others[first]] < 0]
            members, firsts = np.unique(codes[before][rows[free]], return_index=True)
            firsts = firsts[~np.isin(members, code)]
            code[others[free[firsts]]] = codes[before][rows[free[firsts]]]
        new = np.flatnonzero(code < 0)
        code[new] = len(names) + np.arange(len(new))
        names += [f"{t}-{row}" for row in new]
        codes.append(code)
    return Members(codes, names)
