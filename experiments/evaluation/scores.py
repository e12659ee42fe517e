"""Scores one method's maps of one sequence by every measure, as means over slices."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from aljax import metrics
from experiments.data.dataset import Dataset, consecutive
from experiments.results.records import mean

NEAR = {"n_neighbors": 15}
SHARE = {"n_neighbors": 0.05}  # of the rows, as in the literature
SAMPLE = {"sample": 300}  # rows, whose distances stand for all
OF_MAPS: dict[str, Callable[..., float]] = {
    "trustworthiness": partial(metrics.trustworthiness, **NEAR),
    "continuity": partial(metrics.continuity, **NEAR),
    "preservation_15": partial(metrics.neighborhood_preservation, **NEAR),
    "preservation_5pct": partial(metrics.neighborhood_preservation, **SHARE),
    "jaccard_15": partial(metrics.neighborhood_jaccard, **NEAR),
    "normalized_stress": partial(metrics.normalized_stress, **SAMPLE),
    "shepard_pearson": partial(metrics.shepard, correlation="pearson", **SAMPLE),
    "shepard_spearman": partial(metrics.shepard, correlation="spearman", **SAMPLE),
    "shepard_kendall": partial(metrics.shepard, correlation="kendall", **SAMPLE),
}


def score(dataset: Dataset, maps: list[np.ndarray]) -> dict[str, float]:
    """Returns the measures by name, NaN where one is not defined."""
    pairs = [*zip(dataset.slices, maps, strict=True)]
    scores = {
        name: mean(measure(x, y) for x, y in pairs) for name, measure in OF_MAPS.items()
    }
    if dataset.labels is not None:
        hits = map(partial(metrics.neighborhood_hit, **NEAR), maps, dataset.labels)
        scores["neighborhood_hit"] = mean(hits)
    mates = consecutive(dataset.relations, [*map(len, maps)])
    data = list(dataset.slices)
    for name in ("coherence", "false_motion", "missed_motion"):
        scores[name] = getattr(metrics, name)(data, maps, mates)
    for kind in ("pearson", "spearman", "stress"):
        options: dict[str, Any] = {"correlation": kind}
        scores[f"stability_{kind}"] = metrics.stability(data, maps, mates, **options)
    for name in ("displacement", "displacement_without_drift"):
        scores[name] = getattr(metrics, name)(maps, mates)
    scores["center_drift"] = metrics.center_drift(maps)
    scores["apart_5"] = metrics.frame_displacement(data, maps, lag=5)
    return scores
