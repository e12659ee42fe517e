"""New rows of a slice: read as its own are, and found again among them."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import scipy.sparse

from aljax.columns import arrange, check_names, names_of
from aljax.errors import InputError
from aljax.graph.knn import Rows
from aljax.graph.rows import prints_of, read_rows


def read_new(
    new_rows: Any,
    columns: int,
    name: str,
    names: tuple[Hashable, ...] | None = None,
    *,
    gaps: float | None = None,
) -> Rows:
    """Returns new rows, checked, with their columns in the order of a slice's.

    Args:
        new_rows: The user's rows, or distances to the slice's.
        columns: How many columns the slice has.
        name: What it is called in messages.
        names: The names of its columns, if they have any.
        gaps: What missing values become: inf in distances, NaN if they are filled.

    Raises:
        InputError: They have other columns, or are not finite.
    """
    empty = isinstance(new_rows, list | tuple) and not new_rows
    if empty or getattr(new_rows, "shape", None) in ((0,), (0, 0)):
        new_rows = np.zeros((0, columns))
    try:
        check_names(names_of(new_rows), names, "new_rows")  # before their cells
        rows = read_rows(new_rows, "new_rows", empty=True, gaps=gaps)
        rows = arrange(rows, names_of(new_rows), names, "new_rows")
    except InputError as error:
        raise error.of(name) from error.__cause__
    if rows.shape[1] != columns:
        width = f"has {rows.shape[1]} columns, but {name} has {columns}"
        raise InputError("new_rows", width, "the same features")
    return rows


def in_form_of(data: Rows, rows: Any) -> Rows:
    """Returns rows that are sparse where a slice's are, and dense where they are."""
    if not isinstance(data, np.ndarray):
        return scipy.sparse.csr_matrix(rows)
    return rows if isinstance(rows, np.ndarray) else rows.toarray()


def put_equal_first(
    rows: Rows,
    data: Rows,
    prints: tuple[np.ndarray, np.ndarray],
    near: np.ndarray,
    distances: np.ndarray,
) -> None:
    """Puts the first row that equals a new one before its neighbors, in place.

    Rounding may find others as near, or no distance between rows that differ; and
    more rows than there are neighbors may be as near in the metric.  Both are dense, or
    both CSR; `prints` are the different ones of the data, in order, and the first row
    of each.
    """
    same_type: Any = rows.astype(data.dtype)
    new_prints = prints_of(same_type)
    place = np.minimum(np.searchsorted(prints[0], new_prints), len(prints[0]) - 1)
    likely = np.flatnonzero(prints[0][place] == new_prints)
    first = prints[1][place[likely]]
    unlike: Any = data[first] != same_type[likely]
    dense = isinstance(unlike, np.ndarray)
    equal = ~unlike.any(axis=1) if dense else unlike.getnnz(axis=1) == 0
    queries, itself = likely[equal], first[equal][:, None]
    replaced = near[queries] == itself
    replaced[:, -1] |= ~replaced.any(axis=1)
    shape = len(queries), near.shape[1] - 1
    for table, leading in ((near, itself), (distances, np.zeros(itself.shape))):
        others = table[queries][~replaced].reshape(shape)
        table[queries] = np.hstack([leading, others])
