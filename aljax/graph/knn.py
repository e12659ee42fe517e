"""The neighbour table `KNN`, its normal form, and arrays as JAX likes them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from aljax.errors import LARGEST

# A slice's features (or distances): an array, or the rows of a sparse one.
Rows = np.ndarray | scipy.sparse.csr_matrix


class KNN(eqx.Module):
    """Each row's nearest neighbours, nearest first and the row itself in column 0.

    An entry that is not a neighbour (padding, a repeated row, a missing value)
    is the row's own index again, with distance 0: entries of that kind beyond
    column 0 weigh nothing in the graph.
    """

    indices: Int[Array, "neighbors points"]
    distances: Float[Array, "neighbors points"]


def as_knn(
    indices: Int[np.ndarray, "points neighbors"],
    distances: Float[np.ndarray, "points neighbors"],
    *,
    name: str = "`precomputed_knn`",
) -> KNN:
    """The normal form of a neighbour table made elsewhere (umap-learn's shape).

    Args:
        indices: Neighbours of each row, itself included or not; -1 for none.
        distances: Their distances (units of the metric, at least 0); inf for none.
        name: What messages call the two.

    Returns:
        The table with each row itself in column 0 and every neighbour once.

    Raises:
        ValueError: Shapes that differ, an index out of range, a distance below 0.
    """
    try:
        indices, distances = np.asarray(indices), np.asarray(distances, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} is no pair of arrays ({error}); expected indices and "
            "distances (points, neighbors)."
        ) from error
    wrong = indices.ndim != 2 or indices.shape != distances.shape
    if wrong or not indices.size or indices.shape[1] < 2:
        raise ValueError(
            f"{name} has indices of shape {indices.shape} and distances of "
            f"shape {distances.shape}; expected both to be (points, neighbors), with "
            "at least two neighbors."
        )
    if indices.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has indices of dtype {indices.dtype}; expected whole "
            "numbers, rows of the slice."
        )
    points, neighbors = indices.shape
    if indices.min(initial=0) < -1 or indices.max(initial=0) >= points:
        raise ValueError(
            f"{name} has indices from {indices.min()} to {indices.max()}; "
            f"expected rows 0 to {points - 1}, or -1 for a missing neighbour."
        )
    near = np.where(np.isinf(distances), 0, distances)
    if not 0 <= distances.min() <= near.max() < LARGEST:
        raise ValueError(
            f"{name} has negative or NaN distances, or some too large; "
            f"expected distances of 0 to {LARGEST:g}, or inf for a missing neighbour."
        )
    own = np.arange(points)[:, None]
    # Sorting by distance, then looking for equal indices, keeps the nearest of repeats.
    order = np.argsort(distances, axis=1, kind="stable")
    indices = np.take_along_axis(indices, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    by_index = np.argsort(indices, axis=1, kind="stable")
    ranked = np.take_along_axis(indices, by_index, axis=1)
    repeated = np.zeros(indices.shape, dtype=bool)
    np.put_along_axis(
        repeated,
        by_index,
        np.pad(ranked[:, 1:] == ranked[:, :-1], ((0, 0), (1, 0))),
        axis=1,
    )
    absent = repeated | (indices < 0) | np.isinf(distances) | (indices == own)
    order = np.argsort(absent, axis=1, kind="stable")[:, : neighbors - 1]
    absent = np.take_along_axis(absent, order, axis=1)
    kept = np.where(absent, own, np.take_along_axis(indices, order, axis=1))
    near = np.where(absent, 0.0, np.take_along_axis(distances, order, axis=1))
    return KNN(
        jnp.asarray(np.hstack([own, kept]).T, dtype=jnp.int32),
        as_floats(np.hstack([np.zeros((points, 1)), near]).T),
    )


def check_lists(indices: Any, values: Any, name: str) -> None:
    """Refuse lists of neighbours that are not in normal form.

    Args:
        indices: Each point's neighbours, `(neighbors, points)`, itself first.
        values: Their distances or weights.
        name: What messages call them.

    Raises:
        ValueError: They are not.
    """
    indices, values = np.asarray(indices), np.asarray(values)
    remedy = "`aljax.as_knn` takes the (points, neighbors) of other tools."
    if indices.ndim != 2 or not indices.size or indices.shape != values.shape:
        raise ValueError(
            f"{name} has indices of shape {indices.shape} and values of shape "
            f"{values.shape}; expected (neighbors, points) for both. {remedy}"
        )
    own = np.arange(indices.shape[1])
    if indices.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has indices of dtype {indices.dtype}; expected whole numbers, "
            f"rows of the slice. {remedy}"
        )
    if indices.min() < 0 or indices.max() >= own.size:
        raise ValueError(
            f"{name} has indices from {indices.min()} to {indices.max()} for "
            f"{own.size} points; expected 0 to {own.size - 1}. {remedy}"
        )
    others = np.flatnonzero(indices[0] != own)
    if others.size:
        raise ValueError(
            f"{name} has {indices[0, others[0]]} as the first neighbour of row "
            f"{others[0]}; expected the row itself. {remedy}"
        )
    real = values.dtype.kind in "iuf"
    if not real or not 0 <= values.min() <= values.max() < LARGEST:
        raise ValueError(
            f"{name} has distances or weights ({values.dtype}) that are negative, not "
            f"finite or too large; expected 0 to {LARGEST:g}. {remedy}"
        )


def nearest(knn: KNN, n_neighbors: int) -> KNN:
    """The first `n_neighbors` of each row's neighbours, itself included."""
    # Cut by NumPy: eager JAX would compile for every number of points.
    return jax.tree.map(lambda one: jnp.asarray(np.asarray(one)[:n_neighbors]), knn)


def as_floats(values: Any) -> Array:
    """An array of JAX's own float type, converted by NumPy: nothing to compile."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    return jnp.asarray(np.asarray(values, dtype=dtype))


def round_up(points: int) -> int:
    """A capacity at most 3 % above `points` (or the next multiple of 8).

    Arrays padded to it let near sizes share one compiled program.
    """
    grain = max(8, 2 ** (int(points).bit_length() - 6))
    return -(-points // grain) * grain


def read_knn(given: Any, rows: int, n_neighbors: int, *, name: str) -> KNN | None:
    """A slice's own neighbours as a table of the width asked for, or None.

    Args:
        given: None, a `KNN`, or umap-learn's tuple (indices, distances), itself
            included, of which a third entry (a search index) is ignored.
        rows: Rows of the slice.
        n_neighbors: How many are used of them.
        name: What messages call it.

    Raises:
        ValueError: Anything else; not in normal form; another number of rows, or too
            few neighbours.
    """
    if given is None:
        return None
    if isinstance(given, KNN):
        check_lists(given.indices, given.distances, name)
    else:
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise ValueError(
                f"{name} is a {type(given).__name__}; expected (indices, distances), "
                "each (points, neighbors), or None to have neighbours searched."
            )
        if given[0] is None:  # umap-learn's default, (None, None, None)
            return None
        given = as_knn(given[0], given[1], name=name)
    neighbors, points = given.indices.shape
    if points != rows:
        raise ValueError(
            f"{name} has {points} rows, but the slice has {rows}; expected the "
            "neighbours of each row of the slice, in their order."
        )
    if neighbors < n_neighbors:
        raise ValueError(
            f"{name} has {neighbors} neighbours of each row, but `n_neighbors` is "
            f"{n_neighbors}; expected at least as many. Lower it, or give more."
        )
    return nearest(given, n_neighbors)
