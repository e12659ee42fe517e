"""Learns weights of columns through the map, on rows with known labels.

    python -m experiments.run experiment=feature_weights

The digits are given as many columns of noise; a weight for each column is trained so
that, in the map, labeled rows lie among their like; accuracy is that of the held-out
rows, whose labels nothing has seen, by the labels of their neighbors in the map.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from sklearn.neighbors import KNeighborsClassifier

from aljax import plot
from aljax.config import number
from aljax.plot.colors import PALETTE
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings, check_options
from experiments.tasks.training import (
    Encoding,
    Rows,
    fitted_maps,
    labeled_rows,
    read_training,
    train,
    write_results,
)

VOTERS = 10
REPORTED = ("seconds", "seconds_a_step", "saddles", "losses")
NAMES = ("noise_columns", "noise", "known_rows", "against", "training")


class FeatureWeights(eqx.Module):
    """A positive weight for each column: x -> x exp(w)."""

    logs: Float[Array, " features"]

    def __call__(self, rows: Float[Array, "points features"]) -> Array:
        """Returns weighted rows; the weights have a geometric mean of 1."""
        return rows * self.weights()

    def weights(self) -> Float[Array, " features"]:
        """Returns the weights."""
        return jnp.exp(self.logs - jnp.mean(self.logs))


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


def _loss(maps: Rows, batch: tuple[Array, Array]) -> Float[Array, ""]:
    return soft_neighbor_loss(maps[0][batch[0]], batch[1])


def held_out_accuracy(
    positions: np.ndarray, labels: np.ndarray, known: np.ndarray
) -> float:
    """Returns the share of unknown rows that most of their 10 known neighbors match."""
    voters = KNeighborsClassifier(min(VOTERS, len(known)))
    voters.fit(positions[known], labels[known])
    unknown = np.setdiff1d(np.arange(len(labels)), known)
    return float(voters.score(positions[unknown], labels[unknown]))


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Trains, lays out before and after, and writes figures, weights and a picture."""
    task = settings.task
    check_options(task, required=NAMES)
    images, labels = labeled_rows(settings)
    number(0, whole=True)("task.noise_columns", task["noise_columns"])
    number(0)("task.noise", task["noise"])
    # Some are held out, to be judged by.
    number(1, high=len(images) - 1, whole=True)("task.known_rows", task["known_rows"])
    options = task["training"]
    read_training(options)
    names = filter(None, (options["adjoint"], task["against"]))
    ways = {way: read_training(options, way) for way in names}
    rng = np.random.default_rng(settings.seed)
    noise = task["noise"] * rng.normal(size=(len(images), task["noise_columns"]))
    noisy = jnp.asarray(np.hstack([images, noise]).astype(np.float32))
    known = np.sort(rng.permutation(len(images))[: task["known_rows"]])
    classes = np.unique(labels, return_inverse=True)[1]
    targets = jnp.asarray(known), jnp.asarray(classes[known])
    key = jax.random.key(settings.seed)
    slices, trained, runs = {"digits alone": images, "weights 1": noisy}, {}, {}
    for way, training in ways.items():
        print(f"{settings.name}: {len(known)} labeled rows, {way}", flush=True)
        trained[way], runs[way] = train(
            FeatureWeights(jnp.zeros(noisy.shape[1])),
            Encoding([noisy], _loss, lambda _: (None, targets), training, key),
            training=training,
        )
        interrupts.check()
        slices[way] = trained[way](noisy)
    maps = {name: fitted_maps([x], None, settings)[0] for name, x in slices.items()}
    accuracy = {name: held_out_accuracy(y, labels, known) for name, y in maps.items()}
    clean, noised, *reached = accuracy.values()
    record: dict[str, Any] = {
        "accuracy": accuracy,
        "recovered": [
            (value - noised) / (clean - noised) if clean != noised else None
            for value in reached
        ],
        **{
            name: {way: report[name] for way, report in runs.items()}
            for name in REPORTED
        },
    }
    figure = _draw(maps, accuracy, labels, trained, images.shape[1])
    logs = {way: np.asarray(module.logs) for way, module in trained.items()}
    return write_results(settings, record, figure, interrupts, **logs)


def _draw(
    maps: dict[str, np.ndarray],
    accuracy: dict[str, float],
    labels: np.ndarray,
    trained: dict[str, FeatureWeights],
    signals: int,
) -> Figure:
    figure = Figure(figsize=(2.6 * len(maps), 4.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
    panels = parts[0].subplots(1, len(maps))
    for panel, (name, y) in zip(panels, maps.items(), strict=True):
        plot.points(y, labels, ax=panel)
        panel.set_title(f"{name}: {accuracy[name]:.3f}", fontsize="medium")
    axis = parts[1].subplots()
    for color, (way, module) in zip(PALETTE, trained.items(), strict=False):
        axis.step(np.arange(len(module.logs)), module.weights(), color=color, label=way)
    axis.axvline(signals - 0.5, color="grey", linewidth=1)
    axis.set(xlabel="column: pixels, then noise", ylabel="weight", ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure
