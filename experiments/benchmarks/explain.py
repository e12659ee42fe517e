"""Explains moves whose columns are known: planted shifts, refits and derivatives.

    python -m experiments.benchmarks.explain [planted refits derivatives ...]

600 digits with 64 columns of noise, twice, with other noise; in the second slice five
columns of one class are shifted, and with `decoys` five other columns of all rows.
`planted` asks, over 50 draws, how many of the five columns are the five first by each
method, for the class and for its members, and how much of a move nothing explains.
`refits` compares with layouts of the second slice with one column shuffled (3 draws),
`derivatives` with the free point solved again and with derivatives of a whole layout.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.stats import spearmanr

import aljax
from aljax.contributions import Contributions
from aljax.contributions.paths import Paths, follow_paths
from aljax.layout import (
    Implicit,
    graph_of,
    hypergradient,
    reweigh,
    solve_layout,
    stack_maps,
)
from aljax.layout.problem import unstack_maps
from experiments.benchmarks.parts import Row, over_seeds, run_parts
from experiments.benchmarks.peers import load_peer
from experiments.clocks import clocked
from experiments.data import sources

DRAWS, FEW = 50, 3
ROWS, NOISE, SHIFTED = 600, 64, 5
SHIFT, SPREAD, JITTER = 8.0, 2.0, 1.0  # pixels are 0 to 16
STEP = 1e-2  # of central differences
SMALL, MEMBERS = 120, 8  # of a layout whose derivative is solved for
length = partial(np.linalg.norm, axis=-1)


class Planted(NamedTuple):
    """Two slices, the class that was shifted, and in which columns."""

    slices: list[np.ndarray]
    members: np.ndarray
    columns: np.ndarray


def plant(seed: int, *, decoys: bool = False, rows: int = ROWS) -> Planted:
    """Draws digits, noise, a class and its columns."""
    rng = np.random.default_rng(seed)
    images, classes = sources.digits()[:2]
    chosen = rng.permutation(len(images))[:rows]
    images, classes = np.asarray(images)[chosen], np.asarray(classes)[chosen]
    members = np.flatnonzero(classes == rng.integers(10))
    live = np.flatnonzero(images.std(axis=0) > 1)
    columns, others = np.split(rng.choice(live, 2 * SHIFTED, replace=False), 2)
    slices = []
    for _ in range(2):
        jittered = images + JITTER * rng.normal(size=images.shape)
        slices.append(np.hstack([jittered, SPREAD * rng.normal(size=(rows, NOISE))]))
    bright = images[members][:, columns].mean(axis=0) > 8
    slices[1][np.ix_(members, columns)] += np.where(bright, -SHIFT, SHIFT)
    if decoys:
        slices[1][:, others] += SHIFT
    return Planted(slices, members, columns)


def fitted(planted: Planted, seed: int, start: Any = None) -> aljax.AlignedEmbedding:
    """Lays both slices out."""
    same = {row: row for row in range(len(planted.slices[0]))}
    key = jax.random.key(seed)
    return aljax.fit(planted.slices, [same], key=key, scale="none", start=start)


def explained(planted: Planted, maps: aljax.AlignedEmbedding) -> Contributions:
    """Returns our contributions."""
    return aljax.explain(maps, planted.members.tolist(), between=(0, 1))


def by_correlation(planted: Planted, maps: aljax.AlignedEmbedding) -> np.ndarray:
    """Scores columns by how their changes correlate with the moves of all rows."""
    changes, moves = (b - a for a, b in (planted.slices, maps.maps))
    columns = changes.shape[1]
    correlations = np.corrcoef(changes.T, moves.T)[:columns, columns:]
    return length(correlations)


def by_change(planted: Planted, _: Any) -> np.ndarray:
    """Scores columns by how far the class went in them, whatever the map."""
    before, after = (rows[planted.members] for rows in planted.slices)
    return np.abs((after - before).mean(axis=0))


def by_glass_box(planted: Planted, _: Any) -> np.ndarray:
    """Scores columns by Glass Box UMAP's contributions in both slices, subtracted."""
    peer: Any = load_peer("glass_box_umap", "glass-box-umap")
    model = peer.GlassBoxUMAP(random_state=0)
    model.fit(np.concatenate(planted.slices).astype(np.float32))
    parts = [
        model.compute_contributions(rows[planted.members].astype(np.float32))
        for rows in planted.slices
    ]
    return np.linalg.norm((parts[1] - parts[0]).mean(axis=0), axis=0)


def by_refits(planted: Planted, maps: aljax.AlignedEmbedding) -> np.ndarray:
    """Scores columns by how far the class moves in a layout where one is shuffled."""
    rng, scores = np.random.default_rng(0), []
    for column in range(planted.slices[1].shape[1]):
        shuffled = planted.slices[1].copy()
        rng.shuffle(shuffled[:, column])
        changed = planted._replace(slices=[planted.slices[0], shuffled])
        refitted = fitted(changed, 0, start=maps.maps).maps
        moved = (refitted[1] - refitted[0]) - (maps.maps[1] - maps.maps[0])
        scores.append(np.linalg.norm(moved[planted.members].mean(axis=0)))
    return np.array(scores)


def precision(scores: np.ndarray, columns: np.ndarray) -> float:
    """Returns the share of the shifted columns that score highest."""
    return float(np.isin(np.argsort(-scores)[: len(columns)], columns).mean())


def shares(explanations: Sequence[Contributions]) -> Row:
    """Returns medians of shares of members' moves that are no derivatives."""

    def lengths(name: str) -> np.ndarray:
        return np.concatenate([length(getattr(each, name)) for each in explanations])

    names = "unexplained", "leaps", "lists"
    return {
        f"{name}/move": np.median(lengths(name) / lengths("moves")) for name in names
    }


def _compare(
    methods: dict[str, Callable[..., np.ndarray]], draws: int, *, decoys: bool = False
) -> list[Row]:
    explanations = []

    def score(seed: int) -> dict[str, Row]:
        drawn = plant(seed, decoys=decoys)
        maps = fitted(drawn, seed)
        if not seed:
            explained(drawn, maps)  # compiles
        explanation, seconds = clocked(partial(explained, drawn, maps))
        explanations.append(explanation)
        mean = length(explanation.mean().values[0])
        rows = {
            "aljax.explain": {
                "precision@5": precision(mean, drawn.columns),
                "s": seconds,
                "of single members": np.mean(
                    [precision(s, drawn.columns) for s in length(explanation.values)]
                ),
            }
        }
        for name, method in methods.items():
            scores, seconds = clocked(partial(method, drawn, maps))
            found = precision(scores, drawn.columns)
            rows[name] = {"precision@5": found, "s": seconds}
        return rows

    table = over_seeds("method", score, range(draws))
    table[0] |= shares(explanations)
    return [{"decoys": decoys} | row for row in table]


def planted() -> list[Row]:
    """Compares methods that need no further layout."""
    methods = {"correlation": by_correlation, "change of the column": by_change}
    return [
        row
        for decoys in (False, True)
        for row in _compare(methods, DRAWS, decoys=decoys)
    ]


def refits() -> list[Row]:
    """Compares with layouts of shuffled columns."""
    return _compare({"refits": by_refits}, FEW)


def glass_box() -> list[Row]:
    """Compares with Glass Box UMAP."""
    return _compare({"Glass Box UMAP": by_glass_box}, FEW)


def derivatives() -> list[Row]:
    """Correlates derivatives by columns with what layouts do, by rank."""
    return [_resolved(), _whole()]


def _row(name: str, predicted: Iterable[Any], moved: Iterable[Any]) -> Row:
    """Returns how well the derivatives of each member rank what was found."""
    ranked: list[Any] = [*map(spearmanr, predicted, moved)]
    correlations = [member.statistic for member in ranked]
    return {
        "against": name,
        "rank correlation, median": float(np.median(correlations)),
        "least": float(np.min(correlations)),
        "members": len(correlations),
    }


def _resolved() -> Row:
    """Compares with central differences of the free point solved again, by column."""
    planted = plant(0)
    maps = fitted(planted, 0)
    predicted, moved = [], []
    rows = np.random.default_rng(0).choice(ROWS, 64, replace=False)
    last = planted.slices[1][rows]
    for column in range(last.shape[1]):
        step = np.zeros_like(last)
        step[:, column] = STEP
        ways = [
            follow_paths(maps, 1, Paths(last + s, last, rows)) for s in (step, -step)
        ]
        moved.append(ways[1].starts - ways[0].starts)
        predicted.append((ways[0].columns - ways[1].columns)[:, column])
    by_member = (
        np.stack(changes).T.reshape(-1, len(predicted))
        for changes in (predicted, moved)
    )
    return _row("the free point solved again", *by_member)


def _whole() -> Row:
    """Compares with derivatives of a whole layout at its minimum, all points free."""
    with jax.enable_x64(True):
        planted = plant(0, rows=SMALL)
        same = [{row: row for row in range(SMALL)}]
        prepared = aljax.prepare(planted.slices, same, key=jax.random.key(0))
        problem, params = prepared.problem, prepared.params
        start = stack_maps(fitted(planted, 0).maps, problem)
        way, start = Implicit(tolerance=1e-6, rtol=1e-6).at(problem, params, start)
        way = replace(way, settle=0)
        start = solve_layout(problem, params, start, adjoint=way).maps
        positions = [np.asarray(y) for y in unstack_maps(start, problem)]
        maps = replace(fitted(planted, 0), maps=positions)
        lists = [graph.neighbors for graph in prepared.graphs]
        data = [jax.numpy.asarray(rows) for rows in planted.slices]
        rows = np.random.default_rng(1).choice(SMALL, MEMBERS, replace=False)
        places = np.argsort(np.asarray(problem.order)[1, :SMALL])[rows]
        directions = np.random.default_rng(2).normal(size=(MEMBERS, 2))

        def gradient(row: int, place: int, direction: np.ndarray) -> jax.Array:
            def through(problem: Any, params: Any, x: jax.Array) -> Any:
                slices = [data[0], data[1].at[row].set(x)]
                return reweigh(problem, [*map(graph_of, slices, lists)]), params

            return hypergradient(
                lambda y: y[1, :, place] @ direction,
                problem,
                params,
                start=start,
                of=data[1][row],
                through=through,
                adjoint=way,
            ).gradient

        gradients = [*map(gradient, rows, places, directions)]
        last = planted.slices[1][rows]
        predicted = np.empty(last.shape)
        for column in range(last.shape[1]):
            first = last.copy()
            first[:, column] -= STEP
            moved = follow_paths(maps, 1, Paths(first, last, rows)).columns
            predicted[:, column] = np.einsum("mc,mc->m", moved[:, column], directions)
    return _row(f"the derivative of a layout of {SMALL} rows", predicted, gradients)


def seconds() -> list[Row]:
    """Explains 1,000 of 5,000 images of clothes, whose pixels were made noisy."""
    images = sources.fashion_whole(folder=None).slices[0][:5000].astype(np.float32)
    noise = np.random.default_rng(0).normal(size=images.shape, scale=20)
    slices = [images, images + noise.astype(np.float32)]
    drawn = Planted(slices, members=np.arange(1000), columns=np.arange(0))
    maps = fitted(drawn, 0)
    rows = []
    for name in ("first", "again"):
        explanation, spent = clocked(partial(explained, drawn, maps))
        rows.append({"call": name, "s": spent, **shares([explanation])})
    return rows


if __name__ == "__main__":
    parts = planted, refits, glass_box, derivatives, seconds
    sys.exit(run_parts("explain", *parts))
