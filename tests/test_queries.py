from typing import Any

import numpy as np
import pytest
from helpers import make_data, programs, refused
from scipy.spatial.distance import cdist

from aljax.graph.exact import QUERY_BLOCK as BLOCK
from aljax.graph.exact import _search, nearest

K = 6


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return make_data([150])[0]


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return make_data([BLOCK + 12], seed=1)[0]


def brute_force(data, queries, metric: Any = "euclidean", **settings):
    distances = cdist(queries.astype(float), data.astype(float), metric, **settings)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :K]
    return nearest, np.take_along_axis(distances, nearest, axis=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbors_are_those_of_brute_force(data, queries, metric):
    rows, distances = nearest(queries, data, K, metric=metric)
    expected, near = brute_force(data, queries, metric)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, near, rtol=1e-5)


@pytest.mark.parametrize(
    ("metric", "settings"),
    [("manhattan", {}), ("minkowski", {"p": 3}), ("correlation", {})],
)
def test_other_metrics_are_searched_as_well(data, queries, metric, settings):
    rows, distances = nearest(
        queries, data, K, metric=metric, metric_kwds=settings or None
    )
    name = "cityblock" if metric == "manhattan" else metric
    expected, near = brute_force(data, queries, name, **settings)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, near, rtol=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan", "correlation"])
def test_a_row_of_the_slice_finds_itself_first_at_distance_0(data, metric):
    rows, distances = nearest(data[::-1], data, K, metric=metric)
    np.testing.assert_array_equal(rows[:, 0], np.arange(150)[::-1])
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 0).all()


def test_nothing_correlates_with_a_row_of_one_value(data):
    data = data.copy()
    data[3], data[8] = 0.1, 7.0  # whose mean rounding may miss
    rows, distances = nearest(data[[3, 0]], data, 150, metric="correlation")
    of_flat = dict(zip(rows[0].tolist(), distances[0], strict=True))
    assert of_flat.pop(3) == of_flat.pop(8) == 0
    np.testing.assert_allclose([*of_flat.values()], 1, rtol=1e-6)
    of_another = dict(zip(rows[1].tolist(), distances[1], strict=True))
    np.testing.assert_allclose([of_another[3], of_another[8]], 1, rtol=1e-6)


def test_of_equal_rows_the_first_is_found_first(data):
    twice = np.concatenate([data, data])
    rows, distances = nearest(data[:20], twice, 2)
    np.testing.assert_array_equal(rows[:, 0], np.arange(20))
    np.testing.assert_array_equal(rows[:, 1], np.arange(20) + 150)
    assert (distances == 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_what_a_row_finds_does_not_depend_on_the_others(data, queries, metric):
    together = nearest(queries, data, K, metric=metric)
    for chosen in ([0], [BLOCK], [7, 3, BLOCK + 5], [*range(60, len(queries))]):
        apart = nearest(queries[chosen], data, K, metric=metric)
        for one, other in zip(apart, together, strict=True):
            np.testing.assert_array_equal(one, other[chosen])


def test_one_program_serves_any_number_of_queries_and_near_sizes(data, queries):
    nearest(queries, data, K)
    before = programs(_search)
    for count in (1, 5, BLOCK, BLOCK + 1):
        nearest(queries[:count], data, K)
    nearest(queries, data[:-2], K)
    assert programs(_search) == before


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_there_may_be_no_queries(data, queries, metric):
    rows, distances = nearest(queries[:0], data, K, metric=metric)
    assert rows.shape == distances.shape == (0, K)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_neighbors_far_from_the_origin_are_found(data, queries, offset):
    far, asked = data.astype(float) + offset, queries.astype(float) + offset
    rows, distances = nearest(asked, far, K)
    expected, near = brute_force(data, queries)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, near, rtol=1e-4)


def test_distances_that_drown_in_float32_are_computed_again(data, queries):
    # Two clouds so far apart that single precision cannot tell their rows apart.
    far = np.concatenate([data[:75].astype(float), data[75:].astype(float) + 1e7])
    rows, distances = nearest(queries.astype(float), far, K)
    expected, near = brute_force(far, queries)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, near, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_units_do_not_matter(data, queries, scale):
    rows, distances = nearest(queries * float(scale), data * float(scale), K)
    expected, near = brute_force(data, queries)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, near * scale, rtol=1e-4)


def test_all_rows_can_be_asked_for(data, queries):
    rows, distances = nearest(queries[:4], data[:9], 9)
    assert [sorted(one) for one in rows.tolist()] == [[*range(9)]] * 4
    assert (np.diff(distances, axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("metric", "settings"), [("no such", None), ("manhattan", {"wrong": 3})]
)
def test_metrics_that_cannot_be_searched_are_refused(data, queries, metric, settings):
    with refused("metric", repr(metric), "pynndescent"):
        nearest(queries, data, K, metric=metric, metric_kwds=settings)


def test_queries_however_far_away_have_neighbors_at_their_distance(data, queries):
    away = queries + np.float32(1e30)
    rows, distances = nearest(away, data, K)
    assert ((rows >= 0) & (rows < len(data))).all()
    np.testing.assert_allclose(distances, np.sqrt(data.shape[1]) * 1e30, rtol=1e-5)
