"""Nearest neighbours: a slice's data in, its `KNN` table out.

The table is exact while that is the cheaper way, else pynndescent's.  Distances
are found on data that was centred and scaled on the host, and those that are kept
are computed again by difference: float32 loses neighbours when the expansion
|x|^2 - 2 x.y + |y|^2 is taken far from the origin.
"""

from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
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
ROUNDING = 1e-5  # of the largest squared norm: about 100 times float32's
FEW = 0.01  # share of rows, such as repeated ones, that are let pass
TILE = 512  # rows that are compared with as many others at once
# pynndescent's threads serve one caller at a time.
ONE_CALLER = Lock()

Best = tuple[Float[Array, "tiles rows neighbors"], Int[Array, "tiles rows neighbors"]]


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
    """The nearest neighbours of each row by comparing all pairs, tile with tile.

    Args:
        data: One slice, finite.
        n_neighbors: Neighbours of each row, itself included (2 to points - 1).
        metric: "euclidean", or "cosine" (1 - cos; a row of zeros is at distance 1
            from all but other rows of zeros).

    Returns:
        The table; each pair of rows is compared once, 512 x 512 of them at a time.
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
    points, rows = data.shape[0], tile_rows(data.shape[0], n_neighbors)
    padded = jnp.pad(data, ((0, -points % rows), (0, 0)))
    absent = jnp.arange(len(padded)) >= n_points
    half_norm = jnp.where(absent, jnp.inf, jnp.sum(padded**2, axis=1) / 2)
    tiles, half_norms = (
        padded.reshape(-1, rows, data.shape[1]),
        half_norm.reshape(-1, rows),
    )
    itself = jnp.eye(rows, dtype=bool)

    def compare(best: Best, pair: Int[Array, "2"]) -> tuple[Best, None]:
        one, other = pair
        # -|x - y|^2 / 2 without the term that is the same for every y.
        dots = jnp.matmul(tiles[one], tiles[other].T, precision="highest")
        nearness = jnp.where((one == other) & itself, jnp.inf, dots - half_norms[other])
        best = _keep_best(best, nearness, one, other)
        return jax.lax.cond(
            one == other,
            lambda best: best,
            lambda best: _keep_best(best, dots.T - half_norms[one], other, one),
            best,
        ), None

    nowhere = jnp.zeros((len(tiles), rows, n_neighbors), dtype=jnp.int32)
    best = jnp.full(nowhere.shape, -jnp.inf, data.dtype), nowhere
    pairs = jnp.stack(jnp.triu_indices(len(tiles)), axis=1).astype(jnp.int32)
    (_, found), _ = jax.lax.scan(compare, best, pairs)
    chosen = found.reshape(-1, n_neighbors)[:points].T
    squared = jax.lax.map(lambda ys: jnp.sum((data[ys] - data) ** 2, axis=1), chosen)
    order = jnp.argsort(squared.at[0].set(-1.0), axis=0)
    chosen = jnp.take_along_axis(chosen, order, axis=0)
    return chosen, jnp.take_along_axis(squared, order, axis=0)


def _keep_best(
    best: Best, nearness: Float[Array, "rows rows"], one: Array, other: Array
) -> Best:
    """The nearest that tile `one` has found, `other`'s rows now among them."""
    values, indices = best
    neighbors, rows = indices.shape[2], len(nearness)
    # The best so far come first: of equal distances the lowest row is kept.
    near = jnp.concatenate([values[one], nearness], axis=1)
    columns = jnp.arange(rows, dtype=jnp.int32) + other * rows
    named = jnp.concatenate(
        [indices[one], jnp.broadcast_to(columns, (rows, rows))], axis=1
    )
    kept, chosen = jax.lax.top_k(near, neighbors)
    named = jnp.take_along_axis(named, chosen, axis=1)
    return values.at[one].set(kept), indices.at[one].set(named)


def tile_rows(points: int, n_neighbors: int) -> int:
    """Rows of the tiles that divide `points` rows evenly, each of `TILE` at most.

    Tiles hold several times `n_neighbors` rows: fewer, and choosing costs the most.
    """
    tiles = -(-points // max(TILE, 4 * n_neighbors))
    return -(-points // tiles)


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
        with ONE_CALLER:
            found = NNDescent(
                np.asarray(data, dtype=np.float32),
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
    return as_knn(*found)
