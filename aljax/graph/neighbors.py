"""Nearest neighbours: a slice's data in, its `KNN` table out.

The table is exact while that is the cheaper way (tile by tile on the device for
euclidean and cosine, by pairs on the host for other plain metrics and for sparse
rows), else pynndescent's.  On the device distances are found on data that was centred
and scaled on the host, and those that are kept are computed again by difference:
float32 loses neighbours when the expansion |x|^2 - 2 x.y + |y|^2 is taken far from the
origin.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.graph.approximate import approximate_knn
from aljax.graph.exact import (
    EXACT_METRICS,
    PLAIN_METRICS,
    SPARSE_METRICS,
    SYNONYMS,
    exact_knn,
    nearest_pairs,
)
from aljax.graph.knn import KNN, Rows, as_knn
from aljax.graph.slices import PRECOMPUTED

# Exact search is the quicker below this many operations (about 40,000 x 784): a pair
# of rows costs one for each feature, and its share in the choice of the nearest.
EXACT_OPERATIONS = 1.7e12
CHOICE = 270
PAIRED_OPERATIONS = 1e10  # the same on the host: some ten seconds, as pynndescent's


SORT_BLOCK = 512  # rows that are sorted at once


def find_neighbors(
    data: Rows,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
    knn_method: str = "auto",
    seed: int = 0,
    name: str = "the slice",
) -> KNN:
    """The nearest neighbours of each row, exact or approximate by `knn_method`.

    Args:
        data: One slice: its features, or its distances where they are precomputed.
        n_neighbors: Neighbours of each row, itself included (2 to points - 1).
        metric: The distance between rows.
        metric_kwds: Keyword arguments for the metric.
        knn_method: "auto", "exact" or "approximate".
        seed: Seeds the approximate search; the exact one has no chance in it.
        name: What messages call the slice.

    Raises:
        ValueError: `knn_method="exact"` with a metric or sparse rows that have no
            exact search here, or a metric that pynndescent does not know.
    """
    metric = SYNONYMS.get(metric, metric)
    if metric == PRECOMPUTED:
        return knn_of_distances(data, n_neighbors, name=name)
    tiled = _is_tiled(data, metric, metric_kwds)
    paired = _is_paired(data, metric, metric_kwds)
    if knn_method == "exact" and not (tiled or paired):
        raise ValueError(
            f"`metric` is {metric!r}; exact neighbours are found for "
            f"{', '.join((*EXACT_METRICS, *PLAIN_METRICS))} (of sparse rows for "
            f"{', '.join(SPARSE_METRICS)}). Use "
            '`knn_method="approximate"`, or give a `KNN` made by `as_knn`.'
        )
    if knn_method == "auto":
        points = data.shape[0]
        width = data.shape[1] if isinstance(data, np.ndarray) else data.nnz / points
        operations = points**2 * (width + CHOICE)
        tiled = tiled and operations <= EXACT_OPERATIONS
        paired = paired and operations <= PAIRED_OPERATIONS
    if isinstance(data, np.ndarray) and tiled and knn_method != "approximate":
        return exact_knn(data, n_neighbors, metric=metric)
    if paired and knn_method != "approximate":
        found = nearest_pairs(
            data, data, n_neighbors, metric=metric, metric_kwds=metric_kwds
        )
        return as_knn(*found, name=f"`metric` {metric!r} of {name}")
    return approximate_knn(
        data, n_neighbors, metric=metric, metric_kwds=metric_kwds, seed=seed
    )


def _is_tiled(data: Rows, metric: str, metric_kwds: Mapping[str, Any] | None) -> bool:
    return isinstance(data, np.ndarray) and metric in EXACT_METRICS and not metric_kwds


def _is_paired(data: Rows, metric: str, metric_kwds: Mapping[str, Any] | None) -> bool:
    known = PLAIN_METRICS if isinstance(data, np.ndarray) else SPARSE_METRICS
    return metric in known and (not metric_kwds or metric == "minkowski")


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
        _of_block(np.asarray(distances[start : start + SORT_BLOCK]), start, n_neighbors)
        for start in range(0, rows, SORT_BLOCK)
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
