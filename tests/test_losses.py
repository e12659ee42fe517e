import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    CAPACITY,
    SIZES,
    assert_slope,
    make_maps,
    make_problem,
    slow_repulsion,
    slow_terms,
)

from aljax.layout import objective
from aljax.layout.losses import alignment, attraction, log_p, softplus
from aljax.layout.objective import aligned_loss
from aljax.layout.problem import LayoutParams, stack, stack_maps, unstack_maps
from aljax.layout.shifts import Shifts, draw_shifts, repulsion
from aljax.relations.mates import Mates

EXACT = CAPACITY // 2  # shifts that meet every pair of every slice


def exact_shifts(problem) -> Shifts:
    return draw_shifts(jax.random.key(0), problem.n_points, n_shifts=EXACT)


def make_params() -> LayoutParams:
    """Every setting differs from slice to slice."""
    return LayoutParams(
        a=jnp.array([1.6, 0.8, 1.2]),
        b=jnp.array([0.9, 0.5, 1.3]),
        repulsion_strength=jnp.array([1.0, 0.5, 2.0]),
        negative_sample_rate=jnp.array([5.0, 2.5, 8.0]),
        learning_rate=jnp.array([1.0, 0.5, 2.0]),
        # Of a type that is not weak, as arrays that were converted are.
        alignment_regularisation=jnp.asarray(np.array(0.3)),
        motion_fidelity=jnp.asarray(np.array(0.4)),
    )


pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(scope="module")
def case(double_precision):  # noqa: ARG001
    graphs, relations, problem = make_problem()
    return make_maps(), graphs, relations, problem, make_params()


@pytest.fixture(scope="module")
def compiled(double_precision):  # noqa: ARG001
    """The exact loss and its gradients, compiled once for all tests."""

    def loss(maps, problem, params, shifts):
        terms = aligned_loss(maps, problem, params, shifts)
        return terms.total(), terms

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 2), has_aux=True))


def evaluate(compiled, maps, problem, params):
    """(total, terms, gradient by map, gradient by setting) of the exact loss."""
    (total, terms), (by_map, by_setting) = compiled(
        maps, problem, params, exact_shifts(problem)
    )
    return total, terms, by_map, by_setting


def test_every_term_equals_the_slow_sum_over_pairs(case, compiled):
    maps, graphs, relations, problem, params = case
    total, terms, *_ = evaluate(compiled, stack_maps(maps, problem), problem, params)
    slow = slow_terms(maps, graphs, relations, params)
    # 1e-12 under the power keeps its gradient finite; all else is exact.
    np.testing.assert_allclose(terms.attraction, slow[0], rtol=1e-9)
    np.testing.assert_allclose(terms.repulsion, slow[1], rtol=1e-12)
    np.testing.assert_allclose(terms.alignment, slow[2], rtol=1e-12)
    np.testing.assert_allclose(total, sum(term.sum() for term in slow), rtol=1e-9)


def test_single_precision_agrees_with_double(case, compiled):
    maps, _, _, problem, params = case
    total, *_ = evaluate(compiled, stack_maps(maps, problem), problem, params)
    with jax.enable_x64(False):
        narrow = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf)), (problem, params)
        )
        narrow_total, terms, *_ = evaluate(
            compiled, stack_maps(maps, narrow[0]), *narrow
        )
        assert terms.attraction.dtype == jnp.float32
    np.testing.assert_allclose(narrow_total, total, rtol=1e-5)


@pytest.mark.parametrize("points", [1, 2, 3, 4, 5, 15, 16])
def test_exact_shifts_equal_the_sum_over_all_pairs(points, rng):
    capacity, a, b = 16, 1.4, 0.8
    y, degrees = rng.normal(size=(points, 2)), rng.uniform(size=points)
    n = np.int32(points)
    shifts = draw_shifts(jax.random.key(0), n, n_shifts=capacity // 2)
    padding = (0, capacity - points)
    found = jax.jit(repulsion)(
        np.pad(y.T, ((0, 0), padding)), np.pad(degrees, padding), n, shifts, a, b
    )
    np.testing.assert_allclose(found, slow_repulsion(y, degrees, a, b), rtol=1e-12)


N_POINTS = np.arange(1, 300, dtype=np.int32)


@pytest.mark.parametrize("n_shifts", [1, 7, 40])
def test_each_shift_comes_from_a_stratum_of_its_own(n_shifts):
    steps, weights = draw_shifts(jax.random.key(1), N_POINTS, n_shifts=n_shifts)
    steps, half = np.asarray(steps), N_POINTS[:, None] // 2
    own = np.where(2 * steps == N_POINTS[:, None], 0.5, 1.0)
    widths = np.asarray(weights) / own
    ends = np.cumsum(widths, axis=1)
    used = widths > 0
    assert (ends[:, -1:] == half).all()
    assert (np.abs(widths - half / n_shifts) < 1).all()
    assert (steps > ends - widths)[used].all()
    assert (steps <= ends)[used].all()


@pytest.mark.parametrize("points", [41, 42])
def test_drawn_shifts_have_no_bias(points):
    draws = 20_000
    sizes = np.full(draws, points, dtype=np.int32)
    steps, weights = draw_shifts(jax.random.key(2), sizes, n_shifts=6)
    mean = np.bincount(np.ravel(steps), np.ravel(weights), points // 2 + 1) / draws
    expected = np.ones(points // 2 + 1)
    expected[0] = 0
    expected[-1] = 0.5 if points % 2 == 0 else 1.0
    # A weight of 3 or 4 is drawn with chance 1/3 or 1/4: five standard errors.
    np.testing.assert_allclose(mean, expected, atol=5 * np.sqrt(3 / draws))


def test_shifts_of_slices_are_drawn_apart():
    sizes = np.full(len(N_POINTS), 1000, dtype=np.int32)
    steps = np.asarray(draw_shifts(jax.random.key(0), sizes, n_shifts=7).steps)
    assert (steps[0] != steps[1]).any()


def test_many_shifts_of_many_points_do_not_overflow():
    points = np.int32(140_000)
    steps, weights = draw_shifts(jax.random.key(0), points, n_shifts=70_000)
    np.testing.assert_array_equal(steps, np.arange(1, 70_001))
    assert np.asarray(weights).sum() == 70_000 - 0.5


def test_the_estimate_is_the_exact_loss_on_average(case, compiled):
    maps, _, _, problem, params = case
    stacked = stack_maps(maps, problem)
    draws = 500
    keys = jax.random.split(jax.random.key(3), draws)

    @jax.jit
    @jax.vmap
    def estimate(key):
        shifts = draw_shifts(key, problem.n_points, n_shifts=4)
        return aligned_loss(stacked, problem, params, shifts).repulsion

    estimates = np.asarray(estimate(keys))
    error = 5 * estimates.std(axis=0) / np.sqrt(draws)
    assert (estimates.std(axis=0) > 0).all()
    _, terms, *_ = evaluate(compiled, stacked, problem, params)
    exact = np.asarray(terms.repulsion)
    assert (np.abs(estimates.mean(axis=0) - exact) < error).all()


def test_padding_changes_nothing_and_feels_nothing(case, compiled, rng):
    maps, graphs, relations, problem, params = case
    wide = stack(graphs, relations, key=jax.random.key(0), capacity=64)
    total, terms, gradient, _ = evaluate(
        compiled, stack_maps(maps, problem), problem, params
    )
    stacked = np.asarray(stack_maps(maps, wide)).copy()
    for t, size in enumerate(SIZES):
        stacked[t, :, size:] = 100 * rng.normal(size=(2, 64 - size))
    wide_total, wide_terms, wide_gradient, _ = evaluate(
        compiled, jnp.asarray(stacked), wide, params
    )
    np.testing.assert_allclose(wide_total, total, rtol=1e-12)
    np.testing.assert_allclose(wide_terms.repulsion, terms.repulsion, rtol=1e-12)
    for t, size in enumerate(SIZES):
        assert (np.asarray(wide_gradient)[t, :, size:] == 0).all()
        np.testing.assert_allclose(
            np.asarray(wide_gradient)[t, :, :size],
            np.asarray(gradient)[t, :, :size],
            rtol=1e-9,
            atol=1e-12,
        )


def test_the_order_of_points_does_not_matter(case, compiled):
    maps, graphs, relations, problem, params = case
    shuffled = stack(graphs, relations, key=jax.random.key(9), capacity=CAPACITY)
    results = [
        evaluate(compiled, stack_maps(maps, one), one, params)
        for one in (problem, shuffled)
    ]
    assert (np.asarray(problem.order) != np.asarray(shuffled.order)).any()
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-12)
    gradients = [
        unstack_maps(result[2], one)
        for result, one in zip(results, (problem, shuffled), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_sequence_read_backwards_has_the_same_loss(case, compiled):
    maps, graphs, relations, problem, params = case
    last = len(SIZES) - 1
    backwards = {
        (last - t - offset, offset): Mates(mates.others, mates.rows, mates.strengths)
        for (t, offset), mates in relations.items()
    }
    reverse = stack(graphs[::-1], backwards, key=jax.random.key(0), capacity=CAPACITY)
    turned = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim else leaf, params)
    total, terms, *_ = evaluate(compiled, stack_maps(maps, problem), problem, params)
    back, back_terms, *_ = evaluate(
        compiled, stack_maps(maps[::-1], reverse), reverse, turned
    )
    np.testing.assert_allclose(back, total, rtol=1e-12)
    np.testing.assert_allclose(back_terms.repulsion[::-1], terms.repulsion, rtol=1e-12)


def test_the_loss_does_not_depend_on_where_the_maps_lie_and_how_they_are_turned(
    case, compiled
):
    maps, _, _, problem, params = case
    turn, _ = np.linalg.qr(np.array([[1.0, 2.0], [-3.0, 0.5]]))
    moved = [y @ turn + np.array([3.0, -1.0]) for y in maps]
    total, *_ = evaluate(compiled, stack_maps(maps, problem), problem, params)
    again, *_ = evaluate(compiled, stack_maps(moved, problem), problem, params)
    np.testing.assert_allclose(again, total, rtol=1e-10)


def test_every_end_is_free_so_that_forces_cancel(case):
    maps, _, _, problem, params = case
    stacked = stack_maps(maps, problem)
    shifts = exact_shifts(problem)

    @jax.jit
    @jax.jacrev
    def forces_of(y):
        terms = aligned_loss(y, problem, params, shifts)
        return [term.sum() for term in jax.tree.leaves(terms)]

    forces = forces_of(stacked)
    for force in forces:
        assert np.abs(force).sum() > 1
        np.testing.assert_allclose(force.sum(axis=(0, 2)), 0, atol=1e-10)


def test_gradients_by_map_agree_with_finite_differences(case, compiled):
    maps, _, _, problem, params = case

    def loss(y):
        total, _, gradient, _ = evaluate(compiled, y, problem, params)
        return total, gradient

    # b = .5 has a kink where points coincide, and some come near.
    assert_slope(loss, stack_maps(maps, problem), rtol=1e-6, eps=1e-6)


def test_gradients_by_setting_agree_with_finite_differences(case, compiled):
    maps, _, _, problem, params = case
    stacked = stack_maps(maps, problem)

    def loss(settings):
        total, _, _, gradient = evaluate(compiled, stacked, problem, settings)
        return total, gradient

    assert_slope(loss, params, rtol=1e-6, eps=1e-6)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("b", [0.5, 0.6, 0.9, 2.0])
@pytest.mark.parametrize("gap", [0.0, 1e-20, 1e-6])
def test_gradients_are_finite_where_points_coincide(case, compiled, b, double, gap):
    *_, problem, _ = case
    with jax.enable_x64(double):
        kind = np.float64 if double else np.float32

        def cast(leaf):
            leaf = np.asarray(leaf)
            return jnp.asarray(leaf, kind if leaf.dtype.kind == "f" else leaf.dtype)

        params = jax.tree.map(
            cast, dataclasses.replace(make_params(), b=jnp.asarray(np.full(3, b)))
        )
        maps = np.zeros((3, 2, CAPACITY), kind)
        maps[:, 0, ::3] = gap
        total, _, by_map, by_setting = evaluate(
            compiled, jnp.asarray(maps), jax.tree.map(cast, problem), params
        )
    for leaf in jax.tree.leaves((total, by_map, by_setting)):
        assert leaf.dtype == kind
        assert np.isfinite(leaf).all()


def test_softplus_is_that_of_jax_with_its_derivatives():
    near = np.linspace(-40.0, 40.0, 801)
    for own, known in [
        (softplus, jax.nn.softplus),
        (jax.grad(softplus), jax.grad(jax.nn.softplus)),
        # By hand: the library's second derivative is off by 4e-15 beyond 15.
        (jax.grad(jax.grad(softplus)), lambda x: jnp.cosh(x / 2) ** -2 / 4),
    ]:
        np.testing.assert_allclose(
            *(jax.jit(jax.vmap(one))(near) for one in (own, known)),
            rtol=1e-12,
            atol=1e-15,
        )


@jax.jit
def pair(squared, a):
    """What a pair spends together and apart, and both by its squared distance."""

    def spent(squared):
        p = log_p(squared, a, jnp.float32(5))
        return jnp.stack([softplus(p), softplus(-p)])

    return spent(squared), jax.jacobian(spent)(squared)


@pytest.mark.parametrize("a", [1e-36, 1e36])
@pytest.mark.parametrize("distance", [0.0, 1e-3, 10.0, 1e6])
def test_any_curve_has_a_finite_loss_in_single_precision(a, distance):
    """p itself would be infinite, or 0, at most of these."""
    (together, apart), slopes = pair(np.float32(distance**2), np.float32(a))
    assert together.dtype == slopes.dtype == np.float32
    log = math.log(a) + 5 * math.log(distance**2 + 1e-12)
    np.testing.assert_allclose(together, np.logaddexp(0, log), rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(apart, np.logaddexp(0, -log), rtol=1e-5, atol=1e-37)
    assert np.isfinite(slopes).all()


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2 * CAPACITY])
def test_slices_a_few_at_a_time_give_the_same(case, compiled, at_once, monkeypatch):
    maps, _, _, problem, params = case
    y, shifts = stack_maps(maps, problem), exact_shifts(problem)
    _, terms, gradient, _ = evaluate(compiled, y, problem, params)
    monkeypatch.setattr(objective, "LARGE", 1)
    monkeypatch.setattr(objective, "AT_ONCE", at_once)

    def total(y):
        found = aligned_loss(y, problem, params, shifts)
        return found.total(), found

    of_few, few = jax.jit(jax.grad(total, has_aux=True))(y)
    for here, there in zip(jax.tree.leaves(few), jax.tree.leaves(terms), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-12)
    np.testing.assert_allclose(of_few, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_vmap_equals_a_loop_and_jit_equals_eager(case, compiled):
    maps, _, _, problem, params = case
    y, shifts = stack_maps(maps, problem), exact_shifts(problem)
    _, terms, *_ = evaluate(compiled, y, problem, params)
    eager = aligned_loss(y, problem, params, shifts)
    np.testing.assert_allclose(eager.total(), terms.total(), rtol=1e-12)
    rate = params.negative_sample_rate
    pull = problem.degrees * (2 + rate)[:, None]
    for t in range(len(SIZES)):
        pulled = jax.jit(attraction)(
            y[t], problem.neighbors[t], problem.weights[t], params.a[t], params.b[t]
        )
        pushed = jax.jit(repulsion)(
            y[t],
            problem.degrees[t],
            problem.n_points[t],
            Shifts(shifts.steps[t], shifts.weights[t]),
            params.a[t],
            params.b[t],
        )
        held = sum(
            jax.jit(alignment)(
                y[t],
                y[t + o + 1],
                problem.mates[t, o],
                problem.strengths[t, o],
                pull[t],
                pull[t + o + 1],
            )
            for o in range(min(2, len(SIZES) - 1 - t))
        )
        np.testing.assert_allclose(terms.attraction[t], pulled, rtol=1e-12)
        np.testing.assert_allclose(
            terms.repulsion[t],
            params.repulsion_strength[t] * rate[t] * pushed,
            rtol=1e-12,
        )
        np.testing.assert_allclose(
            terms.alignment[t], params.alignment_regularisation * held, rtol=1e-12
        )
