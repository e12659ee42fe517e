"""Calls during a layout: a function of the state so far, or a bar of tqdm."""

from collections.abc import Callable
from typing import Any

from aljax.errors import instance
from aljax.layout.optimize import StateShown

Progress = Callable[[StateShown], None]


class Bar:
    """A progress bar with the terms of the loss, closed with the last epoch.

    Args:
        **settings: Those of `tqdm.auto.tqdm`, such as `desc`.
    """

    def __init__(self, **settings: Any) -> None:
        from tqdm.auto import tqdm

        self._line: Any = tqdm(**{"desc": "layout", "unit": "epoch", **settings})

    def __call__(self, state: StateShown) -> None:
        """Shows a state."""
        epoch, self._line.total = int(state.epoch), int(state.n_epochs)
        terms = vars(state.losses()).items()
        last = {name: f"{float(term[-1].sum()):.4g}" for name, term in terms}
        self._line.set_postfix(last, refresh=False)
        self._line.update(epoch - self._line.n)
        if epoch == self._line.total:
            self._line.close()


def read_progress(progress: Progress | bool | None) -> Progress | None:
    """Returns the function to call, a bar for True, None for False.

    Raises:
        InputError: It is none of these.
    """
    if progress is None or isinstance(progress, bool):
        return Bar() if progress else None
    instance("progress", progress, Callable, "a function of the state, True or None")
    return progress
