"""Pictures of a sweep: what each setting costs and gains, and its maps side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from aljax.plot.style import (
    PALETTE,
    bounds,
    color_by,
    explain,
    plane,
    scatter,
    spread,
)
from aljax.selection import WEIGHT

MARKERS = ("D", "s", "^", "v", "P")
PANEL = 1.4  # inches
MULTIPLES = 8  # settings whose maps are drawn
COLUMNS = 6  # slices that are drawn


def pareto(
    rows: Sequence[Mapping[str, Any]],
    rivals: Mapping[str, Mapping[str, Any]],
    *,
    heading: str,
) -> Figure:
    """Draws trustworthiness against displacement, a point a row; up and left is better.

    Args:
        rows: Settings and measures; colored by the weight of the alignment, if it
            is one of theirs.
        rivals: Measures of other methods.
        heading: The title.
    """
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axis = figure.subplots()
    moved = [row["displacement"] for row in rows]
    trust = [row["trustworthiness"] for row in rows]
    weights = np.array([row.get(WEIGHT, np.nan) for row in rows], dtype=float)
    if np.isfinite(weights).all() and (weights > 0).all() and np.ptp(weights):
        scale = LogNorm(weights.min(), weights.max())
        points = axis.scatter(moved, trust, c=weights, norm=scale, cmap="viridis")
        figure.colorbar(points, ax=axis, label=WEIGHT)
    else:
        axis.scatter(moved, trust, color=PALETTE[0])
    for marker, color, (name, found) in zip(
        MARKERS, PALETTE[1:], rivals.items(), strict=False
    ):
        place = (found["displacement"], found["trustworthiness"])
        axis.scatter(*place, marker=marker, color=color, s=60, label=name)
    axis.set(
        xlabel="displacement of mates, in radii of the maps (less is better)",
        ylabel="trustworthiness, 15 neighbors (1 is best)",
        xscale="log",
    )
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_title(f"{heading}: one point a setting")
    axis.grid(alpha=0.3, which="both")
    axis.spines[["top", "right"]].set_visible(False)
    if rivals:
        axis.legend(frameon=False)
    return figure


def multiples(
    rows: Sequence[Mapping[str, Any]],
    maps: Sequence[Sequence[np.ndarray]],
    *,
    heading: str,
    labels: Sequence[np.ndarray] | None = None,
    values: Sequence[np.ndarray] | None = None,
) -> Figure:
    """Draws small maps: a line of panels for each setting, a column for each slice."""
    lines = spread(len(rows), MULTIPLES)
    columns = spread(len(maps[0]), COLUMNS)
    coloring = color_by(labels, values, [*map(len, maps[0])])
    size = PANEL * len(columns) + 1.8, PANEL * len(lines) + 0.9
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(f"{heading}: lines are settings, columns slices")
    panels = figure.subplots(len(lines), len(columns), squeeze=False)
    for line, row in zip(panels, lines, strict=True):
        planes = [plane(maps[row][t]) for t in columns]
        draw_line(line, planes, [coloring.points[t] for t in columns])
        words = [
            f"{'weight' if name == WEIGHT else name} "
            + (f"{value:.3g}" if isinstance(value, float) else str(value))
            for name, value in rows[row].items()
        ]
        name = {"fontsize": "x-small", "rotation": 0, "ha": "right"}
        line[0].set_ylabel("\n".join(words), **name)
    for panel, t in zip(panels[0], columns, strict=True):
        panel.set_title(f"slice {t}", fontsize="small")
    explain(figure, [*figure.axes], coloring)
    return figure


def draw_line(
    panels: Sequence[Axes], maps: Sequence[np.ndarray], colors: Sequence[np.ndarray]
) -> None:
    """Draws maps with the same bounds, one in each panel."""
    limits = bounds(np.concatenate(maps))
    for panel, positions, hues in zip(panels, maps, colors, strict=True):
        panel.set(xticks=[], yticks=[], **limits)
        scatter(panel, positions, hues)
