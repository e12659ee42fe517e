"""Motion-aware alignment: how far mates move, and the maps that follow it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    CAPACITY,
    NEIGHBORS,
    SIZES,
    make_data,
    make_maps,
    make_problem,
    make_relations,
    refused,
)
from jax.test_util import check_grads
from test_losses import exact_shifts, make_params

import aljax
from aljax import metrics
from aljax.layout.losses import misfit_of_mates
from aljax.layout.objective import aligned_loss
from aljax.layout.problem import stack, stack_maps
from aljax.relations.strengths import measure_moves, scales_of


def slow_moves(data, relations):
    """delta by hand: the unit is the median of the slices' medians."""
    scales = []
    for rows in data:
        gaps = np.linalg.norm(rows[:, None] - rows, axis=2)
        scales.append(np.median(np.sort(gaps, axis=1)[:, NEIGHBORS - 1]))
    return {
        (t, offset): [
            float(np.sqrt(sum((data[t][i] - data[t + offset][k]) ** 2)))
            / np.median(scales)
            for i, k in zip(pair.rows, pair.others, strict=True)
        ]
        for (t, offset), pair in relations.items()
    }


@pytest.fixture(scope="module")
def case():
    with jax.enable_x64(True):
        graphs, relations, classical = make_problem()
        data = make_data()
        moving = measure_moves(relations, data, scales_of(data, graphs))
        aware = stack(graphs, moving, key=jax.random.key(0), capacity=CAPACITY)
    return moving, classical, aware


def test_moves_equal_the_slow_loop(case):
    relations, *_ = case
    expected = slow_moves([one.astype(float) for one in make_data()], relations)
    assert {*relations} == {*expected}
    for pair, values in expected.items():
        np.testing.assert_allclose(relations[pair].moves, values, rtol=1e-9)
    squared, reach = jnp.asarray([0.0, 4.0, 4.0]), jnp.asarray([0.5, 0.5, 3.0])
    misfit = misfit_of_mates(squared, reach)
    np.testing.assert_allclose(misfit, [(1e-4 - 0.5) ** 2, 2.25, 1.0], rtol=1e-6)


def test_rows_that_are_all_alike_move_by_the_unit_of_the_data():
    graphs, relations, _ = make_problem()
    same = [np.full((size, 2), float(t)) for t, size in enumerate(SIZES)]
    moving = measure_moves(relations, same, scales_of(same, graphs))
    np.testing.assert_allclose(moving[0, 1].moves, np.sqrt(2))


@pytest.mark.slow
def test_the_pull_equals_the_slow_sum(case):
    relations, _, aware = case
    maps = make_maps()
    with jax.enable_x64(True):
        params = make_params()
        terms = aligned_loss(
            stack_maps(maps, aware), aware, params, exact_shifts(aware)
        )
    order = np.asarray(aware.order)
    degrees = [
        np.asarray(aware.degrees)[t][np.argsort(order[t])] for t in range(len(SIZES))
    ]
    rate, kappa = np.asarray(params.negative_sample_rate), 0.4
    expected = np.zeros(len(SIZES))
    for (t, offset), mates in relations.items():
        u = t + offset
        for i, k, s, delta in zip(*mates, strict=True):
            apart = np.sqrt(sum((maps[t][i] - maps[u][k]) ** 2) + 1e-8)
            pull = degrees[t][i] * (2 + rate[t]) + degrees[u][k] * (2 + rate[u])
            expected[t] += 0.3 * pull / 4 * s * (apart - kappa * delta) ** 2
    np.testing.assert_allclose(terms.alignment, expected, rtol=1e-9)


def test_gradients_agree_with_finite_differences(case):
    *_, aware = case
    with jax.enable_x64(True):
        shifts = exact_shifts(aware)
        start = stack_maps(make_maps(), aware)

        @jax.jit
        def aligned(y, params):
            return aligned_loss(y, aware, params, shifts).alignment.sum()

        check_grads(aligned, (start, make_params()), 1, modes=["rev"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("double", [False, True])
def test_gradients_are_finite_where_mates_coincide(case, double):
    *_, aware = case
    with jax.enable_x64(double):
        kind = jnp.zeros((), float).dtype

        def cast(leaf):
            leaf = np.asarray(leaf)
            return jnp.asarray(leaf, kind if leaf.dtype.kind == "f" else leaf.dtype)

        problem, params = jax.tree.map(cast, (aware, make_params()))
        shifts = exact_shifts(problem)
        gradient = jax.grad(lambda y: aligned_loss(y, problem, params, shifts).total())(
            jnp.zeros((len(SIZES), 2, CAPACITY), kind)
        )
    assert np.isfinite(gradient).all()
    for t, size in enumerate(SIZES):
        assert (np.asarray(gradient)[t, :, size:] == 0).all()


def test_without_moves_the_setting_changes_nothing(case):
    _, classical, _ = case
    assert classical.moves is None
    with jax.enable_x64(True):
        shifts = exact_shifts(classical)
        start = stack_maps(make_maps(), classical)

        @jax.jit
        def aligned(kappa):
            params = make_params()
            leaves = [*jax.tree.leaves(params)[:-1], jnp.asarray(kappa)]
            params = jax.tree.unflatten(jax.tree.structure(params), leaves)
            return aligned_loss(start, classical, params, shifts).alignment

        np.testing.assert_array_equal(aligned(0.0), aligned(0.7))


def drifting(rng):
    """Three groups, of which one half moves farther from slice to slice."""
    group = np.repeat(np.eye(3) * 8, 40, axis=0)
    cloud = group + rng.normal(size=group.shape)
    speed = np.where(np.arange(120) % 2, 1.5, 0.1)[:, None]
    steps = rng.normal(size=(5, 120, 3)) * speed
    return [(cloud + move).astype(np.float32) for move in steps]


def test_maps_move_where_the_data_do(rng, key):
    slices = drifting(rng)
    same = [{i: i for i in range(120)}] * 4

    def stability(kappa):
        fitted = aljax.fit(
            slices,
            same,
            key=key,
            graph=aljax.GraphConfig(n_neighbors=10),
            layout=aljax.LayoutConfig(n_epochs=200),
            alignment=aljax.AlignmentConfig(
                alignment_regularisation=1.0, motion_fidelity=kappa
            ),
        )
        maps = fitted.slices()
        return metrics.stability(slices, maps, fitted.relations)

    truthful = stability(0.3)
    assert truthful > 0.8
    assert truthful > stability(0.0)


@pytest.mark.usefixtures("as_users_run_it")
def test_slices_that_cannot_be_compared_are_refused_by_name(key):
    alignment = aljax.AlignmentConfig(motion_fidelity=0.3)
    settings = {"key": key, "alignment": alignment}
    data, relations = make_data(), make_relations()
    with refused("motion_fidelity", "slice 1 has 4 columns and slice 0 has 5"):
        aljax.fit([data[0], data[1][:, :4], data[2]], relations, **settings)
    graphs, *_ = make_problem()
    with refused("motion_fidelity", "slice 2 is sparse", "dense data"):
        aljax.fit([*data[:2], graphs[2]], relations, **settings)
