import dataclasses
import datetime
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import NEIGHBORS, SIZES, make_data, make_maps, make_relations, refused

import aljax
from aljax import files as io
from aljax.errors import InputError

VERSION_0_1 = Path(__file__).parent / "data" / "version_0_1.aljax"


@pytest.fixture(scope="module")
def fitted() -> aljax.AlignedEmbedding:
    return aljax.fit(
        make_data(),
        make_relations(),
        key=jax.random.key(0),
        graph=aljax.GraphConfig(n_neighbors=[NEIGHBORS] * 3, metric_kwds={}),
        layout=aljax.LayoutConfig(n_epochs=0),
        start=make_maps(),
    )


@pytest.fixture
def saved(fitted, tmp_path) -> Path:
    fitted.save(tmp_path / "maps.aljax")
    return tmp_path / "maps.aljax"


def equal(one: Any, other: Any) -> bool:
    """Whether two values are of the same types and the same bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | jax.Array):
        one, other = np.asarray(one), np.asarray(other)
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(equal(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, dict):
        return [*one] == [*other] and equal([*one.values()], [*other.values()])
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def back(value: Any, path: Path) -> Any:
    """A value written to a file, and read again."""
    io.write(path, "it", {"value": value})
    return io.read(path, "it")["value"]


def test_parts_of_a_model_are_no_longer_public(fitted, tmp_path):
    with pytest.warns(DeprecationWarning, match="AlignedEmbedding.parts"):
        parts = fitted.parts(with_data=True)
    assert equal(parts["maps"], fitted.maps)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        fitted.save(tmp_path / "it")


def rewrite(
    path: Path,
    change: Callable[[dict[str, bytes]], dict[str, bytes]],
    *,
    sealed: bool = False,
) -> None:
    """Write a whole new file of other members; `sealed`: with the sum that is right."""
    with zipfile.ZipFile(path) as archive:
        members = change({name: archive.read(name) for name in archive.namelist()})
    model = members.pop("model.json", None)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if sealed and model is not None:
            tree = json.loads(model)
            tree["sum"] = io._sum(tree["model"], archive)
            model = json.dumps(tree).encode()
        if model is not None:
            archive.writestr("model.json", model)


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    content = BytesIO()
    np.save(content, array, allow_pickle=allow_pickle)
    return content.getvalue()


def test_a_loaded_model_has_the_same_bits(fitted, saved):
    assert equal(aljax.load(saved), fitted)


def test_the_same_model_makes_the_same_file(fitted, saved, tmp_path):
    fitted.save(tmp_path / "again")
    assert saved.read_bytes() == (tmp_path / "again").read_bytes()


def test_without_data_nothing_of_them_is_left(fitted, tmp_path):
    fitted.save(tmp_path / "maps", with_data=False)
    loaded = aljax.load(tmp_path / "maps")
    assert loaded.data == [None] * len(SIZES)
    assert equal(dataclasses.replace(loaded, data=fitted.data), fitted)
    content = (tmp_path / "maps").read_bytes()
    assert fitted.data[0].tobytes() not in content
    assert fitted.data[0] is not None


def test_the_file_is_arrays_and_json_alone(fitted, saved):
    with zipfile.ZipFile(saved) as archive:
        names = archive.namelist()
    assert {Path(name).suffix for name in names} == {".npy", ".json"}
    with np.load(saved, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["maps/0"], fitted.maps[0])
        np.testing.assert_array_equal(arrays["data/1"], fitted.data[1])


@pytest.mark.parametrize(
    "value",
    [
        None,
        0.1 + 0.2,
        float("inf"),
        {(0, 1): "a", 2: [True, (1, 2.5, None)]},
        np.array(["a", "bc"]),
        np.array(["a", None, 3], dtype=object),
        np.array([["2020-01-01"]], dtype="M8[D]"),
        datetime.date(2020, 1, 31),
        datetime.datetime(2020, 1, 31, 12, tzinfo=datetime.UTC),
        np.float32(0.1),
        np.arange(6).reshape(2, 3).T,
        np.zeros((0, 3)),
        jnp.float32(2),
    ],
    ids=repr,
)
def test_values_of_every_kind_come_back(value, tmp_path):
    loaded = back(value, tmp_path / "it")
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(loaded, value)
        assert loaded.dtype == value.dtype
    else:
        assert equal(loaded, value)


def test_arrays_in_an_array_of_objects_are_kept_apart(tmp_path):
    value = np.empty(3, dtype=object)
    value[0], value[1], value[2] = np.zeros((2, 2)), np.ones((2, 2)), ("p", 1)
    assert equal([*back(value, tmp_path / "it")], [*value])


def test_names_that_read_alike_are_kept_apart(tmp_path):
    value = {1: np.zeros(2), "1": np.ones(2)}
    assert equal(back(value, tmp_path / "it"), value)


@pytest.mark.parametrize(
    "value", [{1}, len, range(2), np.zeros(2, [("a", object)])], ids=repr
)
def test_what_has_no_form_in_a_file_is_named(value, tmp_path):
    with pytest.raises(InputError) as refused:
        io.write(tmp_path / "it", "it", {"a": [0, value]})
    assert refused.value.name == "a/1"
    assert type(value).__name__ in refused.value.got
    assert not [*tmp_path.iterdir()]


def test_a_file_of_version_0_1_is_read():
    loaded: Any = aljax.load(VERSION_0_1)
    rng = np.random.default_rng(0)
    for rows in (*loaded.data, *loaded.layout.init):
        expected = rng.normal(size=(len(rows), 2)).astype(np.float32)
        np.testing.assert_array_equal(rows, expected)
    assert [len(one) for one in loaded.maps] == [12, 10]
    np.testing.assert_array_equal(loaded.maps[0][:2], loaded.layout.init[0][:2])
    total = [np.abs(one).sum(dtype=float) for one in loaded.maps]
    np.testing.assert_array_equal(total, [43.276745058596134, 32.059263072907925])
    terms = np.stack([*vars(loaded.history).values()])
    np.testing.assert_allclose(terms.sum(axis=(0, 2))[:2], [133.74023, 119.624214])
    assert loaded.slice_labels == (datetime.date(2020, 1, 1), 2021)
    assert loaded.ids is not None
    assert loaded.ids[1][:2] == ("p2", "p3")
    assert [*loaded.relations[0, 1].rows] == [*range(2, 12)]
    assert loaded.layout.min_dist == (0.1, 0.2)


def test_every_cut_and_every_flipped_bit_is_noticed(fitted, saved):
    content = saved.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.choice(len(content), 150, replace=False).tolist()
    end = range(len(content) - 75, len(content))
    for place in [*places[:25], *end]:  # each loses the table at the end
        saved.write_bytes(content[:place])
        with refused("path", str(saved)):
            aljax.load(saved)
    for place in [*places, *end]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(flipped)
        try:
            loaded = aljax.load(saved)
        except io.FileError:
            continue
        assert equal(loaded, fitted)  # the bit meant nothing, as a date's


MEDDLED = {
    "a replaced array": lambda m: m | {"maps/0.npy": npy(np.zeros((41, 2)))},
    "an edited setting": lambda m: edited(m, b"0.1", b"0.3"),
    "a removed array": lambda m: {k: v for k, v in m.items() if k != "maps/0.npy"},
    "an added array": lambda m: m | {"maps/9.npy": npy(np.zeros(1))},
    "no model": lambda m: {k: v for k, v in m.items() if k != "model.json"},
}


def edited(members: dict[str, bytes], old: bytes, new: bytes) -> dict[str, bytes]:
    assert old in members["model.json"]
    return members | {"model.json": members["model.json"].replace(old, new)}


@pytest.mark.parametrize("how", MEDDLED)
@pytest.mark.parametrize("version", [1, 2])
def test_a_file_that_was_meddled_with_is_refused(how, version, saved):
    if version == 1:
        shutil.copy(VERSION_0_1, saved)
    rewrite(saved, MEDDLED[how])
    with refused("path", "truncated or altered"):
        aljax.load(saved)


def test_a_pickle_inside_is_never_opened(saved, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    trap = npy(np.array([Trap()], dtype=object), allow_pickle=True)
    rewrite(saved, lambda members: members | {"maps/0.npy": trap}, sealed=True)
    with refused("path", "Object arrays cannot be loaded"):
        aljax.load(saved)
    assert not (tmp_path / "sprung").exists()


def test_a_newer_format_is_refused_with_what_to_do(saved):
    model = {"format": "aljax", "version": io.VERSION + 1, "aljax": "9.0", "model": 0}
    rewrite(saved, lambda members: members | {"model.json": json.dumps(model).encode()})
    with refused("path", f"format {io.VERSION + 1}", "aljax 9.0", "pip install -U"):
        aljax.load(saved)


def test_a_crash_leaves_the_old_file_and_nothing_else(fitted, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_, **__):
        raise RuntimeError("power")

    for module, stage in ((io.np, "savez"), (io.os, "fsync"), (io.os, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(module, stage, fail)
            with pytest.raises(RuntimeError):
                fitted.save(saved)
        assert saved.read_bytes() == before
        assert [one.name for one in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(
    ("name", "got", "expected"),
    [
        ("nothing", "where no file can be read", "that `save` wrote"),
        (".", "where no file can be read", "that `save` wrote"),
        ("text", "is not a file of aljax", "that `save` wrote"),
        ("list", "a file of list", "a file of AlignedEmbedding"),
    ],
)
def test_a_file_that_is_something_else_is_refused(name, got, expected, tmp_path):
    (tmp_path / "text").write_text("maps")
    io.write(tmp_path / "list", "list", {"it": [1]})
    with pytest.raises(io.FileError) as refused:
        aljax.load(tmp_path / name)
    assert refused.value.name == "path"
    assert got in refused.value.got
    assert str(tmp_path / name) in refused.value.got
    assert expected in refused.value.expected


@pytest.mark.parametrize("place", ["nowhere/maps", ".", "file/maps"])
def test_a_place_that_cannot_be_written_is_named(place, fitted, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(io.FileError) as refused:
        fitted.save(tmp_path / place)
    assert str(tmp_path / place) in refused.value.got
    assert "cannot be written" in refused.value.got


def test_doubles_are_not_rounded_in_silence(tmp_path):
    with jax.enable_x64(True):
        assert back(jnp.ones(2), tmp_path / "it").dtype == jnp.float64
    with refused("path", "jax_enable_x64"):
        io.read(tmp_path / "it", "it")
