"""All distances of two sets of rows, on the host.

They are scikit-learn's, products of sets, or those of pynndescent's functions or the
user's.  Rows of zeros are at distance 0 from each other in all of them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from aljax.errors import InputError, nearest_name
from aljax.graph.function import Metric, all_pairs
from aljax.graph.knn import Rows, metric_name
from aljax.graph.sets import DENSE_SETS, SPARSE_SETS, set_distances

# Metrics that scikit-learn and pynndescent know by the same name for the same thing.
PLAIN_METRICS = (
    *("manhattan", "sqeuclidean", "chebyshev", "minkowski", "canberra"),
    *("braycurtis", "hamming", "haversine"),
)
SPARSE_METRICS = ("euclidean", "cosine", "manhattan")
# Metrics that are computed of sparse rows as if they were dense.
FILLED = (
    *("correlation", "sqeuclidean", "chebyshev"),
    *("minkowski", "canberra", "braycurtis"),
)
FILLED_ENTRIES = 2**24  # of the rows that are dense at once
# Metrics that divide by the size of rows: by 0 for rows without any.
RATIOS = ("cosine", "correlation", "braycurtis")
CANCELED = 1e-9  # of squared norms, below which products leave too little of distances
MENDED = 2**14  # pairs that are measured by difference at once
# Metrics of which all distances are computed on the host.
DENSE_PAIRS = (*PLAIN_METRICS, *DENSE_SETS)
SPARSE_PAIRS = (*SPARSE_METRICS, *SPARSE_SETS, *FILLED)


def pairwise(
    rows: Rows, others: Rows, metric: Metric, metric_kwds: Mapping[str, Any]
) -> Float[np.ndarray, "rows others"]:
    """Measures all distances: by scikit-learn, products of sets, or a function of rows.

    Raises:
        InputError: Neither can compute them.
    """
    dense = isinstance(rows, np.ndarray)
    try:
        if rows.shape[0] == 0:
            return np.zeros((0, others.shape[0]))
        if metric in (PLAIN_METRICS if dense else SPARSE_METRICS):
            from sklearn.metrics import pairwise_distances

            distances = pairwise_distances(rows, others, metric, **metric_kwds)
            if metric == "euclidean":
                _mend_canceled(distances, rows, others)
            return _mend_empty(distances, rows, others, metric)
        if callable(metric):
            return all_pairs(rows, others, metric, metric_kwds)
        if metric in (DENSE_SETS if dense else SPARSE_SETS) and not metric_kwds:
            return set_distances(rows, others, metric)
        if not dense:
            if metric not in FILLED:
                raise ValueError("they are sparse")
            return _filled(rows, others, metric, metric_kwds)
        from pynndescent.distances import named_distances

        if metric not in named_distances:
            raise ValueError(nearest_name(metric, sorted(named_distances)))
        x, y = (np.asarray(side, dtype=np.float32) for side in (rows, others))
        return all_pairs(x, y, named_distances[metric], metric_kwds)
    except (TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        kwds = f" with `metric_kwds` {dict(metric_kwds)}" if metric_kwds else ""
        got = f"is {metric_name(metric)}{kwds} ({why})"
        sparse = f"(of sparse rows {', '.join(SPARSE_PAIRS)})"
        expected = f"a metric of pynndescent {sparse}, with its arguments"
        if callable(metric):
            expected = "a function of two rows that returns their distance, a number"
        raise InputError("metric", got, expected) from error


def _filled(
    rows: Any, others: Any, metric: str, metric_kwds: Mapping[str, Any]
) -> Float[np.ndarray, "rows others"]:
    """Returns the distances of sparse rows in one of `FILLED`, by blocks of rows."""
    from sklearn.metrics import pairwise_distances

    angles = metric == "correlation"
    of_metric = "cosine" if angles else metric

    def dense(block: Any) -> np.ndarray:
        block = block.toarray()
        if not angles:
            return block
        centered = block - block.mean(axis=1, keepdims=True)
        # Of a row of one value the mean may miss it by rounding; and scikit-learn takes
        # short rows for rows of zeros.
        centered[np.ptp(block, axis=1) == 0] = 0
        _, powers = np.frexp(np.abs(centered).max(axis=1, keepdims=True))
        return np.ldexp(centered, -powers)

    step = max(FILLED_ENTRIES // others.shape[1], 1)
    parts = [others[i : i + step] for i in range(0, others.shape[0], step)]
    dense_rows, blocks = dense(rows), []
    for part in parts:
        ends = dense_rows, dense(part)
        block = pairwise_distances(*ends, of_metric, **metric_kwds)
        blocks.append(_mend_empty(block, *ends, metric))
    return np.hstack(blocks)


def _mend_empty(
    distances: Float[np.ndarray, "rows others"], rows: Any, others: Any, metric: Metric
) -> Float[np.ndarray, "rows others"]:
    """Puts rows of zeros at distance 0 from each other, as all equal rows are."""
    if metric in RATIOS:
        empty = [
            np.asarray((side != 0).sum(axis=1)).ravel() == 0 for side in (rows, others)
        ]
        distances[np.ix_(*empty)] = 0.0
    return distances


def _mend_canceled(
    distances: Float[np.ndarray, "rows others"], rows: Any, others: Any
) -> None:
    """Measures sparse rows by difference where they lie near each other but far off."""
    norms = [
        np.asarray(side.multiply(side).sum(axis=1)).ravel() for side in (rows, others)
    ]
    limit = CANCELED * np.add.outer(*norms)
    heads, tails = np.nonzero(distances**2 < limit)
    for start in range(0, len(heads), MENDED):
        i, j = (ends[start : start + MENDED] for ends in (heads, tails))
        apart = rows[i] - others[j]
        distances[i, j] = np.sqrt(np.asarray(apart.multiply(apart).sum(axis=1)).ravel())
