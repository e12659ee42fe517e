"""How a layout came about, and how far members move in it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.config import number
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import RECORD_EVERY
from aljax.plot import style as paper
from aljax.plot.read import Map, Members, read_maps, read_members, read_titles
from aljax.plot.style import COLORMAP, PALETTE, PLAIN, UNKNOWN, Coloring, color_by

TITLE = 14  # letters of a slice's title at an axis
MOVERS = 3  # named for each pair
FIGURE_SIZE = (7.0, 4.2)  # inches


STEPS = 8  # points of a curve from a slice to the next


class Tracks(NamedTuple):
    """Where each member is in each slice; NaN where it is not.

    Attributes:
        positions: `(slices, members, components)`.
        slopes: The path's derivative there, per slice.
    """

    positions: Float[np.ndarray, "slices members components"]
    slopes: Float[np.ndarray, "slices members components"]

    def at(self, time: float) -> Float[np.ndarray, "members components"]:
        """Positions at a time from 0 to slices - 1; NaN in gaps."""
        t = min(int(time), max(len(self.positions) - 2, 0))
        u = time - t
        if u == 0:
            return self.positions[t]
        if u == 1:
            return self.positions[t + 1]
        return (
            (2 * u**3 - 3 * u**2 + 1) * self.positions[t]
            + (u**3 - 2 * u**2 + u) * self.slopes[t]
            + (3 * u**2 - 2 * u**3) * self.positions[t + 1]
            + (u**3 - u**2) * self.slopes[t + 1]
        )

    def fading(
        self, time: float
    ) -> tuple[Float[np.ndarray, "members components"], Float[np.ndarray, "members"]]:
        """Positions, and opacity (0 to 1): who leaves or comes fades where it is."""
        t = min(int(time), max(len(self.positions) - 2, 0))
        u, where = time - t, self.at(time)
        here = np.isfinite(self.positions[t, :, 0])
        there = np.isfinite(self.positions[min(t + 1, len(self.positions) - 1), :, 0])
        opacity = here * (1.0 - u) + there * u
        where = np.where((here & ~there)[:, None], self.positions[t], where)
        ends = self.positions[min(t + 1, len(self.positions) - 1)]
        return np.where((there & ~here)[:, None], ends, where), opacity


def _axis(ax: Axes | None, width: float = FIGURE_SIZE[0]) -> Axes:
    if ax is None:
        ax = Figure(figsize=(width, FIGURE_SIZE[1]), layout="constrained").subplots()
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
    axis = _axis(ax, width=max(FIGURE_SIZE[0], 1.0 * len(moved)))
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


def trajectories(
    model: Any,
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    ids: RowValues | None = None,
    titles: Sequence[str] | None = None,
    heading: str = "",
    limit: int | None = 2_000,
) -> go.Figure:
    """Each member as a smooth cubic curve through the slices, up along the third axis.

    A member that is absent from a slice has a curve for each stay.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        labels: For each slice its rows' classes; a curve has that of its first slice.
        values: For each slice its rows' values, instead; likewise.
        ids: For each slice its rows' ids; None for the model's own.
        titles: One for each slice.
        heading: The title.
        limit: Members to draw at most, a random choice that is always the same; None
            for all.

    Returns:
        A plotly figure; `.show()` it, or `save` it as .html.

    Raises:
        ValueError: A single slice, a `limit` below 1, or plain maps without ids.
    """
    maps, members = read_maps(model), read_members(model, ids)
    if len(maps) < 2:
        raise ValueError("`model` has one slice; trajectories need at least two.")
    number(1, whole=True, optional=True)("limit", limit)
    titles = read_titles(titles, model, len(maps))
    coloring = color_by(labels, values, [len(one) for one in maps])
    chosen = np.arange(len(members.names))
    if limit is not None and len(chosen) > limit:
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:limit])
        heading = f"{heading} ({limit:,} of {len(members.names):,} members)".strip()
    curves = _curves(track([one[:, :2] for one in maps], members), chosen)
    figure = go.Figure(_traces(curves, chosen, members, coloring))
    axes = {"showticklabels": False, "title": ""}
    figure.update_layout(
        title=heading,
        template="plotly_white",
        margin={"l": 0, "r": 0, "b": 0, "t": 40 if heading else 0},
        legend={"itemsizing": "constant"},
        scene={
            "xaxis": axes,
            "yaxis": axes,
            "zaxis": {"title": "", "tickvals": [*range(len(maps))], "ticktext": titles},
            "aspectmode": "manual",
            "aspectratio": {"x": 1, "y": 1, "z": 1.3},
        },
    )
    return figure


def _curves(tracks: Tracks, chosen: np.ndarray) -> np.ndarray:
    """`(chosen, steps, 3)`, NaN where a member is absent: plotly lifts the pen."""
    some = Tracks(tracks.positions[:, chosen], tracks.slopes[:, chosen])
    last = len(tracks.positions) - 1
    times = np.linspace(0, last, last * STEPS + 1)
    paths = np.stack([some.at(time) for time in times], axis=1)
    if paths.shape[2] == 1:
        paths = np.concatenate([paths, np.zeros_like(paths)], axis=2)
    heights = np.broadcast_to(times[:, None], (*paths.shape[:2], 1))
    return np.concatenate([paths, heights], axis=2)


def _first(members: Members, of: Sequence[np.ndarray]) -> np.ndarray:
    """What each member has in the first slice that it is in."""
    found = np.zeros(len(members.names), dtype=of[0].dtype)
    for codes, one in zip(members.codes[::-1], of[::-1], strict=True):
        found[codes] = one
    return found


def _traces(
    curves: np.ndarray, chosen: np.ndarray, members: Members, coloring: Coloring
) -> list[go.Scatter3d]:
    if coloring.values is not None and coloring.limits is not None:
        each = _first(members, coloring.values)[chosen]
        low, high = coloring.limits
        scale = {"colorscale": COLORMAP, "cmin": low, "cmax": high, "showscale": True}
        line = {"color": np.repeat(each, curves.shape[1] + 1), **scale}
        return [_trace(curves, chosen, members, line, "")]
    if coloring.codes is None:
        return [_trace(curves, chosen, members, {"color": PLAIN}, "")]
    each = _first(members, coloring.codes)[chosen]
    named = [*zip(coloring.classes, map(to_hex, coloring.palette), strict=True)]
    named.append(("unknown", UNKNOWN))
    traces = []
    for code in sorted(np.unique(each), key=lambda one: one if one >= 0 else np.inf):
        some = each == code
        title, color = named[code]
        line = {"color": color}
        traces.append(_trace(curves[some], chosen[some], members, line, title))
    return traces


def _trace(
    curves: np.ndarray,
    chosen: np.ndarray,
    members: Members,
    line: dict[str, Any],
    title: str,
) -> go.Scatter3d:
    """All curves of a class as one line, with a gap after each."""
    gaps = np.full((len(curves), 1, 3), np.nan)
    points = np.concatenate([curves, gaps], axis=1).reshape(-1, 3).astype(np.float32)
    return go.Scatter3d(
        x=points[:, 0],
        y=points[:, 1],
        z=points[:, 2],
        mode="lines",
        name=title,
        showlegend=bool(title),
        opacity=0.55,
        line={"width": 2, **line},
        text=np.repeat([members.names[one] for one in chosen], curves.shape[1] + 1),
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        connectgaps=False,
    )


def track(maps: Sequence[Map], members: Members) -> Tracks:
    """The members' paths through a sequence of maps."""
    components = maps[0].shape[1]
    positions = np.full((len(maps), len(members.names), components), np.nan)
    for t, (one, codes) in enumerate(zip(maps, members.codes, strict=True)):
        positions[t, codes] = one
    nothing = np.full_like(positions[:1], np.nan)
    before = positions - np.concatenate([nothing, positions[:-1]])
    after = np.concatenate([positions[1:], nothing]) - positions
    only = np.where(np.isnan(before), after, before)
    slopes = np.where(np.isnan(before + after), only, (before + after) / 2)
    return Tracks(positions, slopes)
