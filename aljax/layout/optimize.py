"""The layout: a problem and a start in, optimized maps out.

    y <- y - rate (1 - epoch / n_epochs)^2 u(grad L)

where u is an optax update rule, Adam by default.  `step` is one epoch; `run` is a
loop of steps with bounds that are no part of its compilation, so a run in chunks
of any length has the same bits as an unbroken one.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from aljax.compilation import check_fork
from aljax.config import LayoutConfig
from aljax.errors import LARGEST, InputError
from aljax.graph.knn import on_device, zeros_of
from aljax.keys import as_keys, as_numbers
from aljax.layout.losses import LossTerms
from aljax.layout.objective import aligned_loss, check_terms, in_epoch
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.shifts import CHUNK, Shifts, draw_shifts

RECORD_EVERY = 10  # epochs; the value costs as much as the gradient, or more
RECORDS = 100  # rows of a history, whatever the number of epochs
# Made once: a transformation made anew for every call would compile anew.
# `eps_root` gives the root of a moment that is 0, as of padding, a derivative.
ADAM = optax.scale_by_adam(b1=0.5, b2=0.9, eps_root=1e-36)
Loss = Callable[[Array, AlignedProblem, LayoutParams, Shifts], LossTerms]


class LayoutState(eqx.Module):
    """The maps, what an epoch hands to the next, and the loss terms recorded so far.

    The first `recorded()` rows of `history` are filled: one for every tenth epoch from
    the first on, or for fewer, evenly, where `n_epochs` is above 1,000.
    """

    maps: Float[Array, "slices components points"]
    moments: PyTree
    epoch: Int[Array, ""]
    n_epochs: Int[Array, ""]
    history: LossTerms

    def recorded(self) -> int:
        """Returns how many rows of `history` are filled."""
        return -(-int(self.epoch) // stride_of(int(self.n_epochs)))

    def losses(self) -> LossTerms:
        """Returns the rows of `history` that are filled."""
        rows = self.recorded()
        return jax.tree.map(lambda x: on_device(np.asarray(x)[:rows]), self.history)

    def relaid(
        self,
        of_maps: Callable[[Array], Array],
        of_terms: Callable[[Array], Array],
        of_others: Callable[[Array], Array] = lambda array: array,
    ) -> "LayoutState":
        """Returns the state with other arrays.

        `of_maps` changes all that end in the maps' shape, `of_terms` those of the
        history, `of_others` the rest.
        """

        def changed(array: Array) -> Array:
            change = of_maps if array.shape[-3:] == self.maps.shape else of_others
            return as_keys(change(as_numbers(array)), array)

        return LayoutState(
            maps=changed(self.maps),
            moments=jax.tree.map(changed, self.moments),
            epoch=changed(self.epoch),
            n_epochs=changed(self.n_epochs),
            history=jax.tree.map(of_terms, self.history),
        )


class StateShown(LayoutState):
    """A state on its way, as `progress` sees it, and what makes maps of it."""

    maps_of: Callable[[LayoutState], list[np.ndarray]]

    def unstack(self) -> list[Float[np.ndarray, "_ components"]]:
        """Returns the maps, `(points, components)`, as the finished ones come out."""
        return self.maps_of(self)


def stride_of(n_epochs: Any) -> Any:
    """Every how many epochs the loss is recorded in a layout of so many."""
    if isinstance(n_epochs, int):
        return max(RECORD_EVERY, -(-n_epochs // RECORDS))
    # Of what is not negative, `//` would compile to five programs more than `div`.
    rows = jax.lax.div(jnp.int32(n_epochs + (RECORDS - 1)), jnp.int32(RECORDS))
    return jnp.maximum(RECORD_EVERY, rows)


def recorded_epochs(rows: int, n_epochs: int | None) -> Int[np.ndarray, "_"]:
    """Returns the epochs of a history's rows; None is a default number of epochs."""
    # Before version 0.2 there were more rows, a tenth of any number of epochs.
    stride = RECORD_EVERY if rows > RECORDS else stride_of(n_epochs or 0)
    return np.arange(rows) * stride


def default_shifts(points: int, total: int) -> int:
    """Shifts that suffice for a largest slice of `points`, of `total` in all slices.

    Few steps, so that near sizes share a compiled program.  More points take more
    shifts, as long as an epoch stays cheap.
    """
    if points <= 2_000:
        return 40
    if total <= 10_000:
        return 64
    return 16 if points <= 20_000 else 6


def shifts_of(problem: AlignedProblem, n_shifts: int | None = None) -> int:
    """Shifts that estimate the repulsion: as asked for, else by the slices' sizes.

    Where the problem is traced, its sizes are unknown and the padded ones decide.
    """
    if n_shifts is not None:
        return n_shifts
    if isinstance(problem.n_points, Tracer):
        slices, points = problem.degrees.shape
        return default_shifts(points, slices * points)
    sizes = np.asarray(problem.n_points)
    return default_shifts(int(sizes.max()), int(sizes.sum()))


def default_epochs(points: int) -> int:
    """Epochs that lay a sequence out well whose largest slice has so many points."""
    return 350 if points <= 20_000 else 250


def epochs(layout: LayoutConfig, sizes: Iterable[int]) -> int:
    """Returns a layout's epochs: as set, or by the size of the largest slice."""
    return default_epochs(max(sizes)) if layout.n_epochs is None else layout.n_epochs


@lru_cache(maxsize=16)
def check_descends(
    optimizer: optax.GradientTransformation, shape: tuple[int, ...]
) -> None:
    """Checks by an update that a rule of maps keeps the sign of the gradient."""
    if optimizer is ADAM:
        return
    expected = "an optax transformation of gradients alone, as optax.scale_by_rms()"
    if not hasattr(optimizer, "update"):
        remedy = "Call it, if it is a function that makes one."
        raise InputError("optimizer", f"is {optimizer!r}", expected, remedy)

    def moved(shape: tuple[int, ...]) -> float:
        with jax.ensure_compile_time_eval():
            slope = jnp.ones(shape)
            updates, _ = optimizer.update(slope, optimizer.init(slope), slope)
            return float(jnp.asarray(updates).mean())

    # Of one number, which compiles least, unless the rule is one of maps alone or draws
    # noise that exceeds the number.
    with suppress(Exception):
        if moved((1, 1, 1)) >= 0:
            return
    try:
        length = moved(shape)
    except TypeError as error:  # a search along a line asks for the loss
        raise InputError("optimizer", f"fails: {error}", expected) from error
    if length < 0:
        raise InputError(
            "optimizer",
            f"turns a gradient of 1 into {length:g}, by which the layout would climb",
            "an update rule that keeps the sign of the gradient",
            "The layout subtracts what it returns, times its own `learning_rate`: pass "
            "optax.scale_by_adam() for optax.adam(0.1).",
        )


def init(
    maps: Float[Array, "slices components points"],
    *,
    n_epochs: int,
    optimizer: optax.GradientTransformation = ADAM,
    terms: type[LossTerms] = LossTerms,
) -> LayoutState:
    """Returns the state before the first of `n_epochs` epochs.

    Args:
        maps: The start, stacked.
        n_epochs: Epochs of the whole layout, over which the rate falls.
        optimizer: The optax transformation that `step` or `run` will follow.
        terms: The class of the values of the loss that they will follow.

    Raises:
        InputError: An optimizer that climbs, as one with a learning rate does.
    """
    check_fork()
    check_descends(optimizer, maps.shape)
    blank = np.zeros((RECORDS, maps.shape[0]), maps.dtype)
    return LayoutState(
        maps=maps,
        moments=zeros_of(jax.eval_shape(optimizer.init, maps))
        if optimizer is ADAM  # whose zeros eager JAX would compile for every shape
        else optimizer.init(maps),
        epoch=on_device(0, np.int32),
        n_epochs=on_device(n_epochs, np.int32),
        history=terms(*(on_device(blank) for _ in dataclasses.fields(terms))),
    )


def step(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    *,
    key: jax.Array,
    n_shifts: int,
    optimizer: optax.GradientTransformation = ADAM,
    loss: Loss = aligned_loss,
) -> LayoutState:
    """Runs one epoch: draws the pairs that repel, and follows the gradient.

    Args:
        problem: The graphs and mates.
        params: The settings that change no shape.
        state: The maps so far; from the epoch `n_epochs` on they stay.
        key: The run's key; each epoch folds its number in.
        n_shifts: Shifts that estimate the repulsion.
        optimizer: An optax transformation without a learning rate, as `init` had it:
            what it makes of the gradient is subtracted, times the layout's rate.
        loss: A function `(maps, problem, params, shifts)` of the stacked maps that
            returns `LossTerms`.  To add a term, call `aligned_loss` and add to one
            of its fields, one number for each slice; or return a subclass of
            `LossTerms` with another field, and give that class to `init` as `terms`.
    """
    check_descends(optimizer, state.maps.shape)
    epoch_key = jax.random.fold_in(key, state.epoch)
    shifts = draw_shifts(epoch_key, problem.n_points, n_shifts=n_shifts)
    acting = in_epoch(params, state.epoch, state.n_epochs)

    def evaluated(maps: Array) -> LossTerms:
        return check_terms(loss(maps, problem, acting, shifts), state.history)

    # Traced once, for the gradient and for the record.
    terms, held = jax.closure_convert(evaluated, state.maps)
    stride = stride_of(state.n_epochs)

    def record() -> LossTerms:
        row = jax.lax.div(state.epoch, stride)
        put_row = partial(jax.lax.dynamic_update_index_in_dim, index=row, axis=0)
        return jax.tree.map(put_row, state.history, terms(state.maps, *held))

    gradient = jax.grad(lambda maps: terms(maps, *held).total())(state.maps)
    updates, moments = optimizer.update(gradient, state.moments, state.maps)
    left = jnp.where(state.epoch < state.n_epochs, 1 - state.epoch / state.n_epochs, 0)
    # Pinned points are held here: then any optimizer leaves them alone.
    lengths = (params.learning_rate * left**2)[:, None, None] * problem.free[:, None]
    maps = state.maps - lengths * jnp.asarray(updates)
    due = jax.lax.rem(state.epoch, stride) == 0
    history = jax.lax.cond(due, record, lambda: state.history)
    return LayoutState(maps, moments, state.epoch + 1, state.n_epochs, history)


STATIC = ("n_shifts", "optimizer", "loss")


@partial(jax.jit, static_argnames=STATIC)
def run(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    stop: Int[Array, ""] | int,
    *,
    key: jax.Array,
    n_shifts: int,
    optimizer: optax.GradientTransformation = ADAM,
    loss: Loss = aligned_loss,
) -> LayoutState:
    """Epochs from the state's own up to `stop`.

    Args:
        problem: The graphs and mates.
        params: The settings that change no shape.
        state: The maps so far.
        stop: The epoch to stop before; a layout ends at its `n_epochs` all the same.
        key: The run's key, the same for every chunk.
        n_shifts: Shifts that estimate the repulsion.
        optimizer: See `step`; a new object compiles anew.
        loss: See `step`; a new function compiles anew.
    """
    options = {"n_shifts": n_shifts, "optimizer": optimizer, "loss": loss}
    advance = partial(step, problem, params, key=key, **options)
    stop = jnp.minimum(stop, state.n_epochs)
    epoch = state.epoch.astype(stop.dtype)  # of 64 bits, where the stop is
    return jax.lax.fori_loop(epoch, stop, lambda _, now: advance(now), state)


# `run` for callers that need the state no more: its memory takes the new one.
run_in_place = jax.jit(
    inspect.unwrap(run), static_argnames=STATIC, donate_argnames="state"
)


def run_together(
    problems: Sequence[AlignedProblem],
    params: Sequence[LayoutParams],
    states: Sequence[LayoutState],
    *,
    keys: Sequence[jax.Array],
    n_shifts: int,
    size: int,
) -> list[LayoutState]:
    """Lays several rows out at once, each to its last epoch.

    Args:
        problems: The graphs and mates of each row, of the same shapes.
        params: The settings of each row.
        states: The state that each row starts from; all at one epoch of as many.
        keys: The key of each row.
        n_shifts: Shifts that estimate the repulsion.
        size: Rows that the program holds: fewer are filled up with the last.
    """
    missing = size - len(states)
    rows = [*zip(problems, params, states, strict=True)]
    rows += rows[-1:] * missing
    # By NumPy: eager JAX would compile for every number of rows.
    problem, settings, state = jax.tree.map(
        lambda *leaves: on_device(np.stack(leaves)), *rows
    )
    state = eqx.tree_at(_clock, state, _clock(states[0]))
    of_rows = jnp.stack([*keys, *[keys[-1]] * missing])
    ended = jax.device_get(
        run_rows(
            problem, settings, state, states[0].n_epochs, of_rows, n_shifts=n_shifts
        )
    )
    return [
        jax.tree.map(lambda x, row=row: on_device(x[row] if x.ndim else x), ended)
        for row in range(len(states))
    ]


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
    """Runs rows whose arrays stand along a first axis, in step, as `run` does one.

    The epoch is one number for all rows: mapped, it would turn the branch that
    records the loss into one that is always taken.
    """
    axes = eqx.tree_at(_clock, jax.tree.map(lambda _: 0, states), (None, None))
    run_row = partial(run, stop=stop, n_shifts=n_shifts)
    return jax.vmap(run_row, (0, 0, axes), axes)(problems, params, states, key=keys)


def bytes_of_row(problem: AlignedProblem, *, components: int, n_shifts: int) -> int:
    """About how much memory one row of a chunk takes while it is laid out.

    The problem, and some numbers for each neighbor, mate and shift of every point that
    the gradient of an epoch holds at once, as XLA reports for CPUs.
    """
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(problem))
    _, offsets, mates, _ = problem.mates.shape
    held = problem.neighbors.shape[1] * (2 * components + 5)
    held += min(n_shifts, CHUNK) * (2 * components + 3)
    held += offsets * mates * (4 * components + 4) + 5 * components
    return int(kept + held * problem.degrees.nbytes)


def check_finite(maps: Float[Array, "*rows slices components points"]) -> None:
    """Checks that distances in the maps are finite; else says what may be to blame."""
    shards = [np.asarray(shard.data) for shard in jnp.asarray(maps).addressable_shards]
    if not all(np.abs(shard).max(initial=0) < LARGEST**0.5 for shard in shards):
        got = "or another setting has led to maps in which distances are not finite"
        remedy = "Lower `learning_rate`, `repulsion_strength` or "
        remedy += "`alignment_regularisation`, or give a smaller `start`."
        raise InputError("learning_rate", got, "moderate settings and starts", remedy)
