"""The neighbor table `KNN`, its normal form, and arrays as JAX likes them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int

from aljax.errors import LARGEST, InputError

# A slice's features (or distances): an array, or the rows of a sparse one.
Rows = np.ndarray | scipy.sparse.csr_matrix


class KNN(eqx.Module):
    """Each row's nearest neighbors, nearest first and the row itself in column 0.

    An entry that is not a neighbor (padding, a repeated row, a missing value)
    is the row's own index again, with distance 0: entries of that kind beyond
    column 0 weigh nothing in the graph.
    """

    indices: Int[Array, "neighbors points"]
    distances: Float[Array, "neighbors points"]


def as_knn(
    indices: Int[np.ndarray, "points neighbors"],
    distances: Float[np.ndarray, "points neighbors"],
    *,
    name: str = "precomputed_knn",
) -> KNN:
    """The normal form of a neighbor table made elsewhere (umap-learn's shape).

    Args:
        indices: Neighbors of each row, itself included or not; -1 for none.
        distances: Their distances (units of the metric, at least 0); inf for none.
        name: The argument that the two came by, for errors.

    Returns:
        The table with each row itself in column 0 and every neighbor once.

    Raises:
        InputError: The shapes differ, an index is out of range, or a distance is
            negative.
    """
    try:
        indices, distances = np.asarray(indices), np.asarray(distances, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputError(
            name,
            f"is not a pair of arrays ({error})",
            "indices and distances (points, neighbors)",
        ) from error
    present = np.where(np.isinf(distances), 0.0, distances)
    _check_table(indices, present, name, missing=True)
    rows = np.arange(len(indices))[:, None]
    # Sorting by distance, then looking for equal indices, keeps the nearest of repeats.
    order = np.argsort(distances, axis=1, kind="stable")
    indices = np.take_along_axis(indices, order, axis=1)
    distances = np.take_along_axis(distances, order, axis=1)
    by_index = np.argsort(indices, axis=1, kind="stable")
    ranked = np.take_along_axis(indices, by_index, axis=1)
    repeated = np.zeros(indices.shape, dtype=bool)
    again = np.pad(ranked[:, 1:] == ranked[:, :-1], ((0, 0), (1, 0)))
    np.put_along_axis(repeated, by_index, again, axis=1)
    absent = repeated | (indices < 0) | np.isinf(distances) | (indices == rows)
    order = np.argsort(absent, axis=1, kind="stable")[:, :-1]
    absent = np.take_along_axis(absent, order, axis=1)
    kept = np.where(absent, rows, np.take_along_axis(indices, order, axis=1))
    near = np.where(absent, 0.0, np.take_along_axis(distances, order, axis=1))
    return KNN(
        jnp.asarray(np.hstack([rows, kept]).T, dtype=jnp.int32),
        as_floats(np.pad(near, ((0, 0), (1, 0))).T),
    )


def measured_knn(
    indices: Int[np.ndarray, "points neighbors"],
    distances: Float[np.ndarray, "points neighbors"],
    metric: str,
) -> KNN:
    """The table of a search in some metric, of which rounding may leave -1e-7.

    Raises:
        InputError: The metric is negative or NaN between some rows.
    """
    lowest = distances.min()
    if not lowest >= -1e-3:
        got = f"is {metric!r}, which is {lowest:g} between some rows"
        remedy = "Use 'cosine', or scale the rows to length 1."
        raise InputError("metric", got, "a distance", remedy)
    return as_knn(indices, np.maximum(distances, 0.0), name="metric")


def check_lists(indices: Any, values: Any, name: str) -> None:
    """Checks that lists of neighbors are in normal form.

    Args:
        indices: Each point's neighbors, `(neighbors, points)`, itself first.
        values: Their distances or weights.
        name: The argument that they came by, for errors.

    Raises:
        InputError: They are not.
    """
    indices, values = np.asarray(indices), np.asarray(values)
    _check_table(indices, values, name, missing=False)
    wrong = np.flatnonzero(indices[0] != np.arange(indices.shape[1]))
    if wrong.size:
        got = f"has {indices[0, wrong[0]]} as the first neighbor of row {wrong[0]}"
        raise InputError(name, got, "the row itself", TAKEN)


TAKEN = "`aljax.as_knn` takes the (points, neighbors) of other tools."


def _check_table(
    indices: np.ndarray, values: np.ndarray, name: str, *, missing: bool
) -> None:
    """Checks shapes, types and ranges; `missing`: (points, neighbors), -1 for none."""
    remedy, axes = (
        ("", "(points, neighbors)") if missing else (TAKEN, "(neighbors, points)")
    )

    def refuse(got: str, expected: str) -> None:
        raise InputError(name, f"has {got}", expected, remedy)

    shape = indices.shape
    if indices.ndim != 2 or not indices.size or shape != values.shape:
        refuse(
            f"indices of shape {shape} and values of shape {values.shape}",
            f"{axes} for both",
        )
    if missing and shape[1] < 2:
        refuse(f"indices of shape {shape}", f"{axes} with at least two neighbors")
    if indices.dtype.kind not in "iu":
        refuse(f"indices of dtype {indices.dtype}", "whole numbers, rows of the slice")
    points, lowest = shape[0 if missing else 1], -1 if missing else 0
    if indices.min() < lowest or indices.max() >= points:
        refuse(
            f"indices from {indices.min()} to {indices.max()} for {points} points",
            f"rows 0 to {points - 1}" + ", or -1 for a missing neighbor" * missing,
        )
    real = values.dtype.kind in "iuf"
    if not real or not 0 <= values.min() <= values.max() < LARGEST:
        refuse(
            f"values ({values.dtype}) that are negative, NaN, not finite or too large",
            f"numbers of 0 to {LARGEST:g}"
            + ", or inf for a missing neighbor" * missing,
        )


def nearest_columns(knn: KNN, n_neighbors: int) -> KNN:
    """The first `n_neighbors` of each row's neighbors, itself included."""
    # Cut by NumPy: eager JAX would compile for every number of points.
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[:n_neighbors]), knn)


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
    """A slice's neighbors as a table of the width asked for, or None.

    Args:
        given: None, a `KNN`, or umap-learn's tuple (indices, distances), itself
            included, of which a third entry (a search index) is ignored.
        rows: Rows of the slice.
        n_neighbors: How many are used of them.
        name: The argument that it came by, for errors.

    Raises:
        InputError: It is anything else, is not in normal form, or has another number
            of rows or too few neighbors.
    """
    if given is None:
        return None
    if isinstance(given, KNN):
        check_lists(given.indices, given.distances, name)
    elif not isinstance(given, tuple | list) or len(given) not in (2, 3):
        raise InputError(
            name,
            f"is a {type(given).__name__}",
            "(indices, distances), each (points, neighbors), or None to have neighbors "
            "searched",
        )
    elif given[0] is None:  # umap-learn's default, (None, None, None)
        return None
    else:
        given = as_knn(given[0], given[1], name=name)
    neighbors, points = given.indices.shape
    if points != rows:
        raise InputError(
            name,
            f"has {points} rows, but the slice has {rows}",
            "the neighbors of each row of the slice, in their order",
        )
    if neighbors < n_neighbors:
        raise InputError(
            name,
            f"has {neighbors} neighbors of each row",
            f"at least the {n_neighbors} of `n_neighbors`",
            "Lower it, or give more.",
        )
    return nearest_columns(given, n_neighbors)
