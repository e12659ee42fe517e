"""Two views of the same things, encoded so that their maps agree.

    python -m experiments.run experiment=encoder

One slice shows the digits' pixels, the other the magnitudes of their Fourier
transform; which row is which digit is known for half of them.  An encoder of the two
views is trained through graph and layout so that mates that the layout is not told of
come to lie together; the half that is hidden takes no part in it.
"""

from __future__ import annotations

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from aljax import plot
from aljax.config import number
from aljax.metrics import displacement, knn_accuracy
from aljax.plot.style import bounds as bounds_of
from aljax.relations.mates import Mates
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

LINKED = 0.5  # share of the known mates that a layout in training is told of


class Views(eqx.Module):
    """One small network for each view."""

    networks: list[eqx.nn.MLP]

    def __init__(self, features: int, *, width: int, out: int, key: jax.Array) -> None:
        self.networks = [
            eqx.nn.MLP(features, out, width, 1, jax.nn.gelu, key=network_key)
            for network_key in jax.random.split(key, 2)
        ]

    def __call__(self, views: Rows) -> Rows:
        """Returns the encoded rows of both."""
        pairs = zip(self.networks, views, strict=True)
        return [jax.vmap(network)(rows) for network, rows in pairs]


def magnitudes(images: Float[np.ndarray, "points features"]) -> np.ndarray:
    """Returns log(1 + |F|) of each square image's Fourier transform F."""
    side = int(np.sqrt(images.shape[1]))
    spectrum = np.fft.fft2(images.reshape(-1, side, side))
    return np.log1p(np.abs(spectrum)).reshape(len(images), -1)


def apart(maps: Rows, rows: Int[Array, " rows"]) -> Float[Array, ""]:
    """Returns mates' mean squared distance by the maps' mean squared radius."""
    squared = jnp.sum((maps[0][rows] - maps[1][rows]) ** 2, axis=1)
    radii = [jnp.mean(jnp.sum((y - y.mean(axis=0)) ** 2, axis=1)) for y in maps]
    return jnp.mean(squared) / jnp.mean(jnp.stack(radii))


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Trains, lays out before and after, and writes figures and a picture."""
    task = settings.task
    check_options(task, required=("width", "components", "training"))
    for name in ("width", "components"):
        number(1, whole=True)(f"task.{name}", task[name])
    images, labels = labeled_images(settings)
    views = [jnp.asarray(_standard(rows)) for rows in (images, magnitudes(images))]
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(images))
    known, hidden = np.split(order, [len(order) // 2])
    key, network_key = jax.random.split(jax.random.key(settings.seed))
    width, out = task["width"], task["components"]
    untrained = Views(images.shape[1], width=width, out=out, key=network_key)

    def batches(number: int) -> tuple[list[dict[int, int]], Array]:
        drawn = np.random.default_rng([settings.seed, number]).permutation(known)
        linked, judged = np.split(drawn, [int(LINKED * len(drawn))])
        return [_same(linked)], jnp.asarray(judged)

    counts = f"{len(known)} known mates, {len(hidden)} hidden"
    print(f"{settings.name}: {counts}", flush=True)
    trained, losses = train(
        untrained,
        lambda module: module(views),
        apart,
        batches,
        training=read_training(task["training"]),
        key=key,
    )
    interrupts.check()
    maps = {
        name: fitted_maps(module(views), [_same(known)], settings)
        for name, module in (("before", untrained), ("after", trained))
    }
    mates = {(0, 1): Mates(hidden, hidden, np.ones(len(hidden)))}
    far = {name: displacement(both, mates) for name, both in maps.items()}
    record = {
        "hidden_displacement": far,
        "accuracy": {
            name: [knn_accuracy(plane, labels) for plane in both]
            for name, both in maps.items()
        },
        "ratio": far["after"] / far["before"],
    }
    figure = _draw(maps, far, labels, hidden)
    return write_results(settings, record, losses, figure, interrupts)


def _standard(rows: np.ndarray) -> np.ndarray:
    centered = rows - rows.mean(axis=0)
    return (centered / centered.std()).astype(np.float32)


def _same(rows: np.ndarray) -> dict[int, int]:
    return dict(zip(rows.tolist(), rows.tolist(), strict=True))


def _draw(
    maps: dict[str, list[np.ndarray]],
    far: dict[str, float],
    labels: np.ndarray,
    hidden: np.ndarray,
) -> Figure:
    figure = Figure(figsize=(9.5, 9.8), layout="constrained")
    figure.suptitle("Pixels, and Fourier magnitudes; grey: some hidden mates' ways")
    names = ("pixels", "Fourier magnitudes")
    for line, (when, both) in zip(figure.subplots(2, 2), maps.items(), strict=True):
        bounds = bounds_of(np.concatenate(both))
        for panel, name, y, other in zip(line, names, both, both[::-1], strict=True):
            plot.points(y, labels, ax=panel)
            some = hidden[:150]
            ways = np.stack([y[some], other[some]])
            panel.plot(*ways.transpose(2, 0, 1), color="grey", linewidth=0.3, zorder=0)
            panel.set(title=f"{when} training: {name}, {far[when]:.3f}", **bounds)
    return figure
