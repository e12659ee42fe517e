"""Measures of how well one map keeps its data's neighbors, in both directions.

    trustworthiness = 1 - 2 / (n k (2n - 3k - 1)) sum_i sum_{j in U_i} (r(i, j) - k)

where U_i are the k neighbors of i in the map that are not among its k in the data,
and r(i, j) is the rank of j among the neighbors of i in the data.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.columns import as_plain, is_missing
from aljax.config import number
from aljax.errors import LARGEST, InputError
from aljax.metrics.ranks import (
    Chosen,
    Measured,
    as_positions,
    count_neighbors,
    nearest_rows,
    rank_neighbors,
    read_compared,
    read_rows,
    shared_neighbors,
    summary,
)

BLOCK = 2**22  # resampled values held at once


def trustworthiness(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Measures how far neighbors in the map are neighbors in the data (0 to 1).

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: k, the row itself not counted (at least 1, below half the
            points), or a share of the points (above 0, below .5).
        rows: Rows to average over, as numbers or as a mask; None for all.
        per_point: Return one value for each of the rows, whose mean is the measure.

    Raises:
        InputError: `n_neighbors` or `rows` out of range, or rows without a position.

    Source: Venna & Kaski (2001), "Neighborhood preservation in nonlinear projection
        methods"; equal to scikit-learn's where no distances tie.
    """
    compared = read_compared(data, embedding, n_neighbors, rows)
    return summary(_trust(*compared), per_point)


def continuity(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Measures how far neighbors in the data are neighbors in the map (0 to 1).

    It is trustworthiness with the two exchanged: low where the map tears rows apart.
    Arguments and errors are those of `trustworthiness`.

    Source: Venna & Kaski (2001).
    """
    data, embedding, k, chosen = read_compared(data, embedding, n_neighbors, rows)
    return summary(_trust(embedding, data, k, chosen), per_point)


def _trust(
    data: np.ndarray, embedding: np.ndarray, k: int, rows: np.ndarray
) -> Float[np.ndarray, "_"]:
    """Returns the trustworthiness of each of the rows."""
    n, ranks = len(data), rank_neighbors(data, embedding, k, rows)
    penalty = np.maximum(ranks - k, 0).sum(axis=1, dtype=np.float64)
    return 1 - 2 * penalty / (k * (2 * n - 3 * k - 1))


def neighborhood_preservation(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Returns the share |N_i & M_i| / k of the k nearest rows that stay so (0 to 1).

    N_i are row i's k nearest in the data, M_i in the map; nearest-neighbor search
    calls it recall.  Arguments and errors are those of `trustworthiness`; the
    literature takes 5 % of the points as `n_neighbors`.

    Source: Vernier et al. (2020), "Quantitative evaluation of time-dependent
        multidimensional projection techniques", section 4.
    """
    data, embedding, k, chosen = read_compared(data, embedding, n_neighbors, rows)
    return summary(shared_neighbors(data, embedding, k, chosen) / k, per_point)


def neighborhood_jaccard(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Returns the overlap |N_i & M_i| / |N_i | M_i| of the k nearest rows (0 to 1).

    It orders single points as `neighborhood_preservation` does, and is lower.
    Arguments and errors are those of `trustworthiness`.

    Source: Jaccard (1912), "The distribution of the flora in the alpine zone".
    """
    data, embedding, k, chosen = read_compared(data, embedding, n_neighbors, rows)
    shared = shared_neighbors(data, embedding, k, chosen)
    return summary(shared / (2 * k - shared), per_point)


def neighborhood_hit(
    embedding: Float[np.ndarray, "points components"],
    labels: Sequence[object] | np.ndarray,
    *,
    n_neighbors: float = 15,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Returns the share of a point's k neighbors in the map with its label (0 to 1).

    There is one label for each position, none missing; other arguments and errors
    are those of `trustworthiness`.

    Source: Paulovich et al. (2008), "Least square projection", section 5.
    """
    neighbor_codes, code = _neighbor_codes(embedding, labels, n_neighbors, rows)
    return summary((neighbor_codes == code[:, None]).mean(axis=1), per_point)


def knn_accuracy(
    embedding: Float[np.ndarray, "points components"],
    labels: Sequence[object] | np.ndarray,
    *,
    n_neighbors: float = 10,
    rows: Chosen = None,
    per_point: bool = False,
) -> Measured:
    """Returns the share of points whose label most of k neighbors have (0 to 1).

    A point does not vote for itself (leave-one-out); of labels with as many votes
    the one that sorts first wins.  Arguments and errors are those of
    `neighborhood_hit`; `per_point` values are True or False.
    """
    neighbor_codes, code = _neighbor_codes(embedding, labels, n_neighbors, rows)
    voters = np.repeat(np.arange(len(neighbor_codes)), neighbor_codes.shape[1])
    votes = scipy.sparse.csr_matrix(
        (np.ones(neighbor_codes.size), (voters, neighbor_codes.ravel()))
    )
    return summary(np.asarray(votes.argmax(axis=1)).ravel() == code, per_point)


def _neighbor_codes(
    embedding: np.ndarray,
    labels: Sequence[object] | np.ndarray,
    n_neighbors: float,
    rows: Chosen,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels of each row's neighbors, and its own, as their places."""
    points = len(embedding := as_positions(embedding, "embedding"))
    k = count_neighbors(n_neighbors, points)
    expected = f"text or numbers, one for each of {points} points"
    plain = as_plain(labels)
    unknown = [*map(is_missing, plain)] if isinstance(plain, list | tuple) else []
    if any(unknown):
        first, count = unknown.index(True), sum(unknown)
        got = f"has no label in row {first} ({count} rows have none)"
        remedy = "Leave such rows out of both: they cannot vote."
        raise InputError("labels", got, expected, remedy)
    try:
        codes = np.unique(np.asarray(labels), return_inverse=True)[1]
    except (TypeError, ValueError) as error:
        raise InputError("labels", f"cannot be sorted ({error})", expected) from error
    if codes.shape != (points,):
        raise InputError("labels", f"has shape {codes.shape}", expected)
    chosen = read_rows(rows, points)
    near = nearest_rows(embedding, k, chosen)
    return codes[near], codes[chosen]


def reconstruction_error(
    data: Float[np.ndarray, "points features"],
    reconstructed: Float[np.ndarray, "points features"],
    *,
    per_point: bool = False,
) -> Measured:
    """Returns the mean squared difference of rows and reconstructions (at least 0).

    mean_i mean_f (x_if - r_if)^2, in squared units of the data, or with `per_point`
    the mean over f for each row; the mean of the columns as reconstruction has the
    data's mean variance.  Both arguments have the same shape.
    """
    rows = as_positions(data, "data").astype(float)
    others = as_positions(reconstructed, "reconstructed").astype(float)
    if rows.shape != others.shape:
        got, expected = f"has shape {others.shape}", f"{rows.shape}, that of `data`"
        raise InputError("reconstructed", got, expected)
    return summary(((rows - others) ** 2).mean(axis=1), per_point)


def bootstrap_interval(
    values: Float[np.ndarray, "values"],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the percentile interval of a mean, such as of a measure `per_point`.

    Args:
        values: Values whose mean it is; NaN are left out, and without others both
            ends are NaN.
        level: The share of resampled means inside (above 0, below 1).
        draws: Samples with replacement (at least 1).
        seed: Seeds the draws.

    Raises:
        InputError: `level`, `draws` or a value out of range.

    Source: Efron & Tibshirani (1993), "An introduction to the bootstrap", section 13.3.
    """
    if not 0 < level < 1:
        raise InputError("level", f"is {level}", "a number above 0 and below 1")
    number(1, whole=True)("draws", draws)
    try:
        numbers = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise InputError("values", f"is {values!r}", "a list of numbers") from error
    numbers = numbers[~np.isnan(numbers)]
    if not numbers.size:
        return float("nan"), float("nan")
    if not (largest := np.abs(numbers).max()) < LARGEST:
        expected = f"finite numbers, below {LARGEST:g} in size"
        raise InputError("values", f"has one of size {largest}", expected)
    rng = np.random.default_rng(seed)
    at_once = max(1, BLOCK // numbers.size)
    means = []
    for start in range(0, draws, at_once):
        shape = (min(at_once, draws - start), numbers.size)
        means.append(numbers[rng.integers(numbers.size, size=shape)].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
