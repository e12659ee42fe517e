"""Long tables, one row for each member and slice, cut into slices related by ids."""

import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aljax import slices_from_table
from aljax.checks import one_of
from aljax.columns import is_missing
from aljax.errors import InputError, nearest_name
from experiments.data.archives import DAMAGE, short
from experiments.data.columns import checked, in_units, numeric, tell_spreads
from experiments.data.dataset import Dataset, coupled
from experiments.data.dates import in_order

SHOWN = 8  # names of columns
INSTALL = "pip install 'aljax[frames]'"
# The library's names of what are columns here.
SETTINGS = {
    "values": "data.features",
    "slice_labels": "data.slice",
    "row_ids": "data.id",
    "missing": "data.missing",
}


def own_table(
    *,
    path: str,
    slice: str,  # noqa: A002
    id: str | None,  # noqa: A002
    features: list | None,
    label: str | None,
    scale: str = "none",
    scale_by: str = "table",
    missing: str = "error",
    dates: str | None = None,
    csv: dict | None = None,
) -> Dataset:
    """Reads a user's own long table.

    Args:
        path: A .csv or .parquet file with a row for each member and slice.
        slice: The column that says which slice a row belongs to; slices are sorted.
        id: The column that says which member a row is about; None where no member
            recurs: `aljax.couple` finds in the data which rows could be the same.
        features: The columns to compare rows by; None for all others of numbers.
        label: The column that colors the maps, if any.
        scale: "none", "standard" (mean 0, deviation 1) or "robust" (by quartiles).
        scale_by: The rows that a scale is of: "table", or each "slice" by itself.
        missing: "error", "drop" (rows) or "median" (of the column).
        dates: How slices spell dates, as in "%d/%m/%Y"; None finds out.
        csv: Options of `pandas.read_csv`, such as {sep: ";"}.

    Raises:
        InputError: The file is missing or cannot be read, a column is not in it, a
            column of numbers has text in it, values are missing, or a member is twice
            in a slice.
    """
    one_of("none", "standard", "robust")("data.scale", scale)
    one_of("table", "slice")("data.scale_by", scale_by)
    one_of("error", "drop", "median")("data.missing", missing)
    frame = _read_frame(path, csv or {})
    names = [str(name) for name in frame.columns]
    columns = {"slice": slice, "id": id, "label": label}
    aside = {name: column for name, column in columns.items() if column is not None}
    for setting, column in aside.items():
        _check_column(f"data.{setting}", column, names)
    for column in features or ():
        _check_column("data.features", str(column), names)
    told: list[str] = []
    others = frame.drop(columns=[*{*aside.values()}] if features is None else [])
    values = numeric(others, features, told)
    if values.shape[1] == 0:
        beside = " and ".join(name for name in (slice, id) if name)
        got = f"is empty: {path} has no numeric columns beside {beside}"
        raise InputError("data.features", got, "at least one")

    def place(row: int) -> str:
        at = frame.iloc[row]
        member = "" if id is None else f", {id} {at[id]}"
        return f"row {row} ({slice} {at[slice]}{member})"

    values = checked(values, missing, place, told)
    frame = frame.loc[values.index]
    _tell_constant(values, told)
    unnamed = 0 if id is None else int(frame[id].isna().sum())
    if unnamed:
        told.append(f"rows without {id}, which have no mates: {unnamed}")
    tell_spreads(values, scale, told)
    order = in_order(frame[slice], dates, told)
    if len(frame) > 1 and frame[slice].nunique() == len(frame):
        got = f"is {slice!r}, which has another value in each of the {len(frame)} rows"
        raise InputError("data.slice", got, "a column with a value for many rows")
    try:
        labels = None if label is None else frame[label]
        ids = [None] * len(frame) if id is None else frame[id]
        dataset = from_table(values, order, ids, labels)
        how = {"by": "slice" if scale_by == "slice" else "all"}
        how["missing"] = "median" if missing == "median" else "error"
        dataset = in_units(dataset, [*map(str, values.columns)], scale, **how)
    except InputError as error:
        raise error.renamed(SETTINGS.get(error.name, error.name)) from error
    dataset = replace(dataset, notes=told)
    return coupled(dataset) if id is None else dataset


def _tell_constant(values: Any, told: list[str]) -> None:
    """Notes the columns that tell no rows apart, which at least one has to do."""
    constant = [str(name) for name in values if values[name].nunique() < 2]
    if len(values) > 1 and len(constant) == values.shape[1]:
        got = f"has {shortened(constant)}, with the same value in every row"
        raise InputError("data.features", got, "columns by which rows differ")
    if constant:
        told.append(f"columns with one value: {shortened(constant)}")


def shortened(names: Sequence[str]) -> str:
    """Returns the first names of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def from_table(values: Any, slices: Any, ids: Any, labels: Any) -> Dataset:
    """Returns the dataset of a table's columns."""
    cut = slices_from_table(values, slices, ids, missing="keep")
    classes = None if labels is None else _as_labels(labels)
    return Dataset(
        slices=cut.slices,
        relations=cut.ids,
        ids=[_as_array(ids, rows) for ids, rows in zip(cut.ids, cut.rows, strict=True)],
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


def _as_array(values: Sequence[Any], rows: np.ndarray) -> np.ndarray:
    """Ids as an array that holds no Python objects, so it can be written anywhere.

    Where nobody has one they are the rows' numbers in the table.
    """
    array = np.array(rows if all(map(is_missing, values)) else values)
    return array if array.dtype.kind != "O" else np.array([*map(str, values)])


def _read_frame(path: str, options: Mapping[str, Any]) -> Any:
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
    options = options if file.suffix == ".csv" else {}
    try:
        frame = getattr(pd, readers[file.suffix])(file, **options)
    except ImportError as error:
        expected = "a .csv file, or pyarrow to be installed"
        remedy = "To install it, run: pip install pyarrow"
        raise InputError("data.path", f"is {path}", expected, remedy) from error
    except UnicodeDecodeError as error:
        got = f"is {path}, which is not in the encoding {error.encoding}"
        marked = file.read_bytes()[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        remedy = "Set it, as in 'data.csv={encoding: latin-1}'."
        remedy = remedy.replace("latin-1", "utf-16") if marked else remedy
        raise InputError("data.path", got, "a table of text", remedy) from error
    except DAMAGE as error:
        got = f"is {path}, which cannot be read ({short(error)})"
        expected = "a table with one line for each member and slice"
        remedy = "Options of pandas.read_csv go into 'data.csv={sep: \";\"}'."
        raise InputError("data.path", got, expected, remedy) from error
    found = re.search(r"[;|\t]", str(frame.columns[0])) if frame.shape[1] == 1 else None
    if found:
        got = f"is {path}, which has a single column, {frame.columns[0]!r}"
        remedy = f"Set the separator: 'data.csv={{sep: {json.dumps(found[0])}}}'."
        raise InputError("data.path", got, "a column for each name", remedy)
    if not len(frame):
        raise InputError("data.path", f"is {path}, which has no rows", "some rows")
    return frame.reset_index(drop=True)


def _check_column(setting: str, column: str, names: Sequence[str]) -> None:
    if column not in names:
        hint = nearest_name(column, names)
        raise InputError(setting, f"is {column!r}", "the name of a column", hint)
