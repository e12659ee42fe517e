"""Checks of values: each raises an error that names the argument and what it takes."""

import math
import numbers
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

from aljax.errors import InputError, nearest_name

Check = Callable[[str, Any], None]


def is_listed(value: Any) -> TypeGuard[Sequence[Any]]:
    """Returns True for a list, tuple or array with one value for each slice."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def check_of(
    fits: Callable[[Any], Any], expected: str, optional: bool = False
) -> Check:
    """Makes a check that a value fits; `expected` says in errors which values do."""
    expected += ", or None" if optional else ""

    def check(name: str, value: Any) -> None:
        if not (optional and value is None) and not fits(value):
            raise InputError(name, f"is {value!r}", expected)

    return check


def unless(fits: Callable[[Any], Any], check: Check) -> Check:
    """Makes a check that lets further values pass."""
    return lambda name, value: None if fits(value) else check(name, value)


def number(
    low: float,
    *,
    high: float = math.inf,
    whole: bool = False,
    open_low: bool = False,
    optional: bool = False,
    remedy: str = "",
) -> Check:
    """Makes a check that a value is a number in [low, high], or (low, high]."""
    expected = "a whole number" if whole else "a finite number"
    expected += f" above {low:g}" if open_low else f" of at least {low:g}"
    most = f"{high:.0f}" if whole else f"{high:g}"
    expected += f" and at most {most}" if high < math.inf else ""
    kind: Any = numbers.Integral if whole else numbers.Real

    def fits(value: Any) -> bool:
        value = value.item() if isinstance(value, np.generic) else value
        real = isinstance(value, kind) and not isinstance(value, bool)
        above = real and (low < value if open_low else low <= value)
        return above and value <= min(high, sys.float_info.max)

    return check_of(fits, expected + remedy, optional)


def one_of(*choices: str, optional: bool = False, beside: str = "") -> Check:
    """Makes a check that a text is one of a few names.

    `beside` says what a setting takes that is no text, for the error.
    """
    listed = f"one of {', '.join(choices)}" if len(choices) > 1 else repr(*choices)
    expected = f"{listed}, or {beside}" if beside else listed

    def check(name: str, value: Any) -> None:
        unset = optional and value is None
        if not unset and not (isinstance(value, str) and value in choices):
            hint = nearest_name(str(value), choices)
            remedy = "" if hint.startswith("known") else hint
            raise InputError(name, f"is {value!r}", expected, remedy)

    return check


def each(check: Check) -> Check:
    """Makes a check of one value for all slices, or of a list with one for each."""

    def check_each(name: str, value: Any) -> None:
        listed = is_listed(value)
        # None stands for the whole setting, never for a slice of it.
        entries = ["" if x is None else x for x in value] if listed else [value]
        try:
            for entry in entries or [""]:
                check(name, entry)
        except InputError as error:
            expected = f"{error.expected}, or a list with one for each slice"
            raise InputError(name, f"is {value!r}", expected) from None

    return check_each
