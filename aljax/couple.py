"""Slices whose rows have no ids in; who could be whom out, and how sure that is."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from reprlib import repr as brief
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from aljax.checks import number, one_of
from aljax.columns import check_labels
from aljax.config import SYNONYMS, YES_NO
from aljax.errors import InputError, optional, warn
from aljax.graph.conditioning import DEVICE_METRICS, conditioning
from aljax.graph.slices import Slice, read_slices
from aljax.keys import check_key, seeds
from aljax.relations.mates import companions
from aljax.relations.plan import Plan, called, couple_sides, exceeding
from aljax.relations.read import from_pairs
from aljax.relations.sides import Settings, Side, side_of, sums
from aljax.relations.strengths import lengths

SHARPNESS = 2.0  # of affinities to known rows, in units of the nearest one's distance
SHARPEST = 1000  # times `epsilon`: the largest reach
LEAST_PULL = 1e-3  # mass below which a pair does not pull
SHOWN = 3  # pairs of slices that a warning or a text names
Pulls = dict[tuple[int, int], tuple[Int[np.ndarray, "_ 2"], Float[np.ndarray, "_"]]]


class Coupling(eqx.Module):
    """A coupling says which rows of slices could be the same; `fit` takes it.

    Attributes:
        plans: For each two consecutive slices how they are coupled.
        relations: Pairs and weights of slices within the window of each other, as
            `fit` takes them: {(t, u): (pairs (m, 2), weights (m,))}.
        sizes: How many rows each slice has.
        names: What the slices are called in messages.
    """

    plans: tuple[Plan, ...]
    relations: Pulls
    sizes: tuple[int, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def mass(self) -> list[tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]]:
        """For each two consecutive slices how much of each one's rows is coupled."""
        steps = zip(self.plans, pairwise(self.sizes), strict=True)
        return [
            (sums(plan.rows, plan.mass, size), sums(plan.others, plan.mass, after))
            for plan, (size, after) in steps
        ]

    @property
    def evidence(self) -> Float[np.ndarray, "steps"]:
        """For each two consecutive slices how often a row finds more than the null.

        That is the probability that a row's mass exceeds that of a stranger, a row of
        the larger slice among the others: near 1 if all rows come again, about .5 or
        less if none does; NaN where a slice has too few rows to tell.
        """
        return np.array([exceeding(plan) for plan in self.plans])

    def has_mate(
        self, q: float = 0.1
    ) -> list[tuple[Bool[np.ndarray, "_"], Bool[np.ndarray, "_"]]]:
        """Returns which rows come again, for both of each two consecutive slices.

        Args:
            q: The share of the called rows that may be called wrongly (above 0, at
                most 1): the false discovery rate, controlled against the null.

        Returns:
            For each two slices masks of the earlier's rows that are in the later, and
            of the later's that were in the earlier.

        Raises:
            InputError: `q` is out of range.

        Source: Benjamini & Hochberg (1995), "Controlling the false discovery rate";
            Storey, Taylor & Siegmund (2004), "Strong control, conservative point
            estimation and simultaneous conservative consistency of false discovery
            rates", for the share of rows that do not come again.
        """
        number(0, high=1, open_low=True)("q", q)
        return [
            (called(before, null, q), called(after, null_after, q))
            for plan in self.plans
            for (before, after), (null, null_after) in [(plan.strict, plan.null)]
        ]

    def __repr__(self) -> str:
        count = sum(len(pairs) for pairs, _ in self.relations.values())
        lines = [
            f"{self.names[t]} to {self.names[t + 1]}: evidence {evidence:.2f}"
            for t, evidence in enumerate(self.evidence)
        ]
        more = [f"and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
        head = f"Coupling of {len(self.sizes)} slices, {count:,} pairs that pull"
        return "\n  ".join([head, *lines[:SHOWN], *more])

    def to_frame(self) -> Any:
        """Returns a pandas frame with a line for each pair that pulls.

        Its columns are slice, row, other_slice, other_row and strength.
        """
        pandas = optional("pandas", "frames")
        nobody = np.zeros((0, 2), np.int64), np.zeros(0)
        relations = self.relations or {(0, 0): nobody}  # of one slice
        frames = [
            pandas.DataFrame(
                {
                    "slice": np.full(len(pairs), t),
                    "row": pairs[:, 0],
                    "other_slice": np.full(len(pairs), u),
                    "other_row": pairs[:, 1],
                    "strength": weights / companions(*pairs.T),
                }
            )
            for (t, u), (pairs, weights) in relations.items()
        ]
        return pandas.concat(frames, ignore_index=True)


def couple(
    slices: Sequence[Any],
    *,
    key: jax.Array | None = None,
    reach: float = 0.5,
    epsilon: float = 0.05,
    n_mates: int = 5,
    candidates: int = 30,
    window: int = 3,
    drift: bool = True,
    known: Mapping[tuple[int, int], Any] | None = None,
    metric: str = "euclidean",
    slice_labels: Sequence[Hashable] | None = None,
) -> Coupling:
    """Finds which rows could be the same in slices that have no ids, from their data.

    Args:
        slices: For each slice the data `(points, features)`, dense, with the same
            columns in comparable units; with `known`, columns may differ.
        key: Decides from which rows of large slices a common move is found.
        reach: How far a row looks for a mate before it gives its mass up (above 0; in
            units of the squared distance between neighbors of one slice).
        epsilon: How far a row's mass spreads over mates that are alike (at least a
            thousandth of `reach`; in the same units).
        n_mates: Mates of each row that pull at it (at least 1).
        candidates: Nearest rows of the other slice that may be mates (at least 1).
        window: The farthest slices that are related, by products of the couplings
            between (at least 1).
        drift: Whether changes that rows have in common are taken out: a move and a
            change of scale, and directions along which mates differ much.  If not, rows
            are compared as they are.
        known: Rows that are known to be the same, {(t, t + 1): pairs (m, 2)}.  Two
            slices of other columns are compared by how near their rows are to these.
        metric: "euclidean", "cosine" or "correlation".
        slice_labels: The slices' names in messages.

    Returns:
        The coupling, whose `relations` are what `fit` takes.

    Raises:
        InputError: A setting is out of range; rows are sparse or not finite; slices
            have other columns and no known pairs; or known pairs do not fit.

    Source: unbalanced optimal transport (Chizat et al. 2018), in units of each slice's
        own spacing.
    """
    key = check_key(key)
    metric = SYNONYMS.get(metric, metric) if isinstance(metric, str) else metric
    one_of(*DEVICE_METRICS)("metric", metric)
    settings = Settings(reach, epsilon, candidates, drift)
    counts = {"n_mates": n_mates, "candidates": candidates, "window": window}
    for name, value in counts.items():
        number(1, whole=True)(name, value)
    YES_NO("drift", drift)
    number(0, open_low=True)("reach", reach)
    slow = "; with less a plan takes thousands of steps"
    number(reach / SHARPEST, remedy=slow)("epsilon", epsilon)
    read = slices
    if not _are_read(slices):
        labels = check_labels(slice_labels, slices)
        read = read_slices(slices, labels, metric=metric, copy=False)
    sure = _read_known(known or {}, read)
    rng = np.random.default_rng(seeds(key, 1)[0])
    compared = zip(_sides(read, sure, metric, candidates), sure, strict=True)
    plans = tuple(
        couple_sides(before, after, settings, pairs, rng, unit=unit)
        for (before, after, unit), pairs in compared
    )
    coupling = Coupling(
        plans=plans,
        relations=_relations(plans, [slice_.rows for slice_ in read], n_mates, window),
        sizes=tuple(slice_.rows for slice_ in read),
        names=tuple(slice_.name for slice_ in read),
    )
    _warn_of_strangers(coupling)
    return coupling


def coupled(
    relations: Any,
    slices: Sequence[Slice],
    *,
    key: jax.Array,
    window: int,
    metric: Any,
    new: bool = False,
) -> Any:
    """Returns relations as they came, but the pairs of a coupling, or of "transport".

    With `new` those of the last slice alone.  Slices without rows are passed over.
    """
    last, first = len(slices) - 1, max(0, len(slices) - 1 - window) if new else 0
    if isinstance(relations, str):
        one_of("transport", beside="ids, dicts or pairs")("relations", relations)
        held = [t for t in range(first, len(slices)) if slices[t].rows]
        if not held:
            return {}
        rows = [slices[t] for t in held]
        pairs = couple(rows, key=key, window=window, metric=metric).relations
        relations = {(held[s], held[t]): pair for (s, t), pair in pairs.items()}
    elif isinstance(relations, Coupling):
        relations = pulls_of(relations, slices)
    else:
        return relations
    return {k: pair for k, pair in relations.items() if not new or k[1] == last}


def pulls_of(coupling: Coupling, slices: Sequence[Slice]) -> Pulls:
    """Returns the pairs that pull of a coupling of these slices.

    Raises:
        InputError: It is one of others.
    """
    counts, sizes = coupling.sizes, tuple(slice_.rows for slice_ in slices)
    if counts != sizes:
        got = f"is a Coupling of {len(counts)} slices of {brief(counts)} rows"
        expected = f"one of all {len(sizes)} slices, of {brief(sizes)} rows"
        remedy = "For an update couple all slices, the new one last."
        raise InputError("relations", got, expected, remedy)
    return coupling.relations


def _are_read(slices: Any) -> bool:
    """Tells slices that `fit` and `update` have read from those of a user."""
    return isinstance(slices, list) and len(slices) > 0 and isinstance(slices[0], Slice)


def _read_known(known: Any, slices: Sequence[Slice]) -> list[Int[np.ndarray, "_ 2"]]:
    """Returns for each two consecutive slices the rows known to be the same."""
    try:
        read = from_pairs(known, slices)
    except InputError as error:
        raise error.renamed(error.name.replace("relations", "known")) from None
    far = [(t, t + offset) for t, offset in read if offset != 1]
    if far:
        expected = "pairs of consecutive slices, {(t, t + 1): pairs (m, 2)}"
        raise InputError("known", f"has pairs of slices {far[0]}", expected)
    nobody = np.zeros((0, 2), np.int64)
    steps = range(len(slices) - 1)
    return [
        np.column_stack(read[t, 1][:2]) if (t, 1) in read else nobody for t in steps
    ]


def _sides(
    slices: Sequence[Slice],
    sure: Sequence[np.ndarray],
    metric: str,
    candidates: int,
) -> Iterator[tuple[Side, Side, float]]:
    """Yields each two consecutive slices as they are compared, and in which unit."""
    data = [_dense(slice_) for slice_ in slices]
    into, unit = conditioning(next(rows for rows in data if len(rows)), metric)
    before: Side | None = None
    for t, pairs in enumerate(sure):
        if data[t].shape[1] == data[t + 1].shape[1]:
            before = before or side_of(into(data[t], np.float32), candidates)
            after = side_of(into(data[t + 1], np.float32), candidates)
            yield before, after, unit
            before = after
            continue
        if not len(pairs):
            columns = f"{data[t].shape[1]} columns and {slices[t + 1].name} has "
            got = f"has {columns}{data[t + 1].shape[1]}"
            remedy = f"Pass rows that are the same as known={{({t}, {t + 1}): pairs}}."
            raise InputError(slices[t].name, got, "the same columns", remedy)
        views = zip(data[t : t + 2], pairs.T, strict=True)
        first, second = (
            side_of(_affinities(rows, known, metric), candidates)
            for rows, known in views
        )
        yield first, second, 1.0
        before = None


def _dense(slice_: Slice) -> Float[np.ndarray, "points features"]:
    if slice_.dense is None:
        remedy = "Reduce sparse rows first, as by sklearn.decomposition.TruncatedSVD."
        kinds = "without its data, sparse, or as distances, neighbors or a graph"
        got = f"has {slice_.name} {kinds}"
        raise InputError("slices", got, "dense data to couple", remedy)
    return slice_.dense


def _affinities(
    rows: np.ndarray, known: Int[np.ndarray, "known"], metric: str
) -> Float[np.ndarray, "points known"]:
    """Returns how near each row is to known ones: shares that add up to one."""
    into, _ = conditioning(rows, metric)
    scaled = into(rows, np.float32)
    everyone = np.indices((len(rows), len(known)))
    apart = lengths(scaled, scaled[known], *everyone.reshape(2, -1))
    squared = apart.reshape(len(rows), -1) ** 2
    # Of a known row the next one, as of all others.
    second = np.sort(squared, axis=1)[:, :2][:, -1:]
    near = SHARPNESS * squared / np.maximum(second, np.finfo(np.float32).tiny)
    shares = np.exp(near.min(axis=1, keepdims=True) - near)
    return shares / shares.sum(axis=1, keepdims=True)


def _relations(
    plans: Sequence[Plan], sizes: Sequence[int], n_mates: int, window: int
) -> Pulls:
    """Returns the pairs that pull, of consecutive slices and, by products, others."""
    steps = [
        _largest(csr_array((p.mass, (p.rows, p.others)), sizes[t : t + 2]), n_mates)
        for t, p in enumerate(plans)
    ]
    relations: Pulls = {}
    for t, coupled in enumerate(steps):
        for offset in range(1, min(window, len(plans) - t) + 1):
            if offset > 1:
                coupled = _largest(coupled @ steps[t + offset - 1], n_mates)
            ends = coupled.nonzero()
            # A fit shares a row's pull among its mates: these are shares already.
            weights = _strengths(coupled) * companions(*ends)
            relations[t, t + offset] = np.column_stack(ends), weights
    return relations


def _strengths(coupled: csr_array) -> Float[np.ndarray, "pairs"]:
    """Returns how strongly each pair pulls: its mass, less if a row of it has little.

    Strangers find some mass, too, and would lead their slice astray.
    """
    masses = zip((1, 0), coupled.nonzero(), strict=True)
    rows, others = (coupled.sum(axis=axis)[side] for axis, side in masses)
    return coupled.data * np.sqrt(np.minimum(np.minimum(rows, others), 1.0))


def _largest(coupled: Any, count: int) -> Any:
    """Returns the entries that are among the largest of their row or column."""
    coupled = coupled.tocoo()
    heavy = coupled.data > LEAST_PULL
    mass, *sides = (part[heavy] for part in (coupled.data, *coupled.coords))
    kept = np.zeros(len(mass), bool)
    for side in sides:
        order = np.lexsort((-mass, side))
        starts = np.searchsorted(side[order], side[order])
        kept[order] |= np.arange(len(order)) - starts < count
    entries = tuple(side[kept] for side in sides)
    return csr_array((mass[kept], entries), coupled.shape)


def _warn_of_strangers(coupling: Coupling) -> None:
    """Warns of consecutive slices of which the data show no row to come again."""
    alone = [
        f"{coupling.names[t]} and {coupling.names[t + 1]} (evidence {evidence:.2f})"
        for t, (evidence, (rows, _)) in enumerate(
            zip(coupling.evidence, coupling.has_mate(), strict=True)
        )
        if evidence == evidence and not rows.any()
    ]
    if alone:
        more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
        warn(
            f"no row is seen to come again between {'; '.join(alone[:SHOWN])}{more}. "
            "An evidence of .5 is that of rows of one slice among each other; the rows "
            "that are nearest are held together all the same."
        )
