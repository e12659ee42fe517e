"""New rows of a slice: read as its own are, and found again among them."""

from collections.abc import Hashable
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Int

from aljax.columns import arrange, check_names, names_of
from aljax.errors import InputError
from aljax.graph.knn import Rows
from aljax.graph.rows import read_rows


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


def marks_of(rows: Rows) -> Int[np.ndarray, "_"]:
    """Returns a number for each row: the same for equal rows, and else another."""
    if isinstance(rows, np.ndarray):
        return np.array([hash((row + 0).tobytes()) for row in rows], int)  # -0 is 0
    stored: Any = rows.copy()
    stored.sum_duplicates()
    stored.eliminate_zeros()
    spans = [slice(*ends) for ends in pairwise(stored.indptr)]
    columns, cells = stored.indices.astype(int), stored.data
    parts = ((columns[span].tobytes(), cells[span].tobytes()) for span in spans)
    return np.array([*map(hash, parts)], int)


def put_equal_first(
    rows: Rows,
    data: Rows,
    marks: tuple[np.ndarray, np.ndarray],
    near: np.ndarray,
    distances: np.ndarray,
) -> None:
    """Puts the first row that equals a new one before its neighbors, in place.

    Rounding may find others as near, or no distance between rows that differ; and
    more rows than there are neighbors may be as near in the metric.  `marks` are the
    different ones of the data, in order, and the first row of each.
    """
    if isinstance(data, np.ndarray):
        rows = rows if isinstance(rows, np.ndarray) else rows.toarray()
    else:
        rows = scipy.sparse.csr_matrix(rows)
    same_type: Any = rows.astype(data.dtype)
    asked = marks_of(same_type)
    place = np.minimum(np.searchsorted(marks[0], asked), len(marks[0]) - 1)
    is_equal = marks[0][place] == asked
    near[is_equal, 0], distances[is_equal, 0] = marks[1][place[is_equal]], 0.0
