"""Slices: a user's data in, checked rows, neighbours or graphs out."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from aljax.errors import LARGEST
from aljax.graph.fuzzy import (
    FuzzyGraph,
    check_graph,
)
from aljax.graph.knn import KNN, Rows, check_lists

PRECOMPUTED = "precomputed"  # a slice is its rows' distances
Slice = Rows | KNN | FuzzyGraph


def one_for_each(name: str, values: Any, slices: int) -> list[Any]:
    """A list with an entry, or None, for each slice; None gives None for all.

    Raises:
        ValueError: No list, or one of another length.
    """
    if values is None:
        return [None] * slices
    listed = isinstance(values, Sequence) or (
        isinstance(values, np.ndarray) and values.ndim > 1
    )
    if not listed or len(values) != slices:
        count = len(values) if listed else f"a {type(values).__name__}, not"
        raise ValueError(
            f"`{name}` has {count} entries for {slices} slices; expected a list with "
            "one, or None, for each."
        )
    return list(values)


def rows_of(one: Slice) -> int:
    """How many rows a slice has, whatever it is given as."""
    if not isinstance(one, KNN | FuzzyGraph):
        return one.shape[0]
    table = one.indices if isinstance(one, KNN) else one.neighbors
    return table.shape[1]


def features_of(one: Slice, metric: str) -> Rows | None:
    """A slice's features; None where distances, neighbours or a graph were given."""
    if isinstance(one, KNN | FuzzyGraph) or metric == PRECOMPUTED:
        return None
    return one


def dense_only(data: Sequence[Rows | None]) -> list[np.ndarray | None]:
    """The slices' features where they are dense, for what cannot use sparse ones."""
    return [one if isinstance(one, np.ndarray) else None for one in data]


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
