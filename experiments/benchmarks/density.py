"""Compares maps that keep densities: aljax's densMAP, umap-learn's, and plain maps.

    python -m experiments.benchmarks.density [digits fashion placed]

Means over seeds 0, 1 and 2 of the correlation of local radii (in the data and in the
map), of trustworthiness (15 neighbors) and of the seconds of a warm fit.  `placed`
lays three quarters of the digits out, places the rest, and correlates the radii of
the placed rows alone, each among all rows.
"""

import sys

import jax
import numpy as np

import aljax
from aljax.metrics import density_preservation, local_radii, trustworthiness
from aljax.metrics.distances import pearson
from experiments.benchmarks.parts import SEEDS, Row, over_seeds, run_parts
from experiments.benchmarks.peers import Problem
from experiments.benchmarks.race import warm_fits
from experiments.data import sources
from experiments.data.fashion import fashion_mnist
from experiments.results.records import means

WAYS = (("aljax", True), ("umap-learn", True), ("aljax", False))


def way(method: str, densmap: bool) -> str:
    """Returns the name of a method with densities or without."""
    return f"{method}, densmap" if densmap else method


def compare(data: np.ndarray) -> list[Row]:
    """Measures the maps of each method."""
    rows = []
    for method, densmap in WAYS:
        _, *fits = warm_fits(method, Problem([data], []), {"densmap": densmap}, SEEDS)
        measures = [
            {
                "density": density_preservation(data, positions),
                "trustworthiness": trustworthiness(data, positions, n_neighbors=15),
                "fit s": seconds["fit"],
            }
            for (positions,), seconds in fits
        ]
        rows.append({"method": way(method, densmap)} | means(measures))
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

    def place(seed: int) -> dict[str, Row]:
        order = np.random.default_rng(seed).permutation(len(data))
        new, old = np.split(data[order], [len(data) // 4])
        radii, rows = local_radii(data[order])[: len(new)], {}
        for densmap in (True, False):
            layout = aljax.LayoutConfig(densmap=densmap)
            maps = aljax.fit([old], key=jax.random.key(seed), layout=layout)
            placed = local_radii(np.concatenate([maps.transform(new), maps.maps[0]]))
            rows[way("aljax", densmap)] = {
                "density": pearson(radii, placed[: len(new)])
            }
        return rows

    return over_seeds("method", place)


if __name__ == "__main__":
    sys.exit(run_parts("density", digits, fashion, placed))
