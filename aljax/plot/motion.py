"""Pictures of a layout's loss, and of how far members move."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.errors import InputError
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import recorded_epochs
from aljax.plot import style
from aljax.plot.read import (
    Map,
    Members,
    read_maps,
    read_members,
    read_titles,
)
from aljax.plot.style import PALETTE

TITLE = 14  # letters of a slice's title at an axis
MOVERS = 3  # named for each pair
FIGURE_SIZE = (7.0, 4.2)  # inches


class Tracks(NamedTuple):
    """Each member's place in each slice and its path's slope there; NaN if absent."""

    positions: Float[np.ndarray, "slices members components"]
    slopes: Float[np.ndarray, "slices members components"]

    def at(self, time: float) -> Float[np.ndarray, "members components"]:
        """Positions at a time from 0 to slices - 1; NaN in gaps."""
        t = min(int(time), len(self.positions) - 2)
        u = time - t
        if u in (0, 1):
            return self.positions[t + int(u)]
        return (
            (2 * u**3 - 3 * u**2 + 1) * self.positions[t]
            + (u**3 - 2 * u**2 + u) * self.slopes[t]
            + (3 * u**2 - 2 * u**3) * self.positions[t + 1]
            + (u**3 - u**2) * self.slopes[t + 1]
        )

    def fading(
        self, time: float
    ) -> tuple[Float[np.ndarray, "members components"], Float[np.ndarray, "members"]]:
        """Positions, and opacity (0 to 1): members fade where they leave or come."""
        t = min(int(time), len(self.positions) - 2)
        starts, ends = self.positions[t : t + 2]
        here, there = np.isfinite(starts[:, 0]), np.isfinite(ends[:, 0])
        opacity = here * (1.0 - (time - t)) + there * (time - t)
        where = np.where((here & ~there)[:, None], starts, self.at(time))
        return np.where((there & ~here)[:, None], ends, where), opacity


def track(maps: Sequence[Map], members: Members) -> Tracks:
    """The members' paths through a sequence of maps."""
    positions = np.full((len(maps), len(members.names), maps[0].shape[1]), np.nan)
    for t, (y, codes) in enumerate(zip(maps, members.codes, strict=True)):
        positions[t, codes] = y
    nothing = np.full_like(positions[:1], np.nan)
    steps = np.concatenate([nothing, np.diff(positions, axis=0), nothing])
    before, after = steps[:-1], steps[1:]
    lone = np.where(np.isnan(before), after, before)
    slopes = np.where(np.isnan(before + after), lone, (before + after) / 2)
    return Tracks(positions, slopes)


def loss(model: Any, *, heading: str = "", ax: Axes | None = None) -> Figure:
    """The three terms and their total, summed over the slices, as far as recorded.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or its `history`, of which
            1,000 epochs or fewer are taken for granted.
        heading: The title.
        ax: Where to draw; None makes a figure.

    Raises:
        InputError: A model without history, such as plain maps.
    """
    maps = getattr(model, "maps_", model)
    history = getattr(maps, "history", maps)
    if not isinstance(history, LossTerms):
        raise InputError(
            "model",
            f"is a {type(model).__name__}, which has no history of the loss",
            "a fitted model or an AlignedEmbedding",
        )
    axis = ax or style.new_axes(*FIGURE_SIZE)
    axis.spines[["top", "right"]].set_visible(False)
    total = np.asarray(history.total())
    layout = getattr(maps, "layout", None)
    epochs = recorded_epochs(len(total), getattr(layout, "n_epochs", None))
    axis.plot(epochs, total, color="black", linewidth=2, label="total")
    styles = zip(PALETTE[:3], ("--", "-.", ":"), vars(history).items(), strict=True)
    for color, dashes, (name, values) in styles:
        summed = np.asarray(values).sum(axis=1)
        axis.plot(epochs, summed, color=color, linestyle=dashes, label=name)
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
    """Draws how far members move to the next slice, and names those that move most.

    A box holds the middle half of the members, its line the median, whiskers 90 %; the
    farthest three are named.  Distances are in radii: the median distance of all points
    to the center of their slice.

    Arguments and errors are those of `trajectories`, with `ax` of `loss`; slices that
    share no member are refused, too.
    """
    maps, members = read_maps(model), read_members(model, ids)
    titles = read_titles(titles, model, len(maps))
    steps = np.diff(track(maps, members).positions, axis=0)
    moved = np.linalg.norm(steps, axis=2)
    if not np.isfinite(moved).any():
        got = "has no member in two consecutive slices, so none moves"
        raise InputError("model", got, "several slices that share members")
    radii = [np.linalg.norm(y - y.mean(axis=0), axis=1) for y in maps]
    moved = moved / np.median(np.concatenate(radii))
    width, height = FIGURE_SIZE
    axis = ax or style.new_axes(max(width, len(moved)), height)
    axis.spines[["top", "right"]].set_visible(False)
    shared = [lengths[np.isfinite(lengths)] for lengths in moved]
    axis.boxplot(shared, whis=(5, 95), showfliers=False, medianprops={"color": "black"})
    axis.set(xlim=(0.4, len(moved) + 0.6), ylim=(0, 1.12 * np.nanmax(moved)))
    long = max(map(len, titles)) > TITLE  # then the slices' numbers stand for them
    ends = [*map(str, range(len(titles)))] if long else titles
    ticks = [f"{a} \u2192 {b}" for a, b in pairwise(ends)]
    lean = {"rotation": 30, "ha": "right"} if max(map(len, ticks)) > 9 else {}
    axis.set_xticks(range(1, len(ticks) + 1), ticks, fontsize="small", **lean)
    axis.set_ylabel("displacement, in radii of the maps")
    axis.set_title(heading or "how far members move")
    _name_movers(axis, moved, members.names)
    return axis.figure.canvas.figure


def _name_movers(axis: Axes, moved: np.ndarray, names: list[str]) -> None:
    """Marks and names the members that move most in each step."""
    labels = []
    for t, lengths in enumerate(moved):
        most = np.argsort(np.nan_to_num(lengths, nan=-1))[: -MOVERS - 1 : -1]
        most = most[np.isfinite(lengths[most])]
        axis.scatter(np.full(len(most), t + 1), lengths[most], s=9, color=PALETTE[1])
        for row in most:
            beside = np.array([t + 1.14, lengths[row]])
            text = style.name(axis, names[row], beside, ha="left")
            labels.append((text, t + 1.03, lengths[row]))
    style.settle(axis)
    for text, right, height in labels:  # names that had to give way stay tied
        if text.get_visible():
            x, y = text.get_position()
            axis.plot([right, x - 0.01], [height, y], color="grey", linewidth=0.5)
