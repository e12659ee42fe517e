"""Colours: labels or values in, one colour for each point out, the same in all slices.

Up to 10 classes have colours that stay apart with colour vision deficiencies (a choice
of Paul Tol's "muted" scheme and a grey).  More turn the hue by the golden angle in
OKLCH, in three steps of lightness, so that classes next to each other differ in both.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps, colors

from aljax.exports import RowValues, per_row

PALETTE = (
    *("#332288", "#cc6677", "#117733", "#ddcc77", "#88ccee"),
    *("#882255", "#44aa99", "#999933", "#aa4499", "#666666"),
)
UNKNOWN = "#c8c8c8"  # a missing label or value
PLAIN = PALETTE[0]
COLORMAP = "viridis"
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


def palette(classes: int) -> Float[np.ndarray, "classes 4"]:
    """Colours (RGBA) for any number of classes."""
    if classes <= len(PALETTE):
        return colors.to_rgba_array(PALETTE[:classes])
    each = np.arange(classes)
    lightness = np.array([0.45, 0.62, 0.78])[each % 3]
    hue = 2 * np.pi * each * 0.381966
    return np.column_stack([_from_oklch(lightness, 0.13, hue), np.ones(classes)])


def _from_oklch(
    lightness: np.ndarray, chroma: float, hue: np.ndarray
) -> Float[np.ndarray, "_ 3"]:
    """SRGB of colours in OKLCH (Ottosson 2020, "A perceptual color space")."""
    lab = np.column_stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])
    to_lms = [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
    to_rgb = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    linear = np.clip((lab @ np.transpose(to_lms)) ** 3 @ np.transpose(to_rgb), 0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curved)


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


def _by_label(labels: list[np.ndarray]) -> Coloring:
    listed = [one for array in labels for one in array.tolist()]
    known = {one for one in listed if one is not None and one == one}
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
        return sorted(known, key=str)


def _by_value(values: list[np.ndarray]) -> Coloring:
    try:
        numbers = [np.asarray(one, dtype=float) for one in values]
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
