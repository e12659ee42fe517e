"""Approximate neighbors: each row looks into the cells that are nearest to it.

A row probes the blocks of rows whose centers are nearest.  Rows that probe the same
block are compared with it together, in tiles of one shape; of all that a row has met it
keeps the nearest, and computes their distances again, by difference.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aljax.errors import warn
from aljax.graph.cells import BLOCK, Blocks, Cells, Placed, make_cells
from aljax.graph.conditioning import Table, search_scaled
from aljax.graph.exact import SPARE, hold, largest, nearest_held
from aljax.graph.knn import KNN, as_floats, on_device

MET = 1792  # rows that a row is compared with, and 16 more for each neighbor
CHOICE = 1024  # blocks near a leaf that its rows choose from
NEAR = 256  # points that say which these are
TILE = 64  # rows that are compared with a block at once
TILES = 64  # tiles that are computed at once
EXACTLY = 32  # rows whose distances are computed again at once: they fit the cache
LARGEST = 256  # blocks that a row probes at most
SAMPLE = 32  # rows that tell how many of the true neighbors are found
ENOUGH = 0.8  # of the true neighbors: if fewer are found, a warning says so


def approximate_knn(
    data: Float[np.ndarray, "points features"],
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    seed: int = 0,
) -> KNN:
    """Returns most nearest neighbors of each row, found by a program on the device.

    The result depends on `seed`, and not on the number of threads.

    Args:
        data: One slice, finite.
        n_neighbors: Neighbors of each row, itself included.
        metric: One of `DEVICE_METRICS`.
        seed: Seeds the sample that decides along which axes rows are compared.
    """

    def search(scaled: np.ndarray) -> Table:
        cells = make_cells(scaled, len(data), seed=seed, metric=metric)
        return _search(cells, len(data), n_neighbors)

    scaled, indices, squared, distances = search_scaled(data, metric, search)
    incomplete = np.asarray(np.isinf(squared).any(axis=0))
    if incomplete.any():  # rows that met too few others
        table = _exact_neighbors(data, incomplete, n_neighbors, metric)
        indices[:, incomplete], distances[:, incomplete] = table
        squared[:, incomplete] = 0  # all are found
    sampled, farthest = sample(scaled[: len(data)], n_neighbors)
    warn_of_few(float((squared[1:, sampled] <= farthest).mean()), data.shape[1])
    return KNN(on_device(indices), as_floats(distances))


def warn_of_few(share: float, columns: int) -> None:
    """Warns where too small a share of the true neighbors is found."""
    if share < ENOUGH:
        warn(
            f"The approximate search finds {share:.0%} of the neighbors, as where "
            f"{columns} columns fill the space evenly, or some rows lie far out. Use "
            '`knn_method="exact"`, or `knn_method="pynndescent"`.'
        )


def sample(
    scaled: Float[np.ndarray, "points features"], n_neighbors: int
) -> tuple[Int[np.ndarray, "sample"], Float[np.ndarray, "sample"]]:
    """Returns a few rows, and the squared distances within which their neighbors lie.

    Each counts as its own first neighbor.
    """
    sampled = np.linspace(0, len(scaled) - 1, min(SAMPLE, len(scaled))).astype(int)
    nearness = scaled @ scaled[sampled].T
    nearness -= np.einsum("ij,ij->i", scaled, scaled)[:, None] / 2
    count = min(n_neighbors + SPARE, len(scaled))
    near = np.argpartition(-nearness, count - 1, axis=0)[:count]
    squared = ((scaled[near] - scaled[sampled]) ** 2).sum(axis=2)
    return sampled, np.sort(squared, axis=0)[n_neighbors - 1] * (1 + 1e-4)


def _exact_neighbors(
    data: np.ndarray, met_few: np.ndarray, n_neighbors: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the exact neighbors of some rows, each first itself."""
    held, itself = hold(data, metric), np.flatnonzero(met_few)[:, None]
    indices, distances = nearest_held(data[met_few], held, n_neighbors)
    # Of equal rows another may stand first.
    order = np.argsort(indices == itself, axis=1, kind="stable")[:, : n_neighbors - 1]
    near, lengths = (np.take_along_axis(x, order, 1) for x in (indices, distances))
    return np.hstack([itself, near]).T, np.pad(lengths, ((0, 0), (1, 0))).T


def _search(cells: Cells, points: int, n_neighbors: int) -> Table:
    indices = np.zeros((n_neighbors, points), np.int32)
    squared = np.zeros(indices.shape, cells.placed.rows.dtype)
    starts = range(0, (len(cells.leaves) - 1) * cells.places, cells.places)
    tables = [
        _search_leaf(
            cells.placed,
            cells.blocks,
            np.array([start, *cells.leaves[leaf : leaf + 2]], np.int32),
            places=cells.places,
            n_neighbors=n_neighbors,
        )
        for leaf, start in enumerate(starts)
    ]
    for table in tables:
        near, lengths = map(np.asarray, table)
        real = near[0] >= 0
        indices[:, near[0, real]] = near[:, real]
        squared[:, near[0, real]] = lengths[:, real]
    return indices, squared


@partial(jax.jit, static_argnames=("places", "n_neighbors"))
def _search_leaf(
    placed: Placed,
    blocks: Blocks,
    leaf: Int[Array, "3"],
    *,
    places: int,
    n_neighbors: int,
) -> tuple[Int[Array, "neighbors places"], Float[Array, "neighbors places"]]:
    """Finds the nearest places to each of a leaf, itself first, and squared distances.

    `leaf` is its first place, its first block and the first block of the next.
    """
    queries = jax.lax.dynamic_slice_in_dim(placed.points, leaf[0], places)
    query_rows = jax.lax.dynamic_slice_in_dim(placed.members, leaf[0], places)
    near = _meet(queries, placed, _near_leaf(blocks, leaf[1:]), n_neighbors)
    rows = placed.rows
    return _measure(rows, near, rows[query_rows], n_neighbors, query_rows)


@partial(jax.jit, static_argnames="n_neighbors")
def search_others(
    placed: Placed,
    blocks: Blocks,
    queries: Float[Array, "places features"],
    projected: Float[Array, "places axes"],
    *,
    n_neighbors: int,
) -> tuple[Int[Array, "neighbors places"], Float[Array, "neighbors places"]]:
    """Returns the rows nearest to each of some others that lie together; -1 for none.

    `projected` are the same others, along the axes of the cells.
    """
    sampled = projected[:: max(1, len(projected) // NEAR)]
    blocks = _nearest_blocks(blocks, sampled, jnp.ones(len(sampled), bool))
    near = _meet(projected, placed, blocks, n_neighbors)
    return _measure(placed.rows, near, queries, n_neighbors)


def _meet(
    queries: Float[Array, "places axes"],
    placed: Placed,
    blocks: Blocks,
    n_neighbors: int,
) -> Int[Array, "places candidates"]:
    """Returns the rows that seem nearest to each point, of those that it meets."""
    _, members, points, half_norms = placed
    starts, counts, _ = blocks
    probe = _probe(queries, blocks, probed(len(starts), n_neighbors))
    tiles, blocks_of, used, slots = _tiles(probe, len(starts))

    def compare(step: Array, values: Array) -> Array:
        tiles_of_step, blocks_of_step = (
            jax.lax.dynamic_slice_in_dim(table, step * TILES, TILES)
            for table in (tiles, blocks_of)
        )
        window = starts[blocks_of_step][:, None] + jnp.arange(BLOCK, dtype=jnp.int32)
        inside = jnp.arange(BLOCK) < counts[blocks_of_step][:, None]
        lengths = jnp.where(inside, half_norms[window], jnp.inf)
        dots = jnp.einsum(
            "tqa,tba->tqb", queries[tiles_of_step], points[window], precision="highest"
        )
        met = dots - lengths[:, None]
        return jax.lax.dynamic_update_slice_in_dim(values, met, step * TILES, 0)

    values = jnp.zeros((len(tiles), TILE, BLOCK), points.dtype)
    values = jax.lax.fori_loop(0, used, compare, values).reshape(-1, BLOCK)
    met = values[slots].reshape(len(queries), -1)
    nearness, chosen = _largest(met, min(candidates(n_neighbors), met.shape[1]))
    block = jnp.take_along_axis(probe, chosen // BLOCK, axis=1)
    near = members[starts[block] + chosen.astype(jnp.int32) % BLOCK]
    return jnp.where(-jnp.inf < nearness, near, -1)


def probed(blocks: int, n_neighbors: int) -> int:
    """Returns the number of blocks that a row probes."""
    return min(blocks, LARGEST, -(-(MET + 16 * n_neighbors) // BLOCK))


def candidates(n_neighbors: int) -> int:
    """Returns the number of met rows to which distances are computed again."""
    return n_neighbors + max(n_neighbors, SPARE)


def _near_leaf(blocks: Blocks, leaf: Int[Array, "2"]) -> Blocks:
    """Returns the blocks nearest to any of a leaf's own."""
    # A leaf has fewer blocks than this; those beyond it are its neighbors.
    size = min(NEAR, len(blocks.starts))
    first = jnp.clip(leaf[0], 0, len(blocks.starts) - size)
    centers_of_leaf = jax.lax.dynamic_slice_in_dim(blocks.centers, first, size)
    number = first + jnp.arange(size)
    real = (leaf[0] <= number) & (number < leaf[1])
    return _nearest_blocks(blocks, centers_of_leaf, real)


def _nearest_blocks(
    blocks: Blocks, points: Float[Array, "some axes"], real: Bool[Array, "some"]
) -> Blocks:
    """Returns the blocks nearest to any of some points, or all where they are few."""
    starts, counts, centers = blocks
    if len(starts) <= CHOICE:
        return blocks
    half_norms = jnp.sum(centers**2, axis=1) / 2
    points = points[:, : centers.shape[1]]
    dots = jnp.matmul(points, centers.T, precision="highest") - half_norms
    lengths = jnp.sum(points**2, axis=1) / 2
    nearness = jnp.where(real[:, None], dots - lengths[:, None], -jnp.inf).max(axis=0)
    _, kept = jax.lax.top_k(jnp.where(counts > 0, nearness, -jnp.inf), CHOICE)
    return Blocks(starts[kept], counts[kept], centers[kept])


def _probe(
    queries: Float[Array, "places axes"], blocks: Blocks, probes: int
) -> Int[Array, "places probes"]:
    """Returns the blocks whose centers are nearest to each point."""
    _, counts, centers = blocks
    lengths = jnp.where(counts > 0, jnp.sum(centers**2, axis=1) / 2, jnp.inf)
    queries = queries[:, : centers.shape[1]]
    dots = jnp.matmul(queries, centers.T, precision="highest")
    return _largest(dots - lengths, probes)[1].astype(jnp.int32)


def _tiles(
    probe: Int[Array, "places probes"], blocks: int
) -> tuple[Array, Array, Array, Array]:
    """Sorts probes by block, and cuts those of each into tiles.

    Returns the points of each tile, its block, how many steps of `TILES` are used, and
    where in the tiles each probe stands.
    """
    total, number = probe.size, jnp.arange(probe.size, dtype=jnp.int32)
    by_block = jnp.sort(probe.reshape(-1) * total + number) % total
    rank = jnp.zeros(total, jnp.int32).at[by_block].set(number)
    counts = jnp.zeros(blocks, jnp.int32).at[probe.reshape(-1)].add(1)
    first = jnp.cumsum(counts) - counts
    parts = -(-counts // TILE)
    ends = jnp.cumsum(parts)
    capacity = -(-(total // TILE + blocks) // TILES) * TILES
    tile = jnp.arange(capacity, dtype=jnp.int32)
    block = jnp.minimum(jnp.searchsorted(ends, tile, side="right"), blocks - 1)
    start = first[block] + (tile - (ends - parts)[block]) * TILE
    lanes = jnp.clip(start[:, None] + jnp.arange(TILE), 0, total - 1)
    slots = (ends - parts)[probe] * TILE + rank.reshape(probe.shape) - first[probe]
    steps = -(-ends[-1] // TILES)
    return by_block[lanes] // probe.shape[1], block, steps, slots


def _largest(values: Float[Array, "rows columns"], count: int) -> tuple[Array, Array]:
    """Returns each row's largest values and their columns, by halves of the rows.

    On a CPU the choice takes one thread; independent ones run at the same time.
    """
    middle = len(values) // 2
    halves = [largest(half, count) for half in (values[:middle], values[middle:])]
    kept, where = (jnp.concatenate(parts) for parts in zip(*halves, strict=True))
    return kept, where


def _measure(
    rows: Float[Array, "all features"],
    near: Int[Array, "places candidates"],
    queries: Float[Array, "places features"],
    n_neighbors: int,
    query_rows: Int[Array, "places"] | None = None,
) -> tuple[Int[Array, "neighbors places"], Float[Array, "neighbors places"]]:
    """Returns the nearest of each query's candidates, by distance.

    Queries that are rows themselves, `query_rows`, come first among theirs.
    """
    places, features = near.shape[0], rows.shape[1]
    ones = jnp.ones(features, rows.dtype)

    def distances(strip_and_near: tuple[Array, Array]) -> Array:
        points, nearby = strip_and_near
        apart = (rows[nearby] - points[:, None]) ** 2
        return jnp.matmul(apart, ones, precision="highest")

    strip = min(EXACTLY, places)
    strips = (
        queries.reshape(-1, strip, features),
        near.reshape(-1, strip, near.shape[1]),
    )
    squared = jax.lax.map(distances, strips).reshape(near.shape)
    squared = jnp.where(near < 0, jnp.inf, squared)
    if query_rows is not None:
        itself = query_rows[:, None]
        squared = jnp.where(near == itself, jnp.inf, squared)
        near = jnp.concatenate([itself, near], axis=1)
        squared = jnp.pad(squared, ((0, 0), (1, 0)), constant_values=-1.0)
    room = ((0, 0), (0, max(0, n_neighbors - near.shape[1])))
    near = jnp.pad(near, room)
    squared = jnp.pad(squared, room, constant_values=jnp.inf)
    least, chosen = _largest(-squared, n_neighbors)
    near = jnp.take_along_axis(near, chosen, axis=1)
    return near.T, jnp.maximum(-least, 0).T
