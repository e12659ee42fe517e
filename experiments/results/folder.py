"""Folders of results: filled beside, renamed once whole; each held by one process.

The system lets go of a lock when its process ends, however it does, so that a folder
that nobody holds was left by a run that is over or was killed.
"""

import errno
import hashlib
import itertools
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aljax.errors import InputError
from experiments.settings import LONGEST

UNFINISHED = ".unfinished-"  # begins the names of what is of use to its process only
LOCK = ".lock"
TRIES = 100  # to make a folder where others sweep theirs away
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder while inside.

    Raises:
        Timeout: Another process holds it.
        FileNotFoundError: It does not exist (any more).
    """
    if not folder.is_dir():  # a lock would make it
        raise FileNotFoundError(folder)
    with FileLock(folder / LOCK, timeout=0, thread_local=False):
        yield


@contextmanager
def made(names: Iterable[Path]) -> Iterator[Path]:
    """Makes and holds the first folder that is free, of names without end."""
    swept_away = 0
    for folder in names:
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True)
                stack.enter_context(held(folder))
            except (FileExistsError, FileNotFoundError, Timeout) as error:
                swept_away += isinstance(error, FileNotFoundError)
                above = [path for path in folder.parents if os.path.lexists(path)]
                # A link to nothing, or a place such as /proc that makes no folders.
                if not all(map(Path.is_dir, above)) or swept_away > TRIES:
                    raise
                continue  # another's, or swept away before it was held
            yield folder
            return
    raise AssertionError("unreachable")


def sweep(folders: Iterable[Path], useless: Callable[[Path], bool]) -> None:
    """Removes what processes left that died, where it is of no use."""
    for folder in folders:
        with suppress(OSError), held(folder):  # in use, or gone
            if useless(folder):
                shutil.rmtree(folder, ignore_errors=True)


def discard(folder: Path) -> None:
    """Removes a finished folder, in one moment for every other process.

    If this process dies meanwhile, the rest has a name that `sweep` recognizes.
    """
    gone = folder.with_name(f"{UNFINISHED}{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):  # removed by hand
        folder.rename(gone)
        shutil.rmtree(gone)


def numbered(path: Path) -> Iterator[Path]:
    """Yields `path`, `path`-2, `path`-3, ..."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")


def named(text: str) -> str:
    """Returns the name of a folder that is most like a text, with a digest if long."""
    name = re.sub(r"[^\w .+=,-]+", "_", text).lstrip(" .+=,-")
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    beginning = name.encode()[: LONGEST - len(digest) - 1].decode(errors="ignore")
    return f"{beginning}-{digest}"


@contextmanager
def folder_beside(results: Path) -> Iterator[Path]:
    """Makes a folder in `results` to be filled, and removes it unless it was published.

    The folders of runs that were killed are removed, too; a folder that cannot be
    written and a full disk are told.
    """
    is_new = not results.exists()
    sweep(results.glob(f"{UNFINISHED}*"), lambda _: True)
    names = (results / f"{UNFINISHED}{secrets.token_hex(4)}" for _ in itertools.count())
    with ExitStack() as stack:
        try:
            beside = stack.enter_context(made(names))
        except (OSError, NotImplementedError) as error:  # no locks there
            raise unwritable(results, error) from error
        try:
            yield beside
        except OSError as error:
            _tell(error, results, beside)
            raise
        except InputError as error:  # of the library, which writes models and pictures
            if getattr(error.__cause__, "errno", None) in FULL:
                _tell(error.__cause__, results, beside)
            raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            if is_new:
                with suppress(OSError):  # it holds a result
                    results.rmdir()


def check_writable(results: Path) -> None:
    """Raises if nothing can be written in `results`, before anything is computed."""
    with folder_beside(results):
        pass


def _tell(error: Any, results: Path, beside: Path) -> None:
    """Raises an error that names the folder of results, if that is what failed."""
    if error.errno in FULL:
        got = f"is {results}, where there is no room ({error.strerror})"
        raise InputError("results", got, "a folder on a disk with room") from error
    if not beside.is_dir():
        got = f"is {results}, from where {beside.name} was removed during the run"
        remedy = "Run it again; nothing was written."
        raise InputError("results", got, "a folder that is left alone", remedy)
    if error.errno in CLOSED and str(results) in str(error.filename):
        raise unwritable(results, error) from error


def unwritable(results: Path, error: Exception) -> InputError:
    """Returns the error of a folder of results that cannot be made."""
    reason = getattr(error, "strerror", None) or str(error)
    got = f"is {results}, which cannot be written ({reason})"
    return InputError("results", got, "a folder, as in results=~/maps")


def publish(beside: Path, name: str) -> Path:
    """Renames a whole folder to `name`, or the first free of `name`-2 and so on."""
    for target in numbered(beside.with_name(name)):
        if os.path.lexists(target):  # renaming would replace a folder if it is empty
            continue
        try:
            beside.rename(target)
        except OSError:
            if not os.path.lexists(target):
                raise  # not another run that was faster
            continue
        (target / LOCK).unlink(missing_ok=True)  # before, others would sweep it away
        return target
    raise AssertionError("unreachable")
