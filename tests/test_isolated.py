"""Rows that no edge holds stand at their mates, or beside the map."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from helpers import NEIGHBORS, SIZES, make_data

import aljax
from aljax.config import FARTHEST
from aljax.graph.build import build_graphs
from aljax.graph.exact import exact_knn
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import slices_of
from aljax.layout.finish import finish
from aljax.project import memberships
from aljax.relations.mates import Mates

pytestmark = pytest.mark.usefixtures("as_users_run_it")
DATA = make_data()
SHORT = aljax.LayoutConfig(n_epochs=100)
NONE = aljax.LayoutConfig(n_epochs=0)
ROWS = [{row: row for row in range(41)} for _ in range(2)]


def without_edges(data: np.ndarray, lone: list[int]) -> aljax.KNN:
    knn = exact_knn(data, NEIGHBORS)
    indices, distances = np.asarray(knn.indices).T, np.array(knn.distances).T
    distances[lone, 1:] = np.inf
    distances[:, 1:][np.isin(indices[:, 1:], lone)] = np.inf
    return aljax.as_knn(indices, distances)


def lay_out(lone: list[list[int]], **changed):
    """Three maps, and the maps that were shown on the way."""
    shown = []
    fitted = aljax.fit(
        [without_edges(*pair) for pair in zip(DATA, lone, strict=True)],
        ROWS,
        key=jax.random.key(0),
        layout=SHORT,
        progress=lambda state: shown.append(state.unstack()),
        **changed,
    )
    return fitted.maps, shown


def radius(positions: np.ndarray) -> float:
    return float(
        np.sqrt(((positions - positions.mean(axis=0)) ** 2).sum(axis=1).mean())
    )


def share_of_the_rest(positions: np.ndarray, lone: list[int]) -> float:
    """How much of the map's width the rows with edges fill."""
    rest = np.delete(positions, lone, axis=0)
    return float((np.ptp(rest, axis=0) / np.ptp(positions, axis=0)).min())


def test_rows_without_an_edge_stand_at_their_mates_or_beside_the_map():
    lone = [[3], [5, 44], [3]]
    with pytest.warns(UserWarning, match="4 rows in 3 slices, such as slice 0"):
        maps, shown = lay_out(lone)
    for state_maps in shown:
        assert min(map(share_of_the_rest, state_maps, lone)) > 0.5
    for t in (0, 2):  # in slice 1 the row has edges
        assert np.linalg.norm(maps[t][3] - maps[1][3]) < 0.05 * radius(maps[1])
        # in slices 0 and 2 the other row has
        assert np.linalg.norm(maps[1][5] - maps[t][5]) < 0.5 * radius(maps[1])
    assert min(map(share_of_the_rest, maps, lone)) > 0.5


def test_a_row_without_edges_anywhere_stands_beside_all_maps():
    with pytest.warns(UserWarning, match="without an edge"):
        maps, _ = lay_out([[7], [7], [7]])
    near = [np.linalg.norm(maps[t][7] - maps[0][7]) for t in (1, 2)]
    assert max(near) < 0.05 * radius(maps[0])
    assert share_of_the_rest(maps[0], [7]) > 0.5


def test_rows_that_are_pinned_stay_where_they_are():
    start = [np.random.default_rng(0).normal(size=(size, 2)) for size in SIZES]
    masks = [np.arange(size) == 7 for size in SIZES]
    with pytest.warns(UserWarning, match="without an edge"):
        maps, _ = lay_out([[7], [], []], start=start, pinned=masks)
    np.testing.assert_array_equal(maps[0][7], start[0][7].astype(maps[0].dtype))


def test_an_update_leaves_earlier_rows_and_puts_its_own_at_their_mates():
    with pytest.warns(UserWarning, match="1 row of slice 0 is without an edge"):
        before = aljax.fit(
            [without_edges(DATA[0], [3])],
            key=jax.random.key(0),
            layout=SHORT,
        )
    moved = [before.maps[0] + np.where(np.arange(41) == 3, 100, 0)[:, None]]
    before = dataclasses.replace(before, maps=moved)
    with pytest.warns(UserWarning, match="2 rows of slice 1"):
        after = before.update(
            without_edges(DATA[1], [3, 8]), ROWS[0], key=jax.random.key(1)
        )
    np.testing.assert_array_equal(after.maps[0], before.maps[0])
    for row in (3, 8):
        assert np.linalg.norm(after.maps[1][row] - before.maps[0][row]) < 0.01


def test_where_no_row_has_an_edge_the_layout_stays():
    with pytest.warns(UserWarning, match="41 rows"):
        maps = aljax.fit(
            [without_edges(DATA[0], list(range(41)))], key=jax.random.key(0)
        ).maps
    assert np.isfinite(maps[0]).all()
    assert radius(maps[0]) > 0


@pytest.mark.parametrize(
    ("metric", "farthest", "dropped"),
    [
        ("jaccard", None, 1.0),
        ("braycurtis", None, 1.0),
        ("cosine", None, 2.0),
        ("euclidean", 0.7, 0.7),
    ],
)
def test_rows_as_far_apart_as_can_be_are_no_neighbors(metric, farthest, dropped):
    knn = aljax.as_knn(
        np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0], [3, 0, 1]]),
        np.array([[0, 0.1, 0.6], [0, 0.1, dropped], [0, 0.5, 0.6], [0, dropped, 3]]),
    )
    graph = aljax.GraphConfig(
        metric=metric, n_neighbors=3, disconnection_distance=farthest
    )
    (built,) = build_graphs(slices_of([4], [None]), graph, precomputed_knn=[knn])
    edges = built.to_sparse().toarray()
    assert not edges[3].any()
    assert edges[1, 2] == edges[2, 1] > 0  # row 2 has row 1 nearer
    np.testing.assert_array_equal(np.asarray(built.weights)[1:, 3], 0.0)
    assert np.asarray(built.weights)[2, 1] == 0


@pytest.mark.parametrize("metric", FARTHEST)
@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_matrix])
def test_rows_as_far_apart_as_can_be_are_told_in_each_metric(rng, metric, convert):
    lone, rows = np.zeros((1, 9)), np.zeros((40, 9))
    rows[:, :6], lone[0, 6:] = rng.integers(0, 2, (40, 6)), (0.1, 0.3, 0.2)
    rows[:, 0] = 3.0
    if metric in ("cosine", "correlation"):
        rows, lone = np.outer(rng.uniform(1, 9, 40), [1, 2, 5]), [[-0.1, -0.2, -0.5]]
    if metric == "hamming":
        rows[:, 1:], lone = rng.integers(1, 3, (40, 8)), np.zeros((1, 9))
    if metric == "yule":
        convert = np.asarray  # of dense rows alone
    graph = aljax.GraphConfig(n_neighbors=NEIGHBORS, metric=metric)
    settings: Any = {"key": jax.random.key(0), "graph": graph, "layout": NONE}
    with pytest.warns(UserWarning, match="1 row of slice 0 is without an edge"):
        aljax.fit([convert(np.vstack([lone, rows]))], **settings)
    maps = aljax.fit([convert(rows)], **settings)
    with pytest.warns(UserWarning, match="1 of 1 new rows have no neighbor"):
        maps.transform(convert(np.asarray(lone)))
    graph = dataclasses.replace(graph, disconnection_distance=np.inf)
    everyone = aljax.fit(
        [convert(np.vstack([lone, rows]))], **settings | {"graph": graph}
    )
    assert np.asarray(everyone.graphs[0].degrees)[0] > 0


def test_new_rows_without_a_neighbor_are_put_beside_the_map(recwarn):
    graph = aljax.GraphConfig(n_neighbors=NEIGHBORS, disconnection_distance=50.0)
    maps = aljax.fit(
        DATA[:1], key=jax.random.key(0), graph=graph, layout=SHORT, slice_labels=["a"]
    )
    assert not recwarn
    rows = np.vstack([DATA[1][:3], DATA[1][:2] + 1000])
    with pytest.warns(UserWarning, match=r"2 of 5 new rows .* in slice 0 \('a'\)"):
        placed = maps.transform(rows)
    np.testing.assert_array_equal(placed[:3], maps.transform(rows[:3]))
    low, high = maps.maps[0].min(axis=0), maps.maps[0].max(axis=0)
    assert (placed[3:, 0] > high[0]).all()
    assert ((placed[3:, 1] >= low[1]) & (placed[3:, 1] <= high[1])).all()
    with pytest.warns(UserWarning, match="2 of 5 new rows"):
        assert not maps.place(rows).inside[3:].any()


def test_new_rows_are_drawn_by_their_neighbors_alone():
    distances = np.array([[0.1], [0.2], [0.4], [5.0]], np.float32)
    absent = np.where(distances < 1, distances, -1)
    weighed = memberships(jnp.asarray(absent), jnp.asarray(1.0))
    assert np.asarray(weighed)[3] == 0
    assert np.asarray(weighed)[2] > 0


def test_rows_without_edges_follow_mates_that_have_none_either(rng):
    ring = np.roll(np.eye(9), 1, axis=1)
    held = FuzzyGraph.from_sparse(ring + ring.T)
    ring[0] = ring[:, 0] = 0
    lost = FuzzyGraph.from_sparse(ring + ring.T)
    maps = [*rng.normal(size=(4, 9, 2))]
    first = np.zeros(1, int)
    relations = {(t, 1): Mates(first, first, np.ones(1)) for t in range(3)}
    graphs, none = [lost, lost, lost, held], [None] * 4
    settings = aljax.AlignmentConfig()
    kwds: Any = {"stay": none, "weights": none}
    placed = finish(maps, {}, graphs, relations, settings, **kwds)
    for t in range(3):
        np.testing.assert_allclose(placed[t][0], maps[3][0], atol=0.1)
        np.testing.assert_array_equal(placed[t][1:], maps[t][1:])
    every = np.arange(1, 9)
    anchors = {(t, 1): Mates(every, every, np.ones(8)) for t in range(3)}
    moved = finish(maps, anchors, graphs, relations, settings, **kwds)
    assert np.abs(moved[3] - maps[3]).max() > 0.5
    for t in range(3):
        np.testing.assert_allclose(moved[t][0], moved[3][0], atol=0.1)
