"""Slices in, fuzzy graphs out: each with its own settings."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.config import GraphConfig, per_slice
from aljax.errors import slice_name
from aljax.graph.fuzzy import (
    FuzzyGraph,
    fuzzy_simplicial_set,
    membership_strengths,
    smooth_knn_dist,
)
from aljax.graph.knn import KNN, nearest, read_knn, round_up
from aljax.graph.neighbors import find_neighbors
from aljax.graph.slices import Slice, one_for_each, rows_of
from aljax.graph.supervised import (
    intersect_classes,
    intersect_values,
    read_classes,
    read_values,
)

CLASSES = "categorical"
# On single numbers these are the distance that the exact search knows.
SAME_ON_NUMBERS = ("l1", "manhattan", "chebyshev", "minkowski")


def build_graphs(
    slices: Sequence[Slice],
    graph: GraphConfig,
    *,
    seed: int = 0,
    labels: Sequence[Hashable] | None = None,
    first: int = 0,
    precomputed_knn: Sequence[Any] | None = None,
    y: Sequence[Any] | None = None,
) -> list[FuzzyGraph]:
    """Each slice's fuzzy graph; what is a graph already stays as it is.

    Args:
        slices: Data, neighbours or graphs.
        graph: The settings, per slice where they are lists.
        seed: Seeds the approximate neighbour search.
        labels: What the slices are called in messages.
        first: The index there of the first of them.
        precomputed_knn: For each slice its neighbours, or None to search them.
        y: For each slice its rows' classes or values, or None for neither.

    Raises:
        ValueError: A per-slice list of the wrong length, n_neighbors not less than
            the rows of a slice, or neighbours, classes or values that do not fit.
    """
    names = ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
    settings = [per_slice(name, getattr(graph, name), len(slices)) for name in names]
    tables = one_for_each("precomputed_knn", precomputed_knn, len(slices))
    targets = one_for_each("y", y, len(slices))
    n_neighbors = settings[0]
    originals = _originals(slices, tables)
    in_double = jnp.zeros(()).dtype == jnp.float64

    def search(t: int) -> KNN | None:
        one = slices[t]
        if isinstance(one, KNN | FuzzyGraph):
            return None
        name, rows = slice_name(first + t, labels), rows_of(one)
        check_neighbors(n_neighbors[t], rows, name)
        given = f"`precomputed_knn[{t}]` of {name}"
        known = read_knn(tables[t], rows, n_neighbors[t], name=given)
        if known or originals[t] != t:
            return known
        most = max(k for k, o in zip(n_neighbors, originals, strict=True) if o == t)
        return find_neighbors(
            one,
            min(most, rows - 1),  # more is refused where it was asked for
            metric=graph.metric,
            metric_kwds=graph.metric_kwds,
            knn_method=graph.knn_method,
            seed=seed,
            name=name,
        )

    def build(
        t: int, one: Slice, n_neighbors: int, local: float, mix: float
    ) -> FuzzyGraph:
        if not isinstance(one, KNN | FuzzyGraph):
            one = nearest(searched[t] or searched[originals[t]], n_neighbors)
        weighed = one if isinstance(one, FuzzyGraph) else _weigh(one, local, mix)
        if targets[t] is None:
            return weighed
        name = f"`y[{t}]` of {slice_name(first + t, labels)}"
        return intersect(weighed, targets[t], graph, n_neighbors, seed=seed, name=name)

    def in_threads(function: Callable[..., Any], *given: Iterable[Any]) -> list[Any]:
        def run(*one: Any) -> Any:
            with jax.enable_x64(in_double):  # which each thread has for itself
                return function(*one)

        # Half of a search runs on one core: that half of two slices runs at once.
        with ThreadPoolExecutor(max_workers=2) as threads:
            return list(threads.map(run, *given))

    searched = in_threads(search, range(len(slices)))
    return in_threads(build, range(len(slices)), slices, *settings)


def _originals(slices: Sequence[Slice], tables: Sequence[Any]) -> list[int]:
    """For each slice the one whose search is its own too.

    That is the slice before where the rows are the same, as in a sequence over a
    parameter; one search, for the most neighbours that are asked for, does for all.
    """
    originals: list[int] = []
    for t, one in enumerate(slices):
        before = slices[max(t - 1, 0)]
        same = (
            t > 0
            and tables[t - 1] is None
            and tables[t] is None
            and isinstance(one, np.ndarray)
            and isinstance(before, np.ndarray)
            and np.array_equal(one, before)
        )
        originals.append(originals[-1] if same else t)
    return originals


def intersect(
    weighed: FuzzyGraph,
    y: Any,
    graph: GraphConfig,
    n_neighbors: int,
    *,
    seed: int,
    name: str,
) -> FuzzyGraph:
    """A slice's graph intersected with its classes or values."""
    rows = rows_of(weighed)
    if graph.target_metric == CLASSES:
        return intersect_classes(
            weighed, read_classes(y, rows, name), graph.target_weight
        )
    values = read_values(y, rows, name)
    own = graph.target_n_neighbors
    n_neighbors = n_neighbors if own == -1 else own
    check_neighbors(n_neighbors, rows, name, setting="target_n_neighbors")
    metric, kwds = graph.target_metric, graph.target_metric_kwds
    if values.shape[1] == 1 and metric in SAME_ON_NUMBERS and not kwds:
        metric = "euclidean"
    how: Any = {"metric": metric, "metric_kwds": kwds, "seed": seed, "name": name}
    try:
        knn = find_neighbors(values, n_neighbors, **how)
    except ValueError as error:
        said = str(error).replace("`metric", "`target_metric")
        raise ValueError(f"{said} Or use {CLASSES!r}.") from error
    points = knn.indices.shape[1]
    strengths = np.asarray(_memberships(_widened(knn), points))[:, :points]
    lists = np.asarray(knn.indices)
    return intersect_values(weighed, lists, strengths, graph.target_weight)


@jax.jit
def _memberships(
    knn: KNN, n_points: int | Int[Array, ""]
) -> Float[Array, "neighbors points"]:
    return membership_strengths(knn, *smooth_knn_dist(knn, n_points=n_points))


def _weigh(knn: KNN, local_connectivity: float, set_op_mix_ratio: float) -> FuzzyGraph:
    """The fuzzy graph, computed on padded arrays so that near sizes share a program."""
    points = knn.indices.shape[1]
    graph = fuzzy_simplicial_set(
        _widened(knn),
        local_connectivity=float(local_connectivity),
        set_op_mix_ratio=float(set_op_mix_ratio),
        n_points=points,
    )
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[..., :points]), graph)


def _widened(knn: KNN) -> KNN:
    """The table padded with points that have no neighbours."""
    indices, distances = np.asarray(knn.indices), np.asarray(knn.distances)
    neighbors, points = indices.shape
    capacity = round_up(points)
    padded = np.tile(np.arange(capacity, dtype=indices.dtype), (neighbors, 1))
    padded[:, :points] = indices
    return KNN(
        jnp.asarray(padded),
        jnp.asarray(np.pad(distances, ((0, 0), (0, capacity - points)))),
    )


def check_neighbors(
    n_neighbors: int, rows: int, name: str, *, setting: str = "n_neighbors"
) -> None:
    """Refuse as many neighbours as there are rows, or more."""
    if n_neighbors >= rows:
        raise ValueError(
            f"`{setting}` is {n_neighbors}, but {name} has {rows} rows; expected "
            "less than its rows. Lower it (per slice, if need be) or drop the slice."
        )
