"""Runs of aljax from the command line: `python -m experiments` lists the commands."""

import atexit
import gc
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

# Before anything imports jax: on some hosts its compilation cache prints an alarming
# line about machine features for every program it loads, although each runs well.
# 1 is what jax sets itself, and a parent process may have passed it on.
if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

# A command ends half a second sooner if its objects are not collected before its memory
# is given back.
atexit.register(gc.freeze)

# The commands of version 0.1, which go on under their names for this release.
FORMER = {
    "automatic": "tasks.selection",
    "benchmark": "benchmarks.race",
    "evaluate": "evaluation.run",
    "everyday": "benchmarks.everyday",
    "gallery": "evaluation.gallery",
    "seeds": "benchmarks.seeds",
} | {
    f"{old}_{name}": f"{new}.{name}"
    for old, new, names in (
        ("benchmark", "benchmarks", "inverse layout resume scale stream sweep"),
        ("tutorial", "tutorials", "inverse sequences"),
    )
    for name in names.split()
}


class _FormerNames(MetaPathFinder):
    """Finds the command `python -m experiments.benchmark` where it is now."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        del path, target
        name = FORMER.get(fullname.removeprefix("experiments."))
        if name is None or not fullname.startswith("experiments."):
            return None
        # Python shows a user the warnings of `__main__` alone.
        warnings.warn_explicit(
            f"`{fullname}` is now `experiments.{name}`.",
            *(DeprecationWarning, fullname, 1, "__main__"),
        )
        file = Path(__file__).parent / f"{name.replace('.', '/')}.py"
        return spec_from_file_location(fullname, file)


sys.meta_path.append(_FormerNames())
