"""Arrays from files that anyone may have written: nothing runs, nothing swells.

A `.npy` says how large its array is before the array begins, a zip what its members
unpack to.  Both are compared with what is there, or with a bound, before any of it is
allocated; Python objects are refused.
"""

import math
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from tokenize import TokenError
from typing import Any

import numpy as np

LARGEST = 2**34  # bytes that an archive may unpack to
Header = tuple[tuple[int, ...], bool, np.dtype]
HEADERS: dict[Any, Callable[[Any], Header]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What a damaged zip, JSON or .npy raises, depending on which byte was hit.
DAMAGE = (
    *(ValueError, TypeError, AttributeError, SyntaxError, KeyError, IndexError),
    *(OSError, EOFError, RuntimeError, NotImplementedError, OverflowError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, struct.error, TokenError),
)


def read_npy(file: Any, size: int) -> np.ndarray:
    """The array of a whole `.npy`.

    Args:
        file: At its beginning; it can be searched.
        size: Bytes of the file.

    Raises:
        ValueError: No such file, another length than it declares, or Python objects.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
        return _read_npy(file, size)


def _read_npy(file: Any, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"it has the unknown format {version}")
    shape, _, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    declared, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != there or not dtype.itemsize:
        raise ValueError(
            f"it declares {declared} bytes, shape {shape}, and holds {there}"
        )
    file.seek(0)
    return np.load(file, allow_pickle=False)


def read_npz(
    path: str | os.PathLike[str], *, largest: int = LARGEST
) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` by name, in their order.  Nothing is unpacked to disk.

    Args:
        path: The file.
        largest: Bytes beyond which its content is refused before it is unpacked.

    Raises:
        ValueError: A file that is damaged or no `.npz` of numbers or text, or one that
            unpacks to more than allowed; the message says which, not the path.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            declared = sum(one.file_size for one in members)
            if declared > largest:
                raise ValueError(
                    f"it unpacks to {declared} bytes; expected at most {largest}"
                )
            arrays = {}
            for one in members:
                with archive.open(one) as file:
                    name = one.filename.removesuffix(".npy")
                    arrays[name] = read_npy(file, one.file_size)
            return arrays
    except DAMAGE as error:
        raise ValueError(short(error)) from error


def short(error: BaseException) -> str:
    """The first line of an error, or that something is damaged."""
    return next(iter(str(error).splitlines()), "it is damaged").rstrip(".")
