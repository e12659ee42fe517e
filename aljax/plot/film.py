"""Animation: the slices one after the other, with smooth motion between them."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from aljax.columns import RowValues
from aljax.config import number
from aljax.errors import InputError, read_path
from aljax.plot import style
from aljax.plot.colors import Coloring, color_by, gray_out
from aljax.plot.read import (
    Tracks,
    read_members,
    read_moves,
    read_titles,
    several_maps,
)

SIZE = 4.8  # inches
LONGEST = 20  # seconds, of a film whose speed nobody chose


def animate(
    model: Any,
    path: str | os.PathLike[str],
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    color: Any = None,
    cmap: Any = None,
    ids: RowValues | None = None,
    titles: Sequence[str] | None = None,
    fps: int = 12,
    seconds: float | None = None,
    dpi: int = 100,
    moves: Any = None,
) -> Figure:
    """Writes a film of the sequence: members move smoothly, and fade in and out.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        path: Ends on .gif, or on .mp4 (which needs ffmpeg).  Folders that are missing
            are made.
        labels: For each slice its rows' classes.
        values: For each slice its rows' values, instead.
        color: As in `slices`.
        cmap: As in `slices`.
        ids: For each slice its rows' ids; None for the model's own.
        titles: One for each slice.
        fps: Frames per second (1 to 50).
        seconds: From a slice to the next (above 0); None for 1, or for less where the
            film would last more than 20.
        dpi: Pixels per inch of 4.8 (at least 1).
        moves: As in `slices`.

    Returns:
        The figure of the last frame.

    Raises:
        InputError: Another ending, .mp4 without ffmpeg, a single slice, a number out
            of range, or plain maps without ids.
    """
    path = read_path(path)
    _check_format(path, fps)
    maps = [style.plane(y) for y in several_maps(model)]
    members = read_members(model, ids)
    number(0, open_low=True, optional=True)("seconds", seconds)
    number(1)("dpi", dpi)
    titles = [*map(style.plain, read_titles(titles, model, len(maps)))]
    sizes = [len(y) for y in maps]
    coloring = color_by(labels, values, sizes, color=color, cmap=cmap)
    coloring = gray_out(coloring, read_moves(moves, sizes))
    height = SIZE + 0.5 + style.legend_height(coloring, SIZE)
    figure = style.Picture(figsize=(SIZE, height), layout="constrained", dpi=dpi)
    panel = figure.subplots()
    box = style.bounds(np.concatenate(maps))
    panel.set(xticks=[], yticks=[], aspect="equal", **box)
    titles = [style.put_title(panel, title) for title in titles]
    panel.set_title(max(titles, key=lambda title: title.count("\n")))  # room for all
    style.explain(figure, panel, coloring)
    steps = len(maps) - 1
    length = min(steps, LONGEST) if seconds is None else steps * seconds
    last = max(round(fps * length), 1)
    hold = -(-last // (2 * steps))  # the ends stay a moment
    numbers = [*[0] * hold, *range(last), *[last] * (hold + 1)]
    times = (frame * steps / last for frame in numbers)
    frames = _frames(panel, Tracks(maps, members), titles, coloring, times)
    with style.written(path) as beside:
        _write(beside, frames, fps)
    return figure


def _frames(
    panel: Axes,
    tracks: Tracks,
    titles: Sequence[str],
    coloring: Coloring,
    times: Iterable[float],
) -> Iterator[Image.Image]:
    """Draws points and title at each time onto the rest, which is drawn once."""
    canvas = FigureCanvasAgg(panel.figure.canvas.figure)
    area = float(np.clip(4000 / max(map(len, tracks.maps)), 0.5, 12))
    dots = panel.scatter([], [], s=area, linewidths=0)
    moving = [dots, panel.title]
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(panel.figure.bbox)
    for time in times:
        where, opacity = tracks.fading(time)
        near = min(int(time + 0.5), len(titles) - 1)
        other = min(int(time) + (near == int(time)), len(titles) - 1)
        # A member has its color in the nearest slice, or else in the one it is in.
        colors = np.zeros((len(tracks.members.names), 4))
        for t in (other, near):
            colors[tracks.members.codes[t]] = coloring.points[t]
        colors[:, 3] *= opacity
        shown = opacity > 0
        dots.set_offsets(where[shown])
        dots.set(facecolor=colors[shown])
        panel.title.set_text(titles[near])
        canvas.restore_region(still)
        for artist in moving:
            panel.draw_artist(artist)
        yield Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _check_format(path: Path, fps: int) -> None:
    number(1, high=50)("fps", fps)
    ending = path.suffix.lower()
    if ending not in (".gif", ".mp4"):
        raise InputError("path", f"is {path}", "a path that ends on .gif or .mp4")
    if ending == ".mp4" and shutil.which("ffmpeg") is None:
        remedy = "Install it (apt install ffmpeg, brew install ffmpeg)."
        got = f"is {path}, but ffmpeg is not installed"
        raise InputError("path", got, "a path that ends on .gif, or ffmpeg", remedy)


def _write(path: Path, frames: Iterator[Image.Image], fps: int) -> None:
    if path.suffix.lower() == ".gif":
        # Four times as fast as Pillow's default for pictures of colors.
        reduced = (frame.quantize(method=Image.Quantize.FASTOCTREE) for frame in frames)
        wait = round(1000 / fps)
        next(reduced).save(
            path, save_all=True, append_images=reduced, duration=wait, loop=0
        )
        return
    first = next(frames)
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # as the codec needs it
    size = "{}x{}".format(*first.size)
    raw = f"-f rawvideo -pix_fmt rgb24 -s {size} -r {fps} -i - -loglevel error"
    codec = f"-vf {even} -vcodec libx264 -pix_fmt yuv420p -y"
    command = ["ffmpeg", *raw.split(), *codec.split(), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as ffmpeg:
        assert ffmpeg.stdin is not None
        for frame in chain([first], frames):
            ffmpeg.stdin.write(frame.tobytes())
    if ffmpeg.returncode:
        raise subprocess.CalledProcessError(ffmpeg.returncode, command)
