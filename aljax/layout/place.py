"""Starts beside what is placed already: mates' positions in, a slice's start out.

Rows begin at their mates; rows without any at the weighted mean of their placed
neighbours in the graph, wave by wave; what no wave reaches beside the frame.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from aljax.graph.relations import Relations
from aljax.layout.spectral import JITTER, Start, spectral

BESIDE = 0.2  # of the frame's extent: the gap, and the size of a group put beside it


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
