from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from helpers import CAPACITY, NEIGHBORS, SIZES, make_data, programs, refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from aljax.config import GraphConfig
from aljax.graph import build
from aljax.graph import exact as module
from aljax.graph.descent import descent_knn
from aljax.graph.exact import _search, exact_knn, largest
from aljax.graph.knn import as_knn, round_up
from aljax.graph.neighbors import find_neighbors
from aljax.graph.slices import read_slices


def brute_force(distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row's k nearest, itself first, from the matrix of all distances."""
    distances = distances.copy()
    np.fill_diagonal(distances, -1)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    np.fill_diagonal(distances, 0)
    return nearest, np.take_along_axis(distances, nearest, axis=1)


def check_against(knn, nearest, distances, rtol=1e-5, atol=0.0):
    np.testing.assert_array_equal(np.asarray(knn.indices).T, nearest)
    np.testing.assert_allclose(
        np.asarray(knn.distances).T, distances, rtol=rtol, atol=atol
    )


@pytest.mark.parametrize("size", [*SIZES, 65, 128, 129, 500])  # of one tile's 4 blocks
def test_exact_knn_equals_brute_force(size):
    data = make_data([size])[0]
    check_against(
        exact_knn(data, NEIGHBORS), *brute_force(cdist(data, data), NEIGHBORS)
    )


def test_exact_knn_equals_sklearn_beyond_one_tile(rng):
    data = rng.normal(size=(module.TILE + 90, 3)).astype(np.float32)
    theirs = NearestNeighbors(n_neighbors=9, algorithm="brute").fit(
        data.astype(np.float64)
    )
    distances, nearest = theirs.kneighbors()
    knn = exact_knn(data, 10)
    np.testing.assert_array_equal(np.asarray(knn.indices)[1:].T, nearest)
    np.testing.assert_allclose(np.asarray(knn.distances)[1:].T, distances, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e9, -1e30])
def test_the_largest_of_doubles_are_ordered_by_all_their_digits(offset, rng):
    values = rng.normal(size=(4, 300))
    values[0] = np.round(values[0], 1)  # of equal ones the first
    values[1] = 1e-42 * values[1]  # which float32 does not hold
    values[1, 3] = -1.0
    values[2, :290] = -np.inf
    values[3, 7] = np.inf
    values = values * max(1.0, abs(offset)) ** 0.5 + offset
    with jax.enable_x64(True):
        kept, chosen = jax.jit(largest, static_argnums=1)(values, 20)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(chosen, expected)
    np.testing.assert_array_equal(kept, np.take_along_axis(values, expected, axis=1))


def test_exact_knn_equals_brute_force_in_double_precision():
    whole = make_data()[0].astype(np.float64)
    for data in (whole, whole[:14]):  # hardly more rows than neighbors
        with jax.enable_x64(True):
            knn = exact_knn(data, NEIGHBORS)
            assert knn.distances.dtype == np.float64
            check_against(knn, *brute_force(cdist(data, data), NEIGHBORS), rtol=1e-12)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1, 1e6), (1, -1e9), (1e30, 0), (1e-30, 0)]
)
def test_exact_knn_finds_the_neighbors_at_any_offset_and_scale(scale, offset):
    data = make_data()[0].astype(np.float64) * scale + offset
    check_against(
        exact_knn(data, NEIGHBORS), *brute_force(cdist(data, data), NEIGHBORS)
    )


def test_exact_knn_finds_the_neighbors_in_clusters_far_apart():
    data = make_data()[0].astype(np.float64)
    data[::2] += 1e4
    knn = exact_knn(data, NEIGHBORS)
    nearest, distances = brute_force(cdist(data, data), NEIGHBORS)
    # In float32 the rows themselves are only known to 1e-3 of a cluster's width.
    np.testing.assert_allclose(np.asarray(knn.distances).T, distances, atol=1e-2)
    assert (nearest == np.asarray(knn.indices).T).mean() > 0.98


@pytest.mark.parametrize("far_out", [1e12, 1e20])
def test_exact_knn_finds_the_neighbors_beside_a_cell_far_out(far_out):
    data = make_data()[0].astype(np.float64)
    data[7, 1] = far_out  # such as the mark of a missing value
    knn = exact_knn(data, NEIGHBORS)
    nearest, _ = brute_force(cdist(data, data), NEIGHBORS)
    others = np.arange(len(data)) != 7  # which is as far from all
    np.testing.assert_array_equal(np.asarray(knn.indices).T[others], nearest[others])


def test_exact_knn_keeps_each_row_in_its_own_column_0_among_duplicates():
    data = make_data()[0]
    data[10:35] = data[10]
    knn = exact_knn(data, NEIGHBORS)
    indices, distances = np.asarray(knn.indices), np.asarray(knn.distances)
    np.testing.assert_array_equal(indices[0], np.arange(len(data)))
    assert all(len({*column}) == NEIGHBORS for column in indices.T.tolist())
    assert (distances[:, 10:35] == 0).all()
    assert set(indices[:, 10:35].ravel().tolist()) <= set(range(10, 35))


def test_exact_knn_of_constant_data_is_at_distance_0():
    knn = exact_knn(np.full((SIZES[0], 3), 0.1, dtype=np.float32), NEIGHBORS)
    assert (np.asarray(knn.distances) == 0).all()
    np.testing.assert_array_equal(np.asarray(knn.indices)[0], np.arange(SIZES[0]))


def test_exact_knn_follows_a_permutation_of_the_rows(rng):
    data = make_data()[0]
    order = rng.permutation(len(data))
    knn, permuted = exact_knn(data, NEIGHBORS), exact_knn(data[order], NEIGHBORS)
    np.testing.assert_array_equal(
        order[np.asarray(permuted.indices)], np.asarray(knn.indices)[:, order]
    )


def test_cosine_neighbors_equal_scipy():
    data = make_data()[0]
    expected = brute_force(cdist(data, data, "cosine"), NEIGHBORS)
    check_against(exact_knn(data, NEIGHBORS, metric="cosine"), *expected)


def test_cosine_neighbors_do_not_depend_on_the_lengths_of_rows():
    data = make_data()[0].astype(np.float64)
    lengths = 10.0 ** np.linspace(-30, 30, len(data))[:, None]
    expected = brute_force(cdist(data, data, "cosine"), NEIGHBORS)
    check_against(exact_knn(data * lengths, NEIGHBORS, metric="cosine"), *expected)


def test_rows_of_zeros_are_at_cosine_distance_1_from_all_but_each_other():
    data = np.abs(make_data()[0])  # positive: no other distance is as large as 1
    data[[3, 7]] = 0
    knn = exact_knn(data, NEIGHBORS, metric="cosine")
    for row, twin in ((3, 7), (7, 3)):
        assert np.asarray(knn.indices)[:2, row].tolist() == [row, twin]
        distances = np.asarray(knn.distances)[:, row]
        np.testing.assert_allclose(distances, [0, 0, 1, 1, 1, 1], atol=1e-6)
    others = np.delete(np.asarray(knn.indices), [3, 7], axis=1)
    assert not np.isin(others, [3, 7]).any()


@pytest.mark.parametrize("metric", ["cosine", "correlation", "braycurtis"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_matrix])
def test_rows_without_a_size_are_neighbors_in_every_form(metric, form, rng):
    rows = rng.random((40, 6))
    rows[[3, 17, 29]] = 0 if metric != "correlation" else [[0.1], [0.7], [0.0]]
    table = find_neighbors(form(rows), 5, metric=metric)
    indices, distances = (np.asarray(x)[:, 3] for x in (table.indices, table.distances))
    assert indices[:3].tolist() == [3, 17, 29]
    np.testing.assert_allclose(distances[:3], 0, atol=1e-6)
    assert distances[3] > 0.9


@pytest.mark.parametrize(
    ("metric", "scale", "offset"),
    [
        *(("euclidean", 1.0, 1e8), ("euclidean", 1e-25, 0.0)),
        *(("cosine", 1e-25, 0.0), ("correlation", 1e-25, 0.0)),
    ],
)
def test_sparse_rows_have_the_neighbors_of_dense_ones(metric, scale, offset, rng):
    rows = scale * rng.normal(size=(40, 6))
    rows[:, 0] += offset
    dense, sparse = (
        find_neighbors(form, 6, metric=metric)
        for form in (rows, scipy.sparse.csr_matrix(rows))
    )
    np.testing.assert_array_equal(dense.indices, sparse.indices)
    largest = float(np.asarray(dense.distances).max())
    np.testing.assert_allclose(
        dense.distances, sparse.distances, rtol=1e-5, atol=1e-6 * largest
    )


def test_near_sizes_share_one_program():
    exact_knn(make_data()[0], NEIGHBORS)
    before = programs(_search)
    for size in range(CAPACITY - 7, CAPACITY + 1):
        exact_knn(make_data([size])[0], NEIGHBORS)
    assert programs(_search) == before


@given(st.integers(1, 10**7))
def test_round_up_adds_little_and_is_idempotent(points):
    capacity = round_up(points)
    share = 4 if points <= 1024 else 8 if points <= 4096 else 32
    assert points <= capacity <= points + max(15, points // share)
    assert round_up(capacity) == capacity
    assert capacity <= round_up(points + 1)


def slow_normal_form(indices, distances):
    """For each row {neighbor: nearest distance}, nearest k - 1 of them."""
    rows = []
    for i in range(len(indices)):
        best: dict[int, float] = {}
        for j, d in zip(indices[i].tolist(), distances[i].tolist(), strict=True):
            if j not in (-1, i) and d < np.inf:
                best[j] = min(d, best.get(j, np.inf))
        nearest = sorted(best.values())[: indices.shape[1] - 1]
        rows.append((best, nearest))
    return rows


@given(
    arrays.arrays(np.int64, (6, 5), elements=st.integers(-1, 5)),
    arrays.arrays(np.float64, (6, 5), elements=st.sampled_from([0, 1, 2, 3, np.inf])),
)
def test_as_knn_brings_any_table_into_normal_form(indices, distances):
    knn = as_knn(indices, distances)
    kept, near = np.asarray(knn.indices).T, np.asarray(knn.distances).T
    for i, (best, nearest) in enumerate(slow_normal_form(indices, distances)):
        assert kept[i, 0] == i
        assert near[i, 0] == 0
        others = kept[i, 1 : 1 + len(nearest)].tolist()
        assert len({*others}) == len(nearest)
        assert near[i, 1 : 1 + len(nearest)].tolist() == nearest
        assert [best[j] for j in others] == nearest
        assert (kept[i, 1 + len(nearest) :] == i).all()
        assert (near[i, 1 + len(nearest) :] == 0).all()


def test_as_knn_leaves_what_is_in_normal_form():
    knn = exact_knn(make_data()[0], NEIGHBORS)
    again = as_knn(np.asarray(knn.indices).T, np.asarray(knn.distances).T)
    np.testing.assert_array_equal(again.indices, knn.indices)
    np.testing.assert_array_equal(again.distances, knn.distances)


@pytest.mark.parametrize(
    ("index", "distance"),
    [(-1, np.nan), (-1, np.finfo(np.float32).max), (-1, -1.0), (3, np.inf)],
    ids=["NaN", "faiss", "negative", "scipy"],
)
def test_neighbors_that_are_missing_may_be_told_by_either_side(index, distance):
    indices, distances = np.array([[0, 1], [1, 2], [2, 0]]), np.eye(3)[:, :2] + 1
    indices[1, 1], distances[1, 1] = index, distance
    knn = as_knn(indices, distances)
    np.testing.assert_array_equal(knn.indices, [[0, 1, 2], [1, 1, 0]])
    assert np.asarray(knn.distances)[1, 1] == 0


INDICES = np.array([[0, 1], [1, 2], [2, 0]])
DISTANCES = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("indices", "distances", "words"),
    [
        (INDICES, DISTANCES[:, :1], ["(3, 2)", "(3, 1)"]),
        (INDICES[0], DISTANCES[0], ["(2,)"]),
        (INDICES + 1, DISTANCES, ["from 1 to 3", "0 to 2"]),
        (INDICES - 2, DISTANCES, ["from -2 to 0"]),
        (INDICES, DISTANCES - 1, ["negative"]),
        (INDICES, DISTANCES * np.nan, ["NaN"]),
        (INDICES, DISTANCES * 1e300, ["too large"]),
        (INDICES * 1.0, DISTANCES, ["float64", "whole"]),
        (INDICES[:, :1], DISTANCES[:, :1], ["at least two"]),
        (INDICES[:0], DISTANCES[:0], ["(0, 2)"]),
        (None, "a", ["arrays"]),
    ],
)
def test_as_knn_refuses_other_tables(indices, distances, words):
    with refused("precomputed_knn", *words):
        as_knn(indices, distances)


@pytest.fixture
def approximations(monkeypatch):
    """The calls to the approximate searches, which are not made."""
    calls = []

    def record(data, n_neighbors, **settings):
        calls.append(settings)
        return exact_knn(data, n_neighbors)

    for search in ("approximate_knn", "descent_knn"):
        monkeypatch.setattr(f"aljax.graph.neighbors.{search}", record)
    return calls


def test_the_exact_search_is_taken_while_it_is_cheap(approximations, monkeypatch):
    data = make_data()[0]
    find_neighbors(data, NEIGHBORS)
    assert not approximations
    monkeypatch.setattr("aljax.graph.neighbors.EXACT_OPERATIONS", data.shape[0] ** 2)
    find_neighbors(data, NEIGHBORS, seed=3)
    assert [call["seed"] for call in approximations] == [3]
    find_neighbors(data, NEIGHBORS, knn_method="exact")
    assert len(approximations) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"metric": "jensen_shannon"},
        {"metric": "euclidean", "metric_kwds": {"p": 3}},
        {"metric": "manhattan", "knn_method": "approximate"},
    ],
)
def test_pynndescent_searches_what_nothing_else_can_and_says_so(
    approximations, settings
):
    with pytest.warns(UserWarning, match=f"pynndescent.*'{settings['metric']}'"):
        find_neighbors(abs(make_data()[0]), NEIGHBORS, **settings)
    assert approximations[0]["metric"] == settings["metric"]
    assert approximations[0]["metric_kwds"] == settings.get("metric_kwds")


@pytest.mark.parametrize("metric", ["euclidean", "jensen_shannon"])
def test_pynndescent_can_be_asked_for_without_a_warning(approximations, metric):
    find_neighbors(make_data()[0], 6, metric=metric, knn_method="pynndescent")
    assert approximations == [{"metric": metric, "metric_kwds": None, "seed": 0}]


@pytest.mark.parametrize("metric", ["euclidean", "l2", "cosine", "correlation"])
def test_cells_are_asked_in_metrics_of_the_device(approximations, metric):
    find_neighbors(make_data()[0], 6, metric=metric, knn_method="approximate")
    known = "euclidean" if metric == "l2" else metric
    assert approximations == [{"metric": known, "seed": 0}]


EXACT: dict[str, Any] = {"knn_method": "exact"}


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        ({"metric": "mahalanobis"}, "metric_kwds", ["`vinv`", "None", "(4, 4)"]),
        (
            {"metric": "seuclidean", "metric_kwds": {"sigma": np.ones(2)}},
            "metric_kwds",
            ["`sigma`", "(2,)", "(4,)"],
        ),
        (
            {"metric": "wminkowski", "metric_kwds": {"p": 3}},
            "metric_kwds",
            ["`w`", "None", "(4,)"],
        ),
        (
            {"metric": "kantorovich", "metric_kwds": {"cost": np.ones((4, 3))}},
            "metric_kwds",
            ["`cost`", "(4, 3)", "(4, 4)"],
        ),
        (
            {"metric": "jensen_shannon", **EXACT},
            "metric",
            ["jensen_shannon", "euclidean, cos"],
        ),
        ({"metric_kwds": {"p": 3}, **EXACT}, "metric", ["'p': 3", "euclidean, cosine"]),
        ({"metric": "manhatan"}, "metric", ["'manhatan'", "`manhattan`"]),
        ({"metric": "precompute"}, "metric", ["`precomputed`"]),
        ({"metric": ["cosine"]}, "metric", ["['cosine']", "the name of a metric"]),
        ({"knn_method": "exakt"}, "knn_method", ["'exakt'", "`exact`"]),
    ],
)
def test_metrics_that_cannot_be_searched_are_refused(rng, settings, name, words):
    with refused(name, *words):
        find_neighbors(rng.normal(size=(40, 4)), 5, **settings)


@pytest.mark.slow  # numba compiles pynndescent for 10 to 30 seconds
def test_neighbors_of_pynndescent_are_mostly_exact_and_repeat_with_the_seed(rng):
    data = rng.normal(size=(600, 10)).astype(np.float32)
    exact = np.asarray(exact_knn(data, 10).indices)
    found = np.asarray(descent_knn(data, 10, seed=1).indices)
    np.testing.assert_array_equal(found[0], np.arange(600))
    shared = [len({*a} & {*b}) for a, b in zip(exact.T, found.T, strict=True)]
    assert np.mean(shared) / 10 > 0.95
    again = np.asarray(descent_knn(data, 10, seed=1).indices)
    np.testing.assert_array_equal(again, found)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_pynndescent_is_asked_in_all_units(metric, scale):
    data = make_data((200,))[0]
    plain = descent_knn(data, 6, metric=metric)
    scaled = descent_knn(data * np.float32(scale), 6, metric=metric)
    np.testing.assert_array_equal(plain.indices, scaled.indices)
    unit = 1 if metric == "cosine" else scale
    near = np.asarray(plain.distances) * unit
    np.testing.assert_allclose(scaled.distances, near, rtol=1e-4, atol=1e-6 * unit)


def test_slices_with_the_same_rows_are_searched_once(monkeypatch):
    asked = []

    def count(data, n_neighbors, **settings):
        asked.append(n_neighbors)
        return find_neighbors(data, n_neighbors, **settings)

    monkeypatch.setattr(build, "find_neighbors", count)
    one, other = make_data()[:2]
    slices, n_neighbors = [one, one.copy(), one, other, one], [5, 5, 6, 5, 6]
    graphs = build.build_graphs(
        read_slices(slices), GraphConfig(n_neighbors=n_neighbors)
    )
    assert asked == [6, 5, 6]
    pairs = zip(slices, n_neighbors, strict=True)
    tables = [find_neighbors(rows, k) for rows, k in pairs]
    # Side by side, too: a program of another length may round otherwise.
    expected = build.weigh(tables, [1.0] * 5, [1.0] * 5)
    jax.tree.map(np.testing.assert_array_equal, graphs, expected)


def test_neighbors_that_were_given_do_not_serve_other_slices():
    one = make_data()[0]
    given = exact_knn(make_data()[1][: len(one)], NEIGHBORS)
    config = GraphConfig(n_neighbors=NEIGHBORS)
    tables = [None, given, None]
    graphs = build.build_graphs(read_slices([one] * 3), config, precomputed_knn=tables)
    (alone,) = build.build_graphs(read_slices([one]), config)
    jax.tree.map(np.testing.assert_array_equal, graphs[2], alone)
    assert not np.array_equal(graphs[1].neighbors, alone.neighbors)


def test_graphs_are_built_in_the_context_of_the_caller(monkeypatch):
    contexts = []

    def look(*data, **settings):
        config: Any = jax.config
        contexts.append((config.jax_default_matmul_precision, config.jax_debug_nans))
        return find_neighbors(*data, **settings)

    monkeypatch.setattr(build, "find_neighbors", look)
    slices, settings = read_slices(make_data()[:2]), GraphConfig(n_neighbors=NEIGHBORS)
    with jax.default_matmul_precision("float32"), jax.debug_nans(True):
        build.build_graphs(slices, settings)
    assert contexts == [("float32", True)] * 2
