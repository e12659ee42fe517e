"""Between the points: reconstructions beside their map, and the inverse's slope."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.errors import InputError
from aljax.plot import style
from aljax.plot.colors import color_map, get_cmap, read_color
from aljax.plot.maps import draw_map
from aljax.plot.read import read_map

OUTSIDE = "#cc3311"


def inverse_grid(
    model: Any,
    queries: Any,
    images: Any,
    labels: RowValues | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    columns: int | None = None,
    color: Any = None,
    cmap: Any = "gray_r",
    ax: Any = None,
    slice: Any = -1,  # noqa: A002
) -> Figure:
    """Draws a map with query points, and their reconstructions beside it.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a map (points, components).
        queries: Positions in the map, `(queries, 2)`, in the order of the images, read
            by row.
        images: One for each query: `(queries, features)`, `(queries, height, width)`,
            or the result of `inverse_transform`, whose queries outside of the map are
            then framed in red.
        labels: Each row's class.
        shape: (height, width) of an image, or (height, width, 3) of one whose colors
            are 0 to 1 or 0 to 255; None for square.
        columns: Images in a row; None for the square root of their number.
        color: As in `points`.
        cmap: The color map of images that have no colors of their own.
        ax: Two axes, for the map and for all images; None makes a figure.
        slice: Which map of a sequence, by its number or label.

    Raises:
        InputError: Images that are not one for each query, or not of the shape.

    Source: the figure of umap-learn's tutorial on inverse transforms.
    """
    plane, title = read_map(model, slice)
    queries = np.asarray(queries, dtype=float)
    if queries.ndim != 2 or queries.shape[1] != 2 or not len(queries):
        expected = "positions (queries, 2), at least one"
        raise InputError("queries", f"has shape {queries.shape}", expected)
    inside = np.asarray(getattr(images, "inside", np.ones(len(queries), bool)))
    pictures = _pictures(np.asarray(getattr(images, "points", images)), shape)
    if len(pictures) != len(queries):
        expected = f"one for each of {len(queries)} queries"
        raise InputError("images", f"has {len(pictures)}", expected)
    columns = columns or int(np.ceil(len(queries) ** 0.5))
    size = -(-len(queries) // columns), columns, len(queries)
    if ax is None:
        figure = style.Picture(figsize=(12, 6.1), layout="constrained")
        halves: Any = figure.subfigures(1, 2)
        panel, frames = halves[0].subplots(), style.grid(halves[1], *size)
    else:
        panel, right = style.axes_of(ax, 2)
        frames = style.inset_grid(right, *size)
    coloring = color_map(labels, None, len(plane), color=color)
    style.put_title(panel, title)
    bounds = style.bounds(np.concatenate([plane, queries]))
    draw_map(panel, plane, coloring, bounds=bounds)
    ink = np.where(inside, style.ink(), OUTSIDE)
    panel.scatter(*queries.T, marker="x", c=ink, s=18, linewidths=1, zorder=3)
    draw_images(frames, pictures, inside, cmap)
    style.settle(panel)
    return panel.figure.canvas.figure


def draw_images(
    frames: Iterable[Axes],
    pictures: np.ndarray,
    inside: Sequence[bool] | np.ndarray,
    cmap: Any = "gray_r",
) -> None:
    """Draws pictures by one scale; those outside of the map are framed."""
    cmap = get_cmap(cmap)
    low, high = float(pictures.min()), float(pictures.max())
    if pictures.ndim > 3 and pictures.shape[-1] > 2:  # colors
        # Of 0 to 1, a reconstruction may lie somewhat beyond.
        most = 255 if high > 2 or pictures.dtype.kind in "iu" else 1
        pictures = np.clip(pictures / most, 0, 1)
    for frame, picture, is_inside in zip(frames, pictures, inside, strict=True):
        frame.set(xticks=[], yticks=[])
        frame.imshow(picture, cmap=cmap, vmin=low, vmax=high)
        color, width = (style.ink(), 0.5) if is_inside else (OUTSIDE, 2)
        frame.spines[:].set(color=color, linewidth=width)


def _pictures(images: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    if images.ndim > 2 and shape is None:
        return images
    features = int(np.prod(images.shape[1:]))
    shape = (round(features**0.5),) * 2 if shape is None else tuple(shape)
    if int(np.prod(shape)) != features:
        expected = "(height, width) of an image"
        got = f"is {shape}, which the {features} values of an image do not fill"
        raise InputError("shape", got, expected)
    return images.reshape(-1, *shape)


def gradient_map(
    model: Any,
    gradients: Any,
    *,
    slice: Any = -1,  # noqa: A002
    color: Any = "white",
    cmap: Any = "magma",
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """Draws how fast the data change from position to position of a map.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a map (points, components).
        gradients: The result of `aljax.gradient_map`: `axes` (2, resolution) and
            `norm` (resolution, resolution), |dx/dz| with the first axis along x.
        slice: Which map of a sequence, by its number or label.
        color: Of the map's points.
        cmap: The color map of the slope.
        ax: Where to draw; None makes a figure.
        title: Above the map; None for the slice's label, if it has one.

    Raises:
        InputError: A grid that is not of two components.
    """
    plane, title = read_map(model, slice, title)
    axes, norm = np.asarray(gradients.axes), np.asarray(gradients.norm)
    if axes.ndim != 2 or norm.shape != (axes.shape[1],) * 2 or len(axes) < 2:
        raise InputError(
            "gradients",
            f"has norms of shape {norm.shape} on axes of shape {axes.shape}",
            "a grid over a map of two components",
            "Fit with `n_components=2`.",
        )
    x, y = axes[:2]
    ax = ax or style.new_axes(6.6, 5.6)
    positive = norm[np.isfinite(norm) & (norm > 0)]
    low, high = np.quantile(positive, [0.01, 1]) if positive.size else (0.1, 1.0)
    scale = LogNorm(low, max(high, low * 1.01), clip=True)
    mesh = ax.pcolormesh(
        x, y, norm.T, norm=scale, cmap=get_cmap(cmap), shading="nearest"
    )
    mesh.set_rasterized(True)
    area = float(np.clip(2000 / len(plane), 0.1, 3))
    style_of = {"s": area, "color": read_color("color", color), "alpha": 0.5}
    ax.scatter(*plane.T, **style_of, linewidths=0, rasterized=True)
    ax.set(xticks=[], yticks=[], aspect="equal")
    style.put_title(ax, title)
    ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    root = ax.figure.canvas.figure
    root.colorbar(mesh, ax=ax, label="|dx/dz|, data per unit of the map", shrink=0.8)
    return root
