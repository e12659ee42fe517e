"""Data of R's packages: how they are read, and what is known of them from elsewhere."""

import gzip
import lzma
import zlib

import numpy as np
import pytest

from aljax.errors import InputError
from experiments.data import r_files, senate, sources


def lies(*packages: str) -> pytest.MarkDecorator:
    """Skips a test where a package of R is missing, and says how to install it."""
    places = r_files.libraries()
    there = [any((p / name / "data").is_dir() for p in places) for name in packages]
    debs = " ".join(f"r-cran-{name.lower()}" for name in packages)
    return pytest.mark.skipif(not all(there), reason=f"apt-get install {debs}")


@pytest.fixture
def library(tmp_path):
    """A library of R with a package, whose data lie in each of the forms there are."""
    rdata = pytest.importorskip("rdata", reason="pip install rdata")
    pd = pytest.importorskip("pandas", reason="pip install pandas")
    place = tmp_path / "toy" / "data"
    place.mkdir(parents=True)

    def written(value: object) -> bytes:
        rdata.write_rds(tmp_path / "value.rds", value, compression=None)
        return (tmp_path / "value.rds").read_bytes()

    raw = {name: written(pd.DataFrame({name: [1.0, 2.0]})) for name in ("zip", "xz")}
    packed = {
        "zip": zlib.compress(raw["zip"]),
        "xz": b"Z" + lzma.compress(raw["xz"], lzma.FORMAT_RAW, filters=r_files.XZ),
    }
    database, where = b"", {}
    for name, content in packed.items():
        where[name] = np.array([len(database), len(content) + 4], np.int32)
        database += len(raw[name]).to_bytes(4, "big") + content
    (place / "Rdata.rdb").write_bytes(database)
    index = written({"variables": where})
    (place / "Rdata.rdx").write_bytes(gzip.compress(index))
    rdata.write_rda(place / "plain.rda", {"plain": pd.DataFrame({"plain": [1.0, 2.0]})})
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "zip", "xz"])
def test_data_are_read_in_each_form(library, name, monkeypatch):
    frame = r_files.r_data("toy", name, str(library))
    assert frame[name].tolist() == [1.0, 2.0]
    monkeypatch.setenv("R_LIBS", f"nowhere:{library}")
    assert r_files.r_data("toy", name, None).equals(frame)


@pytest.mark.parametrize("name", ["plain.rda", "Rdata.rdb", "Rdata.rdx"])
def test_damaged_data_are_named(library, name):
    file = library / "toy" / "data" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for data in ("plain",) if name == "plain.rda" else ("xz",):
        with pytest.raises(InputError) as error:
            r_files.r_data("toy", data, str(library))
        assert error.value.name == "data.folder"
        assert str(file.parent) in error.value.got


def test_data_that_are_not_there_are_named(library):
    with pytest.raises(InputError) as error:
        r_files.r_data("toy", "other", str(library))
    assert (error.value.name, "other" in error.value.got) == ("data.folder", True)


@pytest.mark.parametrize(
    ("source", "deb"), [("countries", "r-cran-pwt9"), ("senate", "r-cran-mcmcpack")]
)
def test_a_missing_package_is_said_with_both_ways_to_get_it(tmp_path, source, deb):
    pytest.importorskip("rdata", reason="pip install rdata")
    options = {"votes": 80} if source == "senate" else {}
    with pytest.raises(InputError) as error:
        sources.load(source, folder=str(tmp_path), **options)
    assert error.value.name == "data.folder"
    for command in ("apt-get install", "apt-get download"):
        assert f"{command} {deb}" in str(error.value)


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
        "1 poorest quarter",
        "4 richest quarter",
    ]
    assert label("CHN", 1960) == "1 poorest quarter"
    assert label("VEN", 1960) == "4 richest quarter"
    assert label("VEN", 2017) == "2"
    assert {label("USA", year) for year in range(1950, 2018)} == {"4 richest quarter"}
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
        centers = [rows[labels == p].mean(axis=0) for p in ("Republican", "Democrat")]
        to_right, to_left = (np.linalg.norm(rows - one, axis=1) for one in centers)
        left = to_left < to_right
        with_party = left == (labels == "Democrat")
        assert with_party[labels != "Independent"].mean() >= 0.96
        crossed.append(left[ids.tolist().index("JEFFORDS 14240")])
    assert sum(crossed[:8]) <= 1
    assert all(crossed[8:])
