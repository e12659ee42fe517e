"""Pictures of a layout's loss, and of how far members move."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.spatial import KDTree

from aljax.columns import RowValues
from aljax.errors import InputError, kind_of
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import recorded_epochs
from aljax.metrics import Moves
from aljax.metrics.maps import neighborhood_preservation
from aljax.metrics.motion import in_radii
from aljax.plot import style
from aljax.plot.colors import PALETTE, UNKNOWN, hues_of, read_color
from aljax.plot.read import (
    Map,
    Members,
    read_maps,
    read_members,
    read_moves,
    read_titles,
)

FEW = 4  # columns
TITLE = 14  # letters of a slice's title at an axis
MOVERS = 3  # named for each step, or for each
NAMED = 12  # th of a longer sequence
BOXES = 60  # steps; those of more would touch
FIGURE_SIZE = (8.0, 4.5)  # inches


class Tracks(NamedTuple):
    """The paths of members through a sequence of maps."""

    maps: Sequence[Map]
    members: Members

    def of(self, t: int) -> Float[np.ndarray, "members components"]:
        """Positions in a slice; NaN where absent, and before and after the sequence."""
        places = np.full((len(self.members.names), self.maps[0].shape[1]), np.nan)
        if 0 <= t < len(self.maps):
            places[self.members.codes[t]] = self.maps[t]
        return places

    def at(self, time: float) -> Float[np.ndarray, "members components"]:
        """Positions at a time from 0 to slices - 1; NaN in gaps."""
        t = min(int(time), len(self.maps) - 2)
        u = time - t
        if u in (0, 1):
            return self.of(t + int(u))
        start, end = self.of(t), self.of(t + 1)
        step = end - start
        before, after = start - self.of(t - 1), self.of(t + 2) - end
        leaving = np.where(np.isnan(before), step, (before + step) / 2)
        arriving = np.where(np.isnan(after), step, (step + after) / 2)
        return (
            (2 * u**3 - 3 * u**2 + 1) * start
            + (u**3 - 2 * u**2 + u) * leaving
            + (3 * u**2 - 2 * u**3) * end
            + (u**3 - u**2) * arriving
        )

    def fading(
        self, time: float
    ) -> tuple[Float[np.ndarray, "members components"], Float[np.ndarray, "members"]]:
        """Returns positions and opacities; members fade where they leave or come."""
        t = min(int(time), len(self.maps) - 2)
        starts, ends = self.of(t), self.of(t + 1)
        present, present_later = np.isfinite(starts[:, 0]), np.isfinite(ends[:, 0])
        opacity = present * (1.0 - (time - t)) + present_later * (time - t)
        where = np.where((present & ~present_later)[:, None], starts, self.at(time))
        return np.where((present_later & ~present)[:, None], ends, where), opacity


def neighbor_change(
    before: Float[np.ndarray, "rows _"], after: Float[np.ndarray, "rows _"], k: int
) -> Float[np.ndarray, "rows"]:
    """Returns the share of each row's k nearest that are not among its k in `after`.

    It is 1 - `metrics.neighborhood_preservation`; in few columns a tree finds them,
    but for rows whose k-th nearest is as far as the next.
    """
    measure = partial(neighborhood_preservation, before, after, n_neighbors=k)
    if max(before.shape[1], after.shape[1]) > FEW:
        return 1 - measure(per_point=True)
    (far, near), (later_far, later) = (
        map(np.asarray, KDTree(rows).query(rows, k + 2, workers=-1))
        for rows in (before, after)
    )
    near, later = near[:, :-1, None], later[:, None, :-1]
    kept = (near == later).any(axis=2).sum(axis=1) - 1  # without the row itself
    changed = 1 - kept / k
    tied = (far[:, -1] == far[:, -2]) | (later_far[:, -1] == later_far[:, -2])
    if tied.any():
        changed[tied] = 1 - measure(rows=tied, per_point=True)
    return changed


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
    codes, moved = _distances(maps, members)
    if not any(lengths.size for lengths in moved):
        got = "has no member in two consecutive slices, so none moves"
        raise InputError("model", got, "several slices that share members")
    cuts, lengths = np.cumsum([*map(len, moved)])[:-1], np.concatenate(moved)
    relative = in_radii(lengths, maps)
    radius_is_zero = np.isnan(relative).any()  # as of slices of single rows
    moved = np.split(lengths if radius_is_zero else relative, cuts)
    axis = ax or style.new_axes(*FIGURE_SIZE)
    axis.spines[["top", "right"]].set_visible(False)
    top = 1.12 * np.concatenate(moved).max() or 1.0
    hue = read_color("color", color)
    _draw_distances(axis, moved, hue if moves is None else to_rgba(UNKNOWN))
    if moves is not None:
        codes, moved = _draw_called(axis, codes, moved, moves, hue)
    axis.set(xlim=(0.4, len(moved) + 0.6), ylim=(0, top))
    long = max(map(len, titles)) > TITLE  # then the slices' numbers stand for them
    ends = [*map(str, range(len(titles)))] if long else titles
    every = -(-len(moved) // NAMED)
    ticks = [f"{a} \u2192 {b}" for a, b in pairwise(ends)][::every]
    shown = [*map(style.plain, ticks)]
    axis.set_xticks(range(1, len(moved) + 1, every), shown, fontsize="small")
    if max(map(len, ticks)) > 5:
        axis.tick_params("x", rotation=30)
        for label in axis.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    unit = "units" if radius_is_zero else "radii"
    axis.set_ylabel(f"displacement, in {unit} of the maps")
    style.put_title(axis, heading or "how far members move")
    steps, rows = _farthest(moved)
    names = [members.names[codes[t][i]] for t, i in zip(steps, rows, strict=True)]
    heights = [moved[t][i] for t, i in zip(steps, rows, strict=True)]
    places = np.column_stack([np.array(steps) + 1, heights])
    axis.scatter(*places.T, s=9, color=PALETTE[1], zorder=3)
    style.name_places(axis, names, places, fontsize="x-small")
    return axis.figure.canvas.figure


def _distances(
    maps: Sequence[Map], members: Members
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the members that consecutive slices share, and how far they move."""
    codes_of, moved = [], []
    for t, (before, after) in enumerate(pairwise(members.codes)):
        codes, rows, later_rows = np.intersect1d(before, after, return_indices=True)
        codes_of.append(codes)
        moved.append(np.linalg.norm(maps[t + 1][later_rows] - maps[t][rows], axis=1))
    return codes_of, moved


def _draw_called(
    axis: Axes, codes: list[np.ndarray], moved: list[np.ndarray], moves: Moves, hue: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draws a dot for each called step, and returns those alone."""
    called = np.split(moves.steps.called, np.cumsum([*map(len, moved)])[:-1])
    codes, moved = (
        [x[mask] for x, mask in zip(values, called, strict=True)]
        for values in (codes, moved)
    )
    step = np.repeat(np.arange(1, len(moved) + 1), [*map(len, moved)])
    axis.scatter(step, np.concatenate(moved), s=4, color=hue, alpha=0.5, zorder=2.5)
    return codes, moved


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


def _farthest(moved: list[np.ndarray]) -> tuple[list[int], list[int]]:
    """Finds the step and place of those that move most in each stretch of steps."""
    every = -(-len(moved) // NAMED)
    steps, rows = [], []
    for start in range(0, len(moved), every):
        stretch = moved[start : start + every]
        step = np.repeat(np.arange(len(stretch)), [*map(len, stretch)])
        row = np.concatenate([np.arange(len(lengths)) for lengths in stretch])
        most = np.argsort(np.concatenate(stretch))[: -MOVERS - 1 : -1]
        steps += (start + step[most]).tolist()
        rows += row[most].tolist()
    return steps, rows
