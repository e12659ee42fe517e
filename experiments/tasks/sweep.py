"""A sweep from the command line: a grid in, a table and pictures of it out.

    python -m experiments.run experiment=digits_sweep

Every finished row is kept in `rows/`, under a digest of the data and of its settings:
a sweep that was stopped goes on where it was, and jobs on other machines (`-m`) that
share the folder fill it together.
"""

import hashlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aljax.errors import InputError
from aljax.graph.conditioning import by_distance
from aljax.sweep import Row, SweepProblem, check_settings, sweep
from experiments.benchmarks.cases import Case
from experiments.benchmarks.peers import METHODS, Problem
from experiments.benchmarks.race import measure
from experiments.command import MissingPeerError
from experiments.composition import check_known
from experiments.data import sources
from experiments.data.archives import read_npz, short
from experiments.data.dataset import Dataset, digest
from experiments.interrupts import Interrupts
from experiments.results import contents, report
from experiments.results.folder import unwritable
from experiments.results.records import write_csv, write_json
from experiments.settings import RunSettings, check_options, check_seed
from experiments.tasks import tradeoff
from experiments.tasks.fit import described
from experiments.tasks.grid import expand

SAMPLED = 1_000  # rows that quality is measured on
OPTIONS = ("row", "memory", "chunk", "rivals")
FILES = {
    "sweep.csv": "a line for each setting",
    "sweep.json": "the same, with versions and seconds",
    "pareto.png": "trustworthiness against displacement",
    "maps.png": "the maps of some settings",
    "rows/": "the finished settings, which are not run again",
}


class Finished(NamedTuple):
    """A finished row: its measures, and its maps."""

    measures: dict[str, float]
    maps: list[np.ndarray]


class Store:
    """Finished rows on disk, each under a digest of the data and of its settings.

    Maps are measured by angles where the metric of the sweep compares them.
    """

    def __init__(
        self, folder: Path, dataset: Dataset, metric: Any = "euclidean"
    ) -> None:
        self.folder, self.data = folder, digest(dataset)
        compared = [by_distance(rows, metric) for rows in dataset.slices]
        self.dataset = replace(dataset, slices=compared)

    def path(self, identity: Mapping[str, Any]) -> Path:
        """Returns the path of a row's file."""
        text = json.dumps([self.data, identity], sort_keys=True, default=str)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"

    def write(self, identity: Mapping[str, Any], row: Finished) -> None:
        """Keeps a row: its maps as arrays, the rest as JSON; whole or not at all."""
        arrays: dict[str, Any] = {f"map_{t}": y for t, y in enumerate(row.maps)}
        path = self.path(identity)
        beside = path.with_name(f".{secrets.token_hex(4)}.npz")
        np.savez_compressed(beside, record=json.dumps(row.measures), **arrays)
        os.replace(beside, path)

    def read(self, identity: Mapping[str, Any]) -> Finished:
        """Returns a row that is stored.

        Raises:
            InputError: It is damaged; the error tells which file to remove.
        """
        path = self.path(identity)
        try:
            arrays = read_npz(path)
            measures = json.loads(str(arrays.pop("record")))
            return Finished(measures, [arrays[f"map_{t}"] for t in range(len(arrays))])
        except (KeyError, TypeError, ValueError) as error:
            got = f"has {path}, which cannot be read ({short(error)})"
            remedy = "Remove it, and its row is laid out again."
            raise InputError("results", got, "a finished row", remedy) from error

    def __contains__(self, identity: Mapping[str, Any]) -> bool:
        """Tells if a row is finished."""
        return self.path(identity).exists()

    def measure(self, maps: list[np.ndarray]) -> dict[str, float]:
        """Returns the quality of maps of the data, in the same way for every method."""
        rows = SAMPLED if max(map(len, maps)) > 2 * SAMPLED else None
        dataset = replace(self.dataset, labels=report.classes_of(self.dataset.labels))
        case = Case(name="sweep", load=lambda: dataset, rows=rows)
        return measure(case, dataset, maps)


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Lays out what is not finished yet, and writes the table and the pictures.

    Arguments are those of `tasks.fit.run`; `task.grid` makes the rows, and `task.row`
    asks for a single one, without table and pictures.
    """
    task = settings.task
    _check_options(task)
    dataset = described(sources.take(settings.data), settings)
    rows = [{"seed": settings.seed, **row} for row in expand(task.get("grid"))]
    for row in rows:
        check_seed("seed", row["seed"])
    folder = settings.results / settings.name
    store = Store(folder / "rows", dataset, settings.configs["graph"].metric)
    _check_room(folder, dataset)
    chosen = _chosen(rows, task.get("row"))
    size = report.summary(dataset)
    print(f"{settings.name}: {len(chosen)} settings of {size}", flush=True)
    began = time.perf_counter()
    problem = dataset.sweep(**settings.configs)
    _lay_out(problem, chosen, store, task, interrupts)
    if task.get("row") is not None:
        return folder
    table = [store.read(_identity(problem, row)) for row in rows]
    rivals = _rivals(task.get("rivals", ()), settings, dataset, store)
    if interrupts.seen is not None:
        stopped = f"stopped; all settings are finished in {store.folder}."
        raise KeyboardInterrupt(stopped)
    _write(folder, settings, rows, table, rivals, dataset)
    print(f"{time.perf_counter() - began:.1f} s\n{contents.overview(folder, FILES)}")
    return folder


def _check_options(task: Mapping[str, Any]) -> None:
    check_options(task, required=("grid",), optional=OPTIONS)
    rivals = task.get("rivals", [])
    if not isinstance(rivals, list):
        raise InputError("task.rivals", f"is {rivals!r}", "a list of methods")
    for name in rivals:
        check_known("task.rivals", name, [*METHODS], "method")


def _check_room(folder: Path, dataset: Dataset) -> None:
    """Checks before the first layout whatever would fail after it, or harm a result."""
    largest, least = max(map(len, dataset.slices)), 2 * Case.n_neighbors + 1
    if largest < least:
        raise InputError(
            "data",
            f"has no slice of more than {largest} rows",
            f"at least {least}, for a sweep measures the {Case.n_neighbors} nearest",
            "Single fits take smaller ones: -m and task.name=fit seed=0,1.",
        )
    if (folder / "metrics.json").exists():
        got = f"is {folder.name}, and {folder} has the result of a fit"
        raise InputError("name", got, "a name of its own for the sweep")
    try:
        (folder / "rows").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder.parent, error) from error


def _chosen(rows: list[dict[str, Any]], row: Any) -> list[dict[str, Any]]:
    if row is None:
        return rows
    if not isinstance(row, int) or not 0 <= row < len(rows):
        expected = f"0 to {len(rows) - 1}, or null for all"
        raise InputError("task.row", f"is {row!r}", expected)
    return [rows[row]]


def _without_seed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seed"}


def _identity(problem: SweepProblem, row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all settings that decide a row's maps."""
    full = problem.replaced(_without_seed(row))
    settings = vars(full.graph) | vars(full.layout) | vars(full.alignment)
    return {"seed": row["seed"], **settings}


def _lay_out(
    problem: SweepProblem,
    rows: Sequence[dict[str, Any]],
    store: Store,
    task: Mapping[str, Any],
    interrupts: Interrupts,
) -> None:
    """Runs and keeps the rows that are not finished."""
    check_settings([*map(_without_seed, rows)])
    missing = [row for row in rows if _identity(problem, row) not in store]
    n_before = len(rows) - len(missing)
    print(f"{n_before} finished before, {len(missing)} to run", flush=True)
    if not missing:
        return
    n_finished = 0

    def keep(place: int, laid_out: Row) -> None:
        nonlocal n_finished
        loss = {name: float(v.sum()) for name, v in vars(laid_out.loss).items()}
        finished = Finished({**laid_out.metrics, **loss}, laid_out.maps)
        store.write(_identity(problem, missing[place]), finished)
        n_finished += 1
        if interrupts.seen is not None:
            stopped = (
                f"stopped; {n_finished} of {len(missing)} settings are finished and "
            )
            raise KeyboardInterrupt(stopped + "will not be run again.")

    sweep(
        problem,
        [*map(_without_seed, missing)],
        keys=[jax.random.key(row["seed"]) for row in missing],
        memory=task.get("memory"),
        chunk=task.get("chunk"),
        measure=lambda maps, _: store.measure(maps),
        progress=keep,
    )


def _rivals(
    names: Sequence[str], settings: RunSettings, dataset: Dataset, store: Store
) -> dict[str, Finished]:
    """Returns rivals' maps of the same data, where they are installed."""
    rivals: dict[str, Finished] = {}
    shared = {
        "n_neighbors": settings.graph.n_neighbors,
        "min_dist": settings.layout.min_dist,
    }
    for name in names:
        identity = {"method": name, "seed": settings.seed, **shared}
        if identity not in store:
            try:
                problem = Problem(dataset.slices, dataset.relations)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a rival's words on its threads
                    maps, _ = METHODS[name](problem, shared, settings.seed)
            except MissingPeerError as missing:
                print(f"{name} is left out: {missing}")
                continue
            store.write(identity, Finished(store.measure(maps), maps))
        rivals[name] = store.read(identity)
    return rivals


def _write(
    folder: Path,
    settings: RunSettings,
    rows: Sequence[dict[str, Any]],
    table: Sequence[Finished],
    rivals: Mapping[str, Finished],
    dataset: Dataset,
) -> None:
    lines = [row | finished.measures for row, finished in zip(rows, table, strict=True)]
    points = {name: rival.measures for name, rival in rivals.items()}
    write_csv(folder / "sweep.csv", lines)
    record = {"rows": lines, "rivals": points, "versions": report.versions()}
    write_json(folder / "sweep.json", record)
    settings.save(folder)
    if "displacement" in lines[0]:
        figure = tradeoff.pareto(
            lines, points, heading=folder.name, settings=_varied(rows)
        )
        figure.savefig(folder / "pareto.png", dpi=150)
    maps = [finished.maps for finished in table]
    colors = contents.colors(dataset)
    shown = {"heading": folder.name, "titles": dataset.titles, **colors}
    figure = tradeoff.multiples(rows, maps, **shown)
    figure.savefig(folder / "maps.png", dpi=150)


def _varied(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns those settings of each row that are not the same in all."""
    names = [
        name for name in rows[0] if any(row[name] != rows[0][name] for row in rows)
    ]
    return [{name: row[name] for name in names} for row in rows]
