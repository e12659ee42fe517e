"""Datasets: where the slices of a run come from.

Each source is one function that makes a `Dataset`, and is listed in `LOADERS`.
`configs/data/` has a YAML file for each that the command line offers, whose keys are
the function's arguments and whose comments tell what they are.
"""

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, get_type_hints

import numpy as np

from aljax import sliding_windows
from aljax.config import number
from aljax.errors import InputError
from experiments.composition import check_known, check_names
from experiments.data import files, packages, sequences, stores
from experiments.data.baseball import baseball
from experiments.data.countries import countries, freedom
from experiments.data.dataset import Dataset, same_members
from experiments.data.fashion import fashion_mnist, name_classes
from experiments.data.senate import senate
from experiments.data.speeches import speeches
from experiments.data.tables import own_table


def digits_sequence(*, size: int, step: int) -> Dataset:
    """Loads scikit-learn's digits, sorted by ink and cut into overlapping slices.

    Source: the example of umap-learn's tutorial on AlignedUMAP.
    """
    return _by_ink(*digits(), size, step)


def digits_parameters(*, slices: int) -> Dataset:
    """Loads scikit-learn's digits in every slice, for settings that vary by slice.

    Source: the example of umap-learn's tutorial on aligning varying parameters.
    """
    pixels, classes = digits()
    return same_members([pixels] * slices, [""] * slices, classes)


def fashion(*, rows: int, size: int, step: int, folder: str | None) -> Dataset:
    """Loads Fashion-MNIST's first images, sorted by ink, in overlapping slices."""
    pictures, classes = fashion_mnist(folder)
    names = name_classes(classes[:rows], folder)
    return _by_ink(pictures[:rows].astype(np.float32), names, size, step)


def fashion_whole(*, folder: str | None) -> Dataset:
    """Loads all 70,000 images of Fashion-MNIST as one slice, in their own order."""
    rows, classes = fashion_mnist(folder)
    return same_members([rows], ["Fashion-MNIST"], name_classes(classes, folder))


def mnist() -> Dataset:
    """Loads 5,000 images of MNIST as one slice."""
    rows, classes = packages.mnist_images()
    return same_members([rows], ["MNIST"], classes)


def fashion_growing(
    *, slices: int, classes: int, images: int, folder: str | None
) -> Dataset:
    """Loads Fashion-MNIST's classes by and by: slices lose one class and gain one.

    Of each class these are the first images of the training part.
    """
    pictures, labels = fashion_mnist(folder)
    last = slices + classes - 1
    if min(slices, classes, images) < 1 or last > labels.max() + 1:
        got = f"is {slices} and `data.classes` {classes}: {last} classes are needed"
        raise InputError("data.slices", got, f"at most {labels.max() + 1}")
    rows = [np.flatnonzero(labels == label)[:images] for label in range(last)]
    ids = [np.concatenate(rows[t : t + classes]) for t in range(slices)]
    return Dataset(
        slices=[pictures[rows].astype(np.float32) for rows in ids],
        relations=[rows.tolist() for rows in ids],
        ids=ids,
        titles=[f"classes {t} to {t + classes - 1}" for t in range(slices)],
        labels=[name_classes(labels[rows], folder) for rows in ids],
    )


def drifting_clusters(
    *, slices: int, points: int, features: int, clusters: int, seed: int
) -> Dataset:
    """Draws Gaussian clusters whose centers walk at random; every row stays in its own.

    Clusters have as many rows each as can be.
    """
    rng = np.random.default_rng(seed)
    cluster = np.arange(points) % clusters
    centers = rng.normal(scale=3, size=(clusters, features))
    around = rng.normal(size=(points, features))
    steps = rng.normal(scale=0.3, size=(slices, clusters, features)).cumsum(axis=0)
    return same_members(
        [around + (centers + step)[cluster] for step in steps],
        [f"step {t}" for t in range(slices)],
        cluster,
    )


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's 1,797 digits and their classes."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return bunch.data.astype(np.float32), bunch.target


def diabetes() -> Dataset:
    """Loads ten measurements of 442 patients, and how far their diabetes got in a year.

    Source: Efron et al. (2004), "Least angle regression", by way of scikit-learn.
    """
    from sklearn.datasets import load_diabetes

    bunch: Any = load_diabetes()
    rows = bunch.data / bunch.data.std(axis=0)
    return same_members([rows], ["patients"], bunch.target)


def _by_ink(pixels: np.ndarray, classes: np.ndarray, size: int, step: int) -> Dataset:
    number(1, high=len(pixels), whole=True)("data.size", size)
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


LOADERS: dict[str, Callable[..., Dataset]] = {
    loader.__name__: loader
    for loader in (
        *(digits_sequence, digits_parameters, fashion, fashion_whole, fashion_growing),
        *(diabetes, mnist, drifting_clusters, sequences.gaussians, sequences.walk),
        *(sequences.sorts, sequences.fashion_noise, sequences.network_states),
        *(sequences.gapminder, sequences.branching_cells, baseball, senate),
        *(countries, freedom, speeches),
    )
} | {
    "files": files.own_files,
    "table": own_table,
    "zarr": stores.zarr_store,
    "parquet": stores.parquet_folder,
}


SHARE = "share"  # the argument of sources that can read some of the slices alone


def load(source: Any = None, **options: Any) -> Dataset:
    """Returns the dataset that the section `data` of the settings names.

    Raises:
        InputError: A source or option is unknown, an option is of the wrong type, or
            the source refuses it, such as files that are missing or damaged.
    """
    return _loader(source, options)(**options)


def load_share(share: files.Share, source: Any = None, **options: Any) -> Dataset:
    """Returns the dataset of a process, which has the rows of its own slices.

    Args:
        share: Of the names of all slices with their rows those to read; the others
            need not have columns.
        source: As the section `data` of the settings has it.
        **options: Likewise.

    Raises:
        InputError: As `load`, or as `share` does.
    """
    loader = _loader(source, options)
    if SHARE in inspect.signature(loader).parameters:
        return loader(**options, share=share)
    dataset = loader(**options)
    share(dict(zip(dataset.names, map(len, dataset.slices), strict=True)))
    return dataset


def _loader(source: Any, options: Mapping[str, Any]) -> Callable[..., Dataset]:
    """Returns the function of a source, after a look at its options."""
    check_known("data.source", source, [*LOADERS], "source")
    loader = LOADERS[source]
    parameters = inspect.signature(loader).parameters
    known = [name for name in parameters if name != SHARE]
    check_names(options, known, f"setting of {source}", above="data.")
    hints = get_type_hints(loader)
    for name in known:
        if name in options:
            _check_type(name, options[name], hints[name])
        elif parameters[name].default is inspect.Parameter.empty:
            raise InputError(f"data.{name}", "is missing", f"a value, for {source}")
    return loader


_KEPT: list[tuple[Mapping[str, Any], Dataset]] = []


def keep(options: Mapping[str, Any], dataset: Dataset) -> None:
    """Keeps a dataset for the next call of `take`, which is of the same run."""
    _KEPT[:] = [(options, dataset)]


def take(options: Mapping[str, Any]) -> Dataset:
    """Returns the dataset that was kept with these options, or loads it."""
    kept = [dataset for kept_options, dataset in _KEPT if kept_options == options]
    _KEPT.clear()
    return kept[0] if kept else load(**options)


def _check_type(name: str, value: Any, expected: type | UnionType) -> None:
    if not isinstance(value, expected) or isinstance(value, bool):
        words = {
            "int": "a whole number",
            "str": "text",
            "str | None": "text or null",
            "list | None": "a list or null",
            "dict | None": "options by name or null",
        }
        kind = expected.__name__ if isinstance(expected, type) else str(expected)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        remedy = f"Quote it: 'data.{name}=\"{value}\"'." if is_number else ""
        remedy = remedy if kind.startswith("str") else ""
        raise InputError(f"data.{name}", f"is {value!r}", words.get(kind, kind), remedy)
    least = 0 if name == "seed" else 1  # of counts
    if isinstance(value, int) and value < least:
        raise InputError(f"data.{name}", f"is {value}", f"at least {least}")
