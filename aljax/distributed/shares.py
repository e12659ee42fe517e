"""Neighbors and graph of a slice whose rows are shared out over the processes.

Blocks of rows, and then lists of neighbors, visit one process after the other; each
keeps what belongs to its own rows.
"""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from aljax.distributed.exchange import from_all, sum_of_all, visitors
from aljax.graph.approximate import SAMPLE, warn_of_few
from aljax.graph.exact import hold, nearest_held
from aljax.graph.fuzzy import memberships, united
from aljax.graph.knn import KNN, as_floats, on_device
from aljax.graph.neighbors import EXACT_OPERATIONS, find_neighbors, is_cheap
from aljax.graph.queries import in_cells, nearest_of_many

PART = 8192  # rows that are merged at once


class Shares(NamedTuple):
    """The rows of the slice that each process has: `ends[p]` to `ends[p + 1]`."""

    ends: list[int]
    process: int

    @property
    def all(self) -> int:
        """Returns the number of all rows."""
        return self.ends[-1]

    @property
    def here(self) -> range:
        """Returns the rows of this process."""
        return self.of(self.process)

    @property
    def most(self) -> int:
        """Returns the most rows that a process has."""
        return max(last - first for first, last in itertools.pairwise(self.ends))

    def of(self, process: int) -> range:
        """Returns the rows of a process."""
        return range(*self.ends[process : process + 2])

    def visitors(self, local: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
        """Yields the rows, and which they are, of each process; this one's first."""
        room = [(0, self.most - len(local))] + [(0, 0)] * (local.ndim - 1)
        for process, rows in visitors(np.pad(local, room) if room[0][1] else local):
            yield self.of(process), rows[: len(self.of(process))]


def nearest_of_all(
    data: np.ndarray,
    shares: Shares,
    n_neighbors: int,
    *,
    metric: str,
    method: str,
    seed: int,
) -> KNN:
    """Returns the nearest of all rows to each of this process's, itself first."""
    own_span = shares.here
    searched = EXACT_OPERATIONS * shares.most / shares.all
    # The same choice in all: by the largest share.
    whole = np.broadcast_to(data[:1], (shares.most, data.shape[1]))
    exactly = method == "exact" or (method == "auto" and is_cheap(whole, searched))
    method = "exact" if exactly else "approximate"
    options: Any = {"metric": metric, "knn_method": method, "seed": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not found here: others come
        knn = find_neighbors(data, n_neighbors, **options)
    best = np.asarray(knn.indices) + np.int32(own_span.start), np.array(knn.distances)
    best[1][0] = -1  # a row is its own first neighbor
    sampled = np.linspace(0, len(data) - 1, min(SAMPLE, len(data))).astype(int)
    true: list[np.ndarray] = []  # distances of some rows to the nearest of each block
    for span, visiting in shares.visitors(data):
        most = min(n_neighbors - (span != own_span), len(span))
        if not exactly:
            true.append(nearest_held(data[sampled], hold(visiting, metric), most)[1])
        if span == own_span:
            continue
        if exactly:
            table = nearest_held(data, hold(visiting, metric), most)
        else:
            table = nearest_of_many(data, in_cells(visiting, metric), most)
        _merge(best, (table[0].T + np.int32(span.start), table[1].T))
    indices, distances = best
    if not exactly:
        farthest = np.sort(np.hstack(true))[:, n_neighbors - 1]
        is_found = distances[1:, sampled] <= farthest * (1 + 1e-4)
        warn_of_few(float(is_found.mean()), data.shape[1])
    distances[0] = 0
    return KNN(on_device(indices), as_floats(distances))


Lists = tuple[Int[np.ndarray, "_ rows"], Float[np.ndarray, "_ rows"]]


def _merge(best: Lists, more: Lists) -> None:
    """Puts the nearest of both where the best are; of equally near ones the first."""
    for first in range(0, best[0].shape[1], PART):
        block = np.s_[:, first : first + PART]
        pairs = zip(best, more, strict=True)
        met = [np.vstack([table[block], other[block]]) for table, other in pairs]
        order = np.lexsort(met, axis=0)[: len(best[0])]
        for table, values in zip(best, met, strict=True):
            table[block] = np.take_along_axis(values, order, axis=0)


def graph_of_own(
    knn: KNN, shares: Shares, local_connectivity: float, mix_ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights of this process's lists, and the degrees of all rows."""
    own_rows = np.arange(shares.here.start, shares.here.stop)
    indices, distances = map(np.asarray, (knn.indices, knn.distances))
    total = np.sum(from_all(distances.sum(dtype=float)))
    unit = as_floats(total / (len(indices) * shares.all) or 1.0)
    # Rows are told from their neighbors by their place here.
    local = KNN(knn.indices - shares.here.start, knn.distances)
    forward = np.asarray(memberships(local, local_connectivity, unit))
    backward, mutual = np.zeros_like(forward), np.zeros(forward.shape, bool)
    visits = shares.visitors(indices.T), shares.visitors(forward.T)
    for (span, lists), (_, strengths) in zip(*visits, strict=True):
        for column, ends in enumerate(indices):
            inside = (span.start <= ends) & (ends < span.stop) & (ends != own_rows)
            rows = np.flatnonzero(inside)
            listed = ends[rows] - span.start
            backed = lists[listed] == own_rows[rows, None]
            mutual[column, rows] = backed.any(axis=1)
            backward[column, rows] = np.where(backed, strengths[listed], 0).sum(axis=1)
    both_ways = jnp.asarray(forward), jnp.asarray(backward)
    weights = np.asarray(united(*both_ways, jnp.asarray(mutual), mix_ratio))
    degrees = np.bincount(indices.ravel(), weights.ravel(), minlength=shares.all)
    degrees[own_rows] += weights.sum(axis=0)
    return weights, sum_of_all(degrees)
