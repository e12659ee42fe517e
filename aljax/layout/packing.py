"""Slices of very different sizes: cut into rows of one length, and laid out so.

    pack(problem, params, state) -> `run(..., loss=packed_loss)` -> unpack

A slice takes as many rows as its points fill, one after the other; neighbors and
mates are places among the points of all rows.  Then work follows the points that
there are, and not the number of slices times the largest.  The objective is the same;
each row draws the pairs that repel by itself.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.graph.knn import on_device, round_up
from aljax.layout import losses
from aljax.layout.losses import LossTerms
from aljax.layout.objective import over_slices, weighed
from aljax.layout.optimize import LayoutState
from aljax.layout.problem import AlignedProblem, LayoutParams, shared_width
from aljax.layout.shifts import Block, Shifts, repulsion_of_block
from aljax.layout.spaces import lifted

SHORTEST = 64  # points of a row
WASTE = 1.15  # times the least work: slices padded to no more stay as they are
SPARED = 4096  # points that padding adds at least, for fewer are laid out in no time
FEW = 8  # mates of a point that have a place each, whatever the data
ROWS = 16  # different numbers of rows for each doubling


class PackedProblem(AlignedProblem):
    """A problem whose slices are cut into rows: its first axis is that of the rows.

    Row r has the points from place `first[r]` on of a slice with `n_points[r]`, whose
    own first one stands at place `begin[r]` of all.  Point `ring[i]` stands at place i
    of an array in which each slice stands twice in a row; `copies` are the two places
    of each point there (past the end for padding).
    """

    mates: Int[Array, "slices mates points"]
    strengths: Float[Array, "slices mates points"]
    moves: Float[Array, "slices mates points"] | None = None
    first: Int[Array, "slices"] = eqx.field(kw_only=True)
    begin: Int[Array, "slices"] = eqx.field(kw_only=True)
    ring: Int[Array, "twice"] = eqx.field(kw_only=True)
    copies: Int[Array, "2 places"] = eqx.field(kw_only=True)


class Rows(NamedTuple):
    """The rows of each slice's points: `sizes` of them, from `starts` on."""

    length: int
    number: int
    sizes: tuple[int, ...]
    starts: tuple[int, ...]

    def spans(self) -> list[slice]:
        """Returns the places of each slice's points, the rows put end to end."""
        begins = [start * self.length for start in self.starts]
        pairs = zip(begins, self.sizes, strict=True)
        return [slice(begin, begin + size) for begin, size in pairs]

    def owners(self) -> Int[np.ndarray, "rows"]:
        """Returns the slice of each row; rows that are left over get the last one."""
        return np.searchsorted(self.starts, np.arange(self.number), side="right") - 1


def rows_for(sizes: Any, state: LayoutState) -> Rows | None:
    """Returns how to cut slices of some sizes; None where that would save little.

    Nor can they be cut where an optimizer keeps arrays of another shape than the maps'.
    """
    shape = state.maps.shape
    moments = [leaf.shape for leaf in jax.tree.leaves(state.moments)]
    if any(kept and kept[-len(shape) :] != shape for kept in moments):
        return None
    return plan(np.asarray(sizes).tolist(), shape[-1])


def plan(sizes: Sequence[int], capacity: int) -> Rows | None:
    """Returns how to cut slices of some sizes, which else are padded to a capacity."""
    lengths = [SHORTEST * 2**k for k in range(round_up(capacity).bit_length())]
    plans = [_cut_into(sizes, length) for length in lengths if length < capacity]
    if not plans:
        return None
    best = min(plans, key=lambda rows: (rows.number * rows.length, -rows.length))
    padded, least = len(sizes) * capacity, best.number * best.length
    return best if max(WASTE * least, least + SPARED) < padded else None


def _cut_into(sizes: Sequence[int], length: int) -> Rows:
    needed = [max(1, -(-size // length)) for size in sizes]
    starts = np.cumsum([0, *needed])
    grain = max(1, 2 ** (int(starts[-1]).bit_length() - 1) // ROWS)
    count = -(-int(starts[-1]) // grain) * grain
    return Rows(length, count, tuple(sizes), tuple(starts[:-1].tolist()))


class Packed(NamedTuple):
    """The arguments of `run`, with slices cut into rows."""

    problem: PackedProblem
    params: LayoutParams
    state: LayoutState


def pack(
    problem: AlignedProblem, params: LayoutParams, state: LayoutState, rows: Rows
) -> Packed:
    """Returns a problem, its settings and its state with slices cut into rows."""
    owners = rows.owners()

    def setting(leaf: Array) -> Array:
        return on_device(np.asarray(leaf)[owners]) if leaf.ndim else leaf

    def cut(array: Array) -> Array:
        return on_device(_cut(np.asarray(array), rows, axis=-3))

    def term(leaf: Array) -> Array:
        of_rows = np.zeros((len(leaf), rows.number), leaf.dtype)
        of_rows[:, list(rows.starts)] = leaf
        return on_device(of_rows)

    settings = jax.tree.map(setting, params)
    return Packed(_pack_problem(problem, rows), settings, state.relaid(cut, term))


def unpack(state: LayoutState, problem: AlignedProblem, rows: Rows) -> LayoutState:
    """Returns the state of a packed layout as that of its problem."""
    slices, capacity = problem.degrees.shape

    def whole(array: Array) -> Array:
        joined = _joined(np.asarray(array))
        filled = np.zeros((*joined.shape[:-1], slices, capacity), joined.dtype)
        for t, span in enumerate(rows.spans()):
            filled[..., t, : rows.sizes[t]] = joined[..., span]
        return on_device(np.moveaxis(filled, -2, -3))

    def term(leaf: Array) -> Array:
        return on_device(np.add.reduceat(np.asarray(leaf), rows.starts, axis=1))

    return state.relaid(whole, term)


def _joined(of_rows: Any) -> Any:
    """Rows `(..., rows, values, length)` put end to end: `(..., values, places)`."""
    values = of_rows.swapaxes(-3, -2)
    return values.reshape(*values.shape[:-2], -1)


def _cut(array: np.ndarray, rows: Rows, *, axis: int, fill: Any = 0) -> np.ndarray:
    """Slices along `axis` cut into rows; points stand along the last axis."""
    slices = np.moveaxis(array, axis, -2)
    joined = np.empty((*slices.shape[:-2], rows.number * rows.length), array.dtype)
    joined[...] = fill
    for t, span in enumerate(rows.spans()):
        joined[..., span] = slices[..., t, : rows.sizes[t]]
    cut = joined.reshape(*joined.shape[:-1], rows.number, rows.length)
    return np.moveaxis(cut, -2, axis)


def _pack_problem(problem: AlignedProblem, rows: Rows) -> PackedProblem:
    owners, spans = rows.owners(), rows.spans()
    begins = np.array([span.start for span in spans])
    places = np.arange(rows.number * rows.length, dtype=np.int32)
    neighbors = np.asarray(problem.neighbors) + begins[:, None, None]
    mates, strengths, moves = _mates_of_all(problem, begins)
    ring, copies = np.zeros(2 * places.size, np.int32), np.full((2, places.size), 2**30)
    for span, size in zip(spans, rows.sizes, strict=True):
        twice = 2 * span.start + np.arange(2 * size)
        ring[twice] = np.tile(places[span], 2)
        copies[:, span] = twice.reshape(2, size)
    sizes = np.array(rows.sizes)[owners]
    first = places[:: rows.length] - begins[owners]

    def cut(array: Any) -> Array:
        return on_device(_cut(np.asarray(array), rows, axis=0))

    names = ("weights", "degrees", "pulls", "free", "radii", "shares")
    tables = {name: getattr(problem, name) for name in names}
    tables |= {"strengths": strengths, "moves": moves}
    return PackedProblem(
        neighbors=on_device(_cut(neighbors, rows, axis=0, fill=places), np.int32),
        n_points=on_device(sizes, np.int32),
        mates=on_device(_cut(mates, rows, axis=0, fill=places), np.int32),
        order=on_device(places.reshape(rows.number, rows.length)),
        offsets=(),
        **jax.tree.map(cut, tables),
        first=on_device(first, np.int32),
        begin=on_device(begins[owners], np.int32),
        ring=on_device(ring),
        copies=on_device(copies, np.int32),
    )


def _mates_of_all(
    problem: AlignedProblem, begins: Int[np.ndarray, "slices"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Joins the mates in all slices to one list for each point, and their values."""
    slices, *_, points = problem.strengths.shape
    later = np.arange(slices)[:, None] + np.array(problem.offsets, int)
    mates = np.asarray(problem.mates) + begins[later % slices][..., None, None]
    tables = jax.tree.map(
        lambda table: np.asarray(table).reshape(slices, -1, points),
        (mates, problem.strengths, problem.moves),
    )
    absent = tables[1] == 0
    width = absent.shape[1]
    if width > FEW:
        width = shared_width(int((~absent).sum(axis=1).max(initial=1)))
    order = np.argsort(absent, axis=1, kind="stable")[:, :width]
    return jax.tree.map(lambda table: np.take_along_axis(table, order, axis=1), tables)


@jax.custom_vjp
def _twice(
    values: Float[Array, "... places"],
    ring: Int[Array, "twice"],
    copies: Int[Array, "2 places"],
) -> Float[Array, "... twice"]:
    """Values with each slice twice in a row; its gradient is read, not scattered.

    So there is reverse mode alone, which is all that a layout takes.
    """
    del copies
    return values[..., ring]


def _twice_forward(values: Array, ring: Array, copies: Array) -> tuple[Array, Array]:
    return values[..., ring], copies


def _twice_backward(copies: Array, gradient: Array) -> tuple[Array, None, None]:
    read = gradient.at[..., copies].get(mode="fill", fill_value=0)
    return jnp.sum(read, axis=-2), None, None


_twice.defvjp(_twice_forward, _twice_backward)


def packed_loss(
    maps: Float[Array, "rows components points"],
    problem: PackedProblem,
    params: LayoutParams,
    shifts: Shifts,
) -> LossTerms:
    """Computes `aligned_loss` of a packed problem, as `loss` of `run`: terms by row."""
    space, maps = params.space, lifted(maps, params.space)
    everywhere = _joined(maps)
    attraction = partial(losses.attraction, among=everywhere, space=space)
    attracted = over_slices(attraction)(
        maps, problem.neighbors, problem.weights, params.a, params.b
    )
    around = problem.ring, problem.copies
    ring = Block(
        _twice(everywhere, *around),
        _joined(problem.degrees[:, None])[0][problem.ring],
        0,
    )

    def repulsion(
        row: Array, degrees: Array, first: Array, begin: Array, *others: Any
    ) -> Array:
        block, whole = Block(row, degrees, first), ring._replace(first=2 * begin)
        return repulsion_of_block(block, whole, *others, space=space)

    own = problem.degrees, problem.first, problem.begin, problem.n_points
    repelled = over_slices(repulsion)(maps, *own, shifts, params.a, params.b)
    pull = problem.pulls * (2 + params.negative_sample_rate)[:, None]
    reach = None if problem.moves is None else params.motion_fidelity * problem.moves
    pulls = _joined(pull[:, None])[0]

    def alignment(
        row: Array, mates: Array, strengths: Array, pull: Array, reach: Array | None
    ) -> Array:
        of_row = row, everywhere, mates, strengths, pull, pulls, reach
        return losses.alignment(*of_row, space=space)

    mated = problem.mates, problem.strengths
    aligned = over_slices(alignment)(maps, *mated, pull, reach)
    densities = partial(_densities, everywhere, problem, params)
    return weighed(LossTerms(attracted, repelled, aligned), params, densities)


def _densities(
    everywhere: Float[Array, "components places"],
    problem: PackedProblem,
    params: LayoutParams,
) -> Float[Array, "rows"]:
    """Returns `objective.densities` of each slice, in the first of its rows."""
    count, length = problem.degrees.shape
    tables = _joined(problem.neighbors), _joined(problem.shares)
    curve = (jnp.repeat(setting, length) for setting in (params.a, params.b))
    of_map = losses.radii_in_map(everywhere, *tables, *curve).reshape(count, length)
    owners = problem.begin // length

    def total(values: Array) -> Array:
        of_rows = jnp.sum(values, axis=1)
        return jax.ops.segment_sum(of_rows, owners, count)[owners, None]

    radii: Any = problem.radii
    shift: Any = params.dens_var_shift
    of_slices = losses.unlike_density(
        radii, of_map, problem.degrees, shift[:, None], total
    )
    return jnp.where(problem.first == 0, of_slices[:, 0], 0.0)
