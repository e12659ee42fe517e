"""Counts which wrong relations, distances and new rows are noticed on real sequences.

    python -m experiments.benchmarks.doors [contradicted matrices guesses sets ...]

`contradicted` counts the pairs of slices of which a warning says that the data
contradict their relations; these are right, or wrong in some way.  `matrices` compares
graphs of distances as other tools make them with those of umap-learn.  `guesses` has
the share of rows that `place` finds inside, for rows that the map has not seen and rows
unlike its own.  `sets` has the share of the nearest neighbors that a search finds, and
its seconds.  Sequences whose packages are missing are left out.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.sparse
from sklearn.metrics import pairwise_distances

import aljax
from aljax.errors import InputError
from aljax.graph.neighbors import find_neighbors
from aljax.relations.mates import Mates
from aljax.relations.strengths import relate
from experiments.benchmarks.cases import CASES
from experiments.benchmarks.parts import Row, run_parts
from experiments.benchmarks.peers import load_umap
from experiments.clocks import clocked
from experiments.data import sequences, sources
from experiments.data.baseball import baseball
from experiments.data.countries import countries, freedom
from experiments.data.dataset import Dataset
from experiments.data.senate import senate

KEY = jax.random.key(0)
BARE = aljax.LayoutConfig(n_epochs=0, init="random")
SEQUENCES: dict[str, Callable[[], Dataset]] = {
    "digits": CASES["digits_sequence"].load,
    "gapminder": sequences.gapminder,
    "freedom": freedom,
    "countries": partial(countries, folder=None),
    "senate": partial(senate, votes=80, folder=None),
    "baseball": partial(baseball, since=1900),
    "sorts": partial(sequences.sorts, slices=40, arrays=40, values=12, seed=0),
    "walk": partial(sequences.walk, slices=10, points=300, seed=0),
}


def loaded(*names: str) -> Iterator[tuple[str, Dataset]]:
    """Yields the sequences whose packages are there."""
    for name in names or SEQUENCES:
        try:
            yield name, SEQUENCES[name]()
        except InputError as missing:
            print(f"{name} left out: {missing}")


def orders(mates: Mates, labels: Any, rng: np.random.Generator) -> Row:
    """Returns mates that are right, and wrong in several ways."""
    rows, others = mates.rows, mates.others
    within = others.copy()
    for label in [] if labels is None else np.unique(labels[rows]):
        of_class = np.flatnonzero(labels[rows] == label)
        within[of_class] = others[rng.permutation(of_class)]
    return {
        "right": others,
        "shifted by a row": np.roll(others, 1),
        "in reverse": others[::-1],
        "shuffled": rng.permutation(others),
        "shuffled within classes": within,
    }


def contradicted() -> list[Row]:
    """Counts the pairs of consecutive slices whose relations are warned of."""
    table = []
    for name, data in loaded():
        ids = data.ids if data.relations is None else data.relations
        prepared = aljax.prepare(data.slices, ids, key=KEY, layout=BARE, scale="none")
        pairs = {t: m for (t, o), m in prepared.relations.items() if o == 1}
        row: Row = {"sequence": name, "pairs": len(pairs)}
        rng = np.random.default_rng(0)
        for t, mates in pairs.items():
            labels = None if data.labels is None else np.asarray(data.labels[t])
            for order, others in orders(mates, labels, rng).items():
                links = {(0, 1): Mates(mates.rows, others)}
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    relate(links, prepared.graphs[t : t + 2], names=["a", "b"])
                row[order] = row.get(order, 0) + len(caught)
        table.append(row)
    return table


def matrices() -> list[Row]:
    """Compares graphs of distances with umap-learn's graph of the plain matrix."""
    umap: Any = load_umap()
    table = []
    for name, data in loaded("digits", "gapminder"):
        distances = pairwise_distances(np.asarray(data.slices[0], float))
        fuzzy = umap.umap_.fuzzy_simplicial_set
        theirs = fuzzy(distances, 15, np.random.RandomState(0), "precomputed")[0]
        far = distances > np.sort(distances, axis=1)[:, [30]]
        forms = {
            "plain": distances,
            "far ones inf": np.where(far, np.inf, distances),
            "far ones float32's largest": np.where(far, np.finfo("f").max, distances),
            "NaN on the diagonal": distances + np.diag(np.full(len(distances), np.nan)),
            "-1e-7 on the diagonal": distances - 1e-7 * np.eye(len(distances)),
            "sparse, far ones left out": scipy.sparse.csr_matrix(distances * ~far),
        }
        for form, matrix in forms.items():
            config = aljax.GraphConfig(metric="precomputed")
            (ours,) = aljax.prepare([matrix], key=KEY, graph=config, layout=BARE).graphs
            error = float(abs(ours.to_sparse() - theirs).max())
            table.append({"sequence": name, "distances": form, "largest error": error})
    return table


def guesses() -> list[Row]:
    """Reads the share of new rows that lie inside the maps of the first slices."""
    table = []
    for name, data in loaded("digits", "gapminder", "baseball"):
        rows = np.asarray(data.slices[0], float)
        rng = np.random.default_rng(0)
        held = rng.random(len(rows)) < 1 / 5
        maps = aljax.fit([rows[~held]], key=KEY, layout=BARE, scale="none")
        new = rows[held]
        kinds = {
            "held out": new,
            "a later slice": np.asarray(data.slices[1], float),
            "shifted by 1e6": new + 1e6,
            "ten times": 10 * new,
            "noise": rng.uniform(rows.min(axis=0), rows.max(axis=0), new.shape),
        }
        inside = {kind: maps.place(x).inside.mean() for kind, x in kinds.items()}
        table.append({"map": name} | inside)
    return table


def sets() -> list[Row]:
    """Reads the recall of the nearest 15 in metrics of sets, and pynndescent's."""
    bits = (sources.digits()[0] > 7).astype(np.float32)
    table = []
    for metric in ("jaccard", "dice", "rogerstanimoto", "russellrao"):
        true = pairwise_distances(bits.astype(bool), metric=metric)
        np.fill_diagonal(true, -1)
        limit = np.sort(true, axis=1)[:, [14]] + 1e-6
        for method in ("auto", "pynndescent"):
            options = {"metric": metric, "knn_method": method}
            knn, seconds = clocked(partial(find_neighbors, bits, 15, **options))
            near = np.take_along_axis(true, np.asarray(knn.indices).T, axis=1)
            recall = float((near <= limit).mean())
            line = {"metric": metric, "search": method, "recall": recall}
            table.append(line | {"seconds": seconds})
    return table


if __name__ == "__main__":
    sys.exit(run_parts("doors", contradicted, matrices, guesses, sets))
