"""Whether points move in the maps as far as their rows move in the data.

    r = correlation over mates of |x_i'(t+1) - x_i(t)| and |y_i'(t+1) - y_i(t)|

over all pairs of consecutive slices together.  It is not defined where the data of
mates do not change: the measures are NaN there.

Source: Vernier et al. (2020), "Quantitative evaluation of time-dependent
multidimensional projection techniques", section 4 (temporal stability).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from aljax.graph.relations import Relations
from aljax.metrics.distances import pearson, stress
from aljax.metrics.motion import consecutive
from aljax.metrics.neighborhoods import Measured, as_positions

BLOCK = 10_000  # mates whose data are compared at once


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
