"""Before the first epoch: slices and relations in, a problem and its start out."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aljax.checks import instance
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.graph.build import build_graphs, dense_only, features_of, rows_of
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.ids import SliceIds, read_ids
from aljax.graph.knn import Rows
from aljax.graph.links import Slices
from aljax.graph.moves import check_comparable, measure_moves, scales_of
from aljax.graph.relations import Relations, is_ids, linked, read_relations, relate
from aljax.layout.initialize import initial_maps
from aljax.layout.optimize import LayoutState, default_epochs, init
from aljax.layout.problem import (
    AlignedProblem,
    LayoutParams,
    PerRow,
    layout_params,
    stack,
    stack_maps,
)
from aljax.rows import check_labels, read_pinned, read_point_weights
from aljax.tables import read_slices


class Prepared(NamedTuple):
    """All that a layout needs, and the stages' products on the way."""

    problem: AlignedProblem
    params: LayoutParams
    state: LayoutState
    graphs: list[FuzzyGraph]
    relations: Relations
    data: list[Rows | None]
    pinned: list[np.ndarray | None]
    point_weights: list[np.ndarray | None]
    ids: tuple[SliceIds, ...] | None
    seconds: dict[str, float]


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
    y: Sequence[Any] | None = None,
    precomputed_knn: Sequence[Any] | None = None,
    visible: Callable[[Relations], Relations] | None = None,
) -> Prepared:
    """Everything of `fit` up to the first epoch: graphs, relations, problem and state.

    Args, Raises: As `fit` has them; and `visible`, which of the mates the start and
    the layout know of (None for all).
    """
    check_key(key)
    instance("graph", graph, GraphConfig, "aljax.GraphConfig(...)")
    instance("layout", layout, LayoutConfig, "aljax.LayoutConfig(...)")
    instance("alignment", alignment, AlignmentConfig, "aljax.AlignmentConfig(...)")
    check_labels(slice_labels, slices)
    given = read_slices(slices, slice_labels)
    data = [features_of(one, graph.metric) for one in given]
    dense = dense_only(data)
    known = Slices([rows_of(one) for one in given], dense, slice_labels)
    knn_seed, start_seed = seeds(key, 2)
    moving = alignment.motion_fidelity > 0
    if moving:
        check_comparable(dense)
    params = layout_params(layout, alignment, slices=len(given))
    window = alignment.alignment_window_size
    links = read_relations(relations, known, alignment_window_size=window)
    held = read_pinned(pinned, known, layout)
    weighing = read_point_weights(point_weights, known)
    seconds: dict[str, float] = {}
    with timed("graph", seconds):
        graphs = build_graphs(
            given,
            graph,
            seed=knn_seed,
            labels=slice_labels,
            precomputed_knn=precomputed_knn,
            y=y,
        )
    with timed("relations", seconds):
        related = relate(
            links,
            graphs,
            alignment_strengths=alignment.alignment_strengths,
            alignment_decay=alignment.alignment_decay,
        )
        related = visible(related) if visible else related
    with timed("start", seconds):
        start = initial_maps(
            layout.init,
            [one.to_sparse() for one in graphs],
            dense,
            related,
            n_components=layout.n_components,
            seed=start_seed,
        )
    with timed("stack", seconds):
        moves = None
        if moving:
            moves = measure_moves(related, dense, scales_of(dense, graphs))
        problem = stack(
            graphs,
            linked(related),
            key=key,
            pinned=held,
            point_weights=weighing,
            moves=moves,
        )
        state = init(stack_maps(start, problem), n_epochs=epochs(layout, graphs))
    ids = read_ids(relations, known) if is_ids(relations) else None
    return Prepared(
        problem=problem,
        params=params,
        state=state,
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


def check_key(key: Any) -> None:
    """Refuse what is no key, or several."""
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return
        if key.dtype == jnp.uint32 and key.shape == jax.random.PRNGKey(0).shape:
            return
    raise ValueError(
        f"`key` is {key!r}; expected a key by itself, as jax.random.key(0)."
    )


def seeds(key: jax.Array, count: int) -> list[int]:
    """Seeds for the host's own generators, without a program to compile."""
    data = np.asarray(jax.random.key_data(key)).ravel()
    return np.random.SeedSequence(data.tolist()).generate_state(count).tolist()
