"""Derivatives through a finished layout, against central differences in x64."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_data, make_maps, make_problem
from jax.test_util import check_grads

from aljax.config import AlignmentConfig, LayoutConfig
from aljax.errors import InputError
from aljax.graph.exact import exact_knn
from aljax.layout import (
    Anchored,
    Implicit,
    Unrolled,
    graph_of,
    reweigh,
    solve_layout,
)
from aljax.layout.minimum import (
    Theta,
    curvature,
    exact_shifts,
    flat_directions,
    product,
    project,
    slope,
)
from aljax.layout.objective import aligned_loss
from aljax.layout.problem import AlignedProblem, layout_params, stack_maps

SIZES = (20, 20, 20)
NONE: Any = None
CAPACITY = 24  # some padding, whose derivatives have to be 0
RATE = 0.2  # the default rate amplifies differences beyond what 1e-5 could show
SMALL, NARROW = Implicit(memory=1000), Anchored(memory=9, settle=0)
FEW = Unrolled(jax.random.key(1), n_epochs=6, n_shifts=4)
EXACT = Implicit(1e-10, 1e-10, settle=0, throw=False)  # a start that is settled
SPRINGS = Anchored(1e-10, 1e-10, settle=0, ridge=1.0)
pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(scope="module")
def problem() -> AlignedProblem:
    return make_problem(SIZES, capacity=CAPACITY)[2]


@pytest.fixture(scope="module")
def params():
    layout = LayoutConfig(min_dist=0.3, learning_rate=RATE)
    return layout_params(layout, AlignmentConfig(0.1), slices=len(SIZES))


@pytest.fixture(scope="module")
def start(problem):
    return stack_maps(make_maps(SIZES), problem)


@pytest.fixture(scope="module")
def base(problem, params, start):
    """A minimum of the exact loss, to start from."""
    return solve_layout(
        problem, params, start, adjoint=Implicit(1e-10, settle=3_000)
    ).maps


@pytest.fixture(scope="module")
def springs(problem, params, base) -> Anchored:
    return SPRINGS.at(problem, params, base)[0]


def solve(*of):
    return solve_layout(*of, adjoint=SPRINGS).maps


def settling(problem, params, start):
    """A function of a setting alone, on which the layout that springs hold depends."""

    def of_weight(weight):
        changed = eqx.tree_at(lambda p: p.alignment_regularisation, params, weight)
        adjoint = dataclasses.replace(SPRINGS, settle=1)
        return solve_layout(problem, changed, start, adjoint=adjoint).maps

    return of_weight


def measure(maps):
    """A functional of distances only, within a map and between two."""
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(2, 20, 20)))
    y = maps[:, :, :20]
    within = jnp.sum((y[0][:, :, None] - y[0][:, None, :]) ** 2, axis=0)
    between = jnp.sum((y[0][:, :, None] - y[2][:, None, :]) ** 2, axis=0)
    return jnp.sum(weights[0] * jnp.tanh(within / 10)) + jnp.sum(
        weights[1] * jnp.sqrt(between + 1)
    )


def moved(problem, params, start, amounts):
    """The inputs that a layout is differentiable in, moved along fixed directions."""
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
    params = eqx.tree_at(
        lambda p: (p.alignment_regularisation, p.a, p.repulsion_strength),
        params,
        (
            params.alignment_regularisation + amounts[2],
            along(params.a, amounts[3]),
            along(params.repulsion_strength, amounts[3]),
        ),
    )
    start = start + amounts[4] * jnp.asarray(rng.normal(size=start.shape))
    return problem, params, start


@pytest.mark.slow
@pytest.mark.parametrize(("way", "reaches"), [("few", 5), ("exact", 4), ("springs", 4)])
def test_first_and_second_derivatives_equal_central_differences(
    problem, params, base, springs, way, reaches
):
    adjoint = {"few": FEW, "exact": EXACT, "springs": springs}[way]

    def value(amounts):
        inputs = moved(problem, params, base, amounts)
        return measure(solve_layout(*inputs, adjoint=adjoint).maps)

    @jax.jit
    def derivatives(at):  # one program: compiling is what takes time
        slope, both = jax.grad(value), (value, jax.jacfwd(value), jax.hessian(value))
        return slope(at), *(function(at) for function in both)

    def differences(order, step):
        there = [
            [np.asarray(derivatives(side * row)[order]) for side in (1, -1)]
            for row in np.eye(5) * step
        ]
        return np.stack([(up - down) / (2 * step) for up, down in there])

    gradient, _, forward, hessian = map(np.asarray, derivatives(jnp.zeros(5)))
    n = reaches  # a minimum forgets its start
    assert (np.abs(gradient[:n]) > 1e-3).all()
    assert (gradient[n:] == 0).all()
    np.testing.assert_allclose(gradient[:n], differences(1, 1e-6)[:n], rtol=1e-5)
    np.testing.assert_allclose(forward, gradient, rtol=1e-5)
    size = np.abs(hessian).max()
    expected = differences(0, 1e-5)
    np.testing.assert_allclose(hessian[:n, :n], expected[:n, :n], atol=1e-4 * size)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-6 * size)


ROWS = make_data(SIZES)[0].astype(float)


@pytest.fixture(scope="module")
def spread(double_precision):  # noqa: ARG001
    neighbors = exact_knn(ROWS, 6).indices
    return lambda data: jnp.sum(
        jnp.sin(jnp.arange(20.0) * graph_of(data, neighbors).degrees)
    )


def test_a_graph_has_derivatives_in_both_modes(spread):
    data = jnp.asarray(ROWS)
    check_grads(
        jax.jit(spread), (data,), order=1, modes=["fwd", "rev"], rtol=1e-5, eps=1e-6
    )


@pytest.mark.slow
def test_a_graph_has_derivatives_of_second_order(spread):
    data = jnp.asarray(ROWS)
    direction = jnp.asarray(np.random.default_rng(3).normal(size=data.shape))
    slope = jax.jit(jax.grad(spread))
    curved = jax.jit(lambda x: jax.jvp(jax.grad(spread), (x,), (direction,))[1])(data)
    step = 1e-6 * direction
    expected = (slope(data + step) - slope(data - step)) / 2e-6
    np.testing.assert_allclose(curved, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_flat_directions_are_flat_and_no_others(problem, params, base):
    shifts = exact_shifts(problem)
    terms = jax.jit(lambda y: aligned_loss(y, problem, params, shifts).total())
    slope = jax.jit(jax.grad(terms))(base)
    flat = flat_directions(Theta(problem, params, None), base)
    basis = np.asarray(flat.basis)
    norms = np.linalg.norm(basis.reshape(len(basis), -1), axis=1)
    assert np.isclose(norms, 1).sum() == 3  # two shifts and a rotation of all slices
    assert np.isclose(norms, 0).sum() == len(basis) - 3
    for direction in basis[np.isclose(norms, 1)]:
        # Along a rotation's tangent the loss changes with the square of the step.
        change = terms(base + 1e-4 * direction) - terms(base)
        assert abs(float(change)) < 1e-5
        assert abs(float(jnp.vdot(slope, direction))) < 1e-8
    apart = eqx.tree_at(
        lambda p: p.alignment_regularisation, params, jnp.zeros_like(params.a[0])
    )
    alone = np.asarray(flat_directions(Theta(problem, apart, None), base).basis)
    assert np.isclose(np.linalg.norm(alone.reshape(9, -1), axis=1), 1).all()
    direction = project(jnp.ones_like(base), flat)
    assert (np.asarray(direction)[:, :, 20:] == 0).all()
    np.testing.assert_allclose(direction, project(direction, flat), atol=1e-12)


@pytest.mark.slow
def test_the_last_epochs_alone_leave_the_start_out(problem, params, base):
    def value(start, last):
        adjoint = Unrolled(jax.random.key(1), n_epochs=5, n_shifts=4, last=last)
        return measure(solve_layout(problem, params, start, adjoint=adjoint).maps)

    with jax.debug_nans(True):
        gradient = jax.grad(value)(base, 2)
    assert (np.asarray(gradient) == 0).all()
    np.testing.assert_allclose(value(base, 2), value(base, 5), rtol=1e-9)


@pytest.mark.slow
def test_data_to_loss_is_differentiable_for_fixed_neighbors(problem, params, base):
    data = [jnp.asarray(rows, dtype=float) for rows in make_data(SIZES)]
    neighbors = [exact_knn(np.asarray(rows), 6).indices for rows in data]
    shifts = exact_shifts(problem)

    @jax.jit
    def reweighed(*data):
        graphs = [graph_of(x, near) for x, near in zip(data, neighbors, strict=True)]
        return reweigh(problem, graphs)

    def loss(*data):
        return aligned_loss(base, reweighed(*data), params, shifts).total() / 1e3

    check_grads(jax.jit(loss), data, order=1, modes=["rev"], rtol=1e-5, eps=1e-6)
    same = reweighed(*data)
    np.testing.assert_allclose(same.weights, problem.weights, atol=1e-5)
    np.testing.assert_allclose(same.degrees, problem.degrees, atol=1e-5)
    np.testing.assert_allclose(same.pulls, problem.pulls, atol=1e-4)


def dense_and_moving(theta: Theta) -> Theta:
    """The same with densMAP's terms and those of the moves."""
    problem = theta.problem
    moves = 0.3 + 0.1 * jnp.arange(problem.strengths.size * 1.0)
    radii = jnp.sin(jnp.arange(problem.degrees.size * 1.0))
    changed = dataclasses.replace(
        problem,
        moves=moves.reshape(problem.strengths.shape) / moves.size,
        radii=radii.reshape(problem.degrees.shape),
        shares=jnp.where(problem.weights > 0, 0.5, 0.0),
    )
    three = jnp.ones(3)
    terms: Any = {"dens_lambda": three, "dens_frac": three, "dens_var_shift": three}
    terms |= {"motion_fidelity": jnp.asarray(2.0)}
    return Theta(changed, dataclasses.replace(theta.params, **terms), None)


@pytest.mark.parametrize(
    "kind",
    [
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("exact", "springs")),
        "dense and moving",
    ],
)
def test_products_of_stored_curvature_are_those_of_autodiff(
    problem, params, start, kind
):
    theta = EXACT.theta(problem, params)
    if kind == "springs":
        theta = SPRINGS.at(problem, params, start)[0].theta(problem, params)

    @jax.jit
    def both(theta, start):
        if kind == "dense and moving":
            theta = dense_and_moving(theta)
        direction = jax.random.normal(jax.random.key(2), start.shape)
        direction *= theta.problem.degrees[:, None] > 0
        wanted = jax.jvp(lambda maps: slope(theta, maps), (start,), (direction,))[1]
        return wanted, product(theta, start, curvature(theta, start), direction)

    expected, found = both(theta, start)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-10 * size)


@pytest.mark.slow
def test_jit_vmap_and_both_modes_agree(problem, params, base, springs):
    def value(weight):
        changed = eqx.tree_at(lambda p: p.alignment_regularisation, params, weight)
        return measure(solve_layout(problem, changed, base, adjoint=springs).maps)

    weights = jnp.array([0.1, 0.11])
    both = jax.vmap(jax.value_and_grad(value))
    values, gradients = jax.jit(both)(weights)
    step = 1e-5
    ends = jax.jit(jax.vmap(value))(weights[0] + step * jnp.array([-1, 1]))
    np.testing.assert_allclose(
        gradients[0], (ends[1] - ends[0]) / (2 * step), rtol=1e-5
    )
    forward, bent = jax.jit(
        lambda w: jax.jvp(jax.value_and_grad(value), (w,), (1.0,))[1]
    )(weights[1])
    np.testing.assert_allclose(forward, gradients[1], rtol=1e-6)
    slopes = jax.jit(both)(weights[1] + step * jnp.array([-1, 1]))[1]
    np.testing.assert_allclose(bent, (slopes[1] - slopes[0]) / (2 * step), rtol=1e-3)
    assert np.isfinite(values).all()


@pytest.mark.slow
def test_a_layout_that_did_not_converge_is_reported(problem, params, base):
    few: Any = {"max_steps": 1, "tolerance": 1e-14, "settle": 0}
    far = base + 0.1 * jnp.sin(jnp.arange(base.size * 1.0)).reshape(base.shape)
    quiet = solve_layout(problem, params, far, adjoint=Implicit(throw=False, **few))
    assert not bool(quiet.converged)
    assert float(quiet.slope) > 0.1
    with pytest.raises(RuntimeError, match=f"{float(quiet.slope):.2g} after 1 steps"):
        solve_layout(problem, params, far, adjoint=Implicit(**few))
    traced = jax.jit(
        lambda y: solve_layout(problem, params, y, adjoint=Implicit(**few))
    )
    assert np.isnan(np.asarray(traced(far).maps)).all()


@pytest.mark.slow
def test_pinned_rows_and_rows_without_an_edge_stay(problem, params, base):
    changed = lose(pin(problem))
    solution = solve_layout(changed, params, base, adjoint=Implicit(1e-8))
    moved = np.asarray(jnp.abs(solution.maps - base).max(axis=1) > 0)
    assert not moved[0, :3].any()
    assert not moved[2, 5]
    assert moved[:, :20].sum() == 60 - 4
    assert bool(solution.converged)


def test_linked_slices_turn_about_a_single_pinned_row(problem, params, start):
    @jax.jit
    def directions(free, maps):
        held = eqx.tree_at(lambda p: p.free, problem, free)
        return flat_directions(Theta(held, params, None), maps).basis

    def flat(pins):
        basis = np.asarray(directions(problem.free.at[0, :pins].set(0), start))
        return basis[np.linalg.norm(basis.reshape(len(basis), -1), axis=1) > 0.5]

    assert [len(flat(pins)) for pins in (0, 1, 2)] == [3, 1, 0]
    (turn,) = flat(1)
    apart = np.asarray(start - start[0, :, :1])[:, :, :20]
    np.testing.assert_allclose(turn[0, :, 0], 0, atol=1e-15)
    expected = np.stack([apart[:, 1], -apart[:, 0]], axis=1) / np.linalg.norm(apart)
    cosine = np.sum(turn[:, :, :20] * expected)
    np.testing.assert_allclose(abs(cosine), 1, rtol=1e-12)


@pytest.mark.parametrize("faint", [0.0, pytest.param(1e-4, marks=pytest.mark.slow)])
def test_rows_without_an_edge_act_on_no_others(problem, params, start, faint):
    changed = lose(problem, faint)
    assert (np.asarray(changed.strengths) * (np.asarray(changed.mates) == 5)).any()
    theta = EXACT.theta(changed, params)

    @jax.jit  # one program: compiling is what takes time
    def forces(maps):
        flat = flat_directions(theta, start)
        direction = project(jax.random.normal(jax.random.key(2), maps.shape), flat)
        ends = (maps,), (direction,)
        force, bent = jax.jvp(lambda maps: slope(theta, maps), *ends)
        along = jnp.einsum("iscp,scp->i", flat.basis, force)
        return (
            force,
            along,
            product(theta, maps, curvature(theta, maps), direction),
            bent,
        )

    force, along, found, expected = forces(start)
    # Else moves of all slices as one, which are left out, would change the loss.
    np.testing.assert_allclose(along, 0, atol=1e-9)
    elsewhere = np.array(start)
    elsewhere[2, :, 5] += 1.0
    np.testing.assert_array_equal(forces(jnp.asarray(elsewhere))[0], force)
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-10 * size)


@pytest.mark.slow
def test_the_names_of_version_0_1_go_on_with_one_warning(problem, params, base):
    from aljax.layout.implicit import solve_layout as old

    options = {"key": jax.random.key(1), "n_epochs": 6, "n_shifts": 4}
    with pytest.warns(DeprecationWarning, match="Unrolled") as warned:
        before = old(problem, params, base, throw=True, **options)
    assert len(warned) == 1
    after = solve_layout(problem, params, base, adjoint=FEW)
    np.testing.assert_array_equal(before.maps, after.maps)
    with pytest.warns(DeprecationWarning, match="Implicit"):
        found = old(problem, params, base, adjoint="implicit", n_epochs=12)
    assert bool(found.converged)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("name", "got", "solve"),
    [
        ("key", "None", lambda *_: Unrolled(NONE)),
        ("last", "500", lambda *_: Unrolled(jax.random.key(0), last=500)),
        ("n_epochs", "0", lambda *_: Unrolled(jax.random.key(0), n_epochs=0)),
        ("max_steps", "0", lambda *_: Implicit(max_steps=0)),
        ("adjoint", "implict", lambda *of: solve_layout(*of, adjoint="implict")),
        ("tolerance", "", lambda *of: solve_layout(*of, adjoint=EXACT, tolerance=1)),
        ("ridge", "-1", lambda *_: Anchored(ridge=-1)),
        ("problem", "124,416 b", lambda *of: solve_layout(*of, adjoint=SMALL)),
        ("near", "bytes", lambda *of: solve_layout(*of, adjoint=NARROW)),
        ("start", "finite", lambda p, q, y: solve_layout(p, q, y / 0, adjoint=EXACT)),
        ("adjoint", "anchor", lambda *of: jax.jit(solve)(*of)),
        ("adjoint", "anchor", lambda *of: jax.vmap(settling(*of))(jnp.ones(2))),
    ],
)
def test_bad_input_is_named(problem, params, start, name, got, solve):
    with pytest.raises(InputError) as refused:
        solve(problem, params, start)
    assert refused.value.name == name
    assert got in refused.value.got


def lose(problem: AlignedProblem, faint: float = 0.0) -> AlignedProblem:
    """Point 5 of the last slice has no edges, or faint ones."""
    weights = problem.weights.at[2].multiply(
        jnp.where(problem.neighbors[2] == 5, faint, 1.0)
    )
    weights = weights.at[2, :, 5].multiply(faint)
    degrees = problem.degrees.at[2, 5].multiply(faint)
    return dataclasses.replace(problem, degrees=degrees, weights=weights)


def pin(problem: AlignedProblem) -> AlignedProblem:
    return eqx.tree_at(lambda p: p.free, problem, problem.free.at[0, :3].set(0))
