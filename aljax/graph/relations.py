"""Relations: which rows of different slices are the same member, and how surely.

A relation dict maps rows of slice t to rows of slice t + 1.  Chained along the
sequence they give every row its mates up to `alignment_window_size` slices ahead,
each pair once, with the strength

    s = exp(-(offset - 1)) |f(N_i) & N_i'| / |f(N_i) | N_i'|

where N_i and N_i' are the two rows' neighbourhoods and f maps the first into the
later slice; only neighbours that have a mate there count.

Source: the weights that umap-learn's `AlignedUMAP` gives to its relations.
"""

import numbers
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.graph.fuzzy import FuzzyGraph

RelationDict = Mapping[int, int]
DIRECTION = "relations map rows of slice t to rows of slice t+1"
TURN = "pass {new: old for old, new in relation.items()}."
SAME_ROWS = 0.9  # share of identical rows above which a reading is surely right
FEW_SAME_ROWS = 0.1  # and below which it is surely wrong


class Mates(NamedTuple):
    """Mates between two slices: `rows` of the earlier, `others` of the later."""

    rows: Int[np.ndarray, "_"]
    others: Int[np.ndarray, "_"]
    strengths: Float[np.ndarray, "_"]


# Keyed by (earlier slice, offset); each pair of rows stands once.
Relations = dict[tuple[int, int], Mates]


def read_relations(
    relations: Sequence[RelationDict] | None,
    sizes: Sequence[int],
    data: Sequence[np.ndarray | None],
) -> list[Int[np.ndarray, "_ 2"]]:
    """Checked pairs (row of slice t, row of slice t + 1), one array for each t.

    Args:
        relations: One dict for each pair of consecutive slices; None or empty is
            enough for a single slice.
        sizes: Rows of each slice.
        data: Each slice's data where known, to notice a dict given backwards.

    Raises:
        ValueError: The wrong number of dicts, keys or values that are not whole
            numbers or not rows of their slices, two rows mapped to one, or a dict
            that is evidently reversed.
    """
    gaps = len(sizes) - 1
    relations = _check_count(relations, gaps)
    pairs = []
    for t, relation in enumerate(relations):
        pair = as_pairs(relation, t)
        _check_rows(pair, t, sizes)
        if is_reversed(pair, sizes[t : t + 2], data[t : t + 2]):
            raise ValueError(
                f"`relations[{t}]` is reversed: read from slice {t + 1} to slice {t} "
                f"its rows are the same data, as given they are not; {TURN}"
            )
        pairs.append(pair)
    return pairs


def _check_count(
    relations: Sequence[RelationDict] | None, gaps: int
) -> Sequence[RelationDict]:
    needs = f"expected {gaps}, one dict for each pair of consecutive slices"
    if relations is None:
        if gaps:
            raise ValueError(
                f"`relations` is None, but there are {gaps + 1} slices; {needs} "
                "({row of slice t: row of slice t+1})."
            )
        return []
    if isinstance(relations, Mapping) or not isinstance(relations, Sequence):
        raise ValueError(
            f"`relations` is a {type(relations).__name__}; expected a list of dicts, "
            "one for each pair of consecutive slices."
        )
    if len(relations) != gaps:
        raise ValueError(
            f"`relations` has {len(relations)} dicts for {gaps + 1} slices; {needs}."
        )
    return relations


def as_pairs(relation: RelationDict, t: int) -> Int[np.ndarray, "mates 2"]:
    """The rows of one dict as an array, in the order given.

    Raises:
        ValueError: Not a dict, a row that is no whole number, or two rows mapped to
            the same one.
    """
    if not isinstance(relation, Mapping):
        raise ValueError(
            f"`relations[{t}]` is a {type(relation).__name__}; expected a dict "
            "{row of slice t: row of slice t+1}."
        )
    if not relation:
        warnings.warn(
            f"`relations[{t}]` is empty: nothing aligns slice {t} with slice {t + 1}.",
            stacklevel=4,
        )
    for row in (*relation.keys(), *relation.values()):
        if not isinstance(row, numbers.Integral) or isinstance(row, bool):
            raise ValueError(
                f"`relations[{t}]` has {row!r} ({type(row).__name__}) as a row; "
                "expected whole numbers, rows of the two slices."
            )
    pair = np.array([*relation.items()], dtype=np.int64).reshape(-1, 2)
    others, counts = np.unique(pair[:, 1], return_counts=True)
    if (counts > 1).any():
        other = others[counts > 1][0]
        rows = pair[pair[:, 1] == other, 0].tolist()
        raise ValueError(
            f"`relations[{t}]` maps rows {rows[0]} and {rows[1]} to the same row "
            f"{other}; expected every row of slice {t + 1} to have at most one mate."
        )
    return pair


def _check_rows(pair: Int[np.ndarray, "mates 2"], t: int, sizes: Sequence[int]) -> None:
    for side, verb in ((0, "maps from"), (1, "maps to")):
        rows, size = pair[:, side], sizes[t + side]
        wrong = rows[(rows < 0) | (rows >= size)]
        if wrong.size:
            fits = _in_range(pair[:, ::-1], sizes[t : t + 2])
            hint = f" It would fit reversed: {TURN}" if fits else ""
            raise ValueError(
                f"`relations[{t}]` {verb} row {wrong[0]}, but slice {t + side} has "
                f"{size} rows (0 to {size - 1}); {DIRECTION}.{hint}"
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


def relate(
    pairs: Sequence[Int[np.ndarray, "_ 2"]],
    graphs: Sequence[FuzzyGraph],
    *,
    alignment_window_size: int,
) -> Relations:
    """Mates in every pair of slices within the window, with their strengths.

    Args:
        pairs: Rows of slice t and of slice t + 1, for each t.
        graphs: The slices' graphs.
        alignment_window_size: Farthest offset (slices, at least 1).

    Returns:
        For each (t, offset) the pairs of rows and s in [0, 1].
    """
    adjacency = [graph.to_sparse() for graph in graphs]
    for matrix in adjacency:
        matrix.data[:] = 1
    relations: Relations = {}
    for t in range(len(pairs)):
        chain = pairs[t]
        for offset in range(1, min(alignment_window_size, len(pairs) - t) + 1):
            if offset > 1:
                chain = _chain(chain, pairs[t + offset - 1])
            rows, others = chain.T
            overlap = _jaccard(rows, others, adjacency[t], adjacency[t + offset])
            relations[t, offset] = Mates(rows, others, np.exp(1 - offset) * overlap)
    return relations


def _chain(
    first: Int[np.ndarray, "first 2"], second: Int[np.ndarray, "second 2"]
) -> Int[np.ndarray, "chained 2"]:
    """Pairs (i, k) for which some j has (i, j) in `first` and (j, k) in `second`."""
    _, left, right = np.intersect1d(first[:, 1], second[:, 0], return_indices=True)
    return np.column_stack([first[left, 0], second[right, 1]])


def _jaccard(
    rows: Int[np.ndarray, "mates"],
    others: Int[np.ndarray, "mates"],
    before: scipy.sparse.csr_matrix,
    after: scipy.sparse.csr_matrix,
) -> Float[np.ndarray, "mates"]:
    """Overlap of the mates' neighbourhoods in two binary graphs; 1 if both are empty.

    Both are cut to the related rows in the same order, which maps one into the other.
    """
    mapped, there = before[rows][:, rows], after[others][:, others]
    shared = np.asarray(mapped.multiply(there).sum(axis=1)).ravel()
    either = mapped.getnnz(axis=1) + there.getnnz(axis=1) - shared
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)
