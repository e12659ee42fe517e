"""Measures updates and new rows, beside umap-learn's.

    python -m experiments.benchmarks.stream

fits two slices of the digits sequence and appends eight, places held-out digits in a
map, and times an update of sequences of 10, 50 and 200 slices.  Prints three tables
and writes `results/benchmarks/stream.json`.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import aljax
from aljax.metrics import knn_accuracy, trustworthiness
from experiments.benchmarks import peers
from experiments.benchmarks.cases import CASES
from experiments.benchmarks.parts import Row, run_parts
from experiments.benchmarks.race import measure

SEEDS = (0, 1, 2)
HELD_OUT = 200
NEIGHBORS = 15
VOTERS = 10


def updates() -> list[Row]:
    """Two slices fitted and eight appended: seconds of an update, and the maps."""
    case = CASES["digits_sequence"]
    data = case.load()
    rows = []
    ways = {"aljax": _ours, "umap-learn, as its code wants": _theirs(turned=False)}
    ways["umap-learn, as its tutorial passes it"] = _theirs(turned=True)
    for name, way in ways.items():
        way(data.slices[:3], data.relations[:2], 0)  # compiles
        runs = [way(data.slices, data.relations, seed) for seed in SEEDS]
        quality = [measure(case, data, maps) for maps, _ in runs]
        rows.append(
            {"method": name}
            | {"seconds of an update": float(np.median([s for _, s in runs]))}
            | {
                key: float(np.mean([one[key] for one in quality]))
                for key in ("trustworthiness", "knn_accuracy", "displacement")
            }
        )
    return rows


def _ours(
    slices: Sequence[np.ndarray], relations: Sequence[Mapping[int, int]], seed: int
) -> tuple[list[np.ndarray], float]:
    key = jax.random.key(seed)
    fitted = aljax.fit(slices[:2], relations[:1], key=key)
    seconds = []
    for t in range(2, len(slices)):
        began = time.perf_counter()
        own = jax.random.fold_in(key, t)
        fitted = aljax.update(fitted, slices[t], relations[t - 1], key=own)
        seconds.append(time.perf_counter() - began)
    return fitted.slices(), float(np.median(seconds))


def _theirs(*, turned: bool) -> Callable[..., tuple[list[np.ndarray], float]]:
    umap = peers.load_peer("umap", "umap-learn==0.5.12")

    def way(
        slices: Sequence[np.ndarray], relations: Sequence[Mapping[int, int]], seed: int
    ) -> tuple[list[np.ndarray], float]:
        model = umap.AlignedUMAP(random_state=seed, transform_seed=seed)
        model.fit(list(slices[:2]), relations=[dict(r) for r in relations[:1]])
        seconds = []
        for t in range(2, len(slices)):
            one = dict(relations[t - 1])
            one = {new: old for old, new in one.items()} if turned else one
            began = time.perf_counter()
            model.update(slices[t], relations=one)
            seconds.append(time.perf_counter() - began)
        return [np.asarray(m) for m in model.embeddings_], float(np.median(seconds))

    return way


def lengths(counts: Sequence[int] = (10, 50, 200)) -> list[Row]:
    """Seconds of an update of sequences of some lengths: the median of five."""
    data = CASES["digits_sequence"].load()
    # A walk back and forth through the slices, the relations turned on the way back.
    there = list(range(10)) + list(range(8, 0, -1))
    steps = [there[i % len(there)] for i in range(max(counts) + 6)]
    key, rows = jax.random.key(0), []
    fitted = aljax.fit(
        [data.slices[t] for t in steps[:2]], [_step(data, *steps[:2])], key=key
    )
    for count in range(2, max(counts) + 6):
        began = time.perf_counter()
        relation = _step(data, steps[count - 1], steps[count])
        fitted = aljax.update(fitted, data.slices[steps[count]], relation, key=key)
        rows.append((count, time.perf_counter() - began))
    found = dict(rows)
    return [
        {
            "slices there": count,
            "seconds of an update": float(
                np.median([found[c] for c in range(count, count + 5)])
            ),
        }
        for count in counts
    ]


def _step(data: Any, before: int, after: int) -> dict[int, int]:
    if after > before:
        return dict(data.relations[before])
    return {new: old for old, new in data.relations[after].items()}


def unseen() -> list[Row]:
    """Held-out digits placed in the map of the others."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    digits: Any = load_digits()
    images, classes = digits.data.astype(np.float32), digits.target
    order = np.random.default_rng(0).permutation(len(images))
    known, held = order[:-HELD_OUT], order[-HELD_OUT:]
    umap = peers.load_peer("umap", "umap-learn==0.5.12")

    def ours(seed: int) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        fitted = aljax.fit([images[known]], key=jax.random.key(seed))
        return fitted.maps[0], lambda: aljax.transform(fitted, 0, images[held])

    def theirs(seed: int) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        model = umap.UMAP(random_state=seed, n_jobs=1).fit(images[known])
        return model.embedding_, lambda: model.transform(images[held])

    rows = []
    for name, method in (("aljax", ours), ("umap-learn", theirs)):
        each = []
        for seed in SEEDS:
            placed, call = method(seed)
            call()
            began = time.perf_counter()
            new = call()
            took = time.perf_counter() - began
            votes = KNeighborsClassifier(VOTERS).fit(placed, classes[known])
            each.append(
                {
                    "seconds": took,
                    "accuracy": float(votes.score(new, classes[held])),
                    "accuracy of the map": knn_accuracy(
                        placed, classes[known], n_neighbors=VOTERS
                    ),
                    "trustworthiness": held_out_trustworthiness(
                        images[known], placed, images[held], new
                    ),
                }
            )
        means = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
        means["seconds"] = float(np.median([one["seconds"] for one in each]))
        rows.append({"method": name} | means)
    return rows


def held_out_trustworthiness(
    data: np.ndarray, placed: np.ndarray, rows: np.ndarray, new: np.ndarray
) -> float:
    """Trustworthiness of new rows among placed ones: each measured without the others.

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
    sys.exit(run_parts("stream", (updates, lengths, unseen)))
