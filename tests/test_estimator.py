import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from helpers import SIZES, make_data, make_relations
from sklearn.base import clone

import aljax
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig

pytestmark = pytest.mark.usefixtures("as_users_run_it")
QUICK: dict[str, Any] = {"n_neighbors": 6, "n_epochs": 20, "random_state": 0}


WRONG: dict[str, Any] = {"relations": [{0: "a"}] * 2}
LABELS: Any = [[1]]


def one_map(**parameters: Any) -> aljax.UMAP:
    return aljax.UMAP(**parameters)


def blank(model: aljax.AlignedUMAP) -> Any:
    return clone(model)


@pytest.fixture(scope="module")
def fitted() -> aljax.AlignedUMAP:
    model = aljax.AlignedUMAP(**QUICK)
    return model.fit(make_data(), relations=make_relations())


def test_maps_are_plain_arrays_in_the_order_given(fitted):
    assert [one.shape for one in fitted.embeddings_] == [(n, 2) for n in SIZES]
    assert all(type(one) is np.ndarray for one in fitted.embeddings_)
    assert fitted.n_features_in_ == make_data()[0].shape[1]


def test_defaults_are_those_of_the_configs():
    parameters = aljax.AlignedUMAP().get_params()
    for cls in (GraphConfig, LayoutConfig, AlignmentConfig):
        for field in dataclasses.fields(cls):
            assert parameters[field.name] == field.default
    one_map = aljax.UMAP().get_params()
    assert set(parameters) - set(one_map) == {
        field.name for field in dataclasses.fields(AlignmentConfig)
    }


def test_every_parameter_reaches_the_fit():
    model = aljax.AlignedUMAP(
        **QUICK, min_dist=0.3, alignment_regularisation=0.5, local_connectivity=2
    )
    maps = model.fit(make_data(), relations=make_relations()).maps_
    assert maps.layout.min_dist == 0.3
    assert maps.alignment.alignment_regularisation == 0.5
    assert maps.graph.local_connectivity == 2


def test_random_state_decides_the_maps(fitted):
    again = blank(fitted).fit(make_data(), relations=make_relations())
    other = blank(fitted).set_params(random_state=1)
    other.fit(make_data(), relations=make_relations())
    np.testing.assert_array_equal(again.embeddings_[1], fitted.embeddings_[1])
    assert np.abs(other.embeddings_[1] - fitted.embeddings_[1]).max() > 0.1


def test_fit_transform_returns_what_fit_keeps(fitted):
    maps = blank(fitted).fit_transform(make_data(), relations=make_relations())
    np.testing.assert_array_equal(maps[0], fitted.embeddings_[0])


def test_a_model_pickles_with_its_maps(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.embeddings_[2], fitted.embeddings_[2])


def test_a_reversed_dict_is_read_backwards_with_a_warning():
    data = np.random.default_rng(0).normal(size=(70, 5)).astype(np.float32)
    slices, relations = aljax.sliding_windows(data, 50, 20)
    right = aljax.AlignedUMAP(**QUICK).fit(slices, relations=relations)
    wrong = [{new: old for old, new in relation.items()} for relation in relations]
    with pytest.warns(UserWarning, match=r"`relations\[0\]` is reversed"):
        turned = aljax.AlignedUMAP(**QUICK).fit(slices, relations=wrong)
    np.testing.assert_array_equal(turned.embeddings_[1], right.embeddings_[1])


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


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: one_map(min_dsit=0.1), "did you mean `min_dist`"),
        (lambda: one_map(alignment_window_size=2), "not a setting of UMAP"),
        (lambda: aljax.UMAP(min_dist=-1).fit(make_data()[0]), "`min_dist` is -1"),
        (lambda: aljax.UMAP().fit(make_data()[0], *LABELS), "`y` was given"),
        (lambda: aljax.UMAP().fit(make_data()[0][0]), r"`slices\[0\]` has shape"),
        (lambda: aljax.AlignedUMAP().fit(make_data()), "`relations` is None"),
        (
            lambda: aljax.AlignedUMAP().fit(make_data(), relations=[{0: 0}]),
            "`relations` has 1 dicts",
        ),
        (
            lambda: aljax.AlignedUMAP().fit(make_data(), **WRONG),
            "'a'",
        ),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
