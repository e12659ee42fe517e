"""The inverse transform of one map: positions in, data and its certainty out.

    x(z) = sum_i l_i(z) x_i      over the nearest map points i of z

Queries are reconstructed in blocks of one size, each by itself: memory is bounded
by 32 x points distances, and no query has a part in the result of another.  The
gradient map is |dx/dz| = sqrt(sum_ij (dx_i / dz_j)^2), by forward differentiation.
"""

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aljax.config import SYNONYMS, InverseConfig, number
from aljax.errors import InputError, optional
from aljax.graph.knn import on_device, round_up
from aljax.inverse.neighborhood import (
    Curve,
    Neighborhood,
    is_surrounded,
    linear_weights,
    mean_weights,
    neighborhood,
    normalize,
    relative_distance,
)
from aljax.inverse.read import (
    HeldMap,
    check_result,
    read_bounds,
    read_config,
    read_curve,
    read_map,
    read_neighbors,
    read_queries,
)

BLOCK = 32  # queries reconstructed at once
FAR = 3.0  # spacings, beyond which a position counts as outside
NARROWEST = 16  # points that are looked at, to find up to 15 neighbors and their edge
GRID = 10**6  # positions of a gradient map
MARGIN = 0.05  # of the map's extent, on each side of it


class Reconstruction(eqx.Module):
    """Data for positions in a map, and what it was made of.

    Attributes:
        points: The data, in double precision where the rows are.
        neighbors: The rows that each was made of, nearest in the map first.
        weights: Their weights, which sum to 1; those of "linear" can be negative.
            Before bounds, `points` is `weights` times those rows.
        distance: How far the nearest map points lie, in units of the spacing that
            the neighbors have among themselves (about 1 within the data).
        inside: True where neighbors surround the position (no half-space holds them
            all) and `distance` is at most 3; where it is False, the data are a guess.
        columns: The names of the data's columns, if they came with names.
    """

    points: Float[Array | np.ndarray, "queries features"]
    neighbors: Int[Array, "queries neighbors"]
    weights: Float[Array, "queries neighbors"]
    distance: Float[Array, "queries"]
    inside: Bool[Array, "queries"]
    columns: tuple[Hashable, ...] | None = eqx.field(static=True, default=None)

    def to_frame(self) -> Any:
        """Returns the data as a pandas frame, with the names of the data's columns.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas: Any = optional("pandas", "frames")
        return pandas.DataFrame(np.asarray(self.points), columns=self.columns)


class GradientMap(eqx.Module):
    """The Jacobian's norm on a grid over the map.

    Attributes:
        axes: The grid's coordinates, one row for each component.
        norm: |dx/dz| (units of the data per unit of the map), with one axis for each
            component in their order.
    """

    axes: Float[Array, "components resolution"]
    norm: Float[Array, "..."]


def inverse_transform(
    queries: Any,
    embedding: Any,
    data: Any,
    *,
    a: Any = None,
    b: Any = None,
    config: InverseConfig | None = None,
    **settings: Any,
) -> Reconstruction:
    """Returns data for positions in a map, as weighted sums of the rows around them.

    They are differentiable with respect to queries, embedding and data (with neighbors
    held), and continuous where neighbors change.  Outside of the map
    the rule is the same: the nearest neighbors, weighted by how much nearer they
    are than the next; "linear" levels off there.

    Args:
        queries: Positions `(queries, components)`, finite; there may be none.
        embedding: The map `(points, components)`, finite.
        data: The rows that were mapped, `(points, features)`, dense.  A JAX array
            spares a copy at every call.
        a: The a of the map's membership curve; None for that of `min_dist=0.1`.
        b: The b of the same.
        config: How positions become data.
        **settings: Settings of `InverseConfig` by name: `method`, `n_neighbors`,
            `bounds`, `metric`.

    Returns:
        The data, with neighbors, weights, distance and whether it is inside.

    Raises:
        InputError: Shapes do not fit, values are not finite, a setting is unknown or
            out of range.
    """
    config = read_config(config, settings)
    return reconstruct(queries, read_map(embedding, data), read_curve(a, b), config)


def reconstruct(
    queries: Any, held: HeldMap, curve: Curve, config: InverseConfig
) -> Reconstruction:
    """Returns `inverse_transform` of a map that is checked and on the device."""
    queries = read_queries(queries, held.embedding.shape[1], held.coordinates)
    limits = read_bounds(config.bounds, held.original)
    parts, n_neighbors = _results(_rebuild, queries, held, curve, config)
    points, neighbors, weights, distance, inside = parts
    count = queries.shape[0]
    points = held.restore(_cut(points, count))
    if limits is not None:
        traced = any(isinstance(array, jax.Array) for array in (points, *limits))
        library = jnp if traced else np
        points = library.asarray(points)
        points = library.clip(points, *limits).astype(points.dtype)
    return Reconstruction(
        points=points,
        neighbors=_cut(neighbors, count, n_neighbors),
        weights=_cut(weights, count, n_neighbors),
        distance=_cut(distance, count),
        inside=_cut(inside, count),
    )


def _results(
    result: Callable[..., Any],
    queries: Array,
    held: HeldMap,
    curve: Curve,
    config: InverseConfig,
) -> tuple[Any, int]:
    """Returns the `result` of all queries, padded, and how many neighbors count.

    Queries, map, rows and center meet in one float type.
    """
    n_neighbors = read_neighbors(config.n_neighbors, held.n_points)
    width = max(NARROWEST, 2 ** n_neighbors.bit_length())  # there is one more
    width = min(width, held.embedding.shape[0])
    metric = SYNONYMS.get(config.metric or "l2", config.metric)
    static = {"method": config.method, "width": width, "metric": metric}
    arrays: Any = _pad(queries), held.embedding, held.data
    dtype = jnp.result_type(*arrays)
    with np.errstate(over="ignore"):  # infinite for "cosine" alone, which refuses it
        center = on_device(0.0 if held.center is None else held.center, dtype)
    arrays = *(array.astype(dtype) for array in arrays), center, held.n_points
    results = _blockwise(*arrays, curve, n_neighbors, result=result, **static)
    check_result(jax.tree.leaves(results)[0])
    return results, n_neighbors


def _cut(leaf: Array, *sizes: int) -> Array:
    """Returns the first entries; eager JAX would compile for each number of them."""
    entries = tuple(slice(size) for size in sizes)
    if isinstance(leaf, jax.core.Tracer):
        return leaf[entries]
    return on_device(np.asarray(leaf)[entries])


@partial(jax.jit, static_argnames=("result", "method", "width", "metric"))
def _blockwise(
    queries: Float[Array, "queries components"],
    embedding: Float[Array, "points components"],
    data: Float[Array, "rows features"],
    center: Float[Array, "..."],
    n_points: Int[Array, ""] | int,
    curve: Curve,
    n_neighbors: Int[Array, ""] | int,
    *,
    result: Callable[..., Any],
    method: str,
    width: int,
    metric: str,
) -> Any:
    """Returns the `result` of each query, block by block.

    That is a function of what puts a query among its neighbors, of the map's radius
    and of the query.
    """
    queries, embedding, radius = normalize(queries, embedding, n_points)

    def around(query: Float[Array, "components"]) -> tuple[Neighborhood, Array, Array]:
        near = neighborhood(query, embedding, n_neighbors, width)
        weigh = {"mean": mean_weights, "linear": linear_weights}[method]
        weights = weigh(near, curve)
        return near, weights, combine(weights, data[near.rows], metric, center)

    blocks = queries.reshape(-1, BLOCK, queries.shape[1])
    results = jax.lax.map(jax.vmap(partial(result, around, radius)), blocks)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), results)


def _rebuild(
    around: Callable[[Array], Any], _: Array, query: Float[Array, "components"]
) -> tuple[Array, ...]:
    """Returns the parts of one query's `Reconstruction`."""
    near, weights, point = around(query)
    distance = relative_distance(near)
    inside = is_surrounded(near) & (distance <= FAR)
    return point, near.rows, weights, distance, inside


def _slope(
    around: Callable[[Array], Any], radius: Array, query: Float[Array, "components"]
) -> Float[Array, ""]:
    """Returns |dx/dz| at one query."""
    jacobian = jax.jacfwd(lambda query: around(query)[2])(query)
    return jnp.sqrt(jnp.sum(jacobian**2)) / radius


def gradient_map(
    embedding: Any,
    data: Any,
    *,
    resolution: int = 50,
    a: Any = None,
    b: Any = None,
    config: InverseConfig | None = None,
    **settings: Any,
) -> GradientMap:
    """Returns the norm of the inverse transform's derivative over the whole map.

    Args:
        embedding: The map `(points, components)`.
        data: The rows that were mapped, `(points, features)`.
        resolution: Grid positions along each component (at least 2; not more than a
            million in all).
        a: The a of the map's membership curve, as in `inverse_transform`.
        b: The b of the same.
        config: How positions become data; `bounds` play no part.
        **settings: Settings of `InverseConfig` by name.

    Raises:
        InputError: As `inverse_transform` does; or the grid is too large.
    """
    config = read_config(config, settings)
    number(2, whole=True)("resolution", resolution)
    held = read_map(embedding, data)
    dtype = jnp.result_type(held.embedding, held.data)
    components = held.embedding.shape[1]
    if resolution**components > GRID:
        got = f"is {resolution}, which makes {resolution}^{components} positions"
        raise InputError("resolution", got, f"at most {GRID} in all", "Lower it.")
    positions = np.asarray(held.embedding, dtype)
    low, high = positions.min(axis=0), positions.max(axis=0)
    spare = MARGIN * (high - low)
    axes = np.linspace(low - spare, high + spare, resolution, axis=1)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, components)
    queries = on_device(grid, dtype)
    norm, _ = _results(_slope, queries, held, read_curve(a, b), config)
    shape = (resolution,) * components
    return GradientMap(on_device(axes), _cut(norm, len(grid)).reshape(shape))


def combine(
    weights: Float[Array, "neighbors"],
    rows: Float[Array, "neighbors features"],
    metric: str,
    center: Float[Array, "..."],
) -> Float[Array, "features"]:
    """Returns the weighted sum of rows around a center, itself around it.

    For cosine it is the sum of directions, seen from the origin, as long as rows.
    """
    if metric != "cosine":
        return rows[0] + weights @ (rows - rows[0])
    rows = rows + center
    lengths = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    units = rows / jnp.where(lengths > 0, lengths, 1.0)
    direction = weights @ units
    squared = jnp.sum(direction**2)
    norm = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    return direction / norm * jnp.abs(weights @ lengths) - center


def _pad(queries: Float[Array, "queries components"]) -> Float[Array, "padded comps"]:
    """Pads queries to whole blocks, of which near counts share a compiled program."""
    blocks = max(1, math.ceil(queries.shape[0] / BLOCK))
    blocks = 2 ** (blocks - 1).bit_length() if blocks <= 8 else round_up(blocks)
    room = (0, blocks * BLOCK - queries.shape[0]), (0, 0)
    if isinstance(queries, jax.core.Tracer):
        return jnp.pad(queries, room)
    return jax.device_put(np.pad(np.asarray(queries), room))


def blend(
    first: Reconstruction, second: Reconstruction, share: float
) -> Reconstruction:
    """Returns a mixture of two slices' reconstructions of the same positions.

    Args:
        first: The earlier slice's; `neighbors` are its, followed by the other's.
        second: The later slice's.
        share: Its part (0 to 1).

    Raises:
        InputError: Their features differ in number.
    """
    features = [result.points.shape[1] for result in (first, second)]
    if features[0] != features[1]:
        raise InputError(
            "slice",
            f"lies between two of {features[0]} and {features[1]} features",
            "a whole number, for those cannot be blended",
        )

    def mixed(start: Any, end: Any) -> Any:
        return (1 - share) * start + share * end

    return Reconstruction(
        points=mixed(first.points, second.points),
        neighbors=jnp.hstack([first.neighbors, second.neighbors]),
        weights=jnp.hstack([(1 - share) * first.weights, share * second.weights]),
        distance=mixed(first.distance, second.distance),
        inside=first.inside & second.inside,
        columns=first.columns,
    )
