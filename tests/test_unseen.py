import dataclasses
import importlib
import pickle
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import scipy.sparse
from helpers import (
    NEIGHBORS,
    assert_same_maps,
    make_data,
    make_relations,
    programs,
)
from scipy.spatial.distance import cdist
from sklearn.datasets import load_breast_cancer, load_digits

import aljax
from aljax.config import GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError
from aljax.fit import fit
from aljax.graph import exact
from aljax.graph.exact import QUERY_BLOCK as BLOCK
from aljax.graph.exact import exact_knn
from aljax.graph.fuzzy import FuzzyGraph
from aljax.metrics import knn_accuracy
from aljax.project import project
from aljax.transform import RIVALS, Frame, _spacing, transform

pytestmark = pytest.mark.usefixtures("as_users_run_it")
DATA = make_data()


def lay_out(data: Any = DATA, *, n_neighbors: Any = NEIGHBORS, **layout: Any):
    return fit(
        data,
        make_relations(),
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=n_neighbors),
        layout=LayoutConfig(**{"n_epochs": 30, **layout}),
        slice_labels=["a", "b", "c"],
    )


@pytest.fixture(scope="module")
def fitted() -> AlignedEmbedding:
    return lay_out()


@pytest.fixture(scope="module")
def unseen() -> np.ndarray:
    """More rows than one block holds."""
    return make_data([BLOCK + 12], seed=5)[0]


@pytest.fixture(scope="module")
def placed(fitted, unseen) -> list[np.ndarray]:
    """Where the unseen rows come to lie in each slice."""
    return [transform(fitted, t, unseen) for t in range(3)]


def in_metric(fitted, metric: str, **settings) -> AlignedEmbedding:
    """The same maps, whose new rows are searched in another metric."""
    graph = dataclasses.replace(
        fitted.graph, metric=metric, metric_kwds=settings or None
    )
    return dataclasses.replace(fitted, graph=graph)


METRICS: list[tuple[str, dict[str, Any]]] = [
    ("euclidean", {}),
    ("cosine", {}),
    ("manhattan", {}),
    ("minkowski", {"p": 3}),
    ("correlation", {}),
]


@pytest.mark.parametrize(("metric", "settings"), METRICS)
def test_rows_of_the_slice_land_on_their_own_positions(fitted, metric, settings):
    maps = in_metric(fitted, metric, **settings)
    for t, data in enumerate(DATA):
        placed = transform(maps, t, data)
        assert placed.dtype == fitted.maps[t].dtype
        np.testing.assert_array_equal(placed, fitted.maps[t])


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_rows_almost_of_the_slice_land_near_their_neighbors(fitted, metric):
    shifted = DATA[1] * np.float32(1.0001)
    placed = transform(in_metric(fitted, metric), 1, shifted)
    to_own = np.linalg.norm(placed - fitted.maps[1], axis=1)
    to_all = cdist(placed, fitted.maps[1])
    assert (to_own > 0).any()
    assert np.median(to_own) < 0.5 * np.median(to_all)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_one_by_one_is_all_at_once_bit_for_bit(fitted, unseen, metric):
    maps = in_metric(fitted, metric)
    together = transform(maps, 1, unseen)
    assert together.shape == (len(unseen), 2)
    assert np.isfinite(together).all()
    for row in (0, 1, 17, BLOCK - 1, BLOCK, len(unseen) - 1):
        alone = transform(maps, 1, unseen[row : row + 1])
        np.testing.assert_array_equal(alone[0], together[row])
    turned = transform(maps, 1, unseen[::-1])
    np.testing.assert_array_equal(turned, together[::-1])
    near = maps.frame(1).nearest(unseen, NEIGHBORS - 1)
    orders = np.random.default_rng(0).permuted([np.arange(len(unseen))] * 20, axis=1)
    for order in orders:
        again = maps.frame(1).nearest(unseen[order], NEIGHBORS - 1)
        for found, expected in zip(again, near, strict=True):
            np.testing.assert_array_equal(found, expected[order])
    # What follows the search is one program for every metric: it is asked in one.
    for order in orders[:, :BLOCK] if metric == "euclidean" else ():
        np.testing.assert_array_equal(
            transform(maps, 1, unseen[order]), together[order]
        )


def test_nothing_moves_and_nothing_is_left_to_chance(fitted, unseen, placed):
    before = [y.copy() for y in fitted.maps]
    np.testing.assert_array_equal(transform(fitted, 0, unseen), placed[0])
    assert_same_maps(fitted.maps, before)


def test_each_slice_has_a_frame_of_its_own(fitted, unseen, placed):
    last = transform(fitted, -1, unseen[:9])
    np.testing.assert_array_equal(last, placed[2][:9])
    assert np.abs(placed[0][:9] - last).max() > 0.1


@pytest.mark.parametrize("t", range(3))
def test_slices_are_counted_from_the_end_where_negative(fitted, t):
    assert fitted.index(t - 3) == t
    assert fitted.frame(t - 3) is fitted.frame(t)


@pytest.mark.parametrize(
    "name", ["a", "b", "learning_rate", "repulsion_strength", "negative_sample_rate"]
)
def test_each_slice_places_rows_by_its_own_settings(fitted, unseen, placed, name):
    values = getattr(fitted.params, name)
    params = dataclasses.replace(fitted.params, **{name: values.at[1].mul(0.8)})
    changed = dataclasses.replace(fitted, params=params)
    first, second, third = (transform(changed, t, unseen[:9]) for t in range(3))
    assert np.abs(second - placed[1][:9]).max() > 1e-3
    np.testing.assert_array_equal(first, placed[0][:9])
    np.testing.assert_array_equal(third, placed[2][:9])


def test_a_row_is_placed_by_one_neighbor_less_than_the_graph_has(fitted, unseen):
    maps = in_metric(fitted, "precomputed")
    distances = cdist(unseen[:9], DATA[1])
    order = np.argsort(distances, axis=1)
    placed = transform(maps, 1, distances)
    for rank, counts in [(NEIGHBORS - 2, True), (NEIGHBORS - 1, False)]:
        farther = distances.copy()
        near, after = (order[:, [rank + step]] for step in (0, 1))
        middle = np.take_along_axis(distances, near, 1)
        middle = (middle + np.take_along_axis(distances, after, 1)) / 2
        np.put_along_axis(farther, near, middle, 1)
        assert (np.abs(transform(maps, 1, farther) - placed).max() > 1e-6) == counts


def without_edges(points: int) -> Any:
    own = np.arange(points, dtype=np.int32)[None]
    return FuzzyGraph(*map(jax.numpy.asarray, (own, 0.0 * own, np.ones(points))))


@pytest.mark.parametrize("points", [60, RIVALS, 2 * RIVALS + 3])
def test_rivals_repel_as_strongly_as_all_points(fitted, rng, points):
    params = jax.tree.map(lambda leaf: leaf[1] if leaf.ndim else leaf, fitted.params)
    positions = np.sort(rng.normal(size=(points, 2)), axis=0)
    shape = {"data": None, "fuzzy": without_edges(points), "graph": fitted.graph}
    frame = Frame(positions=positions, params=params, name="a slice", **shape)
    expected = params.repulsion_strength * params.negative_sample_rate
    expected *= points / (2 * (points - 1))
    np.testing.assert_allclose(frame._anchors.repulsion.sum(), expected, rtol=1e-5)
    rivals = frame._anchors.rivals[:, :points].mean(axis=1)  # spread over all points
    np.testing.assert_allclose(rivals, positions.mean(axis=0), atol=0.2)


@pytest.mark.usefixtures("placed")  # by the program that serves the others
def test_one_program_serves_any_number_of_rows(fitted, unseen):
    before = programs(project)
    for count in (1, BLOCK, BLOCK + 1):
        transform(fitted, 1, unseen[:count])
    assert programs(project) == before


NONE = [np.zeros((0, 5)), [], np.array([]), np.zeros((0, 0))]
NONE += [scipy.sparse.csr_matrix((0, 5)), pandas.DataFrame({})]


@pytest.mark.parametrize("none", NONE)
def test_there_may_be_no_rows(fitted, none):
    for door in (fitted, in_metric(fitted, "manhattan"), in_metric(fitted, "l2")):
        for placed in (transform(door, 0, none), door.place(none, 0).positions):
            assert placed.shape == (0, 2)
            assert placed.dtype == fitted.maps[0].dtype
    with pytest.raises(InputError) as error:
        transform(fitted, 0, np.zeros((0, 4)))
    assert error.value.name == "new_rows"


@pytest.mark.slow
def test_slices_may_differ_in_columns_and_neighbors_and_maps_in_dimension(unseen):
    data = [DATA[0][:, :3], DATA[1], DATA[2]]
    maps = lay_out(data, n_neighbors=[5, 6, 7], n_components=3)
    for t, columns in enumerate((3, 5, 5)):
        placed = transform(maps, t, unseen[:4, :columns])
        assert placed.shape == (4, 3)
        np.testing.assert_array_equal(transform(maps, t, data[t][:9]), maps.maps[t][:9])


def test_rows_may_be_lists_or_of_other_types(fitted):
    rows = np.round(DATA[1][:3])
    expected = transform(fitted, 1, rows)
    for given in (rows.tolist(), rows.astype(int), rows.astype(object)):
        np.testing.assert_array_equal(transform(fitted, 1, given), expected)


def with_nan(x: np.ndarray) -> np.ndarray:
    return np.where(np.arange(x.size).reshape(x.shape) == 12, np.nan, x)


# The slice, the rows, and words of the error.
REFUSED: dict[str, tuple[Any, Any, str, str]] = {
    "too few columns": (1, DATA[0][:, :4], "new_rows", "4 columns, but slice 1 ('b')"),
    "no rows of another width": (1, np.zeros((0, 4)), "new_rows", "slice 1 ('b')"),
    "NaN": (2, with_nan(DATA[0]), "new_rows", "nan in row 2, column 2"),
    "one row without its axis": (0, DATA[0][0], "new_rows", "shape (5,)"),
    "ragged rows": (0, [[1, 2, 3], [3]], "new_rows", "slice 0 ('a')"),
    "words": (0, [["a"] * 5], "new_rows", "'a'"),
    "a table": (0, exact_knn(DATA[0], NEIGHBORS), "new_rows", "slice 0 ('a')"),
    "no such slice": (3, DATA[0], "slice", "is 3"),
    "a slice before the first": (-4, DATA[0], "slice", "is -4"),
    "a fraction": (1.0, DATA[0], "slice", "is 1.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_do_not_fit_are_refused(fitted, case):
    t, rows, name, words = REFUSED[case]
    with pytest.raises(InputError) as error:
        transform(fitted, t, rows)
    assert error.value.name == name
    assert words in error.value.got


def test_a_slice_given_as_neighbors_is_refused():
    maps = lay_out([DATA[0], exact_knn(DATA[1], NEIGHBORS), DATA[2]], n_epochs=2)
    with pytest.raises(InputError) as error:
        transform(maps, 1, DATA[1])
    assert error.value.name == "slice"
    assert "slice 1 ('b')" in error.value.got
    assert transform(maps, 0, DATA[0][:2]).shape == (2, 2)


def test_a_metric_in_which_nothing_can_be_searched_is_refused(fitted):
    with pytest.raises(ValueError, match=r"^`metric`.*'tssss'"):
        transform(in_metric(fitted, "tssss"), 0, DATA[0])


def test_an_estimator_is_not_a_sequence_of_maps():
    with pytest.raises(InputError) as error:
        transform(aljax.UMAP(), 0, DATA[0])
    assert error.value.name == "fitted"
    assert "`maps_`" in error.value.expected


def test_a_frame_is_made_once_for_each_slice_and_serves_both_ways(
    fitted, unseen, placed
):
    frame = fitted.frame(1)
    assert fitted.frame(-2) is frame
    assert fitted.frame(0) is not frame
    rows, expected = unseen[:9], placed[1][:9]
    np.testing.assert_array_equal(frame.transform(rows), expected)
    np.testing.assert_array_equal(fitted.transform(rows, 1), expected)
    queries = fitted.maps[1][:5]
    one, other = frame.inverse(queries), fitted.inverse_transform(queries, slice=1)
    np.testing.assert_array_equal(one.points, other.points)


def test_a_held_slice_is_conditioned_once(fitted, unseen, monkeypatch):
    maps, rows = dataclasses.replace(fitted), unseen[:9]
    maps.transform(rows)
    maps.inverse_transform(maps.maps[-1][:3])
    monkeypatch.setattr(exact, "conditioning", None)  # cannot be called
    room = importlib.import_module("aljax.transform")
    monkeypatch.setattr(room, "read_map", None)
    assert maps.transform(rows).shape == (9, 2)
    assert maps.inverse_transform(maps.maps[-1][:3]).points.shape == (3, 5)


def test_frames_stay_out_of_pickles_and_trees(fitted, unseen):
    maps, rows = dataclasses.replace(fitted), unseen[:9]
    leaves, size = jax.tree.leaves(maps), len(pickle.dumps(maps))
    placed = maps.transform(rows)
    assert len(jax.tree.leaves(maps)) == len(leaves)
    assert len(pickle.dumps(maps)) == size
    for held in (maps, maps.frame(-1)):
        again = pickle.loads(pickle.dumps(held))
        np.testing.assert_array_equal(again.transform(rows), placed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_digits_are_told_apart_as_well_as_those_laid_out(seed):
    given: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(given.data))
    train, held = order[:1597], order[1597:]
    labels = given.target
    maps = fit(
        [given.data[train]],
        key=jax.random.key(seed),
        layout=LayoutConfig(n_epochs=200),
    )
    own = knn_accuracy(maps.maps[0], labels[train], n_neighbors=10)
    placed = transform(maps, 0, given.data[held])
    nearest = np.argsort(cdist(placed, maps.maps[0]), axis=1)[:, :10]
    votes = [np.bincount(labels[train][rows]).argmax() for rows in nearest]
    accuracy = np.mean(np.array(votes) == labels[held])
    assert own > 0.95
    assert abs(accuracy - own) <= 0.02
    rows, rng = given.data[held], np.random.default_rng(0)
    assert maps.place(rows).inside.mean() > 0.95
    for name, others in unlike(rows, rng).items():
        assert maps.place(others).inside.mean() < 0.02, name


def relative_distance(
    rows: np.ndarray, row: np.ndarray, k: int, count: int = 5
) -> float:
    """Loops over the formula: k nearest rows, and how far theirs that differ are."""
    to_rows = np.linalg.norm(rows - row, axis=1)
    to_rows[to_rows == 0] = np.inf  # the row itself
    spacings = []
    for i in np.argsort(to_rows, kind="stable")[:count]:
        among = np.sort(np.linalg.norm(rows - rows[i], axis=1))[1:k]
        spacings.append(np.mean([d for d in among if d > 0][:5]))
    return np.sort(to_rows)[:count].sum() / np.sum(spacings)


def test_a_placement_has_the_positions_and_the_relative_distance(
    fitted, unseen, placed
):
    placement = fitted.place(unseen, 0)
    np.testing.assert_array_equal(placement.positions, placed[0])
    expected = [relative_distance(DATA[0], row, NEIGHBORS - 1) for row in unseen]
    np.testing.assert_allclose(placement.distance, expected, rtol=1e-4)
    nearest = np.argsort(cdist(unseen, DATA[0]), axis=1)[:, : NEIGHBORS - 1]
    np.testing.assert_array_equal(placement.neighbors, nearest)
    np.testing.assert_array_equal(
        placement.inside, placement.distance <= placement.limit
    )
    assert 0.5 < placement.inside.mean() < 1
    again = aljax.place(fitted, 0, unseen[3:5])
    np.testing.assert_array_equal(again.distance, placement.distance[3:5])
    assert again.limit == placement.limit
    k, own = NEIGHBORS - 1, min(5, NEIGHBORS - 2)  # rows that a search has of its own
    usual = [relative_distance(DATA[0], row, k, own) for row in DATA[0]]
    expected = np.quantile(usual, 0.99, method="higher")
    np.testing.assert_allclose(placement.limit, expected, rtol=1e-4)
    pairs = dataclasses.replace(fitted.frame(0), graph=GraphConfig(n_neighbors=2))
    assert 1 <= pairs._limit < 5  # of one neighbor each
    assert fitted.place(DATA[0], 0).inside.all()
    assert fitted.place([], 0).inside.shape == (0,)


def unlike(rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows that a table has not seen, and that are like none of its own."""
    return {
        "shifted by 1e6": rows + 1e6,
        "shifted": rows + 5 * rows.std(),
        "scaled": 10 * rows,
        "noise": rng.uniform(rows.min(axis=0), rows.max(axis=0), rows.shape),
        "shuffled": rng.permuted(rows, axis=1),
    }


def test_rows_unlike_the_data_lie_outside(fitted, rng):
    tumors: Any = load_breast_cancer()
    data = rng.permutation(tumors.data)
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    parts = {"positions": data[:441, :2], "fuzzy": without_edges(441)}
    frame = dataclasses.replace(
        fitted.frame(0), data=data[:441], graph=GraphConfig(), **parts
    )
    placement = frame.place(data[441:])
    assert placement.inside.mean() > 0.95
    expected = [relative_distance(data[:441], row, 14) for row in data[441:446]]
    np.testing.assert_allclose(placement.distance[:5], expected, rtol=1e-4)
    others = unlike(data[441:], rng).items()
    shares = {name: frame.place(rows).inside.mean() for name, rows in others}
    assert shares["shifted by 1e6"] == shares["shifted"] == 0
    assert shares["scaled"] < 0.02
    assert shares["noise"] < 0.2  # rows of the data are far from each other, too


def test_precomputed_distances_are_compared_with_the_radii_of_the_graph(fitted):
    distances = [cdist(one, one) for one in DATA]
    graph = GraphConfig(n_neighbors=NEIGHBORS, metric="precomputed")
    maps = dataclasses.replace(fitted, graph=graph, data=[None] * 3)
    own = distances[2]
    asked = np.vstack([own[:40], own[:4] + 20, np.full((2, len(own)), np.inf)])
    asked[3, 5:] = np.inf
    with pytest.warns(UserWarning, match="2 of 46 new rows"):
        placement = maps.place(asked, 2)
    np.testing.assert_allclose(placement.positions[:3], maps.maps[2][:3])
    assert placement.inside[:40].mean() > 0.9
    assert not placement.inside[40:].any()
    radii = np.exp(np.asarray(maps.graphs[2].radii) / 2)
    near, lengths = np.argsort(asked[9])[:5], np.sort(asked[9])[:5]
    expected = lengths.sum() / radii[near].sum()
    np.testing.assert_allclose(placement.distance[9], expected, rtol=1e-5)
    bare = [dataclasses.replace(one, radii=None) for one in maps.graphs]
    untold = dataclasses.replace(maps, graphs=bare).place(asked[:44], 2)
    assert np.isnan(untold.distance).all()
    assert not untold.inside.any()


def test_a_row_without_a_neighbor_near_enough_is_outside(fitted):
    rows = DATA[1][:5] + np.float32(0.01)
    assert fitted.place(rows, 1).inside.all()
    graph = dataclasses.replace(fitted.graph, disconnection_distance=1e-3)
    maps = dataclasses.replace(fitted, graph=graph)
    with pytest.warns(UserWarning, match="5 of 5 new rows"):
        placement = maps.place(rows, 1)
    assert (placement.distance <= placement.limit).all()
    assert not placement.inside.any()


def test_a_row_of_repeated_ones_has_a_spacing_or_none():
    spacing = _spacing(np.array([[0.0, 0, 2, 4], [0, 0, 0, 0], [1, 2, 3, 6]]))
    np.testing.assert_array_equal(spacing, [3, 0, 3])


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix])
def test_rows_beside_near_equal_ones_have_their_own_positions(kind):
    rows = make_data([36])[0].astype(float)
    data = kind(np.vstack([rows, rows[:20] + 1e-9, rows[:5]]))
    maps = fit(
        [data],
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(n_epochs=30),
    )
    placed = maps.transform(data)
    np.testing.assert_array_equal(placed[:56], maps.maps[0][:56])
    np.testing.assert_array_equal(placed[56:], maps.maps[0][:5])  # the first of them
    np.testing.assert_array_equal(maps.transform(data[:0]), np.zeros((0, 2)))


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("metric", ["cosine", "jaccard"])
def test_multiples_of_rows_have_their_own_positions(kind, metric, rng):
    rows = rng.integers(1, 4, (30, 5)) * (np.arange(5) < 1 + np.arange(30)[:, None] % 2)
    data = kind(np.vstack([rows, 3 * rows]).astype(np.float32))
    maps = fit(
        [data],
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS, metric=metric),
        layout=LayoutConfig(n_epochs=30),
    )
    dense = data if isinstance(data, np.ndarray) else data.toarray()
    first = [(dense == row).all(axis=1).argmax() for row in dense]
    np.testing.assert_array_equal(maps.transform(data), maps.maps[0][first])


@pytest.mark.parametrize("n_neighbors", [2, NEIGHBORS])
def test_a_row_that_is_there_is_named_once_among_its_neighbors(n_neighbors, rng):
    data = np.unique(rng.integers(0, 3, (60, 4)).astype(float), axis=0)
    data[:, 0] += 1  # no row is empty
    maps = fit(
        [data],
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS, metric="jaccard"),
        layout=LayoutConfig(n_epochs=0),
    )
    graph = dataclasses.replace(maps.graph, n_neighbors=n_neighbors)
    near = dataclasses.replace(maps.frame(0), graph=graph).place(data).neighbors
    np.testing.assert_array_equal(near[:, 0], np.arange(len(data)))
    assert [len({*row}) for row in near.tolist()] == [near.shape[1]] * len(data)
