"""Measures updates and new rows, beside umap-learn's.

    python -m experiments.benchmarks.stream

fits two slices of the digits sequence and appends eight, places held-out digits in a
map, and times an update of sequences of 10, 50 and 200 slices.  Prints three tables
and writes `results/benchmarks/stream.json`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import jax
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

import aljax
from aljax.metrics import knn_accuracy, trustworthiness
from experiments.benchmarks.cases import CASES
from experiments.benchmarks.parts import SEEDS, Row, run_parts
from experiments.benchmarks.peers import load_umap
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
    rows = []
    ways = {"aljax": _ours, "umap-learn, as its code wants": _theirs(turned=False)}
    ways["umap-learn, as its tutorial passes it"] = _theirs(turned=True)
    for name, way in ways.items():
        way(data.slices[:3], data.relations[:2], 0)  # compiles
        runs = [way(data.slices, data.relations, seed) for seed in SEEDS]
        quality = [measure(case, data, maps) for maps, _ in runs]
        measured = means(quality)
        seconds = float(np.median([took for _, took in runs]))
        row = {"method": name, "seconds of an update": seconds}
        rows.append(row | {measure: measured[measure] for measure in MEASURES})
    return rows


def _ours(
    slices: Sequence[np.ndarray], relations: Sequence[Mapping[int, int]], seed: int
) -> tuple[list[np.ndarray], float]:
    key = jax.random.key(seed)
    fitted = aljax.fit(slices[:2], relations[:1], key=key)
    seconds = []
    for t in range(2, len(slices)):
        options = {"key": jax.random.fold_in(key, t)}
        call = partial(aljax.update, fitted, slices[t], relations[t - 1], **options)
        fitted, took = clocked(call)
        seconds.append(took)
    return fitted.slices(), float(np.median(seconds))


def _theirs(*, turned: bool) -> Callable[..., tuple[list[np.ndarray], float]]:
    umap = load_umap()

    def way(
        slices: Sequence[np.ndarray], relations: Sequence[Mapping[int, int]], seed: int
    ) -> tuple[list[np.ndarray], float]:
        model = umap.AlignedUMAP(random_state=seed, transform_seed=seed)
        model.fit(list(slices[:2]), relations=[dict(r) for r in relations[:1]])
        seconds = []
        for t in range(2, len(slices)):
            mates = dict(relations[t - 1])
            mates = {new: old for old, new in mates.items()} if turned else mates
            update = partial(model.update, slices[t], relations=mates)
            seconds.append(clocked(update)[1])
        return [np.asarray(m) for m in model.embeddings_], float(np.median(seconds))

    return way


def lengths() -> list[Row]:
    """Times an update of sequences of some lengths, as the median of five."""
    counts = 10, 50, 200
    data = CASES["digits_sequence"].load()
    # A walk back and forth through the slices, the relations turned on the way back.
    there_and_back = list(range(10)) + list(range(8, 0, -1))
    steps = [there_and_back[i % len(there_and_back)] for i in range(max(counts) + 6)]
    key, seconds = jax.random.key(0), {}
    first = [data.slices[t] for t in steps[:2]]
    fitted = aljax.fit(first, [_step(data, *steps[:2])], key=key)
    for count in range(2, max(counts) + 6):
        relation = _step(data, steps[count - 1], steps[count])
        rows = data.slices[steps[count]]
        call = partial(aljax.update, fitted, rows, relation, key=key)
        fitted, seconds[count] = clocked(call)
    medians = {c: median(seconds[i] for i in range(c, c + 5)) for c in counts}
    return [{"slices there": c, "seconds of an update": s} for c, s in medians.items()]


def _step(data: Any, before: int, after: int) -> dict[int, int]:
    if after > before:
        return dict(data.relations[before])
    return {new: old for old, new in data.relations[after].items()}


def unseen() -> list[Row]:
    """Places held-out digits in the map of the others."""
    images, classes = digits()
    order = np.random.default_rng(0).permutation(len(images))
    kept, held = order[:-HELD_OUT], order[-HELD_OUT:]
    umap = load_umap()

    def ours(seed: int) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        fitted = aljax.fit([images[kept]], key=jax.random.key(seed))
        return fitted.maps[0], lambda: aljax.transform(fitted, 0, images[held])

    def theirs(seed: int) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        model = umap.UMAP(random_state=seed, n_jobs=1).fit(images[kept])
        return model.embedding_, lambda: model.transform(images[held])

    rows = []
    for name, method in (("aljax", ours), ("umap-learn", theirs)):
        measures = []
        for seed in SEEDS:
            placed, call = method(seed)
            call()
            new, took = clocked(call)
            votes = KNeighborsClassifier(VOTERS).fit(placed, classes[kept])
            row = {"seconds": took, "accuracy": votes.score(new, classes[held])}
            of_map = knn_accuracy(placed, classes[kept], n_neighbors=VOTERS)
            row["accuracy of the map"] = of_map
            trust = held_out_trustworthiness(images[kept], placed, images[held], new)
            measures.append(row | {"trustworthiness": trust})
        seconds = float(np.median([figures["seconds"] for figures in measures]))
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
