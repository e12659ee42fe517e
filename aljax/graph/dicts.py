"""Links from umap-learn's relations: one dict for each pair of consecutive slices."""

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from aljax.checks import warn
from aljax.graph.links import Correspondence, Links, Slices, by_row, chain

RelationDict = Mapping[int, int]
LARGEST_ROW = 2**62  # of what NumPy's integers hold
DIRECTION = "relations map rows of slice t to rows of slice t+1"
TURN = "pass {new: old for old, new in relation.items()}."
SAME_ROWS = 0.9  # share of identical rows above which a reading is surely right
FEW_SAME_ROWS = 0.1  # and below which it is surely wrong


def read_dicts(relations: Any, slices: Slices, *, window: int) -> Correspondence:
    """The links of a list of dicts, chained up to `window` slices ahead.

    Raises:
        ValueError: As `read_dict` does, or not one dict for each gap.
    """
    gaps = len(slices.sizes) - 1
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
    relation: Any, t: int, slices: Slices, *, name: str | None = None
) -> Links:
    """The links of one dict from slice t to slice t + 1; `name` is for messages.

    Raises:
        ValueError: Not a dict, a row that is no whole number or not in its slice,
            two rows mapped to one, or a dict that is evidently reversed.
    """
    name = name or f"relations[{t}]"
    pair, two = as_pairs(relation, t, name=name), slice(t, t + 2)
    _check_rows(pair, t, slices, name)
    if is_reversed(pair, slices.sizes[two], slices.data[two]):
        raise ValueError(
            f"`{name}` is reversed: read from {slices.name(t + 1)} to "
            f"{slices.name(t)} its rows are the same data, as given they are not; "
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
    pair: Int[np.ndarray, "mates 2"], t: int, slices: Slices, name: str
) -> None:
    sizes = slices.sizes[t : t + 2]
    for side, verb in ((0, "maps from"), (1, "maps to")):
        rows, size = pair[:, side], sizes[side]
        wrong = rows[(rows < 0) | (rows >= size)]
        if wrong.size:
            fits = _in_range(pair[:, ::-1], sizes)
            hint = f" It would fit reversed: {TURN}" if fits else ""
            raise ValueError(
                f"`{name}` {verb} row {wrong[0]}, but {slices.name(t + side)} "
                f"has {size} rows (0 to {size - 1}); {DIRECTION}.{hint}"
            )


def is_reversed(
    pair: Int[np.ndarray, "mates 2"],
    sizes: Sequence[int],
    data: Sequence[np.ndarray | None],
) -> bool:
    """Whether pairs of rows of two slices evidently stand in the wrong order.

    They do where only the other order is in range, and where at least 90 % of the
    pairs are identical rows in the other order and under 10 % in the given one.

    Args:
        pair: Rows of the earlier and of the later slice, as given.
        sizes: Rows of the two slices.
        data: Data of the two slices, where known.
    """
    if not pair.size:
        return False
    swapped = pair[:, ::-1]
    if not _in_range(swapped, sizes):
        return False
    if not _in_range(pair, sizes):
        return True
    before, after = data
    if before is None or after is None or before.shape[1:] != after.shape[1:]:
        return False

    def same(order: np.ndarray) -> float:
        return float((before[order[:, 0]] == after[order[:, 1]]).all(axis=1).mean())

    return same(swapped) >= SAME_ROWS and same(pair) < FEW_SAME_ROWS


def _in_range(pair: np.ndarray, sizes: Sequence[int]) -> bool:
    return bool((pair >= 0).all() and (pair < np.asarray(sizes)).all())


def turn_reversed(
    relations: Any, sizes: Sequence[int], data: Sequence[np.ndarray | None]
) -> Any:
    """The relations with those read backwards that evidently are."""
    dicts = isinstance(relations, Sequence) and any(
        isinstance(r, Mapping) for r in relations
    )
    if not dicts or len(relations) != len(sizes) - 1:
        return relations  # no dicts, or `fit` says what is wrong with them
    return [
        turn_one(one, t, sizes[t : t + 2], data[t : t + 2])
        for t, one in enumerate(relations)
    ]


def turn_one(
    relation: Any, t: int, sizes: Sequence[int], data: Sequence[np.ndarray | None]
) -> Any:
    """One dict, turned with a warning if it is evidently reversed."""
    if not isinstance(relation, Mapping):
        return relation  # `fit` says what is wrong with it
    if any(isinstance(key, tuple) for key in relation):
        return relation  # pairs say themselves which slices they are of
    if not is_reversed(as_pairs(relation, t), sizes, data):
        return relation
    warn(
        f"`relations[{t}]` is reversed and was read from slice {t + 1} to slice {t}; "
        "relations map rows of slice t to rows of slice t+1.",
    )
    return {new: old for old, new in relation.items()}
