"""Derivatives through a layout: data -> graphs -> problem -> maps -> any number.

    graph_of(data) -> reweigh(problem) -> solve_layout(problem, params, start)

Two ways through the layout, in forward and in reverse mode: `Unrolled` differentiates
the epochs of `step`, `Implicit` a minimum of the exact loss.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from math import isqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from aljax.config import number
from aljax.errors import InputError, warn
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.knn import KNN
from aljax.layout.losses import terms_in
from aljax.layout.minimum import Maps, Solution, minimum
from aljax.layout.optimize import LayoutState, init, run, shifts_of, step
from aljax.layout.problem import AlignedProblem, LayoutParams

# The root of a second moment that is 0, as that of padding, would have no derivative.
SMOOTH_ADAM = optax.scale_by_adam(b1=0.5, b2=0.9, eps_root=1e-16)


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
    """The problem with other weights and radii on the same edges, differentiable.

    Args:
        problem: Stacked from graphs with the same lists of neighbors.
        graphs: One for each slice, as from `graph_of`.
    """
    dense = problem.radii is not None
    names = ("degrees", "radii") if dense else ("degrees",)
    weights, of_points = [], []
    linked = problem.degrees > 0
    weighing = jnp.where(
        linked, problem.pulls / jnp.where(linked, problem.degrees, 1), 1
    )
    for t, graph in enumerate(graphs):
        size, entries = graph.degrees.shape[0], graph.neighbors.shape[0] - 1
        rows = problem.order[t, :size]
        blank = jnp.zeros(problem.weights.shape[1:], graph.weights.dtype)
        weights.append(blank.at[:entries, :size].set(graph.weights[1:, rows]))
        values = jnp.stack([getattr(graph, name)[rows] for name in names])
        of_points.append(jnp.pad(values, ((0, 0), (0, blank.shape[1] - size))))
    stacked = dict(zip(names, jnp.stack(of_points, axis=1), strict=True))
    changed = {"weights": jnp.stack(weights), "pulls": stacked["degrees"] * weighing}
    return dataclasses.replace(problem, **stacked, **changed)


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
        if params.space is not None:
            got = f"lie in the space {params.space[0]!r}"
            raise InputError("params", got, "Euclidean maps", "Use Unrolled.")
        tolerance = self.tolerance
        if tolerance is None:
            tolerance = 1e-8 if start.dtype == jnp.float64 else 1e-3
        solution = minimum(problem, params, start, tolerance, max_steps=self.max_steps)
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
    kinds = {"optimizer": SMOOTH_ADAM, "terms": terms_in(params)}
    state = init(start, n_epochs=n_epochs, **kinds)
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
