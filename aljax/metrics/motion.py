"""How far, and how truthfully, members move from map to map.

displacement = mean_mates |y_i(t) - y_i'(t+1)| / median_points |y - centre(t)|

Mates of consecutive slices count, slice by slice and in the order of the relations;
that is also the order of the values that `per_point` returns.
"""

import numbers
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from aljax.layout.initialize import turn_onto
from aljax.metrics.distances import pearson, stress
from aljax.metrics.maps import neighborhood_preservation
from aljax.metrics.ranks import (
    Measured,
    as_positions,
    count_neighbors,
    rank_neighbors,
    summary,
)
from aljax.relations.mates import Relations, check_mates

KEPT = 0.8  # share of its neighbours that a row keeps where nothing changed


BLOCK = 10_000  # mates whose data are compared at once


def consecutive(
    maps: Sequence[Float[np.ndarray, "_ ..."]],
    relations: Relations,
    *,
    name: str = "maps",
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What stands at the mates of slices t and t + 1, for each t that has any.

    Args:
        maps: Maps (or data), one for each slice, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        name: What messages call the maps.

    Raises:
        ValueError: Relations as `fit` is given them, a row that a map does not have,
            values that are not finite, or maps of different numbers of components.
    """
    check_mates(relations)
    maps = [as_positions(one, f"{name}[{t}]") for t, one in enumerate(maps)]
    widths = {one.shape[1] for one in maps}
    if name == "maps" and len(widths) > 1:  # data may differ in their columns
        raise ValueError(
            f"`maps` have {sorted(widths)} components; expected as many in each, as "
            "positions in them are compared."
        )
    found = []
    for (t, offset), mates in sorted(relations.items()):
        if offset != 1 or not mates.rows.size:
            continue
        for name, s, rows in (("rows", t, mates.rows), ("others", t + 1, mates.others)):
            if s >= len(maps) or rows.max() >= len(maps[s]):
                there = len(maps[s]) if s < len(maps) else 0
                raise ValueError(
                    f"`relations[{t}, 1].{name}` has row {rows.max()}, but slice {s} "
                    f"has {there} rows; expected the relations of these maps."
                )
        found.append((maps[t][mates.rows], maps[t + 1][mates.others]))
    return found


def displacement(
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    per_point: bool = False,
) -> Measured:
    """How far mates of consecutive slices lie apart, in units of the maps' radius.

    Args:
        maps: One map for each slice, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        per_point: Return one value for each pair of mates.

    Returns:
        At least 0, and 0 if no mate moves; NaN if there are no mates, or all points
        of the maps coincide.

    Raises:
        ValueError: Relations that are not a fit's, or not of these maps.
    """
    return _mean(_in_radii(_lengths(consecutive(maps, relations)), maps), per_point)


def displacement_without_drift(
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    per_point: bool = False,
) -> Measured:
    """`displacement` after the best rotation and shift of each pair of maps.

    What is left is motion of points against each other; what went is drift and turns
    of whole maps.

    Args:
        maps: One map for each slice, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        per_point: Return one value for each pair of mates.

    Returns:
        At least 0; NaN if there are no mates.

    Raises:
        ValueError: Relations that are not a fit's, or not of these maps.

    Source: orthogonal Procrustes, Schönemann (1966), Psychometrika 31.
    """
    moved = _lengths(_without_drift(maps, relations))
    return _mean(_in_radii(moved, maps), per_point)


def coherence(
    data: Sequence[Float[np.ndarray, "_ ..."]],
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    n_neighbors: float = 15,
    per_point: bool = False,
) -> Measured:
    """Whether neighbours in the data move the same way in the map (-1 to 1).

    The mean cosine between a mate's motion and those of its k nearest mates in the
    earlier slice, after the best rotation and shift of each pair of maps; a pair of
    which one does not move counts 0.  1: all move alike; 0: as chance would have it.

    Args:
        data: The slices.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        n_neighbors: k (at least 1; pairs of slices with 2k mates or fewer do not
            count), or a share of the mates (above 0, below .5).
        per_point: Return one value for each pair of mates.

    Returns:
        NaN if no pair of slices has enough mates.

    Raises:
        ValueError: `n_neighbors` out of range, or relations that are not a fit's.
    """
    pairs = zip(
        consecutive(data, relations, name="data"),
        _without_drift(maps, relations),
        strict=True,
    )
    found = []
    for (rows, _), (before, after) in pairs:
        k = _count_among(len(rows), n_neighbors)
        if not k:
            continue
        motion = np.subtract(after, before, dtype=float)
        length = np.linalg.norm(motion, axis=1, keepdims=True)
        direction = motion / np.where(length > 0, length, 1)
        _, near = rank_neighbors(rows, rows, k)
        found.append(np.einsum("ic,ikc->i", direction, direction[near]) / k)
    return _mean(np.concatenate(found) if found else np.zeros(0), per_point)


def false_motion(
    data: Sequence[Float[np.ndarray, "_ ..."]],
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    n_neighbors: float = 15,
    per_point: bool = False,
) -> Measured:
    """How far mates move whose neighbourhood did not change, in radii of the maps.

    Those are mates that keep at least four fifths of their k nearest mates in the
    data.  A whole neighbourhood that moves together counts too: compare `stability`.

    Args:
        data: The slices.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        n_neighbors: k (at least 1; pairs of slices with 2k mates or fewer do not
            count), or a share of the mates (above 0, below .5).
        per_point: Return one value for each such pair of mates.

    Returns:
        At least 0, and best so; NaN if every neighbourhood changed.

    Raises:
        ValueError: `n_neighbors` out of range, or relations that are not a fit's.
    """
    kept, moved = _kept_and_moved(data, maps, relations, n_neighbors)
    return _mean(_in_radii(moved[kept >= KEPT], maps), per_point)


def missed_motion(
    data: Sequence[Float[np.ndarray, "_ ..."]],
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    n_neighbors: float = 15,
    per_point: bool = False,
) -> Measured:
    """Whether mates stay whose neighbourhood changed (0 to 1, 0 is best).

    For mates that lose at least four fifths of their k nearest mates in the data: the
    share of all mates of the sequence that move at least as far in the map.  1: they
    move least of all (or nothing moves); about .5: as far as any other.

    Args:
        data: The slices.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        n_neighbors: k (at least 1; pairs of slices with 2k mates or fewer do not
            count), or a share of the mates (above 0, below .5).
        per_point: Return one value for each such pair of mates.

    Returns:
        NaN if no neighbourhood changed so much.

    Raises:
        ValueError: `n_neighbors` out of range, or relations that are not a fit's.
    """
    kept, moved = _kept_and_moved(data, maps, relations, n_neighbors)
    changed = moved[kept <= 1 - KEPT + 1e-9]
    below = np.searchsorted(np.sort(moved), changed, side="left")
    return _mean(1 - below / max(moved.size, 1), per_point)


def _count_among(mates: int, n_neighbors: float) -> int:
    """How many neighbours are meant among so many mates; 0 if those are too few."""
    real = isinstance(n_neighbors, numbers.Real)
    few = mates < 3 or (real and mates <= 2 * n_neighbors)
    return 0 if few else count_neighbors(n_neighbors, mates)


def _kept_and_moved(
    data: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    relations: Relations,
    n_neighbors: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The share of neighbours each mate keeps in the data, and how far it moves."""
    kept, moved = [np.zeros(0)], [np.zeros(0)]
    pairs = zip(
        consecutive(data, relations, name="data"),
        consecutive(maps, relations),
        strict=True,
    )
    for (rows, others), (before, after) in pairs:
        k = _count_among(len(rows), n_neighbors)
        if k:
            kept.append(
                neighborhood_preservation(rows, others, n_neighbors=k, per_point=True)
            )
            moved += _apart([(before, after)])
    return np.concatenate(kept), np.concatenate(moved)


def _without_drift(
    maps: Sequence[np.ndarray], relations: Relations
) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = [
        (before.astype(float), after.astype(float))
        for before, after in consecutive(maps, relations)
    ]
    return [(before, turn_onto(after, after, before)) for before, after in pairs]


def _lengths(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *_apart(pairs)])


def _apart(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    """Distances in double precision, for squares of which single has no room."""
    return [
        np.linalg.norm(np.subtract(before, after, dtype=float), axis=1)
        for before, after in pairs
    ]


def _in_radii(lengths: np.ndarray, maps: Sequence[np.ndarray]) -> np.ndarray:
    """Lengths in units of the maps' radius; NaN where that is 0."""
    exact = [np.asarray(one, float) for one in maps]
    radii = [np.linalg.norm(one - one.mean(axis=0), axis=1) for one in exact]
    radius = float(np.median(np.concatenate(radii)))
    return lengths / radius if radius > 0 else np.full_like(lengths, np.nan)


def _mean(values: np.ndarray, per_point: bool) -> Measured:
    return summary(values, per_point) if values.size or per_point else float("nan")


def stability_pearson(
    data: Sequence[Float[np.ndarray, "_ ..."]],
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    per_point: bool = False,
) -> Measured:
    """The linear correlation of displacements in data and map (-1 to 1, 1 is best).

    Args:
        data: The slices, with the same columns.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        per_point: Return one value for each pair of mates, the product of its two
            standardised displacements, whose mean is the measure.

    Returns:
        NaN where mates do not move in the data or in the map, or all as far.

    Raises:
        ValueError: Slices whose columns differ in number.
    """
    in_data, in_map = displacements(data, maps, relations)
    if per_point:
        return _standardised(in_data) * _standardised(in_map)
    return pearson(in_data, in_map)


def stability_spearman(
    data: Sequence[Float[np.ndarray, "_ ..."]],
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    per_point: bool = False,
) -> Measured:
    """The rank correlation of displacements in data and map (-1 to 1, 1 is best).

    Args:
        data: The slices, with the same columns.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        per_point: Return one value for each pair of mates, the product of its two
            standardised ranks, whose mean is the measure.

    Returns:
        NaN where mates do not move in the data or in the map, or all as far.

    Raises:
        ValueError: Slices whose columns differ in number.
    """
    in_data, in_map = map(stats.rankdata, displacements(data, maps, relations))
    if per_point:
        return _standardised(in_data) * _standardised(in_map)
    return pearson(in_data, in_map)


def stability_stress(
    data: Sequence[Float[np.ndarray, "_ ..."]],
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
    *,
    per_point: bool = False,
) -> Measured:
    """What of the data's displacements the map's, best scaled, leave (0 to 1).

    (sum (dx - alpha dy)^2 / sum dx^2)^(1/2) with the best alpha; 0 is best.

    Args:
        data: The slices, with the same columns.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        per_point: Return one value for each pair of mates, its squared residual in
            units of the mean square of dx; the root of their mean is the measure.

    Returns:
        NaN where mates do not move in the data.

    Raises:
        ValueError: Slices whose columns differ in number.
    """
    in_data, in_map = displacements(data, maps, relations)
    if not per_point:
        return stress(in_data, in_map)
    if not in_data.size:
        return in_data
    alpha = in_data @ in_map / max(float(in_map @ in_map), np.finfo(float).tiny)
    return _ratio((in_data - alpha * in_map) ** 2, (in_data**2).mean())


def displacements(
    data: Sequence[Float[np.ndarray, "_ ..."]],
    maps: Sequence[Float[np.ndarray, "_ components"]],
    relations: Relations,
) -> tuple[np.ndarray, np.ndarray]:
    """How far each pair of mates moves in the data and in the map.

    Raises:
        ValueError: Slices whose columns differ in number.
    """
    data = [as_positions(one, f"data[{t}]") for t, one in enumerate(data)]
    maps = [as_positions(one, f"maps[{t}]") for t, one in enumerate(maps)]
    columns = [one.shape[1] for one in data]
    if len({*columns}) > 1:
        raise ValueError(
            f"`data` has slices of {sorted({*columns})} columns; expected as many in "
            "each, since stability compares mates in the data. Measure a part of the "
            "sequence with one set of columns."
        )
    return _distances(data, relations), _distances(maps, relations)


def _distances(positions: Sequence[np.ndarray], relations: Relations) -> np.ndarray:
    found = [np.zeros(0)]
    for before, after in consecutive(positions, relations):
        for start in range(0, len(before), BLOCK):
            block = slice(start, start + BLOCK)
            moved = np.asarray(after[block], float) - np.asarray(before[block], float)
            found.append(np.linalg.norm(moved, axis=1))
    return np.concatenate(found)


def _standardised(values: np.ndarray) -> np.ndarray:
    if not values.size:
        return values
    return _ratio(values - values.mean(), values.std())


def _ratio(values: np.ndarray, unit: float) -> np.ndarray:
    return values / unit if unit > 0 else np.full_like(values, np.nan)
