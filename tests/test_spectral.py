import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from helpers import SIZES, make_data, make_graphs
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.decomposition import PCA

from aljax.config import GraphConfig
from aljax.graph.build import build_graphs
from aljax.graph.slices import slices_of
from aljax.layout import spectral as module
from aljax.layout.spectral import EXTENT, JITTER, arpack, pca, spectral, warm_lobpcg


@pytest.fixture(scope="module")
def adjacency() -> list[scipy.sparse.csr_matrix]:
    return [graph.to_sparse() for graph in make_graphs()]


def blocks(sizes, rng) -> scipy.sparse.csr_matrix:
    """Complete graphs side by side, with random weights."""
    dense = [rng.uniform(0.1, 1, (size, size)) for size in sizes]
    parts = [np.triu(one, 1) + np.triu(one, 1).T for one in dense]
    return scipy.sparse.csr_matrix(scipy.linalg.block_diag(*parts))


def share_of_own_center(start: np.ndarray, labels: np.ndarray) -> float:
    """How many points lie nearest to the center of their own component."""
    centers = np.array([start[labels == c].mean(axis=0) for c in np.unique(labels)])
    distances = np.linalg.norm(start[:, None] - centers, axis=2)
    return float((distances.argmin(axis=1) == labels).mean())


@pytest.mark.parametrize("solve", [arpack, warm_lobpcg])
def test_the_spectral_start_is_made_of_the_leading_eigenvectors(adjacency, solve):
    dense = adjacency[0].toarray().astype(float)
    degree = dense.sum(axis=1)
    values, vectors = np.linalg.eigh(dense / np.sqrt(np.outer(degree, degree)))
    assert values[-1] - values[-2] > 1e-2  # connected: the first one is trivial
    start = spectral(adjacency[0], 2, solve=solve)
    for component, place in ((0, -2), (1, -3)):
        similar = np.corrcoef(start[:, component], vectors[:, place])[0, 1]
        assert abs(similar) > 0.999  # ARPACK's tolerance is 1e-4
    assert np.abs(start).max() == pytest.approx(EXTENT)


@pytest.mark.parametrize("n_components", [2, 3])
@pytest.mark.parametrize("with_data", [False, True])
def test_components_lie_side_by_side(rng, n_components, with_data):
    sizes = (20, 12, 16)
    labels = np.repeat(np.arange(3), sizes)
    data = None
    if with_data:
        data = 10 * rng.normal(size=(3, 5))[labels] + rng.normal(size=(48, 5))
    start = spectral(blocks(sizes, rng), n_components, data=data)
    assert start.shape == (48, n_components)
    assert np.isfinite(start).all()
    assert np.abs(start).max() == pytest.approx(EXTENT)
    assert share_of_own_center(start, labels) == 1


@pytest.mark.parametrize("count", [3, 6])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_components_without_data_have_places_of_their_own(count, n_components):
    places = module._place(np.arange(count), count, n_components, None)
    gaps = np.linalg.norm(places[:, None] - places, axis=2)
    assert gaps[np.triu_indices(count, 1)].min() > EXTENT / count


def test_components_on_a_line_are_finite(rng):
    start = spectral(blocks((20, 12, 16), rng), 1)
    assert start.shape == (48, 1)
    assert np.isfinite(start).all()
    assert np.abs(start).max() == pytest.approx(EXTENT)


def test_components_are_placed_as_their_data_are(rng):
    labels = np.repeat(np.arange(3), 16)
    centers = np.array([[0.0, 0.0], [1.0, 0.2], [10.0, 0.0]])
    start = spectral(blocks((16, 16, 16), rng), 2, data=centers[labels])
    placed = np.array([start[labels == c].mean(axis=0) for c in range(3)])
    gap = np.linalg.norm(placed[0] - placed[1])
    assert gap < 0.5 * np.linalg.norm(placed[0] - placed[2])
    assert gap < 0.5 * np.linalg.norm(placed[1] - placed[2])


def test_larger_components_take_more_room(rng):
    start = spectral(blocks((40, 10), rng), 2)
    large, small = (
        np.abs(part - part.mean(axis=0)).max() for part in np.split(start, [40])
    )
    np.testing.assert_allclose(large / small, 2)  # the root of 40 / 10


@pytest.mark.parametrize("with_data", [False, True])
def test_many_points_without_a_neighbor_find_places_apart(rng, with_data):
    matrix = scipy.linalg.block_diag(blocks((10,), rng).toarray(), np.zeros((30, 30)))
    data = rng.normal(size=(40, 4)) if with_data else None
    start = spectral(scipy.sparse.csr_matrix(matrix), 2, data=data)
    assert np.isfinite(start).all()
    alone = start[10:]
    gaps = np.linalg.norm(alone[:, None] - alone, axis=2)[np.triu_indices(30, 1)]
    assert gaps.min() > 10 * JITTER


def test_a_start_that_does_not_converge_warns_and_is_random(adjacency, monkeypatch):
    def fail(*_, **__):
        raise ArpackNoConvergence("no", np.zeros(0), np.zeros((0, 0)))

    monkeypatch.setattr(scipy.sparse.linalg, "eigsh", fail)
    with pytest.warns(UserWarning, match="41 points did not converge: it is random"):
        start = spectral(adjacency[0], 2)
    assert np.isfinite(start).all()
    assert np.abs(start).max() == pytest.approx(EXTENT)


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_pca_equals_sklearn_up_to_sign_and_scale(n_components):
    data = make_data()[0]
    theirs = PCA(n_components).fit_transform(data.astype(np.float64))
    ours = pca(data, n_components)
    assert np.abs(ours).max() == pytest.approx(EXTENT)
    theirs *= EXTENT / np.abs(theirs).max()
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, rtol=1e-8, atol=1e-8)


def test_pca_is_0_in_dimensions_that_the_data_do_not_have():
    start = pca(make_data(features=2)[0], 3)
    assert start.shape == (SIZES[0], 3)
    assert start[:, :2].any()
    assert not start[:, 2].any()


@pytest.mark.parametrize("scale", [1e-200, 1e30, 1e150])
def test_pca_does_not_depend_on_units(scale):
    data = make_data()[0].astype(np.float64)
    np.testing.assert_allclose(pca(data * scale, 2), pca(data, 2), rtol=1e-6)


def test_pca_of_more_features_than_rows_is_the_same_and_quick():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 20_000))
    theirs = PCA(2, svd_solver="full").fit_transform(data)
    theirs *= EXTENT / np.abs(theirs).max()
    ours = pca(data, 2)
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kinds", [1, 2])
def test_repeated_rows_have_one_start(rng, kinds):
    data = np.eye(20)[rng.integers(0, kinds, 100)]
    (graph,) = build_graphs(slices_of([100], [data]), GraphConfig())
    one, other = (spectral(graph.to_sparse(), 2, data=data) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_graph_that_is_too_regular_for_arpack_still_shows_its_shape():
    ring = np.arange(24)
    matrix = scipy.sparse.coo_matrix((np.ones(24), (ring, (ring + 1) % 24)), (24, 24))
    start = spectral((matrix + matrix.T).tocsr(), 2)
    steps = np.linalg.norm(start - np.roll(start, 1, axis=0), axis=1)
    assert steps.max() < 0.5 * EXTENT
