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
    make_data,
    make_graphs,
    make_links,
    make_maps,
    make_problem,
    make_relations,
    slow_terms,
)
from jax.test_util import check_grads

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.fit import fit
from aljax.layout.losses import aligned_loss, draw_shifts
from aljax.layout.optimize import init, run
from aljax.layout.problem import layout_params, stack, stack_maps, unstack_maps
from aljax.metrics import displacement
from aljax.relations.strengths import relate

pytestmark = pytest.mark.usefixtures("as_users_run_it")
LABELS = ("a", "b", "c")
STARTS = make_maps(seed=3)


def lay_out(*, start: Any = STARTS, relations=None, **settings) -> Any:
    return fit(
        make_data(),
        make_relations() if relations is None else relations,
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(n_epochs=20, init=start),
        alignment=AlignmentConfig(alignment_window_size=2),
        slice_labels=LABELS,
        **settings,
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


def evaluate(problem, params, maps):
    """The exact loss of a problem, and its gradient, in the user's order."""
    shifts = draw_shifts(jax.random.key(0), problem.n_points, n_shifts=CAPACITY // 2)

    @jax.jit
    def loss(y):
        terms = aligned_loss(y, problem, params, shifts)
        return terms.total(), terms

    stacked = stack_maps(maps, problem)
    gradient, terms = jax.grad(loss, has_aux=True)(stacked)
    return terms, unstack_maps(gradient, problem), loss, stacked


@pytest.mark.usefixtures("double_precision")
def test_the_weighted_loss_is_the_sum_over_pairs_whatever_the_capacity(weighted):
    graphs, relations, weights, _, problems, params = weighted
    maps = make_maps()
    slow = slow_terms(maps, graphs, relations, params, weights)
    gradients = []
    for problem in problems:
        assert problem.mates.shape[2] > 2
        terms, gradient, *_ = evaluate(problem, params, maps)
        np.testing.assert_allclose(terms.alignment, slow[2], rtol=1e-12)
        np.testing.assert_allclose(terms.repulsion, slow[1], rtol=1e-12)
        gradients.append(gradient)
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("double_precision")
def test_gradients_of_the_weighted_loss_agree_with_finite_differences(weighted):
    *_, problems, params = weighted
    _, _, loss, stacked = evaluate(problems[0], params, make_maps())
    check_grads(
        lambda y: loss(y)[0], (stacked,), order=1, modes=["rev"], rtol=1e-6, eps=1e-6
    )


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
BAD_PINS: dict[str, tuple[dict[str, Any], str]] = {
    "too short": (
        {"pinned": [None, MASK[:-1], None]},
        r"^`pinned\[1\]` has shape \(47,\) .* slice 1 \('b'\) has 48 rows",
    ),
    "rows instead of a mask": (
        {"pinned": [None, [0, 3], None]},
        r"^`pinned\[1\]` has shape \(2,\) and dtype int64, but slice 1 \('b'\)",
    ),
    "numbers": (
        {"pinned": [None, 1.0 * MASK, None]},
        "dtype float64, .*expected a mask",
    ),
    "for two slices": (
        {"pinned": [None, MASK]},
        "^`pinned` has 2 entries for 3 slices",
    ),
    "one array": (
        {"pinned": MASK},
        "^`pinned` has a ndarray, not entries for 3 slices",
    ),
    "no positions": (
        {"pinned": [None, MASK, None], "start": "spectral"},
        r"^`pinned\[1\]` holds 48 rows of slice 1 \('b'\), but `init` has no positions",
    ),
    "none of that slice": (
        {"pinned": [None, MASK, None], "start": [STARTS[0], None, None]},
        r"^`pinned\[1\]` holds 48 rows of slice 1 \('b'\), but `init` has no positions",
    ),
    "negative weights": (
        {"point_weights": [None, -1.0 * MASK, None]},
        r"^`point_weights\[1\]` of slice 1 \('b'\) have -1\.0 at 0; expected",
    ),
    "weights of NaN": (
        {"point_weights": [None, None, np.full(45, np.nan)]},
        r"^`point_weights\[2\]` of slice 2 \('c'\) have nan at 0",
    ),
    "too few weights": (
        {"point_weights": [[1.0, 2.0], None, None]},
        r"^`point_weights\[0\]` of slice 0 \('a'\) have shape \(2,\); expected \(41,\)",
    ),
    "words": (
        {"point_weights": [["much"] * 41, None, None]},
        r"^`point_weights\[0\]` of slice 0 \('a'\).*expected numbers",
    ),
    "weights for two slices": (
        {"point_weights": [None, None]},
        "^`point_weights` has 2 entries for 3 slices",
    ),
}


@pytest.mark.parametrize("case", BAD_PINS)
def test_pins_and_weights_that_do_not_fit_are_refused(case):
    settings, said = BAD_PINS[case]
    with pytest.raises(ValueError, match=said):
        lay_out(**settings)


@pytest.mark.parametrize("labels", [("a", "b"), (*LABELS, "d")])
def test_labels_must_be_one_for_each_slice(labels):
    said = f"^`slice_labels` has {len(labels)} labels for 3 slices"
    with pytest.raises(ValueError, match=said):
        fit(make_data(), make_relations(), key=jax.random.key(0), slice_labels=labels)


@pytest.mark.parametrize("labels", [3, {"a", "b", "c"}, [["a"], "b", "c"], np.eye(3)])
def test_labels_that_name_no_slices_are_refused(labels):
    with pytest.raises(ValueError, match=r"^`slice_labels"):
        fit(make_data(), make_relations(), key=jax.random.key(0), slice_labels=labels)
