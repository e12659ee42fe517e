"""The data set of a run: a sequence of slices, with labels and ids of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from aljax import AlignedEmbedding, Scaling, couple
from aljax.distributed import agreement
from aljax.errors import few_of
from aljax.graph.slices import slices_of
from aljax.relations.mates import Mates, Relations
from aljax.relations.read import is_ids, read_relations
from aljax.sweep import SweepProblem

SUM = "2-"  # begins a digest of the present form


@dataclass(frozen=True)
class Dataset:
    """A sequence of slices, how they relate, and what is known about their rows.

    Attributes:
        slices: The data, `(points, features)` each.
        relations: For each pair of consecutive slices {row of t: row of t+1}; or for
            each slice its rows' ids; or {(t, u): (pairs, weights)}.
        ids: For each slice its rows' members: the same id in two slices is the same
            member.
        titles: A few words on each slice.
        labels: For each slice a label for each row, if there are any.
        notes: How the data were read, in lines for the user.
        scaling: The units of the columns, if they are not those of the file.
        columns: The names of the columns, if they have any.
        scale: How slices are to be scaled: not at all, if their columns were looked at.
        scale_by: The rows that a scale is of: "all", or each "slice" by itself.
        sums: For each slice the digest of its data, if other processes have some of
            them, or they have been scaled.
    """

    slices: Sequence[np.ndarray]
    relations: Any
    ids: Sequence[np.ndarray]
    titles: Sequence[str]
    labels: Sequence[np.ndarray] | None = None
    notes: Sequence[str] = ()
    scaling: Scaling | None = None
    columns: tuple[str, ...] | None = None
    scale: str | None = None
    scale_by: str = "all"
    sums: Sequence[str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The slices' titles, or their numbers."""
        return tuple(title or str(t) for t, title in enumerate(self.titles))

    @property
    def slice_labels(self) -> tuple[str, ...] | None:
        """The slices' names, if any has a title."""
        return self.names if any(self.titles) else None

    def sweep(self, **configs: Any) -> SweepProblem:
        """Returns the problem of laying these slices out under many settings."""
        options = {"scale": self.scale, **configs}
        return SweepProblem(self.slices, self.relations, **options)

    def described(self, maps: AlignedEmbedding) -> AlignedEmbedding:
        """Returns maps of these slices, in the units and with the names of the file."""
        names = None if self.columns is None else (self.columns,) * len(maps.maps)
        scaling = self.scaling or maps.scaling
        return replace(maps, scaling=scaling, columns=names or maps.columns)


def same_members(
    slices: Sequence[np.ndarray], titles: Sequence[str], labels: np.ndarray
) -> Dataset:
    """Returns a sequence whose rows are the same members in every slice."""
    rows = np.arange(len(labels))
    same = dict(zip(rows.tolist(), rows.tolist(), strict=True))
    return Dataset(
        slices=[np.asarray(data, np.float32) for data in slices],
        relations=[same] * (len(slices) - 1),
        ids=[rows] * len(slices),
        titles=titles,
        labels=[labels] * len(slices),
    )


def titled(dataset: Dataset, *settings: Any) -> Dataset:
    """Returns the dataset with titles that tell the settings of single slices.

    Some fields of the settings, which are dataclasses, may be tuples, a value a slice.
    """
    parts = [[title] if title else [] for title in dataset.titles]
    for section in settings:
        for name, values in vars(section).items():
            if isinstance(values, tuple) and len(values) == len(parts):
                for title, value in zip(parts, values, strict=True):
                    title.append(f"{name} {value}")
    return replace(dataset, titles=[*map(", ".join, parts)])


def related_by_ids(dataset: Dataset) -> Dataset:
    """Returns the dataset with its rows' ids for relations."""
    return replace(dataset, relations=[ids.tolist() for ids in dataset.ids])


TRANSPORT = "transport"  # instead of relations: who is who is found in the data


def coupled(dataset: Dataset) -> Dataset:
    """Returns the dataset with the relations that its data alone show."""
    titles = dataset.titles
    coupling = couple(dataset.slices, key=jax.random.key(0), slice_labels=titles)
    shares = [
        float(np.mean(has_mate)) for has_mate, _ in coupling.has_mate() if len(has_mate)
    ]
    note = "rows that the data show to come again in the next slice: "
    note += few_of([f"{share:.0%}" for share in shares])
    notes = [*dataset.notes, note]
    return replace(dataset, relations=coupling.relations, notes=notes)


def among(relations: Any, first: int) -> Any:
    """Returns the relations of the first slices, in whatever form they came."""
    if isinstance(relations, Mapping):
        return {pair: mates for pair, mates in relations.items() if max(pair) < first}
    return relations[: first if is_ids(relations) else first - 1]


def leading_to(relations: Any, t: int) -> Any:
    """Returns the relations of slice t with those before it, as `update` takes them."""
    if isinstance(relations, Mapping):
        return {pair: mates for pair, mates in relations.items() if max(pair) == t}
    return relations[t if is_ids(relations) else t - 1]


def digest(dataset: Dataset) -> str:
    """Returns a digest of everything that a dataset holds, whoever read its slices."""
    parts = digests(dataset)
    return SUM + agreement.digest(
        [parts[name] for name in parts if name != "slice labels"]
    )


def digests(dataset: Dataset) -> dict[str, str]:
    """Returns the digests of a dataset's parts, by name."""
    parts = {
        "values": dataset.sums or [*map(agreement.digest, dataset.slices)],
        "ids": dataset.ids,
        "labels": dataset.labels or [],
        "relations": dataset.relations,
        "slice labels": [*dataset.titles],
    }
    return {name: agreement.digest(part) for name, part in parts.items()}


def consecutive(relations: Any, sizes: Sequence[int]) -> Relations:
    """Returns the mates of each two consecutive slices, in whatever form they came."""
    links = read_relations(relations, slices_of(sizes), alignment_window_size=1)
    nobody = Mates(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return {
        (t, 1): Mates(mates.rows, mates.others, np.ones(mates.rows.size))
        for t in range(len(sizes) - 1)
        for mates in [links.get((t, 1), nobody)]
    }


def as_dicts(relations: Any, sizes: Sequence[int]) -> list[dict[int, int]]:
    """Returns relations as umap-learn takes them: {row of slice t: row of t+1}."""
    mates = consecutive(relations, sizes).values()
    pairs = [zip(m.rows.tolist(), m.others.tolist(), strict=True) for m in mates]
    return [*map(dict, pairs)]
