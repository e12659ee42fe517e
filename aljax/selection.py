"""The weight of the alignment, chosen by evidence: on mates that the layout never saw.

A share of the members is hidden, each with all of its links, and the rest laid out
under every weight of a sweep.  How far hidden mates come to lie apart says whether
the alignment carries over to what it was not told; the trustworthiness says what it
costs.  The choice is the knee of that curve:

    the least weight whose hidden mates lie as near as the nearest, to a standard
    error, among those that lose no trustworthiness against the reference; the
    reference itself where the evidence does not tell them apart.
"""

import itertools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components

from aljax.config import is_listed, number
from aljax.errors import InputError
from aljax.fit import Prepared
from aljax.keys import check_key
from aljax.metrics import displacement
from aljax.relations.mates import Relations
from aljax.sweep import Maps, SweepProblem, check_problem, measure_row, sweep

__all__ = ["Selection", "select_alignment"]
WEIGHT = "alignment_regularisation"
WEIGHTS = (0.003, 0.01, 0.03, 0.07, 0.15, 0.3, 0.6, 1.2)


class Selection(NamedTuple):
    """The curve that a weight was chosen on, one row a weight, one column a seed.

    Attributes:
        weights: What was tried, rising.
        hidden: The displacement of hidden mates (radii of the maps).
        trustworthiness: The mean over slices (15 neighbors, 1 is best).
        choice: The weight chosen.
        reference: The weight that it was compared with.
        why: The choice in a sentence.
    """

    weights: Float[np.ndarray, "weights"]
    hidden: Float[np.ndarray, "weights seeds"]
    trustworthiness: Float[np.ndarray, "weights seeds"]
    choice: float
    reference: float
    why: str


def select_alignment(
    problem: SweepProblem,
    *,
    key: jax.Array | None = None,
    weights: Sequence[float] = WEIGHTS,
    n_seeds: int = 5,
    hidden_share: float = 0.2,
    memory: int | None = None,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Selection:
    """Chooses `alignment_regularisation` by how well hidden mates are aligned.

    Args:
        problem: The data and all other settings; its own weight is the reference,
            which the choice is never worse than on the evidence.
        key: Decides the seeds: which members are hidden, and the layouts.
        weights: What to try (above 0); the reference is added.
        n_seeds: Layouts of each weight, each with other members hidden (at least 2).
        hidden_share: The share of the members that are hidden (above 0, below 1).
        memory: See `sweep`.
        chunk: See `sweep`.
        progress: Called after each layout with the number of finished layouts and of
            all.

    Returns:
        The curve, the choice and why.

    Raises:
        InputError: If an argument is out of range, fewer than two members have mates
            in consecutive slices, or no slice can be measured.
    """
    check_problem(problem)
    if problem.visible is not None:
        raise InputError("problem.visible", "is given", "None: mates are hidden here")
    key = check_key(key)
    _check(weights, n_seeds, hidden_share)
    reference = float(problem.alignment.alignment_regularisation)
    tried = np.unique([*map(float, weights), reference])
    settings = [{WEIGHT: weight} for weight in tried.tolist()]
    hidden, trust = np.empty((2, len(tried), n_seeds))
    finished = itertools.count(1)

    def count_layout(*_: Any) -> None:
        if progress is not None:
            progress(next(finished), hidden.size)

    for seed, seed_key in enumerate(jax.random.split(key, n_seeds)):
        full = problem.prepared(seed_key)
        rng = np.random.default_rng(np.asarray(jax.random.key_data(seed_key)))
        away = hide_members(full, hidden_share, rng)
        apart = split(full.relations, away)[1]

        def measure(
            maps: Maps, begun: Prepared, apart: Relations = apart
        ) -> dict[str, float]:
            return measure_row(maps, begun) | {"hidden": displacement(maps, apart)}

        visible = problem._replace(visible=lambda r, away=away: split(r, away)[0])
        options: dict[str, Any] = {"memory": memory, "chunk": chunk}
        options |= {"measure": measure, "progress": count_layout}
        metrics = sweep(visible, settings, keys=seed_key, **options).metrics
        hidden[:, seed] = metrics["hidden"]
        if "trustworthiness" not in metrics:
            raise InputError(
                "problem",
                "has no slice with data and more than 30 rows",
                "some, for the trustworthiness that the choice must not lose",
            )
        trust[:, seed] = metrics["trustworthiness"]
    choice, why = choose(tried, hidden, trust, reference=reference)
    return Selection(tried, hidden, trust, choice, reference, why)


def _check(weights: Sequence[float], n_seeds: int, hidden_share: float) -> None:
    if not is_listed(weights) or not len(weights):
        raise InputError("weights", f"is {weights!r}", "a list of numbers above 0")
    for row, weight in enumerate(weights):
        number(0, open_low=True)(f"weights[{row}]", weight)
    number(2, whole=True)("n_seeds", n_seeds)  # for the spread between them
    if not isinstance(hidden_share, numbers.Real) or not 0 < hidden_share < 1:
        got = f"is {hidden_share!r}"
        raise InputError("hidden_share", got, "a share above 0 and below 1")


def hide_members(
    begun: Prepared, share: float, rng: np.random.Generator
) -> list[Bool[np.ndarray, "_"]]:
    """Returns for each slice which of its rows belong to members that are hidden.

    A member is all rows that mates join, directly or through others; those with mates
    in consecutive slices can be hidden, since it is these whose distance is measured.
    """
    sizes = np.asarray(begun.problem.n_points)
    labels = members(begun.relations, sizes)
    joined = [
        labels[t][mates.rows]
        for (t, offset), mates in begun.relations.items()
        if offset == 1
    ]
    related = np.unique(np.concatenate([np.zeros(0, dtype=int), *joined]))
    if len(related) < 2:
        raise InputError(
            "relations",
            f"join {len(related)} members of consecutive slices",
            "at least 2, some of which can be hidden",
            "Give pairs between slices t and t + 1, too.",
        )
    count = int(np.clip(round(share * len(related)), 1, len(related) - 1))
    away = rng.choice(related, count, replace=False)
    return [np.isin(of_slice, away) for of_slice in labels]


def members(
    relations: Relations, sizes: Int[np.ndarray, "slices"]
) -> list[Int[np.ndarray, "_"]]:
    """Returns for each slice its rows' members, numbered across the sequence."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    links = [
        (first[t] + mates.rows, first[t + offset] + mates.others)
        for (t, offset), mates in relations.items()
    ]
    ends = np.concatenate([np.zeros((2, 0), int), *links], axis=1)
    entries = np.ones(ends.shape[1]), tuple(ends)
    graph = scipy.sparse.coo_matrix(entries, shape=(first[-1], first[-1]))
    _, labels = connected_components(graph, directed=False)
    return np.split(labels, first[1:-1])


def split(
    relations: Relations, away: Sequence[Bool[np.ndarray, "_"]]
) -> tuple[Relations, Relations]:
    """Returns the mates that stay visible, and those of hidden members."""
    visible: Relations = {}
    hidden: Relations = {}
    for (t, offset), mates in relations.items():
        is_hidden = away[t][mates.rows] | away[t + offset][mates.others]
        visible[t, offset] = mates.where(~is_hidden)
        hidden[t, offset] = mates.where(is_hidden)
    return visible, hidden


def choose(
    weights: Float[np.ndarray, "weights"],
    hidden: Float[np.ndarray, "weights seeds"],
    trust: Float[np.ndarray, "weights seeds"],
    *,
    reference: float,
) -> tuple[float, str]:
    """Returns the knee of the curve, and why it is that.

    Args:
        weights: Rising, the reference among them.
        hidden: Displacement of hidden mates.
        trust: Trustworthiness.
        reference: Whose trustworthiness must not be lost beyond its seeds' spread (a
            loss counts with its standard error), and whose hidden mates must not come
            to lie farther apart.
    """
    place = int(np.flatnonzero(weights == reference)[0])
    spread = trust[place].std(ddof=1)
    loss = trust[place] - trust
    # With its error: a loss just within the spread is beyond it for other seeds.
    kept = loss.mean(axis=1) + _standard_error(loss) <= spread
    far = hidden.mean(axis=1)
    best = int(np.argmin(np.where(kept, far, np.inf)))
    near = kept & (far <= far[best] + _standard_error(hidden - hidden[best]))
    near &= far <= far[place]
    knee = int(np.flatnonzero(near)[0])
    if near[place] and trust[knee].mean() <= trust[place].mean() + spread:
        knee = place  # no better by the evidence: another draw might say the opposite
    lost = weights[~kept & (weights > weights[best])]
    why = (
        f"{weights[knee]:g}: hidden mates lie {far[knee]:.4f} radii apart, against "
        f"{far[place]:.4f} at {reference:g}; trustworthiness {trust[knee].mean():.4f} "
        f"against {trust[place].mean():.4f} there (spread over seeds {spread:.4f})"
    )
    if knee != best:
        why += f"; at {weights[best]:g} they lie nearer by less than a standard error"
    if knee == place:
        why = (
            f"stays at {reference:g}: by the evidence no weight that keeps the "
            f"trustworthiness of {trust[place].mean():.4f} (spread over seeds "
            f"{spread:.4f}) brings hidden mates nearer than {far[place]:.4f} radii"
        )
    why += f"; trustworthiness is lost from {lost[0]:g} on." if lost.size else "."
    return float(weights[knee]), why


def _standard_error(
    values: Float[np.ndarray, "weights seeds"],
) -> Float[np.ndarray, "weights"]:
    return values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def __dir__() -> list[str]:
    return [*__all__]
