"""Data of R's packages: how they are found and read."""

import gzip
import lzma
import zlib

import numpy as np
import pytest

from aljax.errors import InputError
from experiments.data import packages, sources


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
        "xz": b"Z" + lzma.compress(raw["xz"], lzma.FORMAT_RAW, filters=packages.XZ),
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
    frame = packages.r_data("toy", name, str(library))
    assert frame[name].tolist() == [1.0, 2.0]
    monkeypatch.setenv("R_LIBS", f"nowhere:{library}")
    assert packages.r_data("toy", name, None).equals(frame)


@pytest.mark.parametrize("name", ["plain.rda", "Rdata.rdb", "Rdata.rdx"])
def test_damaged_data_are_named(library, name):
    file = library / "toy" / "data" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for data in ("plain",) if name == "plain.rda" else ("xz",):
        with pytest.raises(InputError) as error:
            packages.r_data("toy", data, str(library))
        assert error.value.name == "data.folder"
        assert str(file.parent) in error.value.got


def test_data_that_are_not_there_are_named(library):
    with pytest.raises(InputError) as error:
        packages.r_data("toy", "other", str(library))
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
