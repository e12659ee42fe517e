"""Two slices in; how much of each row is which row of the other out.

Whether a row comes again is told by a null: the mass that rows of the larger slice find
in it, each without itself, in units that are measured without the pair.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from aljax.graph.knn import on_device
from aljax.relations.drift import Move, find_move, moved, telling
from aljax.relations.sides import (
    SAMPLE,
    Ends,
    Masses,
    Pairs,
    Settings,
    Side,
    both_ways,
    couple_nearest,
    mean_units,
    most,
    pairs_of,
    part_of,
    search_of,
    seen,
    side_of,
    transport,
)
from aljax.relations.transport import Candidates

STRICT = 0.1  # the reach that tells who is missing
LEAST = 1e-30  # mass below which a pair is dropped
MOST_GROUPS = 20  # of rows that stand for a smaller slice


class Plan(NamedTuple):
    """The coupling of two slices.

    Attributes:
        rows: Rows of the earlier slice, in their order.
        others: For each a row of the later slice.
        mass: How much of the two is the same (at least 0, near 1 for a sure mate).
        strict: For the rows of both slices the mass of the heaviest pair within a
            short reach, which tells if they come again.
        null: The same of strangers, for the rows of both slices, in ascending order.
        scale: How much wider all rows lie apart in the later slice.
        shift: How far the center of all rows moves (units of the data).
        into: What takes rows into the space where the pairs that pull were found: see
            `aljax.relations.drift`; None for their own.
        candidates: The pairs that could have mass, as `transport_plan` takes them.
    """

    rows: Ends
    others: Ends
    mass: Masses
    strict: tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points_after"]]
    null: tuple[Float[np.ndarray, "nulls"], Float[np.ndarray, "nulls_after"]]
    scale: float
    shift: Float[np.ndarray, "features"]
    into: Float[np.ndarray, "features directions"] | None
    candidates: Candidates


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
    nulls = _nulls(before, after, settings.epsilon)
    sizes = len(before.rows), len(after.rows)
    move = Move(1.0, np.zeros(before.rows.shape[1], before.rows.dtype))
    if settings.drift and all(sizes):
        move = find_move(before, after, settings, rng)
        before = moved(before, move, before.rows.mean(axis=0))
    pairs = _candidates(before, after, settings.candidates, sure)
    rows, others = pairs.unpadded
    mass = transport(pairs, settings.epsilon, STRICT)
    strict = most(rows, mass, sizes[0]), most(others, mass, sizes[1])
    for masses, known in zip(strict, sure.T, strict=True):
        masses[known] = 1.0
    into = None
    if settings.drift:
        likely = _with_sure(rows, others, mass, sure)
        into = telling(before.rows, after.rows, *likely, rng)
    if into is not None:
        del pairs, rows, others, mass  # each takes memory
        if not len(sure):
            into = _directions_again(before, after, into, settings, rng)
        before, after = seen(before, into), seen(after, into)
        pairs = _candidates(before, after, settings.candidates, sure)
        rows, others = pairs.unpadded
    nearest = [side.near[:, 0] if side.near.size else [] for side in (before, after)]
    del before, after
    mass = transport(pairs, settings.epsilon, settings.reach)
    del pairs
    of_pairs = (rows, others, *nearest)
    kept = mass > LEAST
    table = _with_sure(rows[kept], others[kept], mass[kept], sure)
    order = np.lexsort(table[1::-1])
    return Plan(
        *(column[order] for column in table),
        strict=strict,
        null=nulls,
        scale=move.scale,
        shift=move.shift * unit,
        into=into,
        candidates=Candidates(*(on_device(part, np.int32) for part in of_pairs)),
    )


def _directions_again(
    before: Side,
    after: Side,
    into: Float[np.ndarray, "features directions"],
    settings: Settings,
    rng: np.random.Generator,
) -> Float[np.ndarray, "features directions_again"]:
    """Returns what takes rows into such a space, found from mates in an earlier one."""
    chosen = np.sort(rng.permutation(len(before.rows))[:SAMPLE])
    sample, there = part_of(seen(before, into), chosen), seen(after, into)
    table = couple_nearest(sample, there, search_of(there.rows), settings, STRICT)
    again = telling(before.rows[chosen], after.rows, *table, rng)
    return into if again is None else again


def _candidates(
    before: Side, after: Side, count: int, sure: Int[np.ndarray, "known 2"]
) -> Pairs:
    """Returns the pairs of rows that are near, without those that are `sure`."""
    rows = others = np.zeros(0, np.int32)
    most_pairs = 0
    if len(before.rows) and len(after.rows):
        forth, back = (
            search_of(there.rows)(here.rows, min(count, len(there.rows)))
            for here, there in ((before, after), (after, before))
        )
        rows, others = both_ways(forth, back)
        most_pairs = forth.size + back.size
    if len(sure):
        free = ~(np.isin(rows, sure[:, 0]) | np.isin(others, sure[:, 1]))
        rows, others = rows[free], others[free]
    units = mean_units(before, after)
    return pairs_of(before.rows, after.rows, rows, others, units, most_pairs)


def _with_sure(
    rows: Ends, others: Ends, mass: Masses, sure: Int[np.ndarray, "known 2"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pairs and their masses, with those that are `sure`."""
    known = *sure.T.astype(rows.dtype), np.ones(len(sure), mass.dtype)
    columns = zip((rows, others, mass), known, strict=True)
    first, second, third = (np.append(*column) for column in columns)
    return first, second, third


def _nulls(
    before: Side, after: Side, epsilon: float
) -> tuple[Float[np.ndarray, "nulls"], Float[np.ndarray, "nulls_after"]]:
    """Returns the masses that strangers find, ascending, for the rows of each slice.

    The strangers are rows of the larger slice: as many as the smaller one has are
    coupled to all.  A few rows find more among many than these find among the few.
    """
    sizes = [len(side.rows) for side in (before, after)]
    larger = [side for side in (before, after) if len(side.rows) == max(sizes)]
    masses = [_null(side, min(sizes), epsilon) for side in larger]
    few, many = (np.sort(np.concatenate(parts)) for parts in zip(*masses, strict=True))
    return (few, many) if sizes[0] <= sizes[1] else (many, few)


def _null(side: Side, few: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mass of each row's heaviest pair, of groups of rows coupled to all.

    Each is coupled without itself: of `few` rows those in a group, and all rows beside
    each group.  All of a row's mass would be no null: beside the pair its unit is that
    of the pair.
    """
    points = len(side.rows)
    if side.near.shape[1] < 2:  # without a pair's own distance there is no unit
        return np.zeros(0), np.zeros(0)
    count = min(points // max(few, 1), MOST_GROUPS)
    order = np.random.default_rng(points).permutation(points)[: count * few]
    group, nearest = np.full((2, points), -1)
    squared = np.empty((points, 2))
    for number, chosen in enumerate(np.sort(order.reshape(count, few))):
        own = side if few == points else side_of(side.rows[chosen], side.near.shape[1])
        if own.near.shape[1] < 2:
            return np.zeros(0), np.zeros(0)
        group[chosen], nearest[chosen] = number, chosen[own.near[:, 0]]
        squared[chosen] = own.squared
    grouped = Side(side.rows, nearest[:, None], squared)
    rows, others = both_ways(side.near, side.near)
    kept = (rows != others) & (group[rows] >= 0)
    rows, others = rows[kept], others[kept]

    def without(side: Side, row: np.ndarray, other: np.ndarray) -> np.ndarray:
        nearest, second = side.squared[row].T
        return np.where(side.near[row, 0] == other, second, nearest)

    def units(row: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (without(grouped, row, other) + without(side, other, row)) / 2

    pairs = pairs_of(side.rows, side.rows, rows, others, units, 2 * side.near.size)
    rows, others = pairs.unpadded  # the copies on the host are let go
    others = group[rows] * points + others  # all rows once for each group
    mass = transport(pairs.with_others(others, count * points), epsilon, STRICT)
    return most(rows, mass, points)[group >= 0], most(others, mass, count * points)


def called(
    mass: Float[np.ndarray, "points"], null: Float[np.ndarray, "nulls"], q: float
) -> Bool[np.ndarray, "points"]:
    """Returns the rows whose mass is more than the null's, with errors controlled.

    The share of strangers is estimated from the rows that are more likely strangers
    than not: twice as many as these.
    """
    from scipy.stats import false_discovery_control

    if not mass.size:
        return np.zeros(0, bool)
    as_large = len(null) - np.searchsorted(null, mass, "left")
    p_values = (1 + as_large) / (1 + len(null))
    likely = p_values > 0.5
    strangers = min(1.0, 2 * (1 + likely.sum()) / len(mass))
    return ~likely & (strangers * false_discovery_control(p_values) <= q)


def exceeding(plan: Plan) -> float:
    """Returns how often a row has the larger mass, of pairs of a row and a null."""
    shares = []
    for mass, null in zip(plan.strict, plan.null, strict=True):
        if not null.size:
            return float("nan")
        ends = (np.searchsorted(null, mass, side) for side in ("left", "right"))
        shares.append(sum(ends) / 2 / len(null))
    return float(np.concatenate(shares).mean())
