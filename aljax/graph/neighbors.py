"""Nearest neighbors: a slice's data in, its `KNN` table out.

The table is exact while that is cheap (tile by tile on the device for euclidean, cosine
and correlation, by pairs on the host for other plain metrics, sets and sparse rows).
Beyond, most neighbors are found: by cells on the device in the three metrics, and by
pynndescent in all others.  Distances that are known beforehand are not searched: the
nearest rows are read off.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

from aljax.compilation import check_fork
from aljax.config import SYNONYMS, GraphConfig
from aljax.errors import InputError, warn
from aljax.graph.approximate import approximate_knn
from aljax.graph.conditioning import DEVICE_METRICS
from aljax.graph.descent import check_metric, descent_knn
from aljax.graph.exact import (
    HeldRows,
    Nearest,
    exact_knn,
    hold,
    nearest,
    nearest_held,
    smallest,
)
from aljax.graph.function import Metric
from aljax.graph.knn import KNN, Rows, as_knn, clip_rounding, measured_knn
from aljax.graph.pairs import DENSE_PAIRS, FILLED, SPARSE_PAIRS
from aljax.graph.queries import HeldCells, hold_cells, nearest_in_cells
from aljax.graph.slices import PRECOMPUTED

# Exact search is the quicker below this many operations (about 40,000 x 784): a pair
# of rows costs one for each feature, and its share in the choice of the nearest.
EXACT_OPERATIONS = 1.7e12
CHOICE = 270
PAIRED_OPERATIONS = 1e10  # the same on the host: some ten seconds, as pynndescent's
SORT_BLOCK = 512  # rows whose known distances are sorted at once
MANY = 0.5  # share of rows with few distances, above which they are warned of


def find_neighbors(
    data: Rows,
    n_neighbors: int,
    *,
    metric: Metric = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
    knn_method: str = "auto",
    seed: int = 0,
    name: str = "the slice",
) -> KNN:
    """Returns the nearest neighbors of each row, all of them or most by `knn_method`.

    Args:
        data: One slice: its features, or its distances where they are precomputed.
        n_neighbors: Neighbors of each row, itself included (2 to points - 1).
        metric: The distance between rows, a name or a function.
        metric_kwds: Keyword arguments for the metric.
        knn_method: "auto", "exact", "approximate" or "pynndescent".
        seed: Seeds the approximate searches; the exact one has no chance in it.
        name: The slice in errors.

    Raises:
        InputError: The metric or the method is not known, or `knn_method="exact"` has
            no search for it or for sparse rows; or precomputed distances do not fit.
    """
    check_fork()
    GraphConfig(metric=metric, metric_kwds=metric_kwds, knn_method=knn_method)
    metric = SYNONYMS.get(metric, metric)
    if metric == PRECOMPUTED:
        return knn_of_distances(data, n_neighbors, name=name)
    dense = isinstance(data, np.ndarray)
    tiled = dense and metric in DEVICE_METRICS and not metric_kwds
    paired = metric in (DENSE_PAIRS if dense else SPARSE_PAIRS)
    paired &= not metric_kwds or metric == "minkowski"
    paired |= not isinstance(metric, str)  # a function
    if knn_method == "exact" and not (tiled or paired):
        raise InputError(
            "metric",
            f"is {metric!r} with `metric_kwds` {dict(metric_kwds or {})}",
            f"for exact neighbors {', '.join((*DEVICE_METRICS, *DENSE_PAIRS))} (of "
            f"sparse rows {', '.join(SPARSE_PAIRS)}) without any",
            'Use `knn_method="approximate"`, or give a `KNN` made by `as_knn`.',
        )
    exactly = knn_method == "exact"
    if knn_method == "auto" and (tiled or paired):
        most = EXACT_OPERATIONS if tiled else PAIRED_OPERATIONS
        exactly = is_cheap(data, most, filled=metric in FILLED)
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


def hold_rows(
    data: np.ndarray, metric: str, *, knn_method: str = "auto"
) -> HeldRows | HeldCells:
    """Returns a slice held for `nearest_rows`, in one of `DEVICE_METRICS`."""
    if knn_method != "approximate" and (knn_method == "exact" or is_cheap(data)):
        return hold(data, metric)
    return hold_cells(data, metric)


def nearest_rows(
    queries: np.ndarray, held: HeldRows | HeldCells, n_neighbors: int
) -> Nearest:
    """Returns the nearest rows of a held slice to each query, all or most of them."""
    if isinstance(held, HeldRows):
        return nearest_held(queries, held, n_neighbors)
    return nearest_in_cells(queries, held, n_neighbors)


def is_cheap(data: Rows, most: float | None = None, *, filled: bool = False) -> bool:
    """Tells if the exact search for the neighbors of all rows takes few operations.

    Args:
        data: The slice.
        most: How many are few; None for those of the search on the device.
        filled: If sparse rows take as long as dense ones.
    """
    points = data.shape[0]
    dense = filled or isinstance(data, np.ndarray)
    width = data.shape[1] if dense else scipy.sparse.csr_matrix(data).nnz / points
    most = EXACT_OPERATIONS if most is None else most
    return points**2 * (width + CHOICE) <= most


def _tell_of_pynndescent(metric: Metric, metric_kwds: Any, *, dense: bool) -> None:
    reason = f"the metric {metric!r}" + " with `metric_kwds`" * bool(metric_kwds)
    warn(
        f"pynndescent searches neighbors by {reason}{' of sparse rows' * (not dense)}: "
        "its first call in a process compiles for tens of seconds, and what it finds "
        "depends on the number of threads. "
        '`knn_method="pynndescent"` asks for it without this warning.'
    )


def _is_half(distances: Rows) -> bool:
    """Tells whether distances stand on one side of a square's diagonal alone.

    On the other are zeros, or gaps, which are inf.
    """
    module: Any = np if isinstance(distances, np.ndarray) else scipy.sparse

    def any_in(block: Any) -> bool:
        values = block if isinstance(block, np.ndarray) else block.data
        return bool((np.isfinite(values) & (values != 0)).any())

    row, column = any_in(distances[:1, 1:]), any_in(distances[1:, :1])
    if row == column:
        return False
    return not any_in(module.tril(distances, -1) if row else module.triu(distances, 1))


def knn_of_distances(distances: Rows, n_neighbors: int, *, name: str) -> KNN:
    """Returns the nearest neighbors of each row, read off the rows' distances.

    Raises:
        InputError: The distances are not square, or are negative.
    """
    if _is_half(distances):
        got = f"is 'precomputed', but {name} has distances on one side of the diagonal"
        empty = min(distances[-1, 0], distances[0, -1]) == 0
        square = "matrix + matrix.T" if empty else "np.fmin(matrix, matrix.T)"
        remedy = f"Pass `{square}`."
        raise InputError("metric", got, "those on both sides", remedy)
    try:
        table = known_knn(distances, n_neighbors)
    except InputError as error:
        got = f"is 'precomputed', but {name} {error.got}"
        raise InputError("metric", got, error.expected) from None
    few = np.asarray(table.indices[-1]) == np.arange(distances.shape[0])
    share = float(few.mean())
    if share > MANY:
        warn(
            f"{share:.0%} of the rows of {name} have distances to fewer rows than the "
            f"{n_neighbors - 1} that `n_neighbors` asks for."
        )
    return table


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
