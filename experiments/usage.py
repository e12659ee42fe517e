"""Writes the text of `--help`: the choices and all settings, read from configs."""

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from aljax.errors import InputError, nearest_name
from experiments.composition import CONFIG, SECTIONS, choices, dataclass_defaults
from experiments.data.files import own_files
from experiments.data.tables import own_table
from experiments.settings import RunSettings

HEAD = """\
Lay a sequence of data sets out as aligned maps, measure and draw them.

    python -m experiments.run experiment=digits_sequence
    python -m experiments.run data=files data.path=slices/ data.relations=relations.json
    python -m experiments.run experiment=digits_sequence layout.min_dist=0.2 seed=1
    python -m experiments.run experiment=digits_sweep    (with -m each row is a job)
    python -m experiments.run --config results/digits_sequence/config.yaml
    python -m experiments.run --reproduce results/digits_sequence   (the same bits?)
    python -m experiments.run experiment=digits_sequence resume=true   (after Ctrl-C)"""
TAIL = """\
Any setting is overridden as name=value; one that is per slice takes a list, such as
layout.min_dist=[0.1,0.2].  alignment.alignment_regularisation=auto chooses the weight
by hidden mates.  `--help experiment`, `--help data` and `--help task` say more of
these, `--help WORD` of settings with a word, help(aljax.LayoutConfig) in Python."""
GROUPS = ("experiment", "data", "layout")
WIDTH = 100
SENTENCE = 80  # letters; longer ones end at a comma


def usage(words: Sequence[str] = ()) -> str:
    """Returns the text of `--help`, or of `--help` with names of groups or words.

    Raises:
        InputError: No setting has such a word.
    """
    details = {"experiment": partial(_described, "experiment"), "data": _data}
    details["task"] = _tasks
    if words:
        return "\n\n".join(details.get(word, partial(_lines, word))() for word in words)
    groups = choices()
    names = [f"{group}={' '.join(groups[group])}" for group in GROUPS]
    lines = [textwrap.fill(text, WIDTH, subsequent_indent="    ") for text in names]
    sections = [HEAD, "\n".join(lines)]
    for group, documented in (("table", own_table), ("files", own_files)):
        values = _read(CONFIG.parent / "data" / f"{group}.yaml", "source")
        sections.append(_settings(f"data={group}:", "data.", values, documented))
    values = _read(CONFIG, "defaults")
    sections.append(_settings("Every run:", "", values, RunSettings))
    for section, values in dataclass_defaults().items():
        sections.append(_settings("", f"{section}.", values, SECTIONS[section]))
    return "\n\n".join([*sections, TAIL])


def _lines(word: str) -> str:
    """Returns the lines on settings that have a word.

    Raises:
        InputError: None has.
    """
    settings = [line for line in usage().splitlines() if re.match(r" {4}\S+=", line)]
    matching = [line for line in settings if word.casefold() in line.casefold()]
    if not matching:
        known = [line.split("=")[0].split(".")[-1].strip() for line in settings]
        expected = "experiment, data, task, or a word of a setting"
        raise InputError("--help", f"is {word!r}", expected, nearest_name(word, known))
    return "\n".join(matching)


def _settings(
    title: str, prefix: str, values: Mapping[str, Any], documented: Any
) -> str:
    """Returns a line for each setting: its default, and what its docstring says."""
    first_sentences = sentences(documented)
    shown = {
        f"{prefix}{name}={_as_yaml(v)}": first_sentences[name]
        for name, v in values.items()
    }
    return _section(title, shown)


def sentences(documented: Any) -> dict[str, str]:
    """Returns the first sentence on each argument or attribute, from a docstring."""
    text = inspect.getdoc(documented) or ""
    (listed,) = re.findall(r"(?ms)^(?:Attributes|Args):\n(.*?)(?=^\S|\Z)", text)
    entries = re.findall(r"(?ms)^    (\w[\w, ]*): (.*?)(?=^    \w|\Z)", listed)
    sentence_of = {}
    for names, description in entries:
        plain = re.sub(r" \([^)]*\)", "", " ".join(description.split()))
        first = re.split(r"(?<!\.)\.(?: |$)", plain)[0].replace("None", "null")
        for name in names.split(", "):
            beginning = re.match(rf"(.{{1,{SENTENCE}}})[;:,] ", first)
            sentence_of[name] = (
                beginning[1] if beginning and len(first) > SENTENCE else first
            )
    return sentence_of


def _described(group: str) -> str:
    """Describes each choice of a group by the first comment of its YAML file."""
    lines = {}
    for name in choices()[group]:
        text = (CONFIG.parent / group / f"{name}.yaml").read_text()
        comments = re.findall(r"(?m)^# (?!@package)(.*)", text)
        lines[f"{group}={name}"] = next(iter(comments), "")
    return _section(f"{group}:", lines)


def _data() -> str:
    """Describes each choice of `data`, and lists its settings with their defaults."""
    listed = {}
    for name in choices()["data"]:
        options = _read(CONFIG.parent / "data" / f"{name}.yaml", "source")
        words = [f"data.{key}={_as_yaml(value)}" for key, value in options.items()]
        if words:
            listed[f"data={name}"] = " ".join(words)
    settings = _section("Their settings (??? has to be given):", listed)
    return "\n\n".join([_described("data"), settings])


def _read(path: Path, left_out: str) -> dict[str, Any]:
    """Returns the settings of a YAML file but one, as they stand there."""
    settings = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(settings, dict)
    return {str(name): v for name, v in settings.items() if name != left_out}


def _tasks() -> str:
    """Returns the first line of each task's module, which is read but not imported."""
    from experiments.tasks.perform import TASKS

    folder = Path(__file__).parent / "tasks"
    lines = {
        name: (folder / f"{name}.py").read_text().splitlines()[0].strip('"')
        for name in TASKS
    }
    return _section("task.name (set by an experiment):", lines)


def _section(title: str, lines: Mapping[str, str]) -> str:
    width = max(map(len, lines)) + 2
    shown = [f"    {name:<{width}}{words}" for name, words in lines.items()]
    return "\n".join([title, *shown] if title else shown)


def _as_yaml(value: Any) -> str:
    text = {None: "null", True: "true", False: "false"}
    return text[value] if value is None or isinstance(value, bool) else str(value)
