"""Fits data of several sizes on this process's device, such as a GPU.

    pip install -e ".[cuda,experiments]"
    python -m experiments.benchmarks.device [digits fashion million sequence]

Each is fitted twice by one key in a fresh process: seconds of the first fit, of the
second one and of its stages, whether both have the same bits, and quality on 1,000
rows.  The bytes that an epoch moves, by XLA's count, are compared with what the device
copies in a second.  Where the images of clothes are missing, clusters of their shape
take their place, and the table says so.
"""

import os
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import aljax
from aljax import metrics
from aljax.errors import InputError
from aljax.layout import step
from aljax.layout.optimize import epochs, shifts_of
from experiments.benchmarks.cases import CASES, clusters
from experiments.benchmarks.parts import Row, alone, run_parts
from experiments.clocks import clocked
from experiments.data import sources
from experiments.data.dataset import Dataset
from experiments.results.records import drawn

ROWS = 1000  # of the first slice, on which quality is measured
COPIED = 2**28  # numbers that are copied to read the bandwidth
NEIGHBORS = 15


def load(name: str) -> tuple[str, Dataset]:
    """Returns what a case is called, and its data."""
    if name == "digits":
        return "10 x 400 digits", CASES["digits_sequence"].load()
    if name == "fashion":
        try:
            return "70,000 x 784 clothes", sources.fashion_whole(folder=None)
        except InputError:
            return "70,000 x 784 clusters", clusters(1, 70_000, 784)
    if name == "million":
        return "1,000,000 x 50 clusters", clusters(1, 1_000_000, 50)
    return "10 x 100,000 x 32 clusters", clusters(10, 100_000, 32)


def row_of(name: str) -> Row:
    """Measures one case in this process."""
    title, data = load(name)
    problem = data.slices, data.relations
    call = partial(aljax.fit, *problem, key=jax.random.key(0))
    first, cold = clocked(call)
    second, warm = clocked(call)
    moved = bytes_of_epoch(aljax.prepare(*problem, key=jax.random.key(0)))
    count = epochs(second.layout, map(len, second.maps))
    rate = moved * count / second.seconds["layout"]
    pairs = zip(first.maps, second.maps, strict=True)
    return {
        "data": title,
        "first fit s": cold,
        "second fit s": warm,
        **{f"{s} s": second.seconds[s] for s in ("graph", "start", "layout")},
        **quality(data.slices[0], second.maps[0]),
        "GB per epoch": moved / 1e9,
        "of the bandwidth": rate / bandwidth(),
        "same bits": all(np.array_equal(x, y) for x, y in pairs),
    }


def quality(data: np.ndarray, placed: np.ndarray) -> Row:
    """Returns trustworthiness, and the share of true neighbors that the map keeps."""
    options = {"n_neighbors": NEIGHBORS, "rows": drawn(len(data), ROWS)}
    kept = metrics.neighborhood_preservation(data, placed, **options)
    return {"trust": metrics.trustworthiness(data, placed, **options), "kept": kept}


def bytes_of_epoch(prepared: Any) -> float:
    """Returns the bytes that a compiled epoch reads and writes, as XLA counts them."""
    n_shifts = shifts_of(prepared.problem, prepared.layout.n_shifts)
    arguments = prepared.problem, prepared.params, prepared.state
    epoch = jax.jit(partial(step, n_shifts=n_shifts))
    lowered = epoch.lower(*arguments, key=jax.random.key(0))
    costs = lowered.compile().cost_analysis()
    return float((costs or {}).get("bytes accessed", np.nan))


def bandwidth() -> float:
    """Returns the bytes that the device reads and writes in a second of copying."""
    copy = jax.jit(lambda numbers: numbers + 1)
    numbers = copy(jnp.zeros(COPIED, jnp.float32)).block_until_ready()
    seconds = min(clocked(partial(copy, numbers))[1] for _ in range(5))
    return 2 * numbers.nbytes / seconds


if __name__ == "__main__":
    # This process asks for the device's name; it may not keep the memory of others.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    cases = "digits", "fashion", "million", "sequence"
    sys.exit(run_parts("device", **{c: partial(alone, row_of, [c]) for c in cases}))
