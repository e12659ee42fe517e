"""Learns weights of the alignment, one for each slice, from mates that are hidden.

A share of the members is hidden from a layout, with all of their links.  The weights
lambda_t of the links from slice t to later ones follow the gradient of

    mean_t h_t / r + cost mean_t U_t / D_t

h_t: mean distance of hidden mates in slices t and t + 1; r: the maps' radius; U_t: the
attraction and repulsion of slice t; D_t: the sum of its degrees.  All weights move
together, and each alone at a share of that pace: what single slices say is mostly
noise.  The maps follow the weights by epochs at a low rate.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.fit import Prepared, optimize
from aljax.layout import aligned_loss, draw_shifts, hypergradient
from aljax.layout.optimize import shifts_of
from aljax.relations.mates import Mates
from aljax.selection import hide_members, split
from aljax.sweep import SweepProblem
from experiments.tasks.training import Derivative, Training, anchored, train

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
