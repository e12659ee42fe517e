"""How far a fit is: a function of the layout's state so far, or a bar of tqdm.

And its stages: how long each took, and what helps where its memory runs out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import jax

from aljax.errors import instance
from aljax.layout.optimize import StateShown

Progress = Callable[[StateShown], None]
LOWERED_BY = {
    "graph": "fewer columns (`sklearn.decomposition.PCA`) or smaller slices",
    "layout": "a lower `n_neighbors` or `alignment_window_size`, more `devices`, or "
    "smaller slices",
}


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


@contextmanager
def timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    """Writes down how long a stage takes (seconds).

    Raises:
        MemoryError: The device has too little memory for the stage.
    """
    began = perf_counter()
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        less = LOWERED_BY.get(stage, LOWERED_BY["layout"])
        reason = str(error).splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")
        raise MemoryError(
            f"The device has too little memory for the stage {stage!r} ({reason}). "
            f"It needs less with {less}; or `with jax.default_device(jax.devices("
            "'cpu')[0]):` takes the host's memory."
        ) from error
    seconds[stage] = perf_counter() - began
