"""Benchmarks made of parts: each gives rows, shown as a table and kept as JSON."""

import argparse
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any
from unittest import mock

from aljax.errors import InputError
from experiments.benchmarks.race import check_known
from experiments.command import MissingPeerError
from experiments.results.records import markdown, means, store

Row = dict[str, Any]
Part = Callable[[], Sequence[Row]]
SEEDS = (0, 1, 2)


def run_parts(name: str, *functions: Part, **cases: Part) -> int:
    """Runs the parts that the command line names, all of them if it names none.

    Args:
        name: The module's name.
        *functions: Parts that are known by the functions' names.
        **cases: Parts by the names that they are known by, which run before.
    """
    by_name = cases | {function.__name__: function for function in functions}
    parser = argparse.ArgumentParser(prog=f"python -m experiments.benchmarks.{name}")
    parser.add_argument("parts", nargs="*", help=", ".join(by_name))
    chosen = parser.parse_args().parts or [*by_name]
    check_known(parser, "part", chosen, by_name)
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {}
    for part in chosen:
        try:
            rows = results[part] = by_name[part]()
        except (MissingPeerError, InputError) as missing:  # a rival, or its data
            print(f"{part} left out: {missing}")
            continue
        print(f"\n{part}\n\n{markdown(rows)}", flush=True)
    store(name, results)
    return 0


def over_seeds(
    column: str,
    measured: Callable[[int], Mapping[Any, Row]],
    seeds: Iterable[int] = SEEDS,
) -> list[Row]:
    """Returns a line for each name that is measured, with the means over seeds.

    Args:
        column: The names' own.
        measured: Returns a row for each name, the same names for every seed.
        seeds: Its arguments.
    """
    of_seeds = [measured(seed) for seed in seeds]
    return [
        {column: name} | means([rows[name] for rows in of_seeds])
        for name in of_seeds[0]
    ]


def alone(
    part: Callable[..., Row], cases: Iterable[Any], *, at_once: int = 1, flags: str = ""
) -> list[Row]:
    """Returns the row of each case, read in a fresh process that keeps no programs.

    Args:
        part: Of a module, so that the process can import it.
        cases: An argument of `part` each.
        at_once: Processes at the same time.
        flags: XLA's.
    """
    with mock.patch.dict(os.environ, XLA_FLAGS=flags):
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        with ProcessPoolExecutor(
            at_once, get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            return [*pool.map(part, cases)]
