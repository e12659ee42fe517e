"""`-m`: the rows of a sweep as separate jobs, by whatever launcher Hydra has.

    python -m experiments.run -m experiment=digits_sweep hydra/launcher=ray

A job lays one row out and leaves it in the sweep's folder; when all have ended the
table and the pictures are made of what they left.  Of an experiment without a grid
Hydra makes the jobs, as of `seed=0,1,2`.
"""

import sys
from collections.abc import Sequence
from typing import Any, cast

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from aljax.selection import WEIGHT
from experiments import composition, settings
from experiments.interrupts import Interrupts
from experiments.tasks import selection

# The jobs' own folder of results is all they write.
QUIET = (
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
    "hydra.output_subdir=null",
)


def launch(overrides: Sequence[str]) -> None:
    """Run the jobs, and gather what they found.

    Raises:
        ValueError: Settings that are refused before the first job.
    """
    own = [text for text in overrides if not text.lstrip("+").startswith("hydra")]
    swept = composition.is_swept(own)
    if swept:
        composition.check_overrides(own)
        _launch([*overrides, *QUIET])
        return
    composed = selection.resolved(composition.compose(own))
    built = settings.build(composed)
    if built.task["name"] != "sweep":
        raise ValueError(
            "`-m` has a single job to run; expected a sweep (experiment=digits_sweep), "
            "or several values, as in seed=0,1,2."
        )
    from experiments.tasks.grid import expand

    count = len(expand(built.task["grid"]))
    results = built.results.resolve()  # jobs may start in another folder
    weight = f"alignment.{WEIGHT}={built.alignment.alignment_regularisation}"
    where = [f"results={results}", f"hydra.sweep.dir={results / built.name / 'jobs'}"]
    _launch([*overrides, *where, f"++task.row=range({count})", weight, *QUIET])
    job(OmegaConf.create(composed))


def job(config: DictConfig) -> None:
    """One job, perhaps in a process or on a machine of its own."""
    from experiments.tasks.perform import perform

    composed = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    composed = selection.resolved(composed)
    with Interrupts() as interrupts:
        perform(settings.build(composed), composed, interrupts)


def _launch(overrides: Sequence[str]) -> None:
    defaults = composition.dataclass_defaults()
    ConfigStore.instance().store("dataclass_defaults", defaults)
    main = hydra.main(
        config_path=str(composition.CONFIG.parent),
        config_name=composition.CONFIG.stem,
        version_base="1.3",
    )(job)
    given = sys.argv
    sys.argv = [given[0], "-m", *overrides]
    try:
        main()
    finally:
        sys.argv = given
