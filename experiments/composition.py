"""Composition: `configs/` and the command line in, plain settings out.

    configs/*.yaml + dataclass defaults + overrides -> compose -> settings.build

The defaults of the library's settings stay in its dataclasses: Hydra is given them as
a config of its own, so each can be overridden by name though no YAML repeats it.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import InputError, nearest_name, warn

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "config.yaml"
SECTIONS = {"graph": GraphConfig, "layout": LayoutConfig, "alignment": AlignmentConfig}
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, YAMLError)
GRID = "task.grid"
UNROLLED = "task.training.adjoint=unrolled"
NO_TEXT = ("true", "false", "null", "nan", "inf")  # in Hydra's grammar
# Settings of version 0.1; version 0.3 will not know them.
RENAMED = {
    "task.training.epochs": "task.training.unrolled.n_epochs",
    "task.training.last": "task.training.unrolled.last",
}


def dataclass_defaults() -> dict[str, dict[str, Any]]:
    """Returns every setting of the library's dataclasses with its default."""
    return {
        section: {field.name: field.default for field in dataclasses.fields(config)}
        for section, config in SECTIONS.items()
    }


def choices() -> dict[str, list[str]]:
    """Returns the groups of `configs/`, and the names of each one's choices."""
    groups: dict[str, list[str]] = {}
    for file in sorted(CONFIG.parent.glob("*/*.yaml")):
        groups.setdefault(file.parent.name, []).append(file.stem)
    return groups


def spelled(value: Any) -> str:
    """Returns a value as Hydra's grammar has it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {spelled(v)}' for name, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(spelled, value))}]"
    text = "null" if value is None else str(value)
    plain = re.fullmatch(r"[A-Za-z][\w.-]*|\d+", text) and text.lower() not in NO_TEXT
    if plain or not isinstance(value, str):
        return text
    escaped = _escaped(text, r'"|\$\{')
    escaped = re.sub(r"(\\+)\Z", r"\1\1", escaped).replace("\t", r"\t")
    return f'"{escaped}"'


def literal(value: Any) -> Any:
    """Returns settings whose texts OmegaConf reads as they are, `${` included."""
    if isinstance(value, Mapping):
        return {name: literal(v) for name, v in value.items()}
    if isinstance(value, list):
        return [*map(literal, value)]
    return _escaped(value, r"\$\{") if isinstance(value, str) else value


def _escaped(text: str, signs: str) -> str:
    return re.sub(rf"(\\*)({signs})", r"\1\1\\\2", text)


def unknown(name: str, known: Sequence[str], kind: str = "setting") -> InputError:
    """Returns the error of a name that does not exist; it tells the nearest one."""
    expected = f"the name of a {kind}"
    return InputError(name, f"is not a {kind}", expected, nearest_name(name, known))


def check_names(
    names: Iterable[str],
    known: Iterable[str],
    kind: str = "setting",
    above: str = "",
) -> None:
    """Checks that names exist below another; an error tells the nearest in full."""
    full = [f"{above}{name}" for name in known]
    for name in names:
        if f"{above}{name}" not in full:
            raise unknown(f"{above}{name}", full, kind)


def check_known(setting: str, value: Any, known: Sequence[str], kind: str) -> None:
    """Checks that a value is the name of something; an error tells the nearest one."""
    if value not in known:
        hint = nearest_name(str(value), known)
        raise InputError(setting, f"is {value!r}", f"the name of a {kind}", hint)


def compose(overrides: Sequence[str], config: Path = CONFIG) -> dict[str, Any]:
    """Returns the resolved settings: those of the config file, then the overrides.

    Args:
        overrides: In Hydra's grammar, such as `layout.min_dist=0.2`.
        config: The main config, or the `config.yaml` that an earlier run left.

    Raises:
        InputError: An override cannot be read, names no setting or no choice, or has
            several values; or a setting that must be given is missing.
    """
    if not config.is_file() or config.suffix != ".yaml":
        got = "no .yaml file" if config.exists() else "not there"
        expected = "the config.yaml of an earlier run"
        raise InputError("--config", f"is {config}, which is {got}", expected)
    _check_yaml(config)
    # No shell replaces this ~, and Hydra's grammar has no such sign.
    overrides = [text.replace("=~/", f"={Path.home()}/", 1) for text in overrides]
    overrides = [*_renamed(overrides)]
    for text in overrides:
        if _key(text).startswith(("hydra.", "hydra/")):
            got, expected = "is a setting of Hydra's", "-m beside it, which runs jobs"
            remedy = "Results go to the folder of results=FOLDER."
            raise InputError(_key(text), got, expected, remedy)
    if config == CONFIG:
        _check_choices(overrides)
    for text in overrides if config != CONFIG else ():
        if _key(text) in choices():
            expected = f"single settings beside {config}, which has the whole"
            remedy = f"As in {_key(text)}.NAME=VALUE."
            raise InputError(text, "names a file of settings", expected, remedy)
    grids = [text for text in overrides if f"{_key(text)}.".startswith(f"{GRID}.")]
    others = [text for text in overrides if text not in grids]
    with _explained(overrides, config):
        composed = _compose(others, config)
        for text in grids:
            _replace(composed, text)
        return composed


def _renamed(overrides: Sequence[str]) -> Iterator[str]:
    """Yields overrides by their present names, with a warning of former ones."""
    for text in overrides:
        name = _key(text)
        if name in RENAMED:
            warn(
                f"`{name}` is now `{RENAMED[name]}`, beside `{UNROLLED}`.",
                DeprecationWarning,
            )
            yield UNROLLED
        yield text.replace(name, RENAMED.get(name, name), 1)


def expanded(overrides: Sequence[str]) -> list[tuple[dict[str, str], list[str]]]:
    """Returns every combination of the values that overrides list, as `seed=0,1`.

    Each is the value of each swept name, and the overrides with one value each.

    Raises:
        InputError: An override cannot be read, or its values cannot be listed.
    """
    axes = [[*_values(text)] for text in overrides]
    full = [*map(_key, overrides)]
    swept = [name for name, axis in zip(full, axes, strict=True) if axis[0][0]]
    # The summary of the runs has a column `folder` of its own.
    last = {name: name.rpartition(".")[2] for name in full}
    columns = [*(last[name] for name in swept), "folder"]
    names = [name if columns.count(last[name]) > 1 else last[name] for name in full]
    return [
        (
            {name: v for name, (v, _) in zip(names, combined, strict=True) if v},
            [text for _, text in combined],
        )
        for combined in itertools.product(*axes)
    ]


def _values(text: str) -> Iterator[tuple[str, str]]:
    """Yields an override with each of its values, after the value if it has several."""
    with _explained([text], CONFIG):
        (parsed,) = OverridesParser.create().parse_overrides([text])
    name, _, listed = text.partition("=")
    if not parsed.is_sweep_override():
        yield "", text
        return
    try:
        values = [*parsed.sweep_string_iterator()]
    except HydraException as error:
        expected = "a list of values, as in seed=0,1,2 or seed=range(3)"
        raise InputError(_key(text), f"is {listed}", expected) from error
    for value in values:
        yield value, f"{name}={value}"


@contextmanager
def _explained(overrides: Sequence[str], config: Path) -> Iterator[None]:
    """Tells Hydra's errors in the words of the settings."""
    try:
        yield
    except OverrideParseException as error:
        raise _unreadable(error.override or "") from error
    except MissingMandatoryValue as error:
        name = error.full_key or ""
        remedy = f"Add {name}=..., which `--help {name}` explains."
        raise InputError(name, "must be given", "a value", remedy) from error
    except COMPOSITION_ERRORS as error:
        # Hydra has one class for all errors of composition.
        if isinstance(error, HydraException) and "--multirun" in str(error):
            expected = "one value; a list, with a value for each slice, stands in "
            expected += "brackets, as in layout.min_dist=[0.1,0.2]"
            got = f"does not compose: {_first_line(error)}"
            remedy = "Or add -m, which makes a run of each value."
            raise InputError("overrides", got, expected, remedy) from error
        _check_names(overrides, config)
        reason = _first_line(error) or _first_line(error.__cause__)
        got = f"is {config}, which does not compose: {reason.rstrip('.')}"
        raise InputError("--config", got, "settings") from error


def _key(text: str) -> str:
    """Returns the name of an override, without what stands before and behind it."""
    return text.lstrip("+~").partition("=")[0].partition("@")[0]


def _check_choices(overrides: Sequence[str]) -> None:
    groups = choices()
    for text in overrides:
        key, value = _key(text), text.partition("=")[2]
        if "=" not in text and not text.startswith("~"):
            raise _unreadable(text)
        if key in groups and value not in groups[key] and "," not in value:
            known = [f"{key}={name}" for name in groups[key]]
            hint = nearest_name(text, known)
            raise InputError(text, "is not a choice", f"one of {key}", hint)
    if not {"data", "experiment"} & {*map(_key, overrides)}:
        expected = "experiment=digits_sequence or data=table data.path=..."
        raise InputError("overrides", "name nothing to run", expected, "See --help.")


def _unreadable(text: str) -> InputError:
    named = [f"{group}={text}" for group, names in choices().items() if text in names]
    name, _, value = text.partition("=")
    remedy = "Quote a value that has commas, brackets, letters such as ö."
    if not value.isascii() and not {"'", '"'} & {*value}:
        remedy = f"Quote it: \"{name}='{value}'\"."
    if Path(text).suffix in (".csv", ".parquet"):
        named = [f"data=table data.path={text}"]
    remedy = f"Did you mean `{named[-1]}`?" if named else remedy
    expected = "name=value, as in layout.min_dist=0.2"
    return InputError(text, "cannot be read", expected, remedy)


def _replace(composed: dict[str, Any], text: str) -> None:
    """Sets a part of a grid: Hydra would merge it with what stands there."""
    *path, last = _key(text).split(".")
    section = composed
    for name in path:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            got = f"is inside of `{name}`, which is {section!r}"
            remedy = f"Did you mean {name}.name={section}?" if name == "task" else ""
            raise InputError(text, got, "a name with parts", remedy)
    if text.startswith("~"):
        section.pop(last, None)
        return
    with hydra.initialize_config_dir(str(CONFIG.parent), version_base="1.3"):
        parsed = hydra.compose(None, [f"+{text.lstrip('+')}"])
    value = OmegaConf.select(parsed, _key(text))
    is_tree = OmegaConf.is_config(value)
    section[last] = OmegaConf.to_container(value) if is_tree else value


def _check_yaml(config: Path) -> None:
    """Refuses a file that grows while it is read: references of references of ..."""
    try:
        text = config.read_text(encoding="utf-8")
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                got = f"is {config}, which refers to itself (*{event.anchor})"
                raise InputError("--config", got, "a config that an earlier run left")
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        reason = _first_line(error)
        if isinstance(error, MarkedYAMLError) and error.problem_mark:
            reason = f"line {error.problem_mark.line + 1}: {error.problem}"
        got = f"is {config}, which cannot be read ({reason})"
        raise InputError("--config", got, "YAML") from error


def _compose(
    overrides: Sequence[str], config: Path, *, resolve: bool = True
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


def _check_names(overrides: Sequence[str], config: Path) -> None:
    """Raises for the first override whose name does not exist."""
    groups = choices() if config == CONFIG else {}
    picked = [text for text in overrides if _key(text) in groups]
    with suppress(*COMPOSITION_ERRORS):
        known = _compose(picked, config, resolve=False)
        for text in overrides:
            if _key(text) not in groups and not text.startswith("+"):
                _check_path(_key(text).split("."), known)


def _check_path(path: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises where a dotted name leaves the settings that there are."""
    section: Any = settings
    for depth, name in enumerate(path):
        above = ".".join(path[:depth])
        if not isinstance(section, Mapping):
            hint = f"`{above}` is one."
            raise InputError(".".join(path), "is not a setting", "a setting", hint)
        if name not in section:
            # The section may be missing, or the name misspelt within it.
            inside = [s for s, _ in dotted(settings) if s.endswith(f".{name}")]
            if inside:
                raise unknown(".".join(path), inside)
            names = [".".join([*path[:depth], str(other)]) for other in section]
            raise unknown(".".join(path[: depth + 1]), names)
        section = section[name]


def dotted(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yields settings by their full names, such as "graph.n_neighbors"."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
