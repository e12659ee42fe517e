"""What a slice may be given as, and what is refused."""

import warnings
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import scipy.sparse
from helpers import (
    NEIGHBORS,
    assert_same_maps,
    import_umap,
    make_data,
    make_graphs,
    make_relations,
    refused,
)
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import kneighbors_graph

import aljax
from aljax import files as io
from aljax.columns import names_of
from aljax.config import GraphConfig, LayoutConfig
from aljax.errors import InputError
from aljax.graph.build import build_graphs
from aljax.graph.descent import LENGTHS, descent_knn
from aljax.graph.exact import exact_knn, nearest
from aljax.graph.knn import read_knn
from aljax.graph.neighbors import find_neighbors, knn_of_distances
from aljax.graph.pairs import FILLED, PLAIN_METRICS, SPARSE_METRICS
from aljax.graph.slices import read_rows, read_slice, read_slices
from aljax.metrics import local_radii

pytestmark = pytest.mark.usefixtures("as_users_run_it")
DATA = make_data()
HOLED = [np.where(np.abs(one) < 0.3, 0, one) for one in DATA]
DISTANCES = [cdist(one.astype(float), one.astype(float)) for one in DATA]
TABLES = [(np.argsort(one)[:, :9], np.sort(one)[:, :9]) for one in DISTANCES]
PRECOMPUTED = GraphConfig(n_neighbors=NEIGHBORS, metric="precomputed")


def fit(slices: Any, *, layout: Any = None, **options: Any) -> aljax.AlignedEmbedding:
    options.setdefault("graph", GraphConfig(n_neighbors=NEIGHBORS))
    return aljax.fit(
        slices,
        make_relations(),
        key=jax.random.key(0),
        layout=layout or LayoutConfig(n_epochs=10),
        **options,
    )


def nearest_stored(distances: np.ndarray, count: int) -> scipy.sparse.csr_matrix:
    """The nearest of each row as a sparse matrix, itself left out."""
    order = np.argsort(distances, axis=1)[:, 1 : count + 1]
    rows = np.repeat(np.arange(len(order)), count)
    entries = (np.take_along_axis(distances, order, axis=1).ravel(), order.ravel())
    return scipy.sparse.csr_matrix(
        (entries[0], (rows, entries[1])), shape=distances.shape
    )


@pytest.fixture(scope="module")
def fitted() -> aljax.AlignedEmbedding:
    return fit(DATA)


@pytest.fixture(scope="module")
def fitted_sparse() -> aljax.AlignedEmbedding:
    return fit([scipy.sparse.csr_matrix(one) for one in HOLED])


@pytest.fixture(scope="module")
def fitted_distances() -> aljax.AlignedEmbedding:
    return fit(DISTANCES, graph=PRECOMPUTED)


@pytest.mark.parametrize(
    "convert",
    [
        lambda one: one.tolist(),
        lambda one: one.astype(np.float64),
        jax.numpy.asarray,
        pandas.DataFrame,
        lambda one: pytest.importorskip("polars").from_numpy(one),
        lambda one: pandas.DataFrame(one).astype("Float64"),
    ],
    ids=["lists", "float64", "jax", "pandas", "polars", "nullable"],
)
def test_the_same_numbers_give_the_same_maps_however_they_are_held(fitted, convert):
    assert_same_maps(fit([convert(one) for one in DATA]).maps, fitted.maps)


def test_slices_may_differ_in_their_columns():
    narrow = [*DATA[:2], DATA[2][:, :3]]
    maps = fit(narrow)
    assert [one.shape for one in maps.maps] == [(len(one), 2) for one in DATA]
    placed = aljax.transform(maps, 2, narrow[2][:4])
    np.testing.assert_allclose(placed, maps.maps[2][:4])
    with pytest.raises(ValueError, match="5 columns, but slice 2 has 3"):
        aljax.transform(maps, 2, DATA[2][:4])


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_sparse_rows_have_the_neighbors_of_dense_ones(form):
    matrix = scipy.sparse.csr_array(HOLED[0]).asformat(form)
    rows: Any = read_rows(matrix, "X")
    assert isinstance(rows, scipy.sparse.csr_matrix)
    for metric in (*SPARSE_METRICS, *FILLED):
        found = find_neighbors(rows, NEIGHBORS, metric=metric)
        expected = find_neighbors(HOLED[0], NEIGHBORS, metric=metric)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)


def test_sparse_slices_are_kept_for_new_rows(fitted_sparse, tmp_path):
    rows = scipy.sparse.csr_matrix(HOLED[1][:6])
    own = fitted_sparse.maps[1][:6]
    np.testing.assert_allclose(aljax.transform(fitted_sparse, 1, rows), own)
    np.testing.assert_allclose(aljax.transform(fitted_sparse, 1, HOLED[1][:6]), own)
    fitted_sparse.save(tmp_path / "maps")
    loaded = aljax.load(tmp_path / "maps")
    kept = loaded.data[1]
    assert isinstance(kept, scipy.sparse.csr_matrix)
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept.toarray(), HOLED[1])
    with pytest.raises(ValueError, match=r"slice 2, whose rows are sparse.*toarray"):
        fitted_sparse.inverse_transform(own)
    with refused("init", "slice 0", "dense"):
        fit(fitted_sparse.data, layout=LayoutConfig(init="pca"))


def test_dense_slices_take_sparse_rows(fitted):
    rows = scipy.sparse.csr_matrix(DATA[1][:6])
    placed = aljax.transform(fitted, 1, rows)
    np.testing.assert_allclose(placed, fitted.maps[1][:6])


def test_a_sparse_matrix_in_a_file_has_the_same_bits(tmp_path):
    matrix = scipy.sparse.csr_matrix(HOLED[0].astype(np.float64))
    io.write(tmp_path / "it", "it", {"rows": matrix})
    again = io.read(tmp_path / "it", "it")["rows"]
    assert again.dtype == np.float64
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(again, part), getattr(matrix, part))


@pytest.mark.parametrize("store", [np.asarray, lambda one: nearest_stored(one, 8)])
def test_distances_give_the_graph_of_their_data(fitted, store):
    maps = fit([store(one) for one in DISTANCES], graph=PRECOMPUTED)
    for graph, expected in zip(maps.graphs, fitted.graphs, strict=True):
        np.testing.assert_array_equal(graph.neighbors, expected.neighbors)
        np.testing.assert_allclose(graph.weights, expected.weights, atol=1e-4)
    assert maps.data == [None] * 3


def test_new_rows_are_placed_by_their_distances(fitted_distances):
    placed = aljax.transform(fitted_distances, 1, DISTANCES[1][:6])
    np.testing.assert_allclose(placed, fitted_distances.maps[1][:6])
    with pytest.raises(ValueError, match="`new_rows` has 5 columns, but slice 1 has"):
        aljax.transform(fitted_distances, 1, DATA[1][:6])
    with refused("new_rows", "-"):
        aljax.transform(fitted_distances, 1, -DISTANCES[1][:6])
    with pytest.raises(ValueError, match="given as neighbors, a graph or distances"):
        fitted_distances.inverse_transform(fitted_distances.maps[2][:6])


def stored(distances: np.ndarray) -> scipy.sparse.csr_matrix:
    """What is finite, zeros on the diagonal and between repeated rows left out."""
    return scipy.sparse.csr_matrix(np.where(np.isfinite(distances), distances, 0))


GAPS: dict[str, Any] = {
    "inf": np.asarray,
    "NaN": lambda one: np.where(np.isinf(one), np.nan, one),
    "NaN on the diagonal": lambda one: one + np.diag([np.nan] * len(one)),
    "rounding below 0": lambda one: one - 1e-5 * (one == 0),
    "largest float": lambda one: np.where(np.isinf(one), np.finfo(float).max, one),
    "masked": np.ma.masked_invalid,
    "NA": lambda one: pandas.DataFrame(one).replace(np.inf, pandas.NA),
    "not stored": stored,
    "NaN stored": lambda one: stored(one) + scipy.sparse.diags([np.nan] * len(one)),
}


@pytest.mark.parametrize("gaps", GAPS)
def test_rows_without_a_distance_are_unrelated_as_in_umap_learn(gaps, monkeypatch):
    umap_ = import_umap("umap.umap_")
    names = "smooth_knn_dist", "compute_membership_strengths", "fast_knn_indices"
    for name in names:  # as plain Python, which is quicker than numba's compilation
        monkeypatch.setattr(umap_, name, getattr(umap_, name).py_func)
    distances = DISTANCES[0].copy()
    distances[20:, :20] = distances[:20, 20:] = np.inf  # two parts
    distances[5, 9:20] = distances[9:20, 5] = np.inf  # and rows of fewer neighbors
    distances[0, 3:20] = distances[3:20, 0] = np.inf
    chance = np.random.RandomState(0)
    theirs, *_ = umap_.fuzzy_simplicial_set(distances, NEIGHBORS, chance, "precomputed")
    slices = read_slices([GAPS[gaps](distances)], metric="precomputed")
    (graph,) = build_graphs(slices, PRECOMPUTED)
    np.testing.assert_allclose(graph.to_sparse().toarray(), theirs.toarray(), atol=1e-4)


def test_most_rows_with_few_distances_are_warned_of():
    with pytest.warns(UserWarning, match="100% of the rows of it .* fewer .* 5 that"):
        table = knn_of_distances(FEW, NEIGHBORS, name="it")
    near = np.sort(DISTANCES[0], axis=1)[:, :5]
    np.testing.assert_allclose(np.asarray(table.distances)[:5].T, near, rtol=1e-6)
    np.testing.assert_array_equal(table.indices[5], np.arange(len(near)))


def test_repeated_rows_may_have_lost_their_zeros():
    data = np.vstack([DATA[0], DATA[0][:9]]).astype(float)
    lost = scipy.sparse.csr_matrix(cdist(data, data))
    table = knn_of_distances(lost, NEIGHBORS, name="it")
    rows = np.arange(50)
    assert not (np.asarray(table.indices)[1:, :9] == rows[41:]).any()
    shown: Any = kneighbors_graph(data, NEIGHBORS - 1, mode="distance")
    shown.eliminate_zeros()
    table = knn_of_distances(shown, NEIGHBORS, name="it")
    weighed = np.asarray(table.indices)[1:] != rows
    np.testing.assert_array_equal(weighed.sum(axis=0), np.diff(shown.indptr))


def test_new_rows_may_have_sparse_distances_and_gaps(fitted_distances):
    distances = cdist(DATA[0][:7] + 0.1, DATA[0])
    placed = fitted_distances.transform(distances, 0)
    nearest = np.sort(distances, axis=1)[:, [NEIGHBORS]]
    near = np.where(distances <= nearest, distances, np.inf)
    for gaps in ("inf", "NaN", "masked", "NA", "not stored"):
        again = fitted_distances.transform(GAPS[gaps](near), 0)
        np.testing.assert_array_equal(again, placed)
    near[2] = np.inf
    with pytest.warns(UserWarning, match="1 of 7 new rows have no neighbor"):
        beside = fitted_distances.transform(stored(near), 0)
    np.testing.assert_array_equal(np.delete(beside, 2, 0), np.delete(placed, 2, 0))
    assert beside[2, 0] > fitted_distances.maps[0][:, 0].max()


def test_a_sparse_matrix_may_hold_the_neighbors(fitted):
    graphs = [kneighbors_graph(one, NEIGHBORS - 1, mode="distance") for one in DATA]
    maps = fit(DATA, precomputed_knn=graphs)
    for graph, expected in zip(maps.graphs, fitted.graphs, strict=True):
        np.testing.assert_allclose(graph.weights, expected.weights, atol=1e-4)
    config = GraphConfig(n_neighbors=NEIGHBORS)
    slices = read_slices(DATA[:1])
    (alone,) = build_graphs(slices, config, precomputed_knn=graphs[0])
    np.testing.assert_array_equal(alone.weights, maps.graphs[0].weights)
    with pytest.warns(UserWarning, match="nothing but ones"):
        build_graphs(slices, config, precomputed_knn=kneighbors_graph(DATA[0], 5))


@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_matrix])
def test_a_matrix_that_may_be_no_features_is_warned_of(convert):
    with pytest.warns(UserWarning, match=r"`X` .* `aljax.FuzzyGraph.from_sparse"):
        read_slice(convert(DISTANCES[0]), "X")
    read_slice(convert(np.eye(9) + np.eye(9)[::-1, ::1] * np.arange(9)), "X")


def test_given_neighbors_stand_for_the_search_and_the_data_stay(fitted):
    knn = exact_knn(DATA[2], NEIGHBORS)
    tables = [(*TABLES[0], "a search index"), None, knn]
    maps = fit(DATA, precomputed_knn=tables)
    for graph, expected in zip(maps.graphs, fitted.graphs, strict=True):
        np.testing.assert_array_equal(graph.neighbors, expected.neighbors)
    placed = aljax.transform(maps, 0, DATA[0][:6])
    np.testing.assert_allclose(placed, maps.maps[0][:6])


def test_an_update_takes_neighbors_and_classes():
    begun = fit(DATA, layout=LayoutConfig(n_epochs=0))

    def updated(**options: Any) -> aljax.AlignedEmbedding:
        new, relation = DATA[0], {0: 0, 5: 7}
        return aljax.update(begun, new, relation, key=jax.random.key(0), **options)

    plain, given = updated(), updated(precomputed_knn=TABLES[0])
    np.testing.assert_array_equal(plain.graphs[3].neighbors, given.graphs[3].neighbors)
    held = updated(y=np.arange(len(DATA[0])) % 2)
    before, after = plain.graphs[3].to_sparse(), held.graphs[3].to_sparse()
    assert abs(before - after).max() > 0.1


@pytest.mark.parametrize("metric", [*PLAIN_METRICS])
def test_plain_metrics_have_an_exact_search(metric):
    data = DATA[0][:, :2] if metric == "haversine" else np.round(DATA[0], 1)
    kwds: dict[str, Any] = {"p": 3} if metric == "minkowski" else {}
    knn = find_neighbors(data, NEIGHBORS, metric=metric, metric_kwds=kwds)
    distances = pairwise_distances(data, metric=metric, **kwds)
    np.fill_diagonal(distances, 0)
    nearest = np.sort(distances, axis=1)[:, :NEIGHBORS]
    np.testing.assert_allclose(np.asarray(knn.distances).T, nearest, atol=1e-4)


def test_degrees_are_warned_of_where_the_metric_takes_radians(rng):
    degrees = rng.uniform([-90, -180], [90, 180], (40, 2))
    radians = GraphConfig(n_neighbors=NEIGHBORS, metric="haversine")
    with pytest.warns(UserWarning, match=r"pi/2.*slice 0 \('a'\) and 1 more"):
        read_slices([degrees, np.radians(degrees), degrees], "abc", metric="haversine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = aljax.fit(
            [np.radians(degrees)],
            key=jax.random.key(0),
            graph=radians,
            layout=LayoutConfig(n_epochs=0),
        )
    with pytest.warns(UserWarning, match="pi/2.*`new_rows`"):
        aljax.transform(maps, 0, degrees[:3])
    with pytest.warns(UserWarning, match="pi/2.*slice 1"):
        maps.update(degrees, {0: 0}, key=jax.random.key(0))
    with pytest.warns(UserWarning, match="pi/2.*`rows`"):
        local_radii(degrees, n_neighbors=NEIGHBORS, metric="haversine")
    towards = GraphConfig(n_neighbors=NEIGHBORS, target_metric="haversine")
    with pytest.warns(UserWarning, match=r"pi/2.*`y\[0\]`"):
        build_graphs(read_slices([degrees]), towards, y=[degrees])
    with refused("target_metric", "1 columns"):
        build_graphs(read_slices([degrees]), towards, y=[degrees[:, 0]])
    with pytest.raises(InputError) as error:
        read_slices([np.zeros((9, 3))], metric="haversine")
    assert error.value.name == "metric"
    assert "3 columns" in error.value.got


@pytest.mark.parametrize(
    ("name", "metric"),
    [("l1", "manhattan"), ("cityblock", "manhattan"), ("linfinity", "chebyshev")],
)
def test_a_metric_has_one_meaning_by_all_its_names(name, metric):
    alike = [find_neighbors(DATA[0], NEIGHBORS, metric=m) for m in (name, metric)]
    np.testing.assert_array_equal(alike[0].distances, alike[1].distances)


def test_new_rows_are_placed_in_other_metrics():
    maps = fit(DATA, graph=GraphConfig(n_neighbors=NEIGHBORS, metric="canberra"))
    placed = aljax.transform(maps, 1, DATA[1][:6])
    np.testing.assert_allclose(placed, maps.maps[1][:6])


def test_a_metric_that_only_pynndescent_has_is_searched_by_its_function():
    data = np.abs(DATA[0])
    rows, distances = nearest(data[:3], data, 4, metric="hellinger")
    assert rows[:, 0].tolist() == [0, 1, 2]
    scaled = np.sqrt(data / data.sum(axis=1, keepdims=True))
    expected = np.sort(np.sqrt(1 - scaled[:3] @ scaled.T).clip(0), axis=1)[:, :4]
    np.testing.assert_allclose(distances[:, 1:], expected[:, 1:], atol=1e-3)


COST = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))  # of moving a unit
NEEDS: dict[str, dict[str, Any]] = {
    "minkowski": {"p": 3},
    "weighted_minkowski": {"w": np.ones(5, np.float32), "p": 3},
    "wminkowski": {"w": np.ones(5, np.float32), "p": 3},
    "mahalanobis": {"vinv": np.eye(5, dtype=np.float32)},
    "seuclidean": {"sigma": np.ones(5, np.float32)},
    "standardised_euclidean": {"sigma": np.ones(5, np.float32)},
    **{name: {"cost": COST} for name in ("kantorovich", "wasserstein", "sinkhorn")},
}
# Not between rows of any data: negative, or of another kind of rows.
NO_DISTANCE = ("inner_product",)


@pytest.mark.slow  # numba compiles pynndescent anew for each of them
def test_every_metric_that_pynndescent_knows_gives_a_graph():
    from pynndescent.distances import named_distances

    for metric in sorted({*named_distances} - {*NO_DISTANCE}):
        data = np.abs(make_data((60,))[0])
        data = data[:, :2] if metric == "haversine" else data
        if metric == "dot":
            data = data / np.linalg.norm(data, axis=1, keepdims=True)
        if metric.startswith("bit"):
            data = np.round(data * 50)
        kwds = NEEDS.get(metric)
        knn = descent_knn(data, NEIGHBORS, metric=metric, metric_kwds=kwds)
        indices = np.asarray(knn.indices)
        assert np.isfinite(knn.distances).all(), metric
        assert (indices[1:] != indices[0]).any(), metric


@pytest.mark.slow
def test_plain_metrics_mean_the_same_in_both_libraries():
    for metric in {*PLAIN_METRICS} - {"haversine", "minkowski"}:
        data = np.abs(np.round(DATA[0], 1)) + 0.1
        exact = find_neighbors(data, NEIGHBORS, metric=metric)
        near = find_neighbors(data, NEIGHBORS, metric=metric, knn_method="pynndescent")
        np.testing.assert_allclose(exact.distances, near.distances, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_pynndescent_is_given_rows_that_float32_can_compare(rng, metric):
    data = rng.normal(size=(400, 6))
    assert metric in LENGTHS
    near = descent_knn(data, 10, metric=metric)
    for offset, unit in ((1e35, 1e30), (1e7, 1.0)):
        other = descent_knn(data * unit + offset, 10, metric=metric)
        shared = np.asarray(near.indices) == np.asarray(other.indices)
        assert shared.mean() > 0.9
        ratio = np.asarray(other.distances)[1:] / np.asarray(near.distances)[1:] / unit
        np.testing.assert_allclose(np.median(ratio), 1.0, rtol=1e-3)


@pytest.mark.slow
def test_sparse_rows_of_other_metrics_go_through_pynndescent():
    matrix = scipy.sparse.csr_matrix(np.abs(HOLED[0]))
    knn = find_neighbors(
        matrix, NEIGHBORS, metric="hellinger", knn_method="pynndescent"
    )
    dense = find_neighbors(
        np.abs(HOLED[0]), NEIGHBORS, metric="hellinger", knn_method="pynndescent"
    )
    shared = np.asarray(knn.indices) == np.asarray(dense.indices)
    assert shared.mean() > 0.9
    near = find_neighbors(matrix, NEIGHBORS, knn_method="pynndescent")
    np.testing.assert_allclose(
        near.distances, exact_knn(matrix.toarray(), NEIGHBORS).distances, atol=1e-4
    )


def thinned() -> aljax.FuzzyGraph:
    graph = make_graphs()[0]
    return aljax.FuzzyGraph(graph.neighbors, graph.weights, graph.degrees[1:])


KNN = aljax.as_knn(*TABLES[0])
ROWS, FAR = KNN.indices, KNN.distances
SHIFTED = aljax.KNN((ROWS + 1) % len(DATA[0]), FAR)
LOW = DISTANCES[0] - 1
UPPER = scipy.sparse.csr_matrix(np.triu(DISTANCES[0]))
FEW = nearest_stored(DISTANCES[0], 4)
MASKED = np.ma.masked_greater(DATA[0], 1.0)
NAN = scipy.sparse.csr_matrix(np.where(DATA[0] > 2, np.nan, DATA[0]))


@pytest.mark.parametrize(
    ("act", "name", "words"),
    [
        (lambda: read_rows(NAN, "X"), "X", ["nan in row"]),
        (lambda: read_rows(NAN * 1j, "X"), "X", ["sparse", "complex"]),
        (lambda: fit(DATA, graph=PRECOMPUTED), "metric", ["'precomputed'", "slice 0"]),
        *(
            (
                lambda half=half: knn_of_distances(half, 4, name="slice 0"),
                "metric",
                ["slice 0", "one side", "matrix + matrix.T"],
            )
            for half in (np.tril(DISTANCES[0]), UPPER)
        ),
        (
            lambda: fit_distances(np.where(np.tri(41, k=-1), np.nan, DISTANCES[0])),
            "metric",
            ["one side", "np.fmin(matrix, matrix.T)"],
        ),
        (lambda: fit_distances(DISTANCES[0][0]), "slices[0]", ["squareform"]),
        (
            lambda: aljax.UMAP(metric="precomputed").fit(DISTANCES[0][0]),
            "X",
            ["squareform"],
        ),
        (lambda: fit([[], *DATA[1:]]), "slices[0]", ["np.zeros((0, features))"]),
        (
            lambda: knn_of_distances(LOW, 4, name="slice 0"),
            "metric",
            ["slice 0", "has -0.3"],
        ),
        (lambda: fit(DATA, precomputed_knn=FEW), "precomputed_knn", ["1 entries"]),
        (
            lambda: fit(DATA, precomputed_knn=[FEW[:, :9], None, None]),
            "precomputed_knn[0]",
            ["(41, 9)", "to each other"],
        ),
        (
            lambda: fit(DATA, precomputed_knn=[FEW, None, None]),
            "precomputed_knn[0]",
            ["slice 0", "5 neighbors", "at least the 6"],
        ),
        (lambda: read_knn(3, 41, 5, name="p"), "p", ["int"]),
        (lambda: read_knn(TABLES[0], 40, 5, name="p"), "p", ["41 rows", "40"]),
        (lambda: read_knn(TABLES[0], 41, 10, name="p"), "p", ["9 neighbors", "10"]),
        (lambda: read_knn(SHIFTED, 41, 5, name="p"), "p", ["has 1 as the"]),
        *(
            (lambda table=table: fit([aljax.KNN(*table)]), "slices[0]", words)
            for table, *words in (
                ((SHIFTED.indices, FAR), "has 1 as", "as_knn"),
                ((ROWS.T, FAR.T), "from 0 to 40 for 9 poi", "as_knn"),
                ((FAR, FAR), "float32", "whole"),
                ((ROWS, FAR - 1), "negative"),
                ((ROWS, FAR + np.nan), "not finite"),
            )
        ),
        (lambda: fit([thinned()]), "slices[0]", ["degrees", "(40,)", "41 points"]),
        (lambda: fit(DATA, precomputed_knn=[None]), "precomputed_knn", ["1 entries"]),
        (lambda: fit(DATA, precomputed_knn=7), "precomputed_knn", ["int"]),
        (lambda: fit(DATA, y=[[1]]), "y", ["1 entries for 3 slices"]),
        (lambda: fit(DATA, y=[[1], None, None]), "y[0]", ["slice 0", "shape (1,)"]),
        (
            lambda: descent_knn(scipy.sparse.csr_matrix(DATA[0]), 5, metric="tsss"),
            "metric",
            ["sparse rows"],
        ),
        (lambda: nearest(DATA[0], DATA[0], 3, metric="magic"), "metric", ["'magic'"]),
        (lambda: read_rows(MASKED, "X"), "X", ["masked"]),
        (
            lambda: aljax.slices_from_table(FEW, [0] * 41, [*range(41)]),
            "values",
            ["sparse", "by hand"],
        ),
    ],
)
def test_input_that_does_not_fit_is_refused(act, name, words):
    with refused(name, *words):
        act()


@pytest.mark.parametrize("offset", [0, 1e8])
def test_l2_is_euclidean(offset):
    data = DATA[0] + offset
    for search in (
        lambda metric: find_neighbors(data, NEIGHBORS, metric=metric),
        lambda metric: nearest(data[:5], data, NEIGHBORS, metric=metric),
    ):
        jax.tree.map(np.testing.assert_array_equal, search("l2"), search("euclidean"))


def test_masked_arrays_without_masked_entries_are_taken():
    np.testing.assert_array_equal(read_rows(np.ma.masked_array(DATA[0]), "X"), DATA[0])


def test_columns_of_an_arrow_table_have_its_names():
    columns = dict(zip("edcba", DATA[0].T[::-1], strict=True))
    table = pytest.importorskip("pyarrow").table(columns)
    read = read_slice(table, "X", others=[tuple("abcde")])
    assert read.columns == tuple("abcde")
    np.testing.assert_array_equal(read.features, DATA[0])


def as_frame(rows: np.ndarray, order: str = "abcde", library: Any = pandas) -> Any:
    """A frame with the columns a to e of the rows in some order."""
    return library.DataFrame({name: rows[:, "abcde".index(name)] for name in order})


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_are_matched_by_their_names(fitted, tmp_path, library):
    room = pytest.importorskip(library)
    orders = ("abcde", "edcba", "badce")
    frames = [as_frame(*pair, room) for pair in zip(DATA, orders, strict=True)]
    maps = fit(frames)
    assert_same_maps(maps.maps, fitted.maps)
    assert maps.columns == (tuple("abcde"),) * 3
    maps.save(tmp_path / "maps")
    expected = [fitted.transform(DATA[0][:5], t) for t in range(3)]
    for model in (maps, aljax.load(tmp_path / "maps")):
        for t in range(3):
            placed = model.transform(as_frame(DATA[0][:5], "cabed", room), slice=t)
            np.testing.assert_array_equal(placed, expected[t])
    longer = [
        model.update(new, {0: 0, 1: 1}, key=jax.random.key(1))
        for model, new in ((maps, as_frame(DATA[0], "edabc", room)), (fitted, DATA[0]))
    ]
    assert_same_maps(*(one.maps for one in longer))
    assert longer[0].columns == (tuple("abcde"),) * 4
    model = aljax.AlignedUMAP(n_neighbors=NEIGHBORS, n_epochs=10, random_state=0)
    model.fit(frames, relations=make_relations())
    plain = model.embeddings_
    model.fit(DATA, relations=make_relations())
    for one, other in zip(plain, model.embeddings_, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_that_a_function_takes_for_equal_have_no_distance():
    rows = np.array([[0.0, 1], [0, 2], [3, 0]])
    first = nearest(rows, rows, 3, metric=lambda x, y: abs(x[0] - y[0]))[1]
    np.testing.assert_array_equal(first, [[0, 0, 3], [0, 0, 3], [0, 3, 3]])


def test_columns_may_be_named_by_numbers_that_do_not_just_count():
    assert names_of(pandas.DataFrame(DATA[0])) is None
    frames = [as_frame(*pair) for pair in zip(DATA, ("edcba", "abcde"), strict=False)]
    for frame in frames:
        frame.columns = [1990 + "abcde".index(name) for name in frame.columns]
    bare: Any = {"n_neighbors": NEIGHBORS, "n_epochs": 0, "init": "random"}
    bare["random_state"] = 0
    model = aljax.AlignedUMAP(**bare).fit(frames, relations=make_relations()[:1])
    np.testing.assert_array_equal(model.maps_.data[1], DATA[1][:, ::-1])
    for door in (aljax.UMAP(**bare).fit(frames[0]), model.mappers_[0]):
        placed = door.transform(frames[0][sorted(frames[0])])
        np.testing.assert_array_equal(placed, door.embedding_)


NAMES = {
    "levels": pandas.MultiIndex.from_product([["p", "q"], [1, 2, 3]])[:5],
    "times": pandas.date_range("2020", periods=5, tz="Europe/Zurich"),
    "periods": pandas.period_range("2020", periods=5, freq="Y"),
    "decimals": [0.1, 0.2, 0.3, 0.4, 0.5],
    "words and numbers": ["a", 1, "b", 2, "c"],
    "places": range(5),
}


@pytest.mark.parametrize("kind", NAMES)
def test_columns_with_names_of_any_kind_are_matched_by_them(kind, tmp_path):
    frame = pandas.DataFrame(DATA[0])
    frame.columns = NAMES[kind]
    turned, same = frame.iloc[:, [3, 1, 2, 0, 4]], {i: i for i in range(len(frame))}
    bare: Any = {"n_epochs": 0, "init": "random"}
    maps = aljax.fit(
        [frame, turned],
        [same],
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(**bare),
    )
    maps.save(tmp_path / "maps")
    maps = aljax.load(tmp_path / "maps")
    np.testing.assert_array_equal(maps.data[1], maps.data[0])
    np.testing.assert_array_equal(maps.transform(turned), maps.transform(frame))
    with refused("new_rows", "`.to_frame().T` for one row"):
        maps.transform(row := turned.iloc[3])
    np.testing.assert_array_equal(maps.transform(row.to_frame().T)[0], maps.maps[1][3])
    longer = maps.update(turned, same, key=jax.random.key(1))
    np.testing.assert_array_equal(longer.data[2], maps.data[0])
    assert [*maps.inverse_transform(maps.maps[0][:1]).to_frame()] == [*frame]
    if kind != "words and numbers":  # which scikit-learn refuses
        model = aljax.UMAP(n_neighbors=NEIGHBORS, **bare).fit(turned)
        np.testing.assert_array_equal(model.transform(frame), model.embedding_)


def test_distances_in_frames_are_matched_by_the_names_of_rows_and_columns():
    frame, order = pandas.DataFrame(DISTANCES[0]), np.arange(len(DATA[0]))[::-1]
    (expected,) = fit_distances(frame).graphs
    for moved in (frame.iloc[order], frame.iloc[order, order]):
        (graph,) = fit_distances(moved).graphs
        whole = expected.to_sparse().toarray()[order][:, order]
        np.testing.assert_array_equal(graph.to_sparse().toarray(), whole)


def fit_distances(distances: Any) -> aljax.AlignedEmbedding:
    bare = LayoutConfig(n_epochs=0, init="random")
    key = jax.random.key(0)
    return aljax.fit([distances], key=key, graph=PRECOMPUTED, layout=bare)


def test_columns_of_other_names_are_refused(fitted):
    frames = [as_frame(rows) for rows in DATA]
    other = frames[1].rename(columns={"b": "income"})
    with refused("slices[1]", "of slice 1 ('y') has the columns ['income']", "names"):
        fit([frames[0], other, frames[2]], slice_labels=["x", "y", "z"])
    maps = fit(frames)
    with refused("new_rows", "of slice 2 has the columns ['income']", "names"):
        maps.transform(other)
    with refused("new_rows", "of slice 2 lacks ['a', 'e']", "same names"):
        maps.transform(frames[0][["b", "c", "d"]])
    whole = frames[2].assign(shop="x")
    with refused("new_rows", "has the columns ['shop']", "model.columns[0]"):
        maps.transform(whole)
    placed = maps.transform(whole[[*(maps.columns[0] or ())]])
    np.testing.assert_array_equal(placed, maps.transform(frames[2]))
    with refused("new_slice", "['income'] and lacks ['b']", "names"):
        maps.update(other, {0: 0}, key=jax.random.key(0))
    np.testing.assert_array_equal(
        maps.transform(other.to_numpy()), fitted.transform(DATA[1])
    )


@pytest.mark.parametrize("call", [aljax.fit, aljax.prepare])
def test_a_key_that_is_missing_is_asked_for(call):
    with refused("key", "is missing", "key=jax.random.key(0)"):
        call(make_data(), make_relations())
