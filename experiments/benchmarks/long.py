"""Fits a long sequence in this process: seconds by stage, and peak memory.

    python -m experiments.benchmarks.long [--slices 512 --rows 2160 --explorer X.html]
    python -m experiments.benchmarks.long --slices 1 --rows 1000000 --mapped FOLDER
    python -m experiments.benchmarks.long --slices 10 --rows 1000000 --store FOLDER

The rows are the same members in every slice: points of clusters that walk at random.
With `--mapped` they are written to files, and the fit reads these memory-mapped.  With
`--store` they are written to a zarr store, with ids, unless it is there, and read as
`data=zarr` does: call it twice, for the memory of a process that only reads.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import aljax
from experiments import command
from experiments.clocks import clocked, peak_memory
from experiments.data import stores
from experiments.data.dataset import Dataset
from experiments.results.records import markdown

CLUSTERS, SPREAD, STEP = 20, 3.0, 0.1
CHUNK = 10_000  # rows of a chunk of the store


def made_up(slices: int, rows: int, features: int) -> Iterator[np.ndarray]:
    """Yields the slices; every row stays in its cluster and wanders a little."""
    rng = np.random.default_rng(0)

    def normal(count: int, scale: float) -> np.ndarray:
        numbers = rng.standard_normal((count, features), dtype=np.float32)
        return np.multiply(numbers, np.float32(scale), out=numbers)

    cluster = np.arange(rows) % CLUSTERS
    centers, around = normal(CLUSTERS, SPREAD), normal(rows, 1.0)
    for _ in range(slices):
        centers = centers + normal(CLUSTERS, STEP)
        around += normal(rows, STEP)
        yield centers[cluster] + around


def mapped(slices: Iterable[np.ndarray], folder: Path) -> Iterator[np.ndarray]:
    """Writes each slice to a file, and yields it memory-mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, rows in enumerate(slices):
        path = folder / f"slice_{t}.npy"
        np.save(path, rows)
        yield np.load(path, mmap_mode="r")


def stored(folder: Path, slices: Iterable[np.ndarray]) -> Dataset:
    """Writes slices to a zarr store, if it is not there, and reads it."""
    if not folder.exists():
        import zarr

        group = zarr.create_group(folder, zarr_format=3)
        members = group.create_group("ids")
        for t, rows in enumerate(slices):
            group.create_array(f"slice_{t}", data=rows, chunks=(CHUNK, rows.shape[1]))
            members.create_array(f"slice_{t}", data=np.arange(len(rows)))
    dataset, seconds = clocked(lambda: stores.zarr_store(path=str(folder)))
    print(f"read in {seconds:.1f} s, peak {peak_memory():,.0f} MiB", flush=True)
    return dataset


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser("python -m experiments.benchmarks.long")
    parser.add_argument("--slices", type=int, default=512)
    parser.add_argument("--rows", type=int, default=2160)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--explorer", help="an HTML page to write, too")
    parser.add_argument("--mapped", type=Path, help="a folder for the slices' files")
    parser.add_argument("--store", type=Path, help="a zarr store")
    parser.add_argument("--load", action="store_true", help="reads it, and no more")
    options = parser.parse_args(arguments)
    ids = [[*range(options.rows)]] * options.slices if options.slices > 1 else None
    slices = made_up(options.slices, options.rows, options.features)
    if options.store:
        dataset = stored(options.store, slices)
        data, ids = dataset.slices, dataset.relations if ids else None
        if options.load:
            return
    else:
        data = [*(mapped(slices, options.mapped) if options.mapped else slices)]
    before = peak_memory()
    maps, seconds = clocked(lambda: aljax.fit(data, ids, key=jax.random.key(0)))
    stages = maps.seconds | {"fit s": seconds}
    peak = peak_memory()
    sample = np.random.default_rng(0).permutation(options.rows)[:1000]
    last: Any = data[-1], maps.slices()[-1]
    row = {
        "size": f"{options.slices} x {options.rows:,} x {options.features}",
        **{stage: f"{taken:.1f}" for stage, taken in stages.items()},
        "trust of last": aljax.metrics.trustworthiness(*last, rows=sample),
        "drift": aljax.metrics.center_drift(maps.slices()),
        "peak MiB": f"{peak:.0f}",
        "of which data MiB": f"{before:.0f}",
    }
    print(markdown([row]))
    if options.explorer:
        aljax.plot.explore(maps, options.explorer)


if __name__ == "__main__":
    command.finish(main)
