"""One run by several processes: each loads, fits and measures its own slices.

    python -m experiments.run ... distributed=true coordinator=HOST:PORT processes=N
        process_id=I

Process 0 gathers the maps and writes the results.  A process that fails ends at once,
for the others wait for it: they then stop with an error of their own.
"""

import dataclasses
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

import aljax.distributed
from aljax import AlignedEmbedding, metrics
from aljax.distributed.exchange import from_all
from aljax.errors import InputError
from aljax.layout.problem import layout_params
from experiments.clocks import CompileClock, stage
from experiments.data import files, sources
from experiments.data.dataset import Dataset, consecutive
from experiments.interrupts import Interrupts
from experiments.results import contents, report
from experiments.results.folder import folder_beside
from experiments.settings import RunSettings, build
from experiments.tasks import selection
from experiments.tasks.fit import Result, bar, described, finish, labels
from experiments.tasks.perform import keep_compiled

HEARTBEAT = 30  # seconds after which a process that says nothing counts as dead
DRAWING = 3600  # seconds for which the others wait for process 0 at the end


def perform(composed: dict[str, Any], interrupts: Interrupts) -> None:
    """Joins the other processes, and runs; settings are refused before."""
    if composed["alignment"].get("alignment_regularisation") == selection.AUTO:
        raise InputError(
            "alignment_regularisation",
            f"is {selection.AUTO}, which is chosen by one process",
            "a number",
            "Choose it with python -m experiments.tasks.selection.",
        )
    settings = build(composed)
    _check(settings)
    connect(settings)
    with _all_or_none():
        keep_compiled(settings.compilation_cache)
        run(settings, interrupts)
    jax.distributed.shutdown()


def connect(settings: RunSettings) -> None:
    """Joins `jax.distributed`: by hand, or as the cluster's environment says."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            settings.coordinator,
            settings.processes,
            settings.process_id,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=DRAWING,
        )
    except ValueError as error:
        raise InputError(
            "distributed",
            "is true, but no cluster is detected (SLURM, Open MPI, Kubernetes)",
            "coordinator=HOST:PORT processes=N process_id=I",
        ) from error
    except RuntimeError as error:
        got = f"is {settings.coordinator}, where the processes did not meet ({error})"
        expected = "the address of process 0"
        raise InputError("coordinator", got, expected) from error


def _check(settings: RunSettings) -> None:
    refused = {
        "devices": settings.devices is not None,
        "first": settings.first is not None,
        "inverse": settings.inverse is not None,
        "resume": settings.resume,
        "task": settings.task["name"] != "fit",
    }
    for name, is_set in refused.items():
        if is_set:
            got = "does not go with distributed=true"
            expected = "a fit shared by all devices of all processes, and no more"
            raise InputError(name, got, expected, "Leave it out.")
    if settings.motion:
        contents.check_motion()


@contextmanager
def _all_or_none() -> Iterator[None]:
    """Ends a failed process at once: the others see that and end, too."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, ValueError):
            print(f"error: {error}", file=sys.stderr)
        elif isinstance(error, KeyboardInterrupt):
            print("stopped; nothing was written.", file=sys.stderr)
        else:
            traceback.print_exc()
            hint = "error: another process may have died; nothing was written."
            print(hint, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # Python's own exit would wait for the others, who wait for this one.
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def run(settings: RunSettings, interrupts: Interrupts) -> None:
    """Fits and measures this process's slices; process 0 draws and writes all."""
    seconds: dict[str, float] = {}
    clock = CompileClock()
    writes = jax.process_index() == 0
    with stage("load", seconds, interrupts):
        dataset = described(load(settings.data), settings)
    count = len(dataset.slices)
    share = aljax.distributed.share(count).own
    mine = part(dataset, share)
    print(
        f"{settings.name}: process {jax.process_index()} of {jax.process_count()}, "
        f"slices {share.start} to {share.stop - 1}, {report.summary(mine)}",
        flush=True,
    )
    shown = bar(interrupts, shown=writes)
    with stage("fit", seconds, interrupts), shown as progress:
        fitted = aljax.distributed.fit(
            mine.slices,
            dataset.relations,
            n_slices=count,
            key=jax.random.key(settings.seed),
            **settings.configs,
            slice_labels=labels(dataset) if any(dataset.titles) else None,
            progress=progress,
        )
    with stage("measure", seconds, interrupts):
        embedding = whole(fitted, dataset, settings)
        measures = measure(mine, fitted, embedding)
    if writes:
        with folder_beside(settings.results) as folder:
            result = Result(dataset, embedding, measures, seconds)
            finish(folder, settings, result, clock, interrupts)


def load(data: Mapping[str, Any]) -> Dataset:
    """Returns the dataset, of which only this process's slices have columns.

    A folder of the user's own files is read only where it is this process's.
    """

    def share(count: int) -> range:
        return aljax.distributed.share(count).own

    if data.get("source") == "files":
        paths = {name: data[name] for name in ("path", "relations", "labels")}
        return files.read_dataset(**paths, share=share)
    dataset = sources.load(**data)
    mine = share(len(dataset.slices))
    slices = [
        rows if t in mine else np.empty((len(rows), 0))
        for t, rows in enumerate(dataset.slices)
    ]
    return dataclasses.replace(dataset, slices=slices)


def part(dataset: Dataset, share: range) -> Dataset:
    """Returns some slices of a dataset, without their relations."""
    cut = slice(share.start, share.stop)
    labels = None if dataset.labels is None else dataset.labels[cut]
    slices, ids, titles = dataset.slices[cut], dataset.ids[cut], dataset.titles[cut]
    return Dataset(slices, [], ids, titles, labels)


def whole(
    fitted: AlignedEmbedding, dataset: Dataset, settings: RunSettings
) -> AlignedEmbedding:
    """Returns all maps with their mates, but neither data nor graphs."""
    count = len(dataset.slices)
    maps, history = aljax.distributed.gather(fitted, count)
    return dataclasses.replace(
        fitted,
        maps=maps,
        graphs=[],
        relations=consecutive(dataset.relations, [*map(len, maps)]),
        data=[None] * count,
        params=layout_params(settings.layout, settings.alignment, slices=count),
        history=history,
        pinned=[None] * count,
        point_weights=[None] * count,
        slice_labels=None,
        graph=settings.graph,
        layout=settings.layout,
    )


def measure(
    mine: Dataset, fitted: AlignedEmbedding, embedding: AlignedEmbedding
) -> report.Measures:
    """Returns all measures, each made by the process that has the data."""
    measured = report.measure(mine, fitted)
    count = len(embedding.maps)
    room = aljax.distributed.share(count).room
    values = np.full((2, room), np.nan)
    values[:, : len(fitted.maps)] = measured.trustworthiness, measured.accuracy
    trust, accuracy = np.concatenate([*from_all(values)], axis=1)[:, :count]
    return report.Measures(
        trustworthiness=trust.tolist(),
        accuracy=accuracy.tolist(),
        displacement=[
            metrics.displacement(embedding.maps, {pair: mates})
            for pair, mates in embedding.relations.items()
        ],
        frame={"center_drift": metrics.center_drift(embedding.maps)},
    )
