"""`-m`: the rows of a sweep as separate jobs, by whatever launcher Hydra has.

    python -m experiments.run -m experiment=digits_sweep hydra/launcher=ray

A job lays one row out and leaves it in the sweep's folder; when all have ended the
table and the pictures are made of what they left.  Of an experiment without a grid
Hydra makes the jobs, as of `seed=0,1,2`.  Hydra's own command line is this module's.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from aljax.errors import InputError
from aljax.selection import WEIGHT
from experiments import composition, settings
from experiments.interrupts import Interrupts
from experiments.tasks import selection
from experiments.tasks.grid import expand
from experiments.tasks.perform import perform

# The jobs' own folder of results is all they write.
QUIET = (
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
    "hydra.output_subdir=null",
)


def launch(overrides: Sequence[str], interrupts: Interrupts) -> int:
    """Runs the jobs, gathers what they left, and returns the exit status."""
    ours = [text for text in overrides if not text.lstrip("+").startswith("hydra")]
    if composition.is_swept(ours):
        return _launch([*overrides, *QUIET], interrupts)
    composed = selection.resolved(composition.compose(ours))
    built = settings.build(composed)
    if built.task["name"] != "sweep":
        expected = "a sweep (experiment=digits_sweep), or several values, as seed=0,1,2"
        raise InputError("-m", "has a single job to run", expected)
    count = len(expand(built.task["grid"]))
    results = built.results.resolve()  # jobs may start in another folder
    weight = f"alignment.{WEIGHT}={built.alignment.alignment_regularisation}"
    where = [f"results={results}", f"hydra.sweep.dir={results / built.name / 'jobs'}"]
    rows = f"++task.row=range({count})"
    status = _launch([*overrides, *where, rows, weight, *QUIET], interrupts)
    if not status:
        perform(composed, interrupts)
    return status


def _launch(overrides: Sequence[str], interrupts: Interrupts) -> int:
    """Runs Hydra in a process of its own, and returns its exit status."""
    command = [sys.executable, "-m", "experiments.tasks.multirun", "-m", *overrides]
    with subprocess.Popen(command) as process:
        while True:
            try:
                status = process.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                # A terminal sends Ctrl-C to both processes.
                if interrupts.seen == signal.SIGTERM:
                    process.terminate()
    interrupts.check()
    return status


def job(config: DictConfig) -> None:
    """Runs one job, perhaps in a process or on a machine of its own."""
    composed = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    with Interrupts() as interrupts:
        perform(composed, interrupts)


if __name__ == "__main__":
    defaults = composition.dataclass_defaults()
    ConfigStore.instance().store("dataclass_defaults", defaults)
    folder, name = str(composition.CONFIG.parent), composition.CONFIG.stem
    hydra.main(version_base="1.3", config_path=folder, config_name=name)(job)()
