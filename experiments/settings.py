"""Settings: composed names and values in, a frozen dataclass out.

experiments.composition.compose -> build -> RunSettings
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from aljax.checks import Check, check_of, number
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import InputError
from experiments.composition import SECTIONS, check_names, literal

CHECKPOINTS = r"\.checkpoints(-\d+)?"  # ends the names of unfinished runs' folders
LONGEST = 200  # bytes of a name: most disks take 255 with what is put behind it
BY_HAND = ("coordinator", "processes", "process_id")


def _of(kind: Any, expected: str, *, optional: bool = False) -> Check:
    return check_of(lambda v: isinstance(v, kind) and v != "", expected, optional)


COUNT = number(1, whole=True, optional=True)
FLAG = _of(bool, "true or false")
# Larger seeds would silently stand for smaller ones.
check_seed = number(0, high=2**32 - 1, whole=True)
CHECKS = {
    "seed": check_seed,
    "checkpoint_seconds": number(0, open_low=True, optional=True),
    "timeout": number(0, open_low=True),
    "process_id": number(0, whole=True, optional=True),
    **dict.fromkeys(("first", "checkpoint_epochs", "devices", "processes"), COUNT),
    **dict.fromkeys(("name", "results"), _of(str, "text")),
    "compilation_cache": _of(str, "text", optional=True),
    **dict.fromkeys(("by_ids", "motion", "resume", "distributed"), FLAG),
    **dict.fromkeys(("data", *SECTIONS), _of(Mapping, "settings by name")),
    "task": check_of(
        lambda v: isinstance(v, Mapping) and "name" in v, "a name and its options"
    ),
}


@dataclass(frozen=True)
class InverseGrid:
    """A grid of map positions between four corners.

    Attributes:
        grid: Positions along each side (2 to 20).
        corners: Four positions, from the upper left by row; None takes points of the
            map far out along its diagonals.
    """

    grid: int = 10
    corners: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All settings of a run; those with a default are missing in configs of old.

    Attributes:
        name: Names the folder of the results.
        seed: The run's key is `jax.random.key(seed)` (0 to 2^32 - 1).
        results: The folder in which each run makes its own.
        compilation_cache: The folder of compiled programs; None keeps none.
        by_ids: Relates rows by their ids, whatever relations the data has.
        first: Fits this many slices, and appends the others one by one; None fits all
            at once.
        resume: Goes on with the run of the same name, data and settings that was
            stopped, if there is one.
        checkpoint_epochs: Epochs between two checkpoints of the layout, or None.
        checkpoint_seconds: Seconds between two checkpoints of the layout, or None.
        devices: Devices that share a fit; None for JAX's default device.
        distributed: Shares the fit with other processes, each on all of its devices.
        coordinator: HOST:PORT of the first process; None where the cluster says so.
        processes: Number of processes; None likewise.
        process_id: This process, from 0; None likewise.
        timeout: Seconds that processes wait for each other: to meet, and for a sign of
            life.
        motion: Draws how members move: curves, a film, an explorer.
        task: One of `tasks.perform.TASKS` as `name`, and its options.
        data: The arguments of `data.sources.load`: a source and its options.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        inverse: The grid of map positions that is drawn as data; None draws none.
        composed: All of them by name.
    """

    name: str
    seed: int
    results: Path
    compilation_cache: Path | None
    by_ids: bool
    first: int | None
    resume: bool = False
    checkpoint_epochs: int | None = None
    checkpoint_seconds: float | None = None
    devices: int | None = None
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    timeout: float = 60
    motion: bool
    task: Mapping[str, Any]
    data: Mapping[str, Any]
    graph: GraphConfig
    layout: LayoutConfig
    alignment: AlignmentConfig
    inverse: InverseGrid | None
    composed: Mapping[str, Any]

    @property
    def configs(self) -> dict[str, Any]:
        """The sections that `aljax.fit` takes, by its names of them."""
        return {name: getattr(self, name) for name in SECTIONS}

    def save(self, folder: Path) -> None:
        """Writes `config.yaml`, which makes the same run again, from its start."""
        settings = literal({**self.composed, "resume": False})
        OmegaConf.save(OmegaConf.create(settings), folder / "config.yaml")


def build(settings: Mapping[str, Any]) -> RunSettings:
    """Returns the frozen dataclasses of resolved settings.

    Raises:
        InputError: A name is unknown, or a value of the wrong type or out of range.
    """
    *fields, _ = dataclasses.fields(RunSettings)
    defaults = {field.name: field.default for field in fields}
    check_names(settings, defaults)
    composed = {"task": {"name": "fit"}, **settings}
    settings = {**defaults, **composed}
    for name, value in settings.items():
        if value is MISSING:
            raise InputError(name, "is missing", "a value for each setting")
    with _told_in_yaml():
        for name, check in CHECKS.items():
            check(name, settings[name])
    _check_name(settings["name"])
    _check_processes(settings)
    cache = settings["compilation_cache"]
    return RunSettings(
        **settings
        | {name: _section(name, settings[name]) for name in SECTIONS}
        | {
            "results": Path(settings["results"]).expanduser(),
            "compilation_cache": None if cache is None else Path(cache).expanduser(),
            "inverse": read_grid(settings["inverse"]),
            "composed": composed,
        }
    )


@contextmanager
def _told_in_yaml(above: str = "") -> Iterator[None]:
    """Tells errors by the full names of the settings, and with YAML's null."""
    try:
        yield
    except InputError as error:
        expected = error.expected.replace("or None", "or null")
        full = f"{above}{error.name}"
        raise InputError(full, error.got, expected, error.remedy) from error


def _section(name: str, values: Mapping[str, Any]) -> Any:
    """Returns one of the library's dataclasses; its errors name the section, too."""
    known = [field.name for field in dataclasses.fields(SECTIONS[name])]
    check_names(values, known, above=f"{name}.")
    with _told_in_yaml(f"{name}."):
        return SECTIONS[name](**values)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w .+=,-]*", name):
        expected = "the name of a folder, of letters, digits, dots and dashes"
        raise InputError("name", f"is {name!r}", expected)
    if len(name.encode()) > LONGEST:
        got = f"has {len(name.encode())} bytes"
        raise InputError("name", got, f"at most {LONGEST}, for the name of a folder")
    if re.search(CHECKPOINTS + "$", name):
        expected = "another end, as such folders are those of unfinished runs"
        raise InputError("name", f"is {name!r}", expected)


def _check_processes(settings: Mapping[str, Any]) -> None:
    """Refuses an address and numbers of processes that do not go together."""
    present = [name for name in BY_HAND if settings[name] is not None]
    if not present:
        return
    if not settings["distributed"]:
        raise InputError(present[0], "is set", "distributed=true, too")
    if len(present) < len(BY_HAND):
        missing = next(name for name in BY_HAND if name not in present)
        expected = "all of coordinator=HOST:PORT processes=N process_id=I, or none of "
        expected += "them where SLURM, Open MPI or Kubernetes says them"
        raise InputError(missing, f"is null, but `{present[0]}` is not", expected)
    address, count, process = (settings[name] for name in BY_HAND)
    if not re.fullmatch(r".+:\d{1,5}", str(address)):
        expected = "HOST:PORT, as in 10.0.0.1:9876"
        raise InputError("coordinator", f"is {address!r}", expected)
    if process >= count:
        got = f"is {process}, but `processes` is {count}"
        raise InputError("process_id", got, f"0 to {count - 1}")


def read_grid(values: Any) -> InverseGrid | None:
    """Reads the section `inverse` of the settings.

    Raises:
        InputError: A name is unknown, the size out of range, or corners are not four.
    """
    if values is None:
        return None
    if not isinstance(values, Mapping) or not {*values} <= {"grid", "corners"}:
        expected = (
            "null, or its settings `grid` and `corners`, as in inverse={grid: 10}"
        )
        raise InputError("inverse", f"is {values!r}", expected)
    grid = InverseGrid(**values)
    number(2, high=20, whole=True)("inverse.grid", grid.grid)
    try:
        corners = np.zeros((4, 2)) if grid.corners is None else grid.corners
        places = np.asarray(corners, float)
    except (TypeError, ValueError):
        places = np.empty(0)
    if places.shape != (4, 2) or not np.isfinite(places).all():
        expected = "four positions [x, y] in the map, from the upper left by row"
        raise InputError("inverse.corners", f"is {grid.corners!r}", expected)
    return grid


def check_options(
    task: Mapping[str, Any], *, required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Checks the names of a task's options: none is unknown, and none is missing."""
    known, kind = ("name", *required, *optional), f"setting of task {task['name']}"
    check_names(task, known, kind, above="task.")
    for name in required:
        if name not in task:
            expected = f"a value, which task {task['name']} needs"
            remedy = "Start from the experiment that has it (grep -l "
            remedy += f"'name: {task['name']}' configs/experiment/*)."
            raise InputError(f"task.{name}", "is missing", expected, remedy)
