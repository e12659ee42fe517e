"""Tells members that moved from those that stood still, where it is known who did.

    python -m experiments.benchmarks.moved [digits walk gapminder ...]

In each sequence some members stand exactly still.  The rows say how well the statistic
of `aljax.metrics.moved` tells the others apart (AUROC), which share of the called did
not move (FDR, asked for: .1), and which share of the moves is called (power).  Means
over seeds 0, 1 and 2 of the sequence, the layout and the replicas.  In `noise` normal
noise is added to all rows.  In `baseball` nobody is known to move: the seasons of
each player are shuffled, and "called" is the share of all members, or steps.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from sklearn.metrics import roc_auc_score

import aljax
from aljax.metrics import Moves, moved
from experiments.benchmarks.parts import Row, over_seeds, run_parts
from experiments.data import sequences, sources
from experiments.data.baseball import baseball as seasons
from experiments.data.fashion import fashion_mnist

SHARE = 1 / 3  # of the members that move, or of those that do not
SETTINGS: dict[str, dict[str, float]] = {
    "default": {},
    "motion_fidelity": {"alignment_regularisation": 3.0, "motion_fidelity": 1.0},
}
NOISE = {"digits": 0.5, "walk": 0.05}
Slices = Sequence[np.ndarray]
Planted = Callable[[int], Slices]


def drifting(rows: np.ndarray, classes: np.ndarray, seed: int) -> Slices:
    """Returns 6 slices of rows of which a third turn into a row of another class.

    Each sets off in the first half of the sequence and takes from a fifth to a half
    of it.
    """
    rng = np.random.default_rng(seed)
    others = [rng.choice(np.flatnonzero(classes != label)) for label in classes]
    moves = rng.random(len(rows)) < SHARE
    start, length = rng.uniform(0, 0.5, len(rows)), rng.uniform(0.2, 0.5, len(rows))
    times = np.linspace(0, 1, 6)[:, None]
    progress = moves * np.clip((times - start) / length, 0, 1)
    return [*(rows + progress[:, :, None] * (rows[others] - rows))]


def frozen(slices: Slices, seed: int) -> Slices:
    """Returns slices in which a third of the rows stay as in the first."""
    still = np.random.default_rng(seed).random((len(slices[0]), 1)) < SHARE
    return [np.where(still, slices[0], rows) for rows in slices]


def digits(seed: int) -> Slices:
    """Returns 600 digits of which a third turn into others, in 6 slices."""
    pixels, classes = sources.digits()
    chosen = np.random.default_rng(seed).permutation(len(pixels))[:600]
    return drifting(pixels[chosen], classes[chosen], seed)


def fashion(seed: int) -> Slices:
    """Returns 600 images of clothes of which a third turn into others, in 6 slices."""
    pixels, classes = fashion_mnist()
    chosen = np.random.default_rng(seed).choice(len(pixels), 600, replace=False)
    return drifting(pixels[chosen] / 255.0, classes[chosen], seed)


def walk(seed: int) -> Slices:
    """Returns 300 walkers who cross to another group, in 10 slices; a third stand."""
    walkers = sequences.walk(slices=10, points=300, seed=seed).slices
    return frozen([rows.astype(float) for rows in walkers], seed)


def gapminder(seed: int) -> Slices:
    """Returns countries of which a third stay as in 1952."""
    return frozen(sequences.gapminder().slices, seed)


def call(slices: Slices, ids: Any, seed: int, settings: Any, noise: Any) -> Moves:
    """Returns the members and steps that are called in maps of the slices."""
    key = jax.random.key(seed)
    alignment = aljax.AlignmentConfig(**settings)
    maps = aljax.fit(slices, ids, key=key, alignment=alignment, scale="none")
    return moved(maps, key=key, noise=noise)


def judge(statistic: np.ndarray, called: np.ndarray, true: np.ndarray) -> Row:
    """Returns how well a statistic tells moves, and which calls are right."""
    return {
        "AUROC": roc_auc_score(true, statistic),
        "FDR": (called & ~true).sum() / max(called.sum(), 1),
        "power": (called & true).sum() / true.sum(),
    }


def read(planted: Planted, added: float = 0.0, noise: Any = None) -> list[Row]:
    """Returns the rows of one planted sequence, for both settings."""

    def judged(settings: Any, seed: int) -> dict[str, Row]:
        slices = np.stack(planted(seed)).astype(float)
        true = (np.diff(slices, axis=0) != 0).any(axis=2)
        normal = np.random.default_rng([seed, 1]).normal(size=slices.shape)
        ids = [[*range(slices.shape[1])]] * len(slices)
        moves = call([*(slices + added * normal)], ids, seed, settings, noise)
        members = judge(*moves.members, true.any(axis=0))
        return {"members": members, "steps": judge(*moves.steps, true.ravel())}

    return [
        {"settings": name} | line
        for name, settings in SETTINGS.items()
        for line in over_seeds("of", partial(judged, settings))
    ]


def noise() -> list[Row]:
    """Reads digits and walkers with noise on all rows: told, and estimated."""
    return [
        {"sequence": name, "noise": "told" if is_known else "estimate"} | line
        for name, planted in (("digits", digits), ("walk", walk))
        for is_known in (True, False)
        for line in read(planted, NOISE[name], NOISE[name] if is_known else "estimate")
    ]


def baseball() -> list[Row]:
    """Reads batters since 2001 whose seasons are shuffled, each player's by itself."""
    data = seasons(since=2001)
    rows, ids = np.concatenate(data.slices), np.concatenate(data.ids)
    cuts = np.cumsum([*map(len, data.slices)])[:-1]
    of_players = [[*names] for names in data.ids]

    def called(seed: int) -> dict[str, Row]:
        rng = np.random.default_rng(seed)
        order = np.lexsort((rng.random(len(ids)), ids))
        shuffled = np.empty_like(rows)
        shuffled[np.argsort(ids, kind="stable")] = rows[order]
        slices, lines = np.split(shuffled, cuts), {}
        for name, settings in SETTINGS.items():
            moves = call(slices, of_players, seed, settings, "estimate")
            shares = [
                calls.called[np.isfinite(calls.statistic)].mean()
                for calls in (moves.members, moves.steps)
            ]
            lines[name] = {"members called": shares[0], "steps called": shares[1]}
        return lines

    return over_seeds("settings", called)


if __name__ == "__main__":
    parts = {f.__name__: partial(read, f) for f in (digits, walk, gapminder, fashion)}
    sys.exit(run_parts("moved", noise, baseball, **parts))
