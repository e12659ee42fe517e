"""Checkpoints of a layout that several processes share: process 0 keeps them for all.

A state is brought together before it is written, and cut again when it is gone on with.
So a checkpoint is that of one process, and any number of processes can go on from it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aljax.checkpoints import Checkpoints, about_run
from aljax.distributed.agreement import Agreement, digest
from aljax.distributed.exchange import Spread, from_all
from aljax.layout.optimize import LayoutState, StateShown
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.progress import Progress


class SharedCheckpoints(Checkpoints):
    """The checkpoints of process 0, as `optimize` uses them in all processes."""

    def __init__(
        self,
        kept: Checkpoints | None,
        agreement: Agreement,
        spread: Spread,
    ) -> None:
        """Asks process 0 for its settings.

        Args:
            kept: That of process 0; others need none.
            agreement: That of the fit.
            spread: Which slices are whose.
        """
        self._inner = kept if agreement.process == 0 else None
        self._agreement, self._spread = agreement, spread
        self.epochs = from_all(kept and kept.epochs)[0]
        self._latest = None

    def begin(
        self,
        problem: AlignedProblem,
        params: LayoutParams,
        state: LayoutState,
        *,
        key: jax.Array,
        n_shifts: int,
        collect: Callable[[LayoutState], LayoutState],
    ) -> LayoutState:
        """Returns this process's part of the state to start from, or to go on from."""
        self._collect = collect
        about = about_run(problem, params, state, key=key, n_shifts=n_shifts)
        identity = _of_all(from_all(about))
        began, resumed = self._whole(state), None
        with self._agreement.together("resume"):
            if self._inner is not None:
                whole = self._inner.go_on(began, identity)
                resumed = None if whole is began else whole
        resumed = from_all(resumed)[0]
        return state if resumed is None else self._part(resumed)

    def keep(self, state: LayoutState) -> None:
        """Remembers the state, and writes it if process 0 finds it time."""
        self._latest = state
        inner = self._inner
        due = inner is not None and inner.is_due(int(state.epoch))
        if from_all(due)[0]:
            self._bring(state)

    def save(self) -> None:
        """Writes the latest state; ends in all processes when it is written."""
        if self._latest is not None:
            self._bring(self._latest)
        if self._inner is not None:
            self._inner.save()
        self._agreement.answers("saved", "")

    def _bring(self, state: LayoutState) -> None:
        whole = self._whole(self._collect(state))
        if self._inner is not None:
            self._inner.write(whole)

    def _whole(self, state: LayoutState) -> LayoutState:
        """Returns the state of all slices."""
        return _by_slices(state, lambda x: np.concatenate(from_all(x)))

    def _part(self, whole: LayoutState) -> LayoutState:
        """Returns the state of this process's slices."""
        local = self._spread.local
        return _by_slices(whole, lambda x: x[local.start : local.stop])


def _by_slices(
    state: LayoutState, change: Callable[[np.ndarray], np.ndarray]
) -> LayoutState:
    """Changes every array of a state that has slices; they come first meanwhile."""

    def along(axis: int, array: Any) -> jax.Array:
        values = np.moveaxis(np.asarray(array), axis, 0)
        changed = np.moveaxis(change(values), 0, axis)
        return jnp.asarray(np.ascontiguousarray(changed))

    of_maps, of_terms = (partial(along, axis) for axis in (-state.maps.ndim, 1))
    return state.relaid(of_maps, of_terms, lambda array: jnp.asarray(np.asarray(array)))


def _of_all(statements: list[dict[str, str]]) -> Mapping[str, str]:
    """Returns what a layout is of, where the processes have parts of it."""
    identity = {
        name: text
        if len({statement[name] for statement in statements}) == 1
        else "of several"
        for name, text in statements[0].items()
    }
    for name in ("params", "problem", "start"):
        identity[name] = digest([statement[name] for statement in statements])[:16]
    return identity | {"processes": str(len(statements))}


def show(
    progress: Progress,
    checkpoints: SharedCheckpoints | None,
    agreement: Agreement,
    state: StateShown,
) -> None:
    """Calls `progress`; all processes stop where it raises in one."""
    failed: BaseException | None = None
    try:
        progress(state)
    except BaseException as error:
        failed = error
    ended = from_all(failed is not None)
    if not any(ended):
        return
    if checkpoints is not None:
        checkpoints.save()
    if failed is not None and not isinstance(failed, KeyboardInterrupt):
        agreement.fail(str(failed))
        raise failed
    agreement.answers("stopped", "")  # or another process failed
    raise failed or KeyboardInterrupt(f"process {ended.index(True)} was stopped")
