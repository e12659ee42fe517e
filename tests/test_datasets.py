import json

import numpy as np
import pytest

from experiments.data import files, sources


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


def refused(match, *arguments, **settings):
    with pytest.raises(ValueError, match=match) as caught:
        load(*arguments, **settings)
    return str(caught.value)


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
    with pytest.raises(ValueError, match="did you mean `digits_sequence`"):
        sources.load("digit_sequence")
    with pytest.raises(ValueError, match=r"did you mean `data\.step`"):
        sources.load("digits_sequence", size=400, stp=150)
    with pytest.raises(ValueError, match=r"`data\.size` is '400'; expected a whole"):
        sources.load("digits_sequence", size="400", step=150)
    with pytest.raises(ValueError, match=r"`data\.step` is missing"):
        sources.load("digits_sequence", size=400)


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
    ids = files.member_ids([{2: 0, 1: 1}, {}, {0: 2}], [3, 3, 2, 3])
    assert [one.tolist() for one in ids] == [[0, 1, 2], [2, 1, 3], [4, 5], [6, 7, 4]]


def test_labels_are_read_as_the_data_are(folder, relations, tmp_path):
    labels = [np.array(["a", "b"] * 4), np.arange(8), np.arange(8)]
    np.savez(tmp_path / "labels.npz", *labels)
    dataset = load(folder, relations, str(tmp_path / "labels.npz"))
    assert dataset.labels is not None
    assert dataset.labels[0].tolist() == ["a", "b"] * 4
    assert dataset.labels[1].tolist() == [*"01234567"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([np.zeros(8)] * 2, "has 2 arrays for 3 slices"),
        ([np.zeros(8), np.zeros(7), np.zeros(8)], r"arr_1 .* shape \(7,\); .*slice9"),
    ],
)
def test_labels_that_do_not_fit(folder, relations, tmp_path, labels, message):
    np.savez(tmp_path / "labels.npz", *labels)
    refused(message, folder, relations, str(tmp_path / "labels.npz"))


def test_data_that_are_not_there(tmp_path):
    assert "folder with one .npy" in refused("nothing is there", tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    refused(r"no \.npy file, but notes\.txt", tmp_path)


def test_data_that_cannot_be_read(windows, tmp_path):
    whole = tmp_path / "whole.npy"
    np.save(whole, windows[0][0])
    for file in (tmp_path / "half.npy", tmp_path / "half.npz"):
        file.write_bytes(whole.read_bytes()[:-10])
        refused(rf"{file.name}, which cannot be read.*Write it again", file)
    text = tmp_path / "table.csv"
    text.write_text("1,2\n")
    refused(r"table\.csv, which cannot be read.*numpy\.savez", text)
    np.savez(tmp_path / "whole.npz", windows[0][0])
    packed = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(packed[: len(packed) // 2])
    refused(r"cut\.npz, which cannot be read", tmp_path / "cut.npz")
    np.savez(tmp_path / "empty.npz")
    refused("it is empty", tmp_path / "empty.npz")
    (tmp_path / "whole.npz").rename(tmp_path / "renamed.npy")
    refused(r"it is an \.npz", tmp_path / "renamed.npy")
    whole.rename(tmp_path / "renamed.npz")
    refused(r"it is an \.npy", tmp_path / "renamed.npz")


def test_no_file_is_unpickled(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object))
    refused("without Python objects", tmp_path / "objects.npy")
    np.savez(tmp_path / "objects.npz", np.array([[{}]], dtype=object))
    refused("without Python objects", tmp_path / "objects.npz")


def test_arrays_that_are_no_slices_are_named(folder):
    np.save(folder / "slice9.npy", np.array([[1.0, np.nan]]))
    refused(r"slice9 in .* has nan in row 0", folder)
    np.save(folder / "slice9.npy", np.zeros(3))
    refused(r"slice9 in .* has shape \(3,\)", folder)


def test_several_slices_need_relations(folder):
    refused(r"`data\.relations` is null.*list of 2 objects.*data\.relations=", folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"4": 0}, "holds something else; expected a JSON list of 2 objects"),
        ([[4, 0], [4, 0]], "holds something else"),
        ([{"4": 0}], "has 1 dicts for 3 slices"),
        ([{"4": 0}, {"four": 0}], 'object 1 in .* has the key "four"'),
        ([{"4": 0}, {"-4": 0}], 'object 1 in .* has the key "-4"'),
        ([{"4": "0"}, {"4": 0}], 'object 0 in .* maps "4" to "0"'),
        ([{"4": 0.5}, {"4": 0}], 'object 0 in .* maps "4" to 0.5'),
        ([{"4": True}, {"4": 0}], 'object 0 in .* maps "4" to true'),
        ([{"4": 10**30}, {"4": 0}], 'object 0 in .* maps "4" to 1000'),
        ([{"8": 9}, {"4": 0}], "maps from row 8; expected rows 0 to 7 of slice 0"),
        ([{"4": 0, "5": 0}, {"4": 0}], "rows 4 and 5 to the same row 0"),
    ],
)
def test_relations_that_do_not_fit(folder, tmp_path, content, message):
    file = write_json(tmp_path / "relations.json", content)
    text = refused(message, folder, file)
    assert "relations.json" in text


@pytest.mark.parametrize("text", ["[{", "[" * 100_000, '[{"4": 0}, {"4": 0, "04": 1}]'])
def test_relations_that_cannot_be_read(folder, tmp_path, text):
    file = tmp_path / "relations.json"
    file.write_text(text)
    refused("cannot be read|row 04 twice", folder, str(file))
    refused("cannot be read", folder, str(tmp_path / "missing.json"))
