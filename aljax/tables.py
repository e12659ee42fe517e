"""A user's data in, slices out: the front door, where input is checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.neighbors import KNN

Slice = np.ndarray | KNN | FuzzyGraph


def read_slices(slices: Sequence[Any]) -> list[Slice]:
    """Checked slices: finite float arrays, or the neighbours or graph made of one.

    float32 and small integers become float32, everything wider float64.

    Args:
        slices: For each slice an array `(points, features)`, a `KNN` or a
            `FuzzyGraph`.  Slices may differ in rows and in columns.

    Raises:
        ValueError: No slices; or one that is not two-dimensional, is empty, is not
            numeric, or has a value that is NaN or infinite (says slice and row).
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
    return [_read_slice(given, f"slices[{t}]") for t, given in enumerate(slices)]


def _read_slice(given: Any, name: str) -> Slice:
    if isinstance(given, KNN | FuzzyGraph):
        return given
    if scipy.sparse.issparse(given):
        raise ValueError(
            f"`{name}` is a sparse matrix; expected a dense array. Pass `.toarray()`."
        )
    try:
        data = np.asarray(given)
    except ValueError as error:
        raise ValueError(
            f"`{name}` is no array: {error}; expected (points, features)."
        ) from error
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(
            f"`{name}` has shape {data.shape}; expected (points, features) with at "
            "least one of each. Use `.reshape(-1, 1)` for a single feature."
        )
    if data.dtype.kind not in "biuf":
        data = _read_objects(data, name)
    wide = data.dtype.itemsize > (4 if data.dtype.kind == "f" else 2)
    data = data.astype(np.float64 if wide else np.float32)
    finite = np.isfinite(data)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"`{name}` has {data[row, column]} in row {row}, column {column}; expected "
            "finite numbers. Drop the row or fill the value."
        )
    return data


def _read_objects(data: np.ndarray, name: str) -> np.ndarray:
    """Numbers kept as Python objects; text is refused even where it spells digits."""
    if data.dtype.kind in "cmM":
        raise ValueError(
            f"`{name}` has dtype {data.dtype}; expected real numbers. Convert what it "
            "means to numbers first."
        )
    for (row, column), value in np.ndenumerate(data):
        if isinstance(value, str | bytes) or not np.isscalar(value) or value is None:
            raise ValueError(
                f"`{name}` has {value!r} ({type(value).__name__}) in row {row}, column "
                f"{column}; expected numbers. Convert with `.astype(float)` or drop "
                "the column."
            )
    try:
        return data.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` has dtype {data.dtype}; expected real numbers ({error})."
        ) from error


def sliding_windows(
    data: np.ndarray, size: int, step: int
) -> tuple[list[np.ndarray], list[dict[int, int]]]:
    """Overlapping windows of consecutive rows, and how each relates to the next.

    Args:
        data: Rows in the order along which to slide.
        size: Rows of a window (at least 1, at most the rows of the data).
        step: Rows from one window's start to the next (at least 1).

    Returns:
        The windows that fit whole, and for each but the last a dict from its rows
        to the same rows of the next.

    Raises:
        ValueError: A size or step out of range.
    """
    if not 1 <= size <= len(data):
        raise ValueError(
            f"`size` is {size}; expected 1 to {len(data)}, the rows of the data."
        )
    if step < 1:
        raise ValueError(f"`step` is {step}; expected at least 1.")
    starts = range(0, len(data) - size + 1, step)
    shared = {row: row - step for row in range(step, size)}
    windows = [data[start : start + size] for start in starts]
    return windows, [dict(shared) for _ in windows[1:]]
