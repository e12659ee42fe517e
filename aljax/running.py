"""A layout runs to its last epoch, with calls between of progress and checkpoints."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from aljax.checkpoints import Checkpoints
from aljax.layout.ahead import program_of
from aljax.layout.optimize import ADAM, LayoutState, StateShown, check_finite
from aljax.layout.packing import pack, packed_loss, rows_for, unpack
from aljax.layout.problem import AlignedProblem, LayoutParams, unstack_maps
from aljax.layout.sharding import collect, place, sharded_loss
from aljax.progress import Progress

CHUNKS = 20  # how often `progress` is called


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
