"""The programs that weigh graphs and lay them out, compiled while neighbors are found.

They depend on the sizes, the settings and the mates alone.  Should the shapes come out
otherwise after all, the calls compile as they would have done without.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig, per_slice
from aljax.graph.build import fewer_than_rows, weighing
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import KNN, round_up
from aljax.graph.slices import Slice
from aljax.layout.finish import frame_of
from aljax.layout.losses import terms_in
from aljax.layout.optimize import (
    LayoutState,
    default_shifts,
    epochs,
    init,
    run,
    run_in_place,
)
from aljax.layout.packing import FEW, PackedProblem, Rows, packed_loss, rows_for
from aljax.layout.problem import AlignedProblem, LayoutParams, shared_width
from aljax.relations.anchors import foreseen
from aljax.relations.mates import Relations


def program_of(
    optimizer: Any = None, *, progress: Any = None, checkpoints: Any = None
) -> Any:
    """Returns the form of `run` that lays out: one that keeps states others may use."""
    return run if progress or checkpoints or optimizer else run_in_place


class Ahead:
    """The programs for graphs and layout, which a thread compiles before their calls.

    JAX keeps what any thread has compiled, so that the calls find it.
    """

    def __init__(self, program: Any, optimizer: optax.GradientTransformation) -> None:
        self._program, self._optimizer = program, optimizer
        self._weighing: list[Future] = []
        self._layout: list[Future] = []

    def begin(
        self,
        slices: Sequence[Slice],
        relations: Relations,
        params: LayoutParams,
        *,
        key: jax.Array,
        graph: GraphConfig,
        layout: LayoutConfig,
        alignment: AlignmentConfig,
    ) -> None:
        """Begins to compile, where the graphs' widths are known and something will run.

        Takes what `aljax.prepare` has read by then: slices, mates, settings as arrays,
        key and settings.
        """
        sizes = [slice_.rows for slice_ in slices]
        known = any(isinstance(x.content, KNN | FuzzyGraph) for x in slices)
        if known or layout.n_epochs == 0:
            return
        widths = per_slice("n_neighbors", graph.n_neighbors, len(sizes))
        widths = fewer_than_rows(widths, sizes)
        frame = frame_of(layout, alignment)
        mates = foreseen(relations, [x.dense for x in slices], sizes, frame=frame)
        shape: Any = {"width": max(widths), "densmap": layout.densmap}
        shape["measured"] = alignment.motion_fidelity > 0
        # Programs are lowered here, where the caller's settings of JAX hold.
        thread = ThreadPoolExecutor(max_workers=1)
        self._weighing = [thread.submit(x.compile) for x in weighing(sizes, widths)]
        outlined = partial(outline, sizes, mates, **shape)
        lowered = self._lowered(sizes, outlined, params, layout, key)
        self._layout = [thread.submit(x.compile) for x in lowered]
        thread.shutdown(wait=False)

    def _lowered(
        self,
        sizes: Sequence[int],
        outlined: Callable[..., AlignedProblem],
        params: LayoutParams,
        layout: LayoutConfig,
        key: jax.Array,
    ) -> list[Any]:
        """Returns the lowered program of the layout, if its shapes can be told."""
        n_epochs, dtype = epochs(layout, sizes), jax.dtypes.canonicalize_dtype(float)
        start = partial(
            init, n_epochs=n_epochs, optimizer=self._optimizer, terms=terms_in(params)
        )

        def state_of(count: int, length: int) -> LayoutState:
            shape = count, layout.n_components, length
            return jax.eval_shape(start, jax.ShapeDtypeStruct(shape, dtype))

        try:
            state = state_of(len(sizes), round_up(max(sizes)))
        except jax.errors.JAXTypeError:  # an optimizer's start that cannot be traced
            return []
        rows = rows_for(sizes, state)
        problem = outlined(rows=rows)
        if rows and problem.mates.shape[1] > FEW:  # then strengths decide how many
            return []
        options: dict[str, Any] = {"key": key, "optimizer": self._optimizer}
        options["n_shifts"] = layout.n_shifts or default_shifts(max(sizes), sum(sizes))
        if rows:
            state = state_of(rows.number, rows.length)
            params = jax.tree.map(
                lambda x: (
                    jax.ShapeDtypeStruct((rows.number,), x.dtype) if x.ndim else x
                ),
                params,
            )
            options["loss"] = packed_loss
        return [self._program.lower(problem, params, state, n_epochs, **options)]

    def wait_to_weigh(self) -> None:
        """Waits until the program for the graphs is there, if that was begun."""
        wait(self._weighing)  # of what failed the call itself will raise

    def wait_to_lay_out(self) -> None:
        """Waits until that of the layout is there, if that was begun."""
        wait(self._layout)


def outline(
    sizes: Sequence[int],
    relations: Relations,
    *,
    width: int,
    densmap: bool,
    measured: bool,
    rows: Rows | None,
) -> AlignedProblem:
    """Returns the shapes that `stack` gives to graphs which are not there yet.

    Args:
        sizes: Rows of each slice.
        relations: The mates, whatever their strengths.
        width: The most neighbors of a row in any slice, itself included.
        densmap: Whether the loss has the term of the density.
        measured: Whether the mates have moves.
        rows: How `pack` will cut the slices; None for slices that stay whole.
    """
    offsets = tuple(sorted({offset for _, offset in relations}))
    most = max((int(np.bincount(m.rows).max()) for m in relations.values()), default=1)
    listed, mated = (width - 1,), (len(offsets), shared_width(most))
    count, length = len(sizes), round_up(max(sizes))
    if rows:
        mated, (length, count, *_) = (math.prod(mated),), rows

    def of_points(dtype: Any, **widths: tuple[int, ...]) -> dict[str, Any]:
        return {
            name: jnp.zeros((count, *width, length), dtype)
            for name, width in widths.items()
        }

    def blank() -> AlignedProblem:
        arrays = of_points(np.int32, neighbors=listed, mates=mated, order=())
        arrays |= of_points(float, weights=listed, strengths=mated)
        arrays |= of_points(float, degrees=(), pulls=(), free=())
        if measured and offsets:
            arrays |= of_points(float, moves=mated)
        if densmap:
            arrays |= of_points(float, radii=(), shares=listed)
        arrays["n_points"] = jnp.zeros(count, np.int32)
        if not rows:
            return AlignedProblem(**arrays, offsets=offsets)
        places = count * length
        shapes: Any = {"ring": 2 * places, "copies": (2, places)}
        shapes |= {"first": count, "begin": count}
        around = {name: jnp.zeros(shape, np.int32) for name, shape in shapes.items()}
        return PackedProblem(**arrays, **around, offsets=())

    return jax.eval_shape(blank)
