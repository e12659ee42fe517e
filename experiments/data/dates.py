"""The order of slices: numbers, dates in any usual spelling, or text."""

import re
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from aljax.errors import InputError, in_words, warn

FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"),
    *("%Y-%m-%d %H:%M:%S.%f", "%Y-%m", "%Y/%m", "%m/%Y", "%m.%Y", "%m-%Y"),
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y"),
    *("%d/%m/%y", "%m/%d/%y", "%b %Y", "%B %Y", "%b-%Y", "%Y %b", "%Y %B", "%b-%y"),
    *("%b %y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y"),
    *("%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%M:%SZ"),
    *("%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"),
    *("%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p"),
    *("%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p"),
    *("%Y%m", "%Y%m%d", "%YM%m", "%Y年%m月", "%Y年%m月%d日", "%y-%b", "%d-%b"),
    *("%b", "%B"),
)
# Quarters, weeks and the like before their year, and years after words.
BEFORE_YEAR = re.compile(r"[^\W\d]*\W?(\d{1,2})\D*(\d{4})|[1-4]?Q[1-4]?\W*(\d\d)", re.I)
AFTER_WORD = re.compile(r".*[^\W\d]{3}\W+(1[5-9]|20)\d\d")
# Days before dates, and points, apostrophes or nothing after months.
DAY = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)[a-z]*\W+", re.I)
SEPTEMBER = re.compile(r"\bSept\b", re.I)
MONTH = re.compile(r"(?<=[a-z]{3})(\W+|(?=\d))", re.I)
NUMBER = re.compile(r"\d+(st|nd|rd|th)?")
SAMPLE = 100  # texts of a column
SHOWN = 3  # labels at each end, and gaps


def natural_order(name: str) -> list[str | int]:
    """Returns a key that sorts slice2 before slice10."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)]


def in_order(column: Any, dates: str | None, notes: list[str]) -> Any:
    """Returns the column of slices, as an ordered category where it is text.

    Args:
        column: For each row its slice; an ordered category's keep their order.
        dates: How the slices spell dates (`%d/%m/%Y`); None finds out.
        notes: Lines for the user; the order, and what is missing in between, is added.

    Raises:
        InputError: A slice is not spelled as `dates` says.
    """
    import pandas as pd

    labels = [*column.dropna().unique()]
    if dates is None and getattr(column.dtype, "ordered", False):
        present = {*labels}
        labels = [label for label in column.dtype.categories if label in present]
        _tell(labels, None, " in the order of their category", notes)
        return column
    if not labels or not all(isinstance(label, str) for label in labels):
        if dates is not None:
            got, expected = "is set, but slices are not text", "null"
            raise InputError("data.dates", got, expected)
        try:
            labels = sorted(labels)
        except TypeError:  # refused by name when they are cut
            return column
        _tell(labels, _places(labels), "", notes)
        return column
    parsed = {spelling: _parsed(labels, spelling) for spelling in FORMATS}
    if dates:
        try:
            parsed = {dates: _parsed(labels, dates)}
        except ValueError as error:
            got, expected = f"is {dates!r} ({error})", "how slices spell their date"
            remedy = "As in '%d/%m/%Y', by the signs of Python's strptime."
            raise InputError("data.dates", got, expected, remedy) from error
    fits = {
        spelling: days for spelling, days in parsed.items() if np.isfinite(days).all()
    }
    if dates and not fits:
        wrong = [
            x for x, day in zip(labels, parsed[dates], strict=True) if np.isnat(day)
        ]
        got = f"is {dates!r}, but slices are {', '.join(map(repr, wrong[:SHOWN]))}"
        raise InputError("data.dates", got, "how all slices spell their date")
    orders = {tuple(np.argsort(days, kind="stable")) for days in fits.values()}
    if len(orders) == 1:
        spelling, days = min(
            fits.items(), key=lambda fit: np.unique(np.diff(_periods(fit[1]))).size
        )
        ordered = [labels[place] for place in orders.pop()]
        _tell(ordered, _periods(days), f" as dates ({spelling})", notes)
    else:
        ordered = _as_text(labels, parsed, fits, notes)
    return pd.Categorical(column, categories=ordered, ordered=True)


def are_dates(texts: Any) -> bool:
    """Tells if a column of texts has dates of one spelling, as far as it is seen."""
    sample = texts[texts.str.contains(r"\d")].unique()[:SAMPLE]
    if len(sample) < texts.nunique() and len(sample) < SAMPLE:
        return False
    return any(np.isfinite(_parsed(sample, spelling)).all() for spelling in FORMATS)


def _as_text(
    labels: Sequence[str],
    parsed: dict[str, np.ndarray],
    fits: dict[str, np.ndarray],
    notes: list[str],
) -> list[str]:
    """Returns labels sorted as text, with a warning if they may be dates."""
    first = f"slices such as {labels[0]!r} look like dates, but "
    if fits:
        spellings, first_spelling = " and ".join(fits), next(iter(fits))
        warn(
            f"{first}{spellings} order them differently: they stay text. Set "
            f"data.dates='{first_spelling}' or another."
        )
    same_form = len({NUMBER.sub("0", label) for label in labels}) == 1
    by_year = same_form and all(map(BEFORE_YEAR.fullmatch, labels))
    ordered = sorted(labels, key=_year_first if by_year else natural_order)
    manner = ", by year" if by_year else ""
    if not re.search(r"\d", "".join(labels)):
        manner = " (number them, as '1 low', for another order)"
    _tell(ordered, None, f" as text{manner}", notes)
    spelling, days = max(parsed.items(), key=lambda fit: np.isfinite(fit[1]).sum())
    if fits or same_form:
        return ordered
    if np.isfinite(days).mean() > 0.5:
        wrong = labels[int(np.isnat(days).argmax())]
        warn(
            f"most slices are dates ({spelling}), but {wrong!r} is not: they are "
            "sorted as text. Write all in the same way."
        )
    elif all(map(AFTER_WORD.fullmatch, labels)):
        shown = ", ".join(ordered[:SHOWN])
        warn(f"{first}are sorted as text: {shown} ... Write them as '2020-03'.")
    return ordered


def _parsed(labels: Sequence[str], spelling: str) -> np.ndarray:
    """Returns dates, NaT for labels that are not spelled so."""
    import pandas as pd

    texts: Any = pd.Series(labels)
    if "%d" in spelling and "%y" not in spelling.lower():
        texts, spelling = texts + " 2000", f"{spelling} %Y"  # a leap year
    dates: Any = pd.to_datetime(texts, format=spelling, errors="coerce")
    if dates.isna().any():
        for pattern, usual in ((DAY, ""), (SEPTEMBER, "Sep"), (MONTH, " ")):
            texts = texts.str.replace(pattern, usual, regex=True)
        dates = pd.to_datetime(texts, format=spelling, errors="coerce")
    return dates.to_numpy("datetime64[s]")


def _periods(dates: np.ndarray) -> np.ndarray:
    """Returns sorted dates as numbers: months, if all are of the same day, or days."""
    months, days = (np.sort(dates).astype(f"datetime64[{unit}]") for unit in "MD")
    same = np.unique(days - months).size == 1
    return (months if same else days).astype(int)


def _year_first(label: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", label)[::-1]]


def _places(labels: Sequence[Any]) -> np.ndarray | None:
    """Returns numbers or dates as whole numbers; None for all else."""
    import pandas as pd

    if all(hasattr(label, "month") and hasattr(label, "day") for label in labels):
        times = [pd.Timestamp(str(label)).tz_localize(None) for label in labels]
        return _periods(np.array([*map(str, times)], "M8[s]"))
    try:
        numbers = np.asarray(labels, float)
    except (TypeError, ValueError):
        return None
    if not np.array_equal(numbers, np.floor(numbers)):
        return None
    width = len(str(int(numbers[0])))
    spelling = {6: "%Y%m", 8: "%Y%m%d"}.get(width, "")
    parsed = _parsed([f"{number:.0f}" for number in numbers], spelling)
    return _periods(parsed) if spelling and np.isfinite(parsed).all() else numbers


def _tell(
    labels: Sequence[Hashable], places: np.ndarray | None, manner: str, notes: list[str]
) -> None:
    """Tells the order, and how many slices are missing where steps are regular."""
    ends = [*map(in_words, labels)]
    if len(ends) > 2 * SHOWN + 1:  # dots for one label alone would say less
        ends = [*ends[:SHOWN], "...", *ends[-SHOWN:]]
    notes.append(f"slices ({len(labels)}){manner}: {', '.join(ends)}")
    if places is None or len(places) < SHOWN:
        return
    steps = np.diff(places)
    sizes, counts = np.unique(steps, return_counts=True)
    usual = sizes[counts.argmax()]
    gaps = np.flatnonzero((steps > usual) & (steps % usual == 0)) if usual > 0 else []
    if len(gaps) and counts.max() > len(steps) / 2:
        lacking = (steps // usual).astype(int) - 1
        after = [f"{lacking[t]} after {in_words(labels[t])}" for t in gaps[:SHOWN]]
        ellipsis = " ..." if len(gaps) > SHOWN else ""
        notes.append(f"slices missing in between: {', '.join(after)}{ellipsis}")
