"""Refinement: a reconstruction moved until its memberships are those of its position.

    C = sum_i t_i [-q_i log v_i - (1 - q_i) log(1 - v_i)]
    q_i = 1 / (1 + a |z - y_i|^(2b)),  v_i = exp(-max(0, |x - x_i| - rho_i) / sigma_i)

over the nearest map points i, tapered by t.  rho_i and sigma_i are those of row i
among its own map neighbours: they do not depend on the query, so C is continuous
where neighbours change.

Source: McInnes, Healy & Melville (2018), arXiv:1802.03426, definition 10, read
    backwards.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from aljax.graph.fuzzy import smooth_knn_dist
from aljax.graph.knn import KNN
from aljax.inverse.neighborhood import Neighborhood, nearest_rows, taper
from aljax.inverse.weights import Curve
from aljax.layout.losses import log_p
from aljax.layout.optimize import ADAM

NEIGHBORS = 15  # whose memberships are compared, and who make up a bandwidth
RATE = 0.02  # of the neighbours' distance in each feature, a step
CERTAIN = 1e-4  # memberships stay this far from 1, where their logarithm ends


def distances(
    point: Float[Array, "features"],
    rows: Float[Array, "neighbors features"],
    metric: str,
) -> Float[Array, "neighbors"]:
    """From one point to each row: euclidean, or 1 - cos."""
    if metric == "cosine":
        return jnp.maximum(1 - _unit(rows) @ _unit(point), 0.0)
    return _root(jnp.sum((rows - point) ** 2, axis=1))


def _root(squared: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
    """The square root, with a derivative of 0 at 0."""
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def _unit(rows: Float[Array, "*rows features"]) -> Float[Array, "*rows features"]:
    length = _root(jnp.sum(rows**2, axis=-1, keepdims=True))
    return rows / jnp.where(length > 0, length, 1.0)


def bandwidths(
    rows: Int[Array, "neighbors"],
    embedding: Float[Array, "points components"],
    data: Float[Array, "points features"],
    metric: str,
) -> tuple[Float[Array, "neighbors"], Float[Array, "neighbors"]]:
    """Sigma and rho of each row, among its own nearest map points."""
    count = min(NEIGHBORS + 1, data.shape[0])

    def own(row: Int[Array, ""]) -> Float[Array, "others"]:
        others = nearest_rows(embedding[row], embedding, count)
        apart = distances(data[row], data[others], metric)
        return jnp.sort(jnp.where(others == row, 0.0, apart))

    table = jax.vmap(own)(rows).T
    # Column 0 is the row itself; the others only have to be different from it.
    indices = jnp.arange(rows.size) + (jnp.arange(count) > 0)[:, None]
    return smooth_knn_dist(KNN(indices, table))


def refine(
    start: Float[Array, "features"],
    near: Neighborhood,
    embedding: Float[Array, "points components"],
    data: Float[Array, "points features"],
    *,
    curve: Curve,
    metric: str,
    steps: int,
) -> Float[Array, "features"]:
    """`steps` of Adam on the cross-entropy, from `start`, neighbours fixed.

    Args:
        start: A reconstruction.
        near: Its position's neighbourhood.
        embedding: The map, in the same units as `near`.
        data: The rows.
        curve: The map's membership curve, in those units.
        metric: "euclidean" or "cosine".
        steps: How many; their length falls to 0.
    """
    near = near.nearest(min(NEIGHBORS, near.rows.size))
    rows, shares = data[near.rows], taper(near)
    wanted = jax.nn.sigmoid(-log_p(near.squared, curve.a, curve.b))
    sigma, rho = bandwidths(near.rows, embedding, data, metric)

    def loss(point: Float[Array, "features"]) -> Float[Array, ""]:
        excess = jnp.maximum(distances(point, rows, metric) - rho, 0.0) / sigma
        absent = jnp.log(1 - (1 - CERTAIN) * jnp.exp(-excess))
        return jnp.sum(shares * (wanted * excess - (1 - wanted) * absent))

    # In units of the neighbours' distance in each feature Adam serves any scale.
    spread = jnp.sum(shares[:, None] * (rows - start) ** 2) / jnp.sum(shares)
    unit = _root(spread / start.size)

    def step(i: Int[Array, ""] | int, state: tuple[Array, optax.OptState]):
        moved, moments = state
        slope = jax.grad(lambda by: loss(start + unit * by))(moved)
        direction, moments = ADAM.update(slope, moments)
        return moved - RATE * (1 - i / steps) * jnp.asarray(direction), moments

    still = jnp.zeros_like(start)
    moved, _ = jax.lax.fori_loop(0, steps, step, (still, ADAM.init(still)))
    return start + unit * moved
