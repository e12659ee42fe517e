"""Two slices in; how much of each row is which row of the other out.

Whether a row comes again is told by a null: the mass that rows find in their own slice,
each without itself, in units that are measured without the pair.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from aljax.graph.knn import on_device
from aljax.relations.directions import telling
from aljax.relations.drift import Move, find_move, moved
from aljax.relations.sides import (
    SAMPLE,
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
    transport,
)
from aljax.relations.transport import Candidates

STRICT = 0.1  # the reach that tells who is missing
LEAST = 1e-30  # mass below which a pair is dropped


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
        into: What takes rows into the space where the pairs that pull were found: see
            `aljax.relations.directions`; None for their own.
        candidates: The pairs that could have mass, as `transport_plan` takes them.
    """

    rows: Int[np.ndarray, "pairs"]
    others: Int[np.ndarray, "pairs"]
    mass: Float[np.ndarray, "pairs"]
    strict: tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points_after"]]
    null: Float[np.ndarray, "nulls"]
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
    nulls = [_null(side, settings.epsilon) for side in (before, after)]
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
        null=np.sort(np.concatenate(nulls)),
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
    rows: Int[np.ndarray, "pairs"],
    others: Int[np.ndarray, "pairs"],
    mass: Float[np.ndarray, "pairs"],
    sure: Int[np.ndarray, "known 2"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pairs and their masses, with those that are `sure`."""
    known = *sure.T.astype(rows.dtype), np.ones(len(sure), mass.dtype)
    columns = zip((rows, others, mass), known, strict=True)
    first, second, third = (np.append(*column) for column in columns)
    return first, second, third


def _null(side: Side, epsilon: float) -> Float[np.ndarray, "nulls"]:
    """Returns the mass of each row's heaviest pair with another one of its slice.

    All of a row's mass would be no null: beside the pair its unit is that of the pair.
    """
    points = len(side.rows)
    if side.near.shape[1] < 2:  # without a pair's own distance there is no unit
        return np.zeros(0)
    rows, others = both_ways(side.near, side.near)
    rows, others = rows[rows != others], others[rows != others]

    def without(row: np.ndarray, other: np.ndarray) -> np.ndarray:
        nearest, second = side.squared[row].T
        return np.where(side.near[row, 0] == other, second, nearest)

    def units(row: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (without(row, other) + without(other, row)) / 2

    pairs = pairs_of(side.rows, side.rows, rows, others, units, 2 * side.near.size)
    rows, others = pairs.unpadded  # the copies on the host are let go
    mass = transport(pairs, epsilon, STRICT)
    return most(rows, mass, points)


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
    mass = np.concatenate(plan.strict)
    if not mass.size or not plan.null.size:
        return float("nan")
    below, upto = (np.searchsorted(plan.null, mass, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(plan.null))
