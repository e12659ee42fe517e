"""Many layouts side by side: `run`, mapped over rows that differ in array leaves."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from aljax.layout.optimize import LayoutState, run
from aljax.layout.problem import AlignedProblem, LayoutParams


def run_together(
    problems: Sequence[AlignedProblem],
    params: Sequence[LayoutParams],
    states: Sequence[LayoutState],
    *,
    keys: Sequence[jax.Array],
    n_shifts: int,
    size: int,
) -> list[LayoutState]:
    """Lay several rows out at once, each to its last epoch.

    Args:
        problems: The graphs and mates of each row, of the same shapes.
        params: The settings of each row.
        states: What each row starts from; all at the same epoch of as many.
        keys: The key of each row.
        n_shifts: Shifts that estimate the repulsion.
        size: Rows that the program holds: fewer are filled up with the last.  1 is
            the program of a single layout, and has its bits.
    """
    n_epochs = states[0].n_epochs
    if int(n_epochs) == 0:  # their history has no row that an epoch could fill
        return [*states]
    if size == 1:
        own = {"key": keys[0], "n_shifts": n_shifts}
        return [run(problems[0], params[0], states[0], n_epochs, **own)]
    filled = [min(place, len(states) - 1) for place in range(size)]
    stacked = _stacked([states[place] for place in filled])
    ended = run_rows(
        _stacked([problems[place] for place in filled]),
        _stacked([params[place] for place in filled]),
        eqx.tree_at(_clock, stacked, _clock(states[0])),
        n_epochs,
        jnp.stack([keys[place] for place in filled]),
        n_shifts=n_shifts,
    )
    moving = jax.device_get((ended.maps, ended.moments, ended.history))
    return [
        _of_row(row, moving, (ended.epoch, ended.n_epochs))
        for row in range(len(states))
    ]


def _of_row(row: int, moving: Any, clock: tuple[Array, Array]) -> LayoutState:
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf[row]), moving)
    maps, moments, history = own
    return LayoutState(maps, moments, *clock, history)


def _stacked(trees: Sequence[Any]) -> Any:
    """By NumPy: eager JAX would compile for every number of rows."""
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *trees)


def _clock(state: LayoutState) -> tuple[Any, Any]:
    return state.epoch, state.n_epochs


@partial(jax.jit, static_argnames="n_shifts")
def run_rows(
    problems: AlignedProblem,
    params: LayoutParams,
    states: LayoutState,
    stop: Int[Array, ""],
    keys: Array,
    *,
    n_shifts: int,
) -> LayoutState:
    """`run` over rows whose arrays stand along a first axis, in step with each other.

    The epoch is one number for all rows: mapped, it would turn the branch that
    records the loss into one that is always taken.
    """
    axes = eqx.tree_at(_clock, jax.tree.map(lambda _: 0, states), (None, None))

    def one(
        problem: AlignedProblem, own: LayoutParams, state: LayoutState, key: Array
    ) -> LayoutState:
        return run(problem, own, state, stop, key=key, n_shifts=n_shifts)

    return jax.vmap(one, in_axes=(0, 0, axes, 0), out_axes=axes)(
        problems, params, states, keys
    )


def bytes_of_row(problem: AlignedProblem, *, components: int, n_shifts: int) -> int:
    """About how much memory one row of a chunk takes while it is laid out.

    The problem itself, and what the gradient of an epoch holds at once: some numbers
    for each neighbour, mate and shift of every point.  It follows what XLA reports
    for its program on CPUs.

    Args:
        problem: The stacked graphs and mates.
        components: Dimensions of the maps.
        n_shifts: Shifts that estimate the repulsion.
    """
    own = sum(leaf.nbytes for leaf in jax.tree.leaves(problem))
    neighbors, offsets = problem.neighbors.shape[1], problem.mates.shape[1]
    held = neighbors * (2 * components + 5) + n_shifts * (2 * components + 3)
    held += offsets * problem.mates.shape[2] * (4 * components + 4) + 5 * components
    return int(own + held * problem.degrees.nbytes)
