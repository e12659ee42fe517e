"""One fit by one method in a process that does nothing else, for the benchmark.

    python -m experiments.benchmarks.fresh METHOD DATA.npz SETTINGS.json SEED

It imports what the method needs and no more: its time from start to end is what a
user waits for a first map.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.peers import METHODS, Problem


def save(data: Problem, path: Path) -> None:
    """Writes slices and relations where `load` finds them, in another process."""
    arrays = {f"slice_{t}": rows for t, rows in enumerate(data.slices)}
    pairs = {
        f"relation_{t}": np.array([*relation.items()]).reshape(-1, 2)
        for t, relation in enumerate(data.relations)
    }
    np.savez(path, allow_pickle=False, **arrays, **pairs)


def load(path: Path) -> Problem:
    """Returns the slices and relations that `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        count = sum(name.startswith("slice_") for name in file.files)
        slices = [file[f"slice_{t}"] for t in range(count)]
        pairs = [file[f"relation_{t}"] for t in range(count - 1)]
    return Problem(slices, [dict(pair.tolist()) for pair in pairs])


def main(method: str, data: str, settings: str, seed: str) -> None:
    """Fits once, and says nothing."""
    chosen: dict[str, Any] = json.loads(Path(settings).read_text())
    METHODS[method](load(Path(data)), chosen, int(seed))


if __name__ == "__main__":
    main(*sys.argv[1:])
