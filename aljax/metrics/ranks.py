"""Neighborhoods of many rows, compared between two sets of positions.

Rows are compared with all others in tiles, so memory is some rows times the points.
Of equally distant neighbors the earlier row is the nearer.  Where more than a few rows
have neighbors whose distances drown in float32's rounding, all are ranked in float64.
"""

import numbers
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aljax.compilation import check_fork
from aljax.errors import InputError
from aljax.graph.conditioning import FEW, center_of, drowns
from aljax.graph.knn import capacity_for
from aljax.graph.slices import read_rows as read_data

TILE = 32  # rows compared with all others at once
BLOCK = 128  # rows that a program places: any number of rows shares it, and
WIDTH = 16  # up to this number of neighbors any number of them
# A tenth of the search's: maps of many points are dense, and averages forgive a swap.
NOISE = 1e-6
PLAIN = 4  # columns, up to which squared distances are sums of squared differences,
DIFFERENCE_NOISE = 1e-11  # and what drowns is 50 times nearer than float32 tells places
Chosen = Int[np.ndarray, "rows"] | Bool[np.ndarray, "points"] | None
Indices = Int[np.ndarray, "_"]
Measured = Any  # a float, or with `per_point` an array of one value for each row


def summary(values: np.ndarray, per_point: bool) -> Measured:
    """Returns the values themselves, or their mean as a float; NaN of none."""
    if per_point:
        return values
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def count_neighbors(n_neighbors: float, points: int) -> int:
    """Returns how many neighbors `n_neighbors` means, a count or a share."""
    real = isinstance(n_neighbors, numbers.Real) and not isinstance(n_neighbors, bool)
    share = real and 0 < n_neighbors < 0.5
    whole = real and float(n_neighbors).is_integer() and 1 <= n_neighbors < points / 2
    if points < 3 or not (share or whole):
        fewer = "Pass a share, as in `n_neighbors=0.2`."
        more = "Pass at least 3 points, of which one can be near and one far."
        raise InputError(
            "n_neighbors",
            f"is {n_neighbors} for {points} points",
            f"at least 1 and below {points / 2:g}, half the points, or a share of the "
            "points above 0 and below 0.5",
            fewer if points >= 3 else more,
        )
    return max(1, round(n_neighbors * points)) if share else int(n_neighbors)


def as_positions(values: Any, name: str, *, empty: bool = False) -> np.ndarray:
    """Dense rows to be compared, as finite floats on two axes; none only if `empty`."""
    check_fork()
    rows = read_data(values, name, empty=empty, copy=False)
    return rows if isinstance(rows, np.ndarray) else rows.toarray()


def read_compared(
    data: Any, embedding: Any, n_neighbors: float, rows: Any
) -> tuple[np.ndarray, np.ndarray, int, Indices]:
    """Returns data, positions, how many neighbors count, and the rows to measure."""
    data, embedding = read_pair(data, embedding)
    points = len(data)
    count = count_neighbors(n_neighbors, points)
    return data, embedding, count, read_rows(rows, points)


def read_pair(data: Any, embedding: Any) -> tuple[np.ndarray, np.ndarray]:
    """Data and the positions of its rows."""
    data = as_positions(data, "data")
    return data, read_map(embedding, len(data))


def read_map(embedding: Any, points: int) -> np.ndarray:
    """Returns the positions of so many rows of data."""
    embedding = as_positions(embedding, "embedding")
    if len(embedding) != points:
        got = f"has {len(embedding)} rows"
        remedy = "Rows and positions are in the same order."
        raise InputError("embedding", got, f"the {points} of `data`", remedy)
    return embedding


def read_rows(rows: Any, points: int) -> Indices:
    """Returns the indices of the rows to measure: all, those listed, or a mask's."""
    if rows is None:
        return np.arange(points)
    try:
        read = np.asarray(rows)
    except ValueError:  # ragged
        read = np.empty((), object)
    if read.shape == (points,) and read.dtype == bool:
        read = np.flatnonzero(read)
    whole = read.ndim == 1 and read.dtype.kind in "iu" and read.size
    if not whole or not 0 <= read.min() <= read.max() < points:
        raise InputError(
            "rows",
            f"is from {read.min()} to {read.max()}"
            if whole
            else f"has shape {read.shape} and dtype {read.dtype}",
            f"at least one row of 0 to {points - 1}, or a mask of shape ({points},) "
            "that is True for some",
            "Leave it out for all rows.",
        )
    return read


def nearest_rows(
    positions: np.ndarray, n_neighbors: int, rows: Indices
) -> Int[np.ndarray, "_ neighbors"]:
    """Returns the nearest to each of the rows."""
    near = _in_tiles(_take, positions, positions, n_neighbors, rows)
    return near[:, :n_neighbors]


def rank_neighbors(
    data: np.ndarray, embedding: np.ndarray, n_neighbors: int, rows: Indices
) -> Int[np.ndarray, "_ neighbors"]:
    """Ranks in the data of the nearest in the map to each of the rows."""
    ranks = _in_tiles(_rank, data, embedding, n_neighbors, rows)
    return ranks[:, :n_neighbors]


def shared_neighbors(
    data: np.ndarray, embedding: np.ndarray, n_neighbors: int, rows: Indices
) -> Int[np.ndarray, "_"]:
    """Counts how many of each row's k nearest in the data are so in the map."""
    return _in_tiles(_share, data, embedding, n_neighbors, rows)


def _in_tiles(
    place: Callable[..., Any],
    data: np.ndarray,
    embedding: np.ndarray,
    n_neighbors: int,
    rows: Indices,
) -> np.ndarray:
    """Runs the kernel, in double precision where single cannot tell the nearest.

    Arrays are padded, so that slices of all sizes share a few programs.
    """
    points = len(data)
    spare = (0, capacity_for(points) - points), (0, 0)
    queries = np.resize(rows, -(-rows.size // BLOCK) * BLOCK).astype(np.int32)
    width = max(WIDTH, 2 ** (n_neighbors - 1).bit_length())

    def compare(dtype: Any) -> list[np.ndarray]:
        scaled = [_scaled(np.asarray(x, dtype)) for x in (data, embedding)]
        # In JAX's own float type.
        arrays = [jax.device_put(np.pad(x, spare)) for x in scaled]
        program = partial(place_neighbors, width=width, place=place)
        blocks = [
            program(*arrays, points, block, n_neighbors)
            for block in queries.reshape(-1, BLOCK)
        ]
        return [np.concatenate(x)[: rows.size] for x in zip(*blocks, strict=True)]

    results, lost = compare(None)
    if lost.mean() > FEW and jnp.zeros(()).dtype == np.float32:
        with jax.enable_x64(True):
            results, _ = compare(np.float64)
    return results


def _scaled(positions: np.ndarray) -> np.ndarray:
    """Around 0 and of size 1, to a power of two: squares then fit single precision.

    The center is a value of each column: whole numbers stay so, and their ties exact.
    """
    center = center_of(positions, positions.mean(axis=0))
    nearest = np.abs(positions - center).argmin(axis=0)
    centered = positions - positions[nearest, np.arange(len(center))]
    return np.ldexp(centered, -np.frexp(np.abs(centered).max())[1])


def _take(_: Any, near: Int[Array, "neighbors"], __: Any) -> Int[Array, "neighbors"]:
    return near


def _rank(
    distances: Float[Array, "points"], near: Int[Array, "neighbors"], _: Any
) -> Int[Array, "neighbors"]:
    """Ranks of some points, by counting those that come before."""
    index = jnp.arange(distances.size)
    reached = distances[near][:, None]
    tied = (distances == reached) & (index < near[:, None])
    return 1 + jnp.sum((distances < reached) | tied, axis=1)


def _share(
    distances: Float[Array, "points"], near: Int[Array, "neighbors"], count: Any
) -> Int[Array, ""]:
    """Counts the first `count` points that are among the nearest of as many."""
    nearest = jax.lax.top_k(-distances, near.size)[1]
    first = (jnp.arange(near.size) < count).astype(jnp.int32)
    among = jnp.zeros(distances.size, jnp.int32).at[nearest].set(first)
    return jnp.sum(among[near] * first)


@partial(jax.jit, static_argnames=("width", "place"))
def place_neighbors(
    data: Float[Array, "points features"],
    embedding: Float[Array, "points components"],
    n_points: Int[Array, ""] | int,
    rows: Int[Array, "rows"],
    n_neighbors: Int[Array, ""] | int,
    *,
    width: int,
    place: Callable[..., Any] = _rank,
) -> tuple[Any, Bool[Array, "rows"]]:
    """Returns `place` of each row's distances in the data and its nearest in the map.

    Data and embedding are padded to more than `n_points`, and the k nearest to
    `width`.  The second result is True for rows whose k nearest drown in rounding.
    """
    in_data = _distances(data, n_points, n_neighbors)
    in_map = _distances(embedding, n_points, n_neighbors)

    def of(row: Int[Array, ""]) -> tuple[Any, Array]:
        far_in_map, lost_in_map = in_map(row)
        far, lost = in_data(row)
        near = jax.lax.top_k(-far_in_map, width)[1]
        return place(far, near, n_neighbors), lost | lost_in_map

    return jax.lax.map(of, rows, batch_size=TILE)


def _distances(
    positions: Float[Array, "points features"],
    n_points: Int[Array, ""] | int,
    n_neighbors: Int[Array, ""] | int,
) -> Callable[[Int[Array, ""]], tuple[Float[Array, "points"], Bool[Array, ""]]]:
    """Makes a function from a row to what sorts its distances, and whether its k drown.

    Infinite to itself and to padding.
    """
    half_norm = jnp.sum(positions**2, axis=1) / 2
    absent = jnp.where(jnp.arange(positions.shape[0]) < n_points, 0.0, jnp.inf)
    plain = positions.shape[1] <= PLAIN

    def of(row: Int[Array, ""]) -> tuple[Float[Array, "points"], Bool[Array, ""]]:
        if plain:
            squares = [(column - column[row]) ** 2 for column in positions.T]
            far = sum(squares[1:], squares[0]) / 2 + absent.at[row].set(jnp.inf)
            lost = drowns(far, half_norm.max(), DIFFERENCE_NOISE)
        else:
            dot = jnp.matmul(positions, positions[row], precision="highest")
            far = half_norm - dot + absent.at[row].set(jnp.inf)
            lost = drowns(far + half_norm[row], half_norm.max(), NOISE)
        return far, jnp.sum(lost) >= n_neighbors

    return of
