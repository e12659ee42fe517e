"""Relations: which rows of different slices are the same member, and how surely.

However the user says it (see `dicts`, `ids`, `pairs`), every row has its mates up to
`alignment_window_size` slices ahead, each pair once, with the strength

    s = exp(-alignment_decay (offset - 1)) |f(N_i) & N_i'| / |f(N_i) | N_i'|

where N_i and N_i' are the two rows' neighbourhoods and f maps the first into the
later slice; only neighbours that have a mate there count.  A row's several mates in
one slice share its pull: s is divided by how many of them there are.

Source: the weights that umap-learn's `AlignedUMAP` gives to its relations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.graph.fuzzy import FuzzyGraph
from aljax.relations.mates import Correspondence, Links, Mates, Relations

Moves = Mapping[tuple[int, int], Float[np.ndarray, "_"]]
BLOCK = 10_000  # rows whose data are compared at once


def relate(
    links: Correspondence,
    graphs: Sequence[FuzzyGraph],
    *,
    alignment_strengths: str = "jaccard",
    alignment_decay: float = 1.0,
) -> Relations:
    """Mates in every pair of linked slices, with their strengths.

    Args:
        links: The linked rows of the slices.
        graphs: The slices' graphs.
        alignment_strengths: "jaccard" for the overlap of the mates' neighbourhoods,
            "uniform" for 1.  Where links have weights, those are taken instead.
        alignment_decay: How fast strengths fall with the offset (per slice, at
            least 0; 0 holds far mates as strongly as near ones).

    Returns:
        For each (t, offset) the pairs of rows and their strengths.
    """
    jaccard = alignment_strengths == "jaccard"
    adjacency: dict[int, scipy.sparse.csr_matrix] = {}

    def binary(t: int) -> scipy.sparse.csr_matrix:
        if t not in adjacency:
            adjacency[t] = graphs[t].to_sparse()
            adjacency[t].data[:] = 1
        return adjacency[t]

    relations: Relations = {}
    for (t, offset), link in links.items():
        if link.weights is not None:
            strengths = link.weights
        elif jaccard:
            strengths = _jaccard(link, binary(t), binary(t + offset))
        else:
            strengths = np.ones(link.rows.size)
        shared = strengths / _companions(link)
        decayed = np.exp(alignment_decay * (1 - offset)) * shared
        relations[t, offset] = Mates(link.rows, link.others, decayed)
    return relations


def _companions(link: Links) -> Int[np.ndarray, "mates"]:
    """How many mates the one of a pair has that has more of them."""
    if not link.rows.size:
        return link.rows
    return np.maximum(*(np.bincount(side)[side] for side in link[:2]))


def _jaccard(
    link: Links, before: scipy.sparse.csr_matrix, after: scipy.sparse.csr_matrix
) -> Float[np.ndarray, "mates"]:
    """Overlap of the mates' neighbourhoods in two binary graphs; 1 if both are empty.

    The first is mapped by the links into the rows of the second, which is cut to
    those that are linked.
    """
    shape = (before.shape[0], after.shape[0])
    mapping = scipy.sparse.csr_matrix(
        (np.ones(link.rows.size, before.dtype), (link.rows, link.others)), shape=shape
    )
    linked = np.zeros(shape[1], before.dtype)
    linked[link.others] = 1
    mapped = scipy.sparse.csr_matrix(before @ mapping)[link.rows]
    mapped.data[:] = 1
    there = after[link.others].multiply(linked).tocsr()
    there.eliminate_zeros()
    shared = np.asarray(mapped.multiply(there).sum(axis=1)).ravel()
    either = mapped.getnnz(axis=1) + there.getnnz(axis=1) - shared
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)


def check_comparable(data: Sequence[np.ndarray | None]) -> None:
    """Refuse slices between which a row cannot be said to have moved.

    Raises:
        ValueError: A slice without data, or with other columns than the first.
    """
    for t, one in enumerate(data):
        if one is None:
            raise ValueError(
                f"`motion_fidelity` is above 0, but slice {t} has no dense data (it is "
                "a graph, neighbours, distances or sparse); give its data, or set "
                "`motion_fidelity` to 0."
            )
        first = data[0]
        if first is not None and one.shape[1] != first.shape[1]:
            raise ValueError(
                f"`motion_fidelity` is above 0, but slice {t} has {one.shape[1]} "
                f"columns and slice 0 has {first.shape[1]}; expected as many in each, "
                "for mates are compared in the data. Set `motion_fidelity` to 0, or "
                "give all slices the same columns."
            )


def scales_of(
    data: Sequence[np.ndarray | None], graphs: Sequence[FuzzyGraph]
) -> list[float]:
    """Each slice's median distance of a row to its farthest neighbour; 0 if all are."""
    scales = []
    for one, graph in zip(data, graphs, strict=True):
        rows = np.asarray(one, dtype=float)
        lengths = _lengths(rows, rows[np.asarray(graph.neighbors)[-1]])
        scales.append(float(np.median(lengths[lengths > 0])) if lengths.any() else 0.0)
    return scales


def measure_moves(
    relations: Relations, data: Sequence[Any], scales: Sequence[float]
) -> Moves:
    """How far each pair of mates lies apart, delta, keyed as the relations are.

    Distances are Euclidean, whatever metric made the graphs.

    Args:
        relations: Mates, keyed by (earlier slice, offset).
        data: The data of the slices that they speak of.
        scales: `scales_of` all slices whose unit is shared.
    """
    positive = [scale for scale in scales if scale > 0]
    unit = float(np.median(positive)) if positive else 1.0

    def rows(t: int, chosen: np.ndarray) -> np.ndarray:
        return np.asarray(data[t][chosen], dtype=float)

    return {
        (t, offset): _lengths(rows(t, mates.rows), rows(t + offset, mates.others))
        / unit
        for (t, offset), mates in relations.items()
    }


def _lengths(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    blocks = range(0, len(one), BLOCK)
    return np.concatenate(
        [np.zeros(0)]
        + [
            np.linalg.norm(one[b : b + BLOCK] - other[b : b + BLOCK], axis=1)
            for b in blocks
        ]
    )
