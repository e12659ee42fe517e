"""Measures the maps of a run, for a table to read and a dict to store."""

import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aljax import AlignedEmbedding, metrics
from aljax.graph.conditioning import DEVICE_METRICS, by_distance
from aljax.graph.exact import nearest
from aljax.plot.colors import CLASSES
from aljax.plot.style import LEGEND_LIMIT
from aljax.relations.mates import Relations
from experiments.clocks import peak_memory
from experiments.data.dataset import Dataset, digest, digests
from experiments.results import records

TRUST_NEIGHBORS = 15
LABEL_NEIGHBORS = 10
MEASURED = 5000  # rows, drawn from slices that have more
KEY = """\
trust: 15 neighbors kept, 1 is best.  accuracy: 10 neighbors vote for the label.
displacement: of the members, to the next slice, in radii of the maps.
frame: drift of the centers, and rows nearest in the data so many slices apart.
"-": too few rows (at most 30 for trust, 20 for accuracy), or no classes or mates."""
RECALLED = 1000  # rows, whose true neighbors are found
LAGS = (1, 5, 20, 50, 100)
DRAWN = (
    f"Of slices of more than {MEASURED:,} rows that many are drawn for the first two."
)
PACKAGES = (
    *("aljax", "jax", "jaxlib", "equinox", "optax", "numpy", "scipy"),
    *("pynndescent", "numba", "scikit-learn"),
)
Numbers = Sequence[float]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Measures:
    """One number for each slice, or for each pair of consecutive slices.

    Attributes:
        trustworthiness: Whether neighbors in the map are neighbors in the data
            (k = 15; 1 is best).
        accuracy: The share of rows whose 10 neighbors in the map vote for its own
            label, leave-one-out; NaN without labels that make classes.
        displacement: How far members move from a slice to the next, in units of the
            maps' radius; for all pairs but with the radius of all maps.
        frame: How far maps that lie apart in the sequence can be compared: see
            `frame_of`.

    A measure that a slice is too small for is NaN.  Of slices of more than 5,000 rows
    trustworthiness and accuracy are means over 5,000 of them, drawn by one seed.
    """

    trustworthiness: Numbers
    accuracy: Numbers
    displacement: Numbers
    frame: Mapping[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Returns each measure's mean over those slices or pairs that have one."""
        names = ("trustworthiness", "accuracy", "displacement")
        return {name: records.mean(getattr(self, name)) for name in names}


def summary(dataset: Dataset) -> str:
    """Says how much there is to lay out, and how the data were read."""
    count, rows = len(dataset.slices), sum(map(len, dataset.slices))
    size = f"{count} slice{'' if count == 1 else 's'}, {rows:,} rows"
    return "\n  ".join([size, *dataset.notes])


def measure(dataset: Dataset, embedding: AlignedEmbedding) -> Measures:
    """Returns the measures of a finished run."""
    maps, metric = embedding.slices(), embedding.graph.metric
    data = [by_distance(rows, metric) for rows in embedding.data]
    labels = classes_of(dataset.labels) or [None] * len(maps)
    return Measures(
        trustworthiness=trustworthiness(data, maps),
        accuracy=[
            math.nan
            if classes is None
            else accuracy(y, classes, LABEL_NEIGHBORS, MEASURED)
            for y, classes in zip(maps, labels, strict=True)
        ],
        displacement=displacement(maps, embedding.relations),
        frame=frame_of(data, maps),
    )


def classes_of(labels: Sequence[np.ndarray] | None) -> Sequence[np.ndarray] | None:
    """Returns classes; None for names and for quantities, of more than 40 kinds."""
    if labels is None:
        return None
    joined = np.concatenate(labels)
    most = LEGEND_LIMIT if joined.dtype.kind in "iuf" else CLASSES
    return labels if len(np.unique(joined)) <= most else None


def accuracy(
    positions: np.ndarray, labels: np.ndarray, n_neighbors: int, most: int | None
) -> float:
    """Returns the share of rows of a map whose neighbors vote for their label.

    Rows without a label (NaN) neither vote nor count; NaN for maps that are too small.
    Of more than `most` rows, if it is not None, so many are drawn.
    """
    if labels.dtype.kind == "f":
        positions, labels = (rows[~np.isnan(labels)] for rows in (positions, labels))
    if len(labels) / 2 <= n_neighbors:
        return math.nan
    rows = records.drawn(len(labels), most)
    return metrics.knn_accuracy(positions, labels, n_neighbors=n_neighbors, rows=rows)


def trustworthiness(data: Sequence[Any], maps: Sequence[np.ndarray]) -> Numbers:
    """Returns each map's trustworthiness, NaN of slices that are small or have no data.

    Rows are compared by Euclidean distance.
    """
    rows = (records.drawn(len(y), MEASURED) for y in maps)
    return [
        metrics.trustworthiness(x, y, n_neighbors=TRUST_NEIGHBORS, rows=chosen)
        if x is not None and len(y) / 2 > TRUST_NEIGHBORS
        else math.nan
        for x, y, chosen in zip(data, maps, rows, strict=True)
    ]


def displacement(maps: Sequence[np.ndarray], relations: Relations) -> Numbers:
    """Returns the mean displacement of each step, NaN of steps without mates."""
    steps = {(t, 1): relations[t, 1] for t in range(len(maps) - 1)}
    lengths = metrics.displacement(maps, steps, per_point=True)
    stops = np.cumsum([mates.rows.size for mates in steps.values()])
    return [
        float(moved.mean()) if moved.size else math.nan
        for moved in np.split(np.asarray(lengths), stops)[:-1]
    ]


def frame_of(data: Sequence[Any], maps: Sequence[np.ndarray]) -> dict[str, float]:
    """Returns how far the frame of a sequence holds, in radii of the maps.

    `center_drift`, and for slices with the same columns `apart_LAG`: how far rows that
    are nearest in the data lie apart in maps so many slices apart.
    """
    if len(maps) < 2:
        return {}
    measured = {"center_drift": metrics.center_drift(maps)}
    comparable = all(rows is not None for rows in data)
    comparable = comparable and len({rows.shape[1] for rows in data}) == 1
    if comparable and max(map(len, data)) <= MEASURED:
        for lag in (lag for lag in LAGS if lag < len(maps)):
            apart = metrics.frame_displacement(data, maps, lag=lag)
            measured[f"apart_{lag}"] = apart
    return measured


def graph_recall(fitted: AlignedEmbedding) -> float | None:
    """Returns the share of true neighbors that the graphs have, over 1,000 rows each.

    None where they cannot be told: graphs without data, or a metric that has no exact
    search.
    """
    metric = fitted.graph.metric
    arrays = [data for data in fitted.data if isinstance(data, np.ndarray)]
    whole = len(arrays) == len(fitted.data)
    if metric not in DEVICE_METRICS or fitted.graph.metric_kwds or not whole:
        return None
    shares = [
        slice_recall(rows, graph.neighbors, metric=metric)
        for rows, graph in zip(arrays, fitted.graphs, strict=True)
        if len(rows)
    ]
    return float(np.mean(shares))


def slice_recall(
    data: np.ndarray, listed: jax.Array, *, metric: str = "euclidean"
) -> float:
    """Returns the share of true neighbors in a table `(neighbors, points)`."""
    n_neighbors = min(listed.shape)
    rows = np.random.default_rng(0).permutation(len(data))[:RECALLED]
    exact, _ = nearest(data[rows], data, n_neighbors, metric=metric)
    chosen = np.asarray(listed).T[rows]
    shared = [len({*a} & {*b}) for a, b in zip(exact, chosen, strict=True)]
    return float(np.mean(shared) / n_neighbors)


def table(dataset: Dataset, measures: Measures) -> str:
    """Returns a line of measures for each slice; displacement is to the next slice."""
    titles = [f"{t}  {title}" for t, title in enumerate(dataset.titles)]
    width = max(len(title) for title in (*titles, "slice"))
    lines = [_line("slice", width, "rows", ("trust", "accuracy", "displacement"))]
    moved = [*measures.displacement, math.nan]
    columns = zip(measures.trustworthiness, measures.accuracy, moved, strict=True)
    for title, data, values in zip(titles, dataset.slices, columns, strict=True):
        lines.append(_line(title, width, str(len(data)), [*map(records.cell, values)]))
    means = measures.means().values()
    lines.append(_line("mean", width, "", [*map(records.cell, means)]))
    rule = "-" * max(map(len, lines))
    key = [KEY, DRAWN] if max(map(len, dataset.slices)) > MEASURED else [KEY]
    if measures.frame:
        frame = [f"{k} {records.cell(value)}" for k, value in measures.frame.items()]
        key.insert(0, f"frame: {', '.join(frame)}")
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], "", *key])


def _line(title: str, width: int, rows: str, values: Sequence[str]) -> str:
    cells = "".join(f"  {value:>12}" for value in values)
    return f"{title:<{width}}  {rows:>6}{cells}"


def record(
    dataset: Dataset,
    embedding: AlignedEmbedding,
    measures: Measures,
    *,
    name: str,
    seed: int,
    seconds: Mapping[str, float],
    decided: Mapping[str, str],
) -> dict[str, Any]:
    """Returns all that `metrics.json` keeps."""
    last = jax.tree.map(lambda term: term[-1:].sum(), embedding.history)
    of_slices = {
        "title": dataset.titles,
        "rows": [*map(len, dataset.slices)],
        "trustworthiness": [*map(_number, measures.trustworthiness)],
        "accuracy": [*map(_number, measures.accuracy)],
    }
    return {
        "name": name,
        "seed": seed,
        "data": digest(dataset),
        "parts": digests(dataset),
        "decided": decided,
        "processes": jax.process_count(),
        "means": {key: _number(value) for key, value in measures.means().items()},
        "slices": [
            dict(zip(of_slices, values, strict=True))
            for values in zip(*of_slices.values(), strict=True)
        ],
        "displacement": [_number(value) for value in measures.displacement],
        "frame": {key: _number(value) for key, value in measures.frame.items()},
        "loss": {key: float(value) for key, value in vars(last).items()},
        "seconds": _rounded(seconds),
        "seconds_of_fit": _rounded(embedding.seconds),
        "peak_memory_mib": round(peak_memory()),
        "graph_recall": graph_recall(embedding),
        **environment(),
    }


def environment() -> dict[str, Any]:
    """Returns what bits may depend on besides data and settings."""
    return {
        "commit": commit(),
        "versions": {"python": platform.python_version(), **versions()},
        "machine": {
            "device": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "processor": platform.machine(),
            "model": records.processor(),
            "cores": os.cpu_count(),
        },
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in seconds.items()}


def versions() -> dict[str, str]:
    """Returns the versions of the packages that a result depends on."""
    installed = records.versions(PACKAGES)  # not aljax: it may run from a checkout
    return {name: text or "not installed" for name, text in installed.items()}


def commit() -> str | None:
    """Returns the git commit that runs, "-dirty" where files differ from it."""
    if not (ROOT / ".git").exists():
        return None
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    command = [*describe, "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def _number(value: float) -> float | None:
    """Returns a number as JSON can say it, which has no NaN."""
    return None if math.isnan(value) else round(float(value), 6)
