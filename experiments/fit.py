"""The fit of a run: at once or slice by slice, with a bar that shows the loss."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from tqdm import tqdm

import aljax
from aljax import AlignedEmbedding, Checkpoints
from aljax.layout.optimize import LayoutState
from experiments.dataset import Dataset
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings

BAR = "fit {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}"  # 80 columns


def fit(
    dataset: Dataset,
    settings: RunSettings,
    interrupts: Interrupts,
    checkpoints: Checkpoints | None = None,
) -> AlignedEmbedding:
    """The maps of a dataset, as the settings ask for them, kept while they are made.

    Raises:
        ValueError: As `aljax.fit` and `aljax.update` do, or `first` is not in range.
    """
    count = len(dataset.slices)
    first = count if settings.first is None else settings.first
    if first > count:
        raise ValueError(
            f"`first` is {first}, but there are {count} slices; expected at most that."
        )
    whole = first == count
    by_ids = bool(dataset.relations) and not isinstance(dataset.relations[0], dict)
    relations = dataset.relations[: first if by_ids else first - 1]
    with bar() as progress:
        embedding = aljax.fit(
            dataset.slices[:first],
            relations,
            key=jax.random.key(settings.seed),
            graph=settings.graph,
            layout=settings.layout,
            alignment=settings.alignment,
            slice_labels=labels(dataset)[:first] if any(dataset.titles) else None,
            progress=lambda state: progress(state, interrupts),
            checkpoints=checkpoints,
            devices=settings.devices,
        )
    if whole:
        return embedding
    key = jax.random.key(settings.seed)
    for t in tqdm(range(first, count), "update", initial=first, total=count):
        embedding = aljax.update(
            embedding,
            dataset.slices[t],
            dataset.relations[t if by_ids else t - 1],
            key=jax.random.fold_in(key, t),
            slice_label=labels(dataset)[t],
        )
        interrupts.check()
    return embedding


def labels(dataset: Dataset) -> list[str]:
    """What the slices are called: their titles, or their numbers."""
    return [title or str(t) for t, title in enumerate(dataset.titles)]


@contextmanager
def bar(*, shown: bool = True) -> Iterator[Any]:
    """What `progress` is to be called with: the state, and who may have interrupted."""
    style: dict[str, Any] = {"bar_format": BAR, "mininterval": 0, "leave": False}
    with tqdm(total=1, disable=not shown, **style) as line:

        def progress(state: LayoutState, interrupts: Interrupts) -> None:
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
