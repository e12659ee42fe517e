"""What a sweep lays out, and the settings that its rows replace."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import jax

from aljax.checks import instance, nearest_name
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.graph.relations import Relations
from aljax.layout.problem import LayoutParams, layout_params
from aljax.stages import Prepared, prepare

SECTIONS = {"graph": GraphConfig, "layout": LayoutConfig, "alignment": AlignmentConfig}


class SweepProblem(NamedTuple):
    """What is laid out: the arguments of `fit` that the settings start from.

    Attributes:
        slices: Data, neighbours or graphs.
        relations: Which rows are mates.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        visible: Which of the mates the layouts know of; None for all.
    """

    slices: Sequence[Any]
    relations: Any = None
    graph: GraphConfig = GraphConfig()
    layout: LayoutConfig = LayoutConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    visible: Callable[[Relations], Relations] | None = None

    def replaced(self, setting: Mapping[str, Any]) -> "SweepProblem":
        """The problem with some of its settings replaced, by name.

        Raises:
            ValueError: An unknown name (it says the nearest), or a value out of range.
        """
        sections = {section: getattr(self, section) for section in SECTIONS}
        for section, config in SECTIONS.items():
            names = {field.name for field in dataclasses.fields(config)}
            own = {name: value for name, value in setting.items() if name in names}
            sections[section] = dataclasses.replace(sections[section], **own)
        return self._replace(**sections)

    def prepared(self, key: jax.Array) -> Prepared:
        """Everything up to the first epoch."""
        return prepare(
            self.slices,
            self.relations,
            key=key,
            graph=self.graph,
            layout=self.layout,
            alignment=self.alignment,
            visible=self.visible,
        )

    def params(self) -> LayoutParams:
        """The settings that change no shape."""
        return layout_params(self.layout, self.alignment, slices=len(self.slices))


def check_problem(problem: Any) -> None:
    """Refuse what is no problem, such as its slices alone.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(problem, SweepProblem):
        raise ValueError(
            f"`problem` is a {type(problem).__name__}; expected a `SweepProblem`, as "
            "in SweepProblem(slices, relations)."
        )
    instance("problem.slices", problem.slices, Sized, "a list of arrays")


def check_settings(settings: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a sweep of no rows, or of settings that there are not.

    Raises:
        ValueError: It is one; it says the nearest name.
    """
    if not isinstance(settings, Sequence) or not len(settings):
        raise ValueError(
            f"`settings` is {settings!r}; expected at least one row, as in "
            '[{"alignment_regularisation": 0.1}, {"alignment_regularisation": 0.3}].'
        )
    known = [f.name for one in SECTIONS.values() for f in dataclasses.fields(one)]
    for row, setting in enumerate(settings):
        if not isinstance(setting, Mapping):
            raise ValueError(
                f"`settings[{row}]` is {setting!r}; expected a dict, as in "
                '{"alignment_regularisation": 0.1}.'
            )
        for name in setting:
            if name not in known:
                raise ValueError(
                    f"`settings[{row}]` names `{name}`, which is no setting: "
                    f"{nearest_name(str(name), known)}"
                )
