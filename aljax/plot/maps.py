"""Maps as pictures: one, a whole sequence with the same axes, or two that differ.

Rows that moved against their neighbors are told by

    change_i = 1 - |N_i & M_i| / k

where N_i and M_i are row i's k nearest in two maps, among the members of both.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.spatial import KDTree

from aljax.columns import RowValues
from aljax.config import number
from aljax.errors import InputError, optional
from aljax.metrics.maps import neighborhood_preservation
from aljax.metrics.motion import read_sequence
from aljax.metrics.ranks import count_neighbors
from aljax.plot import style
from aljax.plot.colors import UNKNOWN, Coloring, color_by, color_map, gray_out
from aljax.plot.read import (
    read_map,
    read_maps,
    read_members,
    read_moves,
    read_slice,
    read_titles,
    several_maps,
)

PANEL = 2.6  # inches
SIDE = 4.0  # inches, of two
SINGLE = 6.0  # inches
FEW = 4  # columns, in which a tree finds neighbors
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
    plane, title = read_map(model, slice, title)
    coloring = color_map(labels, values, len(plane), color=color, cmap=cmap)
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
    style.settle(panel, far=ax is not None or not style.has_legend(coloring))
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
    style.settle(*panels, far=ax is not None or not style.has_legend(coloring))
    return figure


def compare(
    model: Any,
    first: Any = 0,
    second: Any = -1,
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    color: Any = None,
    cmap: Any = None,
    ax: Any = None,
    ids: RowValues | None = None,
    data: Sequence[Any] | None = None,
    n_neighbors: float = 15,
    marked: int = 10,
    titles: Sequence[str] | None = None,
    heading: str = "",
) -> Figure:
    """Draws two maps of a sequence side by side and marks rows that changed neighbors.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        first: The slice on the left: its label, or its number, counted from the end
            where negative.
        second: The slice on the right.
        labels: For each slice its rows' classes.
        values: For each slice its rows' values, instead; without either, the colors
            are the share of neighbors that changed (0 to 1).
        color: As in `slices`.
        cmap: As in `slices`.
        ax: Where to draw, two axes; None makes a figure.
        ids: For each slice its rows' ids; None for the model's own.
        data: The slices, whose neighbors then count instead of those in the maps.
        n_neighbors: Neighbors of a row (at least 1, below half the rows in both
            slices), or a share of these rows (above 0, below .5).
        marked: Rows to ring and name (at least 0): those of which the most neighbors
            changed, and of these the ones that move farthest.
        titles: One for each slice; None for the slices' labels or numbers.
        heading: The title of the whole.

    Raises:
        InputError: The same slice twice, slices that share too few members, what does
            not fit the slices, or plain maps without ids.
    """
    whole = several_maps(model)
    maps = [*map(style.plane, whole)]
    members, titles = read_members(model, ids), read_titles(titles, model, len(maps))
    number(0, whole=True)("marked", marked)
    pair = [read_slice("first", first, model), read_slice("second", second, model)]
    if pair[0] == pair[1]:
        raise InputError("second", f"is {second}, as `first`", "another slice")
    before, after = (members.codes[t] for t in pair)
    codes, *rows = np.intersect1d(before, after, return_indices=True)
    if not codes.size:
        got = f"shares no member with slice {pair[0]}"
        raise InputError("second", got, "a slice that shares members")
    k = count_neighbors(n_neighbors, len(codes))
    positions = _positions(whole, data)
    before, after = (positions[t][r] for t, r in zip(pair, rows, strict=True))
    changed = neighbor_change(before, after, k)
    if labels is None and values is None and color is None:
        values = [np.full(len(y), np.nan) for y in maps]
        for t, r in zip(pair, rows, strict=True):
            values[t][r] = changed
    sizes = [len(y) for y in maps]
    coloring = color_by(labels, values, sizes, color=color, cmap=cmap)
    change = f"{changed.mean():.0%} of each row's {k} nearest changed"
    heading = ": ".join(filter(None, [heading, change]))
    new = 2, 2, SIDE, coloring, heading
    panels = style.axes_of(ax, 2) or style.new_panels(*new)
    figure = panels[0].figure.canvas.figure
    bounds = style.bounds(np.concatenate([maps[t] for t in pair]))
    for t, panel in zip(pair, panels, strict=True):
        draw_map(panel, maps[t], coloring, t, bounds=bounds)
    if ax is None:
        style.explain(figure, panels, coloring)
    moved = np.linalg.norm(whole[pair[1]][rows[1]] - whole[pair[0]][rows[0]], axis=1)
    most = np.lexsort((-moved, -changed))[:marked]
    names = [members.names[code] for code in codes[most]]
    for t, r, panel in zip(pair, rows, panels, strict=True):
        style.put_title(panel, style.plain(titles[t]))
        _mark(panel, maps[t][r[most]], names)
    return figure


def _positions(maps: list[np.ndarray], data: Sequence[Any] | None) -> list[np.ndarray]:
    """Returns the arrays whose neighbors count: the maps, or data that fit them."""
    if data is None:
        return maps
    read = read_sequence(data, "data", comparable=False)
    sizes, rows = [*map(len, maps)], [*map(len, read)]
    if sizes != rows:
        raise InputError("data", f"has slices of {rows} rows", f"the model's {sizes}")
    return read


def _mark(panel: Axes, places: Float[np.ndarray, "marked 2"], names: list[str]) -> None:
    """Rings places in a map and names them; the names of classes stand in italics."""
    panel.scatter(
        *places.T, s=40, c="none", edgecolors=style.ink(), linewidths=1, zorder=3
    )
    for text in [*panel.texts]:
        text.set_fontstyle("italic")
    style.name_places(panel, names, places)


def neighbor_change(
    before: Float[np.ndarray, "rows _"], after: Float[np.ndarray, "rows _"], k: int
) -> Float[np.ndarray, "rows"]:
    """Returns the share of each row's k nearest that are not among its k in `after`.

    It is 1 - `metrics.neighborhood_preservation`; in few columns a tree finds them,
    but for rows whose k-th nearest is as far as the next.
    """
    measure = partial(neighborhood_preservation, before, after, n_neighbors=k)
    if max(before.shape[1], after.shape[1]) > FEW:
        return 1 - measure(per_point=True)
    (far, near), (later_far, later) = (
        map(np.asarray, KDTree(rows).query(rows, k + 2, workers=-1))
        for rows in (before, after)
    )
    near, later = near[:, :-1, None], later[:, None, :-1]
    kept = (near == later).any(axis=2).sum(axis=1) - 1  # without the row itself
    changed = 1 - kept / k
    tied = (far[:, -1] == far[:, -2]) | (later_far[:, -1] == later_far[:, -2])
    if tied.any():
        changed[tied] = 1 - measure(rows=tied, per_point=True)
    return changed


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
