"""The repulsion by leaves, against loops over their points and against all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_maps, make_problem

from aljax.layout.leaves import cut, each_point, repulsion_by_leaves
from aljax.layout.problem import stack_maps
from aljax.layout.shifts import draw_shifts, repulsion

SIZES = (40, 33, 7)
CURVE = (1.5, 0.8)
pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(scope="module")
def problem():
    return make_problem(SIZES, capacity=48)[2]


@pytest.fixture(scope="module")
def maps(problem):
    return stack_maps(make_maps(SIZES), problem)


def leaves_of(maps, problem, near):
    return cut(np.asarray(maps), np.asarray(problem.n_points), near, [].append)


@jax.jit
@jax.vmap
def of_slices(maps, degrees, n_points, leaves):
    return repulsion_by_leaves(
        maps, degrees, n_points, leaves, *map(jnp.asarray, CURVE)
    )


def summed(maps, problem, leaves):
    return of_slices(maps, problem.degrees, problem.n_points, leaves)


def energy(apart):
    return np.log1p(1 / (CURVE[0] * (apart @ apart + 1e-3) ** CURVE[1]))


@pytest.mark.parametrize("near", [0.0, 3.0, 1e6])
def test_near_points_repel_one_by_one_and_far_leaves_by_their_means(
    problem, maps, near
):
    leaves = leaves_of(maps, problem, near)
    found = summed(maps, problem, leaves)
    some_are_far = False
    for t, size in enumerate(SIZES):
        y, degrees = np.asarray(maps[t]).T, np.asarray(problem.degrees[t])
        inside = np.asarray(leaves.inside[t]) > 0
        parts = [
            rows[here]
            for rows, here in zip(np.asarray(leaves.points[t]), inside, strict=True)
            if here.any()
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(size))
        total = 0.0
        for one, rows in enumerate(parts):
            for other, columns in enumerate(parts[: one + 1]):
                means = [y[part].mean(axis=0) for part in (rows, columns)]
                spread = sum(y[part].var(axis=0).sum() for part in (rows, columns))
                apart = means[0] - means[1]
                far = one != other and apart @ apart > near**2 * spread
                some_are_far |= far
                for i in rows:
                    for k in columns:
                        if one != other or i < k:
                            difference = apart if far else y[i] - y[k]
                            total += (degrees[i] + degrees[k]) * energy(difference)
        np.testing.assert_allclose(found[t], total / (2 * (size - 1)), rtol=1e-9)
    assert some_are_far == (near < 1e6)


def test_without_far_leaves_and_with_leaves_of_one_point_all_pairs_repel(problem, maps):
    @jax.jit
    def every(maps):
        shifts = draw_shifts(jax.random.key(0), problem.n_points, n_shifts=24)
        pairs = jax.vmap(lambda *of: repulsion(*of, *map(jnp.asarray, CURVE)))
        return pairs(maps, problem.degrees, problem.n_points, shifts)

    expected, points = every(maps), jax.jit(each_point)(problem)
    for leaves in (leaves_of(maps, problem, 1e6), points):
        np.testing.assert_allclose(summed(maps, problem, leaves), expected, rtol=1e-9)


def test_slices_without_rows_have_no_pairs(problem, maps):
    empty = np.array([40, 0, 7])
    leaves = cut(np.asarray(maps), empty, 3.0, [].append)
    assert not np.asarray(leaves.inside[1]).any()
    assert not np.asarray(leaves.shares[1]).any()
    found = of_slices(maps, problem.degrees, jnp.asarray(empty), leaves)
    assert found[1] == 0
