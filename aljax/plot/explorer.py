"""The explorer: a whole sequence in one HTML file, to be moved through in a browser.

Positions are 16-bit fractions of the maps' common square, in base64: at most a 65,535th
of the picture's width off.  The page asks nothing of any network.
"""

import base64
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colors

from aljax.columns import RowValues, as_plain, is_missing, per_row
from aljax.contributions.result import Contributions, bars_of
from aljax.errors import InputError, in_words, instance, read_path
from aljax.plot import style
from aljax.plot.colors import CLASSES, PLAIN, UNKNOWN, color_by, get_cmap, read_color
from aljax.plot.maps import neighbor_change
from aljax.plot.read import read_maps, read_members, read_moves, read_titles

LEVELS = 65_535
NEAREST = 15
EXPLAINING = 6  # columns of a chosen member that have a bar
ABSENT = 255  # of the share of neighbors that changed


def explore(
    model: Any,
    path: str | os.PathLike[str],
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    color: Any = None,
    cmap: Any = None,
    ids: RowValues | None = None,
    columns: Mapping[str, RowValues] | None = None,
    titles: Sequence[str] | None = None,
    heading: str = "",
    moves: Any = None,
    explained: Any = None,
) -> Path:
    """Writes a page with a slider through the slices, search, trails and colors.

    One of the colors is the share of a row's 15 nearest members that were not its
    nearest in the slice before; in the first slice, those that are not in the next.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        path: Ends on .html.  Folders that are missing are made.
        labels: For each slice its rows' classes.
        values: For each slice its rows' values.
        color: As in `slices`.
        cmap: The color map of all values; None for viridis.
        ids: Shown and searched for, as in `trajectories`.
        columns: More to show and to color by, by name; floats, and whole numbers of
            more than 40 kinds, are values, all else classes.
        titles: One for each slice.
        heading: The title of the page.
        moves: What `aljax.metrics.moved` called: a switch grays all other members.
        explained: What `aljax.explain` returned, or a list of such: of a chosen member
            the page shows how far which columns carried it.

    Returns:
        The path.

    Raises:
        InputError: Another ending, what does not fit the slices, plain maps without
            ids, or explained members that are none of the maps' ids.
    """
    path = read_path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError("path", f"is {path}", "a path that ends on .html")
    whole = read_maps(model)
    maps = [*map(style.plane, whole)]
    members = read_members(model, ids)
    sizes = [len(y) for y in maps]
    shown: list[dict[str, Any]] = []
    if labels is not None:
        shown.append(
            _classes("label", per_row("labels", labels, sizes, exact=True), color)
        )
    if values is not None:
        shown.append(_numbers("value", per_row("values", values, sizes)))
    for name, column in (columns or {}).items():
        shown.append(_column(str(name), per_row(name, column, sizes)))
    if (called := read_moves(moves, sizes)) is not None:
        states = np.array(["not called", "moved"])
        shown.append(_classes("moves", [states[rows.astype(int)] for rows in called]))
    if len(maps) > 1:
        shown.append(_changes(whole, members.codes))
    ramp = get_cmap(cmap)
    plain = PLAIN if color is None or labels is not None else color
    content = {
        "heading": heading,
        "titles": read_titles(titles, model, len(maps)),
        "members": members.names,
        "slices": _slices(maps, members.codes),
        "moved": None if called is None else _encode([*called]),
        "explained": _explained(explained, members.names),
        "columns": shown,
        "plain": _bytes(read_color("color", plain)[:3]),
        "unknown": _bytes(colors.to_rgb(UNKNOWN)),
        "ramp": [_bytes(ramp(i / 255)[:3]) for i in range(256)],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    page = resources.files("aljax.plot").joinpath("explorer.html").read_text("utf-8")
    # Inside of a script element only this sign could end it early.
    page = page.replace("$DATA", text.replace("<", "\\u003c"), 1)
    page = page.replace("$TITLE", html.escape(heading or "aljax"), 1)
    with style.written(path) as beside:
        beside.write_text(page, encoding="utf-8")
    return path


def _explained(explained: Any, names: list[str]) -> list[dict[str, Any]]:
    """Returns each explanation's bars, by the members' places in `names`."""
    if explained is None:
        return []
    places = {name: place for place, name in enumerate(names)}
    listed = explained if isinstance(explained, list | tuple) else [explained]
    read = []
    for contributions in listed:
        origin = "what `aljax.explain` returns"
        instance("explained", contributions, Contributions, origin)
        bars = {}
        for row, member in enumerate(map(str, contributions.members)):
            if member not in places:
                got, expected = f"is of {member!r}", "members by the ids of the maps"
                remedy = "Explain maps that have ids; a group's mean has no point."
                raise InputError("explained", got, expected, remedy)
            texts, lengths = bars_of(contributions, row, EXPLAINING)
            longest = float(np.abs(lengths).max()) or 1.0
            decimals = max(4, 3 - math.floor(math.log10(longest)))
            kept = [round(float(length), decimals) for length in lengths]
            bars[places[member]] = [*zip(texts, kept, strict=True)]
        read.append({"title": contributions.title, "members": bars})
    return read


def _slices(maps: list[np.ndarray], codes: list[np.ndarray]) -> dict[str, Any]:
    box = style.bounds(np.concatenate(maps))
    corner = np.array([box["xlim"][0], box["ylim"][0]])
    width = box["xlim"][1] - box["xlim"][0]
    return {
        "counts": [*map(len, maps)],
        "members": _encode(codes),
        "positions": _encode(
            [np.rint((y - corner) / width * LEVELS) for y in maps], "<u2"
        ),
    }


def _encode(arrays: list[np.ndarray], dtype: str | None = None) -> dict[str, Any]:
    """Encodes arrays in base64, of whole numbers in as few bytes as hold them.

    One that equals the one before is "", such as the same members in every slice; one
    without entries is None.
    """
    if dtype is None:
        most = max(array.max(initial=-1) for array in arrays)
        dtype = next(d for d in ("<i1", "<i2", "<i4") if most <= np.iinfo(d).max)
    texts = [
        base64.b64encode(x.astype(dtype).tobytes()).decode() or None for x in arrays
    ]
    rows = ["" if text == before else text for before, text in pairwise(["", *texts])]
    return {"type": dtype[1:], "rows": rows}


def _bytes(color: Any) -> list[int]:
    return [round(255 * channel) for channel in color]


def _column(name: str, rows: list[np.ndarray]) -> dict[str, Any]:
    """Returns a column of values or of classes, by its type and its number of kinds."""
    joined = np.concatenate(rows)
    many = joined.dtype.kind in "iu" and len(np.unique(joined)) > style.LEGEND_LIMIT
    return (_numbers if joined.dtype.kind == "f" or many else _classes)(name, rows)


def _numbers(name: str, rows: list[np.ndarray]) -> dict[str, Any]:
    coloring = color_by(None, rows, [len(array) for array in rows])
    low, high = coloring.limits or (0.0, 1.0)
    whole = all(array.dtype.kind in "iu" or not array.size for array in rows)
    exact = whole and max(-low, high) < 2**31
    encoded = _encode(coloring.values or [], "<i4" if exact else "<f4")
    return {"name": name, "kind": "value", "low": low, "high": high} | encoded


def _changes(maps: list[np.ndarray], codes: list[np.ndarray]) -> dict[str, Any]:
    """Returns the share of each row's 15 nearest that were others a slice before.

    In the first slice, that are others in the next.  Of the members of both slices; or
    as many nearest as these have by half.
    """
    rows = [np.full(len(y), ABSENT) for y in maps]
    for t, (before, after) in enumerate(pairwise(codes)):
        _, rows_before, rows_after = np.intersect1d(before, after, return_indices=True)
        if (k := min(NEAREST, (len(rows_before) - 1) // 2)) > 0:
            changed = neighbor_change(maps[t][rows_before], maps[t + 1][rows_after], k)
            rows[t + 1][rows_after] = np.rint(changed * (ABSENT - 1))
            if t == 0:
                rows[0][rows_before] = rows[1][rows_after]
    column = {"name": "neighbors changed", "kind": "value", "low": 0, "high": 1}
    return column | _encode(rows, "<u1")


def _classes(name: str, rows: list[np.ndarray], color: Any = None) -> dict[str, Any]:
    """Classes with a color each; text alone where there are too many."""
    texts = [
        [None if is_missing(label) else in_words(label) for label in as_plain(array)]
        for array in rows
    ]
    distinct = dict.fromkeys(text for array in texts for text in array)
    distinct.pop(None, None)
    if len(distinct) > CLASSES:
        place = {None: -1} | {text: code for code, text in enumerate(distinct)}
        codes = [np.array([place[text] for text in array]) for array in texts]
        column = {"name": name, "kind": "text", "classes": [*distinct]}
    else:
        sizes = [len(array) for array in rows]
        coloring = color_by(rows, None, sizes, color=color)
        codes = coloring.codes or []
        column = {"name": name, "kind": "class", "classes": [*coloring.classes]}
        column["colors"] = [_bytes(color[:3]) for color in coloring.palette]
    return column | _encode(codes)
