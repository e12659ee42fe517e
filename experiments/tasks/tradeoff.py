"""Pictures of a sweep: what each setting costs and gains, and its maps side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.spatial.distance import cdist

from aljax.plot.colors import COLORMAP, PALETTE, color_by
from aljax.plot.style import bounds, explain, name_places, plain, plane, scatter, spread
from aljax.selection import WEIGHT

MARKERS = ("D", "s", "^", "v", "P")
POINT = 25  # square points of area
NEAR = 0.01  # of the extent, within which points coincide
WIDE = 5  # times the least displacement, from which on a logarithm has two marks
NAMED = 12  # points that have names
PANEL = 1.4  # inches
MULTIPLES = 8  # settings whose maps are drawn
COLUMNS = 6  # slices that are drawn


def pareto(
    rows: Sequence[Mapping[str, Any]],
    rivals: Mapping[str, Mapping[str, Any]],
    *,
    heading: str,
    settings: Sequence[Mapping[str, Any]] = (),
) -> Figure:
    """Draws trustworthiness against displacement, a point a row; up and left is better.

    Points that coincide are rings around each other.

    Args:
        rows: Settings and measures; colored by the weight of the alignment, if it
            is one of theirs.
        rivals: Measures of other methods.
        heading: The title.
        settings: Of each row, which name its point where there are few.
    """
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axis = figure.subplots()
    places = np.array([[row["displacement"], row["trustworthiness"]] for row in rows])
    others = [[row["displacement"], row["trustworthiness"]] for row in rivals.values()]
    shown = np.vstack([places, *others])
    least, most = shown[:, 0].min(), shown[:, 0].max()
    if 0 < least < most / WIDE:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    sizes = POINT * (1 + 2 * _rings(places)) ** 2
    order = np.argsort(-sizes, kind="stable")  # the largest below
    style: dict[str, Any] = {"s": sizes[order], "edgecolors": "white"}
    weights = _weights(rows)
    if (weights > 0).all() and np.ptp(weights):
        style |= {"norm": LogNorm(weights.min(), weights.max()), "cmap": COLORMAP}
        points = axis.scatter(*places[order].T, c=weights[order], **style)
        figure.colorbar(points, ax=axis, label=WEIGHT)
    else:
        axis.scatter(*places[order].T, color=PALETTE[0], **style)
    for marker, color, place, name in zip(
        MARKERS, PALETTE[1:], others, rivals, strict=False
    ):
        axis.scatter(*place, marker=marker, color=color, s=60, label=name)
    axis.set(
        xlabel="displacement of mates, in radii of the maps (less is better)",
        ylabel="trustworthiness, 15 neighbors (1 is best)",
        title=f"{heading}: one point a setting",
    )
    axis.grid(alpha=0.3, which="both")
    axis.spines[["top", "right"]].set_visible(False)
    if rivals:
        axis.legend(frameon=False)
    axis.margins(0.1)
    if len(settings) <= NAMED:
        names = [", ".join(words(row)) for row in settings]
        name_places(axis, names, places[: len(names)], fontsize="x-small")
    return figure


def _rings(places: Float[np.ndarray, "rows 2"]) -> Int[np.ndarray, "rows"]:
    """Returns how many earlier points each covers, to a hundredth of the extent."""
    extent = np.maximum(np.ptp(places, axis=0), 1e-12)
    near = cdist(places / extent, places / extent) < NEAR
    return np.tril(near, -1).sum(axis=1)


def _weights(rows: Sequence[Mapping[str, Any]]) -> Float[np.ndarray, "rows"]:
    """Returns the weights of the alignment; NaN if a row has none or has a word."""
    try:
        return np.array([row.get(WEIGHT, np.nan) for row in rows], dtype=float)
    except ValueError:
        return np.full(len(rows), np.nan)


def words(row: Mapping[str, Any]) -> list[str]:
    """Returns each setting of a row in a few letters."""
    return [
        f"{'weight' if name == WEIGHT else name} "
        + (f"{value:.3g}" if isinstance(value, float) else str(value))
        for name, value in row.items()
    ]


def multiples(
    rows: Sequence[Mapping[str, Any]],
    maps: Sequence[Sequence[np.ndarray]],
    *,
    heading: str,
    titles: Sequence[str],
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
        name = {"fontsize": "x-small", "rotation": 0, "ha": "right"}
        line[0].set_ylabel("\n".join(words(rows[row])), **name)
    for panel, t in zip(panels[0], columns, strict=True):
        panel.set_title(plain(titles[t]) or f"slice {t}", fontsize="small")
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
