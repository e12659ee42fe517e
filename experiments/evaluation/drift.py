"""Measures whether maps far apart in a real sequence can be compared, beside rivals.

    python -m experiments.evaluation.drift baseball countries freedom

Each row of a table is a method: ours, ours with mates alone (as version 0.1 had it),
ours with `motion_fidelity`, ours with the last 100 slices (all but two, where there are
fewer) added by updates, umap-learn's AlignedUMAP, and one UMAP of all slices pooled.
It tells how far rows that are nearest in the data lie apart in maps so many slices
apart, how far centers drift, how far mates move from map to map (all in radii),
trustworthiness and seconds.
"""

import argparse
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import jax

import aljax
from aljax import metrics
from aljax.errors import InputError
from experiments import command
from experiments.benchmarks.peers import Maps, Problem, umap_learn
from experiments.clocks import clocked
from experiments.command import MissingPeerError
from experiments.composition import compose
from experiments.data import sources
from experiments.data.dataset import Dataset, among, as_dicts, consecutive, leading_to
from experiments.evaluation.methods import (
    MOTION,
    OURS_WITH_MOTION,
    Family,
    aligned,
    ours,
    pooled,
)
from experiments.results.records import count, markdown, mean
from experiments.results.report import frame_of, trustworthiness

UPDATES = 100


def updated(data: Problem, seed: int) -> dict[str, Maps]:
    """Fits the first slices, and adds the last ones (at most 100) by updates."""
    key = jax.random.key(seed)
    first = max(2, len(data.slices) - UPDATES)
    model = aljax.fit(data.slices[:first], among(data.relations, first), key=key)
    for t in range(first, len(data.slices)):
        links = leading_to(data.relations, t)
        model = model.update(data.slices[t], links, key=jax.random.fold_in(key, t))
    return {"": model.slices()}


METHODS: dict[str, Family] = {
    **ours("aljax"),
    **ours("aljax, mates", frame="mates"),
    **ours(OURS_WITH_MOTION, **MOTION),
    "aljax, updates": updated,
    **aligned("AlignedUMAP"),
    **pooled("UMAP, pooled", umap_learn),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table for each sequence."""
    parser = argparse.ArgumentParser("python -m experiments.evaluation.drift")
    parser.add_argument("sequences", nargs="+", help="sources, as in configs/data")
    parser.add_argument("--seeds", type=count, default=1, help="runs of each method")
    parser.add_argument("--only", nargs="*", choices=[*METHODS], default=[*METHODS])
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # umap-learn's, of its own arguments
    for name in options.sequences:
        dataset = sources.load(**compose([f"data={name}"])["data"])
        if len(dataset.slices) < 2:
            raise InputError("sequences", f"has {name}, a single slice", "at least 2")
        print(f"\n{name}: {len(dataset.slices)} slices\n")
        rows = []
        for method, seed in itertools.product(options.only, range(options.seeds)):
            try:
                rows.append(measured(dataset, method, seed))
            except MissingPeerError as error:
                print(error)
        print(markdown(rows), flush=True)


def measured(dataset: Dataset, method: str, seed: int) -> dict[str, Any]:
    """Returns one row of a table."""
    sizes = [*map(len, dataset.slices)]
    mates = consecutive(dataset.relations, sizes)
    by_ids = "aljax" in method
    relations = dataset.relations if by_ids else as_dicts(dataset.relations, sizes)
    problem = Problem(dataset.slices, relations)
    result, seconds = clocked(lambda: METHODS[method](problem, seed))
    (maps,) = result.values()
    frame = frame_of(dataset.slices, maps)
    drift = frame.pop("center_drift")
    apart = {name.removeprefix("apart_"): value for name, value in frame.items()}
    return {"method": method, **apart, "drift": drift} | {
        "mates": metrics.displacement(maps, mates),
        "trust": mean(trustworthiness(dataset.slices, maps)),
        "seconds": f"{seconds:.1f}",
    }


if __name__ == "__main__":
    command.finish(main)
