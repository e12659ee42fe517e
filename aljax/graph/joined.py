"""Two graphs of the same rows as one: what both say, either says, or one alone.

    both     w = u v                     on the edges of both, each absent one
    either   w = u + v - u v             as half of the faintest of its graph
    alone    w = u (1 - v)               on the edges of the first, v absent as nearly 1

Each row's strongest edge is then made 1 and, but for the last, its memberships are
raised to the power m at which they sum to log2 15; the two directions of an edge are
joined by fuzzy union.

Source: umap-learn's `*`, `+` and `-` of models, with its constants.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.supervised import FAINT, FAINTEST, entries, restored

SIZE = float(np.log2(15))  # of a neighborhood
BISECTIONS, TOLERANCE = 32, 1e-5


def both(left: FuzzyGraph, right: FuzzyGraph) -> FuzzyGraph:
    """Returns the graph of what two graphs both say: their intersection."""
    u, v = left.to_sparse(), right.to_sparse()
    edges = (u + v).tocoo()
    faint = min(_half_of(v.data), FAINT)
    edges.data = _at(u, edges, _half_of(u.data)) * _at(v, edges, faint)
    return FuzzyGraph.from_sparse(restored(_sharpened(edges.tocsr())))


def either(left: FuzzyGraph, right: FuzzyGraph) -> FuzzyGraph:
    """Returns the graph of what either of two graphs says: their union."""
    u, v = left.to_sparse(), right.to_sparse()
    edges = (u + v).tocoo()
    x, y = (_at(side, edges, _half_of(side.data)) for side in (u, v))
    edges.data = x + y - x * y
    return FuzzyGraph.from_sparse(restored(_sharpened(edges.tocsr())))


def alone(left: FuzzyGraph, right: FuzzyGraph) -> FuzzyGraph:
    """Returns the graph of what the first says and the second does not."""
    u, v = left.to_sparse(), right.to_sparse()
    edges = u.tocoo()
    shared = entries(v, edges.row, edges.col)
    least = min(_half_of(1 - v.data), FAINT)
    edges.data = edges.data * np.where(shared > 0, 1 - shared, least)
    return FuzzyGraph.from_sparse(restored(edges.tocsr()))


def _half_of(values: np.ndarray) -> float:
    """Returns the membership that stands for an absent edge."""
    return max(float(values.min(initial=1)) / 2, FAINTEST)


def _at(matrix: Any, edges: Any, least: float) -> np.ndarray:
    values = entries(matrix, edges.row, edges.col)
    return np.where(values > 0, values, least)


def _sharpened(weights: Any) -> Any:
    """Returns memberships, the strongest 1, to the power where a row's sum to SIZE."""
    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    strongest = weights.max(axis=1).toarray().ravel()[rows]
    values = weights.data / np.where(strongest > 0, strongest, 1)
    low = np.zeros(weights.shape[0])
    high, power = np.full_like(low, np.inf), np.ones_like(low)
    for _ in range(BISECTIONS):
        total: Float[np.ndarray, _] = np.bincount(
            rows, values ** power[rows], minlength=len(low)
        )
        close = np.abs(total - SIZE) < TOLERANCE
        small = total < SIZE
        high = np.where(small & ~close, power, high)
        low = np.where(small | close, low, power)
        middle = np.where(np.isinf(high), power * 2, (low + high) / 2)
        power = np.where(close, power, middle)
    sharpened = weights.copy()
    sharpened.data = values ** power[rows]
    return sharpened
