"""Slices in, fuzzy graphs out: each with its own settings."""

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from aljax.checks import slice_name
from aljax.config import GraphConfig, per_slice
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.neighbors import KNN, find_neighbors, round_up

Slice = np.ndarray | KNN | FuzzyGraph


def build_graphs(
    slices: Sequence[Slice],
    graph: GraphConfig,
    *,
    seed: int = 0,
    labels: Sequence[Hashable] | None = None,
    first: int = 0,
) -> list[FuzzyGraph]:
    """Each slice's fuzzy graph; what is a graph already stays as it is.

    Args:
        slices: Data, neighbours or graphs.
        graph: The settings, per slice where they are lists.
        seed: Seeds the approximate neighbour search.
        labels: What the slices are called in messages.
        first: The index there of the first of them.

    Raises:
        ValueError: A per-slice list of the wrong length, or n_neighbors not less
            than the rows of a slice.
    """
    names = ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
    settings = [per_slice(name, getattr(graph, name), len(slices)) for name in names]
    for t, (one, n_neighbors) in enumerate(zip(slices, settings[0], strict=True)):
        if isinstance(one, np.ndarray):
            _check_neighbors(n_neighbors, len(one), slice_name(first + t, labels))
    in_double = jnp.zeros(()).dtype == jnp.float64

    def build(one: Slice, n_neighbors: int, local: float, mix: float) -> FuzzyGraph:
        with jax.enable_x64(in_double):  # which each thread has for itself
            if isinstance(one, np.ndarray):
                one = find_neighbors(
                    one,
                    n_neighbors,
                    metric=graph.metric,
                    metric_kwds=graph.metric_kwds,
                    knn_method=graph.knn_method,
                    seed=seed,
                )
            return one if isinstance(one, FuzzyGraph) else _weigh(one, local, mix)

    # Half of a search runs on one core: that half of two slices runs at once.
    with ThreadPoolExecutor(max_workers=2) as threads:
        return list(threads.map(build, slices, *settings))


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


def rows_of(one: Slice) -> int:
    """How many rows a slice has, whatever it is given as."""
    if isinstance(one, np.ndarray):
        return len(one)
    table = one.indices if isinstance(one, KNN) else one.neighbors
    return table.shape[1]


def _check_neighbors(n_neighbors: int, rows: int, name: str) -> None:
    if n_neighbors >= rows:
        raise ValueError(
            f"`n_neighbors` is {n_neighbors}, but {name} has {rows} rows; expected "
            "less than its rows. Lower `n_neighbors` (per slice, if need be) or drop "
            "the slice."
        )
