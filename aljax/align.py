"""The whole flow, composed: slices and relations in, an `AlignedEmbedding` out."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.graph.build import build_graphs, rows_of
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.ids import SliceIds, read_ids
from aljax.graph.links import Slices
from aljax.graph.moves import check_comparable, measure_moves
from aljax.graph.relations import Relations, is_ids, read_relations, relate
from aljax.layout.initialize import initial_maps
from aljax.layout.optimize import LayoutState, default_epochs, default_shifts, init, run
from aljax.layout.problem import (
    AlignedProblem,
    LayoutParams,
    PerRow,
    layout_params,
    stack,
    stack_maps,
    unstack_maps,
)
from aljax.rows import check_labels, read_pinned, read_point_weights
from aljax.tables import read_slices

Progress = Callable[[LayoutState], None]
CHUNKS = 20  # how often `progress` is called


class Prepared(NamedTuple):
    """All that a layout needs, and the stages' products on the way."""

    problem: AlignedProblem
    params: LayoutParams
    start: Float[Array, "slices components points"]
    graphs: list[FuzzyGraph]
    relations: Relations
    data: list[np.ndarray | None]
    pinned: list[np.ndarray | None]
    point_weights: list[np.ndarray | None]
    ids: tuple[SliceIds, ...] | None
    seconds: dict[str, float]


def fit(
    slices: Sequence[Any],
    relations: Any = None,
    *,
    key: jax.Array,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    slice_labels: Sequence[Hashable] | None = None,
    pinned: PerRow = None,
    point_weights: PerRow = None,
    progress: Progress | None = None,
) -> AlignedEmbedding:
    """Lay a sequence of related data sets out as maps that stay comparable.

    Args:
        slices: For each slice the data `(points, features)`; or what another tool
            made of them, a `KNN` (see `as_knn`) or a `FuzzyGraph`.
        relations: Who is who.  Either for each pair of consecutive slices a dict {row
            of slice t: row of slice t+1}; or for each slice its rows' ids, which
            relate equal ones in all slices within the window; or pairs of rows of
            any two slices, {(s, t): array (m, 2)} or, with weights of at least 0,
            {(s, t): (array, weights)}.  A single slice needs none.
        key: Decides the order of the points, the random part of the start and the
            pairs that repel: the same key gives the same maps.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        slice_labels: What the slices are called, such as years.
        pinned: For each slice a mask `(points,)` of the rows that stay where
            `layout.init` puts them, to the last bit; None for none of a slice.
        point_weights: For each slice how strongly each row pulls at its mates
            (at least 0); None for 1.
        progress: Called about 20 times during the layout with the state so far.

    Returns:
        The maps, with what led to them.

    Raises:
        ValueError: Input that does not fit together; the message names the argument,
            what came, what was expected and what to do.
    """
    prepared = prepare(
        slices,
        relations,
        key=key,
        graph=graph,
        layout=layout,
        alignment=alignment,
        slice_labels=slice_labels,
        pinned=pinned,
        point_weights=point_weights,
    )
    seconds = dict(prepared.seconds)
    problem, params = prepared.problem, prepared.params
    with timed("layout", seconds):
        state = init(prepared.start, n_epochs=epochs(layout, prepared.graphs))
        state = optimize(problem, params, state, layout, key=key, progress=progress)
    return AlignedEmbedding(
        maps=unstack_maps(state.maps, problem),
        graphs=prepared.graphs,
        relations=prepared.relations,
        data=prepared.data,
        params=params,
        history=state.history,
        seconds=seconds,
        pinned=prepared.pinned,
        point_weights=prepared.point_weights,
        ids=prepared.ids,
        slice_labels=None if slice_labels is None else tuple(slice_labels),
        graph=graph,
        layout=layout,
        alignment=alignment,
    )


def prepare(
    slices: Sequence[Any],
    relations: Any = None,
    *,
    key: jax.Array,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    slice_labels: Sequence[Hashable] | None = None,
    pinned: PerRow = None,
    point_weights: PerRow = None,
) -> Prepared:
    """Everything of `fit` up to the first epoch: graphs, relations, problem and start.

    Args, Raises: As `fit` has them.
    """
    check_key(key)
    check_labels(slice_labels, slices)
    given = read_slices(slices, slice_labels)
    data = [one if isinstance(one, np.ndarray) else None for one in given]
    known = Slices([rows_of(one) for one in given], data, slice_labels)
    knn_seed, start_seed = seeds(key, 2)
    moving = alignment.motion_fidelity > 0
    if moving:
        check_comparable(data)
    params = layout_params(layout, alignment, slices=len(given))
    window = alignment.alignment_window_size
    links = read_relations(relations, known, alignment_window_size=window)
    held = read_pinned(pinned, known, layout)
    weighing = read_point_weights(point_weights, known)
    seconds: dict[str, float] = {}
    with timed("graph", seconds):
        graphs = build_graphs(given, graph, seed=knn_seed, labels=slice_labels)
    with timed("relations", seconds):
        related = relate(
            links,
            graphs,
            alignment_strengths=alignment.alignment_strengths,
            alignment_decay=alignment.alignment_decay,
        )
    with timed("start", seconds):
        start = initial_maps(
            layout.init,
            [one.to_sparse() for one in graphs],
            data,
            related,
            n_components=layout.n_components,
            seed=start_seed,
        )
    with timed("stack", seconds):
        problem = stack(
            graphs,
            related,
            key=key,
            pinned=held,
            point_weights=weighing,
            moves=measure_moves(related, graphs, data) if moving else None,
        )
        stacked = stack_maps(start, problem)
    ids = read_ids(relations, known) if is_ids(relations) else None
    return Prepared(
        problem=problem,
        params=params,
        start=stacked,
        graphs=graphs,
        relations=related,
        data=data,
        pinned=held,
        point_weights=weighing,
        ids=ids,
        seconds=seconds,
    )


@contextmanager
def timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    """Write down how long a stage takes."""
    began = perf_counter()
    yield
    seconds[stage] = perf_counter() - began


def epochs(layout: LayoutConfig, graphs: Sequence[FuzzyGraph]) -> int:
    """How many epochs a layout has: as set, or by the size of the largest slice."""
    if layout.n_epochs is not None:
        return layout.n_epochs
    return default_epochs(max(one.degrees.shape[0] for one in graphs))


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
    points = int(np.asarray(problem.n_points).max())
    n_shifts = layout.n_shifts or default_shifts(points)
    n_epochs = int(state.n_epochs)
    chunk = max(1, -(-n_epochs // (CHUNKS if progress else 1)))
    for stop in range(chunk, n_epochs + chunk, chunk):
        stop = min(stop, n_epochs)
        state = run(problem, params, state, stop, key=key, n_shifts=n_shifts)
        if progress:
            progress(state)
    if not np.isfinite(np.asarray(state.maps)).all():
        raise ValueError(
            "the maps are not finite; `learning_rate`, `repulsion_strength` or "
            "`alignment_regularisation` may be far too large, or `init` too wide."
        )
    return state


def check_key(key: Any) -> None:
    """Refuse what is no key."""
    if not isinstance(key, jax.Array) or not (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        or (key.dtype == jnp.uint32 and key.ndim == 1)
    ):
        raise ValueError(f"`key` is {key!r}; expected a key, as jax.random.key(0).")


def seeds(key: jax.Array, count: int) -> list[int]:
    """Seeds for the host's own generators, without a program to compile."""
    data = np.asarray(jax.random.key_data(key)).ravel()
    return np.random.SeedSequence(data.tolist()).generate_state(count).tolist()
