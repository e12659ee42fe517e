"""A grid over a map beside the images that stand there; for a sequence, strips."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aljax import AlignedEmbedding, plot
from aljax.errors import InputError
from aljax.plot.colors import color_map
from aljax.plot.inverse import draw_images
from aljax.plot.style import bounds, scatter, spread
from experiments.settings import InverseGrid

DIAGONALS = np.array([[-1, 1], [1, 1], [-1, -1], [1, -1]])  # read as a page is
SHARE = 0.97  # of the points lie nearer to the middle than a corner
STRIPS = 12  # slices that are drawn
LEGEND = "framed: outside of the data, a guess"


def positions(grid: InverseGrid, plane: np.ndarray) -> np.ndarray:
    """Returns the grid's positions, by row, blended linearly between its corners.

    Source: the example of umap-learn's tutorial on inverse transforms.
    """
    if grid.corners is None:
        last = int(SHARE * (len(plane) - 1))
        apart = (plane - plane.mean(axis=0)) @ DIAGONALS.T
        corners = plane[np.argsort(apart, axis=0)[last]]
    else:
        corners = np.asarray(grid.corners, float)
    shares = np.linspace(0, 1, grid.grid)
    of_side = np.column_stack([1 - shares, shares])
    return np.kron(of_side, of_side) @ corners


def check_images(features: Sequence[int], components: int) -> None:
    """Checks before the fit that its pictures can be drawn after it.

    The data, of which each slice has so many features, are square images, and the maps
    are planes.
    """
    if components != 2:
        expected = "2, the maps over which the grid of `inverse` is drawn"
        raise InputError("layout.n_components", f"is {components}", expected)
    if features[0] != math.isqrt(features[0]) ** 2 or len({*features}) > 1:
        got = f"is set, but the data have {features[0]} features"
        raise InputError("inverse", got, "square images", "Use inverse=null.")


def draw(
    embedding: AlignedEmbedding,
    labels: Sequence[np.ndarray] | None,
    grid: InverseGrid,
    *,
    heading: str,
) -> Figure:
    """Draws the last map with the grid's positions, and the images that stand there.

    Of several slices, each is read at the grid's positions and drawn as a strip.
    """
    plane = embedding.slices()[-1]
    queries = positions(grid, plane)
    slices = len(embedding.maps)
    shown = spread(slices, STRIPS)
    decoded = [
        embedding.inverse_transform(queries, slice=t, bounds="data") for t in shown
    ]
    side = math.isqrt(decoded[0].points.shape[1])
    extent = f" in {len(shown)} of {slices} slices" if len(shown) < slices else ""
    title = f"{heading}: positions in the map, and what stands there{extent} ({LEGEND})"
    classes = None if labels is None else labels[-1]
    if len(decoded) == 1:
        figure = plot.inverse_grid(embedding, queries, decoded[0], classes)
        figure.suptitle(title)
        return figure
    width = 5.6 + 0.5 * len(queries)
    figure = Figure(figsize=(width, 6), layout="constrained")
    figure.suptitle(title)
    halves = figure.subfigures(1, 2, squeeze=False, width_ratios=[5.5, width - 5.5])
    left, right = halves[0]
    _draw_map(left.subplots(), plane, classes, queries)
    panels = right.subplots(len(decoded), len(queries), squeeze=False)
    for t, row, inverse in zip(shown, panels, decoded, strict=True):
        images = np.asarray(inverse.points).reshape(-1, side, side)
        draw_images(row, images, np.asarray(inverse.inside))
        row[0].set_ylabel(f"{t}", rotation=0, ha="right", va="center")
    for number, panel in enumerate(panels[0]):
        panel.set_title(str(number), fontsize="small")
    right.supylabel("slice")
    return figure


def _draw_map(
    panel: Axes, plane: np.ndarray, labels: np.ndarray | None, queries: np.ndarray
) -> None:
    scatter(panel, plane, color_map(labels, None, len(plane)).points[0])
    panel.set(xticks=[], yticks=[], **bounds(np.vstack([plane, queries])))
    for number, position in enumerate(queries):
        box = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "black", "lw": 0.5}
        panel.annotate(
            str(number), tuple(position), ha="center", va="center", fontsize=7, bbox=box
        )
