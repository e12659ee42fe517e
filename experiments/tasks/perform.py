"""Performs the task of a run, by its name."""

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aljax.compilation import enable_compilation_cache
from aljax.errors import InputError
from experiments.clocks import told_warnings
from experiments.composition import check_known
from experiments.interrupts import Interrupts
from experiments.results import contents
from experiments.results.folder import check_writable
from experiments.settings import build
from experiments.tasks import selection

# Each is a module beside this one, with a function `run`.
TASKS = (
    *("fit", "sweep", "alignment_weights", "feature_weights"),
    *("slice_metrics", "encoder", "readable"),
)


@told_warnings()
def perform(composed: Mapping[str, Any], interrupts: Interrupts) -> Path:
    """Does what `task` of the settings names, and returns the folder of the results."""
    settings = build(selection.without_auto(composed))
    name = settings.task["name"]
    check_known("task.name", name, TASKS, "task")
    if name != "fit" and settings.devices is not None:
        got = f"is {settings.devices}, but task {name} runs on one"
        remedy = "Devices share a fit (task.name=fit)."
        raise InputError("devices", got, "null", remedy)
    check_writable(settings.results)
    module = importlib.import_module(f"experiments.tasks.{name}")
    keep_compiled(settings.compilation_cache)
    settings, curve = selection.resolved(composed, interrupts)
    folder: Path = module.run(settings, interrupts)
    if curve is not None:
        selection.write(curve, folder / "selection", heading=settings.name)
        print("\n".join(contents.listed(folder, selection.FILES)))
    return folder


def keep_compiled(folder: Path | None) -> None:
    """Lets JAX keep what it compiles for the next run; warns where it cannot."""
    if folder is None:
        return
    try:
        enable_compilation_cache(folder)
    except InputError as error:
        warnings.warn(f"`compilation_cache` {error.got}: it is not kept", stacklevel=2)
