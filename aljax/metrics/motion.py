"""How far members move from map to map.

displacement = mean_mates |y_i(t) - y_i'(t+1)| / median_points |y - centre(t)|
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from aljax.graph.relations import Relations


def displacement(
    maps: Sequence[Float[np.ndarray, "_ components"]], relations: Relations
) -> float:
    """How far mates of consecutive slices lie apart, in units of the maps' radius.

    Args:
        maps: One map for each slice, in the order of the rows.
        relations: The mates, as `AlignedEmbedding.relations`.

    Returns:
        At least 0, and 0 if no mate moves; NaN if there are no mates.
    """
    moved = [
        np.linalg.norm(maps[t][mates.rows] - maps[t + 1][mates.others], axis=1)
        for (t, offset), mates in relations.items()
        if offset == 1
    ]
    radii = [np.linalg.norm(one - one.mean(axis=0), axis=1) for one in maps]
    if not moved or not np.concatenate(moved).size:
        return float("nan")
    return float(np.concatenate(moved).mean() / np.median(np.concatenate(radii)))
