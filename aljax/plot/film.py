"""Animation: the slices one after the other, with smooth motion between them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.config import number
from aljax.errors import InputError, read_path
from aljax.plot import style
from aljax.plot.motion import track
from aljax.plot.read import read_members, read_titles, several_maps

SIZE = 4.8  # inches


def animate(
    model: Any,
    path: str | os.PathLike[str],
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    ids: RowValues | None = None,
    titles: Sequence[str] | None = None,
    fps: int = 12,
    seconds: float = 1.0,
    dpi: int = 100,
) -> Figure:
    """Writes a film of the sequence: members move smoothly, and fade in and out.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        path: Ends on .gif, or on .mp4 (which needs ffmpeg).
        labels: For each slice its rows' classes.
        values: For each slice its rows' values, instead.
        ids: For each slice its rows' ids; None for the model's own.
        titles: One for each slice.
        fps: Frames per second (1 to 50).
        seconds: From a slice to the next (above 0).
        dpi: Pixels per inch of 4.8 (at least 1).

    Returns:
        The figure of the last frame.

    Raises:
        InputError: Another ending, .mp4 without ffmpeg, a single slice, a number out
            of range, or plain maps without ids.
    """
    path = read_path(path)
    writer = _writer(path, fps)
    maps = [style.plane(y) for y in several_maps(model)]
    members = read_members(model, ids)
    number(0, open_low=True)("seconds", seconds)
    number(1)("dpi", dpi)
    titles = read_titles(titles, model, len(maps))
    coloring = style.color_by(labels, values, [len(y) for y in maps])
    colors = np.zeros((len(maps), len(members.names), 4))
    for t, codes in enumerate(members.codes):
        colors[t, codes] = coloring.points[t]
    height = SIZE + 0.5 + style.legend_height(coloring, SIZE)
    figure = Figure(figsize=(SIZE, height), layout="constrained", dpi=dpi)
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    box = style.bounds(np.concatenate(maps))
    panel.set(xticks=[], yticks=[], aspect="equal", title=titles[0], **box)
    style.explain(figure, panel, coloring)
    area = float(np.clip(4000 / max(map(len, maps)), 0.5, 12))
    dots = panel.scatter([], [], s=area, linewidths=0)
    tracks, steps = track(maps, members), max(round(fps * seconds), 1)
    last = (len(maps) - 1) * steps
    hold = steps // 2  # the ends stay a moment
    with writer.saving(figure, str(path), dpi):
        for frame in [*[0] * hold, *range(last), *[last] * (hold + 1)]:
            time = frame / steps
            where, opacity = tracks.fading(time)
            shown = opacity > 0
            near = min(int(time + 0.5), len(maps) - 1)
            other = min(int(time) + (near == int(time)), len(maps) - 1)
            # A member has its color in the nearest slice, or else in the one it is in.
            there = colors[near, :, 3:] > 0
            color = np.where(there, colors[near], colors[other])[shown]
            color[:, 3] *= opacity[shown]
            dots.set_offsets(where[shown])
            dots.set(facecolor=color)
            panel.set_title(titles[near])
            writer.grab_frame()
    return figure


def _writer(path: Path, fps: int) -> PillowWriter | FFMpegWriter:
    number(1, high=50)("fps", fps)
    kind = path.suffix.lower()
    if kind == ".gif":
        return PillowWriter(fps=fps)
    if kind != ".mp4":
        raise InputError("path", f"is {path}", "a path that ends on .gif or .mp4")
    if shutil.which("ffmpeg") is None:
        remedy = "Install it (apt install ffmpeg, brew install ffmpeg)."
        got = f"is {path}, but ffmpeg is not installed"
        raise InputError("path", got, "a path that ends on .gif, or ffmpeg", remedy)
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # as the codec needs it
    options = ["-vf", even, "-pix_fmt", "yuv420p"]
    return FFMpegWriter(fps=fps, codec="libx264", extra_args=options)
