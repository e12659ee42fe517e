"""Two maps side by side, with the rows that moved against their neighbors.

    change_i = 1 - |N_i & M_i| / k

where N_i and M_i are row i's k nearest in the two maps, among the members of both.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.config import number
from aljax.errors import InputError
from aljax.metrics.ranks import as_positions, count_neighbors
from aljax.plot import style
from aljax.plot.colors import color_by
from aljax.plot.maps import draw_map
from aljax.plot.motion import neighbor_change
from aljax.plot.read import read_members, read_slice, read_titles, several_maps

SIDE = 4.0  # inches


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
    pair_codes = [members.codes[t] for t in pair]
    codes, *rows = np.intersect1d(pair_codes[0], pair_codes[1], return_indices=True)
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
    read = [as_positions(x, f"data[{t}]") for t, x in enumerate(data)]
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
