"""Lists the methods that are evaluated, with settings fixed once.

A family fits once and gives the maps of one or more methods.  What is not said here is
each package's default: UMAP with 15 neighbors and min_dist .1, t-SNE with perplexity
30.  The weights that are not defaults, and kappa, come from `experiments.evaluation.run
--profile tuning`, whose data are none of the evaluation's; docs/evaluation.md says how.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances_argmin

from aljax.selection import WEIGHT, select_alignment
from aljax.sweep import SweepProblem
from experiments.benchmarks import peers
from experiments.benchmarks.peers import Maps, Method, Problem
from experiments.evaluation.dynamic_tsne import dynamic_tsne

Family = Callable[[Problem, int], dict[str, Maps]]
BEST_ALIGNED = 0.1  # umap-learn's weight
LIGHT = 0.005  # ours, the heaviest that costs no neighbors that can be told
ALONE = {"alignment_regularisation": 0.0, "frame": "mates"}
MOTION = {"alignment_regularisation": 3.0, "motion_fidelity": 1.0}
OURS_ALONE = "aljax, each slice"
OURS = "aljax"
OURS_LIGHTLY = "aljax, light weight"
OURS_WITH_MOTION = "aljax, motion_fidelity"
OURS_BY_EVIDENCE = "aljax, auto"


def _cut(positions: np.ndarray, slices: Sequence[np.ndarray]) -> Maps:
    return np.split(positions, np.cumsum([*map(len, slices)])[:-1])


def _components(rows: np.ndarray) -> np.ndarray:
    """Returns the two leading principal components, largest loadings positive."""
    return PCA(2, svd_solver="covariance_eigh").fit_transform(np.asarray(rows, float))


def pca(data: Problem, seed: int) -> dict[str, Maps]:
    """Returns principal components of each slice, and of all slices together."""
    del seed
    return {
        "PCA, each slice": [_components(rows) for rows in data.slices],
        "PCA, pooled": pooled_components(data),
    }


def umap_each(data: Problem, seed: int) -> dict[str, Maps]:
    """Fits umap-learn slice by slice, as it is and turned onto the slice before."""
    maps = peers.umap_each(data, {}, seed)
    chain = peers.turned(maps, data.relations)
    return {"UMAP, each slice": maps, "UMAP, each slice + Procrustes": chain}


def pooled_components(data: Problem) -> Maps:
    """Returns the two leading components of all slices together, cut by slice."""
    return _cut(_components(np.concatenate(data.slices)), data.slices)


def pooled(name: str, method: Method) -> dict[str, Family]:
    """Returns a family of one method: a peer on the rows of all slices together."""
    return single(name, partial(_together, method))


def _together(method: Method, data: Problem, *arguments: Any) -> tuple[Maps, Any]:
    whole = Problem([np.concatenate(data.slices)], [])
    (positions,), seconds = method(whole, *arguments)
    return _cut(positions, data.slices), seconds


def tsne_continued(data: Problem, seed: int) -> dict[str, Maps]:
    """Fits openTSNE, each slice started where the mates lie in the slice before.

    A row without a mate starts at the place of the nearest row that has one.  As the
    start is a map already, it is not exaggerated again.
    """
    maps = [peers.tsne(data.slices[0], seed)]
    for rows, mates in zip(data.slices[1:], data.relations, strict=True):
        related = np.array([*mates.values()])
        nearest = pairwise_distances_argmin(rows, rows[related])
        nearest[related] = np.arange(len(related))  # also where rows are the same
        start = maps[-1][np.array([*mates])][nearest]
        jitter = np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)
        options = {"initialization": start + jitter, "early_exaggeration_iter": 0}
        maps.append(peers.tsne(rows, seed, **options))
    return {"t-SNE, from the step before": maps}


def tsne_dynamic(data: Problem, seed: int) -> dict[str, Maps]:
    """Fits dynamic t-SNE with the paper's lambda of .1."""
    rng = np.random.default_rng(seed)
    start = pooled_components(data)
    unit = 1e-4 / np.concatenate(start).std()
    start = [unit * y + rng.normal(scale=1e-5, size=y.shape) for y in start]
    return {"dynamic t-SNE": dynamic_tsne(data.slices, data.relations, start)}


def ours_by_evidence(data: Problem, seed: int) -> dict[str, Maps]:
    """Fits ours with the weight that hidden mates choose, by two seeds for each."""
    problem = SweepProblem(data.slices, data.relations)
    selection = select_alignment(problem, key=jax.random.key(seed), n_seeds=2)
    settings = {WEIGHT: selection.choice}
    return {OURS_BY_EVIDENCE: peers.aljax_fit(data, settings, seed)[0]}


def _fit(
    name: str, method: Method, settings: Mapping[str, Any], data: Problem, seed: int
) -> dict[str, Maps]:
    return {name: method(data, settings, seed)[0]}


def single(name: str, method: Method, **settings: Any) -> dict[str, Family]:
    """Returns a family of one method: a peer or ours, with some settings."""
    return {name: partial(_fit, name, method, settings)}


def ours(name: str, **settings: Any) -> dict[str, Family]:
    """Returns a family of one method: ours, with some settings."""
    return single(name, peers.aljax_fit, **settings)


def aligned(name: str, **settings: float) -> dict[str, Family]:
    """Returns a family of one method: umap-learn's AlignedUMAP."""
    return single(name, peers.umap_learn, **settings)


# Keyed by the first method that each gives.
FAMILIES: dict[str, Family] = {
    **ours(OURS_ALONE, **ALONE),
    **ours(OURS),
    **ours(OURS_LIGHTLY, alignment_regularisation=LIGHT),
    **ours(OURS_WITH_MOTION, **MOTION),
    OURS_BY_EVIDENCE: ours_by_evidence,
    "PCA, each slice": pca,
    "UMAP, each slice": umap_each,
    **pooled("UMAP, pooled", peers.umap_learn),
    **single("t-SNE, each slice", peers.open_tsne),
    **pooled("t-SNE, pooled", peers.open_tsne),
    "t-SNE, from the step before": tsne_continued,
    **aligned("AlignedUMAP"),
    **aligned("AlignedUMAP, best weight", alignment_regularisation=BEST_ALIGNED),
    "dynamic t-SNE": tsne_dynamic,
}

# What the fixed settings above are chosen from.
GRID: dict[str, Family] = ours(OURS_ALONE, **ALONE)
for weight in (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.04, 0.07, 0.15):
    GRID |= ours(f"aljax {weight:g}", alignment_regularisation=weight)
for kappa, weight in itertools.product((0.3, 1.0, 3.0), repeat=2):
    settings = {"alignment_regularisation": weight, "motion_fidelity": kappa}
    GRID |= ours(f"aljax {kappa:g} {weight:g}", **settings)
for weight in (0.001, 0.01, 0.1, 1.0):
    GRID |= aligned(f"AlignedUMAP {weight:g}", alignment_regularisation=weight)
GRID |= {"PCA, each slice": pca, "UMAP, each slice": umap_each}
