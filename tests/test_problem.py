from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    CAPACITY,
    NEIGHBORS,
    SIZES,
    make_data,
    make_graphs,
    make_maps,
    make_problem,
)

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig, find_ab_params
from aljax.graph.build import build_graphs
from aljax.graph.slices import read_slices
from aljax.layout.adjoint import reweigh
from aljax.layout.problem import layout_params, stack, stack_maps, unstack_maps
from aljax.relations.mates import Mates

OWN = np.arange(CAPACITY)


@pytest.fixture(scope="module")
def case():
    return make_problem()


def test_maps_come_back_in_the_users_order(case):
    _, _, problem = case
    maps = make_maps(components=3)
    stacked = stack_maps(maps, problem)
    assert stacked.shape == (len(SIZES), 3, CAPACITY)
    for t, size in enumerate(SIZES):
        assert (np.asarray(stacked)[t, :, size:] == 0).all()
    for back, given in zip(unstack_maps(stacked, problem), maps, strict=True):
        np.testing.assert_array_equal(back, given.astype(np.float32))


def test_every_slice_is_shuffled_within_its_own_points(case):
    _, _, problem = case
    for order, size in zip(np.asarray(problem.order), SIZES, strict=True):
        assert sorted(order[:size].tolist()) == [*range(size)]
        assert (order[:size] != np.arange(size)).any()
        np.testing.assert_array_equal(order[size:], OWN[size:])


def test_the_key_decides_the_order():
    orders = [np.asarray(make_problem(seed=seed)[2].order) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()


def test_keys_of_the_old_style_serve_as_well(case):
    graphs, relations, problem = case
    old = stack(graphs, relations, key=jax.random.PRNGKey(0), capacity=CAPACITY)
    np.testing.assert_array_equal(old.order, problem.order)


def test_padding_points_to_itself_and_weighs_nothing(case):
    _, _, problem = case
    for t, size in enumerate(SIZES):
        assert int(problem.n_points[t]) == size
        for index, weight in (
            (problem.neighbors, problem.weights),
            (problem.mates, problem.strengths),
        ):
            spare = np.asarray(index)[t, ..., size:]
            assert (spare == OWN[size:]).all()
            assert (np.asarray(weight)[t, ..., size:] == 0).all()
        assert (np.asarray(problem.degrees)[t, size:] == 0).all()


def test_rows_without_a_mate_point_to_themselves_with_strength_0(case):
    _, relations, problem = case
    mates, strengths = np.asarray(problem.mates), np.asarray(problem.strengths)
    order = np.asarray(problem.order)
    for t, size in enumerate(SIZES):
        for o in range(mates.shape[1]):
            pair = relations.get((t, o + 1))
            related = [] if pair is None else pair.rows
            alone = ~np.isin(order[t, :size], related)
            assert alone.any()
            assert (mates[t, o, :, :size][:, alone] == OWN[:size][alone]).all()
            assert (strengths[t, o, :, :size][:, alone] == 0).all()


def dense(neighbors, weights, order, points):
    """The directed lists as a matrix in the user's order."""
    matrix = np.zeros((points, points))
    for heads, strengths in zip(neighbors, weights, strict=True):
        for place in range(points):
            matrix[order[place], order[heads[place]]] += strengths[place]
    return matrix


def test_the_stacked_lists_are_the_graphs(case):
    graphs, _, problem = case
    for t, (graph, size) in enumerate(zip(graphs, SIZES, strict=True)):
        order = np.asarray(problem.order)[t]
        found = dense(
            np.asarray(problem.neighbors)[t],
            np.asarray(problem.weights)[t],
            order,
            size,
        )
        np.testing.assert_array_equal(
            found,
            dense(
                np.asarray(graph.neighbors),
                np.asarray(graph.weights),
                np.arange(size),
                size,
            ),
        )
        np.testing.assert_array_equal(
            np.asarray(problem.degrees)[t, :size],
            np.asarray(graph.degrees)[order[:size]],
        )


def read_mates(problem, t, o):
    """{(row, mate): strength} in the user's rows, of entries that weigh anything."""
    order = np.asarray(problem.order)
    found = {}
    for index, weight in zip(
        np.asarray(problem.mates)[t, o],
        np.asarray(problem.strengths)[t, o],
        strict=True,
    ):
        for place in np.flatnonzero(weight).tolist():
            pair = (int(order[t, place]), int(order[t + o + 1, index[place]]))
            assert pair not in found
            found[pair] = weight[place]
    return found


def expected_mates(mates):
    rows, others = mates.rows.tolist(), mates.others.tolist()
    strengths = mates.strengths.astype(np.float32).tolist()
    return {(i, k): s for i, k, s in zip(rows, others, strengths, strict=True) if s > 0}


def test_the_stacked_mates_are_the_relations(case):
    _, relations, problem = case
    assert problem.mates.shape == (len(SIZES), 2, 1, CAPACITY)
    for (t, offset), mates in relations.items():
        assert read_mates(problem, t, offset - 1) == expected_mates(mates)
    last = len(SIZES) - 1
    assert (np.asarray(problem.strengths)[last] == 0).all()


def test_a_slice_stands_in_the_order_that_it_has_among_those_of_other_processes(case):
    graphs, relations, problem = case
    around: Any = {"before": SIZES[:1], "after": SIZES[2:], "offsets": problem.offsets}
    pairs = {(0, 1): relations[1, 1]}
    here = stack(graphs[1:2], pairs, key=jax.random.key(0), **around)
    for name in ("order", "neighbors", "degrees", "mates", "strengths"):
        expected = np.asarray(getattr(problem, name))[1]
        np.testing.assert_array_equal(np.asarray(getattr(here, name))[0], expected)


def test_a_row_may_have_several_mates():
    graphs = make_graphs(SIZES[:2])
    mates = Mates(
        np.array([3, 1, 3, 1, 3]),
        np.array([5, 6, 7, 8, 9]),
        np.array([0.5, 0.25, 1.0, 0.125, 0.75]),
    )
    problem = stack(graphs, {(0, 1): mates}, key=jax.random.key(0))
    assert problem.mates.shape == (2, 1, 4, CAPACITY)
    assert read_mates(problem, 0, 0) == expected_mates(mates)


def test_the_arrays_do_not_depend_on_the_capacity(case):
    graphs, relations, problem = case
    wide = stack(graphs, relations, key=jax.random.key(0), capacity=64)
    for name in ("neighbors", "weights", "degrees", "mates", "strengths", "order"):
        for t, size in enumerate(SIZES):
            np.testing.assert_array_equal(
                np.asarray(getattr(wide, name))[t, ..., :size],
                np.asarray(getattr(problem, name))[t, ..., :size],
                err_msg=name,
            )


def test_the_capacity_is_chosen_to_be_shared_by_near_sizes():
    graphs = make_graphs(SIZES[:1])
    assert stack(graphs, {}, key=jax.random.key(0)).order.shape == (1, CAPACITY)


def test_a_capacity_below_the_largest_slice_is_refused(case):
    graphs, relations, _ = case
    with pytest.raises(ValueError, match=r"^`capacity` is 40, but a slice has 48"):
        stack(graphs, relations, key=jax.random.key(0), capacity=40)


def test_slices_may_differ_in_their_number_of_neighbors():
    config = GraphConfig(n_neighbors=[NEIGHBORS, 9, 4])
    graphs = build_graphs(read_slices(make_data()), config)
    problem = stack(graphs, {}, key=jax.random.key(0))
    assert problem.neighbors.shape == (3, 8, CAPACITY)
    for t, n_neighbors in enumerate((NEIGHBORS, 9, 4)):
        spare = np.asarray(problem.neighbors)[t, n_neighbors - 1 :]
        assert (spare == OWN).all()
        assert (np.asarray(problem.weights)[t, n_neighbors - 1 :] == 0).all()
        np.testing.assert_allclose(
            float(problem.weights[t].sum()), graphs[t].weights.sum(), rtol=1e-6
        )


def test_slices_without_relations_have_no_mates():
    problem = stack(make_graphs(), {}, key=jax.random.key(0))
    assert problem.mates.shape[:2] == (len(SIZES), 0)


def test_settings_become_one_leaf_for_each_slice():
    layout = LayoutConfig(
        min_dist=[0.1, 0.3],
        spread=2.0,
        repulsion_strength=[1.0, 0.5],
        negative_sample_rate=3.0,
        learning_rate=[0.5, 0.25],
    )
    alignment = AlignmentConfig(alignment_regularisation=0.5)
    params = layout_params(layout, alignment, slices=2)
    for t, min_dist in enumerate((0.1, 0.3)):
        a, b = find_ab_params(2.0, min_dist)
        np.testing.assert_allclose([params.a[t], params.b[t]], [a, b], rtol=1e-6)
    np.testing.assert_array_equal(params.repulsion_strength, [1, 0.5])
    np.testing.assert_array_equal(params.negative_sample_rate, [3, 3])
    np.testing.assert_array_equal(params.learning_rate, [0.5, 0.25])
    assert params.alignment_regularisation.shape == ()
    assert float(params.alignment_regularisation) == 0.5


def test_a_and_b_take_the_place_of_min_dist_and_spread():
    layout = LayoutConfig(a=[1.5, 2.0], b=0.75, min_dist=0.9)
    params = layout_params(layout, AlignmentConfig(), slices=2)
    np.testing.assert_array_equal(params.a, [1.5, 2.0])
    np.testing.assert_array_equal(params.b, [0.75, 0.75])


@pytest.mark.parametrize(
    "settings",
    [
        {"min_dist": [0.1, 0.2]},
        {"spread": [1.0, 2.0]},
        {"learning_rate": [1.0] * 4},
        {"repulsion_strength": [1.0]},
        {"negative_sample_rate": [5.0, 5.0]},
        {"a": [1.0, 1.0], "b": 1.0},
        {"a": 1.0, "b": [1.0, 1.0]},
    ],
)
def test_lists_of_the_wrong_length_are_refused(settings):
    name = next(key for key, value in settings.items() if isinstance(value, list))
    with pytest.raises(ValueError, match=f"^`{name}` has . values, .* 3 slices"):
        layout_params(LayoutConfig(**settings), AlignmentConfig(), slices=3)


def test_the_leaves_are_double_in_double_precision():
    with jax.enable_x64(True):
        params = layout_params(LayoutConfig(), AlignmentConfig(), slices=2)
        problem = make_problem()[2]
    leaves = [*jax.tree.leaves(params), problem.weights, problem.strengths]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float64")}


@pytest.mark.parametrize("name", ["b", "learning_rate", "repulsion_strength"])
def test_settings_beyond_single_precision_are_named(name):
    settings: dict[str, Any] = {"a": 1.0, "b": 1.0} | {name: 1e300}
    with pytest.raises(ValueError, match=f"^`{name}` is .*float32 can hold"):
        layout_params(LayoutConfig(**settings), AlignmentConfig(), slices=1)
    with pytest.raises(ValueError, match=r"^`motion_fidelity` is 1e\+300"):
        layout_params(LayoutConfig(), AlignmentConfig(motion_fidelity=1e300), slices=1)


def test_other_weights_change_the_pulls_as_a_new_stack_does():
    graphs, relations, _ = make_problem()
    key, weighing = jax.random.key(0), [None, np.linspace(0, 2, SIZES[1]), None]
    problem = stack(graphs, relations, key=key, point_weights=weighing)
    twice = [
        jax.tree.map(lambda x: x * 2 if x.dtype.kind == "f" else x, graph)
        for graph in graphs
    ]
    expected = stack(twice, relations, key=key, point_weights=weighing)
    close = partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(close, jax.jit(reweigh)(problem, twice), expected)
