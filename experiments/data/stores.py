"""Slices that are not read whole: arrays of a zarr store, or a Parquet file each.

    STORE/NAME   STORE/ids/NAME   STORE/labels/NAME        zarr, format 3
    FOLDER/NAME.parquet                                    a column for each feature

A slice is read some rows at a time into the array that a fit works on, by the process
that has it.  Paths may be URLs of fsspec, such as s3://BUCKET/STORE.
"""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from aljax.errors import InputError, few_of, warn
from aljax.graph.rows import float_of, read_rows
from experiments.composition import check_known
from experiments.data.dataset import Dataset
from experiments.data.dates import natural_order
from experiments.data.files import Share, fixed, related
from experiments.data.places import Place, needed, told
from experiments.data.tables import as_ids, as_labels

BLOCK = 2**25  # bytes that are read at once, or one chunk if that is larger
ROWS = 2**16  # rows of a Parquet file that are read at once
GROUPS = ("ids", "labels")
# The column in which pandas keeps the numbers of rows that are a part of others.
ROW_NUMBERS = re.compile(r"__index_level_\d+__")


def zarr_store(
    *,
    path: str,
    relations: str | None = None,
    scale: str = "none",
    scale_by: str = "all",
    share: Share | None = None,
) -> Dataset:
    """Reads the slices of a zarr store, a 2-D array each.

    Args:
        path: The folder or URL of the store: a 2-D array for each slice, and in the
            groups ids and labels a 1-D array for each.
        relations: A JSON list of objects {"row of t": row of t+1}, or transport; null
            relates equal ids.
        scale: As `files.own_files` has it.
        scale_by: Likewise.
        share: See `files.read_data`.

    Raises:
        InputError: The store cannot be read, is not of format 3, or has an array that
            is not a slice, or that changes while it is read.
    """
    with told(path):
        store = ZarrStore(Place(path))
    return _dataset(store, relations, share, scale=scale, scale_by=scale_by)


def parquet_folder(
    *,
    path: str,
    id: str | None = None,  # noqa: A002
    label: str | None = None,
    features: list | None = None,
    relations: str | None = None,
    scale: str = "none",
    scale_by: str = "all",
    share: Share | None = None,
) -> Dataset:
    """Reads a folder with a Parquet file for each slice.

    Args:
        path: The folder or URL with a .parquet for each slice.
        id: The column that says which member a row is about, if any.
        label: The column that colors the maps, if any.
        features: The columns to compare rows by; None for all others of numbers.
        relations: A JSON list of objects {"row of t": row of t+1}, or transport; null
            relates equal ids.
        scale: As `files.own_files` has it.
        scale_by: Likewise.
        share: See `files.read_data`.

    Raises:
        InputError: A file cannot be read, lacks a column or a value, or changes while
            it is read.
    """
    with told(path):
        store = ParquetFolder(Place(path), {"ids": id, "labels": label}, features)
    if id is None and relations is None and len(store.rows) > 1:
        got = (
            f"is null, and so is data.relations, but there are {len(store.rows)} files"
        )
        expected = "the column that says which member a row is about"
        remedy = "Or give data.relations=FILE, or transport where nothing says it."
        raise InputError("data.id", got, expected, remedy)
    return _dataset(store, relations, share, scale=scale, scale_by=scale_by)


def _dataset(
    store: "ZarrStore | ParquetFolder",
    relations: str | None,
    share: Share | None,
    **units: Any,
) -> Dataset:
    """Returns the dataset of a store; every process reads all ids and labels."""
    to_read = range(len(store.rows)) if share is None else share(store.rows)
    slices = {
        name: store.read(name) if t in to_read else np.empty((rows, 0))
        for t, (name, rows) in enumerate(store.rows.items())
    }
    if not any(store.rows.values()):
        got = f"is {store.place.path}, whose slices have no rows"
        raise InputError("data.path", got, "data (points, features)")
    by_kind = {kind: [store.values(name, kind) for name in slices] for kind in GROUPS}
    present: dict[str, Any] = {
        kind: values for kind, values in by_kind.items() if values[0] is not None
    }
    # Numbers in all slices, or text in all.
    if any(ids.dtype.kind == "U" for ids in present.get("ids", ())):
        present["ids"] = [ids.astype(str) for ids in present["ids"]]
    if labels := present.get("labels"):
        ends = np.cumsum([*map(len, labels)])[:-1]
        present["labels"] = np.split(as_labels(np.concatenate(labels)), ends)
    extra: dict[str, Any] = {"columns": store.columns, "notes": tuple(store.notes)}
    return related(slices, relations, share=share, **present, **extra, **units)


class ZarrStore:
    """The arrays of a zarr store of format 3.

    Attributes:
        rows: The number of rows of each slice, by name, in their order.
        columns: The names of the columns, if they have any.
        notes: How the data are read, in lines for the user.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.columns: tuple[str, ...] | None = None
        self.notes: list[str] = []
        self.arrays = self._arrays()
        self.rows = {name: array.shape[0] for name, array in self.arrays.items()}
        self.groups: dict[str, Mapping[str, Any]] = {}
        groups = {} if self.lone_name is not None else dict(self.node.groups())
        for kind in (kind for kind in GROUPS if kind in groups):
            self.groups[kind] = dict(groups[kind].arrays())

    def _arrays(self) -> dict[str, Any]:
        """Returns the slices' arrays by name, checked by what the store says of them.

        Raises:
            InputError: The store is not of format 3, or an array is not a slice.
        """
        zarr, path = needed("zarr"), self.place.path
        wanted = "a zarr store of format 3 with a 2-D array for each slice"
        names = self.place.names(wanted)
        if "zarr.json" not in names:
            if {".zgroup", ".zarray", ".zmetadata"} & {*names}:
                got = f"is {path}, a zarr store of format 2"
                remedy = "Copy its arrays by zarr.save_group(NEW, zarr_format=3, ...)."
                raise InputError("data.path", got, wanted, remedy)
            got = f"is {path}, which has no zarr.json, but {few_of(names) or 'nothing'}"
            raise InputError("data.path", got, wanted)
        storage = zarr.storage
        store = (
            storage.LocalStore(self.place.root, read_only=True)
            if self.place.local
            else storage.FsspecStore.from_url(path, read_only=True)
        )
        options = {"mode": "r", "zarr_format": 3, "use_consolidated": False}
        self.node = zarr.open(store, **options)
        is_array = isinstance(self.node, zarr.Array)
        last = self.place.root.rpartition("/")[2]
        self.lone_name = last if is_array else None
        nodes = {last: self.node} if is_array else dict(self.node.arrays())
        arrays = {name: nodes[name] for name in sorted(nodes, key=natural_order)}
        if not arrays:
            raise InputError("data.path", f"is {path}, which has no arrays", wanted)
        for name, array in arrays.items():
            if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "biuf":
                got = f"of {name} in {path} has shape {array.shape} and dtype "
                expected = "numbers (points, features), with at least one feature"
                raise InputError("data.path", f"{got}{array.dtype}", expected)
        return arrays

    def read(self, name: str) -> np.ndarray:
        """Returns the rows of an array, read block by block."""
        array = self.arrays[name]
        with self.place.steady("" if name == self.lone_name else name) as files:
            self._check_whole(array, name, files)
            rows = np.empty(array.shape, float_of(array.dtype))
            for block in _blocks(array):
                rows[block] = array[block]
        return _checked(rows, name, self.place.path)

    def values(self, name: str, kind: str) -> np.ndarray | None:
        """Returns the array of a slice in the group `ids` or `labels`."""
        if kind not in self.groups:
            return None
        array, place = self.groups[kind].get(name), f"{kind}/{name}"
        expected = f"({self.rows[name]},), one for each row of {name}"
        if array is None or array.shape != (self.rows[name],):
            shape = "is missing" if array is None else f"has shape {array.shape}"
            got = f"of {place} in {self.place.path} {shape}"
            raise InputError("data.path", got, expected)
        with self.place.steady(place) as files:
            self._check_whole(array, place, files)
            values = array[:]
        if values.dtype.kind not in ("biuUOT" if kind == "ids" else "biufUOT"):
            got = f"of {place} in {self.place.path} has dtype {values.dtype}"
            raise InputError("data.path", got, "whole numbers or text")
        text = values.dtype.kind in "OT"
        return np.array([*map(str, values.tolist())]) if text else values

    def _check_whole(self, array: Any, name: str, files: Mapping[str, Any]) -> None:
        """Looks for chunks that are not there, which zarr reads as its fill value.

        Chunks inside of shards are not looked for.

        Raises:
            InputError: All are missing, or the others would be read as no numbers.
        """
        pairs = zip(array.shape, array.shards or array.chunks, strict=True)
        grid = product(*(range(-(-rows // length)) for rows, length in pairs))
        chunks = {array.metadata.encode_chunk_key(place) for place in grid}
        stored = chunks & files.keys()
        if stored == chunks:
            return
        got = f"of {name} in {self.place.path} has {len(stored)} of its {len(chunks)} "
        got += "chunks"
        fill = np.asarray(array.fill_value)
        if not stored or (fill.dtype.kind == "f" and not np.isfinite(fill)):
            expected = "arrays whose chunks are all written"
            raise InputError("data.path", got, expected, "Write it again.")
        warn(f"`data.path` {got}: the rest is read as {fill}, as zarr stores it.")


def _blocks(array: Any) -> Iterator[tuple[slice, slice]]:
    """Yields the parts that are read at once: whole chunks, of `BLOCK` bytes or one."""
    chunk = array.shards or array.chunks
    step, room = [*chunk], max(1, BLOCK // (math.prod(chunk) * array.dtype.itemsize))
    for axis in (1, 0):
        times = max(1, min(room, -(-array.shape[axis] // chunk[axis])))
        step[axis], room = chunk[axis] * times, room // times
    places = (range(0, n, s) for n, s in zip(array.shape, step, strict=True))
    for row, column in product(*places):
        yield slice(row, row + step[0]), slice(column, column + step[1])


class ParquetFolder:
    """A folder with a Parquet file for each slice; see `ZarrStore`."""

    def __init__(
        self,
        place: Place,
        group_columns: Mapping[str, str | None],
        features: list | None,
    ) -> None:
        self.place, self.group_columns = place, group_columns
        self.notes: list[str] = []
        wanted = "a folder with a .parquet for each slice"
        names = place.names(wanted)
        files = [name for name in names if name.endswith(".parquet")]
        if not files:
            got = f"is {place.path}, which has no .parquet, but "
            raise InputError("data.path", f"{got}{few_of(names) or 'nothing'}", wanted)
        stems = [name.removesuffix(".parquet") for name in files]
        self.files, self.rows, types = {}, {}, {}
        for name in sorted(stems, key=natural_order):
            self.files[name] = f"{name}.parquet"
            with told(place.path, self.files[name]):
                opened = self._open(name)
                self.rows[name] = opened.metadata.num_rows
                types[name] = {
                    field.name: field.type
                    for field in opened.schema_arrow
                    if not ROW_NUMBERS.fullmatch(field.name)
                }
        self.columns, self.dtype = self._columns(types, features)

    def _open(self, name: str) -> Any:
        path, system = f"{self.place.root}/{self.files[name]}", self.place.system
        return needed("pyarrow.parquet").ParquetFile(path, filesystem=system)

    def _columns(
        self, types: Mapping[str, Mapping[str, Any]], features: list | None
    ) -> tuple[tuple[str, ...], np.dtype]:
        """Returns the names of the columns to compare, and the type that holds them.

        Raises:
            InputError: A column is missing in a file, or asked for and no numbers.
        """
        first, *_ = types.values()
        named = [name for name in self.group_columns.values() if name is not None]
        for setting, kind in (("data.id", "ids"), ("data.label", "labels")):
            if (column := self.group_columns[kind]) is not None:
                check_known(setting, column, [*first], "column")
        others = [name for name in first if name not in named]
        chosen = others if features is None else [*dict.fromkeys(map(str, features))]
        for column in chosen:
            check_known("data.features", column, [*first], "column")
        numbers = [name for name in chosen if _is_number(first[name])]
        left_out = [f"{name} ({first[name]})" for name in chosen if name not in numbers]
        if left_out and (features is not None or not numbers):
            got = f"has {few_of(left_out)}, which holds no numbers"
            raise InputError("data.features", got, "columns of numbers")
        if left_out:
            self.notes.append(f"columns left out ({len(left_out)}): {few_of(left_out)}")
        if not numbers:
            got = f"is empty: {self.place.path} has no columns of numbers"
            raise InputError("data.features", got, "at least one")
        start = next(iter(self.files.values()))
        for name, schema in types.items():
            lacking = [c for c in (*numbers, *named) if c not in schema]
            lacking += [c for c in numbers if c in schema and not _is_number(schema[c])]
            extra = [c for c in schema if features is None and c not in first]
            if lacking or extra:
                verb = "lacks the numbers of" if lacking else "has beside those of"
                got = f"of {self.files[name]} in {self.place.path} {verb} {start} "
                got += f"the column {(lacking or extra)[0]!r}"
                expected = "the same columns in all files"
                remedy = "Choose columns by data.features=[NAME, ...]."
                raise InputError("data.path", got, expected, remedy)
        dtypes = {
            schema[c].to_pandas_dtype() for schema in types.values() for c in numbers
        }
        return tuple(numbers), np.dtype(float_of(np.result_type(*dtypes)))

    def read(self, name: str) -> np.ndarray:
        """Returns the columns that are compared, read some rows at a time."""
        rows = np.empty((self.rows[name], len(self.columns)), self.dtype)
        start, file = 0, self.files[name]
        with self.place.steady(file):
            options = {"batch_size": ROWS, "columns": [*self.columns]}
            for batch in self._open(name).iter_batches(**options):
                for place, column in enumerate(self.columns):
                    values = batch.column(column)
                    if values.null_count:
                        row = start + values.is_null().to_pylist().index(True)
                        got = f"of {file} in {self.place.path} has no value in row "
                        got += f"{row}, column {column!r}"
                        remedy = "Fill it, drop the row, or use data=table."
                        raise InputError("data.path", got, "a value in each", remedy)
                    rows[start : start + len(values), place] = values
                start += len(batch)
        return _checked(rows, file, self.place.path)

    def values(self, name: str, kind: str) -> np.ndarray | None:
        """Returns the column of ids, as `data=table` reads them, or of labels."""
        column = self.group_columns[kind]
        if column is None:
            return None
        with self.place.steady(self.files[name]):
            cells = self._open(name).read([column]).column(0)
            is_plain = _is_number(cells.type) or str(cells.type) == "bool"
            # Of times `to_numpy` would lose the zone.
            values = (
                cells.to_numpy()
                if is_plain
                else np.fromiter(cells.to_pylist(), object, len(cells))
            )
        if kind == "labels":
            return values
        if cells.null_count:
            got = f"is {column!r}, which has {cells.null_count} rows without a value "
            got += f"in {self.files[name]}"
            raise InputError("data.id", got, "an id for each row")
        return as_ids(values)


def _is_number(column_type: Any) -> bool:
    types = needed("pyarrow").types
    return types.is_integer(column_type) or types.is_floating(column_type)


def _checked(rows: np.ndarray, name: str, path: str) -> np.ndarray:
    """Returns rows that are finite and stay as they are: a fit takes them as they are.

    Raises:
        InputError: A value is missing, infinite or too large.
    """
    try:
        checked = read_rows(rows, "data.path", empty=True, copy=False)
    except InputError as error:
        raise error.of(f"{name} in {path}") from error
    assert isinstance(checked, np.ndarray)
    return fixed(checked)
