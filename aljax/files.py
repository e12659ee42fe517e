"""Files: the parts of a model to one file and back, bit for bit.

A file is what `numpy.savez` makes of the arrays, and one more member, `model.json`:
all that is not an array, and a sum over it and the arrays' CRCs.  Nothing is pickled
or unpickled, and nothing in a file unpacks to more bytes than the file has.
"""

import datetime
import decimal
import fractions
import hashlib
import ipaddress
import json
import math
import os
import pathlib
import secrets
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
import scipy.sparse

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import InputError, kind_of, optional, read_path
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import KNN
from aljax.layout.losses import DensityTerms, LossTerms
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.relations.mates import Mates
from aljax.scaling import Columns, Scaling, Units

# Ids and labels that text stands for: how it is written and read.
TEXTS: dict[type, tuple[Any, Any]] = {
    bytes: (bytes.hex, bytes.fromhex),
    datetime.time: (datetime.time.isoformat, datetime.time.fromisoformat),
    datetime.timedelta: (
        lambda span: f"{span.days} {span.seconds} {span.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split())),
    ),
    # Not by `Fraction` itself, which a short "1e999999999" keeps busy for hours.
    fractions.Fraction: (
        str,
        lambda text: fractions.Fraction(*map(int, text.split("/"))),
    ),
    # A path is read as one of no machine, which equals it.
    pathlib.PosixPath: (str, pathlib.PurePosixPath),
    pathlib.WindowsPath: (str, pathlib.PureWindowsPath),
    **{
        kind: (str, kind)
        for kind in (
            *(uuid.UUID, decimal.Decimal, complex),
            *(ipaddress.IPv4Address, ipaddress.IPv6Address),
            *(ipaddress.IPv4Network, ipaddress.IPv6Network),
            *(pathlib.PurePosixPath, pathlib.PureWindowsPath),
        )
    },
}
NAMES = {"ids", "slice_labels", "columns"}  # that users give
READ = {kind.__name__: read for kind, (_, read) in TEXTS.items()}
VERSION = 2  # of the format; raised when older readers would misread a file
MODEL, SUMS = "model.json", "sums.json"  # version 1 kept its sums apart
SAVED = "a file that `save` wrote"
MAPS = "maps.aljax"  # the model in the folder of a run
PARTS = {
    part.__name__: part
    for part in (
        *(AlignmentConfig, GraphConfig, LayoutConfig, FuzzyGraph, KNN, Mates),
        *(LossTerms, DensityTerms, AlignedProblem, LayoutParams),
        *(Units, Columns, Scaling),
    )
}


class FileError(InputError):
    """A file that cannot be used; the message says why."""


def write(path: str | os.PathLike[str], kind: str, parts: Mapping[str, Any]) -> None:
    """Writes the parts of a model to a file: whole, or (if anything fails) not at all.

    Args:
        path: Where; a file that is there is replaced at the very end.
        kind: The name of the model's class.
        parts: By name: instances of `PARTS`, lists, tuples, dicts, arrays, text,
            numbers and None.

    Raises:
        InputError: If a part is of any other kind.
        FileError: If the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    fields = {name: _encode(part, name, arrays) for name, part in parts.items()}
    tree = {"class": kind, "fields": fields}
    with _replaced(read_path(path)) as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        with zipfile.ZipFile(file, "a") as archive:
            head = {"format": "aljax", "version": VERSION, "aljax": _release()}
            model = {"sum": _sum(tree, archive), "model": tree}
            text = json.dumps(head | model, allow_nan=False)
            archive.writestr(zipfile.ZipInfo(MODEL), text)


def _release() -> str | None:
    try:
        return metadata.version("aljax")
    except metadata.PackageNotFoundError:
        return None  # run from a checkout


def _sum(tree: Any, archive: zipfile.ZipFile) -> str:
    """Digests a tree and the names and CRCs of the members beside it."""
    members = [[m.filename, m.CRC] for m in archive.infolist() if m.filename != MODEL]
    return hashlib.sha256(json.dumps([tree, members]).encode()).hexdigest()


@contextmanager
def _replaced(path: Path) -> Iterator[IO[bytes]]:
    """Yields a new file beside, which replaces `path` once it is on the disk."""
    beside = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        with open(beside, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        got = f"is {path}, which cannot be written ({error.strerror})"
        expected = "a file in a folder that is there, as in 'maps.aljax'"
        raise FileError("path", got, expected) from error
    finally:
        with suppress(OSError):  # a file where a folder should be
            beside.unlink(missing_ok=True)


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Returns what JSON can say of a value; its arrays are put into `arrays`."""

    def inner(name: Any, part: Any) -> Any:
        return _encode(part, f"{path}/{name}", arrays)

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) in TEXTS:
        return {type(value).__name__: TEXTS[type(value)][0](value)}
    plain = isinstance(value, datetime.datetime) and not getattr(value, "nanosecond", 0)
    if not plain and (parts := _parts(value)):
        return {"pandas": [type(value).__name__, inner("parts", parts)]}
    if isinstance(value, datetime.date) and value == value:  # not NaT
        kind = "datetime" if isinstance(value, datetime.datetime) else "date"
        return {kind: value.isoformat()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        if array.dtype.kind in "OT":  # text of any length, or a mixture
            items = [inner(i, item) for i, item in enumerate(array.ravel().tolist())]
            return {"objects": items, "shape": list(array.shape)}
        if not array.dtype.hasobject:
            if path in arrays:  # of keys such as 1 and "1"
                path += f"-{len(arrays)}"
            arrays[path] = array
            tag = "scalar" if isinstance(value, np.generic) else "array"
            return {"jax" if isinstance(value, jax.Array) else tag: path}
    if isinstance(value, scipy.sparse.csr_matrix):
        parts = (value.data, value.indices, value.indptr)
        rows, columns = value.shape  # pyright: ignore[reportGeneralTypeIssues]
        return {"csr": inner("csr", parts), "shape": [rows, columns]}
    if isinstance(value, Mapping):
        names = ["-".join(map(str, k)) if isinstance(k, tuple) else k for k in value]
        keys = [_encode(key, path, arrays) for key in value]
        items = map(inner, names, value.values())
        return {"dict": [[*pair] for pair in zip(keys, items, strict=True)]}
    if type(value) in PARTS.values():
        whole: Any = value
        names = getattr(whole, "_fields", None) or whole.__dataclass_fields__
        fields = {name: inner(name, getattr(value, name)) for name in names}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, frozenset):
        return {"frozenset": inner("members", sorted(value, key=repr))}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [inner(i, part) for i, part in enumerate(value)]}
    got = f"is {kind_of(value)}, which cannot be saved"
    expected = "arrays, text, numbers, or lists and dicts of them"
    remedy = ""
    if name := NAMES & {*path.split("/")}:
        remedy = f"Give text to `fit` as `{name.pop()}`, such as `str` makes."
    raise InputError(path, got, expected, remedy)


def _parts(value: Any) -> Any:
    """Returns the arguments that make an id or label of pandas again, if any do."""
    kind = type(value).__name__
    if not type(value).__module__.startswith("pandas"):
        return None
    if kind == "Period":
        return {"ordinal": value.ordinal, "freq": value.freqstr}
    if kind == "Interval":
        return {name: getattr(value, name) for name in ("left", "right", "closed")}
    if kind in ("Timestamp", "Timedelta"):
        return {"ts_input" if kind == "Timestamp" else "value": value.isoformat()}
    return None


def read(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Reads the parts that `write` wrote, bit for bit.

    Args:
        path: The file, or the folder of a run, which has `maps.aljax`.
        kind: The name of the model's class.

    Raises:
        FileError: If there is no such file; if it is truncated, altered, not ours, of
            another class or a newer format; or if it is of float64 while JAX is set to
            float32.
    """
    place = read_path(path)
    place = place / MAPS if os.path.isdir(place) else place
    try:
        with open(place, "rb") as file:
            if file.read(2) != b"PK":  # as every zip begins
                got = f"is {path}, which is not a file of aljax"
                raise FileError("path", got, SAVED)
            with zipfile.ZipFile(file) as archive:
                tree, arrays = _read(archive, os.fstat(file.fileno()).st_size)
        fields = dict(tree["fields"])
        held = fields.pop("estimator", tree["class"])  # as version 1 has it
        if held != kind:
            got, remedy = f"is {path}, a file of {held}", f"Use `{held}.load`."
            raise FileError("path", got, f"a file of {kind}", remedy)
        return {name: _decode(part, arrays) for name, part in fields.items()}
    except FileError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        got = f"is {path}, where no file can be read ({error.strerror})"
        raise FileError("path", got, SAVED) from error
    except Exception as error:  # whatever the byte that was hit leads to
        got = f"is {path}, which is truncated or altered ({error!r})"
        remedy = "Copy it again, or save the model again."
        raise FileError("path", got, "a file as `save` wrote it", remedy) from error


def _read(archive: zipfile.ZipFile, size: int) -> tuple[Any, dict[str, np.ndarray]]:
    """Returns the tree and the arrays of an archive of `size` bytes."""
    members = archive.infolist()
    if any(member.filename == "slice_0.npy" for member in members):
        got = "holds the arrays of a run instead of a model"
        raise FileError("path", got, SAVED, f"A run writes one as {MAPS}.")
    stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
    if not stored or sum(member.file_size for member in members) > size:
        raise ValueError("its members unpack to more bytes than it has")
    contents = {member.filename: archive.read(member) for member in members}
    model = json.loads(contents[MODEL])
    version, tree = model["version"], model["model"]
    if version > VERSION:
        got = f"is a file of format {version}, written by aljax {model['aljax']}"
        remedy = "Install a newer aljax: pip install -U aljax."
        raise FileError("path", got, f"a format up to {VERSION}", remedy)
    if version == 1:
        recorded = json.loads(contents.pop(SUMS))
        computed = {
            n: hashlib.sha256(content).hexdigest() for n, content in contents.items()
        }
    else:
        recorded, computed = model["sum"], _sum(tree, archive)
    if recorded != computed:
        raise ValueError("its parts have another sum")
    del contents[MODEL]
    arrays = {}
    for name, content in contents.items():
        array = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
        arrays[name.removesuffix(".npy")] = array
    return tree, arrays


def _decode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Returns the value that `_encode` encoded."""

    def inner(part: Any) -> Any:
        return _decode(part, arrays)

    if not isinstance(tree, dict):
        return tree
    tag, content = next(iter(tree.items()))
    if tag in READ:
        return READ[tag](content)
    match tag:
        case "array":
            return arrays[content]
        case "jax":
            return _to_device(arrays[content])
        case "scalar":
            return arrays[content][()]
        case "csr":
            return scipy.sparse.csr_matrix(inner(content), shape=tree["shape"])
        case "objects":
            items = np.empty(len(content), dtype=object)
            for i, item in enumerate(content):  # by slices, NumPy would join arrays
                items[i] = inner(item)
            return items.reshape(tree["shape"])
        case "float":
            return float(content)
        case "frozenset":
            return frozenset(inner(content))
        case "pandas":
            kind, parts = content
            if kind not in ("Timestamp", "Timedelta", "Period", "Interval"):
                raise KeyError(kind)
            pandas, parts = optional("pandas", "frames"), inner(parts)
            for name, part in parts.items():
                if isinstance(part, datetime.datetime):  # an interval's end
                    parts[name] = pandas.Timestamp(part)
            return getattr(pandas, kind)(**parts)
        case "date" | "datetime":
            return getattr(datetime, tag).fromisoformat(content)
        case "list":
            return [*map(inner, content)]
        case "tuple":
            return tuple(map(inner, content))
        case "dict":
            return {inner(key): inner(value) for key, value in content}
        case "class":
            fields = {name: inner(part) for name, part in tree["fields"].items()}
            return PARTS[content](**fields)
    raise KeyError(tag)


def _to_device(array: np.ndarray) -> jax.Array:
    placed = jax.device_put(array)
    if placed.dtype != array.dtype:
        got = f"holds {array.dtype}, which JAX would round to {placed.dtype}"
        remedy = 'Set jax.config.update("jax_enable_x64", True) before loading.'
        raise FileError("path", got, "JAX in double precision", remedy)
    return placed
