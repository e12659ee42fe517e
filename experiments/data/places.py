"""Places of files, local or by a URL of fsspec, and a look if they stay the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from aljax.errors import InputError, few_of
from experiments.data.archives import short
from experiments.data.packages import shipped

# By these file systems tell that a file is another than before.
STAMPS = (
    *("size", "mtime", "ino", "created", "modified", "last_modified", "LastModified"),
    *("ETag", "etag", "md5Hash", "generation", "version_id", "VersionId"),
)


class Place:
    """A folder of a file system of fsspec, by its path or URL; nothing is read yet."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.system, root = needed("fsspec.core").url_to_fs(path)
        self.root = root.rstrip("/")
        self.local = "file" in np.atleast_1d(self.system.protocol)

    def names(self, expected: str) -> list[str]:
        """Returns the names of what lies in the folder.

        Raises:
            InputError: There is no such folder, or it may not be read.
        """
        try:
            self.system.invalidate_cache()
            entries = self.system.ls(self.root, detail=False)
        except FileNotFoundError as error:
            got = f"is {self.path}, and nothing is there"
            raise InputError("data.path", got, expected) from error
        if [*map(str, entries)] == [self.root]:  # a file lists itself
            raise InputError("data.path", f"is {self.path}, which is a file", expected)
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def stamps(self, below: str) -> dict[str, tuple[Any, ...]]:
        """Returns by what each file below a path differs from one written later."""
        self.system.invalidate_cache()
        start = f"{self.root}/{below}".rstrip("/")
        files = self.system.find(start, detail=True)
        return {
            str(name)[len(start) :].lstrip("/"): tuple(map(info.get, STAMPS))
            for name, info in files.items()
        }

    @contextmanager
    def steady(self, below: str) -> Iterator[dict[str, tuple[Any, ...]]]:
        """Tells the files below a path, and checks that they stay while they are read.

        Raises:
            InputError: They do not, or reading fails.
        """
        name = below or self.path
        with told(self.path, below):
            before = self.stamps(below)
            failed = None
            try:
                yield before
            except Exception as error:
                failed = error
            after = self.stamps(below)
            changed = {k for k in before | after if before.get(k) != after.get(k)}
            if changed:
                got = f"of {name} changes while it is read ({few_of(sorted(changed))})"
                remedy = "Start again when it is written, or read a copy."
                raise InputError("data.path", got, "data that stay", remedy) from failed
            if failed is not None:
                raise failed


def needed(module: str) -> Any:
    """Returns a module of the extra `stores`.

    Raises:
        InputError: It is not installed, or lacks what it imports itself.
    """
    return shipped(module, setting="data", extra="stores")


@contextmanager
def told(path: str, part: str = "") -> Iterator[None]:
    """Tells errors of files in one line; each file system has its own."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except ImportError as error:  # of a protocol, such as s3fs for s3://
        got, expected = f"is {path} ({short(error)})", "a path, or a URL of fsspec"
        raise InputError("data.path", got, expected) from error
    except Exception as error:
        where = f"of {part} in {path} cannot" if part else f"is {path}, which cannot"
        got = f"{where} be read ({short(error) or type(error).__name__})"
        raise InputError(
            "data.path", got, "data that are whole and readable"
        ) from error
