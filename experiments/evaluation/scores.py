"""Scores one method's maps of one sequence by every measure, as means over slices."""

from collections.abc import Callable
from typing import Any

import numpy as np

from aljax import metrics
from experiments.data.dataset import Dataset, consecutive
from experiments.results.records import mean

K = 15
SHARE = 0.05  # of the rows, as in the literature
SAMPLE = 300  # rows, whose distances stand for all


def score(dataset: Dataset, maps: list[np.ndarray]) -> dict[str, float]:
    """Returns the measures by name, NaN where one is not defined."""
    near: dict[str, Any] = {"n_neighbors": K}
    of_maps: dict[str, tuple[Callable[..., float], dict[str, Any]]] = {
        "trustworthiness": (metrics.trustworthiness, near),
        "continuity": (metrics.continuity, near),
        "preservation_15": (metrics.neighborhood_preservation, near),
        "preservation_5pct": (
            metrics.neighborhood_preservation,
            {"n_neighbors": SHARE},
        ),
        "jaccard_15": (metrics.neighborhood_jaccard, near),
        "normalized_stress": (metrics.normalized_stress, {"sample": SAMPLE}),
    }
    for kind in ("pearson", "spearman", "kendall"):
        options = {"correlation": kind, "sample": SAMPLE}
        of_maps[f"shepard_{kind}"] = metrics.shepard, options
    pairs = [*zip(dataset.slices, maps, strict=True)]
    scores = {
        name: mean([measure(x, y, **options) for x, y in pairs])
        for name, (measure, options) in of_maps.items()
    }
    if dataset.labels is not None:
        labeled = zip(maps, dataset.labels, strict=True)
        scores["neighborhood_hit"] = mean(
            [metrics.neighborhood_hit(y, labels, **near) for y, labels in labeled]
        )
    return scores | _score_motion(dataset, maps)


def _score_motion(dataset: Dataset, maps: list[np.ndarray]) -> dict[str, float]:
    mates = consecutive(dataset.relations, [*map(len, maps)])
    data = list(dataset.slices)
    scores = {
        name: getattr(metrics, name)(data, maps, mates)
        for name in ("coherence", "false_motion", "missed_motion")
    }
    for kind in ("pearson", "spearman", "stress"):
        options: dict[str, Any] = {"correlation": kind}
        scores[f"stability_{kind}"] = metrics.stability(data, maps, mates, **options)
    for name in ("displacement", "displacement_without_drift"):
        scores[name] = getattr(metrics, name)(maps, mates)
    scores["center_drift"] = metrics.center_drift(maps)
    scores["apart_5"] = metrics.frame_displacement(data, maps, lag=5)
    return scores
