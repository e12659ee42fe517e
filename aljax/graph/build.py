"""Slices in, fuzzy graphs out: each with its own settings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from aljax.config import GraphConfig, per_slice
from aljax.errors import InputError, few_of, warn
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set
from aljax.graph.knn import (
    KNN,
    as_floats,
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
) -> list[FuzzyGraph]:
    """Returns each slice's fuzzy graph; a slice that is given as a graph keeps it.

    Args:
        slices: The slices, as `read_slices` gives them.
        graph: The settings, per slice where they are lists.
        seed: Seeds the approximate neighbor search.
        precomputed_knn: For each slice its neighbors, or None to search them.
        y: For each slice its rows' classes or values, or None for neither.

    Raises:
        InputError: A per-slice list has the wrong length, or neighbors, classes or
            values do not fit.
    """
    names = ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
    settings = [per_slice(name, getattr(graph, name), len(slices)) for name in names]
    targets = one_for_each("y", y, len(slices))
    if graph.target_metric_kwds and any(target is not None for target in targets):
        warn_of_keywords(graph.target_metric)
    settings[0] = fitting_neighbors(settings[0], slices)
    tables = _tables(slices, precomputed_knn, settings[0])
    originals = _originals(slices, tables)
    searched: Any = None
    for t, (slice_, k) in enumerate(zip(slices, settings[0], strict=True)):
        if tables[t] is not None:
            continue
        if originals[t] == t:
            most = max(n for n, o in zip(settings[0], originals, strict=True) if o == t)
            searched = find_neighbors(
                slice_.content,  # pyright: ignore[reportArgumentType]
                most,
                metric=graph.metric,
                metric_kwds=graph.metric_kwds,
                knn_method=graph.knn_method,
                seed=seed,
                name=slice_.name,
            )
        tables[t] = nearest_columns(searched, k)
    tables = [
        closer_than(table, graph.farthest) if isinstance(table, KNN) else table
        for table in tables
    ]
    graphs = weigh(tables, *settings[1:])
    for t, target in enumerate(targets):
        if target is None or slices[t].rows < FEWEST:
            continue
        try:
            graphs[t] = intersect(
                graphs[t], target, graph, settings[0][t], seed=seed, name=f"y[{t}]"
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


def _originals(slices: Sequence[Slice], tables: Sequence[Any]) -> list[int]:
    """Returns for each slice the one whose search serves it too.

    That is the slice before where the rows are the same, as in a sequence over a
    parameter; one search, for the most neighbors that are asked for, does for all.
    """
    originals = [0]
    for t in range(1, len(slices)):
        before, rows = slices[t - 1].content, slices[t].content
        same = (
            tables[t - 1] is tables[t] is None
            and isinstance(before, np.ndarray)
            and isinstance(rows, np.ndarray)
            and np.array_equal(rows, before)
        )
        originals.append(originals[-1] if same else t)
    return originals


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
    for batch in _batches(tables):
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


def _batches(tables: Sequence[Any]) -> list[list[int]]:
    """Slices with as many neighbors each, of at most `BATCH` rows or alone."""
    batches: list[list[int]] = []
    last: dict[int, tuple[list[int], int]] = {}
    for t, table in enumerate(tables):
        if isinstance(table, FuzzyGraph):
            continue
        neighbors, points = table.indices.shape
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
