"""A neighborhood in, the neighbors' weights out: both methods are one weighted sum.

    mean    w_i ~ (1 - u_i)^2 / (1 + a (d_i / h)^(2b)),    h^2 = mean_j d_j^2
    linear  l_i = w_i (1 + (y_i - m)' v),    v = (S + r I)^-1 (z - m) / sqrt(1 + q)

with u the taper, m and S the weighted mean and covariance of the neighbors' map
positions, r = trace S / components and q = (z - m)' (S + r I)^-1 (z - m).

Source: Cleveland (1979), "Robust locally weighted regression", for the local line;
the ridge and the bound on its reach, sqrt(1 + q), are ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from aljax.inverse.neighborhood import FLOOR, Neighborhood, taper
from aljax.layout.losses import log_p


class Curve(NamedTuple):
    """The map's membership curve 1 / (1 + a d^(2b))."""

    a: Float[Array, ""]
    b: Float[Array, ""]


def mean_weights(near: Neighborhood, curve: Curve) -> Float[Array, "neighbors"]:
    """Returns the map's kernel, as wide as the neighbors lie apart; they sum to 1."""
    total = jnp.sum(near.squared * near.present())
    width = jnp.maximum(total / near.n_neighbors, FLOOR)
    kernel = jax.nn.sigmoid(-log_p(near.squared / width, curve.a, curve.b))
    weights = taper(near) * kernel
    return weights / jnp.sum(weights)


def linear_weights(near: Neighborhood, curve: Curve) -> Float[Array, "neighbors"]:
    """Moves the mean along a local ridge regression; sum to 1, can be negative.

    Far from the neighbors the move levels off at about one of their standard
    deviations, so nothing is extrapolated beyond what they show.
    """
    weights = mean_weights(near, curve)
    # From the nearest: far from all of them, rounding would hide how they lie apart.
    among = near.offsets - near.offsets[0]
    mean = weights @ among
    center, apart = near.offsets[0] + mean, among - mean
    components = apart.shape[1]
    covariance = (apart * weights[:, None]).T @ apart
    ridge = jnp.trace(covariance) / components + FLOOR
    # The position is the origin of the offsets, hence z - m = -center.
    slope = jax.scipy.linalg.solve(
        covariance + ridge * jnp.eye(components), -center, assume_a="pos"
    )
    reach = jnp.sqrt(1 - center @ slope)
    return weights * (1 + apart @ slope / reach)
