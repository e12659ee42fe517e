"""Around one position: its map neighbors, how far from them it lies, their weights.

Neighbors are found exactly by comparing block minima first: the k blocks whose
minima are smallest hold the k nearest points, so only those are sorted.  They weigh

    mean    w_i ~ (1 - u_i)^2 / (1 + a (d_i / h)^(2b)),    h^2 = mean_j d_j^2
    linear  l_i = w_i (1 + (y_i - m)' v),    v = (S + r I)^-1 (z - m) / sqrt(1 + q)

with u the taper, m and S the weighted mean and covariance of the neighbors' map
positions, r = trace S / components and q = (z - m)' (S + r I)^-1 (z - m).

Source: Cleveland (1979), "Robust locally weighted regression", for the local line;
the ridge and the bound on its reach, sqrt(1 + q), are ours.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from aljax.layout.losses import log_p

FARTHEST = 1e3  # radii of the map, beyond which a position is taken to lie there
PADDING = 1e6  # radii of the map, where padding lies: a map of 10^12 points has none
FLOOR = 1e-9  # squared radii: what coincident points are divided by
FELLOWS = 15  # neighbors whose spacing is compared
NEAREST = 3  # distances that make up a spacing
SEPARATION = 64  # steps in search of a half-space that holds all neighbors


class Curve(NamedTuple):
    """The map's membership curve 1 / (1 + a d^(2b))."""

    a: Float[Array, ""]
    b: Float[Array, ""]


class Neighborhood(NamedTuple):
    """The nearest map points of one position, nearest first, in radii of the map.

    The first `n_neighbors` are its neighbors.  More stand behind them, so that other
    counts share a program, and weigh nothing.  `edge` is the squared distance of the
    first that is not a neighbor.
    """

    rows: Int[Array, "width"]
    offsets: Float[Array, "width components"]
    squared: Float[Array, "width"]
    edge: Float[Array, ""]
    n_neighbors: Int[Array, ""]

    def present(self, width: int | None = None) -> Bool[Array, "width"]:
        """Tells which of the first `width` are neighbors."""
        return jnp.arange(self.squared[:width].size) < self.n_neighbors


def normalize(
    queries: Float[Array, "queries components"],
    embedding: Float[Array, "points components"],
    n_points: Int[Array, ""] | int,
) -> tuple[
    Float[Array, "queries components"], Float[Array, "points components"], Array
]:
    """Queries and map around the map's center, in units of its radius; and that.

    What follows then has one meaning of small, whatever the units of the map.  Points
    from `n_points` on are padding, and come to lie farther away than any other.
    """
    real = (jnp.arange(len(embedding)) < n_points)[:, None]
    fixed = jax.lax.stop_gradient(embedding)
    center = jnp.sum(jnp.where(real, fixed, 0.0), axis=0) / n_points
    squared = jnp.where(real, (fixed - center) ** 2, 0.0)
    radius = jnp.sqrt(jnp.sum(squared) / n_points)
    radius = jnp.where(radius > 0, radius, 1.0)
    queries = jnp.clip((queries - center) / radius, -FARTHEST, FARTHEST)
    return queries, jnp.where(real, (embedding - center) / radius, PADDING), radius


def nearest_rows(
    query: Float[Array, "components"],
    embedding: Float[Array, "points components"],
    count: int,
) -> Int[Array, "count"]:
    """Returns the rows of the `count` nearest map points, nearest first; exact."""
    points = embedding.shape[0]
    embedding, query = jax.lax.stop_gradient((embedding, query))
    width = max(1, math.isqrt(points // count))
    blocks = -(-points // width)
    spare = ((0, width * blocks - points), (0, 0))
    padded = jnp.pad(embedding, spare, constant_values=jnp.inf)
    rows = jnp.arange(width * blocks, dtype=jnp.int32).reshape(width, blocks)
    if width > 1:
        tiles = padded.reshape(width, blocks, -1).swapaxes(1, 2)
        rows = rows[:, jax.lax.top_k(-_minima(query, tiles), count)[1]]
    # Computed again: keeping all distances costs more than those of so few blocks.
    near = jnp.sum((padded[rows.ravel()] - query) ** 2, axis=1)
    return rows.ravel()[jax.lax.top_k(-near, count)[1]]


def _minima(
    query: Float[Array, "components"], tiles: Float[Array, "width components blocks"]
) -> Float[Array, "blocks"]:
    """Finds each block's least squared distance, point by point of all blocks."""

    def closer(
        least: Float[Array, "blocks"], points: Float[Array, "components blocks"]
    ) -> tuple[Float[Array, "blocks"], None]:
        squared = jnp.sum((points - query[:, None]) ** 2, axis=0)
        return jnp.minimum(least, squared), None

    far = jnp.full(tiles.shape[2], jnp.inf, tiles.dtype)
    return jax.lax.scan(closer, far, tiles)[0]


def neighborhood(
    query: Float[Array, "components"],
    embedding: Float[Array, "points components"],
    n_neighbors: Int[Array, ""] | int,
    width: int,
) -> Neighborhood:
    """Returns the nearest map points of a position; which they are is fixed.

    `width`, how many are looked at, is above `n_neighbors`, how many count.
    """
    rows = nearest_rows(query, embedding, width)
    offsets = embedding[rows] - query
    squared = jnp.sum(offsets**2, axis=1)
    count = jnp.asarray(n_neighbors)
    return Neighborhood(rows, offsets, squared, squared[count], count)


def taper(near: Neighborhood) -> Float[Array, "neighbors"]:
    """(1 - u)^2, u = (d_i^2 - d_1^2) / (d_(k+1)^2 - d_1^2): 1 falling to 0.

    A point enters and leaves the neighborhood at weight 0, so what is weighted by
    it is continuous where neighbors change.  Of more points at one place than there
    are neighbors the first count.
    """
    closest = near.squared[0]
    span = jnp.maximum(near.edge - closest, FLOOR)
    falling = jnp.clip(1 - (near.squared - closest) / span, 0.0, 1.0) ** 2
    return jnp.where(near.present(), falling, 0.0)


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


def relative_distance(near: Neighborhood) -> Float[Array, ""]:
    """Returns the mean distance to the nearest points, in units of theirs.

    About 1 where the position lies as its neighbors do, large in gaps and outside.

    Source: the ratio behind the local outlier factor (Breunig et al. 2000).
    """
    offsets, fellow = near.offsets[:FELLOWS], near.present(FELLOWS)
    fellows = jnp.sum(fellow)
    counted = jnp.arange(NEAREST) < fellows - 1
    between = jnp.sum((offsets[:, None] - offsets[None]) ** 2, axis=2)
    other = fellow & ~jnp.eye(fellow.size, dtype=bool)
    apart = jnp.where(other, jax.lax.stop_gradient(between), jnp.inf)
    rows = jax.lax.top_k(-apart, NEAREST)[1]
    squared = jnp.take_along_axis(between, rows, axis=1)
    among = jnp.sqrt(squared + FLOOR) * counted * fellow[:, None]
    spacing = jnp.sum(among) / fellows
    return jnp.sum(jnp.sqrt(near.squared[:NEAREST] + FLOOR) * counted) / spacing


def is_surrounded(near: Neighborhood) -> Bool[Array, ""]:
    """Tells if no half-space at the position holds all its neighbors.

    Looks for the shortest vector in the hull of the directions to them: if all
    directions agree with it, they lie on one side, as they do outside the hull.

    Source: Gilbert (1966), "An iterative procedure for computing the minimum of a
        quadratic form on a convex set".
    """
    offsets, present = jax.lax.stop_gradient(near.offsets), near.present()
    length = jnp.sqrt(jax.lax.stop_gradient(near.squared))[:, None]
    directions = offsets / jnp.where(length > 0, length, 1.0)

    def improve(
        _: Int[Array, ""] | int, state: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        normal, separated = state
        agreement = jnp.sum(directions * normal, axis=1)
        agreement = jnp.where(present, agreement, jnp.inf)
        worst = directions[jnp.argmin(agreement)]
        step = normal - worst
        length = jnp.maximum(jnp.sum(step**2), FLOOR)
        share = jnp.clip(jnp.sum(normal * step) / length, 0.0, 1.0)
        return normal - share * step, separated | (jnp.min(agreement) > 0)

    mean = jnp.sum(directions * present[:, None], axis=0) / near.n_neighbors
    start = (mean, jnp.zeros((), bool))
    return ~jax.lax.fori_loop(0, SEPARATION, improve, start)[1]
