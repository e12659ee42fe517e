"""Finished rows of a sweep on disk: each is written whole, and never run again."""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aljax.errors import InputError
from aljax.graph.conditioning import by_distance
from experiments.benchmarks.cases import Case
from experiments.benchmarks.race import measure
from experiments.data.archives import read_npz, short
from experiments.data.dataset import Dataset, digest
from experiments.results.report import are_classes

SAMPLED = 1_000  # rows that quality is measured on


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
        dataset, labels = self.dataset, self.dataset.labels
        if labels is not None and not are_classes(labels):
            dataset = replace(dataset, labels=None)
        case = Case(name="sweep", load=lambda: dataset, rows=rows)
        return measure(case, dataset, maps)
