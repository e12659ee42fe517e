"""Checks of settings: each refuses a value by naming it, what came and what fits."""

import dataclasses
import difflib
import importlib
import math
import numbers
import os
import sys
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

WRAPPERS = ("aljax.", "sklearn.", "jaxtyping.", "beartype.")
Check = Callable[[str, Any], None]
LARGEST = 1e36  # of data, so that sums of them can be told in single precision, too


def warn(message: str) -> None:
    """Warn of the line outside aljax that led here."""
    # Python 3.12 has `skip_file_prefixes` for this.
    frame, level = sys._getframe(1), 2
    # scikit-learn wraps the estimators' methods, type checkers whatever they check.
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(WRAPPERS):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def nearest_name(name: str, known: Sequence[str]) -> str:
    """A hint for an error message: the known name most like `name`, else all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}."


def instance(name: str, value: Any, kind: Any, remedy: str) -> None:
    """Refuse what is of another type."""
    if not isinstance(value, kind):
        raise ValueError(
            f"`{name}` is a {type(value).__name__}; expected {remedy} "
            f"(a {kind.__name__})."
        )


def read_path(path: Any, name: str = "path") -> Path:
    """A path, from text or a path.

    Raises:
        ValueError: No name of a file or folder, as when another argument comes first.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            f"`{name}` is a {type(path).__name__}; expected the name of a file or "
            "folder as text or a path."
        )
    return Path(path)


def slice_name(t: int, labels: Sequence[Hashable] | None) -> str:
    """A slice's index, and its label if it has one, for an error message."""
    return f"slice {t}" if labels is None else f"slice {t} ({labels[t]!r})"


def is_listed(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether a per-slice setting was given as a list, one value for each slice."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def as_column(values: Any, name: str) -> np.ndarray:
    """One entry for each row, as an array: a list's are kept as they are.

    NumPy would make text of numbers beside text, and a table of tuples.

    Args:
        values: A list, an array, or a column of a frame.
        name: What messages call it.

    Raises:
        ValueError: No array, or an entry that cannot be hashed.
    """
    if isinstance(values, list | tuple):
        column = np.empty(len(values), dtype=object)
        for row, one in enumerate(values):
            column[row] = one
        if all(isinstance(one, numbers.Real) for one in values):
            whole = np.asarray(values)
            pairs = zip(whole.tolist(), values, strict=True)
            column = whole if all(a == b or b != b for a, b in pairs) else column
    else:
        column = np.asarray(values)
    if column.dtype.kind != "O" or column.ndim != 1:
        return column
    for row, one in enumerate(column):
        try:
            hash(one)
        except TypeError as error:
            raise ValueError(
                f"{name} has {one!r} ({type(one).__name__}) in row {row}, which cannot "
                "be hashed; expected text, numbers or tuples."
            ) from error
    return column


def _reject(name: str, value: Any, expected: str) -> None:
    raise ValueError(f"`{name}` is {value!r}; expected {expected}.")


def _is_number(value: Any, whole: bool) -> bool:
    kind = numbers.Integral if whole else numbers.Real
    if not isinstance(value, kind) or isinstance(value, bool | np.bool_):
        return False
    return math.isfinite(float(value))  # pyright: ignore[reportArgumentType]


def number(
    low: float,
    *,
    high: float = math.inf,
    whole: bool = False,
    open_low: bool = False,
    per_slice: bool = False,
    optional: bool = False,
    remedy: str = "",
) -> Check:
    """A check that a value is a number in [low, high], or a list of such."""
    expected = "a whole number" if whole else "a finite number"
    expected += f" above {low:g}" if open_low else f" of at least {low:g}"
    expected += f" and at most {high:g}" if high < math.inf else ""
    expected += ", or a list with one for each slice" if per_slice else ""
    expected += ", or None" if optional else ""
    expected += remedy

    def inside(value: Any) -> bool:
        if not _is_number(value, whole):
            return False
        return (value > low if open_low else value >= low) and value <= high

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        values = list(value) if per_slice and is_listed(value) else [value]
        if not values or not all(inside(v) for v in values):
            _reject(name, value, expected)

    return check


def one_of(*choices: str) -> Check:
    """A check that a value is one of a few names."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            hint = nearest_name(str(value), choices)
            _reject(name, value, f"one of {', '.join(choices)} ({hint.rstrip('.')})")

    return check


def metric_name(name: str, value: Any) -> None:
    """Check that a value can name a metric."""
    if not isinstance(value, str) or not value:
        _reject(name, value, "the name of a metric, such as 'euclidean'")


def optional_mapping(name: str, value: Any) -> None:
    """Check that a value is a mapping or None."""
    if value is not None and not isinstance(value, Mapping):
        _reject(name, value, "a dict of keyword arguments for the metric, or None")


def start(name: str, value: Any) -> None:
    """Check that a value names a start, or could be the maps themselves."""
    if is_listed(value) and len(value):
        return  # positions: `layout.initialize` checks them against the slices
    one_of("spectral", "pca", "random")(name, value)


def check_names(cls: type, names: Iterable[str]) -> None:
    """Refuse names that are not fields of a dataclass, with the nearest that is.

    Raises:
        ValueError: One is not.
    """
    known = [field.name for field in dataclasses.fields(cls)]
    for name in names:
        if name not in known:
            raise ValueError(
                f"`{name}` is not a setting of {cls.__name__}: "
                f"{nearest_name(name, known)}"
            )


def optional(module: str, extra: str) -> Any:
    """A module that only an extra of the package brings along.

    Raises:
        ImportError: It is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is not installed: pip install 'aljax[{extra}]'"
        ) from error
