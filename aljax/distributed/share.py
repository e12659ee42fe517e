"""Who has which slices: consecutive ones, as many for each process as for the others.

The last process may have fewer; room that no slice fills is padding.
"""

from typing import NamedTuple

import jax
from jax.sharding import Mesh

from aljax.checks import number
from aljax.layout.mesh import SLICES, mesh_of
from aljax.layout.sharding import round_to


class Share(NamedTuple):
    """What this process has of a sequence.

    `own` are its slices, `room` how many it has room for (those of the last process
    may be fewer); `mesh` is that of all processes.
    """

    own: range
    room: int
    mesh: Mesh


def share(n_slices: int) -> Share:
    """Which slices of a sequence are this process's, on all devices that there are.

    Raises:
        ValueError: More processes than slices can keep busy.
    """
    number(1, whole=True)("n_slices", n_slices)
    order = sorted(jax.devices(), key=lambda one: (one.process_index, one.id))
    processes, process = jax.process_count(), jax.process_index()
    mesh = mesh_of(order, n_slices, processes=processes)
    room = round_to(n_slices, mesh.shape[SLICES]) // processes
    if (processes - 1) * room >= n_slices:
        raise ValueError(
            f"`processes` is {processes} for {n_slices} slices, of which each takes "
            f"{room}; expected at most {-(-n_slices // room)}, for a process needs a "
            "slice of its own."
        )
    first = process * room
    return Share(range(first, min(first + room, n_slices)), room, mesh)
