"""Pictures of a layout's loss, of how far members move, and of what moved them."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.config import number
from aljax.contributions.result import Contributions, bars_of
from aljax.errors import InputError, instance, kind_of
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import recorded_epochs
from aljax.metrics.held import steps_of
from aljax.metrics.motion import in_radii
from aljax.plot import style
from aljax.plot.colors import PALETTE, UNKNOWN, get_cmap, hues_of, read_color
from aljax.plot.read import read_maps, read_members, read_moves, read_titles
from aljax.relations.mates import Members

TITLE = 14  # letters of a slice's title at an axis
MOVERS = 3  # named for each step, or for each
NAMED = 12  # th of a longer sequence
BOXES = 60  # steps; those of more would touch
FIGURE_SIZE = (8.0, 4.5)  # inches
WIDTH, BAR, HEAD = 6.0, 0.26, 1.1  # inches, of bars
SIDE = 4.6  # and of a picture of pixels
HUES = {"toward": "#3b6fb6", "back": "#c8553d", "rest": "#9a9a9a"}


def loss(
    model: Any, *, heading: str = "", color: Any = None, ax: Axes | None = None
) -> Figure:
    """Draws the loss's terms and their total, summed over slices, as far as recorded.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or its `history`, which is
            drawn as that of a layout of at most 1,000 epochs.
        heading: The title.
        color: One color for all lines; or one for each, by name or in order.
        ax: Where to draw; None makes a figure.

    Raises:
        InputError: A model without history, such as plain maps.
    """
    maps = getattr(model, "maps_", model)
    history = getattr(maps, "history", maps)
    if not isinstance(history, LossTerms):
        raise InputError(
            "model",
            f"is {kind_of(model)}, which has no history of the loss",
            "a fitted model or an AlignedEmbedding",
        )
    axis = ax or style.new_axes(*FIGURE_SIZE)
    axis.spines[["top", "right"]].set_visible(False)
    total = np.asarray(history.total())
    layout = getattr(maps, "layout", None)
    epochs = recorded_epochs(len(total), getattr(layout, "n_epochs", None))
    terms = {
        name: np.asarray(values).sum(axis=1) for name, values in vars(history).items()
    }
    lines = {"total": total} | terms
    shades = hues_of([*lines], color, [style.ink(), *PALETTE[: len(terms)]])
    dashes = ("-", "--", "-.", ":", (0, (5, 1)))
    for shade, dash, (name, values) in zip(shades, dashes, lines.items(), strict=False):
        look: dict[str, Any] = {"ls": dash, "color": shade, "label": name}
        look |= {"linewidth": 2} if name == "total" else {}
        look |= {"marker": "o"} if len(epochs) == 1 else {}  # which is no line
        axis.plot(epochs, values, **look)
    axis.set(xlabel="epoch", ylabel="loss, sum over the slices", yscale="log")
    style.put_title(axis, heading or "loss")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower left")  # "best" can take seconds
    return axis.figure.canvas.figure


def displacement(
    model: Any,
    *,
    ids: RowValues | None = None,
    titles: Any = None,
    heading: str = "",
    color: Any = PALETTE[0],
    ax: Axes | None = None,
    moves: Any = None,
) -> Figure:
    """Draws how far members move to the next slice, and names those that move most.

    A box holds the middle half of the members, its line the median, whiskers 90 %; of
    more than 60 steps these are bands.  The farthest three of each step are named, or
    of each twelfth of a longer sequence.  Distances are in radii: the median distance
    of all points to the center of their slice, or units of the maps where that is 0.

    Arguments and errors are those of `trajectories`, with `ax` of `loss` and the
    `color` of the boxes or bands; slices that share no member are refused, too.
    With `moves`, what `aljax.metrics.moved` called, boxes are gray, each called step
    has a dot, and only such steps are named.
    """
    maps = read_maps(model)
    if read_moves(moves, [*map(len, maps)]) is None:
        members = read_members(model, ids)
    else:
        members = Members(moves.codes, [*map(str, moves.names)])
    titles = read_titles(titles, model, len(maps))
    steps, joined = steps_of(members), np.concatenate(maps)
    lengths = np.linalg.norm(joined[steps.after] - joined[steps.before], axis=1)
    if not lengths.size:
        got = "has no member in two consecutive slices, so none moves"
        raise InputError("model", got, "several slices that share members")
    relative = in_radii(lengths, maps)
    radius_is_zero = np.isnan(relative).any()  # as of slices of single rows
    lengths = lengths if radius_is_zero else relative
    axis = ax or style.new_axes(*FIGURE_SIZE)
    axis.spines[["top", "right"]].set_visible(False)
    hue = read_color("color", color)
    count = len(maps) - 1
    moved = np.split(lengths, np.searchsorted(steps.step, np.arange(1, count)))
    _draw_distances(axis, moved, hue if moves is None else to_rgba(UNKNOWN))
    axis.set(xlim=(0.4, count + 0.6), ylim=(0, 1.12 * lengths.max() or 1.0))
    shown = np.ones(len(lengths), bool)
    if moves is not None:
        shown = moves.steps.called
        dots = {"s": 4, "color": hue, "alpha": 0.5, "zorder": 2.5}
        axis.scatter(steps.step[shown] + 1, lengths[shown], **dots)
    long = max(map(len, titles)) > TITLE  # then the slices' numbers stand for them
    ends = [*map(str, range(len(titles)))] if long else titles
    every = -(-count // NAMED)
    ticks = [f"{a} \u2192 {b}" for a, b in pairwise(ends)][::every]
    texts = [*map(style.plain, ticks)]
    axis.set_xticks(range(1, count + 1, every), texts, fontsize="small")
    if max(map(len, ticks)) > 5:
        axis.tick_params("x", rotation=30)
        for label in axis.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    unit = "units" if radius_is_zero else "radii"
    axis.set_ylabel(f"displacement, in {unit} of the maps")
    style.put_title(axis, heading or "how far members move")
    farthest = []
    for stretch in range(-(-count // every)):
        moves_of = np.flatnonzero(shown & (steps.step // every == stretch))
        farthest.append(moves_of[np.argsort(lengths[moves_of])[: -MOVERS - 1 : -1]])
    named = np.concatenate(farthest)
    names = [members.names[code] for code in steps.member[named]]
    places = np.column_stack([steps.step[named] + 1, lengths[named]])
    axis.scatter(*places.T, s=9, color=PALETTE[1], zorder=3)
    style.name_places(axis, names, places, fontsize="x-small")
    return axis.figure.canvas.figure


def _draw_distances(axis: Axes, shared: list[np.ndarray], color: Any) -> None:
    """Draws the distribution of each step's distances: boxes, or bands of many."""
    if len(shared) <= BOXES:
        line = {"color": style.ink()}
        box = {"facecolor": (*color[:3], 0.4 * color[3])}
        whole = {"patch_artist": True, "boxprops": box, "medianprops": line}
        axis.boxplot(shared, whis=(5, 95), showfliers=False, **whole)
        return
    parts = [0.05, 0.25, 0.5, 0.75, 0.95]
    none = [np.nan] * len(parts)
    parts = np.array([np.quantile(x, parts) if x.size else none for x in shared]).T
    steps = np.arange(1, len(shared) + 1)
    for low, high, shade in ((0, 4, 0.2), (1, 3, 0.4)):
        band = {"color": color, "alpha": shade, "linewidth": 0}
        axis.fill_between(steps, parts[low], parts[high], **band)
    axis.plot(steps, parts[2], color=style.ink(), linewidth=1)


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
