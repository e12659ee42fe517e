"""Fashion-MNIST from its four IDX files: Debian's package, or a folder of your own.

Source: Xiao, Rasul & Vollgraf (2017), arXiv:1708.07747.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from aljax.errors import InputError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
LARGEST = 2**28  # bytes of an array; one that declares more is refused unread
PARTS = ("train", "t10k")
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
REMEDY = (
    "Install Debian's package (apt-get install dataset-fashion-mnist), or give the "
    "folder that holds train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (plain or .gz) as "
    "`data.folder`."
)


def fashion_mnist(
    folder: str | Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns all 70,000 images as rows of bytes, the training part first, and classes.

    Args:
        folder: Where the four files lie; None for the place of Debian's package.

    Raises:
        InputError: A file is missing or is not what its name says.
    """
    place = DEBIAN if folder is None else Path(folder).expanduser()
    images = [_read(place, f"{part}-images-idx3-ubyte") for part in PARTS]
    labels = [_read(place, f"{part}-labels-idx1-ubyte") for part in PARTS]
    for part, image, label in zip(PARTS, images, labels, strict=True):
        if image.ndim != 3 or label.ndim != 1 or len(image) != len(label):
            got = f"is {place}, where the {part} files hold images of shape "
            got += f"{image.shape} and labels of shape {label.shape}"
            raise InputError("data.folder", got, "(n, 28, 28) and (n,)", REMEDY)
    rows = np.concatenate(images)
    return rows.reshape(len(rows), -1), np.concatenate(labels)


def name_classes(labels: np.ndarray, folder: str | Path | None) -> np.ndarray:
    """Returns the classes' names; a folder of other images has numbers."""
    return np.array(CLASSES)[labels] if folder is None else labels


def _read(folder: Path, name: str) -> np.ndarray:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return read_idx(path)
    got = f"is {folder}, which has no {name}"
    raise InputError("data.folder", got, "the files of Fashion-MNIST", REMEDY)


def read_idx(path: Path) -> np.ndarray:
    """Returns an array of bytes in the IDX format, plain or compressed.

    The header is two zero bytes, the type (8: unsigned bytes), the number of axes, and
    each axis' length as a big-endian 32-bit integer.

    Raises:
        InputError: It is not such a file, is larger than `LARGEST`, or is cut short.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            header = file.read(4)
            if len(header) < 4 or header[:3] != b"\0\0\x08":
                expected = "an IDX file of unsigned bytes"
                raise InputError("data.folder", f"is {path}", expected)
            axes = header[3]
            lengths = file.read(4 * axes)
            whole = len(lengths) == 4 * axes
            shape = tuple(np.frombuffer(lengths, ">u4").tolist()) if whole else ()
            size = math.prod(shape)
            if not whole or size > LARGEST:
                got = f"is {path}, which declares an array of shape {shape}"
                expected = f"{axes} axes and at most {LARGEST} bytes"
                raise InputError("data.folder", got, expected)
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        got = f"is {path}, which cannot be read ({error})"
        expected = "an IDX file, plain or compressed"
        raise InputError("data.folder", got, expected) from error
    if len(content) != size:
        held = "more" if len(content) > size else len(content)
        got = f"is {path}, which declares {size} bytes and holds {held}"
        raise InputError("data.folder", got, "a whole file", "Get the file again.")
    return np.frombuffer(content, np.uint8).reshape(shape)
