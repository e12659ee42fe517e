"""Models and files: a frozen dataclass of arrays and settings to one file, and back.

The file is a zip, stored uncompressed: `model.json` with the structure and all that is
no array, one `.npy` for each array, and `sums.json` with the SHA-256 of each of them.
No pickle is ever written or read; `numpy.load` opens it, too.
"""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from aljax.arrays import DAMAGE, read_npy
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import read_path
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import KNN
from aljax.layout.losses import LossTerms
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.relations.mates import Mates

VERSION = 1  # of the format; raised when older readers would misread a file
MODEL, SUMS = "model.json", "sums.json"
PARTS = (
    *(AlignmentConfig, GraphConfig, LayoutConfig, FuzzyGraph, KNN, Mates),
    *(LossTerms, AlignedProblem, LayoutParams),
)
LOADERS = {  # of aljax, by what a file holds
    "AlignedEmbedding": "load",
    "AlignedUMAP": "AlignedUMAP.load",
    "UMAP": "UMAP.load",
}
Kind = TypeVar("Kind")


class FileError(ValueError):
    """A file that cannot be used; the message says why."""


def write(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value to a file: whole, or (if anything fails) not at all.

    Args:
        path: Where; a file that is there is replaced at the very end.
        value: Dataclasses and named tuples of `PARTS` (the outermost may be of any
            class), lists, tuples, dicts, arrays, text, numbers and None.

    Raises:
        ValueError: A value of any other kind.
        FileError: A place that cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(value, "", arrays)
    model = {"format": "aljax", "version": VERSION, "aljax": _release(), "model": tree}
    sums: dict[str, str] = {}
    with _replaced(read_path(path)) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            content = BytesIO()
            np.save(content, array, allow_pickle=False)
            _add(archive, f"{name}.npy", content.getbuffer(), sums)
        _add(archive, MODEL, json.dumps(model, allow_nan=False).encode(), sums)
        _add(archive, SUMS, json.dumps(sums).encode(), {})


def _release() -> str | None:
    try:
        return metadata.version("aljax")
    except metadata.PackageNotFoundError:
        return None  # run from a checkout


def _add(
    archive: zipfile.ZipFile, name: str, content: Any, sums: dict[str, str]
) -> None:
    sums[name] = hashlib.sha256(content).hexdigest()
    archive.writestr(zipfile.ZipInfo(name), content)


@contextmanager
def _replaced(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside, which takes the place of `path` once it is on the disk."""
    beside = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise FileError(
            f"`path` is {path}, which cannot be written ({error.strerror}); expected a "
            "file in a folder that is there, as in 'maps.aljax'."
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """What JSON can say of a value; its arrays are put into `arrays`."""

    def inner(name: Any, part: Any) -> Any:
        return _encode(part, f"{path}/{name}" if path else str(name), arrays)

    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, datetime.date):
        kind = "datetime" if isinstance(value, datetime.datetime) else "date"
        return {kind: value.isoformat()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _encode_array(value, path, arrays)
    if isinstance(value, scipy.sparse.csr_matrix):
        parts = (value.data, value.indices, value.indptr)
        shape = list(value.shape)  # pyright: ignore[reportArgumentType]
        return {"csr": inner("csr", parts), "shape": shape}
    if isinstance(value, Mapping):
        pairs = [
            [_encode(key, path, arrays), inner(_key(key), part)]
            for key, part in value.items()
        ]
        return {"dict": pairs}
    fields = _fields(value)
    if fields is not None:
        parts = {name: inner(name, getattr(value, name)) for name in fields}
        return {"class": type(value).__name__, "fields": parts}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [inner(i, part) for i, part in enumerate(value)]}
    raise ValueError(
        f"`{path}` is a {type(value).__name__}, which cannot be saved; expected "
        "arrays, text, numbers, or lists and dicts of them."
    )


def _encode_array(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    array = np.asarray(value)
    if array.dtype.kind in "OT":  # text of any length, or a mixture
        listed = [
            _encode(one, f"{path}/{i}", arrays)
            for i, one in enumerate(array.ravel().tolist())
        ]
        return {"objects": listed, "shape": list(array.shape)}
    arrays[path] = array
    if isinstance(value, np.generic):
        return {"scalar": path}
    return {"jax" if isinstance(value, jax.Array) else "array": path}


def _key(key: Any) -> str:
    return "-".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _fields(value: Any) -> Sequence[str] | None:
    """The names of what a dataclass or named tuple holds."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return getattr(value, "_fields", None)


def read(path: str | os.PathLike[str], kind: type[Kind]) -> Kind:
    """Read what `write` wrote, bit for bit.

    Args:
        path: The file.
        kind: The class of the outermost value.

    Raises:
        FileError: No such file; one that is truncated, altered, not ours, or of a
            newer format; one of float64 while JAX is set to float32.
    """
    try:
        with open(read_path(path), "rb") as file:
            if file.read(2) != b"PK":  # as every zip begins
                raise FileError(f"`path` is {path}, which is no file of aljax.")
            value = _read(file, kind)
    except FileError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise FileError(
            f"`path` is {path}, where no file can be read ({error.strerror}); expected "
            "one that `save` wrote."
        ) from error
    except DAMAGE as error:
        raise FileError(
            f"`path` is {path}, which is truncated or altered ({error!r}); expected a "
            "file as `save` wrote it. Copy it again, or save the model again."
        ) from error
    if not isinstance(value, kind):
        raise FileError(_other(type(value).__name__, kind))
    return value


def _other(held: str, kind: type, loader: str | None = None) -> str:
    remedy = f" Use `aljax.{loader}`." if loader else ""
    return f"`path` is a file that holds a {held}; expected a {kind.__name__}.{remedy}"


def _read(file: IO[bytes], kind: type) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = _read_members(archive, os.fstat(file.fileno()).st_size)
        model = json.loads(members[MODEL])
        if model["version"] > VERSION:
            raise FileError(
                f"`path` is a file of format {model['version']}, written by aljax "
                f"{model['aljax']}; this one reads up to {VERSION}. Install a newer "
                "one: pip install -U aljax."
            )
    sums = json.loads(members.pop(SUMS))
    for name in {*sums, *members}:
        if hashlib.sha256(members[name]).hexdigest() != sums[name]:
            raise KeyError(f"{name} has another sum")
    del members[MODEL]
    arrays = {
        name.removesuffix(".npy"): read_npy(BytesIO(content), len(content))
        for name, content in members.items()
    }
    classes = {part.__name__: part for part in (*PARTS, kind)}
    held = model["model"]
    if isinstance(held, dict) and held.get("class", kind.__name__) not in classes:
        loader = LOADERS.get(held["fields"].get("estimator", held["class"]))
        raise FileError(_other(held["class"], kind, loader))
    return _decode(model["model"], arrays, classes)


def _read_members(archive: zipfile.ZipFile, size: int) -> dict[str, bytes]:
    """What an archive of `size` bytes holds: stored, so never more than those."""
    members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in members):
        raise ValueError("it is compressed, which `save` never does")
    declared = sum(one.file_size for one in members)
    if declared > size:
        raise ValueError(f"it declares {declared} bytes and has {size}")
    return {one.filename: archive.read(one) for one in members}


def _decode(tree: Any, arrays: dict[str, np.ndarray], classes: dict[str, type]) -> Any:
    """The value that `_encode` encoded."""

    def inner(part: Any) -> Any:
        return _decode(part, arrays, classes)

    if not isinstance(tree, dict):
        return tree
    tag, content = next(iter(tree.items()))
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
            listed = np.empty(len(content), dtype=object)
            for i, one in enumerate(content):
                listed[i] = inner(one)
            return listed.reshape(tree["shape"])
        case "float":
            return float(content)
        case "date" | "datetime":
            return getattr(datetime, tag).fromisoformat(content)
        case "list":
            return [inner(one) for one in content]
        case "tuple":
            return tuple(inner(one) for one in content)
        case "dict":
            return {inner(key): inner(one) for key, one in content}
        case "class":
            parts = {name: inner(one) for name, one in tree["fields"].items()}
            return classes[content](**parts)
    raise KeyError(tag)


def _to_device(array: np.ndarray) -> jax.Array:
    placed = jnp.asarray(array)
    if placed.dtype != array.dtype:
        raise FileError(
            f"`path` holds {array.dtype}, which JAX would round to {placed.dtype}. Set "
            'jax.config.update("jax_enable_x64", True) before loading.'
        )
    return placed
