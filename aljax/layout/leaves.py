"""The repulsion of a slice by leaves: of near points, and of the means of far ones.

    sum_{near} (d_i + d_k) f(|y_i - y_k|^2) + sum_{far A, B} W_AB f(|y_A - y_B|^2),
    W_AB = sum_{i in A, k in B} (d_i + d_k),

where a constant layout was cut into leaves of as many neighboring points, y_A is the
mean of a leaf's points, and leaves are far that lie farther apart than `near` times
their spread.  Its second derivatives are matrices between two leaves' points, and one
between all means.  Leaves of one point each, all far, make every pair of points.

Source: cells that repel by their means, as in van der Maaten (2014), "Accelerating
t-SNE using tree-based algorithms", JMLR 15, here of a plain function of the maps.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.graph.knn import capacity_for, round_up
from aljax.layout.losses import repulsion_of_pairs
from aljax.layout.problem import AlignedProblem

FEW = 10_000  # pairs of leaves
Energy = Callable[[Array], Array]  # of squared distances, entry by entry


class Leaves(eqx.Module):
    """Leaves hold the points of each slice, and know which of them are near.

    Attributes:
        points: Places of a leaf's points.
        inside: 1 for these, 0 for padding.
        heads: Of each pair of near leaves the one,
        tails: and the other; each leaf is near itself.
        shares: 1; 1/2 for a leaf and itself, whose points meet twice; 0 for padding.
        far: 1 for two leaves that are far, else 0.
    """

    points: Int[Array, "*slices leaves width"]
    inside: Float[Array, "*slices leaves width"]
    heads: Int[Array, "*slices pairs"]
    tails: Int[Array, "*slices pairs"]
    shares: Float[Array, "*slices pairs"]
    far: Float[Array, "*slices leaves leaves"]


class Repelled(NamedTuple):
    """The curvature of the repulsion of one slice.

    Attributes:
        leaves: Who repels whom.
        near: For each pair of near leaves, a block for each pair of points.
        far: A block for each pair of means.
        by_point: The sums of each point's near blocks,
        of_leaf: and of each mean's far ones.
    """

    leaves: Leaves
    near: Float[Array, "*slices pairs row column"]
    far: Float[Array, "*slices row column"]
    by_point: Float[Array, "*slices components components points"]
    of_leaf: Float[Array, "*slices components components leaves"]


class Meeting(NamedTuple):
    """Each place of `rows` repels each of `columns`, by `weights`."""

    rows: Float[Array, "*pairs components row"]
    columns: Float[Array, "*pairs components column"]
    weights: Float[Array, "*pairs row column"]

    def differences(self) -> Float[Array, "*pairs components row column"]:
        """Returns the vector from each column to each row."""
        return self.rows[..., :, None] - self.columns[..., None, :]


def each_point(problem: AlignedProblem) -> Leaves:
    """Returns leaves of one point each, all of them far."""
    slices, points = problem.free.shape
    inside = (jnp.arange(points) < problem.n_points[:, None]) * 1.0
    places = jnp.broadcast_to(jnp.arange(points)[:, None], (slices, points, 1))
    none = jnp.zeros((slices, 0), jnp.int32)
    far = jnp.broadcast_to(1 - jnp.eye(points), (slices, points, points))
    return Leaves(places, inside[..., None], none, none, none * 1.0, far)


def cut(
    center: np.ndarray, sizes: np.ndarray, near: float, check: Callable[[int], None]
) -> Leaves:
    """Cuts stacked maps into leaves.

    About as many pairs of near points as of far leaves come of 16 points for 35,000.

    Args:
        center: The maps.
        sizes: The number of points of each.
        near: Distance of leaves up to which they are near, by their spread.
        check: Called with the number of pairs, before they are stored.
    """
    width = 2 ** max(2, round(np.log2(max(1, sizes.max()) / 8) / 3))
    leaves_of_maps = [
        _halved(maps[:, :size].T, np.arange(size), width)
        for maps, size in zip(center, sizes, strict=True)
    ]
    slices, count = len(leaves_of_maps), max(map(len, leaves_of_maps))
    check(slices * count**2)
    pairs = [
        _near_pairs(maps.T, leaves, near)
        for maps, leaves in zip(center, leaves_of_maps, strict=True)
    ]
    most = max(map(len, pairs))
    # An outer loop cuts small maps again and again, into shapes that it has met.
    most = capacity_for(most) if most < FEW else round_up(most)
    check(slices * (count**2 + most * width**2))
    points = np.zeros((slices, count, width), np.int32)
    inside = np.zeros_like(points, center.dtype)
    ends = np.zeros((2, slices, most), np.int32)
    shares = np.zeros((slices, most), center.dtype)
    far = np.ones((slices, count, count), center.dtype)
    for t, (leaves, near_pairs) in enumerate(zip(leaves_of_maps, pairs, strict=True)):
        for leaf, rows in enumerate(leaves):
            points[t, leaf, : len(rows)], inside[t, leaf, : len(rows)] = rows, 1
        ends[:, t, : len(near_pairs)] = heads, tails = near_pairs.T
        shares[t, : len(near_pairs)] = np.where(heads == tails, 0.5, 1)
        far[t, heads, tails] = far[t, tails, heads] = 0
    return Leaves(*map(jnp.asarray, (points, inside, *ends, shares, far)))


def _halved(positions: np.ndarray, rows: np.ndarray, width: int) -> list[np.ndarray]:
    """Halves rows along the longer side until leaves have `width`, the last fewer."""
    if len(rows) <= width:
        return [rows]
    axis = np.argmax(np.ptp(positions[rows], axis=0))
    rows = rows[np.argsort(positions[rows, axis], kind="stable")]
    half = -(-len(rows) // width) // 2 * width
    ends = rows[:half], rows[half:]
    return [leaf for end in ends for leaf in _halved(positions, end, width)]


def _near_pairs(
    positions: np.ndarray, leaves: list[np.ndarray], near: float
) -> np.ndarray:
    """Finds leaves whose means lie within `near` times the root of their variances."""
    if not leaves[0].size:
        return np.zeros((0, 2), int)
    means = np.array([positions[rows].mean(axis=0) for rows in leaves])
    spread = np.array([positions[rows].var(axis=0).sum() for rows in leaves])
    apart = ((means[:, None] - means) ** 2).sum(axis=-1)
    return np.argwhere(np.triu(apart <= near**2 * (spread[:, None] + spread)))


def repulsion_by_leaves(
    embedding: Float[Array, "components points"],
    degrees: Float[Array, "points"],
    n_points: Int[Array, ""],
    leaves: Leaves,
    a: Float[Array, ""],
    b: Float[Array, ""],
    **_: object,
) -> Float[Array, ""]:
    """Returns the repulsion of one slice, as `shifts.repulsion` has it of all pairs."""

    def energy(meeting: Meeting) -> Array:
        squared = jnp.sum(meeting.differences() ** 2, axis=-3)
        return jnp.sum(meeting.weights * repulsion_of_pairs(squared, a, b))

    total = energy(_near(embedding, degrees, leaves))
    total += energy(_far(embedding, degrees, leaves)) / 2
    return total / (2 * jnp.maximum(n_points - 1, 1))


def _near(embedding: Array, degrees: Array, leaves: Leaves) -> Meeting:
    """Returns the points of near leaves, each pair once."""
    heads, tails = leaves.heads, leaves.tails
    rows, pulled = embedding[:, leaves.points], degrees[leaves.points]
    rows, pulled = rows.swapaxes(0, 1), pulled[..., None]
    inside = leaves.inside[..., None]
    weights = pulled[heads] + pulled[tails].mT
    weights *= leaves.shares[:, None, None] * inside[heads] * inside[tails].mT
    itself = (heads == tails)[:, None, None] & jnp.eye(rows.shape[2], dtype=bool)
    return Meeting(rows[heads], rows[tails], jnp.where(itself, 0.0, weights))


def _far(embedding: Array, degrees: Array, leaves: Leaves) -> Meeting:
    """Returns the means of far leaves, each pair twice."""
    pulled = jnp.sum(degrees[leaves.points] * leaves.inside, axis=1)
    means, weights = _means(embedding, leaves), pulled[:, None] * _count(leaves)
    return Meeting(means, means, leaves.far * (weights + weights.T))


def _count(leaves: Leaves) -> Float[Array, "leaves"]:
    return jnp.sum(leaves.inside, axis=1)


def _means(values: Array, leaves: Leaves) -> Float[Array, "components leaves"]:
    total = jnp.sum(values[:, leaves.points] * leaves.inside, axis=2)
    return total / jnp.maximum(_count(leaves), 1)


def derivatives(energy: Energy, squared: Array) -> tuple[Array, Array]:
    """2 e' and 4 e'', which make the block 2 e' I + 4 e'' d d^T of each pair."""

    def first(squared: Array) -> Array:
        return jax.grad(lambda squared: jnp.sum(energy(squared)))(squared)

    bend, turn = jax.jvp(first, (squared,), (jnp.ones_like(squared),))
    # Made once, not for each entry of a block.
    return jax.lax.optimization_barrier((2 * bend, 4 * turn))


def repelled(
    embedding: Float[Array, "components points"],
    degrees: Float[Array, "points"],
    leaves: Leaves,
    rate: Float[Array, ""],
    a: Float[Array, ""],
    b: Float[Array, ""],
) -> Repelled:
    """Returns the curvature of a slice's repulsion, `rate` times (d_i + d_k) f."""
    components, points = embedding.shape
    same = jnp.eye(components, dtype=embedding.dtype)[:, None, :, None]

    def blocks(meeting: Meeting) -> Array:
        """Returns those of all rows and columns: (..., component, row, ., column)."""
        difference = meeting.differences()
        bend, turn = derivatives(
            lambda squared: rate * meeting.weights * repulsion_of_pairs(squared, a, b),
            jnp.sum(difference**2, axis=-3),
        )
        bend, turn = (each[..., None, :, None, :] for each in (bend, turn))
        row, column = difference[..., :, :, None, :], difference.swapaxes(-3, -2)
        return bend * same + turn * row * column[..., None, :, :, :]

    near = blocks(_near(embedding, degrees, leaves))
    far = blocks(_far(embedding, degrees, leaves))
    leaf, width = leaves.points.shape
    sums = jnp.zeros((leaf, components, components, width), near.dtype)
    sums = sums.at[leaves.heads].add(jnp.sum(near, axis=4).swapaxes(2, 3))
    sums = sums.at[leaves.tails].add(jnp.sum(near, axis=2))
    by_point = jnp.zeros((components, components, points), near.dtype)
    by_point = by_point.at[..., leaves.points].add(jnp.moveaxis(sums, 0, 2))
    of_leaf = jnp.sum(far, axis=3).swapaxes(1, 2)
    near = near.reshape(len(near), *[components * width] * 2)
    return Repelled(leaves, near, far.reshape(components * leaf, -1), by_point, of_leaf)


def along(curved: Repelled, direction: Array) -> Float[Array, "components points"]:
    """Returns the curvature times a direction."""
    leaves, near, far, by_point, of_leaf = curved
    rows = direction[:, leaves.points].swapaxes(0, 1)
    flat = rows.reshape(len(rows), -1)
    ahead = jnp.einsum("pij,pj->pi", near, flat[leaves.tails])
    behind = jnp.einsum("pij,pi->pj", near, flat[leaves.heads])
    across = jnp.zeros_like(flat).at[leaves.heads].add(-ahead)
    across = across.at[leaves.tails].add(-behind).reshape(rows.shape)
    # A mean moves with its points, which share its force.
    means, shared = jax.vjp(lambda values: _means(values, leaves), direction)
    force = jnp.einsum("cdl,dl->cl", of_leaf, means)
    force -= (far @ means.reshape(-1)).reshape(force.shape)
    bent = jnp.einsum("cdp,dp->cp", by_point, direction) + shared(force)[0]
    return bent.at[:, leaves.points].add(across.swapaxes(0, 1))


def own_blocks(curved: Repelled) -> Float[Array, "components components points"]:
    """Returns the block of each point with itself."""
    leaves = curved.leaves
    share = curved.of_leaf / jnp.maximum(_count(leaves), 1) ** 2
    return curved.by_point.at[..., leaves.points].add(share[..., None] * leaves.inside)
