"""Nearest neighbors: a slice's data in, its `KNN` table out.

The table is exact while that is cheap (tile by tile on the device for euclidean, cosine
and correlation, by pairs on the host for other plain metrics and for sparse rows).
Beyond, most neighbors are found: by cells on the device in the three metrics, and by
pynndescent in all others.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

from aljax.errors import InputError, warn
from aljax.graph.approximate import approximate_knn
from aljax.graph.conditioning import EXACT_METRICS
from aljax.graph.descent import check_metric, descent_knn
from aljax.graph.exact import (
    PLAIN_METRICS,
    SPARSE_METRICS,
    SYNONYMS,
    exact_knn,
    nearest,
    smallest,
)
from aljax.graph.knn import KNN, Rows, as_knn, measured_knn
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
    """The nearest neighbors of each row, all of them or most by `knn_method`.

    Args:
        data: One slice: its features, or its distances where they are precomputed.
        n_neighbors: Neighbors of each row, itself included (2 to points - 1).
        metric: The distance between rows.
        metric_kwds: Keyword arguments for the metric.
        knn_method: "auto", "exact", "approximate" or "pynndescent".
        seed: Seeds the approximate searches; the exact one has no chance in it.
        name: The slice in errors.

    Raises:
        InputError: The metric is not known, or `knn_method="exact"` has no search for
            it or for sparse rows; or precomputed distances do not fit.
    """
    metric = SYNONYMS.get(metric, metric)
    if metric == PRECOMPUTED:
        return knn_of_distances(data, n_neighbors, name=name)
    dense = isinstance(data, np.ndarray)
    tiled = dense and metric in EXACT_METRICS and not metric_kwds
    paired = metric in (PLAIN_METRICS if dense else SPARSE_METRICS)
    paired = paired and (not metric_kwds or metric == "minkowski")
    if knn_method == "exact" and not (tiled or paired):
        raise InputError(
            "metric",
            f"is {metric!r} with `metric_kwds` {dict(metric_kwds or {})}",
            f"for exact neighbors {', '.join((*EXACT_METRICS, *PLAIN_METRICS))} (of "
            f"sparse rows {', '.join(SPARSE_METRICS)}) without any",
            'Use `knn_method="approximate"`, or give a `KNN` made by `as_knn`.',
        )
    cheap = knn_method == "exact"
    if knn_method == "auto":
        cheap = is_cheap(data, EXACT_OPERATIONS if tiled else PAIRED_OPERATIONS)
    exactly = cheap and (tiled or paired)
    if knn_method == "pynndescent" or not (tiled or exactly):
        if knn_method != "pynndescent":
            check_metric(metric, metric_kwds or {}, data)
            _tell_of_pynndescent(metric, metric_kwds, dense=dense)
        return descent_knn(
            data, n_neighbors, metric=metric, metric_kwds=metric_kwds, seed=seed
        )
    if isinstance(data, np.ndarray) and tiled:
        if exactly:
            return exact_knn(data, n_neighbors, metric=metric)
        return approximate_knn(data, n_neighbors, metric=metric, seed=seed)
    table = nearest(data, data, n_neighbors, metric=metric, metric_kwds=metric_kwds)
    return measured_knn(*table, metric)


def is_cheap(data: Rows, most: float | None = None) -> bool:
    """If the exact search for the neighbors of all rows takes few operations.

    Args:
        data: The slice.
        most: How many are few; None for those of the search on the device.
    """
    points = data.shape[0]
    width = data.shape[1] if isinstance(data, np.ndarray) else data.nnz / points
    most = EXACT_OPERATIONS if most is None else most
    return points**2 * (width + CHOICE) <= most


def _tell_of_pynndescent(metric: str, metric_kwds: Any, *, dense: bool) -> None:
    by = f"the metric {metric!r}" + " with `metric_kwds`" * bool(metric_kwds)
    warn(
        f"pynndescent searches neighbors by {by}{'' if dense else ' of sparse rows'}: "
        "its first call in a process compiles for tens of seconds, and what it finds "
        "depends on the number of threads. "
        '`knn_method="pynndescent"` asks for it without this warning.'
    )


def knn_of_distances(distances: Rows, n_neighbors: int, *, name: str) -> KNN:
    """The nearest neighbors of each row, read off the rows' distances.

    Of a sparse matrix what is stored is known (explicit zeros too), and the rest is
    farther away.

    Raises:
        InputError: The distances are not square or are negative, or a row has fewer
            of them than `n_neighbors` asks for.
    """
    rows = distances.shape[0]
    got, lowest = f"is 'precomputed', but {name}", distances.min()
    if rows != distances.shape[1]:
        got = f"{got} has shape {distances.shape}"
        expected = "the distances of its rows to each other, (points, points)"
        raise InputError("metric", got, expected)
    if lowest < 0:
        got = f"{got} has {lowest:g} as a distance"
        raise InputError("metric", got, "distances of at least 0")
    if scipy.sparse.issparse(distances):
        return _of_sparse(scipy.sparse.csr_matrix(distances), n_neighbors, got)
    tables = []
    for start in range(0, rows, SORT_BLOCK):
        block = np.array(distances[start : start + SORT_BLOCK], dtype=np.float64)
        block[:, start:][np.diag_indices(len(block))] = -1.0  # itself first
        tables.append(smallest(block, n_neighbors))
    indices, near = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    return as_knn(indices, np.maximum(near, 0.0))


def _of_sparse(distances: scipy.sparse.csr_matrix, n_neighbors: int, got: str) -> KNN:
    points = distances.shape[0]
    heads = np.repeat(np.arange(points), np.diff(distances.indptr))
    others = distances.indices != heads
    heads, tails = heads[others], distances.indices[others]
    values = distances.data[others].astype(np.float64)
    counts = np.bincount(heads, minlength=points)
    if counts.min() < n_neighbors - 1:
        row = int(counts.argmin())
        got = f"{got} stores {counts[row]} distances in row {row}"
        expected = f"at least {n_neighbors - 1}, for `n_neighbors` is {n_neighbors}"
        remedy = "Lower it, or store more distances."
        raise InputError("metric", got, expected, remedy)
    order = np.lexsort((values, heads))
    first = np.cumsum(counts) - counts
    chosen = order[first[:, None] + np.arange(n_neighbors - 1)]
    # The row itself has room in the table, which `as_knn` fills.
    room = ((0, 0), (1, 0))
    indices = np.pad(tails[chosen], room, constant_values=-1)
    return as_knn(indices, np.pad(values[chosen], room))
