"""A metric for each slice: weights of the columns, learned from mates alone.

    python -m experiments.run experiment=slice_metrics

In each slice noise covers another part of the digits.  A weight for each column in
each slice is trained so that mates that the layout is not told of come to lie
together; no label is used, and half of the mates are hidden from the training.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from aljax import plot
from aljax.config import number
from aljax.metrics import knn_accuracy
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings, check_options
from experiments.tasks.feature_weights import FeatureWeights
from experiments.tasks.training import (
    JUDGED,
    Encoding,
    Matching,
    apart,
    read_training,
    square_images,
    train,
    write_results,
)


def covered(images: np.ndarray, slices: int, noise: float, seed: int) -> np.ndarray:
    """Returns the images for each slice, whose own band of rows of pixels is noise."""
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(images.shape[1]))
    pictures = np.tile(images.reshape(-1, side, side), (slices, 1, 1, 1))
    for t, band in enumerate(np.array_split(np.arange(side), slices)):
        shape = len(images), len(band), side
        pictures[t][:, band] = noise * rng.normal(size=shape)
    return pictures.reshape(slices, len(images), -1).astype(np.float32)


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Trains, lays out before and after, and writes figures, weights and a picture."""
    task = settings.task
    check_options(task, required=("rows", "slices", "noise", "training"))
    number(2, high=8, whole=True)("task.slices", task["slices"])
    number(0)("task.noise", task["noise"])
    training = read_training(task["training"])
    images, labels = square_images(settings)
    number(JUDGED, high=len(images), whole=True)("task.rows", task["rows"])
    images, labels = images[: task["rows"]], labels[: task["rows"]]
    rows = covered(images, task["slices"], task["noise"], settings.seed)
    data = [jnp.asarray(noisy) for noisy in rows]
    untrained = [FeatureWeights(jnp.zeros(images.shape[1])) for _ in data]
    matching = Matching.split(len(images), settings.seed, len(data))
    key = jax.random.key(settings.seed)
    hold = Encoding(data, apart, matching, training, key)
    print(f"{settings.name}: {len(matching.hidden)} members are hidden", flush=True)
    trained, report = train(untrained, hold, training=training)
    interrupts.check()
    encoders = {"before": untrained, "after": trained}
    maps, distances = matching.judged(encoders, data, settings)
    weights = np.stack([module.weights() for module in trained])
    noisy = (rows != images).any(axis=1)
    masks = {"covered": noisy, "others": ~noisy}
    record: dict[str, Any] = {
        "hidden_displacement": distances,
        "accuracy": {
            name: float(np.mean([knn_accuracy(y, labels) for y in planes]))
            for name, planes in maps.items()
        },
        "weights": {kind: float(weights[mask].mean()) for kind, mask in masks.items()},
    }
    figure = _draw(maps, record, labels, weights)
    return write_results(settings, record | report, figure, interrupts, weights=weights)


def _draw(
    maps: dict[str, list[np.ndarray]],
    record: dict[str, Any],
    labels: np.ndarray,
    weights: np.ndarray,
) -> Figure:
    count, side = len(weights), int(np.sqrt(weights.shape[1]))
    figure = Figure(figsize=(2.1 * count, 6), layout="constrained")
    panels = figure.subplots(3, count)
    for line, (name, planes) in zip(panels, maps.items(), strict=False):
        for panel, y in zip(line, planes, strict=True):
            plot.points(y, labels, ax=panel)
        accuracy, distance = (
            record[k][name] for k in ("accuracy", "hidden_displacement")
        )
        title = f"{name}: accuracy {accuracy:.2f}, hidden mates {distance:.2f} apart"
        line[0].set_title(title, loc="left", fontsize="medium")
    scale = LogNorm(weights.min(), weights.max())
    for panel, learned in zip(panels[2], weights, strict=True):
        panel.imshow(learned.reshape(side, side), norm=scale)
        panel.set(xticks=[], yticks=[])
    panels[2, 0].set_title("weights of the pixels", loc="left", fontsize="medium")
    figure.colorbar(ScalarMappable(scale), ax=panels[2], shrink=0.8)
    return figure
