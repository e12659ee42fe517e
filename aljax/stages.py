"""Stages of a fit: how long each took, and what helps where its memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import jax

LOWERED_BY = {
    "graph": "fewer columns (`sklearn.decomposition.PCA`) or smaller slices",
    "layout": "a lower `n_neighbors` or `alignment_window_size`, more `devices`, or "
    "smaller slices",
}


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
