"""Colors of points: by class, by value, or one for all."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import colorcet
import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps, colors
from matplotlib.colors import Colormap

from aljax.columns import RowValues, as_plain, is_missing, per_row
from aljax.errors import InputError, in_words, nearest_name

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
CLASSES = 256  # more different labels than that are quantities or names


class Coloring(NamedTuple):
    """The colors of each slice's points, and the classes or values they stand for."""

    points: list[Float[np.ndarray, "_ 4"]]  # RGBA, 0 to 1
    codes: list[Int[np.ndarray, "_"]] | None = None  # places in `classes`; -1: unknown
    classes: Sequence[str] = ()
    palette: Float[np.ndarray, "_ 4"] = np.zeros((0, 4))  # of the classes
    limits: tuple[float, float] | None = None  # values at the ends of the color map
    values: list[np.ndarray] | None = None
    plain: str = PLAIN  # of points without class or value
    cmap: Colormap = colormaps[COLORMAP]


def palette(classes: int) -> Float[np.ndarray, "classes 4"]:
    """Colors (RGBA) for any number of classes (0 to 256)."""
    return colors.to_rgba_array([*PALETTE, *MORE][:classes])


def color_by(
    labels: RowValues | None,
    values: RowValues | None,
    sizes: Sequence[int],
    *,
    color: Any = None,
    cmap: Any = None,
) -> Coloring:
    """Colors by each slice's classes, or by its values, or one for all.

    Args:
        labels: Classes.
        values: Values, instead.
        sizes: The rows of each slice.
        color: Of all points; with labels a color for each class, by name or in order.
        cmap: The color map of values.
    """
    if color is not None and values is not None:
        expected = "None: values have the colors of `cmap`"
        raise InputError("color", f"is {color!r}", expected)
    if cmap is not None and values is None:
        expected = "None: only `values` have a color map"
        raise InputError("cmap", f"is {cmap!r}", expected, "Pass classes' `color`.")
    if labels is not None and values is not None:
        raise InputError(
            "labels",
            "and `values` are both given",
            "one of them, as a point has one color",
            "Pass classes as `labels` or quantities as `values`.",
        )
    if labels is not None:
        return _by_label(per_row("labels", labels, sizes, exact=True), color)
    if values is not None:
        return _by_value(per_row("values", values, sizes), get_cmap(cmap))
    plain = colors.to_hex(PLAIN if color is None else read_color("color", color))
    points = [np.tile(colors.to_rgba(plain), (size, 1)) for size in sizes]
    return Coloring(points, plain=plain)


def gray_out(coloring: Coloring, shown: Sequence[np.ndarray] | None) -> Coloring:
    """Returns the colors with rows that are not shown as if nothing were known of them.

    None shows all.
    """
    if shown is None:
        return coloring

    def shown_only(rows: Sequence[np.ndarray], unknown: Any) -> list[np.ndarray]:
        pairs = zip(shown, rows, strict=True)
        return [np.where(mask, row.T, unknown).T for mask, row in pairs]

    gray = np.array(colors.to_rgba(UNKNOWN, 0.5))[:, None]
    coloring = coloring._replace(points=shown_only(coloring.points, gray))
    if coloring.values is not None:
        return coloring._replace(values=shown_only(coloring.values, np.nan))
    codes = coloring.codes
    if codes is None:  # one class, without a name
        hue = colors.to_rgba_array(coloring.plain)
        coloring = coloring._replace(classes=[""], palette=hue)
        codes = [np.zeros(len(mask), int) for mask in shown]
    return coloring._replace(codes=shown_only(codes, -1))


def get_cmap(cmap: Any) -> Colormap:
    """Returns a color map of matplotlib, given itself or its name; None for viridis."""
    try:
        return colormaps.get_cmap(COLORMAP if cmap is None else cmap)
    except (TypeError, ValueError) as error:
        got, expected = f"is {cmap!r}", "a color map of matplotlib, as 'magma'"
        raise InputError("cmap", got, expected) from error


def read_color(name: str, color: Any) -> tuple[float, float, float, float]:
    """Returns a color of matplotlib as RGBA."""
    try:
        return colors.to_rgba(color)
    except (TypeError, ValueError) as error:
        expected = "a color of matplotlib, as 'tab:red' or '#cc6677'"
        raise InputError(name, f"is {color!r}", expected) from error


def hues_of(
    classes: list[Any], color: Any, usual: Any = None
) -> Float[np.ndarray, "_ 4"]:
    """Returns each class's color: its own, else the usual one; one serves all."""
    usual = palette(len(classes)) if usual is None else colors.to_rgba_array(usual)
    if color is None:
        return usual
    if isinstance(color, Mapping):
        for label, value in color.items():
            if label not in classes:
                hint = nearest_name(str(label), [*map(str, classes)])
                raise InputError("color", f"has {label!r}", "classes' colors", hint)
            usual[classes.index(label)] = read_color(f"color[{label!r}]", value)
        return usual
    if colors.is_color_like(color):
        return np.tile(read_color("color", color), (len(classes), 1))
    if len(color) != len(classes):
        expected = f"one for each of {len(classes)} classes, in their order"
        raise InputError("color", f"has {len(color)} colors", expected)
    return np.array([read_color(f"color[{i}]", c) for i, c in enumerate(color)])


def color_map(labels: Any, values: Any, size: int, **colored: Any) -> Coloring:
    """Reads `color_by` of one map, given its rows' classes or values alone."""
    labels, values = (None if rows is None else [rows] for rows in (labels, values))
    return color_by(labels, values, [size], **colored)


def _by_label(labels: list[np.ndarray], color: Any) -> Coloring:
    rows = [label for array in labels for label in as_plain(array)]
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
    hues = hues_of(ordered, color)
    shown = np.vstack([hues, colors.to_rgba(UNKNOWN)])  # -1 is the last
    points = [shown[code] for code in codes]
    return Coloring(points, codes, [*map(in_words, ordered)], hues)


def _by_value(values: list[np.ndarray], cmap: Colormap) -> Coloring:
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
    ramp = cmap.with_extremes(bad=UNKNOWN)
    scale = colors.Normalize(low, high)
    points = [ramp(scale(np.ma.masked_invalid(rows))) for rows in floats]
    limits = float(low), float(high)
    return Coloring(points, limits=limits, values=floats, cmap=cmap)
