"""Draws the figures of docs/sequences.md and docs/coupling.md from results of runs.

python -m experiments.run experiment=baseball
python -m experiments.run experiment=senate
python -m experiments.run experiment=countries
python -m experiments.run experiment=branching_cells
python -m experiments.tutorials.histories docs
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from aljax import plot
from experiments import command
from experiments.data import sources
from experiments.data.baseball import TOTALS

Maps = list[np.ndarray]
PANELS = 8
COUNTRIES = {"KOR": "South Korea", "VEN": "Venezuela"}


def baseball(maps: Maps, ids: Maps, labels: Maps) -> Figure:
    """Draws some of the seasons, colored by home runs."""
    del ids, labels
    dataset = sources.load("baseball", since=1900)
    column = TOTALS.index("HR")
    homers = [np.clip(rows[:, column], -2, 3) for rows in dataset.slices]
    return plot.slices(maps, values=homers, titles=dataset.titles, limit=PANELS)


def senate(maps: Maps, ids: Maps, labels: Maps) -> Figure:
    """Draws some of the runs of votes, with James Jeffords as a class of his own."""
    marked = _named(ids, labels, {"JEFFORDS 14240": "Jeffords"})
    titles = sources.load("senate", votes=80, folder=None).titles
    return plot.slices(maps, marked, titles=titles, limit=PANELS)


def countries(maps: Maps, ids: Maps, labels: Maps) -> Figure:
    """Draws some of the years, with two countries as classes of their own."""
    titles = sources.load("countries", folder=None).titles
    return plot.slices(
        maps, _named(ids, labels, COUNTRIES), titles=titles, limit=PANELS
    )


def branching_cells(maps: Maps, ids: Maps, labels: Maps) -> Figure:
    """Draws all days but the first, on which all cells are of the stem."""
    del ids
    titles = [f"day {t}" for t in range(1, len(maps))]
    return plot.slices(maps[1:], labels[1:], titles=titles)


FIGURES: dict[str, Callable[[Maps, Maps, Maps], Figure]] = {
    figure.__name__: figure for figure in (baseball, senate, countries, branching_cells)
}


def _named(ids: Maps, labels: Maps, names: Mapping[str, str]) -> Maps:
    """Returns the labels, with the names of single members in place of theirs."""
    return [
        np.array([names.get(i, label) for i, label in zip(*rows, strict=True)])
        for rows in zip(ids, labels, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the figures from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tutorials.histories")
    parser.add_argument("folder", type=Path, help="where the figures go")
    parser.add_argument("--only", choices=FIGURES, nargs="+", default=[*FIGURES])
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    for name in options.only:
        figure = FIGURES[name]
        with np.load(options.results / name / "embedding.npz") as arrays:
            count = len(arrays["slice_labels"])
            maps, ids, labels = (
                [arrays[f"{kind}_{t}"] for t in range(count)]
                for kind in ("slice", "ids", "labels")
            )
        path = options.folder / f"{name}.png"
        plot.save(figure(maps, ids, labels), path, dpi=80)
        Image.open(path).quantize(256).save(path, optimize=True)  # under 100 kB


if __name__ == "__main__":
    command.finish(main)
