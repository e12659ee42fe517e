"""How well one map keeps what its data say: neighbours, in both directions.

    trustworthiness = 1 - 2 / (n k (2n - 3k - 1)) sum_i sum_{j in U_i} (r(i, j) - k)

where U_i are the k neighbours of i in the map that are not among its k in the data,
and r(i, j) is the rank of j among the neighbours of i in the data.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.metrics.ranks import (
    Chosen,
    Measured,
    as_positions,
    count_neighbors,
    rank_neighbors,
    read_rows,
    shared_neighbors,
    summary,
)


def trustworthiness(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Whether neighbours in the map are neighbours in the data: 1 is best, 0 worst.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: k, the row itself not counted (at least 1, below half the
            points), or a share of the points (above 0, below .5).
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return one value for each of the rows, whose mean is the measure.

    Raises:
        ValueError: `n_neighbors` or `rows` out of range, or not a position a row.

    Source: Venna & Kaski (2001), "Neighborhood preservation in nonlinear projection
        methods"; equal to scikit-learn's where no distances tie.
    """
    n = len(as_positions(data, "data"))
    k = count_neighbors(n_neighbors, n)
    ranks, _ = rank_neighbors(data, embedding, k, rows)
    penalty = np.maximum(ranks - k, 0).sum(axis=1, dtype=np.float64)
    return summary(1 - 2 * penalty / (k * (2 * n - 3 * k - 1)), per_point)


def continuity(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Whether neighbours in the data are neighbours in the map: 1 is best, 0 worst.

    It is trustworthiness with the two exchanged: low where the map tears rows apart.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: As for `trustworthiness`.
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return one value for each of the rows, whose mean is the measure.

    Raises:
        ValueError: `n_neighbors` or `rows` out of range, or not a position a row.

    Source: Venna & Kaski (2001).
    """
    return trustworthiness(
        embedding, data, n_neighbors=n_neighbors, rows=rows, per_point=per_point
    )


def neighborhood_preservation(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """The share |N_i & M_i| / k of the k nearest rows that stay so in the map (0 to 1).

    N_i are row i's k nearest in the data, M_i in the map.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: As for `trustworthiness`; the literature takes 5 % of the points.
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return one value for each of the rows, whose mean is the measure.

    Raises:
        ValueError: `n_neighbors` or `rows` out of range, or not a position a row.

    Source: Vernier et al. (2020), "Quantitative evaluation of time-dependent
        multidimensional projection techniques", section 4.
    """
    k = count_neighbors(n_neighbors, len(as_positions(data, "data")))
    return summary(shared_neighbors(data, embedding, k, rows) / k, per_point)


def neighborhood_jaccard(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """|N_i & M_i| / |N_i | M_i| of the k nearest in data and map (0 to 1).

    It orders single points as `neighborhood_preservation` does, and is lower.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: As for `trustworthiness`.
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return one value for each of the rows, whose mean is the measure.

    Raises:
        ValueError: `n_neighbors` or `rows` out of range, or not a position a row.

    Source: Jaccard (1912), "The distribution of the flora in the alpine zone".
    """
    k = count_neighbors(n_neighbors, len(as_positions(data, "data")))
    shared = shared_neighbors(data, embedding, k, rows)
    return summary(shared / (2 * k - shared), per_point)


def knn_recall(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """`neighborhood_preservation` under the name that nearest-neighbour search has.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: As for `trustworthiness`.
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return one value for each of the rows, whose mean is the measure.

    Raises:
        ValueError: `n_neighbors` or `rows` out of range, or not a position a row.
    """
    return neighborhood_preservation(
        data, embedding, n_neighbors=n_neighbors, rows=rows, per_point=per_point
    )


def reconstruction_error(
    data: Float[np.ndarray, "points features"],
    reconstructed: Float[np.ndarray, "points features"],
    *,
    per_point: bool = False,
) -> Measured:
    """The mean squared difference of rows and what was read back for them.

    mean_i mean_f (x_if - r_if)^2, at least 0, in squared units of the data; the mean
    of the columns as reconstruction has the data's mean variance.

    Args:
        data: The rows.
        reconstructed: What stands for each, in the same order.
        per_point: Return one value for each row, whose mean is the measure.

    Raises:
        ValueError: The shapes differ.
    """
    rows = as_positions(data, "data").astype(float)
    others = as_positions(reconstructed, "reconstructed").astype(float)
    if rows.shape != others.shape:
        raise ValueError(
            f"`reconstructed` has shape {others.shape}, `data` {rows.shape}; expected "
            "the same."
        )
    difference = rows - others
    return summary((difference**2).mean(axis=1), per_point)


def neighborhood_hit(
    embedding: Float[np.ndarray, "points components"],
    labels: Sequence[object] | np.ndarray,
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """The share of a point's k neighbours in the map that have its label (0 to 1).

    Args:
        embedding: The positions.
        labels: One for each point.
        n_neighbors: k, the point itself not counted (at least 1, below half the
            points), or a share of the points (above 0, below .5).
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return one value for each of the rows, whose mean is the measure.

    Raises:
        ValueError: `n_neighbors` or `rows` out of range, or not a label for each point.

    Source: Paulovich et al. (2008), "Least square projection", section 5.
    """
    near, own, codes, _ = _neighbor_codes(embedding, labels, n_neighbors, rows)
    return summary((codes[near] == own[:, None]).mean(axis=1), per_point)


def knn_accuracy(
    embedding: Float[np.ndarray, "points components"],
    labels: Sequence[object] | np.ndarray,
    *,
    n_neighbors: float = 10,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """The share of points whose label most of their k neighbours have (0 to 1).

    A point does not vote for itself (leave-one-out); of labels with as many votes
    the one that sorts first wins.

    Args:
        embedding: The positions.
        labels: One for each point.
        n_neighbors: As for `neighborhood_hit`.
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return 1 or 0 for each of the rows, whose mean is the measure.

    Raises:
        ValueError: `n_neighbors` or `rows` out of range, or not a label for each point.
    """
    near, own, codes, classes = _neighbor_codes(embedding, labels, n_neighbors, rows)
    voters = np.repeat(np.arange(len(near)), near.shape[1])
    votes = scipy.sparse.csr_matrix(
        (np.ones(near.size), (voters, codes[near].ravel())), shape=(len(near), classes)
    )
    return summary(np.asarray(votes.argmax(axis=1)).ravel() == own, per_point)


def _neighbor_codes(
    embedding: np.ndarray,
    labels: Sequence[object] | np.ndarray,
    n_neighbors: float,
    rows: Chosen,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Neighbours and own code of the rows, the code of each point, and how many."""
    embedding = as_positions(embedding, "embedding")
    k = count_neighbors(n_neighbors, len(embedding))
    try:
        classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`labels` cannot be told apart ({error}); expected text or numbers."
        ) from error
    if codes.shape != (len(embedding),):
        came = f"{len(codes)} entries" if codes.ndim == 1 else f"shape {codes.shape}"
        raise ValueError(
            f"`labels` has {came} for {len(embedding)} points; expected one for each."
        )
    chosen = read_rows(rows, len(embedding))
    _, near = rank_neighbors(embedding, embedding, k, chosen)
    return near, codes[chosen], codes, classes.size
