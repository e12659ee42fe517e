"""Times calls that reuse a slice: 100 queries on 70,000 x 784 rows, NumPy in.

python -m experiments.benchmarks.frame
"""

from statistics import median

import jax
import numpy as np

import aljax
from experiments.clocks import clocked
from experiments.results.records import markdown

ROWS, FEATURES, QUERIES, REPEATS = 70_000, 784, 100, 9


def model(rng: np.random.Generator) -> aljax.AlignedEmbedding:
    """Returns a model of random rows whose neighbors are made up, to be quick."""
    rows = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    indices = (np.arange(ROWS)[:, None] + np.arange(15)) % ROWS
    distances = np.tile(np.linspace(0, 1, 15, dtype=np.float32), (ROWS, 1))
    return aljax.fit(
        [rows],
        key=jax.random.key(0),
        layout=aljax.LayoutConfig(n_epochs=0, init="random"),
        precomputed_knn=[(indices, distances)],
    )


def main() -> None:
    """Prints a table of both directions."""
    rng = np.random.default_rng(0)
    maps = model(rng)
    rows = rng.normal(size=(QUERIES, FEATURES)).astype(np.float32)
    positions = maps.maps[0][:QUERIES] + 0.1
    calls = {
        "maps.transform": lambda: maps.transform(rows),
        "maps.inverse_transform": lambda: maps.inverse_transform(positions).points,
    }
    lines = []
    for name, call in calls.items():
        first, *later = (clocked(call)[1] for _ in range(1 + REPEATS))
        lines.append([name, f"{first:.3f}", median(later)])
    print(markdown(["call", "first s", "later s"], lines))


if __name__ == "__main__":
    main()
