"""Evidence: if neighborhoods of mates agree, or overlap only as chance has it.

For mates i and i', f maps the neighbors of i to their mates in the later slice, of
which L rows have mates.  The two neighborhoods share S = |f(N_i) & N_i'| rows; if rows
were matched at random it would be C = |f(N_i)| |N_i'| / (L - 1).  With the most that
it can be, M = (|f(N_i)| + |N_i'|) / 2, and sums over all mates of two slices,

    agreement = (sum S - sum C) / (sum M - sum C)

is 1 where neighborhoods are the same, and about 0 where the data contradict the
relation.  Its form is that of Cohen's kappa (1960, "A coefficient of agreement for
nominal scales").

Rows that stand beside each other may be alike, as those of a cluster are, and then
mates that are off by a row agree, too.  So mates in other orders are rivals: if one
agrees more, the data contradict the relation all the same.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from aljax.errors import few_of, warn
from aljax.relations.mates import Mates, Relations
from aljax.relations.read import TURN, ReversedError

NEAR = 0.05  # an agreement below it is near chance,
TIMES = 1.8  # if mates share less than so many times what chance gives
BLUR = 0.2  # where chance alone reaches such agreements, they say nothing
EVIDENT = 0.25  # what a reversed dict agrees more in the other direction

TOGETHER = 2**15  # rows of slices whose mates are looked at together
ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shifted by a row": lambda others: np.roll(others, 1),
    "shifted back by a row": lambda others: np.roll(others, -1),
    "in reverse order": lambda others: others[::-1],
}

Pair = tuple[int, int]  # an earlier slice and the offset to a later one
Adjacency = Callable[[int], csr_matrix]  # of a slice: its neighbors, as ones


class Overlap(NamedTuple):
    """The neighborhoods of each pair of mates: their sizes, and what they share.

    Attributes:
        shared: |f(N_i) & N_i'|.
        mapped: |f(N_i)|.
        neighbors: |N_i'|, of rows that have mates.
        linked: How many rows of the later slice have mates.
    """

    shared: Float[np.ndarray, "mates"]
    mapped: Int[np.ndarray, "mates"]
    neighbors: Int[np.ndarray, "mates"]
    linked: int

    def jaccard(self) -> Float[np.ndarray, "mates"]:
        """Returns |f(N_i) & N_i'| / |f(N_i) | N_i'|; 1 where both are empty."""
        either = self.mapped + self.neighbors - self.shared
        return np.where(either > 0, self.shared / np.maximum(either, 1), 1.0)


class Verdict(NamedTuple):
    """The agreement of mates of two slices, beside that of chance.

    Attributes:
        agreement: See above; NaN where chance leaves no room for any.
        blur: The agreement that rows matched at random can have.
        share: The share of neighbors that mates have in common.
        chance: The same share if rows were matched at random.
    """

    agreement: float
    blur: float
    share: float
    chance: float

    @property
    def near_chance(self) -> bool:
        """Tells if rows matched at random could agree as much."""
        return self.agreement < self.gap and self.share < TIMES * self.chance

    @property
    def gap(self) -> float:
        """By how much other mates have to agree more to contradict these."""
        return max(NEAR, self.blur)


UNKNOWN = Verdict(*[math.nan] * 4)


def overlap(mates: Mates, before: csr_matrix, after: csr_matrix) -> Overlap:
    """Returns how mates' neighborhoods overlap, by matrices of ones at neighbors."""
    shape = (before.shape[0], after.shape[0])
    ones = np.ones(mates.rows.size, before.dtype)
    mapping = csr_matrix((ones, (mates.rows, mates.others)), shape=shape)
    linked = np.zeros(shape[1], before.dtype)
    linked[mates.others] = 1
    mapped = csr_matrix(before @ mapping)[mates.rows]
    mapped.data[:] = 1
    neighbors = after[mates.others]
    neighbors.data *= linked[neighbors.indices]
    neighbors.eliminate_zeros()
    shared = np.asarray(mapped.multiply(neighbors).sum(axis=1)).ravel()
    sizes = mapped.getnnz(axis=1), neighbors.getnnz(axis=1)
    return Overlap(shared, *sizes, int(linked.sum()))


def overlaps(
    relations: Relations, pairs: Iterable[Pair], adjacency: Adjacency
) -> Iterator[tuple[Pair, Overlap]]:
    """Yields how the neighborhoods of mates overlap, for many small slices at once.

    `pairs` are those of the relations that are looked at.
    """
    rows, batches = 0, {}
    for t, offset in pairs:
        batches.setdefault(rows // TOGETHER, []).append((t, offset))
        rows += adjacency(t).shape[0]
    for batch in batches.values():
        yield from _overlaps_of(relations, batch, adjacency)


def _overlaps_of(
    relations: Relations, batch: Sequence[Pair], adjacency: Adjacency
) -> Iterator[tuple[Pair, Overlap]]:
    before, starts = side_by_side([adjacency(t) for t, _ in batch])
    after, starts_after = side_by_side([adjacency(t + offset) for t, offset in batch])
    parts = [relations[pair] for pair in batch]
    rows = [start + m.rows for start, m in zip(starts, parts, strict=True)]
    others = [start + m.others for start, m in zip(starts_after, parts, strict=True)]
    together = overlap(
        Mates(np.concatenate(rows), np.concatenate(others)), before, after
    )
    ends = np.cumsum([*map(len, rows)])[:-1]
    by_pair = [np.split(counts, ends) for counts in together[:3]]
    for pair, mates, *counts in zip(batch, parts, *by_pair, strict=True):
        linked = np.count_nonzero(np.bincount(mates.others))
        yield pair, Overlap(*counts, linked=int(linked))


def side_by_side(matrices: Sequence[csr_matrix]) -> tuple[csr_matrix, list[int]]:
    """Returns square matrices as blocks of one, and where the rows of each start."""
    if len(matrices) == 1:
        return matrices[0], [0]
    *starts, rows = np.cumsum([0, *(m.shape[0] for m in matrices)]).tolist()
    placed = zip(matrices, starts, strict=True)
    arrays = (
        np.concatenate([m.data for m in matrices]),
        np.concatenate([m.indices + start for m, start in placed]),
        np.cumsum(np.concatenate([[0], *(np.diff(m.indptr) for m in matrices)])),
    )
    return csr_matrix(arrays, shape=(rows, rows)), starts


def judge(overlap: Overlap) -> Verdict:
    """Returns how mates agree.

    Edges are met from both ends, so sum S of rows matched at random varies by about
    sqrt(2 sum C); 10 edges more keep slices with few from saying much.
    """
    shared = float(overlap.shared.sum())
    # SciPy counts in 32 bits, which the products of many exceed.
    chance = float(overlap.mapped.astype(float) @ overlap.neighbors)
    chance /= max(overlap.linked - 1, 1)
    most = float((overlap.mapped + overlap.neighbors).sum()) / 2
    if most <= chance:
        return UNKNOWN
    return Verdict(
        agreement=(shared - chance) / (most - chance),
        blur=2 * math.sqrt(2 * chance + 20) / (most - chance),
        share=shared / (2 * most - shared),
        chance=chance / (2 * most - chance),
    )


def adjacent(relations: Relations) -> list[Pair]:
    """Returns the pairs of slices with mates that have no such slice between.

    Farther apart even right mates may have no neighbors in common.
    """
    pairs = sorted(pair for pair, mates in relations.items() if mates.rows.size)
    nearest: dict[tuple[str, int], int] = {}
    for t, offset in pairs:
        for end in (("after", t), ("before", t + offset)):
            nearest[end] = min(offset, nearest.get(end, offset))
    return [
        (t, offset)
        for t, offset in pairs
        if nearest["after", t] == nearest["before", t + offset] == offset
    ]


def check_evidence(
    relations: Relations,
    adjacency: Adjacency,
    *,
    names: Sequence[str],
    dicts: Mapping[int, str],
) -> dict[Pair, Overlap]:
    """Warns once of all relations that the neighborhoods contradict.

    Args:
        relations: The mates.
        adjacency: Returns the neighbors of a slice, as a matrix of ones.
        names: What the slices are called.
        dicts: What the dicts among the relations are called, by their earlier slices.

    Returns:
        The overlaps of the mates that were looked at.

    Raises:
        ReversedError: Neighborhoods agree where a dict is read the other way round.
    """
    cases: list[str] = []
    weighted = False  # as couplings are
    turned: dict[int, str] = {}
    looked_at = dict(overlaps(relations, adjacent(relations), adjacency))
    verdicts = {pair: judge(looked) for pair, looked in looked_at.items()}
    # Where mates agree so much that nothing can agree more, there is no doubt.
    doubtful = [pair for pair, v in verdicts.items() if v.agreement < 1 - v.gap]
    orders = best_orders(relations, doubtful, adjacency)
    for t, offset in doubtful:
        verdict, (order, other) = verdicts[t, offset], orders[t, offset]
        near = verdict.near_chance
        better = other.agreement - verdict.agreement > verdict.gap
        hint = f"; {order} {other.share:.2g}" if better else ""
        sides = adjacency(t), adjacency(t + offset)
        flipped = reverse(relations[t, offset], *sides) if near else UNKNOWN
        gain = flipped.agreement - verdict.agreement
        hint = "; reversed?" if gain > 2 * verdict.gap else hint
        if gain > max(EVIDENT, 2 * verdict.blur) and offset == 1 and t in dicts:
            turned[t] = f"{verdict.share:.2g} (the other way round {flipped.share:.2g})"
        elif (near or better) and verdict.blur <= BLUR:
            shares = f"{verdict.share:.2g} (by chance {verdict.chance:.2g}{hint})"
            cases.append(f"{shares} between {names[t]} and {names[t + offset]}")
            weighted = weighted or relations[t, offset].strengths is not None
    lead = "the share of neighbors that mates have in common is"
    if turned:
        t = min(turned)
        expected = f"rows of {names[t]} mapped to rows of {names[t + 1]}"
        got = f"is reversed: {lead} {turned[t]}"
        raise ReversedError.about({t: dicts[t] for t in turned}, got, expected, TURN)
    if cases:
        remedy = "Check the order of rows and slices"
        if weighted:
            remedy += "; of a coupling its `evidence` says if rows come again at all"
        warn(f"The data contradict `relations`: {lead} {few_of(cases)}. {remedy}.")
    return looked_at


def reverse(mates: Mates, before: csr_matrix, after: csr_matrix) -> Verdict:
    """Returns how mates agree if they are read the other way round."""
    if mates.others.max() >= before.shape[0] or mates.rows.max() >= after.shape[0]:
        return UNKNOWN
    return judge(overlap(Mates(mates.others, mates.rows), before, after))


def best_orders(
    relations: Relations, pairs: Sequence[Pair], adjacency: Adjacency
) -> dict[Pair, tuple[str, Verdict]]:
    """Returns which other order of the mates of each pair agrees most, and how."""
    best: dict[Pair, tuple[str, Verdict]] = {}
    for order, move in ORDERS.items():
        moved = {p: Mates(relations[p].rows, move(relations[p].others)) for p in pairs}
        for pair, looked in overlaps(moved, pairs, adjacency):
            verdict = judge(looked)
            if pair not in best or verdict.agreement > best[pair][1].agreement:
                best[pair] = order, verdict
    return best
