"""umap-learn's tutorial on AlignedUMAP, run by aljax.

    python -m experiments.tutorials.sequences [FOLDER]

The calls are the tutorial's own.  Changed are the imports, and written anew the lines
which its text has lost; what it shows in a notebook is written to FOLDER
(results/tutorial_sequences).  The story, and where aljax differs on purpose, is in
docs/tutorial_sequences.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import scipy.interpolate
import sklearn.datasets
from matplotlib import animation

import aljax as umap
from experiments import command

FRAMES = 100  # from the first map to the last


def axis_bounds(embedding: np.ndarray) -> tuple[float, float, float, float]:
    """Returns left, right, bottom and top of all maps, with a tenth to spare."""
    left, right = embedding.T[0].min(), embedding.T[0].max()
    bottom, top = embedding.T[1].min(), embedding.T[1].max()
    adj_h, adj_v = (right - left) * 0.1, (top - bottom) * 0.1
    return (left - adj_h, right + adj_h, bottom - adj_v, top + adj_v)


def draw_grid(embeddings: Any, targets: list[np.ndarray], path: Path) -> None:
    """Draws ten scatter plots with the same axes, read across, then down."""
    fig, axs = plt.subplots(5, 2, figsize=(10, 20))
    ax_bound = axis_bounds(np.vstack(embeddings))
    for i, ax in enumerate(axs.flatten()):
        ax.scatter(*embeddings[i].T, s=2, c=targets[i], cmap="Spectral")
        ax.axis(ax_bound)
        ax.set(xticks=[], yticks=[])
    fig.savefig(path)
    plt.close(fig)


def sequence(digits: Any, folder: Path) -> tuple[Any, Any]:
    """Aligns ten overlapping slices at once, and again as they come."""
    ordered_digits = digits.data[np.argsort(digits.data.sum(axis=1))]
    ordered_target = digits.target[np.argsort(digits.data.sum(axis=1))]
    slices = [
        ordered_digits[150 * i : min(ordered_digits.shape[0], 150 * i + 400)]
        for i in range(10)
    ]
    targets = [
        ordered_target[150 * i : min(ordered_target.shape[0], 150 * i + 400)]
        for i in range(10)
    ]
    relation_dict = {i + 150: i for i in range(400 - 150)}
    relation_dicts = [relation_dict.copy() for i in range(len(slices) - 1)]

    aligned_mapper = umap.AlignedUMAP().fit(slices, relations=relation_dicts)
    draw_grid(aligned_mapper.embeddings_, targets, folder / "sequence.png")

    updating_mapper = umap.AlignedUMAP().fit(slices[:2], relations=relation_dicts[:1])
    for i in range(2, len(slices)):
        updating_mapper.update(
            slices[i], relations={v: k for k, v in relation_dicts[i - 1].items()}
        )
    draw_grid(updating_mapper.embeddings_, targets, folder / "updates.png")
    return aligned_mapper, updating_mapper


def varying_parameters(digits: Any, folder: Path) -> Any:
    """Lays one data set out ten times, by ten pairs of parameters."""
    constant_dict = {i: i for i in range(digits.data.shape[0])}
    constant_relations = [constant_dict for i in range(9)]
    neighbors_mapper = umap.AlignedUMAP(
        n_neighbors=[3, 4, 5, 7, 11, 16, 22, 29, 37, 45],
        min_dist=[0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45],
        alignment_window_size=2,
        alignment_regularisation=1e-3,
    ).fit([digits.data for i in range(10)], relations=constant_relations)
    draw_grid(
        neighbors_mapper.embeddings_, [digits.target] * 10, folder / "parameters.png"
    )
    return neighbors_mapper


def smooth_curves(mapper: Any, digits: Any) -> list[np.ndarray]:
    """Returns x and y of each digit at `FRAMES` times, from first map to last."""
    n_embeddings = len(mapper.embeddings_)
    es = mapper.embeddings_
    embedding_df = pd.DataFrame(np.vstack(es), columns=pd.Index(["x", "y"]))
    embedding_df["z"] = np.repeat(np.linspace(0, 1.0, n_embeddings), es[0].shape[0])
    embedding_df["id"] = np.tile(np.arange(es[0].shape[0]), n_embeddings)
    embedding_df["digit"] = np.tile(digits.target, n_embeddings)
    fx, fy = (
        scipy.interpolate.interp1d(
            embedding_df.z[embedding_df.id == 0],
            embedding_df[axis].to_numpy().reshape(n_embeddings, -1).T,
            kind="cubic",
        )
        for axis in ("x", "y")
    )
    z = np.linspace(0, 1.0, FRAMES)
    return [fx(z), fy(z)]


def draw_curves(interpolated_traces: list[np.ndarray], digits: Any, path: Path) -> None:
    """Draws each digit as a curve in three dimensions."""
    z = np.linspace(0, 1.0, FRAMES)
    palette = px.colors.diverging.Spectral
    traces = [
        go.Scatter3d(
            x=interpolated_traces[0][i],
            y=interpolated_traces[1][i],
            z=z * 3.0,
            mode="lines",
            line={"color": palette[digits.target[i]], "width": 3.0},
            hovertext=str(digits.target[i]),
        )
        for i in range(digits.data.shape[0])
    ]
    fig = go.Figure(data=traces)
    fig.update_layout(width=800, height=700, autosize=False, showlegend=False)
    fig.write_html(path)


def draw_animation(
    interpolated_traces: list[np.ndarray], digits: Any, path: Path
) -> None:
    """Draws the same, one frame after the other."""
    fig = plt.figure(figsize=(4, 4), dpi=150)
    ax = fig.add_subplot(1, 1, 1)
    offsets = np.array(interpolated_traces).T
    num_frames = offsets.shape[0]
    ax_bound = axis_bounds(offsets.reshape(-1, 2))
    scat = ax.scatter([], [], s=2)
    scat.set(array=digits.target, cmap="Spectral")
    text = ax.text(ax_bound[0] + 0.5, ax_bound[2] + 0.5, "")
    ax.axis(ax_bound)
    ax.set(xticks=[], yticks=[])

    def animate(i: int) -> Any:
        text.set_text(f"Frame {i}")
        scat.set_offsets(offsets[i])
        return (scat,)

    anim = animation.FuncAnimation(fig, func=animate, frames=num_frames, interval=40)
    anim.save(path, writer="pillow")
    plt.close(fig)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the tutorial from its start to its end."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tutorials.sequences")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("results/tutorial_sequences")
    )
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    digits = sklearn.datasets.load_digits()
    sequence(digits, folder)
    neighbors_mapper = varying_parameters(digits, folder)
    interpolated_traces = smooth_curves(neighbors_mapper, digits)
    draw_curves(interpolated_traces, digits, folder / "trajectories.html")
    draw_animation(interpolated_traces, digits, folder / "animation.gif")
    print(*sorted(folder.iterdir()), sep="\n")


if __name__ == "__main__":
    command.finish(main)
