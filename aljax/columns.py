"""Columns of any table library as plain values, one entry for each row."""

import numbers
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from aljax.errors import InputError

RowValues = Sequence[Any] | np.ndarray


def as_column(values: Any, name: str) -> np.ndarray:
    """One entry for each row, as an array: a list's are kept as they are.

    NumPy would make text of numbers beside text, and a table of tuples.

    Args:
        values: A list, an array, or a column of a frame.
        name: The argument that it came by, for errors.

    Raises:
        InputError: It is not an array, or an entry cannot be hashed.
    """
    if isinstance(values, list | tuple):
        column = np.empty(len(values), dtype=object)
        for row, one in enumerate(values):
            column[row] = one
        if all(isinstance(one, numbers.Real) for one in values):
            whole = np.asarray(values)
            pairs = zip(whole.tolist(), values, strict=True)
            column = whole if all(a == b or b != b for a, b in pairs) else column
    else:
        column = np.asarray(values)
    if column.dtype.kind != "O" or column.ndim != 1:
        return column
    for row, one in enumerate(column):
        try:
            hash(one)
        except TypeError as error:
            raise InputError(
                name,
                f"has {one!r} ({type(one).__name__}) in row {row}, which has no hash",
                "text, numbers or tuples",
            ) from error
    return column


def as_plain(values: Any) -> Any:
    """A column, whichever library it is from, as a list of plain Python values.

    What is neither a column nor a list stays as it is.
    """
    if isinstance(values, np.ndarray | np.generic) and values.dtype == "M8[ns]":
        # Of nanoseconds, which Python's times do not have, `tolist` makes numbers.
        values = values.astype("M8[us]")
    convert = getattr(values, "tolist", None) or getattr(values, "to_list", None)
    column = convert() if convert else values
    if isinstance(column, list | tuple):
        return [as_plain(one) if isinstance(one, np.generic) else one for one in column]
    return column


def is_missing(value: Hashable) -> bool:
    """Tells if an id or label is missing: None, NaN, or pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own
        return True
    return isinstance(value, float) and value != value


def per_row(name: str, values: Any, sizes: Sequence[int]) -> list[np.ndarray]:
    """Returns one array for each slice, with one value for each of its rows.

    Args:
        name: The argument, for errors.
        values: A list with one array for each slice, or one array that every slice
            shares (which needs slices of that many rows).
        sizes: Rows of each slice.

    Raises:
        InputError: Another number of arrays, or of values in one, or a value that
            cannot be hashed.
    """
    if not isinstance(values, list | tuple):
        values = np.asarray(values)  # a table's column counts by its own index
        if values.ndim == 0:
            expected = "a list with one array for each slice"
            raise InputError(name, "has no value for each row", expected)
    listed = list(values)
    nested = not listed or isinstance(listed[0], list | tuple)
    if not nested and np.ndim(listed[0]) == 0:
        listed = [values] * len(sizes)
    if len(listed) != len(sizes):
        got = f"has {len(listed)} arrays for {len(sizes)} slices"
        raise InputError(name, got, "a list with one for each")
    arrays = [as_column(column, f"{name}[{t}]") for t, column in enumerate(listed)]
    for t, (column, size) in enumerate(zip(arrays, sizes, strict=True)):
        if column.shape != (size,):
            got = f"has shape {column.shape} for slice {t}, which has {size} rows"
            raise InputError(name, got, "one value for each row")
    return arrays
