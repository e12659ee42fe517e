"""Labels of slices, such as years: checked, and found again."""

from collections.abc import Hashable, Sequence, Sized
from difflib import get_close_matches
from typing import Any

from aljax.columns import as_plain, is_missing
from aljax.errors import InputError, in_words


def check_labels(labels: Any, slices: Any) -> list[Hashable] | None:
    """Returns one label for each slice, such as a year; a column's as a list."""
    if labels is None or not isinstance(slices, Sized):
        return None  # an argument that is not a list of slices is refused as such
    listed = isinstance(labels, Sequence) or hasattr(labels, "__array__")
    ndim = getattr(labels, "ndim", int(listed))
    if ndim != 1 or len(labels) != len(slices):
        got = f"has {len(labels)} labels" if ndim else f"is {labels!r}"
        expected = f"a list with one for each of {len(slices)} slices"
        raise InputError("slice_labels", got, expected)
    labels = [*as_plain(labels)]
    for t, label in enumerate(labels):
        check_label(label, f"slice_labels[{t}]")
    return [None if is_missing(label) else label for label in labels]


def plain_label(label: Any) -> Any:
    """Returns a label, a NumPy scalar as a plain value."""
    return as_plain(label) if getattr(label, "ndim", None) == 0 else label


def find_label(label: Any, labels: Sequence[Hashable]) -> int:
    """Returns the index of the slice that a label names: as it is, or as its text.

    Raises:
        InputError: No slice has the label, or several do.
    """
    named = [*map(in_words, labels)]
    for sought, held in ((label, labels), (in_words(label), named)):
        places = [t for t, other in enumerate(held) if _same(other, sought)]
        if len(places) > 1:
            got = f"is {label!r}, the label of slices {', '.join(map(str, places))}"
            raise InputError("slice", got, "the index of one of them")
        if places:
            return places[0]
    expected = f"an index, {-len(labels)} to {len(labels) - 1}, or a slice's label"
    remedy = f"Labels go from {named[0]} to {named[-1]}."
    try:
        near = min(labels, key=lambda other: abs(other - label))
        remedy = f"The nearest is {in_words(near)}."
    except (TypeError, ValueError):  # of text, or an array
        for close in get_close_matches(in_words(label), named, n=1):
            remedy = f"The nearest is {close!r}."
    raise InputError("slice", f"is {label!r}", expected, remedy)


def _same(label: Any, other: Any) -> bool:
    try:
        return len({label, other}) == 1  # equal by their hashes, and no array
    except TypeError:
        return False


def check_label(label: Any, name: str) -> None:
    """Checks that a slice's label can be hashed, as a static field must be."""
    try:
        hash(label)
    except TypeError as error:
        expected = "text, a number or a tuple"
        raise InputError(name, f"is {label!r}", expected) from error
