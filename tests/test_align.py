import dataclasses
import importlib.metadata
import math
import subprocess
import sys
import warnings
from datetime import datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse
from helpers import (
    FEATURES,
    NEIGHBORS,
    SIZES,
    assert_same_maps,
    make_data,
    make_relations,
    refused,
)

import aljax
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError
from aljax.fit import fit
from aljax.graph.build import build_graphs
from aljax.graph.exact import exact_knn
from aljax.graph.slices import read_slices
from aljax.metrics import displacement, trustworthiness
from aljax.progress import timed
from aljax.tables import sliding_windows

GRAPH = GraphConfig(n_neighbors=NEIGHBORS)
EPOCHS = 30
OTHERS = [(1, "spectral"), (3, "pca"), (3, "random")]  # components and starts


def lay_out(
    data=None,
    relations=None,
    *,
    seed=0,
    graph=GRAPH,
    strength=0.07,
    start=None,
    optimizer=None,
    progress=None,
    **layout,
):
    """A small sequence, quickly."""
    data = make_data() if data is None else data
    relations = make_relations() if relations is None else relations
    return fit(
        data,
        relations,
        key=jax.random.key(seed),
        graph=graph,
        start=start,
        optimizer=optimizer,
        progress=progress,
        layout=LayoutConfig(**{"n_epochs": EPOCHS, **layout}),
        alignment=AlignmentConfig(alignment_regularisation=strength),
    )


@pytest.fixture(scope="module")
def plain() -> AlignedEmbedding:
    return lay_out()


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
        0,
        "key",
        None,
    ],
    ids=lambda key: f"{type(key).__name__} {getattr(key, 'shape', '')}",
)
def test_a_value_that_is_not_one_key_is_refused(wrong):
    with pytest.raises(InputError) as error:
        fit(make_data(), make_relations(), key=wrong)
    assert error.value.name == "key"
    assert "jax.random.key(0)" in error.value.expected


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
    epochs, shown = [], []

    def watch(state):
        epochs.append(int(state.epoch))
        shown[:] = state.unstack()

    told = fit(
        make_data(),
        make_relations(),
        key=jax.random.key(0),
        graph=GRAPH,
        layout=LayoutConfig(n_epochs=EPOCHS),
        progress=watch,
    )
    assert epochs == [*range(2, EPOCHS + 1, 2)]
    assert_same_maps(shown, told.maps)
    assert_same_maps(told.maps, plain.maps)


def test_progress_may_be_a_bar(plain, capsys):
    shown = lay_out(n_epochs=EPOCHS, progress=False), capsys.readouterr().err
    assert shown[1] == ""
    with_bar = lay_out(n_epochs=EPOCHS, progress=True), capsys.readouterr().err
    assert f"{EPOCHS}/{EPOCHS}" in with_bar[1]
    assert "attraction=" in with_bar[1]
    assert_same_maps(with_bar[0].maps, plain.maps)


def test_no_epochs_return_the_start():
    start = [np.random.default_rng(0).normal(size=(n, 2)) for n in SIZES]
    maps = lay_out(start=start, n_epochs=0).slices()
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


@pytest.mark.parametrize(
    ("n_components", "init"),
    [
        *((1, "random"), (1, "pca"), (3, "spectral")),
        *(pytest.param(*of, marks=pytest.mark.slow) for of in OTHERS),
    ],
)
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
    shapes = [(41, 3), (25, 1), (30, 4)]
    data = [rng.normal(size=shape) for shape in shapes]
    rows = {i: i for i in range(20)}
    maps = lay_out(data, [rows, rows], n_epochs=2).slices()
    assert [y.shape for y in maps] == [(41, 2), (25, 2), (30, 2)]


def test_rows_without_a_mate_and_duplicate_rows_are_laid_out():
    data = make_data()
    data[1][5:25] = data[1][5]
    maps = lay_out(data, [{3: 7}, {7: 7}]).slices()
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


# The data, the name in the error, and words of it.
BAD_DATA = {
    "no slices": ([], "slices", "empty"),
    "an array alone": (make_data()[0], "slices", "one array"),
    "a number": (5, "slices", "an int"),
    "text": ("data", "slices", "a str"),
    "one dimension": (spoiled(lambda x: x[:, 0]), "slices[1]", "shape (48,)"),
    "three dimensions": (spoiled(lambda x: x[None]), "slices[1]", "(1, 48"),
    "no columns": (spoiled(lambda x: x[:, :0]), "slices[1]", "(48, 0)"),
    "words": (
        spoiled(lambda x: with_value(x.astype(object), "red")),
        "slices[1]",
        "'red' (str) in row 7, column 2",
    ),
    "digits as text": (
        spoiled(lambda x: x.round().astype(int).astype(str)),
        "slices[1]",
        "in row 0, column 0",
    ),
    "None": (
        spoiled(lambda x: with_value(x.astype(object), None)),
        "slices[1]",
        "nan in row 7, column 2",
    ),
    "complex numbers": (spoiled(lambda x: x + 1j), "slices[1]", "complex"),
    "dates": (
        spoiled(lambda x: np.full(x.shape, np.datetime64("2020-01-01"))),
        "slices[1]",
        "datetime",
    ),
    "ragged rows": (spoiled(lambda x: [[1.0, 2.0], *x.tolist()]), "slices[1]", ""),
    "a sparse matrix with NaN": (
        spoiled(lambda x: scipy.sparse.csr_matrix(with_value(x, np.nan))),
        "slices[1]",
        "nan in row 7, column 2",
    ),
    "infinity": (
        spoiled(lambda x: with_value(x, -np.inf), t=2),
        "slices[2]",
        "-inf in row 7, column 2",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_cannot_be_laid_out_are_refused(case):
    data, name, words = BAD_DATA[case]
    with pytest.raises(InputError) as error:
        lay_out(data)
    assert error.value.name == name
    assert words in error.value.got


# The relations, the name in the error, and words of it.
BAD_RELATIONS = {
    "none": (None, "relations", "None"),
    "too few": ([{0: 0}], "relations", "1 dict"),
    "too many": ([{0: 0}] * 3, "relations", "3 dict"),
    "a dict": ({0: 0}, "relations", "key 0"),
    "a key out of range": ([{47: 45}, {0: 0}], "relations[0]", "47"),
    "a value out of range": ([{0: 0}, {0: 48}], "relations[1]", "48"),
    "a negative row": ([{0: -1}, {0: 0}], "relations[0]", "-1"),
    "reversed": ([{47: 3, 2: 2}, {0: 0}], "relations[0]", "47"),
    "keys that are no integers": ([{0: 0}, {"a": 1}], "relations[1]", "'a'"),
    "values that are no integers": ([{0: 0.0}, {0: 1}], "relations[0]", "0.0"),
    "two rows to one": ([{0: 1, 2: 1}, {}], "relations[0]", "0 and 2"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("case", BAD_RELATIONS)
def test_relations_that_do_not_fit_are_refused(case):
    relations, name, words = BAD_RELATIONS[case]
    with pytest.raises(InputError) as error:
        fit(make_data(), relations, key=jax.random.key(0), graph=GRAPH)
    assert error.value.name == name
    assert words in error.value.got


def test_an_empty_dict_warns_and_lays_the_slices_out_apart():
    with pytest.warns(UserWarning, match=r"^slice 2 has no mates in the slices before"):
        maps = lay_out(relations=[make_relations()[0], {}], n_epochs=2).slices()
    assert all(np.isfinite(y).all() for y in maps)


# Settings, the name in the error, and words of it.
BAD_SETTINGS = {
    "no components": ({"n_components": 0}, "n_components", "is 0"),
    "a negative strength": ({"strength": -1.0}, "alignment_regularisation", "-1"),
    "an infinite rate": ({"learning_rate": math.inf}, "learning_rate", "inf"),
    "min_dist above spread": ({"min_dist": 2.0}, "min_dist", "2 and `spread` is 1"),
    "a list too short": ({"min_dist": [0.1, 0.2]}, "min_dist", "2 values"),
    "a list too long": ({"learning_rate": [1.0] * 4}, "learning_rate", "4 values"),
    "neighbors for two slices": (
        {"graph": GraphConfig(n_neighbors=[5, 6])},
        "n_neighbors",
        "2 values, but there are 3 slices",
    ),
    "an absurd rate": ({"learning_rate": 1e38}, "learning_rate", "not finite"),
    "pca of a table": (
        {
            "data": [exact_knn(make_data()[0], NEIGHBORS), *make_data()[1:]],
            "init": "pca",
        },
        "init",
        "slice 0",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_fit_are_refused(case):
    settings, name, words = BAD_SETTINGS[case]
    with pytest.raises(InputError) as error:
        lay_out(**settings)
    assert error.value.name == name
    assert words in error.value.got


def test_a_good_fit_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lay_out(
            relations=[{i: i for i in range(size)} for size in (41, 45)], n_epochs=2
        )


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
    read = read_slices([data])[0].content
    assert isinstance(read, np.ndarray)
    assert read.dtype == kept
    np.testing.assert_array_equal(read, data.astype(kept))


def test_lists_and_numbers_kept_as_objects_are_data():
    rows = [[1, 2.5], [np.float32(0.5), True]]
    for given in (rows, np.array(rows, dtype=object)):
        np.testing.assert_array_equal(
            read_slices([given])[0].content, [[1, 2.5], [0.5, 1]]
        )


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
        (0, 1, "`size` is 0; .* at most 23"),
        (24, 1, "`size` is 24"),
        (5, 0, "`step` is 0; .* at least 1"),
    ],
)
def test_windows_out_of_range_are_refused(size, step, said):
    with pytest.raises(ValueError, match=said):
        sliding_windows(np.zeros((23, 1)), size, step)


GIVEN: dict[str, Any] = {"slices": make_data(), "relations": make_relations()}
MAPS: dict[str, Any] = {"fitted": [], "new_slice": make_data()[0], "relations": {0: 0}}
KINDS = [
    (aljax.fit, GIVEN | {"graph": {}}, "graph", "a dict"),
    (aljax.fit, GIVEN | {"layout": GRAPH}, "layout", "a GraphConfig"),
    (aljax.fit, GIVEN | {"alignment": 0.1}, "alignment", "a float"),
    (aljax.fit, GIVEN | {"checkpoints": "a"}, "checkpoints", "a str"),
    (aljax.fit, GIVEN | {"progress": 5}, "progress", "an int"),
    (aljax.update, MAPS, "fitted", "a list"),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("function", "given", "name", "kind"), KINDS)
def test_arguments_of_another_kind_are_named(function, given, name, kind):
    with pytest.raises(InputError) as error:
        function(**given, key=jax.random.key(0))
    assert error.value.name == name
    assert f"is {kind}" in error.value.got


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("function", "keyword", "hint"),
    [
        (aljax.fit, "n_neighbors", "graph=aljax.GraphConfig(n_neighbors=7)"),
        (aljax.fit, "min_dist", "layout=aljax.LayoutConfig(min_dist=7)"),
        (aljax.fit, "motion_fidelity", "alignment=aljax.AlignmentConfig("),
        (aljax.fit, "slice_lables", "did you mean `slice_labels`"),
        (aljax.update, "n_neighbors", "settings={'n_neighbors': 7}"),
        (aljax.update, "n_epochs", "LayoutConfig: an update takes that of the fit"),
        (aljax.update, "moves", "did you mean `move`"),
    ],
)
def test_a_keyword_of_a_config_is_told_its_place(function, keyword, hint):
    given = GIVEN if function is aljax.fit else MAPS
    with pytest.raises(TypeError) as error:
        function(**given, key=jax.random.key(0), **{keyword: 7})
    assert f"`{keyword}`" in str(error.value)
    assert hint in str(error.value)


def test_another_optimizer_is_followed_and_pins_hold():
    sign = optax.scale_by_sign()
    plain, other = lay_out(n_epochs=3), lay_out(n_epochs=3, optimizer=sign)
    assert np.abs(plain.maps[0] - other.maps[0]).max() > 0.01
    start = [np.random.default_rng(0).normal(size=(n, 2)) for n in SIZES]
    one = lay_out(start=start, n_epochs=1, optimizer=sign, learning_rate=0.5)
    moved = one.maps[0] - start[0].astype(np.float32)
    np.testing.assert_allclose(np.abs(moved), 0.5, rtol=1e-4)  # sign's step


def test_a_model_is_shown_in_few_lines(plain):
    many = dataclasses.replace(plain, maps=[*plain.maps] * 40, slice_labels=None)
    for model in (plain, many):
        lines = repr(model).splitlines()
        assert len(lines) <= 15
        assert max(map(len, lines)) < 88
        assert "134 rows" in lines[0] or "5360 rows" in lines[0]
        shown = model._repr_html_()
        assert shown.startswith("<p>")
        assert "label" not in shown
        assert "data:image/png;base64," in shown
        assert len(shown) < 500_000
    empty = dataclasses.replace(plain, maps=[np.zeros((0, 2))] * 3)
    assert empty._repr_html_().endswith("</table>")


def test_without_matplotlib_a_model_is_a_table(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "aljax.plot", None)
    labeled = dataclasses.replace(plain, slice_labels=("<a>", "Jan 2020", "c"))
    shown = labeled._repr_html_()
    lines = repr(labeled).splitlines()
    assert [lines[1].split()[2], *lines[3].split()[2:]] == ["label", "Jan", "2020"]
    assert "<th>label</th></tr>" in shown
    assert "&lt;a&gt;" in shown
    assert "<img" not in shown


@pytest.mark.parametrize(
    ("name", "place"),
    [("loss", "layout.run"), ("random_state", "key="), ("ids", "as `relations`")],
)
def test_what_fit_does_not_take_is_told_with_its_place(name, place):
    options: Any = {name: 1}
    with pytest.raises(TypeError, match=f"`{name}` is not an argument.*{place}"):
        fit(make_data(), make_relations(), key=jax.random.key(0), **options)


def test_a_day_that_labels_a_slice_is_shown_as_its_date(plain):
    pytest.importorskip("matplotlib", reason="run: pip install 'aljax[plot]'")
    days = tuple(datetime(2020, month, 1) for month in (1, 2, 3))
    dated = dataclasses.replace(plain, slice_labels=days)
    assert repr(dated).splitlines()[2].split()[-1] == "2020-01-01"
    assert dated.slice_name(1) == "slice 1 (2020-02-01)"
    titles = [axes.get_title() for axes in aljax.plot.slices(dated).axes]
    assert "2020-03-01" in titles
    assert dated.index("2020-02-01") == 1
    with refused("slice", "2020-01-01 to 2020-03-01"):
        dated.index("Feb 2020")


@pytest.mark.usefixtures("as_users_run_it")
def test_an_array_is_no_label(plain):
    years = dataclasses.replace(plain, slice_labels=(2000, 2001, 2002))
    with refused("slice", "array([0, 1])"):
        years.index(np.arange(2))


def test_names_are_listed_and_there_is_a_version():
    assert {"fit", "UMAP", "AlignedUMAP", "metrics", "__version__"} <= {*dir(aljax)}
    assert aljax.__version__ == importlib.metadata.version("aljax")


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
    for room, name in ((aljax.metrics, "trust"), (aljax.plot, "explor")):
        with pytest.raises(AttributeError, match=r"`(trustworthiness|explore)`"):
            getattr(room, name)


@pytest.mark.parametrize(("stage", "helps"), [("graph", "PCA"), ("layout", "devices")])
def test_a_device_that_is_too_small_is_named_with_what_helps(stage, helps):
    seconds: dict[str, float] = {}
    said = rf"{stage}.*8796093022208.*{helps}"
    with pytest.raises(MemoryError, match=said), timed(stage, seconds):
        jax.jit(lambda: jnp.zeros(2**41))()
    assert not seconds
