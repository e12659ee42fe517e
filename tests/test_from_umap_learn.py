"""The page for people who come from umap-learn says what the signatures say."""

import inspect
import re
from pathlib import Path

from helpers import import_umap

import aljax
from aljax.umap_parameters import OF_ONE_MAP, POINTLESS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "from_umap_learn.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*) \|$", re.MULTILINE)


def table() -> dict[str, tuple[str, str, str]]:
    """For each parameter umap-learn's default, the default here, and the note."""
    section = PAGE.read_text().split("## Parameters")[1].split("## Methods")[0]
    return {
        name: (theirs, ours, note) for name, theirs, ours, note in ROW.findall(section)
    }


def defaults(cls: type) -> dict[str, str]:
    return {
        name: f"`{parameter.default!r}`"
        for name, parameter in inspect.signature(cls).parameters.items()
    }


def test_every_parameter_here_has_its_row_with_its_default():
    ours = {name: row[1] for name, row in table().items()}
    assert ours == defaults(aljax.AlignedUMAP) | defaults(aljax.UMAP)


def test_every_parameter_of_umap_learn_has_its_row_with_its_default():
    umap = import_umap("umap")
    theirs = {name: row[0] for name, row in table().items() if row[0] != "not there"}
    assert theirs == defaults(umap.AlignedUMAP) | defaults(umap.UMAP)


def test_defaults_that_differ_are_those_that_the_page_gives_reasons_for():
    rows = {n: row for n, row in table().items() if row[0] != "not there"}
    differ = {n for n, row in rows.items() if eval(row[0][1:-1]) != eval(row[1][1:-1])}
    assert differ == {"alignment_regularisation", "learning_rate"}
    assert "Defaults differ in `alignment_regularisation` and `learning_rate`" in (
        PAGE.read_text()
    )


def test_what_does_nothing_or_is_refused_is_said_so():
    notes = {name: row[2] for name, row in table().items()}
    assert {n for n, note in notes.items() if note.startswith("does nothing")} == {
        *POINTLESS
    }
    errors = {n for n, note in notes.items() if " is an error:" in note}
    assert errors == {*OF_ONE_MAP}


def test_every_method_and_attribute_that_the_page_promises_is_there():
    text = PAGE.read_text()
    for name in ("fit", "fit_transform", "transform", "inverse_transform", "save"):
        assert f"{name}(" in text
        assert all(hasattr(one, name) for one in (aljax.UMAP, aljax.AlignedUMAP))
    for name in re.findall(r"\| `AlignedUMAP\.(\w+_)` \| same", text):
        assert f"{name}:" in str(aljax.AlignedUMAP.__doc__)
    for name in re.findall(r"\| `UMAP\.(\w+_)` \| same", text):
        assert f"{name}:" in str(aljax.UMAP.__doc__)
