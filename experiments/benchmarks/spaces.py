"""Compares maps of digits in other spaces with umap-learn's: sphere, torus and others.

    python -m experiments.benchmarks.spaces [--seeds 3] [--picture docs/spaces.png]

Means over seeds of the trustworthiness with 15 neighbors, by the distance of the space
for both, and of the seconds of a warm fit.  `--picture` draws three of our maps: a
sphere and a torus from outside, and the hyperboloid as a Poincaré disk.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy.spatial.distance import cdist

from aljax.layout.spaces import lifted, squared_distance
from aljax.plot.colors import color_by
from experiments import command
from experiments.benchmarks.peers import Problem, aljax_fit
from experiments.benchmarks.race import warm_fits
from experiments.data import sources
from experiments.results.records import count, markdown, means, store

TURN = 2 * np.pi
NEIGHBORS = 15


def torus(x: Any, y: Any) -> Any:
    """Returns the distance of points on a flat torus, by their angles."""
    apart = jnp.abs(x - y) % TURN
    return jnp.sqrt(jnp.sum(jnp.minimum(apart, TURN - apart) ** 2))


@cache
def compiled_torus() -> Callable[..., Any]:
    """Returns the same with its gradient, as umap-learn takes it."""
    import numba

    @numba.njit
    def distance(x: Any, y: Any) -> Any:
        apart = (x - y) % TURN
        apart = np.where(2 * apart > TURN, apart - TURN, apart)
        length = np.sqrt(np.sum(apart**2))
        return length, apart / (1e-6 + length)

    return distance


SPACES = {"haversine": 2, "hyperboloid": 2, "gaussian_energy": 5, "torus": 2}


def settings_of(method: str, name: str) -> dict[str, Any]:
    """Returns the settings with which a method maps into a space."""
    metric: Any = name
    if name == "torus":
        metric = torus if method == "aljax" else compiled_torus()
    return {"output_metric": metric, "n_components": SPACES[name]}


def trust(data: np.ndarray, positions: np.ndarray, name: str) -> float:
    """Returns the trustworthiness of a map by the distance of its space.

    Source: Venna & Kaski 2001.
    """
    space = torus if name == "torus" else name, ()
    points = lifted(jnp.asarray(positions.T), space)
    distances = np.array(
        squared_distance(points[:, :, None], points[:, None, :], space)
    )
    ranks = cdist(data, data)
    for matrix in (distances, ranks):
        np.fill_diagonal(matrix, -1)
    ranks = ranks.argsort(axis=1).argsort(axis=1)
    near = distances.argsort(axis=1, kind="stable")[:, 1 : NEIGHBORS + 1]
    beyond = np.maximum(np.take_along_axis(ranks, near, axis=1) - NEIGHBORS, 0).sum()
    rows = len(data)
    return 1 - 2 * beyond / (rows * NEIGHBORS * (2 * rows - 3 * NEIGHBORS - 1))


def compare(data: np.ndarray, seeds: int) -> list[dict[str, Any]]:
    """Measures the maps of both in each space."""
    rows = []
    for name, method in product(SPACES, ("aljax", "umap-learn")):
        settings = settings_of(method, name)
        _, *fits = warm_fits(method, Problem([data], []), settings, range(seeds))
        measures = [
            {"trustworthiness": trust(data, y, name), "fit s": seconds["fit"]}
            for (y,), seconds in fits
        ]
        rows.append({"space": name, "method": method} | means(measures))
        print(markdown(rows[-1:]), flush=True)
    return rows


def draw(data: np.ndarray, labels: np.ndarray) -> Figure:
    """Draws our maps on a sphere, on a torus and in the Poincaré disk."""
    (colors,) = color_by([labels], None, [len(data)]).points
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    sphere_map, torus_map, disk_map = (
        aljax_fit(Problem([data], []), settings_of("aljax", name), 0)[0][0]
        for name in ("haversine", "torus", "hyperboloid")
    )
    angle, longitude = sphere_map.T
    flat = np.sin(angle)
    sphere = flat * np.cos(longitude), flat * np.sin(longitude), np.cos(angle)
    inner, outer = torus_map.T
    radius = 2.2 + np.cos(inner)
    ring = radius * np.cos(outer), radius * np.sin(outer), np.sin(inner)
    for place, (title, points) in enumerate({"sphere": sphere, "torus": ring}.items()):
        panel: Any = figure.add_subplot(1, 3, place + 1, projection="3d")
        panel.scatter(*points, c=colors, s=2, linewidths=0)
        panel.set_box_aspect([np.ptp(axis) for axis in points], zoom=1.4)
        panel.set(title=title)
        panel.set_axis_off()
    heights = np.sqrt(1 + (disk_map**2).sum(axis=1, keepdims=True))
    disk = disk_map / (1 + heights)
    panel = figure.add_subplot(1, 3, 3, aspect="equal", title="Poincaré disk")
    panel.add_patch(Circle((0, 0), 1, fill=False, linewidth=0.6, color="gray"))
    panel.scatter(*disk.T, c=colors, s=2, linewidths=0)
    panel.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))
    panel.set_axis_off()
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or draws the picture."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.spaces")
    parser.add_argument("--seeds", type=count, default=3)
    parser.add_argument("--picture", help="a file to draw to, instead of the table")
    options = parser.parse_args(arguments)
    data, labels = sources.digits()[:2]
    if options.picture:
        draw(data, labels).savefig(options.picture, dpi=95)
        return 0
    rows = compare(data, options.seeds)
    print(f"\n{markdown(rows)}")
    store("spaces", {"digits": rows})
    return 0


if __name__ == "__main__":
    command.finish(main)
