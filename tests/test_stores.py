"""Slices of zarr stores and Parquet files: what is read, and what is refused."""

import datetime
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import refused

from experiments.data import sources, stores
from experiments.run import main

fsspec = pytest.importorskip("fsspec", reason='pip install "aljax[stores]"')
pq = pytest.importorskip("pyarrow.parquet", reason='pip install "aljax[stores]"')
zarr = pytest.importorskip("zarr", reason='pip install "aljax[stores]"')
pa = pytest.importorskip("pyarrow")

DAY = datetime.datetime(2020, 1, 1)
EAST = datetime.timezone(datetime.timedelta(hours=2))
NAMES = ("week2", "week9", "week10")
pytestmark = pytest.mark.filterwarnings("ignore:The data type")


@pytest.fixture
def data(rng) -> dict[str, np.ndarray]:
    rows = [rng.normal(size=(size, 5)).astype(np.float32) for size in (30, 25, 28)]
    return dict(zip(NAMES, rows, strict=True))


@pytest.fixture
def ids(data) -> dict[str, np.ndarray]:
    return {name: np.arange(t, t + len(x)) for t, (name, x) in enumerate(data.items())}


@pytest.fixture
def store(data, ids, tmp_path) -> Path:
    return write(tmp_path / "store", data, ids)


def write(path, data, ids=None, labels=None, **options):
    """Writes a store; a path may be a store of zarr's."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name in sorted(data):  # as text, week10 comes first
        shape = {"chunks": (7, 2)} | options
        group.create_array(name, data=data[name], **shape)
    for kind, values in (("ids", ids), ("labels", labels)):
        part = group.create_group(kind) if values is not None else None
        for name in values or ():
            assert part is not None
            part.create_array(name, data=values[name])
    return path


def load(path, relations=None, **options):
    return sources.load("zarr", path=str(path), relations=relations, **options)


def load_refused(path, *words, name="data.path", **options):
    with refused(name, *words):
        load(path, **options)


@pytest.mark.parametrize(
    "chunks",
    [
        {"chunks": (7, 2)},
        {"chunks": (1, 5)},
        {"chunks": (1000, 1000)},
        {"chunks": (3, 2), "shards": (9, 4)},
    ],
)
@pytest.mark.parametrize("block", [1, stores.BLOCK])
def test_any_chunks_give_the_slices(data, ids, chunks, block, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "BLOCK", block)
    dataset = load(write(tmp_path / "store", data, ids, **chunks))
    assert dataset.titles == [*NAMES]
    for read, rows in zip(dataset.slices, data.values(), strict=True):
        np.testing.assert_array_equal(read, rows)
        assert read.dtype == np.float32
    for read, members in zip(dataset.ids, ids.values(), strict=True):
        np.testing.assert_array_equal(read, members)
    assert dataset.relations is dataset.ids


def test_urls_are_places_too(data, ids, store):
    memory = zarr.storage.FsspecStore.from_url("memory://aljax/store")
    write(memory, data, ids)
    for url in (f"file://{store}", "memory://aljax/store"):
        for read, rows in zip(load(url).slices, data.values(), strict=True):
            np.testing.assert_array_equal(read, rows)


def test_labels_and_ids_may_be_text(data, tmp_path):
    words = {
        name: np.array([f"m{i}" for i in range(len(x))]) for name, x in data.items()
    }
    dataset = load(write(tmp_path / "store", data, words, words))
    assert dataset.labels is not None
    assert dataset.ids[1][:3].tolist() == ["m0", "m1", "m2"]
    assert dataset.labels[2][-1] == "m27"


def test_relations_and_a_lone_array(data, tmp_path):
    path = tmp_path / "mates.json"
    path.write_text(json.dumps([{"0": 1}, {"2": 2}]))
    write(tmp_path / "store", data)
    assert load(tmp_path / "store", str(path)).relations == [{0: 1}, {2: 2}]
    load_refused(tmp_path / "store", "is null", name="data.relations")
    dataset = load(tmp_path / "store" / "week9")
    assert dataset.titles == ["week9"]
    np.testing.assert_array_equal(dataset.slices[0], data["week9"])


@pytest.mark.parametrize("kind", ["i1", "i8", "f2", "f8", "bool"])
def test_numbers_become_floats_as_in_fit(kind, tmp_path):
    rows = (np.arange(12).reshape(6, 2) % 5).astype(kind)
    (read,) = load(write(tmp_path / "store", {"a": rows})).slices
    assert read.dtype == (np.float64 if kind in ("i8", "f8") else np.float32)
    np.testing.assert_array_equal(read, rows)


def test_a_process_reads_its_own_slices(data, ids, store):
    for file in (store / "week2").rglob("c/*"):
        file.unlink(missing_ok=True) if file.is_file() else None
    asked = []

    def share(rows):
        asked.append(rows)
        return range(1, 3)

    dataset = sources.load_share(share, "zarr", path=str(store))
    assert asked == [{name: len(x) for name, x in data.items()}]
    assert [one.shape for one in dataset.slices] == [(30, 0), (25, 5), (28, 5)]
    np.testing.assert_array_equal(dataset.ids[0], ids["week2"])


def test_a_fit_makes_no_copy_of_what_was_read(store):
    from aljax.graph.slices import read_slices

    dataset = load(store)
    for given, read in zip(dataset.slices, read_slices(dataset.slices), strict=True):
        assert read.content is given


def test_places_without_a_store(data, tmp_path):
    load_refused(tmp_path / "nowhere", "nothing is there", "zarr store of format 3")
    load_refused("memory://nowhere/at/all", "nothing is there")
    load_refused("nonsense://x", "nonsense")
    (tmp_path / "notes.txt").touch()
    load_refused(tmp_path, "no zarr.json", "notes.txt")
    load_refused(tmp_path / "notes.txt", "is a file")
    old = zarr.open_group(tmp_path / "old", mode="w", zarr_format=2)
    old.create_array("a", data=data["week2"])
    load_refused(tmp_path / "old", "format 2", "zarr_format=3")
    zarr.open_group(tmp_path / "bare", mode="w", zarr_format=3)
    load_refused(tmp_path / "bare", "has no arrays")
    write(tmp_path / "none", {"a": np.zeros((0, 3))}, chunks=(1, 1))
    load_refused(tmp_path / "none", "no rows")
    (tmp_path / "bare" / "zarr.json").write_text("{")
    load_refused(tmp_path / "bare", "cannot be read")


@pytest.mark.skipif(sys.platform == "win32", reason="has no other users")
def test_a_store_that_may_not_be_read(store, monkeypatch):
    def closed(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)  # as root may read everything
    load_refused(store, "Permission denied")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros(5), ["shape (5,)"]),
        (np.zeros((2, 3, 4)), ["shape (2, 3, 4)"]),
        (np.zeros((3, 2), complex), ["complex"]),
        (np.array([["a", "b"]]), ["dtype"]),
    ],
)
def test_arrays_that_are_no_slices(rows, words, tmp_path):
    path = write(tmp_path / "store", {"a": rows}, chunks=rows.shape)
    load_refused(path, "of a in", *words)


def test_values_that_are_no_numbers(data, tmp_path):
    data["week9"][3, 1] = np.nan
    load_refused(write(tmp_path / "store", data), "week9", "row 3", "column 1")


def test_ids_that_do_not_fit(data, ids, tmp_path):
    path = tmp_path / "store"
    load_refused(write(path, data, ids | {"week9": np.arange(3)}), "ids/week9", "(3,)")
    del ids["week10"]
    load_refused(write(path, data, ids), "ids/week10", "is missing")
    floats = {name: np.arange(len(x)) / 2 for name, x in data.items()}
    load_refused(write(path, data, floats), "ids/week2", "whole numbers or text")


def test_chunks_that_were_never_written(data, tmp_path):
    path = tmp_path / "store"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for fill in (np.nan, 0.0):
        how = {"shape": (20, 5), "chunks": (7, 5), "dtype": "f4", "fill_value": fill}
        array = group.create_array("a", **how, overwrite=True)
        load_refused(path, "0 of its 3 chunks")
        array[:7] = 1 + data["week2"][:7]
        if np.isnan(fill):
            load_refused(path, "1 of its 3 chunks")
    with pytest.warns(UserWarning, match=r"1 of its 3 chunks: the rest is read as 0"):
        (read,) = load(path).slices
    assert not read[7:].any()


def test_files_beside_the_chunks_are_no_chunks(store):
    (store / "week9" / "c" / "0" / "0").rename(store / "week9" / "c" / "0" / ".copy")
    with pytest.warns(UserWarning, match=r"11 of its 12 chunks"):
        load(store)


def test_a_damaged_chunk_is_named(store):
    for content in (b"", b"nonsense", bytes(100)):
        (store / "week9" / "c" / "1" / "1").write_bytes(content)
        load_refused(store, "of week9 in", "cannot be read")


@pytest.mark.parametrize("change", ["chunk", "resized", "removed"])
def test_an_array_that_changes_while_it_is_read(store, change, monkeypatch):
    blocks = stores._blocks

    def changing(array):
        here = store / array.basename / "c" / "0" / "0"
        if array.basename == "week9" and change == "chunk":
            zarr.open_array(store / "week9", mode="r+")[0] = 7
        elif array.basename == "week9" and change == "resized":
            zarr.open_array(store / "week9", mode="r+").resize((60, 5))
        elif array.basename == "week9":
            here.unlink()
        return blocks(array)

    monkeypatch.setattr(stores, "_blocks", changing)
    load_refused(store, "of week9 changes while it is read")


@pytest.mark.parametrize("module", ["zarr", "fsspec.core", "pyarrow.parquet"])
def test_a_package_that_is_missing(store, folder, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with refused("data", f"needs {module.split('.')[0]}", "'aljax[stores]'"):
        parquet(folder) if "pyarrow" in module else load(store)


def parquet(path, **options):
    return sources.load("parquet", path=str(path), **options)


@pytest.fixture
def folder(data, ids, tmp_path) -> Path:
    place = tmp_path / "tables"
    place.mkdir()
    for name, rows in data.items():
        columns = {f"f{i}": rows[:, i] for i in range(5)}
        columns |= {"who": ids[name], "kind": ["a", "b", None] * 8 + ["c"] * 99}
        columns["kind"] = columns["kind"][: len(rows)]
        put(place, name, columns)
    return place


def put(place, name, columns):
    pq.write_table(pa.table(columns), place / f"{name}.parquet", row_group_size=10)


def test_parquet_files_give_the_slices(data, ids, folder, monkeypatch):
    monkeypatch.setattr(stores, "ROWS", 7)
    for path in (folder, f"file://{folder}"):
        dataset = parquet(path, id="who", label="kind")
        assert dataset.titles == [*NAMES]
        assert dataset.columns == ("f0", "f1", "f2", "f3", "f4")
        for read, rows in zip(dataset.slices, data.values(), strict=True):
            np.testing.assert_array_equal(read, rows)
        for read, members in zip(dataset.relations, ids.values(), strict=True):
            np.testing.assert_array_equal(read, members)
        assert dataset.labels is not None
        assert dataset.labels[0][:3].tolist() == ["a", "b", "unknown"]
    dataset = parquet(folder, id="who")
    assert dataset.notes == ("columns left out (1): kind (string)",)
    dataset = parquet(folder, id="who", features=["f3", "f1"])
    np.testing.assert_array_equal(dataset.slices[0], data["week2"][:, [3, 1]])


def test_parquet_columns_of_any_kind_are_labels_or_left_out(data, folder):
    for name, rows in data.items():
        count = len(rows)
        day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        columns = {
            "f": rows[:, 0],
            "group": pa.array((["a", "b"] * count)[:count]).dictionary_encode(),
            "member": pa.array([f"m{i}" for i in range(count)]).dictionary_encode(),
            "at": pa.array([day] * count, pa.timestamp("us", "UTC")),
            "hour": pa.array([datetime.time(1)] * count),
            "both": pa.array([{"a": 1}] * count),
        }
        put(folder, name, columns)
    dataset = parquet(folder, id="member", label="group")
    assert dataset.columns == ("f",)
    assert [note.split(":")[0] for note in dataset.notes] == ["columns left out (3)"]
    assert dataset.labels is not None
    assert dataset.labels[0][:3].tolist() == ["a", "b", "a"]
    assert dataset.relations[0][:2].tolist() == ["m0", "m1"]
    assert len(parquet(folder, id="member", label="at").slices) == 3


KINDS = {
    "gap": [1, 2, None, 4] * 10,
    "late gap": [1, 2, 3, 4] * 9 + [1, None, 3, 4],
    "bool": [True, False] * 20,
    "late no": [True, False] * 19 + [True, None],
    "day": [datetime.date(2020, 1, 1), datetime.date(2020, 2, 1)] * 20,
    "time": pa.array([DAY, datetime.datetime(2020, 2, 1, 9)] * 20, "timestamp[ns]"),
    "time and gap": pa.array([DAY, None] * 20, "timestamp[ns]"),
    "zone": [datetime.datetime(2020, 1, i + 1, tzinfo=EAST) for i in range(20)] * 2,
    "span": pa.array([datetime.timedelta(days=1)] * 40, "duration[ns]"),
    "bytes": [bytes([i, 0]) for i in range(20)] * 2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_has_the_labels_and_ids_of_a_table(kind, tmp_path):
    pytest.importorskip("pandas", reason="run: pip install pandas")
    columns = {"f": np.arange(40) ** 2.0, "year": [2019] * 20 + [2020] * 20}
    columns |= {"who": [*range(20)] * 2, "kind": KINDS[kind]}
    whole = pa.table(columns)
    pq.write_table(whole, tmp_path / "whole.parquet")
    parts = tmp_path / "parts"
    parts.mkdir()
    for t, year in enumerate((2019, 2020)):
        part = whole.slice(20 * t, 20).drop_columns("year")
        pq.write_table(part, parts / f"{year}.parquet")
    is_id = kind in ("zone", "bytes")
    named = {"id": "kind", "label": None} if is_id else {"id": "who", "label": "kind"}
    shared = {**named, "features": ["f"]}
    table = sources.load(
        "table", path=str(tmp_path / "whole.parquet"), slice="year", **shared
    )
    apart = parquet(parts, **shared)
    names = "ids" if is_id else "labels"
    pairs = [*zip(getattr(table, names), getattr(apart, names), strict=True)]
    for expected, values in pairs:
        assert values.dtype.kind == expected.dtype.kind
        np.testing.assert_array_equal(values, expected)
    words = {*np.concatenate([values for _, values in pairs]).tolist()}
    assert "2020-02-01 09:00:00" in words or kind != "time"
    assert "2020-01-01 00:00:00+02:00" in words or kind != "zone"
    assert r"b'\x01\x00'" in words or kind != "bytes"


def test_ids_that_are_text_in_one_file_are_text_in_all(data, ids, folder):
    columns = {f"f{i}": data["week9"][:, i] for i in range(5)}
    columns |= {"who": [*map(str, ids["week9"])], "kind": ["a"] * 25}
    put(folder, "week9", columns)
    dataset = parquet(folder, id="who")
    for read, members in zip(dataset.relations, ids.values(), strict=True):
        assert read.tolist() == [*map(str, members)]


def test_columns_are_brought_to_common_units_or_told(data, folder):
    wide = {name: rows * [1, 1, 1, 1, 1000] for name, rows in data.items()}
    for name, rows in wide.items():
        table = pq.read_table(folder / f"{name}.parquet")
        place = table.column_names.index("f4")
        table = table.set_column(place, "f4", pa.array(rows[:, 4].astype(float)))
        pq.write_table(table, folder / f"{name}.parquet")
    with pytest.warns(UserWarning, match=r"\('f4'\).*data.scale=standard"):
        parquet(folder, id="who")
    dataset = parquet(folder, id="who", scale="standard")
    together = np.concatenate(dataset.slices)
    np.testing.assert_allclose(together.std(axis=0), 1, rtol=1e-5)
    assert dataset.scaling is not None
    assert dataset.scaling.columns[0].unit[4] > 100
    shared = parquet_share(folder, lambda rows: range(len(rows)), scale="robust")
    assert (shared.scale, shared.scaling) == ("robust", None)  # those who fit scale
    assert parquet_share(folder, lambda rows: range(len(rows))).scale is None
    with refused("data.scale", "'stanard'"):
        parquet(folder, id="who", scale="stanard")
    with refused("data.id", "is null"):
        parquet(folder)


def parquet_share(path, share, **options):
    data = {"source": "parquet", "path": str(path), "id": "who"}
    return sources.load_share(share, **data, **options)


def test_a_column_that_is_named_twice_counts_once(folder):
    once, twice = (parquet(folder, id="who", features=["f1", *x]) for x in ([], ["f1"]))
    assert once.columns == twice.columns == ("f1",)
    np.testing.assert_array_equal(once.slices[0], twice.slices[0])


def test_parquet_files_that_are_refused(data, folder):
    def refuse(name, *words, **options):
        with refused(name, *words):
            parquet(folder, **{"id": "who"} | options)

    refuse("data.id", "'whom'", "`who`", id="whom")
    refuse("data.features", "'g'", "f0", features=["g"])
    refuse("data.features", "kind (string)", features=["f1", "kind"])
    columns = {f"f{i}": data["week9"][:, i] for i in range(5)}
    columns |= {"who": np.arange(25), "kind": ["a"] * 25}
    for change, words in (
        ({"f1": [*data["week9"][:24, 1], None]}, ["no value in row 24", "'f1'"]),
        ({"f1": ["x"] * 25}, ["lacks", "week2.parquet", "'f1'"]),
        ({"f5": np.zeros(25)}, ["beside", "'f5'"]),
        ({"f2": [np.nan] * 25}, ["week9.parquet", "row 0"]),
    ):
        put(folder, "week9", columns | change)
        refuse("data.path", *words)
    put(folder, "week9", columns | {"who": [None, *range(24)]})
    refuse("data.id", "1 rows without", "week9.parquet")
    put(folder, "week9", {name: one[:0] for name, one in columns.items()})
    assert [len(one) for one in parquet(folder, id="who").slices] == [30, 0, 28]
    whole = (folder / "week2.parquet").read_bytes()
    for content in (b"", whole[:-20], whole[:100] + whole[150:]):
        (folder / "week2.parquet").write_bytes(content)
        refuse("data.path", "week2.parquet", "cannot be read")
    with refused("data.path", "no .parquet"):
        parquet(folder.parent)
    with refused("data.path", "nothing is there"):
        parquet(folder / "nowhere")


def test_a_store_and_a_folder_run(store, folder, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["compilation_cache=null", "layout.n_epochs=0", "graph.n_neighbors=8"]
    assert main(["data=zarr", f"data.path={store}", *quick]) == 0
    extra = ["data.id=who", "data.label=kind"]
    assert main(["data=parquet", f"data.path={folder}", *extra, *quick]) == 0
    assert Path("results/parquet/maps.aljax").exists()
    capsys.readouterr()
    assert main(["data=zarr", "data.path=nowhere", *quick]) == 1
    assert capsys.readouterr().err.startswith("error: `data.path` is nowhere")
