"""The look of pictures: panels, names, legends and saving."""

import io
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colors, patheffects, rcParams
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from scipy.spatial.distance import cdist

from aljax.config import number
from aljax.errors import InputError, read_path
from aljax.plot.colors import PALETTE, Coloring

LEGEND_LIMIT = 40  # classes, beyond which a legend outgrows the picture
NAME_LENGTH = 14  # letters of a class's name in a map
ENTRY_LENGTH = 24  # and in the legend
MARGIN = 0.06  # of the maps' extent, on each side
GAP = 3  # pixels between names, and from a name to the frame
NAME = "class name"
BESIDE = 0.015  # of the width, from a place to its name
TIE = {"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
LETTERS = 120  # of one point, in an inch
LINE = 0.2  # inches of another line of a heading
STEPS = (0, 1, -1, 2, -2, 3, -3)  # heights by which a name may give way

NAMING = 500  # rows of a class that say where its name stands


class Picture(Figure):
    """A figure that a notebook shows, also where pyplot is not in use."""

    def _repr_png_(self) -> bytes:
        shown = io.BytesIO()
        self.savefig(shown, format="png")
        return shown.getvalue()


def ink() -> str:
    """Returns the color of text and lines in the style that matplotlib uses."""
    return colors.to_hex(rcParams["text.color"])


def plane(positions: np.ndarray) -> np.ndarray:
    """Two coordinates of each point; a map of one component is drawn over its rows."""
    if positions.shape[1] > 1:
        return positions[:, :2]
    reach = np.ptp(positions) if len(positions) else 0.0
    height = reach * np.linspace(-0.5, 0.5, len(positions))
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
    """Returns the axes of a new figure of so many inches."""
    return Picture(figsize=(width, height), layout="constrained").subplots()


def grid(figure: Any, rows: int, columns: int, count: int) -> list[Axes]:
    """Returns the first `count` axes of a grid by row; the others are hidden."""
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[count:]:
        panel.set_visible(False)
    return [*panels[:count]]


def new_panels(
    count: int, columns: int, side: float, coloring: Coloring, heading: str
) -> list[Axes]:
    """Returns the panels of a new figure with a heading, so many inches wide each."""
    rows, width = -(-count // columns), side * max(columns, 2)
    height = side * rows + 0.6 + legend_height(coloring, width)
    figure = Picture(figsize=(width, height), layout="constrained")
    lines = _in_lines(figure.suptitle(heading), width).splitlines()
    figure.set_figheight(height + LINE * (len(lines) - bool(lines)))
    return grid(figure, rows, columns, count)


def put_title(panel: Axes, text: str, **look: Any) -> str:
    """Sets a title in the lines that its panel's share of the figure needs."""
    width, of_panel = panel.bbox.width, panel.get_subplotspec()
    if of_panel is not None:
        width = panel.figure.bbox.width / of_panel.get_gridspec().ncols
    placed = panel.set_title(text, **look)
    # What stands beside a panel, as names of bars, moves it off the middle.
    placed.set_wrap(not is_math_text(text))
    return _in_lines(placed, width / panel.figure.dpi)


def _in_lines(placed: Text, inches: float) -> str:
    """Cuts a text into lines of so many inches and returns it; formulas stay whole."""
    text, size = placed.get_text(), float(placed.get_fontsize())
    if not is_math_text(text):
        letters = max(int(inches * LETTERS / size), 1)
        text = "\n".join(fill(line, letters) for line in text.splitlines())
        placed.set_text(text)
    return text


def axes_of(ax: Any, count: int) -> list[Axes]:
    """Returns the axes that a user passes for so many panels; none for None."""
    if ax is None:
        return []
    panels = np.ravel(np.asarray(ax, object)).tolist()
    if len(panels) < count or not all(isinstance(panel, Axes) for panel in panels):
        got = f"has {len(panels)} axes of matplotlib or other things"
        raise InputError("ax", got, f"axes for {count} panels")
    return panels[:count]


def inset_grid(ax: Axes, rows: int, columns: int, count: int) -> list[Axes]:
    """Returns the first `count` axes of a grid by row, inside of axes of the user."""
    ax.set_axis_off()
    size = 0.94 / columns, 0.94 / rows
    places = [divmod(panel, columns) for panel in range(count)]
    corners = [(column / columns, 1 - (row + 1) / rows) for row, column in places]
    return [ax.inset_axes((*corner, *size)) for corner in corners]


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
        text = _shortened(coloring.classes[int(code)], NAME_LENGTH)
        name(panel, text, middle, middle, fontweight="bold")


def name(
    panel: Axes, text: str, where: np.ndarray, beside: np.ndarray, **style: Any
) -> None:
    """Text that `settle` will keep off the frame and off other text, with a line to it.

    Args:
        panel: Where to draw.
        text: The name.
        where: The place that has it.
        beside: Where the name stands.
        style: Of the text.
    """
    style = {"ha": "center", "va": "center", "fontsize": "small", **style}
    places = {"xy": tuple(where), "xytext": tuple(beside), "textcoords": "data"}
    placed = panel.annotate(plain(text), **places, arrowprops=TIE, gid=NAME, **style)
    halo = "black" if sum(colors.to_rgb(placed.get_color())) > 1.5 else "white"
    placed.set_path_effects([patheffects.withStroke(linewidth=2, foreground=halo)])


def plain(text: str) -> str:
    """Returns a text of the data for matplotlib, to which "$a$" would be a formula."""
    return text.replace("$", r"\$")


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\u2026"


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
    for text, place, beside_place in zip(names, places, beside, strict=True):
        name(panel, text, place, beside_place, **style)
    settle(panel, avoid=places)


def settle(*panels: Axes, avoid: np.ndarray | None = None, far: bool = True) -> None:
    """Moves names inside the frame and apart; hides those that find no free place.

    Args:
        panels: Axes of the same figure.
        avoid: Positions (points, 2) in each of them that no name may cover.
        far: True lets names give way by several heights; False by one, as there is a
            legend.
    """
    panels[0].figure.canvas.figure.draw_without_rendering()  # decides the layout
    places = np.zeros((0, 2)) if avoid is None else avoid
    for panel in panels:
        _settle(panel, panel.transData.transform(places), STEPS if far else STEPS[:3])


def _settle(panel: Axes, marks: np.ndarray, steps: Sequence[int]) -> None:
    frame = panel.get_window_extent().padded(-GAP)
    boxes: list[Any] = []
    for text in [text for text in panel.texts if text.get_gid() == NAME]:
        # Without the line, which an annotation counts in.
        box = Text.get_window_extent(text).padded(GAP / 2)
        text.set_visible(False)
        for step in steps:
            moved = box.translated(0, step * box.height)
            inside = moved.translated(
                max(frame.x0 - moved.x0, 0) + min(frame.x1 - moved.x1, 0),
                max(frame.y0 - moved.y0, 0) + min(frame.y1 - moved.y1, 0),
            )
            covered = inside.padded(GAP).count_contains(marks)
            covered += inside.count_overlaps(boxes)
            if inside.width <= frame.width and not covered:
                shift = np.array([inside.x0 - box.x0, inside.y0 - box.y0])
                pixels = panel.transData.transform(text.get_position()) + shift
                text.set_position(tuple(panel.transData.inverted().transform(pixels)))
                text.set_visible(True)
                boxes.append(inside)
                break


def has_legend(coloring: Coloring) -> bool:
    """Tells if there are several classes, and not too many for a legend."""
    return 1 < len(coloring.classes) <= LEGEND_LIMIT


def handles(coloring: Coloring) -> list[Line2D]:
    """Returns a legend's entries."""
    return [
        Line2D([], [], marker="o", linestyle="", color=color, label=plain(entry))
        for entry, color in zip(_entries(coloring), coloring.palette, strict=True)
    ]


def _entries(coloring: Coloring) -> list[str]:
    return [_shortened(label, ENTRY_LENGTH) for label in coloring.classes]


def explain(figure: Figure, panels: Any, coloring: Coloring) -> None:
    """Adds a legend below for classes, a bar at the side for values."""
    if coloring.limits is not None:
        scale = ScalarMappable(colors.Normalize(*coloring.limits), coloring.cmap)
        figure.colorbar(scale, ax=panels, shrink=0.7, aspect=30, pad=0.02)
    elif has_legend(coloring):
        figure.legend(
            handles=handles(coloring),
            loc="outside lower center",
            ncols=_columns(coloring, figure.get_figwidth()),
            frameon=False,
            handletextpad=0.1,
        )


def legend_height(coloring: Coloring, width: float) -> float:
    """Inches that the legend of a figure so wide will need."""
    if not has_legend(coloring):
        return 0.0
    return 0.1 + 0.22 * -(-len(coloring.classes) // _columns(coloring, width))


def _columns(coloring: Coloring, width: float) -> int:
    """Counts the legend entries that stand side by side in so many inches."""
    longest = max(map(len, _entries(coloring)))
    return min(len(coloring.classes), max(int(width / (0.55 + 0.085 * longest)), 1))


def save(figure: Any, path: str | os.PathLike[str], *, dpi: int = 300) -> Any:
    """Writes a figure to a file, of the kind that its name ends on.

    Args:
        figure: A figure that any function of `aljax.plot` returned.
        path: Ends on .png, .pdf, .svg or another that matplotlib writes; on .html for
            `trajectories`.  Folders that are missing are made.
        dpi: Pixels per inch, where there are pixels.

    Returns:
        The figure.

    Raises:
        InputError: An ending that the figure cannot be written as, or a file that
            cannot be written.
    """
    path = read_path(path)
    number(1)("dpi", dpi)
    flat = isinstance(figure, Figure)
    endings = sorted(figure.canvas.get_supported_filetypes()) if flat else ["html"]
    if path.suffix.removeprefix(".").lower() not in endings:
        expected = f"a path that ends on .{', .'.join(endings)}"
        raise InputError("path", f"is {path}", expected)
    with written(path) as beside:
        if flat:
            figure.savefig(beside, dpi=dpi)
        else:  # with plotly inside, so that it opens offline
            figure.write_html(beside, include_plotlyjs=True)
    return figure


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yields a path beside, which replaces `path` once it is whole.

    Folders that are missing are made.
    """
    beside = path.with_name(f".{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except OSError as error:
        got = f"is {path}, which cannot be written ({error.strerror or error})"
        raise InputError("path", got, "a file in a folder of yours") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
