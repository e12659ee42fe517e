"""Composition: `configs/` and the command line in, plain settings out.

    configs/*.yaml + dataclass defaults + overrides -> compose -> settings.build

The defaults of the library's settings stay in its dataclasses: Hydra is given them as
a config of its own, so each can be overridden by name though no YAML repeats it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
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
from yaml import MarkedYAMLError, YAMLError

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import nearest_name

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "config.yaml"
SECTIONS = {"graph": GraphConfig, "layout": LayoutConfig, "alignment": AlignmentConfig}
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, YAMLError)


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
        what = "no .yaml file" if config.exists() else "not there"
        raise ValueError(
            f"`--config` is {config}, which is {what}; expected the config.yaml of an "
            "earlier run."
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
    grids = [o for o in parsed if o.key_or_group.split(".")[:2] == ["task", "grid"]]
    others = [o.input_line or "" for o in parsed if o not in grids]
    try:
        composed = _compose(others, config, resolve=True)
        for override in grids:
            _replace(composed, override)
        return composed
    except MissingMandatoryValue as error:
        name = error.full_key
        raise ValueError(f"`{name}` must be given: add {name}=...") from error
    except COMPOSITION_ERRORS as error:
        _check_names(parsed, config, groups)
        reason = _first_line(error) or _first_line(error.__cause__)
        raise ValueError(f"{config} does not compose: {reason}") from error


def _replace(composed: dict[str, Any], override: Override) -> None:
    """Set a part of a grid: Hydra would merge it with what stands there."""
    *path, last = override.key_or_group.split(".")
    inside = composed
    for name in path:
        inside = inside.setdefault(name, {})
        if not isinstance(inside, dict):
            raise ValueError(f"`{override.input_line}`: `{name}` has no parts.")
    if override.is_delete():
        inside.pop(last, None)
    else:
        inside[last] = override.value()


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
    except MarkedYAMLError as error:
        where = error.problem_mark
        line = f"line {where.line + 1}: " if where else ""
        raise ValueError(f"{config} is no YAML: {line}{error.problem}.") from error
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} is no YAML: {_first_line(error)}.") from error


def is_swept(overrides: Sequence[str]) -> bool:
    """Whether an override has several values, for Hydra to make jobs of.

    Raises:
        ValueError: One cannot be read.
    """
    parser = OverridesParser.create()
    swept = False
    for text in overrides:
        try:
            swept |= parser.parse_override(text).is_sweep_override()
        except HydraException as error:
            raise ValueError(f"`{text}` cannot be read: {error}") from error
    return swept


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse names that are no settings, where Hydra itself will compose.

    Raises:
        ValueError: There is one; it says the nearest.
    """
    parser = OverridesParser.create()
    parsed = [parser.parse_override(text) for text in overrides]
    _check_names(parsed, CONFIG, choices())


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
            f"(quote a value that has commas, brackets, letters such as ö){hint}"
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
    every = known
    for depth, name in enumerate(path):
        above = ".".join(path[:depth])
        if not isinstance(known, Mapping):
            raise ValueError(f"`{'.'.join(path)}` is not a setting, but `{above}` is.")
        if name not in known:
            # The section may be missing, or the name misspelt within it.
            inside = [
                dotted for dotted in _dotted(every) if dotted.endswith(f".{name}")
            ]
            if inside:
                raise ValueError(
                    f"`{'.'.join(path)}` is not a setting: did you mean "
                    f"`{' or '.join(inside)}`?"
                )
            names = [".".join([*path[:depth], str(other)]) for other in known]
            reject_name(".".join(path[: depth + 1]), names)
        known = known[name]


def _dotted(known: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The full names of all settings that stand in a section."""
    for name, value in known.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def reject_name(name: str, known: Sequence[str]) -> None:
    """Refuse a name that is no setting.

    Raises:
        ValueError: Always; it says the nearest that is one.
    """
    raise ValueError(f"`{name}` is not a setting: {nearest_name(name, known)}")
