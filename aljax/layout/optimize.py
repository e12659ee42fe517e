"""The layout: a problem and a start in, optimised maps out.

    y <- y - rate (1 - epoch / n_epochs)^2 u(grad L)

where u is an optax update rule, Adam by default.  `step` is one epoch; `run` is a
loop of steps with bounds that are no part of its compilation, so a run in chunks
of any length has the same bits as an unbroken one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from aljax.layout.losses import LossTerms, aligned_loss, draw_shifts
from aljax.layout.mesh import whole
from aljax.layout.problem import AlignedProblem, LayoutParams

RECORD_EVERY = 10  # epochs; the value costs a third of what the gradient does
# Made once: a transformation made anew for every call would compile anew.
ADAM = optax.scale_by_adam(b1=0.5, b2=0.9)


class LayoutState(eqx.Module):
    """What an epoch hands to the next, and the loss terms recorded so far.

    `history` has a row for every tenth epoch from the first on.
    """

    maps: Float[Array, "slices components points"]
    moments: optax.OptState
    epoch: Int[Array, ""]
    n_epochs: Int[Array, ""]
    history: LossTerms

    def recorded(self) -> int:
        """How many rows of `history` are filled."""
        return -(-int(self.epoch) // RECORD_EVERY)


def default_shifts(points: int, total: int) -> int:
    """How many shifts estimate the repulsion well enough for slices of some size.

    Few steps, so that near sizes share a compiled program.  More points take more
    shifts, as long as an epoch stays cheap.

    Args:
        points: The largest slice.
        total: All slices together.
    """
    if points <= 2_000:
        return 40
    if total <= 10_000:
        return 64
    return 16 if points <= 20_000 else 6


def default_epochs(points: int) -> int:
    """How many epochs lay slices of some size out well.

    Args:
        points: The largest slice.
    """
    return 350 if points <= 20_000 else 250


def init(
    maps: Float[Array, "slices components points"],
    *,
    n_epochs: int,
    optimizer: optax.GradientTransformation = ADAM,
) -> LayoutState:
    """The state before the first of `n_epochs` epochs."""
    records = -(-n_epochs // RECORD_EVERY)
    blank = jnp.asarray(np.zeros((records, maps.shape[0]), maps.dtype))
    return LayoutState(
        maps=maps,
        moments=optimizer.init(maps),
        epoch=jnp.asarray(np.int32(0)),
        n_epochs=jnp.asarray(np.int32(n_epochs)),
        history=LossTerms(blank, blank, blank),
    )


def step(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    *,
    key: jax.Array,
    n_shifts: int,
    optimizer: optax.GradientTransformation = ADAM,
) -> LayoutState:
    """One epoch: draw the pairs that repel, and follow the gradient.

    Args:
        problem: The graphs and mates.
        params: The settings that change no shape.
        state: The maps so far.
        key: The run's key; the epoch's own is folded from it.
        n_shifts: Shifts that estimate the repulsion.
        optimizer: An optax transformation without a learning rate.
    """
    epoch_key = jax.random.fold_in(key, state.epoch)
    shifts = draw_shifts(epoch_key, problem.n_points, n_shifts=n_shifts)

    def terms(maps: Array) -> LossTerms:
        return aligned_loss(maps, problem, params, shifts)

    def record() -> LossTerms:
        row = state.epoch // RECORD_EVERY
        return jax.tree.map(
            lambda past, now: past.at[row].set(now), state.history, terms(state.maps)
        )

    gradient = jax.grad(lambda maps: terms(maps).total())(state.maps)
    updates, moments = optimizer.update(gradient, state.moments, state.maps)
    rate = params.learning_rate * (1 - state.epoch / state.n_epochs) ** 2
    # Pinned points are held here: then any optimizer leaves them alone.
    lengths = rate[:, None, None] * problem.free[:, None, :]
    maps = whole(state.maps - lengths * jnp.asarray(updates))
    due = state.epoch % RECORD_EVERY == 0
    history = jax.lax.cond(due, record, lambda: state.history)
    return LayoutState(maps, moments, state.epoch + 1, state.n_epochs, history)


@partial(jax.jit, static_argnames=("n_shifts", "optimizer"))
def run(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    stop: Int[Array, ""] | int,
    *,
    key: jax.Array,
    n_shifts: int,
    optimizer: optax.GradientTransformation = ADAM,
) -> LayoutState:
    """Epochs from the state's own up to `stop`.

    Args:
        problem: The graphs and mates.
        params: The settings that change no shape.
        state: The maps so far.
        stop: The epoch to stop before (at most the state's `n_epochs`).
        key: The run's key, the same for every chunk.
        n_shifts: Shifts that estimate the repulsion.
        optimizer: An optax transformation without a learning rate; a new object
            compiles anew.
    """

    def epoch(_: Int[Array, ""], state: LayoutState) -> LayoutState:
        return step(
            problem, params, state, key=key, n_shifts=n_shifts, optimizer=optimizer
        )

    return jax.lax.fori_loop(state.epoch, stop, epoch, state)


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
