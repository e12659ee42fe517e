"""Arrays between processes: to all, to the one before, round the ring, or summed.

Every process has to call these at the same places of its program.
"""

import itertools
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

PROCESSES = "processes"


def from_all(local: np.ndarray) -> np.ndarray:
    """Returns what every process gave, `(processes, ...)`, on every process.

    Args:
        local: This process's, of the same shape on all.
    """
    # In bytes: float64 would not survive the way over a device.
    values = np.ascontiguousarray(local)
    sent = np.frombuffer(values.tobytes(), np.uint8)
    got = np.asarray(multihost_utils.process_allgather(sent))
    everyone = jax.process_count(), *values.shape  # arrays may be empty
    return np.frombuffer(got.tobytes(), values.dtype).reshape(everyone)


def slices_of_all(local: Any, room: int, count: int) -> np.ndarray:
    """Returns the entries of `count` slices, from the processes that have them.

    Args:
        local: This process's, `(slices, ...)`, of the same further axes on all.
        room: How many slices a process has room for.
        count: Slices of the whole sequence.
    """
    values = np.asarray(local)
    wide = np.zeros((room, *values.shape[1:]), values.dtype)
    wide[: len(values)] = values
    return np.concatenate(from_all(wide))[:count]


def from_ahead(local: np.ndarray, steps: int) -> np.ndarray:
    """Returns what the process `steps` after this one gave; the last get the first's.

    Only neighbors talk: no process holds what all gave.

    Args:
        local: This process's, of the same shape on all.
        steps: How many processes further (at least 1).
    """
    values = np.ascontiguousarray(local)
    everyone = _of_processes(values.view(np.uint8)[None])
    (shard,) = _handed_on(everyone, steps).addressable_shards
    return np.asarray(shard.data).view(values.dtype).reshape(values.shape)


def visitors(local: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields what every process gave, and its number: this one's, then the next ones'.

    They are handed on in a ring: a process holds its own and one visitor.

    Args:
        local: This process's, of the same shape on all, and at least one axis.
    """
    visitor, count = local, jax.process_count()
    for step in range(count):
        yield (jax.process_index() + step) % count, visitor
        if step + 1 < count:
            visitor = from_ahead(visitor, 1)


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


def from_one(local: np.ndarray | None) -> np.ndarray:
    """Returns the array of the one process that has it, on every process."""
    shape = (0, 0) if local is None else local.shape
    rows, columns = from_all(np.array(shape)).max(axis=0)
    sent = np.zeros((rows, columns)) if local is None else local.astype(float)
    return from_all(sent).sum(axis=0)


def greatest(widths: Mapping[str, int]) -> dict[str, int]:
    """Returns the greatest of each width over all processes."""
    most = from_all(np.array([*widths.values()], np.int64)).max(axis=0)
    return dict(zip(widths, most.tolist(), strict=True))
