"""The pictures of a run: its maps side by side, and its loss.

Figures are made without pyplot, so no window system is asked and none stays open.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, colors, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aljax.layout.losses import LossTerms
from aljax.layout.optimize import RECORD_EVERY

# Paul Tol's "muted" colours, which stay apart with colour vision deficiencies, and a
# grey.
PALETTE = (
    *("#332288", "#cc6677", "#117733", "#ddcc77", "#88ccee"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#777777"),
)
LEGEND_LIMIT = 24  # labels, beyond which a legend outgrows the picture
PANEL = 2.6  # inches
MARGIN = 0.06  # of the maps' extent, on each side


def slices(
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    labels: Sequence[np.ndarray] | None,
    *,
    heading: str,
) -> Figure:
    """A grid of panels with the same bounds, one for each slice, to be read by row.

    Args:
        maps: One map for each slice; of more than two components the first two.
        titles: One for each slice.
        labels: A label for each point, which decides its colour; up to 10 different
            ones are named in the maps, up to 24 in the legend.
        heading: The title of the whole.
    """
    columns = min(len(maps), 5 if len(maps) <= 20 else 8)
    rows = -(-len(maps) // columns)
    classes = np.array(["all"]) if labels is None else np.unique(np.concatenate(labels))
    palette = palette_of(len(classes))
    has_legend = 1 < len(classes) <= LEGEND_LIMIT
    size = (PANEL * max(columns, 2), PANEL * rows + (0.9 if has_legend else 0.6))
    figure = Figure(figsize=size, layout="constrained")
    how = f": {len(maps)} maps with the same axes, read by row"
    figure.suptitle(heading + how * (len(maps) > 1))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    planes = [_plane(one) for one in maps]
    limits = bounds(np.concatenate(planes))
    for t, (panel, plane) in enumerate(zip(panels, planes, strict=False)):
        codes = 0 if labels is None else np.searchsorted(classes, labels[t])
        codes = np.broadcast_to(codes, len(plane))
        panel.set(title=titles[t], xticks=[], yticks=[], **limits)
        panel.title.set_fontsize("medium")
        scatter(panel, plane, palette[codes])
        if 1 < len(classes) <= len(PALETTE):
            _name_classes(panel, plane, codes, classes)
    for panel in panels[len(maps) :]:
        panel.set_visible(False)
    if has_legend:
        _legend(figure, classes, palette)
    return figure


def _plane(one: np.ndarray) -> np.ndarray:
    """Two coordinates of each point; a map of one component is drawn over its rows."""
    if one.shape[1] > 1:
        return one[:, :2]
    height = np.ptp(one) * np.linspace(-0.5, 0.5, len(one))
    return np.column_stack([one[:, 0], height])


def bounds(points: np.ndarray) -> dict[str, Any]:
    """Square bounds that hold all points, so that distances compare."""
    low, high = points.min(axis=0), points.max(axis=0)
    reach = max((high - low).max(), 1e-6) * (0.5 + MARGIN)
    (x, y) = (low + high) / 2
    return {
        "xlim": (x - reach, x + reach),
        "ylim": (y - reach, y + reach),
        "aspect": "equal",
    }


def palette_of(classes: int) -> np.ndarray:
    """A colour for each class."""
    if classes <= len(PALETTE):
        return colors.to_rgba_array(PALETTE)
    return colormaps["viridis"](np.linspace(0, 1, classes))


def scatter(panel: Axes, plane: np.ndarray, color: np.ndarray) -> None:
    """Points of a map, small where there are many."""
    # In one fixed random order: in that of the rows the last class may bury the rest.
    order = np.random.default_rng(0).permutation(len(plane))
    area = float(np.clip(4000 / len(plane), 0.3, 9))
    panel.scatter(*plane[order].T, s=area, c=color[order], linewidths=0)


def _name_classes(
    panel: Axes, plane: np.ndarray, codes: np.ndarray, classes: np.ndarray
) -> None:
    """Each class's name at its middle, so that colour is not all there is to see."""
    for code in np.unique(codes):
        text = panel.annotate(
            str(classes[code])[:8],
            tuple(np.median(plane[codes == code], axis=0)),
            ha="center",
            va="center",
            fontsize="small",
            fontweight="bold",
        )
        text.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])


def _legend(figure: Figure, classes: np.ndarray, palette: np.ndarray) -> None:
    handles = [
        Line2D([], [], marker="o", linestyle="", color=color, label=str(name))
        for name, color in zip(classes, palette, strict=False)
    ]
    longest = max(len(str(name)) for name in classes)
    fitting = int(figure.get_figwidth() / (0.45 + 0.1 * longest))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), max(fitting, 1)),
        frameon=False,
        handletextpad=0.1,
    )


def loss(history: LossTerms, *, heading: str) -> Figure:
    """The three terms and their total, summed over the slices, as far as recorded."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    total = np.asarray(history.total())
    epochs = np.arange(len(total)) * RECORD_EVERY
    axis.plot(epochs, total, color="black", linewidth=2, label="total")
    styles = zip(PALETTE[:3], ("--", "-.", ":"), vars(history).items(), strict=True)
    for color, style, (name, values) in styles:
        summed = np.asarray(values).sum(axis=1)
        axis.plot(epochs, summed, color=color, linestyle=style, label=name)
    axis.set(xlabel="epoch", ylabel="loss, sum over the slices", yscale="log")
    axis.set_title(f"{heading}: loss")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure
