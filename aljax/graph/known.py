"""Distances that are known beforehand: the nearest rows are read off, not searched."""

import numpy as np
import scipy.sparse

from aljax.errors import InputError
from aljax.graph.exact import Nearest, smallest
from aljax.graph.knn import KNN, Rows, as_knn, clip_rounding

SORT_BLOCK = 512  # rows that are sorted at once


def known_knn(distances: Rows, n_neighbors: int) -> KNN:
    """Returns the nearest neighbors of each row by its distances to the others.

    Rows without a distance are no neighbors: of a dense matrix those at inf, of a
    sparse one those that are not stored (explicit zeros are).  A row may have fewer
    neighbors than `n_neighbors`, itself included.

    Raises:
        InputError: The distances are not square, or are negative.
    """
    if distances.shape[0] != distances.shape[1]:
        expected = "the distances of its rows to each other, (points, points)"
        raise InputError("distances", f"has shape {distances.shape}", expected)
    near, lengths = nearest_known(distances, n_neighbors - 1, among_themselves=True)
    # The row itself has room in the table, which `as_knn` fills.
    room = ((0, 0), (1, 0))
    near = np.pad(near, room, constant_values=-1)
    return as_knn(near, np.pad(lengths, room, constant_values=np.inf))


def nearest_known(
    distances: Rows, count: int, *, among_themselves: bool = False
) -> Nearest:
    """Returns the rows at the smallest distances from each, nearest first.

    Args:
        distances: `(rows, others)`; inf, or not stored in a sparse matrix, where two
            are unrelated.
        count: How many of the others (1 to others).
        among_themselves: If rows and others are the same; then none is its own.

    Returns:
        The others, of equally distant ones the first, and their distances; -1 and inf
        where a row has fewer.

    Raises:
        InputError: A distance is negative beyond rounding.
    """
    if scipy.sparse.issparse(distances):
        return _nearest_stored(
            scipy.sparse.csr_matrix(distances), count, among_themselves
        )
    tables = []
    for start in range(0, max(len(distances), 1), SORT_BLOCK):
        block = np.array(distances[start : start + SORT_BLOCK], dtype=np.float64)
        if among_themselves:
            block[:, start:][np.diag_indices(len(block))] = np.inf
        near, lengths = smallest(_read(block), count)
        tables.append((np.where(np.isinf(lengths), -1, near), lengths))
    indices, near = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    return indices, near


def _nearest_stored(
    distances: scipy.sparse.csr_matrix, count: int, among_themselves: bool
) -> Nearest:
    points = distances.shape[0]
    heads = np.repeat(np.arange(points), np.diff(distances.indptr))
    stored = distances.data < np.inf  # nor NaN
    if among_themselves:
        stored &= distances.indices != heads
    heads, tails = heads[stored], distances.indices[stored]
    values = _read(distances.data[stored].astype(np.float64))
    order = np.lexsort((values, heads))
    rank = np.arange(len(heads)) - np.searchsorted(heads, heads)
    near = rank < count
    place, order = (heads[near], rank[near]), order[near]
    chosen, lengths = np.full((points, count), -1), np.full((points, count), np.inf)
    chosen[place], lengths[place] = tails[order], values[order]
    return chosen, lengths


def _read(distances: np.ndarray) -> np.ndarray:
    distances = clip_rounding(distances)
    lowest = distances.min(initial=0.0)
    if lowest < 0:
        got = f"has {lowest:g} as a distance"
        raise InputError("distances", got, "distances of at least 0")
    return distances
