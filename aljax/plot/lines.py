"""Trajectories: each member as a smooth curve through the slices, in 3-D."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import to_hex

from aljax.checks import number
from aljax.exports import RowValues
from aljax.plot.color import COLORMAP, PLAIN, UNKNOWN, Coloring, color_by
from aljax.plot.curves import Tracks, track
from aljax.plot.given import Members, read_maps, read_members, read_titles

STEPS = 8  # points of a curve from a slice to the next


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
