"""Rows as float32 can compare them: centred and scaled, or normalised, in float64.

Clusters far apart drown the distances within them all the same: `drowns` says which.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

ROUNDING = 1e-5  # of the largest squared norm: about 100 times float32's
FEW = 0.01  # share of rows, such as repeated ones, that are let pass

Conditioned = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray], float]


def condition(data: Float[np.ndarray, "points features"], metric: str) -> Conditioned:
    """Centre and scale rows (or normalise them), on the host and in float64.

    Args:
        data: One slice.
        metric: "euclidean" or "cosine".

    Returns:
        The rows, what does the same to other rows, and the scale.
    """
    if metric == "cosine":
        return _normalize(data), _normalize, 1.0
    centre = np.mean(data, axis=0, dtype=np.float64)
    centred = np.subtract(data, centre, dtype=np.float64)
    scale = float(max(centred.max(), -centred.min())) or 1.0

    def into(rows: np.ndarray) -> np.ndarray:
        return np.subtract(rows, centre, dtype=np.float64) / scale

    centred /= scale
    return centred, into, scale


def drowns(squared: Any, norms: Any, rounding: float = ROUNDING) -> Any:
    """Which squared distances drown in float32's rounding (of NumPy or JAX).

    Args:
        squared: Squared distances of rows, or halves of them.
        norms: Squared norms of all rows, or halves of them.
        rounding: The share of the largest norm below which they do.
    """
    return squared < rounding * norms.max()


def _normalize(rows: np.ndarray) -> np.ndarray:
    exact = np.asarray(rows, dtype=np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    exact = exact / np.where(largest > 0, largest, 1)
    norm = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    # A row of zeros gets a direction of its own, at cosine 0 to all others.
    return np.hstack([exact / np.where(norm > 0, norm, 1), norm == 0])
