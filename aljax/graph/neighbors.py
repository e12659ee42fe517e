"""Nearest neighbours: a slice's data in, its `KNN` table out.

The table is exact while that is the cheaper way, else pynndescent's.  Distances
are found on data that was centred and scaled on the host, and those that are kept
are computed again by difference: float32 loses neighbours when the expansion
|x|^2 - 2 x.y + |y|^2 is taken far from the origin.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.checks import nearest_name
from aljax.graph.knn import KNN, as_floats, as_knn, round_up

EXACT_METRICS = ("euclidean", "cosine")
# Exact search is the quicker below this many operations (about 40,000 x 784): a pair
# of rows costs one for each feature, and its share in the choice of the nearest.
EXACT_OPERATIONS = 1.7e12
CHOICE = 270
# Metrics of pynndescent that grow with the data's unit, or do not.
OF_UNITS = {"euclidean": 1, "manhattan": 1, "chebyshev": 1, "minkowski": 1}
OF_UNITS |= {"cosine": 0, "correlation": 0}
ROUNDING = 1e-5  # of the largest squared norm: about 100 times float32's
FEW = 0.01  # share of rows, such as repeated ones, that are let pass
TILE = 512  # rows whose distances to all others are held at once


def find_neighbors(
    data: Float[np.ndarray, "points features"],
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
    knn_method: str = "auto",
    seed: int = 0,
) -> KNN:
    """The nearest neighbours of each row, exact or approximate by `knn_method`.

    Args:
        data: One slice.
        n_neighbors: Neighbours of each row, itself included (2 to points - 1).
        metric: The distance between rows.
        metric_kwds: Keyword arguments for the metric.
        knn_method: "auto", "exact" or "approximate".
        seed: Seeds the approximate search; the exact one has no chance in it.

    Raises:
        ValueError: `knn_method="exact"` with a metric that has no exact search here,
            or a metric that pynndescent does not know.
    """
    exact = metric in EXACT_METRICS and not metric_kwds
    if knn_method == "exact" and not exact:
        raise ValueError(
            f"`metric` is {metric!r}; exact neighbours are found for "
            f"{' and '.join(EXACT_METRICS)} without `metric_kwds`. Use "
            '`knn_method="approximate"`, or give a `KNN` made by `as_knn`.'
        )
    if knn_method == "auto":
        points, features = data.shape
        exact = exact and points**2 * (features + CHOICE) <= EXACT_OPERATIONS
    if exact and knn_method != "approximate":
        return exact_knn(data, n_neighbors, metric=metric)
    return approximate_knn(
        data, n_neighbors, metric=metric, metric_kwds=metric_kwds, seed=seed
    )


def exact_knn(
    data: Float[np.ndarray, "points features"],
    n_neighbors: int,
    *,
    metric: str = "euclidean",
) -> KNN:
    """The nearest neighbours of each row by comparing all pairs, tile by tile.

    Args:
        data: One slice, finite.
        n_neighbors: Neighbours of each row, itself included (2 to points - 1).
        metric: "euclidean", or "cosine" (1 - cos; a row of zeros is at distance 1
            from all but other rows of zeros).

    Returns:
        The table; memory is bounded by 512 x points distances at a time.
    """
    scaled, _, unit = condition(data, metric)
    indices, squared = _search_padded(scaled.astype(jnp.zeros(()).dtype), n_neighbors)
    lost = squared[-1] < ROUNDING * np.einsum("ij,ij->i", scaled, scaled).max()
    if lost.mean() > FEW and squared.dtype == np.float32:
        # Clusters far apart: distances within them drown in float32's rounding.
        with jax.enable_x64(True):
            indices, squared = _search_padded(scaled, n_neighbors)
    distances = squared / 2 if metric == "cosine" else np.sqrt(squared) * unit
    return KNN(jnp.asarray(indices), as_floats(distances))


def _search_padded(
    data: Float[np.ndarray, "points features"], n_neighbors: int
) -> tuple[Int[np.ndarray, "neighbors points"], Float[np.ndarray, "neighbors points"]]:
    points = data.shape[0]
    padded = np.pad(data, ((0, round_up(points) - points), (0, 0)))
    indices, squared = _search(jnp.asarray(padded), points, n_neighbors)
    # Trimmed by NumPy: eager JAX would compile anew for every number of points.
    return np.asarray(indices)[:, :points], np.asarray(squared)[:, :points]


Conditioned = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray], float]


def condition(data: Float[np.ndarray, "points features"], metric: str) -> Conditioned:
    """Centre and scale rows (or normalise them), on the host and in float64.

    Args:
        data: One slice.
        metric: "euclidean" or "cosine".

    Returns:
        The rows, what does the same to other rows, and the scale.
    """
    if metric == "cosine":
        return _normalize(data), _normalize, 1.0
    centre = np.mean(data, axis=0, dtype=np.float64)
    centred = np.subtract(data, centre, dtype=np.float64)
    scale = float(max(centred.max(), -centred.min())) or 1.0

    def into(rows: np.ndarray) -> np.ndarray:
        return np.subtract(rows, centre, dtype=np.float64) / scale

    centred /= scale
    return centred, into, scale


def _normalize(rows: np.ndarray) -> np.ndarray:
    exact = np.asarray(rows, dtype=np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    exact = exact / np.where(largest > 0, largest, 1)
    norm = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    # A row of zeros gets a direction of its own, at cosine 0 to all others.
    return np.hstack([exact / np.where(norm > 0, norm, 1), norm == 0])


@partial(jax.jit, static_argnames="n_neighbors")
def _search(
    data: Float[Array, "points features"],
    n_points: int | Int[Array, ""],
    n_neighbors: int,
) -> tuple[Int[Array, "neighbors points"], Float[Array, "neighbors points"]]:
    rows = jnp.arange(data.shape[0])
    half_norm = jnp.sum(data**2, axis=1) / 2
    absent = jnp.where(rows < n_points, 0.0, jnp.inf)

    def one(row: Int[Array, ""]) -> tuple[Array, Array]:
        # |x - y|^2 / 2 without the term that is the same for every y.
        dot = jnp.matmul(data, data[row], precision="highest")
        nearness = half_norm + absent - dot
        nearness = nearness.at[row].set(-jnp.inf)
        _, chosen = jax.lax.top_k(-nearness, n_neighbors)
        squared = jnp.sum((data[chosen] - data[row]) ** 2, axis=1)
        order = jnp.argsort(squared.at[0].set(-1.0))
        return chosen[order].astype(jnp.int32), squared[order]

    indices, squared = jax.lax.map(one, rows, batch_size=TILE)
    return indices.T, squared.T


def approximate_knn(
    data: Float[np.ndarray, "points features"],
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
        data: One slice, finite.
        n_neighbors: Neighbours of each row, itself included.
        metric: Any metric that pynndescent knows.
        metric_kwds: Keyword arguments for the metric.
        seed: Seeds the search.

    Raises:
        ValueError: A metric that pynndescent does not know, or keyword arguments
            that the metric does not take.

    Source: Dong, Charikar & Li (2011), "Efficient k-nearest neighbor graph
        construction for generic similarity measures".
    """
    from numba.core.errors import NumbaError
    from pynndescent import NNDescent
    from pynndescent.distances import named_distances

    if metric not in named_distances:
        raise ValueError(
            f"`metric` is {metric!r}, which pynndescent does not know; "
            f"{nearest_name(metric, sorted(named_distances))}"
        )
    unit = _unit(data) if metric in OF_UNITS else 1.0
    try:
        search = NNDescent(
            np.asarray(data if unit == 1 else data / unit, dtype=np.float32),
            metric=metric,
            metric_kwds=dict(metric_kwds or {}),
            n_neighbors=n_neighbors,
            random_state=seed,
        )
    except (NumbaError, TypeError) as error:
        raise ValueError(
            f"`metric_kwds` is {metric_kwds!r}, which the metric {metric!r} does not "
            "take (or it needs others); see pynndescent's documentation of the metric."
        ) from error
    found = search.neighbor_graph
    assert found is not None
    indices, distances = found
    return as_knn(
        indices, np.asarray(distances, float) * unit ** OF_UNITS.get(metric, 0)
    )


def _unit(data: Float[np.ndarray, "points features"]) -> float:
    """What to divide data by whose squares single precision cannot hold."""
    largest = float(np.abs(data).max())
    return 1.0 if 1e-12 < largest < 1e12 or not largest else largest
