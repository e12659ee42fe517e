"""Datasets: where the slices of a run come from.

Each source is one function that makes a `Dataset`; `configs/data/` has a YAML file
for each that the command line offers, whose keys are the function's arguments.
"""

import inspect
from collections.abc import Callable
from types import UnionType
from typing import Any, get_type_hints

import numpy as np

from aljax import sliding_windows
from aljax.errors import InputError, nearest_name
from experiments.composition import unknown
from experiments.data import files, images, sequences
from experiments.data.dataset import Dataset, related_by_ids
from experiments.data.fashion import fashion_mnist, name_classes
from experiments.data.tables import own_table


def digits_sequence(*, size: int, step: int) -> Dataset:
    """scikit-learn's digits, sorted by ink and cut into overlapping slices.

    Args:
        size: Rows of a slice.
        step: Rows from the start of a slice to the start of the next.

    Source: the example of umap-learn's tutorial on AlignedUMAP.
    """
    return _by_ink(*_digits(), size, step)


def digits_parameters(*, slices: int) -> Dataset:
    """All of scikit-learn's digits in every slice, for settings that vary by slice.

    Args:
        slices: How many times.

    Source: the example of umap-learn's tutorial on aligning varying parameters.
    """
    pixels, digits = _digits()
    rows = np.arange(len(pixels))
    same = dict(zip(rows.tolist(), rows.tolist(), strict=True))
    return Dataset(
        slices=[pixels] * slices,
        relations=[same] * (slices - 1),
        ids=[rows] * slices,
        titles=[""] * slices,
        labels=[digits] * slices,
    )


def fashion(*, rows: int, size: int, step: int, folder: str | None) -> Dataset:
    """Fashion-MNIST's first images, sorted by ink and cut into overlapping slices.

    Args:
        rows: How many images (at most 70,000, the training part first).
        size: Rows of a slice.
        step: Rows from the start of a slice to the start of the next.
        folder: Where the four IDX files lie; None for Debian's package.

    Raises:
        ValueError: The files are missing or are not what they should be.
    """
    pictures, classes = fashion_mnist(folder)
    names = name_classes(classes[:rows], folder)
    return _by_ink(pictures[:rows].astype(np.float32), names, size, step)


def fashion_whole(*, folder: str | None) -> Dataset:
    """All 70,000 images of Fashion-MNIST as one slice, in their own order.

    Args:
        folder: Where the four IDX files lie; None for Debian's package.

    Raises:
        ValueError: The files are missing or are not what they should be.
    """
    rows, classes = fashion_mnist(folder)
    names = name_classes(classes, folder)
    return _single(rows.astype(np.float32), names, "Fashion-MNIST")


def mnist() -> Dataset:
    """5,000 images of MNIST as one slice.

    Raises:
        ValueError: The package that holds them is not installed.
    """
    return _single(*images.mnist_images(), "MNIST")


def openml(*, name: str, version: int, cache: str | None) -> Dataset:
    """A data set of OpenML as one slice.

    Args:
        name: As OpenML lists it.
        version: Its version.
        cache: scikit-learn's data folder; None for its own choice.

    Raises:
        ValueError: It is neither cached nor to be downloaded.
    """
    return _single(*images.openml_images(name, version=version, cache=cache), name)


def _single(rows: np.ndarray, labels: np.ndarray, title: str) -> Dataset:
    return Dataset(
        slices=[rows],
        relations=[],
        ids=[np.arange(len(rows))],
        titles=[title],
        labels=[labels],
    )


def fashion_growing(
    *, slices: int, classes: int, images: int, folder: str | None
) -> Dataset:
    """Fashion-MNIST's classes by and by: each slice loses one class and gains one.

    Args:
        slices: How many (with `classes`, at most 11).
        classes: How many classes a slice has.
        images: Of each class, the first so many of the training part.
        folder: Where the four IDX files lie; None for Debian's package.

    Raises:
        ValueError: The files are missing or are not what they should be, or there
            are not so many classes.
    """
    pictures, known = fashion_mnist(folder)
    last = slices + classes - 1
    if min(slices, classes, images) < 1 or last > known.max() + 1:
        got = f"is {slices} and `data.classes` {classes}: {last} classes are needed"
        raise InputError("data.slices", got, f"at most {known.max() + 1}")
    rows = [np.flatnonzero(known == one)[:images] for one in range(last)]
    ids = [np.concatenate(rows[t : t + classes]) for t in range(slices)]
    return related_by_ids(
        Dataset(
            slices=[pictures[one].astype(np.float32) for one in ids],
            relations=[],
            ids=ids,
            titles=[f"classes {t} to {t + classes - 1}" for t in range(slices)],
            labels=[name_classes(known[one], folder) for one in ids],
        )
    )


def drifting_clusters(
    *, slices: int, points: int, features: int, clusters: int, seed: int
) -> Dataset:
    """Gaussian clusters whose centers walk at random; every row stays in its own.

    Args:
        slices: Steps of the walk.
        points: Rows of a slice.
        features: Columns.
        clusters: How many, with as many rows each as can be.
        seed: Of NumPy's default generator.
    """
    rng = np.random.default_rng(seed)
    own = np.arange(points) % clusters
    centers = rng.normal(scale=3, size=(clusters, features))
    around = rng.normal(size=(points, features))
    steps = rng.normal(scale=0.3, size=(slices, clusters, features)).cumsum(axis=0)
    rows = np.arange(points)
    same = dict(zip(rows.tolist(), rows.tolist(), strict=True))
    return Dataset(
        slices=[(around + (centers + s)[own]).astype(np.float32) for s in steps],
        relations=[same] * (slices - 1),
        ids=[rows] * slices,
        titles=[f"step {t}" for t in range(slices)],
        labels=[own] * slices,
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    return digits.data.astype(np.float32), digits.target


def _by_ink(pixels: np.ndarray, classes: np.ndarray, size: int, step: int) -> Dataset:
    ink = pixels.sum(axis=1)
    order = np.argsort(ink)
    slices, relations = sliding_windows(pixels[order], size, step)
    labels, _ = sliding_windows(classes[order], size, step)
    ids, _ = sliding_windows(order, size, step)
    return Dataset(
        slices=slices,
        relations=relations,
        ids=ids,
        titles=[f"ink {ink[rows[0]]:.0f} to {ink[rows[-1]]:.0f}" for rows in ids],
        labels=labels,
    )


def own_files(*, path: str, relations: str | None, labels: str | None) -> Dataset:
    """A user's own arrays: a folder with one `.npy` for each slice, or one `.npz`.

    Args:
        path: The folder or file with the data, in the natural order of the names.
        relations: A JSON file with one object {"row of t": row of t+1} for each pair
            of consecutive slices; not needed for a single slice.
        labels: A folder or file with one array of labels for each slice.

    Raises:
        ValueError: What is not there, cannot be read or does not fit together.
    """
    slices = files.read_data(path)
    related = files.read_relations_file(relations, slices)
    return Dataset(
        slices=list(slices.values()),
        relations=related,
        ids=files.member_ids(related, [len(one) for one in slices.values()]),
        titles=list(slices),
        labels=None if labels is None else files.read_labels(labels, slices),
    )


LOADERS: dict[str, Callable[..., Dataset]] = {
    "digits_sequence": digits_sequence,
    "digits_parameters": digits_parameters,
    "fashion": fashion,
    "fashion_whole": fashion_whole,
    "fashion_growing": fashion_growing,
    "mnist": mnist,
    "openml": openml,
    "drifting_clusters": drifting_clusters,
    "files": own_files,
    "table": own_table,
    "gaussians": sequences.gaussians,
    "walk": sequences.walk,
    "sorts": sequences.sorts,
    "fashion_noise": sequences.fashion_noise,
    "network_states": sequences.network_states,
    "gapminder": sequences.gapminder,
}


def load(source: Any = None, **options: Any) -> Dataset:
    """The dataset that the section `data` of the settings names.

    Raises:
        ValueError: An unknown source or option, an option of the wrong type, or what
            the source itself refuses.
    """
    if source not in LOADERS:
        hint = nearest_name(str(source), [*LOADERS])
        expected = "the name of a source"
        raise InputError("data.source", f"is {source!r}", expected, hint)
    loader = LOADERS[source]
    known = [*inspect.signature(loader).parameters]
    for name in options:
        if name not in known:
            names = [f"data.{other}" for other in known]
            raise unknown(f"data.{name}", names, f"setting of {source}")
    hints = get_type_hints(loader)
    for name in known:
        if name not in options:
            raise InputError(f"data.{name}", "is missing", f"a value, for {source}")
        _check_type(name, options[name], hints[name])
    return loader(**options)


def _check_type(name: str, value: Any, expected: type | UnionType) -> None:
    if not isinstance(value, expected) or isinstance(value, bool):
        words = {
            "int": "a whole number",
            "str": "text",
            "str | None": "text or null",
            "list | None": "a list or null",
        }
        kind = expected.__name__ if isinstance(expected, type) else str(expected)
        raise InputError(f"data.{name}", f"is {value!r}", words.get(kind, kind))
    least = 0 if name == "seed" else 1  # of counts
    if isinstance(value, int) and value < least:
        raise InputError(f"data.{name}", f"is {value}", f"at least {least}")
