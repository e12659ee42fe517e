"""Rows grouped into cells of near ones, which the approximate search looks into.

The rows are cut in halves along their widest axis until a leaf holds at most `LEAF` of
them, and each leaf is cut into cells by k-means, where a cell with too many rows pays:

    cell(x) = argmin_c |x - c|^2 / 2 + price_c

A cell's rows stand side by side, in blocks of at most `BLOCK`.  Rows of many features
are compared along the principal axes that hold most of their variance.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.graph.conditioning import ANGLES
from aljax.graph.knn import capacity_for

LEAF = 4096  # rows that are searched at once, and cut into cells together
BLOCK = 64  # rows of a cell that are compared at once
FILLED = 0.85  # of a block, on average, that its rows fill
ROUNDS = 8  # of k-means
PRICE = 0.2  # what a cell of twice a block's rows pays a round: of the spread
AXES = 256  # features beyond which rows are compared along fewer axes
VARIANCE = 0.94  # share of the variance that these hold
CENTERED = 64  # of these axes that cells are made along
SAMPLE = 4096  # rows that say where the axes lie
STRIP = 256  # rows that are summed at once: the order of a sum is that of the code


class Placed(NamedTuple):
    """Rows, and their places in the order of the cells: leaves of the same length.

    Attributes:
        rows: The rows themselves, all features, and padding.
        members: Which row stands at each place; -1 for padding.
        points: The rows along the axes, place by place.
        half_norms: Halves of their squared norms, and of half of what the axes leave
            out; inf for padding.
    """

    rows: Float[Array, "all features"]
    members: Int[Array, "places"]
    points: Float[Array, "places axes"]
    half_norms: Float[Array, "places"]


class Blocks(NamedTuple):
    """Blocks of places.

    Attributes:
        starts, counts: Where each block's rows stand, and how many they are (0 for
            padding).
        centers: The means of the blocks' points, along the first axes.
    """

    starts: Int[Array, "blocks"]
    counts: Int[Array, "blocks"]
    centers: Float[Array, "blocks first_axes"]


class Cells(NamedTuple):
    """Rows in their cells.

    Attributes:
        placed, blocks: Where the rows stand.
        axes: The axes along which rows are compared, as columns; None for all.
        leaves: The first block of each leaf, and one past the last.
        places: Places of a leaf.
    """

    placed: Placed
    blocks: Blocks
    axes: Float[Array, "features axes"] | None
    leaves: Int[np.ndarray, "_"]
    places: int


def make_cells(
    scaled: Float[np.ndarray, "all features"],
    points: int,
    *,
    seed: int = 0,
    metric: str = "euclidean",
) -> Cells:
    """Returns rows, centered and scaled, and their cells.

    Args:
        scaled: The rows, finite, of the float type that the search is to use, and any
            padding after them.
        points: How many rows are real.
        seed: Seeds the sample that the axes are computed from.
        metric: What the rows are scaled for: those of angles are not centered.
    """
    rows, real = jax.device_put(scaled), scaled[:points]
    center = np.zeros(scaled.shape[1], scaled.dtype)
    if metric in ANGLES:
        center = real.mean(axis=0, dtype=np.float64).astype(scaled.dtype)
    axes = principal_axes(real, seed, center)
    half_norms = np.einsum("ij,ij->i", real, real) / 2
    if axes is not None:
        # Norms are those of centered rows; the axes leave this out of the center.
        inside = np.einsum("fa,a->f", axes, np.einsum("fa,f->a", axes, center))
        half_norms -= np.einsum("ij,j->i", real, center - inside)
        axes = jax.device_put(axes)
        real = project(rows, axes, points)
        # Half of what is left out counts: there, too, neighbors are alike.
        half_norms = (half_norms + np.einsum("ij,ij->i", real, real) / 2) / 2
    first = real[:, : real.shape[1] if axes is None else CENTERED]
    members = grow(first)
    labels, cells = _label(first, members)
    blocks = [
        _blocks(first, *leaf, cells) for leaf in zip(members, labels, strict=True)
    ]
    for line, leaf in zip(members, blocks, strict=True):
        rows_of_leaf = np.concatenate(leaf)
        line[: len(rows_of_leaf)] = rows_of_leaf  # padding follows
    places, leaves = members.shape[1], np.cumsum([0, *map(len, blocks)])
    sizes = [np.array([*map(len, leaf)]) for leaf in blocks]
    counts = np.concatenate(sizes)
    starts = np.concatenate(
        [t * places + np.cumsum(of_leaf) - of_leaf for t, of_leaf in enumerate(sizes)]
    )
    members = members.ravel()
    room = capacity_for(len(members) + BLOCK) - len(members)
    members = np.pad(members, (0, room), constant_values=-1)
    placed = np.take(real, members, axis=0, mode="clip")
    half_norms = np.where(members < 0, np.inf, half_norms[members])
    ends = np.stack([starts, starts + counts], axis=1).ravel()
    sums = np.add.reduceat(placed[:, : first.shape[1]], ends)[::2]
    centers = sums / counts[:, None].astype(scaled.dtype)
    room = (0, capacity_for(len(starts)) - len(starts))
    members = members.astype(np.int32)
    starts, counts = (np.pad(x, room).astype(np.int32) for x in (starts, counts))
    centers = np.pad(centers, (room, (0, 0)))
    return Cells(
        Placed(rows, *map(jax.device_put, (members, placed, half_norms))),
        Blocks(*map(jax.device_put, (starts, counts, centers))),
        axes,
        leaves,
        places,
    )


def principal_axes(
    rows: np.ndarray, seed: int, center: Float[np.ndarray, "features"] | float = 0.0
) -> np.ndarray | None:
    """Returns the leading axes, as columns; None where most of all are needed.

    Subspace iteration on a sample, on the host: it takes a tenth of a second.
    """
    from threadpoolctl import threadpool_limits

    points, features = rows.shape
    if features <= AXES:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.choice(points, min(SAMPLE, points), replace=False)
    sample = rows[np.sort(chosen)] - center
    with threadpool_limits(1):  # the same bits on any number of threads
        basis = rng.normal(size=(features, AXES)).astype(rows.dtype)
        for _ in range(3):
            basis = np.linalg.qr(sample.T @ (sample @ basis))[0]
        spread = sample @ basis
        variances, turn = np.linalg.eigh(spread.T @ spread)
    share = np.cumsum(variances[::-1]) / max(np.sum(sample**2), 1e-30)
    if share[-1] < VARIANCE:
        return None
    count = -(-(int(np.argmax(share >= VARIANCE)) + 1) // 32) * 32  # few programs
    return np.ascontiguousarray((basis @ turn[:, ::-1])[:, :count])


def project(
    rows: Float[Array, "all features"], axes: Float[Array, "features axes"], points: int
) -> Float[np.ndarray, "points axes"]:
    """Returns the first rows along the axes."""
    size = min(LEAF, len(rows))
    projected = np.empty((len(rows), axes.shape[1]), rows.dtype)
    # The last starts earlier where the rows do not fill it.
    starts = [min(start, len(rows) - size) for start in range(0, points, size)]
    blocks = [_along(rows, start, axes, size=size) for start in starts]
    for start, block in zip(starts, blocks, strict=True):
        projected[start : start + size] = block
    return projected[:points]


@partial(jax.jit, static_argnames="size")
def _along(rows: Array, start: int | Array, axes: Array, *, size: int) -> Array:
    block = jax.lax.dynamic_slice_in_dim(rows, start, size)
    return jnp.matmul(block, axes, precision="highest")


def grow(points: np.ndarray, share: float = 1.0) -> Int[np.ndarray, "leaves places"]:
    """Returns the rows of each leaf; all have the same number but for one.

    A leaf holds at most `LEAF` rows, or about a share of as many.
    """
    leaf = min(LEAF, capacity_for(math.ceil(share * LEAF)))
    count = -(-len(points) // leaf)
    members = np.full((count, min(leaf, capacity_for(len(points)))), -1)
    parts = halved(points, np.arange(len(points)), count)
    for line, rows in zip(members, parts, strict=True):
        line[: len(rows)] = rows
    return members


def halved(
    points: np.ndarray, rows: Int[np.ndarray, "rows"], count: int
) -> list[Int[np.ndarray, "_"]]:
    """Cuts rows into parts of like size, by halves along their widest axis."""
    if count == 1:
        return [rows]
    sampled = points[rows[:: -(-len(rows) // SAMPLE)]]
    axis = int(sampled.var(axis=0).argmax())
    ordered = rows[np.argsort(points[rows, axis], kind="stable")]
    cut = len(rows) * (count // 2) // count
    first, last = (ordered[:cut], count // 2), (ordered[cut:], count - count // 2)
    return [*halved(points, *first), *halved(points, *last)]


def _label(points: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns each place's cell in its leaf, and how many there are: padding's."""
    cells = max(1, -(-members.shape[1] // int(FILLED * BLOCK)))
    counts = (members >= 0).sum(axis=1).tolist()
    leaves = zip(members, counts, strict=True)
    labels = [_cut(points[line], rows, cells=cells) for line, rows in leaves]
    return np.stack([*map(np.asarray, labels)]), cells


@partial(jax.jit, static_argnames="cells")
def _cut(
    points: Float[Array, "places axes"], rows: int | Int[Array, ""], *, cells: int
) -> Int[Array, "places"]:
    """Returns the cell of a leaf's first `rows` points; `cells` for the others."""
    places = len(points)
    used = jnp.maximum(-(-rows // int(FILLED * BLOCK)), 1)
    number = jnp.arange(cells, dtype=jnp.int32)
    strip = min(STRIP, places)
    strips = points.reshape(-1, strip, points.shape[1])
    half_norms = jnp.sum(points**2, axis=1) / 2

    def assign(centers: Array, prices: Array) -> tuple[Array, Array]:
        dots = jnp.matmul(points, centers.T, precision="highest")
        near = dots - jnp.sum(centers**2, axis=1) / 2 - prices
        near = jnp.where(number < used, near, -jnp.inf)
        chosen = jnp.argmax(near, axis=1).astype(jnp.int32)
        return jnp.where(jnp.arange(places) < rows, chosen, cells), near

    def improve(
        _: Array, centers_and_prices: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        centers, prices = centers_and_prices
        chosen, near = assign(centers, prices)
        belongs = (chosen[:, None] == number).astype(points.dtype)
        sums = jnp.einsum(
            "ijc,ijf->icf",
            belongs.reshape(-1, strip, cells),
            strips,
            precision="highest",
        ).sum(axis=0)
        counts = belongs.sum(axis=0)
        means = sums / jnp.maximum(counts, 1)[:, None]
        apart = jnp.where(chosen < cells, half_norms - jnp.max(near, axis=1), 0)
        unit = PRICE * jnp.sum(apart) / jnp.maximum(rows, 1)
        prices = jnp.maximum(prices + unit * (counts / BLOCK - 1), 0)
        return jnp.where(counts[:, None] > 0, means, centers), prices

    first = points[jnp.clip(number * rows // used, 0, places - 1)]
    none = jnp.zeros(cells, points.dtype)
    centers, prices = jax.lax.fori_loop(0, ROUNDS, improve, (first, none))
    return assign(centers, prices)[0]


def _blocks(
    points: np.ndarray, members: np.ndarray, labels: np.ndarray, cells: int
) -> list[np.ndarray]:
    """Returns the rows of each block of a leaf.

    A cell of more than two blocks is cut in halves: of many, a row would probe some
    that are no nearer to it than the others.
    """
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=cells + 1))[:cells]
    blocks = []
    for rows in np.split(members[order], ends)[:cells]:
        count = -(-len(rows) // BLOCK)
        if count > 2:
            blocks += halved(points, rows, count)
        else:
            blocks += [rows[i : i + BLOCK] for i in range(0, len(rows), BLOCK)]
    return blocks
