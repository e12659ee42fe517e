"""Starting maps: graphs (and data) in, one rough map for each slice out.

The slices' starts are made one by one, then chained: each is turned, by the
rotation R that minimises sum |y_i R - z_i'|^2 over mates, onto the one before
(orthogonal Procrustes: Schönemann 1966, Psychometrika 31).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from aljax.layout.spectral import EXTENT, JITTER, Start, pca, spectral
from aljax.relations.mates import Relations

BESIDE = 0.2  # of the frame's extent: the gap, and the size of a group put beside it


def initial_maps(
    init: str | Sequence[Start | None],
    adjacency: Sequence[scipy.sparse.csr_matrix],
    data: Sequence[np.ndarray | None],
    relations: Relations,
    *,
    n_components: int,
    seed: int,
    before: Sequence[int] = (),
) -> list[Start]:
    """One starting map for each slice, chained along the mates.

    Args:
        init: "spectral", "pca", "random", or the user's own maps, which are taken
            as they are; None for a slice whose start is to be made from its mates.
        adjacency: Each slice's symmetric graph.
        data: Each slice's data; None where only a graph is known.
        relations: The mates, for the chain.
        n_components: Dimensions of the maps.
        seed: Seeds random starts and the jitter.
        before: Sizes of slices that come before these and are another process's:
            what they draw is drawn and thrown away.

    Raises:
        ValueError: "pca" without data, or maps of the wrong number or shape.
    """
    rng = np.random.default_rng(seed)
    if not isinstance(init, str):
        sizes = [matrix.shape[0] for matrix in adjacency]
        given = _check_given(init, sizes, n_components)
        return _complete(given, adjacency, relations, n_components, seed)
    for size in before:
        if init == "random":
            rng.uniform(size=(size, n_components))
        rng.normal(size=(size, n_components))
    maps: list[Start] = []
    with threadpool_limits(1):
        for t, matrix in enumerate(adjacency):
            if init == "random":
                start = rng.uniform(-EXTENT, EXTENT, (matrix.shape[0], n_components))
            elif init == "pca":
                start = _pca_of(data[t], t, n_components)
            else:
                start = spectral(matrix, n_components, data=data[t])
            start = start + rng.normal(scale=JITTER, size=start.shape)
            maps.append(_turn_onto(maps[-1], start, relations, t) if t else start)
    return maps


def _check_given(
    init: Sequence[Start | None], sizes: Sequence[int], n_components: int
) -> list[Start | None]:
    if len(init) != len(sizes):
        raise ValueError(
            f"`init` has {len(init)} maps for {len(sizes)} slices; give one array "
            "(points, components) for each slice, or None to start from its mates."
        )
    maps = [None if one is None else _read_map(one, t) for t, one in enumerate(init)]
    for t, (start, size) in enumerate(zip(maps, sizes, strict=True)):
        if start is None:
            continue
        if start.shape != (size, n_components) or not np.isfinite(start).all():
            raise ValueError(
                f"`init[{t}]` has shape {start.shape}"
                f"{'' if np.isfinite(start).all() else ' and values not finite'}; "
                f"expected finite positions of shape {(size, n_components)}."
            )
    return maps


def _read_map(one: Any, t: int) -> Start:
    try:
        return np.asarray(one, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`init[{t}]` is no array of numbers ({error}); expected positions "
            "(points, components), or None to start from its mates. A name, such as "
            "'pca', stands for all slices: `init='pca'`."
        ) from error


def _complete(
    given: Sequence[Start | None],
    adjacency: Sequence[scipy.sparse.csr_matrix],
    relations: Relations,
    n_components: int,
    seed: int,
) -> list[Start]:
    """The given maps, and those made from their mates, nearest to a given one first."""
    maps = list(given)
    known = [t for t, one in enumerate(given) if one is not None]

    def distance(t: int) -> int:
        return min((abs(t - other) for other in known), default=t)

    for t in sorted(set(range(len(maps))) - {*known}, key=distance):
        maps[t] = from_mates(
            t, adjacency[t], maps, relations, n_components=n_components, seed=seed
        )
    return [one for one in maps if one is not None]


def _pca_of(data: np.ndarray | None, t: int, n_components: int) -> Start:
    if data is None:
        raise ValueError(
            f"`init` is 'pca', but slice {t} has no dense data (it is a graph, "
            "neighbours, distances or sparse); give its data, or use another start."
        )
    return pca(data, n_components)


def _turn_onto(before: Start, start: Start, relations: Relations, t: int) -> Start:
    mates = relations.get((t - 1, 1))
    if mates is None or not mates.rows.size:
        return start
    return turn_onto(start, start[mates.others], before[mates.rows])


def turn_onto(
    positions: Float[np.ndarray, "points components"],
    here: Float[np.ndarray, "mates components"],
    there: Float[np.ndarray, "mates components"],
) -> Start:
    """Positions moved by the rotation and shift that best bring mates together.

    Args:
        positions: What is moved.
        here: The mates' positions among them.
        there: Where those should come to lie.
    """
    left, _, right = np.linalg.svd(
        (here - here.mean(axis=0)).T @ (there - there.mean(axis=0))
    )
    return (positions - here.mean(axis=0)) @ (left @ right) + there.mean(axis=0)


def from_mates(
    t: int,
    adjacency: scipy.sparse.csr_matrix,
    maps: Sequence[Start | None],
    relations: Relations,
    *,
    n_components: int,
    seed: int,
) -> Start:
    """A start for slice t from the maps that are there.

    Args:
        t: The slice.
        adjacency: Its symmetric graph.
        maps: A map for each slice, None where there is none yet.
        relations: The mates between the slices.
        n_components: Dimensions of the maps.
        seed: Seeds the jitter that parts rows with the same mate.

    Returns:
        Positions for all rows; the spectral start where no row has a mate.
    """
    start = _at_mates(t, adjacency.shape[0], maps, relations, n_components)
    _spread(start, adjacency)
    lost = np.isnan(start[:, 0])
    if lost.any():
        with threadpool_limits(1):
            beside = spectral(adjacency[lost][:, lost], n_components)
        start[lost] = beside if lost.all() else _beside(start[~lost], beside)
    rng = np.random.default_rng(seed)
    return start + rng.normal(scale=JITTER, size=start.shape)


def _at_mates(
    t: int,
    points: int,
    maps: Sequence[Start | None],
    relations: Relations,
    n_components: int,
) -> Start:
    """Each row at the mean of its mates in the nearest slice that has some, or NaN."""
    start = np.full((points, n_components), np.nan)
    for (earlier, offset), mates in sorted(
        relations.items(), key=lambda one: one[0][1]
    ):
        rows, others, there = mates.rows, mates.others, maps[earlier]
        if earlier + offset == t:
            rows, others = others, rows
        elif earlier == t:
            there = maps[t + offset]
        else:
            continue
        if there is None:
            continue
        new = np.isnan(start[rows, 0])
        total, count = np.zeros_like(start), np.zeros((points, 1))
        np.add.at(total, rows[new], there[others[new]])
        np.add.at(count, rows[new], 1)
        found = count[:, 0] > 0
        start[found] = total[found] / count[found]
    return start


def _spread(start: Start, adjacency: scipy.sparse.csr_matrix) -> None:
    """Fill rows from their placed neighbours, in place, until nothing is reached."""
    while True:
        placed = ~np.isnan(start[:, 0])
        weight = adjacency @ placed.astype(float)
        reached = ~placed & (weight > 0)
        if not reached.any():
            return
        known = np.where(placed[:, None], start, 0.0)
        start[reached] = (adjacency @ known)[reached] / weight[reached, None]


def _beside(frame: Start, group: Start) -> Start:
    """A group of points, made small and put to the right of a frame."""
    low, high = frame.min(axis=0), frame.max(axis=0)
    extent = float((high - low).max()) or 1.0
    centred = group - group.mean(axis=0)
    reach = float(np.abs(centred).max()) or 1.0
    centre = (low + high) / 2
    centre[0] = high[0] + BESIDE * extent
    return centre + centred / reach * BESIDE * extent / 2
