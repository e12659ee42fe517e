"""Which directions of the data tell a row's mate from strangers.

Along some directions coupled rows differ about as much as any two rows do: noise, or
what changes from slice to slice.  Along others they stay where they are.  With S the
mean of d d' for the differences d of coupled rows, and D that for any two rows, the
likelihood ratio of a pair depends on

    d' (S^-1 - D^-1) d

if both are normal.  `telling` returns the space in which that is the squared distance.

Source: Köstinger, Hirzer, Wohlhart, Roth & Bischof (2012), "Large scale metric
learning from equivalence constraints", CVPR, section 3.1.  Here the pairs are weighted
by their masses, S is drawn half the way to equal variances, and only the leading
principal components are looked at.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from aljax.relations.sides import far_out, sample_of

COMPONENTS = 100  # leading ones that are looked at
TO_EQUAL = 0.5  # how far S is drawn to equal variances
STILL = 1e-6  # of the rows' variance, the least of coupled rows' differences


def telling(
    x: Float[np.ndarray, "points features"],
    y: Float[np.ndarray, "points_after features"],
    rows: Int[np.ndarray, "pairs"],
    others: Int[np.ndarray, "pairs"],
    mass: Float[np.ndarray, "pairs"],
    rng: np.random.Generator,
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


def _components(
    rows: Float[np.ndarray, "points features"], rng: np.random.Generator
) -> Float[np.ndarray, "features components"]:
    """Returns the leading principal components; all axes if they are few."""
    if rows.shape[1] <= COMPONENTS:
        return np.eye(rows.shape[1])
    from sklearn.utils.extmath import randomized_svd

    count, seed = min(COMPONENTS, len(rows)), int(rng.integers(2**31))
    return randomized_svd(rows, count, random_state=seed)[2].T
