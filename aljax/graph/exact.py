"""Exact nearest neighbours: rows centred and scaled, then compared tile by tile."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import DTypeLike

from aljax.errors import nearest_name
from aljax.graph.knn import KNN, Rows, as_floats, round_up

ROUNDING = 1e-5  # of the largest squared norm: about 100 times float32's
FEW = 0.01  # share of rows, such as repeated ones, that are let pass
PART = 256  # rows that are conditioned at once: they stay in the processor's cache
Conditioning = Callable[[np.ndarray, DTypeLike], np.ndarray]


EXACT_METRICS = ("euclidean", "cosine")
SYNONYMS = {"l2": "euclidean"}
TILE = 512  # rows that are compared with as many others at once
Best = tuple[Float[Array, "tiles rows neighbors"], Int[Array, "tiles rows neighbors"]]
QUERY_BLOCK = 128  # queries whose distances to all rows are held at once
SPARE = 16  # candidates beyond those asked for, against rounding in their choice
PAIR_BLOCK = 128  # rows whose distances to all others are held at once
# Metrics that scikit-learn and pynndescent know by the same name for the same thing.
PLAIN_METRICS = (
    *("manhattan", "l1", "sqeuclidean", "chebyshev", "minkowski", "canberra"),
    *("braycurtis", "correlation", "hamming", "haversine"),
)
SPARSE_METRICS = ("euclidean", "cosine", "manhattan", "l1")


def conditioning(
    data: Float[np.ndarray, "points features"], metric: str
) -> tuple[Conditioning, float]:
    """What centres and scales rows (or normalises them), on the host.

    Args:
        data: One slice.
        metric: "euclidean" or "cosine".

    Returns:
        What does it to these or other rows, in float64, and gives them in a float
        type; and the unit of their distances.
    """
    if metric == "cosine":
        return partial(_by_parts, _normalize), 1.0
    centre = np.mean(data, axis=0, dtype=np.float64)
    reach = np.maximum(data.max(axis=0) - centre, centre - data.min(axis=0))
    scale = float(reach.max()) or 1.0

    def centred(rows: np.ndarray) -> np.ndarray:
        return np.subtract(rows, centre, dtype=np.float64) / scale

    return partial(_by_parts, centred), scale


def drowns(squared: Any, norms: Any, rounding: float = ROUNDING) -> Any:
    """Which squared distances drown in float32's rounding (of NumPy or JAX).

    Args:
        squared: Squared distances of rows, or halves of them.
        norms: Squared norms of all rows, or halves of them.
        rounding: The share of the largest norm below which they do.
    """
    return squared < rounding * norms.max()


def _by_parts(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, dtype: DTypeLike
) -> np.ndarray:
    columns = function(rows[:1]).shape[1]
    out = np.empty((len(rows), columns), dtype)
    for start in range(0, len(rows), PART):
        out[start : start + PART] = function(rows[start : start + PART])
    return out


def _normalize(rows: np.ndarray) -> np.ndarray:
    exact = np.asarray(rows, dtype=np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    exact = exact / np.where(largest > 0, largest, 1)
    norm = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    # A row of zeros gets a direction of its own, at cosine 0 to all others.
    return np.hstack([exact / np.where(norm > 0, norm, 1), norm == 0])


def exact_knn(
    data: Float[np.ndarray, "points features"],
    n_neighbors: int,
    *,
    metric: str = "euclidean",
) -> KNN:
    """The nearest neighbours of each row by comparing all pairs, tile with tile.

    Args:
        data: One slice, finite.
        n_neighbors: Neighbours of each row, itself included (2 to points - 1).
        metric: "euclidean", or "cosine" (1 - cos; a row of zeros is at distance 1
            from all but other rows of zeros).

    Returns:
        The table; each pair of rows is compared once, 512 x 512 of them at a time.
    """
    into, unit = conditioning(data, metric)
    scaled = into(data, jnp.zeros(()).dtype)
    indices, squared = _search_padded(scaled, n_neighbors)
    lost = drowns(squared[-1], np.einsum("ij,ij->i", scaled, scaled))
    if lost.mean() > FEW and squared.dtype == np.float32:
        # Clusters far apart: distances within them drown in float32's rounding.
        with jax.enable_x64(True):
            indices, squared = _search_padded(into(data, np.float64), n_neighbors)
    distances = squared / 2 if metric == "cosine" else np.sqrt(squared) * unit
    return KNN(jnp.asarray(indices), as_floats(distances))


def _search_padded(
    data: Float[np.ndarray, "points features"], n_neighbors: int
) -> tuple[Int[np.ndarray, "neighbors points"], Float[np.ndarray, "neighbors points"]]:
    points = data.shape[0]
    padded = np.pad(data, ((0, round_up(points) - points), (0, 0)))
    indices, squared = _search(jnp.asarray(padded), points, n_neighbors)
    # Trimmed by NumPy: eager JAX would compile anew for every number of points.
    return np.asarray(indices)[:, :points], np.asarray(squared)[:, :points]


@partial(jax.jit, static_argnames="n_neighbors")
def _search(
    data: Float[Array, "points features"],
    n_points: int | Int[Array, ""],
    n_neighbors: int,
) -> tuple[Int[Array, "neighbors points"], Float[Array, "neighbors points"]]:
    points, rows = data.shape[0], tile_rows(data.shape[0], n_neighbors)
    padded = jnp.pad(data, ((0, -points % rows), (0, 0)))
    absent = jnp.arange(len(padded)) >= n_points
    half_norm = jnp.where(absent, jnp.inf, jnp.sum(padded**2, axis=1) / 2)
    tiles = padded.reshape(-1, rows, data.shape[1])
    half_norms = half_norm.reshape(-1, rows)
    itself = jnp.eye(rows, dtype=bool)

    def compare(best: Best, pair: Int[Array, "2"]) -> tuple[Best, None]:
        one, other = pair
        # -|x - y|^2 / 2 without the term that is the same for every y.
        dots = jnp.matmul(tiles[one], tiles[other].T, precision="highest")
        nearness = jnp.where((one == other) & itself, jnp.inf, dots - half_norms[other])
        best = _keep_best(best, nearness, one, other)
        return jax.lax.cond(
            one == other,
            lambda best: best,
            lambda best: _keep_best(best, dots.T - half_norms[one], other, one),
            best,
        ), None

    nowhere = jnp.zeros((len(tiles), rows, n_neighbors), dtype=jnp.int32)
    best = jnp.full(nowhere.shape, -jnp.inf, data.dtype), nowhere
    pairs = jnp.stack(jnp.triu_indices(len(tiles)), axis=1).astype(jnp.int32)
    (_, found), _ = jax.lax.scan(compare, best, pairs)
    chosen = found.reshape(-1, n_neighbors)[:points].T
    # A product with ones: XLA's own sum over features takes five times as long.
    ones = jnp.ones(data.shape[1], data.dtype)
    squared = jax.lax.map(
        lambda ys: jnp.matmul((data[ys] - data) ** 2, ones, precision="highest"), chosen
    )
    order = jnp.argsort(squared.at[0].set(-1.0), axis=0)
    chosen = jnp.take_along_axis(chosen, order, axis=0)
    return chosen, jnp.take_along_axis(squared, order, axis=0)


def _keep_best(
    best: Best, nearness: Float[Array, "rows rows"], one: Array, other: Array
) -> Best:
    """The nearest that tile `one` has found, `other`'s rows now among them."""
    values, indices = best
    neighbors, rows = indices.shape[2], len(nearness)
    # The best so far come first: of equal distances the lowest row is kept.
    near = jnp.concatenate([values[one], nearness], axis=1)
    columns = jnp.arange(rows, dtype=jnp.int32) + other * rows
    named = jnp.concatenate(
        [indices[one], jnp.broadcast_to(columns, (rows, rows))], axis=1
    )
    kept, chosen = jax.lax.top_k(near, neighbors)
    named = jnp.take_along_axis(named, chosen, axis=1)
    return values.at[one].set(kept), indices.at[one].set(named)


def tile_rows(points: int, n_neighbors: int) -> int:
    """Rows of the tiles that divide `points` rows evenly, each of `TILE` at most.

    Tiles hold several times `n_neighbors` rows: fewer, and choosing costs the most.
    """
    tiles = -(-points // max(TILE, 4 * n_neighbors))
    return -(-points // tiles)


def query_knn(
    data: Rows,
    queries: Rows,
    n_neighbors: int,
    *,
    metric: str = "euclidean",
    metric_kwds: Mapping[str, Any] | None = None,
) -> tuple[
    Int[np.ndarray, "queries neighbors"], Float[np.ndarray, "queries neighbors"]
]:
    """The nearest rows of a slice to each of some other rows, nearest first.

    Args:
        data: The slice, finite; both are dense or both CSR.
        queries: The other rows, finite.
        n_neighbors: How many of the slice's rows (1 to points).
        metric: "euclidean" or "cosine", or another that pynndescent knows (of sparse
            rows manhattan).
        metric_kwds: Keyword arguments for the metric.

    Returns:
        Rows of the slice, and their distances (units of the metric); a query that
        is a row of the slice has it first, at distance 0.

    Raises:
        ValueError: A metric for which new rows cannot be searched.
    """
    metric = SYNONYMS.get(metric, metric)
    dense = isinstance(data, np.ndarray)
    if dense and metric in EXACT_METRICS and not metric_kwds:
        return _search_queries(data, np.asarray(queries), n_neighbors, metric)
    return nearest_pairs(
        data, queries, n_neighbors, metric=metric, metric_kwds=metric_kwds
    )


def _search_queries(
    data: np.ndarray, queries: np.ndarray, n_neighbors: int, metric: str
) -> tuple[np.ndarray, np.ndarray]:
    into, unit = conditioning(data, metric)
    float_type = jnp.zeros(()).dtype
    rows = into(data, float_type)
    with np.errstate(over="ignore"):  # these are lost, too
        chosen, squared = _by_blocks(rows, into(queries, float_type), n_neighbors)
    # Distances that drown in float32's rounding or exceed it, row by row.
    lost = drowns(squared[:, -1], (rows**2).sum(axis=1))
    lost |= ~np.isfinite(squared).all(axis=1)
    if lost.any() and float_type == np.float32:
        exact = into(data, np.float64), into(queries[lost], np.float64)
        with jax.enable_x64(True):
            chosen[lost], squared[lost] = _by_blocks(*exact, n_neighbors)
    return chosen, squared / 2 if metric == "cosine" else np.sqrt(squared) * unit


def _by_blocks(
    rows: np.ndarray, queries: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    points, features = rows.shape
    padded = np.zeros((round_up(points), features), rows.dtype)
    padded[:points] = rows
    held = jnp.asarray(padded)
    chosen = np.zeros((len(queries), n_neighbors), np.int32)
    squared = np.zeros((len(queries), n_neighbors))
    for start in range(0, len(queries), QUERY_BLOCK):
        block = np.zeros((QUERY_BLOCK, features), rows.dtype)
        block[: len(queries) - start] = queries[start : start + QUERY_BLOCK]
        found = _nearest(held, points, jnp.asarray(block), n_neighbors)
        stop = min(start + QUERY_BLOCK, len(queries))
        chosen[start:stop], squared[start:stop] = (
            np.asarray(one)[: stop - start] for one in found
        )
    return chosen, squared


@partial(jax.jit, static_argnames="n_neighbors")
def _nearest(
    rows: Float[Array, "points features"],
    n_points: int | Int[Array, ""],
    block: Float[Array, "block features"],
    n_neighbors: int,
) -> tuple[Int[Array, "block neighbors"], Float[Array, "block neighbors"]]:
    half_norm = jnp.sum(rows**2, axis=1) / 2
    absent = jnp.where(jnp.arange(rows.shape[0]) < n_points, 0.0, jnp.inf)
    dots = jnp.matmul(block, rows.T, precision="highest")
    width = min(n_neighbors + SPARE, rows.shape[0])
    _, near = jax.lax.top_k(dots - half_norm - absent, width)
    near = jnp.sort(near, axis=1)  # ties go to the row that stands first
    squared = jnp.sum((rows[near] - block[:, None, :]) ** 2, axis=2)
    squared = jnp.where(near < n_points, squared, jnp.inf)
    order = jnp.argsort(squared, axis=1)[:, :n_neighbors]
    return (
        jnp.take_along_axis(near, order, axis=1),
        jnp.take_along_axis(squared, order, axis=1),
    )


def nearest_pairs(
    data: Rows,
    queries: Rows,
    n_neighbors: int,
    *,
    metric: str,
    metric_kwds: Mapping[str, Any] | None = None,
) -> tuple[
    Int[np.ndarray, "queries neighbors"], Float[np.ndarray, "queries neighbors"]
]:
    """The nearest rows of a slice to each of some rows, nearest first.

    Args:
        data: The slice; both are dense or both CSR.
        queries: The other rows, or the slice itself.
        n_neighbors: How many of the slice's rows (1 to points).
        metric: One that pynndescent knows (of sparse rows, of `SPARSE_METRICS`).
        metric_kwds: Keyword arguments for the metric.

    Raises:
        ValueError: Another metric, or keyword arguments that it does not take.
    """
    found = []
    for start in range(0, queries.shape[0], PAIR_BLOCK):
        block = queries[start : start + PAIR_BLOCK]
        each = pairwise(block, data, metric, metric_kwds or {})
        chosen = np.argsort(each, axis=1, kind="stable")[:, :n_neighbors]
        # In some metrics rounding leaves a distance between equal rows.
        equal = _equal(block, data, chosen)
        near = np.where(equal, 0.0, np.take_along_axis(each, chosen, axis=1))
        order = np.argsort(near, axis=1, kind="stable")
        found.append(
            tuple(np.take_along_axis(one, order, axis=1) for one in (chosen, near))
        )
    return _joined(found, n_neighbors)


def nearest_of(
    distances: Float[np.ndarray, "queries points"], n_neighbors: int
) -> tuple[
    Int[np.ndarray, "queries neighbors"], Float[np.ndarray, "queries neighbors"]
]:
    """The nearest rows of a slice to rows whose distances to them are known."""
    order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
    return order, np.take_along_axis(distances, order, axis=1).astype(np.float64)


def pairwise(
    rows: Rows, others: Rows, metric: str, metric_kwds: Mapping[str, Any]
) -> Float[np.ndarray, "rows others"]:
    """All distances: by scikit-learn, or else pair by pair by pynndescent's function.

    Raises:
        ValueError: Neither can.
    """
    dense = isinstance(rows, np.ndarray)
    try:
        if metric in (PLAIN_METRICS if dense else SPARSE_METRICS):
            from sklearn.metrics import pairwise_distances

            each = pairwise_distances(rows, others, metric, **metric_kwds)
            return _correlated(each, rows, others) if metric == "correlation" else each
        if not dense:
            raise ValueError("they are sparse")
        return _by_pynndescent(rows, np.asarray(others), metric, metric_kwds)
    except (TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"`metric` is {metric!r} with `metric_kwds` {dict(metric_kwds)}, in which "
            f"rows cannot be compared ({why}); expected a metric that "
            "pynndescent knows, with its own arguments, or, of sparse rows, one of "
            f"{', '.join(SPARSE_METRICS)}."
        ) from error


def _correlated(each: np.ndarray, rows: Any, others: Any) -> np.ndarray:
    """With a row of one value nothing correlates: 1, and 0 from another such row."""
    flat = (np.ptp(rows, axis=1) == 0)[:, None] + 1 * (np.ptp(others, axis=1) == 0)
    return np.where(flat == 0, each, np.where(flat == 1, 1.0, 0.0))


def _by_pynndescent(
    rows: np.ndarray, others: np.ndarray, metric: str, metric_kwds: Mapping[str, Any]
) -> Float[np.ndarray, "rows others"]:
    from numba.core.errors import NumbaError
    from pynndescent.distances import named_distances

    if metric not in named_distances:
        raise ValueError(nearest_name(metric, sorted(named_distances)))
    between = named_distances[metric]
    x, y = (np.asarray(one, dtype=np.float32) for one in (rows, others))
    try:
        return np.array([[between(i, j, **metric_kwds) for j in y] for i in x])
    except NumbaError as error:
        raise ValueError("with other keyword arguments, perhaps") from error


def _equal(
    block: Rows, data: Rows, chosen: Int[np.ndarray, "_ neighbors"]
) -> Bool[np.ndarray, "_ neighbors"]:
    """Which of the chosen rows are the same as the query's."""
    if isinstance(data, np.ndarray):
        return (data[chosen] == np.asarray(block)[:, None, :]).all(axis=2)
    asked = np.repeat(np.arange(len(chosen)), chosen.shape[1])
    apart = abs(block[asked] - data[chosen.ravel()]).max(axis=1)
    return (apart.toarray() == 0).reshape(chosen.shape)


def _joined(found: list[Any], n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    rows = [chosen for chosen, _ in found] or [np.zeros((0, n_neighbors), int)]
    distances = [near for _, near in found] or [np.zeros((0, n_neighbors))]
    return np.concatenate(rows), np.concatenate(distances)
