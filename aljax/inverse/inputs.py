"""What an inverse transform is given, checked: errors name it and say the remedy."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float

from aljax.config import find_ab_params, number
from aljax.errors import LARGEST
from aljax.graph.exact import EXACT_METRICS
from aljax.graph.knn import as_floats
from aljax.inverse.weights import Curve

FEWEST, MOST, SHARE = 10, 60, 12  # neighbours: a twelfth of the rows, 10 to 60
ARRAYS = (np.ndarray, jax.Array)
Bounds = str | tuple[Any, Any] | None


def read_arrays(
    queries: Any, embedding: Any, data: Any
) -> tuple[
    Float[Array, "queries components"],
    Float[Array, "points components"],
    Float[Array, "points features"],
]:
    """The arrays of one map and its queries, checked as far as they can be seen.

    Raises:
        ValueError: Sparse data, shapes that do not fit, values that are not finite.
    """
    if scipy.sparse.issparse(data):
        raise ValueError(
            "`data` is a sparse matrix; expected a dense array. Pass `.toarray()`."
        )
    embedding, data = as_array(embedding, "embedding"), as_array(data, "data")
    queries = read_queries(queries, embedding.shape[1])
    if embedding.shape[0] != data.shape[0]:
        raise ValueError(
            f"`embedding` has {embedding.shape[0]} rows and `data` has "
            f"{data.shape[0]}; expected a map position for each row of the data."
        )
    for name, one in (("embedding", embedding), ("data", data)):
        if 0 in one.shape:
            raise ValueError(
                f"`{name}` has shape {one.shape}; expected at least one row and column."
            )
    _check_finite(embedding, "embedding")
    dtype = jnp.result_type(queries, embedding, data)
    return queries.astype(dtype), embedding.astype(dtype), data.astype(dtype)


def read_queries(queries: Any, components: int) -> Float[Array, "queries components"]:
    """Positions in a map of so many components; an empty list is none of them.

    Raises:
        ValueError: Another number of components, NaN or infinite values.
    """
    listed = isinstance(queries, Sequence) and not len(queries)
    if listed or (isinstance(queries, np.ndarray) and not queries.size):
        queries = np.zeros((0, components))
    queries = as_array(queries, "queries")
    if queries.shape[1] != components:
        raise ValueError(
            f"`queries` have {queries.shape[1]} components, but the map has "
            f"{components}; expected positions in the map, (queries, {components})."
        )
    _check_finite(queries, "queries")
    return queries


def as_array(values: Any, name: str) -> Array:
    """A two-dimensional array of JAX's own float type; a traced one stays traced."""
    if not isinstance(values, jax.Array):
        try:
            if np.iscomplexobj(values):
                raise TypeError("it has complex numbers")
            with np.errstate(over="ignore"):  # refused as infinite
                host = np.asarray(values, dtype=jax.dtypes.canonicalize_dtype(float))
                values = jax.device_put(host)  # jnp.asarray copies once more
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"`{name}` is no array of numbers: {error}.") from error
    if values.ndim != 2:
        remedy = "`[position]` for a single one"
        if values.ndim == 3:
            remedy = "one slice of a sequence, such as `maps[t]`"
        raise ValueError(
            f"`{name}` has shape {values.shape}; expected two dimensions, one row for "
            f"each position. Use {remedy}."
        )
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values * 1.0


def _check_finite(values: Array, name: str) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    finite = np.isfinite(np.asarray(values))
    if not finite.all():
        row = int(np.argwhere(~finite)[0, 0])
        raise ValueError(
            f"`{name}` has {np.asarray(values)[row].tolist()} in row {row}; expected "
            "finite positions. Drop the row."
        )


def check_found(values: Array) -> None:
    """Refuse what came out as no number; checking all data beforehand takes longer.

    Raises:
        ValueError: The data have such values, or are too large for single precision.
    """
    if not isinstance(values, jax.core.Tracer) and not np.isfinite(values).all():
        raise ValueError(
            "`data` has rows that are NaN, infinite, or too large for their squares to "
            f"be of type {values.dtype}; expected finite numbers of moderate size."
        )


def read_neighbors(n_neighbors: int | None, points: int) -> int:
    """How many neighbours to take, by default a share of the points.

    Raises:
        ValueError: Not at least 2 and less than the points.
    """
    if n_neighbors is None:
        n_neighbors = min(MOST, max(FEWEST, points // SHARE), max(points - 1, 2))
    number(2, whole=True)("n_neighbors", n_neighbors)
    if n_neighbors >= points:
        raise ValueError(
            f"`n_neighbors` is {n_neighbors}, but the map has {points} rows; expected "
            "less than its rows. Lower `n_neighbors`, or give a map of more rows."
        )
    return int(n_neighbors)


def read_curve(a: Any, b: Any) -> Curve:
    """The membership curve, by default that of `min_dist=0.1`.

    Raises:
        ValueError: One of the two without the other.
    """
    if (a is None) != (b is None):
        missing = "a" if a is None else "b"
        raise ValueError(f"`{missing}` is None; give both `a` and `b`, or neither.")
    if a is None:
        a, b = find_ab_params(1.0, 0.1)
    for name, value in (("a", a), ("b", b)):
        if not isinstance(value, jax.core.Tracer):
            real = (
                value.item() if isinstance(value, ARRAYS) and value.ndim == 0 else value
            )
            number(0, high=LARGEST, open_low=True)(name, real)
    return Curve(jnp.asarray(a, float), jnp.asarray(b, float))


def check_metric(metric: Any) -> None:
    """Refuse a metric that data cannot be reconstructed for here.

    Raises:
        ValueError: It is none of euclidean and cosine.
    """
    if metric not in EXACT_METRICS:
        raise ValueError(
            f"`metric` is {metric!r}; the inverse transform knows "
            f"{' and '.join(EXACT_METRICS)}. Use one of them for the inverse."
        )


def read_bounds(bounds: Bounds, data: Array) -> tuple[Array, Array] | None:
    """The lowest and highest value that each feature may have.

    Raises:
        ValueError: Another word than "data", a lo above its hi, a wrong shape.
    """
    if bounds is None:
        return None
    if isinstance(bounds, str) and bounds == "data":
        return jnp.min(data, axis=0), jnp.max(data, axis=0)
    try:
        if isinstance(bounds, str):
            raise TypeError("it is another word")
        low, high = (as_floats(one) for one in bounds)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'`bounds` is {bounds!r} ({error}); expected None, "data" or a pair '
            "(lo, hi)."
        ) from error
    for one in (low, high):
        if one.shape not in ((), data.shape[1:]):
            raise ValueError(
                f"`bounds` has an end of shape {one.shape}; expected a number, or one "
                f"for each of the {data.shape[1]} features."
            )
    if not (np.asarray(low) <= np.asarray(high)).all():
        raise ValueError(
            f"`bounds` is {bounds!r}, whose lo is above its hi; expected (lo, hi)."
        )
    return low, high
