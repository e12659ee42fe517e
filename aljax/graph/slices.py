"""Slices: a user's data in; checked rows, neighbors or graphs out."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aljax.checks import one_of
from aljax.columns import arrange, as_plain, is_anndata, names_of
from aljax.errors import InputError, few_of, kind_of, slice_name, warn
from aljax.graph.fuzzy import FuzzyGraph, check_graph
from aljax.graph.knn import KNN, Rows, check_lists
from aljax.graph.rows import GapError, read_rows

PRECOMPUTED = "precomputed"  # the metric of slices that are their rows' distances


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a sequence: its number of rows, and the data it was given by.

    Attributes:
        rows: How many points it has.
        content: Features or distances `(points, columns)`, or the neighbors or graph
            made of them; None where only the number of rows is known.
        name: The slice in messages, such as "slice 2 ('b')".
        metric: The distance between its rows; "precomputed" where `content` has them.
        columns: The names of its columns, if it has any.
        ids: The names of its rows, of an `AnnData`.
    """

    rows: int
    content: Rows | KNN | FuzzyGraph | None = None
    name: str = "the slice"
    metric: Any = "euclidean"
    columns: tuple[Hashable, ...] | None = None
    ids: tuple[Hashable, ...] | None = None

    @property
    def features(self) -> Rows | None:
        """The features; None of distances, neighbors or a graph."""
        if isinstance(self.content, KNN | FuzzyGraph) or self.metric == PRECOMPUTED:
            return None
        return self.content

    @property
    def dense(self) -> np.ndarray | None:
        """The features where they are dense, for uses that cannot take sparse ones."""
        return self.features if isinstance(self.features, np.ndarray) else None


def dense_only(data: Sequence[Rows | None]) -> list[np.ndarray | None]:
    """Returns the features that are dense, and None for the rest."""
    return [rows if isinstance(rows, np.ndarray) else None for rows in data]


def slices_of(
    sizes: Sequence[int],
    features: Sequence[Rows | None] | None = None,
    labels: Sequence[Hashable] | None = None,
) -> list[Slice]:
    """Slices that were checked before, by their numbers of rows and their features."""
    data = [None] * len(sizes) if features is None else features
    return [
        Slice(rows, content, slice_name(t, labels))
        for t, (rows, content) in enumerate(zip(sizes, data, strict=True))
    ]


def one_for_each(name: str, values: Any, slices: int) -> list[Any]:
    """Returns a list with an entry, or None, for each slice; of Nones for None."""
    if values is None:
        return [None] * slices
    listed = isinstance(values, Sequence) or (
        isinstance(values, np.ndarray) and values.ndim > 1
    )
    if not listed or len(values) != slices:
        count = len(values) if listed else f"{kind_of(values)}, not"
        got = f"has {count} entries for {slices} slices"
        raise InputError(name, got, "a list with one, or None, for each")
    return list(values)


def read_slices(
    slices: Sequence[Any],
    labels: Sequence[Hashable] | None = None,
    *,
    metric: Any = "euclidean",
    first: int = 0,
    missing: str = "error",
    ids: Any = None,
    copy: bool = True,
    part: bool = False,
) -> list[Slice]:
    """Returns checked slices: finite float rows, or the neighbors or graph of them.

    float32 and small integers become float32, everything wider float64; sparse rows
    become a CSR matrix.

    Args:
        slices: For each slice an array, a pandas or polars frame, a SciPy sparse
            matrix `(points, features)` or an `AnnData`, a `KNN` or a `FuzzyGraph`.
            Slices may differ in rows and in columns.
        labels: The slices' names in messages, those before `first` included.
        metric: The distance between rows.
        first: The index of the first of `slices` in the whole sequence.
        missing: "error", or "median" where gaps are filled later: they come as NaN.
        ids: For each slice its rows' ids, for messages.
        copy: Whether rows stay as they are when the caller's arrays are written to.
        part: Whether there are others, which have the rows if these have none.

    Raises:
        InputError: There are no slices or rows; or one is not two-dimensional, is not
            numeric, or has a value that is NaN or infinite (the message names
            slice and row); or neighbors or a graph are not in normal form.
    """
    one_of("error", "median")("missing", missing)
    if isinstance(slices, np.ndarray) and slices.ndim == 2:
        got = f"is one array of shape {slices.shape}"
        remedy = "Pass [data] for a single slice."
        raise InputError("slices", got, "a list of such arrays", remedy)
    if not isinstance(slices, Sequence | np.ndarray) or isinstance(slices, str):
        got, remedy = f"is {kind_of(slices)}", ""
        if names_of(slices) is not None:
            remedy = "Pass [frame] for a single slice; `aljax.slices_from_table` cuts "
            remedy += "a long table into slices."
        raise InputError("slices", got, "a list of arrays (points, features)", remedy)
    if len(slices) == 0:
        raise InputError("slices", "is empty", "at least one array")
    read: list[Slice] = []
    for t, content in enumerate(slices):
        name = slice_name(first + t, labels)
        try:
            slice_ = read_slice(
                content,
                f"slices[{t}]",
                name=name,
                metric=metric,
                others=[slice_.columns for slice_ in read],
                missing=missing,
                copy=copy,
            )
        except InputError as error:
            if isinstance(error, GapError):
                error = error.among(slices, t, ids)
            raise (error if labels is None else error.of(name)) from error.__cause__
        read.append(slice_)
    if not part and not any(slice_.rows for slice_ in read):
        raise InputError("slices", "have no rows", "data (points, features)")
    warn_of_degrees(read)
    return read


def warn_of_degrees(slices: Sequence[Slice]) -> None:
    """Warns where latitudes and longitudes are too large for radians.

    Raises:
        InputError: Dense rows do not have these two columns.
    """
    large = []
    for slice_ in slices:
        rows = slice_.dense
        if slice_.metric != "haversine" or rows is None:
            continue
        if rows.shape[1] != 2:
            got = f"is 'haversine', but {slice_.name} has {rows.shape[1]} columns"
            raise InputError("metric", got, "latitude and longitude, in radians")
        latitude, longitude = np.abs(rows).max(axis=0, initial=0)
        if latitude > np.pi / 2 + 1e-6 or longitude > 2 * np.pi + 1e-6:
            large.append(slice_.name)
    if large:
        warn(
            f"latitudes beyond pi/2 or longitudes beyond 2 pi in {few_of(large, 1)}: "
            "the metric 'haversine' takes (latitude, longitude) in radians; "
            "`np.radians(data)` converts degrees."
        )


def read_slice(
    content: Any,
    argument: str,
    *,
    name: str = "",
    metric: Any = "euclidean",
    others: Sequence[tuple[Hashable, ...] | None] = (),
    missing: str = "error",
    copy: bool = True,
) -> Slice:
    """Returns one checked slice, passed as `argument`, and called `name` from then on.

    A frame has its columns in the order of the last of `others` that are as many.
    With `missing="median"` gaps are NaN, to be filled.
    """
    name = name or f"`{argument}`"
    if isinstance(content, Slice):
        return replace(content, name=name)
    if isinstance(content, FuzzyGraph):
        check_graph(content, argument)
        return Slice(content.neighbors.shape[1], content, name, metric)
    if isinstance(content, KNN):
        check_lists(content.indices, content.distances, argument)
        return Slice(content.indices.shape[1], content, name, metric)
    distances, columns = metric == PRECOMPUTED, names_of(content)
    gaps = np.inf if distances else np.nan if missing == "median" else None
    rows = read_rows(content, argument, empty=True, gaps=gaps, copy=copy)
    if not distances:
        _warn_if_square(rows, argument)
    ids = tuple(as_plain(content.obs_names)) if is_anndata(content) else None
    if distances or columns is None:
        return Slice(rows.shape[0], rows, name, metric, ids=ids)
    of_that_width = [names for names in others if names and len(names) == len(columns)]
    names = of_that_width[-1] if of_that_width else columns
    rows = arrange(rows, columns, names, argument)
    return Slice(rows.shape[0], rows, name, metric, names, ids)


def ids_of(slices: Sequence[Slice]) -> list[Sequence[Hashable]] | None:
    """Returns the names of the slices' rows, if all slices came with such names."""
    named = [slice_.ids for slice_ in slices if slice_.ids is not None]
    alone = len(slices) == 1 and named and len({*named[0]}) < len(named[0])
    return None if len(named) < len(slices) or alone else [*named]


def _warn_if_square(rows: Rows, name: str) -> None:
    """Warns of features that look like distances, or like a graph."""
    if rows.shape[0] != rows.shape[1] or rows.shape[0] < 3:
        return
    if isinstance(rows, np.ndarray):
        suspicious = not rows.diagonal().any() and rows.any() and (rows == rows.T).all()
    else:
        suspicious = rows.nnz and not abs(rows - rows.T).nnz
    if suspicious:
        warn(
            f"`{name}` is square and symmetric, and is read as features. If it holds "
            'distances, set `metric="precomputed"`; if the distances of neighbors, as '
            "of `kneighbors_graph`, pass it as `precomputed_knn=[matrix]`; if the "
            "weights of a graph, pass `aljax.FuzzyGraph.from_sparse(matrix)`."
        )


def of_rows(
    name: str, values: Any, slices: Sequence[Slice], read: Callable[..., Any]
) -> list[np.ndarray | None]:
    """Returns a checked value for each row of each slice; None for none of a slice.

    `read` takes a slice's values, the name of the argument, the slice and its index.
    """
    return [
        None if value is None else read(value, f"{name}[{t}]", slices[t], t)
        for t, value in enumerate(one_for_each(name, values, len(slices)))
    ]


def check_unique(metric: Any, knn: Any) -> None:
    """Checks that rows are data, of which repeated ones can be found.

    Args:
        metric: The distance between rows.
        knn: Neighbors that came with them; a list or tuple of None is none.
    """
    setting = "`metric='precomputed'`" if metric == PRECOMPUTED else ""
    empty = isinstance(knn, list | tuple) and all(table is None for table in knn)
    setting = setting or ("" if knn is None or empty else "`precomputed_knn`")
    if setting:
        got, remedy = f"is True beside {setting}", "Drop repeated rows beforehand."
        raise InputError("unique", got, "False, for rows are not compared", remedy)
