"""Slices and relations cut from one table, or from one sequence of rows."""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from aljax.checks import number, one_of
from aljax.columns import NamedRows, as_plain, check_hashable, is_missing, names_of
from aljax.errors import InputError, in_words, kind_of, warn
from aljax.graph.rows import GapError, read_rows
from aljax.graph.slices import slices_of
from aljax.relations.read import read_slice_ids


def sliding_windows(
    data: Any, size: int, step: int
) -> tuple[list[Any], list[dict[int, int]]]:
    """Returns overlapping windows of rows, and how each relates to the next.

    Args:
        data: Rows in the order along which to slide: an array, a frame, a sparse
            matrix, an `AnnData` or a list.
        size: Rows of a window (at least 1, at most the rows of the data).
        step: Rows from one window's start to the next (at least 1).

    Returns:
        The windows that fit whole, and for each but the last a dict from its rows
        to the same rows of the next.

    Raises:
        InputError: A size or step out of range.
    """
    shape = getattr(data, "shape", None)  # sparse matrices have no length
    if not isinstance(data, Sequence) and not shape:
        raise InputError("data", f"is {kind_of(data)}", "an array, rows first")
    rows = shape[0] if shape else len(data)
    number(1, high=rows, whole=True)("size", size)
    number(1, whole=True)("step", step)
    starts = range(0, rows - size + 1, step)
    cut: Any = getattr(data, "iloc", data)  # a frame of pandas would cut by its index
    if scipy.sparse.issparse(cut) and cut.format != "csr":  # not all can be cut
        cut = scipy.sparse.csr_matrix(cut)
    shared = {row: row - step for row in range(step, size)}
    windows = [cut[start : start + size] for start in starts]
    return windows, [dict(shared) for _ in windows[1:]]


# Months by name, or days, months, quarters or weeks before years: their text is not
# sorted by time.
MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z.]*"
MONTHS = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?"
    r"|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?)\.?"
)
DATE = re.compile(
    rf"(\d{{1,2}}[ .-]+)?{MONTH}([ .-]+\d{{1,2}},)?[ .'-]*\d{{2,4}}"
    r"|(\d{1,2}[ ./-])?\d{1,2}[ ./-]\d{4}( \d\d?:\d\d.*)?"
    rf"|{MONTHS}|(Q[1-4]|[1-4]Q|W\d{{1,2}})[ ./'-]*\d{{2,4}}",
    re.IGNORECASE,
)
AFTER_WORD = re.compile(r".*[^\W\d]{3}\W+(1[5-9]|20)\d\d")  # in any language
FEW = 9  # rows of a table that is an example


class TableSlices(NamedTuple):
    """A long table cut into slices.

    Attributes:
        slices: For each slice its values `(points, features)`, an array; if they are of
            a frame, it has the names of the columns as `columns`.
        ids: For each slice the ids of its rows, to be given as relations.
        labels: The slices' labels.
        rows: For each slice which rows of the table it holds.
    """

    slices: list[Any]
    ids: list[list[Hashable]]
    labels: list[Hashable]
    rows: list[np.ndarray]

    def __repr__(self) -> str:
        held = f"{len(self.slices)} slices, {sum(map(len, self.rows))} rows"
        ends = [in_words(label) for label in (*self.labels[:1], *self.labels[-1:])]
        return f"TableSlices of {held}: {' to '.join(ends)}"


def slices_from_table(
    values: Any,
    slice_labels: Any,
    row_ids: Any,
    *,
    min_rows: int = 1,
    missing: str = "error",
) -> TableSlices:
    """Cuts a long table, one row for each member and slice, into slices and ids.

    Args:
        values: The features, `(rows, features)`: an array, or a pandas or polars frame.
        slice_labels: For each row the slice it belongs to, such as its year; the
            slices stand in the order of these (of an ordered category in its own).
        row_ids: For each row its member: the same id in two slices is the same
            member.  None or NaN stands for nobody.
        min_rows: Rows that a slice needs; smaller ones are left out.
        missing: "error", "drop" for rows with gaps, or "keep" for gaps that
            `fit(missing="median")` fills.

    Returns:
        `slices` and `ids` for `fit`, the slices' labels, and for each slice which rows
        of the table it holds.

    Raises:
        InputError: Columns of different lengths, labels that are missing or cannot be
            sorted, an id twice in a slice (names the first), or values that are not
            finite numbers.
    """
    one_of("error", "drop", "keep")("missing", missing)
    try:
        data = read_rows(values, "values", gaps=None if missing == "error" else np.nan)
    except GapError as error:
        with suppress(TypeError, IndexError, KeyError):
            error.got += f" of slice {as_plain(slice_labels)[error.row]!r}"
        raise error.among([values], 0, [row_ids]) from error
    if not isinstance(data, np.ndarray):
        got, remedy = "is a sparse matrix", "Cut it by hand: `values[rows]` a slice."
        raise InputError("values", got, "an array or a frame", remedy)
    labels = _column(slice_labels, "slice_labels", len(data))
    check_hashable(labels, "slice_labels")
    ids = _column(row_ids, "row_ids", len(data))
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        if is_missing(label):
            got, remedy = f"has {label!r} in row {row}", "Drop the row, or fill it."
            raise InputError("slice_labels", got, "labels, such as years", remedy)
        if missing != "drop" or not np.isnan(data[row]).any():
            rows.setdefault(label, []).append(row)
    if labels and not rows:
        got = f"is 'drop', but each of the {len(labels)} rows lacks a value"
        raise InputError("missing", got, "rows without gaps", "Drop columns.")
    number(1, whole=True)("min_rows", min_rows)
    rows = {label: held for label, held in rows.items() if len(held) >= min_rows}
    order = _in_order(rows, getattr(slice_labels, "dtype", None))
    held = [rows[label] for label in order]
    slices = slices_of([*map(len, held)], labels=order)
    ids_of_slices = [
        [*read_slice_ids([ids[row] for row in some], slice_, name="row_ids", rows=some)]
        for some, slice_ in zip(held, slices, strict=True)
    ]
    _warn_of_sizes(rows)
    tables, names = [data[some] for some in held], names_of(values)
    if names is not None:
        tables = [table.view(NamedRows) for table in tables]
        for table in tables:
            table.columns = names
    return TableSlices(tables, ids_of_slices, order, [*map(np.array, held)])


def _warn_of_sizes(rows: Mapping[Hashable, Sequence[int]]) -> None:
    """Warns of a table that its labels hardly cut, or cut into single rows."""
    count = sum(map(len, rows.values()))
    if len(rows) == 1 and count > FEW:
        (label,) = rows
        warn(f"all {count} rows are of one slice ({label!r}): a map without others.")
    if len(rows) == count > FEW:
        warn(
            f"each of the {count} rows is a slice by itself: maps need slices of "
            "many rows. Take labels that rows share, such as months or years."
        )


def _in_order(labels: Iterable[Any], dtype: Any) -> list[Any]:
    """Returns the labels sorted; an ordered category's as its categories stand."""
    if getattr(dtype, "ordered", type(dtype).__name__ == "Enum"):  # pandas', polars'
        labels = set(labels)
        return [label for label in as_plain(dtype.categories) if label in labels]
    try:
        order = sorted(labels)
        _warn_of_dates(order)
        return order
    except TypeError as error:
        got = f"cannot be sorted ({error})"
        raise InputError("slice_labels", got, "labels of one kind") from error


def _warn_of_dates(labels: Sequence[Any]) -> None:
    """Warns of dates that are text, which puts them in another order than time."""
    if len(labels) < 2 or not all(isinstance(label, str) for label in labels):
        return
    texts = {re.sub(r"\d", "", label) for label in labels}
    after_words = len(texts) > 1 and all(map(AFTER_WORD.fullmatch, labels))
    if after_words or all(map(DATE.fullmatch, labels)):
        warn(
            "slice labels look like dates, and are sorted as text: from "
            f"{labels[0]!r} to {labels[-1]!r}. Convert them by `pandas.to_datetime` "
            "or to an ordered `pandas.Categorical`."
        )


def _column(values: Any, name: str, rows: int) -> list[Any]:
    """Returns a column of any library as a list with an entry for each row."""
    column = as_plain(values)
    if isinstance(column, str) or not isinstance(column, Iterable):
        got = f"is {kind_of(values)}"
        raise InputError(name, got, "a column, with an entry for each row of `values`")
    column = list(column)
    if len(column) != rows:
        expected = f"one for each of the {rows} rows of `values`"
        raise InputError(name, f"has {len(column)} entries", expected)
    return column
