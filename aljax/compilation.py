"""Compiled programs: kept for later processes, and impossible in forked ones."""

import os
import signal
import threading
import warnings
from pathlib import Path

import jax

from aljax.errors import InputError, read_path

FOLDER = "~/.cache/aljax"
PATIENCE = 10.0  # seconds, for a program that compiles in .1
_forked = threading.Event()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked.set)


def enable_compilation_cache(folder: str | os.PathLike[str] = FOLDER) -> Path:
    """Lets JAX keep compiled programs in a folder, for later processes to load.

    The first fit of a process takes seconds to compile its programs; those that an
    earlier process kept are loaded instead.  Call it before the first fit.  It holds
    for every program of this process, those of other libraries included, and nothing
    is deleted from the folder.

    Args:
        folder: Where programs are kept, by default ~/.cache/aljax; it is made if need
            be.

    Returns:
        The folder.

    Raises:
        InputError: The folder cannot be made.
    """
    path = read_path(folder, "folder").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("folder", f"is {path} ({error})", "a folder") from error
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def check_fork() -> None:
    """Checks that a process that was forked can compile a program.

    A fork does not copy JAX's threads, so that the child waits for them forever or
    crashes.  Whether it does is tried in a child of its own.

    Raises:
        RuntimeError: JAX had run in the process that this one was forked from.
    """
    if not _forked.is_set():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of forks
        trial = os.fork()
    if trial == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the child
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            jax.jit(lambda: os.getpid())()
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(trial, 0)[1] != 0:
        raise RuntimeError(
            "This process was forked from one in which JAX had run, and a fork does "
            "not copy JAX's threads. Start processes by "
            '`multiprocessing.get_context("spawn")`, or fork before the first fit.'
        )
    _forked.clear()
