"""Every claim of speed and quality: rivals and ours in one run, on the same data.

    python -m experiments.benchmarks.race digits_sequence

runs each method of a case warm in this process (median over the seeds, after a fit
that is not counted: of the same data for methods that compile for each shape, of a
part for the others), measures the maps of every seed, runs all by turns in fresh
processes (import, compilation and peak memory included; median), prints a table and
writes `results/benchmarks/<case>.json`.
"""

import argparse
import dataclasses
import json
import pickle
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aljax.errors import InputError, nearest_name
from aljax.metrics import displacement, neighborhood_preservation, trustworthiness
from experiments import command
from experiments.benchmarks.cases import CASES, Case
from experiments.benchmarks.fresh import run_python
from experiments.benchmarks.peers import (
    COMPILED_BY_SHAPE,
    METHODS,
    Maps,
    Problem,
    Stages,
)
from experiments.clocks import clocked
from experiments.command import MissingPeerError
from experiments.composition import dataclass_defaults, unknown
from experiments.data.dataset import Dataset, consecutive
from experiments.results.records import (
    BENCHMARKS,
    drawn,
    made_folder,
    markdown,
    mean,
    means,
    store,
)
from experiments.results.report import accuracy

OURS = "aljax"


def measure(case: Case, dataset: Dataset, maps: Maps) -> dict[str, float]:
    """Returns the quality of one method's maps, as the means over slices.

    Slices that have too few rows for a measure are no part of its mean.
    """
    k = case.n_neighbors
    pairs = zip(dataset.slices, maps, strict=True)
    large = [(x, y, drawn(len(x), case.rows)) for x, y in pairs if len(x) > 2 * k]
    trust, recall = (
        [metric(x, y, n_neighbors=k, rows=rows) for x, y, rows in large]
        for metric in (trustworthiness, neighborhood_preservation)
    )
    measured = {
        "trustworthiness": float(np.mean(trust)),
        "trustworthiness_min": float(np.min(trust)),
        "knn_recall": float(np.mean(recall)),
    }
    if dataset.labels is not None:
        measured["knn_accuracy"] = mean(
            accuracy(y, labels, case.accuracy_neighbors, case.rows)
            for y, labels in zip(maps, dataset.labels, strict=True)
        )
    mates = consecutive(dataset.relations, [*map(len, maps)])
    if any(link.rows.size for link in mates.values()):
        measured["displacement"] = displacement(maps, mates)
    return measured


def run_fresh(
    case: Case, problem: Problem, methods: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Fits in processes of their own; returns each method's seconds and peak memory.

    Ours run before and after each rival's: a machine that slows down slows all.
    """
    rivals = [method for method in methods if method != OURS]
    turns = [OURS, *(x for rival in rivals for x in (rival, OURS))]
    turns = turns if OURS in methods else rivals
    runs: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    with tempfile.TemporaryDirectory() as folder:
        for method in case.fresh_runs * turns:
            call = method, problem, case.settings_of(method), case.seeds[0]
            path = Path(folder, "call.pickle")
            path.write_bytes(pickle.dumps(call))
            run = run_python("-m", "experiments.benchmarks.fresh", str(path))
            print(f"  {method}, fresh process: {run[0]:.1f} s", flush=True)
            runs[method].append(run)
    return {
        method: {
            "fresh_seconds": float(np.median([seconds for seconds, _ in of_method])),
            "peak_mib": max(peak for _, peak in of_method),
        }
        for method, of_method in runs.items()
    }


def run_warm(case: Case, dataset: Dataset, method: str) -> dict[str, Any]:
    """Fits in this process, one for each seed, after one that is not counted."""
    problem = Problem(dataset.slices, dataset.relations)
    fits = warm_fits(method, problem, case.settings_of(method), case.seeds)
    _, first = next(fits)
    timed, quality = [], []
    for seed, (maps, seconds) in zip(case.seeds, fits, strict=True):
        timed.append(seconds)
        quality.append(measure(case, dataset, maps))
        print(f"  {method}, seed {seed}: {seconds['fit']:.2f} s", flush=True)
    warm = {stage: float(np.median([t[stage] for t in timed])) for stage in timed[0]}
    result = {
        "seconds": warm,
        "quality": means(quality),
        "spread": {n: float(np.std([q[n] for q in quality])) for n in quality[0]},
        "seeds": list(case.seeds),
    }
    if method in COMPILED_BY_SHAPE:
        result["compile_seconds"] = {s: first[s] - warm[s] for s in first}
    return result


def warm_fits(
    method: str, problem: Problem, settings: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[tuple[Maps, Stages]]:
    """Yields maps and seconds: of a fit that compiles, and then of one for each seed.

    The first is of all the data if the method compiles for each shape, else of a part.
    """
    small = problem if method in COMPILED_BY_SHAPE else _cut(problem)
    for data, seed in [(small, seeds[0]), *((problem, seed) for seed in seeds)]:
        fit = partial(METHODS[method], data, settings, seed)
        (maps, stages), seconds = clocked(fit)
        yield maps, {"fit": seconds} | stages


def _cut(problem: Problem) -> Problem:
    """Returns a small problem of the same kind, to compile on."""
    slices = [data[:500] for data in problem.slices]
    sizes = [len(data) for data in slices]
    # Any will do, but rows without a mate make umap-learn read past its tables.
    relations = [
        {row: row for row in range(min(sizes[t : t + 2]))}
        for t in range(len(problem.relations))
    ]
    return Problem(slices, relations)


def run_case(case: Case, methods: Sequence[str], *, in_fresh: bool) -> dict[str, Any]:
    """Runs all methods of a case; those not installed are left out with a word."""
    dataset = case.load()
    results: dict[str, Any] = {}
    for method in methods:
        print(f"{case.name}: {method}", flush=True)
        try:
            results[method] = run_warm(case, dataset, method)
        except MissingPeerError as missing:
            print(f"  left out: {missing}")
    if in_fresh:
        problem = Problem(dataset.slices, dataset.relations)
        for method, cold in run_fresh(case, problem, [*results]).items():
            results[method] |= cold
    return results


def table(methods: dict[str, Any]) -> str:
    """Returns the results of a case as a Markdown table; ratios are to ours."""
    ours = methods.get(OURS)
    rows = []
    for method, result in methods.items():
        warm, fresh = result["seconds"]["fit"], result.get("fresh_seconds")
        row = {"method": method, "warm fit s": f"{warm:.2f}"}
        if ours:
            row["ratio"] = f"{warm / ours['seconds']['fit']:.1f}"
        if fresh is not None:
            row["fresh process s"] = f"{fresh:.1f}"
            if ours:
                row["ratio of it"] = f"{fresh / ours['fresh_seconds']:.1f}"
            row["peak MiB"] = f"{result['peak_mib']:.0f}"
        rows.append(row | result["quality"])
    return markdown(rows)


def _changed(case: Case, seeds: Sequence[int] | None, texts: Sequence[str]) -> Case:
    """Returns the case with other seeds, and with settings of ours as JSON values.

    Raises:
        InputError: A name is not a setting of ours, or a value is not JSON.
    """
    known = [name for section in dataclass_defaults().values() for name in section]
    ours = dict(case.own_settings.get(OURS, {}))
    for setting in texts:
        name, _, value = setting.partition("=")
        if name not in known:
            raise unknown(name, known)
        try:
            ours[name] = json.loads(value)
        except json.JSONDecodeError as error:
            expected = "NAME=VALUE with a JSON value"
            raise InputError(setting, "cannot be read", expected) from error
    return dataclasses.replace(
        case,
        seeds=seeds or case.seeds,
        own_settings={**case.own_settings, OURS: ours},
    )


def check_known(
    parser: argparse.ArgumentParser,
    kind: str,
    names: Iterable[str],
    known: Iterable[str],
) -> None:
    """Ends with an error at the first unknown name; it tells the nearest."""
    known = [*known]
    for name in names:
        if name not in known:
            parser.error(f"no {kind} `{name}`: {nearest_name(name, known)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a case from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.race")
    parser.add_argument("case", help=", ".join(CASES))
    parser.add_argument("--methods", nargs="+", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--no-fresh", action="store_true", help="warm fits only")
    parser.add_argument("--seeds", nargs="+", type=int, help="one fit for each")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="our own settings"
    )
    parser.add_argument("--out", type=made_folder, default=BENCHMARKS)
    options = parser.parse_args(arguments)
    check_known(parser, "case", [options.case], CASES)
    try:
        case = _changed(CASES[options.case], options.seeds, options.set)
    except ValueError as error:
        parser.error(str(error))
    methods = options.methods or case.methods
    check_known(parser, "method", methods, METHODS)
    warnings.simplefilter("ignore")
    results = run_case(case, methods, in_fresh=not options.no_fresh)
    print(f"\n{table(results)}")
    store(case.name, {"case": case.name, "methods": results}, options.out)
    return 0


if __name__ == "__main__":
    command.finish(main)
