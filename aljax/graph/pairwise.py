"""Nearest rows by comparing all pairs on the host, in whatever metric is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from aljax.checks import nearest_name
from aljax.graph.knn import Rows

BLOCK = 128  # rows whose distances to all others are held at once
# Metrics that scikit-learn and pynndescent know by the same name for the same thing.
PLAIN_METRICS = (
    *("manhattan", "l1", "sqeuclidean", "chebyshev", "minkowski", "canberra"),
    *("braycurtis", "correlation", "hamming", "haversine"),
)
SPARSE_METRICS = ("euclidean", "cosine", "manhattan", "l1")


def nearest_pairs(
    data: Rows,
    queries: Rows,
    n_neighbors: int,
    *,
    metric: str,
    metric_kwds: Mapping[str, Any] | None = None,
) -> tuple[
    Int[np.ndarray, "queries neighbors"], Float[np.ndarray, "queries neighbors"]
]:
    """The nearest rows of a slice to each of some rows, nearest first.

    Args:
        data: The slice; both are dense or both CSR.
        queries: The other rows, or the slice itself.
        n_neighbors: How many of the slice's rows (1 to points).
        metric: One that pynndescent knows (of sparse rows, of `SPARSE_METRICS`).
        metric_kwds: Keyword arguments for the metric.

    Raises:
        ValueError: Another metric, or keyword arguments that it does not take.
    """
    found = []
    for start in range(0, queries.shape[0], BLOCK):
        block = queries[start : start + BLOCK]
        each = pairwise(block, data, metric, metric_kwds or {})
        chosen = np.argsort(each, axis=1, kind="stable")[:, :n_neighbors]
        # In some metrics rounding leaves a distance between equal rows.
        equal = _equal(block, data, chosen)
        near = np.where(equal, 0.0, np.take_along_axis(each, chosen, axis=1))
        order = np.argsort(near, axis=1, kind="stable")
        found.append(
            tuple(np.take_along_axis(one, order, axis=1) for one in (chosen, near))
        )
    return _joined(found, n_neighbors)


def nearest_of(
    distances: Float[np.ndarray, "queries points"], n_neighbors: int
) -> tuple[
    Int[np.ndarray, "queries neighbors"], Float[np.ndarray, "queries neighbors"]
]:
    """The nearest rows of a slice to rows whose distances to them are known."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
    return order, np.take_along_axis(distances, order, axis=1).astype(np.float64)


def pairwise(
    rows: Rows, others: Rows, metric: str, metric_kwds: Mapping[str, Any]
) -> Float[np.ndarray, "rows others"]:
    """All distances: by scikit-learn, or else pair by pair by pynndescent's function.

    Raises:
        ValueError: Neither can.
    """
    dense = isinstance(rows, np.ndarray)
    try:
        if metric in (PLAIN_METRICS if dense else SPARSE_METRICS):
            from sklearn.metrics import pairwise_distances

            each = pairwise_distances(rows, others, metric, **metric_kwds)
            return _correlated(each, rows, others) if metric == "correlation" else each
        if not dense:
            raise ValueError("they are sparse")
        return _by_pynndescent(rows, np.asarray(others), metric, metric_kwds)
    except (TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"`metric` is {metric!r} with `metric_kwds` {dict(metric_kwds)}, in which "
            f"rows cannot be compared ({why}); expected a metric that "
            "pynndescent knows, with its own arguments, or, of sparse rows, one of "
            f"{', '.join(SPARSE_METRICS)}."
        ) from error


def _correlated(each: np.ndarray, rows: Any, others: Any) -> np.ndarray:
    """With a row of one value nothing correlates: 1, and 0 from another such row."""
    flat = (np.ptp(rows, axis=1) == 0)[:, None] + 1 * (np.ptp(others, axis=1) == 0)
    return np.where(flat == 0, each, np.where(flat == 1, 1.0, 0.0))


def _by_pynndescent(
    rows: np.ndarray, others: np.ndarray, metric: str, metric_kwds: Mapping[str, Any]
) -> Float[np.ndarray, "rows others"]:
    from numba.core.errors import NumbaError
    from pynndescent.distances import named_distances

    if metric not in named_distances:
        raise ValueError(nearest_name(metric, sorted(named_distances)))
    between = named_distances[metric]
    x, y = (np.asarray(one, dtype=np.float32) for one in (rows, others))
    try:
        return np.array([[between(i, j, **metric_kwds) for j in y] for i in x])
    except NumbaError as error:
        raise ValueError("with other keyword arguments, perhaps") from error


def _equal(
    block: Rows, data: Rows, chosen: Int[np.ndarray, "_ neighbors"]
) -> Bool[np.ndarray, "_ neighbors"]:
    """Which of the chosen rows are the same as the query's."""
    if isinstance(data, np.ndarray):
        return (data[chosen] == np.asarray(block)[:, None, :]).all(axis=2)
    asked = np.repeat(np.arange(len(chosen)), chosen.shape[1])
    apart = abs(block[asked] - data[chosen.ravel()]).max(axis=1)
    return (apart.toarray() == 0).reshape(chosen.shape)


def _joined(found: list[Any], n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    rows = [chosen for chosen, _ in found] or [np.zeros((0, n_neighbors), int)]
    distances = [near for _, near in found] or [np.zeros((0, n_neighbors))]
    return np.concatenate(rows), np.concatenate(distances)
