"""Writes the text of `--help`: the choices and all settings, read from configs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.composition import CONFIG, choices, dataclass_defaults

HEAD = """\
Lay a sequence of data sets out as aligned maps, measure and draw them.

    python -m experiments.run experiment=digits_sequence
    python -m experiments.run data=files data.path=slices/ data.relations=relations.json
    python -m experiments.run experiment=digits_sequence layout.min_dist=0.2 seed=1
    python -m experiments.run experiment=digits_sweep
    python -m experiments.run -m experiment=digits_sweep    (each row a job of its own)
    python -m experiments.run --config results/digits_sequence/config.yaml
    python -m experiments.run --reproduce results/digits_sequence   (the same bits?)
    python -m experiments.run experiment=digits_sequence resume=true   (after Ctrl-C)"""
TAIL = """\
Any setting is overridden as name=value; one that is per slice takes a list, such as
layout.min_dist=[0.1,0.2].  alignment.alignment_regularisation=auto chooses the weight
by hidden mates.  For the meaning of the others: python -c "import aljax;
help(aljax.LayoutConfig)", and likewise GraphConfig and AlignmentConfig."""


def usage() -> str:
    """Returns the text of `--help`."""
    groups = choices()
    described = {
        group: {f"{group}={name}": _describe(group, name) for name in groups[group]}
        for group in ("experiment", "data", "layout")
    }
    sections = [HEAD]
    sections += [_section(f"{group}:", lines) for group, lines in described.items()]
    sections.append(_section("Of the data (??? has to be given):", _data_settings()))
    sections.append(_section("task.name (set by an experiment):", _tasks()))
    sections.append(_section("Settings and their defaults:", _read(CONFIG, "defaults")))
    for section, values in dataclass_defaults().items():
        named = {f"{section}.{name}": value for name, value in values.items()}
        sections.append(_section("", named))
    return "\n\n".join([*sections, TAIL])


def _describe(group: str, name: str) -> str:
    """Returns the first comment of a choice's YAML file."""
    for line in (CONFIG.parent / group / f"{name}.yaml").read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""


def _data_settings() -> dict[str, str]:
    """Lists the settings of each choice of `data`, with their defaults."""
    listed = {}
    for name in choices()["data"]:
        options = _read(CONFIG.parent / "data" / f"{name}.yaml", "source")
        words = [f"data.{key}={_as_yaml(value)}" for key, value in options.items()]
        if words:
            listed[f"data={name}"] = " ".join(words)
    return listed


def _read(path: Path, left_out: str) -> dict[str, Any]:
    """Returns the settings of a YAML file but one, as they stand there."""
    settings = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    assert isinstance(settings, dict)
    return {str(name): v for name, v in settings.items() if name != left_out}


def _tasks() -> dict[str, str]:
    """Returns the first line of each task's module, which is read but not imported."""
    from experiments.tasks.perform import TASKS

    folder = Path(__file__).parent / "tasks"
    return {
        name: (folder / f"{name}.py").read_text().splitlines()[0].strip('"')
        for name in TASKS
    }


def _section(title: str, lines: Mapping[str, Any]) -> str:
    width = max(map(len, lines)) + 2
    shown = [f"    {name:<{width}}{_as_yaml(value)}" for name, value in lines.items()]
    return "\n".join([title, *shown] if title else shown)


def _as_yaml(value: Any) -> str:
    return "null" if value is None else str(value)
