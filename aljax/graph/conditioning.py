"""Rows as float32 can compare them: centred and scaled, or normalised, in float64.

Clusters far apart drown the distances within them all the same: `drowns` says which.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

ROUNDING = 1e-5  # of the largest squared norm: about 100 times float32's
FEW = 0.01  # share of rows, such as repeated ones, that are let pass
PART = 256  # rows that are conditioned at once: they stay in the processor's cache

Conditioning = Callable[[np.ndarray, DTypeLike], np.ndarray]


def conditioning(
    data: Float[np.ndarray, "points features"], metric: str
) -> tuple[Conditioning, float]:
    """What centres and scales rows (or normalises them), on the host.

    Args:
        data: One slice.
        metric: "euclidean" or "cosine".

    Returns:
        What does it to these or other rows, in float64, and gives them in a float
        type; and the unit of their distances.
    """
    if metric == "cosine":
        return partial(_by_parts, _normalize), 1.0
    centre = np.mean(data, axis=0, dtype=np.float64)
    reach = np.maximum(data.max(axis=0) - centre, centre - data.min(axis=0))
    scale = float(reach.max()) or 1.0

    def centred(rows: np.ndarray) -> np.ndarray:
        return np.subtract(rows, centre, dtype=np.float64) / scale

    return partial(_by_parts, centred), scale


def drowns(squared: Any, norms: Any, rounding: float = ROUNDING) -> Any:
    """Which squared distances drown in float32's rounding (of NumPy or JAX).

    Args:
        squared: Squared distances of rows, or halves of them.
        norms: Squared norms of all rows, or halves of them.
        rounding: The share of the largest norm below which they do.
    """
    return squared < rounding * norms.max()


def _by_parts(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, dtype: DTypeLike
) -> np.ndarray:
    columns = function(rows[:1]).shape[1]
    out = np.empty((len(rows), columns), dtype)
    for start in range(0, len(rows), PART):
        out[start : start + PART] = function(rows[start : start + PART])
    return out


def _normalize(rows: np.ndarray) -> np.ndarray:
    exact = np.asarray(rows, dtype=np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    exact = exact / np.where(largest > 0, largest, 1)
    norm = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    # A row of zeros gets a direction of its own, at cosine 0 to all others.
    return np.hstack([exact / np.where(norm > 0, norm, 1), norm == 0])
