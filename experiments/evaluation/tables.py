"""The evaluation's lines in, its table and its figure out.

A method's average is the mean over sequences of the mean over seeds.  Its interval
holds the middle 95 % of such averages with each sequence's seeds drawn with
replacement: it says how far chance in the fits reaches, not what other sequences would
give.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.results.records import markdown, mean

PRESERVATION, STABILITY = "preservation_5pct", "stability_pearson"
COLUMNS = {
    PRESERVATION: "preservation, 5 %",
    STABILITY: "stability (Pearson)",
    "preservation_15": "preservation, 15",
    "trustworthiness": "trustworthiness",
    "continuity": "continuity",
    "neighborhood_hit": "hit",
    "shepard_spearman": "Shepard (Spearman)",
    "normalized_stress": "stress",
    "stability_spearman": "stability (Spearman)",
    "stability_stress": "stability stress",
    "coherence": "coherence",
    "false_motion": "false motion",
    "missed_motion": "missed motion",
    "displacement": "displacement",
    "displacement_without_drift": "without drift",
    "center_drift": "drift of centers",
    "apart_5": "nearest rows, 5 apart",
}
MAIN = (PRESERVATION, STABILITY)  # with intervals
DRAWS = 2000
MARKERS = "o^sDvP*XpdH<>h8D"


class Row(NamedTuple):
    """One line of the results."""

    method: str
    sequence: str
    metric: str
    seed: int
    value: float


def _sequences(rows: Sequence[Row], metric: str) -> list[str]:
    """Returns the sequences in which some method has a measure."""
    measured = [
        r.sequence for r in rows if r.metric == metric and not np.isnan(r.value)
    ]
    return [*dict.fromkeys(measured)]


def moving(rows: Sequence[Row]) -> list[str]:
    """Returns the sequences in which some method's stability is defined."""
    return _sequences(rows, STABILITY)


def _values(rows: Sequence[Row], method: str, sequence: str, metric: str) -> np.ndarray:
    """Returns a measure's values, one for each seed."""
    key = (method, sequence, metric)
    return np.array([row.value for row in rows if row[:3] == key])


def average(
    rows: Sequence[Row], method: str, sequences: Sequence[str], metric: str
) -> tuple[float, float, float]:
    """Returns the mean over sequences, and the two ends of its interval.

    Sequences in which no method has the measure do not count; NaN where one counts
    that this method lacks.
    """
    counted = _sequences(rows, metric)
    values = [_values(rows, method, s, metric) for s in sequences if s in counted]
    if not values or any(not seeds.size for seeds in values):
        return math.nan, math.nan, math.nan
    rng = np.random.default_rng(0)
    resampled = [
        seeds[rng.integers(seeds.size, size=(DRAWS, seeds.size))].mean(axis=1)
        for seeds in values
    ]
    low, high = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    return float(np.mean([seeds.mean() for seeds in values])), float(low), float(high)


def table(rows: Sequence[Row]) -> str:
    """Returns averages over the moving sequences, and the main measures by sequence.

    Where none moves, the averages are over those that there are.
    """
    methods = dict.fromkeys(row.method for row in rows)
    all_sequences = dict.fromkeys(row.sequence for row in rows)
    sequences = moving(rows) or [*all_sequences]
    names = [name for name in COLUMNS if any(row.metric == name for row in rows)]

    def rank(method: str) -> float:
        total = sum(average(rows, method, sequences, name)[0] for name in MAIN)
        return np.inf if np.isnan(total) else -total

    averages, by_sequence = [], []
    for method in sorted(methods, key=rank):
        averages.append({"method": method})
        for name in names:
            middle, low, high = average(rows, method, sequences, name)
            ends = name in MAIN and high > low
            averages[-1][COLUMNS[name]] = _number(middle) + (
                f" ({_number(low)} to {_number(high)})" if ends else ""
            )
        by_sequence.append({"method": method})
        for sequence in all_sequences:
            values = (mean(_values(rows, method, sequence, name)) for name in MAIN)
            by_sequence[-1][sequence] = " / ".join(map(_number, values))
    return "\n\n".join(
        [
            f"Averages over {', '.join(sequences)}:",
            markdown(averages),
            "Preservation (5 %) / stability (Pearson) in each sequence:",
            markdown(by_sequence),
        ]
    )


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def figure(rows: Sequence[Row]) -> Figure:
    """Draws preservation against stability: the average, and each sequence."""
    sequences, methods = moving(rows), dict.fromkeys(row.method for row in rows)
    columns = max(1, -(-len(sequences) // 2))
    picture = Figure(figsize=(5 + 2.6 * columns, 6.6), layout="constrained")
    picture.suptitle("Neighborhoods kept, and motion that follows the data")
    grid = picture.add_gridspec(2, 2 + columns)
    panels = {"average": picture.add_subplot(grid[:, :2])}
    for i, name in enumerate(sequences):
        place = grid[i // columns, 2 + i % columns]
        panels[name] = picture.add_subplot(place, sharey=panels["average"])
    for title, panel in panels.items():
        shown = sequences if title == "average" else [title]
        for i, method in enumerate(methods):
            x, y = (average(rows, method, shown, name)[0] for name in MAIN)
            _mark(panel, x, y, i, method)
        panel.set_title(title)
        panel.locator_params(axis="x", nbins=4)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels["average"].set_xlabel("neighborhood preservation (5 %)")
    panels["average"].set_ylabel("stability (Pearson)")
    handles, labels = panels["average"].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return picture


def _mark(panel: Axes, x: float, y: float, i: int, method: str) -> None:
    look: dict[str, Any] = {
        "s": 45,
        "color": colormaps["tab20"](i % 20),
        "edgecolor": "none",
        "zorder": 2,
    }
    if method.startswith("aljax"):
        look = {"s": 90, "color": "#cc3311", "edgecolor": "black", "zorder": 3}
    marker = MARKERS[i % len(MARKERS)]
    panel.scatter(x, y, marker=marker, linewidth=0.8, label=method, **look)
