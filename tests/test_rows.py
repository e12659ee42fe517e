from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    CAPACITY,
    NEIGHBORS,
    SIZES,
    assert_same_maps,
    assert_slope,
    make_data,
    make_graphs,
    make_links,
    make_maps,
    make_problem,
    make_relations,
    slow_terms,
)

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import InputError
from aljax.fit import fit
from aljax.layout.objective import aligned_loss
from aljax.layout.optimize import init, run
from aljax.layout.problem import layout_params, stack, stack_maps, unstack_maps
from aljax.layout.shifts import draw_shifts
from aljax.metrics import displacement
from aljax.relations.strengths import relate

pytestmark = pytest.mark.usefixtures("as_users_run_it")
LABELS = ("a", "b", "c")
STARTS = make_maps(seed=3)


def lay_out(*, start: Any = STARTS, relations=None, **settings) -> Any:
    named = start if isinstance(start, str) else None
    return fit(
        make_data(),
        make_relations() if relations is None else relations,
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(n_epochs=20, init=named or "spectral"),
        start=None if named else start,
        alignment=AlignmentConfig(alignment_window_size=2),
        **{"slice_labels": LABELS, **settings},
    )


def some(rng, share=0.5) -> list[np.ndarray]:
    return [rng.uniform(size=size) < share for size in SIZES]


def test_pinned_rows_keep_their_positions_to_the_last_bit_and_others_move(rng):
    masks = some(rng)
    fitted = lay_out(pinned=masks)
    for y, given, mask in zip(fitted.maps, STARTS, masks, strict=True):
        np.testing.assert_array_equal(y[mask], given[mask].astype(np.float32))
        assert (np.abs(y - given)[~mask].max(axis=1) > 1e-3).all()
    assert_same_maps(fitted.pinned, masks)


def test_a_sequence_continues_from_a_published_frame_byte_for_byte():
    published = lay_out(start="spectral").maps[0]
    fitted = lay_out(
        start=[published, None, None], pinned=[np.ones(SIZES[0], bool), None, None]
    )
    assert fitted.maps[0].tobytes() == published.tobytes()
    assert fitted.coordinates is None  # they are the layout's own
    turned = [published, -fitted.maps[1], -fitted.maps[2]]
    moved = displacement(fitted.maps, fitted.relations)
    assert moved < 0.8 * displacement(turned, fitted.relations)


def test_masks_that_pin_nothing_change_nothing():
    masks = [np.zeros(size, bool) for size in SIZES]
    assert_same_maps(lay_out(pinned=masks).maps, lay_out().maps)
    assert_same_maps(lay_out(pinned=[None] * 3).maps, lay_out().maps)


def test_equal_weights_change_nothing():
    ones = [np.ones(size) for size in SIZES]
    fitted = lay_out(point_weights=[ones[0], None, ones[2].tolist()])
    assert_same_maps(fitted.maps, lay_out().maps)
    assert fitted.point_weights[1] is None


def test_heavy_rows_hold_their_mates_closer_and_weightless_ones_do_not():
    rows = [{i: i for i in range(41)}] * 2
    weights = [np.where(np.arange(size) < 20, 30.0, 0.0) for size in SIZES]
    plain, weighted = (
        lay_out(relations=rows, point_weights=one) for one in (None, weights)
    )

    def gap(fitted, part: slice) -> float:
        first, second = fitted.maps[0][part], fitted.maps[1][part]
        return float(np.linalg.norm(first - second, axis=1).mean())

    assert gap(weighted, slice(0, 20)) < 0.7 * gap(plain, slice(0, 20))
    assert gap(weighted, slice(20, 41)) > gap(plain, slice(20, 41))


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def weighted():
    """Many-to-many mates, weights and pins, in double precision."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        graphs = make_graphs()
        cells = {
            pair: rng.choice(41 * 45, 80, replace=False) for pair in ((0, 1), (0, 2))
        }
        pairs = {
            pair: (np.column_stack(np.divmod(cell, 45)), rng.uniform(size=80))
            for pair, cell in cells.items()
        }
        relations = relate(make_links(pairs), graphs)
        weights = [rng.uniform(0, 3, size) for size in SIZES]
        masks = some(rng)
        problems = [
            stack(
                graphs,
                relations,
                key=jax.random.key(0),
                capacity=capacity,
                pinned=masks,
                point_weights=weights,
            )
            for capacity in (CAPACITY, 64)
        ]
        params = layout_params(LayoutConfig(), AlignmentConfig(), slices=3)
    return graphs, relations, weights, masks, problems, params


@pytest.fixture(scope="module")
def compiled():
    """The exact loss and its gradient, compiled once for each capacity."""

    def loss(y, problem, params):
        key, n_shifts = jax.random.key(0), CAPACITY // 2
        shifts = draw_shifts(key, problem.n_points, n_shifts=n_shifts)
        terms = aligned_loss(y, problem, params, shifts)
        return terms.total(), terms

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.usefixtures("double_precision")
def test_the_weighted_loss_is_the_sum_over_pairs_whatever_the_capacity(
    weighted, compiled
):
    graphs, relations, weights, _, problems, params = weighted
    maps = make_maps()
    slow = slow_terms(maps, graphs, relations, params, weights)
    gradients = []
    for problem in problems:
        assert problem.mates.shape[2] > 2
        (_, terms), gradient = compiled(stack_maps(maps, problem), problem, params)
        np.testing.assert_allclose(terms.alignment, slow[2], rtol=1e-12)
        np.testing.assert_allclose(terms.repulsion, slow[1], rtol=1e-12)
        gradients.append(unstack_maps(gradient, problem))
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("double_precision")
def test_gradients_of_the_weighted_loss_agree_with_finite_differences(
    weighted, compiled
):
    *_, problems, params = weighted

    def loss(y):
        (total, _), gradient = compiled(y, problems[0], params)
        return total, gradient

    assert_slope(loss, stack_maps(make_maps(), problems[0]), rtol=1e-6, eps=1e-6)


@pytest.mark.usefixtures("double_precision")
def test_pins_and_pulls_are_stacked_in_the_order_of_the_points(weighted):
    _, _, weights, masks, problems, _ = weighted
    for problem in problems:
        order = np.asarray(problem.order)
        for t, size in enumerate(SIZES):
            rows = order[t, :size]
            np.testing.assert_array_equal(problem.free[t, :size], ~masks[t][rows])
            np.testing.assert_allclose(
                problem.pulls[t, :size],
                problem.degrees[t, :size] * weights[t][rows],
                rtol=1e-12,
            )
            assert (np.asarray(problem.pulls)[t, size:] == 0).all()


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_pinned_points_stay_whatever_the_capacity(weighted):
    *_, masks, problems, params = weighted
    maps = make_maps()
    for problem in problems:
        state = init(stack_maps(maps, problem), n_epochs=3)
        state = run(problem, params, state, 3, key=jax.random.key(0), n_shifts=24)
        for y, given, mask in zip(
            unstack_maps(state.maps, problem), maps, masks, strict=True
        ):
            np.testing.assert_array_equal(y[mask], given[mask])
            assert (y[~mask] != given[~mask]).all()


def test_without_pins_and_weights_all_points_are_free_and_alike():
    problem = make_problem()[2]
    assert (np.asarray(problem.free) == 1).all()
    np.testing.assert_array_equal(problem.pulls, problem.degrees)
    assert problem.pulls.dtype == jnp.float32


MASK = np.ones(SIZES[1], bool)
HALF = [STARTS[0], None, None]
# Arguments, the name in the error, and words of it.
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "too short": ({"pinned": [None, MASK[:-1], None]}, "pinned[1]", "slice 1 ('b')"),
    "rows, no mask": ({"pinned": [None, [0, 3], None]}, "pinned[1]", "dtype int64"),
    "numbers": ({"pinned": [None, 1.0 * MASK, None]}, "pinned[1]", "dtype float64"),
    "for two slices": ({"pinned": [None, MASK]}, "pinned", "2 entries for 3 slices"),
    "one array": ({"pinned": MASK}, "pinned", "a ndarray"),
    "no positions": (
        {"pinned": [None, MASK, None], "start": "spectral"},
        "pinned[1]",
        "48 rows of slice 1 ('b'), which has no `start`",
    ),
    "none of that slice": (
        {"pinned": [None, MASK, None], "start": HALF},
        "pinned[1]",
        "no `start`",
    ),
    "starts for two slices": ({"start": STARTS[:2]}, "start", "2 entries"),
    "a start of another shape": ({"start": [STARTS[1], None, None]}, "start[0]", "48"),
    "a start of words": ({"start": [None, "pca", None]}, "start[1]", "numbers"),
    "negative weights": (
        {"point_weights": [None, -1.0 * MASK, None]},
        "point_weights[1]",
        "-1.0",
    ),
    "weights of NaN": (
        {"point_weights": [None, None, np.full(45, np.nan)]},
        "point_weights[2]",
        "nan",
    ),
    "too few weights": (
        {"point_weights": [[1.0, 2.0], None, None]},
        "point_weights[0]",
        "shape (2,)",
    ),
    "words": ({"point_weights": [["much"] * 41, None, None]}, "point_weights[0]", ""),
    "weights for two slices": ({"point_weights": [None, None]}, "point_weights", "2"),
    "two labels": ({"slice_labels": ("a", "b")}, "slice_labels", "2 labels"),
    "a number as labels": ({"slice_labels": 3}, "slice_labels", "is 3"),
    "an array of none": ({"slice_labels": np.array(3)}, "slice_labels", "array(3)"),
    "a set of labels": ({"slice_labels": {"a", "b", "c"}}, "slice_labels", "is {"),
    "a table of labels": ({"slice_labels": np.eye(3)}, "slice_labels", "3 labels"),
    "a list as label": (
        {"slice_labels": [["a"], "b", "c"]},
        "slice_labels[0]",
        "['a']",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_the_rows_or_slices_is_refused(case):
    settings, name, words = BAD[case]
    with pytest.raises(InputError) as error:
        lay_out(**settings)
    assert error.value.name == name
    assert words in error.value.got


def test_starts_in_the_settings_go_on_with_one_warning():
    arguments: dict[str, Any] = {"key": jax.random.key(0)}
    arguments["graph"] = GraphConfig(n_neighbors=NEIGHBORS)
    old = LayoutConfig(n_epochs=0, init=STARTS)
    with pytest.warns(DeprecationWarning, match=r"fit\(start=") as caught:
        fitted = fit(make_data(), make_relations(), layout=old, **arguments)
    assert [one.category for one in caught].count(DeprecationWarning) == 1
    assert fitted.layout == LayoutConfig(n_epochs=0)
    for given, kept in zip(STARTS, fitted.maps, strict=True):
        np.testing.assert_array_equal(kept, given.astype(np.float32))
