"""A minimum of the exact loss, or of an anchored one, which moves as the settings do.

    dY = -H^+ (d^2 L / dY d theta) dtheta,   H = d^2 L / dY^2,

where H^+ leaves out the directions that change no term: moves of linked slices as one.
The loss is a sum over pairs of energies of |d|^2, d = y_i - y_k, so

    H v = sum_pairs D^T (2 e' I + 4 e'' d d^T) D v,   D v = v_i - v_k,

whose blocks are made once for many products.  Anchored, the loss is

    L + ridge / 2 |Y - Yc|^2,

with a constant layout Yc, and the repulsion of pairs that are near in Yc and of a fixed
sample of the others.

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
from jaxtyping import Array, Bool, Float, Int

from aljax.layout.isolated import FAINT
from aljax.layout.losses import (
    NEAR,
    attraction_of_pairs,
    density,
    repulsion_of_pairs,
)
from aljax.layout.newton import Minimum, Model, Solve, minimize, solve
from aljax.layout.objective import ahead, aligned_loss, terms_of
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.shifts import Shifts, draw_shifts

FLAT = 1e-9  # share of the largest eigenvalue below which directions coincide
Maps = Float[Array, "slices components points"]
Energy = Callable[[Array], Array]  # of squared distances, entry by entry


class Pairs(eqx.Module):
    """Pairs of each slice that repel, and how many each stands for (0 for padding)."""

    heads: Int[Array, "slices pairs"]
    tails: Int[Array, "slices pairs"]
    weights: Float[Array, "slices pairs"]


class Anchor(eqx.Module):
    """A constant layout that holds another by springs, and the pairs that repel."""

    center: Maps
    pairs: Pairs
    ridge: Float[Array, ""]


class Theta(NamedTuple):
    """Everything that a minimum depends on; without an anchor the loss is exact."""

    problem: AlignedProblem
    params: LayoutParams
    anchor: Anchor | None


class Flat(NamedTuple):
    """Directions in which a loss is flat, orthonormal or 0, and which points move."""

    basis: Float[Array, "directions slices components points"]
    moving: Bool[Array, "slices points"]


class Bonds(NamedTuple):
    """The curvature of pairs: places in the flattened maps, and a block for each."""

    heads: Int[Array, "..."]
    tails: Int[Array, "..."]
    blocks: Float[Array, "components components ..."]


class Curvature(NamedTuple):
    """Second derivatives of the loss at maps: blocks of all pairs, and of listed ones.

    `full` is the repulsion of all pairs of a slice without its diagonal blocks, which
    `own` holds; both None where the pairs are listed.
    """

    full: Float[Array, "slices row column"] | None
    own: Float[Array, "slices components components points"] | None
    bonds: list[Bonds]


def exact_shifts(problem: AlignedProblem) -> Shifts:
    """All shifts: each pair of points once, and nothing left to chance."""
    half = max(1, problem.degrees.shape[1] // 2)
    return draw_shifts(jax.random.key(0), problem.n_points, n_shifts=half)


def loss(theta: Theta, maps: Maps) -> Float[Array, ""]:
    """The exact loss, or the anchored one."""
    problem, params, anchor = theta
    if anchor is None:
        return aligned_loss(maps, problem, params, exact_shifts(problem)).total()
    pairs: Any = anchor.pairs
    terms = terms_of(maps, problem, params, pairs, repulsion=_listed, ahead=ahead)
    apart = (maps - anchor.center) * moving(problem)[:, None]
    return terms.total() + anchor.ridge / 2 * jnp.sum(apart**2)


def _listed(
    embedding: Array,
    degrees: Array,
    n_points: Array,
    pairs: Pairs,
    *curve: Array,
    **_: Any,
) -> Float[Array, ""]:
    """The repulsion of listed pairs of one slice."""
    difference = embedding[:, pairs.heads] - embedding[:, pairs.tails]
    weights = pairs.weights * (degrees[pairs.heads] + degrees[pairs.tails])
    energies = repulsion_of_pairs(jnp.sum(difference**2, axis=0), *curve)
    return jnp.sum(weights * energies) / (2 * jnp.maximum(n_points - 1, 1))


def moving(problem: AlignedProblem) -> Bool[Array, "slices points"]:
    """Which points move: not padding, pinned ones, or those that no edge holds."""
    inside = jnp.arange(problem.free.shape[1]) < problem.n_points[:, None]
    mean = jnp.sum(problem.degrees, axis=1) / jnp.maximum(problem.n_points, 1)
    linked = problem.degrees > FAINT * mean[:, None]
    return inside & linked & (problem.free > 0)


def slope(theta: Theta, maps: Maps) -> Maps:
    """The gradient of the loss."""
    return jax.grad(partial(loss, theta))(maps)


def curvature(theta: Theta, maps: Maps) -> Curvature:
    """The second derivatives of the loss, all but those of a density."""
    problem, params, anchor = theta
    slices, _, points = maps.shape
    flat = maps.transpose(1, 0, 2).reshape(maps.shape[1], -1)
    first = jnp.arange(slices)[:, None, None] * points
    here = first + jnp.arange(points)
    curves = params.a, params.b
    attracted, repelled = map(jax.vmap, (attraction_of_pairs, repulsion_of_pairs))
    bond: Any = partial(_bond, flat)
    near = jnp.broadcast_to(here, problem.neighbors.shape)
    bonds: Any = [
        bond(
            near,
            first + problem.neighbors,
            lambda squared: 2 * problem.weights * attracted(squared, *curves),
        )
    ]
    if problem.offsets:
        heads, tails, energy = _held(theta, here)
        bonds.append(bond(heads, tails, energy))
    rate = params.repulsion_strength * params.negative_sample_rate
    rate = rate / (2 * jnp.maximum(problem.n_points - 1, 1))
    if anchor is None:
        full, own = jax.vmap(_of_all_pairs)(
            maps, problem.degrees, problem.n_points, rate, params.a, params.b
        )
        return Curvature(full, own, bonds)
    ends = [end + first[:, 0] for end in (anchor.pairs.heads, anchor.pairs.tails)]
    weights = sum(problem.degrees.reshape(-1)[end] for end in ends)
    weights *= rate[:, None] * anchor.pairs.weights
    bonds.append(bond(*ends, lambda squared: weights * repelled(squared, *curves)))
    return Curvature(None, None, bonds)


def _held(theta: Theta, here: Array) -> tuple[Array, Array, Energy]:
    """The ends of the alignment's pairs, and their energies."""
    problem, params, _ = theta
    slices, points = problem.pulls.shape
    later = (jnp.arange(slices)[:, None] + jnp.asarray(problem.offsets)) % slices
    tails = later[:, :, None, None] * points + problem.mates
    pulls = problem.pulls * (2 + params.negative_sample_rate)[:, None]
    weights = (pulls[:, None, None] + pulls.reshape(-1)[tails]) / 4 * problem.strengths
    lead = jnp.reshape(params.alignment_regularisation, (-1, 1, 1, 1))

    def energy(squared: Array) -> Array:
        if problem.moves is not None:
            reach = params.motion_fidelity * problem.moves
            squared = (jnp.sqrt(squared + NEAR) - reach) ** 2
        return lead * weights * squared

    return jnp.broadcast_to(here[:, :, None], tails.shape), tails, energy


def _derivatives(energy: Energy, squared: Array) -> tuple[Array, Array]:
    def first(squared: Array) -> Array:
        return jax.grad(lambda squared: jnp.sum(energy(squared)))(squared)

    return jax.jvp(first, (squared,), (jnp.ones_like(squared),))


def _bond(flat: Array, heads: Array, tails: Array, energy: Energy) -> Bonds:
    difference = flat[:, heads] - flat[:, tails]
    bend, turn = _derivatives(energy, jnp.sum(difference**2, axis=0))
    same = jnp.eye(len(flat), dtype=flat.dtype)
    same = same.reshape(*same.shape, *[1] * bend.ndim)
    blocks = 2 * bend * same + 4 * turn * difference[:, None] * difference
    return Bonds(heads, tails, blocks)


def _of_all_pairs(
    embedding: Array, degrees: Array, n_points: Array, rate: Array, a: Array, b: Array
) -> tuple[Array, Array]:
    """The blocks of all pairs of one slice as a matrix, and their sums over a row."""
    components, points = embedding.shape
    difference = embedding[:, :, None] - embedding[:, None]
    inside = jnp.arange(points) < n_points
    paired = inside[:, None] & inside & ~jnp.eye(points, dtype=bool)
    weights = jnp.where(paired, rate * (degrees[:, None] + degrees), 0.0)
    bend, turn = _derivatives(
        lambda squared: weights * repulsion_of_pairs(squared, a, b),
        jnp.sum(difference**2, axis=0),
    )
    bend, turn = jax.lax.optimization_barrier((bend, turn))  # made once, not per entry
    same = jnp.eye(components, dtype=embedding.dtype)[:, None, :, None]
    rows, columns = difference[:, :, None], difference.transpose(1, 0, 2)
    blocks = 2 * bend[:, None] * same + 4 * turn[:, None] * rows * columns
    own = jnp.sum(blocks, axis=3).transpose(0, 2, 1)
    return blocks.reshape(components * points, -1), own


def product(theta: Theta, maps: Maps, curved: Curvature, direction: Maps) -> Maps:
    """H times a direction."""
    slices, components, points = direction.shape
    flat = direction.transpose(1, 0, 2).reshape(components, -1)
    bent = jnp.zeros_like(flat)
    for heads, tails, blocks in curved.bonds:
        change = flat[:, heads] - flat[:, tails]
        force = jnp.sum(blocks * change, axis=1)
        bent = bent.at[:, heads].add(force).at[:, tails].add(-force)
    bent = bent.reshape(components, slices, points).transpose(1, 0, 2)
    if curved.full is not None:
        rows = direction.reshape(slices, -1)
        across = jnp.einsum("sij,sj->si", curved.full, rows).reshape(direction.shape)
        bent += jnp.einsum("scdp,sdp->scp", curved.own, direction) - across
    if theta.params.dens_lambda is not None:
        bent += jax.jvp(jax.grad(partial(_density, theta)), (maps,), (direction,))[1]
    if theta.anchor is not None:
        bent += theta.anchor.ridge * direction * moving(theta.problem)[:, None]
    return bent


def _density(theta: Theta, maps: Maps) -> Float[Array, ""]:
    of, by = theta.problem, theta.params
    terms: Any = (of.neighbors, of.shares, of.radii, of.degrees)
    terms += (by.a, by.b, by.dens_var_shift)
    return jnp.sum(jnp.asarray(by.dens_lambda) * jax.vmap(density)(maps, *terms))


def model(theta: Theta, maps: Maps) -> Model:
    """H between the directions that are not flat, and the size of its own blocks."""
    flat = flat_directions(theta, maps)
    curved = curvature(theta, maps)
    soft = 1 / _stiffness(theta, curved)

    def bend(direction: Maps) -> Maps:
        return project(product(theta, maps, curved, project(direction, flat)), flat)

    return Model(bend, lambda residual: project(soft * project(residual, flat), flat))


def _stiffness(theta: Theta, curved: Curvature) -> Float[Array, "slices 1 points"]:
    """The norm of each point's own block, 1 where there is none."""
    components = len(curved.bonds[0].blocks)
    slices, points = theta.problem.free.shape
    own = jnp.zeros((components, components, slices * points))
    for heads, tails, blocks in curved.bonds:
        own = own.at[..., heads].add(blocks).at[..., tails].add(blocks)
    own = own.reshape(components, components, slices, points)
    if curved.own is not None:
        own += curved.own.transpose(1, 2, 0, 3)
    size = jnp.sqrt(jnp.sum(own**2, axis=(0, 1)))[:, None]
    if theta.anchor is not None:
        size += theta.anchor.ridge
    return jnp.where(size > 0, size, 1)


@partial(jax.jit, static_argnames="max_steps")
def find_minimum(
    theta: Theta,
    start: Maps,
    *,
    tolerance: float | Float[Array, ""],
    rtol: float | Float[Array, ""],
    max_steps: int,
) -> Minimum:
    """A minimum from a start."""
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
    """The minimum itself, which moves as theta does: dY = -H^+ d(slope)."""
    del theta, rtol
    return maps


@following.def_jvp
def _(primals: Any, tangents: Any) -> tuple[Maps, Maps]:
    (maps, theta, rtol), (_, change, _) = primals, tangents
    maps = following(maps, theta, rtol)  # so that derivatives of this one follow, too
    bent = eqx.filter_jvp(lambda theta: slope(theta, maps), (theta,), (change,))[1]
    # Held: any set of layouts that leaves out the moves of all as one serves as well.
    frozen, at = jax.lax.stop_gradient((theta, maps))
    flat = flat_directions(frozen, at)

    def bend(direction: Maps) -> Maps:
        inside = project(direction, flat)
        along = jax.jvp(partial(slope, theta), (maps,), (inside,))[1]
        return project(along, flat) + direction - inside

    def invert(_: Any, residual: Maps) -> Maps:
        found = newton_step(frozen, at, residual, rtol)
        return jnp.where(found.lowest > 0, -found.step, jnp.nan)

    bent = project(bent, flat)
    move = jax.lax.custom_linear_solve(bend, bent, invert, symmetric=True)
    return maps, -project(move, flat)


def flat_directions(theta: Theta, maps: Maps) -> Flat:
    """The directions that change no term of the loss.

    Each set of slices that mates link, one way or another, shifts along each axis and
    turns in each plane as one, unless a point of it is pinned or it is anchored;
    points that do not move are held.
    """
    problem, params, anchor = theta
    slices, components, points = maps.shape
    moves = moving(problem)
    if anchor is not None:
        return Flat(jnp.zeros((0, *maps.shape), maps.dtype), moves)
    generators = [jnp.zeros_like(maps).at[:, c].set(1.0) for c in range(components)]
    for c, d in combinations(range(components), 2):
        turned = jnp.zeros_like(maps).at[:, c].set(maps[:, d]).at[:, d].set(-maps[:, c])
        generators.append(turned)
    together = _linked(problem, params)
    pinned = together @ jnp.any(problem.free < 1, axis=1)
    loose = moves & ~pinned[:, None]
    generated = jnp.stack(generators) * loose[:, None]
    first = jnp.argmax(together, axis=1)  # stands for its set
    member = first == jnp.arange(slices)[:, None]
    basis = jnp.where(member[:, None, :, None, None], generated, 0.0)
    basis = basis.reshape(-1, slices, components, points)
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
        there = together.at[index, (index + offset) % slices].max(pulling[:, o])
        together = there | there.T
    for _ in range(slices.bit_length()):
        together = together @ together
    return together


def project(direction: Maps, flat: Flat) -> Maps:
    """The part of a direction that is neither flat nor of points that stay."""
    inside = direction * flat.moving[:, None]
    along = jnp.einsum("iscp,scp->i", flat.basis, inside)
    return inside - jnp.einsum("i,iscp->scp", along, flat.basis)
