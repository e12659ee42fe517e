"""The objective: maps in, one number out, every end free in every term.

    L = 2 sum_edges w_ij log(1 + a |y_i - y_j|^(2b))                      attraction
      + gamma m sum_{i<k} (d_i + d_k) / (2(n - 1)) log(1 + 1 / p_ik)      repulsion
      + lambda sum_mates (d_i (2 + m) + d_i' (2 + m')) / 4 s |y_i - z_i'|^2  alignment

with p = a (|y_i - y_k|^2 + 1e-3)^b, d the degrees, m = negative_sample_rate,
gamma = repulsion_strength, s the mates' strengths.  With motion_fidelity kappa > 0
mates are held kappa delta apart, delta being how far they lie apart in the data:

    |y_i - z_i'|^2 becomes ((|y_i - z_i'|^2 + 1e-8)^(1/2) - kappa delta)^2.

With densmap each slice adds, over its points with edges,

      + dens_lambda sum_i d_i (1 - corr(R_i, r_i))                        density

where R_i are the local radii of the data (logarithms, of `graph.fuzzy`) and r_i those
of the map, weighted by the map's memberships q = 1 / (1 + a |y|^(2b)):

    r_i = log(sum_j q_ij |y_i - y_j|^2 / sum_j q_ij + 1e-8)    over the graph's edges,
    corr(R, r) = cov(R, r) / (var R (var r + dens_var_shift))^(1/2).

Everything here is a pure function of its arguments on one device; `layout.sharding`
puts the same functions on many.  Functions of one slice (or one pair of slices) are
mapped over the stack.

Source: attraction and repulsion are the loss that umap-learn's sampling follows
(Damrich & Hamprecht 2021, arXiv:2103.14608, eq. 10), with negatives free to move.
Density is densMAP's term (Narayan, Berger & Cho 2021, Nature Biotechnology 39), with
the weight, sum_i d_i, that it has in umap-learn.
"""

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aljax.graph.fuzzy import edge_degrees
from aljax.layout.problem import AlignedProblem, LayoutParams

SOFTENING = 1e-3  # umap-learn's: keeps the repulsion finite for coincident points
TINY = 1e-12  # keeps the gradient of |y|^(2b) finite there
NEAR = 1e-8  # and this those of |y| and log |y|^2
CHUNK = 8  # shifts that are read at once


class LossTerms(eqx.Module):
    """The three terms of the objective, each one number for each slice.

    The alignment of a pair of slices counts for the earlier.  A loss with a term of
    its own returns a subclass that has the term as another field.
    """

    attraction: Float[Array, "*epochs slices"]
    repulsion: Float[Array, "*epochs slices"]
    alignment: Float[Array, "*epochs slices"]

    def total(self) -> Float[Array, "*epochs"]:
        """The objective: all terms of all slices."""
        return jnp.sum(reduce(operator.add, jax.tree.leaves(self)), axis=-1)


class DensityTerms(LossTerms):
    """The terms of a densMAP; the density counts in the epochs that it acts in."""

    density: Float[Array, "*epochs slices"]


def terms_in(params: LayoutParams) -> type[LossTerms]:
    """Returns the class of the terms that settings ask for."""
    return LossTerms if params.dens_lambda is None else DensityTerms


class Shifts(NamedTuple):
    """Circular shifts that stand for all pairs, and the pairs each stands for."""

    steps: Int[Array, "*slices shifts"]
    weights: Float[Array, "*slices shifts"]


def log_p(
    squared: Float[Array, "..."],
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    softening: float = TINY,
) -> Float[Array, "..."]:
    """Log p, p = a (squared + softening)^b: p itself can exceed single precision.

    log(1 + p) is then softplus(log p), and the membership 1 / (1 + p) is
    sigmoid(-log p).
    """
    return jnp.log(a) + b * jnp.log(squared + softening)


@jax.custom_jvp
def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + exp x), as `jax.nn` has it, with a derivative that takes one exp."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda change, _, x: change * jax.nn.sigmoid(x))


def attraction_of_pairs(
    squared: Float[Array, "..."], a: Float[Array, ""], b: Float[Array, ""]
) -> Float[Array, "..."]:
    """log(1 + a |y|^(2b)) for each pair, from its squared distance |y|^2."""
    return softplus(log_p(squared, a, b))


def repulsion_of_pairs(
    squared: Float[Array, "..."], a: Float[Array, ""], b: Float[Array, ""]
) -> Float[Array, "..."]:
    """log(1 + 1 / (a (|y|^2 + 1e-3)^b)) for each pair, from its squared distance."""
    return softplus(-log_p(squared, a, b, SOFTENING))


def attraction(
    embedding: Float[Array, "components points"],
    neighbors: Int[Array, "neighbors points"],
    weights: Float[Array, "neighbors points"],
    a: Float[Array, ""],
    b: Float[Array, ""],
    among: Float[Array, "components others"] | None = None,
) -> Float[Array, ""]:
    """2 sum_edges w_ij log(1 + a |y_i - y_j|^(2b)) over one slice's directed list.

    Neighbors are places in `among`, where it is there.
    """
    others = embedding if among is None else among
    difference = embedding[:, None, :] - others[:, neighbors]
    squared = jnp.sum(difference**2, axis=0)
    return 2 * jnp.sum(weights * attraction_of_pairs(squared, a, b))


def draw_shifts(
    key: jax.Array, n_points: Int[Array, "*slices"], *, n_shifts: int
) -> Shifts:
    """Shifts 1..h, h = floor(n / 2), one drawn from each of `n_shifts` equal strata.

    Shift s pairs row i with row (i + s) mod n: together 1..h meet every pair once
    (h itself twice, where 2h = n).  A shift's weight is the width of its stratum, so
    the estimate has no bias, and `n_shifts` >= h is exact.
    """
    half = n_points[..., None] // 2
    stratum = jnp.arange(n_shifts, dtype=jnp.int32)
    width = half // n_shifts + (stratum < half % n_shifts)
    low = stratum * (half // n_shifts) + jnp.minimum(stratum, half % n_shifts)
    drawn = (jax.random.uniform(key, width.shape) * width).astype(jnp.int32)
    steps = low + 1 + jnp.clip(drawn, 0, jnp.maximum(width - 1, 0))
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
) -> Float[Array, ""]:
    """sum_{i<k} (d_i + d_k) / (2(n - 1)) log(1 + 1 / p_ik), estimated on shifts."""
    ring = ring_of(embedding, degrees, n_points)
    block = Block(embedding, degrees, 0)
    return repulsion_of_block(block, ring, n_points, shifts, a, b)


def ring_of(
    embedding: Float[Array, "components points"],
    degrees: Float[Array, "points"],
    n_points: Int[Array, ""],
) -> Block:
    """A slice whose first `n_points` entries stand twice in a row.

    A shift by s is then one contiguous read from place s on.
    """

    def twice(values: Array) -> Array:
        again = jnp.concatenate([values, values], axis=1)
        place = (jnp.zeros_like(n_points), n_points)
        return jax.lax.dynamic_update_slice(again, values, place)

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
) -> Float[Array, ""]:
    """The part of the repulsion whose pairs have their first point in a block.

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
        return jnp.sum((block.positions - partner) ** 2, axis=0), degrees

    def add(total: Array, some: Shifts) -> tuple[Array, None]:
        squared, degrees = jax.vmap(met)(some.steps)
        weights = jnp.where(inside, block.degrees + degrees, 0.0)
        weights = weights * some.weights[:, None]
        return total + jnp.sum(weights * repulsion_of_pairs(squared, a, b)), None

    # Few at a time stay in the processor's cache, and their derivatives are made anew.
    kind = jnp.result_type(block.positions, block.degrees, shifts.weights, a, b)
    pairs = jnp.zeros((), kind)
    if shifts.steps.size <= at_once:
        pairs, _ = add(pairs, shifts)
    else:
        chunks = Shifts(*(_in_chunks(leaf, at_once) for leaf in shifts))
        pairs, _ = jax.lax.scan(jax.checkpoint(add), pairs, chunks)
    return pairs / (2 * jnp.maximum(n_points - 1, 1))


def _in_chunks(of_shifts: Array, most: int) -> Array:
    """Rows of at most so many entries, filled up with 0."""
    chunks = -(-of_shifts.size // most)
    width = -(-of_shifts.size // chunks)
    filled = jnp.pad(of_shifts, (0, chunks * width - of_shifts.size))
    return filled.reshape(chunks, width)


def alignment(
    embedding: Float[Array, "components points"],
    other: Float[Array, "components others"],
    mates: Int[Array, "mates points"],
    strengths: Float[Array, "mates points"],
    pull: Float[Array, "points"],
    other_pull: Float[Array, "others"],
    reach: Float[Array, "mates points"] | None = None,
) -> Float[Array, ""]:
    """sum_mates (pull_i + pull'_i') / 4 s |y_i - z_i'|^2 between two slices.

    With `reach`, kappa delta, it is the distance's difference from that which is
    squared, and mates are held as far apart as the data say.

    A point's pull is d_i (2 + m), times its weight: umap-learn moves mates together
    once for every end of an edge and every negative sample that touches a point.
    """
    squared = jnp.sum((embedding[:, None, :] - other[:, mates]) ** 2, axis=0)
    if reach is not None:
        squared = (jnp.sqrt(squared + NEAR) - reach) ** 2
    return jnp.sum((pull + other_pull[mates]) / 4 * strengths * squared)


def radii_in_map(
    embedding: Float[Array, "components points"],
    neighbors: Int[Array, "neighbors points"],
    shares: Float[Array, "neighbors points"],
    a: Float[Array, "..."],
    b: Float[Array, "..."],
) -> Float[Array, "points"]:
    """log(sum_j q_ij |y_i - y_j|^2 / sum_j q_ij + 1e-8) over each point's edges."""
    difference = embedding[:, None, :] - embedding[:, neighbors]
    squared = jnp.sum(difference**2, axis=0)
    q = shares * jax.nn.sigmoid(-log_p(squared, a, b))
    total, spread = (edge_degrees(neighbors, part) for part in (q, q * squared))
    return jnp.log(spread / jnp.where(total > 0, total, 1.0) + NEAR)


def unlike_density(
    radii: Float[Array, "*rows points"],
    of_map: Float[Array, "*rows points"],
    degrees: Float[Array, "*rows points"],
    var_shift: Float[Array, "..."],
    total: Callable[[Array], Array] = jnp.sum,
) -> Float[Array, "..."]:
    """sum_i d_i (1 - corr(R, r)) over one slice's points with edges.

    `total` sums over a slice.
    """
    linked = (degrees > 0).astype(degrees.dtype)
    count = jnp.maximum(total(linked), 1)
    x, y = (linked * (r - total(linked * r) / count) for r in (radii, of_map))
    varying = (total(x**2) / count + TINY) * (total(y**2) / count + var_shift + TINY)
    return total(degrees) * (1 - total(x * y) / count / jnp.sqrt(varying))


def density(
    embedding: Float[Array, "components points"],
    neighbors: Int[Array, "neighbors points"],
    shares: Float[Array, "neighbors points"],
    radii: Float[Array, "points"],
    degrees: Float[Array, "points"],
    a: Float[Array, ""],
    b: Float[Array, ""],
    var_shift: Float[Array, ""],
) -> Float[Array, ""]:
    """sum_i d_i (1 - corr(R, r)) of one slice, R in the data and r in the map."""
    of_map = radii_in_map(embedding, neighbors, shares, a, b)
    return unlike_density(radii, of_map, degrees, var_shift)


def with_density(
    terms: LossTerms, params: LayoutParams, densities: Callable[[], Array]
) -> LossTerms:
    """The terms, and that of the density where it is asked for and acts."""
    weights = params.dens_lambda
    if weights is None:
        return terms
    none = jnp.zeros_like(terms.attraction)
    values = jax.lax.cond(jnp.any(weights > 0), densities, lambda: none)
    return DensityTerms(**vars(terms), density=weights * values)


def aligned_loss(
    maps: Float[Array, "slices components points"],
    problem: AlignedProblem,
    params: LayoutParams,
    shifts: Shifts,
) -> LossTerms:
    """The objective of a whole sequence, term by term and slice by slice.

    Args:
        maps: Stacked maps, as from `stack_maps` (map units).
        problem: The graphs and mates.
        params: The settings that change no shape.
        shifts: The pairs that repel, as from `draw_shifts`.
    """
    return terms_of(maps, problem, params, shifts, repulsion=repulsion, ahead=ahead)


def terms_of(
    maps: Float[Array, "slices components points"],
    problem: AlignedProblem,
    params: LayoutParams,
    shifts: Shifts,
    *,
    repulsion: Callable[..., Array],
    ahead: Callable[[Array, Sequence[int]], Array],
) -> LossTerms:
    """The objective, given how one slice's pairs and later slices are read."""
    attracted = jax.vmap(attraction)(
        maps, problem.neighbors, problem.weights, params.a, params.b
    )
    repelled = jax.vmap(repulsion)(
        maps, problem.degrees, problem.n_points, shifts, params.a, params.b
    )
    rate, offsets = params.negative_sample_rate, problem.offsets
    pull = problem.pulls * (2 + rate)[:, None]
    reach = None if problem.moves is None else params.motion_fidelity * problem.moves
    over_offsets = jax.vmap(alignment, in_axes=(None, 0, 0, 0, None, 0, 0))
    aligned = jax.vmap(over_offsets)(
        maps,
        ahead(maps, offsets),
        problem.mates,
        problem.strengths,
        pull,
        ahead(pull, offsets),
        reach,
    )
    terms = LossTerms(
        attraction=attracted,
        repulsion=params.repulsion_strength * rate * repelled,
        alignment=params.alignment_regularisation * jnp.sum(aligned, axis=1),
    )
    graphs: Any = (problem.neighbors, problem.shares, problem.radii, problem.degrees)
    settings: Any = (params.a, params.b, params.dens_var_shift)
    return with_density(
        terms, params, lambda: jax.vmap(density)(maps, *graphs, *settings)
    )


def ahead(
    values: Float[Array, "slices ..."], offsets: Sequence[int]
) -> Float[Array, "slices offsets ..."]:
    """The values so many slices after each, around the end of the sequence."""
    if not offsets:
        return jnp.zeros((values.shape[0], 0, *values.shape[1:]), values.dtype)
    later = [jnp.roll(values, -o, axis=0) for o in offsets]
    return jnp.stack(later, axis=1)
