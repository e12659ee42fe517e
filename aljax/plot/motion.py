"""How a layout came about, and how far members move in it."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aljax.exports import RowValues
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import RECORD_EVERY
from aljax.plot import paper
from aljax.plot.color import PALETTE
from aljax.plot.curves import track
from aljax.plot.given import read_maps, read_members, read_titles

TITLE = 14  # letters of a slice's title at an axis
MOVERS = 3  # named for each pair
SIZE = (7.0, 4.2)  # inches


def _axis(ax: Axes | None, width: float = SIZE[0]) -> Axes:
    if ax is None:
        ax = Figure(figsize=(width, SIZE[1]), layout="constrained").subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def loss(model: Any, *, heading: str = "", ax: Axes | None = None) -> Figure:
    """The three terms and their total, summed over the slices, as far as recorded.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or its `history`.
        heading: The title.
        ax: Where to draw; None makes a figure.

    Raises:
        ValueError: What holds no history, such as plain maps.
    """
    history = getattr(getattr(model, "maps_", model), "history", model)
    if not isinstance(history, LossTerms):
        raise ValueError(
            f"`model` is a {type(model).__name__}, which has no history of the loss; "
            "expected a fitted model or an AlignedEmbedding."
        )
    axis = _axis(ax)
    total = np.asarray(history.total())
    epochs = np.arange(len(total)) * RECORD_EVERY
    axis.plot(epochs, total, color="black", linewidth=2, label="total")
    styles = zip(PALETTE[:3], ("--", "-.", ":"), vars(history).items(), strict=True)
    for color, style, (name, values) in styles:
        summed = np.asarray(values).sum(axis=1)
        axis.plot(epochs, summed, color=color, linestyle=style, label=name)
    axis.set(xlabel="epoch", ylabel="loss, sum over the slices", yscale="log")
    axis.set_title(heading or "loss")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower left")  # "best" can take seconds
    return axis.figure.canvas.figure


def displacement(
    model: Any,
    *,
    ids: RowValues | None = None,
    titles: Any = None,
    heading: str = "",
    ax: Axes | None = None,
) -> Figure:
    """How far members move from each slice to the next, with those that move most.

    A box holds the middle half of the members, its line the median, whiskers 90 %; the
    farthest three are named.  Distances are in radii: the median distance of all points
    to the centre of their slice.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        ids: For each slice its rows' ids; None for the model's own.
        titles: One for each slice.
        heading: The title.
        ax: Where to draw; None makes a figure.

    Raises:
        ValueError: A single slice; slices that share no member; plain maps without
            ids.
    """
    maps, members = read_maps(model), read_members(model, ids)
    titles = read_titles(titles, model, len(maps))
    steps = np.diff(track(maps, members).positions, axis=0)
    moved = np.linalg.norm(steps, axis=2)
    if not np.isfinite(moved).any():
        raise ValueError(
            "`model` has no member in two consecutive slices, so none moves; expected "
            "several slices that share members."
        )
    radii = [np.linalg.norm(one - one.mean(axis=0), axis=1) for one in maps]
    moved = moved / np.median(np.concatenate(radii))
    axis = _axis(ax, width=max(SIZE[0], 1.0 * len(moved)))
    known = [one[np.isfinite(one)] for one in moved]
    axis.boxplot(known, whis=(5, 95), showfliers=False, medianprops={"color": "black"})
    most = [np.argsort(np.nan_to_num(one, nan=-1))[: -MOVERS - 1 : -1] for one in moved]
    for t, rows in enumerate(most):
        rows = rows[np.isfinite(moved[t, rows])]
        axis.scatter(np.full(len(rows), t + 1), moved[t, rows], s=9, color=PALETTE[1])
    axis.set(xlim=(0.4, len(moved) + 0.6), ylim=(0, 1.12 * np.nanmax(moved)))
    long = max(map(len, titles)) > TITLE  # then the slices' numbers stand for them
    ends = [*map(str, range(len(titles)))] if long else titles
    ticks = [f"{a} \u2192 {b}" for a, b in pairwise(ends)]
    lean = {"rotation": 30, "ha": "right"} if max(map(len, ticks)) > 9 else {}
    axis.set_xticks(range(1, len(ticks) + 1), ticks, fontsize="small", **lean)
    axis.set_ylabel("displacement, in radii of the maps")
    axis.set_title(heading or "how far members move")
    named = []
    for t, rows in enumerate(most):
        for row in rows[np.isfinite(moved[t, rows])]:
            beside = np.array([t + 1.14, moved[t, row]])
            text = paper.name(axis, members.names[row], beside, ha="left")
            named.append((text, t + 1.03, moved[t, row]))
    paper.settle(axis)
    for text, right, height in named:  # names that had to give way stay tied
        if text.get_visible():
            ends = (
                [right, text.get_position()[0] - 0.01],
                [height, text.get_position()[1]],
            )
            axis.plot(*ends, color="grey", linewidth=0.5)
    return axis.figure.canvas.figure
