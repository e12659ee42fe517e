"""The look of pictures: colors, legends, sizes and saving."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps, colors, patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from aljax.columns import RowValues, is_missing, per_row
from aljax.config import number
from aljax.errors import read_path

LEGEND_LIMIT = 40  # classes, beyond which a legend outgrows the picture
NAME_LENGTH = 14  # letters of a class's name in a map
MARGIN = 0.06  # of the maps' extent, on each side
GAP = 3  # pixels between names, and from a name to the frame
NAME = "class name"


PALETTE = (
    *("#332288", "#cc6677", "#117733", "#ddcc77", "#88ccee"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#666666"),
)
UNKNOWN = "#c8c8c8"  # a missing label or value
PLAIN = PALETTE[0]
COLORMAP = "viridis"
# Full sight, and without one kind of cone (Machado, Oliveira & Fernandes 2009).
SIGHT = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    ]
)
# From linear RGB to the response of cones, and from their roots to OKLab.
TO_LMS = np.transpose(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.transpose(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
DARKEST, LIGHTEST = 0.25, 0.88  # in OKLab, to be told from names and from paper
CLASSES = 256  # more different labels than that are quantities or names


class Coloring(NamedTuple):
    """Colours, and what they mean.

    Attributes:
        points: For each slice a colour (RGBA, 0 to 1) for each point.
        codes: For each slice each point's class; -1 for unknown.  None without labels.
        classes: What the classes are called.
        palette: Their colours.
        limits: The values at the two ends of the colour map, if there are values.
        values: For each slice each point's value; None without values.
    """

    points: list[Float[np.ndarray, "_ 4"]]
    codes: list[Int[np.ndarray, "_"]] | None = None
    classes: Sequence[str] = ()
    palette: Float[np.ndarray, "_ 4"] = np.zeros((0, 4))
    limits: tuple[float, float] | None = None
    values: list[np.ndarray] | None = None


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


def palette(classes: int) -> Float[np.ndarray, "classes 4"]:
    """Colours (RGBA) for any number of classes (0 to 256).

    Beyond the ten each is the one that lies farthest from all before it, for those who
    see it least well.
    """
    chosen = colors.to_rgba_array(PALETTE[:classes])
    if classes <= len(PALETTE):
        return chosen
    steps = np.linspace(0, 1, 14)
    every = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    light = _seen(every)[:, 0, 0]
    every = every[(light > DARKEST) & (light < LIGHTEST)]
    seen, taken = _seen(every), _seen(chosen[:, :3])
    least = np.full(len(every), np.inf)
    for one in taken:
        least = np.minimum(least, _apart(seen, one))
    more = np.empty(classes - len(PALETTE), int)
    for i in range(len(more)):
        more[i] = least.argmax()
        least = np.minimum(least, _apart(seen, seen[more[i]]))
    return np.vstack([chosen, np.column_stack([every[more], np.ones(len(more))])])


def _apart(colors: np.ndarray, one: np.ndarray) -> Float[np.ndarray, "_"]:
    """How far colours are from one, for those to whom they are closest."""
    return np.linalg.norm(colors - one, axis=2).min(axis=1)


def _seen(rgb: Float[np.ndarray, "_ 3"]) -> Float[np.ndarray, "_ kinds 3"]:
    """Each colour in OKLab (Ottosson 2020), as every kind of sight sees it."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    as_seen = np.clip(np.einsum("kij,nj->nki", SIGHT, linear), 0, 1)
    return np.cbrt(as_seen @ TO_LMS) @ TO_LAB


def color_by(
    labels: RowValues | None, values: RowValues | None, sizes: Sequence[int]
) -> Coloring:
    """Colours by class, or by value, or one for all.

    Args:
        labels: For each slice its rows' classes; None and NaN are unknown.
        values: For each slice its rows' values, instead; NaN is unknown.
        sizes: Rows of each slice.

    Raises:
        ValueError: Both; or what does not fit the slices; or too many classes.
    """
    if labels is not None and values is not None:
        raise ValueError(
            "`labels` and `values` are both given; a point has one colour. Pass "
            "either classes as `labels` or quantities as `values`."
        )
    if labels is not None:
        return _by_label(per_row("labels", labels, sizes))
    if values is not None:
        return _by_value(per_row("values", values, sizes))
    plain = colors.to_rgba(PLAIN)
    return Coloring([np.tile(plain, (size, 1)) for size in sizes])


def color_map(labels: Any, values: Any, size: int) -> Coloring:
    """`color_by` for one map, given its rows' classes or values alone."""
    labels, values = (None if one is None else [one] for one in (labels, values))
    return color_by(labels, values, [size])


def _by_label(labels: list[np.ndarray]) -> Coloring:
    listed = [one for array in labels for one in array.tolist()]
    known = {one for one in listed if not is_missing(one)}
    if len(known) > CLASSES:
        raise ValueError(
            f"`labels` has {len(known):,} different labels; expected at most {CLASSES} "
            "classes. Pass quantities as `values`, or leave out what tells no groups."
        )
    ordered = _in_order(known)
    place = {one: code for code, one in enumerate(ordered)}
    joined = np.array([place.get(one, -1) for one in listed], dtype=int)
    codes = np.split(joined, np.cumsum([len(array) for array in labels])[:-1])
    own = palette(len(ordered))
    shown = np.vstack([own, colors.to_rgba(UNKNOWN)])  # -1 is the last
    return Coloring(
        [shown[code] for code in codes],
        codes=codes,
        classes=[str(one) for one in ordered],
        palette=own,
    )


def _in_order(known: set[Any]) -> list[Any]:
    try:
        return sorted(known)
    except TypeError:  # numbers and text
        return sorted(known, key=lambda one: (str(one), type(one).__name__))


def _as_floats(column: np.ndarray) -> np.ndarray:
    """A column of numbers, NaN where it holds something else for a missing one."""
    if column.dtype.kind == "O":
        missing = [is_missing(one) for one in column]
        column = np.where(missing, np.nan, column)
    return np.asarray(column, dtype=float)


def _by_value(values: list[np.ndarray]) -> Coloring:
    try:
        numbers = [_as_floats(one) for one in values]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`values` are no numbers ({error}); pass classes as `labels`."
        ) from error
    joined = np.concatenate(numbers)
    known = joined[np.isfinite(joined)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    scaled = [(one - low) / max(high - low, 1e-300) for one in numbers]
    unknown = colors.to_rgba(UNKNOWN)
    return Coloring(
        [
            np.where(np.isfinite(one)[:, None], colormaps[COLORMAP](one), unknown)
            for one in scaled
        ],
        limits=(float(low), float(high)),
        values=numbers,
    )
