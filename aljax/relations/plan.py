"""Two slices in; how much of each row is which row of the other out.

Everything is in the units of the slices' own spacing, so that it holds at any scale of
the data.  Whether a row comes again is told by a null: the mass that rows find in their
own slice, each without itself, in units that are measured without the pair.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.graph.exact import hold, nearest_held
from aljax.graph.knn import capacity_for, on_device
from aljax.graph.neighbors import find_neighbors, is_cheap
from aljax.graph.queries import in_cells, nearest_of_many
from aljax.relations.strengths import lengths
from aljax.relations.transport import Candidates, plan_of, steps_for

ROUNDS = 3  # in which a common move is found
SAMPLE = 2000  # rows that it is found from
STRICT = 0.1  # the reach that tells who is missing
BLOCK = 2**16  # pairs whose costs are computed at once
LEAST = 1e-6  # mass below which a pair is dropped
REPEATED = 1e-6  # of the mean unit, below which rows count as repeated


Units = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of pairs
Search = Callable[[np.ndarray, int], np.ndarray]  # of so many rows near to each query


class Settings(NamedTuple):
    """The settings of `couple` that a plan depends on."""

    reach: float
    epsilon: float
    candidates: int
    drift: bool


class Side(NamedTuple):
    """One of two slices, ready to be compared: see `side_of`.

    Attributes:
        rows: Its rows.
        near: The nearest other rows of each, in ascending distance.
        squared: The squared distances to the first two of them.
    """

    rows: Float[np.ndarray, "points features"]
    near: Int[np.ndarray, "points others"]
    squared: Float[np.ndarray, "points two"]

    @property
    def units(self) -> Float[np.ndarray, "points"]:
        """Each row's squared distance to the nearest other one; 0 without any."""
        return self.squared[:, 0] if self.near.shape[1] else np.zeros(len(self.rows))


class Plan(NamedTuple):
    """The coupling of two slices.

    Attributes:
        rows: Rows of the earlier slice, in their order.
        others: For each a row of the later slice.
        mass: How much of the two is the same (at least 0, near 1 for a sure mate).
        strict: For the rows of both slices the mass of the heaviest pair within a
            short reach, which tells if they come again.
        null: The same of rows among those of their own slice, in ascending order.
        scale: How much wider all rows lie apart in the later slice.
        shift: How far the center of all rows moves (units of the data).
        candidates: The pairs that could have mass, as `transport_plan` takes them.
    """

    rows: Int[np.ndarray, "pairs"]
    others: Int[np.ndarray, "pairs"]
    mass: Float[np.ndarray, "pairs"]
    strict: tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points_after"]]
    null: Float[np.ndarray, "nulls"]
    scale: float
    shift: Float[np.ndarray, "features"]
    candidates: Candidates


def side_of(rows: Float[np.ndarray, "points features"], candidates: int) -> Side:
    """Returns a slice with each row's nearest other rows, and how far they are."""
    count = min(candidates + 1, len(rows) - 1)
    if count < 2:
        return Side(rows, *(np.zeros((len(rows), 0), kind) for kind in (int, float)))
    table = find_neighbors(rows, count)
    near, squared = np.asarray(table.indices)[1:].T, np.asarray(table.distances)[1:].T
    squared = squared.astype(float) ** 2
    # A neighbor that a search has not found is the row itself, and comes last.
    squared[near == np.arange(len(rows))[:, None]] = np.inf
    order = np.argsort(squared, axis=1, kind="stable")
    near, squared = (np.take_along_axis(part, order, 1) for part in (near, squared))
    return Side(rows, near, squared[:, :2].copy())


def couple_sides(
    before: Side,
    after: Side,
    settings: Settings,
    sure: Int[np.ndarray, "known 2"],
    rng: np.random.Generator,
    *,
    unit: float = 1.0,
) -> Plan:
    """Returns the plan of two slices; rows that are `sure` have no other mates.

    `unit` is that of the sides' rows, in those of the data.
    """
    # Before there are many pairs: each takes memory.
    nulls = [_null(side, settings.epsilon) for side in (before, after)]
    sizes = len(before.rows), len(after.rows)
    move = Move(1.0, np.zeros(before.rows.shape[1], before.rows.dtype))
    rows = others = np.zeros(0, np.int32)
    if all(sizes):
        counts = [min(settings.candidates, size) for size in sizes]
        search = _search_of(after.rows)
        if settings.drift:
            move = _drift(before, after, search, settings, rng)
            before = _moved(before, move)
        forth = search(before.rows, counts[1])
        del search  # before the next: each holds its rows once more
        back = _search_of(before.rows)(after.rows, counts[0])
        rows, others = _both_ways(forth, back)
        del forth, back
    if len(sure):
        free = ~(np.isin(rows, sure[:, 0]) | np.isin(others, sure[:, 1]))
        rows, others = rows[free], others[free]
    units = _mean_units(before, after)
    costs = _costs(before.rows, after.rows, rows, others, units)
    pairs = _padded(costs, rows, others, sizes)
    del costs
    rows, others = (np.asarray(side)[: pairs.n_pairs] for side in pairs[1:3])
    strict = _transport(pairs, settings.epsilon, STRICT)
    met = most(rows, strict, sizes[0]), most(others, strict, sizes[1])
    for masses, known in zip(met, sure.T, strict=True):
        masses[known] = 1.0
    del strict
    mass = _transport(pairs, settings.epsilon, settings.reach)
    del pairs
    kept = mass > LEAST
    table = np.vstack([np.column_stack([rows[kept], others[kept]]), sure])
    order = np.lexsort((table[:, 1], table[:, 0]))
    nearest = [side.near[:, :1].ravel() for side in (before, after)]
    of_pairs = (rows, others, *nearest)
    return Plan(
        *table[order].T,
        mass=np.append(mass[kept], np.ones(len(sure)))[order],
        strict=met,
        null=np.sort(np.concatenate(nulls)),
        scale=move.scale,
        shift=move.shift * unit,
        candidates=Candidates(*(on_device(part, np.int32) for part in of_pairs)),
    )


def _search_of(rows: Float[np.ndarray, "points features"]) -> Search:
    """Returns the search among some rows, in cells if they are many."""
    if is_cheap(rows):
        held = hold(rows, "euclidean")
        return lambda queries, count: nearest_held(queries, held, count)[0]
    cells = in_cells(rows, "euclidean")
    return lambda queries, count: nearest_of_many(queries, cells, count)[0]


def sums(
    rows: Int[np.ndarray, "pairs"], mass: Float[np.ndarray, "pairs"], points: int
) -> Float[np.ndarray, "points"]:
    """Returns the mass of each row."""
    return np.bincount(rows, mass, points).astype(float)  # whole numbers of no pairs


def most(
    rows: Int[np.ndarray, "pairs"], mass: Float[np.ndarray, "pairs"], points: int
) -> Float[np.ndarray, "points"]:
    """Returns the mass of each row's heaviest pair."""
    heaviest = np.zeros(points)
    np.maximum.at(heaviest, rows, mass)
    return heaviest


def _both_ways(
    forward: Int[np.ndarray, "points candidates"],
    backward: Int[np.ndarray, "points_after candidates_back"],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each pair of two tables of candidates once, in the order of the rows."""
    n, m = len(forward), len(backward)
    pairs = np.empty(forward.size + backward.size, np.int64)
    ahead, back = np.split(pairs, [forward.size])
    ahead.reshape(n, -1)[:] = np.arange(n)[:, None] * m + forward
    back.reshape(m, -1)[:] = np.arange(m)[:, None] + backward * np.int64(m)
    pairs.sort()  # `np.unique` hashes whole numbers, which takes 25 times as long
    first = np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]
    rows, others = np.divmod(pairs[first], max(m, 1))
    return rows.astype(np.int32), others.astype(np.int32)


def _mean_units(before: Side, after: Side, some: Any = np.s_[:]) -> Units:
    """Returns the mean unit of two rows, the earlier ones among `some`."""
    units, units_after = before.units[some], after.units
    return lambda rows, others: (units[rows] + units_after[others]) / 2


def _costs(
    x: Float[np.ndarray, "points features"],
    y: Float[np.ndarray, "points_after features"],
    rows: Int[np.ndarray, "pairs"],
    others: Int[np.ndarray, "pairs"],
    units: Units,
) -> Float[np.ndarray, "pairs"]:
    """Returns squared distances of pairs in their units."""
    blocks = [np.s_[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    unit, costs = np.empty(len(rows)), np.empty(len(rows), np.float32)
    for part in blocks:
        unit[part] = units(rows[part], others[part])
    least = REPEATED * unit.mean() if len(rows) else 0.0
    np.maximum(unit, least + np.finfo(float).tiny, out=unit)
    for part in blocks:
        costs[part] = lengths(x, y, rows[part], others[part]) ** 2 / unit[part]
    return costs


class Pairs(NamedTuple):
    """Pairs and their costs, padded to sizes that many pairs of slices share."""

    costs: Float[Array, "padded"]
    rows: Int[Array, "padded"]
    others: Int[Array, "padded"]
    n_pairs: int
    sizes: tuple[int, int]


def _padded(
    costs: Float[np.ndarray, "pairs"],
    rows: Int[np.ndarray, "pairs"],
    others: Int[np.ndarray, "pairs"],
    sizes: tuple[int, int],
) -> Pairs:
    count, capacity = len(costs), capacity_for(len(costs))
    points, points_after = map(capacity_for, sizes)

    def put(values: np.ndarray, absent: float, dtype: Any) -> Array:
        room = np.full(capacity, absent, dtype)
        room[:count] = values
        return jax.device_put(room)  # without another copy

    return Pairs(
        put(costs, np.inf, np.float32),
        put(rows, points, np.int32),
        put(others, points_after, np.int32),
        count,
        (points, points_after),
    )


def _transport(
    pairs: Pairs, epsilon: float, reach: float
) -> Float[np.ndarray, "pairs"]:
    """Returns the mass of each pair."""
    scalars = jnp.float32(epsilon), jnp.float32(reach), steps_for(epsilon, reach)
    mass = plan_of(*pairs[:3], *scalars, sizes=pairs.sizes)
    return np.asarray(mass)[: pairs.n_pairs]


class Move(NamedTuple):
    """A move that is common to all rows: they spread from their center, and shift."""

    scale: float
    shift: Float[np.ndarray, "features"]


def _moved(side: Side, move: Move) -> Side:
    """Returns a slice whose rows have made the move."""
    rows = _along(side.rows, move, side.rows.mean(axis=0))
    return Side(rows, side.near, side.squared * move.scale**2)


def _along(
    rows: Float[np.ndarray, "points features"],
    move: Move,
    center: Float[np.ndarray, "features"],
) -> Float[np.ndarray, "points features"]:
    return (rows - center) * rows.dtype.type(move.scale) + (center + move.shift)


def _drift(
    before: Side,
    after: Side,
    search: Search,
    settings: Settings,
    rng: np.random.Generator,
) -> Move:
    """Returns the common move of rows under their coupling, found in a few rounds.

    They start at no move, or at that of the medians if more mass is coupled there.
    """
    points, count = len(before.rows), min(settings.candidates, len(after.rows))
    chosen = np.sort(rng.choice(points, min(points, SAMPLE), replace=False))
    x, y, center = before.rows[chosen], after.rows, before.rows.mean(axis=0)
    rows = np.repeat(np.arange(len(x)), count)

    def follow(move: Move) -> tuple[float, Move]:
        moved = _along(x, move, center)
        others = search(moved, count).ravel()
        wider = before._replace(squared=before.squared * move.scale**2)
        costs = _costs(moved, y, rows, others, _mean_units(wider, after, chosen))
        pairs = _padded(costs, rows, others, (len(x), len(y)))
        mass = _transport(pairs, settings.epsilon, settings.reach)
        ends = (x, sums(rows, mass, len(x))), (y, sums(others, mass, len(y)))
        return float(mass.sum(dtype=float)), _common_move(*ends, center)

    none = np.zeros_like(center)
    away = (np.median(y, axis=0) - np.median(x, axis=0)).astype(x.dtype)
    starts = (follow(Move(1.0, shift)) for shift in (none, away))
    _, move = max(starts, key=lambda coupled: coupled[0])
    for _ in range(ROUNDS - 1):
        _, move = follow(move)
    return move


def _common_move(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    center: Float[np.ndarray, "features"],
) -> Move:
    """Returns the move from coupled rows to those coupled to them, by their masses."""
    means, spreads = [], []
    for rows, mass in (before, after):
        shares = mass / max(mass.sum(), LEAST)
        mean = shares @ rows
        means.append(mean)
        spreads.append(np.sqrt(shares @ ((rows - mean) ** 2).sum(axis=1)))
    scale = float(spreads[1] / spreads[0]) if min(spreads) > 0 else 1.0
    shift = means[1] - center - scale * (means[0] - center)
    return Move(scale, shift.astype(center.dtype))


def _null(side: Side, epsilon: float) -> Float[np.ndarray, "nulls"]:
    """Returns the mass of each row's heaviest pair with another one of its slice.

    All of a row's mass would be no null: beside the pair its unit is that of the pair.
    """
    points = len(side.rows)
    if side.near.shape[1] < 2:  # without a pair's own distance there is no unit
        return np.zeros(0)
    rows, others = _both_ways(side.near, side.near)
    rows, others = rows[rows != others], others[rows != others]

    def without(row: np.ndarray, other: np.ndarray) -> np.ndarray:
        nearest, second = side.squared[row].T
        return np.where(side.near[row, 0] == other, second, nearest)

    def units(row: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (without(row, other) + without(other, row)) / 2

    costs = _costs(side.rows, side.rows, rows, others, units)
    pairs = _padded(costs, rows, others, (points, points))
    mass = _transport(pairs, epsilon, STRICT)
    return most(rows, mass, points)
