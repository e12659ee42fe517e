"""Folders that one process holds: made anew, or taken over from one that died.

The system lets go of them when the process ends, however it does.  On a file system
without locks nothing is taken for abandoned, and so nothing is removed.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

UNFINISHED = ".unfinished-"  # begins the names of what is of use to its process only


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold a folder while inside; whether it is certain that no other process does.

    Raises:
        BlockingIOError: Another process holds it.
        FileNotFoundError: It is not there (any more).
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        certain = _lock(descriptor)
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise FileNotFoundError(folder)  # removed and made anew meanwhile
        yield certain
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def made(names: Iterable[Path]) -> Iterator[Path]:
    """Make the first folder of those named that can be made, and hold it.

    Args:
        names: Without end.

    Raises:
        OSError: It cannot be written.
    """
    for folder in names:
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True)
                stack.enter_context(held(folder))
            except (FileExistsError, FileNotFoundError, BlockingIOError):
                continue  # another's, or swept away before it was held
            yield folder
            return
    raise AssertionError("unreachable")


def sweep(folders: Iterable[Path], useless: Callable[[Path], bool]) -> None:
    """Remove what processes left that died, where it is of no use."""
    for folder in folders:
        try:
            with held(folder) as certain:
                if certain and useless(folder):
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, or gone


def discard(folder: Path) -> None:
    """Remove a folder that is done with, all at once for whoever looks.

    What stays behind if the process dies meanwhile has a name that `sweep` knows.
    """
    gone = folder.with_name(f"{UNFINISHED}{secrets.token_hex(4)}")
    folder.rename(gone)
    shutil.rmtree(gone)
