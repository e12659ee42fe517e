"""What a process needs of others before the layout: graphs, links, a common frame.

Of the slices after its own, within the window, a process is sent the graphs, for the
mates' strengths.  Slices start in the frame of their process's first; frames are then
turned onto each other, each by the rotation and shift between two processes, which
are small enough to go to all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aljax.config import AlignmentConfig
from aljax.distributed.exchange import from_ahead, from_all
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.links import Slices
from aljax.graph.relations import Relations, read_relations
from aljax.layout.initialize import turn_onto
from aljax.layout.spectral import Start


def sizes_of_all(graphs: Sequence[FuzzyGraph], room: int, n_slices: int) -> list[int]:
    """The sizes of all slices."""
    own = np.zeros(room, np.int64)
    own[: len(graphs)] = [one.degrees.shape[0] for one in graphs]
    return from_all(own).ravel()[:n_slices].tolist()


def greatest(widths: Mapping[str, int]) -> dict[str, int]:
    """The greatest of each width over all processes."""
    most = from_all(np.array([*widths.values()], np.int64)).max(axis=0)
    return dict(zip(widths, most.tolist(), strict=True))


def window_of(relations: Any, alignment: AlignmentConfig) -> int:
    """How far ahead of a slice its mates may be."""
    far = [abs(s - t) for s, t in relations] if isinstance(relations, Mapping) else []
    return max([alignment.alignment_window_size, *far])


def graphs_ahead(
    graphs: Sequence[FuzzyGraph], room: int, sizes: Sequence[int], ahead: range
) -> list[FuzzyGraph]:
    """The graphs of the slices after this process's, from those who built them."""
    processes = jax.process_count()
    shape = greatest({"neighbors": max(one.neighbors.shape[0] for one in graphs)})
    width, capacity = shape["neighbors"], max(sizes)
    most = greatest({"ahead": len(ahead)})["ahead"]
    found: list[FuzzyGraph] = []
    sent = min(most, room)

    def packed(leaves: Sequence[Any], *inner: int) -> np.ndarray:
        first = np.asarray(leaves[0])
        wide = np.zeros((sent, *inner, capacity), first.dtype)
        for t, one in enumerate(leaves[:sent]):
            wide[(t, *(slice(length) for length in one.shape))] = one
        return wide

    own = (
        packed([one.neighbors for one in graphs], width),
        packed([one.weights for one in graphs], width),
        packed([one.degrees for one in graphs]),
    )
    for steps in range(1, min(-(-most // room), processes - 1) + 1):
        neighbors, weights, degrees = (from_ahead(one, steps) for one in own)
        for t in range(min(sent, len(ahead) - len(found))):
            size = sizes[ahead[len(found)]]
            found.append(
                FuzzyGraph(
                    jnp.asarray(neighbors[t, :, :size]),
                    jnp.asarray(weights[t, :, :size]),
                    jnp.asarray(degrees[t, :size]),
                )
            )
    return found


def own_links(
    relations: Any,
    seen: range,
    count: int,
    sizes: Sequence[int],
    data: Sequence[np.ndarray | None],
    alignment: AlignmentConfig,
) -> Any:
    """The links from this process's slices, counted from its first.

    Raises:
        ValueError: As `read_relations`, where the slices are counted so.
    """
    first, own = seen.start, range(seen.start, seen.start + count)
    if isinstance(relations, Mapping):
        part: Any = {
            (s - first, t - first): pairs
            for (s, t), pairs in relations.items()
            if min(s, t) in own
        }
    else:
        by_ids = relations is not None and len(relations) == len(sizes)
        part = relations and relations[first : seen.stop if by_ids else seen.stop - 1]
    held = [*data, *[None] * (len(seen) - count)]
    known = Slices(list(sizes[first : seen.stop]), held)
    window = alignment.alignment_window_size
    try:
        links = read_relations(part, known, alignment_window_size=window)
    except ValueError as error:
        raise ValueError(f"{error} (Slices are counted from {first}.)") from error
    return {(t, o): link for (t, o), link in links.items() if t < count}


def within(relations: Relations, count: int) -> Relations:
    """The mates that are both on this process."""
    return {(t, o): mates for (t, o), mates in relations.items() if t + o < count}


def one_frame(
    start: list[Start], relations: Relations, sizes: Sequence[int]
) -> list[Start]:
    """The starts of all processes, turned into the frame of the first one's."""
    count, dimensions = len(start), start[0].shape[1]
    wide = np.zeros((max(sizes), dimensions))
    wide[: len(start[0])] = start[0]
    there = from_ahead(wide, 1)  # the next process's first slice
    frame = np.vstack([np.zeros(dimensions), np.eye(dimensions)])
    mates = relations.get((count - 1, 1))
    if mates is not None and mates.rows.size:
        frame = turn_onto(frame, there[mates.others], start[-1][mates.rows])
    frames = from_all(frame)
    turn, shift = np.eye(dimensions), np.zeros(dimensions)
    for one in frames[: jax.process_index()][::-1]:
        step = one[1:] - one[0]
        turn, shift = turn @ step, shift @ step + one[0]
    return [one @ turn + shift for one in start]
