"""Reads the spread of every headline measure over seeds.

    python -m experiments.benchmarks.seeds digits_sequence fashion_sequence --seeds 20

fits each case once for each seed, measures the maps as the benchmark does, lays a
tenth of the first slice's rows aside to be placed and read back, prints a table and
writes `results/benchmarks/seeds_<case>.json`.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd

import aljax
from experiments import command
from experiments.benchmarks.cases import CASES, Case
from experiments.benchmarks.peers import Problem, aljax_fit
from experiments.benchmarks.race import measure
from experiments.data.dataset import Dataset
from experiments.results.records import BENCHMARKS, count, made_folder, markdown, store

HELD = 10  # one row of so many is laid aside

Spread = dict[str, dict[str, float]]


def fit_and_measure(case: Case, dataset: Dataset, seed: int) -> dict[str, float]:
    """Returns all measures of one seed."""
    problem = Problem(dataset.slices, dataset.relations)
    maps, _ = aljax_fit(problem, case.settings_of("aljax"), seed)
    return measure(case, dataset, maps) | {
        "inverse_error": read_back(dataset.slices[0], seed)
    }


def read_back(rows: np.ndarray, seed: int) -> float:
    """Measures the variance that placing unseen rows and reading them back loses."""
    held = np.arange(len(rows)) % HELD == 0
    fitted = aljax.fit([rows[~held]], key=jax.random.key(seed))
    placed = aljax.transform(fitted, 0, rows[held])
    decoded = fitted.inverse_transform(placed).points
    error = np.mean((np.asarray(decoded) - rows[held]) ** 2)
    return float(error / rows[held].var(axis=0).mean())


def spread(of_seeds: Sequence[dict[str, float]]) -> Spread:
    """Returns each measure's mean over seeds, standard deviation and both ends."""
    spreads: Any = pd.DataFrame(of_seeds).agg(["mean", "std", "min", "max"])
    spreads.index = ["mean", "deviation", "lowest", "highest"]
    spreads.loc["deviation"] = spreads.loc["deviation"].fillna(0)  # of one seed
    return spreads.to_dict()


def table(spreads: Spread) -> str:
    """Returns a line for each measure, as Markdown."""
    return markdown([{"measure": name} | spread for name, spread in spreads.items()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("cases", nargs="+", choices=sorted(CASES))
    parser.add_argument("--seeds", type=count, default=20)
    parser.add_argument("--out", type=made_folder, default=BENCHMARKS)
    options = parser.parse_args(arguments)
    for name in options.cases:
        case, dataset = CASES[name], CASES[name].load()
        of_seeds = [
            fit_and_measure(case, dataset, seed) for seed in range(options.seeds)
        ]
        spreads = spread(of_seeds)
        print(f"\n{name}, {options.seeds} seeds\n\n{table(spreads)}", flush=True)
        results = {"seeds": of_seeds, "spread": spreads}
        store(f"seeds_{name}", results, options.out)
    return 0


if __name__ == "__main__":
    command.finish(main)
