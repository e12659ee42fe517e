"""Measures what saving, loading and the import cost.

    python -m experiments.benchmarks.everyday

makes a model of 10 slices of 7,000 rows of 784 numbers (laid out for no epoch), saves
and loads it, and starts fresh processes that import aljax, or only what it stands on,
in turn.  Prints medians in seconds.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import jax
import numpy as np

import aljax
from experiments.clocks import clocked

SLICES, ROWS, FEATURES = 10, 7_000, 784
REPEATS = 5
STARTS = 9


def model() -> aljax.AlignedEmbedding:
    """Returns a model of the size, whose neighbors are made up, to be quick."""
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


def started(*codes: str) -> list[float]:
    """Measures a fresh process for each code: by turns, so that a machine that
    slows down slows all, and without what an empty one takes.
    """
    taken: dict[str, list[float]] = {code: [] for code in ("pass", *codes)}
    for _ in range(STARTS):
        for code, seconds in taken.items():
            command = [sys.executable, "-c", code]
            seconds.append(clocked(lambda c=command: subprocess.run(c, check=True))[1])
    bare, *others = map(median, taken.values())
    return [seconds - bare for seconds in others]


def main() -> None:
    """Measures and prints."""
    big = model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps.aljax")
        saving, loading = (
            median(clocked(call)[1] for _ in range(REPEATS))
            for call in (lambda: big.save(path), lambda: aljax.load(path))
        )
        size = path.stat().st_size / 2**20
    print(f"{SLICES} x {ROWS:,} x {FEATURES}, {size:.0f} MiB")
    print(f"save {saving:.2f} s, load {loading:.2f} s, both {saving + loading:.2f} s")
    below, ours = started("import jax, equinox, optax", "import aljax")
    print(f"import jax, equinox, optax {below:.2f} s; import aljax {ours:.2f} s")
    print(f"ratio {ours / below:.2f}")


if __name__ == "__main__":
    main()
