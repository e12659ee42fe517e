"""Where arrays live: a stacked problem in, the same one spread over a mesh out.

    pad(problem) -> place on Mesh(slices, points) -> the same `run` -> local(maps)

The compiler inserts the communication: along `slices` only the window's boundary
maps are exchanged, along `points` a slice's map and its gradient.  Padding, which
weighs nothing, makes any number of slices and points divisible.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from aljax.layout.mesh import POINTS, SLICES
from aljax.layout.optimize import LayoutState
from aljax.layout.problem import AlignedProblem, LayoutParams

# The tables of a slice are cut by its points; its map and what else is a number for
# each point stand whole on every device that has some of them.
TABLES = ("neighbors", "weights", "mates", "strengths", "moves")


class Placed(NamedTuple):
    """All that `run` takes, on the devices of a mesh."""

    problem: AlignedProblem
    params: LayoutParams
    state: LayoutState
    key: jax.Array


def round_to(number: int, multiple: int) -> int:
    """The least multiple that is not less than a number."""
    return -(-number // multiple) * multiple


def place(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    *,
    key: jax.Array,
    mesh: Mesh,
    widths: Mapping[str, int] | None = None,
) -> Placed:
    """Pad a problem until the mesh divides it, and put each part on its device.

    Args:
        problem: The graphs and mates; of several processes, those of this one.
        params: The settings, a value for each of its slices.
        state: The maps to start from.
        key: The run's key.
        mesh: With the axes `slices` and `points`.
        widths: What the slices of all processes are padded to, as `widths_of` has
            it; None for those given.
    """
    processes = len({one.process_index for one in mesh.devices.flat})
    wanted = dict(widths or widths_of(problem))
    wanted["slices"] = round_to(wanted["slices"], mesh.shape[SLICES] // processes)
    wanted["points"] = round_to(wanted["points"], mesh.shape[POINTS])

    def put(array: np.ndarray, *spec: str | None) -> Array:
        shape = list(array.shape)
        if SLICES in spec:
            shape[spec.index(SLICES)] *= processes
        # An axis of one device is none: so `run` returns it, and so it is cached.
        cut = [axis if axis and mesh.shape[axis] > 1 else None for axis in spec]
        while cut and cut[-1] is None:
            cut.pop()
        sharding = NamedSharding(mesh, PartitionSpec(*cut))
        return jax.make_array_from_process_local_data(sharding, array, tuple(shape))

    def spread(name: str, array: Array) -> Array:
        filled = _fill(array, [wanted[axis] for axis in _axes(name)])
        inner = [None] * (filled.ndim - 2)
        return put(filled, SLICES, *([*inner, POINTS] if name in TABLES else []))

    def setting(array: Array) -> Array:
        values = np.asarray(array)
        if not values.ndim:
            return put(values)
        more = wanted["slices"] - len(values)  # of no weight, but finite
        return put(np.pad(values, (0, more), mode="edge"), SLICES)

    def moving(array: Array) -> Array:
        if array.shape != state.maps.shape:
            return put(np.asarray(array))
        shape = (wanted["slices"], array.shape[1], wanted["points"])
        return put(_fill(array, shape), SLICES)

    def term(array: Array) -> Array:
        return put(_fill(array, (len(array), wanted["slices"])), None, SLICES)

    fields = {name: leaf for name, leaf in vars(problem).items() if leaf is not None}
    return Placed(
        AlignedProblem(**{name: spread(name, leaf) for name, leaf in fields.items()}),
        jax.tree.map(setting, params),
        LayoutState(
            maps=moving(state.maps),
            moments=jax.tree.map(moving, state.moments),
            epoch=put(np.asarray(state.epoch)),
            n_epochs=put(np.asarray(state.n_epochs)),
            history=jax.tree.map(term, state.history),
        ),
        _put_key(key, put),
    )


def _axes(name: str) -> tuple[str, ...]:
    if name in ("neighbors", "weights"):
        return ("slices", "neighbors", "points")
    if name in ("mates", "strengths", "moves"):
        return ("slices", "offsets", "mates", "points")
    return ("slices",) if name == "n_points" else ("slices", "points")


def widths_of(problem: AlignedProblem) -> dict[str, int]:
    """How long each axis of a problem's arrays is."""
    return dict(zip(_axes("neighbors"), problem.neighbors.shape, strict=True)) | dict(
        zip(_axes("mates"), problem.mates.shape, strict=True)
    )


def _fill(array: Array, shape: Any) -> np.ndarray:
    """An array made larger: by points that stand alone, by weights of 0."""
    given = np.asarray(array)
    if given.dtype.kind == "i" and given.ndim > 1:
        larger = np.broadcast_to(np.arange(shape[-1]), shape).astype(given.dtype)
    else:
        larger = np.zeros(shape, given.dtype)
    larger[tuple(slice(length) for length in given.shape)] = given
    return larger


def _put_key(key: jax.Array, put: Any) -> jax.Array:
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return put(np.asarray(key))
    data = put(np.asarray(jax.random.key_data(key)))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def local(array: Array, mesh: Mesh) -> np.ndarray:
    """What this process holds of an array whose first axis is slices."""
    if array.is_fully_addressable:
        return np.asarray(array)
    cut = NamedSharding(mesh, PartitionSpec(SLICES))
    array = jax.jit(lambda same: same, out_shardings=cut)(array)
    parts = {
        shard.index[0].start or 0: shard.data for shard in array.addressable_shards
    }
    return np.concatenate([np.asarray(parts[first]) for first in sorted(parts)])


def collect(state: LayoutState, problem: AlignedProblem, *, mesh: Mesh) -> LayoutState:
    """The state without the padding that `place` gave it, on the host.

    Args:
        state: As `run` left it on the mesh.
        problem: As it was before it was placed.
        mesh: The mesh.
    """
    slices, points = problem.order.shape

    def cut(array: Array) -> Array:
        if array.ndim != state.maps.ndim:
            return jnp.asarray(np.asarray(array))
        return jnp.asarray(local(array, mesh)[:slices, :, :points])

    def term(array: Array) -> Array:
        return jnp.asarray(local(array.T, mesh).T[:, :slices])

    return LayoutState(
        maps=cut(state.maps),
        moments=jax.tree.map(cut, state.moments),
        epoch=cut(state.epoch),
        n_epochs=cut(state.n_epochs),
        history=jax.tree.map(term, state.history),
    )
