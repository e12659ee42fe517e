"""The files of a run: arrays, measures, settings, pictures, and grids read back."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aljax import AlignedEmbedding, plot
from aljax.errors import InputError, warn
from aljax.files import MAPS
from aljax.plot.colors import color_map
from aljax.plot.inverse import draw_images
from aljax.plot.style import bounds, scatter, spread
from experiments.data.dataset import Dataset
from experiments.results.report import CLASSES, classes_of
from experiments.settings import InverseGrid, RunSettings

LARGEST = 2**28  # bytes of data that the file of a model holds
DIAGONALS = np.array([[-1, 1], [1, 1], [-1, -1], [1, -1]])  # read as a page is
SHARE = 0.97  # of the points lie nearer to the middle than a corner of a grid
STRIPS = 12  # slices of which grids are drawn
LEGEND = "framed: outside of the data, a guess"
FILES = {
    "slices.png": "the maps, to be read by row",
    "loss.png": "the terms of the loss over the epochs",
    "displacement.png": "how far members move from slice to slice, and who most",
    "trajectories.html": "members as curves through the slices, in 3-D",
    "animation.gif": "the slices one after the other",
    "inverse.png": "a grid over the map, read back as data",
    "explorer.html": "all of it with a slider, search and trails, in a browser",
    "maps.aljax": "the model: aljax.load(FOLDER) reads it",
    "embedding.npz": "the maps as arrays, with ids and labels",
    "metrics.json": "the measures, with seconds, versions, seed and the data's sum",
    "config.yaml": "the settings; run them again with --reproduce FOLDER",
}


def write_arrays(folder: Path, dataset: Dataset, embedding: AlignedEmbedding) -> None:
    """Writes the model, and `embedding.npz`: `slice_labels`, and for each slice its map
    `slice_t`, `ids_t` and any `labels_t`.
    """
    size = sum(rows.nbytes for rows in dataset.slices)
    embedding.save(folder / MAPS, with_data=size <= LARGEST)
    if size > LARGEST:
        print(
            f"{MAPS} is saved without the {size / 2**20:,.0f} MiB of data, so that "
            "it cannot place new rows."
        )
    arrays: dict[str, Any] = {"slice_labels": np.array(dataset.titles, dtype=str)}
    for t, positions in enumerate(embedding.slices()):
        arrays[f"slice_{t}"] = positions.astype(np.float32)
        arrays[f"ids_{t}"] = dataset.ids[t]
        if dataset.labels is not None:
            arrays[f"labels_{t}"] = dataset.labels[t]
    np.savez_compressed(folder / "embedding.npz", **arrays)


def draw(
    folder: Path, settings: RunSettings, dataset: Dataset, embedding: AlignedEmbedding
) -> None:
    """Draws all pictures that the settings ask for."""
    write_pictures(folder, settings.name, dataset, embedding)
    if settings.motion and len(dataset.slices) > 1:
        write_motion(folder, settings.name, dataset, embedding)
    elif settings.motion:
        warn("motion=true draws nothing, for there is a single slice.")
    if settings.inverse is not None:
        classes = colors(dataset).get("labels")
        heading, grid = settings.name, settings.inverse
        figure = inverse_figure(embedding, classes, grid, heading=heading)
        figure.savefig(folder / "inverse.png", dpi=150)


def write_pictures(
    folder: Path, name: str, dataset: Dataset, embedding: AlignedEmbedding
) -> None:
    """Writes `slices.png` and `loss.png`."""
    titles = _titles(dataset)
    # Large maps are drawn by density where the package for it is there.
    density = None if find_spec("datashader") else False
    options: dict[str, Any] = {"heading": name, "density": density, **colors(dataset)}
    maps = plot.slices(embedding, titles=titles, **options)
    plot.save(maps, folder / "slices.png", dpi=150)
    terms = plot.loss(embedding, heading=f"{name}: loss")
    plot.save(terms, folder / "loss.png", dpi=150)


def check_motion() -> None:
    """Checks that the package that draws motion is installed."""
    if find_spec("plotly") is None:
        remedy = "To install it, run: pip install 'aljax[plot]'; or set motion=false."
        raise InputError("motion", "is true", "plotly to be installed", remedy)


def write_motion(
    folder: Path, name: str, dataset: Dataset, embedding: AlignedEmbedding
) -> None:
    """Writes how members move: as curves, as a film and as a page to explore."""
    shown: dict[str, Any] = {"ids": dataset.ids, "titles": _titles(dataset)}
    if any(np.intersect1d(*pair).size for pair in itertools.pairwise(dataset.ids)):
        moved = plot.displacement(embedding, heading=name, **shown)
        plot.save(moved, folder / "displacement.png", dpi=150)
    else:
        warn("displacement.png is not drawn, for consecutive slices share no member.")
    shown |= colors(dataset)
    curves = plot.trajectories(embedding, heading=name, **shown)
    plot.save(curves, folder / "trajectories.html")
    plot.animate(embedding, folder / "animation.gif", **shown)
    plot.explore(embedding, folder / "explorer.html", heading=name, **shown)


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


def inverse_figure(
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


def _titles(dataset: Dataset) -> list[str]:
    return [
        f"{t}: {title}" if title else str(t) for t, title in enumerate(dataset.titles)
    ]


def colors(dataset: Dataset) -> dict[str, Any]:
    """Returns what colors the maps: labels that are classes, or numbers, or nothing."""
    if dataset.labels is None:
        return {}
    if classes_of(dataset.labels):
        return {"labels": [*map(_classes, dataset.labels)]}
    if all(labels.dtype.kind in "iuf" for labels in dataset.labels):
        return {"values": dataset.labels}
    warn(f"labels of more than {CLASSES} kinds, which are no numbers, color nothing.")
    return {}


def _classes(labels: np.ndarray) -> np.ndarray:
    """Returns labels as classes are named: floats that are whole numbers as such."""
    if labels.dtype.kind != "f" or not np.array_equal(labels, np.round(labels), True):
        return labels
    return np.array([None if x != x else int(x) for x in labels.tolist()], object)


def overview(folder: Path, files: Mapping[str, str] = FILES) -> str:
    """Says where the results are, and what each file holds."""
    return "\n".join([f"results in {folder}{os.sep}", *listed(folder, files)])


def listed(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Returns a line for each of the files that are there."""
    written = {name: files[name] for name in files if (folder / name).exists()}
    width = max(map(len, written), default=0) + 2
    return [f"  {n:<{width}}{meaning}".rstrip() for n, meaning in written.items()]
