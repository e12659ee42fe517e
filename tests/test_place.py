import numpy as np
import pytest
import scipy.sparse

from aljax.layout.initialize import from_mates
from aljax.layout.spectral import EXTENT, JITTER
from aljax.relations.mates import Mates

NEAR = 10 * JITTER


def related(*pairs: tuple[int, int]) -> Mates:
    rows, others = np.array(pairs, dtype=int).reshape(-1, 2).T
    return Mates(rows, others, np.ones(rows.size))


def weighted(points: int, edges: dict[tuple[int, int], float]):
    """A symmetric graph with some edges."""
    dense = np.zeros((points, points))
    for (i, j), weight in edges.items():
        dense[i, j] = dense[j, i] = weight
    return scipy.sparse.csr_matrix(dense)


def place(t, graph, maps, relations, seed=0):
    components = next((y.shape[1] for y in maps if y is not None), 2)
    return from_mates(t, graph, maps, relations, n_components=components, seed=seed)


@pytest.fixture
def before(rng) -> np.ndarray:
    return rng.normal(size=(9, 2))


def test_rows_start_at_their_mates(before):
    mates = {(0, 1): related((4, 0), (8, 1), (2, 2))}
    start = place(1, weighted(3, {(0, 1): 1.0}), [before, None], mates)
    np.testing.assert_allclose(start, before[[4, 8, 2]], atol=NEAR)


def test_rows_with_several_mates_start_at_their_mean(before):
    mates = {(0, 1): related((4, 0), (8, 0), (2, 0), (2, 1))}
    start = place(1, weighted(2, {}), [before, None], mates)
    np.testing.assert_allclose(start[0], before[[4, 8, 2]].mean(axis=0), atol=NEAR)
    np.testing.assert_allclose(start[1], before[2], atol=NEAR)


def test_the_nearest_slice_with_a_mate_decides(before, rng):
    other = rng.normal(size=(9, 2))
    mates = {(0, 2): related((0, 0), (1, 1)), (1, 1): related((5, 1), (6, 2))}
    start = place(2, weighted(3, {}), [other, before, None], mates)
    expected = [other[0], before[5], before[6]]
    np.testing.assert_allclose(start, expected, atol=NEAR)


def test_mates_may_stand_in_a_later_slice(before):
    mates = {(0, 1): related((1, 5), (0, 3)), (1, 1): related((5, 5))}
    start = place(0, weighted(2, {}), [None, before, None], mates)
    np.testing.assert_allclose(start, before[[3, 5]], atol=NEAR)


def test_rows_without_a_mate_start_at_the_weighted_mean_of_their_neighbors(before):
    graph = weighted(3, {(0, 2): 0.75, (1, 2): 0.25})
    mates = {(0, 1): related((4, 0), (8, 1))}
    start = place(1, graph, [before, None], mates)
    expected = 0.75 * before[4] + 0.25 * before[8]
    np.testing.assert_allclose(start[2], expected, atol=NEAR)


def test_neighbors_of_neighbors_are_reached_wave_by_wave(before):
    # 0 has a mate; 1 hangs on it, 2 on 1, and 3 on 2 and, more strongly, on 1.
    graph = weighted(4, {(0, 1): 0.1, (1, 2): 0.2, (2, 3): 0.3, (1, 3): 0.9})
    start = place(1, graph, [before, None], {(0, 1): related((4, 0))})
    np.testing.assert_allclose(start, before[[4] * 4], atol=NEAR)


def test_a_group_that_nothing_leads_to_stands_beside_the_frame(before):
    ring = {(9 + i, 9 + (i + 1) % 12): 1.0 for i in range(12)}
    mates = {(0, 1): related(*((i, i) for i in range(9)))}
    start = place(1, weighted(21, ring), [before, None], mates)
    frame, group = start[:9], start[9:]
    extent = np.ptp(frame, axis=0).max()
    assert group[:, 0].min() > frame[:, 0].max()
    assert group[:, 0].max() < frame[:, 0].max() + extent
    assert group[:, 1].min() > frame[:, 1].min() - extent / 2
    assert group[:, 1].max() < frame[:, 1].max() + extent / 2
    assert len(np.unique(group.round(2), axis=0)) > 6


def test_a_single_row_that_nothing_leads_to_is_placed(before):
    start = place(1, weighted(2, {}), [before, None], {(0, 1): related((3, 0))})
    assert np.isfinite(start).all()
    assert np.linalg.norm(start[1] - start[0]) > NEAR


@pytest.mark.parametrize("relations", [{}, {(0, 1): related()}])
def test_without_any_mate_the_start_is_the_graphs_own(before, relations):
    ring = {(i, (i + 1) % 12): 1.0 for i in range(12)}
    start = place(1, weighted(12, ring), [before, None], relations)
    assert np.abs(start).max() == pytest.approx(EXTENT, rel=1e-2)
    assert np.linalg.matrix_rank(start.round(2)) == 2


def test_only_the_jitter_is_left_to_chance_and_parts_rows(before):
    mates = {(0, 1): related((4, 0), (4, 1), (4, 2))}
    graph = weighted(3, {})
    start, again, other = (
        place(1, graph, [before, None], mates, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(start, again)
    assert 0 < np.abs(start - other).max() < NEAR
    assert len(np.unique(start, axis=0)) == 3


def test_the_start_follows_the_order_of_the_rows(before, rng):
    dense = np.triu(rng.uniform(size=(12, 12)) * (rng.uniform(size=(12, 12)) < 0.3), 1)
    graph = scipy.sparse.csr_matrix(dense + dense.T)
    mates = related((4, 0), (8, 1), (2, 2), (3, 7))
    order = rng.permutation(12)
    moved = Mates(mates.rows, np.argsort(order)[mates.others], mates.strengths)
    start = place(1, graph, [before, None], {(0, 1): mates})
    again = place(1, graph[order][:, order], [before, None], {(0, 1): moved})
    np.testing.assert_allclose(again, start[order], atol=NEAR)


@pytest.mark.parametrize("components", [1, 3])
def test_maps_may_have_any_dimension(rng, components):
    before = rng.normal(size=(9, components))
    start = place(1, weighted(2, {}), [before, None], {(0, 1): related((4, 0))})
    assert start.shape == (2, components)
    np.testing.assert_allclose(start[0], before[4], atol=NEAR)
    assert np.isfinite(start).all()


def test_the_given_maps_are_not_changed(before):
    kept = before.copy()
    place(1, weighted(2, {}), [before, None], {(0, 1): related((4, 0), (5, 1))})
    np.testing.assert_array_equal(before, kept)
