"""Processes exchange sizes, maps, columns, pairs and frames of their slices.

Every process has to call these at the same places of its program.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse

from aljax.distributed.agreement import Agreement, stated
from aljax.distributed.collectives import (
    from_ahead,
    from_all,
    from_one,
    slices_of_all,
)
from aljax.errors import InputError
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import Slice, ids_of
from aljax.layout.initialize import from_mates, turn_onto, unplaced
from aljax.layout.spectral import Start
from aljax.relations.anchors import LANDMARKS
from aljax.relations.mates import Mates, Relations

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


def spread_of(rows: Sequence[int], local: range, room: int, count: int) -> Spread:
    """Returns how `count` slices are spread, from the sizes of this process's.

    Raises:
        InputError: None of them has a row.
    """
    sizes = slices_of_all(np.array(rows, np.int64), room, count)
    if not sizes.any():
        raise InputError("slices", "have no rows", "data (points, features)")
    return Spread(local, room, sizes.tolist())


def rows_of_all(local: Sequence[Any], spread: Spread, dtype: Any = float) -> list[Any]:
    """Returns an array for each slice of the sequence, from those who have them.

    Args:
        local: This process's, rows first, None where a slice has none; their further
            axes are the same in all.
        spread: Which slices are whose.
        dtype: The type of floats in which they are sent.
    """
    present = [rows for rows in local if rows is not None]
    inner = present[0].shape[1:] if present else ()
    axes = from_all(np.array([*inner, -1, -1][:2])).max(axis=0)
    shape = (len(local), max(spread.sizes), *axes[axes >= 0])
    wide = np.full(shape, np.nan, dtype)
    for t, rows in enumerate(local):
        if rows is not None:
            wide[t, : len(rows)] = rows
    everyone = slices_of_all(wide, spread.room, spread.n_slices)
    arrays = [rows[:size] for rows, size in zip(everyone, spread.sizes, strict=True)]
    return [None if rows.size and np.isnan(rows).all() else rows for rows in arrays]


def names_of_all(local: Sequence[Slice], spread: Spread) -> list[Any] | None:
    """Returns the names of the rows of all slices, if all came with names of rows."""
    if spread.n_slices == 1:
        return ids_of(local)
    named = [slice_.ids for slice_ in local if slice_.ids is not None]
    longest = max((len(str(name)) for ids in named for name in ids), default=0)
    widths = from_all(np.array([longest if len(named) == len(local) else -1]))
    if widths.min() < 0:
        return None
    wide = np.zeros((len(local), max(spread.sizes)), f"U{max(1, widths.max())}")
    for t, ids in enumerate(named):
        wide[t, : len(ids)] = ids
    everyone = slices_of_all(wide, spread.room, spread.n_slices)
    return [x[:size].tolist() for x, size in zip(everyone, spread.sizes, strict=True)]


def check_columns(local: Sequence[Slice], agreement: Agreement) -> None:
    """Checks that named columns have the same order in all processes.

    Raises:
        InputError: As many columns have other names, or another order, in another one.
    """
    named = {len(x.columns): stated(x.columns) for x in local if x.columns}
    known: dict[str, str] = {}
    answers = agreement.answers("order of columns", json.dumps(named))
    for process, text in enumerate(answers):
        for width, names in json.loads(text).items():
            if known.setdefault(width, names) != names:
                got = f"of process {process} have the columns {names}, others "
                expected = "the same columns in the same order in all processes"
                raise InputError("slices", got + known[width], expected)


def columns_of_all(local: Sequence[Slice], spread: Spread) -> Iterator[list[Slice]]:
    """Yields the rows of all slices, so many columns at a time as fit into memory.

    Args:
        local: This process's slices; all have features, and as many columns in all.
        spread: Which slices are whose.
    """
    parts: list[Any] = [slice_.features for slice_ in local]
    columns = parts[0].shape[1]
    names: Any = local[0].columns or tuple(range(columns))
    sparse = any(map(scipy.sparse.issparse, parts))
    sparse = bool(from_all(np.array([sparse])).any())
    rows_sent = max(spread.sizes) * spread.room * jax.process_count()
    step = max(1, CELLS // rows_sent)
    for first in range(0, columns, step):
        chosen = slice(first, first + step)
        cut = [rows[:, chosen] for rows in parts]
        cut = [x.toarray() if scipy.sparse.issparse(x) else x for x in cut]
        arrays: list[Any] = rows_of_all(cut, spread)
        for t, rows in enumerate(arrays):
            if rows is None:  # of gaps alone
                rows = np.full((spread.sizes[t], len(names[chosen])), np.nan)
            arrays[t] = scipy.sparse.csr_matrix(rows) if sparse else rows
        yield [Slice(x.shape[0], x, columns=names[chosen]) for x in arrays]


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


def arrays_ahead(
    local: Sequence[Any], spread: Spread, ahead: range
) -> list[np.ndarray]:
    """Returns an array for each slice after this process's, from those who have them.

    Args:
        local: This process's, points last; of one type and as many axes in all.
        spread: Which slices are whose.
        ahead: The slices to have, in order.
    """
    widest = np.max([array.shape[:-1] for array in local], axis=0, initial=0)
    counts = from_all(np.array([len(ahead), *widest], np.int64)).max(axis=0)
    most, *inner = counts.tolist()
    sent = min(most, spread.room)
    wide = np.zeros((sent, *inner, max(spread.sizes)), np.asarray(local[0]).dtype)
    for t, array in enumerate(local[:sent]):
        wide[(t, *map(slice, array.shape))] = array
    received: list[np.ndarray] = []
    for steps in range(1, min(-(-most // spread.room), jax.process_count() - 1) + 1):
        arrays = from_ahead(wide, steps)
        in_step = ahead[len(received) : len(received) + sent]
        received += [
            array[..., : spread.sizes[t]]
            for array, t in zip(arrays, in_step, strict=False)
        ]
    return received


def pairs_of_all(
    local: Relations, offsets: Collection[int], spread: Spread
) -> Relations:
    """Returns the pairs of all processes, counted from the first slice.

    Args:
        local: This process's, counted from its first slice; at most 512 of two slices.
        offsets: How many slices apart pairs are, on all processes.
        spread: Which slices are whose.
    """
    reach = [*offsets]
    sent = np.zeros((spread.room, len(reach), LANDMARKS, 3))
    sent[..., 0] = -1
    for (t, offset), (rows, others, strengths, _) in local.items():
        table = np.column_stack([rows, others, strengths])
        sent[t, reach.index(offset), : len(table)] = table
    everyone = np.concatenate(from_all(sent))
    pairs = {}
    for t, of_slice in enumerate(everyone[: spread.n_slices]):
        for offset, table in zip(reach, of_slice, strict=True):
            present = table[table[:, 0] >= 0]
            if len(present):
                rows, others = present[:, :2].T.astype(int)
                pairs[t, offset] = Mates(rows, others, present[:, 2])
    return pairs


def one_frame(start: list[Start], relations: Relations, spread: Spread) -> list[Start]:
    """Turns the starts of all processes into the frame of the first one's."""
    count, dimensions = len(start), start[0].shape[1]
    wide = np.zeros((max(spread.sizes), dimensions))
    wide[: len(start[0])] = start[0]
    next_start = from_ahead(wide, 1)  # the next process's first slice
    frame = np.vstack([np.zeros(dimensions), np.eye(dimensions)])
    mates = relations.get((count - 1, 1))
    if mates is not None and mates.rows.size:
        frame = turn_onto(frame, next_start[mates.others], start[-1][mates.rows])
    frames = from_all(frame)
    turn, shift = np.eye(dimensions), np.zeros(dimensions)
    for earlier in frames[: jax.process_index()][::-1]:
        step = earlier[1:] - earlier[0]
        turn, shift = turn @ step, shift @ step + earlier[0]
    return [earlier @ turn + shift for earlier in start]
