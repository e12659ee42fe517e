"""Nearest neighbours: a slice's data in, its `KNN` table out.

The table is exact while that is the cheaper way, else pynndescent's.  Distances
are found on data that was centred and scaled on the host, and those that are kept
are computed again by difference: float32 loses neighbours when the expansion
|x|^2 - 2 x.y + |y|^2 is taken far from the origin.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.checks import nearest_name

EXACT_METRICS = ("euclidean", "cosine")
# Pairs times features below which exact search is the quicker (about 40,000 x 784).
EXACT_OPERATIONS = 1.25e12
ROUNDING = 1e-5  # of the largest squared norm: about 100 times float32's
FEW = 0.01  # share of rows, such as repeated ones, that are let pass
TILE = 512  # rows whose distances to all others are held at once


class KNN(eqx.Module):
    """Each row's nearest neighbours, nearest first and the row itself in column 0.

    An entry that is not a neighbour (padding, a repeated row, a missing value)
    is the row's own index again, with distance 0: entries of that kind beyond
    column 0 weigh nothing in the graph.
    """

    indices: Int[Array, "neighbors points"]
    distances: Float[Array, "neighbors points"]


def as_knn(
    indices: Int[np.ndarray, "points neighbors"],
    distances: Float[np.ndarray, "points neighbors"],
) -> KNN:
    """The normal form of a neighbour table made elsewhere (umap-learn's shape).

    Args:
        indices: Neighbours of each row, itself included or not; -1 for none.
        distances: Their distances (units of the metric, at least 0); inf for none.

    Returns:
        The table with each row itself in column 0 and every neighbour once.

    Raises:
        ValueError: Shapes that differ, an index out of range, a distance below 0.
    """
    indices, distances = np.asarray(indices), np.asarray(distances, dtype=float)
    if indices.ndim != 2 or indices.shape != distances.shape:
        raise ValueError(
            f"`precomputed_knn` has indices of shape {indices.shape} and distances of "
            f"shape {distances.shape}; expected both to be (points, neighbors)."
        )
    points, neighbors = indices.shape
    if indices.min(initial=0) < -1 or indices.max(initial=0) >= points:
        raise ValueError(
            f"`precomputed_knn` has indices from {indices.min()} to {indices.max()}; "
            f"expected rows 0 to {points - 1}, or -1 for a missing neighbour."
        )
    if np.isnan(distances).any() or distances.min(initial=0) < 0:
        raise ValueError(
            "`precomputed_knn` has negative or NaN distances; expected distances of at "
            "least 0, or inf for a missing neighbour."
        )
    own = np.arange(points)[:, None]
    # Sorting by distance, then looking for equal indices, keeps the nearest of repeats.
    order = np.argsort(distances, axis=1, kind="stable")
    indices = np.take_along_axis(indices, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    by_index = np.argsort(indices, axis=1, kind="stable")
    ranked = np.take_along_axis(indices, by_index, axis=1)
    repeated = np.zeros(indices.shape, dtype=bool)
    np.put_along_axis(
        repeated,
        by_index,
        np.pad(ranked[:, 1:] == ranked[:, :-1], ((0, 0), (1, 0))),
        axis=1,
    )
    absent = repeated | (indices < 0) | np.isinf(distances) | (indices == own)
    order = np.argsort(absent, axis=1, kind="stable")[:, : neighbors - 1]
    absent = np.take_along_axis(absent, order, axis=1)
    kept = np.where(absent, own, np.take_along_axis(indices, order, axis=1))
    near = np.where(absent, 0.0, np.take_along_axis(distances, order, axis=1))
    return KNN(
        jnp.asarray(np.hstack([own, kept]).T, dtype=jnp.int32),
        as_floats(np.hstack([np.zeros((points, 1)), near]).T),
    )


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
        exact = exact and points**2 * features <= EXACT_OPERATIONS
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
    scaled, unit = _condition(data, metric)
    indices, squared = _search_padded(scaled.astype(jnp.zeros(()).dtype), n_neighbors)
    lost = squared[-1] < ROUNDING * (scaled**2).sum(axis=1).max()
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


def _condition(data: np.ndarray, metric: str) -> tuple[np.ndarray, float]:
    """Centre and scale (or normalise) on the host, in float64; and the scale."""
    exact = np.asarray(data, dtype=np.float64)
    if metric == "cosine":
        largest = np.abs(exact).max(axis=1, keepdims=True)
        exact = exact / np.where(largest > 0, largest, 1)
        norm = np.sqrt((exact**2).sum(axis=1, keepdims=True))
        # A row of zeros gets a direction of its own, at cosine 0 to all others.
        unit = np.hstack([exact / np.where(norm > 0, norm, 1), norm == 0])
        return unit, 1.0
    centred = exact - exact.mean(axis=0)
    scale = float(np.abs(centred).max()) or 1.0
    return centred / scale, scale


def as_floats(values: Any) -> Array:
    """An array of JAX's own float type, converted by NumPy: nothing to compile."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    return jnp.asarray(np.asarray(values, dtype=dtype))


def round_up(points: int) -> int:
    """A capacity at most 3 % above `points` (or the next multiple of 8).

    Arrays padded to it let near sizes share one compiled program.
    """
    grain = max(8, 2 ** (int(points).bit_length() - 6))
    return -(-points // grain) * grain


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
    try:
        search = NNDescent(
            np.asarray(data, dtype=np.float32),
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
    return as_knn(*found)
