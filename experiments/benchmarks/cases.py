"""The cases of the benchmark: data, settings, and the methods that compete."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.composition import compose
from experiments.data import sources
from experiments.data.baseball import batters
from experiments.data.dataset import Dataset, as_dicts

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
        fresh_runs: Fits in processes of their own.
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
    fresh_runs: int = 1

    def settings_of(self, method: str) -> dict[str, Any]:
        """Returns the arguments that a method is called with."""
        return {**self.settings, **self.own_settings.get(method, {})}


def with_dicts(source: str) -> Dataset:
    """Returns a source of `configs/data`, with relations as every method takes them."""
    dataset = sources.load(**compose([f"data={source}"])["data"])
    sizes = [*map(len, dataset.slices)]
    return replace(dataset, relations=as_dicts(dataset.relations, sizes))


def clusters(slices: int, points: int, features: int = 32, seed: int = 0) -> Dataset:
    """Draws 50 clusters that drift from slice to slice."""
    shape = {"slices": slices, "points": points, "features": features}
    return sources.drifting_clusters(**shape, clusters=50, seed=seed)


PARAMETERS = {
    "n_neighbors": [3, 4, 5, 7, 11, 16, 22, 29, 37, 45],
    "min_dist": [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45],
    "alignment_window_size": 2,
}

ALL = (
    Case(
        name="digits_sequence",
        load=lambda: sources.digits_sequence(size=400, step=150),
        fresh_runs=3,
    ),
    Case(
        name="digits_parameters",
        load=lambda: sources.digits_parameters(slices=10),
        settings=PARAMETERS,
        own_settings={"umap-learn": {"alignment_regularisation": 1e-3}},
    ),
    Case(
        name="fashion_70k",
        load=lambda: sources.fashion_whole(folder=None),
        methods=("aljax", "umap-learn", "manifolds-rs"),
        accuracy_neighbors=15,
        rows=1000,
    ),
    Case(
        name="fashion_sequence",
        load=lambda: sources.fashion(rows=17_500, size=5_000, step=2_500, folder=None),
        rows=1000,
    ),
    Case(
        name="fashion_drift",
        load=lambda: sources.fashion(rows=38_500, size=7_000, step=3_500, folder=None),
        rows=1000,
        seeds=(0,),
    ),
    Case(
        name="baseball",
        load=lambda: with_dicts("baseball"),
        methods=("aljax", "umap-learn"),
        seeds=(0,),
    ),
    Case(
        name="batters",
        load=batters,
        methods=("aljax", "umap-learn"),
        rows=1000,
        seeds=(0,),
    ),
    Case(
        name="synthetic_1m",
        load=lambda: clusters(10, 100_000),
        methods=("aljax",),
        rows=1000,
        seeds=(0,),
    ),
)
CASES = {case.name: case for case in ALL}
