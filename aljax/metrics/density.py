"""Measures of how well one map keeps densities: the correlation of local radii.

    R_i = log(sum_j w_ij d_ij^2 / sum_j w_ij)

where d are distances and w the fuzzy graph's weights: in the data those of its graph,
in the map those of a graph of the map's own neighbors.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from aljax.config import GraphConfig
from aljax.graph.build import build_graphs
from aljax.graph.slices import read_slice, warn_of_degrees
from aljax.metrics.distances import pearson
from aljax.metrics.ranks import read_map


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
