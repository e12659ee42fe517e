"""Measures a sweep's cost: one program, warm fits, and fresh processes.

    python -m experiments.benchmarks.sweep [warm fresh against_fits]

For 8 weights of the alignment and 3 seeds on the digits sequence, `warm` times the
whole sweep for several sizes of chunks in this process (median of the repeats, and
compilation apart), and as many fits; `fresh` times the sweep in fresh processes, and
single fits, of which 24 are reckoned; nothing is measured of the maps in any of them.
`against_fits` compares the sweep's maps and metrics with those of the fits, and with
the spread of five seeds.  Prints a table for each and writes
`results/benchmarks/sweep.json`.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import aljax
from aljax.sweep import SweepProblem, measure_row, sweep
from experiments.benchmarks.fresh import run_python
from experiments.benchmarks.parts import Row, run_parts
from experiments.benchmarks.peers import Problem, aljax_fit
from experiments.clocks import clocked
from experiments.data import sources
from experiments.data.dataset import Dataset
from experiments.tasks.grid import expand

CHUNKS, REPEATS = (1, 2, 4, 8, 24), 3
WEIGHT = "alignment_regularisation"
ROWS = expand({"product": {WEIGHT: {"log": [0.003, 1.0, 8]}, "seed": [0, 1, 2]}})
FRESH = {
    "fit": """
import jax, aljax
from experiments.data import sources
data = sources.digits_sequence(size=400, step=150)
aljax.fit(data.slices, data.relations, key=jax.random.key(0)).slices()
""",
    "sweep": """
from experiments.benchmarks import sweep
sweep.run_sweep(sweep.load(), None)
""",
}


def load() -> Dataset:
    """Returns the digits sequence."""
    return sources.digits_sequence(size=400, step=150)


def run_sweep(dataset: Dataset, chunk: int | None) -> Any:
    """Lays all rows out as one sweep, and measures nothing."""
    return sweep(
        SweepProblem(dataset.slices, dataset.relations),
        [{WEIGHT: row[WEIGHT]} for row in ROWS],
        keys=[jax.random.key(row["seed"]) for row in ROWS],
        chunk=chunk,
        measure=lambda *_: {},
    )


def fit(dataset: Dataset, seed: int, weight: float | None = None) -> list[np.ndarray]:
    """Returns the maps of a fit of its own; None stands for the default weight."""
    settings = {} if weight is None else {WEIGHT: weight}
    return aljax_fit(Problem(dataset.slices, dataset.relations), settings, seed)[0]


def run_fits(dataset: Dataset) -> list[list[np.ndarray]]:
    """Lays the same rows out, each by a fit of its own."""
    return [fit(dataset, row["seed"], row[WEIGHT]) for row in ROWS]


def warm() -> list[Row]:
    """Times sweeps and fits in turn, so that a busy minute meets all alike."""
    dataset = load()
    runs: dict[str, Callable[[], Any]] = {
        f"chunk {chunk}": partial(run_sweep, dataset, chunk) for chunk in CHUNKS
    }
    runs["24 fits"] = partial(run_fits, dataset)
    rounds = [[clocked(run)[1] for run in runs.values()] for _ in range(1 + REPEATS)]
    later = np.median(rounds[1:], axis=0)
    return [
        {"run": name, "warm s": float(seconds), "compilation s": float(first - seconds)}
        for name, first, seconds in zip(runs, rounds[0], later, strict=True)
    ]


def fresh() -> list[Row]:
    """Times fresh processes, import and compilation included."""
    seconds = {}
    for name, code in FRESH.items():
        runs = [run_python("-c", code) for _ in range(REPEATS)]
        seconds[name] = float(np.median([taken for taken, _ in runs]))
    fits = len(ROWS) * seconds["fit"]
    share = seconds["sweep"] / fits
    return [{"24 fits s": fits, "one sweep s": seconds["sweep"], "share": share}]


def against_fits() -> list[Row]:
    """Compares a sweep's metrics with its fits', against the spread of 5 seeds."""
    dataset = load()
    prepared = aljax.prepare(dataset.slices, dataset.relations, key=jax.random.key(0))
    fits, table = run_fits(dataset), []
    for chunk in (1, 4):
        stacked = run_sweep(dataset, chunk).maps
        rows = [[maps[row] for maps in stacked] for row in range(len(ROWS))]
        pairs = [*zip(rows, fits, strict=True)]
        same = all(
            np.array_equal(x, y) for pair in pairs for x, y in zip(*pair, strict=True)
        )
        gaps = [_gaps([measure_row(maps, prepared) for maps in pair]) for pair in pairs]
        largest = {name: max(gap[name] for gap in gaps) for name in gaps[0]}
        table.append({"largest gaps": f"chunk {chunk}", "same bits": same, **largest})
    seeds = [measure_row(fit(dataset, seed), prepared) for seed in range(5)]
    return [*table, {"largest gaps": "5 seeds", "same bits": "", **_gaps(seeds)}]


def _gaps(measured: list[dict[str, float]]) -> dict[str, float]:
    """Returns how far apart each metric's values lie."""
    return {
        name: float(np.ptp([metrics[name] for metrics in measured]))
        for name in measured[0]
    }


if __name__ == "__main__":
    sys.exit(run_parts("sweep", warm, fresh, against_fits))
