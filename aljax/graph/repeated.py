"""Rows that repeat: which of them are distinct, and which is which."""

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Int

from aljax.graph.knn import Rows


def distinct_rows(
    rows: Rows,
) -> tuple[Int[np.ndarray, "distinct"], Int[np.ndarray, "points"]]:
    """Returns the first of each kind of row, and for each row the kind that it is.

    Dense rows are sorted, sparse ones stand in the order of the data.
    """
    if isinstance(rows, np.ndarray):
        _, first, kinds = np.unique(
            rows, axis=0, return_index=True, return_inverse=True
        )
        return first, kinds.ravel()
    plain: Any = scipy.sparse.csr_matrix(rows, copy=True)
    plain.sum_duplicates()
    plain.eliminate_zeros()
    seen: dict[tuple[bytes, bytes], int] = {}
    ends = zip(plain.indptr[:-1], plain.indptr[1:], strict=True)
    keys = [(plain.indices[i:j].tobytes(), plain.data[i:j].tobytes()) for i, j in ends]
    kinds = np.array([seen.setdefault(key, len(seen)) for key in keys])
    return np.unique(kinds, return_index=True)[1], kinds


def stacked(rows: Rows, more: Rows) -> Rows:
    """Returns rows with more of them below; sparse ones stay so."""
    if isinstance(rows, np.ndarray):
        return np.concatenate(
            [rows, more if isinstance(more, np.ndarray) else more.toarray()]
        )
    return scipy.sparse.csr_matrix(scipy.sparse.vstack([rows, more]))
