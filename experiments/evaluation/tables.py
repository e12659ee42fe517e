"""The evaluation's lines in, its table and its figure out.

A method's average is the mean over sequences of the mean over seeds.  Its interval
holds the middle 95 % of such averages with each sequence's seeds drawn with
replacement: it says how far chance in the fits reaches, not what other sequences would
give.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

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


class Line(Protocol):
    """A line of the results."""

    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def sequence(self) -> str: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def value(self) -> float: ...  # noqa: D102


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def moving(rows: Sequence[Line]) -> list[str]:
    """Returns the sequences in which some method's stability is defined."""
    return _unique(
        r.sequence for r in rows if r.metric == STABILITY and not np.isnan(r.value)
    )


def of(rows: Sequence[Line], method: str, sequence: str, metric: str) -> np.ndarray:
    """Returns a measure's values, one for each seed."""
    return np.array(
        [
            r.value
            for r in rows
            if (r.method, r.sequence, r.metric) == (method, sequence, metric)
        ]
    )


def average(
    rows: Sequence[Line], method: str, sequences: Sequence[str], metric: str
) -> tuple[float, float, float]:
    """Returns the mean over sequences, and the two ends of its interval.

    Sequences in which no method has the measure do not count; NaN where one counts
    that this method lacks.
    """
    counted = {r.sequence for r in rows if r.metric == metric and r.value == r.value}
    values = [of(rows, method, s, metric) for s in sequences if s in counted]
    if not values or any(not one.size for one in values):
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(0)
    drawn = [
        one[rng.integers(one.size, size=(DRAWS, one.size))].mean(axis=1)
        for one in values
    ]
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return float(np.mean([one.mean() for one in values])), float(low), float(high)


def table(rows: Sequence[Line]) -> str:
    """Returns averages over the moving sequences, and the main measures by sequence."""
    sequences, methods = moving(rows), _unique(r.method for r in rows)
    ranked = sorted(methods, key=lambda m: -_sum_of_main(rows, m, sequences))
    names = [n for n in COLUMNS if any(r.metric == n for r in rows)]
    every = _unique(r.sequence for r in rows)
    averages, alone = [], []
    for method in ranked:
        cells = []
        for name in names:
            middle, low, high = average(rows, method, sequences, name)
            cells.append(_number(middle))
            if name in MAIN and high > low:
                cells[-1] += f" ({_number(low)} to {_number(high)})"
        averages.append([method, *cells])
        pairs = [
            " / ".join(_number(mean(of(rows, method, s, n).tolist())) for n in MAIN)
            for s in every
        ]
        alone.append([method, *pairs])
    return "\n\n".join(
        [
            f"Averages over {', '.join(sequences)}:",
            markdown(["method", *(COLUMNS[n] for n in names)], averages),
            "Preservation (5 %) / stability (Pearson) in each sequence:",
            markdown(["method", *every], alone),
        ]
    )


def _sum_of_main(rows: Sequence[Line], method: str, sequences: Sequence[str]) -> float:
    both = sum(average(rows, method, sequences, name)[0] for name in MAIN)
    return -np.inf if np.isnan(both) else both


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def figure(rows: Sequence[Line]) -> Figure:
    """Draws preservation against stability: the average, and each sequence."""
    sequences, methods = moving(rows), _unique(r.method for r in rows)
    columns = max(1, -(-len(sequences) // 2))
    picture = Figure(figsize=(5 + 2.6 * columns, 6.6), layout="constrained")
    picture.suptitle("Neighborhoods kept, and motion that follows the data")
    grid = picture.add_gridspec(2, 2 + columns)
    panels = [picture.add_subplot(grid[:, :2])]
    panels += [
        picture.add_subplot(grid[i // columns, 2 + i % columns], sharey=panels[0])
        for i in range(len(sequences))
    ]
    for panel, shown in zip(
        panels, [sequences, *([s] for s in sequences)], strict=True
    ):
        for i, method in enumerate(methods):
            x, y = (average(rows, method, shown, name)[0] for name in MAIN)
            _mark(panel, x, y, i, method)
        panel.set_title("average" if panel is panels[0] else shown[0])
        panel.locator_params(axis="x", nbins=4)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(xlabel="neighborhood preservation (5 %)")
    panels[0].set(ylabel="stability (Pearson)")
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return picture


def _mark(panel: Axes, x: float, y: float, i: int, method: str) -> None:
    own = method.startswith("aljax")
    panel.scatter(
        x,
        y,
        s=90 if own else 45,
        marker=MARKERS[i % len(MARKERS)],
        color="#cc3311" if own else colormaps["tab20"](i % 20),
        edgecolor="black" if own else "none",
        linewidth=0.8,
        label=method,
        zorder=3 if own else 2,
    )
