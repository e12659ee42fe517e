"""Derivatives through a finished layout.

Unrolled: reverse mode through the epochs that led to it.  Implicit: at a layout Y
where the gradient of the exact loss L vanishes,

    dY = -H^+ (d^2 L / dY d theta) dtheta,     H = d^2 L / dY^2,

solved by conjugate gradients with the directions in which L is flat, common shifts
and rotations of slices that are linked, projected out.

Source: Krantz & Parks (2013), "The Implicit Function Theorem"; the nested
checkpoints of the unrolled derivative: Griewank & Walther (2008), chapter 12.
"""

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import optimistix
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from aljax.layout.curvature import Flat, Maps, flat_directions, newton_step, project
from aljax.layout.losses import Shifts, aligned_loss, draw_shifts
from aljax.layout.optimize import LayoutState, default_shifts, init, run, step
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.watch import watch

# The root of a second moment that is 0, as that of padding, would have no derivative.
SMOOTH_ADAM = optax.scale_by_adam(b1=0.5, b2=0.9, eps_root=1e-16)
NEWTON_STEPS = 30
HALVINGS = 8
MEASURE = "measure of the maps"


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
    slices, points = problem.degrees.shape
    if adjoint == "unrolled":
        last = n_epochs if last is None else last
        _check_unrolled(key, n_epochs, last)
        assert key is not None
        shifts = n_shifts or default_shifts(points, slices * points)
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
