"""Rows without an edge: nothing draws them, so the layout drives them far away.

When it is finished they are put where a row of a new slice would start: at their
mates, at their neighbors if a faint edge leads there, or else beside the map.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from aljax.errors import warn
from aljax.graph.fuzzy import FuzzyGraph
from aljax.layout.initialize import from_mates, put_at_mates
from aljax.relations.mates import Relations

FAINT = 1e-3  # of the mean degree, below which a row's edges do not hold it

Maps = Sequence[Float[np.ndarray, "_ components"]]


def isolated(graph: FuzzyGraph) -> Bool[np.ndarray, "_"]:
    """Returns which rows of a graph no edge holds."""
    degrees = np.asarray(graph.degrees)
    return degrees <= FAINT * degrees.mean() if degrees.size else degrees > 0


def warn_isolated(graphs: Sequence[FuzzyGraph], names: Sequence[str]) -> None:
    """Warns once of rows that no edge holds; `names` are those of the slices."""
    counts = [int(isolated(graph).sum()) for graph in graphs]
    touched = [name for name, count in zip(names, counts, strict=True) if count]
    if touched:
        others = "another slice" if len(touched) == 2 else f"{len(touched) - 1} others"
        more = f" and {others}" if len(touched) > 1 else ""
        noun, verb = ("rows", "are") if sum(counts) > 1 else ("row", "is")
        warn(
            f"{sum(counts)} {noun} of {touched[0]}{more} {verb} without an edge to "
            f"others, and {verb} put at mates, or else beside the map."
        )


def gather_isolated(
    maps: Maps,
    graphs: Sequence[FuzzyGraph],
    relations: Relations,
    stay: Sequence[np.ndarray | None],
) -> list[Float[np.ndarray, "_ components"]]:
    """Returns the maps with rows that no edge holds at their mates, or beside.

    Args:
        maps: One map for each slice.
        graphs: The slices' graphs.
        relations: The mates.
        stay: For each slice the rows that stay where they are, None for none.
    """

    def fill(t: int, placed: Maps, frame: np.ndarray) -> np.ndarray:
        return filled(t, graphs[t], placed, relations, frame)

    return gather_lost(maps, lost_rows(graphs, stay), relations, fill)


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
