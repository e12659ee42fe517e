"""How far mates move in the data: the lengths that motion-aware alignment asks for.

    delta(i, i') = |x_i - x_i'| / unit

where the unit is the sequence's median distance of a row to its farthest listed
neighbour: the median over slices of their own medians.  One unit serves all slices, so
that a step twice as long in the data is asked to be twice as long in the maps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.relations import Relations

Moves = Mapping[tuple[int, int], Float[np.ndarray, "_"]]
BLOCK = 10_000  # rows whose data are compared at once


def check_comparable(data: Sequence[np.ndarray | None]) -> None:
    """Refuse slices between which a row cannot be said to have moved.

    Raises:
        ValueError: A slice without data, or with other columns than the first.
    """
    for t, one in enumerate(data):
        if one is None:
            raise ValueError(
                f"`motion_fidelity` is above 0, but slice {t} has no dense data (it is "
                "a graph, neighbours, distances or sparse); give its data, or set "
                "`motion_fidelity` to 0."
            )
        first = data[0]
        if first is not None and one.shape[1] != first.shape[1]:
            raise ValueError(
                f"`motion_fidelity` is above 0, but slice {t} has {one.shape[1]} "
                f"columns and slice 0 has {first.shape[1]}; expected as many in each, "
                "for mates are compared in the data. Set `motion_fidelity` to 0, or "
                "give all slices the same columns."
            )


def scales_of(
    data: Sequence[np.ndarray | None], graphs: Sequence[FuzzyGraph]
) -> list[float]:
    """Each slice's median distance of a row to its farthest neighbour; 0 if all are."""
    scales = []
    for one, graph in zip(data, graphs, strict=True):
        rows = np.asarray(one, dtype=float)
        lengths = _lengths(rows, rows[np.asarray(graph.neighbors)[-1]])
        scales.append(float(np.median(lengths[lengths > 0])) if lengths.any() else 0.0)
    return scales


def measure_moves(
    relations: Relations, data: Sequence[Any], scales: Sequence[float]
) -> Moves:
    """How far each pair of mates lies apart, delta, keyed as the relations are.

    Distances are Euclidean, whatever metric made the graphs.

    Args:
        relations: Mates, keyed by (earlier slice, offset).
        data: The data of the slices that they speak of.
        scales: `scales_of` all slices whose unit is shared.
    """
    positive = [scale for scale in scales if scale > 0]
    unit = float(np.median(positive)) if positive else 1.0

    def rows(t: int, chosen: np.ndarray) -> np.ndarray:
        return np.asarray(data[t][chosen], dtype=float)

    return {
        (t, offset): _lengths(rows(t, mates.rows), rows(t + offset, mates.others))
        / unit
        for (t, offset), mates in relations.items()
    }


def _lengths(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    blocks = range(0, len(one), BLOCK)
    return np.concatenate(
        [np.zeros(0)]
        + [
            np.linalg.norm(one[b : b + BLOCK] - other[b : b + BLOCK], axis=1)
            for b in blocks
        ]
    )
