"""A minimum of the exact loss, which moves as the settings and the problem do.

    dY = -H^+ (d^2 L / dY d theta) dtheta,   H = d^2 L / dY^2,

where H^+ leaves out the directions that change no term: moves of linked slices as one.

Source: the implicit function theorem, as in Blondel et al. (2022), "Efficient and
modular implicit differentiation", arXiv:2105.15183.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import optimistix
from jaxtyping import Array, Bool, Float

from aljax.layout.objective import aligned_loss
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.shifts import Shifts, draw_shifts

NEWTON_STEPS = 30
HALVINGS = 8
FLAT = 1e-9  # share of the largest eigenvalue below which directions coincide
Maps = Float[Array, "slices components points"]
Theta = tuple[AlignedProblem, LayoutParams, Shifts]


class Flat(NamedTuple):
    """Directions in which a loss is flat, orthonormal or 0, and where points are."""

    basis: Float[Array, "directions slices components points"]
    inside: Bool[Array, "slices points"]


class Solution(eqx.Module):
    """A layout to differentiate.

    Attributes:
        maps: The layout, stacked (map units).
        slope: The largest entry of the gradient of the exact loss there (loss per map
            unit); NaN where the epochs were unrolled.
        converged: True where that is below the tolerance; False where it is not, or
            was not asked.
    """

    maps: Maps
    slope: Float[Array, ""]
    converged: Bool[Array, ""]


@partial(jax.jit, static_argnames="max_steps")
def minimum(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    tolerance: float | Float[Array, ""],
    *,
    max_steps: int,
) -> Solution:
    """A minimum of the exact loss, found on values and then given its derivative."""
    shifts = exact_shifts(problem)
    theta = (problem, params, shifts)
    frozen, start = jax.lax.stop_gradient((theta, start))
    maps = optimistix.minimise(
        lambda maps, frozen: aligned_loss(maps, *frozen).total(),
        optimistix.LBFGS(rtol=1e-9, atol=1e-9),
        start,
        frozen,
        max_steps=max_steps,
        throw=False,
    ).value
    slope = partial(_slope, frozen)
    directions = partial(flat_directions, frozen[0], frozen[1])
    maps = _polish(slope, maps, directions, tolerance)
    flat = directions(maps)
    left = project(slope(maps), flat)
    maps = jax.lax.stop_gradient(maps - newton_step(slope, maps, left, flat))
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(left)))
    return Solution(_following(maps, theta), largest, largest < tolerance)


def _slope(theta: Theta, maps: Maps) -> Maps:
    """The gradient of the loss."""
    return jax.grad(lambda maps: aligned_loss(maps, *theta).total())(maps)


@eqx.filter_custom_jvp
def _following(maps: Maps, theta: Theta) -> Maps:
    """The minimum itself, which moves as theta does: dY = -H^+ d(slope)."""
    del theta
    return maps


@_following.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Maps, Maps]:
    (maps, theta), (_, change) = primals, tangents
    maps = _following(maps, theta)  # so that derivatives of this one follow, too
    bent = eqx.filter_jvp(lambda theta: _slope(theta, maps), (theta,), (change,))[1]
    # Held: any set of layouts that leaves out the moves of all as one serves as well.
    (problem, params, _), at = jax.lax.stop_gradient((theta, maps))
    flat = flat_directions(problem, params, at)
    move = newton_step(partial(_slope, theta), maps, project(bent, flat), flat)
    return maps, -move


def exact_shifts(problem: AlignedProblem) -> Shifts:
    """All shifts: each pair of points once, and nothing left to chance."""
    half = max(1, problem.degrees.shape[1] // 2)
    return draw_shifts(jax.random.key(0), problem.n_points, n_shifts=half)


def _polish(
    slope: Callable[[Maps], Maps],
    maps: Maps,
    directions: Callable[[Maps], Flat],
    tolerance: float | Float[Array, ""],
) -> Maps:
    """Newton steps, halved until the gradient shrinks, to a tenth of the tolerance."""

    def size(maps: Maps) -> Float[Array, ""]:
        return jnp.linalg.norm(slope(maps))

    def improve(carry: tuple[Any, Maps, Any]) -> tuple[Any, Maps, Any]:
        count, maps, _ = carry
        flat = directions(maps)
        move = newton_step(slope, maps, project(slope(maps), flat), flat)
        lengths = 0.5 ** jnp.arange(HALVINGS)
        sizes = jax.lax.map(lambda length: size(maps - length * move), lengths)
        best = jnp.nanargmin(sizes)
        better = sizes[best] < size(maps)
        maps = jnp.where(better, maps - lengths[best] * move, maps)
        return count + 1, maps, better

    def unfinished(carry: tuple[Any, Maps, Any]) -> Bool[Array, ""]:
        count, maps, better = carry
        largest = jnp.max(jnp.abs(slope(maps)))
        return better & (count < NEWTON_STEPS) & (largest > tolerance / 10)

    return jax.lax.while_loop(unfinished, improve, (0, maps, jnp.asarray(True)))[1]


def newton_step(
    slope: Callable[[Maps], Maps], maps: Maps, residual: Maps, flat: Flat
) -> Maps:
    """H^+ residual, by conjugate gradients within the directions that are not flat."""

    def curvature(direction: Maps) -> Maps:
        inside = project(direction, flat)
        bent = jax.jvp(slope, (maps,), (inside,))[1]
        return project(bent, flat) + direction - inside

    operator = lineax.FunctionLinearOperator(
        curvature,
        jax.eval_shape(lambda: maps),
        tags=lineax.positive_semidefinite_tag,
    )
    accuracy = 1e-12 if maps.dtype == jnp.float64 else 1e-6
    solver = lineax.CG(rtol=accuracy, atol=accuracy, max_steps=10 * maps.size)
    return project(
        lineax.linear_solve(operator, residual, solver, throw=False).value, flat
    )


def flat_directions(problem: AlignedProblem, params: LayoutParams, maps: Maps) -> Flat:
    """The directions that change no term of the loss.

    Each set of slices that mates link, one way or another, shifts along each axis and
    turns in each plane as one; and padding moves at will.
    """
    slices, components, points = maps.shape
    inside = jnp.arange(points) < problem.n_points[:, None]
    generators = [jnp.zeros_like(maps).at[:, c].set(1.0) for c in range(components)]
    for c, d in combinations(range(components), 2):
        turned = jnp.zeros_like(maps).at[:, c].set(maps[:, d]).at[:, d].set(-maps[:, c])
        generators.append(turned)
    moves = jnp.stack(generators) * inside[:, None]
    together = _linked(problem, params)
    first = jnp.argmax(together, axis=1)  # stands for its set
    member = first == jnp.arange(slices)[:, None]
    basis = jnp.where(member[:, None, :, None, None], moves, 0.0)
    basis = basis.reshape(-1, slices, components, points)
    size, mixed = jnp.linalg.eigh(jnp.einsum("iscp,jscp->ij", basis, basis))
    known = size > FLAT * jnp.max(size)
    scale = jnp.where(known, 1 / jnp.sqrt(jnp.where(known, size, 1.0)), 0.0)
    return Flat(jnp.einsum("ij,i...->j...", mixed * scale, basis), inside)


def _linked(
    problem: AlignedProblem, params: LayoutParams
) -> Bool[Array, "slices slices"]:
    """Finds which slices are held together, directly or through others."""
    pulling = jnp.any(problem.strengths > 0, axis=(2, 3))
    pulling &= params.alignment_regularisation > 0
    slices = len(pulling)
    together = jnp.eye(slices, dtype=bool)
    index = jnp.arange(slices)
    for o, offset in enumerate(problem.offsets):
        there = together.at[index, (index + offset) % slices].max(pulling[:, o])
        together = there | there.T
    for _ in range(slices.bit_length()):
        together = together @ together
    return together


def project(direction: Maps, flat: Flat) -> Maps:
    """The part of a direction that is neither flat nor of padding."""
    inside = direction * flat.inside[:, None]
    along = jnp.einsum("iscp,scp->i", flat.basis, inside)
    return inside - jnp.einsum("i,iscp->scp", along, flat.basis)
