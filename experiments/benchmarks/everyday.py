"""Measures what saving, loading, the import and calls that reuse a slice cost.

    python -m experiments.benchmarks.everyday [files imports calls]

`files` saves and loads a model of 10 slices of 7,000 rows of 784 numbers (laid out for
no epoch); `imports` starts fresh processes that import aljax, or only what it stands
on, in turn; `calls` asks a slice of 70,000 rows for 100 rows, NumPy in.  Prints a table
of seconds for each, medians of some repeats, and writes
`results/benchmarks/everyday.json`.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

import jax
import numpy as np

import aljax
from experiments.benchmarks.fresh import run_python
from experiments.benchmarks.parts import Row, run_parts
from experiments.clocks import clocked

FEATURES, QUERIES, REPEATS = 784, 100, 9


def model(slices: int, rows: int) -> aljax.AlignedEmbedding:
    """Returns a model of random rows whose neighbors are made up, to be quick."""
    rng = np.random.default_rng(0)
    shape = (rows, FEATURES)
    near = (np.arange(rows)[:, None] + np.arange(15)) % rows
    distances = np.tile(np.linspace(0, 1, 15, dtype=np.float32), (rows, 1))
    return aljax.fit(
        [rng.normal(size=shape).astype(np.float32) for _ in range(slices)],
        [{row: row for row in range(rows)}] * (slices - 1),
        key=jax.random.key(0),
        layout=aljax.LayoutConfig(n_epochs=0, init="random"),
        precomputed_knn=[(near, distances)] * slices,
    )


def files() -> list[Row]:
    """Saves and loads a model."""
    maps = model(10, 7_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps.aljax")
        saving, loading = (
            median(clocked(call)[1] for _ in range(REPEATS))
            for call in (lambda: maps.save(path), lambda: aljax.load(path))
        )
        size = path.stat().st_size / 2**20
    return [{"MiB": size, "save s": saving, "load s": loading}]


def imports() -> list[Row]:
    """Starts fresh processes by turns, so that a machine that slows down slows all."""
    seconds: dict[str, list[float]] = {
        code: [] for code in ("pass", "import jax, equinox, optax", "import aljax")
    }
    for _ in range(REPEATS):
        for code, taken in seconds.items():
            taken.append(run_python("-c", code)[0])
    empty, below, ours = map(median, seconds.values())
    below, ours = below - empty, ours - empty
    return [{"jax, equinox, optax s": below, "aljax s": ours, "ratio": ours / below}]


def calls() -> list[Row]:
    """Times a first call and later ones of both directions."""
    maps = model(1, 70_000)
    rows = np.random.default_rng(1).normal(size=(QUERIES, FEATURES)).astype(np.float32)
    positions = maps.maps[0][:QUERIES] + 0.1
    directions = {
        "maps.transform": lambda: maps.transform(rows),
        "maps.inverse_transform": lambda: maps.inverse_transform(positions).points,
    }
    table = []
    for name, call in directions.items():
        first, *later = (clocked(call)[1] for _ in range(1 + REPEATS))
        table.append({"call": name, "first s": first, "later s": median(later)})
    return table


if __name__ == "__main__":
    sys.exit(run_parts("everyday", files, imports, calls))
