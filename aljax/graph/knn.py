"""The neighbor table `KNN`, its normal form, and arrays as JAX likes them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int, PyTree
from numpy.typing import DTypeLike

from aljax.errors import LARGEST, InputError, kind_of

# A slice's features (or distances): an array, or the rows of a sparse one.
Rows = np.ndarray | scipy.sparse.csr_matrix
SLIGHT = 1e-3  # of a row's largest distance: as far below 0 is rounding
ROUNDING = 1e-6  # of a distance, in single precision
SMALL = (64, 512)  # capacities: fewer than for larger slices, whose work counts


class KNN(eqx.Module):
    """Each row's nearest neighbors, nearest first and the row itself in column 0.

    `indices` and `distances` are `(neighbors, points)`.  An entry that is not a
    neighbor (padding, a repeated row, a missing value) is the row's own index again,
    with distance 0: entries of that kind beyond column 0 weigh nothing in the graph.
    """

    indices: Int[Array, "neighbors points"]
    distances: Float[Array, "neighbors points"]


def as_knn(
    indices: Int[np.ndarray, "points neighbors"],
    distances: Float[np.ndarray, "points neighbors"],
    *,
    name: str = "precomputed_knn",
) -> KNN:
    """Returns the normal form of a neighbor table made elsewhere (umap-learn's shape).

    Args:
        indices: Neighbors of each row, itself included or not; -1 for none.
        distances: Their distances (units of the metric, at least 0); inf for none.
            Where one of the two says that there is none, the other may be anything.
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
        got, axes = f"is not a pair of arrays ({error})", "(points, neighbors)"
        raise InputError(name, got, f"indices and distances {axes}") from error
    if indices.shape == distances.shape:
        none = np.isinf(distances) | (indices == -1)
        indices = np.where(none, -1, indices)
        distances = np.where(none, np.inf, distances)
    distances = clip_rounding(distances)
    present = np.where(np.isinf(distances), 0.0, distances)
    check_lists(indices, present, name, normal=False)
    rows = np.arange(len(indices))[:, None]
    # Of repeats all but the nearest are absent, and stand last.
    by_index = np.lexsort((distances, indices))
    ranked = np.take_along_axis(indices, by_index, axis=1)
    repeated = np.zeros(indices.shape, dtype=bool)
    repeats = np.pad(ranked[:, 1:] == ranked[:, :-1], ((0, 0), (1, 0)))
    np.put_along_axis(repeated, by_index, repeats, axis=1)
    absent = repeated | (indices < 0) | (indices == rows)
    order = np.lexsort((distances, absent))[:, :-1]
    tables = np.where(absent, rows, indices), np.where(absent, 0.0, distances)
    kept, near = (np.take_along_axis(table, order, axis=1) for table in tables)
    return KNN(
        on_device(np.hstack([rows, kept]).T, np.int32),
        as_floats(np.pad(near, ((0, 0), (1, 0))).T),
    )


def clip_rounding(distances: np.ndarray) -> np.ndarray:
    """Distances, one row for each point, with 0 where rounding left less."""
    finite = np.isfinite(distances)
    largest = np.max(distances, axis=-1, where=finite, initial=0.0, keepdims=True)
    slight = (distances < 0) & (distances >= -SLIGHT * largest)
    return np.where(slight, 0.0, distances)


def measured_knn(
    indices: Int[np.ndarray, "points neighbors"],
    distances: Float[np.ndarray, "points neighbors"],
    metric: Any,
) -> KNN:
    """Reads the table of a search; refuses a metric that is negative, or NaN."""
    lowest = distances.min()
    if not lowest >= -1e-3:
        got = f"is {metric_name(metric)}, which is {lowest:g} between some rows"
        remedy = "Use 'cosine', or scale the rows to length 1."
        if callable(metric):
            remedy = "Return 0 for equal rows, and more the farther apart they are."
        raise InputError("metric", got, "a distance", remedy)
    return as_knn(indices, np.maximum(distances, 0.0), name="metric")


def metric_name(metric: Any) -> str:
    """Returns what a metric is called in messages."""
    name = getattr(metric, "__name__", None) if callable(metric) else None
    return repr(metric) if name is None else f"the function {name}"


def check_lists(indices: Any, values: Any, name: str, *, normal: bool = True) -> None:
    """Checks that lists of neighbors, of an argument `name`, are in normal form.

    With `normal=False` they may be any table `(points, neighbors)`, -1 for none.
    """
    indices, values = np.asarray(indices), np.asarray(values)
    axes, lowest, remedy = "(points, neighbors)", -1, ""
    if normal:
        axes, lowest = "(neighbors, points)", 0
        remedy = "`aljax.as_knn` takes the (points, neighbors) of other tools."

    def check(right: Any, got: str, expected: str, missing: str = "") -> None:
        if not right:
            also = f", or {missing} for a missing neighbor" if missing else ""
            raise InputError(name, f"has {got}", expected + also, remedy)

    shape, dtype = indices.shape, indices.dtype
    shapes = f"indices of shape {shape} and values of shape {values.shape}"
    full = len(shape) == 2 and (indices.size or (normal and shape[0]))  # of no points
    check(full and shape == values.shape, shapes, f"{axes} for both")
    check(normal or shape[1] > 1, shapes, f"{axes} with at least two neighbors")
    check(dtype.kind in "iu", f"indices of dtype {dtype}", "whole numbers, of rows")
    points, filled = shape[normal], indices if indices.size else np.zeros(1)
    least, most = filled.min(), filled.max()
    check(
        lowest <= least and most < max(points, 1),
        f"indices from {least} to {most} for {points} points",
        f"rows 0 to {points - 1}",
        "" if normal else "-1",
    )
    least, most = values.min(initial=0), values.max(initial=0)
    check(
        values.dtype.kind in "iuf" and 0 <= least <= most < LARGEST,
        f"values ({values.dtype}) that are negative, NaN, not finite or too large",
        f"numbers of 0 to {LARGEST:g}",
        "" if normal else "inf",
    )
    if normal and points:
        row = int((indices[0] != np.arange(points)).argmax())
        first = f"{indices[0, row]} as the first neighbor of row {row}"
        check(indices[0, row] == row, first, "the row itself")


def nearest_columns(knn: KNN, n_neighbors: int) -> KNN:
    """Returns the first `n_neighbors` of each row's neighbors, itself included."""
    # Cut by NumPy: eager JAX would compile for every number of points.
    return jax.tree.map(lambda leaf: on_device(np.asarray(leaf)[:n_neighbors]), knn)


def closer_than(knn: KNN, farthest: float) -> KNN:
    """Returns the neighbors nearer than a distance; those as far count as none."""
    distances, indices = np.asarray(knn.distances), np.asarray(knn.indices)
    far = beyond(distances, farthest)
    if not far.any():
        return knn
    itself = np.arange(distances.shape[1], dtype=np.int32)
    indices, distances = np.where(far, itself, indices), np.where(far, 0.0, distances)
    return KNN(on_device(indices), as_floats(distances))


def beyond(distances: np.ndarray, farthest: float) -> np.ndarray:
    """Tells which rows are too far to be neighbors, up to rounding."""
    return distances >= farthest * (1 - ROUNDING)


def as_floats(values: Any) -> Array:
    """Copies into JAX's own float type, converted by NumPy: nothing to compile."""
    return on_device(values, jax.dtypes.canonicalize_dtype(float))


def on_device(values: Any, dtype: DTypeLike | None = None) -> Array:
    """Returns a copy on JAX's device, without the program that `jnp.asarray` compiles.

    That would be one for every shape: one for every number of rows.  Where a program
    is being traced the copy is an array all the same, which can be kept for later.
    """
    with jax.ensure_compile_time_eval():
        return jax.device_put(np.array(values, dtype=dtype))


def zeros_of(shapes: PyTree) -> PyTree:
    """Returns zeros on JAX's device, for a tree of shapes and types."""
    return jax.tree.map(lambda x: on_device(np.zeros(x.shape, x.dtype)), shapes)


def capacity_for(points: int) -> int:
    """Rounds up to a few capacities: 64, 512, and from there 2 for each doubling.

    Arrays are padded to it, so that any number of points shares a few programs, which
    loop over as little of the padding as they can.
    """
    for capacity in SMALL:
        if points <= capacity:
            return capacity
    grain = 2 ** (int(points) - 1).bit_length() // 4
    return -(-points // grain) * grain


def round_up(points: int) -> int:
    """Rounds up: 4 capacities a doubling up to 1,024, 8 up to 4,096, 32 from there.

    Arrays padded to it let sizes share a compiled program; large slices compile for a
    small part of their time, and are padded by at most 3 %.
    """
    fineness = 3 if points <= 1024 else 4 if points <= 4096 else 6
    grain = 2 ** ((int(points) - 1).bit_length() - fineness)
    return -(-points // max(16, grain)) * max(16, grain)


def side_by_side(tables: Sequence[KNN]) -> tuple[KNN, Float[Array, "points"]]:
    """Joins tables, padded with points without neighbors, and returns their units."""
    neighbors = tables[0].indices.shape[0]
    capacity = capacity_for(sum(table.indices.shape[1] for table in tables))
    indices = np.tile(np.arange(capacity, dtype=np.int32), (neighbors, 1))
    distances, unit = np.zeros(indices.shape), np.ones(capacity)
    start = 0
    for table in tables:
        stop = start + table.indices.shape[1]
        indices[:, start:stop] = start + np.asarray(table.indices)
        distances[:, start:stop] = table.distances
        unit[start:stop] = distances[:, start:stop].mean() or 1.0
        start = stop
    return KNN(on_device(indices), as_floats(distances)), as_floats(unit)


def read_knn(knn: Any, rows: int, n_neighbors: int, *, name: str) -> KNN | None:
    """Reads a slice's neighbors as a table of the width asked for; None to search them.

    They are given as None, a `KNN`, or umap-learn's tuple (indices, distances), itself
    included, of which a third entry (a search index) is ignored.

    Raises:
        InputError: They are anything else, are not in normal form, or are of another
            number of rows or too few neighbors.
    """
    if knn is None:
        return None
    if isinstance(knn, KNN):
        check_lists(knn.indices, knn.distances, name)
    elif not isinstance(knn, tuple | list) or len(knn) not in (2, 3):
        expected = "(indices, distances), each (points, neighbors), or None to search"
        raise InputError(name, f"is {kind_of(knn)}", expected)
    elif knn[0] is None:  # umap-learn's default, (None, None, None)
        return None
    else:
        knn = as_knn(knn[0], knn[1], name=name)
    neighbors, points = knn.indices.shape
    if points != rows:
        got = f"has {points} rows, but the slice has {rows}"
        raise InputError(name, got, "neighbors of each of the slice's rows, in order")
    if neighbors < n_neighbors:
        got = f"has {neighbors} neighbors of each row"
        expected = f"at least the {n_neighbors} of `n_neighbors`"
        raise InputError(name, got, expected, "Lower it, or give more.")
    return nearest_columns(knn, n_neighbors)
