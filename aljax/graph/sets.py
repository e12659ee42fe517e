"""Distances between sets and between distributions, of all pairs at once.

A row is the set of the columns in which it is not 0.  Of n columns, b are in both of
two rows' sets and u in only one of them; one matrix product counts them for all pairs:

    jaccard = u / (u + b),    dice = u / (u + 2 b),    sokalsneath = u / (u + b / 2).

Sources: the definitions, and the values where a denominator is 0, are pynndescent's.
"""

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.graph.knn import Rows

Distances = Float[np.ndarray, "rows others"]


SETS = (
    *("jaccard", "dice", "sokalsneath", "matching", "rogerstanimoto"),
    *("sokalmichener", "russellrao", "kulsinski"),
)
PACKED = ("bit_hamming", "bit_jaccard")  # of rows with eight columns in a byte
DENSE_SETS = (*SETS, *PACKED, "yule", "hellinger")
SPARSE_SETS = (*SETS, "hamming", "hellinger")


def set_distances(rows: Rows, others: Rows, metric: str) -> Distances:
    """Returns all distances, in one of `DENSE_SETS` or, of CSR rows, of `SPARSE_SETS`.

    Raises:
        ValueError: The metric is "hellinger", and a value is negative.
    """
    if metric == "hellinger":
        return _hellinger(rows, others)
    if metric in PACKED:
        rows, others = (
            np.unpackbits(np.asarray(side).astype(np.uint8), axis=1)
            for side in (rows, others)
        )
    x, y = (_bits(side) for side in (rows, others))
    sizes = [np.asarray(side.sum(axis=1, dtype=float)).ravel() for side in (x, y)]
    b, n = _product(x, y), rows.shape[1]
    first, second = sizes[0][:, None] - b, sizes[1] - b
    if metric == "hamming":
        return (first + second + b - _product(*_entries(rows, others))) / n
    if metric == "yule":
        apart = first * second
        opposite = apart + b * (n - b - first - second)
        return np.where(apart > 0, _share(2 * apart, opposite), 0.0)
    return _from_counts(metric, b, first + second, n)


def _from_counts(metric: str, b: Distances, u: Distances, n: int) -> Distances:
    match metric:
        case "jaccard":
            return _share(u, u + b)
        case "dice":
            return _share(u, u + 2 * b)
        case "sokalsneath":
            return _share(u, u + b / 2)
        case "matching":
            return u / n
        case "rogerstanimoto" | "sokalmichener":
            return 2 * u / (n + u)
        case "russellrao":
            return np.where(u > 0, (n - b) / n, 0.0)
        case "kulsinski":
            return np.where(u > 0, (u - b + n) / (u + n), 0.0)
        case "bit_hamming":
            return u
        case _:  # bit_jaccard
            with np.errstate(divide="ignore"):  # infinite where nothing is shared
                return np.where(u > 0, -np.log(_share(b, u + b)), 0.0)


def _share(part: Distances, whole: Distances) -> Distances:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _bits(rows: Any) -> Any:
    """Ones where rows are not 0; float32 counts them exactly to 2^24."""
    return (rows != 0).astype(np.float32)


def _product(x: Any, y: Any) -> Distances:
    product = x @ y.T
    dense = product if isinstance(product, np.ndarray) else product.toarray()
    return dense.astype(float)


def _entries(rows: Any, others: Any) -> list[scipy.sparse.csr_matrix]:
    """Returns sparse rows as sets: a column for each (column, value) that occurs."""
    stacked = scipy.sparse.vstack([rows, others]).tocsr()
    stacked.eliminate_zeros()
    pairs = np.column_stack([stacked.indices, stacked.data])
    entries, place = np.unique(pairs, axis=0, return_inverse=True)
    ones = np.ones(len(pairs), np.float32)
    shape = stacked.shape[0], len(entries)
    coded = scipy.sparse.csr_matrix((ones, place.ravel(), stacked.indptr), shape=shape)
    return [coded[: rows.shape[0]], coded[rows.shape[0] :]]


def _hellinger(rows: Rows, others: Rows) -> Distances:
    """|sqrt(p) - sqrt(q)| / sqrt(2) of rows that are scaled to a sum of 1."""
    x, y = (_roots(side) for side in (rows, others))
    if not isinstance(x, np.ndarray):
        return np.sqrt(np.maximum(1 - _product(x, y), 0.0))
    from scipy.spatial.distance import cdist

    return cdist(x, y) / np.sqrt(2)


def _roots(rows: Any) -> Any:
    """Square roots of shares; a row of zeros is at distance 1 from all but such."""
    if rows.shape[0] and rows.min() < 0:
        raise ValueError("it takes values of at least 0")
    total = np.asarray(rows.sum(axis=1, dtype=float)).reshape(-1, 1)
    empty, scale = (total == 0).astype(float), 1 / np.where(total > 0, total, 1)
    if isinstance(rows, np.ndarray):
        return np.hstack([np.sqrt(rows * scale), empty])
    shares: Any = scipy.sparse.csr_matrix(rows.multiply(scale))
    return scipy.sparse.hstack([shares.sqrt(), empty]).tocsr()
