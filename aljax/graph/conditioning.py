"""Rows as float32 can compare them: centered and scaled, or of length 1, on the host.

|x - y| = unit |x' - y'|, or 1 - cos(x, y) = |x' - y'|^2 / 2
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from aljax.graph.knn import capacity_for

DEVICE_METRICS = ("euclidean", "cosine", "correlation")
ANGLES = ("cosine", "correlation")  # 1 - cos: the same at any scale
ROUNDING = 1e-5  # of a squared norm: about 100 times float32's
LEAST = 1e-30  # of squared distances that float32 holds, of rows no longer than 1
PART = 256  # rows that are conditioned at once: they stay in the processor's cache
FAR = 1e6  # times the usual distance of rows from their median: float64 has 16 digits
SAMPLE = 256  # rows that tell it
FEW = 0.01  # share of rows, such as repeated ones, that may drown
Conditioning = Callable[..., np.ndarray]  # rows, float type, capacity
Table = tuple[
    Int[np.ndarray, "neighbors points"], Float[np.ndarray, "neighbors points"]
]


def conditioning(
    data: Float[np.ndarray, "points features"], metric: str
) -> tuple[Conditioning, float]:
    """Makes a function that centers and scales rows (or normalizes them), on the host.

    The function takes these or other rows, a float type and, for padding, a capacity;
    it computes in float64.  Beside it stands the unit of their distances.
    """
    if metric in ANGLES:
        angles = _normalize if metric == "cosine" else _standardize
        return partial(_by_parts, angles), 1.0
    mean: Any = np.mean(data, axis=0, dtype=np.float64)
    center = center_of(data, mean)
    reach = np.maximum(data.max(axis=0) - center, center - data.min(axis=0))
    scale = float(reach.max()) or 1.0

    def centered(rows: np.ndarray) -> np.ndarray:
        return np.subtract(rows, center, dtype=np.float64) / scale

    return partial(_by_parts, centered), scale


def center_of(
    data: Float[np.ndarray, "points features"], mean: Float[np.ndarray, "features"]
) -> Float[np.ndarray, "features"]:
    """Returns the mean of rows or, where a few lie far out, the median of a sample.

    Around a mean that lies far from most rows, float64 could not tell these apart.
    """
    sample = np.asarray(data[:: -(-len(data) // SAMPLE)], dtype=np.float64)
    median = np.median(sample, axis=0)
    apart = np.abs(sample - median).max(axis=1)
    usual = np.median(apart[apart > 0]) if apart.any() else np.inf
    return median if np.abs(mean - median).max() > FAR * usual else mean


def drowns(squared: Any, norms: Any, rounding: float = ROUNDING) -> Any:
    """Returns a mask of the squared distances that drown in float32's rounding.

    `norms` are the squared ones of the rows that they are from.  Both may be halves of
    squares; `rounding` is the share of the norms.
    """
    return squared < rounding * norms + LEAST


def _by_parts(
    function: Callable[[np.ndarray], np.ndarray],
    rows: np.ndarray,
    dtype: DTypeLike,
    capacity: int = 0,
) -> np.ndarray:
    results = np.zeros((max(capacity, len(rows)), function(rows[:1]).shape[1]), dtype)
    for start in range(0, len(rows), PART):
        result = function(rows[start : start + PART])
        results[start : start + len(result)] = result
    return results


def _normalize(rows: np.ndarray) -> np.ndarray:
    exact = np.asarray(rows, dtype=np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    exact = exact / np.where(largest > 0, largest, 1)
    norm = np.sqrt((exact**2).sum(axis=1, keepdims=True))
    # A row of zeros gets a direction of its own, at cosine 0 to all others.
    return np.hstack([exact / np.where(norm > 0, norm, 1), norm == 0])


def _standardize(rows: np.ndarray) -> np.ndarray:
    exact = np.asarray(rows, dtype=np.float64)
    centered = exact - exact.mean(axis=1, keepdims=True)
    # Of a row of one value the mean may miss it by rounding.
    return _normalize(np.where(np.ptp(exact, axis=1, keepdims=True) > 0, centered, 0))


def by_distance(data: Any, metric: Any) -> Any:
    """Returns rows whose Euclidean distances have the order of the metric's.

    These are rows of length 1 where the metric compares angles; sparse ones, and those
    of any other metric, stay as they are.
    """
    if metric not in ANGLES or not isinstance(data, np.ndarray) or not len(data):
        return data
    return conditioning(data, metric)[0](data, np.float64)


def lengths_of(squared: Any, metric: str, unit: float) -> Any:
    """Distances in units of the metric, of squared ones between conditioned rows."""
    return squared / 2 if metric in ANGLES else np.sqrt(squared) * unit


def search_scaled(
    data: Float[np.ndarray, "points features"],
    metric: str,
    search: Callable[[np.ndarray], Table],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Searches neighbors among scaled rows, again in float64 if float32 loses them.

    `search` takes the rows, conditioned and padded.  Beside the rows that it took last
    and the two tables that it found stand the distances in units of the metric.
    """
    condition, unit = conditioning(data, metric)
    capacity = capacity_for(len(data))
    rows = condition(data, jnp.zeros(()).dtype, capacity)
    indices, squared = search(rows)
    norms = np.einsum("ij,ij->i", rows, rows)[: len(data)]
    lost = drowns(squared[-1], norms)
    if lost.mean() > FEW and squared.dtype == np.float32:
        # Clusters far apart: distances within them drown in float32's rounding.
        with jax.enable_x64(True):
            rows = condition(data, np.float64, capacity)
            indices, squared = search(rows)
    return rows, indices, squared, lengths_of(squared, metric, unit)
