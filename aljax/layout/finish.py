"""The finish of a layout: rows without an edge find a place, and maps their frame.

Nothing draws rows without an edge, so the layout drives them far away.  They are put
where a row of a new slice would start: at their mates, at their neighbors if a faint
edge leads there, or else beside the map.

Mates hold a map to the maps beside it, and anchors (`relations/anchors.py`) to those
that lie far apart.  When the layout is finished, each map in turn is shifted and
turned as a whole, by the rigid motion g that minimizes sum s |g(y_i) - z_i'|^2 over
its anchors in the maps before (orthogonal Procrustes: Schönemann 1966, Psychometrika
31).  That changes nothing within a map.

With `motion_fidelity` the layout holds mates as far apart as the data say, so their
lengths l are to stay, too: g minimizes that sum and, over mates in maps before,

    sum s (|g(y_i) - z_i'| - l_i)^2,

by majorization as in SMACOF (de Leeuw 1977), a Procrustes problem at each step.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from aljax.config import AlignmentConfig, LayoutConfig
from aljax.errors import InputError, warn
from aljax.graph.fuzzy import FuzzyGraph
from aljax.layout.initialize import from_mates, put_at_mates, turn_onto
from aljax.relations.anchors import FAR, LANDMARKS
from aljax.relations.mates import Mates, Relations

FAINT = 1e-3  # of the mean degree, below which a row's edges do not hold it
NOTHING = 1e-12  # a strength that says nothing
TURNS = 30  # most steps of a map on its way to its frame
STILL = 1e-4  # of a map's spread: the least step that is followed by another

Maps = Sequence[Float[np.ndarray, "_ components"]]


def frame_of(layout: LayoutConfig, alignment: AlignmentConfig) -> str:
    """Returns what holds maps far apart: mates alone where maps cannot be turned.

    Raises:
        InputError: Settings ask for more in a space that is not Euclidean.
    """
    if alignment.frame == "population" and not layout.euclidean:
        got = f"is 'population' beside `output_metric={layout.output_metric!r}`"
        raise InputError("frame", got, "'auto' or 'mates'")
    return alignment.frame if layout.euclidean else "mates"


def isolated(graph: FuzzyGraph) -> Bool[np.ndarray, "_"]:
    """Returns which rows of a graph no edge holds."""
    degrees = np.asarray(graph.degrees)
    return degrees <= FAINT * degrees.mean() if degrees.size else degrees > 0


def warn_isolated(graphs: Sequence[FuzzyGraph], names: Sequence[str]) -> None:
    """Warns once of rows that no edge holds; `names` are those of the slices."""
    counts = [int(isolated(graph).sum()) for graph in graphs]
    touched = [name for name, count in zip(names, counts, strict=True) if count]
    if touched:
        where = f"of {touched[0]}"
        if len(touched) > 1:
            where = f"in {len(touched)} slices, such as {touched[0]},"
        noun, verb = ("rows", "are") if sum(counts) > 1 else ("row", "is")
        warn(
            f"{sum(counts)} {noun} {where} {verb} without an edge to "
            f"others, and {verb} put at mates, or else beside the map."
        )


def finish(
    maps: Maps,
    held: Relations,
    graphs: Sequence[FuzzyGraph],
    relations: Relations,
    alignment: AlignmentConfig,
    *,
    stay: Sequence[np.ndarray | None],
    weights: Sequence[np.ndarray | None],
) -> list[Float[np.ndarray, "_ components"]]:
    """Returns the maps of a layout in one frame, rows without an edge at their mates.

    Args:
        maps: One map for each slice.
        held: The anchors.
        graphs: The slices' graphs.
        relations: The mates.
        alignment: The settings of the alignment.
        stay: For each slice the rows that stay where they are, None for none.
        weights: For each slice how much its rows count; None for all alike.
    """

    def fill(t: int, placed: Maps, frame: np.ndarray) -> np.ndarray:
        return filled(t, graphs[t], placed, relations, frame)

    lost = lost_rows(graphs, stay)
    maps = gather_lost(maps, lost, relations, fill)
    fixed = {t for t, rows in enumerate(stay) if np.any(rows)}
    firm = firm_of(relations, alignment)
    maps = settle(maps, held, firm, fixed=fixed, weights=weights)
    return gather_lost(maps, lost, relations, fill)


def lost_rows(
    graphs: Sequence[FuzzyGraph], stay: Sequence[np.ndarray | None]
) -> list[Bool[np.ndarray, "_"]]:
    """Returns for each slice the rows that no edge holds, nor `stay`."""
    return [
        isolated(graph) & (True if kept is None else ~kept)
        for graph, kept in zip(graphs, stay, strict=True)
    ]


def filled(
    t: int, graph: FuzzyGraph, placed: Maps, relations: Relations, frame: np.ndarray
) -> Float[np.ndarray, "_ components"]:
    """Returns the map of slice t, whose rows that are NaN are placed by its graph."""
    return from_mates(
        t,
        graph.to_sparse(),
        placed,
        relations,
        n_components=frame.shape[1],
        seed=t,
        start=placed[t],
        frame=frame,
    )


def gather_lost(
    maps: Maps,
    lost: Sequence[Bool[np.ndarray, "_"]],
    relations: Relations,
    fill: Callable[[int, Maps, np.ndarray], np.ndarray],
) -> list[Float[np.ndarray, "_ components"]]:
    """Returns the maps with their lost rows at mates, or where `fill` puts them.

    Args:
        maps: One map for each slice.
        lost: For each slice the rows to place anew.
        relations: The mates.
        fill: As `filled`, of a slice, all maps, and the map beside which rows go.
    """
    touched = [t for t, rows in enumerate(lost) if rows.any()]
    if not touched:
        return [*maps]
    placed = [
        np.where(rows[:, None], np.nan, y) for rows, y in zip(lost, maps, strict=True)
    ]
    for t in (*touched, *reversed(touched)):
        put_at_mates(placed[t], t, placed, relations)
    for t in touched:
        near = sorted(range(len(maps)), key=lambda s: abs(s - t))
        frames = [y[~np.isnan(y[:, 0])] for y in map(placed.__getitem__, near)]
        frame = next((y for y in frames if len(y)), None)
        if frame is None:
            return [*maps]
        placed[t] = fill(t, placed, frame)
    return [
        placed[t].astype(y.dtype) if rows.any() else y
        for t, (rows, y) in enumerate(zip(lost, maps, strict=True))
    ]


def firm_of(relations: Relations, alignment: AlignmentConfig) -> Relations:
    """Returns the mates who are to stay as far apart as the layout has put them.

    Those fewer than 10 slices apart, at most 512 of each two, which stand for all.
    """

    def some(mates: Mates) -> Mates:
        step = -(-mates.rows.size // LANDMARKS)
        rows, others = mates.rows[::step], mates.others[::step]
        return Mates(rows, others, step * mates.strengths[::step])

    if not alignment.motion_fidelity:
        return {}
    near = {(t, o): m for (t, o), m in relations.items() if o < FAR and m.rows.size}
    return {pair: some(mates) for pair, mates in near.items()}


def settle(
    maps: Maps,
    held: Relations,
    firm: Relations,
    *,
    fixed: Container[int] = (),
    weights: Sequence[np.ndarray | None] | None = None,
) -> list[Float[np.ndarray, "_ components"]]:
    """Returns the maps in one frame: each moved as a whole onto those before it.

    Args:
        maps: One map for each slice.
        held: The anchors.
        firm: Mates who stay as far apart as they are.
        fixed: Slices that stay where they are.
        weights: For each slice how much its rows count; None for all alike.
    """
    settled = [np.asarray(y) for y in maps]
    if not held:
        return settled
    # Each map has corners of its own, which tell how the map before has been moved.
    components = settled[0].shape[1]
    corners = np.eye(components + 1, components, -1)[: (components + 1) * bool(firm)]
    place = corners
    held_of, firm_of = _by_later(held), _by_later(firm)
    for t, y in enumerate(maps):
        if t in fixed:
            place = corners
        elif len(y):
            near = _pulls(t, held_of[t], settled, weights)
            kept = _pulls(t, firm_of[t], settled, weights, maps)
            moved = np.concatenate([np.asarray(y, float), corners])
            if len(kept.rows):  # along with the map before
                moved = turn_onto(moved, corners, place)
            if np.count_nonzero(near.strengths > NOTHING) > components:
                moved = _turned(moved, near, kept)
            settled[t], place = moved[: len(y)].astype(y.dtype), moved[len(y) :]
    return settled


class Pulls(NamedTuple):
    """Rows of a map, places in earlier maps, and how far from these they belong."""

    rows: Int[np.ndarray, "_"]
    places: Float[np.ndarray, "_ components"]
    apart: Float[np.ndarray, "_"]
    strengths: Float[np.ndarray, "_"]


def _by_later(relations: Relations) -> dict[int, Relations]:
    """Returns the pairs of each slice with earlier ones."""
    of_slice: dict[int, Relations] = defaultdict(dict)
    for (s, lag), pairs in relations.items():
        of_slice[s + lag][s, lag] = pairs
    return of_slice


def _pulls(
    t: int,
    relations: Relations,
    settled: Sequence[np.ndarray],
    weights: Sequence[np.ndarray | None] | None,
    maps: Sequence[np.ndarray] | None = None,
) -> Pulls:
    """Returns what pulls at slice t: to places, or to its distances in `maps`.

    `relations` are those of the slice with earlier ones.
    """
    pulls = [
        Pulls(np.zeros(0, int), np.zeros((0, settled[t].shape[1])), *np.zeros((2, 0)))
    ]
    for (s, _), pairs in relations.items():
        rows, others = pairs.others, pairs.rows
        apart, strengths = np.zeros(len(rows)), _weighted(pairs, t, s, weights)
        if maps is not None:
            apart = np.linalg.norm(maps[t][rows] - maps[s][others], axis=1)
        pulls.append(Pulls(rows, settled[s][others], apart, strengths))
    return _joined(*pulls)


def _joined(*pulls: Pulls) -> Pulls:
    return Pulls(*map(np.concatenate, zip(*pulls, strict=True)))


def _turned(
    y: Float[np.ndarray, "_ components"], near: Pulls, kept: Pulls
) -> Float[np.ndarray, "_ components"]:
    """Returns a map moved as a whole: rows come near places, or keep their distance."""
    rows, places, apart, strengths = _joined(near, kept)
    least = STILL * y.std()
    for _ in range(TURNS if len(kept.rows) else 1):
        moves = y[rows] - places
        length = np.maximum(np.linalg.norm(moves, axis=1), NOTHING)
        targets = places + moves * (apart / length)[:, None]
        y, before = turn_onto(y, y[rows], targets, strengths), y
        if np.abs(y[rows] - before[rows]).max() <= least:
            break
    return y


def _weighted(
    mates: Mates, t: int, s: int, weights: Sequence[np.ndarray | None] | None
) -> Float[np.ndarray, "_"]:
    """Returns the strengths of pairs of slice t in s, by the weights of both rows."""
    if weights is None:
        return mates.strengths
    ends = (weights[t], mates.others), (weights[s], mates.rows)
    total = sum(1.0 if counts is None else counts[rows] for counts, rows in ends)
    return mates.strengths * total / 2
