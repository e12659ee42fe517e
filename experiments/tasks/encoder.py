"""Two views of the same things, encoded so that their maps agree.

    python -m experiments.run experiment=encoder

One slice shows the digits' pixels, the other the magnitudes of their Fourier
transform; which row is which digit is known for half of them.  An encoder of the two
views is trained through graph and layout so that mates that the layout is not told of
come to lie together; the half that is hidden takes no part in it.
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from aljax import plot
from aljax.config import number
from aljax.metrics import knn_accuracy
from aljax.plot.style import bounds as bounds_of
from aljax.plot.style import plane
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings, check_options
from experiments.tasks.training import (
    Encoding,
    Matching,
    apart,
    read_training,
    square_images,
    train,
    write_results,
)


class View(eqx.Module):
    """A small network for the rows of one view."""

    network: eqx.nn.MLP

    def __init__(
        self, features: int, components: int, width: int, *, key: jax.Array
    ) -> None:
        self.network = eqx.nn.MLP(features, components, width, 1, jax.nn.gelu, key=key)

    def __call__(self, rows: Float[Array, "points features"]) -> Array:
        """Returns the encoded rows."""
        return jax.vmap(self.network)(rows)


def magnitudes(images: Float[np.ndarray, "points features"]) -> np.ndarray:
    """Returns log(1 + |F|) of each square image's Fourier transform F."""
    side = int(np.sqrt(images.shape[1]))
    spectrum = np.fft.fft2(images.reshape(-1, side, side))
    return np.log1p(np.abs(spectrum)).reshape(len(images), -1)


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Trains, lays out before and after, and writes figures and a picture."""
    task = settings.task
    check_options(task, required=("width", "components", "training"))
    for name in ("width", "components"):
        number(1, whole=True)(f"task.{name}", task[name])
    training = read_training(task["training"])
    images, labels = square_images(settings)
    views = [jnp.asarray(_standard(rows)) for rows in (images, magnitudes(images))]
    matching = Matching.split(len(images), settings.seed)
    key, network_key = jax.random.split(jax.random.key(settings.seed))
    sizes = images.shape[1], task["components"], task["width"]
    untrained = [View(*sizes, key=key) for key in jax.random.split(network_key)]
    hold = Encoding(views, apart, matching, training, key)
    counts = f"{len(matching.known)} known mates, {len(matching.hidden)} hidden"
    print(f"{settings.name}: {counts}", flush=True)
    trained, report = train(untrained, hold, training=training)
    interrupts.check()
    encoders = {"before": untrained, "after": trained}
    maps, distances = matching.judged(encoders, views, settings)
    record = {
        "hidden_displacement": distances,
        "accuracy": {
            name: [knn_accuracy(y, labels) for y in planes]
            for name, planes in maps.items()
        },
        "ratio": distances["after"] / distances["before"],
    }
    figure = _draw(maps, distances, labels, matching.hidden)
    return write_results(settings, record | report, figure, interrupts)


def _standard(rows: np.ndarray) -> np.ndarray:
    centered = rows - rows.mean(axis=0)
    return (centered / centered.std()).astype(np.float32)


def _draw(
    maps: dict[str, list[np.ndarray]],
    distances: dict[str, float],
    labels: np.ndarray,
    hidden: np.ndarray,
) -> Figure:
    figure = Figure(figsize=(10.4, 3), layout="constrained")
    names = ("pixels", "Fourier magnitudes")
    panels = iter(figure.subplots(1, 4))
    for when, of_views in maps.items():
        planes = [*map(plane, of_views)]
        bounds = bounds_of(np.concatenate(planes))
        for name, y, other in zip(names, planes, planes[::-1], strict=True):
            panel = next(panels)
            plot.points(y, labels, ax=panel)
            ways = np.stack([y[hidden[:100]], other[hidden[:100]]]).transpose(2, 0, 1)
            panel.plot(*ways, color="grey", linewidth=0.3, zorder=0)
            panel.set(**bounds)
            panel.set_title(f"{when}: {name}, {distances[when]:.2f}", fontsize="medium")
    return figure
