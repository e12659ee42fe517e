"""Distances between ranks, counts and texts, for targets: 0 (equal) to about 2.

    ordinal   d(i, j) = |y_i - y_j| / h                          h = (max y - min y) / 2
    count     d(i, j) = sum_(k = y_i)^(y_j - 1) -log P(k) / h    h = half the whole sum
    string    d(i, j) = edits(y_i, y_j) / h                      h = longest y / 3

P is the Poisson distribution with the mean of y, and edits counts the letters that are
inserted, deleted or replaced; texts that are more than h edits apart may count as h.

Source: umap-learn's `distances.py`, but that P is exact there for counts above 20 only.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from aljax.errors import InputError

Edges = Int[np.ndarray, "edges"]
Distances = Float[np.ndarray, "edges"]
SPAN = 1e8  # counts, each of which takes 32 bytes


def ordinal(y: np.ndarray, heads: Edges, tails: Edges) -> Distances:
    """Distances between ranks, along edges."""
    return np.abs(y[heads] - y[tails]) / _unless_zero(np.ptp(y) / 2)


def count(y: np.ndarray, heads: Edges, tails: Edges) -> Distances:
    """Distances between counts, along edges.

    Raises:
        InputError: A value is not a whole number of at least 0, or they span too many.
    """
    wrong = (y < 0) | (y % 1 != 0)
    if wrong.any():
        row = int(wrong.argmax())
        got = f"has {y[row]} in row {row}"
        raise InputError("y", got, "whole numbers of at least 0, for they are counts")
    from scipy.special import gammaln

    if np.ptp(y) > SPAN:
        got = f"spans {np.ptp(y):g} counts"
        remedy = 'Set target_metric="euclidean", and give logarithms of them.'
        raise InputError("y", got, f"at most {SPAN:g}, which are summed up", remedy)
    steps = np.arange(y.min(), y.max())
    mean = _unless_zero(y.mean())
    surprise = mean - steps * np.log(mean) + gammaln(steps + 1)
    sums = np.concatenate([[0.0], np.cumsum(surprise)])
    place = (y - y.min()).astype(int)
    return np.abs(sums[place[heads]] - sums[place[tails]]) / _unless_zero(sums[-1] / 2)


def string(y: Sequence[str], heads: Edges, tails: Edges) -> Distances:
    """Returns distances between texts, along edges; each pair is compared once."""
    texts = [*dict.fromkeys(y)]
    codes = np.array([*map({text: i for i, text in enumerate(texts)}.get, y)])
    most = _unless_zero(max(map(len, texts)) / 3)
    pairs = codes[heads] * len(texts) + codes[tails]
    distinct, pair_of_edge = np.unique(pairs, return_inverse=True)
    ends = (divmod(pair, len(texts)) for pair in distinct.tolist())
    lengths = [edits(texts[i], texts[j], most) for i, j in ends]
    return np.asarray(lengths, float)[pair_of_edge] / most


def edits(left: str, right: str, most: float) -> float:
    """Returns the edit distance of two texts, or `most` once it is sure to be more.

    Source: Wagner & Fischer (1974), "The string-to-string correction problem".
    """
    if abs(len(left) - len(right)) > most:
        return most
    row: list[int] = [*range(len(right) + 1)]
    for i, letter in enumerate(left, 1):
        above, row = row, [i]
        for j, other in enumerate(right, 1):
            change = above[j - 1] + (letter != other)
            row.append(min(above[j] + 1, row[-1] + 1, change))
        if min(row) > most:
            return most
    return row[-1]


def _unless_zero(scale: Any) -> float:
    return float(scale) or 1.0


DISCRETE: dict[str, Callable[..., Distances]] = {
    "ordinal": ordinal,
    "count": count,
    "string": string,
}
