"""The cases of the benchmark: data, settings, and the methods that compete."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments import datasets
from experiments.datasets import Dataset

RIVALS_OF_SEQUENCES = ("aljax", "umap-learn", "umap-learn + Procrustes")


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: Its name on the command line.
        load: Makes the data.
        methods: Who competes, ours first.
        settings: umap-learn's names, for every method; empty for each one's defaults.
        own_settings: Settings of one method only.
        n_neighbors: k of trustworthiness and recall.
        accuracy_neighbors: k of the label accuracy.
        rows: How many sampled rows quality is measured on; None for all.
        seeds: One fit for each.
    """

    name: str
    load: Callable[[], Dataset]
    methods: Sequence[str] = RIVALS_OF_SEQUENCES
    settings: Mapping[str, Any] = field(default_factory=dict)
    own_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    n_neighbors: int = 15
    accuracy_neighbors: int = 10
    rows: int | None = None
    seeds: Sequence[int] = (0, 1, 2)

    def settings_of(self, method: str) -> dict[str, Any]:
        """What a method is called with."""
        return {**self.settings, **self.own_settings.get(method, {})}


def _all(*cases: Case) -> dict[str, Case]:
    return {case.name: case for case in cases}


CASES = _all(
    Case(
        name="digits_sequence",
        load=lambda: datasets.digits_sequence(size=400, step=150),
    ),
)
