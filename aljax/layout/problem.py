"""The problem: ragged graphs and relations in, stacked arrays out, and back.

A slice's points stand first, in an order shuffled once; entries beyond them point
to themselves with weight 0.  Negatives can then be circular shifts of the array:
contiguous reads that meet every pair of points equally often.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.config import AlignmentConfig, LayoutConfig, per_slice
from aljax.curve import find_ab_params
from aljax.errors import InputError
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import as_floats, on_device, round_up
from aljax.layout.spaces import Space, space_of
from aljax.relations.mates import Relations

PerRow = Sequence[np.ndarray | None] | None


class AlignedProblem(eqx.Module):
    """The graphs of a sequence and the mates between its slices, stacked and padded.

    `order[t, j]` is the user's row at place j of slice t; `mates[t, o]` are places in
    slice t + offsets[o], with `strengths` 0 where there is none.  `pulls` are the
    points' degrees, times their weights, with which they pull at their mates; `free` is
    1 where a point may move.  `moves` says how far mates lie apart in the data, None
    where no setting asks for it.  A densMAP has the data's local `radii`, and the
    `shares` of edges that their entries hold: 1/2 where both ends list one, else 1.
    """

    neighbors: Int[Array, "slices neighbors points"]
    weights: Float[Array, "slices neighbors points"]
    degrees: Float[Array, "slices points"]
    n_points: Int[Array, "slices"]
    mates: Int[Array, "slices offsets mates points"]
    strengths: Float[Array, "slices offsets mates points"]
    pulls: Float[Array, "slices points"]
    free: Float[Array, "slices points"]
    order: Int[Array, "slices points"]
    offsets: tuple[int, ...] = eqx.field(static=True)
    moves: Float[Array, "slices offsets mates points"] | None = None
    radii: Float[Array, "slices points"] | None = None
    shares: Float[Array, "slices neighbors points"] | None = None


class LayoutParams(eqx.Module):
    """Settings that change no shape: swept, differentiated, never recompiled.

    Those of the density are None where no densMAP is asked for.  The `space` of the
    maps is a program's: another one compiles anew.
    """

    a: Float[Array, "slices"]
    b: Float[Array, "slices"]
    repulsion_strength: Float[Array, "slices"]
    negative_sample_rate: Float[Array, "slices"]
    learning_rate: Float[Array, "slices"]
    alignment_regularisation: Float[Array, ""]
    motion_fidelity: Float[Array, ""]
    dens_lambda: Float[Array, "slices"] | None = None
    dens_frac: Float[Array, "slices"] | None = None
    dens_var_shift: Float[Array, "slices"] | None = None
    space: Space = eqx.field(static=True, default=None)


def layout_params(
    layout: LayoutConfig, alignment: AlignmentConfig, *, slices: int
) -> LayoutParams:
    """Returns the array leaves of a configuration, one value for each slice.

    Raises:
        InputError: If a list has the wrong length, or a curve cannot be fitted.
    """

    def listed(*names: str) -> dict[str, Any]:
        return {name: per_slice(name, getattr(layout, name), slices) for name in names}

    values = listed("repulsion_strength", "negative_sample_rate", "learning_rate")
    if layout.densmap:
        values |= listed("dens_lambda", "dens_frac", "dens_var_shift")
    shape = listed(*(("spread", "min_dist") if layout.a is None else ("a", "b")))
    curves = [*zip(*shape.values(), strict=True)]
    if layout.a is None:
        curves = [find_ab_params(float(spread), float(near)) for spread, near in curves]
    values["a"], values["b"] = zip(*curves, strict=True)
    values["alignment_regularisation"] = alignment.alignment_regularisation
    values["motion_fidelity"] = alignment.motion_fidelity
    leaves = {name: _leaf(name, value) for name, value in values.items()}
    return LayoutParams(**leaves, space=space_of(layout))


def _leaf(name: str, value: Any) -> Array:
    """Returns a setting in JAX's own float type, which holds less than Python's."""
    with np.errstate(over="ignore"):
        read = as_floats(value)
    if not np.isfinite(np.asarray(read)).all():
        raise InputError(name, f"is {value!r}", f"numbers that {read.dtype} can hold")
    return read


def stack(
    graphs: Sequence[FuzzyGraph],
    relations: Relations,
    *,
    key: jax.Array,
    capacity: int | None = None,
    pinned: PerRow = None,
    point_weights: PerRow = None,
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    offsets: Sequence[int] = (),
    densmap: bool = False,
) -> AlignedProblem:
    """Returns one problem of the slices' graphs: padded, and each slice shuffled once.

    Args:
        graphs: One for each slice.
        relations: Mates, keyed by (earlier slice, offset).  Without their moves they
            are pulled together whatever `motion_fidelity` is.
        key: Shuffles the points.
        capacity: Points to pad each slice to; None rounds the largest slice up a
            little, so that near sizes share a compiled program.
        pinned: For each slice which rows stay at their start; None for none.
        point_weights: For each slice how strongly its rows pull at their mates
            (at least 0); None for 1.
        before: Sizes of another process's slices that come before these: their
            orders are drawn and thrown away.
        after: Sizes of those that come after these, and have mates in these.
        offsets: How far apart slices with mates may be; () for those in `relations`.
        densmap: Whether the loss has the term of the density.

    Raises:
        InputError: If the capacity is below the largest slice, or a graph of a densMAP
            has no radii.
    """
    sizes = [graph.degrees.shape[0] for graph in graphs]
    all_sizes = [*sizes, *after]
    capacity = round_up(max(all_sizes)) if capacity is None else capacity
    if capacity < max(sizes):
        got = f"is {capacity}, but a slice has {max(sizes)} points"
        raise InputError("capacity", got, "at least as many, or None")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    for size in before:
        rng.permutation(size)
    order = np.tile(np.arange(capacity), (len(all_sizes), 1))
    for t, size in enumerate(all_sizes):
        order[t, :size] = rng.permutation(size)
    place = np.argsort(order, axis=1)
    order = order[: len(sizes)]
    # Column 0 of every list is the point itself: it weighs nothing, so it is left out.
    shape = len(sizes), max(graph.neighbors.shape[0] for graph in graphs) - 1, capacity
    dtype = jax.dtypes.canonicalize_dtype(float)
    # The largest arrays of a layout: of each one copy, and one after the other.
    lists = (place[t][np.asarray(g.neighbors)] for t, g in enumerate(graphs))
    own_places = np.broadcast_to(np.arange(capacity, dtype=np.int32), shape)
    neighbors = _stack_lists(lists, order, own_places.copy())
    lists = (np.asarray(graph.weights) for graph in graphs)
    weights = _stack_lists(lists, order, np.zeros(shape, dtype))
    of_points = [np.asarray(graph.degrees) for graph in graphs]
    degrees = _stack_rows(of_points, order, sizes, default=0.0)
    radii = shares = None
    if densmap:
        kept = [radii_of(graph, f"slices[{t}]") for t, graph in enumerate(graphs)]
        radii = as_floats(_stack_rows(kept, order, sizes, default=0.0))
        shares = as_floats(_shares(np.asarray(neighbors), np.asarray(weights)))
    offsets = tuple(offsets or sorted({offset for _, offset in relations}))
    mates, strengths, moves = _stack_mates(relations, place, offsets, len(sizes))
    weighing = _stack_rows(point_weights, order, sizes, default=1.0)
    held = _stack_rows(pinned, order, sizes, default=0.0)
    return AlignedProblem(
        neighbors=neighbors,
        weights=weights,
        degrees=as_floats(degrees),
        n_points=on_device(sizes, np.int32),
        mates=mates,
        strengths=strengths,
        pulls=as_floats(degrees * weighing),
        free=as_floats(1 - held),
        order=on_device(order, np.int32),
        offsets=offsets,
        moves=moves,
        radii=radii,
        shares=shares,
    )


def radii_of(graph: FuzzyGraph, name: str) -> np.ndarray:
    """Returns the local radii of the data, which a graph without distances lacks.

    Raises:
        InputError: It does; `name` is the argument.
    """
    if graph.radii is None:
        got = "is a FuzzyGraph without `radii`, which `densmap` follows"
        remedy = "Give data, a KNN, or graphs as `aljax.prepare` makes them."
        raise InputError(name, got, "a graph with them", remedy)
    return np.asarray(graph.radii)


def _shares(neighbors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns each entry's share of its edge: half where the other end has it, too."""
    slices, _, capacity = neighbors.shape
    slice_of = np.arange(slices)[:, None, None]
    heads = np.broadcast_to(np.arange(capacity), neighbors.shape)
    codes, reversed_codes = (
        (slice_of * capacity + end) * capacity + other
        for end, other in ((heads, neighbors), (neighbors, heads))
    )
    present = weights > 0
    return present / (1.0 + np.isin(reversed_codes, codes[present]))


def _stack_lists(
    lists: Iterable[np.ndarray], order: np.ndarray, stacked: np.ndarray
) -> Array:
    """Puts each slice's lists of neighbors, shuffled, in the place of padding."""
    for t, of_slice in enumerate(lists):
        width, size = of_slice.shape
        rows = order[t, :size]
        stacked[t, : width - 1, :size] = of_slice[1:, rows]
    return jax.device_put(stacked)


def _stack_mates(
    relations: Relations, place: np.ndarray, offsets: Sequence[int], slices: int
) -> tuple[Array, Array, Array | None]:
    capacity = place.shape[1]
    ranks = {key: _rank(mates.rows) for key, mates in relations.items()}
    width = max((int(r.max(initial=0)) + 1 for r in ranks.values()), default=1)
    shape = (slices, len(offsets), shared_width(width), 1)
    mates = np.tile(np.arange(capacity, dtype=np.int32), shape)
    dtype = jax.dtypes.canonicalize_dtype(float)
    strengths = np.zeros(mates.shape, dtype)
    measured = any(pair.moves is not None for pair in relations.values())
    moves = np.zeros(mates.shape, dtype) if measured else None
    for (t, offset), pair in relations.items():
        entry = (t, offsets.index(offset), ranks[t, offset], place[t, pair.rows])
        mates[entry] = place[t + offset, pair.others]
        strengths[entry] = pair.strengths
        if moves is not None:
            moves[entry] = pair.moves
    return jax.device_put((mates, strengths, moves))


def shared_width(mates: int) -> int:
    """Returns a number of mates of a row that is a little too large.

    One that sequences whose mates come from data share, so that they share a program.
    """
    return mates if mates <= 2 else -(-mates // 4) * 4


def _stack_rows(
    values: PerRow, order: np.ndarray, sizes: Sequence[int], *, default: float
) -> np.ndarray:
    """Returns a value for each row, shuffled and padded with `default`."""
    stacked = np.full(order.shape, default)
    for t, entries in enumerate(values or ()):
        if entries is not None:
            stacked[t, : sizes[t]] = entries[order[t, : sizes[t]]]
    return stacked


def _rank(rows: np.ndarray) -> np.ndarray:
    """Counts how many times each entry's value stands before it."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.searchsorted(ordered, ordered)
    ranks = np.empty(rows.size, dtype=int)
    ranks[order] = np.arange(rows.size) - first
    return ranks


def stack_maps(
    maps: Sequence[Float[np.ndarray, "_ components"]], problem: AlignedProblem
) -> Float[Array, "slices components points"]:
    """Maps in the user's order, shuffled and padded (with 0) as the problem is."""
    order = np.asarray(problem.order)
    stacked = np.zeros((len(maps), maps[0].shape[1], order.shape[1]))
    for t, positions in enumerate(maps):
        stacked[t, :, : len(positions)] = positions[order[t, : len(positions)]].T
    return as_floats(stacked)


def unstack_maps(
    maps: Float[Array, "slices components points"], problem: AlignedProblem
) -> list[Float[np.ndarray, "_ components"]]:
    """Returns the maps in the user's order, each `(points, components)`."""
    stacked, order = np.asarray(maps), np.asarray(problem.order)
    unstacked = []
    for t, size in enumerate(np.asarray(problem.n_points)):
        positions = np.empty((size, stacked.shape[1]), dtype=stacked.dtype)
        positions[order[t, :size]] = stacked[t, :, :size].T
        unstacked.append(positions)
    return unstacked
