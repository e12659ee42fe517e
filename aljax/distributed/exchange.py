"""Between processes: small arrays to all, the next processes' arrays to each.

Every process has to call these at the same places of its program.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PROCESSES = "processes"


def from_all(own: np.ndarray) -> np.ndarray:
    """What every process gave, `(processes, ...)`, on every process.

    Args:
        own: This process's, of the same shape on all.
    """
    # In bytes: float64 would not survive the way over a device.
    given = np.ascontiguousarray(own)
    sent = np.frombuffer(given.tobytes(), np.uint8)
    got = np.asarray(multihost_utils.process_allgather(sent)).reshape(-1, sent.size)
    return np.frombuffer(got.tobytes(), given.dtype).reshape(-1, *given.shape)


def from_ahead(own: np.ndarray, steps: int) -> np.ndarray:
    """What the process `steps` after this one gave; the last ones get the first's.

    Only neighbours talk: no process holds what all gave.

    Args:
        own: This process's, of the same shape on all.
        steps: How many processes further (at least 1).
    """
    first: dict[int, Any] = {}
    for device in sorted(jax.devices(), key=lambda one: one.id):
        first.setdefault(device.process_index, device)
    row = np.array([first[one] for one in sorted(first)], dtype=object)
    cut = NamedSharding(Mesh(row, (PROCESSES,)), PartitionSpec(PROCESSES))
    given = np.ascontiguousarray(own)
    sent = np.frombuffer(given.tobytes(), np.uint8)[None]
    everyone = jax.make_array_from_process_local_data(cut, sent, (len(row), sent.size))
    rolled = jax.jit(lambda x: jnp.roll(x, -steps, axis=0), out_shardings=cut)(everyone)
    (shard,) = rolled.addressable_shards
    return np.frombuffer(np.asarray(shard.data).tobytes(), given.dtype).reshape(
        given.shape
    )
