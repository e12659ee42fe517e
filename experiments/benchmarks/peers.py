"""Rivals: one small adapter each, from data and settings to maps.

Settings carry umap-learn's names; an adapter passes on those that its method has.
A method that is not installed raises `MissingPeerError`, which says how to get it.
"""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from experiments.command import MissingPeerError

MANY = 5000  # rows, below which threads wait for each other more than they help
Maps = list[np.ndarray]
Stages = dict[str, float]


class Problem(NamedTuple):
    """The arguments of every method: the slices, and how they relate."""

    slices: Sequence[np.ndarray]
    relations: Sequence[Mapping[int, int]]


Method = Callable[[Problem, Mapping[str, Any], int], tuple[Maps, Stages]]


def load_peer(module: str, package: str) -> ModuleType:
    """Imports a rival's module.

    Raises:
        MissingPeerError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPeerError(
            f"{package} is not installed; run: pip install '{package}' (or all rivals: "
            "pip install -e '.[peers]')"
        ) from error


def load_umap() -> ModuleType:
    """Imports umap-learn, of the version that figures are read with."""
    return load_peer("umap", "umap-learn==0.5.12")


def aljax_fit(
    data: Problem, settings: Mapping[str, Any], seed: int
) -> tuple[Maps, Stages]:
    """Fits aljax, with its own defaults for what the settings leave open."""
    import dataclasses

    import jax

    import aljax

    def config(cls: type) -> Any:
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: v for name, v in settings.items() if name in names})

    fitted = aljax.fit(
        data.slices,
        data.relations,
        key=jax.random.key(seed),
        graph=config(aljax.GraphConfig),
        layout=config(aljax.LayoutConfig),
        alignment=config(aljax.AlignmentConfig),
    )
    return fitted.slices(), fitted.seconds


def umap_learn(
    data: Problem, settings: Mapping[str, Any], seed: int
) -> tuple[Maps, Stages]:
    """Fits umap-learn: `AlignedUMAP` for a sequence, `UMAP` for a single slice."""
    umap = load_umap()
    if len(data.slices) == 1:
        from unittest import mock  # imports asyncio, which no fresh process needs

        model = umap.UMAP(random_state=seed, n_jobs=1, **settings)
        optimize, seconds = umap.umap_.optimize_layout_euclidean, []

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = optimize(*arguments, **options)
            seconds.append(time.perf_counter() - began)
            return result

        with mock.patch.object(umap.umap_, "optimize_layout_euclidean", timed):
            positions = model.fit_transform(data.slices[0])
        return [positions], {"layout": sum(seconds)}
    # `random_state` does not reach its joint stage, `transform_seed` does.
    model = umap.AlignedUMAP(random_state=seed, transform_seed=seed, **settings)
    model.fit(list(data.slices), relations=[dict(r) for r in data.relations])
    return [np.asarray(y) for y in model.embeddings_], {}


def umap_each(data: Problem, settings: Mapping[str, Any], seed: int) -> Maps:
    """Fits umap-learn slice by slice; of a list of settings each has its own."""
    umap = load_umap()
    maps: Maps = []
    for t, rows in enumerate(data.slices):
        of_slice = {
            name: value[t] if isinstance(value, list) else value
            for name, value in settings.items()
            if not name.startswith("alignment_")
        }
        model = umap.UMAP(random_state=seed, n_jobs=1, **of_slice)
        maps.append(model.fit_transform(rows))
    return maps


def turned(maps: Maps, relations: Sequence[Mapping[int, int]]) -> Maps:
    """Returns the maps, each turned onto the one before by their mates."""
    from aljax.layout.initialize import turn_onto  # no other rival loads aljax

    chain = maps[:1]
    for y, mates in zip(maps[1:], relations, strict=True):
        chain.append(turn_onto(y, y[list(mates.values())], chain[-1][list(mates)]))
    return chain


def umap_procrustes(
    data: Problem, settings: Mapping[str, Any], seed: int
) -> tuple[Maps, Stages]:
    """Fits umap-learn slice by slice, each map turned onto the one before."""
    return turned(umap_each(data, settings, seed), data.relations), {}


def manifolds_rs(
    data: Problem, settings: Mapping[str, Any], seed: int
) -> tuple[Maps, Stages]:
    """Fits manifolds-rs (Rust) slice by slice: parallel Adam, neighbor descent.

    500 epochs and umap-learn's min_dist, unless the settings say otherwise.
    """
    manifolds = load_peer("manifolds_rs", "manifolds-rs")
    maps = [
        manifolds.UMAP(
            ann="nndescent",
            optimizer="adam_parallel",
            n_neighbors=settings.get("n_neighbors", 15),
            min_dist=settings.get("min_dist", 0.1),
            n_epochs=settings.get("n_epochs", 500),
            seed=seed,
        ).fit_transform(np.ascontiguousarray(rows, dtype=np.float32))
        for rows in data.slices
    ]
    return [np.asarray(y) for y in maps], {}


def tsne(rows: np.ndarray, seed: int, **options: Any) -> np.ndarray:
    """Fits openTSNE with its defaults, but for a perplexity that fits few rows."""
    model = load_peer("openTSNE", "openTSNE").TSNE(
        random_state=seed,
        n_jobs=-1 if len(rows) > MANY else 1,
        perplexity=min(30, (len(rows) - 1) / 3),
        **options,
    )
    return np.asarray(model.fit(rows))


def open_tsne(
    data: Problem, settings: Mapping[str, Any], seed: int
) -> tuple[Maps, Stages]:
    """Fits openTSNE slice by slice; it has none of the settings."""
    del settings
    return [tsne(rows, seed) for rows in data.slices], {}


# These compile for every shape of data; the others once in a process.
COMPILED_BY_SHAPE = {"aljax"}
METHODS: dict[str, Method] = {
    "aljax": aljax_fit,
    "umap-learn": umap_learn,
    "umap-learn + Procrustes": umap_procrustes,
    "manifolds-rs": manifolds_rs,
    "openTSNE": open_tsne,
}
