"""New points among placed ones: each follows the layout's loss, the others held fixed.

    L(y) = 2 sum_j v_j log(1 + a |y - y_j|^(2b))
           + gamma m sum_k (d + d_k) / (2(n - 1)) log(1 + 1 / p_k),   d = sum_j v_j

over a query's neighbours j and the slice's points k, p as in `losses`.  A row's result
depends on no other: blocks have one size and meet the same points k.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from aljax.graph.fuzzy import membership_strengths, smooth_knn_dist
from aljax.graph.knn import KNN
from aljax.layout.losses import SOFTENING, log_p, softplus
from aljax.layout.optimize import ADAM


class Frame(NamedTuple):
    """A placed slice, as new points see it; `rivals` are those that repel."""

    embedding: Float[Array, "components points"]
    rivals: Float[Array, "components rivals"]
    rival_degrees: Float[Array, "rivals"]
    a: Float[Array, ""]
    b: Float[Array, ""]
    repulsion: Float[Array, ""]


def memberships(
    distances: Float[Array, "neighbors queries"], local_connectivity: Float[Array, ""]
) -> Float[Array, "neighbors queries"]:
    """How strongly each query belongs to each of its neighbours, as in the graph.

    Args:
        distances: To the nearest rows, nearest first (units of the metric).
        local_connectivity: As in `smooth_knn_dist`.
    """
    # The table's form has the point itself first: here it stands for no row.
    own = jnp.where(jnp.arange(len(distances) + 1) == 0, 0, -1).astype(jnp.int32)

    def one(nearest: Float[Array, "neighbors"]) -> Float[Array, "neighbors"]:
        table = KNN(own[:, None], jnp.pad(nearest, (1, 0))[:, None])
        sigma, rho = smooth_knn_dist(table, local_connectivity=local_connectivity)
        return membership_strengths(table, sigma, rho)[1:, 0]

    # One by one: the table's unit is the mean distance of all that are in it.
    return jax.vmap(one, in_axes=1, out_axes=1)(distances)


def loss(
    queries: Float[Array, "components queries"],
    neighbors: Int[Array, "neighbors queries"],
    strengths: Float[Array, "neighbors queries"],
    frame: Frame,
) -> Float[Array, ""]:
    """The sum of L over all queries."""
    difference = queries[:, None, :] - frame.embedding[:, neighbors]
    squared = jnp.sum(difference**2, axis=0)
    pulled = 2 * jnp.sum(strengths * softplus(log_p(squared, frame.a, frame.b)))
    apart = jnp.sum((queries[:, None, :] - frame.rivals[:, :, None]) ** 2, axis=0)
    repelled = softplus(-log_p(apart, frame.a, frame.b, SOFTENING))
    weights = jnp.sum(strengths, axis=0) + frame.rival_degrees[:, None]
    return pulled + frame.repulsion * jnp.sum(weights * repelled)


@partial(jax.jit, static_argnames="n_epochs")
def project(
    neighbors: Int[Array, "neighbors queries"],
    distances: Float[Array, "neighbors queries"],
    frame: Frame,
    *,
    local_connectivity: Float[Array, ""],
    learning_rate: Float[Array, ""],
    n_epochs: int,
) -> Float[Array, "components queries"]:
    """Where queries come to lie: at their neighbours' mean, then down their loss.

    Args:
        neighbors: For each query its nearest points, nearest first.
        distances: And how far they are (units of the metric).
        frame: The placed slice.
        local_connectivity: As the slice's graph has it.
        learning_rate: Length of the first step (map units).
        n_epochs: How many steps.

    Returns:
        Positions; a query at distance 0 of a point lies where the point does.
    """
    strengths = memberships(distances, local_connectivity)
    shares = strengths / jnp.sum(strengths, axis=0)
    start = jnp.sum(frame.embedding[:, neighbors] * shares, axis=1)

    def epoch(i: Int[Array, ""], carry: tuple[Array, optax.OptState]) -> tuple:
        here, moments = carry
        gradient = jax.grad(loss)(here, neighbors, strengths, frame)
        updates, moments = ADAM.update(gradient, moments)
        rate = learning_rate * (1 - i / n_epochs) ** 2
        return here - rate * jnp.asarray(updates), moments

    placed, _ = jax.lax.fori_loop(0, n_epochs, epoch, (start, ADAM.init(start)))
    return jnp.where(distances[0] == 0, frame.embedding[:, neighbors[0]], placed)
