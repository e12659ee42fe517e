import itertools
import math
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.sparse
from helpers import (
    NEIGHBORS,
    import_umap,
    make_data,
    make_graphs,
    refused,
    slow_memberships,
)
from scipy.stats import poisson

from aljax.config import GraphConfig
from aljax.graph.build import build_graphs
from aljax.graph.exact import exact_knn
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import read_slices
from aljax.graph.supervised import (
    intersect_classes,
    intersect_values,
    read_classes,
    read_values,
)

pytestmark = pytest.mark.usefixtures("as_users_run_it")
DATA = make_data()[0]
ROWS = len(DATA)
CLASSES = np.arange(ROWS) % 3 - 1  # -1 is unknown
RANKS = np.arange(ROWS) % 5
TEXTS = np.array(["kitten", "sitting", "mitten", "", "a longer text"])[RANKS]


def dense(graph: FuzzyGraph) -> np.ndarray:
    return graph.to_sparse().toarray().astype(float)


def slow_restored(weights: np.ndarray) -> np.ndarray:
    """Rows divided by their largest entry, then p + q - p q of the two directions."""
    points = len(weights)
    scaled = np.zeros_like(weights)
    for i in range(points):
        largest = weights[i].max()
        for j in range(points):
            scaled[i, j] = weights[i, j] / largest if largest > 0 else 0.0
    return scaled + scaled.T - scaled * scaled.T


def slow_classes(weights: np.ndarray, classes: np.ndarray, weight: float) -> np.ndarray:
    changed = weights.copy()
    for i, j in np.argwhere(weights > 0):
        if -1 in (classes[i], classes[j]):
            changed[i, j] *= math.exp(-1)
        elif classes[i] != classes[j]:
            changed[i, j] *= math.exp(-2.5 / (1 - weight)) if weight < 1 else 0.0
    return slow_restored(changed)


def slow_values(left: np.ndarray, right: np.ndarray, weight: float) -> np.ndarray:
    least_left = max(left[left > 0].min() / 2, 1e-8)
    least_right = min(max(right[right > 0].min() / 2, 1e-8), 1e-4)
    changed = np.zeros_like(left)
    for i, j in np.argwhere((left > 0) | (right > 0)):
        one, other = max(left[i, j], least_left), max(right[i, j], least_right)
        if weight < 0.5:
            changed[i, j] = one * other ** (weight / (1 - weight))
        else:
            changed[i, j] = one ** ((1 - weight) / weight) * other
    return slow_restored(changed)


def of_values(y: np.ndarray, n_neighbors: int) -> tuple[Any, np.ndarray]:
    """The directed memberships of values, as lists and as a dense matrix."""
    knn = exact_knn(y[:, None], n_neighbors)
    indices, distances = np.asarray(knn.indices).T, np.asarray(knn.distances).T
    directed = slow_memberships(indices, distances.astype(float), 1.0)
    strengths = np.take_along_axis(directed, indices, axis=1).T
    return (indices.T, strengths), directed


def check_lists(graph: FuzzyGraph) -> None:
    """Every edge once or twice in the lists, degrees the sums of the matrix."""
    lists, weights = np.asarray(graph.neighbors), np.asarray(graph.weights)
    np.testing.assert_array_equal(lists[0], np.arange(lists.shape[1]))
    assert not weights[lists == lists[0]].any()
    np.testing.assert_allclose(graph.degrees, dense(graph).sum(axis=1), rtol=1e-5)
    for row, own in zip(lists.T, range(lists.shape[1]), strict=True):
        others = row[row != own]
        assert len({*others.tolist()}) == len(others)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9, 1.0])
def test_classes_weaken_the_edges_that_leave_them(weight):
    graph = make_graphs()[0]
    found = intersect_classes(graph, CLASSES, weight)
    expected = slow_classes(dense(graph), CLASSES, weight)
    np.testing.assert_allclose(dense(found), expected, rtol=1e-5, atol=1e-8)
    check_lists(found)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_values_have_their_say_by_weight(weight):
    graph = make_graphs()[0]
    (lists, strengths), directed = of_values(DATA[:, 1], 4)
    found = intersect_values(graph, lists, strengths, weight)
    expected = slow_values(dense(graph), directed, weight)
    np.testing.assert_allclose(dense(found), expected, rtol=1e-4, atol=1e-7)
    check_lists(found)
    np.testing.assert_array_equal(found.neighbors[-1], graph.neighbors[-1])


@pytest.mark.slow  # numba compiles umap-learn for half a minute
@pytest.mark.parametrize(
    ("y", "settings"),
    [
        (CLASSES, {}),
        (CLASSES, {"target_weight": 0.8}),
        (DATA[:, 1], {"target_metric": "l2"}),
        (DATA[:, 1], {"target_metric": "l2", "target_weight": 0.2}),
        (DATA[:, :2], {"target_metric": "manhattan", "target_n_neighbors": 9}),
        (RANKS, {"target_metric": "ordinal"}),
        (RANKS, {"target_metric": "ordinal", "target_weight": 1.0}),
        (40 + RANKS, {"target_metric": "count"}),
        (TEXTS, {"target_metric": "string"}),
    ],
)
def test_supervised_graphs_are_those_of_umap_learn(y, settings):
    umap = import_umap("umap")
    model = umap.UMAP(
        n_neighbors=NEIGHBORS, n_epochs=0, random_state=0, n_jobs=1, **settings
    )
    expected = model.fit(DATA, y).graph_.toarray()
    config = GraphConfig(n_neighbors=NEIGHBORS, **settings)
    (found,) = build_graphs(read_slices([DATA]), config, y=[y])
    check_lists(found)
    weights = dense(found)
    # umap-learn's layout cuts what it would sample less than once off its `graph_`.
    weights[weights < weights.max() / 500] = 0
    # umap-learn's factorials of counts are near the right ones for large counts only.
    near = 0.02 if settings.get("target_metric") == "count" else 1e-4
    np.testing.assert_allclose(weights, expected, atol=near)


def slow_weakened(weights: np.ndarray, distances: np.ndarray) -> np.ndarray:
    return slow_restored(weights * np.exp(-2.5 / (1 - 0.5) * distances))


def slow_counts(y: np.ndarray) -> np.ndarray:
    """Sums of -log P(k), P of the Poisson distribution, over half of their sum."""

    def between(low: int, high: int) -> float:
        return -sum(float(poisson.logpmf(k, y.mean())) for k in range(low, high))

    half = between(y.min(), y.max()) / 2
    return np.array([[between(min(i, j), max(i, j)) / half for i in y] for j in y])


def test_ranks_counts_and_texts_weaken_edges_by_their_distance():
    graph = make_graphs()[0]
    apart = np.abs(RANKS[:, None] - RANKS) / 2
    near = np.array(["abcdef"] * 20 + ["abcdeg", "abcxyz", "ab"] * 7)[:ROWS]
    # Of six letters two make the unit; more edits than that count as two.
    edits = {("abcdef", "abcdeg"): 0.5, ("ab", "abcdef"): 1.0}
    pairs = [[1.0 * (a != b) for a in near] for b in near]
    for (i, a), (j, b) in itertools.product(enumerate(near), repeat=2):
        pairs[i][j] = edits.get((min(a, b), max(a, b)), pairs[i][j])
    for metric, y, distances in (
        ("ordinal", RANKS, apart),
        ("count", RANKS, slow_counts(RANKS)),
        ("string", near, np.array(pairs)),
    ):
        settings = {"n_neighbors": NEIGHBORS, "target_metric": metric}
        config = GraphConfig(**settings, target_metric_kwds={"support_size": 3})
        with pytest.warns(match=f"_kwds` does nothing here: .*'{metric}'. takes none"):
            (found,) = build_graphs(read_slices([DATA]), config, y=[y.reshape(-1, 1)])
        config = GraphConfig(**settings)
        expected = slow_weakened(dense(graph), distances)
        np.testing.assert_allclose(dense(found), expected, atol=1e-5)
        check_lists(found)
        (found,) = build_graphs(read_slices([DATA]), config, y=[y[:1].repeat(ROWS)])
        np.testing.assert_allclose(dense(found), slow_restored(dense(graph)), atol=1e-5)


def test_edges_within_a_class_gain_and_those_between_lose():
    (free,) = build_graphs(read_slices([DATA]), GraphConfig(n_neighbors=NEIGHBORS))
    classes = np.arange(ROWS) % 2
    (held,) = build_graphs(
        read_slices([DATA]), GraphConfig(n_neighbors=NEIGHBORS), y=[classes]
    )
    same = classes[:, None] == classes
    before, after = dense(free), dense(held)
    assert after[same].sum() > before[same].sum()
    assert after[~same].sum() < 0.2 * before[~same].sum()


def test_rows_may_stand_in_any_order(rng):
    order = rng.permutation(ROWS)
    config = GraphConfig(n_neighbors=NEIGHBORS, target_metric="euclidean")
    (one,) = build_graphs(read_slices([DATA]), config, y=[DATA[:, 0]])
    (other,) = build_graphs(read_slices([DATA[order]]), config, y=[DATA[order, 0]])
    np.testing.assert_allclose(dense(one)[order][:, order], dense(other), atol=1e-5)


def test_classes_may_be_text_and_unknown_in_several_ways():
    y = pandas.Series(["b", "a", None, "b", "a"], dtype=object)
    assert read_classes(y, 5, "y").tolist() == [0, 1, -1, 0, 1]
    assert read_classes(y.astype("category"), 5, "y").tolist() == [0, 1, -1, 0, 1]
    assert read_classes([[2], [-1], [2]], 3, "y").tolist() == [0, -1, 0]
    assert read_classes([1.5, np.nan, -1.0], 3, "y").tolist() == [0, -1, -1]
    mixed = ["a", "b", float("nan"), "a", -1, pandas.NA, 1, "1", True]
    assert read_classes(mixed, 9, "y").tolist() == [0, 1, -1, 0, -1, -1, 2, 3, 2]
    assert read_classes([("a", 1), ("a", 2)], 2, "y").tolist() == [0, 1]


def test_unknown_classes_alone_change_nothing_but_the_scale():
    graph = make_graphs()[0]
    found = intersect_classes(graph, np.full(ROWS, -1), 0.5)
    expected = slow_restored(dense(graph))
    np.testing.assert_allclose(dense(found), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("read", "y", "words"),
    [
        (read_classes, [1, 2], ["shape (2,)", "each of the 3"]),
        (read_classes, np.zeros((3, 2)), ["shape (3, 2)"]),
        (read_classes, ["a", ["b"], "c"], ["['b'] (list) in row 1"]),
        (read_values, [1.0, 2.0], ["shape (2,)", "each of the 3"]),
        (read_values, ["a", "b", "c"], ["numbers", "categorical"]),
        (read_values, [1.0, np.nan, 2.0], ["nan in row 1", "finite"]),
        (read_values, np.zeros((3, 1, 1)), ["shape (3, 1, 1)"]),
    ],
)
def test_targets_that_do_not_fit_are_refused(read, y, words):
    with refused("y[0]", *words):
        read(y, 3, "y[0]")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("target_n_neighbors", ROWS, ["slice 0", "is 41", "41 rows"]),
        ("target_metric", "manhatan", ["'manhatan'", "`manhattan`", "categorical"]),
    ],
)
def test_settings_of_targets_are_checked(name, value, words):
    settings = {"target_metric": "l2", name: value}
    config = GraphConfig(n_neighbors=NEIGHBORS, **settings)
    with refused(name, *words):
        build_graphs(read_slices([DATA]), config, y=[DATA[:, 0]])


@pytest.mark.parametrize(
    ("metric", "entry", "words"),
    [
        ("count", -3, ["-3", "row 1", "counts"]),
        ("count", 1.5, ["1.5"]),
        ("count", 8e9, ["spans 8e+09", "1e+08", "logarithms"]),
        ("string", 7, ["7 in row 1", "text"]),
        ("ordinal", math.inf, ["inf in row 1"]),
    ],
)
def test_discrete_targets_that_do_not_fit_are_refused(metric, entry, words):
    config = GraphConfig(n_neighbors=NEIGHBORS, target_metric=metric)
    y = ["a" if metric == "string" else 2] * ROWS
    with refused("y[0]", "slice 0", *words):
        build_graphs(read_slices([DATA]), config, y=[[y[0], entry, *y[2:]]])


def test_the_matrix_of_a_graph_is_sparse_and_symmetric():
    (found,) = build_graphs(
        read_slices([DATA]), GraphConfig(n_neighbors=NEIGHBORS), y=[CLASSES]
    )
    matrix = found.to_sparse()
    assert scipy.sparse.issparse(matrix)
    assert abs(matrix - matrix.T).max() < 1e-6
