"""Before the first epoch: slices and relations in, a problem and its start out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig, per_slice
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.neighbors import KNN, find_neighbors, round_up
from aljax.graph.relations import RelationDict, Relations, read_relations, relate
from aljax.layout.initialize import initial_maps
from aljax.layout.optimize import LayoutState, default_epochs, init
from aljax.layout.problem import (
    AlignedProblem,
    LayoutParams,
    layout_params,
    stack,
    stack_maps,
)
from aljax.tables import Slice, read_slices


class Prepared(NamedTuple):
    """All that `fit` makes before the first epoch; see `AlignedEmbedding`."""

    problem: AlignedProblem
    params: LayoutParams
    state: LayoutState
    relations: Relations
    data: list[np.ndarray | None]
    seconds: dict[str, float]


def prepare(
    slices: Sequence[Any],
    relations: Sequence[RelationDict] | None = None,
    *,
    key: jax.Array,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    visible: Callable[[Relations], Relations] | None = None,
) -> Prepared:
    """Everything up to the first epoch of `fit`, whose arguments these are.

    Args:
        slices: Data, neighbours or graphs.
        relations: Which rows are mates.
        key: Decides all that is left to chance.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        visible: Which of the mates the start and the layout know of; None for all.

    Raises:
        ValueError: Input that does not fit together.
    """
    check_key(key)
    given = read_slices(slices)
    data = [one if isinstance(one, np.ndarray) else None for one in given]
    knn_seed, start_seed = _seeds(key, 2)
    params = layout_params(layout, alignment, slices=len(given))
    pairs = read_relations(relations, [_rows(one) for one in given], data)
    seconds: dict[str, float] = {}
    with timed("graph", seconds):
        graphs = build_graphs(given, graph, seed=knn_seed)
    with timed("relations", seconds):
        related = relate(
            pairs, graphs, alignment_window_size=alignment.alignment_window_size
        )
        related = visible(related) if visible else related
    with timed("start", seconds):
        start = initial_maps(
            layout.init,
            [one.to_sparse() for one in graphs],
            data,
            related,
            n_components=layout.n_components,
            seed=start_seed,
        )
    with timed("layout", seconds):
        problem = stack(graphs, related, key=key)
        n_epochs = layout.n_epochs
        if n_epochs is None:
            n_epochs = default_epochs(max(map(_rows, given)))
        state = init(stack_maps(start, problem), n_epochs=n_epochs)
    return Prepared(problem, params, state, related, data, seconds)


@contextmanager
def timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add how long a stage takes to `seconds`."""
    began = perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + perf_counter() - began


def build_graphs(
    slices: Sequence[Slice], graph: GraphConfig, *, seed: int = 0
) -> list[FuzzyGraph]:
    """Each slice's fuzzy graph; what is a graph already stays as it is.

    Args:
        slices: Data, neighbours or graphs.
        graph: The settings, per slice where they are lists.
        seed: Seeds the approximate neighbour search.

    Raises:
        ValueError: A per-slice list of the wrong length, or n_neighbors not less
            than the rows of a slice.
    """
    names = ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
    settings = [per_slice(name, getattr(graph, name), len(slices)) for name in names]
    graphs = []
    for t, (one, n_neighbors, local, mix) in enumerate(
        zip(slices, *settings, strict=True)
    ):
        if isinstance(one, np.ndarray):
            _check_neighbors(n_neighbors, len(one), t)
            one = find_neighbors(
                one,
                n_neighbors,
                metric=graph.metric,
                metric_kwds=graph.metric_kwds,
                knn_method=graph.knn_method,
                seed=seed,
            )
        graphs.append(one if isinstance(one, FuzzyGraph) else _weigh(one, local, mix))
    return graphs


def _weigh(knn: KNN, local_connectivity: float, set_op_mix_ratio: float) -> FuzzyGraph:
    """The fuzzy graph, computed on padded arrays so that near sizes share a program."""
    indices, distances = np.asarray(knn.indices), np.asarray(knn.distances)
    neighbors, points = indices.shape
    capacity = round_up(points)
    padded = np.tile(np.arange(capacity, dtype=indices.dtype), (neighbors, 1))
    padded[:, :points] = indices
    wide = KNN(
        jnp.asarray(padded),
        jnp.asarray(np.pad(distances, ((0, 0), (0, capacity - points)))),
    )
    graph = fuzzy_simplicial_set(
        wide,
        local_connectivity=float(local_connectivity),
        set_op_mix_ratio=float(set_op_mix_ratio),
        n_points=points,
    )
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[..., :points]), graph)


def _rows(one: Slice) -> int:
    if isinstance(one, np.ndarray):
        return len(one)
    table = one.indices if isinstance(one, KNN) else one.neighbors
    return table.shape[1]


def _check_neighbors(n_neighbors: int, rows: int, t: int) -> None:
    if n_neighbors >= rows:
        raise ValueError(
            f"`n_neighbors` is {n_neighbors}, but slice {t} has {rows} rows; expected "
            "less than its rows. Lower `n_neighbors` (per slice, if need be) or drop "
            "the slice."
        )


def check_key(key: Any) -> None:
    """Refuse what is no key.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(key, jax.Array) or not (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        or (key.dtype == jnp.uint32 and key.ndim == 1)
    ):
        raise ValueError(f"`key` is {key!r}; expected a key, as jax.random.key(0).")


def _seeds(key: jax.Array, count: int) -> list[int]:
    """Seeds for the host's own generators, without a program to compile."""
    data = np.asarray(jax.random.key_data(key)).ravel()
    return np.random.SeedSequence(data.tolist()).generate_state(count).tolist()
