"""Newton's method with conjugate gradients in a trust region, beside other solvers."""

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import optimistix
import pytest
from scipy.optimize import rosen

from aljax.layout.newton import Model, minimize, solve

pytestmark = pytest.mark.usefixtures("double_precision")


def valley(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def double_well(x):
    return x[0] ** 4 - x[0] ** 2 + jnp.sum(x[1:] ** 2)


def minimum_of(value, start, tolerance=1e-8):
    def model(x):
        return Model(lambda v: jax.jvp(jax.grad(value), (x,), (v,))[1], lambda r: r)

    @jax.jit
    def found(start):
        both = jax.value_and_grad(value)
        return minimize(
            both, model, start, tolerance=tolerance, rtol=1e-6, max_steps=300
        )

    return found(start)


def test_a_curved_valley_ends_where_bfgs_ends():
    start = jnp.full(4, 0.5)
    found = minimum_of(valley, start)

    @jax.jit
    def other(start):
        bfgs = optimistix.BFGS(1e-10, 1e-10)
        loss = lambda x, _: valley(x)  # noqa: E731
        return optimistix.minimise(loss, bfgs, start, max_steps=2_000).value

    np.testing.assert_allclose(found.point, other(start), atol=1e-6)
    assert rosen(np.asarray(found.point)) < 1e-15
    assert 0 < float(found.lowest) < 1e3
    assert int(found.steps) < 50


def test_a_saddle_is_left():
    found = minimum_of(double_well, jnp.array([1e-9, 0.0, 0.0]))
    np.testing.assert_allclose(found.point, [0.5**0.5, 0, 0], atol=1e-8)
    assert float(found.before) < 1e-8


def test_single_precision_goes_on_below_the_rounding_of_the_value():
    found = minimum_of(
        lambda x: valley(x) + 1e5, jnp.full(4, 0.5, jnp.float32), tolerance=1e-3
    )
    assert float(found.slope) < 1e-3
    np.testing.assert_allclose(found.point, 1, atol=1e-3)


def test_linear_systems_are_solved_as_by_lineax():
    matrix = np.random.default_rng(0).normal(size=(12, 12))
    matrix, vector = matrix @ matrix.T + np.eye(12), np.arange(12.0)
    soft = 1 / np.diag(matrix)

    @jax.jit
    def solved(matrix, vector, soft, radius):
        model = Model(lambda v: matrix @ v, lambda r: soft * r)
        return solve(model, vector, rtol=1e-10, max_products=100, radius=radius)

    @jax.jit
    def by_lineax(matrix, vector):
        operator = lineax.MatrixLinearOperator(matrix, lineax.positive_semidefinite_tag)
        return lineax.linear_solve(operator, vector, lineax.CG(1e-12, 1e-12)).value

    found, expected = solved(matrix, vector, soft, np.inf), by_lineax(matrix, vector)
    np.testing.assert_allclose(-found.step, expected, rtol=1e-6)
    np.testing.assert_allclose(found.decrease, vector @ expected / 2, rtol=1e-6)
    lowest, highest = np.linalg.eigvalsh(matrix)[[0, -1]]
    assert lowest <= float(found.lowest) <= highest
    short = solved(matrix, vector, soft, 0.1)
    length = np.sqrt(np.sum(np.asarray(short.step) ** 2 / soft))
    np.testing.assert_allclose([short.length, length], 0.1, rtol=1e-10)
