"""The mesh: devices in, how many share the slices and how many a slice's points.

    devices -> Mesh of shape (slices, points)

A layout runs the same program on one device and on many.  What it computes for a
slice stays on the devices that hold it; the losses ask here how many those are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Float

SLICES, POINTS = "slices", "points"
VIRTUAL = "--xla_force_host_platform_device_count"
Devices = int | Sequence[Any] | Mesh


def read_devices(devices: Any, n_slices: int) -> Mesh | None:
    """The mesh that a user asks for; None where nothing was asked.

    Args:
        devices: How many of the devices that there are, a list of them, or a mesh
            with the axes `slices` and `points`.
        n_slices: Slices of the sequence.

    Raises:
        ValueError: More devices than there are, what are none, or devices of other
            processes or of several kinds.
    """
    if devices is None:
        return None
    if not isinstance(devices, Mesh):
        devices = mesh_of(_listed(devices), n_slices)
    _check_mesh(devices)
    return _mesh(devices.devices)


def _mesh(grid: np.ndarray) -> Mesh:
    """A mesh in which the compiler sees to the communication: none is spelt out."""
    return Mesh(grid, (SLICES, POINTS), axis_types=(AxisType.Auto, AxisType.Auto))


def _listed(devices: Any) -> list[Any]:
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        wrong = [one for one in devices if not isinstance(one, jax.Device)]
        if wrong or not devices:
            what = f"has {wrong[0]!r}, which is no device" if wrong else "is empty"
            raise ValueError(f"`devices` {what}; expected some of jax.devices().")
        return list(devices)
    there = jax.local_devices()
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise ValueError(
            f"`devices` is {devices!r}; expected a number of devices (1 to "
            f"{len(there)} here), a list as jax.devices(), or a jax.sharding.Mesh with "
            f"the axes `{SLICES}` and `{POINTS}`."
        )
    if devices > len(there):
        raise ValueError(
            f"`devices` is {devices}, but there are {len(there)} "
            f"({there[0].platform}); expected at most that. CPUs can be cut into "
            f"virtual devices: set XLA_FLAGS={VIRTUAL}={devices} before JAX starts."
        )
    return there[:devices]


def mesh_of(devices: Sequence[Any], n_slices: int, *, processes: int = 1) -> Mesh:
    """A mesh that shares out the slices first, and points where devices are left.

    Args:
        devices: In the order of their processes.
        n_slices: Slices of the sequence.
        processes: The slices are shared by a multiple of so many devices.
    """
    count = len(devices)
    shares = max(
        share
        for share in range(processes, max(n_slices, processes) + 1)
        if count % share == 0 and share % processes == 0
    )
    grid = np.array(devices, dtype=object).reshape(shares, count // shares)
    return _mesh(grid)


def _check_mesh(mesh: Mesh) -> None:
    if mesh.axis_names != (SLICES, POINTS):
        raise ValueError(
            f"`devices` is a mesh with the axes {mesh.axis_names}; expected "
            f"{(SLICES, POINTS)}, as in jax.sharding.Mesh(grid, {(SLICES, POINTS)})."
        )
    own = mesh.devices.ravel().tolist()
    if len(set(own)) < len(own):
        raise ValueError("`devices` has a device twice; expected each once.")
    kinds = {one.platform for one in own}
    if len(kinds) > 1:
        raise ValueError(
            f"`devices` are of several kinds ({', '.join(sorted(kinds))}); expected "
            "one, for a program is compiled for one."
        )
    if any(one.process_index != jax.process_index() for one in own):
        raise ValueError(
            "`devices` has some of other processes; expected jax.local_devices(), or "
            "aljax.distributed.fit, to which each process gives its own slices."
        )
    check_random()


def check_random() -> None:
    """Refuse random numbers that depend on how an array is cut.

    Raises:
        ValueError: `jax_threefry_partitionable` is off.
    """
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "`jax_threefry_partitionable` is off, so random numbers would depend on "
            "`devices`; leave it on, as it is by default."
        )


def cuts(axis: str) -> int:
    """Into how many parts the mesh in force cuts the slices, or the points of one."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(axis, 1)


def ahead(
    values: Float[Array, "slices ..."], offsets: int
) -> Float[Array, "slices offsets ..."]:
    """What stands 1, 2, ... slices after each, around the end of the sequence.

    Devices that share the slices are each sent the first `offsets` of those after
    their own, once.  (From `roll` the compiler makes that, too, but for the gradient
    of some shapes it gathers the whole sequence.)
    """
    if not offsets:
        none = (values.shape[0], 0, *values.shape[1:])
        return jnp.zeros(none, values.dtype)
    if cuts(SLICES) == 1:
        later = [jnp.roll(values, -o, axis=0) for o in range(1, offsets + 1)]
        return jnp.stack(later, axis=1)
    spec = PartitionSpec(SLICES)
    exchange = partial(_ahead_of_own, offsets=offsets, shares=cuts(SLICES))
    return jax.shard_map(exchange, in_specs=spec, out_specs=spec, axis_names={SLICES})(
        values
    )


def _ahead_of_own(own: Array, *, offsets: int, shares: int) -> Array:
    """`ahead` of one device's slices, with what the devices after it send."""
    here, wide = len(own), [own]
    for step, known in enumerate(range(0, offsets, here), start=1):
        sent = own[: offsets - known]
        pairs = [((to + step) % shares, to) for to in range(shares)]
        wide.append(jax.lax.ppermute(sent, SLICES, pairs))
    joined = jnp.concatenate(wide)
    later = [joined[offset : offset + here] for offset in range(1, offsets + 1)]
    return jnp.stack(later, axis=1)


def whole(maps: Float[Array, "slices components points"]) -> Array:
    """The maps, each whole on all devices that share its points."""
    if cuts(POINTS) == 1:
        return maps
    return jax.lax.with_sharding_constraint(maps, PartitionSpec(SLICES))


def over_blocks(
    of_block: Callable[[Array, Array, Array | int], Array],
    embedding: Float[Array, "components points"],
    degrees: Float[Array, "points"],
) -> Float[Array, ""]:
    """The sum of a function over blocks of points, each on a device of its own.

    Args:
        of_block: Of a block's positions, its degrees and the place of its first point.
        embedding: One slice's map.
        degrees: Its degrees.
    """
    count = cuts(POINTS)
    if count == 1:
        return of_block(embedding, degrees, 0)
    width = degrees.size // count
    own = embedding.reshape(-1, count, width).swapaxes(0, 1)
    cut = (
        own,
        degrees.reshape(count, width),
        width * jnp.arange(count, dtype=jnp.int32),
    )
    apart = jax.lax.with_sharding_constraint(cut, PartitionSpec(POINTS))
    return jnp.sum(jax.vmap(of_block)(*apart))
