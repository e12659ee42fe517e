"""Weights of the alignment, one for each slice, learned from mates that are hidden.

    python -m experiments.run experiment=alignment_weights

A share of the members is hidden from a layout, with all of their links.  The weights
lambda_t of the links from slice t to later ones follow the gradient of

    mean_t h_t / r + cost mean_t U_t / D_t

h_t: mean distance of hidden mates in slices t and t + 1; r: the maps' radius; U_t: the
attraction and repulsion of slice t; D_t: the sum of its degrees.  All weights move
together, and each alone at a share of that pace: what single slices say is mostly
noise.  The maps follow the weights by epochs at a low rate.

The learned weights lay the sequence out once more with all mates, by another key, and
are compared with a few weights that are the same for all slices.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from aljax import metrics
from aljax.config import is_listed, number
from aljax.errors import InputError
from aljax.fit import Prepared
from aljax.layout import aligned_loss, draw_shifts, hypergradient
from aljax.layout.optimize import shifts_of
from aljax.plot.colors import PALETTE
from aljax.plot.style import plain
from aljax.relations.mates import Mates
from aljax.running import optimize
from aljax.selection import WEIGHT, hide_members, split
from aljax.sweep import SweepProblem
from experiments.data import sources
from experiments.data.dataset import related_by_ids
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings, check_options
from experiments.tasks.training import (
    Derivative,
    Training,
    anchored,
    read_training,
    train,
    write_results,
)

FAR = 5  # slices apart, as in the evaluation
FEWEST = 3  # rows of a slice, of which one can be near and one far
NOBODY = Mates(np.zeros(0, int), np.zeros(0, int))
OWN = 0.3  # share of the common pace at which the slices' own weights move
SHIFTS = 40  # that estimate the repulsion in the outer loss


class HiddenMates(eqx.Module):
    """The outer loss: how far hidden mates lie apart, and what holding them costs."""

    pairs: Sequence[tuple[Int[Array, " mates"], Int[Array, " mates"]]]
    problem: Any
    params: Any
    shifts: Any
    cost: Float[Array, ""]

    def __call__(self, maps: Float[Array, "slices components points"]) -> Array:
        """Returns the loss of stacked maps."""
        sizes = self.problem.n_points
        inside = (jnp.arange(maps.shape[2]) < sizes[:, None])[:, None]
        centers = jnp.sum(maps * inside, axis=2) / sizes[:, None]
        squared = jnp.sum((maps - centers[..., None]) ** 2 * inside, axis=1)
        radius = jnp.mean(jnp.sqrt(jnp.sum(squared, axis=1) / sizes))
        distances = [
            jnp.mean(jnp.sqrt(jnp.sum((y[:, a] - z[:, b]) ** 2, axis=0) + 1e-6))
            for y, z, (a, b) in zip(maps, maps[1:], self.pairs, strict=False)
            if len(a)
        ]
        terms = aligned_loss(maps, self.problem, self.params, self.shifts)
        degrees = jnp.sum(self.problem.degrees, axis=1)
        energy = jnp.mean((terms.attraction + terms.repulsion) / degrees)
        return jnp.mean(jnp.stack(distances)) / radius + self.cost * energy


def weighed(problem: Any, params: Any, logs: Float[Array, " one_and_slices"]) -> Any:
    """Puts weights in place: that of the settings times exp(all's and each one's)."""
    weights = params.alignment_regularisation * jnp.exp(logs[0] + OWN * logs[1:])
    return problem, eqx.tree_at(lambda p: p.alignment_regularisation, params, weights)


def laid_out(prepared: Prepared, params: Any, key: jax.Array) -> Any:
    """Returns the last state of a layout."""
    shifts = shifts_of(prepared.problem)
    return optimize(prepared.problem, params, prepared.state, shifts, key=key)


def learn_weights(
    problem: SweepProblem,
    *,
    key: jax.Array,
    training: Training,
    cost: float,
    hidden_share: float,
) -> tuple[Float[np.ndarray, " slices"], dict[str, Any]]:
    """Returns the weight of each slice's links to later ones, and how it was learned.

    Args:
        problem: The data and settings, whose weight is where the learning starts.
        key: Decides which members are hidden, and the layouts.
        training: How long and how fast; `refresh` is the steps that share a layout.
        cost: Radii that mates may lie apart for a unit of attraction and repulsion by
            degree (at least 0).
        hidden_share: The share of the members that are hidden.
    """
    full = problem.prepared(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    hidden = hide_members(full, hidden_share, rng)
    hidden_mates = split(full.relations, hidden)[1]
    visible = problem._replace(visible=lambda relations: split(relations, hidden)[0])
    prepared, params = visible.prepared(key), problem.params()
    places = np.argsort(np.asarray(prepared.problem.order), axis=1)
    pairs = [
        (jnp.asarray(places[t, mates.rows]), jnp.asarray(places[t + 1, mates.others]))
        for t in range(len(places) - 1)
        for mates in [hidden_mates.get((t, 1), NOBODY)]
    ]
    shifts = draw_shifts(key, prepared.problem.n_points, n_shifts=SHIFTS)
    outer = HiddenMates(pairs, prepared.problem, params, shifts, jnp.asarray(cost))
    start = laid_out(prepared, params, key).maps

    def hold(logs: Array, count: int, maps: Array | None) -> Derivative:
        del count
        pieces = weighed(prepared.problem, params, logs)
        initial = start if maps is None else maps
        adjoint, initial = anchored(training, pieces, initial, key)
        options = {"start": initial, "through": weighed, "adjoint": adjoint}
        return partial(hypergradient, outer, prepared.problem, params, **options)

    logs, report = train(jnp.zeros(1 + len(places)), hold, training=training)
    return np.asarray(weighed(None, params, logs)[1].alignment_regularisation), report


def lag_of(slices: Sequence[Any]) -> int:
    """Returns how far apart slices are compared: less in a short sequence."""
    return min(FAR, len(slices) - 1)


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
    """Returns the scores of the maps with one weight, or one for each slice.

    These are preservation (5 %), stability, and how far apart nearest rows lie.
    """
    prepared, state = laid_out_with(problem, weights, key)
    data, maps = [np.asarray(rows) for rows in prepared.data], prepared.maps_of(state)
    preserved = [
        metrics.neighborhood_preservation(x, y, n_neighbors=0.05)
        for x, y in zip(data, maps, strict=True)
    ]
    mates, correlation = prepared.relations, "pearson"
    return {
        "preservation": float(np.mean(preserved)),
        "stability": metrics.stability(data, maps, mates, correlation=correlation),
        "apart": metrics.frame_displacement(data, maps, lag=lag_of(maps)),
    }


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
    rows, t = min((len(x), t) for t, x in enumerate(dataset.slices))
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
