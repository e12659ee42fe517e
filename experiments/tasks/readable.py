"""A map regularized so that a simple reader can read it: how far a disease got.

    python -m experiments.run experiment=readable

A linear regression by the positions in the map is to tell how far patients' diabetes
got in a year.  A linear map of the measurements, x + D x, is trained so that a reader
fitted to one half of the known rows reads the other half, at a price of
`penalty` |D|^2.  Rows that have taken no part judge the reader (R^2), and the
trustworthiness judges the map by the measurements as they were.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from sklearn.linear_model import RidgeCV

from aljax.config import number
from aljax.errors import InputError
from aljax.metrics import trustworthiness
from aljax.plot.style import plane
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings, check_options
from experiments.tasks.training import (
    NEIGHBORS,
    Encoding,
    Rows,
    fitted_maps,
    labeled_rows,
    read_training,
    train,
    write_results,
)

RIDGE = 1e-3  # of the reader, by the number of its rows


class Linear(eqx.Module):
    """x -> x + D x."""

    change: Float[Array, "features features"]

    def __call__(self, rows: Float[Array, "points features"]) -> Array:
        """Returns the changed rows."""
        return rows + rows @ self.change


def reader(
    positions: Float[Array, "points 2"], targets: Float[Array, " points"]
) -> Float[Array, "3"]:
    """Returns the ridge regression of targets on a constant and the positions."""
    known = _with_constant(positions)
    ridge = RIDGE * len(known) * jnp.eye(known.shape[1])
    return jnp.linalg.solve(known.T @ known + ridge, known.T @ targets)


def _with_constant(positions: Array) -> Array:
    return jnp.concatenate([jnp.ones_like(positions[:, :1]), positions], axis=1)


def misread(maps: Rows, batch: tuple[Array, Array]) -> Float[Array, ""]:
    """Returns the mean squared error, on half of the rows, of the other half's line."""
    rows, targets = batch
    half = len(rows) // 2
    coefficients = reader(maps[0][rows[:half]], targets[:half])
    predicted = _with_constant(maps[0][rows[half:]]) @ coefficients
    return jnp.mean((predicted - targets[half:]) ** 2)


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Trains, lays out before and after, and writes figures and a picture."""
    task = settings.task
    check_options(task, required=("known_rows", "penalty", "training"))
    number(0)("task.penalty", task["penalty"])
    training = read_training(task["training"])
    rows, targets = labeled_rows(settings, 2 * NEIGHBORS + 1)
    number(4, high=len(rows) - 2, whole=True)("task.known_rows", task["known_rows"])
    if targets.dtype.kind not in "iuf":
        remedy = "Take data=diabetes."
        raise InputError("data.source", "has words for labels", "numbers", remedy)
    targets = (targets - targets.mean()) / targets.std()
    order = np.random.default_rng(settings.seed).permutation(len(rows))
    known, others = np.split(order, [task["known_rows"]])
    print(f"{settings.name}: {len(known)} known rows of {len(rows)}", flush=True)

    def batches(count: int) -> tuple[None, tuple[Array, Array]]:
        shuffled = np.random.default_rng([settings.seed, count]).permutation(known)
        return None, (jnp.asarray(shuffled), jnp.asarray(targets[shuffled], rows.dtype))

    key = jax.random.key(settings.seed)
    untrained = Linear(jnp.zeros((rows.shape[1],) * 2))
    trained, report = train(
        untrained,
        Encoding([jnp.asarray(rows)], misread, batches, training, key),
        training=training,
        penalty=lambda module: task["penalty"] * jnp.sum(module.change**2),
    )
    interrupts.check()
    regression = RidgeCV().fit(rows[known], targets[known])
    full_score = regression.score(rows[others], targets[others])
    maps, record = {}, {"read": {"all columns": full_score}, "trustworthiness": {}}
    for name, module in (("before", untrained), ("after", trained)):
        (y,) = fitted_maps([module(jnp.asarray(rows))], None, settings)
        predicted = positions_read(y, targets, known)
        errors = (predicted - targets)[others]
        record["read"][name] = float(1 - np.mean(errors**2) / targets[others].var())
        record["trustworthiness"][name] = float(
            trustworthiness(rows, y, n_neighbors=NEIGHBORS)
        )
        maps[name] = y
    figure = _draw(maps, record, targets)
    change = np.asarray(trained.change)
    return write_results(settings, record | report, figure, interrupts, change=change)


def positions_read(
    positions: np.ndarray, targets: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Returns the targets as a reader fitted to the known rows reads all rows."""
    coefficients = reader(jnp.asarray(positions[known]), jnp.asarray(targets[known]))
    return np.asarray(_with_constant(jnp.asarray(positions)) @ coefficients)


def _draw(
    maps: dict[str, np.ndarray],
    record: dict[str, Any],
    targets: np.ndarray,
) -> Figure:
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    panels, scale = figure.subplots(1, 2), Normalize(-2, 2)
    for panel, (name, y) in zip(panels, maps.items(), strict=True):
        panel.scatter(*plane(y).T, c=targets, s=8, norm=scale)
        panel.set(xticks=[], yticks=[], aspect="equal")
        score, trust = (record[kind][name] for kind in ("read", "trustworthiness"))
        title = f"{name}: read R\u00b2 {score:.2f}, trustworthiness {trust:.3f}"
        panel.set_title(title, fontsize="medium")
    figure.colorbar(ScalarMappable(scale), ax=panels, label="progression, deviations")
    return figure
