"""Anchors: rows of slices far apart that are each other's nearest in the data.

Mates hold a map to the maps beside it.  Where members change in one direction while
the population stays, the frame follows the members: each map lies right beside the
next, and the last one far from the first.  So there are anchors, rows of slices 1, 3,
10, 30, ... apart that are each other's nearest.  Those of slices at least 10 apart,
and of consecutive slices without any mates, pull like mates, with the strength

    s = .06 exp(-|x_i - x_i'|^2 / (r_i r_i')),

where r is a row's distance to the farthest of its neighbors in its own slice.  All of
them hold the frame of the finished maps (`layout/finish.py`).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from aljax.errors import warn
from aljax.graph.fuzzy import FuzzyGraph
from aljax.relations.mates import Mates, Relations, by_row, linked
from aljax.relations.strengths import check_comparable, lengths, reaches

STRENGTH = 0.06
NEAR, FAR, GROWTH = (1, 3), 10, 3  # slices apart: 1, 3, then 10, 30, 90, ...
LANDMARKS = 512  # rows of a slice among which anchors are sought
SAMPLE = 256  # mates of a pair of slices that say if columns can be compared
PAIRS = 32  # of consecutive slices, that are looked at
CLOSER = 0.7  # share of mates nearer than chance, where they can be

Data = Sequence[np.ndarray | None]


def lags(count: int) -> list[int]:
    """Returns how many slices apart a sequence of `count` slices has anchors."""
    far = [FAR * GROWTH**k for k in range(count.bit_length())]
    return [lag for lag in (*NEAR, *far) if lag < count]


def far_lags(count: int) -> list[int]:
    """Returns the lags of a sequence of `count` slices at which anchors pull."""
    return [lag for lag in lags(count) if lag >= FAR]


def hold(
    relations: Relations,
    data: Data,
    graphs: Sequence[FuzzyGraph],
    *,
    frame: str,
    among: Iterable[int] | None = None,
) -> Relations:
    """Returns the anchors of a sequence, keyed as mates are.

    Args:
        relations: The mates.
        data: The slices' dense data, None where a slice has none.
        graphs: The slices' graphs.
        frame: "population" for anchors, "mates" for none, "auto" for anchors where
            mates are nearer to each other in the data than chance would have it.
        among: Later slices of the pairs to hold; None for all.

    Raises:
        InputError: `frame` is "population", and slices have other columns.
    """
    if frame == "population":
        check_comparable(data, "frame", "is 'population'", "Set it to 'auto'")
    sizes = [graph.neighbors.shape[1] for graph in graphs]
    pairs = _pairs(relations, data, sizes, frame, among)
    marks = {
        t: landmarks(np.asarray(data[t]), graphs[t])
        for t in sorted({t for s, lag in pairs for t in (s, s + lag)})
    }
    with threadpool_limits(1):  # the same bits on any number of threads
        return {(t, lag): anchors(marks[t], marks[t + lag]) for t, lag in pairs}


def foreseen(
    relations: Relations, data: Data, sizes: Sequence[int], *, frame: str
) -> Relations:
    """Returns the mates that will pull, with strengths of 1, before there are graphs.

    Of the anchors of two slices, which follow from graphs, one row stands for all.
    Takes the arguments of `hold`, and the slices' `sizes`.
    """
    held = {
        pair: Mates(np.zeros(1, int), np.zeros(1, int), np.ones(1))
        for pair in _pairs(relations, data, sizes, frame)
    }
    alike = {
        pair: mates._replace(strengths=np.ones(mates.rows.size))
        for pair, mates in relations.items()
    }
    return linked(with_anchors(alike, held))


def _pairs(
    relations: Relations,
    data: Data,
    sizes: Sequence[int],
    frame: str,
    among: Iterable[int] | None = None,
) -> list[tuple[int, int]]:
    """Returns (earlier slice, lag) of the pairs that have anchors, if there are any."""
    pairs = [
        (s, lag)
        for s, lag in pairs_to_hold(len(data), among)
        if sizes[s] and sizes[s + lag]
    ]
    if not pairs or frame == "mates":
        return []
    if frame == "auto" and not agree([*map(width, data)], nearer(data, relations)):
        return []
    return pairs


def pairs_to_hold(
    count: int, among: Iterable[int] | None = None
) -> list[tuple[int, int]]:
    """Returns (earlier slice, lag) of the pairs of `count` slices that have anchors."""
    later = range(count) if among is None else among
    return [(t - lag, lag) for t in later for lag in lags(count) if lag <= t]


def warn_alone(
    relations: Relations, held: Relations, names: Sequence[str], *, first: int = 1
) -> None:
    """Warns once of slices, from `first` on, that no mates link to those before.

    Args:
        relations: The mates.
        held: The anchors.
        names: What the slices are called, "" for those without rows.
        first: The first slice that is asked about.
    """
    from scipy.sparse.csgraph import connected_components  # a tenth of the import

    first = max(first, 1 + next((t for t, name in enumerate(names) if name), 0))
    links = np.array([(t, t + lag) for t, lag in linked(relations)], int).reshape(-1, 2)
    shape = (len(names), len(names))
    graph = csr_array((np.ones(len(links)), tuple(links.T)), shape)
    parts = connected_components(graph, directed=False)[1].tolist()
    alone = [
        t for t in range(first, len(names)) if names[t] and parts[t] not in parts[:t]
    ]
    if not alone:
        return
    more = len(alone) - 1
    several = f" (and {more} other slice{'s' * (more > 1)})" if more else ""
    message = f"{names[alone[0]]} has no mates in the slices before it{several}: "
    if all((t - 1, 1) in held for t in alone):
        warn(message + "rows that are nearest in the data hold the maps together.")
    else:
        remedy = "Give ids that recur, or all slices the same columns"
        warn(f"{message}nothing holds the maps together. {remedy}.")


def with_anchors(relations: Relations, held: Relations) -> Relations:
    """Returns the mates, and the anchors that pull as they do.

    Those are anchors of slices far apart, or of consecutive ones without mates; pairs
    that are both count as mates.
    """
    joined = dict(relations)
    for (t, lag), new in held.items():
        mates = relations.get((t, lag))
        if mates is None or not mates.rows.size:
            if lag >= FAR or lag == 1:
                joined[t, lag] = new
        elif lag >= FAR:
            # Of pairs that are both the first is kept, which is that of the mates.
            both = np.concatenate([mates[:2], new[:2]], axis=1)
            (rows, others), kept = np.unique(both, axis=1, return_index=True)
            strengths = np.concatenate([mates.strengths, new.strengths])[kept]
            joined[t, lag] = Mates(rows, others, strengths)
    return joined


def width(rows: np.ndarray | None) -> int:
    """Returns how many columns a slice has; 0 where it has no dense data."""
    return 0 if rows is None else rows.shape[1]


def nearer(data: Data, relations: Relations) -> list[float]:
    """Returns how often mates of consecutive slices are nearer than mates of others.

    One share for each of some pairs of slices: .5 is chance.
    """
    pairs = [(t, m) for (t, o), m in relations.items() if o == 1 and m.rows.size > 1]
    shares = []
    for t, mates in pairs[:: 1 + len(pairs) // PAIRS]:
        before, after = data[t], data[t + 1]
        if before is None or after is None or width(before) != width(after):
            continue
        rows, others = compared(mates)
        near = lengths(before, after, rows, others)
        far = lengths(before, after, rows, np.roll(others, len(others) // 2))
        shares.append(float(np.mean(near < far) + np.mean(near == far) / 2))
    return shares


def compared(
    mates: Mates | None,
) -> tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]]:
    """Returns the pairs of rows that `nearer` compares, at most 256 of two slices."""
    if mates is None or mates.rows.size < 2:
        return np.zeros(0, int), np.zeros(0, int)
    step = -(-mates.rows.size // SAMPLE)
    return mates.rows[::step], mates.others[::step]


def agree(widths: Sequence[int], shares: Sequence[float]) -> bool:
    """Tells if rows of different slices can be compared in the data.

    Args:
        widths: Columns of each slice, 0 where it has no dense data.
        shares: Of mates, as `nearer` has them; none where there are no mates.
    """
    comparable = len({*widths}) == 1 and widths[0] > 0
    return comparable and (not len(shares) or float(np.mean(shares)) >= CLOSER)


class Landmarks(NamedTuple):
    """Rows that stand for a slice, and how far the farthest neighbor of each lies.

    Each stands for `share` rows of the slice.
    """

    rows: Int[np.ndarray, "_"]
    data: Float[np.ndarray, "_ features"]
    reach: Float[np.ndarray, "_"]
    share: float


def landmarks(data: np.ndarray, graph: FuzzyGraph) -> Landmarks:
    """Draws a slice's landmarks: all of its rows, if they are not too many."""
    size, count = len(data), min(len(data), LANDMARKS)
    rows = np.sort(np.random.default_rng(size).choice(size, count, replace=False))
    reach = reaches(data, graph, rows)
    return Landmarks(rows, data[rows].astype(float), reach, size / max(1, count))


def anchors(earlier: Landmarks, later: Landmarks) -> Mates:
    """Returns landmarks of two slices that are each other's nearest."""
    center = earlier.data.mean(axis=0)
    centered, centered_later = earlier.data - center, later.data - center
    squared = centered @ (-2 * centered_later).T
    squared += (centered**2).sum(axis=1)[:, None]
    squared += (centered_later**2).sum(axis=1)
    nearest = squared.argmin(axis=1)
    nearest_back = np.ascontiguousarray(squared.T).argmin(axis=1)  # along rows: faster
    mutual = np.flatnonzero(nearest_back[nearest] == np.arange(len(centered)))
    others = nearest[mutual]
    apart = ((centered[mutual] - centered_later[others]) ** 2).sum(axis=1)
    scale = earlier.reach[mutual] * later.reach[others]
    with np.errstate(over="ignore"):  # of rows whose neighbors coincide with them
        near = np.exp(-apart / np.maximum(scale, np.finfo(float).tiny))
    strengths = STRENGTH * near * max(earlier.share, later.share)
    pairs = np.column_stack([earlier.rows[mutual], later.rows[others]])
    return by_row(pairs, np.minimum(strengths, 1.0))
