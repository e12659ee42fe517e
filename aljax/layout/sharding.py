"""Many devices: the layout's arrays spread over a mesh, and its loss computed there.

    place(problem) on Mesh(slices, points) -> `run(..., loss=sharded_loss)` -> collect

Along `slices` devices exchange the window's boundary maps only, along `points` a
slice's map and its gradient.  Padding, which weighs nothing, makes any number of
slices and points divisible.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from aljax.errors import InputError
from aljax.graph.knn import on_device
from aljax.keys import as_keys, as_numbers
from aljax.layout.losses import LossTerms
from aljax.layout.objective import ahead, terms_of
from aljax.layout.optimize import LayoutState
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.shifts import Block, Shifts, repulsion, repulsion_of_block, ring_of
from aljax.layout.spaces import Space

SLICES, POINTS = "slices", "points"
VIRTUAL = "--xla_force_host_platform_device_count"
Devices = int | Sequence[Any] | Mesh
# The tables of a slice's neighbors and mates are cut by its points; its map and what
# else is a number for each point stand whole on every device that has some of them.
OF_NEIGHBORS = ("slices", "neighbors", "points")
OF_MATES = ("slices", "offsets", "mates", "points")
EXPECTED = "a number of devices, some of jax.devices(), or a jax.sharding.Mesh"


def read_devices(devices: Any, n_slices: int) -> Mesh | None:
    """Returns the mesh that a user asks for; None where nothing was asked.

    Args:
        devices: How many of this process's devices, a list of devices, or a mesh with
            the axes `slices` and `points`.
        n_slices: Slices of the sequence.

    Raises:
        InputError: If more devices are requested than exist, an entry is not a
            `jax.Device`, or the devices belong to other processes or platforms.
    """
    if devices is None:
        return None
    if not isinstance(devices, Mesh):
        devices = mesh_of(_listed(devices), n_slices)
    _check_mesh(devices)
    return _mesh(devices.devices)


def _mesh(grid: np.ndarray) -> Mesh:
    """Returns a mesh in which the compiler sees to the communication."""
    return Mesh(grid, (SLICES, POINTS), axis_types=(AxisType.Auto, AxisType.Auto))


def _listed(devices: Any) -> list[Any]:
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        wrong = [repr(entry) for entry in devices if not isinstance(entry, jax.Device)]
        if wrong or not devices:
            got = f"has {wrong[0]}, not a device" if wrong else "is empty"
            raise InputError("devices", got, EXPECTED)
        return list(devices)
    local = jax.local_devices()
    counted = isinstance(devices, Integral) and not isinstance(devices, bool)
    if not counted or not 1 <= int(devices) <= len(local):
        raise InputError(
            "devices",
            f"is {devices!r} and there are {len(local)} ({local[0].platform})",
            EXPECTED,
            "CPUs can be cut into virtual devices: set "
            f"XLA_FLAGS={VIRTUAL}={devices} before JAX starts.",
        )
    return local[: int(devices)]


def mesh_of(devices: Sequence[Any], n_slices: int, *, processes: int = 1) -> Mesh:
    """Makes a mesh that shares out the slices first, and points where devices are left.

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
    members = mesh.devices.ravel().tolist()
    platforms = sorted({device.platform for device in members})
    faults = {
        f"is a mesh with the axes {mesh.axis_names}": (
            mesh.axis_names != (SLICES, POINTS),
            f"the axes {(SLICES, POINTS)}",
        ),
        "has a device twice": (len({*members}) < len(members), "each device once"),
        f"are of several platforms ({', '.join(platforms)})": (
            len(platforms) > 1,
            "one platform, for a program is compiled for one",
        ),
        "has some of other processes": (
            any(device.process_index != jax.process_index() for device in members),
            "jax.local_devices(), or aljax.distributed.fit on every process",
        ),
    }
    for got, (wrong, expected) in faults.items():
        if wrong:
            raise InputError("devices", got, expected)
    check_random()


def check_random() -> None:
    """Checks that random numbers do not depend on how an array is cut.

    Raises:
        InputError: If `jax_threefry_partitionable` is off.
    """
    # Releases of JAX that no longer have the setting behave as if it were on.
    if not getattr(jax.config, "jax_threefry_partitionable", True):
        raise InputError(
            "jax_threefry_partitionable",
            "is off",
            "it on, as by default",
            "Otherwise random numbers would depend on `devices`.",
        )


def cuts(axis: str) -> int:
    """Counts the parts into which the mesh in force cuts slices, or points."""
    return dict(jax.sharding.get_abstract_mesh().shape).get(axis, 1)


def sharded_loss(
    maps: Float[Array, "slices components points"],
    problem: AlignedProblem,
    params: LayoutParams,
    shifts: Shifts,
) -> LossTerms:
    """Computes `aligned_loss` on the mesh in force; `run` takes it as `loss`."""
    of_slice = repulsion
    if cuts(POINTS) > 1:  # each map whole on all devices that share its points
        maps = jax.lax.with_sharding_constraint(maps, PartitionSpec(SLICES))
        of_slice = _repulsion_in_blocks
    return terms_of(maps, problem, params, shifts, repulsion=of_slice, ahead=_ahead)


def _repulsion_in_blocks(
    embedding: Float[Array, "components points"],
    degrees: Float[Array, "points"],
    n_points: Int[Array, ""],
    shifts: Shifts,
    *curve: Any,
    space: Space = None,
) -> Float[Array, ""]:
    """Returns a slice's repulsion as a sum over blocks of points, one on each device.

    All shifts at once: the devices sum the gradient one time.
    """
    count = cuts(POINTS)
    width = degrees.size // count
    blocks = Block(
        embedding.reshape(-1, count, width).swapaxes(0, 1),
        degrees.reshape(count, width),
        width * jnp.arange(count, dtype=jnp.int32),
    )
    blocks = jax.lax.with_sharding_constraint(blocks, PartitionSpec(POINTS))
    ring = ring_of(embedding, degrees, n_points)
    kwds: Any = {"at_once": shifts.steps.size, "space": space}
    repelled = jax.vmap(
        lambda block: repulsion_of_block(block, ring, n_points, shifts, *curve, **kwds)
    )
    return jnp.sum(repelled(blocks))


def _ahead(
    values: Float[Array, "slices ..."], offsets: Sequence[int]
) -> Float[Array, "slices offsets ..."]:
    """Does as `objective.ahead`; devices exchange the slices at their ends.

    (From `roll` the compiler makes that, too, but for the gradient of some shapes it
    gathers the whole sequence.)
    """
    if cuts(SLICES) == 1 or not offsets:
        return ahead(values, offsets)
    spec = PartitionSpec(SLICES)
    exchange = partial(_ahead_of_device, offsets=offsets, shares=cuts(SLICES))
    return jax.shard_map(exchange, in_specs=spec, out_specs=spec, axis_names={SLICES})(
        values
    )


def _ahead_of_device(held: Array, *, offsets: Sequence[int], shares: int) -> Array:
    """Returns `ahead` of a device's slices, with those that later devices send."""
    width = len(held)
    needed: dict[int, int] = {}  # slices, from the first, of the device so far ahead
    for offset in offsets:
        step, first = divmod(offset, width)
        needed[step] = width
        needed[step + 1] = max(needed.get(step + 1, 0), first)

    def sent(step: int) -> Array:
        pairs = [((target + step) % shares, target) for target in range(shares)]
        head = held[: needed[step]]
        return jax.lax.ppermute(head, SLICES, pairs) if step and len(head) else head

    parts = {step: sent(step) for step in needed}
    later = []
    for offset in offsets:
        step, first = divmod(offset, width)
        later.append(jnp.concatenate([parts[step][first:], parts[step + 1][:first]]))
    return jnp.stack(later, axis=1)


class Placed(NamedTuple):
    """The arguments of `run`, on the devices of a mesh."""

    problem: AlignedProblem
    params: LayoutParams
    state: LayoutState
    key: jax.Array


def round_to(number: int, multiple: int) -> int:
    """Returns the least multiple that is not less than a number."""
    return -(-number // multiple) * multiple


def place(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    *,
    key: jax.Array,
    mesh: Mesh,
    widths: Mapping[str, int] | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Placed:
    """Pads a problem until the mesh divides it, and puts each part on its device.

    Args:
        problem: The graphs and mates; of several processes, those of this one: its
            slices, or of a single slice the tables of its points.
        params: The settings, a value for each of its slices.
        state: The maps to start from, and an optax state that may hold arrays of
            their shape, with further axes before it.
        key: The run's key.
        mesh: With the axes `slices` and `points`.
        widths: The widths that the slices of all processes are padded to, as
            `widths_of` gives them; None for the problem's own.
        optimizer: The rule that the state is of; None for Adam.

    Raises:
        InputError: The rule keeps arrays that are not padded as the maps are.
    """
    processes = len({device.process_index for device in mesh.devices.flat})
    # Processes share the slices, or the points of a single one.
    shared = SLICES if mesh.shape[SLICES] > 1 else POINTS
    padded = dict(widths or widths_of(problem))
    slices_here = processes if shared == SLICES else 1
    padded["slices"] = round_to(padded["slices"], mesh.shape[SLICES] // slices_here)
    padded["points"] = round_to(padded["points"], mesh.shape[POINTS])
    points_here = padded["points"] // (processes if shared == POINTS else 1)

    def put(array: np.ndarray, *spec: str | None) -> Array:
        shape = list(array.shape)
        if shared in spec:
            shape[spec.index(shared)] *= processes
        # An axis of one device is none: so `run` returns it, and so it is cached.
        cut = [axis if axis and mesh.shape[axis] > 1 else None for axis in spec]
        while cut and cut[-1] is None:
            cut.pop()
        sharding = NamedSharding(mesh, PartitionSpec(*cut))
        return jax.make_array_from_process_local_data(sharding, array, tuple(shape))

    def spread(array: Array) -> Array:
        if array.ndim <= 2:
            axes = ("slices", "points")[: array.ndim]
            return put(_fill(array, [padded[axis] for axis in axes]), SLICES)
        *axes, _ = OF_NEIGHBORS if array.ndim == 3 else OF_MATES
        filled = _fill(array, [*(padded[axis] for axis in axes), points_here])
        return put(filled, SLICES, *[None] * (filled.ndim - 2), POINTS)

    def setting(array: Array) -> Array:
        values = np.asarray(array)
        if not values.ndim:
            return put(values)
        more = padded["slices"] - len(values)  # of no weight, but finite
        return put(np.pad(values, (0, more), mode="edge"), SLICES)

    def moving(array: Array) -> Array:
        *further, _, components, _ = array.shape
        shape = (*further, padded["slices"], components, padded["points"])
        return put(_fill(array, shape), *[None] * len(further), SLICES)

    def term(array: Array) -> Array:
        return put(_fill(array, (len(array), padded["slices"])), None, SLICES)

    random = as_keys(put(np.asarray(as_numbers(key))), key)
    spread_out = state.relaid(moving, term, lambda array: put(np.asarray(array)))
    if optimizer is not None:
        _check_moments(optimizer, spread_out, len(state.maps))
    tables, settings = jax.tree.map(spread, problem), jax.tree.map(setting, params)
    return Placed(tables, settings, spread_out, random)


def _check_moments(
    optimizer: optax.GradientTransformation, state: LayoutState, slices: int
) -> None:
    """Checks that a rule keeps arrays of the shapes that a placed state has."""
    needed = state.moments
    with suppress(jax.errors.JAXTypeError):  # an optimizer's start cannot be traced
        needed = jax.eval_shape(optimizer.init, state.maps)
    if jax.tree.map(jnp.shape, needed) != jax.tree.map(jnp.shape, state.moments):
        raise InputError(
            "optimizer",
            "keeps arrays of other shapes than the maps', which are padded here",
            "a rule whose arrays have the maps' shape, such as optax.scale_by_adam()",
            "Or pass devices=None, or a number of them that divides that of the "
            f"slices, {slices}.",
        )


def widths_of(problem: AlignedProblem) -> dict[str, int]:
    """Returns the length of each axis of a problem's arrays, by name."""
    names = OF_NEIGHBORS + OF_MATES
    return dict(zip(names, problem.neighbors.shape + problem.mates.shape, strict=True))


def _fill(array: Array, shape: Sequence[int]) -> np.ndarray:
    """Returns an array made larger: by points that stand alone, by weights of 0."""
    values = np.asarray(array)
    if values.dtype.kind == "i" and values.ndim > 1:
        larger = np.broadcast_to(np.arange(shape[-1]), shape).astype(values.dtype)
    else:
        larger = np.zeros(shape, values.dtype)
    larger[tuple(slice(length) for length in values.shape)] = values
    return larger


def local(array: Array, mesh: Mesh, axis: int = 0) -> np.ndarray:
    """Returns this process's part of an array whose slices stand along `axis`."""
    if array.is_fully_addressable:
        return np.asarray(array)
    cut = NamedSharding(mesh, PartitionSpec(*[None] * axis, SLICES))
    array = jax.jit(lambda same: same, out_shardings=cut)(array)
    parts = {
        shard.index[axis].start or 0: shard.data for shard in array.addressable_shards
    }
    return np.concatenate([np.asarray(parts[first]) for first in sorted(parts)], axis)


def collect(state: LayoutState, problem: AlignedProblem, *, mesh: Mesh) -> LayoutState:
    """Returns the state without the padding that `place` gave it, on the host.

    Args:
        state: As `run` left it on the mesh.
        problem: As it was before it was placed.
        mesh: The mesh.
    """
    slices, points = problem.order.shape

    def cut(array: Array) -> Array:
        held = local(array, mesh, axis=array.ndim - state.maps.ndim)
        return on_device(held[..., :slices, :, :points])

    def term(array: Array) -> Array:
        return on_device(local(array, mesh, axis=1)[:, :slices])

    return state.relaid(cut, term, on_device)
