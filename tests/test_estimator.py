import copy
import dataclasses
import pickle
import sys
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.sparse
from helpers import SIZES, make_data, make_relations, refused
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import kneighbors_graph
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import aljax
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.couple import Coupling
from aljax.graph.exact import exact_knn
from aljax.layout.sharding import read_devices
from aljax.umap_parameters import OF_ONE_MAP, POINTLESS

pytestmark = pytest.mark.usefixtures("as_users_run_it")
QUICK: dict[str, Any] = {"n_neighbors": 6, "n_epochs": 20, "random_state": 0}
BARE: dict[str, Any] = QUICK | {"n_epochs": 0}  # no layout to compile


NAMES: Any = [*"abcde"]
KNN: Any = aljax.as_knn(np.array([[0, 1], [1, 0]]), np.array([[0.0, 1.0], [0.0, 1.0]]))


def one_map(**parameters: Any) -> Any:
    return aljax.UMAP(**parameters)


def blank(model: Any) -> Any:
    return clone(model)


def laid_out(model: Any, **changed: Any) -> Any:
    """Another model with these parameters, fitted to the same slices."""
    again = blank(model).set_params(**changed)
    return again.fit(make_data(), relations=make_relations())


@pytest.fixture(scope="module")
def fitted() -> Any:
    return laid_out(aljax.AlignedUMAP(**QUICK))


def test_maps_are_plain_arrays_in_the_order_given(fitted):
    assert [one.shape for one in fitted.embeddings_] == [(n, 2) for n in SIZES]
    assert all(type(one) is np.ndarray for one in fitted.embeddings_)
    pairs = zip(fitted.embeddings_, fitted.maps_.maps, strict=True)
    assert not any(np.shares_memory(one, kept) for one, kept in pairs)
    assert fitted.n_features_in_ == make_data()[0].shape[1]


def test_defaults_are_those_of_the_configs():
    parameters = aljax.AlignedUMAP().get_params()
    for cls in (GraphConfig, LayoutConfig, AlignmentConfig):
        for field in dataclasses.fields(cls):
            assert parameters[field.name] == field.default
    one_of_one = aljax.UMAP().get_params()
    of_sequences = {field.name for field in dataclasses.fields(AlignmentConfig)}
    of_sequences |= {"scale", "scale_by", "missing"}
    assert set(parameters) - set(one_of_one) == of_sequences


def test_every_parameter_reaches_the_fit():
    changed: dict[str, Any] = {"min_dist": 0.3, "alignment_regularisation": 0.5}
    model = aljax.AlignedUMAP(**BARE, **changed, local_connectivity=2)
    maps = laid_out(model).maps_
    assert maps.layout.min_dist == 0.3
    assert maps.alignment.alignment_regularisation == 0.5
    assert maps.graph.local_connectivity == 2


def test_devices_share_the_layout(fitted, monkeypatch):
    asked = []

    def count(devices, n_slices):
        asked.append(devices)
        return read_devices(devices, n_slices)

    monkeypatch.setattr(sys.modules["aljax.fit"], "read_devices", count)
    shared = laid_out(fitted, devices=1)
    one_map(**BARE, devices=1).fit(make_data()[0])
    assert asked == [1, 1]
    np.testing.assert_allclose(shared.embeddings_[1], fitted.embeddings_[1], atol=1e-4)


def test_random_state_decides_the_maps(fitted):
    again, other = laid_out(fitted), laid_out(fitted, random_state=1)
    np.testing.assert_array_equal(again.embeddings_[1], fitted.embeddings_[1])
    assert np.abs(other.embeddings_[1] - fitted.embeddings_[1]).max() > 0.1


def test_fit_transform_returns_what_fit_keeps(fitted):
    maps = blank(fitted).fit_transform(make_data(), relations=make_relations())
    np.testing.assert_array_equal(maps[0], fitted.embeddings_[0])


def test_a_model_pickles_with_its_maps(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.embeddings_[2], fitted.embeddings_[2])


def test_one_map_is_a_sequence_of_one_slice():
    data = make_data()[0]
    model = aljax.UMAP(**QUICK)
    positions = model.fit_transform(data)
    assert positions.shape == (len(data), 2)
    np.testing.assert_array_equal(model.maps_.slices()[0], positions)
    started = aljax.UMAP(**{**QUICK, "n_epochs": 0}, init=positions).fit(data)
    np.testing.assert_allclose(started.embedding_, positions, rtol=1e-6)


def test_positions_are_read_back_as_plain_arrays(fitted):
    queries = fitted.embeddings_[1][:4]
    data = fitted.inverse_transform(queries, slice=1)
    assert type(data) is np.ndarray
    assert data.shape == (4, fitted.n_features_in_)
    np.testing.assert_array_equal(
        data, fitted.maps_.inverse_transform(queries, slice=1).points
    )
    one = one_map(**QUICK).fit(make_data()[0])
    assert one.inverse_transform(one.embedding_[:3]).shape == (3, one.n_features_in_)
    for model in (fitted, one):
        within = model.inverse_transform([[1e3, 1e3], [0, 0]], bounds=(0, 0.1))
        assert within.min() == 0
        assert within.max() == np.float32(0.1)


def test_a_pipeline_places_new_rows():
    data = make_data()[0] * 100
    model = make_pipeline(StandardScaler(), one_map(**BARE))
    positions = model.fit_transform(data)
    np.testing.assert_allclose(model.transform(data[:5]), positions[:5], atol=1e-5)


def test_frames_go_in_and_come_out():
    frame = pandas.DataFrame(make_data()[0], columns=NAMES)
    model = one_map(**BARE).set_output(transform="pandas").fit(frame)
    assert model.feature_names_in_.tolist() == [*"abcde"]
    placed: Any = model.transform(frame[:4])
    assert placed.columns.tolist() == ["umap0", "umap1"]
    assert model.get_feature_names_out().tolist() == ["umap0", "umap1"]
    np.testing.assert_allclose(placed.to_numpy(), model.embedding_[:4])
    sequence: Any = aljax.AlignedUMAP(**BARE).fit([frame, frame], relations=[{0: 0}])
    assert sequence.feature_names_in_.tolist() == [*"abcde"]
    placed = sequence.transform(frame.to_numpy())
    np.testing.assert_array_equal(sequence.transform(frame[[*"edcba"]]), placed)
    np.testing.assert_array_equal(sequence.transform(frame), placed)


def test_the_graph_is_that_of_the_maps(fitted):
    assert fitted.n_models_ == len(fitted.graphs_) == 3
    assert [one.shape for one in fitted.graphs_] == [(n, n) for n in SIZES]
    one = one_map(**BARE).fit(make_data()[0])
    assert scipy.sparse.issparse(one.graph_)
    assert one.graph_.shape == (SIZES[0], SIZES[0])


def test_sparse_data_and_distances_are_fitted():
    data = make_data()[0]
    sparse = scipy.sparse.csr_matrix(np.where(np.abs(data) < 0.3, 0, data))
    fitted = one_map(**BARE).fit(sparse)
    with refused("slice", "whose rows are sparse", "`rows.toarray()`"):
        fitted.inverse_transform([[0.0, 0.0]])
    graph = fitted.graph_
    dense = one_map(**BARE).fit(sparse.toarray()).graph_
    assert abs(graph - dense).max() < 1e-4
    distances = cdist(data, data)
    model = one_map(**BARE, metric="precomputed").fit(distances)
    assert model.__sklearn_tags__().input_tags.pairwise
    np.testing.assert_allclose(model.transform(distances[:3]), model.embedding_[:3])


def test_given_neighbors_are_taken():
    slices = make_data()
    tables = []
    for data in slices:
        distances = cdist(data, data)
        tables.append((np.argsort(distances)[:, :6], np.sort(distances)[:, :6]))
    lone = one_map(**BARE, precomputed_knn=(*tables[0], None)).fit(slices[0])
    expected = one_map(**BARE).fit(slices[0])
    np.testing.assert_allclose(lone.graph_.toarray(), expected.graph_.toarray(), 1e-4)
    knn = [tables[0], None, tables[2]]
    model = aljax.AlignedUMAP(**BARE, precomputed_knn=knn)
    assert model.fit(slices, relations=make_relations()).n_models_ == 3


def test_labels_shape_the_maps(fitted):
    slices = make_data()
    y: list[Any] = [np.arange(len(one)) % 2 for one in slices]
    y[1] = None
    model = blank(fitted).set_params(n_epochs=0)
    model.fit(slices, y, relations=make_relations())
    changed = [
        abs(one - other).max() > 0.1
        for one, other in zip(model.graphs_, fitted.graphs_, strict=True)
    ]
    assert changed == [True, False, True]
    model.update(slices[0], y[0], relations={0: 0})
    assert abs(model.graphs_[3] - model.graphs_[0]).max() < 1e-5
    values = one_map(**BARE, target_metric="l2").fit(slices[0], slices[0][:, 0])
    assert abs(values.graph_ - fitted.graphs_[0]).max() > 0.1


def test_n_neighbors_is_reduced_where_rows_are_few_with_one_warning():
    few, many = make_data((5, 40))
    mates = {i: i for i in range(5)}
    model = aljax.AlignedUMAP(**BARE)
    with pytest.warns(UserWarning, match="`n_neighbors` reaches") as raised:
        model.fit([many, few, few], relations=[mates, mates])
    assert len(raised) == 1
    assert "slice 1 (5 rows), slice 2 (5 rows)" in str(raised[0].message)
    assert [len(graph.neighbors) for graph in model.maps_.graphs] == [6, 4, 4]
    assert model.n_neighbors == 6
    model.update(many, relations=mates)  # the next slice has enough rows again
    assert len(model.maps_.graphs[3].neighbors) == 6
    with pytest.warns(UserWarning, match=r"reaches the rows of slice 4 \(5 rows\)"):
        model.update(few, relations={0: 0})
    assert len(model.maps_.graphs[4].neighbors) == 4


def test_parameters_that_do_nothing_are_named_in_one_warning():
    model = one_map(**BARE, low_memory=False, n_jobs=3, transform_queue_size=8.0)
    with pytest.warns(UserWarning, match="do nothing here") as raised:
        model.fit(make_data()[0])
    assert len(raised) == 1
    said = str(raised[0].message)
    assert said.startswith("`low_memory`, `n_jobs`, `transform_queue_size` of umap")
    known = {*aljax.UMAP().get_params()}
    assert {*POINTLESS} | {*OF_ONE_MAP} < known


def repeated() -> tuple[list[np.ndarray], list[dict[int, int]]]:
    """Slices whose last rows repeat others; the copies are related in slice 1 alone."""
    first, second, third = make_data((40, 40, 40))
    parts = (first, first[:4]), (second, second[:3], second[:3]), (third,)
    same = {row: row for row in range(5, 40)}
    return [*map(np.vstack, parts)], [same | {40: 43, 1: 1, 41: 41}, same | {40: 0}]


def test_equal_rows_of_slices_are_laid_out_once(tmp_path):
    slices, relations = repeated()
    model = aljax.AlignedUMAP(**BARE, unique=True)
    model.fit(slices, y=[None, np.arange(46) % 3, None], relations=relations)
    assert [*map(len, model.embeddings_)] == [44, 46, 40]
    assert [*map(len, model.maps_.maps)] == [40, 40, 40]
    for positions, copies in zip(
        model.embeddings_, ([0, 1, 2, 3], [0, 1, 2] * 2), strict=False
    ):
        np.testing.assert_array_equal(positions[40:], positions[copies])
    kinds: Any = model._unique_inverse_
    first, second, _ = kinds
    linked = model.maps_.relations
    pairs = {*map(tuple, np.stack(linked[0, 1][:2], axis=1).tolist())}
    assert pairs == {(first[a], second[b]) for a, b in relations[0].items()}
    assert len(pairs) == len(relations[0]) - 1  # rows 1 and 41 are linked alike
    assert linked[1, 1].rows.tolist().count(second[0]) == 1
    np.testing.assert_array_equal(model.mappers_[0].embedding_, model.embeddings_[0])
    np.testing.assert_array_equal(model.transform(slices[1], 1), model.embeddings_[1])
    assert [*map(len, model.rad_orig_)] == [44, 46, 40]
    model.save(tmp_path / "it")
    loaded = aljax.AlignedUMAP.load(tmp_path / "it")
    for other in (model, loaded):
        other.update(slices[0], relations={row: row for row in range(40)} | {0: 40})
        assert [*map(len, other.embeddings_)] == [44, 46, 40, 44]
    np.testing.assert_array_equal(loaded.embeddings_[3], model.embeddings_[3])
    assert (0, 3) in model.maps_.relations  # chained
    ids = [[*range(44)], [*range(46)], [*range(40)]]
    by_ids = aljax.AlignedUMAP(**BARE, unique=True).fit(slices, relations=ids)
    both = by_ids.maps_.relations[0, 1]
    assert (both.rows == first[3]).sum() == 2  # of rows 3 and 43
    with refused("relations", "is a list", "pairs", "unique=True"):
        by_ids.update(slices[2], relations=ids[2])
    pairs = np.array([[45, 0], [3, 5]])  # row 45 is of the kind of row 2
    pulls = dict.fromkeys([(0, 1), (1, 3)], (pairs, np.ones(2)))
    by_ids.update(slices[2], relations=Coupling((), pulls, (44, 46, 40, 40), ()))
    linked = by_ids.maps_.relations[1, 2]
    kinds = by_ids._unique_inverse_
    ends = [[second[2], kinds[3][0]], [second[3], kinds[3][5]]]
    assert sorted(np.stack(linked[:2], axis=1).tolist()) == sorted(ends)


@pytest.mark.parametrize("scale_by", ["all", "slice"])
def test_units_and_medians_are_of_all_rows_though_some_repeat(scale_by):
    slices, relations = repeated()
    for rows in slices[0][:2], slices[0][40:42]:  # which are equal once they are filled
        rows[:, 0] = np.nan
    settings = {"scale": "standard", "scale_by": scale_by, "missing": "median"}
    model = aljax.AlignedUMAP(**BARE, unique=True, **settings)
    model.fit(slices, relations=relations)
    assert [*map(len, model.maps_.maps)] == [40, 40, 40]
    np.testing.assert_array_equal(model.embeddings_[0][40], model.embeddings_[0][0])
    in_units, scaling = aljax.scale(slices, "standard", by=scale_by, missing="median")
    assert scaling is not None
    by_hand = aljax.AlignedUMAP(**BARE, unique=True).fit(in_units, relations=relations)
    new = np.vstack([slices[2], slices[2][:9]])
    to_new = {row: row for row in range(40)} | {0: 40}
    assert model.maps_.scaling is not None
    for known, expected in zip(
        model.maps_.scaling.columns, scaling.columns, strict=True
    ):
        np.testing.assert_array_equal(known.unit, expected.unit)
        np.testing.assert_array_equal(known.fill, expected.fill)
    np.testing.assert_allclose(
        model.transform(new, 1), by_hand.transform(scaling.columns[1].apply(new), 1)
    )
    units = aljax.scale([new], "standard")[1] if scale_by == "slice" else scaling
    assert units is not None
    model.update(new, relations=to_new, keep=2)
    by_hand.update(units.columns[-1].apply(new), relations=to_new, keep=2)
    np.testing.assert_allclose(model.embeddings_[1], by_hand.embeddings_[1])
    assert len(model.maps_.scaling.columns) == 2
    np.testing.assert_array_equal(
        model.maps_.scaling.columns[1].unit, units.columns[-1].unit
    )


def test_a_sequence_without_a_layout_is_refused():
    with refused("transform_mode", "is 'graph'", "'embedding'", "aljax.prepare"):
        aljax.AlignedUMAP(**BARE, transform_mode="graph").fit([make_data()[0]])


@pytest.mark.parametrize("estimator", ["UMAP", "AlignedUMAP"])
def test_a_wrong_name_suggests_the_right_one(estimator):
    make = getattr(aljax, estimator)
    with pytest.raises(
        TypeError,
        match=f"`min_dsit` is not a parameter of {estimator}.*did you mean `min_dist`",
    ):
        make(min_dsit=0.1)
    with pytest.raises(TypeError):
        make(15, 2, "euclidean", None, 500)  # umap-learn's fifth differs by class
    assert make(7, 3).get_params()["n_components"] == 3


def test_verbose_shows_the_terms_of_the_loss(capsys):
    one_map(**QUICK).fit(make_data()[0])
    assert capsys.readouterr() == ("", "")
    one_map(**QUICK, verbose=True, tqdm_kwds={"desc": "mine"}).fit(make_data()[0])
    shown = capsys.readouterr().err
    for text in ("mine", "20/20", "attraction=", "repulsion=", "alignment="):
        assert text in shown


def test_a_file_brings_an_estimator_back(fitted, tmp_path):
    path = tmp_path / "model.aljax"
    fitted.save(path)
    loaded = aljax.AlignedUMAP.load(path)
    assert loaded.get_params() == fitted.get_params()
    assert loaded.n_features_in_ == fitted.n_features_in_
    for one, other in zip(loaded.embeddings_, fitted.embeddings_, strict=True):
        np.testing.assert_array_equal(one, other)
    rows = make_data()[1][:4] + 0.1
    np.testing.assert_array_equal(
        loaded.transform(rows, slice=1), fitted.transform(rows, slice=1)
    )
    for load in (aljax.UMAP.load, aljax.load):
        with refused("path", str(path), "a file of AlignedUMAP", "`AlignedUMAP.load`"):
            load(path)
    fitted.maps_.save(path)
    with refused("path", "a file of AlignedEmbedding", "`AlignedEmbedding.load`"):
        aljax.AlignedUMAP.load(path)


def test_tables_of_neighbors_come_back_for_each_slice(tmp_path):
    knn = tuple(exact_knn(one, 6) for one in make_data())
    laid_out(aljax.AlignedUMAP(**BARE, precomputed_knn=knn)).save(tmp_path / "it")
    loaded = aljax.AlignedUMAP.load(tmp_path / "it")
    for one, other in zip(loaded.precomputed_knn, knn, strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_searched_the_neighbors_of_slices_is_not_saved(kind, tmp_path):
    arrays = [[*map(np.asarray, vars(exact_knn(x, 6)).values())] for x in make_data()]
    pairs = [tuple(array.T for array in pair) for pair in arrays]
    knn = kind([(*pairs[0], object()), None, pairs[2]])
    laid_out(aljax.AlignedUMAP(**BARE, precomputed_knn=knn)).save(tmp_path / "it")
    read, none, last = aljax.AlignedUMAP.load(tmp_path / "it").precomputed_knn
    assert read[2] is none is None
    np.testing.assert_array_equal(read[0], pairs[0][0])
    np.testing.assert_array_equal(last[1], pairs[2][1])


def test_sparse_neighbors_of_three_slices_come_back(tmp_path):
    knn = tuple(
        kneighbors_graph(x, 5, mode="distance", include_self=False) for x in make_data()
    )
    laid_out(aljax.AlignedUMAP(**BARE, precomputed_knn=knn)).save(tmp_path / "it")
    loaded = aljax.AlignedUMAP.load(tmp_path / "it").precomputed_knn
    for one, other in zip(loaded, knn, strict=True):
        np.testing.assert_array_equal(one.toarray(), other.toarray())


def test_a_file_whose_parts_do_not_fit_is_refused(fitted, tmp_path):
    forged = copy.copy(fitted)
    forged.maps_ = dataclasses.replace(fitted.maps_, graphs=[])
    forged.save(tmp_path / "it")
    with refused("path", "`graphs`"):
        aljax.AlignedUMAP.load(tmp_path / "it")


def test_a_file_of_one_map_keeps_names_and_may_leave_the_data_out(tmp_path):
    frame = pandas.DataFrame(make_data()[0], columns=NAMES)
    knn = (None, None, None)
    model = one_map(**BARE, precomputed_knn=knn).fit(frame)
    model.save(tmp_path / "it", with_data=False)
    loaded = aljax.UMAP.load(tmp_path / "it")
    np.testing.assert_array_equal(loaded.embedding_, model.embedding_)
    assert loaded.feature_names_in_.tolist() == [*"abcde"]
    assert loaded.get_feature_names_out().tolist() == ["umap0", "umap1"]
    with refused("slice", "slice 0", "`transform`"):
        loaded.transform(frame)
    with pytest.raises(NotFittedError):
        one_map().save(tmp_path / "other")
    state = np.random.RandomState(0)
    with refused("parameters/random_state", "is a RandomState"):
        blank(model).set_params(random_state=state).fit(frame).save(tmp_path / "it")


DATA = make_data()
GENERATOR = np.random.default_rng(0)
# The estimator, its parameters, what is fitted and how, the argument that is named,
# and words of the rest of the message.
REFUSED: list[tuple[Any, dict[str, Any], Any, dict[str, Any], str, str]] = [
    (one_map, {"min_dist": -1}, DATA[0], {}, "min_dist", "is -1"),
    (one_map, {"devices": 99}, DATA[0], {}, "devices", "99"),
    (one_map, {}, KNN, {}, "X", "is a KNN"),
    (one_map, {"random_state": -1}, DATA[0], {}, "random_state", "-1"),
    (one_map, {"random_state": GENERATOR}, DATA[0], {}, "random_state", "a whole"),
    (one_map, {"unique": "no"}, DATA[0], {}, "unique", "True or False"),
    (aljax.AlignedUMAP, {"unique": [False] * 3}, DATA, {}, "unique", "True or False"),
    (one_map, {"init": DATA[0]}, DATA[0], {}, "init", "shape (41, 5)"),
    (one_map, {}, DATA[0], {"y": [1, 2]}, "y", "shape (2,)"),
    (aljax.AlignedUMAP, {"init": DATA[:1]}, DATA[:1], {}, "init[0]", "shape (41, 5)"),
    (aljax.AlignedUMAP, {}, [KNN], {}, "X[0]", "is a KNN"),
    (aljax.AlignedUMAP, {}, DATA, {}, "relations", "is None"),
    (aljax.AlignedUMAP, {}, DATA, {"relations": [{0: 0}]}, "relations", "has 1 dicts"),
    *(
        (aljax.AlignedUMAP, {}, DATA, {"relations": [{0: 0}, relation]}, name, words)
        for relation, name, words in (
            (None, "relations[1]", "is None"),
            ({0: "a"}, "relations[1]", "'a'"),
        )
    ),
    (aljax.AlignedUMAP, {}, DATA[0], {}, "slices", "is one array"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[4]} {case[5]}")
def test_data_that_do_not_fit_are_refused(case):
    estimator, parameters, data, options, name, words = case
    with refused(name, words):
        estimator(**parameters).fit(data, **options)


@pytest.mark.parametrize(
    ("data", "said"), [(DATA[0][0], "Expected 2D"), (DATA[0][:0], "minimum of 1 is")]
)
def test_scikit_learn_refuses_other_shapes(data, said):
    with pytest.raises(ValueError, match=said):
        one_map().fit(data)


def test_parameters_set_after_fit_do_not_count_in_updates():
    model = laid_out(aljax.AlignedUMAP(**BARE))
    before, layout = model.n_neighbors, model.maps_.layout
    model.set_params(n_neighbors=before + 2, min_dist=0.9)
    model.update(make_data()[0], relations={0: 0, 1: 1})
    assert model.maps_.graph.n_neighbors == before
    assert model.maps_.layout.min_dist == layout.min_dist


def test_each_slice_has_a_mapper_in_the_shared_frame(fitted):
    slices = make_data()
    assert len(fitted.mappers_) == 3
    assert fitted.mappers_[1] is fitted.mappers_[1]
    for t, mapper in enumerate(fitted.mappers_):
        assert isinstance(mapper, aljax.UMAP)
        assert mapper.n_neighbors == fitted.n_neighbors
        np.testing.assert_array_equal(mapper.embedding_, fitted.embeddings_[t])
        new = slices[t][:4] + 0.01
        expected = fitted.transform(new, slice=t)
        np.testing.assert_array_equal(mapper.transform(new), expected)
        moved = mapper.embedding_ + 10
        mapper.embedding_ = moved
        again = pickle.loads(pickle.dumps(mapper))
        placed = again.transform(slices[t][:3])
        np.testing.assert_allclose(placed, moved[:3], atol=1e-5)
    del fitted.mappers_


@pytest.mark.parametrize("unique", [False, True])
def test_positions_of_other_rows_are_refused(unique):
    model = one_map(**BARE, unique=unique).fit(np.vstack([DATA[0], DATA[0][:3]]))
    right = model.embedding_
    wrong = [right[:-1], np.vstack([right, right]), right[:, :1], right * np.nan]
    for positions in (*wrong, right.astype(str), right.ravel()):
        model.embedding_ = positions
        words = str(positions.shape), str(right.shape)
        with refused("embedding_", *words):
            model.transform(DATA[0])
        with refused("embedding_", *words):
            model.inverse_transform(right)
    model.embedding_ = right[::-1].tolist()
    rows = DATA[0][:2]
    np.testing.assert_allclose(model.transform(rows), right[::-1][:2], atol=1e-5)


def test_sparse_rows_of_any_format_have_mappers():
    slices = [scipy.sparse.lil_matrix(abs(rows).round(1)) for rows in make_data()]
    model = aljax.AlignedUMAP(**BARE, metric="cosine")
    model.fit_transform(slices, relations=make_relations())
    placed = model.mappers_[-1].transform(slices[-1][:4])
    np.testing.assert_allclose(placed, model.embeddings_[-1][:4], atol=1e-5)
