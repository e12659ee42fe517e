"""Compiled programs that one process leaves to the next."""

import os
from pathlib import Path

import jax

from aljax.errors import InputError

FOLDER = "~/.cache/aljax"


def enable_compilation_cache(folder: str | os.PathLike[str] = FOLDER) -> Path:
    """Lets JAX keep compiled programs in a folder, for later processes to load.

    The first fit of a process takes seconds to compile its programs; those that an
    earlier process kept are loaded instead.  Call it before the first fit.  It holds
    for every program of this process, those of other libraries included, and nothing
    is deleted from the folder.

    Args:
        folder: Where programs are kept (`~` is your home); it is made if need be.

    Returns:
        The folder.

    Raises:
        InputError: The folder cannot be made.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("folder", f"is {path} ({error})", "a folder") from error
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path
