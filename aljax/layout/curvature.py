"""Where the loss is flat, and Newton steps across where it is not.

    step = H^+ residual,    H = d^2 L / dY^2

by conjugate gradients.  Common shifts and rotations of slices that are linked change
no term of the loss: H^+ leaves them, and padding, out.
"""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import lineax
from jaxtyping import Array, Bool, Float

from aljax.layout.problem import AlignedProblem, LayoutParams

Maps = Float[Array, "slices components points"]
FLAT = 1e-9  # share of the largest eigenvalue below which directions coincide


class Flat(NamedTuple):
    """Directions in which a loss is flat, orthonormal or 0, and where points are."""

    basis: Float[Array, "directions slices components points"]
    inside: Bool[Array, "slices points"]


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
    """Which slices are held together, directly or through others."""
    pulling = jnp.any(problem.strengths > 0, axis=(2, 3))
    pulling &= params.alignment_regularisation > 0
    slices, offsets = pulling.shape
    together = jnp.eye(slices, dtype=bool)
    index = jnp.arange(slices)
    for o in range(offsets):
        there = together.at[index, (index + o + 1) % slices].max(pulling[:, o])
        together = there | there.T
    for _ in range(slices.bit_length()):
        together = together @ together
    return together


def project(direction: Maps, flat: Flat) -> Maps:
    """The part of a direction that is neither flat nor of padding."""
    inside = direction * flat.inside[:, None]
    along = jnp.einsum("iscp,scp->i", flat.basis, inside)
    return inside - jnp.einsum("i,iscp->scp", along, flat.basis)
