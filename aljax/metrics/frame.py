"""Measures of the frame: whether maps far apart in a sequence can be compared."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from aljax.config import number
from aljax.errors import InputError
from aljax.metrics.motion import Maps, in_radii, read_sequence
from aljax.metrics.ranks import Measured


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
    exact = _read_maps(maps)
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
    exact = _read_maps(maps)
    path = np.full(len(exact), np.nan)  # where no rows are
    filled = [t for t, y in enumerate(exact) if len(y)]
    if filled:
        centers = np.array([exact[t].mean(axis=0) for t in filled])
        path[filled] = in_radii(np.linalg.norm(centers - centers[0], axis=1), exact)
    return path if per_point else float(max(path[filled], default=np.nan))


def _read_maps(maps: Maps) -> list[np.ndarray]:
    read = read_sequence(maps, "maps")
    return [positions.astype(float) for positions in read]
