"""Measures of how well one map keeps distances, and densities.

    stress = min_alpha (sum_ij (d_ij - alpha e_ij)^2 / sum_ij d_ij^2)^(1/2)

where d are distances in the data and e in the map.  Of large slices a sample of rows
stands for all: d and e are those between sampled rows, or with `per_point` those from
every row to the sampled ones.  Host side, in double precision, in tiles.

    R_i = log(sum_j w_ij d_ij^2 / sum_j w_ij)

is the local radius of row i, where w are the fuzzy graph's weights: in the data those
of its graph, in the map those of a graph of the map's own neighbors.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import cdist, pdist

from aljax.config import GraphConfig, number, one_of
from aljax.graph.build import build_graphs
from aljax.graph.slices import read_slice, warn_of_degrees
from aljax.metrics.ranks import Measured, read_map, read_pair

SAMPLE = 1000  # rows, half a million pairs
TILE = 1000  # rows whose distances are held at once


def _varying(correlate: Callable[..., Any]) -> Callable[..., float]:
    """Returns a correlation that is NaN where one of the two samples does not vary."""

    def guarded(x: np.ndarray, y: np.ndarray) -> float:
        varies = x.size > 1 and np.ptp(x) > 0 and np.ptp(y) > 0
        return float(correlate(x, y)) if varies else float("nan")

    return guarded


def _stress(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the share of `x` (0 to 1) that no multiple of `y` explains."""
    total, across = float(x @ x), float(y @ y)
    if not total > 0:
        return float("nan")
    alpha = float(x @ y) / across if across > 0 else 0.0
    return float(np.sqrt(np.sum((x - alpha * y) ** 2) / total))


pearson = _varying(lambda x, y: np.corrcoef(x, y)[0, 1])
COMPARISONS = {
    "pearson": pearson,
    "spearman": lambda x, y: pearson(stats.rankdata(x), stats.rankdata(y)),
    "kendall": _varying(lambda x, y: stats.kendalltau(x, y)[0]),
    "stress": _stress,
}


def shepard(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    correlation: Literal["pearson", "spearman", "kendall"] = "pearson",
    sample: int = SAMPLE,
    seed: int = 0,
    per_point: bool = False,
) -> Measured:
    """Returns the correlation of distances in data and map (-1 to 1, 1 is best).

    Args:
        data: The rows.
        embedding: Their positions.
        correlation: "pearson" (linear), "spearman" (of ranks) or "kendall" (tau-b).
        sample: Rows that stand for all where there are more (at least 3; 1,000).
        seed: Draws the sample.
        per_point: Return one value for each row, from its distances to the sample.

    Returns:
        NaN where all distances are equal, in the data or in the map.

    Raises:
        InputError: An unknown correlation, a sample too small, or rows without a
            position.

    Source: Vernier et al. (2020), section 4, "Shepard diagram correlation"; tau-b:
        Kendall (1945), "The treatment of ties in ranking problems".
    """
    one_of("pearson", "spearman", "kendall")("correlation", correlation)
    return _compare(correlation, data, embedding, sample, seed, per_point)


def normalized_stress(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    per_point: bool = False,
) -> Measured:
    """Returns the share of the data's distances that the map's leave (0 to 1; 0 best).

    The scale is free because maps have no units: it is Kruskal's stress with the
    factor alpha that is best for the map.  Arguments and errors are those of `shepard`.

    Source: Kruskal (1964), Psychometrika 29; Smelser et al. (2024), "Normalized
        stress is not normalized", for the scale.
    """
    return _compare("stress", data, embedding, sample, seed, per_point)


def _compare(
    kind: str, data: Any, embedding: Any, sample: int, seed: int, per_point: bool
) -> Measured:
    x, y = (positions.astype(float) for positions in read_pair(data, embedding))
    number(3, whole=True)("sample", sample)
    compare, points = COMPARISONS[kind], len(x)
    chosen = np.arange(points)
    if points > sample:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(points, sample, replace=False))
    if not per_point:
        return compare(pdist(x[chosen]), pdist(y[chosen]))
    values = []
    for start in range(0, points, TILE):
        rows = np.arange(start, min(start + TILE, points))
        distances = cdist(x[rows], x[chosen]), cdist(y[rows], y[chosen])
        for d, e, keep in zip(*distances, rows[:, None] != chosen, strict=True):
            values.append(compare(d[keep], e[keep]))
    return np.array(values)


def local_radii(
    rows: Any, *, n_neighbors: int = 15, metric: str = "euclidean"
) -> Float[np.ndarray, "points"]:
    """Returns each row's local radius, the log of how far its neighbors lie on average.

    Args:
        rows: Data or positions, as `aljax.fit` takes a slice.
        n_neighbors: Neighbors, the row itself included (at least 2).
        metric: The distance between rows.

    Returns:
        Logarithms (of the metric's squared unit), NaN for a row without neighbors.

    Raises:
        InputError: As `aljax.fit` does.

    Source: Narayan, Berger & Cho (2021), Nature Biotechnology 39.
    """
    return _radii(rows, "rows", n_neighbors, metric)


def density_preservation(
    data: Any,
    embedding: Float[np.ndarray, "points components"],
    *,
    n_neighbors: int = 15,
    metric: str = "euclidean",
) -> float:
    """Returns Pearson's correlation of local radii in data and map (1 is best).

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: Neighbors, the row itself included (at least 2).
        metric: The distance between rows of the data.

    Returns:
        NaN where all radii are equal, in the data or in the map.

    Raises:
        InputError: As `local_radii`, or rows without a position.

    Source: as `local_radii`; densMAP's authors measure it so.
    """
    inside = _radii(data, "data", n_neighbors, metric)
    positions = read_map(embedding, len(inside))
    outside = _radii(positions, "embedding", n_neighbors, "euclidean")
    finite = np.isfinite(inside) & np.isfinite(outside)
    return pearson(inside[finite], outside[finite])


def _radii(rows: Any, name: str, n_neighbors: int, metric: str) -> np.ndarray:
    settings = GraphConfig(n_neighbors=n_neighbors, metric=metric)
    slices = [read_slice(rows, name, metric=metric)]
    warn_of_degrees(slices)
    (graph,) = build_graphs(slices, settings)
    return np.where(np.asarray(graph.degrees) > 0, np.asarray(graph.radii), np.nan)
