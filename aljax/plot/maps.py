"""Maps as pictures: one, or a whole sequence with the same axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.config import number
from aljax.errors import optional
from aljax.plot import style
from aljax.plot.colors import UNKNOWN, Coloring, color_by, color_map, gray_out
from aljax.plot.read import (
    one_map,
    read_maps,
    read_moves,
    read_title,
    read_titles,
)

PANEL = 2.6  # inches
SINGLE = 6.0  # inches
LARGE = 50_000  # points
PIXELS = 300  # per inch


def points(
    model: Any,
    labels: Any = None,
    *,
    values: Any = None,
    color: Any = None,
    cmap: Any = None,
    slice: Any = -1,  # noqa: A002
    ax: Axes | None = None,
    title: str | None = None,
    density: bool | None = None,
) -> Figure:
    """Draws one map.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a map (points, components);
            of more than two components the first two are drawn.
        labels: Each row's class.
        values: Each row's value, instead.
        color: One color for all points; with `labels` a color of matplotlib for each
            class, as {"a": "tab:red"} or in the order of the classes.
        cmap: The color map of `values`, as "magma"; None for viridis.
        slice: Which map of a sequence: its label, or its number, counted from the end
            where negative.
        ax: Where to draw; None makes a figure.  With an axis, `ax.legend()` adds the
            legend.
        title: Above the map; None for the slice's label, if it has one.
        density: True draws how many points there are instead of each (needs
            datashader); None does so above 50,000.

    Raises:
        InputError: A model that is not fitted, or labels that do not fit the map.
    """
    plane = style.plane(one_map(model, slice))
    coloring = color_map(labels, values, len(plane), color=color, cmap=cmap)
    title = read_title(title, model, slice)
    height = SINGLE + style.legend_height(coloring, SINGLE) + 0.3 * bool(title)
    panel = ax or style.new_axes(SINGLE, height)
    figure = panel.figure.canvas.figure
    style.put_title(panel, title)
    draw_map(panel, plane, coloring, density=density)
    if ax is None:
        style.explain(figure, panel, coloring)
    else:
        for handle in style.handles(coloring):
            ax.add_line(handle)
    style.settle(panel, far=ax is not None or style.too_many(coloring))
    return figure


def slices(
    model: Any,
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    color: Any = None,
    cmap: Any = None,
    ax: Any = None,
    titles: Sequence[str] | None = None,
    heading: str = "",
    density: bool | None = None,
    limit: int | None = 24,
    moves: Any = None,
) -> Figure:
    """Draws a grid of panels with the same bounds, one a slice, to be read by row.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        labels: For each slice its rows' classes, which decide their colors.  Up to 10
            are named in the maps, up to 40 in the legend.
        values: For each slice its rows' values, instead.
        color: One color for all points; with `labels` a color of matplotlib for each
            class, as {"a": "tab:red"} or in the order of the classes.
        cmap: The color map of `values`, as "magma"; None for viridis.
        ax: Where to draw, one for each map; None makes a figure.
        titles: One for each slice; None for the slices' labels or numbers.
        heading: The title of the whole.
        density: As in `points`, for each map.
        limit: Maps to draw at most, spread evenly from the first to the last, and
            named so in the title; None for all.
        moves: What `aljax.metrics.moved` called: all other members are gray.

    Raises:
        InputError: As `points` does; a `limit` below 1; or another number of titles
            than of maps.
    """
    maps = [style.plane(y) for y in read_maps(model)]
    titles = read_titles(titles, model, len(maps))
    sizes = [len(y) for y in maps]
    coloring = color_by(labels, values, sizes, color=color, cmap=cmap)
    coloring = gray_out(coloring, read_moves(moves, sizes))
    number(1, whole=True, optional=True)("limit", limit)
    shown = style.spread(len(maps), limit)
    count = len(shown)
    many = f"{count} of {len(maps)}" if count < len(maps) else str(count)
    grid = f"{many} maps with the same axes, read by row" if len(maps) > 1 else ""
    heading = ": ".join(filter(None, [heading, grid]))
    rows = -(-count // (5 if count <= 20 else 6))
    columns = -(-count // rows)  # so that the last row is nearly full
    new = count, columns, PANEL, coloring, heading
    panels = style.axes_of(ax, count) or style.new_panels(*new)
    figure = panels[0].figure.canvas.figure
    bounds = style.bounds(np.concatenate([maps[t] for t in shown]))
    for t, panel in zip(shown, panels, strict=True):
        _title(panel, titles[t])
        draw_map(panel, maps[t], coloring, t, density=density, bounds=bounds)
    if ax is None:
        style.explain(figure, [*figure.axes], coloring)
    style.settle(*panels, far=ax is not None or style.too_many(coloring))
    return figure


def _title(panel: Axes, text: str) -> None:
    """Fits a title above its panel, in two lines and smaller if need be."""
    if len(text) > 26 and ", " in text:
        text = text.replace(", ", "\n", 1)
    longest = max(map(len, text.splitlines()), default=0)
    size = float(np.clip(10 * 26 / max(longest, 1), 6, 10))
    style.put_title(panel, style.plain(text), fontsize=size)


def draw_map(
    panel: Axes,
    plane: np.ndarray,
    coloring: Coloring,
    t: int = 0,
    *,
    density: bool | None = None,
    bounds: dict[str, Any] | None = None,
) -> None:
    """Draws a slice's points, or their density, and names its classes."""
    panel.set(xticks=[], yticks=[], aspect="equal", **(bounds or style.bounds(plane)))
    if len(plane) > LARGE if density is None else density:
        _shade(panel, plane, coloring, t)
    else:
        style.scatter(panel, plane, coloring.points[t])
    style.name_classes(panel, plane, coloring, t)


def _shade(panel: Axes, points: np.ndarray, coloring: Coloring, t: int) -> None:
    """Draws a map as an image, whose opacity is how many points lie in a pixel."""
    import pandas

    datashader = optional("datashader", "plot")
    shading = optional("datashader.transfer_functions", "plot")
    box = panel.get_window_extent()
    inches = max(box.width, box.height) / panel.figure.dpi
    # Finer pixels than the points can fill would be too faint to see.
    side = int(np.clip(2 * len(points) ** 0.5, 200, inches * PIXELS))
    xlim, ylim = panel.get_xlim(), panel.get_ylim()
    canvas = datashader.Canvas(side, side, x_range=xlim, y_range=ylim)
    table = pandas.DataFrame({"x": points[:, 0], "y": points[:, 1]})
    reduction, shades = None, {"cmap": [coloring.plain], "min_alpha": 100}
    if coloring.codes is not None:
        names = [*map(str, range(len(coloring.classes))), "unknown"]  # -1 is the last
        codes = coloring.codes[t] % len(names)
        table["c"] = pandas.Categorical.from_codes(codes, names)
        hues = [*map(to_hex, coloring.palette), UNKNOWN]
        reduction = datashader.count_cat("c")
        shades = {"color_key": dict(zip(names, hues, strict=True)), "min_alpha": 150}
    elif coloring.values is not None:
        table["v"] = coloring.values[t]
        reduction = datashader.mean("v")
        shades = {"how": "linear", "span": coloring.limits}
        shades["cmap"] = coloring.cmap
    image = shading.shade(canvas.points(table, "x", "y", reduction), **shades)
    image = shading.dynspread(image, threshold=0.6, max_px=3)
    pixels = np.asarray(image.to_pil())
    panel.imshow(pixels, extent=(*xlim, *ylim), aspect="equal", zorder=1)
