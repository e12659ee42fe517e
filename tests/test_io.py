import dataclasses
import datetime
import json
import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import NEIGHBORS, SIZES, make_data, make_maps, make_relations

import aljax
from aljax import files as io


@pytest.fixture(scope="module")
def fitted() -> aljax.AlignedEmbedding:
    return aljax.fit(
        make_data(),
        make_relations(),
        key=jax.random.key(0),
        graph=aljax.GraphConfig(n_neighbors=[NEIGHBORS] * 3, metric_kwds={}),
        layout=aljax.LayoutConfig(n_epochs=20, init=make_maps()),
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


def rewrite(path: Path, **changed: Any) -> None:
    """Write a whole new file in which some members of the old are others."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, changed.get(name.rpartition(".")[0], content))


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
    io.write(tmp_path / "it", [value])
    (loaded,) = io.read(tmp_path / "it", list)
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(loaded, value)
        assert loaded.dtype == value.dtype
    else:
        assert equal(loaded, value)


def test_arrays_in_an_array_of_objects_are_kept_apart(tmp_path):
    value = np.empty(3, dtype=object)
    value[0], value[1], value[2] = np.zeros((2, 2)), np.ones((2, 2)), ("p", 1)
    io.write(tmp_path / "it", [value])
    (loaded,) = io.read(tmp_path / "it", list)
    assert equal([*loaded], [*value])


def test_what_has_no_form_in_a_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="`a/1` is a set, which cannot be saved"):
        io.write(tmp_path / "it", {"a": [0, {1}]})
    assert not [*tmp_path.iterdir()]


def test_every_cut_and_every_flipped_bit_is_noticed(fitted, saved):
    content = saved.read_bytes()
    rng = np.random.default_rng(0)
    places = rng.choice(len(content), 300, replace=False).tolist()
    for place in [*places, *range(len(content) - 150, len(content))]:
        saved.write_bytes(content[:place])
        with pytest.raises(io.FileError, match=f"`path` is .*{saved.name}, which is"):
            aljax.load(saved)
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(flipped)
        try:
            loaded = aljax.load(saved)
        except io.FileError:
            continue
        assert equal(loaded, fitted)  # the bit meant nothing, as a date's


def test_a_member_that_was_replaced_is_noticed(saved, fitted):
    rewrite(saved, **{"maps/0": npy(fitted.maps[0] + 1)})
    with pytest.raises(io.FileError, match=r"truncated or altered.*maps/0.npy"):
        aljax.load(saved)


def test_settings_that_were_edited_are_noticed(saved):
    with zipfile.ZipFile(saved) as archive:
        model = archive.read("model.json")
    rewrite(saved, model=model.replace(b'"min_dist": 0.1', b'"min_dist": 0.2'))
    with pytest.raises(io.FileError, match=r"truncated or altered.*model.json"):
        aljax.load(saved)


def test_a_pickle_inside_is_never_opened(saved, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    trap = npy(np.array([Trap()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(saved) as archive:
        sums = json.loads(archive.read("sums.json"))
    sums["maps/0.npy"] = io.hashlib.sha256(trap).hexdigest()
    rewrite(saved, **{"maps/0": trap}, sums=json.dumps(sums).encode())
    with pytest.raises(io.FileError, match="truncated or altered"):
        aljax.load(saved)
    assert not (tmp_path / "sprung").exists()


def test_a_newer_format_is_refused_with_what_to_do(saved):
    model = {"format": "aljax", "version": io.VERSION + 1, "aljax": "9.0", "model": 0}
    rewrite(saved, model=json.dumps(model).encode())
    with pytest.raises(io.FileError, match=r"format 2, written by aljax 9.0.*pip"):
        aljax.load(saved)


def test_a_crash_leaves_the_old_file_and_nothing_else(fitted, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_, **__):
        raise RuntimeError("power")

    for module, stage in ((io.np, "save"), (io.os, "fsync"), (io.os, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(module, stage, fail)
            with pytest.raises(RuntimeError):
                fitted.save(saved)
        assert saved.read_bytes() == before
        assert [one.name for one in saved.parent.iterdir()] == [saved.name]


def test_a_path_that_cannot_be_used_is_named(fitted, tmp_path):
    with pytest.raises(ValueError, match=r"`path` is .*nowhere/maps"):
        fitted.save(tmp_path / "nowhere" / "maps")
    with pytest.raises(ValueError, match="cannot be written"):
        fitted.save(tmp_path)
    with pytest.raises(ValueError, match="where no file can be read"):
        aljax.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("maps")
    with pytest.raises(ValueError, match="no file of aljax"):
        aljax.load(tmp_path / "text")
    io.write(tmp_path / "list", [1])
    with pytest.raises(ValueError, match="holds a list; expected a AlignedEmbedding"):
        aljax.load(tmp_path / "list")


def test_doubles_are_not_rounded_in_silence(tmp_path):
    jax.config.update("jax_enable_x64", True)
    try:
        io.write(tmp_path / "it", [jnp.ones(2)])
        assert io.read(tmp_path / "it", list)[0].dtype == jnp.float64
    finally:
        jax.config.update("jax_enable_x64", False)
    with pytest.raises(io.FileError, match="jax_enable_x64"):
        io.read(tmp_path / "it", list)
