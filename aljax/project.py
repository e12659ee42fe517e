"""The loss of one free point, and its way down: the layout of new rows.

    L_i = 2 sum_j v_ij log(1 + a |y_i - y_j|^(2b))                  over its neighbors
        + gamma m n / (2 R (n - 1)) sum_r (v_i + d_r) log(1 + 1 / p_ir)

is the layout's loss of one free point i: v_ij are its memberships and v_i their sum;
R of the slice's points stand for all n in the repulsion, evenly spread.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from aljax.graph.fuzzy import membership_strengths, smooth_knn_dist
from aljax.graph.knn import KNN
from aljax.layout.losses import attraction_of_pairs, repulsion_of_pairs
from aljax.layout.optimize import ADAM
from aljax.layout.spaces import Space, lifted, squared_distance

ABSENT = -1.0  # the distance to a row that is no neighbor


class Anchors(NamedTuple):
    """The fixed points of a slice that pull new ones, and those that repel them.

    `repulsion` is a number, or one for each rival: 0 for padding.
    """

    embedding: Float[Array, "components points"]
    rivals: Float[Array, "components rivals"]
    rival_degrees: Float[Array, "rivals"]
    a: Float[Array, ""]
    b: Float[Array, ""]
    repulsion: Float[Array, "..."]


@jax.jit
def memberships(
    distances: Float[Array, "neighbors queries"], local_connectivity: Float[Array, ""]
) -> Float[Array, "neighbors queries"]:
    """Returns how strongly each query belongs to its neighbors, as in the graph.

    Args:
        distances: To the nearest rows, nearest first (units of the metric); below 0
            where a row is no neighbor.
        local_connectivity: As in `smooth_knn_dist`.
    """
    # The table's form has the point itself first, by its number: no neighbor has one.
    itself = jnp.arange(distances.shape[1], dtype=jnp.int32)
    distances = jnp.pad(distances, ((1, 0), (0, 0)), constant_values=ABSENT)
    table = KNN(jnp.where(distances < 0, itself, -1), jnp.maximum(distances, 0.0))
    # Each query by its own unit: it depends on no other.
    mean = jnp.mean(table.distances, axis=0)
    sigma, rho = smooth_knn_dist(
        table,
        local_connectivity=local_connectivity,
        unit=jnp.where(mean > 0, mean, 1.0),
    )
    return membership_strengths(table, sigma, rho)[1:]


def loss(
    queries: Float[Array, "components queries"],
    neighbors: Int[Array, "neighbors queries"],
    strengths: Float[Array, "neighbors queries"],
    anchors: Anchors,
    *,
    space: Space = None,
) -> Float[Array, ""]:
    """Returns the sum of L over all queries."""
    near = anchors.embedding[:, neighbors]
    squared = squared_distance(queries[:, None, :], near, space)
    pulled = strengths * attraction_of_pairs(squared, anchors.a, anchors.b)
    rivals = anchors.rivals[:, :, None]
    apart = squared_distance(queries[:, None, :], rivals, space)
    repelled = repulsion_of_pairs(apart, anchors.a, anchors.b)
    weights = jnp.sum(strengths, axis=0) + anchors.rival_degrees[:, None]
    repelled = anchors.repulsion[..., None] * weights * repelled
    return 2 * jnp.sum(pulled) + jnp.sum(repelled)


@partial(jax.jit, static_argnames=("n_epochs", "space"))
def project(
    neighbors: Int[Array, "neighbors queries"],
    distances: Float[Array, "neighbors queries"],
    anchors: Anchors,
    *,
    local_connectivity: Float[Array, ""],
    learning_rate: Float[Array, ""],
    n_epochs: int,
    space: Space = None,
) -> Float[Array, "components queries"]:
    """Returns where queries come to lie: from their neighbors' mean, down their loss.

    Args:
        neighbors: For each query its nearest points, nearest first.
        distances: And how far they are (units of the metric).
        anchors: The placed slice.
        local_connectivity: As the slice's graph has it.
        learning_rate: Length of the first step (map units).
        n_epochs: How many steps.
        space: That of the map.

    Returns:
        Positions; a query at distance 0 of a point lies where the point does.
    """
    strengths = memberships(distances, local_connectivity)
    shares = strengths / jnp.sum(strengths, axis=0)
    start = jnp.sum(anchors.embedding[:, neighbors] * shares, axis=1)
    if space is not None:  # where coordinates may wrap around, and have no mean
        start = anchors.embedding[:, neighbors[0]]
    embedding, rivals = (lifted(y, space) for y in (anchors.embedding, anchors.rivals))
    lifted_anchors = anchors._replace(embedding=embedding, rivals=rivals)

    def total(positions: Array) -> Float[Array, ""]:
        return loss(
            lifted(positions, space), neighbors, strengths, lifted_anchors, space=space
        )

    def epoch(i: Int[Array, ""], carry: tuple[Array, optax.OptState]) -> tuple:
        positions, moments = carry
        gradient = jax.grad(total)(positions)
        updates, moments = ADAM.update(gradient, moments)
        rate = learning_rate * (1 - i / n_epochs) ** 2
        return positions - rate * jnp.asarray(updates), moments

    placed, _ = jax.lax.fori_loop(0, n_epochs, epoch, (start, ADAM.init(start)))
    return jnp.where(distances[0] == 0, anchors.embedding[:, neighbors[0]], placed)
