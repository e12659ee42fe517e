"""Compares the approximate searches for neighbors: aljax's own and pynndescent's.

    python -m experiments.benchmarks.neighbors [images clusters batters]

Each search runs twice in a fresh process, on 70,000 images of clothes, on 100,000 rows
in clusters, and on the counts of all batters, which have heavy tails: seconds of the
first call (imports and compilation included) and of the second, its processor time, and
the share of 14 neighbors that it finds for 1,000 rows, with a row itself 15.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from aljax.graph.approximate import approximate_knn
from aljax.graph.descent import descent_knn
from experiments.benchmarks.cases import clusters
from experiments.benchmarks.parts import Row, alone, run_parts
from experiments.clocks import clocked
from experiments.data import sources
from experiments.data.baseball import batters
from experiments.data.dataset import Dataset
from experiments.results.report import slice_recall

NEIGHBORS = 15
CASES: dict[str, Callable[[], Dataset]] = {
    "images": partial(sources.fashion_whole, folder=None),
    "clusters": partial(clusters, 1, 100_000),
    "batters": batters,
}
# What each needs is loaded by its first call.
SEARCHES = {"aljax": approximate_knn, "pynndescent": descent_knn}


def recall_of_others(data: np.ndarray, listed: Any) -> float:
    """Returns the share of true neighbors, but for a row itself, the first in both."""
    n_neighbors = len(listed)
    shared = slice_recall(data, listed)
    return (shared * n_neighbors - 1) / (n_neighbors - 1)


def row_of(case: tuple[str, str]) -> Row:
    """Measures one search of one case in this process."""
    name, method = case
    data = np.asarray(CASES[name]().slices[0])
    search = partial(SEARCHES[method], data, NEIGHBORS)
    _, first = clocked(search)
    began = time.process_time()
    found, second = clocked(search)
    busy = time.process_time() - began
    return {
        "search": method,
        "first s": first,
        "second s": second,
        "processor s": busy,
        "recall of 14": recall_of_others(data, found.indices),
    }


if __name__ == "__main__":
    parts = {
        name: partial(alone, row_of, [(name, method) for method in SEARCHES])
        for name in CASES
    }
    sys.exit(run_parts("neighbors", **parts))
