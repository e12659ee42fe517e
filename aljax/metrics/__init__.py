"""Measures of one map and of a sequence of maps."""

from aljax.metrics.distances import (
    normalized_stress,
    shepard_kendall,
    shepard_pearson,
    shepard_spearman,
)
from aljax.metrics.intervals import bootstrap_interval
from aljax.metrics.maps import (
    continuity,
    knn_accuracy,
    knn_recall,
    neighborhood_hit,
    neighborhood_jaccard,
    neighborhood_preservation,
    reconstruction_error,
    trustworthiness,
)
from aljax.metrics.motion import (
    coherence,
    displacement,
    displacement_without_drift,
    false_motion,
    missed_motion,
    stability_pearson,
    stability_spearman,
    stability_stress,
)

__all__ = [
    "bootstrap_interval",
    "coherence",
    "continuity",
    "displacement",
    "displacement_without_drift",
    "false_motion",
    "knn_accuracy",
    "knn_recall",
    "missed_motion",
    "neighborhood_hit",
    "neighborhood_jaccard",
    "neighborhood_preservation",
    "normalized_stress",
    "reconstruction_error",
    "shepard_kendall",
    "shepard_pearson",
    "shepard_spearman",
    "stability_pearson",
    "stability_spearman",
    "stability_stress",
    "trustworthiness",
]
