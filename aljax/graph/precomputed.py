"""Neighbours from what another tool found: distances, or a table of neighbours."""

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.graph.knn import KNN, Rows, as_knn, check_lists, nearest

BLOCK = 512  # rows that are sorted at once


def knn_of_distances(distances: Rows, n_neighbors: int, *, name: str) -> KNN:
    """The nearest neighbours of each row, read off the rows' distances.

    Args:
        distances: `(points, points)`, row by row; of a sparse matrix what is stored
            is known (explicit zeros too), and the rest is farther away.
        n_neighbors: Neighbours of each row, itself included (2 to points - 1).
        name: What messages call the slice.

    Raises:
        ValueError: Distances that are not square or are negative, or a row with
            fewer of them than `n_neighbors` asks for.
    """
    rows = distances.shape[0]
    if rows != distances.shape[1]:
        raise ValueError(
            f"`metric` is 'precomputed', but {name} has shape {distances.shape}; "
            "expected the distances of its rows to each other, (points, points)."
        )
    sparse = scipy.sparse.issparse(distances)
    lowest = distances.min()
    if lowest < 0:
        raise ValueError(
            f"`metric` is 'precomputed', but {name} has {lowest:g} as a distance; "
            "expected distances of at least 0."
        )
    if sparse:
        return _of_sparse(scipy.sparse.csr_matrix(distances), n_neighbors, name)
    found = [
        _of_block(np.asarray(distances[start : start + BLOCK]), start, n_neighbors)
        for start in range(0, rows, BLOCK)
    ]
    indices, near = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return as_knn(indices, near)


def _of_block(
    block: Float[np.ndarray, "_ points"], start: int, n_neighbors: int
) -> tuple[Int[np.ndarray, "_ neighbors"], Float[np.ndarray, "_ neighbors"]]:
    block = np.array(block, dtype=np.float64)
    own = np.arange(len(block))
    block[own, start + own] = -1.0  # itself first, whatever the diagonal says
    order = np.argsort(block, axis=1, kind="stable")[:, :n_neighbors]
    return order, np.maximum(np.take_along_axis(block, order, axis=1), 0.0)


def _of_sparse(distances: scipy.sparse.csr_matrix, n_neighbors: int, name: str) -> KNN:
    points = distances.shape[0]
    own = np.arange(points)
    heads = np.repeat(own, np.diff(distances.indptr))
    others = distances.indices != heads
    heads, tails = heads[others], distances.indices[others]
    values = distances.data[others].astype(np.float64)
    counts = np.bincount(heads, minlength=points)
    if counts.min() < n_neighbors - 1:
        row = int(counts.argmin())
        raise ValueError(
            f"`metric` is 'precomputed', but {name} stores {counts[row]} distances in "
            f"row {row}; expected at least {n_neighbors - 1}, for `n_neighbors` is "
            f"{n_neighbors}. Lower it, or store more distances."
        )
    order = np.lexsort((values, heads))
    first = np.cumsum(counts) - counts
    chosen = order[first[:, None] + np.arange(n_neighbors - 1)]
    return as_knn(
        np.hstack([own[:, None], tails[chosen]]),
        np.hstack([np.zeros((points, 1)), values[chosen]]),
    )


def read_knn(given: Any, rows: int, n_neighbors: int, *, name: str) -> KNN | None:
    """A slice's own neighbours as a table of the width asked for, or None.

    Args:
        given: None, a `KNN`, or umap-learn's tuple (indices, distances), itself
            included, of which a third entry (a search index) is ignored.
        rows: Rows of the slice.
        n_neighbors: How many are used of them.
        name: What messages call it.

    Raises:
        ValueError: Anything else; not in normal form; another number of rows, or too
            few neighbours.
    """
    if given is None:
        return None
    if isinstance(given, KNN):
        check_lists(given.indices, given.distances, name)
    else:
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise ValueError(
                f"{name} is a {type(given).__name__}; expected (indices, distances), "
                "each (points, neighbors), or None to have neighbours searched."
            )
        if given[0] is None:  # umap-learn's default, (None, None, None)
            return None
        given = as_knn(given[0], given[1], name=name)
    neighbors, points = given.indices.shape
    if points != rows:
        raise ValueError(
            f"{name} has {points} rows, but the slice has {rows}; expected the "
            "neighbours of each row of the slice, in their order."
        )
    if neighbors < n_neighbors:
        raise ValueError(
            f"{name} has {neighbors} neighbours of each row, but `n_neighbors` is "
            f"{n_neighbors}; expected at least as many. Lower it, or give more."
        )
    return nearest(given, n_neighbors)
