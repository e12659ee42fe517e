"""The fuzzy graph: neighbour distances in, edge memberships out.

    v(i, j) = exp(-max(0, d_ij - rho_i) / sigma_i),    sum_j v(i, j) = log2 k
    w(i, j) = v(i, j) + v(j, i) - v(i, j) v(j, i)

Source: McInnes, Healy & Melville (2018), arXiv:1802.03426, section 3.1 and
algorithms 2 and 3; the tolerances are umap-learn's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from math import isqrt
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import optax
import optimistix
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.knn import KNN
from aljax.layout.losses import Shifts, aligned_loss, draw_shifts
from aljax.layout.optimize import LayoutState, init, run, shifts_of, step
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.watch import watch

# The root of a second moment that is 0, as that of padding, would have no derivative.
SMOOTH_ADAM = optax.scale_by_adam(b1=0.5, b2=0.9, eps_root=1e-16)
NEWTON_STEPS = 30
HALVINGS = 8
MEASURE = "measure of the maps"
Maps = Float[Array, "slices components points"]
FLAT = 1e-9  # share of the largest eigenvalue below which directions coincide


class Flat(NamedTuple):
    """Directions in which a loss is flat, orthonormal or 0, and where points are."""

    basis: Float[Array, "directions slices components points"]
    inside: Bool[Array, "slices points"]


class Solution(eqx.Module):
    """A layout to differentiate, and whether it is a minimum.

    Attributes:
        maps: The layout.
        slope: The largest entry of the gradient of the loss there (loss per map
            unit); of the exact loss for the implicit derivative, else NaN.
        converged: Whether that is below the tolerance; False where it was not asked.
    """

    maps: Maps
    slope: Float[Array, ""]
    converged: Bool[Array, ""]


def graph_of(
    data: Float[Array, "points features"],
    neighbors: Int[Array, "neighbors points"],
    *,
    local_connectivity: Float[Array, ""] | float = 1.0,
    set_op_mix_ratio: Float[Array, ""] | float = 1.0,
) -> FuzzyGraph:
    """The fuzzy graph of data whose neighbours are known, differentiable in the data.

    Args:
        data: One slice.
        neighbors: Each row's nearest rows (euclidean), itself first, as in a `KNN`.
            They are held: which rows are neighbours has no derivative.
        local_connectivity: See `smooth_knn_dist`.
        set_op_mix_ratio: See `fuzzy_simplicial_set`.

    Raises:
        RuntimeError: Its gradient is not finite.
    """
    data = watch(data, "graph")
    squared = jnp.sum((data[neighbors] - data) ** 2, axis=-1)
    apart = squared > 0
    distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    return fuzzy_simplicial_set(
        KNN(neighbors, distances),
        local_connectivity=local_connectivity,
        set_op_mix_ratio=set_op_mix_ratio,
    )


def reweigh(problem: AlignedProblem, graphs: Sequence[FuzzyGraph]) -> AlignedProblem:
    """The problem with other weights on the same edges, differentiable in them.

    Args:
        problem: Stacked from graphs with the same lists of neighbours.
        graphs: One for each slice, as from `graph_of`.
    """
    weights, degrees = [], []
    before = problem.degrees
    weighing = jnp.where(
        before > 0, problem.pulls / jnp.where(before > 0, before, 1), 1
    )
    for t, graph in enumerate(graphs):
        size, entries = graph.degrees.shape[0], graph.neighbors.shape[0] - 1
        rows = problem.order[t, :size]
        blank = jnp.zeros(problem.weights.shape[1:], graph.weights.dtype)
        weights.append(blank.at[:entries, :size].set(graph.weights[1:, rows]))
        degrees.append(blank[0].at[:size].set(graph.degrees[rows]))
    stacked = jnp.stack(degrees)
    return eqx.tree_at(
        lambda p: (p.weights, p.degrees, p.pulls),
        problem,
        (jnp.stack(weights), stacked, stacked * weighing),
    )


def solve_layout(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    *,
    adjoint: str = "unrolled",
    key: jax.Array | None = None,
    n_epochs: int = 200,
    last: int | None = None,
    n_shifts: int | None = None,
    tolerance: float | None = None,
    max_steps: int = 5_000,
    throw: bool = True,
) -> Solution:
    """Lay a problem out so that the maps can be differentiated.

    With respect to the settings, the graphs' weights and degrees, the mates' strengths
    and, through the graph, the data; unrolled to the start, too.  (Strengths contain a
    Jaccard factor that is piecewise constant: no derivative goes through it.)

    Args:
        problem: The graphs and mates.
        params: The settings that change no shape.
        start: The maps to start from.
        adjoint: "unrolled" follows the epochs of a layout by `step` back; its memory is
            that of one epoch and of about 7 sqrt(last) copies of the maps.
            "implicit" finds a minimum of the exact loss (L-BFGS, then Newton steps)
            and needs memory for one epoch only; derivatives of what does not change
            when linked maps are shifted or turned together are exact, of others those
            of the layout that moves least.
        key: Draws the pairs that repel (unrolled).
        n_epochs: Epochs of the layout (unrolled; at least 1).
        last: Epochs to differentiate, counted from the end (unrolled; 1 to
            `n_epochs`); None for all.  With fewer no derivative reaches the start.
        n_shifts: Shifts that estimate the repulsion (unrolled); None by size.
        tolerance: Largest entry of the gradient of a minimum (implicit; loss per map
            unit); None for 1e-8 in double precision and 1e-3 in single.
        max_steps: Steps of the minimiser (implicit).
        throw: Whether a layout that did not converge raises (implicit); otherwise
            `converged` says so, and its derivatives are not to be trusted.

    Raises:
        ValueError: An unknown adjoint, settings that it cannot use, or no key.
        RuntimeError: The layout did not converge, or a gradient is not finite.
    """
    problem, params, start = watch((problem, params, start), "layout")
    points = problem.degrees.shape[1]
    if adjoint == "unrolled":
        last = n_epochs if last is None else last
        _check_unrolled(key, n_epochs, last)
        assert key is not None
        shifts = shifts_of(problem, n_shifts)
        maps = _unroll(
            problem, params, start, key=key, epochs=(n_epochs, last), n_shifts=shifts
        )
        missing = jnp.asarray(jnp.nan, maps.dtype)
        return Solution(watch(maps, MEASURE), missing, jnp.asarray(False))
    _check_implicit(adjoint, n_shifts, points, problem.free)
    if tolerance is None:
        tolerance = 1e-8 if start.dtype == jnp.float64 else 1e-3
    solution = _minimum(problem, params, start, tolerance, max_steps=max_steps)
    if throw:
        message = (
            f"the layout did not converge: its gradient is above {tolerance:g} after "
            f"{max_steps} steps. Start from a longer layout, raise `max_steps` or "
            "`tolerance`, or use double precision (jax_enable_x64)."
        )
        solution = eqx.error_if(solution, ~solution.converged, message)
    return eqx.tree_at(lambda s: s.maps, solution, watch(solution.maps, MEASURE))


def _check_unrolled(key: jax.Array | None, n_epochs: int, last: int) -> None:
    if key is None:
        raise ValueError(
            "`key` is None; the unrolled layout draws pairs that repel: give "
            "jax.random.key(0), say."
        )
    if not 1 <= last <= n_epochs:
        raise ValueError(
            f"`last` is {last}; expected 1 to `n_epochs`, which is {n_epochs}."
        )


def _check_implicit(
    adjoint: str, n_shifts: int | None, points: int, free: Array
) -> None:
    if adjoint != "implicit":
        raise ValueError(
            f"`adjoint` is {adjoint!r}; expected 'unrolled' or 'implicit'."
        )
    if n_shifts is not None and n_shifts < points // 2:
        raise ValueError(
            f"`n_shifts` is {n_shifts}, which samples the repulsion, and `adjoint` is "
            "'implicit', which needs a layout whose gradient is 0: that of a sample "
            f"never is. Leave `n_shifts` None (all {points // 2} shifts, the exact "
            "loss), or use adjoint='unrolled'."
        )
    if not isinstance(free, Tracer) and not free.all():
        raise ValueError(
            "`problem` has pinned rows, which adjoint='implicit' would "
            "move; expected none. Use adjoint='unrolled'."
        )


@partial(jax.jit, static_argnames=("epochs", "n_shifts"))
def _unroll(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    *,
    key: jax.Array,
    epochs: tuple[int, int],
    n_shifts: int,
) -> Maps:
    """Epochs in segments of about sqrt(last), of which only the starts are kept."""
    n_epochs, last = epochs
    own = {"key": key, "n_shifts": n_shifts, "optimizer": SMOOTH_ADAM}
    state = init(start, n_epochs=n_epochs, optimizer=SMOOTH_ADAM)
    if last < n_epochs:
        fixed = jax.lax.stop_gradient((problem, params, state))
        state = run(*fixed, n_epochs - last, **own)
        state = jax.lax.stop_gradient(state)

    @jax.checkpoint
    def epoch(state: LayoutState, _: None) -> tuple[LayoutState, None]:
        return step(problem, params, state, **own), None

    @partial(jax.checkpoint, static_argnums=1)
    def segment(state: LayoutState, length: int) -> LayoutState:
        return jax.lax.scan(epoch, state, length=length)[0]

    length = isqrt(last)
    state, _ = jax.lax.scan(
        lambda state, _: (segment(state, length), None), state, length=last // length
    )
    return segment(state, last % length).maps if last % length else state.maps


@partial(jax.jit, static_argnames="max_steps")
def _minimum(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    tolerance: float | Float[Array, ""],
    *,
    max_steps: int,
) -> Solution:
    """A minimum of the exact loss, and one Newton step that carries its derivative."""
    shifts = exact_shifts(problem)

    def slope(maps: Maps, problem: AlignedProblem, params: LayoutParams) -> Maps:
        return jax.grad(
            lambda maps: aligned_loss(maps, problem, params, shifts).total()
        )(maps)

    frozen = jax.lax.stop_gradient((problem, params))
    start = jax.lax.stop_gradient(start)
    maps = optimistix.minimise(
        lambda maps, _: aligned_loss(maps, *frozen, shifts).total(),
        optimistix.LBFGS(rtol=1e-9, atol=1e-9),
        start,
        max_steps=max_steps,
        throw=False,
    ).value
    directions = partial(flat_directions, *frozen)
    maps = _polish(lambda maps: slope(maps, *frozen), maps, directions, tolerance)
    maps = jax.lax.stop_gradient(maps)
    flat = directions(maps)
    left = project(slope(maps, problem, params), flat)
    carried = maps - newton_step(lambda maps: slope(maps, *frozen), maps, left, flat)
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(left)))
    return Solution(carried, largest, largest < tolerance)


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
