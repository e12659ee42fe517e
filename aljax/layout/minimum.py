"""A minimum of the exact loss, or of an anchored one, which moves as the settings do.

    dY = -H^+ (d^2 L / dY d theta) dtheta,   H = d^2 L / dY^2,

where H^+ leaves out the directions that change no term: moves of linked slices as one.
The loss is a sum over pairs of energies of |d|^2, d = y_i - y_k, so

    H v = sum_pairs D^T (2 e' I + 4 e'' d d^T) D v,   D v = v_i - v_k,

whose blocks are made once for many products.  Anchored, the loss is

    L + ridge / 2 |Y - Yc|^2,

with a constant layout Yc, whose leaves stand for the pairs that repel (`leaves`).

Source: the implicit function theorem, as in Blondel et al. (2022), "Efficient and
modular implicit differentiation", arXiv:2105.15183.
"""

import dataclasses
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aljax.layout.finish import FAINT
from aljax.layout.leaves import (
    Energy,
    Leaves,
    Repelled,
    along,
    derivatives,
    each_point,
    own_blocks,
    repelled,
    repulsion_by_leaves,
)
from aljax.layout.losses import attraction_of_pairs, misfit_of_mates
from aljax.layout.newton import Minimum, Model, Solve, minimize, solve
from aljax.layout.objective import ahead, aligned_loss, densities, terms_of
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.shifts import Shifts, draw_shifts

FLAT = 1e-9  # share of the largest eigenvalue below which directions coincide
PLACES = 100  # units in the last place of the squares by which pinned points may move
FAR = 1e15  # map units, from where nothing is felt
Maps = Float[Array, "slices components points"]


class Anchor(eqx.Module):
    """A constant layout that holds another by springs, and its leaves."""

    center: Maps
    leaves: Leaves


class Theta(NamedTuple):
    """Everything that a minimum depends on; without an anchor the loss is exact."""

    problem: AlignedProblem
    params: LayoutParams
    anchor: Anchor | None
    ridge: Float[Array, ""] | float = 0.0


class Flat(NamedTuple):
    """Directions in which a loss is flat, orthonormal or 0, and which points move."""

    basis: Float[Array, "directions slices components points"]
    moving: Bool[Array, "slices points"]


class Bonds(NamedTuple):
    """The curvature of pairs that each have their first end at a point of their own.

    `tails` has places in the flattened maps, `blocks` a matrix for each pair.
    """

    tails: Int[Array, "slices pairs points"]
    blocks: Float[Array, "components components slices pairs points"]


class Curvature(NamedTuple):
    """Second derivatives of the loss at maps, all but those of a density."""

    bonds: list[Bonds]  # of edges and of mates
    repelled: Repelled


def exact_shifts(problem: AlignedProblem) -> Shifts:
    """Returns all shifts: each pair of points once, and nothing left to chance."""
    half = max(1, problem.degrees.shape[1] // 2)
    return draw_shifts(jax.random.key(0), problem.n_points, n_shifts=half)


def loss(theta: Theta, maps: Maps) -> Float[Array, ""]:
    """Returns the exact loss, or the anchored one."""
    problem, params, anchor, ridge = theta
    if anchor is None:
        maps = jnp.where(lost(problem)[:, None], FAR, maps)
        return aligned_loss(maps, problem, params, exact_shifts(problem)).total()
    leaves: Any = anchor.leaves
    terms = terms_of(
        maps, problem, params, leaves, repulsion=repulsion_by_leaves, ahead=ahead
    )
    apart = (maps - anchor.center) * moving(problem)[:, None]
    return terms.total() + ridge / 2 * jnp.sum(apart**2)


def moving(problem: AlignedProblem) -> Bool[Array, "slices points"]:
    """Tells the points that move: not padding, pinned ones, or those without edges."""
    return _inside(problem) & ~lost(problem) & (problem.free > 0)


def _inside(problem: AlignedProblem) -> Bool[Array, "slices points"]:
    return jnp.arange(problem.free.shape[1]) < problem.n_points[:, None]


def lost(problem: AlignedProblem) -> Bool[Array, "slices points"]:
    """Tells the points that no edge holds."""
    mean = jnp.sum(problem.degrees, axis=1) / jnp.maximum(problem.n_points, 1)
    return _inside(problem) & (problem.degrees <= FAINT * mean[:, None])


def without_lost(problem: AlignedProblem) -> AlignedProblem:
    """Returns the problem without edges and mates of points that no edge holds.

    A layout drives these far away, where they act on nobody.
    """
    slices, points = problem.free.shape
    absent = lost(problem)
    of_all = absent.reshape(-1)
    first = jnp.arange(slices)[:, None, None] * points
    edges = absent[:, None] | of_all[first + problem.neighbors]
    mates = absent[:, None, None] | of_all[_tails(problem)]
    shares = problem.shares
    return dataclasses.replace(
        problem,
        weights=jnp.where(edges, 0.0, problem.weights),
        degrees=jnp.where(absent, 0.0, problem.degrees),
        strengths=jnp.where(mates, 0.0, problem.strengths),
        shares=None if shares is None else jnp.where(edges, 0.0, shares),
    )


def _tails(problem: AlignedProblem) -> Int[Array, "slices offsets mates points"]:
    """Returns the places of mates in the flattened maps."""
    slices, points = problem.free.shape
    later = (jnp.arange(slices)[:, None] + jnp.asarray(problem.offsets, int)) % slices
    return later[:, :, None, None] * points + problem.mates


def slope(theta: Theta, maps: Maps) -> Maps:
    """Returns the gradient of the loss."""
    return jax.grad(partial(loss, theta))(maps)


def curvature(theta: Theta, maps: Maps) -> Curvature:
    """Returns the second derivatives of the loss, all but those of a density."""
    problem, params, anchor, _ = theta
    slices, _, points = maps.shape
    if anchor is None:
        maps = jnp.where(lost(problem)[:, None], FAR, maps)
    curve = params.a, params.b
    attracted = jax.vmap(attraction_of_pairs)

    def pull(squared: Array) -> Array:
        return 2 * problem.weights * attracted(squared, *curve)

    first = jnp.arange(slices)[:, None, None] * points
    bonds = [_bond(maps, first + problem.neighbors, pull)]
    if problem.offsets:
        bonds.append(_bond(maps, *_held(theta)))
    leaves = each_point(problem) if anchor is None else anchor.leaves
    rate = params.repulsion_strength * params.negative_sample_rate
    rate = rate / (2 * jnp.maximum(problem.n_points - 1, 1))
    pairs = jax.vmap(repelled)(maps, problem.degrees, leaves, rate, *curve)
    return Curvature(bonds, pairs)


def _held(theta: Theta) -> tuple[Array, Energy]:
    """Returns the other ends of the alignment's pairs, and their energies."""
    problem, params, *_ = theta
    slices, points = problem.pulls.shape
    tails = _tails(problem)
    pulls = problem.pulls * (2 + params.negative_sample_rate)[:, None]
    weights = (pulls[:, None, None] + pulls.reshape(-1)[tails]) / 4 * problem.strengths
    weights *= jnp.reshape(params.alignment_regularisation, (-1, 1, 1, 1))
    shape = (slices, -1, points)
    reach = None
    if problem.moves is not None:
        reach = params.motion_fidelity * problem.moves.reshape(shape)

    def energy(squared: Array) -> Array:
        return weights.reshape(shape) * misfit_of_mates(squared, reach)

    return tails.reshape(shape), energy


def _bond(maps: Maps, tails: Array, energy: Energy) -> Bonds:
    by_component = maps.transpose(1, 0, 2)
    difference = (
        by_component[:, :, None] - by_component.reshape(len(by_component), -1)[:, tails]
    )
    bend, turn = derivatives(energy, jnp.sum(difference**2, axis=0))
    same = jnp.eye(len(by_component), dtype=maps.dtype)[..., None, None, None]
    return Bonds(tails, bend * same + turn * difference[:, None] * difference)


def product(theta: Theta, maps: Maps, curved: Curvature, direction: Maps) -> Maps:
    """H times a direction."""
    slices, components, points = direction.shape
    by_component = direction.transpose(1, 0, 2)
    flat = by_component.reshape(components, -1)
    bent = jnp.zeros_like(flat)
    for tails, blocks in curved.bonds:
        force = jnp.sum(blocks * (by_component[:, :, None] - flat[:, tails]), axis=1)
        bent += jnp.sum(force, axis=2).reshape(bent.shape)
        bent = bent.at[:, tails].add(-force)
    bent = bent.reshape(components, slices, points).transpose(1, 0, 2)
    bent += jax.vmap(along)(curved.repelled, direction)
    if theta.params.dens_lambda is not None:
        bent += jax.jvp(jax.grad(partial(_density, theta)), (maps,), (direction,))[1]
    return bent + theta.ridge * direction * moving(theta.problem)[:, None]


def _density(theta: Theta, maps: Maps) -> Float[Array, ""]:
    weights = jnp.asarray(theta.params.dens_lambda)
    return jnp.sum(weights * densities(maps, theta.problem, theta.params))


def model(theta: Theta, maps: Maps) -> Model:
    """H between the directions that are not flat, and the size of its own blocks."""
    flat = flat_directions(theta, maps)
    curved = curvature(theta, maps)
    soft = 1 / _stiffness(theta, curved)

    def bend(direction: Maps) -> Maps:
        return project(product(theta, maps, curved, project(direction, flat)), flat)

    return Model(bend, lambda residual: project(soft * project(residual, flat), flat))


def _stiffness(theta: Theta, curved: Curvature) -> Float[Array, "slices 1 points"]:
    """Returns the norm of each point's own block, 1 where there is none."""
    blocks_of_points = jax.vmap(own_blocks)(curved.repelled).transpose(1, 2, 0, 3)
    for tails, blocks in curved.bonds:
        blocks_of_points += jnp.sum(blocks, axis=3)
        flat = blocks_of_points.reshape(*blocks_of_points.shape[:2], -1)
        blocks_of_points = (
            flat.at[..., tails].add(blocks).reshape(blocks_of_points.shape)
        )
    size = jnp.sqrt(jnp.sum(blocks_of_points**2, axis=(0, 1)))[:, None]
    return jnp.where(size + theta.ridge > 0, size + theta.ridge, 1)


@partial(jax.jit, static_argnames="max_steps")
def find_minimum(
    theta: Theta,
    start: Maps,
    *,
    tolerance: float | Float[Array, ""],
    rtol: float | Float[Array, ""],
    max_steps: int,
) -> Minimum:
    """Returns a minimum from a start."""
    moves = moving(theta.problem)[:, None]

    def both(maps: Maps) -> tuple[Float[Array, ""], Maps]:
        value, gradient = jax.value_and_grad(partial(loss, theta))(maps)
        return value, gradient * moves

    limits: Any = {"tolerance": tolerance, "rtol": rtol, "max_steps": max_steps}
    return minimize(both, partial(model, theta), start, **limits)


def newton_step(
    theta: Theta, maps: Maps, gradient: Maps, rtol: float | Float[Array, ""]
) -> Solve:
    """-H^+ gradient, within the directions that are not flat."""
    inside = project(gradient, flat_directions(theta, maps))
    return solve(model(theta, maps), inside, rtol=rtol, max_products=2 * maps.size)


@eqx.filter_custom_jvp
def following(maps: Maps, theta: Theta, rtol: float | Float[Array, ""]) -> Maps:
    """Returns the minimum itself, which moves as theta does: dY = -H^+ d(slope)."""
    del theta, rtol
    return maps


@following.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Maps, Maps]:
    (maps, theta, rtol), (_, change, _) = primals, tangents
    maps = following(maps, theta, rtol)  # so that derivatives of this one follow, too
    bent = eqx.filter_jvp(lambda theta: slope(theta, maps), (theta,), (change,))[1]
    # Held: any set of layouts that leaves out the moves of all as one serves as well.
    frozen, point = jax.lax.stop_gradient((theta, maps))
    flat = flat_directions(frozen, point)

    def bend(direction: Maps) -> Maps:
        inside = project(direction, flat)
        along = jax.jvp(partial(slope, theta), (maps,), (inside,))[1]
        return project(along, flat) + direction - inside

    def invert(_: Any, residual: Maps) -> Maps:
        solved = newton_step(frozen, point, residual, rtol)
        return jnp.where(solved.lowest > 0, -solved.step, jnp.nan)

    bent = project(bent, flat)
    move = jax.lax.custom_linear_solve(bend, bent, invert, symmetric=True)
    return maps, -project(move, flat)


def flat_directions(theta: Theta, maps: Maps) -> Flat:
    """Returns the directions that change no term of the loss.

    Each set of slices that mates link, one way or another, shifts along each axis and
    turns in each plane as one, as far as its pinned points let it (it turns about a
    single one), unless it is anchored; points that do not move are held.
    """
    problem, params, anchor, _ = theta
    slices, components, points = maps.shape
    moves = moving(problem)
    if anchor is not None:
        return Flat(jnp.zeros((0, *maps.shape), maps.dtype), moves)
    together = _linked(problem, params)

    def of_sets(values: Array) -> Array:
        return together.astype(maps.dtype) @ jnp.sum(values, axis=-1)

    pinned = _inside(problem) & ~lost(problem) & (problem.free < 1)
    pins, count = (jnp.maximum(of_sets(mask), 1) for mask in (pinned, moves))
    center = of_sets(jnp.where(pinned[:, None], maps, 0.0)) / pins[:, None]
    apart = maps - center[:, :, None]
    squared = of_sets(jnp.sum(jnp.where(moves[:, None], apart**2, 0.0), axis=1))
    radius = jnp.sqrt(squared / count)
    apart /= jnp.where(radius > 0, radius, 1.0)[:, None, None]
    generators = [jnp.zeros_like(maps).at[:, c].set(1.0) for c in range(components)]
    for c, d in combinations(range(components), 2):
        turned = jnp.zeros_like(maps).at[:, c].set(apart[:, d])
        generators.append(turned.at[:, d].set(-apart[:, c]))
    generated = jnp.stack(generators)
    first = jnp.argmax(together, axis=1)  # stands for its set
    member = first == jnp.arange(slices)[:, None]
    basis = jnp.where(member[:, None, :, None, None], generated, 0.0)
    basis = basis.reshape(-1, slices, components, points)
    # Those that move no pinned point, in units of the maps.
    held = basis * (pinned / jnp.sqrt(pins)[:, None])[:, None]
    length, mixed = jnp.linalg.eigh(jnp.einsum("iscp,jscp->ij", held, held))
    still = length <= PLACES * jnp.finfo(maps.dtype).eps
    basis = jnp.einsum("ij,i...->j...", mixed * still, basis * moves[:, None])
    size, mixed = jnp.linalg.eigh(jnp.einsum("iscp,jscp->ij", basis, basis))
    known = size > FLAT * jnp.max(size)
    scale = jnp.where(known, 1 / jnp.sqrt(jnp.where(known, size, 1.0)), 0.0)
    return Flat(jnp.einsum("ij,i...->j...", mixed * scale, basis), moves)


def _linked(
    problem: AlignedProblem, params: LayoutParams
) -> Bool[Array, "slices slices"]:
    """Finds which slices are held together, directly or through others."""
    pulling = jnp.any(problem.strengths > 0, axis=(2, 3))
    pulling &= jnp.reshape(params.alignment_regularisation > 0, (-1, 1))
    slices = len(pulling)
    together = jnp.eye(slices, dtype=bool)
    index = jnp.arange(slices)
    for o, offset in enumerate(problem.offsets):
        mated = together.at[index, (index + offset) % slices].max(pulling[:, o])
        together = mated | mated.T
    for _ in range(slices.bit_length()):
        together = together @ together
    return together


def project(direction: Maps, flat: Flat) -> Maps:
    """Returns the part of a direction that is neither flat nor of points that stay."""
    inside = direction * flat.moving[:, None]
    along = jnp.einsum("iscp,scp->i", flat.basis, inside)
    return inside - jnp.einsum("i,iscp->scp", along, flat.basis)
