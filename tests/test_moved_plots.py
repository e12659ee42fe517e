"""Pictures in which members that were not called are gray."""

import json
import re
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from aljax import plot
from aljax.errors import InputError
from aljax.metrics.moved import Calls, Moves
from aljax.plot.colors import UNKNOWN, color_by, gray_out

SIZE, CALLED = 12, 4
GRAY = to_rgb(UNKNOWN)


@pytest.fixture(scope="module")
def maps():
    """Three maps in which the first members go farther from step to step."""
    first = np.random.default_rng(0).normal(size=(SIZE, 2))
    far = np.where(np.arange(SIZE)[:, None] < CALLED, 1.0, 3.0)
    return [first, first + far, first + 2 * far]


@pytest.fixture(scope="module")
def moves():
    """The first four were called, in the first step, though others go farther."""
    member = np.tile(np.arange(SIZE), 2)
    step = np.repeat([0, 1], SIZE)
    called = np.arange(SIZE) < CALLED
    return Moves(
        members=Calls(called.astype(float), called),
        steps=Calls(np.zeros(2 * SIZE), (step == 0) & called[member]),
        step=step,
        member=member,
        names=tuple(f"m{i}" for i in range(SIZE)),
        codes=[np.arange(SIZE)] * 3,
        q=0.1,
    )


def grays(colors) -> int:
    return int(np.isclose(np.asarray(colors)[:, :3], GRAY).all(axis=1).sum())


@pytest.mark.parametrize("kind", ["labels", "values", "none"])
def test_slices_gray_who_is_not_called(maps, moves, kind):
    column = [np.arange(SIZE) % 3] * 3
    by: Any = {} if kind == "none" else {kind: column}
    for panel in plot.slices(maps, moves=moves, **by).axes[:3]:
        assert grays(panel.collections[0].get_facecolor()) == SIZE - CALLED


def test_classes_and_values_of_the_grayed_are_unknown(moves):
    classes = color_by([np.arange(SIZE)] * 3, None, [SIZE] * 3)
    values = color_by(None, [np.arange(SIZE)] * 3, [SIZE] * 3)
    gray, faint = (gray_out(of, moves.rows()) for of in (classes, values))
    assert gray.codes is not None
    assert faint.values is not None
    assert [*gray.codes[1]] == [0, 1, 2, 3] + [-1] * (SIZE - CALLED)
    np.testing.assert_array_equal(np.isnan(faint.values[1]), ~moves.members.called)
    assert gray_out(classes, None) is classes


def test_displacement_names_called_steps_alone(maps, moves):
    (axis,) = plot.displacement(maps, moves=moves).axes
    dots = np.asarray(axis.collections[0].get_offsets())
    assert dots[:, 0].tolist() == [1] * CALLED
    named = {text.get_text() for text in axis.texts}
    assert named <= {"m0", "m1", "m2", "m3"}
    assert named


def test_a_film_grays_who_is_not_called(maps, moves, tmp_path):
    ids = [np.arange(SIZE)] * 3
    options = {"ids": ids, "fps": 1, "seconds": 1, "dpi": 20}
    figure = plot.animate(maps, tmp_path / "film.gif", moves=moves, **options)
    assert grays(figure.axes[0].collections[0].get_facecolor()) == SIZE - CALLED


def test_the_explorer_has_the_moves_and_a_switch(maps, moves, tmp_path):
    path = plot.explore(maps, tmp_path / "maps.html", ids=[[*moves.names]] * 3)
    assert '"moved":null' in path.read_text()
    path = plot.explore(
        maps, tmp_path / "maps.html", ids=[[*moves.names]] * 3, moves=moves
    )
    found = re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found
    content = json.loads(found.group(1))
    column = next(of for of in content["columns"] if of["name"] == "moves")
    assert column["classes"] == ["moved", "not called"]
    assert content["moved"]["rows"][1:] == ["", ""]  # as in the first slice


def test_moves_of_other_maps_are_refused(maps, moves):
    for draw in (plot.slices, plot.displacement):
        with pytest.raises(InputError) as error:
            draw([rows[1:] for rows in maps], moves=moves)
        assert error.value.name == "moves"
        assert "[12, 12, 12] rows" in error.value.got
