"""Relations as users give them, read as the mates of pairs of slices.

dicts   [{row of slice t: row of slice t+1}, ...]
ids     [[id of row 0, id of row 1, ...], ...]
pairs   {(s, t): pairs of rows, or (pairs, weights)}
"""

import numbers
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from aljax.columns import as_member, as_plain, check_hashable, is_missing
from aljax.errors import InputError, few_of, kind_of, warn
from aljax.graph.slices import Slice
from aljax.relations.mates import Mates, Relations, by_row, chain, read_weights

LARGEST_ROW = 2**62  # that NumPy's integers hold
DIRECTION = "Relations map rows of slice t to rows of slice t+1."
TURN = "Pass {new: old for old, new in relation.items()}."
PAIRS = "pairs {(s, t): array (m, 2)}"
SliceIds = tuple[Hashable, ...]
Slices = Sequence[Slice]
Made = TypeVar("Made")
OFFENDERS = 3  # repeated ids that a message names


class ReversedError(InputError):
    """Dicts that evidently map rows of a later slice to rows of the one before.

    Attributes:
        dicts: What these dicts are called, by their earlier slices.
    """

    dicts: Mapping[int, str] = {}

    @classmethod
    def about(
        cls, dicts: Mapping[int, str], got: str, expected: str, remedy: str
    ) -> "ReversedError":
        """Returns the error of some dicts; `got` and `expected` are of the first."""
        name, *others = dicts.values()
        if others:
            remedy += f" The same holds for {few_of([f'`{x}`' for x in others])}."
        error = cls(name, got, expected, remedy)
        error.dicts = dicts
        return error


def read_relations(
    relations: Any, slices: Slices, *, alignment_window_size: int
) -> Relations:
    """Returns checked mates of all slices that are within the window of each other.

    Args:
        relations: For each pair of consecutive slices a dict; or for each slice its
            ids; or a mapping from pairs of slices to pairs of rows, which are taken
            however far apart the slices are.  None or empty for a single slice.
        slices: Those they speak of.
        alignment_window_size: Farthest offset (slices, at least 1).

    Returns:
        For each (earlier slice, offset) the mates, with the user's weights as their
        strengths, or None.

    Raises:
        InputError: Relations of another kind or length, rows out of range, two rows
            mapped to one, dicts that fit only reversed, ids that repeat or cannot be
            hashed, weights that are negative or NaN.
    """
    if isinstance(relations, Mapping):
        return from_pairs(relations, slices)
    if is_ids(relations):
        return from_ids(read_ids(relations, slices), window=alignment_window_size)
    return from_dicts(relations, slices, window=alignment_window_size)


def is_ids(relations: Any) -> bool:
    """Returns whether relations are ids, a sequence for each slice."""
    if not isinstance(relations, Sequence | np.ndarray) or isinstance(relations, str):
        return False
    return len(relations) > 0 and not any(isinstance(r, Mapping) for r in relations)


def names_of_dicts(relations: Any) -> dict[int, str]:
    """Returns what dicts are called, by their earlier slices; {} for ids or pairs."""
    if not isinstance(relations, Sequence) or is_ids(relations):
        return {}
    return {t: f"relations[{t}]" for t in range(len(relations))}


def from_dicts(relations: Any, slices: Slices, *, window: int) -> Relations:
    """Returns the mates of a list of dicts, chained up to `window` slices ahead."""
    gaps = len(slices) - 1
    if relations is None and not gaps:
        return {}
    if not isinstance(relations, Sequence) or len(relations) != gaps:
        listed = isinstance(relations, Sequence)
        got = f"has {len(relations)} dicts" if listed else f"is {kind_of(relations)}"
        expected = f"{gaps} dicts {{row of slice t: row of slice t+1}}, one for each "
        expected += f"pair of consecutive slices; or ids for each slice; or {PAIRS}"
        raise InputError("relations", f"{got} for {gaps + 1} slices", expected)
    read: Relations = {}
    backward: list[ReversedError] = []
    for t, name in names_of_dicts(relations).items():
        try:
            step = from_dict(relations[t], t, slices, name=name)
            read |= follow(read, step, t, window=window)
        except ReversedError as error:
            backward.append(error)
    if backward:
        dicts = {t: name for error in backward for t, name in error.dicts.items()}
        raise ReversedError.about(dicts, *backward[0].args[1:])
    return dict(sorted(read.items()))


def follow(before: Relations, step: Mates, t: int, *, window: int) -> Relations:
    """Returns the mates that a step from slice t to t + 1 adds to those before it."""
    added = {(t, 1): step}
    for offset in range(1, window):
        if (t - offset, offset) in before:
            added[t - offset, offset + 1] = chain(before[t - offset, offset], step)
    return added


def from_dict(relation: Any, t: int, slices: Slices, *, name: str) -> Mates:
    """Returns the mates of a dict from slice t to slice t + 1; `name` is for errors."""
    pairs = _rows_of(relation, t, name)
    try:
        for column, verb in enumerate(("from", "to")):
            slice_, remedy = slices[t + column], DIRECTION
            _check_rows(pairs[:, column], slice_, name, f"maps {verb}", remedy=remedy)
    except InputError as error:
        sizes = [slice_.rows for slice_ in slices[t : t + 2]]
        swapped = pairs[:, ::-1]
        if ((swapped < 0) | (swapped >= sizes)).any():
            raise
        remedy = f"{DIRECTION} It would fit reversed: p{TURN[1:]}"
        statement = error.got, error.expected, remedy
        raise ReversedError.about({t: name}, *statement) from None
    return by_row(pairs)


def _rows_of(relation: Any, t: int, name: str) -> Int[np.ndarray, "mates 2"]:
    """Returns the rows of one dict as an array, in the order given."""
    expected = f"a dict {{row of slice {t}: row of slice {t + 1}}}"
    if not isinstance(relation, Mapping):
        raise InputError(name, f"is {kind_of(relation)}", expected)
    for row in (*relation.keys(), *relation.values()):
        whole = isinstance(row, numbers.Integral) and not isinstance(row, bool)
        if not whole or abs(int(row)) > LARGEST_ROW:
            raise InputError(name, f"has {row!r} ({type(row).__name__})", expected)
    pairs = np.array([*relation.items()], dtype=np.int64).reshape(-1, 2)
    others, counts = np.unique(pairs[:, 1], return_counts=True)
    for other in others[counts > 1]:
        rows = pairs[pairs[:, 1] == other, 0]
        got = f"maps rows {rows[0]} and {rows[1]} to the same row {other}"
        expected = f"at most one mate for each row of slice {t + 1}"
        raise InputError(name, got, expected, f"Give several as {PAIRS}.")
    return pairs


def _check_rows(
    rows: np.ndarray, slice_: Slice, name: str, got: str, *, remedy: str = ""
) -> None:
    wrong = rows[(rows < 0) | (rows >= slice_.rows)]
    if wrong.size:
        expected = f"rows 0 to {slice_.rows - 1} of {slice_.name}"
        expected = expected if slice_.rows else f"no row, for {slice_.name} has none"
        raise InputError(name, f"{got} row {wrong[0]}", expected, remedy)


def turning(call: Callable[[Any], Made], relations: Any) -> Made:
    """Returns the result of a call, for which reversed dicts are turned and warned of.

    `relations` are all that it takes: a list of dicts, or a dict for an update.
    """
    try:
        return call(relations)
    except ReversedError as error:
        (t, name), *others = error.dicts.items()
        also = f" (so were {few_of([x for _, x in others])})" * bool(others)
        warn(
            f"`{name}` is reversed and was read from slice {t + 1} to slice {t}{also}. "
            + DIRECTION
        )
        if isinstance(relations, Mapping):
            turned: Any = turn(relations)
        else:
            turned = [
                turn(relation) if t in error.dicts else relation
                for t, relation in enumerate(relations)
            ]
    return turning(call, turned)


def turn(relation: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns a dict read the other way round."""
    return {new: old for old, new in relation.items()}


def is_dict(relations: Any) -> bool:
    """Tells a dict of rows from explicit pairs, keyed by two slices, and from ids."""
    if not isinstance(relations, Mapping):
        return False
    return not any(isinstance(key, tuple) for key in relations)


def read_ids(ids: Any, slices: Slices) -> tuple[SliceIds, ...]:
    """Returns checked ids, one for each row; None and NaN belong to nobody.

    Slices with the ids of the slice before share one tuple: of millions of rows, a
    tuple for each slice would be as large as a graph.
    """
    if len(ids) != len(slices):
        expected = f"{len(slices)} sequences of ids, one a slice"
        raise InputError("relations", f"has ids for {len(ids)} slices", expected)
    read: list[SliceIds] = []
    for t, (values, slice_) in enumerate(zip(ids, slices, strict=True)):
        repeated = t > 0 and len(read[-1]) == slice_.rows and _same(values, ids[t - 1])
        name = f"relations[{t}]"
        read.append(read[-1] if repeated else read_slice_ids(values, slice_, name=name))
    return tuple(read)


def _same(values: Any, before: Any) -> bool:
    """Tells at no great cost that two columns of ids are the same; False if unsure."""
    arrays = isinstance(values, np.ndarray) and isinstance(before, np.ndarray)
    same_type = arrays and values.dtype == before.dtype and values.dtype.kind in "iuU"
    return values is before or (same_type and np.array_equal(values, before))


def read_slice_ids(
    values: Any, slice_: Slice, *, name: str, rows: Sequence[int] | None = None
) -> SliceIds:
    """Returns checked ids of one slice; `name` and numbers of `rows` are for errors."""
    ids, owner = as_plain(values), f"of {slice_.name}"
    expected = f"one id for each of its {slice_.rows} rows, None for nobody"
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        raise InputError(name, f"{owner} is {kind_of(values)}", expected)
    if len(ids) != slice_.rows:
        raise InputError(name, f"{owner} has {len(ids)} ids", expected)
    check_hashable(ids, name, f"{owner} ")
    first: dict[Hashable, int] = {}
    rows = range(slice_.rows) if rows is None else rows
    repeated = [
        f"{value!r} in rows {rows[first[value]]} and {rows[row]}"
        for row, value in enumerate(ids)
        if not is_missing(value) and first.setdefault(value, row) != row
    ]
    if repeated:
        more = len(repeated) - OFFENDERS
        got = f"{owner} repeats {'; '.join(repeated[:OFFENDERS])}"
        got += f"; and {more} more" if more > 0 else ""
        remedy = f"Drop rows, or give {PAIRS}."
        raise InputError(name, got, "every id at most once in a slice", remedy)
    return tuple(None if is_missing(value) else value for value in ids)


def from_ids(ids: Sequence[SliceIds], *, window: int, first: int = 1) -> Relations:
    """Returns rows with the same id in slices within the window of each other.

    Only pairs whose later slice is `first` or one after it are read.  Where slices
    share a tuple of ids, as `read_ids` makes them, their pairs share their mates.
    """

    @cache
    def rows(t: int) -> dict[Hashable, int]:
        values = enumerate(ids[t])
        return {as_member(v): row for row, v in values if not is_missing(v)}

    @cache
    def between(t: int, later: int) -> Mates:
        later_rows = rows(later)
        pairs = [(row, later_rows[v]) for v, row in rows(t).items() if v in later_rows]
        return by_row(np.array(pairs, np.int64).reshape(-1, 2))

    # For each slice the first one that has the very same ids.
    named = {id(values): t for t, values in reversed([*enumerate(ids)])}
    original = [named[id(values)] for values in ids]
    return {
        (t, later - t): between(original[t], original[later])
        for t in range(max(0, first - window), len(ids))
        for later in range(max(t + 1, first), min(t + window + 1, len(ids)))
    }


def from_pairs(relations: Mapping[Any, Any], slices: Slices) -> Relations:
    """Returns the mates of explicit pairs; a row may have several."""
    check_keys(relations, len(slices))
    read: Relations = {}
    for (s, t), values in relations.items():
        pair = int(min(s, t)), int(abs(s - t))
        if pair in read:
            got = f"has both {(t, s)} and {(s, t)}"
            raise InputError("relations", got, "one of them with all pairs")
        read[pair] = _from_pair(values, (s, t), slices)
    return dict(sorted(read.items()))


def check_keys(relations: Mapping[Any, Any], count: int) -> None:
    """Checks that the keys of explicit pairs are two of `count` slices."""
    for key in relations:
        pair = isinstance(key, tuple) and len(key) == 2
        pair = pair and all(isinstance(t, numbers.Integral) for t in key)
        if not pair or key[0] == key[1] or min(key) < 0 or max(key) >= count:
            expected = f"pairs of two different slices of 0 to {count - 1}, as in "
            expected += "{(0, 1): array (m, 2)}, or a list of dicts"
            raise InputError("relations", f"has the key {key!r}", expected)


def _from_pair(values: Any, key: tuple[int, int], slices: Slices) -> Mates:
    name, weights = f"relations[{key[0]}, {key[1]}]", None
    expected = "whole numbers of shape (m, 2), or such an array and weights (m,)"
    try:
        if isinstance(values, tuple) and len(values) == 2 and np.ndim(values[0]) == 2:
            values, weights = values
        pairs = np.asarray(values)
    except ValueError as error:
        raise InputError(name, f"is not an array ({error})", expected) from error
    if pairs.size == 0:
        pairs = np.zeros((0, 2), dtype=np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        got = f"has shape {pairs.shape} and dtype {pairs.dtype}"
        raise InputError(name, got, expected)
    for column, t in enumerate(key):
        _check_rows(pairs[:, column], slices[t], name, f"has in column {column}")
    if len(np.unique(pairs, axis=0)) < len(pairs):
        expected = "each once, with a weight that says how surely they belong together"
        raise InputError(name, "has a pair of rows twice", expected)
    owners = " and ".join(slices[t].name for t in key)
    weights = read_weights(weights, len(pairs), f"{name}[1]", owners)
    pairs = pairs.astype(np.int64)
    return by_row(pairs if key[0] < key[1] else pairs[:, ::-1], weights)
