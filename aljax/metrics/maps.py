"""How well one map keeps what its data say.

    trustworthiness = 1 - 2 / (n k (2n - 3k - 1)) sum_i sum_{j in U_i} (r(i, j) - k)

where U_i are the k neighbours of i in the map that are not among its k in the data,
and r(i, j) is the rank of j among the neighbours of i in the data.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from aljax.graph.neighbors import round_up

TILE = 32  # rows compared with all others at once


def trustworthiness(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: int = 15,
    rows: Int[np.ndarray, "rows"] | None = None,
) -> float:
    """Whether neighbours in the map are neighbours in the data: 1 is best, 0 worst.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: k, the row itself not counted (at least 1, below half the points).
        rows: Rows to average over; None for all.

    Raises:
        ValueError: `n_neighbors` out of range.

    Source: Venna & Kaski (2001), "Neighborhood preservation in nonlinear projection
        methods"; equal to scikit-learn's where no distances tie.
    """
    n = len(data)
    _check_k(n_neighbors, n)
    ranks, _ = _compare(data, embedding, n_neighbors, rows)
    penalty = np.maximum(ranks - n_neighbors, 0).sum(axis=1, dtype=np.float64).mean()
    return float(1 - 2 * penalty / (n_neighbors * (2 * n - 3 * n_neighbors - 1)))


def knn_recall(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: int = 15,
    rows: Int[np.ndarray, "rows"] | None = None,
) -> float:
    """The share of the k nearest rows in the data that are so in the map (0 to 1).

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: k, the row itself not counted (at least 1, below half the points).
        rows: Rows to average over; None for all.

    Raises:
        ValueError: `n_neighbors` out of range.
    """
    _check_k(n_neighbors, len(data))
    ranks, _ = _compare(data, embedding, n_neighbors, rows)
    return float((ranks <= n_neighbors).mean())


def knn_accuracy(
    embedding: Float[np.ndarray, "points components"],
    labels: Sequence[object] | np.ndarray,
    *,
    n_neighbors: int = 10,
    rows: Int[np.ndarray, "rows"] | None = None,
) -> float:
    """The share of points whose label most of their k neighbours have (0 to 1).

    A point does not vote for itself (leave-one-out); of labels with as many votes
    the one that sorts first wins.

    Args:
        embedding: The positions.
        labels: One for each point.
        n_neighbors: k (at least 1, below half the points).
        rows: Rows to average over; None for all.

    Raises:
        ValueError: `n_neighbors` out of range.
    """
    _check_k(n_neighbors, len(embedding))
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    _, near = _compare(embedding, embedding, n_neighbors, rows)
    voters = np.repeat(np.arange(len(near)), n_neighbors)
    votes = scipy.sparse.csr_matrix(
        (np.ones(near.size), (voters, codes[near].ravel())),
        shape=(len(near), classes.size),
    )
    own = codes if rows is None else codes[rows]
    return float((np.asarray(votes.argmax(axis=1)).ravel() == own).mean())


def _check_k(n_neighbors: int, points: int) -> None:
    if not 1 <= n_neighbors < points / 2:
        raise ValueError(
            f"`n_neighbors` is {n_neighbors} for {points} points; expected at least 1 "
            f"and below {points / 2:g}, half the points."
        )


def _compare(
    data: np.ndarray, embedding: np.ndarray, n_neighbors: int, rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks in the data of each row's neighbours in the map, and those neighbours."""
    points = len(data)
    chosen = np.arange(points) if rows is None else np.asarray(rows)
    spare = round_up(points) - points
    wide = [
        jnp.asarray(np.pad(np.asarray(x - x.mean(axis=0)), ((0, spare), (0, 0))), float)
        for x in (data, embedding)
    ]
    queries = jnp.asarray(np.resize(chosen, round_up(chosen.size)), jnp.int32)
    ranks, near = _rank(*wide, points, queries, n_neighbors=n_neighbors)
    return np.asarray(ranks)[: chosen.size], np.asarray(near)[: chosen.size]


@partial(jax.jit, static_argnames="n_neighbors")
def _rank(
    data: Float[Array, "points features"],
    embedding: Float[Array, "points components"],
    n_points: Int[Array, ""] | int,
    rows: Int[Array, "rows"],
    *,
    n_neighbors: int,
) -> tuple[Int[Array, "rows neighbors"], Int[Array, "rows neighbors"]]:
    index = jnp.arange(data.shape[0])
    half_norm = jnp.sum(data**2, axis=1) / 2
    absent = jnp.where(index < n_points, 0.0, jnp.inf)

    def one(row: Int[Array, ""]) -> tuple[Array, Array]:
        far = absent.at[row].set(jnp.inf)
        in_map = jnp.sum((embedding - embedding[row]) ** 2, axis=1) + far
        near = jax.lax.top_k(-in_map, n_neighbors)[1]
        dot = jnp.matmul(data, data[row], precision="highest")
        in_data = half_norm - dot + far
        reached = in_data[near][:, None]
        before = (in_data < reached) | ((in_data == reached) & (index < near[:, None]))
        return 1 + jnp.sum(before, axis=1), near

    return jax.lax.map(one, rows, batch_size=TILE)
