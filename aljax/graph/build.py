"""Slices in, fuzzy graphs out: each with its own settings."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float

from aljax.config import GraphConfig, per_slice
from aljax.errors import InputError, few_of, warn
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.knn import (
    KNN,
    as_floats,
    capacity_for,
    closer_than,
    nearest_columns,
    on_device,
    read_knn,
    side_by_side,
)
from aljax.graph.neighbors import find_neighbors, known_knn
from aljax.graph.slices import Slice, one_for_each, read_rows
from aljax.graph.supervised import intersect, warn_of_keywords

FEWEST = 3  # rows of a slice that has edges
BATCH = 2**16  # rows of the slices that are weighed at once


def build_graphs(
    slices: Sequence[Slice],
    graph: GraphConfig,
    *,
    seed: int = 0,
    precomputed_knn: Any = None,
    y: Sequence[Any] | None = None,
    wait: Callable[[], Any] | None = None,
) -> list[FuzzyGraph]:
    """Returns each slice's fuzzy graph; a slice that is given as a graph keeps it.

    Args:
        slices: The slices, as `read_slices` gives them.
        graph: The settings, per slice where they are lists.
        seed: Seeds the approximate neighbor search.
        precomputed_knn: For each slice its neighbors, or None to search them.
        y: For each slice its rows' classes or values, or None for neither.
        wait: Waits for the program of `weighing`, if a thread compiles it.

    Raises:
        InputError: A per-slice list has the wrong length, or neighbors, classes or
            values do not fit.
    """
    names = ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
    n_neighbors, connectivity, mix_ratio = (
        per_slice(name, getattr(graph, name), len(slices)) for name in names
    )
    targets = one_for_each("y", y, len(slices))
    if graph.target_metric_kwds and any(target is not None for target in targets):
        warn_of_keywords(graph.target_metric)
    n_neighbors = fitting_neighbors(n_neighbors, slices)
    tables = _tables(slices, precomputed_knn, n_neighbors)
    for alike in _searched_once(slices, tables):
        found = find_neighbors(
            slices[alike[0]].content,  # pyright: ignore[reportArgumentType]
            max(n_neighbors[t] for t in alike),
            metric=graph.metric,
            metric_kwds=graph.metric_kwds,
            knn_method=graph.knn_method,
            seed=seed,
            name=slices[alike[0]].name,
        )
        for t in alike:
            tables[t] = nearest_columns(found, n_neighbors[t])
    tables = [
        closer_than(table, graph.farthest) if isinstance(table, KNN) else table
        for table in tables
    ]
    if wait:
        wait()
    graphs = weigh(tables, connectivity, mix_ratio)
    for t, target in enumerate(targets):
        if target is None or slices[t].rows < FEWEST:
            continue
        try:
            graphs[t] = intersect(
                graphs[t], target, graph, n_neighbors[t], seed=seed, name=f"y[{t}]"
            )
        except InputError as error:
            raise error.of(slices[t].name) from error.__cause__
    return graphs


def _tables(
    slices: Sequence[Slice], precomputed_knn: Any, n_neighbors: Sequence[int]
) -> list[KNN | FuzzyGraph | None]:
    """Returns the neighbors or graph that each slice was given, or None to search."""
    if scipy.sparse.issparse(precomputed_knn):
        precomputed_knn = [precomputed_knn]
    tables = one_for_each("precomputed_knn", precomputed_knn, len(slices))
    for t, (slice_, k) in enumerate(zip(slices, n_neighbors, strict=True)):
        if isinstance(slice_.content, KNN | FuzzyGraph):
            tables[t] = slice_.content
            continue
        if slice_.rows < FEWEST:  # no edges
            itself = on_device(np.tile(np.arange(slice_.rows, dtype=np.int32), (2, 1)))
            none = as_floats(np.zeros(itself.shape))
            zeros = as_floats(np.zeros(slice_.rows))
            tables[t] = FuzzyGraph(itself, none, zeros, zeros)
            continue
        name = f"precomputed_knn[{t}]"
        try:
            if scipy.sparse.issparse(tables[t]):
                tables[t] = _read_stored(tables[t], k, name)
            tables[t] = read_knn(tables[t], slice_.rows, k, name=name)
        except InputError as error:
            raise error.of(slice_.name) from error.__cause__
    return tables


def _read_stored(matrix: Any, n_neighbors: int, name: str) -> KNN:
    """Reads the neighbors whose distances a sparse matrix stores, as scikit-learn's."""
    matrix = read_rows(matrix, name, gaps=np.inf)
    if (matrix.data == 1).all():
        warn(
            f"`{name}` stores nothing but ones, so all neighbors weigh alike: "
            'scikit-learn has distances with `kneighbors_graph(mode="distance")`.'
        )
    most = int(np.diff(matrix.indptr).max()) + 1
    try:
        return known_knn(matrix, min(n_neighbors, most))
    except InputError as error:
        raise error.renamed(name) from None


def _searched_once(slices: Sequence[Slice], tables: Sequence[Any]) -> list[list[int]]:
    """Returns the slices to search, those together whose rows are the same.

    So they are in a sequence over a parameter; one search, for the most neighbors that
    are asked for, does for all.
    """
    groups: list[list[int]] = []
    for t in (t for t, table in enumerate(tables) if table is None):
        follows = groups and t - 1 in groups[-1]
        both: Any = [slice_.content for slice_ in slices[t - 1 : t + 1] if follows]
        dense = follows and all(isinstance(rows, np.ndarray) for rows in both)
        if dense and np.array_equal(*both):
            groups[-1].append(t)
        else:
            groups.append([t])
    return groups


def weigh(
    tables: Sequence[Any],
    local_connectivity: Sequence[float],
    set_op_mix_ratio: Sequence[float],
) -> list[FuzzyGraph]:
    """Returns the slices' fuzzy graphs, in one program for slices of any size.

    Args:
        tables: For each slice its `KNN`, or a `FuzzyGraph`, which is kept.
        local_connectivity: A number for each slice.
        set_op_mix_ratio: Likewise.
    """
    graphs = [*tables]
    shapes = [x.indices.shape if isinstance(x, KNN) else None for x in tables]
    for batch in _batches(shapes):
        sizes = [tables[t].indices.shape[1] for t in batch]
        joined, unit = side_by_side([tables[t] for t in batch])
        of_points = [
            np.repeat([values[t] for t in batch], sizes)
            for values in (local_connectivity, set_op_mix_ratio)
        ]
        connectivity, ratio = (as_floats(np.resize(x, len(unit))) for x in of_points)
        graph = fuzzy_simplicial_set(
            joined, local_connectivity=connectivity, set_op_mix_ratio=ratio, unit=unit
        )
        # Cut by NumPy: eager JAX would compile for every number of points.
        parts = [
            np.split(np.asarray(leaf), np.cumsum(sizes), axis=-1)[:-1]
            for leaf in (graph.weights, graph.degrees, graph.radii)
        ]
        for t, *leaves in zip(batch, *parts, strict=True):
            graphs[t] = FuzzyGraph(tables[t].indices, *map(on_device, leaves))
    return graphs


def weighing(
    sizes: Sequence[int], n_neighbors: Sequence[int]
) -> list[jax.stages.Lowered]:
    """Returns the program that `weigh` begins with, before neighbors are searched."""
    pairs = zip(n_neighbors, sizes, strict=True)
    shapes = [(k, rows) if rows >= FEWEST else None for k, rows in pairs]
    batches = _batches(shapes)
    if not batches:
        return []
    lists = n_neighbors[batches[0][0]], capacity_for(sum(sizes[t] for t in batches[0]))
    knn, of_points = jax.eval_shape(partial(_blank, lists))
    return [
        fuzzy_simplicial_set.lower(
            knn,
            local_connectivity=of_points,
            set_op_mix_ratio=of_points,
            unit=of_points,
        )
    ]


def _blank(lists: tuple[int, int]) -> tuple[KNN, Float[Array, "points"]]:
    """Returns arrays as `weigh` gives to its program."""
    indices, of_points = jnp.zeros(lists, jnp.int32), jnp.zeros(lists[1])
    return KNN(indices, jnp.zeros(lists)), of_points


def _batches(shapes: Sequence[tuple[int, ...] | None]) -> list[list[int]]:
    """Slices with as many neighbors each, of at most `BATCH` rows or alone."""
    batches: list[list[int]] = []
    last: dict[int, tuple[list[int], int]] = {}
    for t, shape in enumerate(shapes):
        if shape is None:
            continue
        neighbors, points = shape
        batch, rows = last.get(neighbors, ([], BATCH))
        if rows + points > BATCH:
            batch, rows = [], 0
            batches.append(batch)
        batch.append(t)
        last[neighbors] = batch, rows + points
    return batches


def fitting_neighbors(n_neighbors: Sequence[int], slices: Sequence[Slice]) -> list[int]:
    """Returns `n_neighbors`, reduced below the rows of each slice with one warning."""
    reduced = [
        f"{slice_.name} ({slice_.rows} rows)"
        for k, slice_ in zip(n_neighbors, slices, strict=True)
        if FEWEST <= slice_.rows <= k
        and not isinstance(slice_.content, KNN | FuzzyGraph)
    ]
    if reduced:
        less = "there it is reduced to the rows less 1"
        warn(f"`n_neighbors` reaches the rows of {few_of(reduced)}: {less}.")
    return fewer_than_rows(n_neighbors, [slice_.rows for slice_ in slices])


def fewer_than_rows(n_neighbors: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Returns the neighbors of a row in each slice, itself included."""
    pairs = zip(n_neighbors, sizes, strict=True)
    return [min(k, max(rows, FEWEST) - 1) for k, rows in pairs]
