"""Measures updates and new rows, beside umap-learn's.

    python -m experiments.benchmarks.stream

fits two slices of the digits sequence and appends eight, places held-out digits in a
map, and times an update of sequences of 10, 50 and 200 slices.  Prints three tables
and writes `results/benchmarks/stream.json`.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any

import jax
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

import aljax
from aljax.metrics import knn_accuracy, trustworthiness
from experiments.benchmarks.cases import CASES
from experiments.benchmarks.parts import SEEDS, Row, run_parts
from experiments.benchmarks.peers import Maps, Problem, load_umap
from experiments.benchmarks.race import measure
from experiments.clocks import clocked
from experiments.data.sources import digits
from experiments.results.records import means

HELD_OUT = 200
NEIGHBORS = 15
VOTERS = 10
MEASURES = ("trustworthiness", "knn_accuracy", "displacement")


def updates() -> list[Row]:
    """Fits two slices and appends eight: seconds of an update, and the maps."""
    case = CASES["digits_sequence"]
    data = case.load()
    problem = Problem(data.slices, data.relations)
    ways: dict[str, Callable[..., tuple[Maps, list[float]]]] = {
        "aljax": update_ours,
        "umap-learn, as its code wants": update_umap_learn,
        "umap-learn, as its tutorial passes it": partial(update_umap_learn, back=True),
    }
    rows = []
    for name, way in ways.items():
        way(Problem(data.slices[:3], data.relations[:2]), 0)  # compiles
        runs = [way(problem, seed) for seed in SEEDS]
        measured = means([measure(case, data, maps) for maps, _ in runs])
        seconds = median(median(of_run) for _, of_run in runs)
        row = {"method": name, "seconds of an update": seconds}
        rows.append(row | {measure: measured[measure] for measure in MEASURES})
    return rows


def update_ours(data: Problem, seed: int) -> tuple[Maps, list[float]]:
    """Returns our maps, and the seconds of each update."""
    slices, relations = data
    key, seconds = jax.random.key(seed), []
    fitted = aljax.fit(slices[:2], relations[:1], key=key)
    for t in range(2, len(slices)):
        options = {"key": jax.random.fold_in(key, t)}
        call = partial(aljax.update, fitted, slices[t], relations[t - 1], **options)
        fitted, took = clocked(call)
        seconds.append(took)
    return fitted.slices(), seconds


def update_umap_learn(
    data: Problem, seed: int, *, back: bool = False
) -> tuple[Maps, list[float]]:
    """Returns umap-learn's maps, and the seconds of each update.

    With `back` relations are passed from the new slice to the one before.
    """
    slices, relations = data
    model = load_umap().AlignedUMAP(random_state=seed, transform_seed=seed)
    model.fit(list(slices[:2]), relations=[dict(r) for r in relations[:1]])
    seconds = []
    for t in range(2, len(slices)):
        mates = turned_back(relations[t - 1]) if back else dict(relations[t - 1])
        update = partial(model.update, slices[t], relations=mates)
        seconds.append(clocked(update)[1])
    return [np.asarray(m) for m in model.embeddings_], seconds


def turned_back(mates: Mapping[int, int]) -> dict[int, int]:
    """Returns the relations from a slice to the one before it."""
    return {later: row for row, later in mates.items()}


def lengths() -> list[Row]:
    """Times an update of sequences of some lengths, as the median of five."""
    counts = 10, 50, 200
    data = CASES["digits_sequence"].load()
    # A walk back and forth through the slices, the relations turned on the way back.
    steps = [*range(10), *range(8, 0, -1)]
    back = map(turned_back, reversed(data.relations))
    relations = cycle([*data.relations, *back])  # of each step and the next
    key, seconds = jax.random.key(0), {}
    fitted = aljax.fit(data.slices[:2], [next(relations)], key=key)
    for count in range(2, max(counts) + 5):
        rows = data.slices[steps[count % len(steps)]]
        call = partial(aljax.update, fitted, rows, next(relations), key=key)
        fitted, seconds[count] = clocked(call)
    medians = {c: median(seconds[i] for i in range(c, c + 5)) for c in counts}
    return [{"slices there": c, "seconds of an update": s} for c, s in medians.items()]


def unseen() -> list[Row]:
    """Places held-out digits in the map of the others."""
    images, classes = digits()
    order = np.random.default_rng(0).permutation(len(images))
    kept, held = order[:-HELD_OUT], order[-HELD_OUT:]
    umap = load_umap()

    def ours(seed: int) -> tuple[np.ndarray, Callable[[Any], np.ndarray]]:
        fitted = aljax.fit([images[kept]], key=jax.random.key(seed))
        return fitted.maps[0], partial(aljax.transform, fitted, 0)

    def theirs(seed: int) -> tuple[np.ndarray, Callable[[Any], np.ndarray]]:
        model = umap.UMAP(random_state=seed, n_jobs=1).fit(images[kept])
        return model.embedding_, model.transform

    rows = []
    for name, method in (("aljax", ours), ("umap-learn", theirs)):
        measures = []
        for seed in SEEDS:
            placed, transform = method(seed)
            call = partial(transform, images[held])
            call()
            new, took = clocked(call)
            votes = KNeighborsClassifier(VOTERS).fit(placed, classes[kept])
            row = {"seconds": took, "accuracy": votes.score(new, classes[held])}
            of_map = knn_accuracy(placed, classes[kept], n_neighbors=VOTERS)
            row["accuracy of the map"] = of_map
            trust = held_out_trustworthiness(images[kept], placed, images[held], new)
            measures.append(row | {"trustworthiness": trust})
        seconds = median(row["seconds"] for row in measures)
        rows.append({"method": name} | means(measures) | {"seconds": seconds})
    return rows


def held_out_trustworthiness(
    data: np.ndarray, placed: np.ndarray, rows: np.ndarray, new: np.ndarray
) -> float:
    """Returns the trustworthiness of new rows, each measured without the others.

    Their k neighbors among the placed rows in the map, against their ranks among
    them in the data: the measure of a data set of the placed rows and the one new.
    """
    each = [
        trustworthiness(
            np.vstack([data, row]),
            np.vstack([placed, position]),
            n_neighbors=NEIGHBORS,
            rows=np.array([len(data)]),
        )
        for row, position in zip(rows, new, strict=True)
    ]
    return float(np.mean(each))


if __name__ == "__main__":
    sys.exit(run_parts("stream", updates, lengths, unseen))
