"""Links from explicit pairs of rows: of any two slices, several mates for a row."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from aljax.graph.links import Correspondence, Slices, by_row, read_weights


def read_pairs(relations: Mapping[Any, Any], slices: Slices) -> Correspondence:
    """Checked explicit pairs; a row may have several mates.

    Raises:
        ValueError: A key that is no pair of slices, rows out of range, weights that
            are negative, NaN, infinite or of the wrong length.
    """
    count = len(slices.sizes)
    check_keys(relations, count)
    links: Correspondence = {}
    for key, given in relations.items():
        earlier, later = sorted(map(int, key))
        pair, weights = _read_pair(given, key, slices)
        pair = pair if key[0] == earlier else pair[:, ::-1]
        if (earlier, later - earlier) in links:
            raise ValueError(
                f"`relations` has both {key!r} and {(key[1], key[0])!r}; expected one "
                "of them with all pairs."
            )
        links[earlier, later - earlier] = by_row(pair, weights)
    return dict(sorted(links.items()))


def check_keys(relations: Mapping[Any, Any], count: int) -> None:
    """Refuse keys that are no pairs of different slices.

    Args:
        relations: Pairs of rows by pairs of slices.
        count: How many slices there are.

    Raises:
        ValueError: There is such a key.
    """
    for key in relations:
        whole = isinstance(key, tuple) and len(key) == 2
        if not whole or not all(isinstance(t, numbers.Integral) for t in key):
            raise ValueError(
                f"`relations` has the key {key!r}; expected pairs of slices, as in "
                "{(0, 1): array (m, 2)}, or a list of dicts."
            )
        if key[0] == key[1] or min(key) < 0 or max(key) >= count:
            raise ValueError(
                f"`relations` has the key {key!r}; expected two different slices of 0 "
                f"to {count - 1}."
            )


def _read_pair(
    given: Any, key: tuple[int, int], slices: Slices
) -> tuple[np.ndarray, np.ndarray | None]:
    name = f"relations[{key[0]}, {key[1]}]"
    weights = None
    try:
        if isinstance(given, tuple) and len(given) == 2 and np.ndim(given[0]) == 2:
            given, weights = given
        pair = np.asarray(given)
    except ValueError as error:
        raise ValueError(
            f"`{name}` is no array ({error}); expected whole numbers of shape (m, 2)."
        ) from error
    if pair.size == 0:
        pair = np.zeros((0, 2), dtype=np.int64)
    if pair.ndim != 2 or pair.shape[1] != 2 or pair.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` has shape {pair.shape} and dtype {pair.dtype}; expected whole "
            "numbers of shape (m, 2), or a tuple of such an array and weights (m,)."
        )
    for side, t in enumerate(key):
        wrong = np.flatnonzero((pair[:, side] < 0) | (pair[:, side] >= slices.sizes[t]))
        if wrong.size:
            raise ValueError(
                f"`{name}` has row {pair[wrong[0], side]} in its column {side}, but "
                f"{slices.name(t)} has {slices.sizes[t]} rows "
                f"(0 to {slices.sizes[t] - 1})."
            )
    if len(np.unique(pair, axis=0)) < len(pair):
        raise ValueError(
            f"`{name}` has a pair of rows twice; expected each once, with a weight "
            "that says how surely they belong together."
        )
    between = " and ".join(slices.name(t) for t in key)
    name = f"`{name}`: the weights between {between}"
    return pair.astype(np.int64), read_weights(weights, len(pair), name)
