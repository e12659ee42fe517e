"""The explorer: a whole sequence in one HTML file, to be moved through in a browser.

Positions are 16-bit fractions of the maps' common square, in base64: at most a 65,535th
of the picture's width off.  The page asks nothing of any network.
"""

import base64
import html
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, colors

from aljax.columns import RowValues, is_missing, per_row
from aljax.errors import InputError, read_path
from aljax.plot import style
from aljax.plot.read import read_maps, read_members, read_titles

LEVELS = 65_535


def explore(
    model: Any,
    path: str | os.PathLike[str],
    labels: RowValues | None = None,
    *,
    values: RowValues | None = None,
    ids: RowValues | None = None,
    columns: Mapping[str, RowValues] | None = None,
    titles: Sequence[str] | None = None,
    heading: str = "",
) -> Path:
    """Writes a page with a slider through the slices, search, trails and colors.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a list of maps.
        path: Ends on .html.
        labels: For each slice its rows' classes.
        values: For each slice its rows' values.
        ids: Shown and searched for, as in `trajectories`.
        columns: More to show and to color by, by name; floats, and whole numbers of
            more than 40 kinds, are values, all else classes.
        titles: One for each slice.
        heading: The title of the page.

    Returns:
        The path.

    Raises:
        InputError: Another ending, what does not fit the slices, or plain maps without
            ids.
    """
    path = read_path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError("path", f"is {path}", "a path that ends on .html")
    maps = [style.plane(y) for y in read_maps(model)]
    members = read_members(model, ids)
    sizes = [len(y) for y in maps]
    shown: list[dict[str, Any]] = []
    if labels is not None:
        shown.append(_classes("label", per_row("labels", labels, sizes)))
    if values is not None:
        shown.append(_numbers("value", per_row("values", values, sizes)))
    for name, column in (columns or {}).items():
        shown.append(_column(str(name), per_row(name, column, sizes)))
    content = {
        "heading": heading,
        "titles": read_titles(titles, model, len(maps)),
        "members": members.names,
        "slices": _slices(maps, members.codes),
        "columns": shown,
        "plain": _bytes(colors.to_rgb(style.PLAIN)),
        "unknown": _bytes(colors.to_rgb(style.UNKNOWN)),
        "ramp": [_bytes(colormaps[style.COLORMAP](i)[:3]) for i in range(256)],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    page = resources.files("aljax.plot").joinpath("explorer.html").read_text("utf-8")
    # Inside of a script element only this sign could end it early.
    page = page.replace("$DATA", text.replace("<", "\\u003c"), 1)
    page = page.replace("$TITLE", html.escape(heading or "aljax"), 1)
    path.write_text(page, encoding="utf-8")
    return path


def _slices(maps: list[np.ndarray], codes: list[np.ndarray]) -> list[dict[str, Any]]:
    box = style.bounds(np.concatenate(maps))
    corner = np.array([box["xlim"][0], box["ylim"][0]])
    width = box["xlim"][1] - box["xlim"][0]
    return [
        {
            "count": len(y),
            "members": _encode(code, "<u4"),
            "positions": _encode(np.rint((y - corner) / width * LEVELS), "<u2"),
        }
        for y, code in zip(maps, codes, strict=True)
    ]


def _encode(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(array.astype(dtype).tobytes()).decode()


def _bytes(color: Any) -> list[int]:
    return [round(255 * part) for part in color]


def _column(name: str, rows: list[np.ndarray]) -> dict[str, Any]:
    """A column of values or of classes, by its type and its number of kinds."""
    joined = np.concatenate(rows)
    many = joined.dtype.kind in "iu" and len(np.unique(joined)) > style.LEGEND_LIMIT
    return (_numbers if joined.dtype.kind == "f" or many else _classes)(name, rows)


def _numbers(name: str, rows: list[np.ndarray]) -> dict[str, Any]:
    coloring = style.color_by(None, rows, [len(array) for array in rows])
    low, high = coloring.limits or (0.0, 1.0)
    encoded = [_encode(array, "<f4") for array in coloring.values or []]
    return {"name": name, "kind": "value", "low": low, "high": high, "rows": encoded}


def _classes(name: str, rows: list[np.ndarray]) -> dict[str, Any]:
    """Classes with a color each; text alone where there are too many."""
    texts = [
        [None if is_missing(label) else str(label) for label in array.tolist()]
        for array in rows
    ]
    distinct = dict.fromkeys(text for array in texts for text in array)
    distinct.pop(None, None)
    if len(distinct) > style.CLASSES:
        place = {None: -1} | {text: code for code, text in enumerate(distinct)}
        codes = [np.array([place[text] for text in array]) for array in texts]
        column = {"name": name, "kind": "text", "classes": [*distinct]}
    else:
        coloring = style.color_by(rows, None, [len(array) for array in rows])
        codes = coloring.codes or []
        column = {"name": name, "kind": "class", "classes": [*coloring.classes]}
        column["colors"] = [_bytes(color[:3]) for color in coloring.palette]
    return column | {"rows": [_encode(code, "<i4") for code in codes]}
