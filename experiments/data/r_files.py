"""Reads data of R's packages without R, from where Debian or R itself put them.

A package keeps a data set in `data/NAME.rda`, or all of them in a database:
`data/Rdata.rdx` says where in `data/Rdata.rdb` each lies, and there stand its unpacked
length (4 bytes, big-endian) and its values, packed by zlib or, after a `Z`, by xz.
"""

import gzip
import io
import lzma
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

from aljax.errors import InputError
from experiments.data.archives import DAMAGE, short
from experiments.data.packages import shipped

LIBRARIES = (Path("/usr/local/lib/R/site-library"), Path("/usr/lib/R/site-library"))
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 6}]  # as R packs: without a header


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
    rdata = shipped("rdata", "rdata")
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
