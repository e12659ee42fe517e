"""The mates of members, and how strongly they pull, as `free_point` takes them.

lambda sum_mates (d_i (2 + m) + d_i' (2 + m')) / 4 s (|y - z_i'| - kappa delta)^2
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.embedding import AlignedEmbedding
from aljax.relations.strengths import scales_of

PAIRS = 8  # capacities of mates are multiples of it


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
    columns = dense(maps.data[t]).shape[1] if faithful else 0
    components = maps.maps[t].shape[1]
    parts = [np.zeros((0, 1)), np.zeros((0, components + 2 + columns))]
    met = [tuple(parts)]
    for (first, offset), mates in maps.relations.items():
        if t == first:
            met.append(_met(maps, rows, t, t + offset, mates.rows, mates))
        elif t == first + offset:
            met.append(_met(maps, rows, t, first, mates.others, mates))
    member, values = map(np.concatenate, zip(*met, strict=True))
    order = np.argsort(member[:, 0], kind="stable")
    member, values = member[order, 0].astype(int), values[order]
    number = np.arange(len(order)) - np.searchsorted(member, member)
    width = -(-(int(number.max(initial=0)) + 1) // PAIRS) * PAIRS
    table = np.zeros((len(rows), width, values.shape[1]))
    table[member, number] = values
    places, pulls, data = np.split(table, [components, components + 2], axis=2)
    scales = scales_of(maps.data, maps.graphs) if faithful else []
    unit = float(np.median([s for s in scales if s > 0] or [1.0]))
    places, pulls = (table.transpose(0, 2, 1) for table in (places, pulls))
    return Pulls(places, pulls, data, faithful / unit)


def _met(
    maps: AlignedEmbedding,
    rows: np.ndarray,
    t: int,
    other: int,
    own_rows: Any,
    mates: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns members with mates in another slice; their places, pulls and data."""
    other_rows = mates.others if own_rows is mates.rows else mates.rows
    params = maps.params
    member, pair = np.nonzero(rows[:, None] == own_rows)
    mate, row = other_rows[pair], rows[member]
    strengths = float(params.alignment_regularisation) / 4 * mates.strengths[pair]
    rate = np.asarray(params.negative_sample_rate, float) + 2

    def weight(s: int, chosen: np.ndarray) -> Any:
        weights = maps.point_weights[s]
        return rate[s] * (1.0 if weights is None else np.asarray(weights)[chosen])

    degrees = np.asarray(maps.graphs[other].degrees, float)[mate]
    parts = [
        inner(maps, other)[mate],
        (strengths * weight(other, mate) * degrees)[:, None],
        (strengths * weight(t, row))[:, None],
    ]
    if float(params.motion_fidelity):
        parts.append(dense(maps.data[other][mate]))
    return member[:, None].astype(float), np.hstack(parts)
