"""Long tables, one row for each member and slice, cut into slices related by ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aljax import slices_from_table
from aljax.columns import is_missing
from aljax.errors import InputError, nearest_name
from experiments.data.archives import DAMAGE, short
from experiments.data.dataset import Dataset

INSTALL = "pip install 'aljax[frames]'"


def own_table(
    *,
    path: str,
    slice: str,  # noqa: A002
    id: str,  # noqa: A002
    features: list | None,
    label: str | None,
) -> Dataset:
    """Reads a user's own long table.

    Args:
        path: A .csv or .parquet file with a row for each member and slice.
        slice: The column that says which slice a row belongs to; slices are sorted.
        id: The column that says which member a row is about.
        features: The columns to compare rows by; None for all other numeric ones.
        label: The column that colors the maps, if any.

    Raises:
        InputError: The file is missing or cannot be read, a column is not in it, text
            is among the features, or a member is twice in a slice.
    """
    frame = _read_frame(path)
    names = [str(name) for name in frame.columns]
    for setting, column in (("slice", slice), ("id", id), ("label", label)):
        if column is not None:
            _check_column(f"data.{setting}", column, names)
    if features is None:
        others = frame.drop(columns=[c for c in (slice, id, label) if c is not None])
        features = [str(name) for name in others.select_dtypes("number").columns]
    for column in features:
        _check_column("data.features", str(column), names)
    if not features:
        got = f"is empty: {path} has no numeric columns beside {slice} and {id}"
        raise InputError("data.features", got, "at least one")
    labels = None if label is None else frame[label]
    return from_table(frame[features], frame[slice], frame[id], labels)


def from_table(values: Any, slices: Any, ids: Any, labels: Any) -> Dataset:
    """Returns the dataset of a table's columns."""
    cut = slices_from_table(values, slices, ids)
    classes = None if labels is None else _as_labels(labels)
    return Dataset(
        slices=cut.slices,
        relations=cut.ids,
        ids=[*map(_as_array, cut.ids)],
        titles=[str(label) for label in cut.labels],
        labels=None if classes is None else [classes[rows] for rows in cut.rows],
    )


def _as_labels(column: Any) -> np.ndarray:
    """Numbers as they are, all else as text; who has none is called unknown."""
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array
    words = ["unknown" if is_missing(label) else str(label) for label in array.tolist()]
    return np.array(words)


def _as_array(values: Sequence[Any]) -> np.ndarray:
    """Ids as an array that holds no Python objects, so it can be written anywhere."""
    array = np.array(values)
    return array if array.dtype.kind != "O" else np.array([*map(str, values)])


def _read_frame(path: str) -> Any:
    file = Path(path).expanduser()
    readers = {".csv": "read_csv", ".parquet": "read_parquet"}
    if file.suffix not in readers:
        raise InputError("data.path", f"is {path}", "a .csv or .parquet file")
    if not file.is_file():
        got = f"is {path}, which is not there (in {Path.cwd()})"
        raise InputError("data.path", got, "a .csv or .parquet file")
    try:
        import pandas as pd
    except ImportError as error:
        expected, remedy = "pandas to be installed", f"To install it, run: {INSTALL}"
        raise InputError("data", "is table", expected, remedy) from error
    try:
        return getattr(pd, readers[file.suffix])(file)
    except ImportError as error:
        expected = "a .csv file, or pyarrow to be installed"
        remedy = "To install it, run: pip install pyarrow"
        raise InputError("data.path", f"is {path}", expected, remedy) from error
    except DAMAGE as error:
        got = f"is {path}, which cannot be read ({short(error)})"
        expected = "a table with one line for each member and slice"
        raise InputError("data.path", got, expected) from error


def _check_column(setting: str, column: str, names: Sequence[str]) -> None:
    if column not in names:
        hint = nearest_name(column, names)
        raise InputError(setting, f"is {column!r}", "the name of a column", hint)
