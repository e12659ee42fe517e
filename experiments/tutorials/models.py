"""Compares representations of the same rows: layers of a network, sets of features.

    python -m experiments.tutorials.models [FOLDER]

The rows are scikit-learn's digits.  `layers` are what a small network makes of digits
that it has not learned from; `features` are descriptions of all digits.  For both,
FOLDER (results/models) has the aligned maps, two of them compared, and a table of the
rows, those whose neighbors changed most from one representation to the next first.
docs/models.md says how to read them.
"""

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

import aljax
from aljax import metrics, plot
from experiments import command
from experiments.data.dataset import Dataset, same_members
from experiments.data.sequences import layer_values, training
from experiments.data.sources import digits

OF_ROWS: dict[str, Any] = {"n_neighbors": 15, "per_point": True}
SNAPSHOTS = 200  # of the training, of which the last is used
BINS = 8  # directions of a gradient
PRINTED = 5  # rows of each step


def layers(*, seed: int = 0) -> Dataset:
    """Returns the pixels of half of the digits, and a network's layers for them.

    Args:
        seed: Of the split, and of the network, which learns from the other half.
    """
    pixels, classes = digits()
    pixels = pixels / 16
    learned, watched = np.array_split(
        np.random.default_rng(seed).permutation(len(pixels)), 2
    )
    *_, network = training(
        pixels[learned], classes[learned], snapshots=SNAPSHOTS, seed=seed
    )
    values = map(np.asarray, layer_values(network, jnp.asarray(pixels[watched])))
    names = ["pixels", "layer 1", "layer 2", "logits"]
    states = same_members([pixels[watched], *values], names, classes[watched])
    return replace(states, ids=[watched] * len(names))


def answers(states: Dataset) -> str:
    """Says which digits the network takes for others, from the logits."""
    assert states.labels is not None
    shown, predicted = states.labels[-1], states.slices[-1].argmax(axis=1)
    wrong = np.flatnonzero(shown != predicted)
    rows = [f"{states.ids[-1][i]} ({shown[i]}, said {predicted[i]})" for i in wrong]
    text = (
        f"the network errs on {len(rows)} of {len(predicted)} digits: {', '.join(rows)}"
    )
    return textwrap.fill(text, 88) + "\n"


def features() -> Dataset:
    """Returns four descriptions of the digits: pixels and three sets of features."""
    pixels, classes = digits()
    images = pixels.reshape(-1, 8, 8)
    amplitudes = np.abs(np.fft.rfft2(images)).reshape(len(images), -1)
    components = PCA(16, random_state=0).fit_transform(pixels)
    return same_members(
        [pixels, components, amplitudes, gradients(images)],
        ["pixels", "16 principal components", "Fourier amplitudes", "gradients"],
        classes,
    )


def gradients(images: np.ndarray) -> np.ndarray:
    """Returns histograms of the gradients' directions in nine overlapping squares.

    Source: Dalal & Triggs (2005), "Histograms of oriented gradients", without the
        normalization of blocks.
    """
    down, right = np.gradient(images, axis=(1, 2))
    direction = np.arctan2(down, right) % (2 * np.pi) * BINS / (2 * np.pi)
    inside = direction.astype(int)[..., None] % BINS == np.arange(BINS)
    strength = np.hypot(down, right)[..., None] * inside
    squares = [
        strength[:, top : top + 4, left : left + 4].sum(axis=(1, 2))
        for top in (0, 2, 4)
        for left in (0, 2, 4)
    ]
    return np.concatenate(squares, axis=1)


def alike(dataset: Dataset) -> list[Any]:
    """Returns for each slice the share of each row's nearest that have its label."""
    assert dataset.labels is not None
    hit = partial(metrics.neighborhood_hit, **OF_ROWS)
    return [*map(hit, dataset.slices, dataset.labels)]


def changes(dataset: Dataset) -> pd.DataFrame:
    """Returns a line for each row and step, those that changed most first.

    `changed` is the share of a row's 15 nearest in `before` that are not among its 15
    nearest in `after`, in the data; the last columns are the shares of its nearest that
    have its label.
    """
    assert dataset.labels is not None
    shares = alike(dataset)
    steps = [
        pd.DataFrame(
            {
                "before": dataset.titles[t],
                "after": dataset.titles[t + 1],
                "row": dataset.ids[t],
                "label": dataset.labels[t],
                "changed": 1 - metrics.neighborhood_preservation(x, y, **OF_ROWS),
                "alike_before": shares[t],
                "alike_after": shares[t + 1],
            }
        ).sort_values("changed", ascending=False, kind="stable")
        for t, (x, y) in enumerate(pairwise(dataset.slices))
    ]
    return pd.concat(steps, ignore_index=True)


def gains(dataset: Dataset) -> str:
    """Says how many rows have mostly others of their label around, first and last."""
    first, *_, last = (shares > 0.5 for shares in alike(dataset))
    return (
        f"of {len(first):,} rows, {(~first).sum()} have few nearest of their label in "
        f"{dataset.titles[0]}: {(~first & last).sum()} of these have most in "
        f"{dataset.titles[-1]}, and {(first & ~last).sum()} others have few there"
    )


def compare(name: str, dataset: Dataset, folder: Path) -> None:
    """Fits, draws and tabulates the representations of one data set."""
    labels, data = dataset.labels, dataset.slices
    key, titles = jax.random.key(0), dataset.titles
    maps = aljax.fit(data, dataset.ids, key=key, slice_labels=titles)
    figure = plot.slices(maps, labels, heading=name)
    plot.save(figure, folder / f"{name}.png", dpi=150)
    figure = plot.compare(maps, 0, -1, labels, data=data, heading=name)
    plot.save(figure, folder / f"{name}_compared.png", dpi=150)
    table = changes(dataset)
    table.to_csv(folder / f"{name}.csv", index=False, float_format="%.3f")
    steps = table.groupby(["before", "after"], sort=False)
    means = steps[["changed", "alike_before", "alike_after"]].mean().reset_index()
    words = {"index": False, "float_format": "%.2f"}
    print(f"{name}: means of each step\n{means.to_string(**words)}\n{gains(dataset)}\n")
    print(f"rows that changed most\n{steps.head(PRINTED).to_string(**words)}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compares the layers, then the features."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tutorials.models")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results/models"))
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    states = layers()
    print(answers(states))
    compare("layers", states, folder)
    compare("features", features(), folder)
    print(*sorted(folder.iterdir()), sep="\n")


if __name__ == "__main__":
    command.finish(main)
