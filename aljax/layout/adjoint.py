"""Derivatives through a layout: data -> graphs -> problem -> maps -> any number.

    graph_of(data) -> reweigh(problem) -> solve_layout(problem, params, start)

Two ways through the layout, in forward and in reverse mode and of any order:
`Unrolled` differentiates the epochs of `step`; `Implicit` finds a minimum Y of the
exact loss L and differentiates the condition that its gradient is 0 there,

    dY = -H^+ (d^2 L / dY d theta) dtheta,   H = d^2 L / dY^2,

where H^+ leaves out the directions that change no term: moves of linked slices as one.

Source: the implicit function theorem, as in Blondel et al. (2022), "Efficient and
modular implicit differentiation", arXiv:2105.15183.
"""

import dataclasses
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

from aljax.config import number
from aljax.errors import InputError, warn
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.knn import KNN
from aljax.layout.losses import Shifts, aligned_loss, draw_shifts
from aljax.layout.optimize import LayoutState, init, run, shifts_of, step
from aljax.layout.problem import AlignedProblem, LayoutParams

# The root of a second moment that is 0, as that of padding, would have no derivative.
SMOOTH_ADAM = optax.scale_by_adam(b1=0.5, b2=0.9, eps_root=1e-16)
NEWTON_STEPS = 30
HALVINGS = 8
FLAT = 1e-9  # share of the largest eigenvalue below which directions coincide
Maps = Float[Array, "slices components points"]


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


def graph_of(
    data: Float[Array, "points features"],
    neighbors: Int[Array, "neighbors points"],
    *,
    local_connectivity: Float[Array, ""] | float = 1.0,
    set_op_mix_ratio: Float[Array, ""] | float = 1.0,
) -> FuzzyGraph:
    """The fuzzy graph of data whose neighbors are given, differentiable in the data.

    Args:
        data: One slice.
        neighbors: Each row's nearest rows (euclidean), itself first, as in a `KNN`.
            They are held: which rows are neighbors has no derivative.
        local_connectivity: See `smooth_knn_dist`.
        set_op_mix_ratio: See `fuzzy_simplicial_set`.
    """
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
        problem: Stacked from graphs with the same lists of neighbors.
        graphs: One for each slice, as from `graph_of`.
    """
    weights, degrees = [], []
    linked = problem.degrees > 0
    weighing = jnp.where(
        linked, problem.pulls / jnp.where(linked, problem.degrees, 1), 1
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


class Unrolled(eqx.Module):
    """Derivatives that follow the epochs of a layout back.

    Their memory is that of one epoch and of about 7 sqrt(last) copies of the maps.

    Attributes:
        key: Draws the pairs that repel.
        n_epochs: Epochs of the layout (at least 1).
        last: Epochs to differentiate, counted from the end (1 to `n_epochs`); None for
            all.  With fewer, no derivative reaches the start.
        n_shifts: Shifts that estimate the repulsion; None by size.

    Raises:
        InputError: If a value is out of its range, or the key is missing.
    """

    key: jax.Array
    n_epochs: int = eqx.field(static=True, default=200)
    last: int | None = eqx.field(static=True, default=None)
    n_shifts: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not isinstance(self.key, jax.Array):
            draws = "The unrolled layout draws the pairs that repel."
            raise InputError(
                "key", f"is {self.key!r}", "a key: jax.random.key(0)", draws
            )
        number(1, whole=True)("n_epochs", self.n_epochs)
        number(1, high=self.n_epochs, whole=True, optional=True)("last", self.last)
        number(1, whole=True, optional=True)("n_shifts", self.n_shifts)

    def solve(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps
    ) -> Solution:
        """The maps after the last epoch."""
        shifts = shifts_of(problem, self.n_shifts)
        epochs = (self.n_epochs, self.last or self.n_epochs)
        maps = _unroll(
            problem, params, start, key=self.key, epochs=epochs, n_shifts=shifts
        )
        return Solution(maps, jnp.asarray(jnp.nan, maps.dtype), jnp.asarray(False))


class Implicit(eqx.Module):
    """Derivatives of a minimum of the exact loss (L-BFGS, then Newton steps).

    They need memory for one epoch only.  Those of what does not change when linked
    maps are shifted or turned together are exact; others are those of the layout that
    moves least.

    Attributes:
        tolerance: Largest entry of the gradient of a minimum (loss per map unit); None
            for 1e-8 in double precision and 1e-3 in single.
        max_steps: Steps of the minimizer (at least 1).
        throw: If True, a layout that did not converge raises a RuntimeError; otherwise
            `converged` is False, and the derivatives are not to be trusted.
    """

    tolerance: float | None = None
    max_steps: int = eqx.field(static=True, default=5_000)
    throw: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        number(1, whole=True)("max_steps", self.max_steps)

    def solve(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps
    ) -> Solution:
        """The minimum that a descent from the start leads to."""
        pinned = problem.free.size - problem.free.sum()
        if not isinstance(pinned, Tracer) and pinned:
            raise InputError(
                "problem",
                "has pinned rows, which a minimum would move",
                "none",
                "Use Unrolled.",
            )
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = 1e-8 if start.dtype == jnp.float64 else 1e-3
        solution = _minimum(problem, params, start, tolerance, max_steps=self.max_steps)
        if not self.throw:
            return solution
        message = (
            "the layout did not converge: its gradient is above the tolerance after "
            f"{self.max_steps} steps. Start from a longer layout, raise `max_steps` or "
            "`tolerance`, or use double precision (jax_enable_x64)."
        )
        return eqx.error_if(solution, ~solution.converged, message)


def solve_layout(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    *,
    adjoint: Unrolled | Implicit | str = "unrolled",
    **options: Any,
) -> Solution:
    """Lays a problem out so that the maps can be differentiated.

    With respect to the settings, the graphs' weights and degrees, the mates' strengths
    and, through the graph, the data; unrolled to the start, too.  (Strengths contain a
    Jaccard factor that is piecewise constant: no derivative goes through it.)

    Args:
        problem: The graphs and mates.
        params: The settings that change no shape.
        start: The stacked maps to start from (map units).
        adjoint: `Unrolled(key=...)` or `Implicit()`, with their options.
        **options: Those of the adjoint where it is given by its name, "unrolled" or
            "implicit", as before version 0.2; this is deprecated.

    Raises:
        InputError: If an option is out of its range, or rows are pinned for `Implicit`.
        RuntimeError: If the layout did not converge (`Implicit`, with `throw`).
    """
    if isinstance(adjoint, str):
        adjoint = _named(adjoint, options, problem)
    elif options:
        name = next(iter(options))
        raise InputError(name, "is given beside `adjoint`", "it in `adjoint` itself")
    return adjoint.solve(problem, params, start)


def _named(
    name: str, options: dict[str, Any], problem: AlignedProblem
) -> Unrolled | Implicit:
    """The adjoint as version 0.1 spelt it, where options of the other were ignored."""
    kinds = {"unrolled": Unrolled, "implicit": Implicit}
    if name not in kinds:
        raise InputError("adjoint", f"is {name!r}", "Unrolled(key=...) or Implicit()")
    warn(
        f"adjoint={name!r} and its options are deprecated: give "
        f"adjoint={kinds[name].__name__}(...) from aljax.layout.",
        DeprecationWarning,
    )
    n_shifts, half = options.get("n_shifts"), problem.degrees.shape[1] // 2
    if kinds[name] is Implicit and n_shifts is not None and n_shifts < half:
        exact = "None, for a minimum is one of the exact loss"
        raise InputError("n_shifts", f"is {n_shifts}", exact)
    defaults: dict[str, Any] = {"key": None} if name == "unrolled" else {}
    fields = {field.name for field in dataclasses.fields(kinds[name])}
    chosen = {option: options[option] for option in fields & {*options}}
    return kinds[name](**defaults | chosen)


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
    options = {"key": key, "n_shifts": n_shifts, "optimizer": SMOOTH_ADAM}
    state = init(start, n_epochs=n_epochs, optimizer=SMOOTH_ADAM)
    if last < n_epochs:
        fixed = jax.lax.stop_gradient((problem, params, state))
        state = run(*fixed, n_epochs - last, **options)
        state = jax.lax.stop_gradient(state)

    @jax.checkpoint
    def epoch(state: LayoutState, _: None) -> tuple[LayoutState, None]:
        return step(problem, params, state, **options), None

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


Theta = tuple[AlignedProblem, LayoutParams, Shifts]


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
