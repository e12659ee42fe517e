"""The repulsion of all pairs of a slice, estimated on circular shifts of its points.

    sum_{i<k} f(i, k)  =  sum_s width_s sum_i f(i, (i + s) mod n)

with one shift s drawn from each stratum of 1..floor(n / 2), `width_s` shifts wide.
A shift is a contiguous read of an array in which the slice stands twice in a row.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.layout.losses import repulsion_of_pairs
from aljax.layout.spaces import Space, squared_distance

CHUNK = 8  # shifts that are read at once


class Shifts(NamedTuple):
    """Circular shifts that stand for all pairs, and the pairs each stands for."""

    steps: Int[Array, "*slices shifts"]
    weights: Float[Array, "*slices shifts"]


@partial(jax.jit, static_argnames="n_shifts")
def draw_shifts(
    key: jax.Array, n_points: Int[Array, "*slices"], *, n_shifts: int
) -> Shifts:
    """Draws one of the shifts 1..floor(n / 2) from each of `n_shifts` equal strata.

    Shift s pairs row i with row (i + s) mod n: 1..h = floor(n / 2) meet every pair once
    (h itself twice, where 2h = n).  A shift's weight is the width of its stratum, so
    the estimate has no bias, and `n_shifts` >= h is exact.
    """
    half = jax.lax.div(jnp.int32(n_points)[..., None], jnp.int32(2))
    parts = jnp.int32(n_shifts)
    least, more = jax.lax.div(half, parts), jax.lax.rem(half, parts)
    stratum = jnp.arange(n_shifts, dtype=jnp.int32)
    width = least + (stratum < more)
    low = stratum * least + jnp.minimum(stratum, more)
    offset = (jax.random.uniform(key, width.shape) * width).astype(jnp.int32)
    steps = low + 1 + jnp.clip(offset, 0, jnp.maximum(width - 1, 0))
    twice = 2 * steps == n_points[..., None]
    return Shifts(steps, jnp.where(twice, 0.5, 1.0) * width)


class Block(NamedTuple):
    """Points of one slice that stand next to each other, from place `first` on."""

    positions: Float[Array, "components points"]
    degrees: Float[Array, "points"]
    first: Int[Array, ""] | int


def repulsion(
    embedding: Float[Array, "components points"],
    degrees: Float[Array, "points"],
    n_points: Int[Array, ""],
    shifts: Shifts,
    a: Float[Array, ""],
    b: Float[Array, ""],
    *,
    space: Space = None,
) -> Float[Array, ""]:
    """sum_{i<k} (d_i + d_k) / (2(n - 1)) log(1 + 1 / p_ik), estimated on shifts."""
    ring = ring_of(embedding, degrees, n_points)
    block = Block(embedding, degrees, 0)
    return repulsion_of_block(block, ring, n_points, shifts, a, b, space=space)


def ring_of(
    embedding: Float[Array, "components points"],
    degrees: Float[Array, "points"],
    n_points: Int[Array, ""],
) -> Block:
    """Returns a slice whose first `n_points` entries stand twice in a row.

    A shift by s is then one contiguous read from place s on.
    """

    def twice(values: Array) -> Array:
        doubled = jnp.concatenate([values, values], axis=1)
        place = (jnp.zeros_like(n_points), n_points)
        return jax.lax.dynamic_update_slice(doubled, values, place)

    return Block(twice(embedding), twice(degrees[None])[0], 0)


def repulsion_of_block(
    block: Block,
    ring: Block,
    n_points: Int[Array, ""],
    shifts: Shifts,
    a: Float[Array, ""],
    b: Float[Array, ""],
    *,
    at_once: int = CHUNK,
    space: Space = None,
) -> Float[Array, ""]:
    """Returns the repulsion of pairs that have their first point in a block.

    The ring of the slice stands in `ring` from place `ring.first` on;
    `at_once` shifts are read at a time.
    """
    points = block.degrees.size
    inside = block.first + jnp.arange(points) < n_points

    def met(step: Int[Array, ""]) -> tuple[Array, Array]:
        start, zero = ring.first + block.first + step, jnp.zeros_like(step)
        partner = jax.lax.dynamic_slice(
            ring.positions, (zero, start), block.positions.shape
        )
        degrees = jax.lax.dynamic_slice(ring.degrees, (start,), (points,))
        return squared_distance(block.positions, partner, space), degrees

    def add(total: Array, chunk: Shifts) -> Array:
        squared, degrees = jax.vmap(met)(chunk.steps)
        weights = jnp.where(inside, block.degrees + degrees, 0.0)
        weights = weights * chunk.weights[:, None]
        return total + jnp.sum(weights * repulsion_of_pairs(squared, a, b))

    # Few at a time stay in the processor's cache, and their derivatives are made anew.
    dtype = jnp.result_type(block.positions, block.degrees, shifts.weights, a, b)
    pairs = jnp.zeros((), dtype)
    if shifts.steps.size <= at_once:
        pairs = add(pairs, shifts)
    else:
        chunks = -(-shifts.steps.size // at_once)
        width = -(-shifts.steps.size // chunks)
        filled = Shifts(*(_filled(leaf, chunks * width) for leaf in shifts))

        # Cut from whole arrays in each step: as the loop's own arrays, mapped over
        # slices, they would be transposed first, by programs that take long to compile.
        def add_chunk(total: Array, first: Array) -> tuple[Array, None]:
            cut = partial(
                jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=width
            )
            return add(total, Shifts(*map(cut, filled))), None

        firsts = np.arange(chunks, dtype=np.int32) * width
        pairs, _ = jax.lax.scan(jax.checkpoint(add_chunk), pairs, firsts)
    return pairs / (2 * jnp.maximum(n_points - 1, 1))


def _filled(of_shifts: Array, length: int) -> Array:
    """Returns the entries, filled up with 0."""
    zero = jnp.zeros((), of_shifts.dtype)
    return jax.lax.pad(of_shifts, zero, [(0, length - of_shifts.size, 0)])
