import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import refused

from experiments.data import files, sequences, sources, speeches


@pytest.fixture
def windows(rng):
    """Three overlapping slices and the relations between them."""
    data = rng.normal(size=(16, 3)).astype(np.float32)
    slices = [data[start : start + 8] for start in (0, 4, 8)]
    relations = [{row: row - 4 for row in range(4, 8)}] * 2
    return slices, relations


@pytest.fixture
def folder(windows, tmp_path):
    """The slices as one .npy each, with names that sort otherwise as text."""
    place = tmp_path / "maps"
    place.mkdir()
    for number, one in zip((2, 10, 9), np.array(windows[0])[[0, 2, 1]], strict=True):
        np.save(place / f"slice{number}.npy", one)
    return place


@pytest.fixture
def relations(windows, tmp_path):
    return write_json(tmp_path / "relations.json", windows[1])


def write_json(file, content):
    file.write_text(json.dumps(content))
    return str(file)


def load(path, relations=None, labels=None):
    return sources.load("files", path=str(path), relations=relations, labels=labels)


def load_refused(path, *words, name="data.path", **files):
    with refused(name, *words):
        load(path, **files)


def test_digits_are_the_published_sequence():
    dataset = sources.load("digits_sequence", size=400, step=150)
    assert [one.shape for one in dataset.slices] == [(400, 64)] * 10
    assert dataset.relations == [{row: row - 150 for row in range(150, 400)}] * 9
    ink = np.concatenate([one.sum(axis=1)[:150] for one in dataset.slices])
    assert (np.diff(ink) >= 0).all()
    for t, relation in enumerate(dataset.relations):
        rows, others = [*relation.keys()], [*relation.values()]
        np.testing.assert_array_equal(
            dataset.slices[t][rows], dataset.slices[t + 1][others]
        )
        np.testing.assert_array_equal(dataset.ids[t][rows], dataset.ids[t + 1][others])


def test_unknown_sources_and_options_name_the_nearest():
    with refused("data.source", "'digit_sequence'", "`digits_sequence`"):
        sources.load("digit_sequence")
    with refused("data.stp", "`data.step`"):
        sources.load("digits_sequence", size=400, stp=150)
    with refused("data.size", "'400'", "a whole number"):
        sources.load("digits_sequence", size="400", step=150)
    with refused("data.step", "missing"):
        sources.load("digits_sequence", size=400)


def test_more_rows_or_columns_than_there_are_are_refused(monkeypatch):
    ten = np.zeros((10, 784)), np.zeros(10, int)
    for images in ("mnist_images", "fashion_mnist"):
        monkeypatch.setattr(sequences, images, lambda *_: ten)
    for source in ("network_states", "fashion_noise"):
        with refused("data.points", "is 11", "at most 10"):
            sources.load(source, slices=1, points=11, seed=0)
    with refused("data.size", "is 2000", "at most 1797"):
        sources.load("digits_sequence", size=2000, step=150)
    texts = (
        ["apple berry", "berry cherry"] * 10,
        [1800] * 20,
        ["id"] * 20,
        ["party"] * 20,
    )
    monkeypatch.setattr(
        speeches, "shipped", lambda *_: SimpleNamespace(load=lambda **_: None)
    )
    monkeypatch.setattr(speeches, "_paragraphs", lambda _: texts)
    with refused("data.components", "is 4", "at most 3"):
        sources.load("speeches", components=4)


def test_a_folder_is_read_in_natural_order(folder, relations, windows):
    dataset = load(folder, relations)
    assert dataset.titles == ["slice2", "slice9", "slice10"]
    for read, one in zip(dataset.slices, windows[0], strict=True):
        np.testing.assert_array_equal(read, one)
    assert dataset.relations == windows[1]


def test_an_npz_is_read_in_natural_order(relations, windows, tmp_path):
    first, second, third = windows[0]
    np.savez(tmp_path / "maps.npz", week10=third, week2=first, week9=second)
    dataset = load(tmp_path / "maps.npz", relations)
    assert dataset.titles == ["week2", "week9", "week10"]
    np.testing.assert_array_equal(dataset.slices[2], third)


def test_a_lone_slice_needs_no_relations(windows, tmp_path):
    np.save(tmp_path / "map.npy", windows[0][0])
    dataset = load(tmp_path / "map.npy")
    assert dataset.relations == []
    assert [ids.tolist() for ids in dataset.ids] == [[*range(8)]]


def test_members_keep_their_ids_along_the_sequence():
    ids = files.member_ids([{2: 0, 1: 1}, {}, {}, {0: 2}], [3, 3, 0, 2, 3])
    expected = [[0, 1, 2], [2, 1, 3], [], [4, 5], [6, 7, 4]]
    assert [one.tolist() for one in ids] == expected


def test_labels_are_read_as_the_data_are(folder, relations, tmp_path):
    labels = [np.array(["a", "b"] * 4), np.arange(8), np.arange(8)]
    np.savez(tmp_path / "labels.npz", *labels)
    dataset = load(folder, relations, str(tmp_path / "labels.npz"))
    assert dataset.labels is not None
    assert dataset.labels[0].tolist() == ["a", "b"] * 4
    assert dataset.labels[1].tolist() == [*"01234567"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([np.zeros(8)] * 2, ["2 arrays for 3 slices"]),
        ([np.zeros(8), np.zeros(7), np.zeros(8)], ["arr_1", "(7,)", "slice9"]),
    ],
)
def test_labels_that_do_not_fit(folder, relations, tmp_path, labels, words):
    np.savez(tmp_path / "labels.npz", *labels)
    with refused("data.labels", *words):
        load(folder, relations, str(tmp_path / "labels.npz"))


def test_data_that_are_not_there(tmp_path):
    load_refused(tmp_path / "nowhere", "nowhere", "one .npy for each slice")
    (tmp_path / "notes.txt").touch()
    load_refused(tmp_path, "notes.txt", "one .npy for each slice")


def test_data_that_cannot_be_read(windows, tmp_path):
    whole = tmp_path / "whole.npy"
    np.save(whole, windows[0][0])
    for file in (tmp_path / "half.npy", tmp_path / "half.npz"):
        file.write_bytes(whole.read_bytes()[:-10])
        load_refused(file, file.name, "Write it again")
    text = tmp_path / "table.csv"
    text.write_text("1,2\n")
    load_refused(text, "table.csv", "numpy.savez")
    np.savez(tmp_path / "whole.npz", windows[0][0])
    packed = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(packed[: len(packed) // 2])
    load_refused(tmp_path / "cut.npz", "cut.npz", "numpy.savez")
    np.savez(tmp_path / "empty.npz")
    load_refused(tmp_path / "empty.npz", "empty.npz", "it is empty")
    (tmp_path / "whole.npz").rename(tmp_path / "renamed.npy")
    load_refused(tmp_path / "renamed.npy", "renamed.npy", "an .npz")
    whole.rename(tmp_path / "renamed.npz")
    load_refused(tmp_path / "renamed.npz", "renamed.npz", "an .npy")


def test_no_file_is_unpickled(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object))
    load_refused(tmp_path / "objects.npy", "without Python objects")
    np.savez(tmp_path / "objects.npz", np.array([[{}]], dtype=object))
    load_refused(tmp_path / "objects.npz", "without Python objects")


def test_arrays_that_are_no_slices_are_named(folder):
    np.save(folder / "slice9.npy", np.array([[1.0, np.nan]]))
    load_refused(folder, "slice9 in", "nan in row 0")
    np.save(folder / "slice9.npy", np.zeros(3))
    load_refused(folder, "slice9 in", "(3,)")


def test_several_slices_need_relations(folder):
    words = ("is null", "list of 2 objects", "data.relations=")
    load_refused(folder, *words, name="data.relations")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"4": 0}, ["a JSON list of 2 objects"]),
        ([[4, 0], [4, 0]], ["a JSON list of 2 objects"]),
        ([{"4": 0}], ["1 dicts for 3 slices"]),
        ([{"4": 0}, {"four": 0}], ["object 1 in", '"four"']),
        ([{"4": 0}, {"-4": 0}], ["object 1 in", '"-4"']),
        ([{"4": "0"}, {"4": 0}], ["object 0 in", '"4" to "0"']),
        ([{"4": 0.5}, {"4": 0}], ["object 0 in", '"4" to 0.5']),
        ([{"4": True}, {"4": 0}], ["object 0 in", '"4" to true']),
        ([{"4": 10**30}, {"4": 0}], ["object 0 in", '"4" to 1000']),
        ([{"8": 9}, {"4": 0}], ["row 8", "0 to 7 of slice 0"]),
        ([{"4": 0, "5": 0}, {"4": 0}], ["rows 4 and 5", "row 0"]),
    ],
)
def test_relations_that_do_not_fit(folder, tmp_path, content, words):
    file = write_json(tmp_path / "relations.json", content)
    words = ["relations.json", *words]
    load_refused(folder, *words, name="data.relations", relations=file)


@pytest.mark.parametrize("text", ["[{", "[" * 100_000, '[{"4": 0}, {"4": 0, "04": 1}]'])
def test_relations_that_cannot_be_read(folder, tmp_path, text):
    file = tmp_path / "relations.json"
    file.write_text(text)
    for path in (file, tmp_path / "missing.json"):
        options = {"name": "data.relations", "relations": str(path)}
        load_refused(folder, str(path), **options)
