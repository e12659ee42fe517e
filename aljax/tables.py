"""A user's data in, slices out: the front door, where input is checked."""

import numbers
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from aljax.checks import LARGEST
from aljax.graph.build import Slice
from aljax.graph.fuzzy import FuzzyGraph, check_graph
from aljax.graph.ids import as_plain, is_missing, read_slice_ids
from aljax.graph.knn import KNN, check_lists
from aljax.graph.links import Slices


def read_slices(
    slices: Sequence[Any], labels: Sequence[Hashable] | None = None
) -> list[Slice]:
    """Checked slices: finite float rows, or the neighbours or graph made of them.

    float32 and small integers become float32, everything wider float64; sparse rows
    become a CSR matrix.

    Args:
        slices: For each slice an array, a pandas or polars frame or a SciPy sparse
            matrix `(points, features)`, a `KNN` or a `FuzzyGraph`.  Slices may
            differ in rows and in columns.
        labels: What the slices are called in messages.

    Raises:
        ValueError: No slices; or one that is not two-dimensional, is empty, is not
            numeric, or has a value that is NaN or infinite (says slice and row); or
            neighbours or a graph that are not in normal form.
    """
    if isinstance(slices, np.ndarray) and slices.ndim == 2:
        raise ValueError(
            f"`slices` is one array of shape {slices.shape}; expected a list of such "
            "arrays. Pass [data] for a single slice."
        )
    if not isinstance(slices, Sequence | np.ndarray) or isinstance(slices, str):
        raise ValueError(
            f"`slices` is a {type(slices).__name__}; expected a list of arrays "
            "(points, features)."
        )
    if len(slices) == 0:
        raise ValueError("`slices` is empty; expected at least one array.")
    read = []
    for t, given in enumerate(slices):
        label = "" if labels is None else f" ({labels[t]!r})"
        read.append(read_slice(given, f"`slices[{t}]`{label}"))
    return read


def read_slice(given: Any, name: str) -> Slice:
    """One checked slice; `name` is what messages call it."""
    if isinstance(given, FuzzyGraph):
        check_graph(given, name)
        return given
    if isinstance(given, KNN):
        check_lists(given.indices, given.distances, name)
        return given
    if scipy.sparse.issparse(given):
        return _read_sparse(given, name)
    if np.ma.is_masked(given):
        raise ValueError(
            f"{name} is an array with masked entries; fill them, or drop their rows."
        )
    try:
        data = np.asarray(given)
    except ValueError as error:
        raise ValueError(
            f"{name} is no array: {error}; expected (points, features)."
        ) from error
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(
            f"{name} has shape {data.shape}; expected (points, features) with at "
            "least one of each. Use `.reshape(-1, 1)` for a single feature."
        )
    if data.dtype.kind not in "biuf":
        data = _read_objects(data, name)
    data = data.astype(_float_of(data.dtype))
    if not -LARGEST < data.min() <= data.max() < LARGEST:  # NaN is not, either
        row, column = np.argwhere(~(np.abs(data) < LARGEST))[0]
        _refuse_value(data[row, column], row, column, name)
    return data


def check_columns(given: Any, names: Iterable[str]) -> None:
    """Refuse a frame with the columns that were fitted in another order."""
    expected = [*names]
    columns = [*getattr(given, "columns", expected)]
    if columns != expected and sorted(map(str, columns)) == sorted(map(str, expected)):
        raise ValueError(
            f"`X` has the columns {columns}; expected them as in `fit`: {expected}. "
            "Pass `X[list(model.feature_names_in_)]`."
        )


def _read_sparse(given: Any, name: str) -> scipy.sparse.csr_matrix:
    """Sparse rows as float CSR, without repeated entries."""
    if given.ndim != 2 or 0 in given.shape or given.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} is a sparse matrix of shape {given.shape} and dtype "
            f"{given.dtype}; expected (points, features) of real numbers, with at "
            "least one of each."
        )
    data: Any = scipy.sparse.csr_matrix(given).astype(_float_of(given.dtype), copy=True)
    data.sum_duplicates()
    wrong = np.flatnonzero(~(np.abs(data.data) < LARGEST))
    if wrong.size:
        row = int(np.searchsorted(data.indptr, wrong[0], side="right")) - 1
        _refuse_value(data.data[wrong[0]], row, int(data.indices[wrong[0]]), name)
    return data


def _float_of(dtype: np.dtype) -> type:
    wide = dtype.itemsize > (4 if dtype.kind == "f" else 2)
    return np.float64 if wide else np.float32


def _refuse_value(value: Any, row: Any, column: Any, name: str) -> None:
    raise ValueError(
        f"{name} has {value} in row {row}, column {column}; expected finite numbers, "
        f"below {LARGEST:g} in size. Drop the row, fill the value, or give the column "
        "in larger units."
    )


def _read_objects(data: np.ndarray, name: str) -> np.ndarray:
    """Numbers kept as Python objects; text is refused even where it spells digits."""
    if data.dtype.kind in "cmM":
        raise ValueError(
            f"{name} has dtype {data.dtype}; expected real numbers. Convert what it "
            "means to numbers first."
        )
    for (row, column), value in np.ndenumerate(data):
        if isinstance(value, str | bytes) or not np.isscalar(value) or value is None:
            raise ValueError(
                f"{name} has {value!r} ({type(value).__name__}) in row {row}, column "
                f"{column}; expected numbers. Convert with `.astype(float)` or drop "
                "the column."
            )
    try:
        return data.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} has dtype {data.dtype}; expected real numbers ({error})."
        ) from error


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
    data = read_slice(values, "`values`")
    if not isinstance(data, np.ndarray):
        raise ValueError(
            f"`values` is a {type(data).__name__}; expected an array or a frame. Cut "
            "sparse rows by hand: `values[rows]` for each slice."
        )
    labels = _column(slice_labels, "slice_labels")
    ids = _column(row_ids, "row_ids")
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
    known = Slices([len(rows[label]) for label in order], [None] * len(order), order)
    cut = [[ids[row] for row in rows[label]] for label in order]
    for t, one in enumerate(cut):
        read_slice_ids(one, t, known, argument="row_ids")
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
