"""The whole flow, composed: slices and relations in, an `AlignedEmbedding` out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig, per_slice
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.moves import check_comparable, measure_moves
from aljax.graph.neighbors import KNN, find_neighbors, round_up
from aljax.graph.relations import RelationDict, Relations, read_relations, relate
from aljax.layout.initialize import initial_maps
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import LayoutState, default_epochs, default_shifts, init, run
from aljax.layout.problem import (
    AlignedProblem,
    LayoutParams,
    layout_params,
    stack,
    stack_maps,
    unstack_maps,
)
from aljax.tables import Slice, read_slices

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
    _check_key(key)
    given = read_slices(slices)
    data = [one if isinstance(one, np.ndarray) else None for one in given]
    moving = alignment.motion_fidelity > 0
    if moving:
        check_comparable(data)
    knn_seed, start_seed = _seeds(key, 2)
    params = layout_params(layout, alignment, slices=len(given))
    pairs = read_relations(relations, [_rows(one) for one in given], data)
    seconds: dict[str, float] = {}
    with _timed("graph", seconds):
        graphs = build_graphs(given, graph, seed=knn_seed)
    with _timed("relations", seconds):
        related = relate(
            pairs, graphs, alignment_window_size=alignment.alignment_window_size
        )
    with _timed("start", seconds):
        start = initial_maps(
            layout.init,
            [one.to_sparse() for one in graphs],
            data,
            related,
            n_components=layout.n_components,
            seed=start_seed,
        )
    with _timed("layout", seconds):
        moves = measure_moves(related, graphs, data) if moving else None
        problem = stack(graphs, related, key=key, moves=moves)
        n_epochs = layout.n_epochs
        if n_epochs is None:
            n_epochs = default_epochs(max(map(_rows, given)))
        state = init(stack_maps(start, problem), n_epochs=n_epochs)
        state = optimize(problem, params, state, layout, key=key, progress=progress)
    return AlignedEmbedding(
        state.maps,
        problem,
        params,
        state.history,
        related,
        data,
        seconds,
        graph,
        layout,
        alignment,
    )


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    began = perf_counter()
    yield
    seconds[stage] = perf_counter() - began


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


def _check_key(key: Any) -> None:
    if not isinstance(key, jax.Array) or not (
        jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        or (key.dtype == jnp.uint32 and key.ndim == 1)
    ):
        raise ValueError(f"`key` is {key!r}; expected a key, as jax.random.key(0).")


def _seeds(key: jax.Array, count: int) -> list[int]:
    """Seeds for the host's own generators, without a program to compile."""
    data = np.asarray(jax.random.key_data(key)).ravel()
    return np.random.SeedSequence(data.tolist()).generate_state(count).tolist()
