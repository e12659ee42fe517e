"""The columns of a user's table: those that rows are compared by, filled and scaled.

Nothing is decided in silence: each step adds to `told`, which the run prints.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import aljax
from aljax.errors import InputError
from aljax.spreads import few_of, warn_of_codes, warn_of_units
from experiments.data.dataset import Dataset

SOME = 0.5  # of the cells of a column that are numbers, for which it counts as one
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")


def numeric(frame: Any, asked: Sequence[str] | None, told: list[str]) -> Any:
    """Returns the columns that rows are compared by, as numbers; NaN where missing.

    Args:
        frame: The table without the columns of slices, ids and labels.
        asked: Names of columns; None for all that hold numbers.
        told: Lines for the user; one on the columns left out is added.

    Raises:
        InputError: A column is text but for some numbers, or is asked for and text.
    """
    import pandas as pd

    numbers, others = {}, []
    for name in [str(column) for column in frame.columns] if asked is None else asked:
        kind = _kind(frame[name])
        if kind in ("text", "numbers"):
            read: Any = pd.to_numeric(frame[name], errors="coerce")
            if kind == "numbers" or _are_numbers(name, frame[name], read):
                numbers[name] = read.astype(float)
                continue
        if asked is not None:
            got = f"names {name!r}, which holds no numbers, but is {kind}"
            raise InputError("data.features", got, "columns of numbers")
        others.append(f"{name} ({kind})")
    if others:
        told.append(f"columns left out ({len(others)}): {few_of(others)}")
    return pd.DataFrame(numbers, index=frame.index)


def _kind(column: Any) -> str:
    """Says what a column holds: numbers, text, dates, true or false, or nothing."""
    if column.isna().all():
        return "empty"
    kinds = {"b": "true or false", "M": "dates", "m": "times", "c": "complex"}
    if column.dtype.kind in kinds or str(column.dtype) == "boolean":
        return kinds.get(column.dtype.kind, kinds["b"])
    return "numbers" if column.dtype.kind in "iuf" else "text"


def _are_numbers(name: str, column: Any, read: Any) -> bool:
    """Says if a column of text spells numbers.

    Raises:
        InputError: Most of its cells do, and some do not.
    """
    wrong = column.notna() & read.isna()
    if not wrong.any():
        return True
    texts = column[wrong].map(str)
    got = f"has {len(texts)} cells in the column {name!r} that are no numbers, such as "
    got += f"{texts.iloc[0]!r} in row {texts.index[0]}"
    leave = "or name the columns to compare rows by, as in data.features=[a,b]."
    if texts.map(DECIMAL_COMMA.fullmatch).notna().mean() > SOME:
        remedy = f"Set the decimal mark by 'data.csv={{decimal: \",\"}}', {leave}"
        raise InputError("data.path", got, "numbers with a decimal point", remedy)
    if read.notna().sum() <= SOME * column.notna().sum():
        return False
    remedy = "If they stand for missing values, set 'data.csv={na_values: "
    remedy += f"[{', '.join(sorted({*texts})[:3])}]}}', {leave}"
    raise InputError("data.path", got, "numbers in all cells", remedy)


def checked(values: Any, missing: str, place: Any, told: list[str]) -> Any:
    """Returns the rows to compare; with gaps where they are to be filled.

    Args:
        values: The numbers, NaN where missing.
        missing: "error", "drop" (the rows) or "median" (fills them later).
        place: Of a row's number: its slice and id, in words.
        told: Lines for the user; the number of rows or cells is added.

    Raises:
        InputError: Something is infinite, or missing and an error.
    """
    infinite, gaps = np.isinf(values.to_numpy()), values.isna().to_numpy()
    for wrong, words in ((infinite, "an infinite value"), (gaps, "no value")):
        if not wrong.any() or (wrong is gaps and missing != "error"):
            continue
        row, column = np.argwhere(wrong)[0]
        got = f"{values.columns[column]!r} has {words} in {place(row)}; there are "
        got += f"{wrong.sum()} such cells in {wrong.any(axis=0).sum()} columns"
        if wrong is infinite:
            remedy = "Leave them empty, and set data.missing=drop or median."
            raise InputError("data.path", f"has a gap: {got}", "finite numbers", remedy)
        expected = "a value in each cell, or to be told what stands for none"
        remedy = "Set data.missing=median (of the column) or data.missing=drop (rows)."
        raise InputError("data.missing", f"is 'error', and {got}", expected, remedy)
    mostly = [*values.columns[gaps.mean(axis=0) > SOME]]
    if mostly:
        told.append(
            f"columns that lack more than half ({len(mostly)}): {few_of(mostly)}"
        )
    if gaps.any(axis=1).all() and missing == "drop":
        got = f"is 'drop', but each of the {len(values)} rows lacks a value"
        remedy = "Set data.missing=median, or leave columns out by data.features=[a,b]"
        remedy += f" ({few_of(mostly)} lack more than half)." if mostly else "."
        raise InputError("data.missing", got, "rows without gaps", remedy)
    if gaps.any() and missing == "drop":
        told.append(f"rows dropped for missing values: {gaps.any(axis=1).sum()}")
        return values[~gaps.any(axis=1)]
    if gaps.any():
        told.append(f"missing values, filled by the column's median: {gaps.sum()}")
    return values


def tell_spreads(values: Any, scale: str, told: list[str]) -> None:
    """Tells which columns are compared, those that vary most first."""
    spread = values.std(ddof=0).sort_values(ascending=False)
    shown = [f"{name} (sd {size:.3g})" for name, size in spread.items()]
    told.append(f"columns compared ({len(shown)}): {few_of(shown)}; scale: {scale}")
    constant = [str(name) for name in spread.index[spread == 0]]
    if constant:
        told.append(f"columns that are constant, and tell nothing: {few_of(constant)}")


def in_units(dataset: Dataset, names: Sequence[str], scale: str, **how: Any) -> Dataset:
    """Returns a dataset of filled slices in common units, and warns of its columns.

    Args:
        dataset: The slices as they are in the table; NaN where missing.
        names: Of their columns.
        scale: "none", "standard" or "robust", as in `aljax.scale`.
        **how: Its `by` and `missing`.
    """
    leave = "by data.features=[a,b]."
    rows, scaling = aljax.scale(dataset.slices, None, **how)
    ids = [member for part in dataset.ids for member in part.tolist()]
    warn_of_codes(rows, names, ids, f"Leave it out {leave}")
    if scale == "none":
        remedy = "data.scale=standard compares columns in units of their own spread; "
        warn_of_units(rows, names, f"{remedy}or choose columns {leave}")
    else:
        rows, scaling = aljax.scale(dataset.slices, scale, **how)
    return replace(dataset, slices=rows, scaling=scaling, columns=tuple(names))
