"""Transport between two slices: who could be whom, as a JAX program over candidates.

    cost_ij = |x'_i - y_j|^2 / mean(u_i, v_j),   x'_i = c + scale (x_i - c) + shift

where c is the mean of the earlier slice, and u_i and v_j are the squared distances of
both rows to the nearest other row of their own slice, after the move.  Distances are
those of the data, or of the space that tells mates from strangers (`drift.telling`).
The plan P minimizes

    sum_ij P_ij cost_ij + epsilon KL(P | 1) + reach (KL(P 1 | 1) + KL(P' 1 | 1))

over the candidate pairs: a row keeps its mass of 1 where something is near, and gives
it up where nothing is within its reach.

Sources: Chizat, Peyre, Schmitzer & Vialard (2018), "Scaling algorithms for unbalanced
optimal transport problems", Math. Comp. 87, algorithm 2.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CONVERGED = 1e-4  # of the potentials' first error that is left at the end
LEAST = 1e-30  # mass whose logarithm float32 holds
NEAR_ZERO = 1e-6  # of the mean unit, below which rows are repeated
PART = 4096  # pairs whose rows are compared at once


class Candidates(NamedTuple):
    """Pairs of rows that may be mates, each once; beside them each row's nearest other.

    Attributes:
        rows: Rows of the earlier slice; of padding the number of its rows.
        others: For each a row of the later slice; of padding the number of its rows.
        nearest: For each row of the earlier slice the nearest other one in it.
        nearest_other: The same for the later slice.
    """

    rows: Int[Array, "pairs"]
    others: Int[Array, "pairs"]
    nearest: Int[Array, "points"]
    nearest_other: Int[Array, "points_after"]


def transport_plan(
    x: Float[Array, "points features"],
    y: Float[Array, "points_after features"],
    candidates: Candidates,
    *,
    epsilon: float | Float[Array, ""] = 0.05,
    reach: float | Float[Array, ""] = 0.5,
    shift: Float[Array, "features"] | None = None,
    scale: float | Float[Array, ""] = 1.0,
    into: Float[Array, "features directions"] | None = None,
    n_steps: int | None = None,
) -> Float[Array, "pairs"]:
    """Returns the mass of each candidate pair: differentiable in all but the pairs.

    Args:
        x: The rows of the earlier slice.
        y: Those of the later one.
        candidates: Which pairs may have mass, as `Coupling.candidates` holds them.
        epsilon: How blurred the plan is (units of the cost, above 0).
        reach: The cost at which a row gives up most of its mass (above 0).
        shift: How far the center of all rows moves, which is taken out; None for none.
        scale: How much wider they lie apart afterwards, which is taken out, too.
        into: What takes rows into the space where they are compared; None for their
            own.
        n_steps: Sinkhorn's steps; None for as many as these two need, which then have
            to be numbers, not traced values.

    Source: the equations above.
    """
    center = x.mean(axis=0)
    moved = scale * (x - center) + (0.0 if shift is None else shift)
    compared = (moved, y - center)
    if into is not None:
        compared = (moved @ into, (y - center) @ into)
    costs = costs_of(*compared, candidates)
    steps = n_steps or steps_for(float(epsilon), float(reach))
    pairs, sizes = candidates[:2], (len(x), len(y))
    return plan_of(costs, *pairs, epsilon, reach, steps, sizes=sizes)


def steps_for(epsilon: float, reach: float) -> int:
    """Returns the steps after which the potentials stand: each errs by a known factor.

    Both halves of a step shrink the error by reach / (reach + epsilon).
    """
    return math.ceil(math.log(CONVERGED) / (2 * math.log(reach / (reach + epsilon))))


@jax.jit
def costs_of(
    x: Float[Array, "points features"],
    y: Float[Array, "points_after features"],
    candidates: Candidates,
) -> Float[Array, "pairs"]:
    """Returns the costs of candidate pairs; inf of padding."""
    near = ((x, candidates.nearest), (y, candidates.nearest_other))
    spacings = [jnp.sum((side - side[rows]) ** 2, axis=1) for side, rows in near]
    least = NEAR_ZERO * jnp.mean(jnp.concatenate(spacings)) + LEAST

    def of_pair(pair: tuple[Array, Array]) -> Array:
        i, j = pair
        unit = jnp.maximum((spacings[0][i] + spacings[1][j]) / 2, least)
        squared = jnp.sum((x[i] - y[j]) ** 2)
        return jnp.where(i < len(x), squared / unit, jnp.inf)

    pairs = candidates.rows, candidates.others
    return jax.lax.map(of_pair, pairs, batch_size=PART)


@partial(jax.jit, static_argnames=("sizes", "steps"))
def plan_of(
    costs: Float[Array, "pairs"],
    rows: Int[Array, "pairs"],
    others: Int[Array, "pairs"],
    epsilon: float | Float[Array, ""],
    reach: float | Float[Array, ""],
    steps: int,
    *,
    sizes: tuple[int, int],
) -> Float[Array, "pairs"]:
    """Takes Sinkhorn's steps in the log domain, as corrections of both potentials."""
    share = reach / (reach + epsilon)

    def mass(f: Array, g: Array) -> Array:
        return jnp.exp((f[rows] + g[others] - costs) / epsilon)

    def correct(old: Array, pairs: Array, masses: Array) -> Array:
        met = jax.ops.segment_sum(masses, pairs, len(old))
        return share * (old - epsilon * jnp.log(jnp.maximum(met, LEAST)))

    @jax.checkpoint
    def step(_: Any, potentials: tuple[Array, Array]) -> tuple[Array, Array]:
        f, g = potentials
        g = correct(g, others, mass(f, g))
        return correct(f, rows, mass(f, g)), g

    # One more segment in each holds the padding.
    lowest = jax.ops.segment_min(costs, rows, sizes[0] + 1)
    f = share * jnp.where(jnp.isfinite(lowest), lowest, 0.0)
    g = jnp.zeros(sizes[1] + 1, costs.dtype)
    f, g = jax.lax.fori_loop(0, steps, step, (f, g))
    return mass(f, g)
