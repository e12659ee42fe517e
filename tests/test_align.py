import math
import subprocess
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from helpers import (
    FEATURES,
    NEIGHBORS,
    SIZES,
    assert_same_maps,
    digit_windows,
    make_data,
    make_relations,
)

import aljax
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.fit import fit
from aljax.graph.build import build_graphs
from aljax.graph.exact import exact_knn
from aljax.graph.knn import KNN
from aljax.graph.slices import read_slices
from aljax.metrics import displacement, knn_accuracy, trustworthiness
from aljax.tables import sliding_windows

GRAPH = GraphConfig(n_neighbors=NEIGHBORS)
EPOCHS = 30
SEEDS = (0, 1, 2)


def lay_out(data=None, relations=None, *, seed=0, graph=GRAPH, strength=0.07, **layout):
    """A small sequence, quickly."""
    data = make_data() if data is None else data
    relations = make_relations() if relations is None else relations
    return fit(
        data,
        relations,
        key=jax.random.key(seed),
        graph=graph,
        layout=LayoutConfig(**{"n_epochs": EPOCHS, **layout}),
        alignment=AlignmentConfig(alignment_regularisation=strength),
    )


@pytest.fixture(scope="module")
def plain() -> AlignedEmbedding:
    return lay_out()


@pytest.fixture(scope="module")
def digits():
    return digit_windows()


@pytest.fixture(scope="module")
def digit_maps(digits) -> list[AlignedEmbedding]:
    windows, relations, _ = digits
    return [fit(windows, relations, key=jax.random.key(seed)) for seed in SEEDS]


@pytest.mark.parametrize("seed", SEEDS)
def test_digits_reach_the_quality_of_umap_learn_and_move_less(digits, digit_maps, seed):
    windows, relations, classes = digits
    assert len(windows) == 10
    assert relations[0] == {i + 150: i for i in range(250)}
    maps = digit_maps[seed].slices()
    trust = [trustworthiness(x, y) for x, y in zip(windows, maps, strict=True)]
    accuracy = [knn_accuracy(y, c) for y, c in zip(maps, classes, strict=True)]
    # umap-learn 0.5.12 here: .9773, .948 and .089.
    assert np.mean(trust) >= 0.978
    assert np.mean(accuracy) >= 0.948
    assert displacement(maps, digit_maps[seed].relations) <= 0.036


def test_without_alignment_mates_lie_far_apart(digits, digit_maps):
    windows, relations, _ = digits
    alone = AlignmentConfig(alignment_regularisation=0.0)
    apart = fit(windows, relations, key=jax.random.key(0), alignment=alone)
    held = displacement(digit_maps[0].slices(), digit_maps[0].relations)
    assert displacement(apart.slices(), apart.relations) > 5 * held


def test_the_layout_is_better_than_its_start(digits, digit_maps):
    windows, relations, _ = digits
    start = fit(
        windows[:3],
        relations[:2],
        key=jax.random.key(0),
        layout=LayoutConfig(n_epochs=0),
    )
    before, after = (
        np.mean([trustworthiness(windows[t], maps[t]) for t in range(3)])
        for maps in (start.slices(), digit_maps[0].slices())
    )
    assert before < after - 0.02


def test_maps_come_in_the_users_order_and_shape(plain):
    maps = plain.slices()
    assert [one.shape for one in maps] == [(size, 2) for size in SIZES]
    for y, x in zip(maps, make_data(), strict=True):
        assert trustworthiness(x, y, n_neighbors=5) > 0.8


def test_an_embedding_carries_all_that_led_to_it(plain):
    assert plain.relations.keys() == {(0, 1), (0, 2), (1, 1)}
    assert plain.graph == GRAPH
    assert plain.layout.n_epochs == EPOCHS
    assert {*plain.seconds} == {"graph", "relations", "start", "stack", "layout"}
    assert min(plain.seconds.values()) >= 0
    total = np.asarray(plain.history.total())
    assert total[-1] < total[0]
    for kept, given in zip(plain.data, make_data(), strict=True):
        np.testing.assert_array_equal(kept, given)


def test_an_embedding_passes_through_jit():
    listed = lay_out(min_dist=[0.1, 0.2, 0.3], n_epochs=2)
    total = jax.jit(lambda embedding: sum(one.sum() for one in embedding.maps))(listed)
    expected = sum(one.sum() for one in listed.maps)
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-3)


def test_the_same_key_gives_the_same_maps_and_another_key_others(plain):
    again, other = lay_out(), lay_out(seed=1)
    assert_same_maps(again.maps, plain.maps)
    assert np.abs(other.slices()[0] - plain.slices()[0]).max() > 0.1


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "wrong",
    [
        jax.random.split(jax.random.key(0), 3),
        jax.random.split(jax.random.PRNGKey(0), 2),
        np.zeros(2, np.uint32),
        jnp.zeros(5, jnp.uint32),
        jnp.zeros(2, jnp.int32),
        jnp.uint32(0),
        None,
    ],
    ids=["split", "split, raw", "NumPy", "long", "signed", "a scalar", "None"],
)
def test_what_is_not_one_key_is_refused(wrong):
    with pytest.raises(ValueError, match=r"(?s)^`key` is .*; expected a key by itself"):
        fit(make_data(), make_relations(), key=wrong)


def test_keys_of_the_old_style_serve_as_well():
    old = fit(
        make_data(),
        make_relations(),
        key=jax.random.PRNGKey(0),
        graph=GRAPH,
        layout=LayoutConfig(n_epochs=2),
    )
    assert_same_maps(old.maps, lay_out(n_epochs=2).maps)


def test_progress_is_told_about_twenty_times_and_changes_nothing(plain):
    epochs = []
    told = fit(
        make_data(),
        make_relations(),
        key=jax.random.key(0),
        graph=GRAPH,
        layout=LayoutConfig(n_epochs=EPOCHS),
        progress=lambda state: epochs.append(int(state.epoch)),
    )
    assert epochs == [*range(2, EPOCHS + 1, 2)]
    assert_same_maps(told.maps, plain.maps)


def test_no_epochs_return_the_start():
    start = [np.random.default_rng(0).normal(size=(n, 2)) for n in SIZES]
    maps = lay_out(init=start, n_epochs=0).slices()
    for one, given in zip(maps, start, strict=True):
        np.testing.assert_array_equal(one, given.astype(np.float32))


@pytest.mark.parametrize("none", [None, []])
def test_a_single_slice_needs_no_relations(none):
    one = fit(
        make_data()[:1],
        none,
        key=jax.random.key(0),
        graph=GRAPH,
        layout=LayoutConfig(n_epochs=2),
    )
    assert [y.shape for y in one.slices()] == [(SIZES[0], 2)]
    assert (np.asarray(one.history.alignment) == 0).all()


@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("init", ["spectral", "pca", "random"])
def test_maps_of_any_dimension_from_any_start(n_components, init):
    maps = lay_out(n_components=n_components, init=init, n_epochs=2).slices()
    assert [y.shape[1] for y in maps] == [n_components] * len(SIZES)
    assert all(np.isfinite(y).all() for y in maps)


def test_everything_works_in_double_precision():
    with jax.enable_x64(True):
        embedding = lay_out(n_epochs=2)
        assert {one.dtype for one in embedding.maps} == {np.dtype(np.float64)}
        assert all(np.isfinite(one).all() for one in embedding.maps)


MAP_SETTINGS = {
    "min_dist": 0.5,
    "spread": 2.0,
    "a": 3.0,
    "b": 1.5,
    "learning_rate": 0.5,
    "repulsion_strength": 3.0,
    "negative_sample_rate": 1.0,
}


@pytest.mark.parametrize("name", MAP_SETTINGS)
def test_each_setting_changes_the_map_of_the_slice_it_is_given_for(name):
    common = {"a": 1.5, "b": 0.9} if name in "ab" else {}
    default = common.get(name, getattr(LayoutConfig(), name))
    value = MAP_SETTINGS[name]
    maps = [
        lay_out(strength=0.0, **{**common, name: [default, middle, default]}).slices()
        for middle in (default, value)
    ]
    np.testing.assert_array_equal(maps[0][0], maps[1][0])
    np.testing.assert_array_equal(maps[0][2], maps[1][2])
    assert np.abs(maps[0][1] - maps[1][1]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_neighbors", 9), ("local_connectivity", 3.0), ("set_op_mix_ratio", 0.2)],
)
def test_each_setting_changes_the_graph_of_the_slice_it_is_given_for(name, value):
    default = getattr(GRAPH, name)
    changed = GraphConfig(**{"n_neighbors": NEIGHBORS, name: [default, value, default]})
    pairs = zip(
        build_graphs(read_slices(make_data()), GRAPH),
        build_graphs(read_slices(make_data()), changed),
        strict=True,
    )
    same = [
        np.array_equal(one.to_sparse().toarray(), other.to_sparse().toarray())
        for one, other in pairs
    ]
    assert same == [True, False, True]


def test_stronger_alignment_holds_mates_closer():
    moved = [
        displacement(one.slices(), one.relations)
        for one in (lay_out(strength=s, n_epochs=100) for s in (0.0, 0.05, 2.0))
    ]
    assert moved[0] > moved[1] > moved[2]


def test_neighbors_or_a_graph_may_be_given_instead_of_data(plain):
    data = make_data()
    tables = [exact_knn(x, NEIGHBORS) for x in data]
    graphs = build_graphs(read_slices(data), GRAPH)
    for given in (tables, graphs, [data[0], tables[1], graphs[2]]):
        embedding = lay_out(given)
        assert_same_maps(embedding.maps, plain.maps)
        assert [one is None for one in embedding.data] == [
            not isinstance(one, np.ndarray) for one in given
        ]


def test_slices_may_differ_in_rows_and_columns():
    rng = np.random.default_rng(0)
    shapes = [(41, 3), (25, 1)]
    data = [rng.normal(size=shape) for shape in shapes]
    rows = {i: i for i in range(20)}
    maps = lay_out(data, [rows], n_epochs=2).slices()
    assert [y.shape for y in maps] == [(41, 2), (25, 2)]


def test_rows_without_a_mate_and_duplicate_rows_are_laid_out():
    data = make_data()
    data[1][5:25] = data[1][5]
    maps = lay_out(data, [{3: 4}, {7: 7}]).slices()
    assert all(np.isfinite(y).all() for y in maps)
    assert len(np.unique(maps[1], axis=0)) == SIZES[1]


def test_disconnected_graphs_are_laid_out():
    data = make_data()
    for x in data:
        x[:20] += 1000
    maps = lay_out(data, n_epochs=100).slices()
    for y in maps:
        assert np.isfinite(y).all()
        centers = [y[:20].mean(axis=0), y[20:].mean(axis=0)]
        spread = max(y[:20].std(), y[20:].std())
        assert np.linalg.norm(centers[0] - centers[1]) > spread


@pytest.mark.parametrize("init", ["spectral", "pca", "random"])
def test_constant_data_give_finite_maps(init):
    data = [np.full((size, FEATURES), 0.1) for size in SIZES]
    maps = lay_out(data, init=init).slices()
    assert all(np.isfinite(y).all() for y in maps)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_data_of_any_scale_give_finite_maps(scale):
    maps = lay_out([x.astype(float) * scale for x in make_data()]).slices()
    assert all(np.isfinite(y).all() for y in maps)


def spoiled(change, t=1):
    """The usual data with one slice changed."""
    data: list = make_data()
    data[t] = change(data[t])
    return data


def with_value(x, value, row=7, column=2):
    x = x.copy()
    x[row, column] = value
    return x


BAD_DATA = {
    "no slices": ([], "^`slices` is empty"),
    "an array alone": (make_data()[0], r"^`slices` is one array .* Pass \[data\]"),
    "a number": (5, "^`slices` is a int; expected a list"),
    "text": ("data", "^`slices` is a str; expected a list"),
    "one dimension": (
        spoiled(lambda x: x[:, 0]),
        r"^`slices\[1\]` has shape \(48,\).*reshape",
    ),
    "three dimensions": (
        spoiled(lambda x: x[None]),
        r"^`slices\[1\]` has shape \(1, 48",
    ),
    "no rows": (spoiled(lambda x: x[:0]), r"^`slices\[1\]` has shape \(0, 5\)"),
    "no columns": (spoiled(lambda x: x[:, :0]), r"^`slices\[1\]` has shape \(48, 0\)"),
    "words": (
        spoiled(lambda x: with_value(x.astype(object), "red")),
        r"^`slices\[1\]` has 'red' \(str\) in row 7, column 2",
    ),
    "digits as text": (
        spoiled(lambda x: x.round().astype(int).astype(str)),
        r"^`slices\[1\]` has .*\(str_\) in row 0, column 0; expected numbers",
    ),
    "None": (
        spoiled(lambda x: with_value(x.astype(object), None)),
        r"^`slices\[1\]` has None \(NoneType\) in row 7, column 2",
    ),
    "complex numbers": (
        spoiled(lambda x: x + 1j),
        r"^`slices\[1\]` .*expected (real )?numbers",
    ),
    "dates": (
        spoiled(lambda x: np.full(x.shape, np.datetime64("2020-01-01"))),
        r"^`slices\[1\]` .*expected (real )?numbers",
    ),
    "ragged rows": (
        spoiled(lambda x: [[1.0, 2.0], *x.tolist()]),
        r"^`slices\[1\]` ",
    ),
    "a sparse matrix with NaN": (
        spoiled(lambda x: scipy.sparse.csr_matrix(with_value(x, np.nan))),
        r"^`slices\[1\]` has nan in row 7, column 2",
    ),
    "NaN": (
        spoiled(lambda x: with_value(x, np.nan)),
        r"^`slices\[1\]` has nan in row 7, column 2",
    ),
    "infinity": (
        spoiled(lambda x: with_value(x, -np.inf), t=2),
        r"^`slices\[2\]` has -inf in row 7, column 2",
    ),
    "too few rows": (
        spoiled(lambda x: x[:NEIGHBORS]),
        "^`n_neighbors` is 6, but slice 1 has 6 rows",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_cannot_be_laid_out_are_refused(case):
    data, said = BAD_DATA[case]
    rows = {i: i for i in range(NEIGHBORS)} if case == "too few rows" else None
    with pytest.raises(ValueError, match=said):
        lay_out(data, [rows, rows] if rows else None)


BAD_RELATIONS = {
    "none": (None, "^`relations` is None, but there are 3 slices; expected 2"),
    "too few": ([{0: 0}], "^`relations` has 1 dicts for 3 slices; expected 2"),
    "too many": ([{0: 0}] * 3, "^`relations` has 3 dicts for 3 slices; expected 2"),
    "a dict": ({0: 0}, r"^`relations` has the key 0; expected .* or a list of dicts"),
    "a key out of range": ([{47: 45}, {0: 0}], "maps from row 47, but slice 0 has 41"),
    "a value out of range": ([{0: 0}, {0: 48}], "maps to row 48, but slice 2 has 45"),
    "a negative row": ([{0: -1}, {0: 0}], r"^`relations\[0\]` maps to row -1"),
    "reversed": ([{47: 3, 2: 2}, {0: 0}], r"^`relations\[0\]` .*would fit reversed"),
    "keys that are no integers": ([{0: 0}, {"a": 1}], r"^`relations\[1\]` has 'a'"),
    "values that are no integers": ([{0: 0.0}, {0: 1}], r"^`relations\[0\]` has 0.0"),
    "two rows to one": ([{0: 1, 2: 1}, {}], "maps rows 0 and 2 to the same row 1"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("case", BAD_RELATIONS)
def test_relations_that_do_not_fit_are_refused(case):
    relations, said = BAD_RELATIONS[case]
    with pytest.raises(ValueError, match=said):
        fit(make_data(), relations, key=jax.random.key(0), graph=GRAPH)


@pytest.mark.usefixtures("as_users_run_it")
def test_windows_related_backwards_are_refused(digits):
    windows, relations, _ = digits
    backwards = [{new: old for old, new in r.items()} for r in relations[:2]]
    with pytest.raises(ValueError, match=r"^`relations\[0\]` is reversed"):
        fit(windows[:3], backwards, key=jax.random.key(0))


def test_an_empty_dict_warns_and_lays_the_slices_out_apart():
    with pytest.warns(UserWarning, match=r"^slice 2 has no mates in the slices before"):
        maps = lay_out(relations=[make_relations()[0], {}], n_epochs=2).slices()
    assert all(np.isfinite(y).all() for y in maps)


BAD_SETTINGS = {
    "no components": ({"n_components": 0}, "^`n_components` is 0"),
    "a negative strength": ({"strength": -1.0}, "^`alignment_regularisation` is -1"),
    "a strength of NaN": ({"strength": math.nan}, "^`alignment_regularisation` is nan"),
    "an infinite rate": ({"learning_rate": math.inf}, "^`learning_rate` is inf"),
    "a negative min_dist": ({"min_dist": -0.1}, "^`min_dist` is -0.1"),
    "min_dist above spread": ({"min_dist": 2.0}, "^`min_dist` is 2 and `spread` is 1"),
    "a list too short": ({"min_dist": [0.1, 0.2]}, "^`min_dist` has 2 values, .* 3 sl"),
    "a list too long": ({"learning_rate": [1.0] * 4}, "^`learning_rate` has 4 values"),
    "neighbors for two slices": (
        {"graph": GraphConfig(n_neighbors=[5, 6])},
        "^`n_neighbors` has 2 values, but there are 3 slices",
    ),
    "too many neighbors": (
        {"graph": GraphConfig(n_neighbors=[NEIGHBORS, 48, 45])},
        "^`n_neighbors` is 48, but slice 1 has 48 rows",
    ),
    "starts for two slices": (
        {"init": [np.zeros((41, 2)), np.zeros((48, 2))]},
        "^`init` has 2 maps for 3 slices",
    ),
    "an absurd rate": (
        {"learning_rate": 1e38},
        "^distances in the maps are not",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_fit_are_refused(case):
    settings, said = BAD_SETTINGS[case]
    with pytest.raises(ValueError, match=said):
        lay_out(**settings)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("key", [0, None, np.zeros(2, np.uint32), "key"])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(ValueError, match=r"^`key` is .*jax.random.key\(0\)"):
        fit(make_data()[:1], key=key)


def test_pca_of_a_table_of_neighbors_is_refused():
    table: KNN = exact_knn(make_data()[0], NEIGHBORS)
    with pytest.raises(
        ValueError, match=r"^`init` is 'pca', but slice 0 has no dense data"
    ):
        lay_out([table, *make_data()[1:]], init="pca")


def test_a_good_fit_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lay_out(n_epochs=2)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.uint8, np.float32),
        (np.int64, np.float64),
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (bool, np.float32),
    ],
)
def test_data_become_floats_wide_enough(given, kept):
    data = np.arange(12).reshape(4, 3).astype(given)
    read = read_slices([data])[0]
    assert isinstance(read, np.ndarray)
    assert read.dtype == kept
    np.testing.assert_array_equal(read, data.astype(kept))


def test_lists_and_numbers_kept_as_objects_are_data():
    rows = [[1, 2.5], [np.float32(0.5), True]]
    for given in (rows, np.array(rows, dtype=object)):
        np.testing.assert_array_equal(read_slices([given])[0], [[1, 2.5], [0.5, 1]])


def test_sliding_windows_overlap_and_relate_equal_rows():
    data = np.arange(23)[:, None]
    windows, relations = sliding_windows(data, 10, 4)
    assert [int(w[0, 0]) for w in windows] == [0, 4, 8, 12]
    assert len(relations) == 3
    for t, relation in enumerate(relations):
        assert len(relation) == 6
        for row, other in relation.items():
            assert windows[t][row] == windows[t + 1][other]


@pytest.mark.parametrize(
    ("size", "step", "said"),
    [
        (0, 1, "`size` is 0; expected 1 to 23"),
        (24, 1, "`size` is 24"),
        (5, 0, "`step` is 0; expected at least 1"),
    ],
)
def test_windows_out_of_range_are_refused(size, step, said):
    with pytest.raises(ValueError, match=said):
        sliding_windows(np.zeros((23, 1)), size, step)


GIVEN: dict[str, Any] = {"slices": make_data(), "relations": make_relations()}
MAPS: dict[str, Any] = {"new_slice": make_data()[0], "relations": {0: 0}}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("function", "given", "said"),
    [
        (aljax.fit, GIVEN | {"graph": {}}, "`graph` is a dict; expected"),
        (aljax.fit, GIVEN | {"layout": GRAPH}, "`layout` is a GraphConfig"),
        (aljax.fit, GIVEN | {"alignment": 0.1}, "`alignment` is a float"),
        (aljax.fit, GIVEN | {"checkpoints": "a"}, "`checkpoints` is a str"),
        (aljax.fit, GIVEN | {"progress": True}, "`progress` is a bool"),
        (aljax.update, MAPS | {"fitted": []}, "`fitted` is a list; .* `maps_`"),
    ],
)
def test_arguments_of_another_kind_are_named(function, given, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        function(**given, key=jax.random.key(0))


@pytest.mark.usefixtures("as_users_run_it")
def test_an_estimator_is_no_sequence_of_maps():
    given: dict[str, Any] = {"fitted": aljax.UMAP(), "new_rows": make_data()[0]}
    with pytest.raises(ValueError, match=r"`fitted` is a UMAP; .*`maps_`"):
        aljax.transform(**given, slice=0)


def test_rooms_load_on_first_use_and_wrong_names_get_a_hint():
    code = (
        "import aljax\n"
        "print(aljax.metrics.trustworthiness, aljax.sweep.sweep, aljax.plot.points)\n"
        "aljax.AlignedUmap"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.stdout.count("function") == 3
    assert "did you mean `AlignedUMAP`?" in found.stderr
