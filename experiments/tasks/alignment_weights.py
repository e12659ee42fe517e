"""Weights of the alignment, one for each slice, learned from mates that are hidden.

    python -m experiments.run experiment=alignment_weights

The learned weights (`hidden_mates`) lay the sequence out once more with all mates, by
another key, and are compared with a few weights that are the same for all slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from aljax import metrics
from aljax.config import is_listed, number
from aljax.errors import InputError
from aljax.fit import Prepared
from aljax.plot.colors import PALETTE
from aljax.plot.style import plain
from aljax.selection import WEIGHT
from aljax.sweep import SweepProblem
from experiments.data import sources
from experiments.data.dataset import related_by_ids
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings, check_options
from experiments.tasks.hidden_mates import laid_out, learn_weights
from experiments.tasks.training import read_training, write_results

FAR = 5  # slices apart, as in the evaluation
FEWEST = 3  # rows of a slice, of which one can be near and one far


def lag_of(slices: Sequence[Any]) -> int:
    """Returns how far apart slices are compared: less in a short sequence."""
    return min(FAR, len(slices) - 1)


def scores(data: Any, relations: Any, maps: list[np.ndarray]) -> dict[str, float]:
    """Returns preservation (5 %), stability, and how far apart nearest rows lie."""
    preserved = [
        metrics.neighborhood_preservation(x, y, n_neighbors=0.05)
        for x, y in zip(data, maps, strict=True)
    ]
    return {
        "preservation": float(np.mean(preserved)),
        "stability": metrics.stability(data, maps, relations, correlation="pearson"),
        "apart": metrics.frame_displacement(data, maps, lag=lag_of(maps)),
    }


def total(row: dict[str, float]) -> float:
    """Returns the sum of the scores, where more is better and NaN counts as 0."""
    return float(np.nansum([row["preservation"], row["stability"], -row["apart"]]))


def laid_out_with(
    problem: SweepProblem, weights: Any, key: jax.Array
) -> tuple[Prepared, Any]:
    """Lays out with one weight, or one for each slice."""
    prepared, params = problem.prepared(key), problem.params()
    filled = jnp.full_like(params.learning_rate, weights)
    params = eqx.tree_at(lambda p: p.alignment_regularisation, params, filled)
    return prepared, laid_out(prepared, params, key)


def scored(problem: SweepProblem, weights: Any, key: jax.Array) -> dict[str, float]:
    """Returns the scores of the maps with one weight, or one for each slice."""
    prepared, state = laid_out_with(problem, weights, key)
    data = [np.asarray(rows) for rows in prepared.data]
    return scores(data, prepared.relations, prepared.maps_of(state))


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Learns weights, lays out with them and with a grid, and writes a picture."""
    task = settings.task
    check_options(task, required=("cost", "hidden_share", "grid", "training"))
    options: dict[str, Any] = {name: task[name] for name in ("cost", "hidden_share")}
    number(0)("task.cost", task["cost"])
    number(0, high=0.9, open_low=True)("task.hidden_share", task["hidden_share"])
    if not is_listed(task["grid"]):
        raise InputError("task.grid", f"is {task['grid']!r}", "a list of weights")
    for place, weight in enumerate(task["grid"]):
        number(0)(f"task.grid[{place}]", weight)
    training = read_training(task["training"])
    first = settings.alignment.alignment_regularisation
    number(0, open_low=True)(f"alignment.{WEIGHT}", first)
    dataset = sources.take(settings.data)
    dataset = related_by_ids(dataset) if settings.by_ids else dataset
    if len(dataset.slices) < 2:
        raise InputError("data", "has a single slice", "at least 2, which mates link")
    rows, t = min((np.shape(x)[0], t) for t, x in enumerate(dataset.slices))
    if rows < FEWEST:
        noun, expected = "row" if rows == 1 else "rows", f"at least {FEWEST} in each"
        got = f"has {rows} {noun} in slice {t}"
        raise InputError("data", got, expected, "Neighborhoods are measured in each.")
    problem = dataset.sweep(**settings.configs)
    key, fresh_key = jax.random.split(jax.random.key(settings.seed))
    weights, report = learn_weights(problem, key=key, training=training, **options)
    interrupts.check()
    grid = [{"weight": w, **scored(problem, w, fresh_key)} for w in task["grid"]]
    learned = scored(problem, weights, fresh_key)
    record = {"weights": weights.tolist(), "learned": learned, "grid": grid}
    figure = draw(weights, learned, grid, dataset.titles)
    return write_results(settings, record | report, figure, interrupts)


def draw(
    weights: np.ndarray,
    learned: dict[str, float],
    grid: list[dict[str, float]],
    titles: Sequence[str],
) -> Figure:
    """Draws the learned weights, and their scores beside those of single weights."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(weights[:-1], marker="o", color=PALETTE[0])
    left.set(xlabel="slice", ylabel="weight of links to later slices")
    left.set_ylim(0, 1.1 * weights[:-1].max())
    ends = f"from {titles[0]} to {titles[-1]}"
    left.set_title(plain(ends), fontsize="medium")
    line = np.array([[row["apart"], row["preservation"]] for row in grid])
    right.plot(*line.T, marker=".", color="grey", label="one weight for all slices")
    for place, row in zip(line, grid, strict=True):
        right.annotate(f"{row['weight']:g}", place, fontsize="x-small")
    place = learned["apart"], learned["preservation"]
    right.plot(*place, "*", markersize=12, color=PALETTE[1], label="learned")
    lag = lag_of(titles)
    apart = f"{lag} slice{'s' * (lag > 1)} apart"
    right.set(xlabel=f"nearest rows {apart}, radii (less is better)")
    right.set(ylabel="preservation (more is better)")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
