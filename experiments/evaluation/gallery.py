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

from aljax.plot.style import PALETTE
from experiments.benchmarks.peers import Problem
from experiments.data.dataset import Dataset
from experiments.evaluation.methods import pooled_components
from experiments.evaluation.profiles import PROFILES, load

STEPS, POINTS = 5, 300  # panels of a sequence, and points drawn in each


def gallery(sequences: dict[str, Dataset]) -> Figure:
    """Draws one row of panels with the same axes for each sequence."""
    figure = Figure(figsize=(1.7 * STEPS, 1.75 * len(sequences)), layout="constrained")
    panels = figure.subplots(len(sequences), STEPS, squeeze=False)
    for row, (name, dataset) in zip(panels, sequences.items(), strict=True):
        maps = pooled_components(Problem(dataset.slices, dataset.relations))
        every = np.concatenate(maps)
        low, high = every.min(axis=0), every.max(axis=0)
        shown = np.linspace(0, len(maps) - 1, STEPS).round().astype(int)
        for panel, t in zip(row, shown, strict=True):
            drawn = np.random.default_rng(0).permutation(len(maps[t]))[:POINTS]
            labels = np.zeros(len(maps[t]), int)
            if dataset.labels is not None:
                labels = np.unique(dataset.labels[t], return_inverse=True)[1]
            colors = np.array(PALETTE)[labels % len(PALETTE)]
            panel.scatter(*maps[t][drawn].T, s=3, c=colors[drawn], linewidths=0)
            panel.set(xticks=[], yticks=[], title=dataset.titles[t])
            panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            panel.title.set_fontsize("small")
        row[0].set_ylabel(name, fontsize="small")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws the gallery from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.evaluation.gallery")
    parser.add_argument("file", type=Path)
    path = parser.parse_args(arguments).file
    profile = PROFILES["full"]
    sequences = {name: load(name, profile) for name in profile.sequences}
    gallery(sequences).savefig(path, dpi=80)


if __name__ == "__main__":
    main()
