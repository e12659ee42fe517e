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
from tokenize import TokenError
from typing import Any

import numpy as np

LARGEST = 2**34  # bytes that an archive may unpack to; others are refused before
# These are what a damaged zip, JSON or .npy raises, depending on the byte that was hit.
DAMAGE = (
    *(ValueError, TypeError, AttributeError, SyntaxError, KeyError, IndexError),
    *(OSError, EOFError, RuntimeError, NotImplementedError, OverflowError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, struct.error, TokenError),
)


def read_npy(file: Any, size: int) -> np.ndarray:
    """Reads the array of a whole `.npy`.

    Args:
        file: At its beginning; it can be searched.
        size: Bytes of the file.

    Raises:
        ValueError: If it is not a `.npy`, is not as long as it declares, or holds
            Python objects.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:  # 3.0 differs in the names of structured fields alone
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        declared, remaining = math.prod(shape) * dtype.itemsize, size - file.tell()
        if declared != remaining or not dtype.itemsize:
            raise ValueError(
                f"it declares {declared} bytes, shape {shape}, and holds {remaining}"
            )
        file.seek(0)
        return np.load(file, allow_pickle=False)


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the arrays of an `.npz` by name, in their order; none is unpacked to disk.

    Raises:
        ValueError: If it is damaged, is not an `.npz` of numbers or text, or unpacks to
            more than allowed; the message does not name the path.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            declared = sum(member.file_size for member in members)
            if declared > LARGEST:
                most = f"expected at most {LARGEST}"
                raise ValueError(f"it unpacks to {declared} bytes; {most}")
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    arrays[name] = read_npy(file, member.file_size)
            return arrays
    except DAMAGE as error:
        raise ValueError(short(error)) from error


def short(error: BaseException) -> str:
    """Returns the first line of an error, or that something is damaged."""
    return next(iter(str(error).splitlines()), "it is damaged").rstrip(".")
