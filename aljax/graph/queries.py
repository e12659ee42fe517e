"""Neighbours of new rows among the rows of a slice, each row for itself.

Queries are searched in blocks of one size, so that one program serves any number of
them, and what is found for a row does not depend on the rows it came with.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.graph.conditioning import conditioning, drowns
from aljax.graph.knn import Rows, round_up
from aljax.graph.neighbors import EXACT_METRICS, SYNONYMS
from aljax.graph.pairwise import nearest_pairs

BLOCK = 128  # queries whose distances to all rows are held at once
SPARE = 16  # candidates beyond those asked for, against rounding in their choice


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
        return _search(data, np.asarray(queries), n_neighbors, metric)
    return nearest_pairs(
        data, queries, n_neighbors, metric=metric, metric_kwds=metric_kwds
    )


def _search(
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
    for start in range(0, len(queries), BLOCK):
        block = np.zeros((BLOCK, features), rows.dtype)
        block[: len(queries) - start] = queries[start : start + BLOCK]
        found = _nearest(held, points, jnp.asarray(block), n_neighbors)
        stop = min(start + BLOCK, len(queries))
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
