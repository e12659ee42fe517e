"""Measures of how far, and how truthfully, members and whole maps move.

    displacement = mean_mates |y_i(t) - y_i'(t+1)| / median_points |y - center(t)|

Mates of consecutive slices count, slice by slice and in the order of the relations;
that is also the order of the values that `per_point` returns.  Of the frame two measure
whether maps far apart in a sequence can be compared.
"""

import numbers
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from aljax.columns import alike
from aljax.config import number, one_of
from aljax.errors import InputError, instance
from aljax.layout.initialize import turn_onto
from aljax.metrics.distances import COMPARISONS
from aljax.metrics.maps import neighborhood_preservation
from aljax.metrics.ranks import (
    Measured,
    as_positions,
    count_neighbors,
    nearest_rows,
    summary,
)
from aljax.relations.mates import Relations, check_mates

KEPT = 0.8  # share of its neighbors that a row keeps where nothing changed
BLOCK = 10_000  # mates whose motion is computed at once
Pairs = list[tuple[np.ndarray, np.ndarray]]
Maps = Sequence[Float[np.ndarray, "_ components"]]
Data = Sequence[Float[np.ndarray, "_ ..."]]


def displacement(
    maps: Maps, relations: Relations, *, per_point: bool = False
) -> Measured:
    """Returns the distance of mates in consecutive maps, in units of the maps' radius.

    Args:
        maps: One map for each slice, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        per_point: Return one value for each pair of mates, whose mean is the measure.

    Returns:
        At least 0, and 0 if no mate moves; NaN if there are no mates, or the radius
        is 0, as it is where most slices have a single row.

    Raises:
        InputError: Relations that are not a fit's, or not of these maps.
    """
    pairs = consecutive(maps, relations)
    return summary(in_radii(_lengths(pairs), maps), per_point)


def displacement_without_drift(
    maps: Maps, relations: Relations, *, per_point: bool = False
) -> Measured:
    """Returns `displacement` after the best rotation and shift of each pair of maps.

    The rest is motion of points against each other, without drift and turns of whole
    maps.  Arguments, results and errors are those of `displacement`.

    Source: orthogonal Procrustes, Schönemann (1966), Psychometrika 31.
    """
    pairs = _without_drift(consecutive(maps, relations))
    return summary(in_radii(_lengths(pairs), maps), per_point)


def coherence(
    data: Data,
    maps: Maps,
    relations: Relations,
    *,
    n_neighbors: float = 15,
    per_point: bool = False,
) -> Measured:
    """Measures how far neighbors in the data move the same way in the map (-1 to 1).

    The mean cosine between a mate's motion and those of its k nearest mates in the
    earlier slice, after the best rotation and shift of each pair of maps; a pair of
    which one does not move counts 0.  1: all move alike; 0: as chance would have it.

    Args:
        data: The slices.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        n_neighbors: k (at least 1; pairs of slices with 2k mates or fewer do not
            count), or a share of the mates (above 0, below .5).
        per_point: Return one value for each pair of mates, whose mean is the measure.

    Returns:
        NaN if no pair of slices has enough mates.

    Raises:
        InputError: `n_neighbors` out of range, or relations that are not a fit's.
    """
    in_data = consecutive(data, relations, name="data", comparable=False)
    in_map = _without_drift(consecutive(maps, relations))
    cosines = [np.zeros(0)]
    for (rows, _), (before, after) in zip(in_data, in_map, strict=True):
        if k := _count_among(len(rows), n_neighbors):
            motion = np.subtract(after, before, dtype=float)
            length = np.linalg.norm(motion, axis=1, keepdims=True)
            direction = motion / np.where(length > 0, length, 1)
            near = nearest_rows(rows, k, np.arange(len(rows)))
            cosines.append(np.einsum("ic,ikc->i", direction, direction[near]) / k)
    return summary(np.concatenate(cosines), per_point)


def false_motion(
    data: Data,
    maps: Maps,
    relations: Relations,
    *,
    n_neighbors: float = 15,
    per_point: bool = False,
) -> Measured:
    """Measures how far mates move whose neighborhood stays, in radii of the maps.

    Those are mates that keep at least four fifths of their k nearest mates in the
    data.  A whole neighborhood that moves together counts too: compare `stability`.
    Arguments and errors are those of `coherence`; values are of such mates alone.

    Returns:
        At least 0, and best so; NaN if every neighborhood changed.
    """
    kept, moved = _kept_and_moved(data, maps, relations, n_neighbors)
    return summary(in_radii(moved[kept >= KEPT], maps), per_point)


def missed_motion(
    data: Data,
    maps: Maps,
    relations: Relations,
    *,
    n_neighbors: float = 15,
    per_point: bool = False,
) -> Measured:
    """Measures how far mates stay whose neighborhood changed (0 to 1; 0 is best).

    For mates that lose at least four fifths of their k nearest mates in the data: the
    share of all mates of the sequence that move at least as far in the map.  1: they
    move least of all (or nothing moves); about .5: as far as any other.
    Arguments and errors are those of `coherence`; values are of such mates alone.

    Returns:
        NaN if no neighborhood changed so much.
    """
    kept, moved = _kept_and_moved(data, maps, relations, n_neighbors)
    changed = moved[kept <= 1 - KEPT + 1e-9]
    below = np.searchsorted(np.sort(moved), changed, side="left")
    return summary(1 - below / max(moved.size, 1), per_point)


def stability(
    data: Data,
    maps: Maps,
    relations: Relations,
    *,
    correlation: Literal["pearson", "spearman", "stress"] = "pearson",
    per_point: bool = False,
) -> Measured:
    """Returns the correlation of displacements in data and map (-1 to 1, 1 is best).

    Args:
        data: The slices, with the same columns.
        maps: One map for each, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.
        correlation: "pearson" (linear), "spearman" (of ranks), or "stress": the share
            of the data's displacements dx that the map's dy, best scaled, leave (0 to
            1, 0 is best), (sum (dx - alpha dy)^2 / sum dx^2)^(1/2).
        per_point: Return one value for each pair of mates: the product of its two
            standardized displacements or ranks, whose mean is the correlation; or its
            squared residual in units of the mean square of dx, the root of whose mean
            is the stress.

    Returns:
        NaN where mates do not move in the data; a correlation also where they do not
        move in the map, or all as far.

    Raises:
        InputError: An unknown correlation, slices whose columns differ in number, or
            relations that are not a fit's.
    """
    one_of("pearson", "spearman", "stress")("correlation", correlation)
    x = _lengths(consecutive(data, relations, name="data"))
    y = _lengths(consecutive(maps, relations))
    if not per_point or not x.size:
        return x if per_point else COMPARISONS[correlation](x, y)
    if correlation == "stress":
        alpha = x @ y / max(float(y @ y), np.finfo(float).tiny)
        return _ratio((x - alpha * y) ** 2, (x**2).mean())
    if correlation == "spearman":
        x, y = stats.rankdata(x), stats.rankdata(y)
    x, y = (_ratio(values - values.mean(), values.std()) for values in (x, y))
    return x * y


def frame_displacement(
    data: Sequence[Float[np.ndarray, "_ features"]],
    maps: Maps,
    *,
    lag: int = 1,
    per_point: bool = False,
) -> Measured:
    """Returns how far rows that are nearest in the data lie apart in maps `lag` apart.

    For each row of slice t, the distance in the maps to the row of slice t + lag that
    is nearest in the data, in units of the maps' radius: the median distance of all
    points from the center of their own map.

    Args:
        data: The slices, with the same columns.
        maps: One map for each, in the order of the rows.
        lag: How many slices apart (at least 1).
        per_point: Return one value for each row, whose median is the measure.

    Returns:
        At least 0, and best so; about 1.25 for maps that have nothing to do with each
        other; NaN if no slices are so far apart.

    Raises:
        InputError: Slices whose columns differ in number, or maps of other rows.
    """
    number(1, whole=True)("lag", lag)
    rows = read_sequence(data, "data")
    exact = _exact(maps)
    sizes, counts = [*map(len, rows)], [*map(len, exact)]
    if counts != sizes:
        expected = f"a row for each of the data's: {sizes}"
        raise InputError("maps", f"have {counts} rows", expected)
    from sklearn.neighbors import NearestNeighbors  # a third of the import

    apart = [np.zeros(0)]
    for t in range(len(rows) - lag):
        if not len(rows[t]) or not len(rows[t + lag]):
            continue
        search = NearestNeighbors(n_neighbors=1).fit(rows[t + lag])
        nearest = search.kneighbors(rows[t], return_distance=False)[:, 0]
        apart.append(np.linalg.norm(exact[t] - exact[t + lag][nearest], axis=1))
    values = in_radii(np.concatenate(apart), exact)
    if per_point:
        return values
    return float(np.median(values)) if values.size else float("nan")


def center_drift(maps: Maps, *, per_point: bool = False) -> Measured:
    """Returns how far the maps' centers get from that of the first map, in radii.

    Args:
        maps: One map for each slice.
        per_point: Return the distance of each map's center, whose greatest is the
            measure.

    Returns:
        At least 0.  Above about 1, maps drawn on shared axes lie side by side; it is
        0.3 or less where the population stays, and says nothing where groups come
        and go; NaN if no map has rows.

    Raises:
        InputError: Maps that differ in their components, or are not finite.
    """
    exact = _exact(maps)
    path = np.full(len(exact), np.nan)  # where no rows are
    filled = [t for t, y in enumerate(exact) if len(y)]
    if filled:
        centers = np.array([exact[t].mean(axis=0) for t in filled])
        path[filled] = in_radii(np.linalg.norm(centers - centers[0], axis=1), exact)
    return path if per_point else float(max(path[filled], default=np.nan))


def consecutive(
    positions: Data,
    relations: Relations,
    *,
    name: str = "maps",
    comparable: bool = True,
) -> Pairs:
    """Returns positions of the mates of slices t and t + 1, for each t that has any.

    Raises:
        InputError: Relations as `fit` is given them; or positions, called `name`, that
            lack a row, are not finite or, if `comparable`, differ in their columns.
    """
    check_mates(relations)
    slices = read_sequence(positions, name, comparable=comparable)
    pairs = []
    for (t, offset), mates in sorted(relations.items()):
        if offset != 1 or not mates.rows.size:
            continue
        for side, s, rows in (("rows", t, mates.rows), ("others", t + 1, mates.others)):
            n_rows = len(slices[s]) if s < len(slices) else 0
            if rows.max() >= n_rows:
                raise InputError(
                    f"relations[{t}, 1].{side}",
                    f"has row {rows.max()}",
                    f"rows of slice {s}, which has {n_rows}",
                    f"Pass the relations of these {name}.",
                )
        pairs.append((slices[t][mates.rows], slices[t + 1][mates.others]))
    return pairs


def read_sequence(
    positions: Data, name: str, *, comparable: bool = True
) -> list[np.ndarray]:
    """Returns the positions of each slice; `comparable` ones have the same columns."""
    instance(name, positions, Iterable, "a list with one array for each slice")
    named = alike(positions, name) if comparable else positions
    slices = [as_positions(x, f"{name}[{t}]", empty=True) for t, x in enumerate(named)]
    widths = sorted({x.shape[1] for x in slices})
    if comparable and len(widths) > 1:
        raise InputError(
            name,
            f"has slices of {widths} columns",
            "as many in each, as positions in them are compared",
            "Measure a part of the sequence with one set of columns.",
        )
    return slices


def _count_among(mates: int, n_neighbors: float) -> int:
    """Returns the neighbors meant among so many mates; 0 if those are too few."""
    real = isinstance(n_neighbors, numbers.Real)
    too_few = mates < 3 or (real and mates <= 2 * n_neighbors)
    return 0 if too_few else count_neighbors(n_neighbors, mates)


def _kept_and_moved(
    data: Data, maps: Maps, relations: Relations, n_neighbors: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many neighbors each mate keeps in the data, and how far it moves."""
    kept, counted = [np.zeros(0)], []
    in_data = consecutive(data, relations, name="data", comparable=False)
    for pair, moves in zip(in_data, consecutive(maps, relations), strict=True):
        if k := _count_among(len(pair[0]), n_neighbors):
            kept.append(neighborhood_preservation(*pair, n_neighbors=k, per_point=True))
            counted.append(moves)
    return np.concatenate(kept), _lengths(counted)


def _without_drift(pairs: Pairs) -> Pairs:
    exact = [(before.astype(float), after.astype(float)) for before, after in pairs]
    return [(before, turn_onto(after, after, before)) for before, after in exact]


def _lengths(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Returns distances in double precision, for squares that single cannot hold."""
    lengths = [np.zeros(0)]
    for before, after in pairs:
        for start in range(0, len(before), BLOCK):
            block = slice(start, start + BLOCK)
            moved = np.subtract(after[block], before[block], dtype=float)
            lengths.append(np.linalg.norm(moved, axis=1))
    return np.concatenate(lengths)


def in_radii(lengths: np.ndarray, maps: Maps) -> np.ndarray:
    """Lengths in units of the maps' radius; NaN where that is 0 or no map has rows."""
    filled = [y for y in _exact(maps, comparable=False) if len(y)]
    radii = [np.linalg.norm(y - y.mean(axis=0), axis=1) for y in filled]
    return _ratio(lengths, float(np.median(np.concatenate(radii))) if radii else 0.0)


def _exact(maps: Maps, *, comparable: bool = True) -> list[np.ndarray]:
    read = read_sequence(maps, "maps", comparable=comparable)
    return [positions.astype(float) for positions in read]


def _ratio(values: np.ndarray, unit: float) -> np.ndarray:
    return values / unit if unit > 0 else np.full_like(values, np.nan)
