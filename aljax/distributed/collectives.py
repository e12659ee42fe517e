"""Values between processes: to all, to the one before, round the ring, or summed.

Every process has to call these at the same places of its program.
"""

import itertools
import pickle
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from aljax.graph.knn import round_up

PROCESSES = "processes"


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
    return next(given for given in from_all(local) if given is not None)


def from_ahead(local: Any, steps: int) -> Any:
    """Returns what the process `steps` after this one gave; the last get the first's.

    Only neighbors talk: no process holds what all gave.

    Args:
        local: This process's, of any kind and size.
        steps: How many processes further (at least 1).
    """
    return pickle.loads(_array_from_ahead(_in_bytes(local), steps).data)


def _in_bytes(local: Any) -> np.ndarray:
    """Returns what a process gives, in as many bytes on all."""
    content = np.frombuffer(pickle.dumps(local), np.uint8)
    size = np.array([content.size], np.int64).view(np.uint8)
    longest = int(_gathered(size).view(np.int64).max())
    return np.pad(content, (0, round_up(longest) - content.size))


def _gathered(values: np.ndarray) -> np.ndarray:
    """Returns the bytes of every process, `(processes, bytes)`, on every process."""
    return np.asarray(multihost_utils.process_allgather(values))


def _array_from_ahead(local: np.ndarray, steps: int) -> np.ndarray:
    """Returns the array of a process further on, of the same shape on all."""
    # In bytes: float64 would not survive the way over a device.
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
            visitor = _array_from_ahead(visitor, 1)


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
