"""Long tables, one row for each member and slice, cut into slices related by ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aljax import slices_from_table
from aljax.columns import is_missing
from aljax.errors import nearest_name
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
    """A user's own long table.

    Args:
        path: A .csv or .parquet file with a row for each member and slice.
        slice: The column that says which slice a row belongs to; slices are sorted.
        id: The column that says which member a row is about.
        features: The columns to compare rows by; None for all other numeric ones.
        label: The column that colours the maps, if any.

    Raises:
        ValueError: A file that is not there or cannot be read, a column that is not
            in it, text among the features, a member twice in a slice.
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
        raise ValueError(
            f"`data.features` is empty: {path} has no numeric columns beside "
            f"{slice} and {id}; expected at least one."
        )
    labels = None if label is None else frame[label]
    return from_table(frame[features], frame[slice], frame[id], labels)


def from_table(values: Any, slices: Any, ids: Any, labels: Any) -> Dataset:
    """The dataset of a table's columns."""
    cut = slices_from_table(values, slices, ids)
    return Dataset(
        slices=cut.slices,
        relations=cut.ids,
        ids=[_as_array(one) for one in cut.ids],
        titles=[str(label) for label in cut.labels],
        labels=None if labels is None else [_as_labels(labels)[r] for r in cut.rows],
    )


def _as_labels(column: Any) -> np.ndarray:
    """Numbers as they are, all else as text; who has none is called unknown."""
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array
    words = ["unknown" if is_missing(one) else str(one) for one in array.tolist()]
    return np.array(words)


def _as_array(values: Sequence[Any]) -> np.ndarray:
    """Ids as an array that holds no Python objects, so it can be written anywhere."""
    array = np.array(values)
    return array if array.dtype.kind != "O" else np.array([str(one) for one in values])


def _read_frame(path: str) -> Any:
    file = Path(path).expanduser()
    readers = {".csv": "read_csv", ".parquet": "read_parquet"}
    if file.suffix not in readers:
        raise ValueError(f"`data.path` is {path}; expected a .csv or .parquet file.")
    if not file.is_file():
        raise ValueError(
            f"`data.path` is {path}, which is not there (in {Path.cwd()}); expected a "
            ".csv or .parquet file."
        )
    try:
        import pandas as pd
    except ImportError as error:
        raise ValueError(
            f"`data` is table, which needs pandas; run: {INSTALL}"
        ) from error
    try:
        return getattr(pd, readers[file.suffix])(file)
    except ImportError as error:
        raise ValueError(
            f"`data.path` is {path}; Parquet needs pyarrow: run: pip install pyarrow"
        ) from error
    except DAMAGE as error:
        raise ValueError(
            f"`data.path`: {path} cannot be read ({short(error)}); expected a table "
            "with one line for each member and slice."
        ) from error


def _check_column(setting: str, column: str, names: Sequence[str]) -> None:
    if column not in names:
        raise ValueError(
            f"`{setting}` is {column!r}, which is no column: "
            f"{nearest_name(column, names)}"
        )
