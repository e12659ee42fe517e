"""Neighbors by pynndescent: any metric that it knows, sparse rows too."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
import scipy.sparse

from aljax.errors import InputError, nearest_name
from aljax.graph.conditioning import ANGLES, conditioning
from aljax.graph.function import Metric, is_compiled, plain
from aljax.graph.knn import KNN, Rows, measured_knn
from aljax.graph.pairs import PACKED

# |x - y| is the same wherever x and y lie, and twice as long at twice the scale.
LENGTHS = (
    *("euclidean", "l2", "manhattan", "l1", "taxicab", "minkowski"),
    *("chebyshev", "linfinity", "linfty", "linf"),
)
ONE_CALLER = Lock()  # pynndescent's threads serve one caller at a time
# Metrics of dense rows that need a number for each column, or each two: pynndescent's
# own are for two columns, and it reads past their end.
TABLES = {
    **dict.fromkeys(("seuclidean", "standardised_euclidean"), ("sigma", 1)),
    **dict.fromkeys(("wminkowski", "weighted_minkowski"), ("w", 1)),
    "mahalanobis": ("vinv", 2),
    **dict.fromkeys(("kantorovich", "wasserstein", "sinkhorn"), ("cost", 2)),
}


def descent_knn(
    data: Rows,
    n_neighbors: int,
    *,
    metric: Metric = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> KNN:
    """Returns the nearest neighbors of each row as pynndescent finds them.

    The first call in a process compiles pynndescent (tens of seconds).  The result
    depends on the number of threads as well as on `seed`.

    Args:
        data: One slice, finite, dense or CSR.
        n_neighbors: Neighbors of each row, itself included.
        metric: Any metric that pynndescent knows; of sparse rows it knows fewer.
        metric_kwds: Keyword arguments for the metric.
        seed: Seeds the search.

    Raises:
        InputError: The metric is not known, lacks or does not take some keyword
            arguments, or is negative between some rows.

    Source: Dong, Charikar & Li (2011), "Efficient k-nearest neighbor graph
        construction for generic similarity measures".
    """
    from numba.core.errors import NumbaError
    from pynndescent import NNDescent

    metric_kwds = dict(metric_kwds or {})
    check_metric(metric, metric_kwds, data)
    rows, unit = _conditioned(data, metric)
    try:
        distance = plain(metric, rows, metric_kwds) if callable(metric) else metric
        with ONE_CALLER:
            search = NNDescent(
                rows, distance, metric_kwds, n_neighbors, random_state=seed
            )
    except (NumbaError, TypeError) as error:
        raise InputError(
            "metric_kwds",
            f"is {metric_kwds!r}",
            f"those that the metric {metric!r} takes and needs",
            "See pynndescent's documentation of the metric.",
        ) from error
    assert search.neighbor_graph is not None
    indices, distances = search.neighbor_graph
    return measured_knn(indices, distances.astype(np.float64) * unit, metric)


def check_metric(metric: Metric, metric_kwds: Mapping[str, Any], data: Rows) -> None:
    """Checks that pynndescent knows a metric, and has the arguments that it needs."""
    from pynndescent.distances import named_distances
    from pynndescent.sparse import sparse_named_distances

    sparse = scipy.sparse.issparse(data)
    if callable(metric):
        if not is_compiled(metric) or sparse:
            got = f"is {metric!r}, which pynndescent cannot compile for so many rows"
            remedy = "Use `knn_method='exact'`, or give a `KNN` made by `as_knn`."
            raise InputError("metric", got, "a function by `numba.njit`", remedy)
        return
    if metric == "hellinger" and data.min() < 0:
        got, remedy = f"is 'hellinger', but rows have {data.min():g}", "Use another."
        raise InputError("metric", got, "rows of at least 0 with it", remedy)
    names = sorted(sparse_named_distances if sparse else named_distances)
    if metric not in names:
        remedy = nearest_name(metric, [*names, "precomputed"]).capitalize()
        if metric in named_distances:
            remedy = "Of dense rows it is known: pass `.toarray()`, or use another."
        expected = "a metric that pynndescent knows" + " for sparse rows" * sparse
        raise InputError("metric", f"is {metric!r}", expected, remedy)
    if sparse or metric not in TABLES:
        return
    name, axes = TABLES[metric]
    shape, columns = (data.shape[1],) * axes, data.shape[1]
    table = metric_kwds.get(name)
    if table is None or np.shape(table) != shape:
        got = "None" if table is None else f"of shape {np.shape(table)}"
        expected = f"an array {shape} for the metric {metric!r} of {columns} columns"
        raise InputError("metric_kwds", f"has a `{name}` that is {got}", expected)


def _conditioned(data: Rows, metric: Metric) -> tuple[Any, float]:
    """Returns the rows as pynndescent takes them, and the unit of its distances."""
    if metric in PACKED:
        return np.asarray(data).astype(np.uint8), 1.0
    if metric not in (*LENGTHS, *ANGLES):
        return data.astype(np.float32), 1.0
    if isinstance(data, np.ndarray) and metric in LENGTHS:
        condition, unit = conditioning(data, "euclidean")
        return condition(data, np.float32), unit
    unit = float(abs(data).max()) or 1.0
    rows = (data.astype(np.float64) / unit).astype(np.float32)
    return rows, 1.0 if metric in ANGLES else unit
