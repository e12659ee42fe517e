"""Figures of the layout engine that are no race: hubs, min_dist, starts, size.

    python -m experiments.benchmarks.layout [hubs min_dist starts size]

prints a table for each and writes `results/benchmarks/layout.json`.
"""

import sys
from functools import partial
from itertools import pairwise

import jax
import numpy as np

import aljax
from aljax import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.graph.exact import exact_knn
from aljax.metrics import trustworthiness
from experiments.benchmarks import peers
from experiments.benchmarks.cases import clusters
from experiments.benchmarks.parts import Row, run_parts
from experiments.data import sources
from experiments.results.records import drawn

NEIGHBORS = 15
ROWS = 1000


def hubs() -> list[Row]:
    """Lays out data with hubs: how far the farthest point lies, and trustworthiness."""
    rng = np.random.default_rng(0)
    sphere = rng.normal(size=(5000, 50))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    sphere = np.vstack([sphere, np.zeros((1, 50))])
    scales = rng.lognormal(size=(10_000, 1))
    cases = {
        "sphere and its center": sphere,
        "lognormal scales": rng.normal(size=(10_000, 100)) * scales,
    }
    measured = []
    for name, data in cases.items():
        data = data.astype(np.float32)
        rows = drawn(len(data), ROWS)
        for method in ("aljax", "umap-learn"):
            problem = peers.Problem([data], [])
            (placed,), _ = peers.METHODS[method](problem, {}, 0)
            centered = placed - np.median(placed, axis=0)
            radius = np.percentile(np.linalg.norm(centered, axis=1), 99)
            trust = trustworthiness(data, placed, n_neighbors=NEIGHBORS, rows=rows)
            farthest = float(np.abs(centered).max() / radius)
            row = {"data": name, "method": method}
            row |= {"largest coordinate / 99 % radius": farthest}
            measured.append(row | {"trustworthiness": trust})
    return measured


def min_dist() -> list[Row]:
    """Lays one data set out four times with rising min_dist: how far points lie."""
    data = sources.digits_parameters(slices=1).slices[0]
    rows = data[np.argsort(data.sum(axis=1))][::3]
    values = [0.01, 0.2, 0.5, 0.99]
    same = {row: row for row in range(len(rows))}
    fitted = aljax.fit(
        [rows] * len(values),
        [same] * (len(values) - 1),
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(min_dist=values),
        alignment=AlignmentConfig(alignment_regularisation=1e-3),
    )
    nearest = [np.asarray(exact_knn(m, 2).distances)[1].mean() for m in fitted.maps]
    rises = all(before < after for before, after in pairwise(nearest))
    return [
        {
            "min_dist": value,
            "rows": len(rows),
            "mean distance to the nearest": float(near),
            "of the first": float(near / nearest[0]),
            "rises": rises,
        }
        for value, near in zip(values, nearest, strict=True)
    ]


def starts() -> list[Row]:
    """Times each start and the layout, on connected data and others."""
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=50, size=(200, 20))
    groups = np.repeat(centers, 50, axis=0) + rng.normal(size=(10_000, 20))
    cases = {
        "70,000 images of clothes": sources.fashion_whole(folder=None).slices[0],
        "10,000 rows in 200 groups": groups.astype(np.float32),
    }
    measured = []
    for name, data in cases.items():
        rows = drawn(len(data), ROWS)
        (graph,) = aljax.prepare([data], key=jax.random.key(0)).graphs
        for init in ("spectral", "random"):
            layout = LayoutConfig(init=init)
            fit = partial(aljax.fit, [graph], key=jax.random.key(0), layout=layout)
            fit()  # compiles
            fitted = fit()
            placed = fitted.maps[0]
            trust = trustworthiness(data, placed, n_neighbors=NEIGHBORS, rows=rows)
            seconds = {f"{s} s": fitted.seconds[s] for s in ("start", "layout")}
            measured.append(
                {"data": name, "init": init, **seconds, "trustworthiness": trust}
            )
    return measured


def size() -> list[Row]:
    """Times an epoch of ten slices of growing size, in nanoseconds for a point."""
    measured = []
    for count in (1_000, 10_000, 100_000):
        data = clusters(10, count)
        n_epochs = 50
        layout, key = LayoutConfig(n_epochs=n_epochs), jax.random.key(0)
        graphs = aljax.prepare(data.slices, data.relations, key=key).graphs
        fit = partial(aljax.fit, graphs, data.relations, key=key, layout=layout)
        _, *seconds = (fit().seconds["layout"] for _ in range(4))
        per_point = float(np.median(seconds)) / n_epochs / (10 * count) * 1e9
        measured.append({"points": 10 * count, "ns per epoch and point": per_point})
    return measured


if __name__ == "__main__":
    sys.exit(run_parts("layout", hubs, min_dist, starts, size))
