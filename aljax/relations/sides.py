"""Slices as they are coupled: rows with their nearest others, and pairs with costs.

A pair's cost is its squared distance in units of the slices' own spacing, so that it
holds at any scale of the data.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aljax.graph.exact import hold, nearest_held
from aljax.graph.knn import capacity_for
from aljax.graph.neighbors import find_neighbors, is_cheap
from aljax.graph.queries import in_cells, nearest_of_many
from aljax.relations.strengths import lengths
from aljax.relations.transport import NEAR_ZERO, plan_of, steps_for

BLOCK = 2**16  # pairs whose costs are computed at once
MOST, TIMES = 0.9, 10  # a row is far out beyond so many times the distance of most
SAMPLE = 2000  # rows of a slice that stand for all where these have much in common

Rows = Float[np.ndarray, "points features"]
RowsAfter = Float[np.ndarray, "points_after features"]
Ends = Int[np.ndarray, "pairs"]  # of each pair a row
Masses = Float[np.ndarray, "pairs"]
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
        squared: The squared distances to the first ones of them.
    """

    rows: Rows
    near: Int[np.ndarray, "points others"]
    squared: Float[np.ndarray, "points first"]

    @property
    def units(self) -> Float[np.ndarray, "points"]:
        """Each row's squared distance to the nearest other one; 0 without any."""
        return self.squared[:, 0] if self.near.shape[1] else np.zeros(len(self.rows))


def side_of(rows: Rows, candidates: int) -> Side:
    """Returns a slice with each row's nearest other rows, and how far they are."""
    # Two others at least: the null counts units without the first.
    count = min(max(candidates, 2) + 1, len(rows) - 1)
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


def sample_of(points: int, rng: np.random.Generator) -> Int[np.ndarray, "sample"]:
    """Returns the rows that stand for all of a slice."""
    return np.sort(rng.choice(points, min(points, SAMPLE), replace=False))


def part_of(side: Side, chosen: Int[np.ndarray, "chosen"]) -> Side:
    """Returns some rows of a slice, whose nearest ones are still counted in all."""
    return Side(side.rows[chosen], side.near[chosen], side.squared[chosen])


def far_out(rows: Rows) -> Bool[np.ndarray, "points"]:
    """Returns which rows lie far from all others, as by a cell of 99999."""
    if not len(rows):
        return np.zeros(0, bool)
    away = np.linalg.norm(rows - np.median(rows, axis=0), axis=1)
    limit = TIMES * np.quantile(away, MOST, method="lower")
    return away > (limit or np.inf)


def seen(side: Side, into: Float[np.ndarray, "features directions"]) -> Side:
    """Returns a slice in another space, each row with its nearest of those near it."""
    rows, near = (side.rows @ into).astype(side.rows.dtype), side.near
    if not near.shape[1]:
        return side._replace(rows=rows)
    everyone = np.repeat(np.arange(len(rows)), near.shape[1])
    squared = lengths(rows, rows, everyone, near.ravel()).reshape(near.shape) ** 2
    squared[near == np.arange(len(rows))[:, None]] = np.inf
    first = squared.argmin(axis=1)[:, None]
    near, squared = (np.take_along_axis(part, first, 1) for part in (near, squared))
    return Side(rows, near, squared)


def search_of(rows: Rows) -> Search:
    """Returns the search among some rows, in cells if they are many."""
    if is_cheap(rows):
        held = hold(rows, "euclidean")
        return lambda queries, count: nearest_held(queries, held, count)[0]
    cells = in_cells(rows, "euclidean")
    return lambda queries, count: nearest_of_many(queries, cells, count)[0]


def both_ways(
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
    pairs = pairs[first]
    rows, others = (np.empty(len(pairs), np.int32) for _ in range(2))
    for divide, part in ((np.floor_divide, rows), (np.remainder, others)):
        divide(pairs, max(m, 1), out=part, casting="unsafe")  # by blocks
    return rows, others


def mean_units(before: Side, after: Side) -> Units:
    """Returns the mean unit of two rows."""
    units, units_after = before.units, after.units
    return lambda rows, others: (units[rows] + units_after[others]) / 2


class Pairs(NamedTuple):
    """Pairs and their costs, padded to sizes that many pairs of slices share."""

    costs: Float[Array, "padded"]
    rows: Int[Array, "padded"]
    others: Int[Array, "padded"]
    n_pairs: int
    sizes: tuple[int, int]

    @property
    def unpadded(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs' rows, which share the padded ones' memory."""
        rows, others = (np.asarray(side)[: self.n_pairs] for side in self[1:3])
        return rows, others

    def with_others(self, others: Ends, count: int) -> "Pairs":
        """Returns the pairs with other rows of the later slice, which has `count`."""
        points = capacity_for(count)
        room = np.full(len(self.others), points, np.int32)
        room[: self.n_pairs] = others
        return self._replace(others=jax.device_put(room), sizes=(self.sizes[0], points))


def pairs_of(
    x: Rows, y: RowsAfter, rows: Ends, others: Ends, units: Units, most_pairs: int = 0
) -> Pairs:
    """Returns pairs of rows with their costs: squared distances in their units.

    There is room for `most_pairs`, as many as slices of these sizes may have, so that
    all such slices share their programs.
    """
    count, capacity = len(rows), capacity_for(max(len(rows), most_pairs))
    points, points_after = map(capacity_for, (len(x), len(y)))

    def put(values: np.ndarray, absent: float, dtype: Any) -> Array:
        room = np.full(capacity, absent, dtype)
        room[:count] = values
        return jax.device_put(room)  # without another copy

    return Pairs(
        put(_costs(x, y, rows, others, units), np.inf, np.float32),
        put(rows, points, np.int32),
        put(others, points_after, np.int32),
        count,
        (points, points_after),
    )


def _costs(
    x: Rows, y: RowsAfter, rows: Ends, others: Ends, units: Units
) -> Float[np.ndarray, "pairs"]:
    """Returns squared distances of pairs in their units."""
    blocks = [np.s_[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    unit, costs = np.empty(len(rows)), np.empty(len(rows), np.float32)
    for part in blocks:
        unit[part] = units(rows[part], others[part])
    least = NEAR_ZERO * unit.mean() if len(rows) else 0.0
    np.maximum(unit, least + np.finfo(float).tiny, out=unit)
    with np.errstate(over="ignore"):  # where slices of a row or two have no unit
        for part in blocks:
            costs[part] = lengths(x, y, rows[part], others[part]) ** 2 / unit[part]
    return costs


def transport(pairs: Pairs, epsilon: float, reach: float) -> Masses:
    """Returns the mass of each pair."""
    scalars = jnp.float32(epsilon), jnp.float32(reach), steps_for(epsilon, reach)
    mass = plan_of(*pairs[:3], *scalars, sizes=pairs.sizes)
    return np.asarray(mass)[: pairs.n_pairs]


def couple_nearest(
    before: Side, after: Side, search: Search, settings: Settings, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Couples rows to the nearest of `after`, among which `search` looks for them.

    Returns the pairs' rows, and their masses.
    """
    others = search(before.rows, min(settings.candidates, len(after.rows)))
    rows, others = np.repeat(np.arange(len(others)), others.shape[1]), others.ravel()
    pairs = pairs_of(before.rows, after.rows, rows, others, mean_units(before, after))
    return rows, others, transport(pairs, settings.epsilon, reach)


def sums(rows: Ends, mass: Masses, points: int) -> Float[np.ndarray, "points"]:
    """Returns the mass of each row."""
    return np.bincount(rows, mass, points).astype(float)  # whole numbers of no pairs


def most(rows: Ends, mass: Masses, points: int) -> Float[np.ndarray, "points"]:
    """Returns the mass of each row's heaviest pair."""
    heaviest = np.zeros(points)
    np.maximum.at(heaviest, rows, mass)
    return heaviest
