"""Members' paths in a map: what lies around them, followed in blocks, and summed up."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from aljax.contributions.free_point import (
    Lists,
    Mates,
    Member,
    Surroundings,
    Way,
    follow_all,
)
from aljax.contributions.surroundings import (
    BLOCK,
    Pulls,
    dense,
    inner,
    near_paths,
    own_lists,
    read_pulls,
    read_space,
    rivals_of,
)
from aljax.embedding import AlignedEmbedding
from aljax.graph.knn import on_device

LEAST_SHARE = 0.1  # of changes of the loss that is left when they are added up
FEW = 8  # members that are followed at once if they are no more; else BLOCK


class Paths(NamedTuple):
    """Dense rows at both ends of members' paths, and which rows of the map they are."""

    first: Float[np.ndarray, "members columns"]
    last: Float[np.ndarray, "members columns"]
    rows: Int[np.ndarray, "members"]


class Followed(NamedTuple):
    """Starts of paths, each column's part, and the parts of lists and leaps in it."""

    starts: Float[np.ndarray, "members components"]
    columns: Float[np.ndarray, "members columns components"]
    lists: Float[np.ndarray, "members components"]
    leaps: Float[np.ndarray, "members components"]


def follow_paths(maps: AlignedEmbedding, t: int, paths: Paths) -> Followed:
    """Returns what each column made of members' paths in the map of slice t.

    Args:
        maps: The maps, Euclidean, of data in one of `DEVICE_METRICS`.
        t: The slice.
        paths: Rows in the units of the data; the last are the slice's own.
    """
    space = read_space(maps.graph.metric, dense(maps.data[t]), paths.first, paths.last)
    lists, settings = own_lists(space, maps, t)
    places, pulls = inner(maps, t), read_pulls(maps, t, paths.rows)
    count = 2 * len(maps.graphs[t].neighbors)
    near, rows = near_paths(space, lists, places, paths.rows, count)
    change = space.last - space.first
    squares = [(x**2).sum(axis=1) for x in (space.first, space.last, change)]
    of_mates: Any = pulls.places, pulls.pulls, *_apart(pulls, paths)
    numbers = paths.rows.astype(np.int32)
    of_members: Any = places[paths.rows], numbers, np.stack(squares, axis=1)
    rivals = rivals_of(maps, t, places)
    around = Surroundings(rows, Mates(*of_mates), Member(*of_members), rivals)
    way = _follow(around, settings, space.angles)
    moved = paths.last - paths.first
    columns = np.zeros((*moved.shape, places.shape[1]))
    leaps = np.zeros_like(way.start)
    for i, number in enumerate(near):
        slope = way.of_rows[i] @ space.points[number]
        slope += way.of_self[i].T @ np.stack([space.first[i], change[i]])
        slope = slope[:, : moved.shape[1]] / space.unit
        if pulls.scale:
            pull = way.to_mates[i] @ (pulls.data[i] - paths.first[i])
            slope += pulls.scale**2 * (pull + np.outer(way.to_self[i, 1], moved[i]))
        *by_column, loss = moved[i] * slope
        columns[i] = np.stack(by_column, axis=1)
        missing = places[paths.rows[i]] - way.start[i] - columns[i].sum(axis=0)
        if abs(loss.sum()) > LEAST_SHARE * np.abs(loss).sum():
            leaps[i] = missing
            columns[i] += np.outer(loss / loss.sum(), missing)
    units = maps.coordinates
    if units is None:
        return Followed(way.start, columns, way.lists, leaps)
    lengths = (x * units.unit for x in (columns, way.lists, leaps))
    return Followed(units.undo(way.start), *lengths)


def _apart(pulls: Pulls, paths: Paths) -> list[np.ndarray]:
    """Squares of how far mates should be at both ends of a path, and of the path."""
    shape = pulls.places.shape[0], pulls.places.shape[2]
    if not pulls.scale:
        return [np.zeros(shape)] * 3
    ends = [pulls.data - x[:, None] for x in (paths.first, paths.last)]
    path = np.broadcast_to((paths.last - paths.first)[:, None], ends[0].shape)
    return [pulls.scale**2 * (apart**2).sum(axis=2) for apart in (*ends, path)]


def _follow(around: Surroundings, lists: Lists, angles: bool) -> Any:
    """Follows members in blocks of one size; the leaves of the `Way` are NumPy's."""
    count = len(around.member.row)
    size = FEW if count <= FEW else BLOCK
    ways: list[Way] = []
    for start in range(0, count, size):
        block = np.minimum(np.arange(start, start + size), count - 1)  # the last, again
        of_block: Any = jax.tree.map(
            lambda leaf, block=block: on_device(leaf[block]), around[:3]
        )
        of_all = Surroundings(*of_block, rivals=around.rivals)
        ways.append(follow_all(of_all, lists, angles=angles))
    return jax.tree.map(
        lambda *leaves: np.concatenate([np.asarray(x, float) for x in leaves])[:count],
        *ways,
    )
