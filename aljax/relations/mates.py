"""Mates: rows of two slices that are the same member, and how strongly they hold."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Links(NamedTuple):
    """Linked rows of two slices, by row; weights where the user gave some."""

    rows: Int[np.ndarray, "_"]
    others: Int[np.ndarray, "_"]
    weights: Float[np.ndarray, "_"] | None = None


# Keyed by (earlier slice, offset).
Correspondence = dict[tuple[int, int], Links]


def by_row(
    pair: Int[np.ndarray, "_ 2"], weights: Float[np.ndarray, "_"] | None = None
) -> Links:
    """Links in the order of the earlier slice's rows, then of the later's."""
    order = np.lexsort((pair[:, 1], pair[:, 0]))
    rows, others = pair[order].T
    return Links(rows, others, None if weights is None else weights[order])


def chain(first: Links, second: Links) -> Links:
    """Links (i, k) for which some j has (i, j) in `first` and (j, k) in `second`."""
    order = np.argsort(second.rows, kind="stable")
    begin, end = (
        np.searchsorted(second.rows[order], first.others, side)
        for side in ("left", "right")
    )
    left = np.repeat(np.arange(first.rows.size), end - begin)
    # The entries begin to end of each, one after another.
    past = np.repeat(np.cumsum(end - begin) - end, end - begin)
    right = order[np.arange(left.size) - past]
    pairs = np.column_stack([first.rows[left], second.others[right]])
    return by_row(np.unique(pairs, axis=0))


def read_weights(weights: Any, count: int, name: str) -> Float[np.ndarray, "_"] | None:
    """Checked weights: `count` finite numbers of at least 0; None stays None.

    Raises:
        ValueError: Anything else, named.
    """
    if weights is None:
        return None
    try:
        checked = np.array(weights, dtype=float)  # a copy: they are kept
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}; expected numbers.") from error
    if checked.shape != (count,):
        raise ValueError(
            f"{name} have shape {checked.shape}; expected ({count},), one for each."
        )
    wrong = np.flatnonzero(~(np.isfinite(checked) & (checked >= 0)))
    if wrong.size:
        raise ValueError(
            f"{name} have {checked[wrong[0]]} at {wrong[0]}; expected finite numbers "
            "of at least 0."
        )
    return checked


class Mates(NamedTuple):
    """Mates between two slices: `rows` of the earlier, `others` of the later."""

    rows: Int[np.ndarray, "_"]
    others: Int[np.ndarray, "_"]
    strengths: Float[np.ndarray, "_"]


# Keyed by (earlier slice, offset); each pair of rows stands once.
Relations = dict[tuple[int, int], Mates]


def check_mates(relations: Any) -> None:
    """Refuse relations as users say them, for what takes those that a fit found.

    Raises:
        ValueError: They are not `Mates`, keyed.
    """
    mapping = isinstance(relations, Mapping)
    if not mapping or not all(isinstance(one, Mates) for one in relations.values()):
        came = type(relations).__name__
        came += " of other values than `Mates`" if mapping else ""
        raise ValueError(
            f"`relations` is a {came}; expected the mates that a fit found in what it "
            "was given: pass `fitted.relations`."
        )


def linked(relations: Relations) -> Relations:
    """The relations of slices that have mates: others need no place in a layout."""
    return {pair: mates for pair, mates in relations.items() if mates.rows.size}
