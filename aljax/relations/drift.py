"""Which move the rows of two slices have in common: they spread, and shift.

It is that of coupled rows: where they lie before and after, and how far they spread,
weighted by their masses.  A row far out, near to nothing but by its unit, would make
all of a spread, and does not count.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aljax.relations.sides import (
    Settings,
    Side,
    couple_nearest,
    far_out,
    part_of,
    sample_of,
    search_of,
    sums,
)

ROUNDS = 3  # in which the move is found
LEAST = 1e-6  # mass of coupled rows that have a move


class Move(NamedTuple):
    """A move that is common to all rows: they spread from their center, and shift."""

    scale: float
    shift: Float[np.ndarray, "features"]


def moved(side: Side, move: Move, center: Float[np.ndarray, "features"]) -> Side:
    """Returns rows of a slice after a move; `center` is the mean of all its rows."""
    scale = side.rows.dtype.type(move.scale)
    rows = (side.rows - center) * scale + (center + move.shift)
    return Side(rows, side.near, side.squared * move.scale**2)


def find_move(
    before: Side,
    after: Side,
    settings: Settings,
    rng: np.random.Generator,
) -> Move:
    """Returns the common move of rows under their coupling, found in a few rounds.

    They start at no move, or at that of the medians if more mass is coupled there.
    """
    sample = part_of(before, sample_of(len(before.rows), rng))
    x, y, center = sample.rows, after.rows, before.rows.mean(axis=0)
    search, far, far_after = search_of(y), far_out(x), far_out(y)

    def follow(move: Move) -> tuple[float, Move]:
        here = moved(sample, move, center)
        table = couple_nearest(here, after, search, settings, settings.reach)
        rows, others, mass = table
        counted = mass * ~(far[rows] | far_after[others])
        ends = (x, sums(rows, counted, len(x))), (y, sums(others, counted, len(y)))
        return float(mass.sum(dtype=float)), _common_move(*ends, center)

    none = np.zeros_like(center)
    away = (np.median(y, axis=0) - np.median(x, axis=0)).astype(x.dtype)
    starts = (follow(Move(1.0, shift)) for shift in (none, away))
    _, move = max(starts, key=lambda coupled: coupled[0])
    for _ in range(ROUNDS - 1):
        _, move = follow(move)
    return move


def _common_move(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    center: Float[np.ndarray, "features"],
) -> Move:
    """Returns the move from coupled rows to those coupled to them, by their masses."""
    means, spreads = [], []
    for rows, mass in (before, after):
        shares = mass / max(mass.sum(), LEAST)
        mean = shares @ rows
        means.append(mean)
        spreads.append(np.sqrt(shares @ ((rows - mean) ** 2).sum(axis=1)))
    scale = float(spreads[1] / spreads[0]) if min(spreads) > 0 else 1.0
    shift = means[1] - center - scale * (means[0] - center)
    return Move(scale, shift.astype(center.dtype))
