"""What lies between the points: reconstructions beside their map, and their slope."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from aljax.columns import RowValues
from aljax.plot import style as paper
from aljax.plot.maps import is_dense, shade
from aljax.plot.read import one_map
from aljax.plot.style import color_map

OUTSIDE = "#cc3311"


def inverse_grid(
    model: Any,
    queries: Any,
    images: Any,
    labels: RowValues | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    columns: int | None = None,
    slice: int = -1,  # noqa: A002
) -> Figure:
    """A map with query points on the left, what they were mapped back to on the right.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a map (points, components).
        queries: Positions in the map, `(queries, 2)`, in the order of the images, read
            by row.
        images: One for each query: `(queries, features)`, `(queries, height, width)`,
            or what `inverse_transform` returned, whose queries outside of the map are
            then framed in red.
        labels: Each row's class.
        shape: (height, width) of an image, or (height, width, 3); None for square.
        columns: Images in a row; None for the square root of their number.
        slice: Which map of a sequence.

    Raises:
        ValueError: Images that are not one for each query, or not of the shape.

    Source: the figure of umap-learn's tutorial on inverse transforms.
    """
    plane = paper.plane(one_map(model, slice))
    queries = np.asarray(queries, dtype=float)
    if queries.ndim != 2 or queries.shape[1] != 2 or not len(queries):
        raise ValueError(
            f"`queries` has shape {queries.shape}; expected positions (queries, 2), "
            "at least one."
        )
    inside = np.asarray(getattr(images, "inside", np.ones(len(queries), bool)))
    pictures = _pictures(np.asarray(getattr(images, "points", images)), shape)
    if len(pictures) != len(queries):
        raise ValueError(
            f"`images` has {len(pictures)} for {len(queries)} queries; expected one "
            "for each."
        )
    columns = columns or int(np.ceil(len(queries) ** 0.5))
    rows = -(-len(queries) // columns)
    figure = Figure(figsize=(12, 6.1), layout="constrained")
    halves: Any = figure.subfigures(1, 2)
    left, right = halves
    panel = left.subplots()
    coloring = color_map(labels, None, len(plane))
    box = paper.bounds(np.concatenate([plane, queries]))
    panel.set(xticks=[], yticks=[], aspect="equal", **box)
    if is_dense(len(plane), None):
        shade(panel, plane, coloring, 0)
    else:
        paper.scatter(panel, plane, coloring.points[0])
    ink = np.where(inside, "black", OUTSIDE)
    panel.scatter(*queries.T, marker="x", c=ink, s=18, linewidths=1, zorder=3)
    paper.name_classes(panel, plane, coloring, 0)
    low, high = float(pictures.min()), float(pictures.max())
    frames = right.subplots(rows, columns, squeeze=False).ravel()
    for frame in frames[len(queries) :]:
        frame.set_visible(False)
    for frame, one, is_inside in zip(frames, pictures, inside, strict=False):
        frame.set(xticks=[], yticks=[])
        frame.imshow(one, cmap="gray_r", vmin=low, vmax=high)
        frame.spines[:].set(
            color="black" if is_inside else OUTSIDE, linewidth=0.5 if is_inside else 2
        )
    paper.settle(panel)
    return figure


def _pictures(images: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray:
    if images.ndim > 2 and shape is None:
        return images
    features = int(np.prod(images.shape[1:]))
    side = round(features**0.5)
    shape = (side, side) if shape is None else tuple(shape)
    if int(np.prod(shape)) != features:
        raise ValueError(
            f"`images` have {features} values each, which do not fill `shape` {shape}; "
            "expected (height, width) of an image."
        )
    return images.reshape(-1, *shape)


def gradient_map(
    model: Any,
    gradients: Any,
    *,
    slice: int = -1,  # noqa: A002
    ax: Axes | None = None,
    title: str = "",
) -> Figure:
    """How fast the data change from position to position: where an inverse is unstable.

    Args:
        model: A fitted estimator, an `AlignedEmbedding`, or a map (points, components).
        gradients: What `aljax.inverse.gradient_map` returned: `axes` (2, resolution)
            and `norm` (resolution, resolution), |dx/dz| with the first axis along x.
        slice: Which map of a sequence.
        ax: Where to draw; None makes a figure.
        title: Above the map.

    Raises:
        ValueError: A grid that is not of two components.
    """
    plane = paper.plane(one_map(model, slice))
    axes, norm = np.asarray(gradients.axes), np.asarray(gradients.norm)
    if axes.ndim != 2 or norm.shape != (axes.shape[1],) * 2 or len(axes) < 2:
        raise ValueError(
            f"`gradients` has norms of shape {norm.shape} on axes of shape "
            f"{axes.shape}; expected a grid over a map of two components. Fit with "
            "`n_components=2`."
        )
    x, y = axes[:2]
    if ax is None:
        figure = Figure(figsize=(6.6, 5.6), layout="constrained")
        ax = figure.subplots()
    positive = norm[np.isfinite(norm) & (norm > 0)]
    low, high = np.quantile(positive, [0.01, 1]) if positive.size else (0.1, 1.0)
    scale = LogNorm(low, max(high, low * 1.01), clip=True)
    mesh = ax.pcolormesh(x, y, norm.T, norm=scale, cmap="magma", shading="nearest")
    mesh.set_rasterized(True)
    area = float(np.clip(2000 / len(plane), 0.1, 3))
    ax.scatter(*plane.T, s=area, c="white", alpha=0.5, linewidths=0, rasterized=True)
    ax.set(xticks=[], yticks=[], aspect="equal", title=title)
    ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    root = ax.figure.canvas.figure
    root.colorbar(mesh, ax=ax, label="|dx/dz|, data per unit of the map", shrink=0.8)
    return root
