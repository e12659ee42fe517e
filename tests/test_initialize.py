import warnings

import numpy as np
import pytest
import scipy.sparse
from helpers import SIZES, make_data, make_graphs, make_maps, make_relations
from scipy.sparse.linalg import ArpackNoConvergence
from sklearn.decomposition import PCA

from aljax.graph.relations import Mates
from aljax.layout import initialize as module
from aljax.layout.initialize import EXTENT, JITTER, initial_maps, pca, spectral


@pytest.fixture(scope="module")
def adjacency() -> list[scipy.sparse.csr_matrix]:
    return [graph.to_sparse() for graph in make_graphs()]


def related(pairs: dict[int, int]) -> Mates:
    rows, others = np.array([*pairs.items()], dtype=int).reshape(-1, 2).T
    return Mates(rows, others, np.ones(rows.size))


def blocks(sizes, rng) -> scipy.sparse.csr_matrix:
    """Complete graphs side by side, with random weights."""
    dense = [rng.uniform(0.1, 1, (size, size)) for size in sizes]
    parts = [np.triu(one, 1) + np.triu(one, 1).T for one in dense]
    return scipy.sparse.csr_matrix(scipy.sparse.block_diag(parts))


def share_of_own_center(start: np.ndarray, labels: np.ndarray) -> float:
    """How many points lie nearest to the centre of their own component."""
    centers = np.array([start[labels == c].mean(axis=0) for c in np.unique(labels)])
    distances = np.linalg.norm(start[:, None] - centers, axis=2)
    return float((distances.argmin(axis=1) == labels).mean())


def test_the_spectral_start_is_made_of_the_leading_eigenvectors(adjacency):
    dense = adjacency[0].toarray().astype(float)
    degree = dense.sum(axis=1)
    values, vectors = np.linalg.eigh(dense / np.sqrt(np.outer(degree, degree)))
    assert values[-1] - values[-2] > 1e-2  # connected: the first one is trivial
    start = spectral(adjacency[0], 2)
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
    spans = [np.ptp(part, axis=0).max() for part in np.split(start, [40])]
    assert spans[0] > 1.2 * spans[1]


@pytest.mark.parametrize("with_data", [False, True])
def test_many_points_without_a_neighbor_find_places_apart(rng, with_data):
    matrix = scipy.sparse.block_diag(
        [blocks((10,), rng), scipy.sparse.csr_matrix((30, 30))]
    )
    data = rng.normal(size=(40, 4)) if with_data else None
    start = spectral(scipy.sparse.csr_matrix(matrix), 2, data=data)
    assert np.isfinite(start).all()
    alone = start[10:]
    gaps = np.linalg.norm(alone[:, None] - alone, axis=2)[np.triu_indices(30, 1)]
    assert gaps.min() > 10 * JITTER


def test_a_start_that_does_not_converge_warns_and_is_random(adjacency, monkeypatch):
    def fail(*_, **__):
        raise ArpackNoConvergence("no", np.zeros(0), np.zeros((0, 0)))

    monkeypatch.setattr(module, "eigsh", fail)
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


@pytest.mark.parametrize("init", ["spectral", "pca", "random"])
def test_a_start_has_the_extent_the_shape_and_the_bits_it_should(adjacency, init):
    def start(seed):
        return initial_maps(init, adjacency, make_data(), {}, n_components=3, seed=seed)

    maps = start(0)
    for one, again, other, size in zip(maps, start(0), start(1), SIZES, strict=True):
        assert one.shape == (size, 3)
        assert 0.9 * EXTENT < np.abs(one).max() <= EXTENT + 10 * JITTER
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()


@pytest.mark.parametrize("init", ["spectral", "pca"])
def test_only_the_jitter_is_left_to_chance(adjacency, init):
    maps = [
        initial_maps(init, adjacency, make_data(), {}, n_components=2, seed=seed)
        for seed in (0, 1)
    ]
    for one, other in zip(*maps, strict=True):
        assert np.abs(one - other).max() < 10 * JITTER


@pytest.mark.parametrize("init", ["spectral", "pca", "random"])
def test_constant_data_give_distinct_finite_starts(init):
    graph = make_graphs()[0].to_sparse()
    data = np.full((SIZES[0], 3), 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start = initial_maps(init, [graph], [data], {}, n_components=2, seed=0)[0]
    assert np.isfinite(start).all()
    assert len(np.unique(start, axis=0)) == SIZES[0]


def test_the_chain_turns_each_start_onto_the_one_before(rng):
    before = rng.normal(size=(30, 2))
    turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    place = rng.permutation(30)
    start = np.empty_like(before)
    start[place] = before @ turn + np.array([5.0, -2.0])
    some = related({i: int(place[i]) for i in range(10)})
    turned = module._turn_onto(before, start, {(0, 1): some}, 1)
    np.testing.assert_allclose(turned[place], before, atol=1e-12)


def test_the_chain_keeps_the_shape_of_every_start(rng):
    before, start = rng.normal(size=(20, 2)), rng.normal(size=(25, 2))
    mates = related({i: i for i in range(20)})
    turned = module._turn_onto(before, start, {(2, 1): mates}, 3)

    def gaps(y):
        return np.linalg.norm(y[:, None] - y, axis=2)

    np.testing.assert_allclose(gaps(turned), gaps(start), atol=1e-12)
    distance = np.linalg.norm(turned[:20] - before)
    for angle in np.linspace(0, 2 * np.pi, 60):
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        for mirror in (np.eye(2), np.diag([1.0, -1.0])):
            moved = (start - start[:20].mean(axis=0)) @ turn @ mirror
            moved += before.mean(axis=0)
            assert np.linalg.norm(moved[:20] - before) >= distance - 1e-12


def test_slices_without_mates_are_left_as_they_are(rng):
    before, start = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    for relations in ({}, {(0, 1): related({})}, {(0, 2): related({0: 1})}):
        assert module._turn_onto(before, start, relations, 1) is start


def test_related_copies_start_in_the_same_place(adjacency):
    rows = related({i: i for i in range(SIZES[0])})
    data = make_data()[0]
    maps = initial_maps(
        "pca",
        [adjacency[0]] * 2,
        [data, data[:, ::-1] * np.array([1, -1, 1, -1, 1])],
        {(0, 1): rows},
        n_components=2,
        seed=0,
    )
    assert np.abs(maps[0] - maps[1]).max() < 10 * JITTER


def test_maps_of_the_users_own_are_taken_as_they_are(adjacency):
    given = make_maps()
    mates = {(0, 1): related({0: 1, 2: 5, 4: 7})}
    maps = initial_maps(given, adjacency, make_data(), mates, n_components=2, seed=0)
    for one, other in zip(maps, given, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda maps: maps[:2], r"^`init` has 2 maps for 3 slices"),
        (lambda maps: [maps[0].T, *maps[1:]], r"^`init\[0\]` has shape \(2, 41\)"),
        (lambda maps: [*maps[:2], maps[2][:-1]], r"^`init\[2\]` .*\(45, 2\)"),
        (lambda maps: [maps[0], maps[1] * np.nan, maps[2]], r"^`init\[1\]` .*finite"),
    ],
)
def test_maps_that_do_not_fit_are_refused(adjacency, change, said):
    with pytest.raises(ValueError, match=said):
        initial_maps(
            change(make_maps()), adjacency, make_data(), {}, n_components=2, seed=0
        )


def test_pca_of_a_graph_without_data_is_refused(adjacency):
    data = [make_data()[0], None, None]
    with pytest.raises(ValueError, match=r"^`init` is 'pca', but slice 1 is a graph"):
        initial_maps("pca", adjacency, data, {}, n_components=2, seed=0)


def test_the_chain_follows_relations_given_as_dicts(adjacency):
    dicts = make_relations()
    relations = {(t, 1): related(d) for t, d in enumerate(dicts)}
    chained = initial_maps(
        "spectral", adjacency, make_data(), relations, n_components=2, seed=0
    )
    apart = initial_maps("spectral", adjacency, make_data(), {}, n_components=2, seed=0)

    def gap(maps):
        return sum(
            np.linalg.norm(maps[t][mates.rows] - maps[t + 1][mates.others])
            for (t, _), mates in relations.items()
        )

    assert gap(chained) < gap(apart)
