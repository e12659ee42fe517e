from typing import Any

import numpy as np
import pytest

from aljax import plot
from aljax.errors import InputError
from aljax.metrics import neighborhood_preservation
from aljax.plot.style import NAME

ROWS = 60
GROUPS = np.repeat([0, 1, 2], 20)
IDS = np.array([f"who {row}" for row in range(ROWS)])


def two_maps() -> list[np.ndarray]:
    """Three groups of twenty, of which rows 3 and 44 change places."""
    rng = np.random.default_rng(0)
    first = 20.0 * GROUPS[:, None] + rng.normal(size=(ROWS, 2))
    second = first + 0.01
    second[[3, 44]] = second[[44, 3]]
    return [first, second]


def named(panel) -> list[str]:
    marks = [one for one in panel.texts if one.get_gid() == NAME and one.get_visible()]
    return sorted(one.get_text() for one in marks if one.get_style() == "normal")


def test_rows_that_moved_against_their_neighbors_are_marked():
    maps = two_maps()
    figure = plot.compare(maps, labels=[GROUPS] * 2, ids=IDS, marked=2, n_neighbors=5)
    left, right = figure.axes
    assert named(left) == named(right) == ["who 3", "who 44"]
    assert left.get_xlim() == right.get_xlim()
    for panel, y in zip((left, right), maps, strict=True):
        rings = np.asarray(panel.collections[1].get_offsets())
        np.testing.assert_array_equal(np.sort(rings, axis=0), np.sort(y[[3, 44]], 0))
    assert len(figure.legends[0].get_texts()) == 3


def test_without_labels_the_colors_are_the_share_that_changed():
    first, second = two_maps()
    rows = np.arange(50)[::-1]  # and in another order
    figure = plot.compare(
        [first, first, second[rows]], 0, 2, ids=[IDS, IDS, IDS[rows]], n_neighbors=5
    )
    kept = neighborhood_preservation(
        first[:50], second[:50], n_neighbors=5, per_point=True
    )
    assert figure.get_suptitle().startswith(f"{1 - kept.mean():.0%} of each row's 5")
    assert [panel.get_title() for panel in figure.axes[:2]] == ["0", "2"]
    assert figure.axes[-1].get_ylim() == pytest.approx(
        ((1 - kept).min(), (1 - kept).max())
    )


@pytest.mark.parametrize("columns", [3, 6])
def test_neighbors_in_the_data_count_where_these_are_passed(columns, rng):
    data = [rng.normal(size=(ROWS, columns)) for _ in range(2)]
    figure = plot.compare(two_maps(), ids=IDS, data=data, n_neighbors=7)
    kept = neighborhood_preservation(*data, n_neighbors=7)
    assert figure.get_suptitle().startswith(f"{1 - kept:.0%} of each row's 7")


def test_a_slice_without_rows_may_lie_between_the_two():
    first, second = two_maps()
    maps, ids = [first, np.zeros((0, 2)), second], [IDS, [], IDS]
    figures = [
        plot.compare(maps, ids=ids, data=data, n_neighbors=5) for data in (None, maps)
    ]
    assert figures[0].get_suptitle() == figures[1].get_suptitle()


MAPS = two_maps()
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"second": 0}, "second", "0, as `first`"),
    ({"second": 2}, "second", "2"),
    ({"first": 0.5}, "first", "0.5"),
    ({"marked": -1}, "marked", "-1"),
    ({"n_neighbors": 30}, "n_neighbors", "30 for 60"),
    ({"ids": [IDS, np.arange(ROWS)]}, "second", "no member with slice 0"),
    ({"data": 3}, "data", "an int"),
    ({"data": MAPS[:1]}, "data", "[60]"),
    ({"data": [MAPS[0], MAPS[1] * np.nan]}, "data[1]", "row 0"),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("options", "name", "words"), REFUSED)
def test_bad_input_is_refused(options, name, words):
    with pytest.raises(InputError) as refused:
        plot.compare(MAPS, **{"ids": IDS} | options)
    assert refused.value.name == name
    assert words in refused.value.got
