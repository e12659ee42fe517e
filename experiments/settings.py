"""Settings: composed names and values in, a frozen dataclass out.

experiments.composition.compose -> build -> RunSettings
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig, number
from aljax.errors import nearest_name
from experiments.composition import SECTIONS, reject_name
from experiments.positions import InverseGrid, read_grid
from experiments.spread import SPREAD, check_spread

CHECKPOINTS = r"\.checkpoints(-\d+)?"  # ends the names of unfinished runs' folders

# What the configs of results from before there was such a setting do not have.
NEWER = {
    "task": {"name": "fit"},
    "resume": False,
    "checkpoint_epochs": None,
    "checkpoint_seconds": None,
}
SEEDS = 2**32  # larger ones would silently stand for smaller ones


@dataclass(frozen=True)
class RunSettings:
    """All that decides a run.

    Attributes:
        name: Names the folder of the results.
        seed: The run's key is `jax.random.key(seed)` (0 to 2^32 - 1).
        results: The folder in which each run makes its own.
        compilation_cache: Where compiled programs are kept; None keeps none.
        by_ids: Whether rows are related by their ids, whatever relations the data has.
        first: On how many slices the sequence is fitted, the others being appended
            one by one; None fits all at once.
        resume: Whether to go on with the run of the same name, data and settings that
            was stopped, if there is one.
        checkpoint_epochs: The layout is kept every so many epochs, or None.
        checkpoint_seconds: It is kept every so many seconds, or None.
        devices: How many devices share a fit; None for JAX's default device.
        distributed: Whether several processes share it, each on all of its devices.
        coordinator: Address of the first process, as in "10.0.0.1:9876"; None where
            the cluster says so.
        processes: How many there are; None likewise.
        process_id: Which one this is, from 0; None likewise.
        motion: Whether to draw how members move: curves, a film, an explorer.
        task: What is done with the data: `fit`, or another of `experiments.run`'s tasks
            with its options.
        data: What `datasets.load` takes: the source and its options.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        inverse: The grid of map positions that is drawn as data; None draws none.
    """

    name: str
    seed: int
    results: Path
    compilation_cache: Path | None
    by_ids: bool
    first: int | None
    resume: bool
    checkpoint_epochs: int | None
    checkpoint_seconds: float | None
    devices: int | None
    distributed: bool
    coordinator: str | None
    processes: int | None
    process_id: int | None
    motion: bool
    task: Mapping[str, Any]
    data: Mapping[str, Any]
    graph: GraphConfig
    layout: LayoutConfig
    alignment: AlignmentConfig
    inverse: InverseGrid | None


def build(settings: Mapping[str, Any]) -> RunSettings:
    """The frozen dataclasses of resolved settings.

    Raises:
        ValueError: An unknown name, or a value of the wrong type or out of range.
    """
    known = [field.name for field in dataclasses.fields(RunSettings)]
    settings = {**NEWER, **SPREAD, **settings}
    for name in settings:
        if name not in known:
            reject_name(name, known)
    for name in known:
        if name not in settings:
            raise ValueError(f"`{name}` is missing from the settings.")
    check_seed(settings["seed"])
    for name in ("name", "results"):
        _check_text(name, settings[name])
    if not re.fullmatch(r"\w[\w .+-]*", settings["name"]):
        raise ValueError(
            f"`name` is {settings['name']!r}; expected the name of a folder, of "
            "letters, digits, dots and dashes."
        )
    if re.search(CHECKPOINTS + "$", settings["name"]):
        raise ValueError(
            f"`name` is {settings['name']!r}; expected another end, for such folders "
            "are those of unfinished runs."
        )
    cache = settings["compilation_cache"]
    if cache is not None:
        _check_text("compilation_cache", cache)
    for name in ("by_ids", "motion", "resume"):
        if not isinstance(settings[name], bool):
            raise ValueError(f"`{name}` is {settings[name]!r}; expected true or false.")
    number(1, whole=True, optional=True)(
        "checkpoint_epochs", settings["checkpoint_epochs"]
    )
    number(0, open_low=True, optional=True)(
        "checkpoint_seconds", settings["checkpoint_seconds"]
    )
    first = settings["first"]
    if first is not None and (type(first) is not int or first < 1):
        raise ValueError(f"`first` is {first!r}; expected a number of slices or null.")
    check_spread(settings)
    data = settings["data"]
    if not isinstance(data, Mapping):
        raise ValueError(f"`data` is {data!r}; expected a source and its options.")
    task = settings["task"]
    if not isinstance(task, Mapping) or "name" not in task:
        raise ValueError(f"`task` is {task!r}; expected a name and its options.")
    sections = {name: _section(name, settings[name]) for name in SECTIONS}
    return RunSettings(
        name=settings["name"],
        seed=settings["seed"],
        results=Path(settings["results"]).expanduser(),
        compilation_cache=None if cache is None else Path(cache).expanduser(),
        by_ids=settings["by_ids"],
        first=first,
        resume=settings["resume"],
        checkpoint_epochs=settings["checkpoint_epochs"],
        checkpoint_seconds=settings["checkpoint_seconds"],
        **{name: settings[name] for name in SPREAD},
        motion=settings["motion"],
        task=task,
        data=data,
        inverse=read_grid(settings["inverse"]),
        **sections,
    )


def _section(name: str, given: Any) -> Any:
    """One of the library's dataclasses; its errors name the section, too."""
    if not isinstance(given, Mapping):
        raise ValueError(
            f"`{name}` is {given!r}; expected settings, as in "
            f"{name}.{dataclasses.fields(SECTIONS[name])[0].name}=..."
        )
    try:
        return SECTIONS[name](**given)
    except ValueError as error:
        said = str(error).replace("`", f"`{name}.", 1).replace("or None", "or null")
        raise ValueError(said) from error


def check_options(
    given: Mapping[str, Any], *, required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    """Refuse options of a task that there are not, or that are missing.

    Raises:
        ValueError: There is one; it says the nearest.
    """
    known = ["name", *required, *optional]
    for name in given:
        if name not in known:
            hint = nearest_name(f"task.{name}", [f"task.{other}" for other in known])
            raise ValueError(
                f"`task.{name}` is no setting of task {given['name']}: {hint}"
            )
    for name in required:
        if name not in given:
            raise ValueError(
                f"`task.{name}` is missing, which task {given['name']} needs; start "
                f"from the experiment that has it (grep -l 'name: {given['name']}' "
                "configs/experiment/*)."
            )


def check_seed(seed: Any) -> None:
    """Refuse what is no seed.

    Raises:
        ValueError: It is not a whole number from 0 to 2^32 - 1.
    """
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < SEEDS:
        raise ValueError(
            f"`seed` is {seed!r}; expected a whole number from 0 to {SEEDS - 1}."
        )


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"`{name}` is {value!r}; expected text.")
