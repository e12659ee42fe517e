"""Processes exchange sizes, maps, graphs, columns and frames of their slices.

Every process has to call these at the same places of its program.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from aljax.config import AlignmentConfig
from aljax.distributed.collectives import from_ahead, from_all, from_one
from aljax.errors import InputError
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import Slice, slices_of
from aljax.layout.frame import (
    LANDMARKS,
    Landmarks,
    agree,
    anchors,
    landmarks,
    nearer,
    pairs_to_hold,
    width,
)
from aljax.layout.initialize import from_mates, turn_onto, unplaced
from aljax.layout.spectral import Start
from aljax.relations.mates import Mates, Relations
from aljax.relations.read import check_keys, read_relations
from aljax.relations.strengths import check_comparable, measure_moves, scales_of

CELLS = 2**25  # numbers of all slices that a process holds to scale columns


def rows_of_all(
    local: Sequence[Any], room: int, sizes: Sequence[int], dtype: Any = float
) -> list[Any]:
    """Returns an array for each slice of the sequence, from those who have them.

    Args:
        local: This process's, rows first, None where a slice has none; their further
            axes are the same in all.
        room: How many slices a process has room for.
        sizes: Points of every slice of the sequence.
        dtype: The type of floats in which they are sent.
    """
    there = [rows for rows in local if rows is not None]
    inner = there[0].shape[1:] if there else ()
    axes = from_all(np.array([*inner, -1, -1][:2])).max(axis=0)
    wide = np.full((room, max(sizes), *axes[axes >= 0]), np.nan, dtype)
    for t, rows in enumerate(local):
        if rows is not None:
            wide[t, : len(rows)] = rows
    everyone = from_all(wide).reshape(-1, *wide.shape[1:])
    arrays = [rows[:size] for rows, size in zip(everyone, sizes, strict=False)]
    return [None if rows.size and np.isnan(rows).all() else rows for rows in arrays]


def sizes_of_all(rows: Sequence[int], room: int, n_slices: int) -> list[int]:
    """Returns the sizes of all slices, from those of this process's."""
    local = np.zeros(room, np.int64)
    local[: len(rows)] = rows
    return from_all(local).ravel()[:n_slices].tolist()


def columns_of_all(
    local: Sequence[Slice], room: int, sizes: Sequence[int]
) -> Iterator[list[Slice]]:
    """Yields the rows of all slices, so many columns at a time as fit into memory.

    Args:
        local: This process's slices; all have features, and as many columns in all.
        room: How many slices a process has room for.
        sizes: Points of every slice of the sequence.
    """
    parts: list[Any] = [slice_.features for slice_ in local]
    columns = parts[0].shape[1]
    names: Any = local[0].columns or tuple(range(columns))
    sparse = any(map(scipy.sparse.issparse, parts))
    sparse = bool(from_all(np.array([sparse])).any())
    step = max(1, CELLS // (max(sizes) * room * jax.process_count()))
    for first in range(0, columns, step):
        chosen = slice(first, first + step)
        cut = [part[:, chosen] for part in parts]
        cut = [x.toarray() if scipy.sparse.issparse(x) else x for x in cut]
        there: list[Any] = rows_of_all(cut, room, sizes)
        for t, rows in enumerate(there):
            if rows is None:  # of gaps alone
                rows = np.full((sizes[t], len(names[chosen])), np.nan)
            there[t] = scipy.sparse.csr_matrix(rows) if sparse else rows
        yield [Slice(x.shape[0], x, columns=names[chosen]) for x in there]


def starts_of_all(
    start: Sequence[Start | None],
    local: range,
    graphs: Sequence[FuzzyGraph],
    relations: Relations,
    **how: Any,
) -> list[Start]:
    """Returns a start for each slice; those that have none start from their mates.

    Args:
        start: Of every slice of the sequence.
        local: This process's slices, whose starts it makes.
        graphs: Their graphs.
        relations: The mates of the whole sequence.
        **how: `n_components` and `seed` of `initial_maps`.
    """
    maps: list[Any] = [*start]
    for t in unplaced(start):
        graph = graphs[t - local.start].to_sparse() if t in local else None
        made = None if graph is None else from_mates(t, graph, maps, relations, **how)
        maps[t] = from_one(made)
    return maps


def window_of(relations: Any, alignment: AlignmentConfig, count: int) -> int:
    """Returns how far ahead of a slice its mates may be, of `count` slices.

    Raises:
        ValueError: As `check_keys`.
    """
    far = []
    if isinstance(relations, Mapping):
        check_keys(relations, count)
        far = [abs(s - t) for s, t in relations]
    return max([alignment.alignment_window_size, *far])


def graphs_ahead(
    graphs: Sequence[FuzzyGraph], room: int, sizes: Sequence[int], ahead: range
) -> list[FuzzyGraph]:
    """The graphs of the slices after this process's, from those who built them."""
    fields = ("neighbors", "weights", "degrees")
    leaves = [
        arrays_ahead([getattr(graph, name) for graph in graphs], room, sizes, ahead)
        for name in fields
    ]
    return [FuzzyGraph(*map(jnp.asarray, graph)) for graph in zip(*leaves, strict=True)]


def arrays_ahead(
    local: Sequence[Any], room: int, sizes: Sequence[int], ahead: range
) -> list[np.ndarray]:
    """An array for each of the slices after this process's, from those who have them.

    Args:
        local: This process's, points last; of one type and as many axes in all.
        room: How many slices a process has room for.
        sizes: Points of every slice of the sequence.
        ahead: The slices to have, in order.
    """
    widest = np.max([array.shape[:-1] for array in local], axis=0, initial=0)
    counts = from_all(np.array([len(ahead), *widest], np.int64)).max(axis=0)
    most, *inner = counts.tolist()
    sent = min(most, room)
    wide = np.zeros((sent, *inner, max(sizes)), np.asarray(local[0]).dtype)
    for t, array in enumerate(local[:sent]):
        wide[(t, *map(slice, array.shape))] = array
    received: list[np.ndarray] = []
    for steps in range(1, min(-(-most // room), jax.process_count() - 1) + 1):
        arrays = from_ahead(wide, steps)
        here = ahead[len(received) : len(received) + sent]
        received += [
            array[..., : sizes[t]] for array, t in zip(arrays, here, strict=False)
        ]
    return received


def moves_of(
    relations: Relations,
    data: Sequence[np.ndarray | None],
    graphs: Sequence[FuzzyGraph],
    room: int,
    sizes: Sequence[int],
    ahead: range,
) -> Relations:
    """Returns this process's mates with their moves, in the unit of all slices.

    Raises:
        ValueError: As `check_comparable`, also of other processes' columns.
    """
    check_comparable(data)
    local = [np.asarray(rows, dtype=float).T for rows in data]
    columns = from_all(np.array([len(local[0])], np.int64)).ravel()
    if len({*columns.tolist()}) > 1:
        got = f"is above 0, but slices have {', '.join(map(str, columns))} columns"
        expected = "as many on all processes, for mates are compared in the data"
        raise InputError("motion_fidelity", got, expected)
    scales = np.pad(scales_of(data, graphs), (0, room - len(local)))
    there = [rows.T for rows in arrays_ahead(local, room, sizes, ahead)]
    return measure_moves(relations, [*data, *there], from_all(scales).ravel().tolist())


def anchors_of(
    relations: Relations,
    data: Sequence[np.ndarray | None],
    graphs: Sequence[FuzzyGraph],
    sizes: Sequence[int],
    share: range,
    frame: str,
) -> Relations | None:
    """Returns the anchors of this process's slices in later ones, as `hold` has them.

    Args:
        relations: The mates of this process's slices, counted from its first.
        data: Its slices.
        graphs: Their graphs.
        sizes: Points of every slice of the sequence.
        share: The slices that a process has room for, as this one counts them.
        frame: As `AlignmentConfig.frame`.

    Returns:
        None, on all processes, where mates alone hold the frame.

    Raises:
        InputError: `frame` is "population", and slices have other columns.
    """
    count, local, room = len(sizes), len(data), len(share)
    pairs = [
        (t - share.start, lag)
        for t, lag in pairs_to_hold(count)
        if t - share.start in range(local)
    ]
    within = {(t, o): m for (t, o), m in relations.items() if t + o < local}
    shares = nearer(data, within)
    mean = np.array([np.sum(shares), len(shares), len(pairs)])
    total, compared, asked = from_all(mean).sum(axis=0)
    widths = np.zeros(room, np.int64)
    widths[:local] = [width(rows) for rows in data]
    columns = from_all(widths).ravel()[:count].tolist()
    agreed = agree(columns, [total / compared] if compared else [])
    if frame == "population" and (len({*columns}) > 1 or not columns[0]):
        got = f"is 'population', but slices have {sorted({*columns})} dense columns"
        raise InputError("frame", got, "as many in each", "Set it to 'auto'.")
    if not asked or frame == "mates" or (frame == "auto" and not agreed):
        return None
    marks = [landmarks(np.asarray(x), g) for x, g in zip(data, graphs, strict=True)]
    fields = zip(*[mark[:3] for mark in marks], strict=True)
    rows, rest, reach = (
        np.concatenate(from_all(_padded(field, room))) for field in fields
    )
    there = []
    for t, size in enumerate(sizes):
        stand = slice(min(size, LANDMARKS))
        part = rows[t, stand], rest[t, stand], reach[t, stand]
        there.append(Landmarks(*part, share=size / len(part[0])))
    with threadpool_limits(1):  # as in one process
        return {
            (t, lag): anchors(marks[t], there[share.start + t + lag])
            for t, lag in pairs
        }


def pairs_of_all(
    local: Relations, offsets: Collection[int], room: int, n_slices: int
) -> Relations:
    """Returns the pairs of all processes, counted from the first slice.

    Args:
        local: This process's, counted from its first slice; at most 512 of two slices.
        offsets: How many slices apart pairs are, on all processes.
        room: How many slices a process has room for.
        n_slices: Slices of the whole sequence.
    """
    reach = [*offsets]
    sent = np.zeros((room, len(reach), LANDMARKS, 3))
    sent[..., 0] = -1
    for (t, offset), (rows, others, strengths, _) in local.items():
        part = np.column_stack([rows, others, strengths])
        sent[t, reach.index(offset), : len(part)] = part
    everyone = np.concatenate(from_all(sent))
    pairs = {}
    for t, of_slice in enumerate(everyone[:n_slices]):
        for offset, part in zip(reach, of_slice, strict=True):
            there = part[part[:, 0] >= 0]
            if len(there):
                rows, others = there[:, :2].T.astype(int)
                pairs[t, offset] = Mates(rows, others, there[:, 2])
    return pairs


def _padded(arrays: Sequence[np.ndarray], room: int) -> np.ndarray:
    """Arrays of up to `LANDMARKS` rows, stacked, with zeros where there are fewer."""
    wide = np.zeros((room, LANDMARKS, *arrays[0].shape[1:]), arrays[0].dtype)
    for t, rows in enumerate(arrays):
        wide[t, : len(rows)] = rows
    return wide


def own_links(
    relations: Any,
    in_reach: range,
    count: int,
    sizes: Sequence[int],
    data: Sequence[np.ndarray | None],
    alignment: AlignmentConfig,
) -> Any:
    """The links from this process's slices, counted from its first.

    Raises:
        ValueError: As `read_relations`, where the slices are counted so.
    """
    first, local = in_reach.start, range(in_reach.start, in_reach.start + count)
    if isinstance(relations, Mapping):
        part: Any = {
            (s - first, t - first): pairs
            for (s, t), pairs in relations.items()
            if min(s, t) in local
        }
    else:
        by_ids = relations is not None and len(relations) == len(sizes)
        stop = in_reach.stop if by_ids else in_reach.stop - 1
        part = None if relations is None else relations[first:stop]
    held = [*data, *[None] * (len(in_reach) - count)]
    slices = slices_of(sizes[first : in_reach.stop], held)
    window = alignment.alignment_window_size
    try:
        links = read_relations(part, slices, alignment_window_size=window)
    except InputError as error:
        remedy = f"{error.remedy} Slices are counted from {first}.".lstrip()
        raise InputError(error.name, error.got, error.expected, remedy) from error
    return {(t, o): link for (t, o), link in links.items() if t < count}


def one_frame(
    start: list[Start], relations: Relations, sizes: Sequence[int]
) -> list[Start]:
    """The starts of all processes, turned into the frame of the first one's."""
    count, dimensions = len(start), start[0].shape[1]
    wide = np.zeros((max(sizes), dimensions))
    wide[: len(start[0])] = start[0]
    there = from_ahead(wide, 1)  # the next process's first slice
    frame = np.vstack([np.zeros(dimensions), np.eye(dimensions)])
    mates = relations.get((count - 1, 1))
    if mates is not None and mates.rows.size:
        frame = turn_onto(frame, there[mates.others], start[-1][mates.rows])
    frames = from_all(frame)
    turn, shift = np.eye(dimensions), np.zeros(dimensions)
    for earlier in frames[: jax.process_index()][::-1]:
        step = earlier[1:] - earlier[0]
        turn, shift = turn @ step, shift @ step + earlier[0]
    return [earlier @ turn + shift for earlier in start]
