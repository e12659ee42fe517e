"""Pinned rows in any coordinates: how wide they lie in a layout's own, and back.

A layout has a scale of its own, which its curve 1 / (1 + a d^(2b)) sets.  Positions
that are pinned in another are brought to it, as wide as a map of n rows usually is,

    root mean square of a coordinate = h min(6.5, .23 sqrt(n)),    h = a^(-1 / (2b)),

where h is the distance at which the curve is 1/2 (the constants by measurement).
Positions about as wide as that, and near 0, as those of another layout are, stay.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from aljax.layout.problem import LayoutParams
from aljax.layout.spectral import Start
from aljax.scaling import Units

WIDEST, GROWTH = 6.5, 0.23
ALIKE = 2.0  # times narrower, wider or spreads off center is still the layout's own
WIDE = 10.0  # times wider, from which on a layout hardly draws its points together
FAR = 1e3  # units from 0, beyond which single precision tells positions badly apart

Masks = Sequence[np.ndarray | None]


def coordinates_of(
    start: Sequence[Start | None] | None, pinned: Masks, params: LayoutParams
) -> Units | None:
    """Returns the layout's center and unit in the coordinates of pinned rows.

    Args:
        start: For each slice its positions, where it has some.
        pinned: For each slice which of its rows stay there.
        params: The settings of the layout.

    Returns:
        None where no rows are pinned, or they lie as the layout's own do, or the space
        is not Euclidean, so that scale is no matter of choice; it leaves all as it is.
    """
    if params.space is not None:
        return None
    pairs = zip(start or (), pinned, strict=start is not None)
    held = [(y, mask) for y, mask in pairs if y is not None and np.any(mask)]
    if not held:
        return None
    fixed = np.concatenate([y[mask] for y, mask in held])
    rows = np.mean([len(y) for y, _ in held])
    units, times, shift = _compared(fixed, float(rows), params)
    return None if 1 / ALIKE <= times <= ALIKE and shift <= ALIKE else units


def brought_near(
    start: Sequence[Start | None], pinned: Masks, params: LayoutParams
) -> list[Start | None]:
    """Returns positions that nothing pins, brought to the layout's scale from afar.

    Where they lie so wide that no two points meet, or so far off that single precision
    does not tell them apart, the layout could not move them; others stay.
    """
    positions = [y for y in start if y is not None and len(y)]
    if params.space is not None or not positions or any(map(np.any, pinned)):
        return [*start]
    rows = np.mean([len(y) for y in positions])
    units, times, shift = _compared(np.concatenate(positions), float(rows), params)
    return inward(units if times > WIDE or shift > FAR else None, start)


def _compared(
    positions: np.ndarray, rows: float, params: LayoutParams
) -> tuple[Units, float, float]:
    """Returns units of positions, a unit in the layout's, and their shift from 0."""
    center = positions.mean(axis=0)
    spread = math.sqrt(np.mean((positions - center) ** 2))
    a, b = (float(np.mean(np.asarray(leaf))) for leaf in (params.a, params.b))
    unit = spread / (a ** (-1 / (2 * b)) * min(WIDEST, GROWTH * math.sqrt(rows)))
    shift = float(np.abs(center).max() / spread) if spread else math.inf
    return Units(center, np.full_like(center, unit if unit > 0 else 1.0)), unit, shift


def inward(coordinates: Units | None, maps: Sequence[Start | None]) -> list:
    """Returns maps in the coordinates of the layout."""
    if coordinates is None:
        return [*maps]
    return [None if y is None else coordinates.apply(y) for y in maps]


def outward(
    coordinates: Units | None,
    maps: Sequence[Start],
    fixed: Sequence[Start | None] | None = None,
    stay: Masks = (),
) -> list[Start]:
    """Returns a layout's maps in the coordinates of the user.

    Args:
        coordinates: The layout's center and unit there; None leaves all as it is.
        maps: The maps of the layout.
        fixed: For each slice positions of the user's, for the rows that stay.
        stay: For each slice which rows these are: they come out bit for bit.
    """
    if coordinates is None:
        return [*maps]
    distance = np.abs(coordinates.center / coordinates.unit).max()
    dtype = float if distance > FAR else jax.dtypes.canonicalize_dtype(float)
    placed = [coordinates.undo(y).astype(dtype) for y in maps]
    for y, positions, rows in zip(placed, fixed or (), stay, strict=False):
        if rows is not None and positions is not None:
            y[rows] = positions[rows]
    return placed
