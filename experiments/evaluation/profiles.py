"""Names the sequences, methods and seeds of the evaluation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from experiments.data import sources
from experiments.data.dataset import Dataset
from experiments.evaluation.methods import FAMILIES, GRID, OURS_BY_EVIDENCE, Family


@dataclass(frozen=True)
class Profile:
    """The sequences, methods and seeds of one profile.

    Attributes:
        sequences: For each its arguments; those that are drawn by a seed are drawn by
            `data_seed`, the same for all methods.
        families: Who competes.
        seeds: One fit of each for each.
        once: Families that are fitted for the first seed only.
        data_seed: Draws the sequences.
    """

    sequences: Mapping[str, Mapping[str, Any]]
    families: Mapping[str, Family]
    seeds: Sequence[int] = (0, 1, 2)
    once: Collection[str] = ()
    data_seed: int = 0


PUBLISHED: dict[str, dict[str, Any]] = {
    "gaussians": {"slices": 10, "points": 2000, "clusters": 10},
    "sorts": {"slices": 100, "arrays": 10, "values": 100},
    "walk": {"slices": 50, "points": 300},
    "fashion_noise": {"slices": 10, "points": 1000},
    "network_states": {"slices": 30, "points": 1000},
    "gapminder": {},
    "digits_sequence": {"size": 400, "step": 150},
}
SMALL: dict[str, dict[str, Any]] = {
    "gaussians": {"slices": 5, "points": 300, "clusters": 6},
    "sorts": {"slices": 8, "arrays": 8, "values": 50},
    "walk": {"slices": 10, "points": 150},
    "fashion_noise": {"slices": 5, "points": 300},
    "network_states": {"slices": 6, "points": 300},
    "gapminder": {},
    "digits_sequence": {"size": 300, "step": 250},
}
# Not gapminder, of which there is one only, nor the digits, which have no stability.
TUNING: dict[str, dict[str, Any]] = {
    "gaussians": {"slices": 8, "points": 500, "clusters": 8},
    "sorts": {"slices": 30, "arrays": 10, "values": 100},
    "walk": {"slices": 25, "points": 300},
    "fashion_noise": {"slices": 8, "points": 500},
    "network_states": {"slices": 12, "points": 500},
}
# Minutes a sequence: three seeds of all take two cores about four hours.
SLOW = (
    OURS_BY_EVIDENCE,
    "UMAP, pooled",
    "t-SNE, pooled",
    "t-SNE, from the step before",
    "AlignedUMAP",
    "AlignedUMAP, best weight",
    "dynamic t-SNE",
)
PROFILES = {
    "full": Profile(PUBLISHED, FAMILIES, once=SLOW),
    "quick": Profile(SMALL, FAMILIES, seeds=(0,)),
    "tuning": Profile(TUNING, GRID, seeds=(0,), data_seed=100),
}


def load(name: str, profile: Profile) -> Dataset:
    """Loads a sequence of a profile."""
    options = dict(profile.sequences[name])
    if name not in ("gapminder", "digits_sequence"):
        options["seed"] = profile.data_seed
    return _load(name, tuple(options.items()))


@lru_cache(maxsize=1)  # the methods of a sequence come one after another
def _load(name: str, options: tuple[tuple[str, Any], ...]) -> Dataset:
    return sources.load(name, **dict(options))
