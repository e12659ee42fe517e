"""Compares maps that keep densities: aljax's densMAP, umap-learn's, and plain maps.

    python -m experiments.benchmarks.density [digits fashion placed]

Means over seeds 0, 1 and 2 of the correlation of local radii (in the data and in the
map), of trustworthiness (15 neighbors) and of the seconds of a warm fit.  `placed`
lays three quarters of the digits out, places the rest, and correlates the radii of
the placed rows alone, each among all rows.
"""

import sys
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

import aljax
from aljax.metrics import density_preservation, local_radii, trustworthiness
from aljax.metrics.distances import pearson
from experiments.benchmarks.parts import SEEDS, Row, run_parts
from experiments.benchmarks.peers import load_umap
from experiments.clocks import clocked
from experiments.data import sources
from experiments.data.fashion import fashion_mnist
from experiments.results.records import means

Method = Callable[[np.ndarray, int], np.ndarray]


def aljax_map(data: np.ndarray, seed: int, *, densmap: bool = True) -> np.ndarray:
    """Returns our map."""
    layout = aljax.LayoutConfig(densmap=densmap)
    return aljax.fit([data], key=jax.random.key(seed), layout=layout).maps[0]


def umap_map(data: np.ndarray, seed: int) -> np.ndarray:
    """Returns umap-learn's densMAP."""
    model = load_umap().UMAP(densmap=True, random_state=seed, n_jobs=1)
    return model.fit_transform(data)


METHODS: dict[str, Method] = {
    "aljax, densmap": aljax_map,
    "umap-learn, densmap": umap_map,
    "aljax": partial(aljax_map, densmap=False),
}


def compare(data: np.ndarray) -> list[Row]:
    """Measures the maps of each method."""
    rows = []
    for name, method in METHODS.items():
        method(data[: len(data) if "aljax" in name else 500], 0)  # compiles
        measures = []
        for seed in SEEDS:
            positions, seconds = clocked(partial(method, data, seed))
            density = density_preservation(data, positions)
            trust = trustworthiness(data, positions, n_neighbors=15)
            measures.append(
                {"density": density, "trustworthiness": trust, "fit s": seconds}
            )
        rows.append({"method": name, **means(measures)})
    return rows


def digits() -> list[Row]:
    """Maps 1,797 digits."""
    return compare(sources.digits()[0])


def fashion() -> list[Row]:
    """Maps the first 5,000 images of clothes."""
    return compare(fashion_mnist()[0][:5000].astype(np.float32))


def placed() -> list[Row]:
    """Places digits in maps of others."""
    data = sources.digits()[0]
    rows = []
    for densmap in (True, False):
        measures = []
        for seed in SEEDS:
            order = np.random.default_rng(seed).permutation(len(data))
            new, old = np.split(data[order], [len(data) // 4])
            layout = aljax.LayoutConfig(densmap=densmap)
            maps = aljax.fit([old], key=jax.random.key(seed), layout=layout)
            positions = np.concatenate([maps.transform(new), maps.maps[0]])
            pair = local_radii(data[order]), local_radii(positions)
            measures.append(
                {"density": pearson(*(radii[: len(new)] for radii in pair))}
            )
        name = "aljax, densmap" if densmap else "aljax"
        rows.append({"method": name, **means(measures)})
    return rows


if __name__ == "__main__":
    sys.exit(run_parts("density", digits, fashion, placed))
