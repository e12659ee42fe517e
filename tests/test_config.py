import copy
import dataclasses
import itertools
import math
import pickle
from typing import Any

import equinox
import numpy as np
import pytest
from helpers import import_umap
from hypothesis import given
from hypothesis import strategies as st

from aljax.config import (
    AlignmentConfig,
    GraphConfig,
    InverseConfig,
    LayoutConfig,
    find_ab_params,
    per_slice,
)
from aljax.errors import warn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

NOT_NUMBERS = ["1", None, True, math.nan, math.inf, {}, 1j]
# For each setting: what it is a setting of, values that are fine, values that are not.
SETTINGS = {
    "n_neighbors": (GraphConfig, [2, np.int64(15)], [1, 0, -3, 2.5, *NOT_NUMBERS]),
    "metric": (GraphConfig, ["cosine", "manhattan"], ["", None, 3]),
    "metric_kwds": (GraphConfig, [None, {}, {"p": 3}], [3, "p", [("p", 3)]]),
    "local_connectivity": (GraphConfig, [0.0, 2.5], [-0.1, *NOT_NUMBERS]),
    "set_op_mix_ratio": (GraphConfig, [0.0, 0.5, 1.0], [-0.1, 1.1, *NOT_NUMBERS]),
    "knn_method": (GraphConfig, ["auto", "exact", "pynndescent"], ["fast", "", None]),
    "disconnection_distance": (
        GraphConfig,
        [None, 0.5, 3, math.inf],
        [0, -1.0, [0.5], True, "1", math.nan, -math.inf],
    ),
    "target_metric": (GraphConfig, ["categorical", "l2"], ["", None, 3]),
    "target_metric_kwds": (GraphConfig, [None, {}, {"p": 3}], [3, "p", [("p", 3)]]),
    "target_n_neighbors": (
        GraphConfig,
        [-1, 2, 30],
        [-2, 0, 1, 2.5, np.ones(2), *NOT_NUMBERS],
    ),
    "target_weight": (GraphConfig, [0.0, 0.5, 1.0], [-0.1, 1.1, [0.5], *NOT_NUMBERS]),
    "n_components": (LayoutConfig, [1, 3], [0, -1, 1.5, [2, 3], *NOT_NUMBERS]),
    "min_dist": (LayoutConfig, [0.0, 0.5], [-0.1, *NOT_NUMBERS]),
    "spread": (LayoutConfig, [0.1, 2.0], [0, -1.0, *NOT_NUMBERS]),
    "n_epochs": (LayoutConfig, [None, 0, 500], [-1, 1.5, [10], "1", True, math.nan]),
    "learning_rate": (LayoutConfig, [0.1, np.float32(2)], [0, -1.0, *NOT_NUMBERS]),
    "init": (
        LayoutConfig,
        ["spectral", "tswspectral", "pca", "random"],
        ["magic", "", [], None, 3],
    ),
    "repulsion_strength": (LayoutConfig, [0.0, 2.0], [-1.0, *NOT_NUMBERS]),
    "negative_sample_rate": (LayoutConfig, [0.0, 2.5], [-1, *NOT_NUMBERS]),
    "method": (InverseConfig, ["linear", "mean"], ["cubic", None]),
    "bounds": (InverseConfig, [None, "data", (0, 1)], ["row", 3, (1, 2, 3)]),
    "n_shifts": (LayoutConfig, [None, 1], [0, 1.5, "1", True, math.nan]),
    "densmap": (LayoutConfig, [True, np.False_], [1, 0, None, "yes", [True]]),
    "dens_lambda": (LayoutConfig, [0.0, 2.5], [-1, *NOT_NUMBERS]),
    "dens_frac": (LayoutConfig, [0.0, 0.5, 1.0], [-0.1, 1.1, *NOT_NUMBERS]),
    "dens_var_shift": (LayoutConfig, [0.0, 0.5], [-0.1, *NOT_NUMBERS]),
    "output_metric": (LayoutConfig, ["l2", "hyperboloid", max], ["foo", "hamming", 3]),
    "output_metric_kwds": (LayoutConfig, [None, {}], [3, "p", [("p", 3)]]),
    "alignment_regularisation": (AlignmentConfig, [0.0, 1.0], [-1, [1], *NOT_NUMBERS]),
    "motion_fidelity": (AlignmentConfig, [0.0, 0.3], [-0.1, [0.3], *NOT_NUMBERS]),
    "alignment_window_size": (AlignmentConfig, [1, 9], [0, 1.5, [3], *NOT_NUMBERS]),
    "alignment_strengths": (AlignmentConfig, ["jaccard", "uniform"], ["even", None]),
    "frame": (AlignmentConfig, ["auto", "population", "mates"], ["row", "", None, 1]),
    "alignment_decay": (AlignmentConfig, [0.0, 2.0], [-1, [1], *NOT_NUMBERS]),
}
PER_SLICE = [
    (GraphConfig, "n_neighbors", 5, 1),
    (GraphConfig, "local_connectivity", 1.5, -1.0),
    (GraphConfig, "set_op_mix_ratio", 0.5, 2.0),
    (LayoutConfig, "min_dist", 0.2, -0.1),
    (LayoutConfig, "spread", 2.0, 0.0),
    (LayoutConfig, "learning_rate", 0.5, 0.0),
    (LayoutConfig, "repulsion_strength", 2.0, -1.0),
    (LayoutConfig, "dens_lambda", 1.0, -1.0),
    (LayoutConfig, "negative_sample_rate", 2.5, -1.0),
]


def make_layout(settings: dict[str, Any]) -> LayoutConfig:
    return LayoutConfig(**settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, good) for name, (_, fine, _) in SETTINGS.items() for good in fine],
)
def test_values_in_range_are_kept(name, value):
    config = SETTINGS[name][0](**{name: value})
    assert getattr(config, name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, bad) for name, (_, _, wrong) in SETTINGS.items() for bad in wrong],
)
def test_errors_name_the_setting_what_came_and_what_was_expected(name, value):
    with pytest.raises(ValueError, match=f"^`{name}` is ") as raised:
        SETTINGS[name][0](**{name: value})
    assert repr(value) in str(raised.value)
    assert "expected" in str(raised.value)


def test_every_setting_is_tested():
    settings = {
        field.name
        for config in (GraphConfig, LayoutConfig, AlignmentConfig, InverseConfig)
        for field in dataclasses.fields(config)
    }
    assert settings == {*SETTINGS, "a", "b"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("a", 0.0), ("a", -1.0), ("a", math.nan), ("a", "1"), ("a", 1e-40)),
        *(("a", 1e40), ("b", 0.49), ("b", True)),
    ],
)
def test_curve_parameters_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^`{name}` is .*expected"):
        make_layout({"a": 1.0, "b": 1.0, name: value})


@pytest.mark.parametrize(("given", "missing"), [("a", "b"), ("b", "a")])
def test_one_curve_parameter_without_the_other_is_refused(given, missing):
    with pytest.raises(ValueError, match=f"^`{missing}` is None .* both `a` and `b`"):
        make_layout({given: 1.0})


@pytest.mark.parametrize(("config", "name", "good", "bad"), PER_SLICE)
def test_per_slice_lists_are_checked_entry_by_entry(config, name, good, bad):
    assert list(getattr(config(**{name: [good, good]}), name)) == [good, good]
    for wrong in ([good, bad], []):
        with pytest.raises(ValueError, match=f"^`{name}` is .*one for each slice"):
            config(**{name: wrong})


@pytest.mark.parametrize(("config", "name", "good", "bad"), PER_SLICE)
def test_per_slice_lists_may_be_arrays(config, name, good, bad):
    assert list(getattr(config(**{name: np.array([good, good])}), name)) == [good, good]
    with pytest.raises(ValueError, match=f"^`{name}` is .*one for each slice"):
        config(**{name: np.array([good, bad])})


def test_an_array_of_no_dimensions_is_refused_as_a_setting():
    nothing: Any = np.array(-0.1)
    with pytest.raises(ValueError, match=r"^`min_dist` is "):
        LayoutConfig(min_dist=nothing)


@pytest.mark.parametrize(
    ("config", "wrong", "meant"),
    [
        (GraphConfig, "n_neighbours", "n_neighbors"),
        (GraphConfig, "metrics", "metric"),
        (LayoutConfig, "mindist", "min_dist"),
        (LayoutConfig, "repulsion", "repulsion_strength"),
        (AlignmentConfig, "alignment_regularization", "alignment_regularisation"),
        (AlignmentConfig, "window_size", "alignment_window_size"),
    ],
)
def test_an_unknown_setting_suggests_the_nearest(config, wrong, meant):
    with pytest.raises(ValueError, match=f"`{wrong}` .*{config.__name__}.*`{meant}`"):
        config(**{wrong: 1})


def test_a_setting_unlike_any_other_lists_all():
    with pytest.raises(ValueError, match="zzz") as raised:
        AlignmentConfig(zzz=1)  # pyright: ignore[reportCallIssue]
    for name in ("alignment_regularisation", "alignment_window_size"):
        assert name in str(raised.value)


def test_a_misspelt_choice_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean `spectral`"):
        LayoutConfig(init="spektral")
    with pytest.raises(ValueError, match="did you mean `exact`"):
        GraphConfig(knn_method="exakt")


def test_settings_are_frozen_checked_on_replacement_and_picklable():
    config = LayoutConfig(min_dist=[0.1, 0.2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.min_dist = 0.3  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="`min_dist`"):
        dataclasses.replace(config, min_dist=-1.0)
    assert pickle.loads(pickle.dumps(config)) == config


def array(*values: float) -> np.ndarray:
    return np.array(values)


@pytest.mark.parametrize(
    ("config", "settings", "others"),
    [
        (LayoutConfig, {"min_dist": [0.1, 0.2]}, {"min_dist": [0.1, 0.3]}),
        (LayoutConfig, {"init": [np.zeros((3, 2))]}, {"init": [np.ones((3, 2))]}),
        (LayoutConfig, {"init": [np.zeros((3, 2))]}, {"init": [np.zeros((2, 3))]}),
        (LayoutConfig, {"init": [np.zeros((3, 2)), None]}, {"init": "spectral"}),
        (GraphConfig, {"metric_kwds": {"vinv": array(1, 2)}}, {"metric_kwds": None}),
        (
            GraphConfig,
            {"metric_kwds": {"vinv": array(1, 2)}},
            {"metric_kwds": {"vinv": array(1, 3)}},
        ),
        (InverseConfig, {"bounds": (array(0, 1), 2)}, {"bounds": (array(0, 2), 2)}),
    ],
)
def test_settings_are_compared_and_hashed_by_what_they_hold(config, settings, others):
    one, again, other = (
        config(**given) for given in (settings, copy.deepcopy(settings), others)
    )
    assert one == again
    assert hash(one) == hash(again)
    assert one != other
    assert len({one, again, other}) == 2
    assert pickle.loads(pickle.dumps(one)) == one


def test_settings_of_other_kinds_differ_and_keywords_are_copied():
    assert GraphConfig() != LayoutConfig()
    keywords = {"p": 3}
    config = GraphConfig(metric="minkowski", metric_kwds=keywords)
    keywords["p"] = 4
    assert config.metric_kwds == {"p": 3}


def test_one_value_serves_all_slices_and_a_list_must_match_them():
    assert per_slice("spread", 2.0, 3) == [2.0, 2.0, 2.0]
    assert per_slice("spread", np.array([1.0, 2.0]), 2) == [1.0, 2.0]
    with pytest.raises(ValueError, match="`spread` has 2 values, but there are 3"):
        per_slice("spread", [1.0, 2.0], 3)


def misfit(a, b, spread, min_dist):
    """Sum of squares against the target curve; a and b may be arrays."""
    d = np.linspace(0, 3 * spread, 300)
    target = np.where(d <= min_dist, 1.0, np.exp(-(d - min_dist) / spread))
    a, b = np.asarray(a)[..., None], np.asarray(b)[..., None]
    return ((1 / (1 + a * d ** (2 * b)) - target) ** 2).sum(axis=-1)


@pytest.mark.parametrize(
    ("spread", "min_dist"), [(1, 0.1), (1, 0), (1, 0.9), (0.1, 0.05), (5, 0.5)]
)
def test_find_ab_params_finds_the_least_squares_curve(spread, min_dist):
    a, b = find_ab_params(float(spread), float(min_dist))
    best = misfit(a, b, spread, min_dist)
    for radius in (1e-3, 1e-2, 0.1, 0.5, 2.0):
        around = np.exp(radius * np.linspace(-1, 1, 21))
        grid = np.array([*itertools.product(a * around, b * around)])
        assert best <= misfit(grid[:, 0], grid[:, 1], spread, min_dist).min() + 1e-9


def test_find_ab_params_gives_positive_values_for_a_tiny_spread():
    a, b = find_ab_params(0.1, 0.05)
    assert a > 0
    assert b > 0.5


@given(st.floats(0, 1), st.floats(1e-3, 1e3))
def test_the_curve_scales_with_spread(ratio, spread):
    a, b = find_ab_params(1.0, ratio)
    scaled_a, scaled_b = find_ab_params(spread, ratio * spread)
    # The ratio is rounded differently.
    np.testing.assert_allclose(scaled_b, b, rtol=1e-9)
    np.testing.assert_allclose(scaled_a * spread ** (2 * scaled_b), a, rtol=1e-9)
    assert b > 0.5


def test_find_ab_params_equals_umap_learn():
    umap_ = import_umap("umap.umap_")
    for spread, min_dist in ((1.0, 0.1), (1.0, 0.5), (2.0, 0.3)):
        theirs = umap_.find_ab_params(spread, min_dist)
        np.testing.assert_allclose(
            find_ab_params(spread, min_dist), theirs, rtol=1e-4
        )  # two optimizers' stopping rules


@pytest.mark.parametrize(("spread", "min_dist"), [(0.5, 0.6), (1.0, -0.1)])
def test_min_dist_outside_0_to_spread_is_refused(spread, min_dist):
    with pytest.raises(ValueError, match=r"`min_dist` is .* `spread` is "):
        find_ab_params(spread, min_dist)


def test_a_curve_is_refused_before_there_are_slices_unless_it_is_each_slices_own():
    with pytest.raises(ValueError, match="`min_dist` is 2 and `spread` is 1"):
        LayoutConfig(min_dist=2)
    LayoutConfig(min_dist=2, a=1.0, b=1.0)
    LayoutConfig(min_dist=2, spread=[1.0, 3.0])


@pytest.mark.parametrize("spread", [1e-300, 1e-30, 1e30, math.inf])
def test_a_spread_in_no_unit_of_a_map_is_refused(spread):
    with pytest.raises(ValueError, match=r"^`spread` is .* 1e-06 to 1e\+06 map units"):
        find_ab_params(spread, 0.0)


def test_a_warning_points_at_the_users_own_line():
    inside: dict[str, Any] = {"__name__": "aljax.somewhere", "warn": warn}
    inside["equinox"] = equinox
    exec("def deep(): warn('oh')\ndef called(): deep()", inside)
    exec("class Model(equinox.Module):\n    def told(self): deep()", inside)
    for call in (inside["called"], inside["Model"]().told):  # which equinox wraps
        with pytest.warns(UserWarning, match="oh") as caught:
            call()
        assert [one.filename for one in caught] == [__file__]
