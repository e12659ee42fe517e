"""A layout runs, with calls between: a function of the state so far, or a bar of tqdm.

And stages of a fit: how long each took, and what helps where its memory runs out.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from time import perf_counter
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from aljax.checkpoints import Checkpoints
from aljax.errors import instance
from aljax.layout.ahead import program_of
from aljax.layout.optimize import ADAM, LayoutState, StateShown, check_finite
from aljax.layout.packing import pack, packed_loss, rows_for, unpack
from aljax.layout.problem import AlignedProblem, LayoutParams, unstack_maps
from aljax.layout.sharding import collect, place, sharded_loss

Progress = Callable[[StateShown], None]
CHUNKS = 20  # how often `progress` is called
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


def optimize(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    n_shifts: int,
    *,
    key: jax.Array,
    optimizer: optax.GradientTransformation | None = None,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    mesh: Mesh | None = None,
    widths: Mapping[str, int] | None = None,
    maps_of: Callable[[LayoutState], list[np.ndarray]] | None = None,
) -> LayoutState:
    """Runs the layout to its last epoch, in one chunk or with calls between.

    On the devices of a mesh, where there is one, padded to `widths` at least.  The
    state's memory is used for the new one, unless others may use it, too.  `progress`
    sees the maps that `maps_of` makes of a state, else those of the layout.
    """
    unpadded, rows = problem, None if mesh else rows_for(problem.n_points, state)
    unpad = partial(unpack, problem=problem, rows=rows) if rows else lambda same: same
    unpad = partial(collect, problem=problem, mesh=mesh) if mesh else unpad
    options: dict[str, Any] = {"key": key, "n_shifts": n_shifts}
    if checkpoints:
        state = checkpoints.begin(problem, params, state, collect=unpad, **options)
    if mesh:
        of_mesh: Any = {"mesh": mesh, "widths": widths, "optimizer": optimizer}
        problem, params, state, key = place(problem, params, state, key=key, **of_mesh)
        options |= {"key": key, "loss": sharded_loss}
    elif rows:
        problem, params, state = pack(problem, params, state, rows)
        options["loss"] = packed_loss
    options["optimizer"] = optimizer or ADAM
    advance = program_of(optimizer, progress=progress, checkpoints=checkpoints)
    n_epochs, begun = int(state.n_epochs), int(state.epoch)
    chunk = max(1, -(-n_epochs // (CHUNKS if progress or checkpoints else 1)))
    chunk = min(chunk, checkpoints.epochs or chunk) if checkpoints else chunk
    with jax.set_mesh(mesh) if mesh else nullcontext():
        for stop in range(begun + chunk, n_epochs + chunk, chunk):
            stop = min(stop, n_epochs)
            state = advance(problem, params, state, stop, **options)
            if checkpoints:
                checkpoints.keep(state)
            if progress:
                of_layout = maps_of or (lambda now: unstack_maps(now.maps, unpadded))
                progress(StateShown(**vars(unpad(state)), maps_of=of_layout))
        check_finite(state.maps)
        return unpad(state)


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
