"""Distances between sets and distributions, against pynndescent's, pair by pair."""

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from helpers import refused

import aljax
from aljax.graph.exact import nearest
from aljax.graph.neighbors import find_neighbors
from aljax.graph.pairs import DENSE_SETS, PACKED, SPARSE_SETS, set_distances


def rows_for(metric: str) -> np.ndarray:
    """Rows with all the cases: empty, full, equal, sharing nothing, of equal values."""
    rng = np.random.default_rng(0)
    if metric in PACKED:
        data = rng.integers(0, 256, (20, 3))
        data[3:6] = [[0], [1], [2]]
    else:
        data = (rng.random((20, 12)) < 0.4) * rng.integers(1, 4, (20, 12))
        data[3:6, :] = [[0], [1], [2]]
    data[7], data[8] = 0, data[9]
    return data.astype(np.float32)


@pytest.mark.parametrize("metric", DENSE_SETS)
def test_distances_are_pynndescents(metric):
    distances = pytest.importorskip("pynndescent.distances")
    data = rows_for(metric)
    whole = data.astype(np.uint8 if metric in PACKED else np.float64)
    between = distances.named_distances[metric]
    if metric not in PACKED:  # numba compiles for longer than Python takes
        between = between.py_func
    with np.errstate(all="ignore"):
        try:
            theirs = [[between(one, other) for other in whole[:9]] for one in whole]
        except ZeroDivisionError:
            pytest.skip("pynndescent before 0.6 divides by zero: its rows have no bits")
    if metric == "hellinger":  # where rows are equal, rounding makes some of theirs NaN
        theirs = np.nan_to_num(theirs)
    found = set_distances(data, data[:9], metric)
    np.testing.assert_allclose(found, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", SPARSE_SETS)
def test_sparse_rows_are_as_far_apart_as_dense_ones(metric):
    data = rows_for(metric)
    held = scipy.sparse.csr_matrix(data)
    if metric == "hamming":
        expected = (data[:, None] != data[:9]).mean(axis=2)
    else:
        expected = set_distances(data, data[:9], metric)
    found = set_distances(held, held[:9], metric)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-7)


@pytest.mark.slow  # numba compiles each metric
@pytest.mark.parametrize("metric", SPARSE_SETS)
def test_sparse_distances_are_pynndescents(metric):
    theirs = pytest.importorskip("pynndescent.sparse")
    held: Any = scipy.sparse.csr_matrix(rows_for(metric))
    parts = [(row.indices, row.data) for row in held]
    size = (held.shape[1],) * (metric in theirs.sparse_need_n_features)
    between = theirs.sparse_named_distances[metric]
    expected = [[between(*x, *y, *size) for y in parts] for x in parts]
    found = set_distances(held, held, metric)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", ["jaccard", "hellinger", "bit_jaccard"])
@pytest.mark.parametrize("sparse", [False, True])
def test_neighbors_are_exact_and_nothing_compiles_or_warns(rng, metric, sparse):
    data = rng.integers(0, 256, (300, 8)) * (rng.random((300, 8)) < 0.5)
    data = data.astype(np.float32)
    given = scipy.sparse.csr_matrix(data) if sparse and metric not in PACKED else data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        knn = find_neighbors(given, 6, metric=metric)
    all_of_them = set_distances(data, data, metric)
    np.fill_diagonal(all_of_them, 0)
    nearest = np.sort(np.where(np.isinf(all_of_them), 0, all_of_them), axis=1)[:, :6]
    if metric != "bit_jaccard":
        found = np.sort(np.asarray(knn.distances).T, axis=1)
        np.testing.assert_allclose(found, nearest, rtol=1e-6, atol=1e-6)
    chosen = np.take_along_axis(all_of_them, np.asarray(knn.indices).T, axis=1)
    np.testing.assert_allclose(np.asarray(knn.distances).T, chosen, atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("metric", ["jaccard", "hamming", "manhattan"])
def test_the_order_of_rows_decides_nothing_where_many_are_as_near(rng, metric, sparse):
    data = np.unique(rng.integers(0, 3, (90, 6)).astype(float), axis=0)
    order = rng.permutation(len(data))
    held: list[Any] = [data, data[order]]
    if sparse:
        held = [*map(scipy.sparse.csr_matrix, held)]
    plain, moved = (find_neighbors(rows, 6, metric=metric) for rows in held)
    again = order[np.asarray(moved.indices)]
    np.testing.assert_array_equal(again, np.asarray(plain.indices)[:, order])
    rows = [nearest(held[0][:9], part, 4, metric=metric)[0] for part in held]
    np.testing.assert_array_equal(order[rows[1]], rows[0])


def test_new_rows_are_placed_by_sets_whether_sparse_or_not(rng, key):
    data = (rng.random((60, 12)) < 0.6).astype(np.float32)
    graph = aljax.GraphConfig(n_neighbors=5, metric="jaccard")
    layout = aljax.LayoutConfig(n_epochs=2)
    placed = []
    for given in (data, scipy.sparse.csr_matrix(data)):
        maps = aljax.fit([given], key=key, graph=graph, layout=layout)
        placed.append(maps.transform(given[:9]))
        with_one = maps.transform(given[4:5])
        np.testing.assert_array_equal(with_one, placed[-1][4:5])
    np.testing.assert_array_equal(*placed)


@pytest.mark.parametrize("metric", ["yule", "haversine"])
def test_a_metric_of_dense_rows_alone_says_so_of_sparse_ones(rng, metric):
    rows = scipy.sparse.csr_matrix(rng.random((30, 2)))
    with refused("metric", metric, "`.toarray()`"):
        find_neighbors(rows, 5, metric=metric)
    assert find_neighbors(rows.toarray(), 5, metric=metric).indices.shape == (5, 30)


def test_hellinger_refuses_negative_values(rng):
    with refused("metric", "hellinger", "at least 0"):
        find_neighbors(rng.normal(size=(30, 3)), 5, metric="hellinger")
