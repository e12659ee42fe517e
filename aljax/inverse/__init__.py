"""From positions in a map back to data."""

from aljax.inverse.reconstruct import (
    GradientMap,
    Reconstruction,
    gradient_map,
    inverse_transform,
)

__all__ = ["GradientMap", "Reconstruction", "gradient_map", "inverse_transform"]
