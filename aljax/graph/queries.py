"""New rows looked up in the cells of a slice that is held, each apart from the others.

A query probes the blocks whose centers are nearest to it, as the slice's own rows do.
A row of the slice is known by its bits, whichever cell it is in.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt

from aljax.graph.approximate import (
    CHOICE,
    ENOUGH,
    candidates,
    probed,
    sample,
    search_others,
)
from aljax.graph.cells import BLOCK, Blocks, Cells, Placed, grow, make_cells, project
from aljax.graph.conditioning import Conditioning, conditioning, lengths_of
from aljax.graph.exact import (
    QUERY_BLOCK,
    HeldRows,
    Nearest,
    hold,
    in_blocks,
    largest,
    mended,
)
from aljax.graph.knn import capacity_for
from aljax.graph.rows import prints_of

USUAL = 15  # neighbors of a few rows, which tell if the cells find enough


class HeldCells(NamedTuple):
    """A slice as `nearest_in_cells` takes it: made once, and used by every search.

    Attributes:
        data, metric, condition, unit: As of `HeldRows`.
        cells: The rows in their cells.
        prints: Numbers made of the rows' bits, in order.
        printed: The rows that they are of, of equal ones the first first.
    """

    data: np.ndarray
    metric: str
    condition: Conditioning
    unit: float
    cells: Cells
    prints: UInt[np.ndarray, "points"]
    printed: Int[np.ndarray, "points"]


def hold_cells(data: np.ndarray, metric: str) -> HeldCells | HeldRows:
    """Returns a slice, held for `nearest_in_cells` or, if cells find few, all of it."""
    held, count = in_cells(data, metric), min(len(data), USUAL)
    sampled, farthest = sample(np.asarray(held.cells.placed.rows)[: len(data)], count)
    lengths = nearest_in_cells(data[sampled], held, count)[1]
    share = (lengths_of(farthest, metric, held.unit) >= lengths[:, 1:].T).mean()
    return held if share >= ENOUGH else hold(data, metric)


def in_cells(data: np.ndarray, metric: str) -> HeldCells:
    """Returns a slice in cells, however many neighbors these find."""
    condition, unit = conditioning(data, metric)
    scaled = condition(data, jnp.zeros(()).dtype, capacity_for(len(data)))
    cells, scaled = make_cells(scaled, len(data), metric=metric), scaled[: len(data)]
    prints = prints_of(scaled)
    order = np.argsort(prints, kind="stable")
    return HeldCells(data, metric, condition, unit, cells, prints[order], order)


def nearest_in_cells(queries: np.ndarray, held: HeldCells, n_neighbors: int) -> Nearest:
    """Finds most of a held slice's nearest rows, as `nearest` returns them.

    A query's neighbors depend on no other query of the call.
    """
    chosen = np.zeros((len(queries), n_neighbors), np.int32)
    squared = np.zeros(chosen.shape)
    cells, size = held.cells, in_blocks(len(queries))
    with np.errstate(over="ignore"):  # these are lost
        scaled = held.condition(queries, cells.placed.rows.dtype, size)
        norms = np.einsum("ij,ij->i", scaled, scaled)
    likely = np.searchsorted(held.prints, prints_of(scaled))
    likely = held.printed[np.minimum(likely, len(held.printed) - 1)].astype(np.int32)
    for start in range(0, len(queries), QUERY_BLOCK):
        block = np.s_[start : start + QUERY_BLOCK]
        count = len(chosen[block])
        asked = scaled[block], likely[block], count
        table = _look_up(
            cells.placed, cells.blocks, cells.axes, *asked, n_neighbors=n_neighbors
        )
        chosen[block], squared[block] = (np.asarray(leaf)[:count] for leaf in table)
    return mended(queries, held, norms, chosen, squared)


def nearest_of_many(queries: np.ndarray, held: HeldCells, n_neighbors: int) -> Nearest:
    """Does as `nearest_in_cells` for so many queries that neighbors share tiles.

    A tenth of the time; a query's neighbors depend on the other queries.
    """
    chosen = np.zeros((len(queries), n_neighbors), np.int32)
    squared = np.zeros(chosen.shape)
    cells, size = held.cells, capacity_for(len(queries))
    with np.errstate(over="ignore"):
        scaled = held.condition(queries, cells.placed.rows.dtype, size)
        norms = np.einsum("ij,ij->i", scaled, scaled)
    along = scaled[: len(queries)]
    if cells.axes is not None:
        along = project(jax.device_put(scaled), cells.axes, len(queries))
    # A leaf chooses from blocks near it, if not all: it is as wide as one of the rows.
    share = len(queries) / len(held.data) if len(cells.blocks.starts) > CHOICE else 1.0
    for members in grow(along, share):
        table = search_others(
            cells.placed,
            cells.blocks,
            *(np.take(rows, members, axis=0, mode="clip") for rows in (scaled, along)),
            n_neighbors=n_neighbors,
        )
        real = members >= 0
        near, lengths = (np.asarray(leaf).T[real] for leaf in table)
        chosen[members[real]], squared[members[real]] = near, lengths
    del scaled, along
    return mended(queries, held, norms, chosen, squared)


@partial(jax.jit, static_argnames="n_neighbors")
def _look_up(
    placed: Placed,
    blocks: Blocks,
    axes: Float[Array, "features axes"] | None,
    queries: Float[Array, "queries features"],
    likely: Int[Array, "queries"],
    count: int | Int[Array, ""],
    *,
    n_neighbors: int,
) -> tuple[Int[Array, "queries neighbors"], Float[Array, "queries neighbors"]]:
    """Returns the rows nearest to each of `count` queries, and squared distances.

    One query after the other: none can change what another finds.
    """
    rows, members, points, half_norms = placed
    starts, counts, centers = blocks
    lengths = jnp.where(counts > 0, jnp.sum(centers**2, axis=1) / 2, jnp.inf)
    ones = jnp.ones(rows.shape[1], rows.dtype)
    nobody = jnp.iinfo(jnp.int32).max

    def times(matrix: Array, vector: Array) -> Array:
        return jnp.matmul(matrix, vector, precision="highest")

    def look(query: Array, likely: Array) -> tuple[Array, Array]:
        point = query if axes is None else times(axes.T, query)
        nearness = times(centers, point[: centers.shape[1]]) - lengths
        _, probe = largest(nearness, probed(len(starts), n_neighbors))
        places = starts[probe][:, None] + jnp.arange(BLOCK, dtype=jnp.int32)
        inside = (jnp.arange(BLOCK) < counts[probe][:, None]).reshape(-1)
        places = places.reshape(-1)
        met = jnp.where(
            inside, times(points[places], point) - half_norms[places], -jnp.inf
        )
        kept = min(candidates(n_neighbors), len(places))
        nearness, best = largest(met, kept)
        near = jnp.where(-jnp.inf < nearness, members[places[best]], nobody)
        # In their order: of equally distant rows the first is the nearest.
        room = (0, max(0, n_neighbors - 1 - kept))
        near = jnp.pad(jnp.append(near, likely), room, constant_values=nobody)
        near = jnp.sort(near)
        repeated = jnp.append(False, near[1:] == near[:-1])
        squared = times((rows[near] - query) ** 2, ones)
        squared = jnp.where(repeated | (near == nobody), jnp.inf, squared)
        order = jnp.argsort(squared)[:n_neighbors]
        return near[order], squared[order]

    def step(number: Array, tables: tuple[Array, Array]) -> tuple[Array, Array]:
        near, squared = look(queries[number], likely[number])
        return tables[0].at[number].set(near), tables[1].at[number].set(squared)

    shape = (len(queries), n_neighbors)
    tables = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, rows.dtype)
    return jax.lax.fori_loop(0, count, step, tables)
