"""How sure a mean is: intervals by resampling.

The interval holds the middle `level` of the means of samples drawn with replacement.
"""

import numpy as np
from jaxtyping import Float

from aljax.errors import LARGEST

BLOCK = 2**22  # drawn values held at once


def bootstrap_interval(
    values: Float[np.ndarray, "values"],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of a mean, such as of a measure `per_point`.

    Args:
        values: What the mean is of; NaN are left out.
        level: The share of resampled means inside (above 0, below 1).
        draws: Samples with replacement (at least 1).
        seed: Of the draws.

    Returns:
        Its two ends; NaN if there are no values.

    Raises:
        ValueError: `level` or `draws` out of range.

    Source: Efron & Tibshirani (1993), "An introduction to the bootstrap", section 13.3.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` is {level}; expected above 0 and below 1.")
    if draws < 1:
        raise ValueError(f"`draws` is {draws}; expected at least 1.")
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    if not known.size:
        return float("nan"), float("nan")
    if not (np.abs(known) < LARGEST).all():
        raise ValueError(
            f"`values` has {known[np.abs(known).argmax()]}; expected finite numbers, "
            f"below {LARGEST:g} in size."
        )
    rng = np.random.default_rng(seed)
    at_once = max(1, BLOCK // known.size)
    means = []
    for start in range(0, draws, at_once):
        shape = (min(at_once, draws - start), known.size)
        means.append(known[rng.integers(known.size, size=shape)].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
