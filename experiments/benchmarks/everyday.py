"""Measures what saving, loading and the import cost.

    python -m experiments.benchmarks.everyday

makes a model of 10 slices of 7,000 rows of 784 numbers (laid out for no epoch), saves
and loads it, and starts fresh processes that import aljax, or only what it stands on,
in turn.  Prints medians in seconds.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import aljax

SLICES, ROWS, FEATURES = 10, 7_000, 784
REPEATS = 5
STARTS = 9


def model() -> aljax.AlignedEmbedding:
    """A model of the size, whose neighbors are given as they take long to find."""
    rng = np.random.default_rng(0)
    rows = np.arange(ROWS)
    around = (rows[:, None] + np.arange(15)) % ROWS
    known = aljax.as_knn(around, np.tile(np.arange(15.0), (ROWS, 1)))
    fitted = aljax.fit(
        [known] * SLICES,
        [dict(zip(rows.tolist(), rows.tolist(), strict=True))] * (SLICES - 1),
        key=jax.random.key(0),
        layout=aljax.LayoutConfig(n_epochs=0, init="random"),
    )
    for t in range(SLICES):
        fitted.data[t] = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    return fitted


def clock(action: Callable[[], Any]) -> float:
    """The median of several runs, in seconds."""
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def started(*codes: str) -> list[float]:
    """Measures a fresh process for each code: by turns, so that a machine that
    slows down slows all, and without what an empty one takes.
    """
    taken: dict[str, list[float]] = {code: [] for code in ("pass", *codes)}
    for _ in range(STARTS):
        for code, seconds in taken.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds.append(time.perf_counter() - began)
    bare, *others = [statistics.median(seconds) for seconds in taken.values()]
    return [one - bare for one in others]


def main() -> None:
    """Measure and print."""
    big = model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps.aljax")
        saving = clock(lambda: big.save(path))
        loading = clock(lambda: aljax.load(path))
        size = path.stat().st_size / 2**20
    print(f"{SLICES} x {ROWS:,} x {FEATURES}, {size:.0f} MiB")
    print(f"save {saving:.2f} s, load {loading:.2f} s, both {saving + loading:.2f} s")
    below, ours = started("import jax, equinox, optax", "import aljax")
    print(f"import jax, equinox, optax {below:.2f} s; import aljax {ours:.2f} s")
    print(f"ratio {ours / below:.2f}")


if __name__ == "__main__":
    main()
