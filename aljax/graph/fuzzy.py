"""The fuzzy graph: neighbor distances in, edge memberships out.

    v(i, j) = exp(-max(0, d_ij - rho_i) / sigma_i),    sum_j v(i, j) = log2 k
    w(i, j) = v(i, j) + v(j, i) - v(i, j) v(j, i)
    R(i) = log(sum_j w(i, j) d_ij^2 / sum_j w(i, j)),          the local radius

Source: McInnes, Healy & Melville (2018), arXiv:1802.03426, section 3.1 and
algorithms 2 and 3; the tolerances are umap-learn's.  Local radii: Narayan, Berger &
Cho (2021), Nature Biotechnology 39, "Assessing single-cell transcriptomic variability
through density-preserving nonlinear data visualization".
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int

from aljax.errors import InputError
from aljax.graph.knn import (
    KNN,
    as_floats,
    beyond,
    capacity_for,
    check_lists,
    on_device,
)

BISECTIONS = 64
TOLERANCE = 1e-5
SLIGHT = 1e-5  # differences between weights that are rounding
SMALLEST_SIGMA = 1e-3  # times the mean distance
SMALLEST_SQUARE = 1e-8  # times its square: the radius of equal rows
NEIGHBOR = -1  # the index of an entry that is a neighbor, for none is the row itself
Scalar = Float[Array, ""]
Points = Float[Array, "points"]
Lists = Float[Array, "neighbors points"]
Present = Bool[Array, "neighbors points"]


class FuzzyGraph(eqx.Module):
    """A symmetric weighted graph, kept on each point's fixed list of neighbors.

    An edge that stands in both its ends' lists carries half of its weight in each,
    so a sum over all entries is the sum over undirected edges, no row is wider
    than `n_neighbors` whatever its degree, and padding has weight 0.

    `radii` are the points' local radii in the data, as logarithms (of the metric's
    squared unit); None where distances are unknown.  `y` does not change them.
    """

    neighbors: Int[Array, "neighbors points"]
    weights: Lists
    degrees: Points
    radii: Points | None = None

    @classmethod
    def from_sparse(cls, matrix: Any) -> "FuzzyGraph":
        """Returns the graph of a symmetric matrix of weights that another tool made.

        Each edge stands in the list of the end that has fewer edges, so the lists of
        hubs stay short.

        Args:
            matrix: Weights `(points, points)`, 0 to 1 and as strong both ways, such as
                `adata.obsp["connectivities"]` of scanpy or `graph_` of umap-learn; the
                diagonal does not count.

        Raises:
            InputError: The matrix is not square or not symmetric, or has a weight that
                is NaN, below 0 or above 1.
        """
        edges: Any = scipy.sparse.triu(_read_weights(matrix), 1).tocoo()
        ends, points = np.stack([edges.row, edges.col]), edges.shape[0]
        counts = np.bincount(ends.ravel(), minlength=points)
        # Of ends with as many edges each keeps about half of those between them.
        turned = counts[ends[0]] + ends.sum(axis=0) % 2 / 2 > counts[ends[1]]
        owners, others = np.where(turned, ends[::-1], ends)
        order = np.lexsort((-edges.data, owners))
        owners, others, values = owners[order], others[order], edges.data[order]
        place = np.arange(1, len(order) + 1) - np.searchsorted(owners, owners), owners
        width = int(place[0].max(initial=1)) + 1
        neighbors = np.tile(np.arange(points, dtype=np.int32), (width, 1))
        weights = np.zeros(neighbors.shape)
        neighbors[place], weights[place] = others, values
        strengths = np.append(edges.data, edges.data)
        degrees = np.bincount(ends.ravel(), strengths, minlength=points)
        return cls(on_device(neighbors), as_floats(weights), as_floats(degrees))

    def to_sparse(self) -> scipy.sparse.csr_matrix:
        """Returns the symmetric matrix of memberships, as umap-learn's `graph_`."""
        edges = directed(np.asarray(self.neighbors), np.asarray(self.weights))
        return (edges + edges.T).tocsr()


def _read_weights(matrix: Any) -> scipy.sparse.csr_matrix:
    """Returns a symmetric matrix of weights, without the entries that are 0."""
    try:
        read = scipy.sparse.csr_matrix(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        got = f"cannot be read as a matrix ({error})"
        raise InputError("matrix", got, "weights (points, points)") from error
    lowest, highest = read.data.min(initial=0.0), read.data.max(initial=0.0)
    square = 0 < read.shape[0] == read.shape[1]
    if not square or not 0 <= lowest <= highest <= 1 + SLIGHT:
        got = f"has shape {read.shape} and values from {lowest:g} to {highest:g}"
        remedy = "Divide weights by the largest; distances are `metric='precomputed'`."
        raise InputError("matrix", got, "weights (points, points) of 0 to 1", remedy)
    if abs(read - read.T).max() > SLIGHT:
        remedy = "Join both ways: `matrix + matrix.T - matrix.multiply(matrix.T)`."
        raise InputError("matrix", "is not symmetric", "as strong both ways", remedy)
    read = (read + read.T) / 2
    read.eliminate_zeros()
    return read.minimum(1.0) if highest > 1 else read


def directed(
    neighbors: Int[np.ndarray, "neighbors points"],
    weights: Float[np.ndarray, "neighbors points"],
) -> scipy.sparse.csr_matrix:
    """Returns the matrix of weights on lists of neighbors, each in its list's row."""
    points = neighbors.shape[1]
    heads = np.tile(np.arange(points), len(neighbors))
    entries = (weights.ravel(), (heads, neighbors.ravel()))
    matrix = scipy.sparse.csr_matrix(entries, shape=(points, points))
    matrix.eliminate_zeros()
    return matrix


def check_graph(graph: FuzzyGraph, name: str) -> None:
    """Checks that a graph's parts belong together; `name` is the argument in errors.

    Raises:
        InputError: They do not.
    """
    check_lists(graph.neighbors, graph.weights, name)
    degrees, points = np.asarray(graph.degrees), np.shape(graph.neighbors)[1]
    radii = np.zeros(points) if graph.radii is None else np.asarray(graph.radii)
    if radii.shape != (points,) or not np.isfinite(radii).all():
        got, expected = f"has radii of shape {radii.shape}", "finite numbers, or None"
        raise InputError(name, got, f"{expected}, for the {points} points")
    real = degrees.shape == (points,) and degrees.dtype.kind in "iuf"
    if not real or not (degrees >= 0).all() or not np.isfinite(degrees).all():
        raise InputError(
            name,
            f"has degrees of shape {degrees.shape} and dtype {degrees.dtype}",
            f"a finite number of at least 0 for each of the {points} points",
            "Take a graph as `aljax.prepare` makes it.",
        )


def smooth_knn_dist(
    knn: KNN,
    *,
    local_connectivity: Scalar | Points | float = 1.0,
    unit: Scalar | Points | None = None,
) -> tuple[Points, Points]:
    """Returns each point's bandwidth sigma and distance rho to its nearest neighbors.

    sigma solves sum_j exp(-max(0, d_j - rho) / sigma) = log2 k over the k - 1
    neighbors beside the point itself, by bisection; its derivative is that of the
    equation's root (the implicit function theorem), not of the bisection's steps.

    Args:
        knn: The neighbors.
        local_connectivity: Rank of the neighbor at a positive distance that sets rho
            (at least 0; fractions interpolate, 0 gives rho = 0).
        unit: For each point the mean distance in its slice (above 0), where several
            slices stand side by side; None takes that of all points.

    Returns:
        sigma and rho, in units of the metric.  sigma is at least 1e-3 times the mean
        distance of the point (of all points, where rho is 0).
    """
    # The search starts at 1 and doubles: in units of the mean, any scale converges.
    neighbors = len(knn.distances)
    unit = _mean_distance(knn) if unit is None else unit
    distances = knn.distances
    rho = _nearest(distances, jnp.asarray(local_connectivity, distances.dtype))
    present = knn.indices[1:] != jnp.arange(knn.indices.shape[1])
    # Subtracted before it is divided: near rho, a rounded quotient is off by a part
    # of rho, of which the smallest sigma is a thousandth.
    excess = jnp.maximum(distances[1:] - rho, 0.0) / unit
    target = jnp.log2(jnp.asarray(neighbors, distances.dtype))
    sigma = _root(excess, present, target) * unit
    mean = jnp.where(rho > 0, jnp.mean(distances, axis=0), unit)
    return jnp.maximum(sigma, SMALLEST_SIGMA * mean), rho


def _mean_distance(knn: KNN, n_points: Int[Array, ""] | int | None = None) -> Scalar:
    neighbors, points = knn.distances.shape
    points = points if n_points is None else n_points
    mean = jnp.sum(knn.distances) / (neighbors * points)
    return jnp.where(mean > 0, mean, 1.0)


def _nearest(distances: Lists, local_connectivity: Scalar | Points) -> Points:
    """Returns the `local_connectivity`-th smallest positive distance, interpolated."""
    positive = distances > 0
    rank = jnp.cumsum(positive, axis=0)  # neighbors stand nearest first

    def ranked(order: Int[Array, "..."]) -> Points:
        return jnp.sum(jnp.where(positive & (rank == order), distances, 0.0), axis=0)

    whole = jnp.floor(local_connectivity).astype(rank.dtype)
    fraction = local_connectivity - whole
    low, high = ranked(whole), ranked(whole + 1)
    between = low + jnp.where(fraction > TOLERANCE, fraction, 0.0) * (high - low)
    enough = rank[-1] >= local_connectivity
    return jnp.where(enough, between, jnp.max(distances, axis=0))


@jax.custom_jvp
def _root(excess: Lists, present: Present, target: Scalar) -> Points:
    """Sigma by bisection and two Newton steps."""
    sigma = _bisect(excess, present, target)
    for _ in range(2):
        missed, slope, near, _ = _equation(sigma, excess, present, target)
        sigma = sigma - jnp.where(near, missed / slope, 0.0)
    return sigma


@_root.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """The root moves as its equation does, in derivatives of any order."""
    sigma = _root(*primals)
    _, slope, near, shares = _equation(sigma, *primals)
    moved = jnp.sum(shares * tangents[0], axis=0) / sigma + tangents[2]
    return sigma, jnp.where(near, moved / slope, 0.0)


def _equation(
    sigma: Points, excess: Lists, present: Present, target: Scalar
) -> tuple[Array, Array, Array, Array]:
    """By how much sigma misses its equation, the slope there, and if it is near."""
    shares = jnp.where(present, jnp.exp(-excess / sigma), 0.0)
    missed = jnp.sum(shares, axis=0) - target
    slope = jnp.sum(shares * excess, axis=0) / sigma**2
    near = (jnp.abs(missed) < 10 * TOLERANCE) & (slope > 0)
    return missed, jnp.where(near, slope, 1.0), near, shares


def _bisect(excess: Lists, present: Present, target: Scalar) -> Points:
    def halve(_: Any, bounds: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, sigma = bounds
        total = jnp.sum(jnp.where(present, jnp.exp(-excess / sigma), 0.0), axis=0)
        close = jnp.abs(total - target) < TOLERANCE
        above = total > target
        high = jnp.where(above & ~close, sigma, high)
        low = jnp.where(above | close, low, sigma)
        middle = jnp.where(jnp.isinf(high), sigma * 2, (low + high) / 2)
        return low, high, jnp.where(close, sigma, middle)

    ones = jnp.ones_like(excess[0])
    start = (jnp.zeros_like(ones), jnp.full_like(ones, jnp.inf), ones)
    return jax.lax.fori_loop(0, BISECTIONS, halve, start)[2]


def membership_strengths(knn: KNN, sigma: Points, rho: Points) -> Lists:
    """Returns the directed memberships v(i, j): 1 up to rho, then falling with sigma.

    Args:
        knn: The neighbors.
        sigma: Bandwidths (units of the metric, above 0).
        rho: Distances up to which membership is full (units of the metric).

    Returns:
        Probabilities; 0 for the point itself and for entries that are not neighbors.
    """
    itself = knn.indices == jnp.arange(knn.indices.shape[1])
    strengths = jnp.exp(-jnp.maximum(knn.distances - rho, 0.0) / sigma)
    return jnp.where(itself, 0.0, strengths)


@jax.jit
def memberships(
    knn: KNN, local_connectivity: Scalar | Points | float, unit: Scalar | Points
) -> Lists:
    """Returns directed memberships: `smooth_knn_dist` says what the arguments are."""
    widths = smooth_knn_dist(knn, local_connectivity=local_connectivity, unit=unit)
    return membership_strengths(knn, *widths)


@jax.jit
def fuzzy_simplicial_set(
    knn: KNN,
    *,
    local_connectivity: Scalar | Points | float = 1.0,
    set_op_mix_ratio: Scalar | Points | float = 1.0,
    n_points: Int[Array, ""] | int | None = None,
    unit: Scalar | Points | None = None,
) -> FuzzyGraph:
    """Makes the fuzzy graph of one slice, or of several side by side, from neighbors.

    Args:
        knn: The neighbors, in normal form.
        local_connectivity: See `smooth_knn_dist`.
        set_op_mix_ratio: 1 for the fuzzy union of the two directions of an edge, 0
            for their intersection, mixtures between.
        n_points: The number of the table's columns that are points, if not all.
        unit: See `smooth_knn_dist`.

    Returns:
        The graph; equal to umap-learn's to 1e-4 on the same neighbors.
    """
    unit = _mean_distance(knn, n_points) if unit is None else unit
    forward = memberships(knn, local_connectivity, unit)
    backward, mutual = _reverse(knn.indices, forward)
    weights = united(forward, backward, mutual, set_op_mix_ratio)
    degrees = edge_degrees(knn.indices, weights)
    squared = edge_degrees(knn.indices, weights * (knn.distances / unit) ** 2)
    mean = squared / jnp.where(degrees > 0, degrees, 1.0)
    radii = jnp.log(mean + SMALLEST_SQUARE) + 2 * jnp.log(unit)
    return FuzzyGraph(knn.indices, weights, degrees, radii)


def united(
    forward: Lists, backward: Lists, mutual: Present, ratio: Scalar | Points | float
) -> Lists:
    """Returns the weights of entries, from the memberships in both directions.

    Args:
        forward: v(i, j) of entries (i, j).
        backward: v(j, i).
        mutual: Whether i stands in j's list, which then has the other half.
        ratio: 1 for the union, 0 for the intersection.
    """
    product = forward * backward
    union = forward + backward - product
    weights = ratio * union + (1 - ratio) * product
    return weights / (1 + mutual)


def _reverse(
    indices: Int[Array, "neighbors points"], forward: Lists
) -> tuple[Lists, Present]:
    """Returns v(j, i) for each entry (i, j), and whether i stands in j's list."""
    points = jnp.arange(indices.shape[1])

    def column(neighbor: Int[Array, "points"]) -> tuple[Array, Array]:
        match = (indices[:, neighbor] == points) & (neighbor != points)
        backward = jnp.where(match, forward[:, neighbor], 0.0)
        return jnp.sum(backward, axis=0), match.any(axis=0)

    return jax.lax.map(column, indices)


def edge_degrees(neighbors: Int[Array, "neighbors points"], weights: Lists) -> Points:
    """Row sums of the symmetric graph: every entry counts at both of its ends."""
    return jnp.sum(weights, axis=0).at[neighbors].add(weights)


def bipartite_graph(
    near: Int[np.ndarray, "queries neighbors"],
    distances: Float[np.ndarray, "queries neighbors"],
    points: int,
    *,
    farthest: float = np.inf,
    local_connectivity: float = 1.0,
) -> scipy.sparse.csr_matrix:
    """Returns the memberships of new rows in a slice's rows, as umap-learn has them.

    The nearest row has the place of the row itself in a slice's own graph, so that
    rho_i is the distance to the (local_connectivity - 1)-th, and 0 for a local
    connectivity of 1.

    Args:
        near: The nearest rows of the slice to each new one, nearest first.
        distances: How far they are (units of the metric).
        points: Rows of the slice.
        farthest: The distance from which on rows are no neighbors.
        local_connectivity: As in the slice's graph.

    Returns:
        A matrix `(queries, points)` of probabilities, with an entry for each neighbor.
    """
    queries, k = near.shape
    room = ((0, capacity_for(max(queries, 1)) - queries), (0, 0))
    lengths = np.pad(distances, room).T
    itself = np.broadcast_to(np.arange(lengths.shape[1]), lengths.shape)
    far = beyond(lengths, farthest)
    indices, lengths = np.where(far, itself, NEIGHBOR), np.where(far, 0.0, lengths)
    table = KNN(on_device(indices, np.int32), as_floats(lengths))
    rank = as_floats(max(0.0, local_connectivity - 1.0))
    unit = lengths.mean(axis=0)
    strengths = memberships(table, rank, as_floats(np.where(unit > 0, unit, 1.0)))
    values = np.asarray(strengths).T[:queries].ravel()
    heads = np.repeat(np.arange(queries), k)
    entries = values, (heads, near.ravel())
    graph = scipy.sparse.csr_matrix(entries, shape=(queries, points))
    graph.eliminate_zeros()
    return graph
