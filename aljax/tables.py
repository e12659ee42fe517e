"""A user's data in, slices out: the front door, where input is checked."""

import numbers
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from aljax.columns import as_plain, is_missing
from aljax.graph.slices import read_rows, slices_of
from aljax.relations.read import read_slice_ids


def sliding_windows(
    data: Any, size: int, step: int
) -> tuple[list[Any], list[dict[int, int]]]:
    """Overlapping windows of consecutive rows, and how each relates to the next.

    Args:
        data: Rows in the order along which to slide: an array, a frame, a sparse
            matrix or a list.
        size: Rows of a window (at least 1, at most the rows of the data).
        step: Rows from one window's start to the next (at least 1).

    Returns:
        The windows that fit whole, and for each but the last a dict from its rows
        to the same rows of the next.

    Raises:
        ValueError: A size or step out of range.
    """
    if not isinstance(data, Sequence) and np.ndim(data) < 1:
        raise ValueError(
            f"`data` is a {type(data).__name__}; expected an array, rows first."
        )
    for name, value in (("size", size), ("step", step)):
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise ValueError(f"`{name}` is {value!r}; expected a whole number of rows.")
    sparse: Any = data if scipy.sparse.issparse(data) else None
    rows = len(data) if sparse is None else sparse.shape[0]
    if not 1 <= size <= rows:
        raise ValueError(
            f"`size` is {size}; expected 1 to {rows}, the rows of the data."
        )
    if step < 1:
        raise ValueError(f"`step` is {step}; expected at least 1.")
    starts = range(0, rows - size + 1, step)
    cut = getattr(data, "iloc", data)  # a frame of pandas would cut by its index
    shared = {row: row - step for row in range(step, size)}
    windows = [cut[start : start + size] for start in starts]
    return windows, [dict(shared) for _ in windows[1:]]


class TableSlices(NamedTuple):
    """A long table cut into slices.

    Attributes:
        slices: For each slice its values `(points, features)`.
        ids: For each slice the ids of its rows, to be given as relations.
        labels: The slices' labels, sorted.
        rows: For each slice which rows of the table it holds.
    """

    slices: list[np.ndarray]
    ids: list[list[Hashable]]
    labels: list[Hashable]
    rows: list[np.ndarray]


def slices_from_table(values: Any, slice_labels: Any, row_ids: Any) -> TableSlices:
    """Cut a long table, one row for each member and slice, into slices and ids.

    Args:
        values: The features, `(rows, features)`: an array, or a pandas or polars frame.
        slice_labels: For each row the slice it belongs to, such as its year; the
            slices stand in the order of these (of an ordered category in its own).
        row_ids: For each row whom it is about: the same id in two slices is the same
            member.  None or NaN is nobody's.

    Returns:
        `slices` and `ids` for `fit`, with the slices' labels and rows.

    Raises:
        ValueError: Columns of different lengths, labels that are missing or cannot be
            sorted, an id twice in a slice (names the first), or values that are no
            finite numbers.
    """
    data = read_rows(values, "values")
    if not isinstance(data, np.ndarray):
        raise ValueError(
            f"`values` is a {type(data).__name__}; expected an array or a frame. Cut "
            "sparse rows by hand: `values[rows]` for each slice."
        )
    labels = _column(slice_labels, "slice_labels")
    ids: list[Hashable] = [
        None if is_missing(entry) else entry for entry in _column(row_ids, "row_ids")
    ]
    for name, column in (("slice_labels", labels), ("row_ids", ids)):
        if len(column) != len(data):
            raise ValueError(
                f"`{name}` has {len(column)} entries, but `values` has {len(data)} "
                "rows; expected one for each row."
            )
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        if not isinstance(label, Hashable) or is_missing(label):
            raise ValueError(
                f"`slice_labels` has {label!r} in row {row}; expected a label, such as "
                "a year. Drop the row or fill the label."
            )
        rows.setdefault(label, []).append(row)
    order = _in_order(rows, getattr(slice_labels, "dtype", None))
    cut_rows = slices_of([len(rows[label]) for label in order], labels=order)
    cut = [[ids[row] for row in rows[label]] for label in order]
    for t, one in enumerate(cut):
        read_slice_ids(one, cut_rows[t], name="row_ids")
    held = [np.array(rows[label]) for label in order]
    return TableSlices([data[one] for one in held], cut, order, held)


def _in_order(labels: Iterable[Any], dtype: Any) -> list[Any]:
    """The labels sorted; those of an ordered category as its categories stand."""
    if getattr(dtype, "ordered", type(dtype).__name__ == "Enum"):  # pandas', polars'
        labels = set(labels)
        return [one for one in as_plain(dtype.categories) if one in labels]
    try:
        return sorted(labels)
    except TypeError as error:
        raise ValueError(
            f"`slice_labels` cannot be sorted ({error}); expected labels of one kind."
        ) from error


def _column(values: Any, name: str) -> list[Any]:
    """A column as plain Python values, whichever library it is from."""
    column = as_plain(values)
    if isinstance(column, str) or not isinstance(column, Iterable):
        raise ValueError(
            f"`{name}` is a {type(values).__name__}; expected a column, with an entry "
            "for each row."
        )
    return list(column)
