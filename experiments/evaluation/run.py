"""Every method on every sequence by every measure, and what comes out of it.

    python -m experiments.evaluation.run                    # hours
    python -m experiments.evaluation.run --profile quick    # minutes
    python -m experiments.evaluation.run --profile tuning   # for fixed settings

writes `results/evaluation/<profile>.csv` (method, sequence, metric, seed, value) after
every fit, and the table and the figure at the end.  Run again, it goes on where it was
stopped: what stands in the file is not fitted again, unless `--again` names its method.
Slow methods are fitted for the first of three seeds; `--seeds` fits all that it runs.
"""

import argparse
import csv
import itertools
import math
import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aljax.errors import InputError
from experiments import command
from experiments.benchmarks.peers import Problem
from experiments.benchmarks.race import check_known
from experiments.clocks import clocked
from experiments.command import MissingPeerError
from experiments.evaluation import scores, tables
from experiments.evaluation.profiles import PROFILES, Profile, load
from experiments.evaluation.tables import Row
from experiments.results.records import made_folder

AWAY = "Move it away to start anew."


def read(path: Path) -> list[Row]:
    """Returns the lines written so far.

    Raises:
        InputError: The file has other columns, or a line is damaged.
    """
    if not path.exists():
        return []
    expected = f"a table with the columns {[*Row._fields]}"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            columns, *lines = [*csv.reader(file)] or [[]]
    except (ValueError, csv.Error) as error:
        got = f"is {path}, which cannot be read ({error})"
        raise InputError("--out", got, expected, AWAY) from error
    if columns != [*Row._fields]:
        got = f"is {path}, which has the columns {columns}"
        raise InputError("--out", got, expected, AWAY)
    return [_row(path, number, line) for number, line in enumerate(lines, start=2)]


def _row(path: Path, number: int, line: Sequence[str]) -> Row:
    try:
        method, sequence, metric, seed, value = line
        return Row(method, sequence, metric, int(seed), float(value))
    except ValueError as error:
        got = f"is {path}, whose line {number} cannot be read ({error})"
        expected = f"values for {', '.join(Row._fields)}"
        remedy = "Mend the line or remove it."
        raise InputError("--out", got, expected, remedy) from error


def write(path: Path, rows: Sequence[Row]) -> None:
    """Writes all lines, in place of the file or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows((*row[:4], f"{row.value:.6g}") for row in rows)
    unfinished.replace(path)


class Outcome(NamedTuple):
    """The rows of a fit, or why there are none; and the line to print."""

    rows: list[Row]
    line: str
    failed: bool = False


def attempt(profile: Profile, seed: int, sequence: str, method: str) -> Outcome:
    """Fits a family once and measures its maps, or tells why it cannot."""
    warnings.simplefilter("ignore")
    rows = []
    try:
        dataset = load(sequence, profile)
        problem = Problem(dataset.slices, dataset.relations)
        maps_of, seconds = clocked(partial(profile.families[method], problem, seed))
        for name, maps in maps_of.items():
            measured = scores.score(dataset, maps) | {"seconds": seconds}
            rows += [Row(name, sequence, n, seed, v) for n, v in measured.items()]
    except MissingPeerError as missing:
        return Outcome([], f"  {method} left out: {missing}")
    except Exception as error:
        return Outcome([], f"  {method} failed on {sequence}: {error!r}", failed=True)
    return Outcome(rows, _line(seed, sequence, rows))


def run(
    profile: Profile,
    path: Path,
    *,
    sequences: Sequence[str],
    methods: Sequence[str],
    again: Sequence[str] = (),
    jobs: int = 1,
) -> tuple[list[Row], int]:
    """Fits what is not in the file yet.

    Args:
        profile: What there is to run.
        path: The file of results.
        sequences: Those of the profile to run.
        methods: Keys of its families, those to run.
        again: Of these what stands in the file is fitted anew.
        jobs: Processes that fit at the same time.

    Returns:
        All lines, and how many fits failed (their reason is printed).
    """
    rows, failed = read(path), 0
    finished = {(row.seed, row.sequence, row.method) for row in rows}
    # First the first seed of all: a run that is stopped has something of everything.
    remaining = [
        fitted
        for fitted in itertools.product(profile.seeds, sequences, methods)
        if (fitted not in finished or fitted[2] in again)
        and (fitted[2] not in profile.once or fitted[0] == profile.seeds[0])
    ]
    for new_rows, line, failure in _outcomes(profile, remaining, jobs):
        failed += failure
        replaced = {(row.method, row.sequence, row.seed) for row in new_rows}
        rows = [r for r in rows if (r.method, r.sequence, r.seed) not in replaced]
        rows += new_rows
        write(path, rows)
        print(line, flush=True)
    return rows, failed


def _outcomes(
    profile: Profile, remaining: Sequence[tuple[int, str, str]], jobs: int
) -> Iterator[Outcome]:
    """Yields the outcome of each fit as it ends."""
    if jobs == 1:
        yield from (attempt(profile, *fitted) for fitted in remaining)
        return
    # Each process is kept to the end, and with it all that it has compiled.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        futures = [pool.submit(attempt, profile, *fitted) for fitted in remaining]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _line(seed: int, sequence: str, rows: Sequence[Row]) -> str:
    value = {row.metric: row.value for row in rows if row.method == rows[0].method}
    return (
        f"seed {seed}, {sequence}, {rows[0].method}: preservation "
        f"{value[tables.PRESERVATION]:.3f}, stability "
        f"{value[tables.STABILITY]:.3f}, {value['seconds']:.1f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a profile from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.evaluation.run")
    parser.add_argument("--profile", choices=[*PROFILES], default="full")
    parser.add_argument("--sequences", nargs="+", metavar="NAME")
    parser.add_argument("--methods", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--again", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", type=made_folder, default=Path("results/evaluation"))
    options = parser.parse_args(arguments)
    profile = PROFILES[options.profile]
    if options.seeds:
        profile = replace(profile, seeds=options.seeds, once=())
    sequences = options.sequences or [*profile.sequences]
    methods = options.methods or options.again or [*profile.families]
    check_known(parser, f"sequence of {options.profile}", sequences, profile.sequences)
    named = [*methods, *options.again]
    check_known(parser, f"method of {options.profile}", named, profile.families)
    if options.jobs < 1:
        parser.error(f"`--jobs` is {options.jobs}; expected at least 1 process")
    path = options.out / f"{options.profile}.csv"
    chosen = {"sequences": sequences, "methods": methods, "again": options.again}
    rows, failed = run(profile, path, **chosen, jobs=options.jobs)
    table = tables.table(rows)
    path.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    tables.figure(rows).savefig(path.with_suffix(".png"), dpi=100)
    print(f"\n{table}\n\nwritten to {path}, and beside it the table and the figure")
    return 1 if failed or all(math.isnan(row.value) for row in rows) else 0


if __name__ == "__main__":
    command.finish(main)
