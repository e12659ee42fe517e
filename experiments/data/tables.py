"""Long tables, one row for each member and slice, cut into slices related by ids."""

import codecs
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aljax import slices_from_table
from aljax.checks import one_of
from aljax.columns import is_missing
from aljax.errors import InputError, in_words
from experiments.composition import check_known
from experiments.data.archives import DAMAGE, short
from experiments.data.columns import (
    Reading,
    checked,
    csv_options,
    in_units,
    numeric,
    tell_spreads,
)
from experiments.data.dataset import Dataset, coupled
from experiments.data.dates import in_order
from experiments.data.packages import shipped

EXACT = 2.0**53  # from which on floats skip whole numbers
FEWEST = 3  # rows of the largest slice
HEAD = 4096  # bytes in which an encoding shows
ROWS = "a table with a line of names, and one for each member and slice"
KEY = r"(?a)[a-zA-Z]([\w .-]*\w)?"  # names that Hydra's grammar takes before a colon
LINES = 20  # in which a separator shows
SEPARATORS = ";\t|,^~: "
PACKED = {b"\x1f\x8b": "gzip", b"PK\3\4": "zip"}
ALPHABETS = "cp1251 for Cyrillic, shift-jis for Japanese, gb18030 for Chinese"
RAGGED = re.compile(r"Expected \d+ fields in line (\d+), saw \d+")
# The library's names of what are columns here.
SETTINGS = {
    "values": "data.features",
    "slice_labels": "data.slice",
    "row_ids": "data.id",
    "missing": "data.missing",
}
NULL = "data.id=null finds in the data which rows could be the same."
TWICE = f"Drop rows, or name the column that tells members apart. {NULL}"


def own_table(
    *,
    path: str,
    slice: str,  # noqa: A002
    id: str | None,  # noqa: A002
    features: list | None,
    label: str | None,
    leave_out: list | None = None,
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
        leave_out: The columns not to compare rows by, such as codes.
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
    options = {
        key: "\t" if value == r"\t" else value for key, value in (csv or {}).items()
    }
    frame = _read_frame(path, options)
    names = [*frame.columns]
    columns = {"slice": slice, "id": id, "label": label}
    aside = {name: column for name, column in columns.items() if column is not None}
    asked = {name: [column] for name, column in aside.items()}
    asked |= {"features": features or [], "leave_out": leave_out or []}
    for setting, listed in asked.items():
        for column in map(str, listed):
            check_known(f"data.{setting}", column, names, "column")
    notes: list[str] = []
    for column in (slice, id) if id else (slice,):
        frame[column] = _whole(frame[column])
    frame = _in_slices(frame, slice, missing, notes)
    unused = {*aside.values()} if features is None else set()
    unused |= {*map(str, leave_out or ())}
    chosen = features and [f for f in map(str, features) if f not in unused]

    def place(row: int) -> str:  # rows are as the file counts them
        member = "" if id is None else f", {id} {frame.at[row, id]}"
        return f"row {row} ({slice} {frame.at[row, slice]}{member})"

    others = frame.drop(columns=[*unused])
    reading = Reading(options, place, notes)
    values = numeric(others, chosen, reading)
    if values.shape[1] == 0:
        beside = " and ".join(name for name in (slice, id) if name)
        got = f"is empty: {path} has no numeric columns beside {beside}"
        raise InputError("data.features", got, "at least one")
    values = checked(values, missing, reading)
    frame = frame.loc[values.index]
    _tell_ids(frame, id, reading)
    tell_spreads(values, scale, notes)
    order = in_order(frame[slice], dates, notes)
    try:
        labels = None if label is None else frame[label]
        ids = [None] * len(frame) if id is None else frame[id]
        rows = values.index.to_numpy()  # as the file counts them
        dataset = from_table(values.to_numpy(), order, ids, labels, rows)
        units = {"by": "slice" if scale_by == "slice" else "all"}
        units["missing"] = "median" if missing == "median" else "error"
        dataset = in_units(dataset, [*map(str, values.columns)], scale, **units)
    except InputError as error:
        name = SETTINGS.get(error.name, error.name)
        remedy = TWICE if name == "data.id" else error.remedy
        raise InputError(name, error.got, error.expected, remedy) from error
    dataset = replace(dataset, notes=notes)
    return coupled(dataset) if id is None else dataset


def _whole(column: Any) -> Any:
    """Returns whole numbers as such, where gaps beside them have made them floats."""
    numbers = column.dropna()
    if column.dtype.kind != "f" or len(numbers) == len(column):
        return column
    is_whole = (numbers % 1 == 0) & (numbers.abs() < EXACT)
    return column.astype("Int64") if is_whole.all() else column


def _in_slices(frame: Any, column: str, missing: str, notes: list[str]) -> Any:
    """Returns the rows that are of a slice.

    Raises:
        InputError: Rows are of none, or slices have hardly any rows.
    """
    lacking = frame[column].isna()
    if lacking.all() or (lacking.any() and missing != "drop"):
        got = f"is {column!r}, which is empty in {lacking.sum()} of {len(frame)} rows"
        remedy = "Fill it, or leave these rows out by data.missing=drop."
        raise InputError("data.slice", got, "a slice for each row", remedy)
    if lacking.any():
        notes.append(f"rows dropped for they have no {column}: {lacking.sum()}")
    rows = frame[column].value_counts()
    if len(rows) > 1 and rows.max() < FEWEST:
        got = f"is {column!r}, which has {len(rows)} values in {rows.sum()} rows"
        remedy = "Name or add a column that many rows share, such as the month or year."
        raise InputError("data.slice", got, "slices of many rows", remedy)
    return frame[~lacking]


def _tell_ids(frame: Any, column: str | None, reading: Reading) -> None:
    """Tells how many rows have no id.

    Raises:
        InputError: None has, or large numbers were rounded, for some have none.
    """
    if column is None:
        return
    unnamed = int(frame[column].isna().sum())
    if 0 < unnamed == len(frame):
        got, remedy = f"is {column!r}, which is empty", NULL
        raise InputError("data.id", got, "ids of rows", remedy)
    if frame[column].dtype.kind == "f" and (frame[column].abs() >= EXACT).any():
        got = f"is {column!r}, whose large numbers were rounded beside empty cells"
        options, types = reading.options, reading.options.get("dtype")
        types = {**(types if isinstance(types, Mapping) else {}), column: "str"}
        types = types if re.fullmatch(KEY, column) else "str"
        remedy = f"Read it as text ({csv_options({**options, 'dtype': types})}), or "
        remedy += "store it as text in a Parquet file."
        raise InputError("data.id", got, "ids that can be told apart", remedy)
    if unnamed:
        reading.notes.append(f"rows without {column}, which have no mates: {unnamed}")


def from_table(
    values: Any, slices: Any, ids: Any, labels: Any, numbers: Any = None
) -> Dataset:
    """Returns the dataset of a table's columns.

    Rows without an id are named by their `numbers`; None counts them.
    """
    cut = slices_from_table(values, slices, ids, missing="keep")
    numbers = np.arange(len(values)) if numbers is None else numbers
    classes = None if labels is None else as_labels(labels)
    return Dataset(
        slices=cut.slices,
        relations=cut.ids,
        ids=_member_names(cut.ids, [numbers[rows] for rows in cut.rows]),
        titles=[*map(in_words, cut.labels)],
        labels=None if classes is None else [classes[rows] for rows in cut.rows],
    )


def as_labels(column: Any) -> np.ndarray:
    """Returns numbers as they are, all else as text; missing labels are "unknown"."""
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array
    # Not of the array, which has dates as numbers of nanoseconds.
    words = ["unknown" if is_missing(x) else in_words(x) for x in column]
    return np.array(words)


def _member_names(
    ids: Sequence[Sequence[Any]], rows: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Returns the ids of each slice; a row without one has its number in the table.

    Where some rows have none, or ids are of several types, all are text.
    """
    missing = [is_missing(name) for names in ids for name in names]
    if all(missing):
        return [np.array(numbers) for numbers in rows]
    arrays = [*map(as_ids, ids)]
    if len({array.dtype.kind for array in arrays}) == 1 and not any(missing):
        return arrays
    return [
        np.array(
            [
                f"(row {row})" if is_missing(name) else in_words(name)
                for name, row in zip(names, numbers, strict=True)
            ]
        )
        for names, numbers in zip(ids, rows, strict=True)
    ]


def as_ids(values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Returns ids as an array without Python objects, so it can be written anywhere."""
    array = np.array(values)
    if array.dtype.kind in "OS":  # NumPy cuts zeros off the ends of bytes
        return np.array([*map(in_words, values)])
    return array


def _read_frame(path: str, options: Mapping[str, Any]) -> Any:
    file = Path(path).expanduser()
    readers = {".csv": "read_csv", ".parquet": "read_parquet"}
    if file.suffix not in readers:
        raise InputError("data.path", f"is {path}", "a .csv or .parquet file")
    if not file.is_file():
        got = f"is {path}, which is not there (in {Path.cwd()})"
        raise InputError("data.path", got, "a .csv or .parquet file")
    pd = shipped("pandas", setting="data", extra="frames")
    options = options if file.suffix == ".csv" else {}
    for name in ("chunksize", "iterator"):
        if options.get(name):
            got = f"has {name}, by which pandas does not read the whole table"
            raise InputError("data.csv", got, "options for all of it", "Leave it out.")
    try:
        if file.suffix == ".csv" and not {"encoding", "compression"} & {*options}:
            _check_encoding(path, file, options)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.DtypeWarning)
            read = getattr(pd, readers[file.suffix])
            try:
                frame = read(file, **options)
            except pd.errors.DtypeWarning:  # 7 and "7" in parts of one column
                frame = read(file, **{**options, "low_memory": False})
    except InputError:
        raise
    except ImportError as error:
        expected = "a .csv file, or pyarrow to be installed"
        remedy = "To install it, run: pip install pyarrow"
        raise InputError("data.path", f"is {path}", expected, remedy) from error
    except UnicodeDecodeError as error:
        other = "latin-1" if options.get("encoding") == "cp1252" else "cp1252"
        raise _in_another(path, error.encoding, other, options) from error
    except pd.errors.EmptyDataError as error:
        raise InputError("data.path", f"is {path}, which is empty", ROWS) from error
    except (LookupError, TypeError) as error:  # an encoding or option that is none
        got = f"is {options}, which pandas refuses ({short(error)})"
        expected = "arguments of pandas.read_csv, as its documentation lists them"
        raise InputError("data.csv", got, expected) from error
    except PermissionError as error:
        got = f"is {path}, which cannot be read ({error.strerror})"
        raise InputError("data.path", got, "a file that you may read") from error
    except DAMAGE as error:
        got = f"is {path}, which cannot be read ({short(error)})"
        remedy = _mended(file, options, str(error)) if file.suffix == ".csv" else ""
        raise InputError("data.path", got, ROWS, remedy) from error
    implied = "index_col" not in options and not isinstance(frame.index, pd.RangeIndex)
    if file.suffix == ".csv" and implied and frame.iloc[:, -1].isna().all():
        got = f"is {path}, whose lines end with a mark that its line of names lacks"
        remedy = f"Set {csv_options({**options, 'index_col': False})}."
        raise InputError("data.path", got, ROWS, remedy)
    if frame.shape[1] == 1:
        got = f"is {path}, which has a single column, {str(frame.columns[0])!r}"
        remedy = _mended(file, options) if file.suffix == ".csv" else ""
        raise InputError("data.path", got, "a column for each name", remedy)
    if not len(frame):
        raise InputError("data.path", f"is {path}, which has no rows", ROWS)
    levels = frame.index.names if file.suffix == ".parquet" else ()
    frame = frame.reset_index([level for level in levels if level is not None])
    frame.columns = [*map(str, frame.columns)]  # numbers, where no line has the names
    return frame.reset_index(drop=True)


def _check_encoding(path: str, file: Path, options: Mapping[str, Any]) -> None:
    """Refuses what would be read as nonsense: packed text, or two bytes a letter."""
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    for start, packing in PACKED.items():
        if head.startswith(start):
            remedy = f"Set {csv_options({**options, 'compression': packing})}."
            if packing == "zip":
                remedy += " If it is a spreadsheet, save it as CSV."
            got = f"is {path}, which is packed ({packing})"
            raise InputError("data.path", got, "a table of text", remedy)
    marked = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if marked or b"\0" in head:
        order = "" if marked else "-be" if head[:1] == b"\0" else "-le"
        raise _in_another(path, "utf-8", f"utf-16{order}", options)


def _in_another(path: str, tried: str, other: str, options: Any) -> InputError:
    got = f"is {path}, which is not in the encoding {tried}"
    remedy = f"Set it, as in {csv_options({**options, 'encoding': other})}"
    remedy += f" ({ALPHABETS})." if other == "cp1252" else "."
    return InputError("data.path", got, "a table of text", remedy)


def _mended(file: Path, options: Mapping[str, Any], error: str = "") -> str:
    """Returns a remedy for a table that pandas reads as one column, or not at all.

    The separator is the mark that most of the first lines have as often as the last of
    them; lines before these are no part of the table.
    """
    with file.open("rb") as opened:
        head = opened.read(HEAD).decode(options.get("encoding") or "utf-8", "replace")
    lines = head.splitlines()[:LINES] or [""]
    lines = lines[:-1] or lines  # the last may be cut
    counts = {mark: [line.count(mark) for line in lines] for mark in SEPARATORS}
    mark = max(SEPARATORS, key=lambda mark: counts[mark].count(counts[mark][-1] or -1))
    above = counts[mark].index(counts[mark][-1])
    changed = {**options, "sep": mark} if mark != options.get("sep", ",") else options
    changed = {**changed, "skiprows": above} if above else changed
    ragged = RAGGED.search(error)
    if counts[mark][-1] and changed != options:
        return f"Set how it is written: {csv_options(changed)}."
    if ragged:
        skipped = csv_options({**options, "on_bad_lines": "skip"})
        return f"Mend line {ragged[1]}, or leave such lines out by {skipped}."
    if "EOF inside string" in error:
        plain = csv_options({**options, "quoting": 3})
        return f"Mend the '\"', or read it as a letter by {plain}."
    return f"Say how it is written, as in {csv_options({'sep': ';'})}." if error else ""
