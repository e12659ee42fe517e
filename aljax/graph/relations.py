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
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.checks import warn
from aljax.graph.dicts import read_dicts
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.ids import join_ids, read_ids
from aljax.graph.links import Correspondence, Links, Slices
from aljax.graph.pairs import read_pairs


class Mates(NamedTuple):
    """Mates between two slices: `rows` of the earlier, `others` of the later."""

    rows: Int[np.ndarray, "_"]
    others: Int[np.ndarray, "_"]
    strengths: Float[np.ndarray, "_"]


# Keyed by (earlier slice, offset); each pair of rows stands once.
Relations = dict[tuple[int, int], Mates]


def check_mates(relations: Any) -> None:
    """Refuse relations as users say them, for what takes those that a fit found.

    Raises:
        ValueError: They are not `Mates`, keyed.
    """
    mapping = isinstance(relations, Mapping)
    if not mapping or not all(isinstance(one, Mates) for one in relations.values()):
        came = type(relations).__name__
        came += " of other values than `Mates`" if mapping else ""
        raise ValueError(
            f"`relations` is a {came}; expected the mates that a fit found in what it "
            "was given: pass `fitted.relations`."
        )


def read_relations(
    relations: Any, slices: Slices, *, alignment_window_size: int
) -> Correspondence:
    """Checked links between all slices that are within the window of each other.

    Args:
        relations: For each pair of consecutive slices a dict; or for each slice its
            ids; or a mapping from pairs of slices to pairs of rows, which are taken
            however far apart the slices are.  None or empty for a single slice.
        slices: Their sizes; their data where known, to notice dicts given backwards.
        alignment_window_size: Farthest offset (slices, at least 1).

    Raises:
        ValueError: What is none of these, of the wrong length, has rows out of range,
            two rows mapped to one, a dict that is evidently reversed, ids that
            repeat or cannot be hashed, weights that are negative or NaN.
    """
    window = alignment_window_size
    if isinstance(relations, Mapping):
        links = read_pairs(relations, slices)
    elif is_ids(relations):
        links = join_ids(read_ids(relations, slices), window=window)
    else:
        links = read_dicts(relations, slices, window=window)
    warn_alone(links, slices)
    return links


def is_ids(relations: Any) -> bool:
    """Whether relations are given as ids: sequences, and no dicts, for each slice."""
    if not isinstance(relations, Sequence | np.ndarray) or isinstance(relations, str):
        return False
    return len(relations) > 0 and not any(isinstance(r, Mapping) for r in relations)


def warn_alone(links: Correspondence, slices: Slices, *, first: int = 1) -> None:
    """Warn of slices, from `first` on, that nothing holds to those before."""
    held = {t + offset for (t, offset), one in links.items() if one.rows.size}
    for t in range(first, len(slices.sizes)):
        if t not in held:
            warn(
                f"{slices.name(t)} has no mates in the slices before it: alignment has "
                "nothing to hold it by.",
            )


def linked(relations: Relations) -> Relations:
    """The relations of slices that have mates: others need no place in a layout."""
    return {pair: mates for pair, mates in relations.items() if mates.rows.size}


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
