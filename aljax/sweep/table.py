"""What a sweep finds: one row for each setting, stacked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from aljax.align import check_finite
from aljax.graph.build import dense_only
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import LayoutState
from aljax.layout.problem import unstack_maps
from aljax.metrics import displacement, trustworthiness
from aljax.stages import Prepared

TRUST_NEIGHBORS = 15

Maps = list[Float[np.ndarray, "_ components"]]
Measure = Callable[[Maps, Prepared], Mapping[str, float]]


class Row(NamedTuple):
    """One finished setting: its maps, the loss terms as last recorded, its metrics."""

    maps: Maps
    loss: LossTerms
    metrics: Mapping[str, float]


class Sweep(NamedTuple):
    """The rows of a sweep, stacked; row r has the settings `settings[r]`.

    Attributes:
        settings: What was asked for.
        maps: For each slice the maps of all rows, in the order of its own points;
            components that a row does not have are 0.
        loss: The terms as last recorded, `(rows, slices)`.
        metrics: One value for each row, by name.
    """

    settings: list[dict[str, Any]]
    maps: list[Float[np.ndarray, "rows _ components"]]
    loss: LossTerms
    metrics: dict[str, Float[np.ndarray, "rows"]]

    def table(self) -> list[dict[str, Any]]:
        """For each row its settings, its metrics and its terms of the loss."""
        columns = dict(self.metrics)
        columns |= {
            term: values.sum(axis=1) for term, values in vars(self.loss).items()
        }
        return [
            setting | {name: float(values[row]) for name, values in columns.items()}
            for row, setting in enumerate(self.settings)
        ]


def measure_row(maps: Maps, begun: Prepared) -> dict[str, float]:
    """What is measured of a row unless asked otherwise, as the means over slices.

    Trustworthiness (15 neighbours, 1 is best) where slices have data and more than 30
    rows, and the displacement of mates in radii of the maps where there are any.
    """
    pairs = zip(dense_only(begun.data), maps, strict=True)
    trust = [
        trustworthiness(data, one, n_neighbors=TRUST_NEIGHBORS)
        for data, one in pairs
        if data is not None and len(data) > 2 * TRUST_NEIGHBORS
    ]
    measured = {"trustworthiness": float(np.mean(trust))} if trust else {}
    if begun.relations:
        measured["displacement"] = displacement(maps, begun.relations)
    return measured


def finished_row(begun: Prepared, state: LayoutState, measure: Measure) -> Row:
    """What came of one setting.

    Raises:
        ValueError: Distances in its maps are not finite.
    """
    check_finite(state.maps)
    maps = unstack_maps(state.maps, begun.problem)
    loss = jax.tree.map(lambda term: np.asarray(term)[-1:].sum(axis=0), state.history)
    return Row(maps, loss, measure(maps, begun))


def stack_rows(settings: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> Sweep:
    """The rows as one table, maps as arrays with the rows along their first axis."""
    widest = max(row.maps[0].shape[1] for row in rows)
    maps = [
        np.stack([np.pad(y, ((0, 0), (0, widest - y.shape[1]))) for y in of_slice])
        for of_slice in zip(*(row.maps for row in rows), strict=True)
    ]
    return Sweep(
        [dict(setting) for setting in settings],
        maps,
        jax.tree.map(lambda *terms: np.stack(terms), *(row.loss for row in rows)),
        {
            name: np.array([row.metrics[name] for row in rows])
            for name in rows[0].metrics
        },
    )
