"""Columns of any table library, and labels of slices, as plain values."""

import datetime
import numbers
from collections.abc import Hashable, Iterable, Sequence, Sized
from difflib import get_close_matches
from typing import Any

import numpy as np

from aljax.errors import InputError, in_words, optional, warn

RowValues = Sequence[Any] | np.ndarray


class NamedRows(np.ndarray):
    """An array that has the names of its columns; those made of it have none."""

    columns: tuple[Hashable, ...] | None = None

    def __array_wrap__(self, array: Any, *_: Any) -> Any:
        """Returns results of arithmetic as plain arrays and numbers."""
        return np.asarray(array)[()]


def as_column(values: Any, name: str, *, exact: bool = False) -> np.ndarray:
    """Returns one entry for each row, as an array: a list's are kept as they are.

    Args:
        values: A list, an array, or a column of a frame.
        name: The argument that it came by, for errors.
        exact: True keeps whole numbers beside gaps, as of classes and ids; of a
            frame's column NumPy makes floats.

    Raises:
        InputError: An entry cannot be hashed.
    """
    if isinstance(values, list | tuple):
        # NumPy would make text of numbers beside text, and a table of tuples.
        column = np.fromiter(values, object, len(values))
        if all(isinstance(value, numbers.Real) for value in values):
            whole = np.asarray(values)
            pairs = zip(whole.tolist(), values, strict=True)
            column = whole if all(a == b or b != b for a, b in pairs) else column
    else:
        column = _as_array(values, exact)
    if column.dtype.kind == "O" and column.ndim == 1:
        check_hashable(column, name)
    return column


def _as_array(values: Any, exact: bool) -> np.ndarray:
    """Returns an array, which is of objects where `exact` keeps whole numbers."""
    array = np.asarray(values)
    if exact and array.dtype.kind == "f" and not isinstance(values, np.ndarray):
        plain = as_plain(values)
        if array.ndim == 1 and any(isinstance(value, int) for value in plain):
            plain = [None if is_missing(value) else value for value in plain]
            return as_column(plain, "")
    return array


def names_of(frame: Any) -> tuple[Hashable, ...] | None:
    """Returns a frame's names of columns; None where they count, repeat or lack."""
    attributes = ("var_names",) if is_anndata(frame) else ("column_names", "columns")
    held = [getattr(frame, name) for name in attributes if hasattr(frame, name)]
    names = as_plain(held[0] if held else None)  # of Arrow, `columns` are the values
    if not isinstance(names, list) or len({*map(str, names)}) < len(names):
        return None
    return None if _count(names) or any(map(is_missing, names)) else tuple(names)


def _count(names: Sequence[Any]) -> bool:
    return {*map(type, names)} == {int} and sorted(names) == [*range(len(names))]


def by_number(frame: Any) -> Any:
    """Returns a frame whose columns are numbered from 0 in the order of the numbers."""
    names = as_plain(getattr(frame, "columns", ()))  # which a column has not
    if hasattr(frame, "iloc") and _count(names) and names != sorted(names):
        return frame[sorted(names)]
    return frame


def by_rows(distances: Any) -> Any:
    """Returns a frame of distances with its columns in the order of its rows' names."""
    rows, names = (
        as_plain(getattr(distances, side, None)) for side in ("index", "columns")
    )
    if not hasattr(distances, "iloc") or names is None or rows == names:
        return distances
    same = len(rows) == len(names) == len({*rows}) and {*rows} == {*names}
    return distances[rows] if same else distances


def is_anndata(value: Any) -> bool:
    """Tells if a value is an `AnnData`, of which a slice takes X and both names."""
    return type(value).__module__.startswith("anndata") and hasattr(value, "obs_names")


def alike(frames: Sequence[Any], name: str) -> list[Any]:
    """Returns frames with their columns in the order of the first that names them.

    A frame, called by `name`, that has as many columns with other names stays as it is,
    with a warning.
    """
    frames = [*map(by_number, frames)]
    names = [names_of(frame) for frame in frames]
    first: Any = next(filter(None, names), None)
    arranged = [*frames]
    for t, (frame, frame_names) in enumerate(zip(frames, names, strict=True)):
        if frame_names not in (None, first) and len(frame_names) == len(first):
            rows = frame.X if is_anndata(frame) else np.asarray(frame)
            try:
                arranged[t] = arrange(rows, frame_names, first, f"{name}[{t}]")
            except InputError as error:
                message = "Columns are compared by their place; version 0.3 will not."
                warn(f"{error} {message}", DeprecationWarning)
    return arranged


def arrange(
    rows: Any, names: tuple[Hashable, ...] | None, expected: Any, argument: str
) -> Any:
    """Returns rows with their columns in the expected order, if both have names.

    Raises:
        InputError: They are not the same names.
    """
    if names is None or expected is None or names == expected:
        return rows
    check_names(names, expected, argument)
    place = {name: column for column, name in enumerate(names)}
    return rows[:, [place[name] for name in expected]]


def check_names(names: Any, expected: Any, argument: str) -> None:
    """Checks that columns have the expected names, if both have any, in any order.

    Raises:
        InputError: They are not the same names.
    """
    if names is not None and expected is not None and {*names} != {*expected}:
        pair = {*names} - {*expected}, {*expected} - {*names}
        verbs = zip(("has the columns", "lacks"), pair, strict=True)
        parts = [f"{verb} {sorted(odd, key=str)[:3]}" for verb, odd in verbs if odd]
        got = " and ".join(parts)
        remedy = "Rename them, or pass `.to_numpy()` if names do not matter."
        if not pair[1]:
            remedy = "Leave them out: a model's columns are `[*model.columns[0]]`."
        raise InputError(argument, got, "columns of the same names", remedy)


def check_hashable(values: Iterable[Any], name: str, owner: str = "") -> None:
    """Checks that values can be compared; `owner` begins the message, if not empty.

    Raises:
        InputError: One of them cannot be hashed.
    """
    for row, value in enumerate(values):
        try:
            hash(value)
        except TypeError as error:
            got = f"{owner}has {value!r} ({type(value).__name__}) in row {row}"
            got += ", which cannot be hashed"
            raise InputError(name, got, "text, numbers or tuples") from error


def as_plain(values: Any) -> Any:
    """Returns a column of any library as a list of plain values, all else as it is."""
    of_arrays = isinstance(values, np.ndarray | np.generic)
    if of_arrays and values.dtype.str[1:] in ("M8[ns]", "m8[ns]"):
        # Of nanoseconds, which Python's times do not have, `tolist` makes numbers.
        short: Any = values.astype(values.dtype.str.replace("ns", "us"))
        if ((short != values) & ~np.isnat(values)).any():
            pandas = optional("pandas", "frames")
            spans = values.dtype.kind == "m"
            short = (pandas.to_timedelta if spans else pandas.to_datetime)(values)
        values = short
    convert = getattr(values, "tolist", None) or getattr(values, "to_list", None)
    column = convert() if convert else values
    if isinstance(column, list | tuple):
        return [as_plain(v) if isinstance(v, np.generic) else v for v in column]
    return column


def is_missing(value: Hashable) -> bool:
    """Tells if an id or label is missing: None, NaN, or pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own
        return True
    return isinstance(value, float) and value != value


def as_member(row_id: Hashable) -> Hashable:
    """Returns what ids of one member are equal by: a day, as its first moment."""
    if type(row_id) is datetime.date:  # as of NumPy; pandas' days are moments
        return datetime.datetime.combine(row_id, datetime.time())
    return row_id


def per_row(
    name: str, values: Any, sizes: Sequence[int], *, exact: bool = False
) -> list[np.ndarray]:
    """Returns one array for each slice, with one value for each of its rows.

    Args:
        name: The argument, for errors.
        values: A list with one array for each slice, or one array that every slice
            shares (which needs slices of that many rows).
        sizes: Rows of each slice.
        exact: As in `as_column`.

    Raises:
        InputError: Another number of arrays, or of values in one, or a value that
            cannot be hashed.
    """
    if not isinstance(values, list | tuple):
        values = _as_array(values, exact)  # a table's column counts by its own index
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
    arrays = [
        as_column(column, f"{name}[{t}]", exact=exact)
        for t, column in enumerate(listed)
    ]
    for t, (column, size) in enumerate(zip(arrays, sizes, strict=True)):
        if column.shape != (size,):
            got = f"has shape {column.shape} for slice {t}, which has {size} rows"
            raise InputError(name, got, "one value for each row")
    return arrays


def check_labels(labels: Any, slices: Any) -> list[Hashable] | None:
    """Returns one label for each slice, such as a year; a column's as a list."""
    if labels is None or not isinstance(slices, Sized):
        return None  # an argument that is not a list of slices is refused as such
    listed = isinstance(labels, Sequence) or hasattr(labels, "__array__")
    ndim = getattr(labels, "ndim", int(listed))
    if ndim != 1 or len(labels) != len(slices):
        got = f"has {len(labels)} labels" if ndim else f"is {labels!r}"
        expected = f"a list with one for each of {len(slices)} slices"
        raise InputError("slice_labels", got, expected)
    labels = [*as_plain(labels)]
    for t, label in enumerate(labels):
        check_label(label, f"slice_labels[{t}]")
    return [None if is_missing(label) else label for label in labels]


def plain_label(label: Any) -> Any:
    """Returns a label, a NumPy scalar as a plain value."""
    return as_plain(label) if getattr(label, "ndim", None) == 0 else label


def find_label(label: Any, labels: Sequence[Hashable]) -> int:
    """Returns the index of the slice that a label names: as it is, or as its text.

    Raises:
        InputError: No slice has the label, or several do.
    """
    named = [*map(in_words, labels)]
    for sought, held in ((label, labels), (in_words(label), named)):
        places = [t for t, other in enumerate(held) if _same(other, sought)]
        if len(places) > 1:
            got = f"is {label!r}, the label of slices {', '.join(map(str, places))}"
            raise InputError("slice", got, "the index of one of them")
        if places:
            return places[0]
    expected = f"an index, {-len(labels)} to {len(labels) - 1}, or a slice's label"
    remedy = f"Labels go from {named[0]} to {named[-1]}."
    try:
        near = min(labels, key=lambda other: abs(other - label))
        remedy = f"The nearest is {in_words(near)}."
    except (TypeError, ValueError):  # of text, or an array
        for close in get_close_matches(in_words(label), named, n=1):
            remedy = f"The nearest is {close!r}."
    raise InputError("slice", f"is {label!r}", expected, remedy)


def _same(label: Any, other: Any) -> bool:
    try:
        return len({label, other}) == 1  # equal by their hashes, and no array
    except TypeError:
        return False


def check_label(label: Any, name: str) -> None:
    """Checks that a slice's label can be hashed, as a static field must be."""
    try:
        hash(label)
    except TypeError as error:
        expected = "text, a number or a tuple"
        raise InputError(name, f"is {label!r}", expected) from error
