"""Gradients of a loss of a layout, against differences of layouts solved again."""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compiled, make_data, make_maps, make_problem

import aljax
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.curve import find_ab_params
from aljax.errors import InputError
from aljax.graph.build import build_graphs
from aljax.graph.exact import exact_knn
from aljax.graph.slices import read_slice
from aljax.layout import (
    Anchored,
    Encoded,
    Implicit,
    Unrolled,
    coupling_weights,
    min_dists,
    solve_layout,
)
from aljax.layout.outer import curve_of
from aljax.layout.problem import layout_params, stack_maps

SIZES = (20, 20, 20)
FIRST = Implicit(1e-8, 1e-10, settle=3_000)
EXACT = Implicit(1e-8, 1e-10, settle=0)
pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(scope="module")
def problem():
    return make_problem(SIZES, capacity=24)[2]


@pytest.fixture(scope="module")
def params():
    return layout_params(LayoutConfig(min_dist=0.3), AlignmentConfig(0.1), slices=3)


@pytest.fixture(scope="module")
def base(problem, params):
    start = stack_maps(make_maps(SIZES), problem)
    return solve_layout(problem, params, start, adjoint=FIRST).maps


@pytest.fixture(scope="module")
def encoded():
    data = [jnp.asarray(rows, dtype=float) for rows in make_data(SIZES)]
    return Encoded(data, [exact_knn(np.asarray(rows), 6).indices for rows in data])


def test_encoded_rows_have_graphs_of_their_settings(problem, params, encoded):
    through = Encoded(
        encoded.data,
        encoded.neighbors,
        local_connectivity=2.0,
        set_op_mix_ratio=[1.0, 0.5, 0.0],
    )
    changed, _ = jax.jit(lambda: through(problem, params, jnp.asarray))()
    rows = [read_slice(np.asarray(encoded.data[1]), "rows", metric="euclidean")]
    alone = GraphConfig(n_neighbors=6, local_connectivity=2.0, set_op_mix_ratio=0.5)
    (graph,) = build_graphs(rows, alone)
    expected = np.asarray(graph.degrees)[np.asarray(problem.order[1, :20])]
    np.testing.assert_allclose(changed.degrees[1, :20], expected, rtol=1e-5)


@jax.jit
def outer(maps):
    """Of distances only, within the second map."""
    apart = jnp.sum((maps[1, :, :20, None] - maps[1, :, None, :20]) ** 2, axis=0)
    return jnp.sum(jnp.sin(jnp.arange(400.0)).reshape(20, 20) * jnp.sqrt(apart + 1))


def reached(problem, params, start, weights, adjoint):
    """The loss that is reached by weights."""
    pieces = coupling_weights(problem, params, weights)
    return outer(solve_layout(*pieces, start, adjoint=adjoint).maps)


def by_weights(problem, params, start, adjoint, step):
    """The hypergradient by a weight for each slice, and half of what a step changes."""
    found = aljax.hypergradient(
        outer,
        problem,
        params,
        start=start,
        of=jnp.ones(3),
        through=coupling_weights,
        adjoint=adjoint,
    )
    more, less = (
        reached(problem, params, start, weights, adjoint)
        for weights in (1 + step, 1 - step)
    )
    return found, (more - less) / 2


WEIGHTS: dict[str, Any] = {
    "slice": (coupling_weights, np.array([1.0, 0.8, 1.0])),
    "pair": (coupling_weights, np.ones((3, 2))),
    "min_dist": (min_dists, np.array([0.3, 0.21, 0.3])),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WEIGHTS, "columns"])
@pytest.mark.parametrize("adjoint", [EXACT, Anchored(1e-8, 1e-10, 0, ridge=0.5)])
def test_gradients_are_differences_of_layouts(
    problem, params, base, encoded, name, adjoint
):
    through: Any
    through, of = WEIGHTS.get(name, (encoded.columns, np.ones(5)))
    of = jnp.asarray(of)
    ready = adjoint.at(problem, params, base)[0]
    found = aljax.hypergradient(
        outer, problem, params, start=base, of=of, through=through, adjoint=ready
    )
    assert found.gradient.shape == of.shape
    assert float(found.curvature) > 0
    assert float(found.residual) < 1e-9
    direction = jnp.cos(jnp.arange(of.size * 1.0)).reshape(of.shape)

    @jax.jit
    def at(length):
        graphs, settings = through(problem, params, of + length * direction)
        return outer(solve_layout(graphs, settings, base, adjoint=ready).maps)

    expected = (at(1e-5) - at(-1e-5)) / 2e-5
    along = jnp.vdot(found.gradient, direction)
    np.testing.assert_allclose(along, expected, rtol=1e-5)
    assert abs(float(expected)) > 1e-3


@pytest.mark.slow
def test_settings_and_encoders_have_gradients(problem, params, base, encoded):
    by_params = aljax.hypergradient(outer, problem, params, start=base, adjoint=EXACT)
    weights = jnp.ones(5)
    assert np.abs(np.asarray(by_params.gradient.b)).min() > 0

    columns = aljax.hypergradient(
        outer,
        problem,
        params,
        start=base,
        of=jax.tree_util.Partial(jnp.multiply, weights),
        through=encoded,
        adjoint=EXACT,
    )
    same = aljax.hypergradient(
        outer,
        problem,
        params,
        start=base,
        of=weights,
        through=encoded.columns,
        adjoint=EXACT,
    )
    np.testing.assert_allclose(columns.gradient.args[0], same.gradient, rtol=1e-9)
    key = jax.random.key(0)
    short = Unrolled(key, n_epochs=3, n_shifts=4)
    with jax.debug_nans(True):  # those that stand for what is unknown are no error
        unrolled = aljax.hypergradient(
            outer, problem, params, start=base, adjoint=short
        )
    assert np.isnan(float(unrolled.curvature))
    assert np.abs(np.asarray(unrolled.gradient.b)).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("free", [Implicit(1e9, settle=0), Anchored(1e9, ridge=0)])
def test_a_saddle_is_an_error_or_a_flag(problem, params, base, free):
    # Repulsion alone, which has no minimum.
    apart = dataclasses.replace(
        problem, weights=problem.weights * 0, strengths=problem.strengths * 0
    )
    loose = dataclasses.replace(free, settle=0, max_steps=1, throw=False)
    flag = aljax.hypergradient(outer, apart, params, start=base, adjoint=loose)
    assert float(flag.curvature) <= 0
    strict = dataclasses.replace(loose, throw=True)
    with pytest.raises(RuntimeError, match="is a saddle"):
        aljax.hypergradient(outer, apart, params, start=base, adjoint=strict)


SPRINGS = Anchored(1e-6, 1e-10, 0, ridge=100.0)


@pytest.mark.slow
def test_a_compiled_gradient_is_that_of_eager_calls(problem, params):
    ready, start = SPRINGS.at(problem, params, stack_maps(make_maps(SIZES), problem))

    def gradient(of):
        pieces: Any = {"of": of, "through": coupling_weights, "adjoint": ready}
        return aljax.hypergradient(outer, problem, params, start=start, **pieces)

    of = jnp.array([1.0, 0.8, 1.0])
    found = eqx.filter_jit(gradient)(of)
    np.testing.assert_allclose(found.gradient, gradient(of).gradient, rtol=1e-6)


@pytest.mark.parametrize("throw", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_compiled_gradient_on_a_saddle_is_nan_or_a_flag(problem, params, throw):
    # Repulsion alone of points at one place: no slope, but a curvature below 0.
    apart = dataclasses.replace(problem, weights=0 * problem.weights)
    ready, start = SPRINGS.at(apart, params, stack_maps(make_maps(SIZES), problem))
    weak = dataclasses.replace(ready, ridge=0.0, throw=throw)
    ways = jnp.cos(jnp.arange(start.size * 1.0)).reshape(start.shape)

    def gradient(of):
        pieces: Any = {"of": of, "through": coupling_weights, "adjoint": weak}
        maps: Any = 0 * start, lambda maps: jnp.vdot(ways, maps)
        return aljax.hypergradient(maps[1], apart, params, start=maps[0], **pieces)

    found = eqx.filter_jit(gradient)(jnp.zeros(3))
    assert float(found.curvature) < 0
    assert np.isnan(np.asarray(found.gradient)).all() == throw


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", [EXACT, Anchored(1e-8, 1e-10, 0, ridge=1e-3)])
def test_points_that_coincide_are_told_apart(problem, params, base, adjoint):
    same = base.at[0, :, 1].set(base[0, :, 0])
    way, start = adjoint.at(problem, params, same)

    step = 1e-5 * jnp.array([1.0, 1.0, 0.0])
    found, difference = by_weights(problem, params, start, way, step)
    assert float(found.curvature) > 0
    np.testing.assert_allclose(found.gradient @ step, difference, rtol=1e-4)


@pytest.mark.parametrize("near", [0.0, 0.1, 0.5, 0.99])
def test_a_curve_is_that_of_find_ab_params(near):
    np.testing.assert_allclose(
        jax.jit(curve_of)(near, 1.5), find_ab_params(1.5, near), rtol=1e-5
    )


def test_weights_of_another_shape_are_named(problem, params):
    with pytest.raises(InputError) as refused:
        coupling_weights(problem, params, jnp.ones(2))
    assert refused.value.name == "weights"
    assert "(2,)" in refused.value.got


def test_slices_of_other_sizes_have_gradients_that_are_differences():
    sizes = (14, 27, 20)
    ragged = make_problem(sizes, capacity=40)[2]
    settings = layout_params(LayoutConfig(min_dist=0.3), AlignmentConfig(0.1), slices=3)
    begun = stack_maps(make_maps(sizes), ragged)
    short: Any = {"rtol": 1e-10, "settle": 0, "near": 1.0}
    ready, begun = Anchored(1e-9, **short).at(ragged, settings, begun)
    anchor: Any = ready.anchor
    leaves = anchor.leaves
    filled = leaves.inside[:, :, 0]
    assert float((leaves.far * filled[:, None] * filled[:, :, None]).sum()) > 0
    step = 1e-5 * jnp.array([1.0, 0.5, 0.0])
    found, difference = by_weights(ragged, settings, begun, ready, step)
    np.testing.assert_allclose(found.gradient @ step, difference, rtol=1e-5)
    assert (np.asarray(found.solution.maps)[0, :, 14:] == 0).all()
    # Other tolerances and springs compile and trace nothing again.
    looser = dataclasses.replace(ready, ridge=5.0, tolerance=1e-7, rtol=1e-4)
    at_one = partial(reached, ragged, settings, begun, jnp.ones(3))
    tight = at_one(ready)
    with compiled() as again:
        loose = at_one(looser)
    assert abs(float(loose - tight)) > 1e-6
    assert not again
    traced = []

    @jax.jit
    def program(adjoint):
        traced.append(adjoint)
        return at_one(adjoint)

    for adjoint in (ready, looser):
        program.trace(adjoint)
    assert len(traced) == 1
