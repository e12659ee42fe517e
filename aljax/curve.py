"""The membership curve of a map, 1 / (1 + a d^(2b)), from `min_dist` and `spread`."""

from functools import lru_cache
from typing import Any

import numpy as np

from aljax.errors import InputError

STEPS = 30  # of a fit of a and b: 17 converge to double precision
SMALLEST = 1e-6  # spread of a curve whose a and b single precision can hold


def check_both(a: Any, b: Any) -> None:
    """Checks that both or neither of a curve's parameters are set."""
    if (a is None) != (b is None):
        missing = "a" if a is None else "b"
        got = "is None although its partner is not"
        remedy = "With neither, they are fitted to `min_dist` and `spread`."
        raise InputError(missing, got, "both `a` and `b`, or neither", remedy)


def check_curve(spread: float, min_dist: float) -> None:
    """Checks that `min_dist` is within `spread`, and `spread` is in map units."""
    if not 0 <= min_dist <= spread:
        got = f"is {min_dist:g} and `spread` is {spread:g}"
        remedy = "Lower `min_dist` or raise `spread`."
        raise InputError("min_dist", got, "0 <= min_dist <= spread", remedy)
    if not SMALLEST <= spread <= 1 / SMALLEST:
        expected = f"{SMALLEST:g} to {1 / SMALLEST:g} map units: maps are about 20 wide"
        raise InputError("spread", f"is {spread:g}", expected)


@lru_cache(maxsize=256)
def find_ab_params(spread: float, min_dist: float) -> tuple[float, float]:
    """Returns the curve 1 / (1 + a d^(2b)) nearest to the one of `min_dist`.

    The target is 1 up to `min_dist` and exp(-(d - min_dist) / spread) beyond, fitted
    by least squares at 299 distances up to 3 `spread`.  The fit is in units of
    `spread` and over log a and log b, so neither can turn negative.

    Args:
        spread: Scale of the curve (map units, above 0).
        min_dist: Distance up to which points count as together (map units, 0 to
            `spread`).

    Returns:
        a and b.

    Raises:
        InputError: `min_dist` is above `spread`, or `spread` is not in map units.

    Source: McInnes, Healy & Melville (2018), arXiv:1802.03426, section 3.2 and
        appendix C (the membership function's smooth approximation).
    """
    check_curve(spread, min_dist)
    distance = np.linspace(0, 3, 300)[1:]
    target = np.exp(-np.maximum(distance - min_dist / spread, 0))

    # Gauss-Newton steps, which converge from here for every ratio of the two: importing
    # SciPy's solvers would take a fifth of what importing aljax does.
    log_a = log_b = 0.0
    for _ in range(STEPS):
        exponent = 2 * np.exp(log_b) * np.log(distance)
        curve = 1 / (1 + np.exp(log_a + exponent))
        slopes = -curve * (1 - curve) * np.stack([np.ones_like(curve), exponent])
        step = np.linalg.lstsq(slopes.T, target - curve, rcond=None)[0]
        log_a, log_b = log_a + step[0], log_b + step[1]
    a, b = np.exp(log_a), np.exp(log_b)
    return float(a * spread ** (-2 * b)), float(b)
