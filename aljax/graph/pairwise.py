"""Nearest rows by comparing all pairs on the host, in whatever metric is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from aljax.graph.knn import Rows

BLOCK = 128  # rows whose distances to all others are held at once
# Metrics that scikit-learn and pynndescent know by the same name for the same thing.
PLAIN_METRICS = (
    *("manhattan", "l1", "l2", "sqeuclidean", "chebyshev", "minkowski", "canberra"),
    *("braycurtis", "correlation", "hamming", "haversine"),
)
SPARSE_METRICS = ("euclidean", "l2", "cosine", "manhattan", "l1")


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
        metric: One that scikit-learn's `pairwise_distances` or pynndescent knows.
        metric_kwds: Keyword arguments for the metric.

    Raises:
        ValueError: A metric that neither can compute.
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
    """All distances, by scikit-learn, or by pynndescent's function where it has none.

    Raises:
        ValueError: Neither can.
    """
    from sklearn.metrics import pairwise_distances

    try:
        return pairwise_distances(rows, others, metric, **metric_kwds)
    except (TypeError, ValueError) as error:
        found = _pynndescent_function(metric) if isinstance(rows, np.ndarray) else None
        if found is None:
            raise ValueError(
                f"`metric` is {metric!r} with {dict(metric_kwds)}, in which new rows "
                f"cannot be searched ({error}); euclidean and cosine can, and what "
                "scikit-learn's pairwise_distances knows (of sparse rows also "
                "manhattan), or pynndescent."
            ) from error
    given = tuple(metric_kwds.values())
    narrow = [np.asarray(one, dtype=np.float32) for one in (rows, others)]
    return np.array([[found(x, y, *given) for y in narrow[1]] for x in narrow[0]])


def _pynndescent_function(metric: str) -> Any:
    from pynndescent.distances import named_distances

    return named_distances.get(metric)


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
