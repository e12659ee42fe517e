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


# The names of a sequence's sizes, and these as published, small, and for tuning: there
# not gapminder, of which there is one only, nor the digits, which have no stability.
SIZES: dict[str, tuple[str, *tuple[tuple[int, ...] | None, ...]]] = {
    "gaussians": ("slices points clusters", (10, 2000, 10), (5, 300, 6), (8, 500, 8)),
    "sorts": ("slices arrays values", (100, 10, 100), (8, 8, 50), (30, 10, 100)),
    "walk": ("slices points", (50, 300), (10, 150), (25, 300)),
    "fashion_noise": ("slices points", (10, 1000), (5, 300), (8, 500)),
    "network_states": ("slices points", (30, 1000), (6, 300), (12, 500)),
    "gapminder": ("", (), (), None),
    "digits_sequence": ("size step", (400, 150), (300, 250), None),
}


def _sequences(column: int) -> dict[str, dict[str, int]]:
    return {
        name: dict(zip(names.split(), sizes, strict=True))
        for name, (names, *columns) in SIZES.items()
        if (sizes := columns[column]) is not None
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
    "full": Profile(_sequences(0), FAMILIES, once=SLOW),
    "quick": Profile(_sequences(1), FAMILIES, seeds=(0,)),
    "tuning": Profile(_sequences(2), GRID, seeds=(0,), data_seed=100),
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
