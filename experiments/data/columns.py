"""The columns of a user's table: those that rows are compared by, filled and scaled.

Nothing is decided in silence: each step adds to `notes`, which the run prints.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

import aljax
from aljax.errors import LARGEST, InputError, few_of, warn
from aljax.spreads import warn_of_cells, warn_of_codes, warn_of_units
from experiments.composition import spelled
from experiments.data.dataset import Dataset
from experiments.data.dates import are_dates

EXAMPLE = 24  # letters of a cell
MANY = 20  # texts in a column, beyond which they do not stand for missing values; names
SOME = 0.5  # of the cells of a column that are numbers, for which it counts as one
# How numbers may be written, as pandas is told; apart from plain ones.
MARKS: tuple[dict[str, str], ...] = (
    *({"thousands": mark} for mark in (",", " ", "'")),
    {"decimal": ","},
    *({"decimal": ",", "thousands": mark} for mark in (".", " ")),
    {"decimal": "."},
)
# Other signs of the same meaning, which pandas does not know.
SIGNS = str.maketrans(
    {**dict.fromkeys("\u00a0\u2009\u202f\t\n", " "), "\u2212": "-", "\u2019": "'"}
)
NUMBER, MARK = r"[-+]?\d+([.,]\d+)*", r"[%$€£¥]"
AFTER = rf"{NUMBER}\s*({MARK}|[a-zµ°]{{1,3}})"  # a percentage, a price, a weight
UNIT = re.compile(rf"\s*(({MARK}|[a-z]{{3}})\s*{NUMBER}|{AFTER})\s*", re.IGNORECASE)
OR = "or leave columns out by data.leave_out=[NAME]."
KINDS = {"b": "true or false", "M": "dates", "m": "times", "c": "complex"}
KINDS |= dict.fromkeys("iuf", "numbers")


class Reading(NamedTuple):
    """How a table is read.

    Attributes:
        options: Those of pandas.
        place: Of a row's name in the index: its slice and id, in words.
        notes: Lines for the user, to which each step adds.
    """

    options: Mapping[str, Any]
    place: Callable[[int], str]
    notes: list[str]


def csv_options(options: Mapping[str, Any]) -> str:
    """Returns options of `pandas.read_csv` as they are set in a shell."""
    return shlex.quote(f"data.csv={spelled(options)}")


def left_out(*names: Any) -> str:
    """Returns the setting that leaves columns out, as it is set in a shell."""
    return shlex.quote(f"data.leave_out={spelled([*names])}")


def numeric(frame: Any, chosen: Sequence[str] | None, reading: Reading) -> Any:
    """Returns the columns that rows are compared by, as numbers; NaN where missing.

    Args:
        frame: The table without the columns of slices, ids and labels.
        chosen: Names of columns; None for all that hold numbers.
        reading: How they are read; a note on the columns left out is added.

    Raises:
        InputError: A column is text but for some numbers, or is asked for and text.
    """
    import pandas as pd

    numbers, others, options = {}, [], reading.options
    by_column = isinstance(options.get("na_values"), Mapping)
    # Columns of numbers of a Parquet file still have these.
    gaps = pd.Series([] if by_column else _missing(options), dtype=object)
    gaps = pd.to_numeric(gaps, errors="coerce")
    for name in [str(column) for column in frame.columns] if chosen is None else chosen:
        column = frame[name]
        kind = _kind(column)
        if kind == "text":
            column, kind = _read(name, frame, reading)
        if kind == "numbers":
            numbers[name] = column.astype(float)
            numbers[name] = numbers[name].mask(numbers[name].isin(gaps))
            continue
        if chosen is not None:
            got = f"names {name!r}, which holds no numbers, but is {kind}"
            raise InputError("data.features", got, "columns of numbers")
        others.append(f"{name} ({kind})")
    if others:
        reading.notes.append(f"columns left out ({len(others)}): {few_of(others)}")
    return pd.DataFrame(numbers, index=frame.index)


def _kind(column: Any) -> str:
    """Says what a column holds: numbers, text, dates, true or false, or nothing."""
    if column.dtype.kind not in "iu" and column.isna().all():
        return "empty"
    return KINDS.get(column.dtype.kind, "text")


def _read(name: str, frame: Any, reading: Reading) -> tuple[Any, str]:
    """Returns a column of text as numbers, or as it is, and the kind that it is of.

    Raises:
        InputError: Some or all of its cells could be numbers, and are not.
    """
    column, options = frame[name], reading.options
    texts = column.dropna().map(str)
    cells = texts.str.translate(SIGNS).str.strip()
    cells = cells[~cells.isin(["", *_missing(options)])]
    numbers = _numbers(cells, options)
    wrong = texts[numbers.index[numbers.isna()]]
    if wrong.empty:
        return numbers.reindex(column.index), "numbers" if len(numbers) else "empty"
    first = wrong.iloc[0]
    got = (
        f"has no number in {len(wrong)} of {len(texts)} cells of the column {name!r}: "
    )
    got += f"{first!r} in {reading.place(wrong.index[0])}"
    readable = max(SOME, numbers.notna().mean())
    for marks in MARKS:
        changed = {**options, **marks}
        if _numbers(cells, changed).notna().mean() > readable:
            remedy = f"Set the marks by {csv_options(changed)}, {OR}"
            swaps_point = marks.get("decimal", ".") != options.get("decimal", ".")
            if swaps_point and any(
                _has_points(frame[other]) for other in frame.columns
            ):
                remedy = "Write it as other columns are, or leave it out by "
                remedy += f"{left_out(name)}."
            raise InputError("data.path", got, "numbers such as 1234.5", remedy)
    if len(wrong) < SOME * len(texts):
        others = sorted({*cells[wrong.index]})
        marks = csv_options({**options, "na_values": [*_missing(options), *others]})
        remedy = f"If they stand for missing values, set {marks}; else mend them, {OR}"
        if len(others) > MANY:
            remedy = f"Mend them, or leave the column out by {left_out(name)}."
        raise InputError("data.path", got, "numbers in all", remedy)
    example = " ".join(first.split())
    if len(example) > EXAMPLE:
        example = example[: EXAMPLE - 3] + "..."
    if are_dates(cells):
        return column, f"dates, as {example!r}"
    if texts.map(UNIT.fullmatch).notna().mean() > SOME:
        warn(
            f"the column {name!r} is left out, for its cells are text, such as "
            f"{example!r}: write numbers alone to compare rows by it."
        )
    return column, f"text, as {example!r}"


def _numbers(cells: Any, marks: Mapping[str, Any]) -> Any:
    """Returns texts as numbers where they are spelled with these marks, else NaN."""
    import pandas as pd

    thousands, decimal = marks.get("thousands") or "", marks.get("decimal", ".")
    if thousands == decimal:
        return pd.Series(np.nan, cells.index)
    digits = rf"{re.escape(thousands)}\d"  # groups of two are of lakhs
    groups = rf"\d{{1,3}}({digits}{{2,3}})*{digits}{{3}}|" if thousands else ""
    spelled = rf"[-+]?({groups}\d*)({re.escape(decimal)}\d*)?(e[-+]?\d+)?"
    plain = cells.where(cells.str.fullmatch(spelled, case=False))
    for mark, usual in ((thousands, ""), (decimal, ".")):
        plain = plain.str.replace(mark, usual, regex=False)
    return pd.to_numeric(plain, errors="coerce")


def _has_points(column: Any) -> bool:
    """Tells if a column has decimal points, which could not stand for thousands."""
    if column.dtype.kind != "f" or not (column % 1 > 0).any():
        return False
    parts = np.abs(column[column % 1 > 0].to_numpy())
    digits = [parts * 10**place for place in (2, 3)]
    hundredths, thousandths = (abs(x - x.round()) < 1e-6 for x in digits)
    return not (thousandths.all() and hundredths.mean() < SOME and parts.max() < 1000)


def _missing(options: Mapping[str, Any]) -> list[Any]:
    """Returns the spellings that are read as missing beside those of pandas."""
    known = options.get("na_values", [])
    if isinstance(known, Mapping):  # those of each column
        return [text for texts in known.values() for text in np.atleast_1d(texts)]
    return [*np.atleast_1d(known)]


def checked(values: Any, missing: str, reading: Reading) -> Any:
    """Returns the rows to compare; with gaps where they are to be filled.

    Args:
        values: The numbers, NaN where missing.
        missing: "error", "drop" (the rows) or "median" (fills them later).
        reading: How they were read; the number of rows or cells is noted.

    Raises:
        InputError: Something is infinite, or missing and an error.
    """
    options, place, notes = reading
    cells, gaps = values.to_numpy(), values.isna().to_numpy()
    endless = np.abs(cells) >= LARGEST
    mostly = [*values.columns[gaps.mean(axis=0) > SOME]]
    without = f"; more than half is missing in {few_of(mostly)}" if mostly else ""
    without = f"leave columns out by data.leave_out=[NAME]{without}."
    for wrong, words in ((endless, "{:g}"), (gaps, "no value")):
        if not wrong.any() or (wrong is gaps and missing != "error"):
            continue
        row, column = np.argwhere(wrong)[0]
        words = words.format(cells[row, column])
        where = place(values.index[row])
        got = f"the column {values.columns[column]!r} has {words} in {where}"
        count, columns = wrong.sum(), wrong.any(axis=0).sum()
        got += (
            f" ({count} such cells in {columns} column{'s' * int(columns > 1)})"
            if count > 1
            else ""
        )
        if wrong is endless:
            spelled = [*_missing(options), *sorted({*map(str, cells[endless])})]
            marks = csv_options({**options, "na_values": spelled})
            remedy = f"Set {marks} and data.missing=median or drop, "
            expected = f"finite numbers, below {LARGEST:g} in size"
            raise InputError("data.path", f"is wrong, for {got}", expected, remedy + OR)
        expected = "a value in each cell, or to be told what stands for none"
        remedy = "Set data.missing=median (of the column) or data.missing=drop (rows), "
        got = f"is 'error', and {got}"
        raise InputError("data.missing", got, expected, f"{remedy}or {without}")
    if mostly:
        notes.append(
            f"columns that lack more than half ({len(mostly)}): {few_of(mostly)}"
        )
    if gaps.any(axis=1).all() and missing == "drop":
        got = f"is 'drop', but each of the {len(values)} rows lacks a value"
        remedy = f"Set data.missing=median, or {without}"
        raise InputError("data.missing", got, "rows without gaps", remedy)
    if gaps.any() and missing == "drop":
        notes.append(f"rows dropped for missing values: {gaps.any(axis=1).sum()}")
        return values[~gaps.any(axis=1)]
    if gaps.any():
        notes.append(f"missing values, filled by the column's median: {gaps.sum()}")
    return values


def tell_spreads(values: Any, scale: str, notes: list[str]) -> None:
    """Tells which columns are compared, those that vary most first."""
    with np.errstate(over="ignore"):  # refused where values are read
        spread = values.std(ddof=0).sort_values(ascending=False, kind="stable")
    shown = [f"{name} (sd {size:.3g})" for name, size in spread.items()]
    listed = few_of(shown, MANY)
    notes.append(f"columns compared ({len(shown)}): {listed}; scale: {scale}")
    same = values.max() == values.min()  # a deviation is rounded
    constant = [str(name) for name in spread.index if same[name]]
    if len(constant) == len(spread) and len(values) > 1:
        got = f"has {few_of(constant)}, with the same value in every row"
        raise InputError("data.features", got, "columns by which rows differ")
    if constant:
        notes.append(f"columns that are constant, and tell nothing: {few_of(constant)}")


def in_units(
    dataset: Dataset, names: Sequence[str], scale: str, **options: Any
) -> Dataset:
    """Returns a dataset of filled slices in common units, and warns of its columns.

    Args:
        dataset: The slices as they are in the table; NaN where missing.
        names: Of their columns.
        scale: "none", "standard" or "robust", as in `aljax.scale`.
        **options: Its `by` and `missing`.
    """
    rows, scaling = aljax.scale(dataset.slices, None, **options)

    def leaving(columns: Sequence[Any]) -> str:
        return f"Leave it out by {left_out(*columns)}."

    warn_of_columns(dataset, rows, names, scale, leaving=leaving, beside=f", {OR}")
    if scale != "none":
        rows, scaling = aljax.scale(dataset.slices, scale, **options)
    fields: dict[str, Any] = {"scaling": scaling, "columns": tuple(names)}
    return replace(dataset, slices=rows, scale="none", **fields)


def warn_of_columns(
    dataset: Dataset,
    filled: Sequence[np.ndarray],
    names: Sequence[Any],
    scale: str,
    *,
    leaving: Callable[[Sequence[Any]], str] = lambda _: "Leave it out.",
    beside: str = ".",
) -> None:
    """Warns of columns that decide alone or look like codes, with settings that help.

    Args:
        dataset: The slices; NaN where missing.
        filled: Their rows without gaps.
        names: Of their columns.
        scale: "none", "standard" or "robust".
        leaving: Says how columns are left out.
        beside: What helps beside a scale.
    """
    ids = [member for slice_ids in dataset.ids for member in slice_ids.tolist()]
    warn_of_codes(dataset.slices, names, ids, leaving)

    def place(t: int, row: int) -> str:
        return f"the row of {dataset.ids[t][row]} in {dataset.titles[t]}"

    units = "data.scale=standard compares columns in units of their own spread"
    robust = "Correct it, or set data.scale=robust."
    if scale == "none":
        warn_of_units(filled, names, place, remedy=units + beside, robust=robust)
    elif scale == "standard":
        warn_of_cells(filled, names, place, robust)
