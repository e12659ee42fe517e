"""How well one map keeps rows of one label together.

neighborhood_hit = mean_i |{j in M_i: label_j = label_i}| / k
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.metrics.neighborhoods import (
    Chosen,
    Measured,
    as_positions,
    count_neighbors,
    rank_neighbors,
    read_rows,
    summary,
)


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
