"""One run: data in, a folder of maps, measures and pictures out.

The fit is at once or slice by slice, with a bar that shows the loss.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

import aljax
from aljax import AlignedEmbedding, Checkpoints
from aljax.errors import InputError
from aljax.layout.optimize import LayoutState
from experiments.clocks import CompileClock, stage
from experiments.data import sources
from experiments.data.dataset import (
    Dataset,
    among,
    leading_to,
    related_by_ids,
    titled,
)
from experiments.interrupts import Interrupts
from experiments.results import contents, report, resume
from experiments.results.folder import folder_beside, publish
from experiments.results.records import write_json
from experiments.settings import RunSettings, check_options

BAR = "fit {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}"  # 80 columns


class Result(NamedTuple):
    """A finished fit: the data, the maps, their measures and the stages' seconds."""

    dataset: Dataset
    embedding: AlignedEmbedding
    measures: report.Measures
    seconds: dict[str, float]


def run(settings: RunSettings, interrupts: Interrupts) -> Path:
    """Loads, fits, measures, draws and writes; returns the folder with the results.

    Args:
        settings: All that decides the run.
        interrupts: Asked between the stages.
    """
    check_options(settings.task, required=())
    if settings.motion:
        contents.check_motion()
    seconds: dict[str, float] = {}
    clock = CompileClock()
    with ExitStack() as stack:
        folder = stack.enter_context(folder_beside(settings.results))
        with stage("load", seconds, interrupts):
            dataset = described(sources.take(settings.data), settings)
        if settings.inverse is not None:
            columns = [data.shape[1] for data in dataset.slices]
            contents.check_images(columns, settings.layout.n_components)
        print(f"{settings.name}: {report.summary(dataset)}", flush=True)
        checkpoints = stack.enter_context(resume.checkpoints(settings, dataset))
        with stage("fit", seconds, interrupts):
            embedding = fit(dataset, settings, interrupts, checkpoints)
            embedding = dataset.described(embedding)
        with stage("measure", seconds, interrupts):
            measures = report.measure(dataset, embedding)
        result = Result(dataset, embedding, measures, seconds)
        return finish(folder, settings, result, clock, interrupts)


def described(dataset: Dataset, settings: RunSettings) -> Dataset:
    """Returns the dataset with titles and relations as the settings ask for them."""
    dataset = titled(dataset, settings.graph, settings.layout)
    return related_by_ids(dataset) if settings.by_ids else dataset


def finish(
    folder: Path,
    settings: RunSettings,
    result: Result,
    clock: CompileClock,
    interrupts: Interrupts,
) -> Path:
    """Prints the measures, draws and writes all, and returns the published folder."""
    dataset, embedding, measures, seconds = result
    print(f"\n{report.table(dataset, measures)}\n")
    with stage("draw", seconds, interrupts):
        contents.draw(folder, settings, dataset, embedding)
    contents.write_arrays(folder, dataset, embedding)
    seconds["of which compilation"] = clock.seconds
    names: dict[str, Any] = {"name": settings.name, "seed": settings.seed}
    names["decided"] = resume.decides(settings, dataset)
    record = report.record(dataset, embedding, measures, **names, seconds=seconds)
    write_json(folder / "metrics.json", record, allow_nan=False)
    settings.save(folder)
    interrupts.check()
    written = publish(folder, settings.name)
    print(contents.overview(written))
    return written


def fit(
    dataset: Dataset,
    settings: RunSettings,
    interrupts: Interrupts,
    checkpoints: Checkpoints | None = None,
) -> AlignedEmbedding:
    """Returns the maps of a dataset, checkpointed while they are made.

    Raises:
        InputError: As `aljax.fit` and `aljax.update`, or `first` is out of range.
    """
    count = len(dataset.slices)
    first = count if settings.first is None else settings.first
    if first > count:
        got = f"is {first}, but there are {count} slices"
        raise InputError("first", got, f"at most {count}")
    key = jax.random.key(settings.seed)
    with bar(interrupts) as progress:
        embedding = aljax.fit(
            dataset.slices[:first],
            among(dataset.relations, first),
            key=key,
            **settings.configs,
            scale=dataset.scale,
            slice_labels=dataset.slice_labels and dataset.slice_labels[:first],
            progress=progress,
            checkpoints=checkpoints,
            devices=settings.devices,
        )
    style: dict[str, Any] = {"total": count, "disable": first == count}
    for t in tqdm(range(first, count), "update", initial=first, **style):
        embedding = aljax.update(
            embedding,
            dataset.slices[t],
            leading_to(dataset.relations, t),
            key=jax.random.fold_in(key, t),
            slice_label=dataset.names[t],
        )
        interrupts.check()
    return embedding


@contextmanager
def bar(interrupts: Interrupts, *, shown: bool = True) -> Iterator[Any]:
    """Returns the function that `fit` calls with its state; it looks for signals."""
    style: dict[str, Any] = {"bar_format": BAR, "mininterval": 0, "leave": False}
    with tqdm(total=1, disable=not shown, **style) as line:

        def progress(state: LayoutState) -> None:
            interrupts.check()
            line.total = int(state.n_epochs)
            last = state.recorded() - 1
            terms = vars(state.history).items()
            line.set_postfix(
                {name: f"{values[last].sum():.0f}" for name, values in terms},
                refresh=False,
            )
            line.update(int(state.epoch) - line.n)

        yield progress
        line.leave = True  # but wiped off where there is an error to read
