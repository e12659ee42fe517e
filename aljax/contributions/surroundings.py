"""All that touches members on their paths, as `free_point` takes it, on the host.

A row may be a neighbor of a member if, at one of a few places of the member's path, it
is among the nearest 2k rows or has the member in its own list.  Mates pull by

    lambda sum_mates (d_i (2 + m) + d_i' (2 + m')) / 4 s (|y - z_i'| - kappa delta)^2
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.config import SYNONYMS
from aljax.contributions.free_point import TINY, WIDTH, Lists, Rivals, Rows
from aljax.embedding import AlignedEmbedding
from aljax.graph.conditioning import ANGLES, conditioning
from aljax.graph.fuzzy import smooth_knn_dist
from aljax.graph.knn import KNN, as_floats, capacity_for, on_device
from aljax.relations.mates import Mates
from aljax.relations.strengths import lengths, scales_of

LOOKS = np.linspace(0, 1, 9)  # places of a path that are looked at
BLOCK = 64  # members whose paths are compared with all rows at once
RIVALS = 512  # points that stand for all in the repulsion
MOST = 512  # rows that may be a member's neighbors
GRAIN = 64  # their capacities are multiples of it
FINE = 0.02  # of the mean distance in lists: what a path's steps tell apart
PAIRS = 8  # capacities of mates are multiples of it
bandwidths = jax.jit(smooth_knn_dist)


class Space(NamedTuple):
    """The rows of a slice and both ends of paths, as they are compared.

    Attributes:
        points: The slice's rows, centered and scaled, or of length 1.
        first, last: Rows at both ends of each path, scaled alike; of any length where
            angles are compared.
        unit: What rows of the data were divided by.
        angles: True where angles are compared.
    """

    points: Float[np.ndarray, "points columns"]
    first: Float[np.ndarray, "members columns"]
    last: Float[np.ndarray, "members columns"]
    unit: float
    angles: bool


class Own(NamedTuple):
    """The lists of a slice's rows: what makes memberships, and where they end.

    Where rows lie equally far, as counts do, lists have no width: both sigma and what
    makes the width are at least the slice's grain.
    """

    rho: Float[np.ndarray, "points"]
    sigma: Float[np.ndarray, "points"]
    reach: Float[np.ndarray, "points"]
    width: Float[np.ndarray, "points"]


def read_space(
    metric: Any, data: np.ndarray, first: np.ndarray, last: np.ndarray
) -> Space:
    """Returns a slice's rows and the ends of paths in units of each other."""
    metric = SYNONYMS.get(metric, metric)
    condition, unit = conditioning(data, metric)
    points, angles = condition(data, float), metric in ANGLES
    if not angles:
        first, last = condition(first, float), condition(last, float)
        return Space(points, first, last, unit, angles)
    if metric == "correlation":
        first, last = (x - x.mean(axis=1, keepdims=True) for x in (first, last))
    unit = float(np.linalg.norm(last, axis=1).mean()) or 1.0
    # Rows of length 1 have one more column: the direction of rows of zeros.
    first, last = (np.pad(x / unit, ((0, 0), (0, 1))) for x in (first, last))
    return Space(points, first, last, unit, angles)


def own_lists(space: Space, maps: AlignedEmbedding, t: int) -> tuple[Own, Lists]:
    """Returns the lists of a slice's rows, as far as the neighbors in its graph.

    Beside them are the settings of lists.
    """
    config = maps.frame(t).graph
    near = np.asarray(maps.graphs[t].neighbors)
    k, count = near.shape
    itself = np.arange(count)
    distances = lengths(space.points, space.points, np.tile(itself, k), near.ravel())
    distances = distances.reshape(k, count)
    distances = distances**2 / 2 if space.angles else distances
    absent = near == itself
    distances = np.sort(np.where(absent, 0.0, distances), axis=0)
    unit = float(distances.mean()) or 1.0
    grain = FINE * unit
    room = ((0, 0), (0, capacity_for(count) - count))
    # Absent neighbors count as the row itself; they stand first, at distance 0.
    shown = np.pad(~np.sort(~absent, axis=0), room, constant_values=True)
    places = np.where(shown, np.arange(shown.shape[1]), -1)
    sigma, rho = bandwidths(
        KNN(on_device(places.astype(np.int32)), as_floats(np.pad(distances, room))),
        local_connectivity=as_floats(config.local_connectivity),
        unit=as_floats(unit),
    )
    first = np.where(distances > 0, distances, np.inf).min(axis=0)
    spread = np.maximum(distances[-1] - first, grain)
    reach = distances[-1] + spread / (2 * max(k - 2, 1))
    rho, sigma = (np.asarray(leaf)[:count] for leaf in (rho, sigma))
    settings: Any = k, config.local_connectivity, config.set_op_mix_ratio, grain
    own = Own(rho, np.maximum(sigma, grain), reach, WIDTH * spread)
    return own, Lists(*map(as_floats, settings))


def near_paths(
    space: Space, lists: Own, places: np.ndarray, rows: np.ndarray, count: int
) -> tuple[Int[np.ndarray, "members near"], Rows]:
    """Returns the rows that are near each path, as many for each member.

    Args:
        space: The rows and the paths.
        lists: The lists of the slice's rows.
        places: Where the slice's rows lie in the map.
        rows: The members' own rows, which are not near.
        count: How many of the nearest are.
    """
    most = min(MOST, len(space.points))
    parts = []
    for start in range(0, len(rows), BLOCK):
        block = np.s_[start : start + BLOCK]
        block_space = space._replace(first=space.first[block], last=space.last[block])
        tables = [_table(x, space) for x in (block_space.first, block_space.last)]
        score = _score(tables, block_space, lists, count)
        score[np.arange(len(score)), rows[block]] = np.inf
        near = np.argpartition(score, most - 1, axis=1)[:, :most]
        order = np.take_along_axis(score, near, axis=1).argsort(axis=1)
        near = np.take_along_axis(near, order, axis=1)
        kept = [np.take_along_axis(a, near, axis=1) for a in (*tables, score)]
        parts.append((near, *kept))
    near, first, last, score = map(np.concatenate, zip(*parts, strict=True))
    present = score <= 1
    width = max(GRAIN, -(-int(present.sum(axis=1).max()) // GRAIN) * GRAIN)
    room = ((0, 0), (0, max(0, width - most)))
    near, first, last, present = (
        np.pad(a[:, :width], room) for a in (near, first, last, present)
    )
    around = places[near].transpose(0, 2, 1)
    leaves: Any = first, last, around, present, *(leaf[near] for leaf in lists)
    return near, Rows(*leaves)


def _table(x: np.ndarray, space: Space) -> np.ndarray:
    """Squared distances of ends of paths to all rows, or for angles products."""
    products = x @ space.points.T
    if space.angles:
        return products
    squares = (x**2).sum(axis=1)[:, None] + (space.points**2).sum(axis=1)
    return np.maximum(squares - 2 * products, 0)


def _score(
    tables: list[np.ndarray], space: Space, lists: Own, count: int
) -> Float[np.ndarray, "members points"]:
    """Scores each member and row: at most 1 if the row is near the path."""
    score = np.full_like(tables[0], np.inf)
    path = ((space.last - space.first) ** 2).sum(axis=1)[:, None]
    rank = min(count, len(space.points) - 1)
    for s in LOOKS:
        mixed = (1 - s) * tables[0] + s * tables[1]
        if space.angles:
            length = np.linalg.norm((1 - s) * space.first + s * space.last, axis=1)
            distances = 1 - mixed / np.maximum(length, TINY)[:, None]
        else:
            distances = np.sqrt(np.maximum(mixed - s * (1 - s) * path, 0))
        farthest = np.partition(distances, rank, axis=1)[:, rank, None]
        limit = np.maximum(np.maximum(farthest, lists.reach + lists.width), TINY)
        np.minimum(score, distances / limit, out=score)
    return score


def rivals_of(maps: AlignedEmbedding, t: int, places: np.ndarray) -> Rivals:
    """Returns a slice's points that repel, evenly spread, and padded."""
    count, params = len(places), maps.frame(t).params
    order = np.random.default_rng(count).permutation(count)[:RIVALS]
    room = (0, capacity_for(len(order)) - len(order))
    push = float(params.repulsion_strength * params.negative_sample_rate)
    push *= count / len(order) / (2 * max(count - 1, 1))
    rows = np.pad(order, room, constant_values=-1)
    return Rivals(
        as_floats(np.pad(places[order].T, ((0, 0), room))),
        on_device(rows.astype(np.int32)),
        as_floats(np.pad(np.asarray(maps.graphs[t].degrees)[order], room)),
        as_floats(np.where(rows < 0, 0.0, push)),
        params.a,
        params.b,
    )


class Pulls(NamedTuple):
    """The mates of members, with weight 0 where there is none.

    Attributes:
        places: Where they are, in the coordinates of the layout.
        pulls: How strongly each pulls by its own degree, and by the member's.
        data: Their rows of the data; of no columns if `scale` is 0.
        scale: How far mates should be in the map, by their distance in the data.
    """

    places: Float[np.ndarray, "members components mates"]
    pulls: Float[np.ndarray, "members 2 mates"]
    data: Float[np.ndarray, "members mates columns"]
    scale: float


def dense(rows: Any) -> Float[np.ndarray, "_ columns"]:
    """Returns rows as an array of double precision."""
    return np.asarray(rows.toarray() if scipy.sparse.issparse(rows) else rows, float)


def inner(maps: AlignedEmbedding, t: int) -> Float[np.ndarray, "points components"]:
    """Returns a map in the coordinates of the layout."""
    positions = np.asarray(maps.maps[t], float)
    return positions if maps.coordinates is None else maps.coordinates.apply(positions)


def read_pulls(maps: AlignedEmbedding, t: int, rows: np.ndarray) -> Pulls:
    """Returns the mates of some rows of slice t, in all slices."""
    faithful = float(maps.params.motion_fidelity)
    components = maps.maps[t].shape[1]
    columns = dense(maps.data[t]).shape[1] if faithful else 0
    parts = [np.zeros((0, 1 + components + 2 + columns))]
    for (first, offset), mates in maps.relations.items():
        last = first + offset
        if t == first:
            parts.append(_mates_in(maps, rows, t, last, mates))
        elif t == last:
            turned = mates._replace(rows=mates.others, others=mates.rows)
            parts.append(_mates_in(maps, rows, t, first, turned))
    table = np.concatenate(parts)
    table = table[np.argsort(table[:, 0], kind="stable")]
    member, values = table[:, 0].astype(int), table[:, 1:]
    number = np.arange(len(member)) - np.searchsorted(member, member)
    width = -(-(int(number.max(initial=0)) + 1) // PAIRS) * PAIRS
    padded = np.zeros((len(rows), width, values.shape[1]))
    padded[member, number] = values
    places, pulls, data = np.split(padded, [components, components + 2], axis=2)
    scales = scales_of(maps.data, maps.graphs) if faithful else []
    unit = float(np.median([s for s in scales if s > 0] or [1.0]))
    places, pulls = places.transpose(0, 2, 1), pulls.transpose(0, 2, 1)
    return Pulls(places, pulls, data, faithful / unit)


def _mates_in(
    maps: AlignedEmbedding, rows: np.ndarray, t: int, other: int, mates: Mates
) -> Float[np.ndarray, "pairs _"]:
    """Returns members' mates in another slice: member, place, pulls and data of each.

    Of the mates `rows` are those of slice t.
    """
    member, pair = np.nonzero(rows[:, None] == mates.rows)
    mate, params = mates.others[pair], maps.params
    strengths = float(params.alignment_regularisation) / 4 * mates.strengths[pair]
    rate = np.asarray(params.negative_sample_rate, float) + 2

    def weight(s: int, chosen: np.ndarray) -> Any:
        weights = maps.point_weights[s]
        return rate[s] * (1.0 if weights is None else np.asarray(weights)[chosen])

    degrees = np.asarray(maps.graphs[other].degrees, float)[mate]
    by_degrees = strengths * weight(other, mate) * degrees
    parts = [member, inner(maps, other)[mate], by_degrees]
    parts.append(strengths * weight(t, rows[member]))
    if float(params.motion_fidelity):
        parts.append(dense(maps.data[other][mate]))
    return np.column_stack(parts)
