"""The whole flow, composed: slices and relations in, an `AlignedEmbedding` out."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.graph.relations import RelationDict, Relations
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import LayoutState, default_shifts, run
from aljax.layout.problem import AlignedProblem, LayoutParams, unstack_maps
from aljax.prepare import prepare, timed

Progress = Callable[[LayoutState], None]
CHUNKS = 20  # how often `progress` is called


class AlignedEmbedding(eqx.Module):
    """A sequence of maps that stay comparable, and all that led to them.

    Attributes:
        maps: The maps, padded and shuffled; `slices()` gives them in the order given.
        problem: The graphs and mates that the maps were fitted to.
        params: The settings that change no shape.
        history: The loss terms of every tenth epoch, `(epochs, slices)`.
        relations: The mates between slices, in the rows of the user.
        data: Each slice's data; None where only its graph was given.
        seconds: How long each stage took, compilation included.
        graph: The settings of the graphs.
        layout: The settings of the layout.
        alignment: The settings of the alignment.
    """

    maps: Float[Array, "slices components points"]
    problem: AlignedProblem
    params: LayoutParams
    history: LossTerms
    relations: Relations
    data: list[np.ndarray | None]
    seconds: dict[str, float]
    graph: GraphConfig = eqx.field(static=True)
    layout: LayoutConfig = eqx.field(static=True)
    alignment: AlignmentConfig = eqx.field(static=True)

    def slices(self) -> list[Float[np.ndarray, "_ components"]]:
        """The maps, `(points, components)` each, in the order of the rows given."""
        return unstack_maps(self.maps, self.problem)


def fit(
    slices: Sequence[Any],
    relations: Sequence[RelationDict] | None = None,
    *,
    key: jax.Array,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    progress: Progress | None = None,
) -> AlignedEmbedding:
    """Lay a sequence of related data sets out as maps that stay comparable.

    Args:
        slices: For each slice the data `(points, features)`; or what another tool
            made of them, a `KNN` (see `as_knn`) or a `FuzzyGraph`.
        relations: For each pair of consecutive slices a dict {row of slice t: row of
            slice t+1}.  A single slice needs none.
        key: Decides the order of the points, the random part of the start and the
            pairs that repel: the same key gives the same maps.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        progress: Called about 20 times during the layout with the state so far.

    Returns:
        The maps, with the problem they solve and the loss on the way.

    Raises:
        ValueError: Input that does not fit together; the message names the argument,
            what came, what was expected and what to do.
    """
    began = prepare(
        slices, relations, key=key, graph=graph, layout=layout, alignment=alignment
    )
    with timed("layout", began.seconds):
        state = optimize(
            began.problem,
            began.params,
            began.state,
            layout,
            key=key,
            progress=progress,
        )
    return AlignedEmbedding(
        state.maps,
        began.problem,
        began.params,
        state.history,
        began.relations,
        began.data,
        began.seconds,
        graph,
        layout,
        alignment,
    )


def optimize(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    layout: LayoutConfig,
    *,
    key: jax.Array,
    progress: Progress | None = None,
) -> LayoutState:
    """Run the layout to its last epoch, in one chunk or with `progress` between.

    Raises:
        ValueError: The maps are no longer finite.
    """
    n_shifts = shifts_of(problem, layout)
    n_epochs = int(state.n_epochs)
    chunk = max(1, -(-n_epochs // (CHUNKS if progress else 1)))
    for stop in range(chunk, n_epochs + chunk, chunk):
        stop = min(stop, n_epochs)
        state = run(problem, params, state, stop, key=key, n_shifts=n_shifts)
        if progress:
            progress(state)
    check_finite(state.maps)
    return state


def shifts_of(problem: AlignedProblem, layout: LayoutConfig) -> int:
    """How many shifts estimate the repulsion: what was asked for, or what suits."""
    points = int(np.asarray(problem.n_points).max())
    return layout.n_shifts or default_shifts(points)


def check_finite(maps: Float[Array, "*rows slices components points"]) -> None:
    """Refuse maps that are not finite.

    Raises:
        ValueError: They are not; it says which settings may be to blame.
    """
    if not np.isfinite(np.asarray(maps)).all():
        raise ValueError(
            "the maps are not finite; `learning_rate`, `repulsion_strength` or "
            "`alignment_regularisation` may be far too large, or `init` too wide."
        )
