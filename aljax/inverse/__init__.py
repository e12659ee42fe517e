"""From positions in a map back to data."""

from aljax.inverse.gradient import GradientMap, gradient_map
from aljax.inverse.reconstruct import (
    Reconstruction,
    inverse_trajectory,
    inverse_transform,
    inverse_transform_at,
)

__all__ = [
    "GradientMap",
    "Reconstruction",
    "gradient_map",
    "inverse_trajectory",
    "inverse_transform",
    "inverse_transform_at",
]
