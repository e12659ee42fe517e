"""What the figures share: bounds, points, names, legends, and how they are written.

Figures are made without pyplot, so no window system is asked and none stays open.
"""

import os
from typing import Any

import numpy as np
from matplotlib import colors, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from aljax.checks import number, read_path
from aljax.plot.color import COLORMAP, PALETTE, Coloring

LEGEND_LIMIT = 40  # classes, beyond which a legend outgrows the picture
NAME_LENGTH = 14  # letters of a class's name in a map
MARGIN = 0.06  # of the maps' extent, on each side
GAP = 3  # pixels between names, and from a name to the frame
NAME = "class name"


def plane(one: np.ndarray) -> np.ndarray:
    """Two coordinates of each point; a map of one component is drawn over its rows."""
    if one.shape[1] > 1:
        return one[:, :2]
    height = np.ptp(one) * np.linspace(-0.5, 0.5, len(one))
    return np.column_stack([one[:, 0], height])


def bounds(points: np.ndarray) -> dict[str, tuple[float, float]]:
    """Square bounds that hold all points, so that distances compare."""
    low, high = points.min(axis=0), points.max(axis=0)
    reach = max((high - low).max(), 1e-6) * (0.5 + MARGIN)
    low, high = ((low + high) / 2 - reach).tolist(), ((low + high) / 2 + reach).tolist()
    return {"xlim": (low[0], high[0]), "ylim": (low[1], high[1])}


def scatter(panel: Axes, points: np.ndarray, color: np.ndarray) -> None:
    """Points in one fixed random order: in that of the rows the last class may bury
    the rest.
    """
    order = np.random.default_rng(0).permutation(len(points))
    area = float(np.clip(4000 / len(points), 0.3, 9))
    panel.scatter(
        *points[order].T, s=area, c=color[order], linewidths=0, rasterized=True
    )


def name_classes(panel: Axes, points: np.ndarray, coloring: Coloring, t: int) -> None:
    """Each class's name at its middle, so that colour is not all there is to see."""
    if coloring.codes is None or len(coloring.classes) < 2:
        return
    if len(PALETTE) < len(coloring.classes) <= LEGEND_LIMIT:
        return  # the legend has them
    codes = coloring.codes[t]
    present, counts = np.unique(codes[codes >= 0], return_counts=True)
    for code in present[np.argsort(-counts, kind="stable")]:
        middle = np.median(points[codes == code], axis=0)
        name(panel, _shortened(coloring.classes[int(code)]), middle, fontweight="bold")


def name(panel: Axes, text: str, where: np.ndarray, **style: Any) -> Text:
    """Text that `settle` will keep off the frame and off other text."""
    style = {"ha": "center", "va": "center", "fontsize": "small", **style}
    placed = panel.text(float(where[0]), float(where[1]), text, gid=NAME, **style)
    placed.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
    return placed


def _shortened(text: str) -> str:
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "\u2026"


def settle(panel: Axes) -> None:
    """Move names inside the frame and apart; hide those that find no free place."""
    panel.figure.canvas.figure.draw_without_rendering()  # the layout is decided here
    frame = panel.get_window_extent().padded(-GAP)
    taken: list[Any] = []
    for text in [one for one in panel.texts if one.get_gid() == NAME]:
        box = text.get_window_extent().padded(GAP / 2)
        text.set_visible(False)
        for step in (0, 1, -1, 2, -2, 3, -3):
            moved = box.translated(0, step * box.height)
            inside = moved.translated(
                max(frame.x0 - moved.x0, 0) + min(frame.x1 - moved.x1, 0),
                max(frame.y0 - moved.y0, 0) + min(frame.y1 - moved.y1, 0),
            )
            if inside.width <= frame.width and not inside.count_overlaps(taken):
                _move(text, panel, inside.x0 - box.x0, inside.y0 - box.y0)
                taken.append(inside)
                break


def _move(text: Text, panel: Axes, right: float, up: float) -> None:
    """Shift text by pixels and show it."""
    now = panel.transData.transform(text.get_position())
    moved = panel.transData.inverted().transform(now + np.array([right, up]))
    text.set_position(tuple(moved))
    text.set_visible(True)


def handles(coloring: Coloring) -> list[Line2D]:
    """A legend's entries."""
    return [
        Line2D([], [], marker="o", linestyle="", color=color, label=_shortened(one))
        for one, color in zip(coloring.classes, coloring.palette, strict=True)
    ]


def explain(figure: Figure, panels: Any, coloring: Coloring) -> None:
    """A legend below for classes, a bar at the side for values."""
    if coloring.limits is not None:
        scale = ScalarMappable(colors.Normalize(*coloring.limits), COLORMAP)
        figure.colorbar(scale, ax=panels, shrink=0.7, aspect=30, pad=0.02)
        return
    if not 1 < len(coloring.classes) <= LEGEND_LIMIT:
        return
    entries = handles(coloring)
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=_columns(coloring, figure.get_figwidth()),
        frameon=False,
        handletextpad=0.1,
    )


def legend_height(coloring: Coloring, width: float) -> float:
    """Inches that the legend of a figure so wide will need."""
    if not 1 < len(coloring.classes) <= LEGEND_LIMIT:
        return 0.0
    return 0.1 + 0.22 * -(-len(coloring.classes) // _columns(coloring, width))


def _columns(coloring: Coloring, width: float) -> int:
    """How many entries of a legend stand side by side in so many inches."""
    longest = min(max(map(len, coloring.classes)), NAME_LENGTH)
    fitting = max(int(width / (0.62 + 0.1 * longest)), 1)
    return min(len(coloring.classes), fitting)


def save(figure: Any, path: str | os.PathLike[str], *, dpi: int = 300) -> Any:
    """Write a figure to a file, of the kind that its name ends on.

    Args:
        figure: What any function of `aljax.plot` returned.
        path: Ends on .png, .pdf, .svg or another that matplotlib writes; on .html for
            `trajectories`.
        dpi: Pixels per inch, where there are pixels.

    Returns:
        The figure.

    Raises:
        ValueError: An ending that the figure cannot be written as.
    """
    path = read_path(path)
    number(1)("dpi", dpi)
    kind = path.suffix.removeprefix(".").lower()
    if isinstance(figure, Figure):
        known = sorted(figure.canvas.get_supported_filetypes())
        if kind in known:
            figure.savefig(path, dpi=dpi)
            return figure
    else:
        known = ["html"]
        if kind == "html":  # with plotly inside, so that it opens offline
            figure.write_html(path, include_plotlyjs=True)
            return figure
    raise ValueError(
        f"`path` is {path}; expected one that ends on .{', .'.join(known)}."
    )
