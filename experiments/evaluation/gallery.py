"""Draws every sequence of the evaluation, at five of its steps.

    python -m experiments.evaluation.gallery docs/sequences.png

Each is drawn in the two leading principal components of all its slices together, so
that what moves in the picture moves in the data.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from aljax.plot.colors import color_by
from experiments import command
from experiments.benchmarks.peers import Problem
from experiments.data.dataset import Dataset
from experiments.evaluation.methods import pooled_components
from experiments.evaluation.profiles import PROFILES, load
from experiments.tasks.tradeoff import draw_line

STEPS, POINTS = 5, 300  # panels of a sequence, and points drawn in each


def gallery(sequences: dict[str, Dataset]) -> Figure:
    """Draws one row of panels with the same axes for each sequence."""
    figure = Figure(figsize=(1.7 * STEPS, 1.75 * len(sequences)), layout="constrained")
    panels = figure.subplots(len(sequences), STEPS, squeeze=False)
    for row, (name, dataset) in zip(panels, sequences.items(), strict=True):
        maps = pooled_components(Problem(dataset.slices, dataset.relations))
        coloring = color_by(dataset.labels, None, [*map(len, maps)])
        samples = [
            (t, np.random.default_rng(0).permutation(len(maps[t]))[:POINTS])
            for t in np.linspace(0, len(maps) - 1, STEPS).round().astype(int)
        ]
        colors = [coloring.points[t][rows] for t, rows in samples]
        draw_line(row, [maps[t][rows] for t, rows in samples], colors)
        for panel, (t, _) in zip(row, samples, strict=True):
            panel.set_title(dataset.titles[t], fontsize="small")
        row[0].set_ylabel(name, fontsize="small")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the gallery from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.evaluation.gallery")
    parser.add_argument("file", type=Path)
    path = parser.parse_args(arguments).file
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = PROFILES["full"]
    sequences = {name: load(name, profile) for name in profile.sequences}
    gallery(sequences).savefig(path, dpi=80)


if __name__ == "__main__":
    command.finish(main)
