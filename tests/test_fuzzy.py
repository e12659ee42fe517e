import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from helpers import (
    NEIGHBORS,
    import_umap,
    make_data,
    refused,
    slow_memberships,
    slow_rho,
    slow_sigma,
    slow_union,
)

from aljax.graph.exact import exact_knn
from aljax.graph.fuzzy import (
    FuzzyGraph,
    check_graph,
    fuzzy_simplicial_set,
    membership_strengths,
    smooth_knn_dist,
)
from aljax.graph.knn import KNN, as_knn

POINTS = 48


@jax.jit
def _bandwidths(knn, local_connectivity):
    return smooth_knn_dist(knn, local_connectivity=local_connectivity)


strengths_of = jax.jit(membership_strengths)


# One program for all settings.
def bandwidths(knn: KNN, local_connectivity: float = 1.0):
    return _bandwidths(knn, local_connectivity)


def graph_of(knn: KNN, local_connectivity: float = 1.0, mix: float = 1.0) -> FuzzyGraph:
    return fuzzy_simplicial_set(
        knn,
        local_connectivity=local_connectivity,
        set_op_mix_ratio=mix,
        n_points=POINTS,
    )


# The bisection stops within 1e-5 of log2 k, umap-learn's tolerance.
BISECTION = 5e-5


@pytest.fixture(scope="module")
def knn() -> KNN:
    return exact_knn(make_data([POINTS])[0], NEIGHBORS)


@pytest.fixture(scope="module")
def knn_of_duplicates() -> KNN:
    """Rows with one, some and only duplicates among their neighbors."""
    data = make_data([POINTS])[0]
    data[1], data[10:13], data[20:40] = data[0], data[10], data[20]
    return exact_knn(data, NEIGHBORS)


def tables(knn: KNN) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(knn.indices).T, np.asarray(knn.distances, dtype=float).T


def padded(knn: KNN, capacity: int) -> KNN:
    neighbors, points = knn.indices.shape
    indices = np.tile(np.arange(capacity, dtype=np.int32), (neighbors, 1))
    indices[:, :points] = knn.indices
    spare = ((0, 0), (0, capacity - points))
    return KNN(jnp.asarray(indices), jnp.pad(knn.distances, spare))


def dense(graph: FuzzyGraph) -> np.ndarray:
    return graph.to_sparse().toarray()


@pytest.mark.parametrize("local_connectivity", [0.0, 0.5, 1.0, 1.5, 3.0, 9.0])
@pytest.mark.parametrize("given", ["knn", "knn_of_duplicates"])
def test_rho_and_sigma_equal_the_slow_reference(given, local_connectivity, request):
    knn = request.getfixturevalue(given)
    _, distances = tables(knn)
    sigma, rho = bandwidths(knn, local_connectivity=local_connectivity)
    slow = [slow_rho(row, local_connectivity) for row in distances]
    np.testing.assert_allclose(rho, slow, rtol=1e-5)
    mean = distances.mean()
    roots = [slow_sigma(d, r, mean) for d, r in zip(distances, slow, strict=True)]
    np.testing.assert_allclose(sigma, roots, rtol=BISECTION)


def test_memberships_of_a_row_sum_to_log2_of_k(knn):
    sigma, rho = bandwidths(knn)
    total = np.asarray(strengths_of(knn, sigma, rho)).sum(axis=0)
    np.testing.assert_allclose(total, np.log2(NEIGHBORS), atol=BISECTION)


def test_memberships_are_0_for_the_row_itself_and_1_up_to_rho(knn):
    sigma, rho = bandwidths(knn, local_connectivity=2.0)
    strengths = np.asarray(strengths_of(knn, sigma, rho))
    assert (strengths[0] == 0).all()
    np.testing.assert_allclose(strengths[1:3], 1, rtol=1e-5)
    assert ((strengths[3:] > 0) & (strengths[3:] < 0.999)).all()


@pytest.mark.parametrize("nearest", [1.0, 1.7, 30.0])
def test_memberships_are_exact_where_the_smallest_sigma_holds(nearest, rng):
    """Neighbors all but equally far: rounded, a distance is off by much of sigma."""
    ring = (np.arange(NEIGHBORS)[:, None] + np.arange(POINTS)) % POINTS
    further = np.sort(rng.uniform(0, 4e-4, (NEIGHBORS, POINTS)), axis=0)
    distances = (nearest * (1 + further)).astype(np.float32)
    distances[0] = 0
    knn = KNN(jnp.asarray(ring, jnp.int32), jnp.asarray(distances))
    exact = distances[1:].astype(float)
    sigma = 1e-3 * distances.astype(float).mean(axis=0)
    expected = np.exp(-(exact - exact[0]) / sigma)
    strengths = np.asarray(strengths_of(knn, *bandwidths(knn)))[1:]
    np.testing.assert_allclose(strengths, expected, atol=1e-6)


def test_entries_that_are_no_neighbors_do_not_change_the_others():
    # Row 0 has five neighbors and three places that hold none, by each way to say so.
    near = np.array([[0, 1, 2, 3, 4, 5, -1, 6, 1]])
    far = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, np.inf, np.inf, 6.0]])
    others = np.tile(np.arange(9), (8, 1)), np.tile(np.arange(9.0), (8, 1))
    knn = as_knn(np.vstack([near, others[0]]), np.vstack([far, others[1]]))
    sigma, rho = bandwidths(knn)
    strengths = np.asarray(strengths_of(knn, sigma, rho))[:, 0]
    np.testing.assert_allclose(strengths.sum(), np.log2(9), atol=BISECTION)
    assert (strengths[6:] == 0).all()


@pytest.mark.parametrize("mix", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("local_connectivity", [1.0, 1.5])
def test_the_graph_equals_the_slow_reference(knn, local_connectivity, mix):
    graph = graph_of(knn, local_connectivity, mix)
    expected = slow_union(slow_memberships(*tables(knn), local_connectivity), mix)
    np.testing.assert_allclose(dense(graph), expected, atol=BISECTION)


@pytest.mark.parametrize("mix", [1.0, 0.25])
def test_a_sum_over_the_list_is_the_sum_over_undirected_edges(knn, rng, mix):
    graph = graph_of(knn, mix=mix)
    symmetric = slow_union(slow_memberships(*tables(knn), 1.0), mix)
    of_pair = rng.uniform(size=symmetric.shape)
    of_pair = of_pair + of_pair.T
    weights, neighbors = np.asarray(graph.weights), np.asarray(graph.neighbors)
    listed = sum(
        weights[place, i] * of_pair[i, neighbors[place, i]]
        for place in range(NEIGHBORS)
        for i in range(POINTS)
    )
    edges = sum(
        symmetric[i, j] * of_pair[i, j] for i in range(POINTS) for j in range(i)
    )
    np.testing.assert_allclose(listed, edges, rtol=BISECTION)


def test_degrees_are_row_sums_of_the_symmetric_graph(knn):
    graph = graph_of(knn)
    matrix = dense(graph)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert (np.diag(matrix) == 0).all()
    np.testing.assert_allclose(graph.degrees, matrix.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("local_connectivity", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("mix", [1.0, 0.5])
@pytest.mark.parametrize("given", ["knn", "knn_of_duplicates"])
def test_the_graph_equals_umap_learns(
    given, local_connectivity, mix, request, monkeypatch
):
    umap_ = import_umap("umap.umap_")
    # As plain Python: so few points take less time than numba's compilation.
    for name in ("smooth_knn_dist", "compute_membership_strengths"):
        monkeypatch.setattr(umap_, name, getattr(umap_, name).py_func)
    knn = request.getfixturevalue(given)
    indices, distances = tables(knn)
    theirs, *_ = umap_.fuzzy_simplicial_set(
        make_data([POINTS])[0],
        NEIGHBORS,
        np.random.RandomState(0),
        "euclidean",
        knn_indices=np.ascontiguousarray(indices),
        knn_dists=np.ascontiguousarray(distances, dtype=np.float32),
        set_op_mix_ratio=mix,
        local_connectivity=local_connectivity,
    )
    graph = graph_of(knn, local_connectivity, mix)
    # float32 by numba, another order of operations.
    np.testing.assert_allclose(dense(graph), theirs.toarray(), atol=1e-4)


def test_a_symmetric_matrix_of_another_tool_is_a_graph(knn):
    matrix = graph_of(knn).to_sparse()
    graph = FuzzyGraph.from_sparse(matrix)
    check_graph(graph, "graph")
    np.testing.assert_array_equal(dense(graph), matrix.toarray())
    np.testing.assert_allclose(graph.degrees, graph_of(knn).degrees, rtol=1e-5)
    assert len(graph.neighbors) <= NEIGHBORS + 1
    again = FuzzyGraph.from_sparse(matrix.toarray() + 1e-7 + np.eye(POINTS) * 0.5)
    np.testing.assert_allclose(dense(again), matrix.toarray(), atol=1e-6)


def test_the_lists_of_hubs_stay_short():
    star = np.zeros((50, 50))
    star[0, 1:] = star[1:, 0] = np.linspace(0.1, 1, 49)
    graph = FuzzyGraph.from_sparse(scipy.sparse.coo_array(star))
    assert graph.neighbors.shape == (2, 50)
    np.testing.assert_allclose(dense(graph), star, rtol=1e-6)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(4)[:3], ["(3, 4)"]),
        (2 - np.eye(4), ["from 0 to 2", "Divide"]),
        (np.eye(4) - 1, ["from -1 to 0"]),
        (np.full((4, 4), np.nan), ["nan"]),
        (np.triu(np.ones((4, 4))), ["not symmetric", "matrix.T"]),
        (np.zeros((0, 0)), ["(0, 0)"]),
        ("text", ["cannot be read"]),
    ],
)
def test_matrices_that_are_no_graph_are_refused(matrix, words):
    with refused("matrix", *words):
        FuzzyGraph.from_sparse(matrix)


@pytest.mark.parametrize("given", ["knn", "knn_of_duplicates"])
def test_padding_changes_nothing_and_weighs_nothing(given, request):
    knn = request.getfixturevalue(given)
    graph = graph_of(knn)
    wide = graph_of(padded(knn, 64))
    neighbors, weights, degrees = map(
        np.asarray, (wide.neighbors, wide.weights, wide.degrees)
    )
    np.testing.assert_array_equal(neighbors[:, :POINTS], graph.neighbors)
    # The mean of all distances is summed in another order, and sigma may be as small
    # as 1e-3 distances: there an ulp of rho weighs 1e-4.
    np.testing.assert_allclose(weights[:, :POINTS], graph.weights, rtol=1e-4)
    np.testing.assert_allclose(degrees[:POINTS], graph.degrees, rtol=1e-4)
    assert (weights[:, POINTS:] == 0).all()
    assert (degrees[POINTS:] == 0).all()


def test_the_graph_follows_a_permutation_of_the_rows(knn, rng):
    order = rng.permutation(POINTS)
    place = np.argsort(order)
    permuted = KNN(
        jnp.asarray(place[np.asarray(knn.indices)[:, order]], jnp.int32),
        knn.distances[:, order],
    )
    expected = dense(graph_of(knn))[order][:, order]
    # The bisection may stop elsewhere within its tolerance.
    np.testing.assert_allclose(dense(graph_of(permuted)), expected, atol=BISECTION)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e5, 1e30])
def test_the_graph_does_not_depend_on_the_units_of_the_metric(knn, scale):
    scaled = KNN(knn.indices, knn.distances * scale)
    np.testing.assert_allclose(
        graph_of(scaled).weights,
        graph_of(knn).weights,
        rtol=BISECTION,
    )


@pytest.mark.slow
def test_jit_equals_eager_and_vmap_equals_a_loop(knn, knn_of_duplicates):
    graphs = [graph_of(one) for one in (knn, knn_of_duplicates)]
    eager = inspect.unwrap(fuzzy_simplicial_set)(knn)
    np.testing.assert_allclose(eager.weights, graphs[0].weights, atol=BISECTION)
    pair = jax.tree.map(lambda *leaves: jnp.stack(leaves), knn, knn_of_duplicates)
    mapped = jax.vmap(graph_of)(pair)
    # sigma may be as small as 1e-3 distances: there an ulp of rho weighs 1e-4.
    for t, graph in enumerate(graphs):
        np.testing.assert_allclose(mapped.weights[t], graph.weights, rtol=1e-4)
        np.testing.assert_allclose(mapped.degrees[t], graph.degrees, rtol=1e-4)


@jax.jit
def energy(distances, local_connectivity, mix, indices):
    knn = KNN(indices, distances)
    graph = graph_of(knn, local_connectivity, mix)
    return jnp.sum(graph.weights**2) + jnp.sum(graph.degrees**2)


energy_gradients = jax.jit(jax.grad(energy, argnums=(0, 1, 2)))


@pytest.mark.parametrize("given", ["knn", "knn_of_duplicates"])
def test_gradients_are_finite(given, request):
    knn = request.getfixturevalue(given)
    gradients = energy_gradients(knn.distances, 1.5, 0.5, knn.indices)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert np.asarray(gradients[0]).any()


def test_the_gradient_of_sigma_is_that_of_the_equations_root(knn):
    _, distances = tables(knn)
    row, place, nudge = 5, 3, 1e-6
    mean = distances.mean()

    def root(moved: float) -> float:
        near = distances[row].copy()
        near[place] += moved
        return slow_sigma(near, slow_rho(near, 1.0), mean)

    expected = (root(nudge) - root(-nudge)) / (2 * nudge)
    with jax.enable_x64(True):
        exact = jnp.asarray(distances.T)

        @jax.jit
        @jax.grad
        def gradient_of(distances):
            return smooth_knn_dist(KNN(knn.indices, distances))[0][row]

        gradient = np.asarray(gradient_of(exact))
    # sigma itself is known to the bisection's tolerance only.
    np.testing.assert_allclose(gradient[place, row], expected, rtol=1e-3)
