"""What `UMAP` has beside `AlignedUMAP`: repeated rows, graphs alone, more rows."""

import pickle
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.sparse
from helpers import import_umap, make_data, refused
from sklearn.metrics.pairwise import nan_euclidean_distances

import aljax
from aljax.config import find_ab_params
from aljax.graph.exact import exact_knn

pytestmark = pytest.mark.usefixtures("as_users_run_it")
QUICK: dict[str, Any] = {"n_neighbors": 6, "n_epochs": 20, "random_state": 0}
BARE: dict[str, Any] = QUICK | {"n_epochs": 0}
DATA = make_data()[0]
REPEATED = np.concatenate([DATA, DATA[:7], DATA[:3]])
NEW = make_data()[1][:5]
SPARSE = scipy.sparse.csr_matrix(np.where(np.abs(REPEATED) < 0.3, 0, REPEATED))


def one_map(**parameters: Any) -> Any:
    return aljax.UMAP(**parameters)


@pytest.fixture(scope="module")
def fitted() -> Any:
    return one_map(**BARE, unique=True).fit(REPEATED)


def test_repeated_rows_are_laid_out_once_and_share_a_position(fitted):
    positions, rows = fitted.embedding_, len(DATA)
    assert positions.shape == (len(REPEATED), 2)
    np.testing.assert_array_equal(positions[rows : rows + 7], positions[:7])
    assert len(np.unique(positions, axis=0)) == rows == fitted.graph_.shape[0]
    alone = one_map(**BARE).fit(np.unique(REPEATED, axis=0))
    np.testing.assert_array_equal(fitted.graph_.toarray(), alone.graph_.toarray())
    np.testing.assert_allclose(fitted.transform(REPEATED), positions, atol=1e-5)


@pytest.mark.parametrize("none", [DATA[:0], [], SPARSE[:0]])
def test_no_rows_have_no_places(fitted, none):
    assert fitted.transform(none).shape == (0, 2)
    assert fitted._graph_to(DATA[:0]).shape == (0, len(DATA))


def test_positions_given_to_a_model_of_repeated_rows_are_taken(fitted):
    model = pickle.loads(pickle.dumps(fitted))
    model.embedding_ = fitted.embedding_ + 10
    placed = model.transform(REPEATED[-4:])
    np.testing.assert_allclose(placed, fitted.embedding_[-4:] + 10, atol=1e-5)
    start = one_map(**BARE, unique=True, init=model.embedding_).fit(REPEATED)
    np.testing.assert_allclose(start.embedding_, model.embedding_, atol=1e-3)


def test_positions_that_are_moved_in_place_are_taken():
    model = one_map(**BARE).fit(DATA)
    before, laid_out = model.transform(DATA[:3]), model.maps_
    model.embedding_ += 10
    np.testing.assert_allclose(model.transform(DATA[:3]), before + 10, atol=1e-4)
    np.testing.assert_allclose(laid_out.transform(DATA[:3]), before, atol=1e-4)


@pytest.mark.parametrize("pixels", [False, True])
def test_a_file_keeps_which_rows_repeat_and_positions_given(fitted, pixels, tmp_path):
    model = pickle.loads(pickle.dumps(fitted))
    if pixels:
        model.embedding_ = (100 * fitted.embedding_).astype(int)
    model.save(tmp_path / "it")
    loaded = aljax.UMAP.load(tmp_path / "it")
    np.testing.assert_array_equal(loaded.embedding_, model.embedding_)


@pytest.mark.parametrize("y", [[*range(len(DATA))], np.arange(len(DATA))])
def test_classes_and_sparse_rows_may_repeat(y):
    y = [*y, *y[:7], *y[:3]] if isinstance(y, list) else np.r_[y, y[:7], y[:3]]
    model = one_map(**BARE, unique=True).fit(SPARSE, y)
    assert model.graph_.shape[0] == len(np.unique(SPARSE.toarray(), axis=0))
    np.testing.assert_array_equal(model.embedding_[-3:], model.embedding_[:3])
    alone = one_map(**BARE).fit(SPARSE[: len(DATA)], y[: len(DATA)])
    np.testing.assert_allclose(
        model.graph_.toarray(), alone.graph_.toarray(), atol=1e-6
    )


@pytest.mark.parametrize(
    ("parameters", "y", "name", "words"),
    [
        ({"metric": "precomputed"}, None, "unique", "precomputed"),
        ({"precomputed_knn": (NEW, NEW)}, None, "unique", "precomputed_knn"),
        ({}, [0, 1], "y", "2 entries"),
        ({"init": np.zeros((3, 2))}, None, "init", "3 entries"),
    ],
)
def test_what_does_not_go_with_repeated_rows_is_refused(parameters, y, name, words):
    square = np.zeros((len(DATA), len(DATA)))
    data = square if "metric" in parameters else DATA
    with refused(name, words):
        one_map(**BARE, unique=True, **parameters).fit(data, y)


def test_a_graph_alone_is_made_without_a_map(tmp_path):
    model = one_map(**QUICK, transform_mode="graph")
    graph = model.fit_transform(DATA)
    expected = one_map(**BARE).fit(DATA).graph_
    np.testing.assert_array_equal(graph.toarray(), expected.toarray())
    assert not hasattr(model, "embedding_")
    assert len(model.get_feature_names_out()) == len(DATA)
    np.testing.assert_array_equal(model.transform(DATA).toarray(), graph.toarray())
    model.save(tmp_path / "it")
    loaded = aljax.UMAP.load(tmp_path / "it")
    np.testing.assert_array_equal(loaded.graph_.toarray(), graph.toarray())
    model.set_params(transform_mode="embedding")
    with refused("transform_mode", "graph", "Fit again"):
        model.transform(NEW)
    with refused("transform_mode", "is 'graphs'", "embedding, graph"):
        one_map(**BARE, transform_mode="graphs").fit(DATA)


def test_rows_are_added_to_a_graph_whatever_start_was_given():
    init = np.zeros((len(REPEATED), 2))
    model = one_map(**QUICK, transform_mode="graph", unique=True, init=init)
    graph = model.fit(REPEATED).update(NEW).graph_.toarray()
    whole = one_map(**QUICK, transform_mode="graph", unique=True)
    expected = whole.fit_transform(np.concatenate([REPEATED, NEW])).toarray()
    np.testing.assert_array_equal(graph, expected)


def test_memberships_of_new_rows_sum_to_the_size_of_their_neighborhood():
    model = one_map(**QUICK, transform_mode="graph").fit(DATA)
    graph = model.transform(NEW).toarray()
    assert graph.shape == (len(NEW), len(DATA))
    for row, memberships in zip(NEW, graph, strict=True):
        distances = np.linalg.norm(DATA - row, axis=1)
        near = np.argsort(distances)[:6]
        np.testing.assert_array_equal(np.sort(near), np.flatnonzero(memberships))
        rate = -np.log(memberships[near]) / distances[near]  # 1 / sigma
        np.testing.assert_allclose(rate, rate[0], rtol=1e-3)
        np.testing.assert_allclose(memberships[near[1:]].sum(), np.log2(6), rtol=1e-4)
    with pytest.warns(UserWarning, match="reaches the rows"):
        few = one_map(**QUICK, transform_mode="graph").fit(DATA[:6])
    graph = few.transform(NEW).toarray()
    np.testing.assert_array_equal((graph > 0).sum(axis=1), 5)
    rest = graph.sum(axis=1) - graph.max(axis=1)
    np.testing.assert_allclose(rest, np.log2(5), rtol=1e-3)
    far = one_map(**QUICK, transform_mode="graph", disconnection_distance=9.0)
    assert far.fit(DATA).transform(NEW + 100).nnz == 0


def test_rows_are_added_and_laid_out_from_where_they_are():
    frame = pandas.DataFrame(DATA, columns=[*"abcde"])  # pyright: ignore
    model = one_map(**BARE).fit(frame)
    new = pandas.DataFrame(NEW, columns=frame.columns)
    before, placed = model.embedding_, model.transform(new)
    assert model.update(new) is model
    expected = np.concatenate([before, placed])
    np.testing.assert_allclose(model.embedding_, expected, atol=1e-6)
    both = one_map(**BARE).fit(np.concatenate([DATA, NEW]))
    np.testing.assert_array_equal(model.graph_.toarray(), both.graph_.toarray())
    assert model.maps_.columns == (tuple("abcde"),)


def test_sparse_and_repeated_rows_are_added(fitted):
    model = pickle.loads(pickle.dumps(fitted)).update(REPEATED[:4])
    assert model.embedding_.shape == (len(REPEATED) + 4, 2)
    assert model.graph_.shape == fitted.graph_.shape
    np.testing.assert_array_equal(model.embedding_[-4:], model.embedding_[:4])
    sparse = one_map(**BARE, transform_mode="graph").fit(SPARSE[:30])
    sparse.update(SPARSE[30:])
    expected = one_map(**BARE).fit(SPARSE).graph_
    np.testing.assert_allclose(sparse.graph_.toarray(), expected.toarray(), atol=1e-6)


def test_rows_are_added_to_models_of_data_alone(tmp_path):
    with refused("X", "`y`", "Fit all rows together"):
        one_map(**BARE).fit(DATA, np.arange(len(DATA)) % 2).update(NEW)
    model = one_map(**BARE).fit(DATA)
    model.save(tmp_path / "it", with_data=False)
    with refused("X", "without rows"):
        aljax.UMAP.load(tmp_path / "it").update(NEW)
    known = exact_knn(DATA, 6)
    model = one_map(**BARE, precomputed_knn=(known.indices.T, known.distances.T))
    with refused("X", "`precomputed_knn`", "Fit all rows together"):
        model.fit(DATA).update(NEW)


def test_maps_of_a_sequence_know_what_shaped_their_graphs(tmp_path):
    classes, known = np.arange(len(DATA)) % 2, exact_knn(DATA, 6)
    knn = [None, None, (known.indices.T, known.distances.T)]
    same = [dict(zip(range(len(DATA)), range(len(DATA)), strict=True))] * 2
    model: Any = aljax.AlignedUMAP(**BARE, precomputed_knn=knn)
    model.fit([DATA] * 3, [classes, None, None], relations=same)
    model.update(DATA, classes, relations=same[0], keep=3)
    model.save(tmp_path / "it")
    for other in (model, aljax.AlignedUMAP.load(tmp_path / "it")):
        plain, with_neighbors, with_classes = other.mappers_
        assert len(plain.update(NEW).embedding_) == len(DATA) + len(NEW)
        for mapper, why in ((with_neighbors, "precomputed_knn"), (with_classes, "y")):
            with refused("X", f"`{why}`", "Fit all rows together"):
                mapper.update(NEW)


def test_few_rows_have_maps():
    with pytest.warns(UserWarning, match="2 rows of slice 0 are without an edge"):
        pair = one_map(**BARE).fit(DATA[:2])
    assert pair.embedding_.shape == (2, 2)
    with pytest.warns(UserWarning, match="1 row of slice 0 is without an edge"):
        model = one_map(**BARE).fit(DATA[:1])
    assert model.embedding_.shape == (1, 2)
    with refused("X", "a single row"):
        model.transform(NEW)


def test_names_that_umap_learns_tools_read_are_there(fitted):
    assert fitted._n_neighbors == 6
    assert (fitted._a, fitted._b) == find_ab_params(1.0, 0.1)
    np.testing.assert_array_equal(fitted._raw_data, REPEATED)
    model = one_map(**BARE, a=1.2, b=1.75).fit(DATA)
    assert (model._a, model._b) == (1.2, 1.75)
    of_each: dict[str, Any] = {"n_neighbors": [6, 5], "min_dist": [0.1, 0.3]}
    sequence: Any = aljax.AlignedUMAP(**BARE | of_each)
    last = sequence.fit([DATA, DATA], relations=[{0: 0}]).mappers_[1]
    assert last._n_neighbors == 5
    assert ((last * last)._a, last._b) == find_ab_params(1.0, 0.3)


@pytest.mark.slow  # numba compiles umap-learn for half a minute
@pytest.mark.parametrize("local_connectivity", [1.0, 2.5])
def test_graphs_are_those_of_umap_learn(local_connectivity):
    umap = import_umap("umap")
    settings = BARE | {"local_connectivity": local_connectivity}

    def both(**more: Any) -> tuple[Any, Any]:
        theirs = umap.UMAP(**settings, n_jobs=1, **more)
        return theirs, one_map(**settings, **more)

    def equal(theirs: Any, ours: Any) -> None:
        expected, found = (np.array(graph.toarray()) for graph in (theirs, ours))
        assert expected.shape == found.shape
        # Its layout cuts what it would sample less than once off its `graph_`.
        found[found < found.max() / 500] = 0
        np.testing.assert_allclose(found, expected, atol=1e-4)

    for data in (REPEATED, SPARSE):
        theirs, ours = (model.fit(data) for model in both(unique=True))
        if isinstance(data, np.ndarray):  # umap-learn sorts sparse rows as text
            equal(theirs.graph_, ours.graph_)
            assert (theirs._unique_inverse_ == ours._unique_inverse_).all()
        assert theirs.graph_.shape == ours.graph_.shape
    theirs, ours = (model.fit(DATA) for model in both(transform_mode="graph"))
    np.testing.assert_allclose(
        ours.graph_.toarray(), theirs.graph_.toarray(), atol=1e-4
    )
    np.testing.assert_allclose(
        ours.transform(NEW).toarray(), theirs.transform(NEW).toarray(), atol=1e-4
    )
    theirs, ours = (model.fit(DATA) for model in both())
    theirs.update(NEW)
    equal(theirs.graph_, ours.update(NEW).graph_)


def apart_where_known(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean((x - y) ** 2)))


def test_functions_may_compare_rows_with_gaps():
    gaps = np.where(np.arange(DATA.size).reshape(DATA.shape) % 17, DATA, np.nan)
    model = one_map(**BARE, metric=apart_where_known)
    with pytest.raises(ValueError, match="contains NaN"):
        model.fit(gaps)
    model.fit(gaps, None, "allow-nan")
    scale = np.sqrt(1 / DATA.shape[1])
    distances = scale * nan_euclidean_distances(gaps)
    by_distances = one_map(**BARE, metric="precomputed").fit(distances)
    np.testing.assert_allclose(
        model.graph_.toarray(), by_distances.graph_.toarray(), atol=1e-5
    )
    placed = model.transform(gaps[:9], "allow-nan")
    np.testing.assert_array_equal(placed, model.embedding_[:9])
    assert len(model.update(gaps[:5] + 0.1, False).embedding_) == len(DATA) + 5


def test_values_that_are_not_finite_need_distances_that_leave_them_out():
    gaps = DATA.copy()
    gaps[0, 1] = np.nan
    for allowed in (False, "allow-nan"):
        one_map(**BARE).fit(DATA, None, allowed)
        with refused("ensure_all_finite", f"{allowed!r}", "precomputed"):
            one_map(**BARE).fit(gaps, ensure_all_finite=allowed)
    with refused("ensure_all_finite", "'yes'", "allow-nan"):
        one_map(**BARE).fit(DATA, ensure_all_finite="yes")
    apart = nan_euclidean_distances(gaps)
    model = one_map(**BARE, metric="precomputed").fit(apart, None, "allow-nan")
    assert np.isfinite(model.embedding_).all()
