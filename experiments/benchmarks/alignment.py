"""Weights learned for each slice against a grid of one weight for all slices.

    python -m experiments.benchmarks.alignment gapminder digits_sequence

For each sequence: 24 layouts with one weight each, the layout with learned weights,
and that with the default; preservation (5 %), stability (Pearson) and how far nearest
rows lie apart in maps five slices apart (`experiments.tasks.alignment_weights`).  Best
of the grid is the weight with the largest sum of the first two less the third.
Seconds are those of a second call, without compilation, and of the first.
"""

import argparse
from functools import partial
from typing import Any

import jax
import numpy as np

from aljax.compilation import enable_compilation_cache
from aljax.sweep import SweepProblem
from experiments import command, composition, settings
from experiments.clocks import clocked
from experiments.data import sources
from experiments.results.records import count
from experiments.tasks.alignment_weights import (
    laid_out_with,
    learn_weights,
    scored,
    total,
)
from experiments.tasks.training import read_training

GRID = np.geomspace(0.003, 3, 24).tolist()


def compare(name: str, overrides: list[str], seeds: int) -> None:
    """Prints a line for the best of the grid, the default and the learned weights."""
    arguments = ["experiment=alignment_weights", f"data={name}", *overrides]
    built = settings.build(composition.compose(arguments))
    dataset = sources.load(**built.data)
    problem = dataset.sweep()
    print(f"{name}: {[*map(len, dataset.slices)][:3]}..., {len(dataset.slices)} slices")
    keys = [jax.random.key(seed) for seed in range(1, 1 + seeds)]
    default = problem.alignment.alignment_regularisation
    _line("default", _scores(problem, default, keys))
    grid = [_scores(problem, weight, keys) for weight in GRID]
    best = int(np.argmax([total(row) for row in grid]))
    _line(f"best of grid, {GRID[best]:.3g}", grid[best])
    training = read_training(built.task["training"])
    options: dict[str, Any] = {k: built.task[k] for k in ("cost", "hidden_share")}
    options |= {"key": jax.random.key(0), "training": training}
    for call in ("first", "second"):
        (weights, report), seconds = clocked(partial(learn_weights, problem, **options))
        print(f"  {call} call: learned in {seconds:.1f} s")
    _, seconds = clocked(lambda: laid_out_with(problem, default, keys[0])[1].maps)
    print(f"  24 layouts take 24 x {seconds:.2f} = {24 * seconds:.1f} s")
    _line("learned", learned := _scores(problem, weights, keys))
    print(f"    weights {np.round(weights, 3).tolist()}, {report['saddles']} saddles")
    mean = float(np.exp(np.log(weights[:-1]).mean()))
    _line(f"their geometric mean, {mean:.3g}", _scores(problem, mean, keys))
    print(f"  better on all by one weight: {sum(_beats(r, learned) for r in grid)}")


def _beats(row: dict[str, float], other: dict[str, float]) -> bool:
    signs = {"preservation": 1, "stability": 1, "apart": -1}
    ahead = [sign * (row[name] - other[name]) for name, sign in signs.items()]
    return all(np.isnan(ahead) | (np.array(ahead) > 0))


def _scores(problem: SweepProblem, weights: Any, keys: Any) -> dict[str, float]:
    rows = [scored(problem, weights, key) for key in keys]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _line(name: str, row: dict[str, float]) -> None:
    shown = ", ".join(f"{key} {value:.4f}" for key, value in row.items())
    print(f"  {name}: {shown}, sum {total(row):.4f}", flush=True)


def main() -> None:
    """Compares on each sequence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--set", nargs="*", default=[], metavar="name=value")
    parser.add_argument("--seeds", type=count, default=2)
    options = parser.parse_args()
    enable_compilation_cache()
    for name in options.data:
        compare(name, options.set, options.seeds)


if __name__ == "__main__":
    command.finish(main)
