"""Sequences whose slices repeat rows: the distinct rows, and the links between them.

A row of a kind that others are of shares their mates: links between rows of the same
kinds are joined, at the largest of their weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from aljax.config import is_listed
from aljax.couple import Coupling, pulls_of
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError, kind_of
from aljax.graph.rows import chosen, distinct_rows
from aljax.graph.slices import Slice, ids_of, of_rows
from aljax.relations.mates import Relations, by_row
from aljax.relations.read import (
    follow,
    from_dict,
    from_pairs,
    is_dict,
    read_relations,
    turning,
)

Kinds = Sequence[Int[np.ndarray, "_"]]
Pairs = dict[tuple[int, int], Any]


def distinct(
    slices: Sequence[Slice], relations: Any, *, window: int, y: Any, init: Any
) -> tuple[list[Slice], Any, list[Int[np.ndarray, "_"]], dict[str, Any]]:
    """Returns the distinct rows of a sequence, and what is known of them.

    Returns:
        The slices, each kind of row once; the links of these rows, as `fit` takes
        them; for each row of each slice where its kind stands; and `y`, and `init`
        where it is a list, of these rows.

    Raises:
        InputError: Relations, `y` or `init` do not fit the slices.
    """
    parts = [distinct_rows(slice_.content) for slice_ in slices]  # pyright: ignore
    firsts, row_kinds = map(list, zip(*parts, strict=True))
    relations = ids_of(slices) if relations is None else relations
    if isinstance(relations, Coupling):
        relations = pulls_of(relations, slices)
    if len(slices) > 1 and not isinstance(relations, str):

        def read_pairs(relations: Any) -> Pairs:
            mates = read_relations(relations, slices, alignment_window_size=window)
            return among_kinds(mates, row_kinds)

        relations = turning(read_pairs, relations)

    def of_kinds(values: Any, name: str, slice_: Slice, t: int) -> Any:
        return chosen(values, firsts[t], slice_.rows, name)

    listed = {"y": y} | ({"init": init} if is_listed(init) else {})
    values = {
        name: of_rows(name, entries, slices, of_kinds)
        for name, entries in listed.items()
    }
    return [*map(with_rows, slices, firsts)], relations, row_kinds, values


def with_rows(slice_: Slice, rows: Int[np.ndarray, "_"]) -> Slice:
    """Returns a slice of data with some of its rows alone."""
    data: Any = slice_.content
    return replace(slice_, content=data[rows], rows=len(rows), ids=None)


def among_kinds(relations: Relations, row_kinds: Kinds) -> Pairs:
    """Returns mates as pairs of the kinds of row that they are, keyed by two slices.

    Args:
        relations: The mates, with the user's weights, or none.
        row_kinds: For each row of each slice the kind that it is.
    """
    joined: Pairs = {}
    for (t, offset), mates in relations.items():
        ends = row_kinds[t][mates.rows], row_kinds[t + offset][mates.others]
        pairs, place = np.unique(np.stack(ends, 1), axis=0, return_inverse=True)
        joined[t, t + offset] = pairs
        if mates.strengths is not None:
            weights = np.zeros(len(pairs))
            np.maximum.at(weights, place.ravel(), mates.strengths)
            joined[t, t + offset] = pairs, weights
    return joined


def of_first_rows(relations: Relations, row_kinds: Kinds) -> Relations:
    """Returns mates of distinct rows as mates of the first rows of each kind."""
    firsts = [np.unique(kinds, return_index=True)[1] for kinds in row_kinds]
    return {
        (t, offset): mates._replace(
            rows=firsts[t][mates.rows], others=firsts[t + offset][mates.others]
        )
        for (t, offset), mates in relations.items()
    }


def new_among_kinds(
    fitted: AlignedEmbedding,
    relations: Any,
    slices: Sequence[Slice],
    row_kinds: Kinds,
) -> Any:
    """Returns an update's relations as pairs of kinds of row; text as it came.

    Args:
        fitted: The sequence so far, of distinct rows.
        relations: A dict, pairs or a `Coupling` of rows of `slices`, or "transport".
        slices: The slices with all their rows, the new one last.
        row_kinds: For each of their rows the distinct row that it is.

    Raises:
        InputError: They are ids, or do not fit the slices.
    """
    if isinstance(relations, str):
        return relations
    new = len(slices) - 1
    if isinstance(relations, Coupling):
        pulls = pulls_of(relations, slices)
        relations = {pair: mates for pair, mates in pulls.items() if pair[1] == new}
    if not isinstance(relations, Mapping):
        got = f"is {kind_of(relations)}"
        expected = "a dict {row of the last slice: row of the new one}, or pairs"
        remedy = "With `unique=True` the ids that `fit` was given are not kept."
        raise InputError("relations", got, expected, remedy)

    def read(relations: Any) -> Any:
        if not is_dict(relations):
            return among_kinds(from_pairs(relations, slices), row_kinds)
        last, window = new - 1, fitted.alignment.alignment_window_size
        step = from_dict(relations, last, slices, name="relations")
        (pairs,) = among_kinds({(last, 1): step}, row_kinds).values()
        mates = follow(fitted.relations, by_row(pairs), last, window=window)
        return {
            (t, t + offset): np.stack([linked.rows, linked.others], axis=1)
            for (t, offset), linked in mates.items()
        }

    return turning(read, relations)
