"""How well one map keeps distances: the Shepard diagram in a few numbers.

    stress = min_alpha (sum_ij (d_ij - alpha e_ij)^2 / sum_ij d_ij^2)^(1/2)

where d are distances in the data and e in the map.  Of large slices a sample of rows
stands for all: d and e are those between sampled rows, or with `per_point` those from
every row to the sampled ones.  Host side, in double precision, in tiles.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import cdist, pdist

from aljax.metrics.ranks import Measured, as_positions, check_points

SAMPLE = 1000  # rows, half a million pairs
TILE = 1000  # rows whose distances are held at once
Compare = Callable[[np.ndarray, np.ndarray], float]


def pearson(one: np.ndarray, other: np.ndarray) -> float:
    """The linear correlation; NaN where one of the two does not vary."""
    if one.size < 2 or not np.ptp(one) > 0 or not np.ptp(other) > 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """The correlation of the ranks; NaN where one of the two does not vary."""
    return pearson(stats.rankdata(one), stats.rankdata(other))


def kendall(one: np.ndarray, other: np.ndarray) -> float:
    """The pairs in the same order less those in the other, ties corrected for."""
    if one.size < 2 or not np.ptp(one) > 0 or not np.ptp(other) > 0:
        return float("nan")
    found: Any = stats.kendalltau(one, other)
    return float(found.statistic)


def stress(one: np.ndarray, other: np.ndarray) -> float:
    """What of `one` the best multiple of `other` leaves (0 to 1)."""
    total, across = float(one @ one), float(other @ other)
    if not total > 0:
        return float("nan")
    alpha = float(one @ other) / across if across > 0 else 0.0
    return float(np.sqrt(np.sum((one - alpha * other) ** 2) / total))


def shepard_pearson(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    per_point: bool = False,
) -> Measured:
    """The linear correlation of distances in data and map (-1 to 1, 1 is best).

    Args:
        data: The rows.
        embedding: Their positions.
        sample: Rows that stand for all where there are more (at least 3).
        seed: Draws the sample.
        per_point: Return one value for each row, from its distances to the sample.

    Raises:
        ValueError: A sample too small, or not a position for each row.

    Source: Vernier et al. (2020), section 4.
    """
    return _compare(
        pearson, data, embedding, sample=sample, seed=seed, per_point=per_point
    )


def shepard_spearman(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    per_point: bool = False,
) -> Measured:
    """The rank correlation of distances in data and map (-1 to 1, 1 is best).

    Args:
        data: The rows.
        embedding: Their positions.
        sample: Rows that stand for all where there are more (at least 3).
        seed: Draws the sample.
        per_point: Return one value for each row, from its distances to the sample.

    Raises:
        ValueError: A sample too small, or not a position for each row.

    Source: Vernier et al. (2020), section 4, as "Shepard diagram correlation".
    """
    return _compare(
        spearman, data, embedding, sample=sample, seed=seed, per_point=per_point
    )


def shepard_kendall(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    per_point: bool = False,
) -> Measured:
    """Kendall's tau-b of distances in data and map (-1 to 1, 1 is best).

    Args:
        data: The rows.
        embedding: Their positions.
        sample: Rows that stand for all where there are more (at least 3).
        seed: Draws the sample.
        per_point: Return one value for each row, from its distances to the sample.

    Raises:
        ValueError: A sample too small, or not a position for each row.

    Source: Kendall (1945), "The treatment of ties in ranking problems".
    """
    return _compare(
        kendall, data, embedding, sample=sample, seed=seed, per_point=per_point
    )


def normalized_stress(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    per_point: bool = False,
) -> Measured:
    """What of the data's distances the map's, best scaled, leave (0 to 1, 0 is best).

    The scale is free because maps have no units: it is Kruskal's stress with the
    factor alpha that is best for the map.

    Args:
        data: The rows.
        embedding: Their positions.
        sample: Rows that stand for all where there are more (at least 3).
        seed: Draws the sample.
        per_point: Return one value for each row, from its distances to the sample.

    Raises:
        ValueError: A sample too small, or not a position for each row.

    Source: Kruskal (1964), Psychometrika 29; Smelser et al. (2024), "Normalized
        stress is not normalized", for the scale.
    """
    return _compare(
        stress, data, embedding, sample=sample, seed=seed, per_point=per_point
    )


def _compare(
    measure: Compare,
    data: np.ndarray,
    embedding: np.ndarray,
    *,
    sample: int,
    seed: int,
    per_point: bool,
) -> Measured:
    x = as_positions(data, "data").astype(float)
    y = as_positions(embedding, "embedding").astype(float)
    check_points(x, y)
    if sample < 3:
        raise ValueError(f"`sample` is {sample}; expected at least 3 rows.")
    points = len(x)
    chosen = np.arange(points)
    if points > sample:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(points, sample, replace=False))
    if not per_point:
        return measure(pdist(x[chosen]), pdist(y[chosen]))
    found = []
    for start in range(0, points, TILE):
        rows = np.arange(start, min(start + TILE, points))
        in_data, in_map = cdist(x[rows], x[chosen]), cdist(y[rows], y[chosen])
        others = rows[:, None] != chosen
        found += [
            measure(d[keep], e[keep])
            for d, e, keep in zip(in_data, in_map, others, strict=True)
        ]
    return np.array(found)
