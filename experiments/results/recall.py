"""The share of true neighbors that a graph has."""

import jax
import numpy as np

from aljax import AlignedEmbedding
from aljax.config import per_slice
from aljax.graph.exact import EXACT_METRICS, nearest

ROWS = 1000


def graph_recall(fitted: AlignedEmbedding) -> float | None:
    """Returns the share of true neighbors that the graphs have, over 1,000 rows each.

    None where they cannot be told: graphs without data, or a metric that has no exact
    search.
    """
    if fitted.graph.metric not in EXACT_METRICS or fitted.graph.metric_kwds:
        return None
    count = len(fitted.maps)
    found = []
    for t, n_neighbors in enumerate(
        per_slice("n_neighbors", fitted.graph.n_neighbors, count)
    ):
        data = fitted.data[t]
        if not isinstance(data, np.ndarray):
            return None
        listed = fitted.graphs[t].neighbors
        found.append(
            slice_recall(data, listed, n_neighbors, metric=fitted.graph.metric)
        )
    return float(np.mean(found))


def slice_recall(
    data: np.ndarray, listed: jax.Array, n_neighbors: int, *, metric: str = "euclidean"
) -> float:
    """Returns the share of true neighbors in a table `(neighbors, points)`."""
    rows = np.random.default_rng(0).permutation(len(data))[:ROWS]
    exact, _ = nearest(data[rows], data, n_neighbors, metric=metric)
    chosen = np.asarray(listed).T[rows]
    shared = [len({*a} & {*b}) for a, b in zip(exact, chosen, strict=True)]
    return float(np.mean(shared) / n_neighbors)
