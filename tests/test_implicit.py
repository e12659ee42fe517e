"""Derivatives through a finished layout, against central differences in x64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_data, make_maps, make_problem
from jax.test_util import check_grads

from aljax.config import AlignmentConfig, LayoutConfig
from aljax.graph.exact import exact_knn
from aljax.layout.adjoint import (
    exact_shifts,
    flat_directions,
    graph_of,
    project,
    reweigh,
    solve_layout,
)
from aljax.layout.losses import aligned_loss
from aljax.layout.problem import AlignedProblem, layout_params, stack_maps
from aljax.watch import watch

SIZES = (60, 60, 60)
CAPACITY = 64  # some padding, whose derivatives have to be 0
RATE = 0.2  # the default rate amplifies differences beyond what 1e-5 could show


@pytest.fixture(scope="module", autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def problem() -> AlignedProblem:
    return make_problem(SIZES, capacity=CAPACITY)[2]


@pytest.fixture(scope="module")
def params():
    layout = LayoutConfig(min_dist=0.3, learning_rate=RATE)
    return layout_params(layout, AlignmentConfig(0.1), slices=len(SIZES))


@pytest.fixture(scope="module")
def base(problem, params):
    """A layout to start from: far from a random one, and from a minimum."""
    start = stack_maps(make_maps(SIZES), problem)
    fast = eqx.tree_at(lambda p: p.learning_rate, params, 10 * params.learning_rate)
    return solve_layout(
        problem, fast, start, key=jax.random.key(0), n_epochs=100, n_shifts=32
    ).maps


def measure(maps):
    """A functional of distances only, within a map and between two."""
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(2, 60, 60)))
    y = maps[:, :, :60]
    within = jnp.sum((y[0][:, :, None] - y[0][:, None, :]) ** 2, axis=0)
    between = jnp.sum((y[0][:, :, None] - y[2][:, None, :]) ** 2, axis=0)
    return jnp.sum(weights[0] * jnp.tanh(within / 10)) + jnp.sum(
        weights[1] * jnp.sqrt(between + 1)
    )


def moved(problem, params, start, amounts):
    """All that a layout can be differentiated in, moved along fixed directions."""
    rng = np.random.default_rng(2)

    def along(leaf, amount):
        return leaf * (1 + amount * jnp.asarray(rng.uniform(-1, 1, leaf.shape)))

    problem = eqx.tree_at(
        lambda p: (p.weights, p.degrees, p.strengths),
        problem,
        (
            along(problem.weights, amounts[0]),
            along(problem.degrees, amounts[0]),
            along(problem.strengths, amounts[1]),
        ),
    )
    strength = params.alignment_regularisation + amounts[2]
    params = eqx.tree_at(
        lambda p: (p.alignment_regularisation, p.a, p.repulsion_strength),
        params,
        (
            strength,
            along(params.a, amounts[3]),
            along(params.repulsion_strength, amounts[3]),
        ),
    )
    return (
        problem,
        params,
        start + amounts[4] * jnp.asarray(rng.normal(size=start.shape)),
    )


def differences(function, amounts, step):
    rows = np.eye(len(amounts)) * step
    return np.array(
        [
            (function(amounts + row) - function(amounts - row)) / (2 * step)
            for row in rows
        ]
    )


@pytest.mark.slow
def test_the_unrolled_derivative_equals_central_differences(problem, params, base):
    @jax.jit
    def value(amounts):
        own = moved(problem, params, base, amounts)
        options = {"key": jax.random.key(1), "n_epochs": 20, "n_shifts": 8}
        return measure(solve_layout(*own, **options).maps)

    at = jnp.zeros(5)
    gradient = jax.jit(jax.grad(value))(at)
    assert (np.abs(gradient) > 1e-3).all()
    np.testing.assert_allclose(gradient, differences(value, at, 1e-6), rtol=1e-5)


@pytest.mark.slow
def test_the_implicit_derivative_equals_central_differences(problem, params, base):
    found = solve_layout(problem, params, base, adjoint="implicit")
    assert bool(found.converged)
    assert float(found.slope) < 1e-8

    @jax.jit
    def value(amounts):
        own = moved(problem, params, found.maps, amounts)
        # The start decides which minimum, not where it is: its derivative is 0.
        solved = solve_layout(*own, adjoint="implicit", throw=False)
        return measure(solved.maps)

    at = jnp.zeros(5)
    gradient = jax.jit(jax.grad(value))(at)
    assert (np.abs(gradient[:4]) > 1e-3).all()
    assert gradient[4] == 0
    expected = differences(value, at, 1e-5)
    np.testing.assert_allclose(gradient[:4], expected[:4], rtol=1e-5)


@pytest.mark.slow
def test_flat_directions_are_flat_and_no_others(problem, params, base):
    shifts = exact_shifts(problem)

    def slope(maps):
        return jax.grad(lambda y: aligned_loss(y, problem, params, shifts).total())(
            maps
        )

    flat = flat_directions(problem, params, base)
    basis = np.asarray(flat.basis)
    norms = np.linalg.norm(basis.reshape(len(basis), -1), axis=1)
    assert np.isclose(norms, 1).sum() == 3  # two shifts and a rotation of all slices
    assert np.isclose(norms, 0).sum() == len(basis) - 3
    terms = jax.jit(lambda y: aligned_loss(y, problem, params, shifts).total())
    for direction in basis[np.isclose(norms, 1)]:
        # Along a rotation's tangent the loss changes with the square of the step.
        change = terms(base + 1e-4 * direction) - terms(base)
        assert abs(float(change)) < 1e-5
        assert abs(float(jnp.vdot(slope(base), direction))) < 1e-8
    apart = eqx.tree_at(
        lambda p: p.alignment_regularisation, params, jnp.zeros_like(params.a[0])
    )
    alone = np.asarray(flat_directions(problem, apart, base).basis)
    assert np.isclose(np.linalg.norm(alone.reshape(9, -1), axis=1), 1).all()
    direction = project(jnp.ones_like(base), flat)
    assert (np.asarray(direction)[:, :, 60:] == 0).all()
    np.testing.assert_allclose(direction, project(direction, flat), atol=1e-12)


@pytest.mark.slow
def test_the_last_epochs_alone_leave_the_start_out(problem, params, base):
    def value(start, last):
        own = {"key": jax.random.key(1), "n_epochs": 5, "n_shifts": 8, "last": last}
        return measure(solve_layout(problem, params, start, **own).maps)

    gradient = jax.grad(value)(base, 2)
    assert (np.asarray(gradient) == 0).all()
    np.testing.assert_allclose(value(base, 2), value(base, 5), rtol=1e-9)


@pytest.mark.slow
def test_data_to_loss_is_differentiable_for_fixed_neighbors(problem, params, base):
    data = [jnp.asarray(one, dtype=float) for one in make_data(SIZES)]
    neighbors = [exact_knn(np.asarray(one), 6).indices for one in data]
    shifts = exact_shifts(problem)

    @jax.jit
    def loss(*data):
        graphs = [graph_of(x, near) for x, near in zip(data, neighbors, strict=True)]
        own = reweigh(problem, graphs)
        return aligned_loss(base, own, params, shifts).total() / 1e3

    check_grads(loss, data, order=1, modes=["rev"], rtol=1e-5, eps=1e-6)
    same = reweigh(
        problem, [graph_of(x, k) for x, k in zip(data, neighbors, strict=True)]
    )
    np.testing.assert_allclose(same.weights, problem.weights, atol=1e-5)
    np.testing.assert_allclose(same.degrees, problem.degrees, atol=1e-5)
    np.testing.assert_allclose(same.pulls, problem.pulls, atol=1e-4)


@pytest.mark.slow
def test_a_layout_that_did_not_converge_is_reported(problem, params, base):
    few = {"adjoint": "implicit", "max_steps": 1, "tolerance": 1e-14}
    assert not bool(solve_layout(problem, params, base, throw=False, **few).converged)
    with pytest.raises(RuntimeError, match="the layout did not converge"):
        solve_layout(problem, params, base, **few)


@pytest.mark.parametrize(
    ("stage", "function"),
    [
        ("graph", lambda x: jnp.sqrt(jnp.sum(watch(x, "graph") * 0))),
        ("layout", lambda x: jnp.sum(jnp.sqrt(watch({"a": x, "n": 1}, "layout")["a"]))),
    ],
)
def test_a_gradient_that_is_not_finite_names_its_stage(stage, function):
    with pytest.raises(RuntimeError, match=f"comes out of the {stage} is not finite"):
        jax.grad(function)(jnp.zeros(3))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adjoint": "implicit", "n_shifts": 5}, "samples the repulsion"),
        ({"adjoint": "implict"}, "`adjoint` is 'implict'; expected 'unrolled' or"),
        ({}, "`key` is None"),
        ({"key": 0, "last": 500}, "`last` is 500; expected 1 to `n_epochs`"),
    ],
)
def test_bad_input_is_named(problem, params, base, options, said):
    with pytest.raises(ValueError, match=said):
        solve_layout(problem, params, base, **options)


def test_pinned_rows_are_not_for_the_minimiser(problem, params, base):
    pinned = eqx.tree_at(lambda p: p.free, problem, problem.free.at[0, :3].set(0))
    with pytest.raises(ValueError, match=r"`problem` has pinned rows, .*'unrolled'"):
        solve_layout(pinned, params, base, adjoint="implicit")
