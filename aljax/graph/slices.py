"""Slices: a user's data in; checked rows, neighbors or graphs out."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse

from aljax.columns import arrange, as_plain, is_anndata, is_missing, names_of
from aljax.errors import LARGEST, InputError, slice_name, warn
from aljax.graph.fuzzy import FuzzyGraph, check_graph
from aljax.graph.knn import KNN, Rows, check_lists

PRECOMPUTED = "precomputed"  # the metric of slices that are their rows' distances


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a sequence: its number of rows, and the data it was given by.

    Attributes:
        rows: How many points it has.
        given: Features or distances `(points, columns)`, or the neighbors or graph
            made of them; None where only the number of rows is known.
        name: The slice in messages, such as "slice 2 ('b')".
        metric: The distance between its rows; "precomputed" where `given` has them.
        columns: The names of its columns, if it has any.
        ids: The names of its rows, of an `AnnData`.
    """

    rows: int
    given: Rows | KNN | FuzzyGraph | None = None
    name: str = "the slice"
    metric: Any = "euclidean"
    columns: tuple[str, ...] | None = None
    ids: tuple[Hashable, ...] | None = None

    @property
    def features(self) -> Rows | None:
        """The features; None of distances, neighbors or a graph."""
        if isinstance(self.given, KNN | FuzzyGraph) or self.metric == PRECOMPUTED:
            return None
        return self.given

    @property
    def dense(self) -> np.ndarray | None:
        """The features where they are dense, for uses that cannot take sparse ones."""
        return self.features if isinstance(self.features, np.ndarray) else None


def dense_only(data: Sequence[Rows | None]) -> list[np.ndarray | None]:
    """The features that are dense, and None for the rest."""
    return [rows if isinstance(rows, np.ndarray) else None for rows in data]


def slices_of(
    sizes: Sequence[int],
    features: Sequence[Rows | None] | None = None,
    labels: Sequence[Hashable] | None = None,
) -> list[Slice]:
    """Slices that were checked before, by their numbers of rows and their features."""
    data = [None] * len(sizes) if features is None else features
    return [
        Slice(rows, given, slice_name(t, labels))
        for t, (rows, given) in enumerate(zip(sizes, data, strict=True))
    ]


def one_for_each(name: str, values: Any, slices: int) -> list[Any]:
    """A list with an entry, or None, for each slice; None gives None for all."""
    if values is None:
        return [None] * slices
    listed = isinstance(values, Sequence) or (
        isinstance(values, np.ndarray) and values.ndim > 1
    )
    if not listed or len(values) != slices:
        count = len(values) if listed else f"a {type(values).__name__}, not"
        got = f"has {count} entries for {slices} slices"
        raise InputError(name, got, "a list with one, or None, for each")
    return list(values)


def read_slices(
    slices: Sequence[Any],
    labels: Sequence[Hashable] | None = None,
    *,
    metric: Any = "euclidean",
    first: int = 0,
) -> list[Slice]:
    """Checked slices: finite float rows, or the neighbors or graph made of them.

    float32 and small integers become float32, everything wider float64; sparse rows
    become a CSR matrix.

    Args:
        slices: For each slice an array, a pandas or polars frame, a SciPy sparse
            matrix `(points, features)` or an `AnnData`, a `KNN` or a `FuzzyGraph`.
            Slices may differ in rows and in columns.
        labels: The slices' names in messages, those before `first` included.
        metric: The distance between rows.
        first: The index of the first of `slices` in the whole sequence.

    Raises:
        InputError: There are no slices or rows; or one is not two-dimensional, is not
            numeric, or has a value that is NaN or infinite (the message names
            slice and row); or neighbors or a graph are not in normal form.
    """
    if isinstance(slices, np.ndarray) and slices.ndim == 2:
        got = f"is one array of shape {slices.shape}"
        remedy = "Pass [data] for a single slice."
        raise InputError("slices", got, "a list of such arrays", remedy)
    if not isinstance(slices, Sequence | np.ndarray) or isinstance(slices, str):
        got = f"is a {type(slices).__name__}"
        raise InputError("slices", got, "a list of arrays (points, features)")
    if len(slices) == 0:
        raise InputError("slices", "is empty", "at least one array")
    read: list[Slice] = []
    for t, given in enumerate(slices):
        name = slice_name(first + t, labels)
        others = [one.columns for one in read]
        try:
            read.append(
                read_slice(
                    given, f"slices[{t}]", name=name, metric=metric, others=others
                )
            )
        except InputError as error:
            raise (error if labels is None else error.of(name)) from error.__cause__
    if not any(one.rows for one in read):
        raise InputError("slices", "have no rows", "data (points, features)")
    if metric == "haversine":
        warn_of_degrees([(one.name, one.given) for one in read])
    return read


def warn_of_degrees(named: Sequence[tuple[str, Any]]) -> None:
    """Warns where latitudes and longitudes, by name, are too large for radians.

    Raises:
        InputError: Dense rows do not have these two columns.
    """
    dense = [(name, rows) for name, rows in named if isinstance(rows, np.ndarray)]
    large = []
    for name, rows in dense:
        if rows.shape[1] != 2:
            got = f"is 'haversine', but {name} has {rows.shape[1]} columns"
            raise InputError("metric", got, "latitude and longitude, in radians")
        latitude, longitude = np.abs(rows).max(axis=0, initial=0)
        if latitude > np.pi / 2 + 1e-6 or longitude > 2 * np.pi + 1e-6:
            large.append(name)
    if large:
        more = f" and {len(large) - 1} more" if large[1:] else ""
        warn(
            f"latitudes beyond pi/2 or longitudes beyond 2 pi in {large[0]}{more}: the "
            "metric 'haversine' takes (latitude, longitude) in radians; "
            "`np.radians(data)` converts degrees."
        )


def read_slice(
    given: Any,
    argument: str,
    *,
    name: str = "",
    metric: Any = "euclidean",
    others: Sequence[tuple[str, ...] | None] = (),
) -> Slice:
    """One checked slice, given by `argument`, and called `name` from then on.

    A frame has its columns in the order of the last of `others` that are as many.
    """
    name = name or f"`{argument}`"
    if isinstance(given, Slice):
        return replace(given, name=name)
    if isinstance(given, FuzzyGraph):
        check_graph(given, argument)
        return Slice(given.neighbors.shape[1], given, name, metric)
    if isinstance(given, KNN):
        check_lists(given.indices, given.distances, argument)
        return Slice(given.indices.shape[1], given, name, metric)
    distances, columns = metric == PRECOMPUTED, names_of(given)
    rows = read_rows(given, argument, empty=True, gaps=distances)
    if not distances:
        _warn_if_square(rows, argument)
    ids = tuple(as_plain(given.obs_names)) if is_anndata(given) else None
    if distances or columns is None:
        return Slice(rows.shape[0], rows, name, metric, ids=ids)
    alike = [names for names in others if names and len(names) == len(columns)]
    names = alike[-1] if alike else columns
    rows = arrange(rows, columns, names, argument)
    return Slice(rows.shape[0], rows, name, metric, names, ids)


def ids_of(slices: Sequence[Slice]) -> list[Sequence[Hashable]] | None:
    """Returns the names of the slices' rows, if all slices came with such names."""
    named = [one.ids for one in slices if one.ids is not None]
    alone = len(slices) == 1 and named and len({*named[0]}) < len(named[0])
    return None if len(named) < len(slices) or alone else [*named]


def _warn_if_square(rows: Rows, name: str) -> None:
    """Warns of features that look like distances, or like a graph."""
    if rows.shape[0] != rows.shape[1] or rows.shape[0] < 3:
        return
    if isinstance(rows, np.ndarray):
        meant = not rows.diagonal().any() and rows.any() and (rows == rows.T).all()
    else:
        meant = rows.nnz and not abs(rows - rows.T).nnz
    if meant:
        warn(
            f"`{name}` is square and symmetric, and is read as features. If it holds "
            'distances, set `metric="precomputed"`; if the distances of neighbors, as '
            "of `kneighbors_graph`, pass it as `precomputed_knn=[matrix]`; if the "
            "weights of a graph, pass `aljax.FuzzyGraph.from_sparse(matrix)`."
        )


def read_rows(
    given: Any,
    name: str,
    *,
    empty: bool = False,
    gaps: bool = False,
    copy: bool = True,
) -> Rows:
    """Checked features or distances of rows; `name` is the argument in errors.

    There may be no rows if `empty`.  If `gaps`, as in distances, masked and missing
    entries, NaN and values too large become inf.  Without `copy` an array of floats is
    used as it is.
    """
    fewest = 0 if empty else 1
    if is_anndata(given):
        given = given.to_memory().X if given.isbacked else given.X
        if given is None:
            remedy = "Pass the part that you mean, such as `adata.obsm['X_pca']`."
            raise InputError(name, "is an AnnData without X", "data", remedy)
    if scipy.sparse.issparse(given):
        return _read_sparse(given, name, fewest, gaps=gaps)
    if gaps and np.ma.isMaskedArray(given):
        given = np.ma.filled(given.astype(float), np.inf)
    if np.ma.is_masked(given):
        remedy = "Fill the masked ones, or drop their rows."
        raise InputError(name, "is masked", "an array with all its entries", remedy)
    wanted = "an array (points, features) of real numbers"
    try:
        data = np.asarray(given)
    except ValueError as error:
        raise InputError(name, f"is not an array ({error})", wanted) from error
    if data.ndim != 2 or len(data) < fewest or data.shape[1] == 0:
        remedy = "Use `.reshape(-1, 1)` for a single feature, `[row]` for a single row."
        expected = "(points, features) with at least one of each"
        raise InputError(name, f"has shape {data.shape}", expected, remedy)
    if data.dtype.kind in "cmM":
        remedy = "Convert what it means to numbers first."
        raise InputError(name, f"has dtype {data.dtype}", wanted, remedy)
    if data.dtype.kind not in "biuf":
        data = _read_objects(data, name, gaps=gaps)
    data = data.astype(_float_of(data.dtype), copy=copy)
    if gaps:
        data[~(data < LARGEST)] = np.inf
        return data
    if not -LARGEST < data.min(initial=0) <= data.max(initial=0) < LARGEST:  # nor NaN
        row, column = np.argwhere(~(np.abs(data) < LARGEST))[0]
        raise _not_finite(data[row, column], row, column, name)
    return data


def _read_sparse(
    given: Any, name: str, fewest: int, *, gaps: bool
) -> scipy.sparse.csr_matrix:
    """Sparse rows as float CSR, without repeated entries."""
    full = given.ndim == 2 and given.shape[0] >= fewest and given.shape[1]
    if not full or given.dtype.kind not in "biuf":
        got = f"is a sparse matrix of shape {given.shape} and dtype {given.dtype}"
        expected = "(points, features) of real numbers, with at least one of each"
        raise InputError(name, got, expected)
    data: Any = scipy.sparse.csr_matrix(given).astype(_float_of(given.dtype), copy=True)
    data.sum_duplicates()
    wrong = np.flatnonzero(~(np.abs(data.data) < LARGEST))
    if gaps:
        data.data[~(data.data < LARGEST)] = np.inf
    elif wrong.size:
        row = int(np.searchsorted(data.indptr, wrong[0], side="right")) - 1
        raise _not_finite(data.data[wrong[0]], row, data.indices[wrong[0]], name)
    return data


def _float_of(dtype: np.dtype) -> type:
    wide = dtype.itemsize > (4 if dtype.kind == "f" else 2)
    return np.float64 if wide else np.float32


def _not_finite(value: Any, row: Any, column: Any, name: str) -> InputError:
    got = f"has {value} in row {row}, column {column}"
    remedy = "Drop the row, fill the value, or give the column in larger units."
    return InputError(name, got, f"finite numbers, below {LARGEST:g} in size", remedy)


def _read_objects(data: np.ndarray, name: str, *, gaps: bool) -> np.ndarray:
    """Numbers kept as Python objects; text is refused even where it spells digits."""
    if gaps:
        missing = np.vectorize(is_missing, otypes=[bool])(data)
        data = np.where(missing, np.inf, data)
    for (row, column), value in np.ndenumerate(data):
        if isinstance(value, str | bytes) or not np.isscalar(value) or value is None:
            kind, place = type(value).__name__, f"row {row}, column {column}"
            remedy = "Convert with `.astype(float)` or drop the column."
            got = f"has {value!r} ({kind}) in {place}"
            raise InputError(name, got, "numbers", remedy)
    try:
        return data.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        got = f"has dtype {data.dtype} ({error})"
        raise InputError(name, got, "real numbers") from error


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
