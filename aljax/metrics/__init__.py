"""Measures of one map and of a sequence of maps."""

from functools import partial
from typing import Any

from aljax.errors import nearest_name, warn
from aljax.metrics.distances import (
    density_preservation,
    local_radii,
    normalized_stress,
    shepard,
)
from aljax.metrics.maps import (
    bootstrap_interval,
    continuity,
    knn_accuracy,
    neighborhood_hit,
    neighborhood_jaccard,
    neighborhood_preservation,
    reconstruction_error,
    trustworthiness,
)
from aljax.metrics.motion import (
    center_drift,
    coherence,
    displacement,
    displacement_without_drift,
    false_motion,
    frame_displacement,
    missed_motion,
    stability,
)
from aljax.metrics.moved import Calls, Moves, moved

__all__ = [
    "Calls",
    "Moves",
    "bootstrap_interval",
    "center_drift",
    "coherence",
    "continuity",
    "density_preservation",
    "displacement",
    "displacement_without_drift",
    "false_motion",
    "frame_displacement",
    "knn_accuracy",
    "local_radii",
    "missed_motion",
    "moved",
    "neighborhood_hit",
    "neighborhood_jaccard",
    "neighborhood_preservation",
    "normalized_stress",
    "reconstruction_error",
    "shepard",
    "stability",
    "trustworthiness",
]
RENAMED = {
    "knn_recall": (neighborhood_preservation, {}),
    "shepard_kendall": (shepard, {"correlation": "kendall"}),
    "shepard_pearson": (shepard, {"correlation": "pearson"}),
    "shepard_spearman": (shepard, {"correlation": "spearman"}),
    "stability_pearson": (stability, {"correlation": "pearson"}),
    "stability_spearman": (stability, {"correlation": "spearman"}),
    "stability_stress": (stability, {"correlation": "stress"}),
}


def __getattr__(name: str) -> Any:
    """Returns a measure by the name that it had in version 0.1, with a warning."""
    if name not in RENAMED:
        hint = nearest_name(name, __all__)
        raise AttributeError(
            f"module 'aljax.metrics' has no attribute {name!r}: {hint}"
        )
    measure, options = RENAMED[name]
    spelled = "".join(f"(..., {key}={value!r})" for key, value in options.items())
    spelled = f"`aljax.metrics.{measure.__name__}{spelled}`"
    warn(f"`aljax.metrics.{name}` is now {spelled}.", DeprecationWarning)
    return partial(measure, **options)


def __dir__() -> list[str]:
    return [*__all__]
