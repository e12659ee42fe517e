"""Rows that repeat: which of them are distinct, and which is which."""

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Int

from aljax.errors import InputError
from aljax.graph.knn import Rows
from aljax.graph.slices import PRECOMPUTED


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


def chosen(values: Any, rows: np.ndarray, count: int, name: str) -> Any:
    """Returns the entries of some rows of a list, array or column of all rows."""
    if len(values) != count:
        got, expected = f"has {len(values)} entries", f"one for each of {count} rows"
        raise InputError(name, got, expected)
    if isinstance(values, list | tuple):
        return [values[row] for row in rows]
    return np.asarray(values)[rows]


def check_comparable(metric: Any, knn: Any) -> None:
    """Checks that rows are data, of which repeated ones can be found.

    Args:
        metric: The distance between rows.
        knn: Neighbors that came with them; a list or tuple of None is none.
    """
    setting = "`metric='precomputed'`" if metric == PRECOMPUTED else ""
    empty = isinstance(knn, list | tuple) and all(table is None for table in knn)
    setting = setting or ("" if knn is None or empty else "`precomputed_knn`")
    if setting:
        got, remedy = f"is True beside {setting}", "Drop repeated rows beforehand."
        raise InputError("unique", got, "False, for rows are not compared", remedy)
