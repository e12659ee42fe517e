"""The input of an inverse transform, read and checked."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float

from aljax.compilation import check_fork
from aljax.config import SYNONYMS, InverseConfig, number
from aljax.curve import check_both, find_ab_params
from aljax.errors import LARGEST, InputError, instance, warn
from aljax.graph.knn import capacity_for, metric_name, on_device
from aljax.inverse.neighborhood import Curve
from aljax.scaling import Units

SAMPLE = 1000  # rows that a center is the median of
FEWEST, MOST, SHARE = 10, 60, 12  # neighbors: a twelfth of the rows, 10 to 60


def read_config(
    config: InverseConfig | None,
    settings: Mapping[str, Any],
    model_metric: Any = None,
    slice_name: str = "",
) -> InverseConfig:
    """Returns the settings of an inverse, those given by name instead of its own.

    `model_metric`, that of the model's slice of this name, holds where none is set.

    Raises:
        InputError: A setting is unknown or out of range, or rows have no averages in
            the model's metric.
    """
    settings = dict(settings)
    if settings.pop("refine_steps", None):
        warn(
            "`refine_steps` does nothing: refinement never lowered an error. Leave it "
            "out.",
            DeprecationWarning,
        )
    config = InverseConfig() if config is None else config
    instance("config", config, InverseConfig, "aljax.InverseConfig(...)")
    config = dataclasses.replace(config, **settings)
    if model_metric is None or config.metric is not None or "metric" in settings:
        return config
    if SYNONYMS.get(model_metric, model_metric) not in ("euclidean", "cosine"):
        got = f"of {slice_name} is {metric_name(model_metric)}"
        remedy = "Pass `metric='euclidean'` to average rows as they are."
        raise InputError("metric", got, "euclidean or cosine", remedy)
    return dataclasses.replace(config, metric=model_metric)


class HeldMap(NamedTuple):
    """A map and its rows on the device.

    Those that come as JAX's arrays are not copied; others are padded by repeating the
    last row, so that maps of all sizes share a few programs.  NumPy's rows lie around
    `center`, a median, which single precision could not tell them apart from.
    Queries come in the user's coordinates: `coordinates` says what the map's are in
    them.
    """

    embedding: Float[Array, "points components"]
    data: Float[Array, "rows features"]
    n_points: int
    center: Float[np.ndarray, "features"] | None
    original: Float[Array | np.ndarray, "points features"]
    coordinates: Units | None = None

    def restore(self, points: Any) -> Any:
        """Returns points around the center where they belong, as exact as the data."""
        if self.center is None or isinstance(points, jax.core.Tracer):
            return points if self.center is None else points + self.center
        return (np.asarray(points) + self.center).astype(self.original.dtype)


def read_map(embedding: Any, data: Any) -> HeldMap:
    """Returns a map and its rows on the device, checked as far as they can be seen.

    Raises:
        InputError: Data are sparse, shapes do not fit, positions are not finite.
    """
    if scipy.sparse.issparse(data):
        raise InputError(
            "data", "is a sparse matrix", "a dense array", "Pass `.toarray()`."
        )
    embedding = read_floats(embedding, "embedding")
    data = read_floats(data, "data", exact=True)
    for name, array in (("embedding", embedding), ("data", data)):
        if 0 in array.shape:
            shape = f"has shape {array.shape}"
            raise InputError(name, shape, "at least one row and column")
    if len(embedding) != len(data):
        sizes = f"has {len(embedding)} rows and `data` has {len(data)}"
        raise InputError("embedding", sizes, "a position for each row of the data")
    _check_finite(embedding, "embedding")
    centered, center = data, None
    if not isinstance(data, jax.Array):
        check_result(data.sum(axis=0, dtype=float))
        # A value of the column that most lie around: outliers move the mean away.
        sampled = data[:: -(-len(data) // SAMPLE)]
        center = np.quantile(sampled, 0.5, axis=0, method="lower").astype(float)
        centered = np.empty(data.shape, jax.dtypes.canonicalize_dtype(float))
        with np.errstate(over="ignore"):  # refused as infinite
            np.subtract(data, center, out=centered, dtype=float, casting="same_kind")
    return HeldMap(_padded(embedding), _padded(centered), len(embedding), center, data)


def _padded(values: Array | np.ndarray) -> Array:
    if isinstance(values, jax.Array):
        return values
    room = (0, capacity_for(len(values)) - len(values)), (0, 0)
    return on_device(np.pad(values, room, mode="edge"))


def read_queries(
    queries: Any, components: int, coordinates: Units | None = None
) -> Float[Array, "queries components"]:
    """Returns positions in a map of so many components; an empty list holds none.

    They are brought to `coordinates`, if there are any.

    Raises:
        InputError: They have another number of components, or are not finite.
    """
    listed = isinstance(queries, Sequence) and not len(queries)
    if listed or (isinstance(queries, np.ndarray) and not queries.size):
        queries = np.zeros((0, components))
    queries = read_floats(queries, "queries", exact=coordinates is not None)
    if queries.shape[1] != components:
        width = f"has {queries.shape[1]} components, but the map has {components}"
        raise InputError("queries", width, f"positions (queries, {components})")
    queries = jax.device_put(coordinates.apply(queries) if coordinates else queries)
    _check_finite(queries, "queries")
    return queries


def read_floats(values: Any, name: str, *, exact: bool = False) -> Any:
    """Returns a two-dimensional array of floats, JAX's own where it was one before.

    Others come in JAX's float type or, if `exact`, in double precision if they need it.
    """
    check_fork()
    if not isinstance(values, jax.Array):
        try:
            if np.iscomplexobj(values):
                raise TypeError("it has complex numbers")
            wide = exact and not np.can_cast(np.asarray(values).dtype, np.float32)
            dtype = float if wide else jax.dtypes.canonicalize_dtype(float)
            with np.errstate(over="ignore"):  # refused as infinite
                values = np.asarray(values, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            got = f"cannot be read as numbers ({error})"
            raise InputError(name, got, "an array of numbers") from error
    if values.ndim != 2:
        remedy = "Use `[position]` for a single one."
        if values.ndim == 3:
            remedy = "Use one slice of a sequence, such as `maps[t]`."
        shape = f"has shape {values.shape}"
        expected = "two dimensions, one row for each position"
        raise InputError(name, shape, expected, remedy)
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values * 1.0


def _check_finite(values: Array | np.ndarray, name: str) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    host = np.asarray(values)
    finite = np.isfinite(host)
    if not finite.all():
        row = int(np.argwhere(~finite)[0, 0])
        got = f"has {host[row].tolist()} in row {row}"
        raise InputError(name, got, "finite positions", "Drop the row.")


def check_result(values: Array | np.ndarray) -> None:
    """Raises if a result contains NaN or inf: cheaper than checking all of `data`."""
    if not isinstance(values, jax.core.Tracer) and not np.isfinite(values).all():
        raise InputError(
            "data",
            "has rows that are NaN, infinite, or too large for their squares to be of "
            f"type {values.dtype}",
            "finite numbers of moderate size",
        )


def read_neighbors(n_neighbors: int | None, points: int) -> int:
    """Returns how many neighbors to take, by default a share of the points.

    Raises:
        InputError: They are not fewer than the points.
    """
    if n_neighbors is None:
        n_neighbors = min(MOST, max(FEWEST, points // SHARE), max(points - 1, 2))
    if n_neighbors >= points:
        raise InputError(
            "n_neighbors",
            f"is {n_neighbors}, but the map has {points} rows",
            "fewer than its rows",
            "Lower `n_neighbors`, or give a map of more rows.",
        )
    return int(n_neighbors)


def read_curve(a: Any, b: Any) -> Curve:
    """Returns the membership curve, by default that of `min_dist=0.1`.

    Raises:
        InputError: One of the two is set without the other, or is out of range.
    """
    check_both(a, b)
    if a is None:
        a, b = find_ab_params(1.0, 0.1)
    for name, value in (("a", a), ("b", b)):
        if not isinstance(value, jax.core.Tracer):
            scalar = getattr(value, "ndim", None) == 0
            real = value.item() if scalar else value
            number(0, high=LARGEST, open_low=True)(name, real)
    return Curve(jnp.asarray(a, float), jnp.asarray(b, float))


def read_bounds(bounds: Any, data: Any) -> tuple[Any, Any] | None:
    """Returns the lowest and the highest value that each feature may have.

    Raises:
        InputError: A lo is above its hi, or an end has a wrong shape or is no number.
    """
    if bounds is None:
        return None
    if isinstance(bounds, str):
        return data.min(axis=0), data.max(axis=0)
    features = data.shape[1]
    expected = f"(lo, hi), each a number or one for each of the {features} features"
    try:
        low, high = (
            end if isinstance(end, jax.Array) else np.asarray(end, float)
            for end in bounds
        )
    except (TypeError, ValueError) as error:
        raise InputError("bounds", f"is {bounds!r} ({error})", expected) from error
    for end in (low, high):
        if end.shape not in ((), (features,)):
            raise InputError("bounds", f"has an end of shape {end.shape}", expected)
    if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
        return low, high
    if np.isnan(low).any() or np.isnan(high).any():
        got = f"is {bounds!r}, with an end that is no number"
        raise InputError("bounds", got, expected, "An open end is -np.inf or np.inf.")
    if not (np.asarray(low) <= np.asarray(high)).all():
        raise InputError("bounds", f"is {bounds!r}, whose lo is above its hi", expected)
    return low, high
