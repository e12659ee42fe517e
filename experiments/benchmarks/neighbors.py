"""Compares the approximate searches for neighbors: aljax's own and pynndescent's.

    python -m experiments.benchmarks.neighbors [images clusters batters]

Each search runs twice in a fresh process, on 70,000 images of clothes, on 100,000 rows
in clusters, and on the counts of all batters, which have heavy tails: seconds of the
first call (imports and compilation included) and of the second, its processor time, and
the share of 14 neighbors that it finds for 1,000 rows, with a row itself 15.
"""

import sys
import time
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
from experiments.results.report import slice_recall

NEIGHBORS = 15


def load(name: str) -> np.ndarray:
    """Returns the rows of a case."""
    if name == "images":
        return np.asarray(sources.fashion_whole(folder=None).slices[0])
    if name == "batters":
        return np.asarray(batters().slices[0])
    return np.asarray(clusters(1, 100_000).slices[0])


# Neither loads what it needs before it is called.
SEARCHES = {"aljax": approximate_knn, "pynndescent": descent_knn}


def recall_of_others(data: np.ndarray, listed: Any) -> float:
    """Returns the share of true neighbors, but for a row itself, the first in both."""
    n_neighbors = len(listed)
    shared = slice_recall(data, listed)
    return (shared * n_neighbors - 1) / (n_neighbors - 1)


def row_of(case: tuple[str, str]) -> Row:
    """Measures one search of one case in this process."""
    name, method = case
    data = load(name)
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
    cases = {
        name: partial(alone, row_of, [(name, method) for method in SEARCHES])
        for name in ("images", "clusters", "batters")
    }
    sys.exit(run_parts("neighbors", **cases))
