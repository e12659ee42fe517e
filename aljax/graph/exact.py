"""Exact nearest neighbors: every row is compared with every other, tile by tile.

In the metrics of `DEVICE_METRICS` a device compares rows that were centered and scaled
on the host, by -|x - y|^2 / 2 = x.y - |y|^2 / 2 - ..., and computes the distances that
it keeps again, by difference: float32 loses neighbors when the expansion is taken far
from the origin.  Where distances drown in its rounding all the same, float64 finds
them.
In other metrics the host compares rows (`graph.pairs`).
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.config import SYNONYMS
from aljax.graph.conditioning import (
    DEVICE_METRICS,
    Conditioning,
    Table,
    conditioning,
    drowns,
    lengths_of,
    search_scaled,
)
from aljax.graph.function import Metric
from aljax.graph.knn import KNN, Rows, as_floats, capacity_for, on_device
from aljax.graph.pairs import pairwise
from aljax.graph.rows import prints_of

PRODUCTS = ("euclidean", "sqeuclidean")  # by products, which rounding may cancel
LEAST = np.finfo(np.float64).tiny  # distance between rows that differ
TILE = 512  # rows that are compared with as many others at once
QUERY_BLOCK = 128  # queries that are compared with all rows at once
SPARE = 16  # candidates beyond those asked for, against rounding in their choice
Best = tuple[
    Float[Array, "tiles queries neighbors"], Int[Array, "tiles queries neighbors"]
]
Nearest = tuple[
    Int[np.ndarray, "queries neighbors"], Float[np.ndarray, "queries neighbors"]
]


def exact_knn(
    data: Float[np.ndarray, "points features"],
    n_neighbors: int,
    *,
    metric: str = "euclidean",
) -> KNN:
    """Returns the nearest neighbors of each row, in one of `DEVICE_METRICS`.

    Cosine distances are 1 - cos, those of correlation the same of rows less their
    means; a row of zeros (or of one value) is at distance 1 from all but other such
    rows.  Each pair of rows is compared once, 512 x 512 of them at a time.
    """

    def search(scaled: np.ndarray) -> Table:
        best = _search(jax.device_put(scaled), len(data), n_neighbors)
        # Cut by NumPy: eager JAX would compile anew for every number of points.
        indices, squared = (np.asarray(table)[:, : len(data)] for table in best)
        return indices, squared

    _, indices, _, distances = search_scaled(data, metric, search)
    return KNN(on_device(indices), as_floats(distances))


def nearest(
    queries: Rows,
    rows: Rows,
    n_neighbors: int,
    *,
    metric: Metric = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
) -> Nearest:
    """Returns a slice's nearest rows to each of some other rows, nearest first.

    A query's neighbors depend on no other query of the call.

    Args:
        queries: The other rows, finite; both are dense or both CSR.
        rows: The slice's rows, finite.
        n_neighbors: How many of the slice's rows (1 to points).
        metric: One of `DEVICE_METRICS`, or another that pynndescent knows (of sparse
            rows one of `SPARSE_PAIRS`).
        metric_kwds: Keyword arguments for the metric.

    Returns:
        Rows of the slice and their distances (units of the metric); a query that is a
        row of the slice has it first, at distance 0.  Of equally distant ones their
        values decide in metrics of the host, else (or if they are equal) the first.

    Raises:
        InputError: The metric has no search for new rows, or does not take the
            keyword arguments.
    """
    metric = SYNONYMS.get(metric, metric)
    if metric in DEVICE_METRICS and not metric_kwds and isinstance(rows, np.ndarray):
        return nearest_held(np.asarray(queries), hold(rows, metric), n_neighbors)
    order_of_rows = np.arange(rows.shape[0])
    if metric not in DEVICE_METRICS:  # but in metrics of sets most rows are as near
        order_of_rows = np.argsort(prints_of(rows), kind="stable")
    rows, blocks = rows[order_of_rows], []
    for start in range(0, max(queries.shape[0], 1), QUERY_BLOCK):
        block = queries[start : start + QUERY_BLOCK]
        distances = pairwise(block, rows, metric, metric_kwds or {})
        chosen, near = smallest(distances, n_neighbors)
        # Rounding leaves a distance between equal rows, or none between others.
        query_of_pair = np.repeat(np.arange(len(chosen)), chosen.shape[1])
        ends: Any = block[query_of_pair], rows[chosen.ravel()]
        apart = (ends[0] != ends[1]).sum(axis=1)
        if isinstance(rows, np.ndarray):  # may have gaps, for functions
            apart = apart - np.isnan(ends).all(axis=0).sum(axis=1)
        apart = np.reshape(apart, chosen.shape)
        lost = (near == 0) & (metric in PRODUCTS)
        near = np.where(apart == 0, 0.0, np.where(lost, LEAST, near))
        order = np.argsort(near, axis=1, kind="stable")
        blocks.append([np.take_along_axis(x, order, axis=1) for x in (chosen, near)])
    indices, lengths = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return order_of_rows[indices], lengths


def smallest(distances: Float[np.ndarray, "queries points"], count: int) -> Nearest:
    """Returns each row's smallest entries, of equal ones the first."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(distances, order, axis=1).astype(np.float64)


class HeldRows(NamedTuple):
    """A slice as queries are compared with it: made once, and used by every search.

    Attributes:
        data: The slice as it was given.
        metric: One of `DEVICE_METRICS`.
        condition: Centers and scales queries as it did `rows`.
        unit: The unit of the distances between `rows`.
        rows: The slice centered, scaled and padded, on the device.
        half_norms: Halves of their squared norms.
    """

    data: np.ndarray
    metric: str
    condition: Conditioning
    unit: float
    rows: Float[Array, "points features"]
    half_norms: Float[Array, "points"]


def hold(data: np.ndarray, metric: str) -> HeldRows:
    """Returns a slice as `nearest_held` takes it, in JAX's float type."""
    condition, unit = conditioning(data, metric)
    rows = condition(data, jnp.zeros(()).dtype, capacity_for(len(data)))
    half_norms = (rows**2).sum(axis=1) / 2
    on_devices = jax.device_put(rows), jax.device_put(half_norms)
    return HeldRows(data, metric, condition, unit, *on_devices)


def nearest_held(queries: np.ndarray, held: HeldRows, n_neighbors: int) -> Nearest:
    """Finds a held slice's nearest rows to each query, as `nearest` returns them."""
    chosen = np.zeros((len(queries), n_neighbors), np.int32)
    squared = np.zeros(chosen.shape)
    with np.errstate(over="ignore"):  # these are lost
        scaled = held.condition(queries, held.rows.dtype, in_blocks(len(queries)))
        norms = np.einsum("ij,ij->i", scaled, scaled)
    for start in range(0, len(queries), QUERY_BLOCK):
        block = np.s_[start : start + QUERY_BLOCK]
        points, padded = len(held.data), scaled[block]
        best = _search(held.rows, points, n_neighbors, padded, held.half_norms)
        count = len(chosen[block])
        chosen[block], squared[block] = (np.asarray(x).T[:count] for x in best)
    if held.rows.dtype == np.float64:
        return chosen, lengths_of(squared, held.metric, held.unit)
    return mended(queries, held, norms, chosen, squared)


def in_blocks(queries: int) -> int:
    """Rounds up to whole blocks of queries."""
    return -(-queries // QUERY_BLOCK) * QUERY_BLOCK


def mended(
    queries: np.ndarray,
    held: Any,
    norms: np.ndarray,
    chosen: np.ndarray,
    squared: np.ndarray,
) -> Nearest:
    """Returns the neighbors in a held slice, exact where the search lost some.

    Those are queries with distances that drown in float32's rounding or exceed it, or
    that met too few rows.
    """
    lengths = lengths_of(squared, held.metric, held.unit)
    lost = drowns(squared[:, -1], norms[: len(queries)])
    lost |= ~np.isfinite(squared).all(axis=1)
    if lost.any():
        with jax.enable_x64(True):
            exact = hold(held.data, held.metric)
            table = nearest_held(queries[lost], exact, chosen.shape[1])
        chosen[lost], lengths[lost] = table
    return chosen, lengths


@partial(jax.jit, static_argnames="n_neighbors")
def _search(
    rows: Float[Array, "points features"],
    n_points: int | Int[Array, ""],
    n_neighbors: int,
    queries: Float[Array, "queries features"] | None = None,
    half_norms: Float[Array, "points"] | None = None,
) -> tuple[Int[Array, "neighbors _"], Float[Array, "neighbors _"]]:
    """Returns each query's nearest of the first `n_points` rows, and squared distances.

    Without queries those of each row, itself first: then each pair of tiles is
    compared once, and serves both.  Tiles of padding alone are never compared, nor are
    blocks of queries that are padding alone in a single tile.
    """
    points, themselves = len(rows), queries is None
    spare = 0 if themselves and rows.dtype == jnp.float32 else SPARE
    width = min(n_neighbors + spare, points)
    # Tiles divide the rows evenly, and hold several times `width` of them: with fewer,
    # choosing costs the most.
    size = -(-points // -(-points // max(TILE, 4 * width)))
    padded = jnp.pad(rows, ((0, -points % size), (0, 0)))
    absent = jnp.arange(len(padded)) >= n_points
    if half_norms is None:
        half_norms = jnp.sum(rows**2, axis=1) / 2
    half_norms = jnp.pad(half_norms, (0, len(padded) - points))
    half_norms = jnp.where(absent, jnp.inf, half_norms).reshape(-1, size)
    tiles = padded.reshape(-1, size, rows.shape[1])
    # Each pair of tiles serves both; of one tile alone, blocks of rows are compared.
    both_ways = themselves and len(tiles) > 1
    asking = padded if queries is None else queries
    block = size if both_ways else math.gcd(len(asking), QUERY_BLOCK)
    query_tiles = asking.reshape(-1, block, rows.shape[1])
    in_block = jnp.arange(block, dtype=jnp.int32)[:, None]
    columns = jnp.arange(size, dtype=jnp.int32)

    def compare(step: Int[Array, ""], best: Best) -> Best:
        tile, other = pairs[step]
        # -|x - y|^2 / 2 without the term that is the same for every y.
        dots = jnp.matmul(query_tiles[tile], tiles[other].T, precision="highest")
        nearness = dots - half_norms[other]
        if themselves:
            itself = tile * block + in_block == other * size + columns
            nearness = jnp.where(itself, jnp.inf, nearness)
        best = _keep_best(best, nearness, tile, other)
        if not both_ways:
            return best
        return jax.lax.cond(
            tile == other,
            lambda best: best,
            lambda best: _keep_best(best, dots.T - half_norms[tile], other, tile),
            best,
        )

    nowhere = jnp.zeros((*query_tiles.shape[:2], width), dtype=jnp.int32)
    best = jnp.full(nowhere.shape, -jnp.inf, rows.dtype), nowhere
    # Pairs of the first tiles come first, and rows of a tile stand in their order.
    later, earlier = (
        np.tril_indices(len(tiles))
        if both_ways
        else np.indices((len(tiles), len(query_tiles))).reshape(2, -1)
    )
    pairs = jnp.stack([earlier, later], axis=1).astype(jnp.int32)
    step = jnp.int32(block if themselves else size)
    used = jax.lax.div(jnp.int32(n_points) + step - 1, step)
    steps = jax.lax.div(used * (used + 1), jnp.int32(2)) if both_ways else used
    values, chosen = jax.lax.fori_loop(0, steps, compare, best)
    query_rows = rows if queries is None else queries
    chosen = chosen.reshape(-1, width)[: len(query_rows)].T
    if spare:
        real = -jnp.inf < values.reshape(-1, width)[: len(query_rows)].T
        chosen = jnp.where(real, chosen, points)
    if not themselves:  # of equally distant rows the first, whatever rounding chose
        chosen = jnp.sort(chosen, axis=0)
    # A product with ones: XLA's own sum over features takes five times as long.
    ones = jnp.ones(rows.shape[1], rows.dtype)
    squared = jax.lax.map(
        lambda ys: jnp.matmul((rows[ys] - query_rows) ** 2, ones, precision="highest"),
        chosen,
    )
    squared = jnp.where(chosen < n_points, squared, jnp.inf)
    ranked = squared.at[0].set(-1.0) if themselves else squared
    _, chosen, squared = jax.lax.sort((ranked, chosen, squared), dimension=0)
    return chosen[:n_neighbors], squared[:n_neighbors]


def _keep_best(
    best: Best, nearness: Float[Array, "queries rows"], tile: Array, other: Array
) -> Best:
    """Returns the nearest that `tile` has met, with the rows of tile `other` too."""
    values, indices = best
    count, rows = nearness.shape
    # The best so far come first: of equal distances the lowest row is kept.
    near = jnp.concatenate([values[tile], nearness], axis=1)
    columns = jnp.arange(rows, dtype=jnp.int32) + other * rows
    named = jnp.broadcast_to(columns, (count, rows))
    named = jnp.concatenate([indices[tile], named], axis=1)
    kept, chosen = largest(near, indices.shape[2])
    named = jnp.take_along_axis(named, chosen, axis=1, mode="promise_in_bounds")
    put_tile = partial(jax.lax.dynamic_update_index_in_dim, index=tile, axis=0)
    return put_tile(values, kept), put_tile(indices, named)


def largest(
    values: Float[Array, "*rows columns"], count: int
) -> tuple[Float[Array, "*rows count"], Int[Array, "*rows count"]]:
    """Returns each row's largest values and their columns, largest first.

    A CPU chooses among float32 ten times faster than among float64, so float64 is
    chosen by how far it falls behind the largest finite value, rounded, and ordered.
    """
    if values.dtype == jnp.float32:
        kept, chosen = jax.lax.top_k(values, count)
        return kept, chosen
    finite = values < jnp.inf
    highest = jnp.max(values, -1, keepdims=True, where=finite, initial=-jnp.inf)
    behind = jnp.where(highest > -jnp.inf, highest, 0) - values
    # The root, since float32 does not hold squares of the least distances.
    rounded = jnp.where(finite, -jnp.sqrt(behind), jnp.inf).astype(jnp.float32)
    _, chosen = jax.lax.top_k(rounded, count)
    exact = jnp.take_along_axis(values, chosen, axis=-1)
    negative, chosen = jax.lax.sort((-exact, chosen), num_keys=1)
    return -negative, chosen
