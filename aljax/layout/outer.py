"""The gradient of a loss of a layout by what the layout depends on.

    d outer(Y(x)) / dx = -<H^+ d outer / dY, d^2 L / dY dx>,   H = d^2 L / dY^2.

`of` is x, any tree of arrays; `through` puts it into the problem and the settings.
Ready ones are `coupling_weights`, `min_dists`, and the rows of data that a module
encodes or that weights of columns scale (`Encoded`).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from aljax.checks import is_listed
from aljax.config import PerSliceFloat, per_slice
from aljax.curve import STEPS
from aljax.errors import InputError, instance
from aljax.layout.adjoint import Unrolled, graph_of, reweigh, solve_layout
from aljax.layout.implicit import (
    Anchored,
    Implicit,
    Solution,
    check_start,
    raise_unless_positive,
    solve_minimum,
)
from aljax.layout.minimum import Maps, Theta, loss, newton_step
from aljax.layout.problem import AlignedProblem, LayoutParams

Pieces = tuple[AlignedProblem, LayoutParams]
Through = Callable[..., Pieces]  # of the problem, the settings and `of`


class Hypergradient(eqx.Module):
    """A gradient through a layout.

    Attributes:
        value: The outer loss.
        gradient: A tree as `of`.
        solution: The layout.
        curvature: The lowest curvature that the adjoint's conjugate gradients met (loss
            per square map unit); NaN where the epochs were unrolled.
        residual: The residual of the adjoint's linear system, by its right-hand side;
            NaN where the epochs were unrolled.
        products: How many products with the second derivative the adjoint took.
    """

    value: Float[Array, ""]
    gradient: Any
    solution: Solution
    curvature: Float[Array, ""]
    residual: Float[Array, ""]
    products: Int[Array, ""]


def settings(problem: AlignedProblem, params: LayoutParams, of: Any) -> Pieces:
    """Puts settings in the place of the others."""
    del params
    return problem, of


def hypergradient(
    outer_loss: Callable[[Maps], Float[Array, ""]],
    problem: AlignedProblem,
    params: LayoutParams,
    *,
    start: Maps,
    of: Any = None,
    through: Through = settings,
    adjoint: Implicit | Anchored | Unrolled = Implicit(),
) -> Hypergradient:
    """Returns the gradient of a layout's loss by its settings, graphs or data.

    Args:
        outer_loss: A function of the stacked maps; one that does not change when the
            maps are shifted or turned together has an exact gradient.
        problem: The graphs and mates.
        params: The settings that change no shape.
        start: The stacked maps to start from (map units), such as a finished layout.
        of: The tree of arrays to differentiate by; None for `params`.
        through: A function of the problem, the settings and `of` that returns both
            with `of` put in.
        adjoint: How to differentiate, see `solve_layout`.

    Raises:
        InputError: As `solve_layout`.
        RuntimeError: If the layout did not converge, or it is a saddle (with `throw`).
    """
    of = params if of is None else of
    instance("adjoint", adjoint, Implicit | Anchored | Unrolled, "Implicit()")
    if isinstance(adjoint, Unrolled):
        unrolled = _unrolled(outer_loss, through, of, (problem, params, start), adjoint)
        value, gradient, maps = unrolled
        solution = adjoint.reached(maps)
        unknown, none = solution.curvature, jnp.asarray(0, jnp.int32)
        return Hypergradient(value, gradient, solution, unknown, unknown, none)
    pieces = through(problem, params, of)
    check_start(start, params)
    prepared, begun = adjoint.at(*pieces, start)
    ready = dataclasses.replace(prepared, settle=0)
    solution = solve_minimum(ready, *pieces, begun)
    value, gradient, solved = _adjoint(
        outer_loss, through, of, (problem, params), ready, solution.maps
    )
    if adjoint.throw and not isinstance(solved.lowest, Tracer):
        raise_unless_positive(float(solved.lowest))
    return Hypergradient(
        value, gradient, solution, solved.lowest, solved.residual, solved.products
    )


@eqx.filter_jit
def _adjoint(
    outer_loss: Any, through: Any, of: Any, pieces: Pieces, ready: Any, maps: Maps
) -> Any:
    value, force = jax.value_and_grad(outer_loss)(maps)
    theta = ready.theta(*through(*pieces, of))
    solved = newton_step(theta, maps, force, ready.rtol)
    sound = (solved.lowest > 0) | (not ready.throw)
    step = jnp.where(sound, solved.step, jnp.nan)

    def along(of: Any) -> Float[Array, ""]:
        theta: Theta = ready.theta(*through(*pieces, of))
        return jax.jvp(partial(loss, theta), (maps,), (step,))[1]

    return value, eqx.filter_grad(along)(of), solved


@eqx.filter_jit
def _unrolled(
    outer_loss: Any, through: Any, of: Any, pieces: Any, adjoint: Unrolled
) -> Any:
    problem, params, start = pieces

    def value(of: Any) -> tuple[Float[Array, ""], Maps]:
        graphs, settings = through(problem, params, of)
        maps = solve_layout(graphs, settings, start, adjoint=adjoint).maps
        return outer_loss(maps), maps

    (reached, maps), gradient = eqx.filter_value_and_grad(value, has_aux=True)(of)
    return reached, gradient, maps


def coupling_weights(
    problem: AlignedProblem, params: LayoutParams, weights: Float[Array, "..."]
) -> Pieces:
    """Weighs the pull between mates, beside `alignment_regularisation`.

    Args:
        problem: The graphs and mates.
        params: The settings.
        weights: One for each slice's mates in later slices, `(slices,)`; for each pair
            of slices, `(slices, offsets)`; or for each coupling, as `strengths`.

    Raises:
        InputError: If the weights have another shape.
    """
    shape = problem.strengths.shape
    if weights.shape != shape[: weights.ndim]:
        shapes = f"{shape[:1]}, {shape[:2]} or {shape}"
        raise InputError("weights", f"has shape {weights.shape}", shapes)
    weights = weights.reshape(*weights.shape, *[1] * (len(shape) - weights.ndim))
    pulled = problem.strengths * weights
    return eqx.tree_at(lambda p: p.strengths, problem, pulled), params


def min_dists(
    problem: AlignedProblem,
    params: LayoutParams,
    values: Float[Array, "slices"],
    spread: Float[Array, ""] | float = 1.0,
) -> Pieces:
    """Puts the curves of `min_dist`, one for each slice (0 to `spread`), in place."""
    curves = jax.vmap(curve_of, in_axes=(0, None))(values, spread)
    return problem, eqx.tree_at(lambda p: (p.a, p.b), params, curves)


def curve_of(
    min_dist: Float[Array, ""], spread: Float[Array, ""] | float = 1.0
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns a and b as `find_ab_params` fits them, differentiable.

    Args:
        min_dist: Distance up to which points count as together (map units, 0 to
            `spread`).
        spread: Scale of the curve (map units, above 0).
    """
    distance = jnp.linspace(0, 3, 300, dtype=jnp.result_type(float))[1:]

    def errors(logs: Array, near: Array) -> Array:
        curve = jax.nn.sigmoid(-logs[0] - 2 * jnp.exp(logs[1]) * jnp.log(distance))
        return curve - jnp.exp(-jnp.maximum(distance - near, 0))

    def fitted(_: Any, logs: Array) -> Array:
        wrong, bent = errors(logs, held), jax.jacfwd(errors)(logs, held)
        return logs - jnp.linalg.solve(bent.T @ bent, bent.T @ wrong)

    near = min_dist / spread
    held = jax.lax.stop_gradient(near)
    logs = jax.lax.fori_loop(0, STEPS, fitted, jnp.zeros_like(distance[:2]))
    logs = jax.lax.stop_gradient(logs)
    # One step of Newton's method has the derivative of the root that it stands at.
    square = partial(lambda near, logs: jnp.sum(errors(logs, near) ** 2), near)
    logs = logs - jnp.linalg.solve(jax.hessian(square)(logs), jax.grad(square)(logs))
    a, b = jnp.exp(logs)
    return a * spread ** (-2 * b), b


def _per_slice(default: float) -> Any:
    def hashable(value: Any) -> Any:
        return tuple(value) if is_listed(value) else value

    return eqx.field(static=True, default=default, converter=hashable)


class Encoded(eqx.Module):
    """Rows of data that a module encodes, or that weights of columns scale.

    Attributes:
        data: The rows of each slice.
        neighbors: Of each slice the nearest rows as they are encoded now, themselves
            first, as in a `KNN`; they are held.
        local_connectivity: As in the `GraphConfig` of the problem (per slice).
        set_op_mix_ratio: The same.
    """

    data: list[Float[Array, "_ features"]]
    neighbors: list[Int[Array, "neighbors _"]]
    local_connectivity: PerSliceFloat = _per_slice(1.0)
    set_op_mix_ratio: PerSliceFloat = _per_slice(1.0)

    def __call__(
        self, problem: AlignedProblem, params: LayoutParams, of: Any
    ) -> Pieces:
        """Puts the graphs of encoded rows in place: `of`, or `of[t]`, encodes them."""
        count = len(self.data)
        each = of if isinstance(of, list) else [of] * count
        names = ("local_connectivity", "set_op_mix_ratio")
        listed = (per_slice(name, getattr(self, name), count) for name in names)
        graphs = [
            graph_of(encode(rows), near, **dict(zip(names, values, strict=True)))
            for encode, rows, near, *values in zip(
                each, self.data, self.neighbors, *listed, strict=True
            )
        ]
        return reweigh(problem, graphs), params

    def columns(
        self, problem: AlignedProblem, params: LayoutParams, weights: Any
    ) -> Pieces:
        """Puts the graphs of rows times a weight for each column in place."""
        return self(problem, params, lambda rows: rows * weights)
