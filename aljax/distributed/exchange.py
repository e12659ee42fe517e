"""Processes exchange sizes, maps, columns, pairs and frames of their slices.

Every process has to call these at the same places of its program.
"""

import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse

from aljax.distributed.agreement import stated
from aljax.distributed.collectives import (
    from_ahead,
    from_all,
    from_one,
    slices_of_all,
)
from aljax.errors import InputError
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import Slice
from aljax.layout.initialize import from_mates, turn_onto, unplaced
from aljax.layout.spectral import Start
from aljax.relations.mates import Relations

CELLS = 2**25  # numbers of all slices that a process holds to scale columns


class Spread(NamedTuple):
    """The slices of a sequence, spread over the processes.

    Attributes:
        local: The slices of this process.
        room: How many slices a process has room for.
        sizes: Points of every slice of the sequence.
    """

    local: range
    room: int
    sizes: list[int]

    @property
    def n_slices(self) -> int:
        """Returns the number of slices of the sequence."""
        return len(self.sizes)


def spread_of(rows: Sequence[int], local: range, room: int) -> Spread:
    """Returns how slices are spread, from the sizes of this process's.

    Raises:
        InputError: None of them has a row.
    """
    sizes = slices_of_all(rows)
    if not any(sizes):
        raise InputError("slices", "have no rows", "data (points, features)")
    return Spread(local, room, sizes)


def check_columns(local: Sequence[Slice]) -> None:
    """Checks that named columns have the same order in all processes.

    Raises:
        InputError: As many columns have other names, or another order, in another one.
    """
    known: dict[int, tuple[Hashable, ...]] = {}
    for process, of_slices in enumerate(from_all([x.columns for x in local])):
        for names in filter(None, of_slices):
            others = known.setdefault(len(names), names)
            if others != names:
                got = f"of process {process} have the columns {stated(names)}, others "
                expected = "the same columns in the same order in all processes"
                raise InputError("slices", got + stated(others), expected)


def columns_of_all(local: Sequence[Slice], spread: Spread) -> Iterator[list[Slice]]:
    """Yields the rows of all slices, so many columns at a time as fit into memory.

    Args:
        local: This process's slices; all have features, and as many columns in all.
        spread: Which slices are whose.
    """
    parts: list[Any] = [slice_.features for slice_ in local]
    columns = parts[0].shape[1]
    names: Any = local[0].columns or tuple(range(columns))
    sparse = any(from_all(any(map(scipy.sparse.issparse, parts))))
    rows_at_most = max(spread.sizes) * spread.room * jax.process_count()
    step = max(1, CELLS // rows_at_most)
    for first in range(0, columns, step):
        chosen = slice(first, first + step)
        tables = slices_of_all([rows[:, chosen].astype(float) for rows in parts])
        tables = map(scipy.sparse.csr_matrix, tables) if sparse else tables
        yield [Slice(x.shape[0], x, columns=names[chosen]) for x in tables]


def starts_of_all(
    start: Sequence[Start | None],
    spread: Spread,
    graphs: Sequence[FuzzyGraph],
    relations: Relations,
    **options: Any,
) -> list[Start]:
    """Returns a start for each slice; those that have none start from their mates.

    Args:
        start: Of every slice of the sequence.
        spread: Which slices are whose: each process makes the starts of its own.
        graphs: The graphs of this process's slices.
        relations: The mates of the whole sequence.
        **options: `n_components` and `seed` of `initial_maps`.
    """
    maps: list[Any] = [*start]
    for t in unplaced(start):
        placed = None
        if t in spread.local:
            graph = graphs[t - spread.local.start].to_sparse()
            placed = from_mates(t, graph, maps, relations, **options)
        maps[t] = from_one(placed)
    return maps


def slices_ahead(local: Sequence[Any], spread: Spread, ahead: range) -> list[Any]:
    """Returns what each slice after this process's has, from those who have it.

    Args:
        local: For each of this process's slices what it has, of any kind.
        spread: Which slices are whose.
        ahead: The slices to ask for, in order.
    """
    most = max(from_all(len(ahead)))
    received: list[Any] = []
    for steps in range(1, min(-(-most // spread.room), jax.process_count() - 1) + 1):
        received += from_ahead(local[:most], steps)
    return received[: len(ahead)]


def pairs_of_all(local: Relations, spread: Spread) -> Relations:
    """Returns the pairs of all processes, counted from the first slice.

    Args:
        local: This process's, counted from its first slice.
        spread: Which slices are whose.
    """
    first = spread.local.start
    pairs = from_all([((first + t, lag), mates) for (t, lag), mates in local.items()])
    return dict(sorted(itertools.chain(*pairs), key=lambda pair: pair[0]))


def one_frame(start: list[Start], relations: Relations) -> list[Start]:
    """Turns the starts of all processes into the frame of the first one's."""
    dimensions = start[0].shape[1]
    next_start = from_ahead(start[0], 1)  # the next process's first slice
    frame = np.vstack([np.zeros(dimensions), np.eye(dimensions)])
    mates = relations.get((len(start) - 1, 1))
    if mates is not None and mates.rows.size:
        frame = turn_onto(frame, next_start[mates.others], start[-1][mates.rows])
    frames = from_all(frame)
    turn, shift = np.eye(dimensions), np.zeros(dimensions)
    for earlier in frames[: jax.process_index()][::-1]:
        step = earlier[1:] - earlier[0]
        turn, shift = turn @ step, shift @ step + earlier[0]
    return [earlier @ turn + shift for earlier in start]
