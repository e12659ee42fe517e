"""The graph from new rows to those of a slice: distances in, memberships out.

    v(i, j) = exp(-max(0, d_ij - rho_i) / sigma_i),    sum_(j > 1) v(i, j) = log2 k

over the k nearest rows j of the slice to new row i, nearest first.  The nearest row has
the place of the row itself in a slice's own graph, so that rho_i is the distance to the
(local_connectivity - 1)-th, and 0 for a local connectivity of 1.

Source: umap-learn's `transform`, whose graph this is.
"""

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.graph.fuzzy import memberships
from aljax.graph.knn import KNN, as_floats, beyond, capacity_for, on_device

NEIGHBOR = -1  # the index of an entry that is a neighbor, for none is the row itself


def bipartite_graph(
    near: Int[np.ndarray, "queries neighbors"],
    distances: Float[np.ndarray, "queries neighbors"],
    points: int,
    *,
    farthest: float = np.inf,
    local_connectivity: float = 1.0,
) -> scipy.sparse.csr_matrix:
    """Returns the memberships of new rows in a slice's rows.

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
