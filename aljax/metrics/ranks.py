"""Neighbourhoods of many rows, compared between two sets of positions.

Rows are compared with all others in tiles, so memory is some rows times the points.
Of equally distant neighbours the earlier row is the nearer.  Where more than a few rows
have neighbours whose distances drown in float32's rounding, all are found in float64.
"""

import numbers
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from aljax.errors import LARGEST
from aljax.graph.exact import FEW, drowns
from aljax.graph.knn import round_up

TILE = 32  # rows compared with all others at once
# A tenth of the search's: maps of many points are dense, and averages forgive a swap.
NOISE = 1e-6
PLAIN = 4  # columns, up to which squared distances are sums of squared differences,
DIFFERENCE_NOISE = 1e-11  # and what drowns is 50 times nearer than float32 tells places
Chosen = Int[np.ndarray, "rows"] | Bool[np.ndarray, "points"] | None
Measured = Any  # a float, or with `per_point` an array of one value for each row


def summary(values: np.ndarray, per_point: bool) -> Measured:
    """The values themselves, or their mean as a float."""
    return values if per_point else float(values.mean(dtype=np.float64))


def count_neighbors(n_neighbors: float, points: int) -> int:
    """How many neighbours are meant: a whole number, or a share of the points.

    Raises:
        ValueError: `n_neighbors` out of range, or too few points for any.
    """
    if not isinstance(n_neighbors, numbers.Real) or isinstance(n_neighbors, bool):
        raise ValueError(
            f"`n_neighbors` is {n_neighbors!r}; expected a whole number, or a share of "
            "the points."
        )
    if points < 3:
        raise ValueError(
            f"`n_neighbors` is {n_neighbors} for {points} points; expected at least 3 "
            "points, of which one can be near and one far."
        )
    if isinstance(n_neighbors, float) and 0 < n_neighbors < 0.5:
        return max(1, round(n_neighbors * points))
    whole = float(n_neighbors).is_integer()
    if not whole or not 1 <= n_neighbors < points / 2:
        raise ValueError(
            f"`n_neighbors` is {n_neighbors} for {points} points; expected at least 1 "
            f"and below {points / 2:g}, half the points (or a share of the points "
            "above 0 and below 0.5)."
        )
    return int(n_neighbors)


def as_positions(values: Any, name: str) -> np.ndarray:
    """Rows to be compared: finite numbers on two axes.

    Raises:
        ValueError: Anything else; `name` is what the message calls it.
    """
    try:
        read = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"`{name}` is no array of numbers: {error}.") from error
    read = read if read.size else np.zeros(0)
    if read.ndim != 2 or read.dtype.kind not in "biuf":
        raise ValueError(
            f"`{name}` has shape {read.shape} and dtype {read.dtype}; expected real "
            "numbers, a row for each point."
        )
    if read.dtype.itemsize < 4 or read.dtype.kind != "f":
        read = read.astype(float)
    if not -LARGEST < read.min() <= read.max() < LARGEST:  # NaN is not, either
        row = np.argwhere(~(np.abs(read) < LARGEST))[0, 0]
        raise ValueError(
            f"`{name}` has {read[row].tolist()} in row {row}; expected finite numbers, "
            f"below {LARGEST:g} in size."
        )
    return read


def check_points(data: np.ndarray, embedding: np.ndarray) -> None:
    """Refuse positions that are not those of the data's rows.

    Raises:
        ValueError: As many rows are not there.
    """
    if len(data) != len(embedding):
        raise ValueError(
            f"`embedding` has {len(embedding)} rows, `data` {len(data)}; expected one "
            "position for each row, in the same order."
        )


def read_rows(rows: Any, points: int) -> Int[np.ndarray, "_"]:
    """The numbers of the rows that are meant: all, those given, or a mask's.

    Raises:
        ValueError: No row at all, rows that there are not, or what is neither whole
            numbers nor a mask.
    """
    if rows is None:
        return np.arange(points)
    try:
        read = np.asarray(rows)
    except ValueError as error:
        raise ValueError(f"`rows` is no array ({error}); expected one.") from error
    if read.shape == (points,) and read.dtype == bool:
        read = np.flatnonzero(read)
    whole = read.ndim == 1 and read.dtype.kind in "iu"
    if not whole or not read.size or not 0 <= read.min() <= read.max() < points:
        came = f" from {read.min()} to {read.max()}" if whole and read.size else ""
        raise ValueError(
            f"`rows` has shape {read.shape} and dtype {read.dtype}{came}; expected at "
            f"least one row of 0 to {points - 1}, or a mask of shape ({points},) that "
            "is True for some. Leave it out for all rows."
        )
    return read


def rank_neighbors(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    n_neighbors: int,
    rows: Chosen = None,
) -> tuple[Int[np.ndarray, "_ neighbors"], Int[np.ndarray, "_ neighbors"]]:
    """Ranks in the data of each row's neighbours in the map, and those neighbours.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: k, the row itself not counted.
        rows: Rows whose neighbours are ranked, or a mask of them; None for all.
    """
    return _tiled(_rank, data, embedding, n_neighbors, rows)


def shared_neighbors(
    data: Float[np.ndarray, "points features"],
    embedding: Float[np.ndarray, "points components"],
    n_neighbors: int,
    rows: Chosen = None,
) -> Int[np.ndarray, "_"]:
    """How many of each row's k nearest in the data are so in the map.

    Args:
        data: The rows.
        embedding: Their positions.
        n_neighbors: k, the row itself not counted.
        rows: Rows whose neighbours are counted, or a mask of them; None for all.
    """
    return _tiled(_share, data, embedding, n_neighbors, rows)


def _tiled(
    kernel: Callable[..., Any],
    data: np.ndarray,
    embedding: np.ndarray,
    n_neighbors: int,
    rows: Chosen,
) -> Any:
    """A kernel's results, in double precision where single cannot tell the nearest."""
    data, embedding = as_positions(data, "data"), as_positions(embedding, "embedding")
    check_points(data, embedding)
    chosen = read_rows(rows, len(data))
    found, lost = _padded(kernel, (data, embedding), n_neighbors, chosen)
    if lost.mean() > FEW and jnp.zeros(()).dtype == np.float32:
        exact = data.astype(float), embedding.astype(float)
        with jax.enable_x64(True):
            found, _ = _padded(kernel, exact, n_neighbors, chosen)
    return found


def _padded(
    kernel: Callable[..., Any],
    positions: tuple[np.ndarray, np.ndarray],
    n_neighbors: int,
    chosen: np.ndarray,
) -> Any:
    """A kernel's results on padded arrays, so that near sizes share a program."""
    points = len(positions[0])
    spare = round_up(points) - points
    wide = [
        jnp.asarray(np.pad(_centred(x), ((0, spare), (0, 0))), float) for x in positions
    ]
    queries = jnp.asarray(np.resize(chosen, round_up(chosen.size)), jnp.int32)
    found = kernel(*wide, points, queries, n_neighbors=n_neighbors)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: chosen.size], found)


def _centred(positions: np.ndarray) -> np.ndarray:
    """Around 0 and of size 1, to a power of two: squares then fit single precision."""
    centred = positions - positions.mean(axis=0)
    return np.ldexp(centred, -np.frexp(np.abs(centred).max())[1])


@partial(jax.jit, static_argnames="n_neighbors")
def _rank(
    data: Float[Array, "points features"],
    embedding: Float[Array, "points components"],
    n_points: Int[Array, ""] | int,
    rows: Int[Array, "rows"],
    *,
    n_neighbors: int,
) -> tuple[
    tuple[Int[Array, "rows neighbors"], Int[Array, "rows neighbors"]],
    Bool[Array, "rows"],
]:
    index = jnp.arange(data.shape[0])
    far_from = _distances(data, n_points, n_neighbors)
    far_in_map = _distances(embedding, n_points, n_neighbors)

    def one(row: Int[Array, ""]) -> tuple[tuple[Array, Array], Array]:
        in_map, lost_in_map = far_in_map(row)
        near = jax.lax.top_k(-in_map, n_neighbors)[1]
        in_data, lost = far_from(row)
        reached = in_data[near][:, None]
        before = (in_data < reached) | ((in_data == reached) & (index < near[:, None]))
        return (1 + jnp.sum(before, axis=1), near), lost | lost_in_map

    return jax.lax.map(one, rows, batch_size=TILE)


@partial(jax.jit, static_argnames="n_neighbors")
def _share(
    data: Float[Array, "points features"],
    embedding: Float[Array, "points components"],
    n_points: Int[Array, ""] | int,
    rows: Int[Array, "rows"],
    *,
    n_neighbors: int,
) -> tuple[Int[Array, "rows"], Bool[Array, "rows"]]:
    far_from = _distances(data, n_points, n_neighbors)
    far_in_map = _distances(embedding, n_points, n_neighbors)

    def one(row: Int[Array, ""]) -> tuple[Array, Array]:
        far_there, lost_in_map = far_in_map(row)
        far, lost = far_from(row)
        in_map = jax.lax.top_k(-far_there, n_neighbors)[1]
        in_data = jax.lax.top_k(-far, n_neighbors)[1]
        listed = jnp.zeros(data.shape[0], jnp.int32).at[in_data].set(1)
        return jnp.sum(listed[in_map]), lost | lost_in_map

    return jax.lax.map(one, rows, batch_size=TILE)


def _distances(
    positions: Float[Array, "points features"],
    n_points: Int[Array, ""] | int,
    n_neighbors: int,
) -> Callable[[Int[Array, ""]], tuple[Float[Array, "points"], Bool[Array, ""]]]:
    """From a row to what sorts its distances, and whether its k nearest drown.

    Infinite to itself and to padding.
    """
    half_norm = jnp.sum(positions**2, axis=1) / 2
    absent = jnp.where(jnp.arange(positions.shape[0]) < n_points, 0.0, jnp.inf)
    plain = positions.shape[1] <= PLAIN

    def of(row: Int[Array, ""]) -> tuple[Float[Array, "points"], Bool[Array, ""]]:
        if plain:
            squares = [(one - one[row]) ** 2 for one in positions.T]
            far = sum(squares[1:], squares[0]) / 2 + absent.at[row].set(jnp.inf)
            lost = drowns(far, half_norm, DIFFERENCE_NOISE)
        else:
            dot = jnp.matmul(positions, positions[row], precision="highest")
            far = half_norm - dot + absent.at[row].set(jnp.inf)
            lost = drowns(far + half_norm[row], half_norm, NOISE)
        return far, jnp.sum(lost) >= n_neighbors

    return of
