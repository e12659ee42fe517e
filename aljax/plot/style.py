"""The look of pictures: colors, legends, sizes and saving."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import colorcet
import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps, colors, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from scipy.spatial.distance import cdist

from aljax.columns import RowValues, is_missing, per_row
from aljax.config import number
from aljax.errors import InputError, read_path

LEGEND_LIMIT = 40  # classes, beyond which a legend outgrows the picture
NAME_LENGTH = 14  # letters of a class's name in a map
MARGIN = 0.06  # of the maps' extent, on each side
GAP = 3  # pixels between names, and from a name to the frame
NAME = "class name"
BESIDE = 0.015  # of the width, from a place to its name
TIE = {"color": "grey", "linewidth": 0.5}
STEPS = (0, 1, -1, 2, -2, 3, -3)  # heights by which a name may give way

# Paul Tol's ten that stay apart without one kind of cone.  Beyond them Glasbey's: first
# the 30, neither nearly black nor nearly white, of which each is the farthest from all
# before and from what is unknown, for those who see it least well (in OKLab).
PALETTE = (
    *("#332288", "#cc6677", "#117733", "#ddcc77", "#88ccee"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#666666"),
)
FIRST = [95, 105, 10, 0, 188, 193, 14, 6, 8, 232, 54, 167, 130, 50, 220]
FIRST += [180, 15, 117, 28, 110, 131, 35, 113, 102, 200, 251, 152, 85, 94, 16]
MORE = [colorcet.glasbey_bw_minc_20[i] for i in dict.fromkeys([*FIRST, *range(256)])]
UNKNOWN = "#c8c8c8"  # a missing label or value
PLAIN = PALETTE[0]
COLORMAP = "viridis"
NAMING = 500  # rows of a class that say where its name stands
CLASSES = 256  # more different labels than that are quantities or names


class Coloring(NamedTuple):
    """The colors of each slice's points, and the classes or values they stand for."""

    points: list[Float[np.ndarray, "_ 4"]]  # RGBA, 0 to 1
    codes: list[Int[np.ndarray, "_"]] | None = None  # places in `classes`; -1: unknown
    classes: Sequence[str] = ()
    palette: Float[np.ndarray, "_ 4"] = np.zeros((0, 4))  # of the classes
    limits: tuple[float, float] | None = None  # values at the ends of the color map
    values: list[np.ndarray] | None = None


def plane(positions: np.ndarray) -> np.ndarray:
    """Two coordinates of each point; a map of one component is drawn over its rows."""
    if positions.shape[1] > 1:
        return positions[:, :2]
    height = np.ptp(positions) * np.linspace(-0.5, 0.5, len(positions))
    return np.column_stack([positions[:, 0], height])


def bounds(points: np.ndarray) -> dict[str, tuple[float, float]]:
    """Square bounds that hold all points, so that distances compare."""
    points = points if len(points) else np.zeros((1, 2))
    low, high = points.min(axis=0), points.max(axis=0)
    reach = max((high - low).max(), 1e-6) * (0.5 + MARGIN)
    (left, bottom), (right, top) = (
        ((low + high) / 2 + side).tolist() for side in (-reach, reach)
    )
    return {"xlim": (left, right), "ylim": (bottom, top)}


def spread(count: int, limit: int | None) -> list[int]:
    """At most `limit` of the numbers below `count`, evenly from the first to the last.

    None stands for all.
    """
    most = count if limit is None else min(count, limit)
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def grid(figure: Any, rows: int, columns: int, count: int) -> list[Axes]:
    """The first `count` axes of a grid by row; the others are hidden."""
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[count:]:
        panel.set_visible(False)
    return [*panels[:count]]


def scatter(panel: Axes, points: np.ndarray, color: np.ndarray) -> None:
    """Draws points in one random order: in that of the rows a class may bury others."""
    order = np.random.default_rng(0).permutation(len(points))
    area = float(np.clip(4000 / max(len(points), 1), 0.3, 9))
    panel.scatter(
        *points[order].T, s=area, c=color[order], linewidths=0, rasterized=True
    )


def name_classes(panel: Axes, points: np.ndarray, coloring: Coloring, t: int) -> None:
    """Writes each class's name upon it, so that it is not told by color alone.

    The name stands at the row with the least median distance to the others.
    """
    count = len(coloring.classes)
    if coloring.codes is None or count < 2 or len(PALETTE) < count <= LEGEND_LIMIT:
        return  # the legend has them
    codes = coloring.codes[t]
    present, counts = np.unique(codes[codes >= 0], return_counts=True)
    for code in present[np.argsort(-counts, kind="stable")]:
        members = points[codes == code]
        members = members[:: -(-len(members) // NAMING)]
        middle = members[np.median(cdist(members, members), axis=1).argmin()]
        name(panel, _shortened(coloring.classes[int(code)]), middle, fontweight="bold")


def name(panel: Axes, text: str, where: np.ndarray, **style: Any) -> Text:
    """Text that `settle` will keep off the frame and off other text."""
    style = {"ha": "center", "va": "center", "fontsize": "small", **style}
    placed = panel.text(float(where[0]), float(where[1]), text, gid=NAME, **style)
    placed.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
    return placed


def _shortened(text: str) -> str:
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "\u2026"


def name_places(
    panel: Axes, names: Sequence[str], places: np.ndarray, **style: Any
) -> None:
    """Writes names beside places, none of which they cover, and ties them to these."""
    panel.autoscale_view()
    panel.autoscale(False)
    style = {"ha": "left", **style}
    pixels = panel.transData.transform(places)
    pixels[:, 0] += BESIDE * panel.bbox.width
    beside = panel.transData.inverted().transform(pixels)
    labels = [
        name(panel, text, place, **style)
        for text, place in zip(names, beside, strict=True)
    ]
    settle(panel, avoid=places)
    for text, place in zip(labels, places, strict=True):
        if text.get_visible():
            panel.plot(*zip(place, text.get_position(), strict=True), **TIE)


def settle(*panels: Axes, avoid: np.ndarray | None = None) -> None:
    """Moves names inside the frame and apart; hides those that find no free place.

    Args:
        panels: Axes of the same figure.
        avoid: Positions (points, 2) in each of them that no name may cover.
    """
    panels[0].figure.canvas.figure.draw_without_rendering()  # decides the layout
    places = np.zeros((0, 2)) if avoid is None else avoid
    for panel in panels:
        _settle(panel, panel.transData.transform(places))


def _settle(panel: Axes, marks: np.ndarray) -> None:
    frame = panel.get_window_extent().padded(-GAP)
    taken: list[Any] = []
    for text in [text for text in panel.texts if text.get_gid() == NAME]:
        box = text.get_window_extent().padded(GAP / 2)
        text.set_visible(False)
        for step in STEPS:
            moved = box.translated(0, step * box.height)
            inside = moved.translated(
                max(frame.x0 - moved.x0, 0) + min(frame.x1 - moved.x1, 0),
                max(frame.y0 - moved.y0, 0) + min(frame.y1 - moved.y1, 0),
            )
            covered = inside.padded(GAP).count_contains(marks)
            covered += inside.count_overlaps(taken)
            if inside.width <= frame.width and not covered:
                shift = np.array([inside.x0 - box.x0, inside.y0 - box.y0])
                pixels = panel.transData.transform(text.get_position()) + shift
                text.set_position(tuple(panel.transData.inverted().transform(pixels)))
                text.set_visible(True)
                taken.append(inside)
                break


def handles(coloring: Coloring) -> list[Line2D]:
    """A legend's entries."""
    return [
        Line2D([], [], marker="o", linestyle="", color=color, label=_shortened(label))
        for label, color in zip(coloring.classes, coloring.palette, strict=True)
    ]


def explain(figure: Figure, panels: Any, coloring: Coloring) -> None:
    """Adds a legend below for classes, a bar at the side for values."""
    if coloring.limits is not None:
        scale = ScalarMappable(colors.Normalize(*coloring.limits), COLORMAP)
        figure.colorbar(scale, ax=panels, shrink=0.7, aspect=30, pad=0.02)
    elif 1 < len(coloring.classes) <= LEGEND_LIMIT:
        figure.legend(
            handles=handles(coloring),
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
    """The number of legend entries that stand side by side in so many inches."""
    longest = min(max(map(len, coloring.classes)), NAME_LENGTH)
    return min(len(coloring.classes), max(int(width / (0.62 + 0.1 * longest)), 1))


def save(figure: Any, path: str | os.PathLike[str], *, dpi: int = 300) -> Any:
    """Writes a figure to a file, of the kind that its name ends on.

    Args:
        figure: A figure that any function of `aljax.plot` returned.
        path: Ends on .png, .pdf, .svg or another that matplotlib writes; on .html for
            `trajectories`.
        dpi: Pixels per inch, where there are pixels.

    Returns:
        The figure.

    Raises:
        InputError: An ending that the figure cannot be written as.
    """
    path = read_path(path)
    number(1)("dpi", dpi)
    flat = isinstance(figure, Figure)
    kinds = sorted(figure.canvas.get_supported_filetypes()) if flat else ["html"]
    if path.suffix.removeprefix(".").lower() not in kinds:
        expected = f"a path that ends on .{', .'.join(kinds)}"
        raise InputError("path", f"is {path}", expected)
    if flat:
        figure.savefig(path, dpi=dpi)
    else:  # with plotly inside, so that it opens offline
        figure.write_html(path, include_plotlyjs=True)
    return figure


def palette(classes: int) -> Float[np.ndarray, "classes 4"]:
    """Colors (RGBA) for any number of classes (0 to 256)."""
    return colors.to_rgba_array([*PALETTE, *MORE][:classes])


def color_by(
    labels: RowValues | None, values: RowValues | None, sizes: Sequence[int]
) -> Coloring:
    """Colors by each slice's classes, or by its values, or one for all."""
    if labels is not None and values is not None:
        raise InputError(
            "labels",
            "and `values` are both given",
            "one of them, as a point has one color",
            "Pass classes as `labels` or quantities as `values`.",
        )
    if labels is not None:
        return _by_label(per_row("labels", labels, sizes))
    if values is not None:
        return _by_value(per_row("values", values, sizes))
    return Coloring([np.tile(colors.to_rgba(PLAIN), (size, 1)) for size in sizes])


def color_map(labels: Any, values: Any, size: int) -> Coloring:
    """`color_by` for one map, given its rows' classes or values alone."""
    labels, values = (None if rows is None else [rows] for rows in (labels, values))
    return color_by(labels, values, [size])


def _by_label(labels: list[np.ndarray]) -> Coloring:
    rows = [label for array in labels for label in array.tolist()]
    classes = {label for label in rows if not is_missing(label)}
    if len(classes) > CLASSES:
        raise InputError(
            "labels",
            f"has {len(classes):,} different labels",
            f"at most {CLASSES} classes",
            "Pass quantities as `values`, or leave out labels that tell no groups.",
        )
    try:
        ordered = sorted(classes)
    except TypeError:  # numbers and text
        ordered = sorted(classes, key=lambda label: (str(label), type(label).__name__))
    place = {label: code for code, label in enumerate(ordered)}
    joined = np.array([place.get(label, -1) for label in rows], dtype=int)
    codes = np.split(joined, np.cumsum([len(array) for array in labels])[:-1])
    hues = palette(len(ordered))
    shown = np.vstack([hues, colors.to_rgba(UNKNOWN)])  # -1 is the last
    points = [shown[code] for code in codes]
    return Coloring(points, codes, [*map(str, ordered)], hues)


def _by_value(values: list[np.ndarray]) -> Coloring:
    try:
        floats = [
            np.asarray([np.nan if is_missing(x) else x for x in rows], dtype=float)
            if rows.dtype.kind == "O"
            else rows.astype(float)
            for rows in values
        ]
    except (TypeError, ValueError) as error:
        remedy = "Pass classes as `labels`."
        raise InputError("values", f"is {error}", "numbers", remedy) from error
    joined = np.concatenate(floats)
    finite = joined[np.isfinite(joined)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    ramp = colormaps[COLORMAP].with_extremes(bad=UNKNOWN)
    scale = colors.Normalize(low, high)
    points = [ramp(scale(np.ma.masked_invalid(rows))) for rows in floats]
    return Coloring(points, limits=(float(low), float(high)), values=floats)
