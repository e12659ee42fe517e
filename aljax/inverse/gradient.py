"""Where an inverse is unstable: how much the data change per step in the map.

|dx/dz| = sqrt(sum_ij (dx_i / dz_j)^2)      by forward-mode differentiation
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aljax.config import number, one_of
from aljax.inverse.inputs import (
    check_found,
    check_metric,
    read_arrays,
    read_curve,
    read_neighbors,
)
from aljax.inverse.neighborhood import neighborhood, normalize
from aljax.inverse.reconstruct import blockwise, combine, pad, weigh
from aljax.inverse.weights import METHODS, Curve

LARGEST = 10**6  # positions of a grid
MARGIN = 0.05  # of the map's extent, on each side


class GradientMap(eqx.Module):
    """The Jacobian's norm on a grid over the map.

    Attributes:
        axes: The grid's coordinates, one row for each component.
        norm: |dx/dz| (units of the data per unit of the map), with one axis for each
            component in their order.
    """

    axes: Float[Array, "components resolution"]
    norm: Float[Array, "..."]


def gradient_map(
    embedding: Any,
    data: Any,
    *,
    resolution: int = 50,
    method: str = "linear",
    n_neighbors: int | None = None,
    a: Any = None,
    b: Any = None,
    metric: str = "euclidean",
) -> GradientMap:
    """The norm of the inverse transform's derivative over the whole map.

    Args:
        embedding: The map `(points, components)`.
        data: The rows that were mapped, `(points, features)`.
        resolution: Grid positions along each component (at least 2; not more than a
            million in all).
        method: As in `inverse_transform`, and so are the others.
        n_neighbors: Map points that each position's data are made of.
        a: Of the map's membership curve.
        b: Of the same.
        metric: "euclidean" or "cosine".

    Raises:
        ValueError: As `inverse_transform` does; or too large a grid.
    """
    one_of(*METHODS)("method", method)
    number(2, whole=True)("resolution", resolution)
    check_metric(metric)
    _, embedding, data = read_arrays([], embedding, data)
    components = embedding.shape[1]
    if resolution**components > LARGEST:
        raise ValueError(
            f"`resolution` is {resolution}, which makes a grid of {resolution}^"
            f"{components} positions; expected at most {LARGEST}. Lower it."
        )
    low, high = (np.asarray(end) for end in (embedding.min(0), embedding.max(0)))
    spare = MARGIN * (high - low)
    axes = np.linspace(low - spare, high + spare, resolution, axis=1)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, components)
    norm = _norms(
        pad(jnp.asarray(grid, embedding.dtype)),
        embedding,
        data,
        read_curve(a, b),
        method=method,
        n_neighbors=read_neighbors(n_neighbors, data.shape[0]),
        metric=metric,
    )
    check_found(norm)
    shape = (resolution,) * components
    return GradientMap(jnp.asarray(axes), norm[: len(grid)].reshape(shape))


@partial(jax.jit, static_argnames=("method", "n_neighbors", "metric"))
def _norms(
    queries: Float[Array, "queries components"],
    embedding: Float[Array, "points components"],
    data: Float[Array, "points features"],
    curve: Curve,
    *,
    method: str,
    n_neighbors: int,
    metric: str,
) -> Float[Array, "queries"]:
    queries, embedding, radius = normalize(queries, embedding)

    def point(query: Float[Array, "components"]) -> Float[Array, "features"]:
        near = neighborhood(query, embedding, n_neighbors)
        return combine(weigh(near, curve, method), data[near.rows], metric)

    def one(query: Float[Array, "components"]) -> Float[Array, ""]:
        return jnp.sqrt(jnp.sum(jax.jacfwd(point)(query) ** 2)) / radius

    return blockwise(one, queries)
