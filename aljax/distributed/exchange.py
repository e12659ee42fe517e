"""Processes exchange values of any kind, and what their slices have.

Values go to all, to the process before, round the ring, or are summed.  Every process
has to call these at the same places of its program.
"""

import itertools
import pickle
from collections.abc import Hashable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from aljax.distributed.agreement import stated
from aljax.errors import InputError
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import round_up
from aljax.graph.slices import Slice
from aljax.layout.initialize import from_mates, turn_onto, unplaced
from aljax.layout.spectral import Start
from aljax.relations.mates import Relations

PROCESSES = "processes"
CELLS = 2**25  # numbers of all slices that a process holds to scale columns


def from_all(local: Any) -> list[Any]:
    """Returns what every process gave, in their order, on every process.

    Args:
        local: This process's, of any kind and size: arrays, or lists and dicts of them.
    """
    everyone = _gathered(_in_bytes(local))
    return [pickle.loads(of_process.data) for of_process in everyone]


def slices_of_all(local: Sequence[Any]) -> list[Any]:
    """Returns what every slice of the sequence has, from the processes that have them.

    Args:
        local: For each of this process's slices what it has, of any kind.
    """
    return [of_slice for part in from_all([*local]) for of_slice in part]


def from_one(local: Any) -> Any:
    """Returns what one process gave, on every process; the others give None."""
    return next(value for value in from_all(local) if value is not None)


def from_ahead(local: Any, steps: int) -> Any:
    """Returns what the process `steps` after this one gave; the last get the first's.

    Only neighbors talk: no process holds what all gave.

    Args:
        local: This process's, of any kind and size.
        steps: How many processes further (at least 1).
    """
    everyone = _of_processes(_in_bytes(local)[None])
    (shard,) = _handed_on(everyone, steps).addressable_shards
    return pickle.loads(np.asarray(shard.data)[0].data)


def _in_bytes(local: Any) -> np.ndarray:
    """Returns what a process gives, in as many bytes on all."""
    # Protocol 5 copies arrays once, the default of Python before 3.14 twice.
    content = np.frombuffer(pickle.dumps(local, 5), np.uint8)
    size = np.array([content.size], np.int64).view(np.uint8)
    longest = int(_gathered(size).view(np.int64).max())
    return np.pad(content, (0, round_up(longest) - content.size))


def _gathered(values: np.ndarray) -> np.ndarray:
    """Returns the bytes of every process, `(processes, bytes)`, on every process."""
    return np.asarray(multihost_utils.process_allgather(values))


def sum_of_all(local: np.ndarray) -> np.ndarray:
    """Returns the sum of what every process gave; a process holds its own and the sum.

    Args:
        local: This process's, of the same shape on all.
    """
    if jax.process_count() == 1:
        return local
    with jax.enable_x64(True):  # floats keep their type
        return np.asarray(_summed(_of_processes(local[None])))


def _of_processes(local: np.ndarray) -> Array:
    """Returns an array of all processes' arrays, of which each holds its own."""
    everyone = (jax.process_count(), *local.shape[1:])
    return jax.make_array_from_process_local_data(_one_each(), local, everyone)


def devices_of_all() -> list[Any]:
    """Returns the devices of all processes, in the order of these."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


@cache
def _one_each() -> NamedSharding:
    """Cuts an array by processes: the first device of each has its part."""
    groups = itertools.groupby(devices_of_all(), lambda device: device.process_index)
    row = np.array([next(devices) for _, devices in groups], dtype=object)
    return NamedSharding(Mesh(row, (PROCESSES,)), PartitionSpec(PROCESSES))


@partial(jax.jit, static_argnames="steps")
def _handed_on(everyone: Array, steps: int) -> Array:
    rolled = jnp.roll(everyone, -steps, axis=0)
    return jax.lax.with_sharding_constraint(rolled, _one_each())


@jax.jit
def _summed(everyone: Array) -> Array:
    whole = NamedSharding(_one_each().mesh, PartitionSpec())
    return jax.lax.with_sharding_constraint(everyone.sum(axis=0), whole)


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
