"""Learns weights of columns through the map, on rows with known labels.

    python -m experiments.run experiment=feature_weights

The digits are given as many columns of noise; a weight for each column is trained so
that, in the map, labeled rows lie among their like; accuracy is that of the held-out
rows, whose labels nothing has seen, by the labels of their neighbors in the map.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from aljax import plot
from aljax.config import number
from aljax.plot.colors import PALETTE
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings, check_options
from experiments.tasks.training import (
    Rows,
    fitted_maps,
    labeled_images,
    read_training,
    train,
    write_results,
)

VOTERS = 10


class FeatureWeights(eqx.Module):
    """A positive weight for each column: x -> x exp(w)."""

    logs: Float[Array, " features"]

    def __call__(self, rows: Float[Array, "points features"]) -> Array:
        """Returns weighted rows; the weights have a geometric mean of 1."""
        return rows * jnp.exp(self.logs - jnp.mean(self.logs))


def soft_neighbor_loss(
    positions: Float[Array, "points components"], labels: Int[Array, " points"]
) -> Float[Array, ""]:
    """Returns -mean log of the share of a row's neighbors that have its label.

    Neighbors count by 1 / (1 + d^2), the map's own curve.

    Source: Goldberger et al. (2005), "Neighborhood components analysis".
    """
    squared = jnp.sum((positions[:, None] - positions) ** 2, axis=-1)
    nearness = (1 - jnp.eye(len(labels))) / (1 + squared)
    alike = jnp.sum(jnp.where(labels[:, None] == labels, nearness, 0.0), axis=1)
    return -jnp.mean(jnp.log(alike + 1e-6) - jnp.log(jnp.sum(nearness, axis=1)))


def held_out_accuracy(
    positions: np.ndarray, labels: np.ndarray, known: np.ndarray
) -> float:
    """Returns the share of unknown rows that most of their 10 known neighbors match."""
    from sklearn.neighbors import KNeighborsClassifier

    voters = KNeighborsClassifier(min(VOTERS, len(known)))
    voters.fit(positions[known], labels[known])
    unknown = np.setdiff1d(np.arange(len(labels)), known)
    return float(voters.score(positions[unknown], labels[unknown]))


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Trains, lays out before and after, and writes figures, weights and a picture."""
    task = settings.task
    names = ("noise_columns", "noise", "known_rows", "training")
    check_options(task, required=names)
    images, labels = labeled_images(settings)
    number(0, whole=True)("task.noise_columns", task["noise_columns"])
    number(0)("task.noise", task["noise"])
    # Some are held out, to be judged by.
    number(1, high=len(images) - 1, whole=True)("task.known_rows", task["known_rows"])
    rng = np.random.default_rng(settings.seed)
    noise = task["noise"] * rng.normal(size=(len(images), task["noise_columns"]))
    noisy = np.hstack([images, noise]).astype(np.float32)
    known = np.sort(rng.permutation(len(images))[: task["known_rows"]])
    print(f"{settings.name}: {len(known)} labeled rows of {len(images)}", flush=True)
    untrained = FeatureWeights(jnp.zeros(noisy.shape[1]))
    targets = jnp.asarray(known), jnp.asarray(labels[known])

    def encode(module: FeatureWeights) -> Rows:
        return [module(jnp.asarray(noisy))]

    def loss(maps: Rows, batch: tuple[Array, Array]) -> Float[Array, ""]:
        return soft_neighbor_loss(maps[0][batch[0]], batch[1])

    trained, losses = train(
        untrained,
        encode,
        loss,
        lambda _: (None, targets),
        training=read_training(task["training"]),
        key=jax.random.key(settings.seed),
    )
    interrupts.check()
    slices = {
        "clean": images,
        "untrained": encode(untrained)[0],
        "trained": encode(trained)[0],
    }
    maps = {name: fitted_maps([x], None, settings)[0] for name, x in slices.items()}
    accuracy = {name: held_out_accuracy(y, labels, known) for name, y in maps.items()}
    lost = accuracy["clean"] - accuracy["untrained"]
    recovered = (accuracy["trained"] - accuracy["untrained"]) / lost
    record: dict[str, Any] = {"accuracy": accuracy, "recovered": recovered}
    figure = _draw(maps, accuracy, labels, trained, images.shape[1])
    logs = np.asarray(trained.logs)
    return write_results(settings, record, losses, figure, interrupts, logs=logs)


def _draw(
    maps: dict[str, np.ndarray],
    accuracy: dict[str, float],
    labels: np.ndarray,
    trained: FeatureWeights,
    signals: int,
) -> Figure:
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
    upper, lower = parts
    words = {
        "clean": "digits alone",
        "untrained": "with noise, all weights 1",
        "trained": "with noise, weights trained",
    }
    panels = upper.subplots(1, 3)
    for panel, (name, positions) in zip(panels, maps.items(), strict=True):
        plot.points(positions, labels, ax=panel)
        panel.set_title(f"{words[name]}: {accuracy[name]:.3f}", fontsize="medium")
    upper.suptitle("Held-out 10-NN accuracy in the map")
    axis = lower.subplots()
    weights = np.exp(np.asarray(trained.logs) - np.asarray(trained.logs).mean())
    places = np.arange(len(weights))
    kinds = ((slice(None, signals), "pixels"), (slice(signals, None), "noise"))
    for color, (part, name) in zip(PALETTE, kinds, strict=False):
        axis.bar(places[part], weights[part], color=color, label=name)
    axis.set(xlabel="column", ylabel="weight after training")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure
