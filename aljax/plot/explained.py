"""A picture of an explanation: the columns that moved members the farthest."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aljax.config import number
from aljax.contributions.result import Contributions, bars_of
from aljax.errors import InputError, instance
from aljax.plot import style
from aljax.plot.colors import get_cmap, hues_of

WIDTH, BAR, HEAD = 6.0, 0.26, 1.1  # inches
SIDE = 4.6
HUES = {"toward": "#3b6fb6", "back": "#c8553d", "rest": "#9a9a9a"}


def contributions(
    contributions: Any,
    n_columns: int = 10,
    *,
    image_shape: Sequence[int] | None = None,
    color: Any = None,
    cmap: Any = "RdBu",
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Draws how far each column carried a member, or a group on average.

    Each bar is a part along the move: blue toward its end, red back; the columns that
    moved it farthest first, then (gray) the other columns, the other members, and what
    is unexplained.

    Args:
        contributions: As `aljax.explain` returns them; of several members the mean.
        n_columns: Columns that have a bar (at least 1); the others share one.
        image_shape: For columns that are pixels, `(height, width)`: draws a picture
            instead, blue where they carried the member toward the end of its move.
        color: Of bars toward the end of the move, of those back and of the rest; or of
            some of them by these names, {"toward": .., "back": .., "rest": ..}.
        cmap: The color map of pixels, for numbers that rise toward the end.
        ax: Where to draw; None makes a figure.
        title: Above the picture; None for the members and slices.

    Raises:
        InputError: These are not contributions, or pixels do not fill the picture.
    """
    expected = "what `aljax.explain` returns"
    instance("contributions", contributions, Contributions, expected)
    number(1, whole=True)("n_columns", n_columns)
    mean = contributions.mean()
    length = float(np.linalg.norm(mean.moves))
    unit = f"map units along the move of {length:.2g}"
    if image_shape is None:
        names, bars = bars_of(mean, 0, n_columns)
        ax = ax or style.new_axes(WIDTH, HEAD + BAR * len(names))
        hues = hues_of([*HUES], color, [*HUES.values()])
        _draw_bars(ax, names, bars, min(n_columns, len(mean.columns)), hues)
        ax.set_xlabel(unit)
    else:
        ax = ax or style.new_axes(SIDE + 1, SIDE)
        _draw_picture(ax, mean.along[0], tuple(image_shape), unit, cmap)
    of_data = style.plain(f"{mean.members[0]}, {mean.title}")
    style.put_title(ax, of_data if title is None else title)
    return ax.figure.canvas.figure


def _draw_bars(
    ax: Axes, names: list[str], bars: np.ndarray, named: int, hues: np.ndarray
) -> None:
    places = np.arange(len(names))
    hue_of_bar = np.where(places < named, bars < 0, 2)
    ax.barh(places, bars, color=hues[hue_of_bar], height=0.7)
    ax.axvline(0, color=style.ink(), linewidth=0.8)
    ax.set_yticks(places, [*map(style.plain, names)])
    ax.invert_yaxis()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def _draw_picture(
    ax: Axes, along: np.ndarray, shape: tuple[int, ...], unit: str, cmap: Any
) -> None:
    if len(shape) != 2 or prod(shape) != len(along):
        got = f"is {shape}, which the {len(along)} columns do not fill"
        raise InputError("image_shape", got, "(height, width) of the picture")
    reach = float(np.abs(along).max()) or 1.0
    picture = along.reshape(shape)
    shown = ax.imshow(picture, cmap=get_cmap(cmap), vmin=-reach, vmax=reach)
    ax.set(xticks=[], yticks=[])
    ax.figure.canvas.figure.colorbar(shown, ax=ax, label=unit, shrink=0.8)
