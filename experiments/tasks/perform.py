"""Performs the task of a run, by its name."""

import importlib
import warnings
from pathlib import Path
from typing import Any

from aljax.errors import InputError, nearest_name
from experiments.interrupts import Interrupts
from experiments.settings import RunSettings

# Each is a module beside this one, with a function `run`.
TASKS = ("fit", "sweep", "feature_weights", "encoder")


def perform(
    settings: RunSettings, composed: dict[str, Any], interrupts: Interrupts
) -> Path:
    """Does what `task` names, and returns the folder with the results.

    Raises:
        InputError: There is no such task, or the task refuses something.
    """
    keep_compiled(settings.compilation_cache)
    name = settings.task["name"]
    if name not in TASKS:
        hint = nearest_name(str(name), TASKS)
        raise InputError("task.name", f"is {name!r}", "the name of a task", hint)
    if name != "fit" and settings.devices is not None:
        got = f"is {settings.devices}, but task {name} runs on one"
        remedy = "Devices share a fit (task.name=fit)."
        raise InputError("devices", got, "null", remedy)
    module = importlib.import_module(f"experiments.tasks.{name}")
    return module.run(settings, composed, interrupts)


def keep_compiled(folder: Path | None) -> None:
    """Lets JAX keep what it compiles, however small, for the next run."""
    import jax

    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(f"`compilation_cache` is not kept: {error}", stacklevel=2)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
