"""The space of a map: how far its points lie apart.

    d(x, y) = distance(lift(x), lift(y))

Losses read d^2, and JAX differentiates it.  Euclidean maps have d^2 = sum (x - y)^2;
others a distance of this module, by umap-learn's names, or a function of the user's.
`lift` is what has to be computed once for each point, not for each pair: a sphere's
unit vector, a Gaussian's covariance.  Components stand along the first axis.

Between a point and itself d^2 is 0, where many distances have no derivative.

Source: umap-learn 0.5's documentation has these distances; |m|^2 between points of a
hyperboloid (Minkowski's form) is free of the cancellation in arccosh(s t - x y).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from aljax.config import SYNONYMS, LayoutConfig
from aljax.errors import InputError

TINY = 1e-12  # keeps the derivatives of roots and quotients finite
Points = Float[Array, "components ..."]
Lifted = Float[Array, "lifted ..."]
Lengths = Float[Array, "..."]
Space = tuple[Any, tuple[tuple[str, Any], ...]] | None  # a distance and its keywords


def _root(square: Lengths) -> Lengths:
    return jnp.sqrt(jnp.maximum(square, TINY))


def _above(value: Lengths) -> Lengths:
    return jnp.maximum(value, TINY)


def on_sphere(x: Points) -> Lifted:
    """Unit vectors, from angles to the pole and longitudes (radians)."""
    (angle, longitude), flat = x, jnp.sin(x[0])
    return jnp.stack(
        [flat * jnp.cos(longitude), flat * jnp.sin(longitude), jnp.cos(angle)]
    )


def haversine(x: Points, y: Points) -> Lengths:
    """Returns the angle between unit vectors (radians)."""
    chord = jnp.sum((x - y) ** 2, axis=0)
    return 2 * jnp.arctan2(_root(chord), _root(4 - chord))


def on_hyperboloid(x: Points) -> Lifted:
    """Points with their last coordinate, (1 + |x|^2)^(1/2)."""
    return jnp.concatenate([x, jnp.sqrt(1 + jnp.sum(x**2, axis=0, keepdims=True))])


def hyperboloid(x: Points, y: Points) -> Lengths:
    """2 arcsinh(|m| / 2), |m|^2 = sum m_i^2 - m_last^2, m = x - y."""
    square = (x - y) ** 2
    return 2 * jnp.arcsinh(_root(jnp.sum(square[:-1], axis=0) - square[-1]) / 2)


def minkowski(x: Points, y: Points, p: float = 2) -> Lengths:
    """(sum |x - y|^p)^(1/p)."""
    return jnp.sum(_above(jnp.abs(x - y)) ** p, axis=0) ** (1 / p)


def wminkowski(x: Points, y: Points, w: Any, p: float = 2) -> Lengths:
    """(sum w |x - y|^p)^(1/p)."""
    power = _above(jnp.abs(x - y)) ** p
    return jnp.tensordot(jnp.asarray(w, x.dtype), power, 1) ** (1 / p)


def seuclidean(x: Points, y: Points, sigma: Any) -> Lengths:
    """(sum (x - y)^2 / sigma)^(1/2), sigma the variance of each component."""
    return _root(jnp.tensordot(1 / jnp.asarray(sigma, x.dtype), (x - y) ** 2, 1))


def mahalanobis(x: Points, y: Points, vinv: Any) -> Lengths:
    """((x - y) vinv (x - y))^(1/2)."""
    turned = jnp.tensordot(jnp.asarray(vinv, x.dtype), x - y, 1)
    return _root(jnp.sum((x - y) * turned, axis=0))


def direction(x: Points) -> Lifted:
    """Returns x / |x|."""
    return x / _root(jnp.sum(x**2, axis=0))


def centered_direction(x: Points) -> Lifted:
    """Returns `direction` of points whose mean is subtracted."""
    return direction(x - jnp.mean(x, axis=0))


def cosine(x: Points, y: Points) -> Lengths:
    """1 - x y, of unit vectors."""
    return jnp.sum((x - y) ** 2, axis=0) / 2


def canberra(x: Points, y: Points) -> Lengths:
    """Returns sum |x - y| / (|x| + |y|)."""
    return jnp.sum(jnp.abs(x - y) / _above(jnp.abs(x) + jnp.abs(y)), axis=0)


def braycurtis(x: Points, y: Points) -> Lengths:
    """Returns sum |x - y| / sum |x + y|."""
    total = _above(jnp.sum(jnp.abs(x + y), axis=0))
    return jnp.sum(jnp.abs(x - y), axis=0) / total


def roots_of_shares(x: Points) -> Lifted:
    """p^(1/2), p the softmax of x."""
    return jnp.exp(jax.nn.log_softmax(x, axis=0) / 2)


def softmax_hellinger(x: Points, y: Points) -> Lengths:
    """(1 - sum x y)^(1/2), of unit vectors."""
    return _root(cosine(x, y))


def widths(x: Points) -> Lifted:
    """Points (mean, mean, variance, ...) with positive variances."""
    return jnp.concatenate([x[:2], jnp.abs(x[2:])])


def covariance(x: Points) -> Lifted:
    """(mean, mean, v_11, v_12, v_22) of (mean, mean, width, height, angle).

    The angle counts as in umap-learn, as arcsin(sin angle).
    """
    wide, high, sine = jnp.abs(x[2]), jnp.abs(x[3]), jnp.sin(x[4])
    mixed = (wide - high) * sine * _root(1 - sine**2)
    turn = (high - wide) * sine**2
    return jnp.stack([x[0], x[1], wide + turn, mixed, high - turn])


def spherical_gaussian_energy(x: Points, y: Points) -> Lengths:
    """|m|^2 / 2v + log v + log 2 pi: means m apart, variances that add up to v."""
    width = _above(x[2] + y[2])
    apart = jnp.sum((x[:2] - y[:2]) ** 2, axis=0)
    return apart / (2 * width) + jnp.log(width) + jnp.log(2 * jnp.pi)


def diagonal_gaussian_energy(x: Points, y: Points) -> Lengths:
    """(sum m_i^2 / v_i + log v_i) / 2 + log 2 pi, i the two axes."""
    width = _above(x[2:] + y[2:])
    energies = (x[:2] - y[:2]) ** 2 / width + jnp.log(width)
    return jnp.sum(energies, axis=0) / 2 + jnp.log(2 * jnp.pi)


def gaussian_energy(x: Points, y: Points) -> Lengths:
    """Returns m V^-1 m + log |V| + log 2 pi: means m apart, V summed covariances."""
    (m, n), (first, mixed, second) = x[:2] - y[:2], x[2:] + y[2:]
    size = _above(first * second - mixed**2)
    turned = second * m**2 - 2 * mixed * m * n + first * n**2
    return turned / size + jnp.log(size) + jnp.log(2 * jnp.pi)


DISTANCES: dict[str, Callable[..., Lengths]] = {
    "manhattan": lambda x, y: jnp.sum(jnp.abs(x - y), axis=0),
    "chebyshev": lambda x, y: jnp.max(jnp.abs(x - y), axis=0),
    "correlation": cosine,
    **{
        distance.__name__: distance
        for distance in (
            *(haversine, hyperboloid, minkowski, wminkowski, seuclidean, mahalanobis),
            *(cosine, canberra, braycurtis, softmax_hellinger),
            *(spherical_gaussian_energy, diagonal_gaussian_energy, gaussian_energy),
        )
    },
}
LIFTS: dict[str, Callable[[Points], Lifted]] = {
    "haversine": on_sphere,
    "hyperboloid": on_hyperboloid,
    "cosine": direction,
    "correlation": centered_direction,
    "softmax_hellinger": roots_of_shares,
    "spherical_gaussian_energy": widths,
    "diagonal_gaussian_energy": widths,
    "gaussian_energy": covariance,
}


def space_of(layout: LayoutConfig) -> Space:
    """Returns the space that settings ask for; None for the Euclidean one.

    Raises:
        InputError: A distance does not take its keyword arguments, or is not a
            function of two points that JAX can trace.
    """
    if layout.euclidean:
        return None
    metric = layout.output_metric
    metric = metric if callable(metric) else SYNONYMS.get(metric, metric)
    kwds = layout.output_metric_kwds or {}
    space = metric, tuple((name, _frozen(kwds[name])) for name in sorted(kwds))
    point = jax.ShapeDtypeStruct((layout.n_components, 1), jnp.result_type(float))
    try:
        shape = jax.eval_shape(lambda x: squared_distance(x, x, space), point).shape
    except Exception as error:  # whatever a function of the user's raises
        message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise _unfit(metric, f"cannot be traced by JAX ({message})") from error
    if shape != (1,):
        raise _unfit(metric, f"returns an array of shape {shape[1:]}")
    return space


def _unfit(metric: Any, got: str) -> InputError:
    if not callable(metric):
        expected = "the keyword arguments that this distance takes"
        return InputError("output_metric_kwds", f"of {metric!r} {got}", expected)
    expected = "a function of two points, `(components,)`, that returns their distance"
    remedy = "Write it with jax.numpy, without a gradient; its further arguments are "
    remedy += "`output_metric_kwds`."
    return InputError("output_metric", f"is {metric!r}, which {got}", expected, remedy)


def _frozen(value: Any) -> Any:
    """Returns a keyword argument as a program can be compiled for: by content."""
    if hasattr(value, "__array__"):
        value = np.asarray(value).tolist()
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def distances(
    heads: Float[np.ndarray, "pairs components"],
    tails: Float[np.ndarray, "pairs components"],
    space: Space,
) -> Float[np.ndarray, "pairs"]:
    """Returns how far apart pairs of positions lie in a space of maps."""
    if space is None:
        return np.linalg.norm(tails - heads, axis=1)
    x, y = (lifted(jnp.asarray(positions.T), space) for positions in (heads, tails))
    return np.sqrt(np.asarray(squared_distance(x, y, space)))


def lifted(maps: Float[Array, "... components points"], space: Space) -> Array:
    """Returns maps as the losses read them."""
    lift = None if space is None or callable(space[0]) else LIFTS.get(space[0])
    if lift is None:
        return maps
    return jnp.moveaxis(lift(jnp.moveaxis(maps, -2, 0)), 0, -2)


def squared_distance(x: Points, y: Points, space: Space = None) -> Lengths:
    """d^2 for each pair of lifted points; energies below 0 count as 0."""
    if space is None:
        return jnp.sum((x - y) ** 2, axis=0)
    metric, kwds = space[0], dict(space[1])
    distance = _pairwise(metric) if callable(metric) else DISTANCES[metric]
    same = jnp.all(x == y, axis=0)
    apart = distance(x, jnp.where(same, y + 1, y), **kwds)  # where all is finite
    return jnp.where(same, 0.0, jnp.maximum(apart, 0.0)) ** 2


def _pairwise(function: Callable[..., Any]) -> Callable[..., Lengths]:
    """Returns a function of two points as one of many pairs."""

    def distances(x: Points, y: Points, **kwds: Any) -> Lengths:
        def apart(x: Array, y: Array) -> Array:
            value = function(x, y, **kwds)
            # umap-learn's functions return a gradient, too, which JAX makes itself.
            return jnp.asarray(value[0] if isinstance(value, tuple) else value)

        x, y = jnp.broadcast_arrays(x, y)
        for _ in range(x.ndim - 1):
            apart = jax.vmap(apart, in_axes=-1, out_axes=-1)
        return apart(x, y)

    return distances
