"""Derivatives of a layout that is a minimum: of the exact loss, or of an anchored one.

Both settle the start by more epochs at a low rate, find the minimum by Newton's method
(`layout.newton`) and give it the derivative of the implicit function theorem
(`layout.minimum`).
"""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from aljax.checks import Check, number
from aljax.errors import InputError
from aljax.layout.leaves import cut
from aljax.layout.losses import terms_in
from aljax.layout.minimum import (
    Anchor,
    Maps,
    Minimum,
    Theta,
    find_minimum,
    following,
    moving,
    slope,
    without_lost,
)
from aljax.layout.optimize import init, run, shifts_of
from aljax.layout.problem import AlignedProblem, LayoutParams

HIGH, LOW = 3.0, 0.3  # of the rate, in epochs that seek a minimum or an anchor
DESCENT = 600  # steps along the gradient that follow them, at most
RATE = 0.1  # of these, in map units
MEMORY = 8 * 2**30  # bytes
DESCENDING = optax.scale_by_adam(b1=0.9, b2=0.99)


class Solution(eqx.Module):
    """A layout to differentiate.

    Attributes:
        maps: The layout, stacked (map units).
        slope: The largest entry of the gradient of its loss there (loss per map unit);
            NaN where the epochs were unrolled.
        converged: True where that is below the tolerance; False where it is not, or
            was not asked.
        curvature: The lowest curvature that conjugate gradients met there (loss per
            square map unit): at or below 0 the layout is a saddle, whose derivatives
            say nothing.  NaN where the epochs were unrolled.
    """

    maps: Maps
    slope: Float[Array, ""]
    converged: Bool[Array, ""]
    curvature: Float[Array, ""]


def _option(name: str, default: float, check: Check, *, static: bool = False) -> Any:
    """Makes a field that checks its number, unless it is traced.

    One that is not static is a leaf of a tree: another number recompiles nothing.
    """

    def converted(value: Any) -> Any:
        if isinstance(value, jax.Array):
            return value
        check(name, value)
        return value if static else np.float64(value)

    return eqx.field(default=default, converter=converted, static=static)


class Search(eqx.Module):
    """These options say how a minimum and its derivatives are found.

    Attributes:
        tolerance: Largest entry of the gradient of a minimum (loss per map unit, above
            0).
        rtol: Residual of the linear systems of the derivatives, by their right-hand
            sides (above 0).
        settle: Epochs before the search (at least 0).  A fifth as many steps along the
            gradient of the whole loss follow, at most 600.
        max_steps: Newton steps (at least 1).
        memory: Bytes that the curvature of the pairs may take.
        throw: If True, a layout that did not converge, or that has a direction without
            positive curvature, raises a RuntimeError; under `jit`, where nothing can be
            raised, its maps and derivatives are NaN.  If False, `converged` and
            `curvature` say so, and the maps are those at which the search ended.
    """

    tolerance: float = _option("tolerance", 1e-3, number(0, open_low=True))
    rtol: float = _option("rtol", 1e-3, number(0, open_low=True))
    settle: int = _option("settle", 3_000, number(0, whole=True), static=True)
    max_steps: int = _option("max_steps", 2_000, number(1, whole=True), static=True)
    memory: int = _option("memory", MEMORY, number(1, whole=True), static=True)
    throw: bool = eqx.field(static=True, default=True)

    def theta(self, problem: AlignedProblem, params: LayoutParams) -> Theta:
        """Returns all that the minimum depends on."""
        return Theta(without_lost(problem), params, None)

    def _settled(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps, *, rate: float
    ) -> Maps:
        if not self.settle:
            return start
        pace = {"epochs": self.settle, "rate": rate, "shifts": shifts_of(problem)}
        return settled(problem, params, start, **pace)

    def _descended(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps
    ) -> Maps:
        steps = min(self.settle // 5, DESCENT)
        return descended(self.theta(problem, params), start, steps) if steps else start


class Implicit(Search):
    """Derivatives of a minimum of the exact loss, over all pairs.

    Those of what does not change when linked maps are shifted or turned together are
    exact; others are those of the layout that moves least.  Pinned rows stay, and so
    do rows without an edge, which no minimum holds, and which act on no others.  It
    stores the curvature of each pair, 4 numbers for two components, or for slices of n
    rows about 9 n^2 numbers with what makes them.

    Attributes:
        settle: See `Search`; these epochs begin at 3 times the rate.
    """

    settle: int = _option("settle", 10_000, number(0, whole=True), static=True)

    def at(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps
    ) -> tuple["Implicit", Maps]:
        """Checks that the pairs fit into memory, and settles the start."""
        slices, _, points = start.shape
        check_memory("problem", slices * points**2, start, self.memory)
        start = self._settled(problem, params, start, rate=HIGH)
        return self, self._descended(problem, params, start)


class Anchored(Search):
    """Derivatives of a layout that springs hold at a constant one, for larger sizes.

    It is the minimum of L + ridge / 2 |Y - Yc|^2, Yc being the settled start, with the
    repulsion of points that are near in Yc one by one, and of others by the means of
    small leaves of them.  Its derivatives are exact for that; those of the exact
    minimum they resemble where the springs are weak, and the less the more local a
    measure is.  It stores 4 numbers for each pair of near points and of leaves, of
    which there are about 500 for each of 35,000 points.

    Attributes:
        ridge: Stiffness of the springs (loss per square map unit, at least 0).  At 0
            nothing holds the maps as a whole: their curvature is 0 but for rounding,
            which may be below 0 and then passes for a saddle.
        near: Distance up to which leaves are near, by the root of the sum of their
            variances (at least 0).
        anchor: Yc and its leaves, as `at` makes them; None to make them on the host,
            which `jit` and `vmap` over problem, settings or start do not allow.
    """

    ridge: float = _option("ridge", 0.1, number(0))
    near: float = _option("near", 5.0, number(0), static=True)
    anchor: Anchor | None = None

    def at(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps
    ) -> tuple["Anchored", Maps]:
        """Returns the same with its anchor, and the layout to start from.

        Raises:
            InputError: If it is traced, or the pairs do not fit into memory.
        """
        if self.anchor is not None:
            return self, start
        start = self._settled(problem, params, start, rate=LOW)
        if any(isinstance(leaf, Tracer) for leaf in (start, *jax.tree.leaves(problem))):
            remedy = "Make it before: adjoint, _ = adjoint.at(problem, params, start)."
            raise InputError("adjoint", "has no anchor, in a trace", "one", remedy)
        check = partial(check_memory, "near", maps=start, memory=self.memory)
        leaves = cut(np.asarray(start), np.asarray(problem.n_points), self.near, check)
        anchored = dataclasses.replace(self, anchor=Anchor(start, leaves))
        return anchored, anchored._descended(problem, params, start)

    def theta(self, problem: AlignedProblem, params: LayoutParams) -> Theta:
        """Returns all that the minimum depends on."""
        assert self.anchor is not None
        ridge = jnp.asarray(self.ridge, self.anchor.center.dtype)
        return Theta(problem, params, self.anchor, ridge)


def check_memory(name: str, pairs: int, maps: Maps, memory: int) -> None:
    """Checks that the curvature of pairs fits into memory, with what makes it.

    Raises:
        InputError: It does not; the message says the bytes.
    """
    components = maps.shape[1]
    needed = pairs * (components**2 + components + 3) * maps.dtype.itemsize
    if needed > memory:
        got = f"has pairs whose curvature takes about {needed:,} bytes"
        remedy = "Raise `memory`, lower `near`, or use Anchored instead of Implicit."
        raise InputError(name, got, f"at most `memory`, {memory:,} bytes", remedy)


@partial(jax.jit, static_argnames=("epochs", "shifts"))
def settled(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    *,
    epochs: int,
    rate: float | Float[Array, ""],
    shifts: int,
) -> Maps:
    """Returns the maps after more epochs, at `rate` times the layout's own."""
    paced = eqx.tree_at(lambda p: p.learning_rate, params, rate * params.learning_rate)
    held = eqx.tree_at(lambda p: p.free, problem, moving(problem).astype(start.dtype))
    state = init(start, n_epochs=epochs, terms=terms_in(params))
    return run(held, paced, state, epochs, key=jax.random.key(0), n_shifts=shifts).maps


@jax.jit
def descended(theta: Theta, start: Maps, steps: int | Int[Array, ""]) -> Maps:
    """Returns maps after steps along the gradient of their loss, at a falling rate."""
    moves = moving(theta.problem)[:, None]

    def step(count: Array, state: tuple[Maps, Any]) -> tuple[Maps, Any]:
        maps, moments = state
        updates, moments = DESCENDING.update(slope(theta, maps) * moves, moments)
        rate = RATE * (1 - count / steps) ** 2
        return maps - rate * moves * jnp.asarray(updates), moments

    return jax.lax.fori_loop(0, steps, step, (start, DESCENDING.init(start)))[0]


def solve_minimum(
    adjoint: Implicit | Anchored,
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
) -> Solution:
    """Returns the minimum that a search from the start finds, with its derivative."""
    frozen: Any = jax.lax.stop_gradient((problem, params, start))
    check_start(frozen[2], params)
    ready, begun = adjoint.at(*frozen)
    theta = ready.theta(problem, params)
    fixed: Any = jax.lax.stop_gradient(theta)
    rtol = jnp.asarray(adjoint.rtol, start.dtype)
    limits: Any = {"tolerance": adjoint.tolerance, "max_steps": adjoint.max_steps}
    minimum = find_minimum(fixed, begun, rtol=rtol, **limits)
    minimum = jax.lax.stop_gradient(minimum)
    converged = minimum.slope < adjoint.tolerance
    point = minimum.point
    if adjoint.throw:
        raise_unless_minimum(adjoint, minimum)
        point = jnp.where(converged & (minimum.lowest > 0), point, jnp.nan)
    maps = following(point, theta, rtol)
    return Solution(maps, minimum.slope, converged, minimum.lowest)


def check_start(start: Maps, params: LayoutParams) -> None:
    """Checks that a start is Euclidean, and finite where it is not traced."""
    if params.space is not None:
        got = f"lie in the space {params.space[0]!r}"
        raise InputError("params", got, "Euclidean maps", "Use Unrolled.")
    if not isinstance(start, Tracer) and not np.isfinite(start).all():
        raise InputError(
            "start", "has entries that are not finite", "a finished layout"
        )


def raise_unless_minimum(adjoint: Implicit | Anchored, minimum: Minimum) -> None:
    """Raises if a search ended elsewhere, where its results are not traced."""
    if isinstance(minimum.slope, Tracer):
        return
    ended, before = float(minimum.slope), float(minimum.before)
    if not ended < adjoint.tolerance:
        raise RuntimeError(
            f"the layout did not converge: the largest entry of its gradient is "
            f"{ended:.2g} after {int(minimum.steps)} steps and was {before:.2g} at the "
            f"settled start, above `tolerance`, {adjoint.tolerance:g}. Raise `settle`, "
            "`max_steps` or `tolerance`, or use double precision (jax_enable_x64), or "
            "Anchored."
        )
    raise_unless_positive(float(minimum.lowest))


def raise_unless_positive(lowest: float) -> None:
    """Raises if conjugate gradients met a direction without positive curvature."""
    if not lowest > 0:
        raise RuntimeError(
            f"the layout is a saddle: its loss has a curvature of {lowest:.2g} along a "
            "direction, so it has no derivatives. Lower `tolerance`, raise `settle`, "
            "or use Anchored with a larger `ridge`."
        )


def __getattr__(name: str) -> Any:
    """The functions that had their home here before version 0.2."""
    if name in ("graph_of", "reweigh", "solve_layout"):
        from aljax.layout import adjoint

        return getattr(adjoint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
