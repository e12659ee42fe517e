"""Starting maps: graphs (and data) in, one rough map for each slice out.

The slices' starts are made one by one, then chained: each is turned, by the
rotation R that minimizes sum |y_i R - z_i'|^2 over mates, onto the one before
(orthogonal Procrustes: Schönemann 1966, Psychometrika 31).
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float
from threadpoolctl import threadpool_limits

from aljax.config import LayoutConfig
from aljax.errors import InputError, warn
from aljax.graph.slices import Slice
from aljax.layout.spectral import EXTENT, JITTER, Start, pca, spectral, warm_lobpcg
from aljax.relations.mates import Relations

Starts = Sequence[Any] | None
BESIDE = 0.2  # of the frame's extent: the gap, and the size of a group put beside it


def initial_maps(
    init: str | Sequence[Start | None],
    adjacency: Iterable[scipy.sparse.csr_matrix],
    data: Sequence[np.ndarray | None],
    relations: Relations,
    *,
    n_components: int,
    seed: int,
    before: Sequence[int] = (),
) -> list[Start]:
    """Returns one starting map for each slice, chained along the mates.

    Args:
        init: "spectral", "tswspectral", "pca", "random", or the user's maps, which are
            taken as they are; None for a slice that starts from its mates.
        adjacency: Each slice's symmetric graph, taken one after the other.
        data: Each slice's data; None where only a graph is known.
        relations: The mates, for the chain.
        n_components: Dimensions of the maps.
        seed: Seeds random starts and the jitter.
        before: Sizes of another process's slices that come before these: their
            random numbers are drawn and thrown away.

    Raises:
        InputError: If "pca" has no data, or maps are of the wrong number or shape.
    """
    rng = np.random.default_rng(seed)
    if not isinstance(init, str):
        matrices = [*adjacency]
        sizes = [matrix.shape[0] for matrix in matrices]
        starts = read_starts(init, sizes, n_components)
        options: Any = {"n_components": n_components, "seed": seed}
        for t in unplaced(starts):
            starts[t] = from_mates(t, matrices[t], starts, relations, **options)
        return [start for start in starts if start is not None]
    for size in before:
        if init == "random":
            rng.uniform(size=(size, n_components))
        rng.normal(size=(size, n_components))
    maps: list[Start] = []
    with threadpool_limits(1):
        for t, matrix in enumerate(adjacency):
            if init == "random" or not matrix.shape[0]:
                start = rng.uniform(-EXTENT, EXTENT, (matrix.shape[0], n_components))
            elif init == "pca":
                if (dense := data[t]) is None:
                    got = f"is 'pca', but slice {t} is a graph, neighbors or sparse"
                    raise InputError("init", got, "dense data, or another start")
                start = pca(dense, n_components)
            else:
                solve = warm_lobpcg if init == "tswspectral" else None
                start = spectral(matrix, n_components, data=data[t], solve=solve)
            start = start + rng.normal(scale=JITTER, size=start.shape)
            maps.append(_turn_onto(maps[-1], start, relations, t) if t else start)
    return maps


def read_mask(
    mask: Any, name: str, held: Slice, t: int, *, start: Sequence[Any] | None
) -> Bool[np.ndarray, "_"]:
    """Returns which rows of a slice stay at their start, which has to be there."""
    mask = np.array(mask)  # a copy: it is kept
    if mask.shape != (held.rows,) or mask.dtype != bool:
        got = f"of {held.name} has shape {mask.shape} and dtype {mask.dtype}"
        expected = f"a mask of shape ({held.rows},), True where a row stays"
        raise InputError(name, got, expected)
    if mask.any() and (start is None or start[t] is None):
        got = f"holds {mask.sum()} rows of {held.name}, which has no `start`"
        remedy = "Give `start` as a list with an array (points, components) for it."
        raise InputError(name, got, "a slice with positions", remedy)
    return mask


def read_start(start: Starts, layout: LayoutConfig) -> tuple[LayoutConfig, Starts]:
    """Returns the settings without starting maps, and those maps, if there are any.

    They may still come in `layout.init`, as before version 0.2, with a warning.
    """
    if isinstance(layout.init, str):
        return layout, start
    message = "arrays in `LayoutConfig(init=...)` are deprecated; give them as "
    warn(message + "`fit(start=...)`.", DeprecationWarning)
    start = layout.init if start is None else start
    return dataclasses.replace(layout, init="spectral"), start


def read_starts(
    init: Sequence[Any], sizes: Sequence[int], n_components: int
) -> list[Start | None]:
    """Returns the user's starts: positions in double precision, or None.

    Raises:
        InputError: A map is of another shape, or not of finite numbers.
    """
    return [
        None if y is None else _read_map(y, f"start[{t}]", (size, n_components))
        for t, (y, size) in enumerate(zip(init, sizes, strict=True))
    ]


def _read_map(positions: Any, name: str, shape: tuple[int, int]) -> Start:
    try:
        start = np.asarray(positions, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(
            name,
            f"cannot be read as numbers ({error})",
            "positions (points, components), or None to start from its mates",
            "A name stands for all slices, such as `init='pca'`.",
        ) from error
    finite = np.isfinite(start).all()
    if start.shape != shape or not finite:
        got = f"has shape {start.shape}{'' if finite else ' and NaN or inf'}"
        raise InputError(name, got, f"finite positions of shape {shape}")
    return start


def unplaced(starts: Sequence[Start | None]) -> list[int]:
    """Returns the slices that have no map, those nearest to a given one first."""
    placed = {t for t, start in enumerate(starts) if start is not None}

    def distance(t: int) -> int:
        return min((abs(t - other) for other in placed), default=t)

    return sorted({*range(len(starts))} - placed, key=distance)


def _turn_onto(before: Start, start: Start, relations: Relations, t: int) -> Start:
    mates = relations.get((t - 1, 1))
    if mates is None or not mates.rows.size:
        return start
    return turn_onto(start, start[mates.others], before[mates.rows])


def turn_onto(
    positions: Float[np.ndarray, "points components"],
    mates: Float[np.ndarray, "mates components"],
    targets: Float[np.ndarray, "mates components"],
    weights: Float[np.ndarray, "mates"] | None = None,
) -> Start:
    """Returns positions moved by the rotation and shift that best join mates.

    Args:
        positions: The positions to move.
        mates: The mates' positions among them.
        targets: The positions that those should come to.
        weights: How much each pair of mates counts; None for all alike.
    """
    before, after = (np.average(x, axis=0, weights=weights) for x in (mates, targets))
    share = 1.0 if weights is None else weights[:, None]
    left, _, right = np.linalg.svd((share * (mates - before)).T @ (targets - after))
    return (positions - before) @ (left @ right) + after


def from_mates(
    t: int,
    adjacency: scipy.sparse.csr_matrix,
    maps: Sequence[Start | None],
    relations: Relations,
    *,
    n_components: int,
    seed: int,
    start: Start | None = None,
    frame: Start | None = None,
) -> Start:
    """Returns a start for slice t from the maps that are there.

    Args:
        t: The slice.
        adjacency: Its symmetric graph.
        maps: A map for each slice, None where there is none yet.
        relations: The mates between the slices.
        n_components: Dimensions of the maps.
        seed: Seeds the jitter that parts rows with the same mate.
        start: Positions of rows that have one, which stay; NaN for the others.
        frame: The map beside which all rows go where none has a mate.

    Returns:
        Positions for all rows; the spectral start where no row has a mate.
    """
    if start is None:
        start = np.full((adjacency.shape[0], n_components), np.nan)
    start, new = start.copy(), np.isnan(start[:, 0])
    put_at_mates(start, t, maps, relations)
    _spread(start, adjacency)
    lost = np.isnan(start[:, 0])
    if lost.any():
        with threadpool_limits(1):
            group = spectral(adjacency[lost][:, lost], n_components)
        around = frame if lost.all() else start[~lost]
        start[lost] = group if around is None else beside(around, group)
    rng = np.random.default_rng(seed)
    start[new] += rng.normal(scale=JITTER, size=(new.sum(), n_components))
    return start


def put_at_mates(
    start: Start, t: int, maps: Sequence[Start | None], relations: Relations
) -> None:
    """Puts rows at the mean of their mates in the nearest slice with some, in place."""
    for (earlier, offset), mates in sorted(relations.items(), key=lambda m: m[0][1]):
        rows, others, other_map = mates.rows, mates.others, maps[earlier]
        if earlier + offset == t:
            rows, others = others, rows
        elif earlier == t:
            other_map = maps[t + offset]
        else:
            continue
        if other_map is None:
            continue
        new = np.isnan(start[rows, 0]) & ~np.isnan(other_map[others, 0])
        total, count = np.zeros_like(start), np.zeros((len(start), 1))
        np.add.at(total, rows[new], other_map[others[new]])
        np.add.at(count, rows[new], 1)
        reached = count[:, 0] > 0
        start[reached] = total[reached] / count[reached]


def _spread(start: Start, adjacency: scipy.sparse.csr_matrix) -> None:
    """Fill rows from their placed neighbors, in place, until nothing is reached."""
    while True:
        placed = ~np.isnan(start[:, 0])
        weight = adjacency @ placed.astype(float)
        reached = ~placed & (weight > 0)
        if not reached.any():
            return
        positions = np.where(placed[:, None], start, 0.0)
        start[reached] = (adjacency @ positions)[reached] / weight[reached, None]


def beside(frame: Start, group: Start) -> Start:
    """Returns a group of points, made small and put to the right of a frame."""
    low, high = frame.min(axis=0), frame.max(axis=0)
    extent = float((high - low).max()) or 1.0
    centered = group - group.mean(axis=0)
    reach = float(np.abs(centered).max()) or 1.0
    center = (low + high) / 2
    center[0] = high[0] + BESIDE * extent
    return center + centered / reach * BESIDE * extent / 2
