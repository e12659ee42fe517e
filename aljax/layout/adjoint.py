"""Derivatives through a layout: data -> graphs -> problem -> maps -> any number.

    graph_of(data) -> reweigh(problem) -> solve_layout(problem, params, start)

Three ways through the layout, in forward and in reverse mode: `Unrolled` differentiates
the epochs of `step`, `Implicit` a minimum of the exact loss, `Anchored` that of a loss
with springs.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from math import isqrt
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from aljax.compilation import check_fork
from aljax.config import number
from aljax.errors import InputError, nearest_name, warn
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.knn import KNN, on_device
from aljax.layout.implicit import Anchored, Implicit, Solution, solve_minimum
from aljax.layout.losses import terms_in
from aljax.layout.minimum import Maps
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
    """Makes the fuzzy graph of data whose neighbors are given, differentiably.

    Args:
        data: One slice.
        neighbors: Each row's nearest rows (euclidean), itself first, as in a `KNN`.
            They are held: which rows are neighbors has no derivative.
        local_connectivity: See `smooth_knn_dist`.
        set_op_mix_ratio: See `fuzzy_simplicial_set`.
    """
    check_fork()
    squared = jnp.sum((data[neighbors] - data) ** 2, axis=-1)
    # Fused with a product that makes the data, equal rows differ by a rounding; they
    # must not be each other's nearest at a positive distance.
    rounding = jnp.finfo(data.dtype).eps ** 2 * jnp.sum(data**2, axis=-1)
    apart = squared > rounding
    distances = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    return fuzzy_simplicial_set(
        KNN(neighbors, distances),
        local_connectivity=local_connectivity,
        set_op_mix_ratio=set_op_mix_ratio,
    )


def reweigh(problem: AlignedProblem, graphs: Sequence[FuzzyGraph]) -> AlignedProblem:
    """Returns the problem with other weights and radii on its edges, differentiably.

    They replace the problem's, and what `y` did to those is lost: stack the problem of
    graphs without it.

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

    Over a finished layout they are a heuristic: they point elsewhere than those of the
    minimum, the more so the more epochs are followed (docs/method.md has figures).
    Use `Implicit` or `Anchored` there, and this for few epochs at a low rate.  Its
    memory is that of one epoch and of about 7 sqrt(last) copies of the maps.

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
        """Returns the maps after the last epoch."""
        shifts = shifts_of(problem, self.n_shifts)
        return self.reached(_unroll(self, problem, params, start, n_shifts=shifts))

    def reached(self, maps: Maps) -> Solution:
        """Returns the solution of maps after the last epoch."""
        unknown = on_device(np.nan, maps.dtype)  # no operation: `debug_nans` lets it be
        return Solution(maps, unknown, jnp.asarray(False), unknown)


Adjoint = Unrolled | Implicit | Anchored


def solve_layout(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    *,
    adjoint: Adjoint | str = "unrolled",
    **options: Any,
) -> Solution:
    """Lays a problem out so that the maps can be differentiated.

    They have derivatives by the settings, the graphs' weights and degrees, the mates'
    strengths and, through the graph, the data; unrolled by the start, too.  (Strengths
    contain a Jaccard factor that is piecewise constant: no derivative goes through it.)

    Args:
        problem: The graphs and mates.
        params: The settings that change no shape.
        start: The stacked maps to start from (map units).
        adjoint: `Implicit()`, `Anchored()` or `Unrolled(key=...)`, with their options;
            "implicit", "anchored" and "unrolled" stand for them.
        **options: Those of the adjoint where it is given by its name, as before
            version 0.2; "unrolled" needs its key here, the others are deprecated.

    Raises:
        InputError: If an option is out of its range, the start is not finite, or the
            curvature of the pairs does not fit into memory.
        RuntimeError: If the layout did not converge, or is a saddle (`Implicit` and
            `Anchored`, with `throw`).
    """
    check_fork()
    if isinstance(adjoint, str):
        adjoint = _named(adjoint, options)
    elif options:
        name = next(iter(options))
        raise InputError(name, "is given beside `adjoint`", "it in `adjoint` itself")
    if isinstance(adjoint, Unrolled):
        return adjoint.solve(problem, params, start)
    return solve_minimum(adjoint, problem, params, start)


def _named(name: str, options: dict[str, Any]) -> Adjoint:
    """Returns the adjoint of a name of version 0.1; others' options are ignored."""
    classes = {"implicit": Implicit, "anchored": Anchored, "unrolled": Unrolled}
    if name not in classes:
        hint = nearest_name(name, [*classes])
        raise InputError("adjoint", f"is {name!r}", "Implicit(), ... or a name", hint)
    if {*options} - {"key"}:
        warn(
            f"options beside adjoint={name!r} are deprecated: give "
            f"adjoint={classes[name].__name__}(...) from aljax.layout.",
            DeprecationWarning,
        )
    defaults: dict[str, Any] = {"key": None} if name == "unrolled" else {}
    fields = {field.name for field in dataclasses.fields(classes[name])}
    chosen = {option: options[option] for option in fields & {*options}}
    return classes[name](**defaults | chosen)


@partial(jax.jit, static_argnames="n_shifts")
def _unroll(
    adjoint: Unrolled,
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    *,
    n_shifts: int,
) -> Maps:
    """Runs epochs in segments of about sqrt(last), of which only starts are kept."""
    n_epochs, last = adjoint.n_epochs, adjoint.last or adjoint.n_epochs
    options = {"key": adjoint.key, "n_shifts": n_shifts, "optimizer": SMOOTH_ADAM}
    recorded = {"optimizer": SMOOTH_ADAM, "terms": terms_in(params)}
    state = init(start, n_epochs=n_epochs, **recorded)
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
