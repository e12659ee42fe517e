"""Nearest neighbours: a slice's data in, its `KNN` table out.

The table is exact while that is the cheaper way (tile by tile on the device for
euclidean and cosine, by pairs on the host for other plain metrics and for sparse
rows), else pynndescent's.  On the device distances are found on data that was centred
and scaled on the host, and those that are kept are computed again by difference:
float32 loses neighbours when the expansion |x|^2 - 2 x.y + |y|^2 is taken far from the
origin.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.graph.approximate import approximate_knn
from aljax.graph.conditioning import FEW, conditioning, drowns
from aljax.graph.knn import KNN, Rows, as_floats, as_knn, round_up
from aljax.graph.pairwise import PLAIN_METRICS, SPARSE_METRICS, nearest_pairs
from aljax.graph.precomputed import knn_of_distances

EXACT_METRICS = ("euclidean", "cosine")
SYNONYMS = {"l2": "euclidean"}
PRECOMPUTED = "precomputed"  # a slice is its rows' distances
# Exact search is the quicker below this many operations (about 40,000 x 784): a pair
# of rows costs one for each feature, and its share in the choice of the nearest.
EXACT_OPERATIONS = 1.7e12
CHOICE = 270
PAIRED_OPERATIONS = 1e10  # the same on the host: some ten seconds, as pynndescent's
TILE = 512  # rows that are compared with as many others at once

Best = tuple[Float[Array, "tiles rows neighbors"], Int[Array, "tiles rows neighbors"]]


def find_neighbors(
    data: Rows,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
    knn_method: str = "auto",
    seed: int = 0,
    name: str = "the slice",
) -> KNN:
    """The nearest neighbours of each row, exact or approximate by `knn_method`.

    Args:
        data: One slice: its features, or its distances where they are precomputed.
        n_neighbors: Neighbours of each row, itself included (2 to points - 1).
        metric: The distance between rows.
        metric_kwds: Keyword arguments for the metric.
        knn_method: "auto", "exact" or "approximate".
        seed: Seeds the approximate search; the exact one has no chance in it.
        name: What messages call the slice.

    Raises:
        ValueError: `knn_method="exact"` with a metric or sparse rows that have no
            exact search here, or a metric that pynndescent does not know.
    """
    metric = SYNONYMS.get(metric, metric)
    if metric == PRECOMPUTED:
        return knn_of_distances(data, n_neighbors, name=name)
    tiled = _is_tiled(data, metric, metric_kwds)
    paired = _is_paired(data, metric, metric_kwds)
    if knn_method == "exact" and not (tiled or paired):
        raise ValueError(
            f"`metric` is {metric!r}; exact neighbours are found for "
            f"{', '.join((*EXACT_METRICS, *PLAIN_METRICS))} (of sparse rows for "
            f"{', '.join(SPARSE_METRICS)}). Use "
            '`knn_method="approximate"`, or give a `KNN` made by `as_knn`.'
        )
    if knn_method == "auto":
        points = data.shape[0]
        width = data.shape[1] if isinstance(data, np.ndarray) else data.nnz / points
        operations = points**2 * (width + CHOICE)
        tiled = tiled and operations <= EXACT_OPERATIONS
        paired = paired and operations <= PAIRED_OPERATIONS
    if isinstance(data, np.ndarray) and tiled and knn_method != "approximate":
        return exact_knn(data, n_neighbors, metric=metric)
    if paired and knn_method != "approximate":
        found = nearest_pairs(
            data, data, n_neighbors, metric=metric, metric_kwds=metric_kwds
        )
        return as_knn(*found, name=f"`metric` {metric!r} of {name}")
    return approximate_knn(
        data, n_neighbors, metric=metric, metric_kwds=metric_kwds, seed=seed
    )


def _is_tiled(data: Rows, metric: str, metric_kwds: Mapping[str, Any] | None) -> bool:
    return isinstance(data, np.ndarray) and metric in EXACT_METRICS and not metric_kwds


def _is_paired(data: Rows, metric: str, metric_kwds: Mapping[str, Any] | None) -> bool:
    known = PLAIN_METRICS if isinstance(data, np.ndarray) else SPARSE_METRICS
    return metric in known and (not metric_kwds or metric == "minkowski")


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
    into, unit = conditioning(data, metric)
    scaled = into(data, jnp.zeros(()).dtype)
    indices, squared = _search_padded(scaled, n_neighbors)
    lost = drowns(squared[-1], np.einsum("ij,ij->i", scaled, scaled))
    if lost.mean() > FEW and squared.dtype == np.float32:
        # Clusters far apart: distances within them drown in float32's rounding.
        with jax.enable_x64(True):
            indices, squared = _search_padded(into(data, np.float64), n_neighbors)
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
    tiles = padded.reshape(-1, rows, data.shape[1])
    half_norms = half_norm.reshape(-1, rows)
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
    # A product with ones: XLA's own sum over features takes five times as long.
    ones = jnp.ones(data.shape[1], data.dtype)
    squared = jax.lax.map(
        lambda ys: jnp.matmul((data[ys] - data) ** 2, ones, precision="highest"), chosen
    )
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
