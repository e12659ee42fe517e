"""All distances of two sets of rows, on the host.

They are scikit-learn's, products of sets, or those of pynndescent's functions or the
user's.  Rows of zeros are at distance 0 from each other in all of them.

As a set, a row has the columns in which it is not 0.  Of n columns, b are in both of
two rows' sets and u in only one of them; one matrix product counts them for all pairs:

    jaccard = u / (u + b),    dice = u / (u + 2 b),    sokalsneath = u / (u + b / 2).

Sources: the definitions, and the values where a denominator is 0, are pynndescent's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.errors import InputError, nearest_name
from aljax.graph.function import Metric, all_pairs
from aljax.graph.knn import Rows, metric_name

Distances = Float[np.ndarray, "rows others"]

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
SETS = (
    *("jaccard", "dice", "sokalsneath", "matching", "rogerstanimoto"),
    *("sokalmichener", "russellrao", "kulsinski"),
)
PACKED = ("bit_hamming", "bit_jaccard")  # of rows with eight columns in a byte
DENSE_SETS = (*SETS, *PACKED, "yule", "hellinger")
SPARSE_SETS = (*SETS, "hamming", "hellinger")
# Metrics of which all distances are computed on the host.
DENSE_PAIRS = (*PLAIN_METRICS, *DENSE_SETS)
SPARSE_PAIRS = (*SPARSE_METRICS, *SPARSE_SETS, *FILLED)


def pairwise(
    rows: Rows, others: Rows, metric: Metric, metric_kwds: Mapping[str, Any]
) -> Distances:
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
) -> Distances:
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
    distances: Distances, rows: Any, others: Any, metric: Metric
) -> Distances:
    """Puts rows of zeros at distance 0 from each other, as all equal rows are."""
    if metric in RATIOS:
        empty = [
            np.asarray((side != 0).sum(axis=1)).ravel() == 0 for side in (rows, others)
        ]
        distances[np.ix_(*empty)] = 0.0
    return distances


def _mend_canceled(distances: Distances, rows: Any, others: Any) -> None:
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


def set_distances(rows: Rows, others: Rows, metric: str) -> Distances:
    """Returns all distances, in one of `DENSE_SETS` or, of CSR rows, of `SPARSE_SETS`.

    Raises:
        ValueError: The metric is "hellinger", and a value is negative.
    """
    if metric == "hellinger":
        return _hellinger(rows, others)
    if metric in PACKED:
        rows, others = (
            np.unpackbits(np.asarray(side).astype(np.uint8), axis=1)
            for side in (rows, others)
        )
    x, y = (_bits(side) for side in (rows, others))
    sizes = [np.asarray(side.sum(axis=1, dtype=float)).ravel() for side in (x, y)]
    b, n = _product(x, y), rows.shape[1]
    first, second = sizes[0][:, None] - b, sizes[1] - b
    if metric == "hamming":
        return (first + second + b - _product(*_entries(rows, others))) / n
    if metric == "yule":
        apart = first * second
        opposite = apart + b * (n - b - first - second)
        return np.where(apart > 0, _share(2 * apart, opposite), 0.0)
    return _from_counts(metric, b, first + second, n)


def _from_counts(metric: str, b: Distances, u: Distances, n: int) -> Distances:
    match metric:
        case "jaccard":
            return _share(u, u + b)
        case "dice":
            return _share(u, u + 2 * b)
        case "sokalsneath":
            return _share(u, u + b / 2)
        case "matching":
            return u / n
        case "rogerstanimoto" | "sokalmichener":
            return 2 * u / (n + u)
        case "russellrao":
            return np.where(u > 0, (n - b) / n, 0.0)
        case "kulsinski":
            return np.where(u > 0, (u - b + n) / (u + n), 0.0)
        case "bit_hamming":
            return u
        case _:  # bit_jaccard
            with np.errstate(divide="ignore"):  # infinite where nothing is shared
                return np.where(u > 0, -np.log(_share(b, u + b)), 0.0)


def _share(part: Distances, whole: Distances) -> Distances:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _bits(rows: Any) -> Any:
    """Ones where rows are not 0; float32 counts them exactly to 2^24."""
    return (rows != 0).astype(np.float32)


def _product(x: Any, y: Any) -> Distances:
    product = x @ y.T
    dense = product if isinstance(product, np.ndarray) else product.toarray()
    return dense.astype(float)


def _entries(rows: Any, others: Any) -> list[scipy.sparse.csr_matrix]:
    """Returns sparse rows as sets: a column for each (column, value) that occurs."""
    stacked = scipy.sparse.vstack([rows, others]).tocsr()
    stacked.eliminate_zeros()
    pairs = np.column_stack([stacked.indices, stacked.data])
    entries, place = np.unique(pairs, axis=0, return_inverse=True)
    ones = np.ones(len(pairs), np.float32)
    shape = stacked.shape[0], len(entries)
    coded = scipy.sparse.csr_matrix((ones, place.ravel(), stacked.indptr), shape=shape)
    return [coded[: rows.shape[0]], coded[rows.shape[0] :]]


def _hellinger(rows: Rows, others: Rows) -> Distances:
    """|sqrt(p) - sqrt(q)| / sqrt(2) of rows that are scaled to a sum of 1."""
    x, y = (_roots(side) for side in (rows, others))
    if not isinstance(x, np.ndarray):
        return np.sqrt(np.maximum(1 - _product(x, y), 0.0))
    from scipy.spatial.distance import cdist

    return cdist(x, y) / np.sqrt(2)


def _roots(rows: Any) -> Any:
    """Square roots of shares; a row of zeros is at distance 1 from all but such."""
    if rows.shape[0] and rows.min() < 0:
        raise ValueError("it takes values of at least 0")
    total = np.asarray(rows.sum(axis=1, dtype=float)).reshape(-1, 1)
    empty, scale = (total == 0).astype(float), 1 / np.where(total > 0, total, 1)
    if isinstance(rows, np.ndarray):
        return np.hstack([np.sqrt(rows * scale), empty])
    shares: Any = scipy.sparse.csr_matrix(rows.multiply(scale))
    return scipy.sparse.hstack([shares.sqrt(), empty]).tocsr()
