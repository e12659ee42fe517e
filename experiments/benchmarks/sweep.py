"""Measures a sweep's cost: one program, warm fits, and fresh processes.

    python -m experiments.benchmarks.sweep

reads, for 8 weights of the alignment and 3 seeds on the digits sequence: the whole
sweep for several sizes of chunks in this process (warm, median of the repeats, and
compilation apart), as many warm fits, and a few fits in fresh processes, of which
24 are reckoned; and the same sweep in a fresh process.  Nothing is measured of the
maps in any of them.  Writes `results/benchmarks/sweep.json`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.clocks import clocked
from experiments.data import sources
from experiments.data.dataset import Dataset
from experiments.results.records import machine, write_json
from experiments.tasks.grid import expand

GRID = {
    "product": {
        "alignment_regularisation": {"log": [0.003, 1.0, 8]},
        "seed": [0, 1, 2],
    }
}
FRESH_FIT = """
import jax, aljax
from experiments.data import sources
data = sources.digits_sequence(size=400, step=150)
aljax.fit(data.slices, data.relations, key=jax.random.key(0)).slices()
"""
FRESH_SWEEP = """
from experiments.benchmarks import sweep
sweep.run_sweep(sweep.load(), None)
"""


def load() -> Dataset:
    """Returns the digits sequence."""
    return sources.digits_sequence(size=400, step=150)


def run_sweep(dataset: Dataset, chunk: int | None) -> Any:
    """Lays all rows out as one sweep, and measures nothing."""
    import jax

    from aljax.sweep import SweepProblem, sweep

    rows = expand(GRID)
    return sweep(
        SweepProblem(dataset.slices, dataset.relations),
        [{name: v for name, v in row.items() if name != "seed"} for row in rows],
        keys=[jax.random.key(row["seed"]) for row in rows],
        chunk=chunk,
        measure=lambda *_: {},
    )


def run_fits(dataset: Dataset) -> list[list[np.ndarray]]:
    """Lays the same rows out, each by a fit of its own."""
    import jax

    import aljax

    return [
        aljax.fit(
            dataset.slices,
            dataset.relations,
            key=jax.random.key(row["seed"]),
            alignment=aljax.AlignmentConfig(row["alignment_regularisation"]),
        ).slices()
        for row in expand(GRID)
    ]


def compare(dataset: Dataset) -> dict[str, Any]:
    """Compares a sweep's metrics with its fits', against the spread of 5 seeds."""
    import jax

    import aljax
    from aljax.fit import prepare
    from aljax.sweep import Maps, measure_row

    begun = prepare(dataset.slices, dataset.relations, key=jax.random.key(0))
    own = {}
    for chunk in (1, 4):
        found, alone = run_sweep(dataset, chunk), run_fits(dataset)
        bits = all(
            np.array_equal(found.maps[t][row], one)
            for row, maps in enumerate(alone)
            for t, one in enumerate(maps)
        )
        gaps = []
        for row, maps in enumerate(alone):
            rows: Maps = [stacked[row] for stacked in found.maps]
            pair = measure_row(rows, begun), measure_row(maps, begun)
            gaps.append({name: abs(pair[0][name] - pair[1][name]) for name in pair[0]})
        largest = {name: max(gap[name] for gap in gaps) for name in gaps[0]}
        own[f"chunk {chunk}"] = {"same bits": bits, "largest difference": largest}
    seeds = [
        measure_row(
            aljax.fit(
                dataset.slices, dataset.relations, key=jax.random.key(s)
            ).slices(),
            begun,
        )
        for s in range(5)
    ]
    own["spread of 5 seeds"] = {
        name: float(np.ptp([one[name] for one in seeds])) for name in seeds[0]
    }
    return own


def _fresh(code: str) -> float:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return clocked(lambda: subprocess.run(command, check=True))[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads all figures and writes them."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.sweep")
    parser.add_argument("--chunks", nargs="+", type=int, default=[1, 2, 4, 8, 24])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fresh", type=int, default=3, help="fits in fresh processes")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args(arguments)
    dataset, found = load(), {}
    warm: dict[str, list[float]] = {}
    runs: dict[str, Callable[[], Any]] = {
        f"chunk {c}": partial(run_sweep, dataset, c) for c in asked.chunks
    }
    runs["24 fits"] = partial(run_fits, dataset)
    first = {name: clocked(run)[1] for name, run in runs.items()}
    for _ in range(asked.repeats):  # in turn, so that a busy minute meets all alike
        for name, run in runs.items():
            warm.setdefault(name, []).append(clocked(run)[1])
    found["warm seconds"] = {name: float(np.median(own)) for name, own in warm.items()}
    found["compilation seconds"] = {
        name: first[name] - found["warm seconds"][name] for name in runs
    }
    if asked.fresh:
        fits = [_fresh(FRESH_FIT) for _ in range(asked.fresh)]
        sweeps = [_fresh(FRESH_SWEEP) for _ in range(asked.fresh)]
        found["24 fresh processes"] = 24 * float(np.median(fits))
        found["one fresh sweep"] = float(np.median(sweeps))
        found["share"] = found["one fresh sweep"] / found["24 fresh processes"]
    found["rows against fits"] = compare(dataset)
    write_json(asked.out / "sweep.json", found | {"machine": machine()})
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
