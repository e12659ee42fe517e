"""Members as curves through the slices, in three dimensions, by plotly."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import to_hex

from aljax.columns import RowValues
from aljax.config import number
from aljax.plot.colors import UNKNOWN, Coloring, color_by
from aljax.plot.read import Tracks, read_members, read_titles, several_maps
from aljax.plot.style import spread
from aljax.relations.mates import Members

STEPS = 8  # points of a curve from a slice to the next, but fewer where all the curves
POINTS = 1_000_000  # would have more than so many
SHADES = 64  # of a color map
TICKS = 16  # slices named at the axis


def trajectories(
    model: Any,
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    color: Any = None,
    cmap: Any = None,
    ids: RowValues | None = None,
    titles: Sequence[str] | None = None,
    heading: str = "",
    limit: int | None = 2_000,
) -> go.Figure:
    """Draws members as smooth cubic curves through the slices, up the third axis.

    A member that is absent from a slice has a curve for each stay.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        labels: For each slice its rows' classes; a curve has that of its first slice.
        values: For each slice its rows' values, instead; likewise.
        color: As in `slices`.
        cmap: As in `slices`.
        ids: For each slice its rows' ids; None for the model's own.
        titles: One for each slice.
        heading: The title.
        limit: Members to draw at most, a random choice that is always the same; None
            for all.

    Returns:
        A plotly figure; `.show()` it, or `save` it as .html.

    Raises:
        InputError: A single slice, a `limit` below 1, or plain maps without ids.
    """
    maps, members = several_maps(model), read_members(model, ids)
    number(1, whole=True, optional=True)("limit", limit)
    titles = read_titles(titles, model, len(maps))
    sizes = [len(y) for y in maps]
    coloring = color_by(labels, values, sizes, color=color, cmap=cmap)
    chosen = np.arange(len(members.names))
    if limit is not None and len(chosen) > limit:
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:limit])
        heading = f"{heading} ({limit:,} of {len(members.names):,} members)".strip()
    curves = _curves(Tracks([y[:, :2] for y in maps], members), chosen)
    figure = go.Figure(_traces(curves, chosen, members, coloring))
    ticks = spread(len(maps), TICKS)
    axes = {"showticklabels": False, "title": ""}
    figure.update_layout(
        title=heading,
        template="plotly_white",
        margin={"l": 0, "r": 0, "b": 0, "t": 40 if heading else 0},
        legend={"itemsizing": "constant"},
        scene={
            "xaxis": axes,
            "yaxis": axes,
            "zaxis": {
                "title": "",
                "tickvals": ticks,
                "ticktext": [escape(titles[t], quote=False) for t in ticks],
            },
            "aspectmode": "manual",
            "aspectratio": {"x": 1, "y": 1, "z": 1.3},
        },
    )
    return figure


def _curves(tracks: Tracks, chosen: np.ndarray) -> np.ndarray:
    """Returns curves, NaN in gaps and at the end, where plotly lifts the pen."""
    last = len(tracks.maps) - 1
    smooth = max(1, min(STEPS, POINTS // (last * len(chosen))))
    times = np.linspace(0, last, last * smooth + 1)
    curves = np.zeros((len(chosen), len(times) + 1, 3), np.float32)
    for step, time in enumerate(times):
        places = tracks.at(time)[chosen]
        curves[:, step, : places.shape[1]] = places
    curves[:, :-1, 2] = times
    curves[:, -1] = np.nan
    return curves


def _traces(
    curves: np.ndarray, chosen: np.ndarray, members: Members, coloring: Coloring
) -> list[go.Scatter3d]:
    """Returns a trace for each class, or one; a member has its first slice's."""

    def first(rows: Sequence[np.ndarray]) -> np.ndarray:
        each = np.zeros(len(members.names), dtype=rows[0].dtype)
        for codes, values in zip(members.codes[::-1], rows[::-1], strict=True):
            each[codes] = values
        return each[chosen]

    names = np.array([members.names[code] for code in chosen], object)
    if coloring.values is not None and coloring.limits is not None:
        low, high = coloring.limits
        ramp = [to_hex(coloring.cmap(value)) for value in np.linspace(0, 1, SHADES)]
        scale = {"colorscale": ramp, "cmin": low, "cmax": high, "showscale": True}
        each = np.repeat(first(coloring.values), curves.shape[1])
        return [_trace(curves, names, {"color": each, **scale})]
    if coloring.codes is None:
        return [_trace(curves, names, {"color": coloring.plain})]
    titles = [*coloring.classes, "unknown"]
    hues = [*map(to_hex, coloring.palette), UNKNOWN]
    each = first(coloring.codes) % len(titles)  # -1 is the last
    traces = []
    for code in np.unique(each):
        rows, line = each == code, {"color": hues[code]}
        traces.append(_trace(curves[rows], names[rows], line, titles[code]))
    return traces


def _trace(
    curves: np.ndarray, names: np.ndarray, line: dict[str, Any], title: str = ""
) -> go.Scatter3d:
    """Returns all curves of a class as one line, with one point of each gap."""
    gap = np.isnan(curves[..., 0])
    shown = ~gap
    shown[:, 1:] |= ~gap[:, :-1]
    x, y, z = curves[shown].T
    if np.ndim(line["color"]):
        line = line | {"color": line["color"][shown.ravel()]}
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines",
        name=escape(title, quote=False),  # plotly reads HTML
        showlegend=bool(title),
        opacity=0.55,
        line={"width": 2, **line},
        text=np.repeat([escape(name, quote=False) for name in names], shown.sum(1)),
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        connectgaps=False,
    )
