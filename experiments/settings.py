"""Settings: `configs/` and the command line in, frozen dataclasses out.

    configs/*.yaml + dataclass defaults + overrides -> compose -> build -> RunSettings

The defaults of the library's settings stay in its dataclasses: Hydra is given them as
a config of its own, so each can be overridden by name though no YAML repeats it.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from aljax.checks import nearest_name, number
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from experiments.positions import InverseGrid, read_grid
from experiments.spread import SPREAD, check_spread

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "config.yaml"
SECTIONS = {"graph": GraphConfig, "layout": LayoutConfig, "alignment": AlignmentConfig}
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, YAMLError)
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


def dataclass_defaults() -> dict[str, dict[str, Any]]:
    """Every setting of the library's dataclasses with its default."""
    return {
        section: {field.name: field.default for field in dataclasses.fields(config)}
        for section, config in SECTIONS.items()
    }


def choices() -> dict[str, list[str]]:
    """The groups of `configs/`, and what each has to choose from."""
    found: dict[str, list[str]] = {}
    for file in sorted(CONFIG.parent.glob("*/*.yaml")):
        found.setdefault(file.parent.name, []).append(file.stem)
    return found


def compose(overrides: Sequence[str], config: Path = CONFIG) -> dict[str, Any]:
    """The resolved settings: the config file, then the overrides.

    Args:
        overrides: In Hydra's grammar, such as `layout.min_dist=0.2`.
        config: The main config, or the `config.yaml` that an earlier run left.

    Raises:
        ValueError: An override that cannot be read, names no setting or no choice,
            or has several values; a setting that must be given and is not.
    """
    if not config.is_file() or config.suffix != ".yaml":
        raise ValueError(
            f"`--config` is {config}, which is no .yaml file; expected the config.yaml "
            "of an earlier run."
        )
    _check_yaml(config)
    # No shell replaces this ~, and Hydra's grammar has no such sign.
    overrides = [text.replace("=~/", f"={Path.home()}/", 1) for text in overrides]
    groups = choices() if config == CONFIG else {}
    parsed = [_parse(text, groups) for text in overrides]
    if groups and not any(o.key_or_group in ("data", "experiment") for o in parsed):
        raise ValueError(
            "nothing to run; expected experiment=digits_sequence or data=files "
            "data.path=... (--help lists all)."
        )
    try:
        return _compose(overrides, config, resolve=True)
    except MissingMandatoryValue as error:
        name = error.full_key
        raise ValueError(f"`{name}` must be given: add {name}=...") from error
    except COMPOSITION_ERRORS as error:
        _check_names(parsed, config, groups)
        reason = _first_line(error) or _first_line(error.__cause__)
        raise ValueError(f"{config} does not compose: {reason}") from error


def _check_yaml(config: Path) -> None:
    """Refuse a file that grows while it is read: references of references of ..."""
    try:
        text = config.read_text(encoding="utf-8")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(
                    f"{config} refers to itself (*{event.anchor}); expected a config "
                    "that an earlier run left, which never does."
                )
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} does not compose: {_first_line(error)}") from error


def is_swept(overrides: Sequence[str]) -> bool:
    """Whether an override has several values, for Hydra to make jobs of.

    Raises:
        ValueError: One cannot be read.
    """
    parser = OverridesParser.create()
    try:
        return any(
            parser.parse_override(text).is_sweep_override() for text in overrides
        )
    except HydraException as error:
        raise ValueError(f"`{overrides}` cannot be read: {error}") from error


def _compose(
    overrides: Sequence[str], config: Path, *, resolve: bool
) -> dict[str, Any]:
    ConfigStore.instance().store("dataclass_defaults", dataclass_defaults())
    folder = str(config.parent.resolve())
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        composed = hydra.compose(config.stem, [*overrides])
    settings = OmegaConf.to_container(
        composed, resolve=resolve, throw_on_missing=resolve
    )
    return cast(dict[str, Any], settings)


def _first_line(error: BaseException | None) -> str:
    return next(iter(str(error).splitlines()), "")


def _parse(text: str, groups: Mapping[str, Sequence[str]]) -> Override:
    """One override, whose choice is known if it is a choice."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        named = [f"{group}={text}" for group in groups if text in groups[group]]
        hint = f"; did you mean `{named[-1]}`?" if named else ""
        raise ValueError(
            f"`{text}` cannot be read; expected name=value, as in layout.min_dist=0.2 "
            f"(quote a value that has commas, brackets or the like){hint}"
        ) from error
    key = override.key_or_group
    if override.is_sweep_override():
        raise ValueError(
            f"`{text}` has several values; expected one. A list, with a value for "
            f"each slice, stands in brackets: {key}=[0.1,0.2]."
        )
    if key in groups and override.value() not in groups[key]:
        named = [f"{key}={name}" for name in groups[key]]
        raise ValueError(f"`{text}` is not a choice: {nearest_name(text, named)}")
    return override


def _check_names(
    overrides: Sequence[Override], config: Path, groups: Mapping[str, Sequence[str]]
) -> None:
    """Raise for the first override whose name is no setting."""
    picked = [o.input_line or "" for o in overrides if o.key_or_group in groups]
    with suppress(*COMPOSITION_ERRORS):
        known = _compose(picked, config, resolve=False)
        for override in overrides:
            if override.key_or_group not in groups and not override.is_add():
                _check_path(override.key_or_group.split("."), known)


def _check_path(path: Sequence[str], known: Any) -> None:
    """Raise where a dotted name leaves the settings that there are."""
    for depth, name in enumerate(path):
        above = ".".join(path[:depth])
        if not isinstance(known, Mapping):
            raise ValueError(f"`{'.'.join(path)}` is not a setting, but `{above}` is.")
        if name not in known:
            names = [".".join([*path[:depth], str(other)]) for other in known]
            _reject_name(".".join(path[: depth + 1]), names)
        known = known[name]


def _reject_name(name: str, known: Sequence[str]) -> None:
    raise ValueError(f"`{name}` is not a setting: {nearest_name(name, known)}")


def build(settings: Mapping[str, Any]) -> RunSettings:
    """The frozen dataclasses of resolved settings.

    Raises:
        ValueError: An unknown name, or a value of the wrong type or out of range.
    """
    known = [field.name for field in dataclasses.fields(RunSettings)]
    settings = {**NEWER, **SPREAD, **settings}
    for name in settings:
        if name not in known:
            _reject_name(name, known)
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
        raise ValueError(str(error).replace("`", f"`{name}.", 1)) from error


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
