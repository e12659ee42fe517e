"""One run by several processes: each loads, fits and measures its own slices.

    python -m experiments.run ... distributed=true coordinator=HOST:PORT processes=N
        process_id=I

Process 0 gathers the maps and writes the results.  A process that fails tells the
others why and ends at once, and so do they.
"""

import dataclasses
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.errors import JaxRuntimeError

import aljax.distributed
from aljax import AlignedEmbedding, metrics
from aljax.distributed.agreement import (
    Agreement,
    SharedError,
    digest,
    setup_here,
    summed,
)
from aljax.distributed.exchange import Spread, slices_ahead, slices_of_all
from aljax.errors import InputError
from aljax.graph.slices import slices_of
from aljax.layout.problem import layout_params
from aljax.relations.read import is_ids, read_ids
from experiments.clocks import CompileClock, stage
from experiments.composition import dotted
from experiments.data import sources
from experiments.data.dataset import Dataset, consecutive
from experiments.interrupts import Interrupts
from experiments.results import contents, report, resume
from experiments.results.folder import check_writable, folder_beside
from experiments.settings import RunSettings, build
from experiments.tasks import selection
from experiments.tasks.fit import Result, bar, described, finish
from experiments.tasks.perform import keep_compiled
from experiments.tasks.watch import Watch, leave

SLOWER, LEAST = 2, 30  # JAX's own heartbeats: times `timeout`, and seconds at least

# Settings that may differ among processes: numbers of their own, places on their disks.
OWN = ("process_id", "coordinator", "results", "compilation_cache")
PLACES = tuple(f"data.{name}" for name in ("path", "relations", "labels", "folder"))


def perform(
    composed: dict[str, Any],
    interrupts: Interrupts,
    decided: Mapping[str, str] | None = None,
) -> Path | None:
    """Joins the other processes, and runs; settings are refused before.

    Args:
        composed: The settings.
        interrupts: Asked between the stages.
        decided: What decided a result that is to be made again.

    Returns:
        The folder of the results in process 0, None in the others.
    """
    if composed["alignment"].get("alignment_regularisation") == selection.AUTO:
        raise InputError(
            "alignment_regularisation",
            f"is {selection.AUTO}, which is chosen by one process",
            "a number",
            "Choose it with python -m experiments.tasks.selection.",
        )
    settings = build(composed)
    _check(settings)
    connect(settings, interrupts)
    agreement = Agreement("run", interrupts.check)
    with _all_or_none(agreement, interrupts), Watch(agreement, settings.timeout):
        same = {name: v for name, v in dotted(composed) if name not in OWN + PLACES}
        # In this order: the setting `devices` is None here, those of JAX count.
        agreement.same("settings", same | setup_here())
        keep_compiled(settings.compilation_cache)
        folder = run(settings, interrupts, agreement, decided or {})
        agreement.answers("end", "")  # the others wait for process 0 to write
    jax.distributed.shutdown()
    return folder


def connect(settings: RunSettings, interrupts: Interrupts) -> None:
    """Joins `jax.distributed`: by hand, or as the cluster's environment says."""
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM
    # JAX ends with a stack, and is needed where its own code holds Python's lock.
    seconds = max(LEAST, round(SLOWER * settings.timeout))
    aljax.distributed.connect(
        settings.coordinator,
        settings.processes,
        settings.process_id,
        timeout=settings.timeout,
        log=partial(print, file=sys.stderr, flush=True),
        check=interrupts.check,
        heartbeat_timeout_seconds=seconds,
        shutdown_timeout_seconds=seconds,
    )


def _check(settings: RunSettings) -> None:
    refused = {
        "devices": settings.devices is not None,
        "first": settings.first is not None,
        "inverse": settings.inverse is not None,
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
def _all_or_none(agreement: Agreement, interrupts: Interrupts) -> Iterator[None]:
    """Ends a failed process at once, after it has told the others why."""
    try:
        yield
    except BaseException as failed:
        error = _cause(failed, agreement)
        stopped = isinstance(error, KeyboardInterrupt)
        why = str(error) or ("stopped" if stopped else type(error).__name__)
        if not isinstance(error, ValueError | JaxRuntimeError | KeyboardInterrupt):
            traceback.print_exc()
        if not isinstance(error, SharedError):
            with suppress(JaxRuntimeError):  # nobody is left to be told
                agreement.fail(why)
        leave(why, interrupts.exit_status() if stopped else 1)


def _cause(error: BaseException, agreement: Agreement) -> BaseException:
    """Returns the failure of another process, if that is why a program failed here."""
    if not isinstance(error, JaxRuntimeError):
        return error
    try:
        agreement.check_failed(agreement.said())
    except SharedError as ended:
        return ended
    except JaxRuntimeError:
        pass
    return SharedError("processes", "has one that died", "all to go on to the end")


def run(
    settings: RunSettings,
    interrupts: Interrupts,
    agreement: Agreement,
    decided: Mapping[str, str],
) -> Path | None:
    """Fits and measures this process's slices; process 0 draws and writes all."""
    seconds: dict[str, float] = {}
    clock = CompileClock()
    writes = jax.process_index() == 0
    if writes:
        check_writable(settings.results)
    with stage("load", seconds, interrupts):
        dataset = described(load(settings.data, agreement), settings)
        others = resume.others(decided, settings, dataset) if decided else []
        if others:
            expected = "the same data and settings"
            raise InputError("--reproduce", f"finds that {'; '.join(others)}", expected)
    count = len(dataset.slices)
    share = aljax.distributed.share(count).own
    own_dataset = part(dataset, share)
    print(
        f"{settings.name}: process {jax.process_index()} of {jax.process_count()}, "
        f"slices {share.start} to {share.stop - 1}, {report.summary(own_dataset)}",
        flush=True,
    )
    shown = bar(interrupts, shown=writes)
    with ExitStack() as stack:
        manager = resume.checkpoints(settings, dataset) if writes else nullcontext()
        checkpoints = stack.enter_context(manager)
        with stage("fit", seconds, interrupts), shown as progress:
            fitted = aljax.distributed.fit(
                own_dataset.slices,
                dataset.relations,
                n_slices=count,
                key=jax.random.key(settings.seed),
                **settings.configs,
                scale=dataset.scale,
                scale_by=dataset.scale_by,
                slice_labels=dataset.slice_labels,
                progress=progress,
                checkpoints=checkpoints,
            )
        with stage("measure", seconds, interrupts):
            embedding = whole(fitted, dataset, settings)
            measures = measure(own_dataset, fitted, embedding)
        if not writes:
            return None
        folder = stack.enter_context(folder_beside(settings.results))
        result = Result(dataset, embedding, measures, seconds)
        return finish(folder, settings, result, clock, interrupts)


def load(data: Mapping[str, Any], agreement: Agreement) -> Dataset:
    """Returns the dataset, of which only this process's slices have columns.

    Files and stores of the user's own are read only where they are this process's.

    Raises:
        InputError: As the source does, or processes find other slices or relations.
    """

    def share(rows: Mapping[str, int]) -> range:
        counts = {f"rows of {name}": count for name, count in rows.items()}
        agreement.same("slices", {"slices": len(rows)} | counts)
        return aljax.distributed.share(len(rows)).own

    with agreement.together("load"):
        dataset = sources.load_share(share, **data)
    own_range = aljax.distributed.share(len(dataset.slices)).own
    sums = [digest(rows) for rows in dataset.slices[own_range.start : own_range.stop]]
    all_sums = agreement.answers("sums", " ".join(sums))
    slices = [
        rows if t in own_range else np.empty((len(rows), 0))
        for t, rows in enumerate(dataset.slices)
    ]
    dataset = dataclasses.replace(
        dataset, slices=slices, sums=" ".join(all_sums).split()
    )
    parts = {name: summed(getattr(dataset, name)) for name in ("relations", "labels")}
    agreement.same("relations", parts)
    return dataset


def part(dataset: Dataset, share: range) -> Dataset:
    """Returns some slices of a dataset, without their relations."""
    cut = slice(share.start, share.stop)
    labels = None if dataset.labels is None else dataset.labels[cut]
    slices, ids, titles = dataset.slices[cut], dataset.ids[cut], dataset.titles[cut]
    notes = () if share.start else dataset.notes  # told once
    return Dataset(slices, [], ids, titles, labels, notes=notes)


def whole(
    fitted: AlignedEmbedding, dataset: Dataset, settings: RunSettings
) -> AlignedEmbedding:
    """Returns all maps and their mates without data, and in process 0 all graphs."""
    count = len(dataset.slices)
    maps, history = aljax.distributed.gather(fitted, count)
    local, room, _ = aljax.distributed.share(count)
    sizes, scaling = [*map(len, maps)], fitted.scaling
    spread, after = Spread(local, room, sizes), range(local.stop, count)
    ahead = slices_ahead(fitted.graphs, spread, after)
    if scaling is not None:
        units = tuple(slices_of_all(scaling.columns))
        scaling = dataclasses.replace(scaling, columns=units)
    ids = dataset.relations if is_ids(dataset.relations) else None
    embedding = dataclasses.replace(
        fitted,
        maps=maps,
        graphs=[*fitted.graphs, *ahead],
        relations=consecutive(dataset.relations, sizes),
        data=[None] * count,
        params=layout_params(settings.layout, settings.alignment, slices=count),
        history=history,
        pinned=[None] * count,
        point_weights=[None] * count,
        ids=None if ids is None else read_ids(ids, slices_of(sizes)),
        scaling=scaling,
        slice_labels=dataset.slice_labels,
        columns=None,
        graph=settings.graph,
        layout=settings.layout,
    )
    return dataset.described(embedding)


def measure(
    own_dataset: Dataset, fitted: AlignedEmbedding, embedding: AlignedEmbedding
) -> report.Measures:
    """Returns all measures, each made by the process that has the data."""
    measured = report.measure(own_dataset, fitted)
    return report.Measures(
        trustworthiness=slices_of_all(measured.trustworthiness),
        accuracy=slices_of_all(measured.accuracy),
        displacement=report.displacement(embedding.maps, embedding.relations),
        frame={"center_drift": metrics.center_drift(embedding.maps)},
    )
