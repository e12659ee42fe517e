"""Errors and warnings: each names a value, what came, what was expected, a remedy."""

import difflib
import importlib
import inspect
import os
import re
import warnings
from collections.abc import Hashable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

WRAPPERS = ("aljax.", "equinox.", "sklearn.", "jaxtyping.", "beartype.")
SHOWN = 8  # words of a list in a message
LARGEST = 1e36  # of data, so that sums of them can be told in single precision, too


# Beside the pins of pyproject.toml, for environments that were made without them.
BROKEN = {"0.10.2": "miscompiles reductions on CPUs, which makes results wrong"}
OLDEST = (0, 9)
REMEDY = "Install another: pip install 'jax>=0.9,!=0.10.2,<0.13'."


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line outside aljax that led here."""
    # Python 3.12 has `skip_file_prefixes` for this.  scikit-learn and equinox wrap
    # the methods of their classes, type checkers every function.
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_globals.get("__name__", "").startswith(WRAPPERS):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def nearest_name(name: str, known: Sequence[str]) -> str:
    """Returns a hint for an error: the known name most like `name`, else all."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}."


class InputError(ValueError):
    """A value that an argument cannot take.

    The message reads "`name` got; expected expected. remedy".

    Attributes:
        name: The argument, such as "relations[2]".
        got: The value that came, as a predicate such as "is 3" or "has shape (4,)".
        expected: The values that the argument can take, as a noun phrase.
        remedy: One or more sentences that say what to do; may be empty.
    """

    def __init__(self, name: str, got: str, expected: str, remedy: str = ""):
        super().__init__(name, got, expected, remedy)
        self.name, self.got = name, got
        self.expected, self.remedy = expected, remedy

    def __str__(self) -> str:
        message = f"`{self.name}` {self.got}; expected {self.expected}. {self.remedy}"
        return message.rstrip()

    def renamed(self, name: str) -> "InputError":
        """Returns the same error of an argument that its caller names otherwise."""
        return type(self)(name, self.got, self.expected, self.remedy)

    def of(self, owner: str) -> "InputError":
        """Returns the same error, with the name of the argument's slice."""
        got = f"of {owner} {self.got}"
        return type(self)(self.name, got, self.expected, self.remedy)


def few_of(words: Sequence[str], most: int = SHOWN) -> str:
    """Returns words as a line that is not too long."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def kind_of(value: Any) -> str:
    """Returns what a value is, as messages say it: None, a list, an int."""
    return "None" if value is None else _with_article(type(value))


def _with_article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiouAEIOU' else 'a'} {kind.__name__}"


def instance(name: str, value: Any, kind: Any, expected: str) -> None:
    """Checks that a value is of a type."""
    if not isinstance(value, kind):
        expected = f"{expected} ({_with_article(kind)})"
        raise InputError(name, f"is {kind_of(value)}", expected)


def read_path(path: Any, name: str = "path") -> Path:
    """Reads a path, from text or a path.

    Raises:
        ValueError: No name of a file or folder, as when another argument comes first.
    """
    if not isinstance(path, str | os.PathLike):
        expected = "the name of a file or folder as text or a path"
        raise InputError(name, f"is {kind_of(path)}", expected)
    return Path(path)


def slice_name(t: int, labels: Sequence[Hashable] | None) -> str:
    """Returns a slice's index, and its label if it has one, for an error message."""
    if labels is None:
        return f"slice {t}"
    label = labels[t]
    return f"slice {t} ({repr(label) if isinstance(label, str) else in_words(label)})"


def in_words(label: Hashable) -> str:
    """Returns a label as text; that of a day is its date."""
    return re.sub(r"[ T]00:00:00(\.0+)?$", "", str(label))


def optional(module: str, extra: str) -> Any:
    """Returns a module that only an extra of the package brings along.

    Raises:
        ImportError: It is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if f"{error.name}".startswith("aljax"):
            raise
        raise ImportError(
            f"{error.name} is not installed: pip install 'aljax[{extra}]'"
        ) from error


def check_jax() -> None:
    """Checks that jax and jaxlib are neither too old nor known to be broken.

    Newer ones than were tested are let through: pip warns of them.

    Raises:
        ImportError: One of them is; it says which and what to install.
    """
    for name in ("jax", "jaxlib"):
        version = metadata.version(name)
        if version in BROKEN:
            raise ImportError(f"{name} {version} {BROKEN[version]}. {REMEDY}")
        numbers = tuple(int(text) for text in version.split(".")[:2] if text.isdigit())
        if numbers < OLDEST:
            raise ImportError(
                f"{name} {version} is older than aljax supports. {REMEDY}"
            )
