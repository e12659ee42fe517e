"""Approximate neighbours by pynndescent: any metric that it knows, sparse rows too."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
import scipy.sparse

from aljax.errors import nearest_name
from aljax.graph.exact import conditioning
from aljax.graph.knn import KNN, Rows, as_knn

# |x - y| is the same wherever x and y lie, and twice as long at twice the scale.
LENGTHS = (
    *("euclidean", "l2", "manhattan", "l1", "taxicab", "minkowski"),
    *("chebyshev", "linfinity", "linfty", "linf"),
)
ONE_CALLER = Lock()  # pynndescent's threads serve one caller at a time
ANGLES = ("cosine", "correlation")  # the same at any scale
BITS = ("bit_hamming", "bit_jaccard")  # of rows packed into bytes
# Metrics of dense rows that need a number for each column, or each two: pynndescent's
# own are for two columns, and it reads past their end.
TABLES = {
    **dict.fromkeys(("seuclidean", "standardised_euclidean"), ("sigma", 1)),
    **dict.fromkeys(("wminkowski", "weighted_minkowski"), ("w", 1)),
    "mahalanobis": ("vinv", 2),
    **dict.fromkeys(("kantorovich", "wasserstein", "sinkhorn"), ("cost", 2)),
}


def approximate_knn(
    data: Rows,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> KNN:
    """The nearest neighbours of each row as pynndescent finds them.

    The first call in a process compiles pynndescent (tens of seconds).  The result
    depends on the number of threads as well as on `seed`.

    Args:
        data: One slice, finite, dense or CSR.
        n_neighbors: Neighbours of each row, itself included.
        metric: Any metric that pynndescent knows.
        metric_kwds: Keyword arguments for the metric.
        seed: Seeds the search.

    Raises:
        ValueError: A metric that pynndescent does not know (of sparse rows it knows
            fewer), keyword arguments that the metric does not take or lacks, or a
            metric that is no distance, for it is negative between some rows.

    Source: Dong, Charikar & Li (2011), "Efficient k-nearest neighbor graph
        construction for generic similarity measures".
    """
    from numba.core.errors import NumbaError
    from pynndescent import NNDescent

    _check_metric(metric, sparse=scipy.sparse.issparse(data))
    if metric in TABLES and isinstance(data, np.ndarray):
        _check_table(metric, metric_kwds or {}, data.shape[1])
    rows, unit = _conditioned(data, metric)
    try:
        with ONE_CALLER:
            found = NNDescent(
                rows,
                metric=metric,
                metric_kwds=dict(metric_kwds or {}),
                n_neighbors=n_neighbors,
                random_state=seed,
            ).neighbor_graph
    except (NumbaError, TypeError) as error:
        raise ValueError(
            f"`metric_kwds` is {metric_kwds!r}, which the metric {metric!r} does not "
            "take (or it needs others); see pynndescent's documentation of the metric."
        ) from error
    assert found is not None
    indices, distances = found
    if distances.min() < -1e-3:
        raise ValueError(
            f"`metric` is {metric!r}, which is {distances.min():g} between some rows; "
            "expected a distance. Use 'cosine', or scale the rows to length 1."
        )
    # Rounding leaves some metrics just below 0 between equal rows.
    lengths = np.maximum(distances, 0.0).astype(np.float64) * unit
    return as_knn(indices, lengths, name=f"`metric` {metric!r}")


def _check_metric(metric: str, *, sparse: bool) -> None:
    from pynndescent.distances import named_distances
    from pynndescent.sparse import sparse_named_distances

    known = sorted(sparse_named_distances if sparse else named_distances)
    if metric not in known:
        where = " for sparse rows" if sparse else ""
        raise ValueError(
            f"`metric` is {metric!r}, which pynndescent does not know{where}; "
            f"{nearest_name(metric, [*known, 'precomputed'])}"
        )


def _check_table(metric: str, metric_kwds: Mapping[str, Any], columns: int) -> None:
    name, axes = TABLES[metric]
    given, shape = metric_kwds.get(name), (columns,) * axes
    if given is None or np.shape(given) != shape:
        was = "None" if given is None else f"of shape {np.shape(given)}"
        raise ValueError(
            f"`metric_kwds` has a `{name}` that is {was}; the metric {metric!r} of "
            f"{columns} columns needs an array {shape}."
        )


def _conditioned(data: Rows, metric: str) -> tuple[Any, float]:
    """The rows as pynndescent takes them, and the unit of its distances."""
    if metric in BITS:
        return np.asarray(data).astype(np.uint8), 1.0
    if metric not in (*LENGTHS, *ANGLES):
        return data.astype(np.float32), 1.0
    if isinstance(data, np.ndarray) and metric in LENGTHS:
        into, unit = conditioning(data, "euclidean")
        return into(data, np.float32), unit
    unit = float(abs(data).max()) or 1.0
    rows = (data.astype(np.float64) / unit).astype(np.float32)
    return rows, 1.0 if metric in ANGLES else unit
