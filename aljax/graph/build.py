"""Slices in, fuzzy graphs out: each with its own settings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Array, Float

from aljax.config import GraphConfig, per_slice
from aljax.errors import InputError, few_of, warn
from aljax.graph.discrete import DISCRETE, string
from aljax.graph.fuzzy import FuzzyGraph, fuzzy_simplicial_set, memberships
from aljax.graph.knn import (
    KNN,
    as_floats,
    capacity_for,
    closer_than,
    nearest_columns,
    on_device,
    read_knn,
)
from aljax.graph.neighbors import find_neighbors, known_knn
from aljax.graph.slices import Slice, one_for_each, read_rows, warn_of_degrees
from aljax.graph.supervised import (
    intersect_classes,
    intersect_discrete,
    intersect_values,
    read_classes,
    read_column,
    read_texts,
    read_values,
)

FEWEST = 3  # rows of a slice that has edges
CLASSES = "categorical"
BATCH = 2**16  # rows of the slices that are weighed at once
# On single numbers these are the distance that the exact search knows.
SAME_ON_NUMBERS = ("l1", "manhattan", "chebyshev", "minkowski")


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
        _warn_of_keywords(graph.target_metric)
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


def _warn_of_keywords(target_metric: Any) -> None:
    """Warns of keywords beside a target metric that takes none."""
    if target_metric in (CLASSES, *DISCRETE):
        why = f"`target_metric={target_metric!r}` takes none"
        warn(f"`target_metric_kwds` does nothing here: {why}.")


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


def intersect(
    weighed: FuzzyGraph,
    y: Any,
    graph: GraphConfig,
    n_neighbors: int,
    *,
    seed: int,
    name: str,
) -> FuzzyGraph:
    """Returns a slice's graph intersected with its classes or values."""
    rows = weighed.neighbors.shape[1]
    if graph.target_metric == CLASSES:
        classes = read_classes(y, rows, name)
        return intersect_classes(weighed, classes, graph.target_weight)
    if graph.target_metric in DISCRETE:
        return _intersect_discrete(weighed, y, graph, rows, name)
    values = read_values(y, rows, name)
    if graph.target_n_neighbors != -1:
        n_neighbors = graph.target_n_neighbors
    if n_neighbors >= rows:
        got = f"is {n_neighbors}, but the slice has {rows} rows"
        raise InputError("target_n_neighbors", got, "less than its rows", "Lower it.")
    metric, kwds = graph.target_metric, graph.target_metric_kwds
    if values.shape[1] == 1 and metric in SAME_ON_NUMBERS and not kwds:
        metric = "euclidean"
    try:
        warn_of_degrees([Slice(rows, values, f"`{name}`", metric)])
        knn = find_neighbors(
            values, n_neighbors, metric=metric, metric_kwds=kwds, seed=seed
        )
    except InputError as error:
        remedy = f"{error.remedy} Or use {CLASSES!r}.".strip()
        statement = error.got, error.expected, remedy
        raise InputError(f"target_{error.name}", *statement) from error
    joined, unit = _side_by_side([knn])
    strengths = np.asarray(memberships(joined, 1.0, unit))[:, :rows]
    lists = np.asarray(knn.indices)
    return intersect_values(weighed, lists, strengths, graph.target_weight)


def _intersect_discrete(
    weighed: FuzzyGraph, y: Any, graph: GraphConfig, rows: int, name: str
) -> FuzzyGraph:
    apart = DISCRETE[graph.target_metric]
    if apart is string:
        column = read_texts(y, rows, name)
    else:
        column = read_values(read_column(y, rows, name), rows, name)[:, 0]
    try:
        return intersect_discrete(weighed, column, apart, graph.target_weight)
    except InputError as error:
        raise error.renamed(name) from None


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
        joined, unit = _side_by_side([tables[t] for t in batch])
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


def _side_by_side(tables: Sequence[KNN]) -> tuple[KNN, Float[Array, "points"]]:
    """Joins tables, padded with points without neighbors, and returns their units."""
    neighbors = tables[0].indices.shape[0]
    capacity = capacity_for(sum(table.indices.shape[1] for table in tables))
    indices = np.tile(np.arange(capacity, dtype=np.int32), (neighbors, 1))
    distances, unit = np.zeros(indices.shape), np.ones(capacity)
    start = 0
    for table in tables:
        stop = start + table.indices.shape[1]
        indices[:, start:stop] = start + np.asarray(table.indices)
        distances[:, start:stop] = table.distances
        unit[start:stop] = distances[:, start:stop].mean() or 1.0
        start = stop
    return KNN(on_device(indices), as_floats(distances)), as_floats(unit)


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
