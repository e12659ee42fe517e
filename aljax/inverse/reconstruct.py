"""The inverse transform of one map: positions in, data and its certainty out.

    x(z) = sum_i l_i(z) x_i      over the nearest map points i of z

Queries are reconstructed in blocks of one size, each by itself: memory is bounded
by 32 x points distances, and none has a part in the result of another.
"""

import math
import numbers
from collections.abc import Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aljax.config import number, one_of
from aljax.graph.knn import round_up
from aljax.inverse.inputs import (
    Bounds,
    check_found,
    check_metric,
    read_arrays,
    read_bounds,
    read_curve,
    read_neighbors,
)
from aljax.inverse.neighborhood import (
    Neighborhood,
    is_surrounded,
    neighborhood,
    normalize,
    relative_distance,
)
from aljax.inverse.refine import refine
from aljax.inverse.weights import METHODS, Curve, linear_weights, mean_weights

BLOCK = 32  # queries reconstructed at once
FAR = 3.0  # spacings, beyond which a position counts as outside


class Reconstruction(eqx.Module):
    """Data for positions in a map, and what it was made of.

    Attributes:
        points: The data.
        neighbors: The rows that each was made of, nearest in the map first.
        weights: Their weights, which sum to 1; those of "linear" can be negative.
            Before bounds and refinement, `points` is `weights` times those rows.
        distance: How far the nearest map points lie, in units of the spacing that
            the neighbours have among themselves (about 1 within the data).
        inside: Whether neighbours surround the position (no half-space holds them
            all) and `distance` is at most 3.  Where it is False, a guess.
    """

    points: Float[Array, "queries features"]
    neighbors: Int[Array, "queries neighbors"]
    weights: Float[Array, "queries neighbors"]
    distance: Float[Array, "queries"]
    inside: Bool[Array, "queries"]


def inverse_transform(
    queries: Any,
    embedding: Any,
    data: Any,
    *,
    method: str = "linear",
    n_neighbors: int | None = None,
    a: Any = None,
    b: Any = None,
    metric: str = "euclidean",
    bounds: Bounds = None,
    refine_steps: int = 0,
) -> Reconstruction:
    """Data for positions in a map, as weighted sums of the rows placed around them.

    Differentiable with respect to queries, embedding and data (which neighbours
    there are is fixed), and continuous where neighbours change.  Outside of the map
    the rule is the same: the nearest neighbours, weighted by how much nearer they
    are than the next; "linear" levels off there.

    Args:
        queries: Positions `(queries, components)`, finite; may be none.
        embedding: The map `(points, components)`, finite.
        data: The rows that were mapped, `(points, features)`, dense.  A JAX array
            spares a copy at every call.
        method: "linear" (local ridge regression) or "mean" (local average).
        n_neighbors: Map points that each is made of (2 to points - 1).  None takes a
            twelfth of the points, at least 10 and at most 60.
        a: Of the map's membership curve; None for that of `min_dist=0.1`.
        b: Of the same.
        metric: "euclidean", or "cosine": directions and lengths are averaged apart,
            and refinement compares directions.
        bounds: None, `(lo, hi)` (numbers, or one for each feature), or "data": each
            feature within what the data show.
        refine_steps: Gradient steps on the cross-entropy between the memberships
            that the reconstruction has in the data and its position in the map.

    Returns:
        The data, with neighbours, weights, distance and whether it is inside.

    Raises:
        ValueError: Shapes that do not fit, values that are not finite, an unknown
            method or metric, bounds out of order.
    """
    one_of(*METHODS)("method", method)
    number(0, whole=True)("refine_steps", refine_steps)
    check_metric(metric)
    queries, embedding, data = read_arrays(queries, embedding, data)
    limits = read_bounds(bounds, data)
    count = queries.shape[0]
    found = _reconstruct(
        pad(queries),
        embedding,
        data,
        read_curve(a, b),
        method=method,
        n_neighbors=read_neighbors(n_neighbors, data.shape[0]),
        metric=metric,
        steps=int(refine_steps),
    )
    found = jax.tree.map(lambda leaf: leaf[:count], found)
    check_found(found.points)
    if limits is None:
        return found
    clipped = jnp.clip(found.points, *limits)
    return eqx.tree_at(lambda one: one.points, found, clipped)


@partial(jax.jit, static_argnames=("method", "n_neighbors", "metric", "steps"))
def _reconstruct(
    queries: Float[Array, "queries components"],
    embedding: Float[Array, "points components"],
    data: Float[Array, "points features"],
    curve: Curve,
    *,
    method: str,
    n_neighbors: int,
    metric: str,
    steps: int,
) -> Reconstruction:
    queries, embedding, radius = normalize(queries, embedding)
    in_radii = Curve(curve.a * radius ** (2 * curve.b), curve.b)

    def one(query: Float[Array, "components"]) -> tuple[Array, ...]:
        near = neighborhood(query, embedding, n_neighbors)
        weights = weigh(near, curve, method)
        point = combine(weights, data[near.rows], metric)
        if steps:
            point = refine(
                point,
                near,
                embedding,
                data,
                curve=in_radii,
                metric=metric,
                steps=steps,
            )
        distance = relative_distance(near)
        inside = is_surrounded(near) & (distance <= FAR)
        return point, near.rows, weights, distance, inside

    return Reconstruction(*blockwise(one, queries))


def weigh(near: Neighborhood, curve: Curve, method: str) -> Float[Array, "neighbors"]:
    """The weights of one neighbourhood by the method of that name."""
    return {"mean": mean_weights, "linear": linear_weights}[method](near, curve)


def combine(
    weights: Float[Array, "neighbors"],
    rows: Float[Array, "neighbors features"],
    metric: str,
) -> Float[Array, "features"]:
    """The weighted sum of rows; for cosine, of directions, as long as rows are."""
    if metric != "cosine":
        return weights @ rows
    lengths = jnp.sqrt(jnp.sum(rows**2, axis=1, keepdims=True))
    units = rows / jnp.where(lengths > 0, lengths, 1.0)
    direction = weights @ units
    squared = jnp.sum(direction**2)
    norm = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    return direction / norm * jnp.abs(weights @ lengths)


def blockwise(function: Any, queries: Float[Array, "queries components"]) -> Any:
    """A function of one query over all, block by block; their number is padded."""
    blocks = queries.reshape(-1, BLOCK, queries.shape[1])
    found = jax.lax.map(jax.vmap(function), blocks)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)


def pad(queries: Float[Array, "queries components"]) -> Float[Array, "padded comps"]:
    """Queries padded to whole blocks, in numbers that let near counts share one
    compiled program.
    """
    blocks = max(1, math.ceil(queries.shape[0] / BLOCK))
    blocks = 2 ** (blocks - 1).bit_length() if blocks <= 8 else round_up(blocks)
    return jnp.pad(queries, ((0, blocks * BLOCK - queries.shape[0]), (0, 0)))


def inverse_transform_at(
    queries: Any,
    maps: Sequence[Any],
    data: Sequence[Any],
    *,
    slice: float = -1,  # noqa: A002
    a: Float[Array, "slices"] | None = None,
    b: Float[Array, "slices"] | None = None,
    method: str = "linear",
    n_neighbors: int | None = None,
    metric: str = "euclidean",
    bounds: Bounds = None,
    refine_steps: int = 0,
) -> Reconstruction:
    """Data for positions in the frame of one slice, or between two.

    Between slices s and s + 1 what both make of a position is blended: continuous in
    t, and each slice's own at its end.  `neighbors` are then those in slice s,
    followed by those in s + 1; `inside` holds where both do.

    Args:
        queries: Positions, `(queries, components)`.
        maps: For each slice its map.
        data: For each slice its rows; None where there are none.
        slice: Which (negative counts from the end), or a fraction between two.
        a: Of each slice's membership curve; None for that of `min_dist=0.1`.
        b: Of the same.
        method: As in `inverse_transform`, and so are the others.
        n_neighbors: Map points that each is made of.
        metric: "euclidean" or "cosine".
        bounds: The range of the results.
        refine_steps: Gradient steps on the memberships' cross-entropy.

    Raises:
        ValueError: As `inverse_transform` does; a slice outside of the sequence or
            without data, or a fraction between slices of different features.
    """
    start, fraction = _locate(slice, len(maps))

    def at(s: int) -> Reconstruction:
        if data[s] is None:
            raise ValueError(
                f"`slice` is {slice}, but slice {s} was given as a graph, neighbours "
                "or distances, without data; the inverse transform needs the rows."
            )
        return inverse_transform(
            queries,
            maps[s],
            data[s],
            method=method,
            n_neighbors=n_neighbors,
            a=None if a is None else a[s],
            b=None if b is None else b[s],
            metric=metric,
            bounds=bounds,
            refine_steps=refine_steps,
        )

    return at(start) if not fraction else blend(at(start), at(start + 1), fraction)


def inverse_trajectory(
    queries: Any, maps: Sequence[Any], data: Sequence[Any], **options: Any
) -> list[Reconstruction]:
    """What stands at the same positions in every slice, in the order of the slices.

    Args:
        queries: Positions, `(queries, components)`.
        maps: For each slice its map.
        data: For each slice its rows.
        options: As in `inverse_transform_at`.

    Raises:
        ValueError: As `inverse_transform_at` does.
    """
    return [
        inverse_transform_at(queries, maps, data, slice=t, **options)
        for t in range(len(maps))
    ]


def blend(
    first: Reconstruction, second: Reconstruction, fraction: float
) -> Reconstruction:
    """A mixture of two slices' reconstructions of the same positions.

    Raises:
        ValueError: Their features differ in number.
    """
    features = [one.points.shape[1] for one in (first, second)]
    if features[0] != features[1]:
        raise ValueError(
            f"`slice` lies between two of {features[0]} and {features[1]} features, "
            "which cannot be blended; give a whole number."
        )
    parts = (1 - fraction, fraction)

    def mixed(one: Array, other: Array) -> Array:
        return parts[0] * one + parts[1] * other

    return Reconstruction(
        points=mixed(first.points, second.points),
        neighbors=jnp.hstack([first.neighbors, second.neighbors]),
        weights=jnp.hstack([parts[0] * first.weights, parts[1] * second.weights]),
        distance=mixed(first.distance, second.distance),
        inside=first.inside & second.inside,
    )


def _locate(given: Any, slices: int) -> tuple[int, float]:
    """The slice at or before a position in the sequence, and how far beyond it."""
    scalar = isinstance(given, np.ndarray | jax.Array) and given.ndim == 0
    real = given.item() if scalar else given
    known = isinstance(real, numbers.Real) and not isinstance(real, bool)
    position = float(real) if known else math.nan  # pyright: ignore[reportArgumentType]
    if position < 0 and position.is_integer():
        position += slices
    if not 0 <= position <= slices - 1:
        raise ValueError(
            f"`slice` is {given!r}, but there are {slices} slices; expected 0 to "
            f"{slices - 1} (fractions lie between two), or -{slices} to -1 from the "
            "end."
        )
    start = math.floor(position)
    return start, position - start
