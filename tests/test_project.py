import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import slow_rho, slow_sigma
from jax.test_util import check_grads

from aljax.project import Anchors, loss, memberships, project

# Whole vectors of queries, as blocks of `transform` are: XLA rounds others elsewhere.
K, QUERIES, POINTS, RIVALS = 5, 64, 30, 20
# The bisection stops within 1e-5 of log2 k, umap-learn's tolerance.
BISECTION = 5e-5
pytestmark = pytest.mark.usefixtures("double_precision")


def make_anchors(components=2) -> Anchors:
    rng = np.random.default_rng(0)
    embedding = jnp.asarray(rng.normal(size=(components, POINTS)))
    return Anchors(
        embedding=embedding,
        rivals=embedding[:, :RIVALS],
        rival_degrees=jnp.asarray(rng.uniform(1, 5, size=RIVALS)),
        a=jnp.asarray(1.4),
        b=jnp.asarray(0.8),
        repulsion=jnp.asarray(0.3),
    )


@pytest.fixture(scope="module")
def table(double_precision) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG001
    rng = np.random.default_rng(1)
    neighbors = np.argsort(rng.uniform(size=(POINTS, QUERIES)), axis=0)[:K]
    return neighbors, np.sort(rng.uniform(0.5, 3, size=(K, QUERIES)), axis=0)


def lay_out(table, n_epochs=20, anchors=None):
    neighbors, distances = table
    placed = project(
        jnp.asarray(neighbors, jnp.int32),
        jnp.asarray(distances),
        anchors or make_anchors(),
        local_connectivity=jnp.asarray(1.0),
        learning_rate=jnp.asarray(0.5),
        n_epochs=n_epochs,
    )
    return np.asarray(placed)


@pytest.mark.parametrize("local_connectivity", [1.0, 2.5])
def test_memberships_are_those_of_the_graph(table, local_connectivity):
    _, distances = table
    found = memberships(distances, local_connectivity)
    for q in range(QUERIES):
        own = np.concatenate([[0.0], distances[:, q]])
        rho = slow_rho(own, local_connectivity)
        sigma = slow_sigma(own, rho, own.mean())
        expected = np.exp(-np.maximum(own[1:] - rho, 0) / sigma)
        np.testing.assert_allclose(found[:, q], expected, atol=BISECTION)


def test_memberships_of_a_query_do_not_depend_on_the_others(table):
    _, distances = table
    scaled = distances * np.where(np.arange(QUERIES) == 3, 1, 1e3)
    one, other = (memberships(all_of, 1.0) for all_of in (distances, scaled))
    np.testing.assert_array_equal(one[:, 3], other[:, 3])


def slow_loss(y, neighbors, strengths, anchors) -> float:
    """The sum of the module's L over all queries, pair by pair."""
    a, b, repulsion = (float(one) for one in (anchors.a, anchors.b, anchors.repulsion))
    total = 0.0
    for q in range(y.shape[1]):
        for j, v in zip(neighbors[:, q], strengths[:, q], strict=True):
            squared = float(((y[:, q] - anchors.embedding[:, j]) ** 2).sum())
            total += 2 * v * math.log1p(a * squared**b)
        for k in range(RIVALS):
            squared = float(((y[:, q] - anchors.rivals[:, k]) ** 2).sum())
            weight = strengths[:, q].sum() + float(anchors.rival_degrees[k])
            p = a * (squared + 1e-3) ** b
            total += repulsion * weight * math.log1p(1 / p)
    return total


def test_the_loss_is_the_sum_over_pairs(table, rng):
    neighbors, _ = table
    anchors, y = make_anchors(), rng.normal(size=(2, QUERIES))
    strengths = rng.uniform(size=(K, QUERIES))
    found = jax.jit(loss)(y, neighbors, strengths, anchors)
    np.testing.assert_allclose(
        found, slow_loss(y, neighbors, strengths, anchors), rtol=1e-9
    )


def test_gradients_of_the_loss_agree_with_finite_differences(table, rng):
    neighbors, strengths = jnp.asarray(table[0][:, :12]), rng.uniform(size=(K, 12))
    anchors = make_anchors()
    check_grads(
        jax.jit(lambda y: loss(y, neighbors, jnp.asarray(strengths), anchors)),
        (jnp.asarray(rng.normal(size=(2, 12))),),
        order=1,
        modes=["rev"],
        rtol=1e-6,
    )


def test_gradients_are_finite_on_top_of_a_point(table):
    anchors = make_anchors()
    y = jnp.tile(anchors.embedding[:, :1], (1, QUERIES))
    neighbors = jnp.zeros_like(jnp.asarray(table[0]))
    gradient = jax.jit(jax.grad(loss))(y, neighbors, jnp.ones((K, QUERIES)), anchors)
    assert np.isfinite(gradient).all()


def test_queries_start_at_the_mean_of_their_neighbors_by_membership(table):
    neighbors, distances = table
    weights = np.asarray(memberships(distances, 1.0))
    embedding = np.asarray(make_anchors().embedding)
    for q, start in enumerate(lay_out(table, n_epochs=0).T):
        mean = np.average(embedding[:, neighbors[:, q]], axis=1, weights=weights[:, q])
        np.testing.assert_allclose(start, mean, rtol=1e-9)


def test_epochs_lower_the_loss_of_every_query(table):
    neighbors, distances = table
    weights = np.asarray(memberships(distances, 1.0))
    start, end = (lay_out(table, n_epochs=n) for n in (0, 20))
    for q in range(QUERIES):
        one = slice(q, q + 1)
        before, after = (
            slow_loss(y[:, one], neighbors[:, one], weights[:, one], make_anchors())
            for y in (start, end)
        )
        assert after < before


def test_queries_at_distance_0_lie_where_their_point_does(table):
    neighbors, distances = table
    distances = distances.copy()
    distances[0, ::2] = 0
    placed = lay_out((neighbors, distances))
    embedding = np.asarray(make_anchors().embedding)
    np.testing.assert_array_equal(placed[:, ::2], embedding[:, neighbors[0, ::2]])
    others = np.abs(placed[:, 1::2] - embedding[:, neighbors[0, 1::2]]).max(axis=0)
    assert (others > 0).all()


def test_where_a_query_lies_does_not_depend_on_the_others(table):
    neighbors, distances = table
    placed = lay_out(table)
    alone = lay_out([np.repeat(part[:, 4:5], QUERIES, axis=1) for part in table])
    np.testing.assert_array_equal(alone, np.repeat(placed[:, 4:5], QUERIES, axis=1))
    turned = lay_out((neighbors[:, ::-1], distances[:, ::-1]))
    np.testing.assert_array_equal(turned, placed[:, ::-1])


@pytest.mark.parametrize("components", [1, 3])
def test_maps_may_have_any_dimension(table, components):
    placed = lay_out(table, anchors=make_anchors(components))
    assert placed.shape == (components, QUERIES)
    assert np.isfinite(placed).all()
