"""Relations read: dicts, ids or pairs in, linked rows of two slices out."""

import numbers
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from aljax.columns import as_plain, is_missing
from aljax.errors import warn
from aljax.graph.slices import Slice
from aljax.relations.mates import (
    Correspondence,
    Links,
    by_row,
    chain,
    read_weights,
)

RelationDict = Mapping[int, int]
LARGEST_ROW = 2**62  # of what NumPy's integers hold
DIRECTION = "relations map rows of slice t to rows of slice t+1"
TURN = "pass {new: old for old, new in relation.items()}."
SAME_ROWS = 0.9  # share of identical rows above which a reading is surely right
FEW_SAME_ROWS = 0.1  # and below which it is surely wrong
SliceIds = tuple[Hashable, ...]
OFFENDERS = 3  # how many are named


def read_relations(
    relations: Any, slices: Sequence[Slice], *, alignment_window_size: int
) -> Correspondence:
    """Checked links between all slices that are within the window of each other.

    Args:
        relations: For each pair of consecutive slices a dict; or for each slice its
            ids; or a mapping from pairs of slices to pairs of rows, which are taken
            however far apart the slices are.  None or empty for a single slice.
        slices: The slices; their data serve to notice dicts given backwards.
        alignment_window_size: Farthest offset (slices, at least 1).

    Raises:
        ValueError: What is none of these, of the wrong length, has rows out of range,
            two rows mapped to one, a dict that is evidently reversed, ids that
            repeat or cannot be hashed, weights that are negative or NaN.
    """
    window = alignment_window_size
    if isinstance(relations, Mapping):
        links = read_pairs(relations, slices)
    elif is_ids(relations):
        links = join_ids(read_ids(relations, slices), window=window)
    else:
        links = read_dicts(relations, slices, window=window)
    warn_alone(links, slices)
    return links


def is_ids(relations: Any) -> bool:
    """Whether relations are given as ids: sequences, and no dicts, for each slice."""
    if not isinstance(relations, Sequence | np.ndarray) or isinstance(relations, str):
        return False
    return len(relations) > 0 and not any(isinstance(r, Mapping) for r in relations)


def warn_alone(
    links: Correspondence, slices: Sequence[Slice], *, first: int = 1
) -> None:
    """Warn of slices, from `first` on, that nothing holds to those before."""
    held = {t + offset for (t, offset), one in links.items() if one.rows.size}
    for t in range(first, len(slices)):
        if t not in held:
            warn(
                f"{slices[t].name} has no mates in the slices before it: alignment has "
                "nothing to hold it by.",
            )


def read_dicts(
    relations: Any, slices: Sequence[Slice], *, window: int
) -> Correspondence:
    """The links of a list of dicts, chained up to `window` slices ahead.

    Raises:
        ValueError: As `read_dict` does, or not one dict for each gap.
    """
    gaps = len(slices) - 1
    dicts = _check_count(relations, gaps)
    steps = [read_dict(one, t, slices) for t, one in enumerate(dicts)]
    links: Correspondence = {}
    for t, step in enumerate(steps):
        links[t, 1] = step
        for offset in range(2, min(window, gaps - t) + 1):
            links[t, offset] = chain(links[t, offset - 1], steps[t + offset - 1])
    return links


def _check_count(relations: Any, gaps: int) -> Sequence[RelationDict]:
    needs = f"expected {gaps}, one dict for each pair of consecutive slices"
    if relations is None:
        if gaps:
            raise ValueError(
                f"`relations` is None, but there are {gaps + 1} slices; {needs} "
                "({row of slice t: row of slice t+1}), ids for each slice, or pairs "
                "{(s, t): array of rows}."
            )
        return []
    if not isinstance(relations, Sequence):
        raise ValueError(
            f"`relations` is a {type(relations).__name__}; expected a list of dicts, "
            "one for each pair of consecutive slices, of ids for each slice, or a "
            "mapping {(s, t): pairs of rows}."
        )
    if len(relations) != gaps:
        raise ValueError(
            f"`relations` has {len(relations)} dicts for {gaps + 1} slices; {needs}."
        )
    return relations


def read_dict(
    relation: Any, t: int, slices: Sequence[Slice], *, name: str | None = None
) -> Links:
    """The links of one dict from slice t to slice t + 1; `name` is for messages.

    Raises:
        ValueError: Not a dict, a row that is no whole number or not in its slice,
            two rows mapped to one, or a dict that is evidently reversed.
    """
    name = name or f"relations[{t}]"
    pair, two = as_pairs(relation, t, name=name), slice(t, t + 2)
    _check_rows(pair, t, slices, name)
    if is_reversed(pair, slices[two]):
        raise ValueError(
            f"`{name}` is reversed: read from {slices[t + 1].name} to "
            f"{slices[t].name} its rows are the same data, as given they are not; "
            f"{TURN}"
        )
    return by_row(pair)


def as_pairs(
    relation: Any, t: int, *, name: str | None = None
) -> Int[np.ndarray, "mates 2"]:
    """The rows of one dict as an array, in the order given.

    Raises:
        ValueError: Not a dict, a row that is no whole number, or two rows mapped to
            the same one.
    """
    name = name or f"relations[{t}]"
    if not isinstance(relation, Mapping):
        raise ValueError(
            f"`{name}` is a {type(relation).__name__}; expected a dict "
            "{row of slice t: row of slice t+1}."
        )
    for row in (*relation.keys(), *relation.values()):
        whole = isinstance(row, numbers.Integral) and not isinstance(row, bool)
        if not whole or abs(int(row)) > LARGEST_ROW:
            raise ValueError(
                f"`{name}` has {row!r} ({type(row).__name__}) as a row; "
                "expected whole numbers, rows of the two slices."
            )
    pair = np.array([*relation.items()], dtype=np.int64).reshape(-1, 2)
    others, counts = np.unique(pair[:, 1], return_counts=True)
    if (counts > 1).any():
        other = others[counts > 1][0]
        rows = pair[pair[:, 1] == other, 0].tolist()
        raise ValueError(
            f"`{name}` maps rows {rows[0]} and {rows[1]} to the same row "
            f"{other}; expected every row of slice {t + 1} to have at most one mate. "
            "Explicit pairs {(s, t): array (m, 2)} allow several."
        )
    return pair


def _check_rows(
    pair: Int[np.ndarray, "mates 2"], t: int, slices: Sequence[Slice], name: str
) -> None:
    sizes = [one.rows for one in slices[t : t + 2]]
    for side, verb in ((0, "maps from"), (1, "maps to")):
        rows, size = pair[:, side], sizes[side]
        wrong = rows[(rows < 0) | (rows >= size)]
        if wrong.size:
            fits = _in_range(pair[:, ::-1], sizes)
            hint = f" It would fit reversed: {TURN}" if fits else ""
            raise ValueError(
                f"`{name}` {verb} row {wrong[0]}, but {slices[t + side].name} "
                f"has {size} rows (0 to {size - 1}); {DIRECTION}.{hint}"
            )


def is_reversed(pair: Int[np.ndarray, "mates 2"], slices: Sequence[Slice]) -> bool:
    """Whether pairs of rows of two slices evidently stand in the wrong order.

    They do where only the other order is in range, and where at least 90 % of the
    pairs are identical rows in the other order and under 10 % in the given one.

    Args:
        pair: Rows of the earlier and of the later slice, as given.
        slices: The two slices.
    """
    if not pair.size:
        return False
    swapped, sizes = pair[:, ::-1], [one.rows for one in slices]
    if not _in_range(swapped, sizes):
        return False
    if not _in_range(pair, sizes):
        return True
    before, after = (one.dense for one in slices)
    if before is None or after is None or before.shape[1:] != after.shape[1:]:
        return False

    def same(order: np.ndarray) -> float:
        return float((before[order[:, 0]] == after[order[:, 1]]).all(axis=1).mean())

    return same(swapped) >= SAME_ROWS and same(pair) < FEW_SAME_ROWS


def _in_range(pair: np.ndarray, sizes: Sequence[int]) -> bool:
    return bool((pair >= 0).all() and (pair < np.asarray(sizes)).all())


def turn_reversed(relations: Any, slices: Sequence[Slice]) -> Any:
    """The relations with those read backwards that evidently are."""
    dicts = isinstance(relations, Sequence) and any(
        isinstance(r, Mapping) for r in relations
    )
    if not dicts or len(relations) != len(slices) - 1:
        return relations  # no dicts, or `fit` says what is wrong with them
    return [turn_one(one, t, slices[t : t + 2]) for t, one in enumerate(relations)]


def turn_one(relation: Any, t: int, slices: Sequence[Slice]) -> Any:
    """One dict, turned with a warning if it is evidently reversed."""
    if not isinstance(relation, Mapping):
        return relation  # `fit` says what is wrong with it
    if any(isinstance(key, tuple) for key in relation):
        return relation  # pairs say themselves which slices they are of
    if not is_reversed(as_pairs(relation, t), slices):
        return relation
    warn(
        f"`relations[{t}]` is reversed and was read from slice {t + 1} to slice {t}; "
        "relations map rows of slice t to rows of slice t+1.",
    )
    return {new: old for old, new in relation.items()}


def read_ids(ids: Any, slices: Sequence[Slice]) -> tuple[SliceIds, ...]:
    """Checked ids: for each slice one for each row; None and NaN are nobody's.

    Raises:
        ValueError: Not as many ids as slices or rows, an id that repeats within its
            slice (names the first) or cannot be hashed.
    """
    if len(ids) != len(slices):
        raise ValueError(
            f"`relations` has ids for {len(ids)} slices, but there are "
            f"{len(slices)}; expected one sequence of ids for each slice."
        )
    return tuple(read_slice_ids(one, t, slices) for t, one in enumerate(ids))


def read_slice_ids(
    given: Any, t: int, slices: Sequence[Slice], *, argument: str = "relations"
) -> SliceIds:
    """One slice's ids, as `read_ids` checks them; messages name the argument."""
    name = f"`{argument}`: the ids of {slices[t].name}"
    ids = as_plain(given)
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        raise ValueError(
            f"{name} are a {type(given).__name__}; expected a sequence "
            "with one id for each row."
        )
    if len(ids) != slices[t].rows:
        raise ValueError(
            f"{name} are {len(ids)} for {slices[t].rows} rows; expected "
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


def read_pairs(relations: Mapping[Any, Any], slices: Sequence[Slice]) -> Correspondence:
    """Checked explicit pairs; a row may have several mates.

    Raises:
        ValueError: A key that is no pair of slices, rows out of range, weights that
            are negative, NaN, infinite or of the wrong length.
    """
    count = len(slices)
    check_keys(relations, count)
    links: Correspondence = {}
    for key, given in relations.items():
        earlier, later = sorted(map(int, key))
        pair, weights = _read_pair(given, key, slices)
        pair = pair if key[0] == earlier else pair[:, ::-1]
        if (earlier, later - earlier) in links:
            raise ValueError(
                f"`relations` has both {key!r} and {(key[1], key[0])!r}; expected one "
                "of them with all pairs."
            )
        links[earlier, later - earlier] = by_row(pair, weights)
    return dict(sorted(links.items()))


def check_keys(relations: Mapping[Any, Any], count: int) -> None:
    """Refuse keys that are no pairs of different slices.

    Args:
        relations: Pairs of rows by pairs of slices.
        count: How many slices there are.

    Raises:
        ValueError: There is such a key.
    """
    for key in relations:
        whole = isinstance(key, tuple) and len(key) == 2
        if not whole or not all(isinstance(t, numbers.Integral) for t in key):
            raise ValueError(
                f"`relations` has the key {key!r}; expected pairs of slices, as in "
                "{(0, 1): array (m, 2)}, or a list of dicts."
            )
        if key[0] == key[1] or min(key) < 0 or max(key) >= count:
            raise ValueError(
                f"`relations` has the key {key!r}; expected two different slices of 0 "
                f"to {count - 1}."
            )


def _read_pair(
    given: Any, key: tuple[int, int], slices: Sequence[Slice]
) -> tuple[np.ndarray, np.ndarray | None]:
    name = f"relations[{key[0]}, {key[1]}]"
    weights = None
    try:
        if isinstance(given, tuple) and len(given) == 2 and np.ndim(given[0]) == 2:
            given, weights = given
        pair = np.asarray(given)
    except ValueError as error:
        raise ValueError(
            f"`{name}` is no array ({error}); expected whole numbers of shape (m, 2)."
        ) from error
    if pair.size == 0:
        pair = np.zeros((0, 2), dtype=np.int64)
    if pair.ndim != 2 or pair.shape[1] != 2 or pair.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` has shape {pair.shape} and dtype {pair.dtype}; expected whole "
            "numbers of shape (m, 2), or a tuple of such an array and weights (m,)."
        )
    for side, t in enumerate(key):
        wrong = np.flatnonzero((pair[:, side] < 0) | (pair[:, side] >= slices[t].rows))
        if wrong.size:
            raise ValueError(
                f"`{name}` has row {pair[wrong[0], side]} in its column {side}, but "
                f"{slices[t].name} has {slices[t].rows} rows "
                f"(0 to {slices[t].rows - 1})."
            )
    if len(np.unique(pair, axis=0)) < len(pair):
        raise ValueError(
            f"`{name}` has a pair of rows twice; expected each once, with a weight "
            "that says how surely they belong together."
        )
    between = " and ".join(slices[t].name for t in key)
    name = f"`{name}`: the weights between {between}"
    return pair.astype(np.int64), read_weights(weights, len(pair), name)
