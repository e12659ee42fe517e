"""Reads the spread of every headline measure over seeds.

    python -m experiments.benchmarks.seeds digits_sequence fashion_sequence --seeds 20

fits each case once for each seed, measures the maps as the benchmark does, lays a
tenth of the first slice's rows aside to be placed and read back, prints a table and
writes `results/benchmarks/seeds_<case>.json`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import aljax
from experiments.benchmarks.cases import CASES, Case
from experiments.benchmarks.peers import Problem, aljax_fit
from experiments.benchmarks.race import machine, measure
from experiments.data.dataset import Dataset

HELD = 10  # one row of so many is laid aside

Spread = dict[str, dict[str, float]]


def fit_and_measure(case: Case, dataset: Dataset, seed: int) -> dict[str, float]:
    """All measures of one seed."""
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
    found = fitted.inverse_transform(placed).points
    lost = np.mean((np.asarray(found) - rows[held]) ** 2)
    return float(lost / rows[held].var(axis=0).mean())


def spread(found: Sequence[dict[str, float]]) -> Spread:
    """Of each measure the mean over seeds, the standard deviation and both ends."""
    summed = {}
    for name in found[0]:
        values = np.array([one[name] for one in found])
        summed[name] = {
            "mean": float(values.mean()),
            "deviation": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            "lowest": float(values.min()),
            "highest": float(values.max()),
        }
    return summed


def table(spreads: Spread) -> str:
    """A line for each measure, as Markdown."""
    lines = [
        ["measure", "mean", "standard deviation", "lowest", "highest"],
        ["---"] * 5,
    ]
    for name, one in spreads.items():
        lines.append([name, *(f"{value:.4f}" for value in one.values())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("cases", nargs="+", choices=sorted(CASES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    given = parser.parse_args(arguments)
    for name in given.cases:
        case, dataset = CASES[name], CASES[name].load()
        found = [fit_and_measure(case, dataset, seed) for seed in range(given.seeds)]
        spreads = spread(found)
        print(f"\n{name}, {given.seeds} seeds\n\n{table(spreads)}", flush=True)
        given.out.mkdir(parents=True, exist_ok=True)
        stored = {"machine": machine(), "seeds": found, "spread": spreads}
        path = given.out / f"seeds_{name}.json"
        path.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
