"""Every measure of one method's maps of one sequence, means over the slices."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from aljax import metrics
from aljax.relations.mates import Mates, Relations
from experiments.data.dataset import Dataset

K = 15
SHARE = 0.05  # of the rows, as in the literature
SAMPLE = 300  # rows, whose distances stand for all


def consecutive_mates(dataset: Dataset) -> Relations:
    """The mates of consecutive slices, with strength 1."""
    found = {}
    for t, relation in enumerate(dataset.relations):
        rows, others = np.array([*relation.items()], dtype=int).reshape(-1, 2).T
        found[t, 1] = Mates(rows, others, np.ones(len(relation)))
    return found


def score(dataset: Dataset, maps: list[np.ndarray]) -> dict[str, float]:
    """Measures by name; NaN where one is not defined."""
    pairs = [*zip(dataset.slices, maps, strict=True)]
    of_maps: dict[str, Callable[..., float]] = {
        "trustworthiness": lambda x, y: metrics.trustworthiness(x, y, n_neighbors=K),
        "continuity": lambda x, y: metrics.continuity(x, y, n_neighbors=K),
        "preservation_15": lambda x, y: metrics.neighborhood_preservation(
            x, y, n_neighbors=K
        ),
        "preservation_5pct": lambda x, y: metrics.neighborhood_preservation(
            x, y, n_neighbors=SHARE
        ),
        "jaccard_15": lambda x, y: metrics.neighborhood_jaccard(x, y, n_neighbors=K),
        "normalized_stress": lambda x, y: metrics.normalized_stress(
            x, y, sample=SAMPLE
        ),
    }
    for kind in ("pearson", "spearman", "kendall"):
        of_maps[f"shepard_{kind}"] = partial(
            metrics.shepard, correlation=kind, sample=SAMPLE
        )
    found = {
        name: _mean([measure(x, y) for x, y in pairs])
        for name, measure in of_maps.items()
    }
    if dataset.labels is not None:
        found["neighborhood_hit"] = _mean(
            [
                metrics.neighborhood_hit(y, labels, n_neighbors=K)
                for y, labels in zip(maps, dataset.labels, strict=True)
            ]
        )
    return found | _score_motion(dataset, maps)


def _score_motion(dataset: Dataset, maps: list[np.ndarray]) -> dict[str, float]:
    mates = consecutive_mates(dataset)
    data = list(dataset.slices)
    found = {
        name: getattr(metrics, name)(data, maps, mates)
        for name in (
            "coherence",
            "false_motion",
            "missed_motion",
        )
    }
    for kind in ("pearson", "spearman", "stress"):
        found[f"stability_{kind}"] = metrics.stability(
            data, maps, mates, correlation=kind
        )
    for name in ("displacement", "displacement_without_drift"):
        found[name] = getattr(metrics, name)(maps, mates)
    return found


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
