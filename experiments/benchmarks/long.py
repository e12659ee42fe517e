"""Fits a long sequence in this process: seconds by stage, and peak memory.

    python -m experiments.benchmarks.long [--slices 512 --rows 2160 --explorer X.html]

The rows are the same members in every slice: points of clusters that walk at random.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import aljax
from experiments.clocks import clocked, peak_memory
from experiments.results.records import markdown

CLUSTERS, SPREAD, STEP = 20, 3.0, 0.1


def made_up(slices: int, rows: int, features: int) -> list[np.ndarray]:
    """Returns the slices; every row stays in its cluster and wanders a little."""
    rng = np.random.default_rng(0)
    cluster = np.arange(rows) % CLUSTERS
    centers = rng.normal(scale=SPREAD, size=(CLUSTERS, features))
    around = rng.normal(size=(rows, features))
    data = []
    for _ in range(slices):
        centers = centers + rng.normal(scale=STEP, size=centers.shape)
        around = around + rng.normal(scale=STEP, size=around.shape)
        data.append((centers[cluster] + around).astype(np.float32))
    return data


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser("python -m experiments.benchmarks.long")
    parser.add_argument("--slices", type=int, default=512)
    parser.add_argument("--rows", type=int, default=2160)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--explorer", help="an HTML page to write, too")
    asked = parser.parse_args(arguments)
    data = made_up(asked.slices, asked.rows, asked.features)
    before = peak_memory()
    ids = [[*range(asked.rows)]] * asked.slices
    maps, seconds = clocked(lambda: aljax.fit(data, ids, key=jax.random.key(0)))
    row: dict[str, Any] = {
        "size": f"{asked.slices} x {asked.rows:,} x {asked.features}"
    }
    for stage, value in (*maps.seconds.items(), ("fit s", seconds)):
        row[stage] = f"{value:.1f}"
    row["drift"] = aljax.metrics.center_drift(maps.slices())
    memory = {"peak MiB": peak_memory(), "of which data MiB": before}
    print(markdown([row | {name: f"{value:.0f}" for name, value in memory.items()}]))
    if asked.explorer:
        aljax.plot.explore(maps, asked.explorer)


if __name__ == "__main__":
    main()
