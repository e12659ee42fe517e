"""The inverse transform along a sequence of maps that share one frame.

x(z, t) = (1 - f) x_s(z) + f x_(s+1)(z),    s = floor(t), f = t - s
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aljax.inverse.inputs import Bounds
from aljax.inverse.reconstruct import Reconstruction, inverse_transform


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
