"""Changes that the rows of two slices have in common: a move, and directions.

A move spreads all rows, and shifts them.  It is that of coupled rows: where they lie
before and after, and how far they spread, weighted by their masses.  A row far out,
near to nothing but by its unit, would make all of a spread, and does not count.

Along some directions coupled rows differ about as much as any two rows do: noise, or
what changes from slice to slice.  Along others they stay where they are.  With S the
mean of d d' for the differences d of coupled rows, and D that for any two rows, the
likelihood ratio of a pair depends on

    d' (S^-1 - D^-1) d

if both are normal.  `telling` returns the space in which that is the squared distance.

Source of the directions: Köstinger, Hirzer, Wohlhart, Roth & Bischof (2012), "Large
scale metric learning from equivalence constraints", CVPR, section 3.1.  Here the pairs
are weighted by their masses, S is drawn half the way to equal variances, and only the
leading principal components are looked at.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from scipy.sparse import csr_array

from aljax.relations.sides import (
    Ends,
    Masses,
    Rows,
    RowsAfter,
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
COMPONENTS = 100  # leading ones that are looked at
TO_EQUAL = 0.5  # how far S is drawn to equal variances
STILL = 1e-6  # of the rows' variance, the least of coupled rows' differences


class Move(NamedTuple):
    """A move that is common to all rows: they spread from their center, and shift."""

    scale: float
    shift: Float[np.ndarray, "features"]


def moved(side: Side, move: Move, center: Float[np.ndarray, "features"]) -> Side:
    """Returns rows of a slice after a move; `center` is the mean of all its rows."""
    scale = side.rows.dtype.type(move.scale)
    rows = (side.rows - center) * scale + (center + move.shift)
    return Side(rows, side.near, side.squared * move.scale**2)


def find_move(before: Side, after: Side, settings: Settings, rng: Generator) -> Move:
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


def telling(
    x: Rows, y: RowsAfter, rows: Ends, others: Ends, mass: Masses, rng: Generator
) -> Float[np.ndarray, "features directions"] | None:
    """Returns what takes rows into that space; None if no direction tells anything."""
    from scipy.linalg import eigh

    chosen, chosen_after = (sample_of(len(side), rng) for side in (x, y))
    far, far_after = far_out(x), far_out(y)
    chosen, chosen_after = chosen[~far[chosen]], chosen_after[~far_after[chosen_after]]
    is_chosen = np.isin(rows, chosen) & ~far_after[others]
    pairs = np.searchsorted(chosen, rows[is_chosen]), others[is_chosen]
    plan = csr_array((mass[is_chosen].astype(float), pairs), (len(chosen), len(y)))
    total = plan.sum()
    if not total > 0:
        return None
    center = x[chosen].mean(axis=0, dtype=float)
    x, coupled = x[chosen] - center, np.flatnonzero(plan.sum(axis=0))
    both = np.vstack([x, y[chosen_after] - y[chosen_after].mean(axis=0, dtype=float)])
    basis = _components(both, rng)
    x, y, both = x @ basis, (y[coupled] - center) @ basis, both @ basis
    plan = plan[:, coupled]
    cross = x.T @ (plan @ y)
    squares = (x.T * plan.sum(axis=1)) @ x + (y.T * plan.sum(axis=0)) @ y
    apart, spread = (squares - cross - cross.T) / total, 2 * both.T @ both / len(both)
    equal = max(np.trace(apart), STILL * np.trace(spread)) / len(apart)
    if not equal > 0:
        return None
    apart = (1 - TO_EQUAL) * apart + TO_EQUAL * equal * np.eye(len(apart))
    ratios, directions = eigh(spread, apart)
    gains = 1 - 1 / np.maximum(ratios, 1.0)
    return basis @ (directions * np.sqrt(gains))[:, gains > 0] if gains.any() else None


def _components(rows: Rows, rng: Generator) -> Float[np.ndarray, "features components"]:
    """Returns the leading principal components; all axes if they are few."""
    if rows.shape[1] <= COMPONENTS:
        return np.eye(rows.shape[1])
    from sklearn.utils.extmath import randomized_svd

    count, seed = min(COMPONENTS, len(rows)), int(rng.integers(2**31))
    return randomized_svd(rows, count, random_state=seed)[2].T
