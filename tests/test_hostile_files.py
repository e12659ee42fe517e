"""Files that are cut, altered, forged or far too large: refused, and nothing else."""

import dataclasses
import gzip
import io as streams
import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import make_data, make_relations, refused
from test_io import edited, rewrite

import aljax
from aljax import files as io
from experiments import composition, settings
from experiments.data import archives, files, tables
from experiments.data.archives import read_npy, read_npz
from experiments.data.fashion import read_idx
from experiments.evaluation import run

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)
SIZES = (6, 6)


def altered(content: bytes) -> Iterator[bytes]:
    """The content cut at every length, then with every byte another."""
    for length in range(len(content)):
        yield content[:length]
    for place in range(len(content)):
        wrong = bytearray(content)
        wrong[place] ^= (0x01, 0x80, 0xFF, 0x20)[place % 4]
        yield bytes(wrong)


def outcomes(
    path: Path, read: Callable[[], Any], said: str, contents: Iterator[bytes]
) -> list[Any]:
    """What is read of altered files; the others were refused by name."""
    found = []
    for content in contents:
        path.write_bytes(content)
        try:
            found.append(read())
        except ValueError as error:
            if said not in str(error):
                raise AssertionError(f"it does not say {said}") from error
    return found


def npy(array: np.ndarray, **options: Any) -> bytes:
    content = streams.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


def npz(*arrays: np.ndarray) -> bytes:
    content = streams.BytesIO()
    np.savez_compressed(content, *arrays)
    return content.getvalue()


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = streams.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as opened:
        for name, member in members.items():
            opened.writestr(name, member)
    return content.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    """A `.npy` that declares an array of doubles and holds 16 bytes."""
    said = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    text = said.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16)


class Trap:
    """An object whose pickle makes a folder where it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder / "sprung"),)


@pytest.fixture
def trap(tmp_path) -> Iterator[np.ndarray]:
    yield np.array([[Trap(tmp_path)]], dtype=object)
    assert not (tmp_path / "sprung").exists()


@pytest.fixture(scope="module")
def model() -> aljax.AlignedEmbedding:
    return aljax.fit(
        [one[:, :2] for one in make_data(SIZES)],
        make_relations(SIZES, related=3),
        key=jax.random.key(0),
        graph=aljax.GraphConfig(n_neighbors=3),
        layout=aljax.LayoutConfig(n_epochs=0),
    )


def test_a_value_that_is_cut_or_altered_is_refused_or_the_same(tmp_path):
    path = tmp_path / "it"
    io.write(path, "it", {"a": ROWS[:2], "b": [1, None]})
    found = outcomes(
        path, lambda: io.read(path, "it"), "`path` is", altered(path.read_bytes())
    )
    for value in found:
        assert value["b"] == [1, None]
        np.testing.assert_array_equal(value["a"], ROWS[:2])


@pytest.mark.parametrize(
    ("name", "content"), [("a.npy", npy(ROWS[:2])), ("a.npz", npz(ROWS[:2], ROWS[:1]))]
)
def test_data_that_are_cut_or_altered_are_refused_or_numbers(name, content, tmp_path):
    path = tmp_path / name
    found = outcomes(
        path, lambda: files.read_data(str(path)), "`data.path`", altered(content)
    )
    for slices in found:
        assert all(np.isfinite(one).all() and one.ndim == 2 for one in slices.values())


def test_relations_that_are_cut_are_refused(tmp_path):
    path = tmp_path / "mates.json"
    content = json.dumps([{"0": 1, "3": 2}]).encode()
    slices = {"a": ROWS, "b": ROWS}
    found = outcomes(
        path,
        lambda: files.read_relations_file(str(path), slices),
        "`data.relations`",
        altered(content),
    )
    for (relation,) in found:
        assert all(0 <= r < 6 and 0 <= s < 6 for r, s in relation.items())


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
def test_images_that_are_cut_or_altered_are_refused_or_bytes(pack, tmp_path):
    path = tmp_path / ("images.gz" if pack is gzip.compress else "images")
    content = pack(b"\0\0\x08\x02" + struct.pack(">2I", 3, 2) + bytes(range(6)))
    for found in outcomes(path, lambda: read_idx(path), str(path), altered(content)):
        assert found.dtype == np.uint8
        assert found.size <= 6


def own_table(path: Path) -> Any:
    given = {"slice": "year", "id": "who", "features": ["x"], "label": None}
    return tables.own_table(path=str(path), **given)


def test_a_table_that_is_cut_or_altered_is_refused_or_numbers(tmp_path):
    pytest.importorskip("pandas", reason="run: pip install 'aljax[frames]'")
    path = tmp_path / "table.csv"
    content = b"year,who,x\n1,a,.5\n1,b,2\n2,a,3\n"
    for found in outcomes(path, lambda: own_table(path), "`", altered(content)):
        assert all(np.isfinite(one).all() for one in found.slices)


def test_a_parquet_that_is_cut_or_altered_is_refused_or_numbers(tmp_path):
    pandas = pytest.importorskip("pandas", reason="run: pip install 'aljax[frames]'")
    pytest.importorskip("pyarrow", reason="run: pip install 'aljax[frames]'")
    path = tmp_path / "table.parquet"
    frame = pandas.DataFrame({"year": [1, 1, 2], "who": [*"aba"], "x": [0.5, 2, 3]})
    frame.to_parquet(path)
    content = path.read_bytes()
    some = [*altered(content)][:: 1 + len(content) // 60]
    for found in outcomes(path, lambda: own_table(path), "`", iter(some)):
        assert all(np.isfinite(one).all() for one in found.slices)


def test_results_that_are_cut_or_altered_are_refused_or_lines(tmp_path):
    path = tmp_path / "evaluation.csv"
    rows = [run.Row("m", "s", "v", 0, 0.5), run.Row("m", "s", "w", 1, 2)]
    run.write(path, rows)
    content = path.read_bytes()
    for found in outcomes(path, lambda: run.read(path), str(path), altered(content)):
        assert all(isinstance(row.value, float) for row in found)


def test_settings_that_are_cut_or_altered_are_refused_or_settings(tmp_path):
    path = tmp_path / "config.yaml"
    content = composition.CONFIG.read_bytes()
    some = [*altered(content)][:: len(content) // 8]
    found = outcomes(
        path,
        lambda: composition.compose([], path),
        "config.yaml",
        iter(some),
    )
    assert all(isinstance(one, dict) for one in found)


def test_a_pickle_is_never_opened(trap, tmp_path):
    planted = npy(trap, allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(planted)
    (tmp_path / "a.npz").write_bytes(archive({"a.npy": planted}))
    for name in ("a.npy", "a.npz"):
        with refused("data.path", name, "Python objects"):
            files.read_data(str(tmp_path / name))
        with refused("data.labels", name, "Python objects"):
            files.read_labels(str(tmp_path / name), {"a": ROWS})
    with pytest.raises(ValueError, match="Python objects"):
        read_npy(streams.BytesIO(planted), len(planted))


def test_a_tag_of_yaml_is_never_called(tmp_path):
    path = tmp_path / "config.yaml"
    sprung = tmp_path / "sprung"
    for text in (
        f"name: !!python/object/apply:os.mkdir ['{sprung}']\n",
        f"name: !!python/object/new:os.mkdir ['{sprung}']\n",
        "name: !!python/name:os.system\n",
    ):
        path.write_text(text)
        with refused("--config", str(path)):
            composition.compose(["seed=1"], path)
    assert not sprung.exists()


def test_a_config_that_is_no_yaml_is_named_with_the_line(tmp_path):
    path = tmp_path / "config.yaml"
    with refused("--config", str(path), "not there"):
        composition.compose([], path)
    path.write_text("seed: 0\nlayout:\n  min_dist: [0.1\n  spread: 2\n")
    with refused("--config", str(path), "line 4"):
        composition.compose([], path)


def test_settings_that_would_swell_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 12))
    )
    with refused("--config", str(path), "*a0"):
        composition.compose([], path)


@pytest.mark.parametrize("shape", [(2**40,), (2**31, 2**31), (3, 5), (1, 1)])
def test_an_array_that_is_not_there_is_never_allocated(shape, tmp_path):
    content = header(shape)
    (tmp_path / "a.npy").write_bytes(content)
    (tmp_path / "a.npz").write_bytes(archive({"a.npy": content}))
    tracemalloc.start()
    try:
        for name in ("a.npy", "a.npz"):
            with refused("data.path", name, "it declares", "and holds 16"):
                files.read_data(str(tmp_path / name))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_archive_that_would_swell_is_never_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 2**20)
    path = tmp_path / "bomb"
    zeros = npy(np.zeros(2**20))
    path.write_bytes(archive({"a.npy": zeros}, zipfile.ZIP_DEFLATED))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="unpacks to 8388736 bytes"):
            read_npz(path)
        with refused("path", "more bytes than it has"):
            aljax.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_members_that_stand_on_each_other_are_refused(tmp_path):
    content = archive({"a": bytes(1000), "b": bytes(1000)})
    end = content.rindex(b"PK\x05\x06")
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    # Both entries of the directory point to the first member, now of a larger size.
    entry = bytearray(content[first:second])
    entry[20:28] = struct.pack("<2I", 2**30, 2**30)
    path = tmp_path / "it"
    path.write_bytes(content[:first] + bytes(entry) * 2 + content[end:])
    with refused("path", "more bytes than it has"):
        aljax.load(path)


@pytest.mark.parametrize("name", ["../../evil.npy", "/evil.npy", "..\\evil.npy"])
def test_a_name_that_leads_out_of_the_folder_writes_nothing(name, tmp_path, model):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "data.npz").write_bytes(archive({name: npy(ROWS)}))
    assert [*files.read_data(str(inner / "data.npz"))] == [name.removesuffix(".npy")]
    model.save(inner / "maps")
    with zipfile.ZipFile(inner / "maps", "a") as opened:
        opened.writestr(name, npy(ROWS))
    with refused("path", "truncated or altered"):
        aljax.load(inner / "maps")
    written = sorted(one.name for one in tmp_path.rglob("*") if one.is_file())
    assert written == ["data.npz", "maps"]
    assert not Path("/evil.npy").exists()


def test_a_run_cannot_be_named_out_of_its_folder():
    known = composition.compose(["data=files", "data.path=a", "data.relations=null"])
    for name in ("../evil", "/evil", "a/b", "..", ".", ""):
        with refused("name", repr(name)):
            settings.build(known | {"name": name})


FORGED: dict[str, Any] = {
    "maps[0]": lambda m: {"maps": [m.maps[0].astype(int), m.maps[1]]},
    "maps[1]": lambda m: {"maps": [m.maps[0], m.maps[1] * np.nan]},
    "maps[1] ": lambda m: {"maps": [m.maps[0], m.maps[1][:, :1]]},
    "maps": lambda m: {"maps": tuple(m.maps)},
    "history": lambda _: {"history": None},
    "data": lambda m: {"data": m.data[:1]},
    "data[0]": lambda m: {"data": [m.data[0].T, m.data[1]]},
    "data[1]": lambda m: {"data": [m.data[0], m.data[1].astype(str)]},
    "graphs[1]": lambda m: {"graphs": [m.graphs[0], m.maps[1]]},
    "graphs[0]": lambda m: {"graphs": [far_off(m.graphs[0]), m.graphs[1]]},
    "pinned[0]": lambda _: {"pinned": [np.zeros(3, bool), None]},
    "relations[(0, 5)]": lambda m: {"relations": {(0, 5): m.relations[0, 1]}},
    "relations[(0, 1)]": lambda m: {"relations": {(0, 1): past(m.relations[0, 1])}},
    "params": lambda m: {"params": m.history},
    "layout": lambda _: {"layout": {"n_epochs": 3}},
    "ids": lambda _: {"ids": ((1, 2), (3,))},
    "slice_labels": lambda _: {"slice_labels": ("a",)},
}


MISSHAPEN: dict[str, Any] = {
    "ids": lambda _: {"ids": ((1, 2), 3)},
    "params": lambda m: {"params": dataclasses.replace(m.params, a=1.5)},
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("part", MISSHAPEN)
def test_parts_of_another_kind_are_refused(part, model, tmp_path):
    dataclasses.replace(model, **MISSHAPEN[part](model)).save(tmp_path / "maps")
    with refused("path", "truncated or altered"):
        aljax.load(tmp_path / "maps")


def far_off(graph: Any) -> Any:
    return aljax.FuzzyGraph(graph.neighbors + 6, graph.weights, graph.degrees)


def past(mates: Any) -> Any:
    return mates._replace(others=mates.others + 6)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("part", FORGED)
def test_parts_that_do_not_fit_each_other_are_refused(part, model, tmp_path):
    forged = dataclasses.replace(model, **FORGED[part](model))
    forged.save(tmp_path / "maps")
    with pytest.raises(io.FileError) as refused:
        aljax.load(tmp_path / "maps")
    assert f"`{part.strip()}` does not fit the rest" in refused.value.got


def test_a_class_that_is_not_ours_is_never_made(tmp_path, model):
    model.save(tmp_path / "maps")
    rewrite(
        tmp_path / "maps", lambda m: edited(m, b'"GraphConfig"', b'"Path"'), sealed=True
    )
    with refused("path", "truncated or altered", "Path"):
        aljax.load(tmp_path / "maps")
