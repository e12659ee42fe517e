"""Strengths of mates, and how far mates move in the data.

Every pair of mates, up to `alignment_window_size` slices apart, has the strength

    s = exp(-alignment_decay (offset - 1)) |f(N_i) & N_i'| / |f(N_i) | N_i'|

where N_i and N_i' are the two rows' neighborhoods and f maps the first into the
later slice; only neighbors that have a mate there count.  A row's several mates in
one slice share its pull: s is divided by how many of them there are.

Source: the weights that umap-learn's `AlignedUMAP` gives to its relations.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.errors import InputError
from aljax.graph.fuzzy import FuzzyGraph
from aljax.relations.evidence import Overlap, check_evidence, overlaps
from aljax.relations.mates import Relations, companions

BLOCK = 2**16  # cells of the data that are compared at once, within a core's cache


def relate(
    relations: Relations,
    graphs: Sequence[FuzzyGraph],
    *,
    alignment_strengths: str = "jaccard",
    alignment_decay: float = 1.0,
    names: Sequence[str] | None = None,
    dicts: Mapping[int, str] | None = None,
) -> Relations:
    """Returns the mates with their strengths.

    Args:
        relations: Mates as `read_relations` returns them.
        graphs: The slices' graphs.
        alignment_strengths: "jaccard" for the overlap of the mates' neighborhoods,
            "uniform" for 1.  Where the user gave weights, those are taken instead.
        alignment_decay: How fast strengths fall with the offset (per slice, at
            least 0; 0 holds far mates as strongly as near ones).
        names: What the slices are called in a warning of mates that the graphs
            contradict; None for no such check.
        dicts: What the dicts among the relations are called, by their earlier slices.

    Raises:
        ReversedError: The graphs show dicts to be reversed.
    """

    @cache
    def binary(t: int) -> scipy.sparse.csr_matrix:
        adjacency = graphs[t].to_sparse()
        adjacency.data[:] = 1
        return adjacency

    # Those that were looked at stay until their strengths are computed.
    looked_at: dict[tuple[int, int], Overlap] = {}
    if names is not None:
        looked_at = check_evidence(relations, binary, names=names, dicts=dicts or {})
    unweighted = [pair for pair, mates in relations.items() if mates.strengths is None]
    others = [pair for pair in unweighted if pair not in looked_at]
    rest = overlaps(relations, others, binary)
    related: Relations = {}
    for (t, offset), mates in relations.items():
        if mates.strengths is not None:
            strengths = mates.strengths
        elif alignment_strengths == "jaccard":
            looked = looked_at.pop((t, offset), None) or next(rest)[1]
            strengths = looked.jaccard()
        else:
            strengths = np.ones(mates.rows.size)
        shares = strengths / companions(mates.rows, mates.others)
        decayed = np.exp(alignment_decay * (1 - offset)) * shares
        related[t, offset] = mates._replace(strengths=decayed)
    return related


def check_comparable(
    data: Sequence[np.ndarray | None],
    name: str = "motion_fidelity",
    value: str = "is above 0",
    remedy: str = "Set it to 0",
) -> None:
    """Checks that mates of any two slices can be compared in the data.

    `name` is the setting that asks for it, `value` its value in words and `remedy`
    one that does not ask.

    Raises:
        InputError: A slice has no dense data, or other columns than the first.
    """
    for t, rows in enumerate(data):
        first = data[0]
        if rows is None:
            got = f"slice {t} is sparse, distances, neighbors or a graph"
            expected = "dense data for every slice"
        elif first is not None and rows.shape[1] != first.shape[1]:
            got = f"slice {t} has {rows.shape[1]} columns and slice 0 has "
            got += f"{first.shape[1]}"
            expected = "as many in each, for mates are compared in the data"
        else:
            continue
        remedy = f"{remedy}, or give all slices the same dense columns."
        raise InputError(name, f"{value}, but {got}", expected, remedy)


def scales_of(data: Sequence[Any], graphs: Sequence[FuzzyGraph]) -> list[float]:
    """Returns each slice's median distance of a row to its farthest neighbor.

    Rows whose neighbors all coincide with them do not count; 0 if no row counts.
    """
    scales = []
    for rows, graph in zip(data, graphs, strict=True):
        reach = reaches(rows, graph, np.arange(len(rows)))
        scales.append(float(np.median(reach[reach > 0])) if reach.any() else 0.0)
    return scales


def reaches(
    data: np.ndarray, graph: FuzzyGraph, rows: Int[np.ndarray, "rows"]
) -> Float[np.ndarray, "rows"]:
    """Returns rows' distances to the farthest of their neighbors; 0 without any."""
    lists = np.asarray(graph.neighbors)[:, rows]
    last = len(lists) - 1 - (lists != rows)[::-1].argmax(axis=0)
    return lengths(data, data, rows, lists[last, np.arange(len(rows))])


def measure_moves(
    relations: Relations, data: Sequence[Any], scales: Sequence[float]
) -> Relations:
    """Returns the mates with their moves: how far each pair lies apart in the data.

    Distances are Euclidean, whatever metric made the graphs, in units of the median
    of `scales`, which are those of all slices that share a unit.
    """
    positive = [scale for scale in scales if scale > 0]
    unit = float(np.median(positive)) if positive else 1.0
    return {
        (t, offset): mates._replace(
            moves=lengths(data[t], data[t + offset], mates.rows, mates.others) / unit
        )
        for (t, offset), mates in relations.items()
    }


def lengths(
    before: np.ndarray, after: np.ndarray, rows: np.ndarray, others: np.ndarray
) -> Float[np.ndarray, "mates"]:
    """Returns distances of pairs of rows of two arrays, in double precision."""
    squared, count = np.zeros(len(rows)), max(1, BLOCK // max(1, before.shape[1]))
    for start in range(0, len(rows), count):
        block = slice(start, start + count)
        moved = np.subtract(before[rows[block]], after[others[block]], dtype=float)
        squared[block] = np.einsum("ij,ij->i", moved, moved)
    return np.sqrt(squared)
