import numpy as np
import pytest
from helpers import refused

from experiments.tasks.grid import expand


def test_a_product_has_every_combination():
    rows = expand({"product": {"min_dist": [0.1, [0.1, 0.2]], "seed": [0, 1]}})
    assert rows == [
        {"min_dist": 0.1, "seed": 0},
        {"min_dist": 0.1, "seed": 1},
        {"min_dist": [0.1, 0.2], "seed": 0},
        {"min_dist": [0.1, 0.2], "seed": 1},
    ]


def test_ranges_are_even_on_their_scale():
    rows = expand({"product": {"a": {"log": [0.01, 1, 3]}, "b": {"linear": [1, 2, 3]}}})
    np.testing.assert_allclose([row["a"] for row in rows[::3]], [0.01, 0.1, 1])
    np.testing.assert_allclose([row["b"] for row in rows[:3]], [1, 1.5, 2])


def test_zip_goes_side_by_side_and_meets_each_of_a_product():
    grid = {"zip": {"a": [1, 2], "b": [3, 4]}, "product": {"c": [5, 6]}}
    assert expand(grid) == [
        {"c": 5, "a": 1, "b": 3},
        {"c": 5, "a": 2, "b": 4},
        {"c": 6, "a": 1, "b": 3},
        {"c": 6, "a": 2, "b": 4},
    ]


def test_random_draws_repeat_with_their_seed_and_keep_to_their_ranges():
    def drawn(seed):
        ranges = {"a": {"log": [0.01, 1]}, "b": {"linear": [2, 3]}, "c": ["x", "y"]}
        return expand({"random": {"count": 50, "seed": seed, "draw": ranges}})

    rows = drawn(0)
    assert rows == drawn(0)
    assert rows != drawn(1)
    assert len(rows) == 50
    assert all(0.01 <= row["a"] <= 1 and 2 <= row["b"] <= 3 for row in rows)
    assert {row["c"] for row in rows} == {"x", "y"}
    assert 10 < sum(row["a"] < 0.1 for row in rows) < 40  # half of them, in the log


@pytest.mark.parametrize(
    ("grid", "name", "said"),
    [
        (None, "", "is None"),
        ({}, "", "is {}"),
        ({"product": {}}, "", "is empty"),
        ({"product": {"a": []}}, "", "is empty"),
        ({"prodct": {"a": [1]}}, ".prodct", "`task.grid.product`"),
        ({"product": {"a": 1}}, ".product.a", "is 1"),
        ({"product": {"a": {"log": [0, 1, 3]}}}, ".product.a", "ends above 0"),
        ({"product": {"a": {"lg": [1, 2, 3]}}}, ".product.a", "'lg'"),
        ({"product": {"a": {"log": [0.1, float("inf"), 3]}}}, ".product.a", "inf"),
        ({"product": {"a": [1]}, "zip": {"a": [2]}}, "", "has a in two parts"),
        ({"zip": {"a": [1], "b": [1, 2]}}, ".zip", "{'a': 1, 'b': 2}"),
        ({"random": {"count": 3, "draw": {"a": [1]}}}, ".random", "count, seed, draw"),
    ],
)
def test_a_grid_that_cannot_be_read_is_refused(grid, name, said):
    with refused(f"task.grid{name}", said):
        expand(grid)
