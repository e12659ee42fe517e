"""Newton's method with conjugate gradients in a trust region, matrix-free.

Each step minimizes the quadratic model g.p + p.Hp / 2 within |p| <= radius.  optimistix
has no such method for minima; where the model's decrease is below the rounding of the
value, the decrease is read from the gradients at both ends, -(g + g').p / 2.

Source: Nocedal & Wright (2006), "Numerical Optimization", algorithms 4.1 and 7.2
(Steihaug 1983).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Operator = Callable[[Array], Array]
FORCING = 0.1  # a step's residual by its gradient, at most
FIRST_RADIUS = 0.1  # by the root of the number of coordinates
PRODUCTS = 1_000  # with the second derivative in one step, at most
ENOUGH = 1e-4  # of the decrease that was predicted
ROUNDING = 100  # units in the last place of a value within which it is not trusted


class Solve(NamedTuple):
    """The result of conjugate gradients.

    Attributes:
        step: An approximate solution of H step = -gradient within the radius.
        decrease: That of the model.
        length: That of the step, as M measures.
        lowest: The lowest curvature p.Hp / p.p of the directions it went along.
        products: How many there were, each a product with H.
        residual: |H step + gradient| / |gradient| where it ended.
    """

    step: Array
    decrease: Float[Array, ""]
    length: Float[Array, ""]
    lowest: Float[Array, ""]
    products: Int[Array, ""]
    residual: Float[Array, ""]


class Minimum(NamedTuple):
    """The result of a minimizer.

    Attributes:
        point: The point.
        slope: The largest entry of the gradient there.
        before: And at the start.
        lowest: The lowest curvature that its last step met; NaN without one.
        steps: How many were tried.
    """

    point: Array
    slope: Float[Array, ""]
    before: Float[Array, ""]
    lowest: Float[Array, ""]
    steps: Int[Array, ""]


class Model(NamedTuple):
    """A quadratic model: H, and a metric M about as H is.

    Attributes:
        product: H times a vector; H is symmetric.
        soften: The inverse of M times a vector, M positive definite.
    """

    product: Operator
    soften: Operator


class _Conjugate(NamedTuple):
    step: Array
    residual: Array
    direction: Array
    square: Float[Array, ""]  # the residual's by the inverse of M; by M are
    length: Float[Array, ""]  # the direction's,
    along: Float[Array, ""]  # that of both
    ahead: Float[Array, ""]  # and the step's
    lowest: Float[Array, ""]
    products: Int[Array, ""]
    ended: Bool[Array, ""]


def solve(
    model: Model,
    gradient: Array,
    *,
    rtol: Float[Array, ""] | float,
    max_products: int,
    radius: Float[Array, ""] | float = jnp.inf,
) -> Solve:
    """Returns the step to the minimum of a quadratic model, in a radius as M measures.

    It ends at the radius, and where a direction has no positive curvature: along that
    it goes as far as the radius, or not at all where that is infinite.

    Args:
        model: H and M.
        gradient: That of the model at 0.
        rtol: Norm of the residual to end at, by that of the gradient.
        max_products: Products with H, at most.
        radius: Length of the longest step.
    """
    size = jnp.linalg.norm(gradient)

    def advance(now: _Conjugate) -> _Conjugate:
        bent = model.product(now.direction)
        bending = jnp.vdot(now.direction, bent)
        room = now.along**2 + now.length * (radius**2 - now.ahead)
        edge = (jnp.sqrt(jnp.maximum(room, 0)) - now.along) / now.length
        edge = jnp.where(jnp.isinf(radius), 0.0, edge)
        inner = now.square / bending
        leaves = (bending <= 0) | (jnp.isfinite(radius) & (inner >= edge))
        amount = jnp.where(leaves, edge, inner)
        residual = now.residual + amount * bent
        softened = model.soften(residual)
        square = jnp.vdot(residual, softened)
        turning = square / now.square
        return _Conjugate(
            now.step + amount * now.direction,
            residual,
            turning * now.direction - softened,
            square,
            square + turning**2 * now.length,
            turning * (now.along + amount * now.length),
            now.ahead + amount * (2 * now.along + amount * now.length),
            jnp.minimum(now.lowest, bending / jnp.vdot(now.direction, now.direction)),
            now.products + 1,
            leaves | ~jnp.isfinite(bending),
        )

    def unfinished(now: _Conjugate) -> Bool[Array, ""]:
        left = jnp.linalg.norm(now.residual) > rtol * size
        return left & ~now.ended & (now.products < max_products)

    nothing, none = jnp.zeros((), gradient.dtype), jnp.asarray(0, jnp.int32)
    softened = model.soften(gradient)
    square = jnp.vdot(gradient, softened)
    start = _Conjugate(
        jnp.zeros_like(gradient),
        gradient,
        -softened,
        square,
        square,
        nothing,
        nothing,
        nothing + jnp.inf,
        none,
        jnp.asarray(False),
    )
    end = jax.lax.while_loop(unfinished, advance, start)
    decrease = -jnp.vdot(end.step, gradient + end.residual) / 2
    left = jnp.linalg.norm(end.residual) / jnp.where(size > 0, size, 1)
    length = jnp.sqrt(end.ahead)
    return Solve(end.step, decrease, length, end.lowest, end.products, left)


class _State(NamedTuple):
    point: Array
    value: Float[Array, ""]
    gradient: Array
    radius: Float[Array, ""]
    lowest: Float[Array, ""]
    steps: Int[Array, ""]
    moved: Bool[Array, ""]
    ended: Bool[Array, ""]


def minimize(
    value_and_gradient: Callable[[Array], tuple[Float[Array, ""], Array]],
    model: Callable[[Array], Model],
    start: Array,
    *,
    tolerance: Float[Array, ""] | float,
    rtol: Float[Array, ""] | float,
    max_steps: int,
) -> Minimum:
    """Returns a minimum of a function, from a start.

    It ends with a step from a point within the tolerance that has met no direction
    without positive curvature; a saddle is left along one.

    Args:
        value_and_gradient: Those of the function at a point.
        model: Its second derivative there.
        start: Where to begin.
        tolerance: The largest entry of the gradient to end at.
        rtol: See `solve`, for the last step.
        max_steps: Steps to try, at most.
    """
    root = jnp.sqrt(jnp.asarray(start.size, start.dtype))
    eps = jnp.finfo(start.dtype).eps

    def stuck(now: _State) -> Bool[Array, ""]:
        return (now.steps >= max_steps) | ~(now.radius > eps * root)

    def attempt(now: _State, local: Model) -> _State:
        """Takes one step; where it is no better, the next is shorter."""
        last = jnp.max(jnp.abs(now.gradient)) <= tolerance
        forcing = jnp.minimum(FORCING, jnp.sqrt(jnp.linalg.norm(now.gradient) / root))
        solved = solve(
            local,
            now.gradient,
            rtol=jnp.where(last, rtol, forcing),
            max_products=PRODUCTS,
            radius=now.radius,
        )
        point = now.point + solved.step
        value, gradient = value_and_gradient(point)
        rough = solved.decrease < ROUNDING * eps * jnp.abs(now.value)
        by_slopes = -jnp.vdot(solved.step, now.gradient + gradient) / 2
        ratio = jnp.where(rough, by_slopes, now.value - value) / solved.decrease
        better = ratio > ENOUGH  # False for NaN
        wider = jnp.maximum(now.radius, 2 * solved.length)
        radius = jnp.where(ratio > 0.75, wider, now.radius)
        radius = jnp.where(ratio > 0.25, radius, solved.length / 4)
        return _State(
            jnp.where(better, point, now.point),
            jnp.where(better, value, now.value),
            jnp.where(better, gradient, now.gradient),
            radius,
            solved.lowest,
            now.steps + 1,
            better,
            last & (solved.lowest > 0),
        )

    def advance(now: _State) -> _State:
        local = model(now.point)  # once for all attempts
        return jax.lax.while_loop(
            lambda now: ~now.moved & ~now.ended & ~stuck(now),
            lambda now: attempt(now, local),
            now._replace(moved=jnp.asarray(False)),
        )

    def unfinished(now: _State) -> Bool[Array, ""]:
        return ~now.ended & ~stuck(now)

    none, nothing = jnp.asarray(0, jnp.int32), jnp.asarray(jnp.nan, start.dtype)
    radius = jnp.asarray(FIRST_RADIUS, start.dtype) * root
    yes = jnp.asarray(True)
    first = _State(start, *value_and_gradient(start), radius, nothing, none, yes, ~yes)
    end = jax.lax.while_loop(unfinished, advance, first)
    slope, before = (jnp.max(jnp.abs(state.gradient)) for state in (end, first))
    return Minimum(end.point, slope, before, end.lowest, end.steps)
