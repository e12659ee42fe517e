import jax
import numpy as np
import pytest
from sklearn.manifold import trustworthiness as sklearn_trustworthiness

from aljax import metrics
from aljax.metrics import (
    knn_accuracy,
    neighborhood_preservation,
    trustworthiness,
)

POINTS = 60


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(POINTS, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def embedding(data) -> np.ndarray:
    noise = np.random.default_rng(2).normal(size=(POINTS, 2))
    return (data[:, :2] + 0.3 * noise).astype(np.float32)


def nearest(points: np.ndarray, row: int) -> list[int]:
    """All other rows, nearest first."""
    distances = [float(((points[row] - p) ** 2).sum()) for p in points.astype(float)]
    return [j for j in np.argsort(distances, kind="stable").tolist() if j != row]


def slow_recall(data, embedding, k, rows):
    shared = [len({*nearest(data, i)[:k]} & {*nearest(embedding, i)[:k]}) for i in rows]
    return sum(shared) / (k * len(rows))


def slow_accuracy(embedding, labels, k, rows):
    right = 0
    for i in rows:
        votes = [labels[j] for j in nearest(embedding, i)[:k]]
        right += max(sorted({*labels}), key=votes.count) == labels[i]
    return right / len(rows)


@pytest.mark.parametrize(
    ("k", "double", "rtol"), [(1, False, 1e-5), (15, False, 1e-5), (15, True, 1e-6)]
)
def test_trustworthiness_equals_sklearn(data, embedding, k, double, rtol):
    theirs = sklearn_trustworthiness(
        data.astype(float), embedding.astype(float), n_neighbors=k
    )
    with jax.enable_x64(double):
        ours = trustworthiness(data, embedding, n_neighbors=k)
    np.testing.assert_allclose(ours, theirs, rtol=rtol)


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_trustworthiness_does_not_depend_on_where_the_data_lie(data, embedding, offset):
    moved = trustworthiness(data.astype(float) + offset, embedding)
    np.testing.assert_allclose(moved, trustworthiness(data, embedding), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("moved", [slice(30, None), slice(7, 8)])
def test_measures_do_not_depend_on_how_far_apart_groups_lie(
    data, embedding, moved, dtype
):
    """Groups, or one row, so far off that squares drown what is near."""
    far, far_in_map = data.astype(dtype), embedding.astype(dtype)
    far[moved] += dtype(1e4 if moved.stop is None else 1e6)
    far_in_map[moved] += dtype(1e4)
    for x, y in ((far, far_in_map), (far, embedding), (data, far[:, :2])):
        x, y = x.astype(float), y.astype(float)
        theirs = sklearn_trustworthiness(x, y, n_neighbors=15)
        ours = trustworthiness(x.astype(dtype), y.astype(dtype))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        expected = slow_recall(x, y, 15, range(POINTS))
        found = neighborhood_preservation(x.astype(dtype), y.astype(dtype))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_few_rows_whose_neighbors_drown_cost_no_double_precision(monkeypatch, rng):
    """Repeated rows, say; each result keeps the bits it has in single precision."""
    x = rng.normal(size=(300, 3))
    x[1] = x[0]
    monkeypatch.setattr(jax, "enable_x64", None)
    trustworthiness(x, x, n_neighbors=1)
    twice = np.repeat(x[:150], 2, axis=0)
    with pytest.raises(TypeError, match="not callable"):
        trustworthiness(twice, twice, n_neighbors=1)


ROWS = [3, 41, 7, 58, 50]


@pytest.mark.parametrize(("rows", "k"), [(None, 15), (ROWS, 5)])
def test_accuracy_equals_slow_loops(embedding, rows, k):
    chosen = range(POINTS) if rows is None else rows
    given = None if rows is None else np.array(rows)
    labels = [*np.array(["b", "a", "c"])[np.arange(POINTS) % 3]]
    np.testing.assert_allclose(
        knn_accuracy(embedding, labels, n_neighbors=k, rows=given),
        slow_accuracy(embedding, labels, k, chosen),
        rtol=1e-6,
    )


@pytest.mark.parametrize(("own", "accuracy"), [("a", 1.0), ("b", 0.0)])
def test_of_labels_with_as_many_votes_the_first_wins(own, accuracy):
    line = np.arange(8.0)[:, None]
    labels = ["c", "c", "b", own, "a", "c", "c", "c"]
    middle = np.array([3])
    assert knn_accuracy(line, labels, n_neighbors=2, rows=middle) == accuracy


def test_points_do_not_vote_for_themselves():
    pairs = np.repeat(np.arange(10.0), 2)[:, None] + np.tile([0, 0.1], 10)[:, None]
    assert knn_accuracy(pairs, np.tile([0, 1], 10), n_neighbors=1) == 0


def test_a_map_that_keeps_everything_is_perfect(embedding):
    turn, _ = np.linalg.qr(np.array([[1.0, 2.0], [3.0, -1.0]]))
    turned = (embedding @ turn * 7 + 100).astype(np.float32)
    assert trustworthiness(embedding, turned) == 1
    assert neighborhood_preservation(embedding, turned) == 1
    assert knn_accuracy(embedding, embedding[:, 0] > 0, n_neighbors=15) > 0.85


def test_a_random_map_is_worse(data, embedding, rng):
    chance = rng.normal(size=embedding.shape).astype(np.float32)
    labels = (data[:, 0] > 0).astype(int)
    assert trustworthiness(data, chance) < trustworthiness(data, embedding) - 0.1
    assert (
        neighborhood_preservation(data, chance)
        < neighborhood_preservation(data, embedding) - 0.1
    )
    guessed, told = (
        knn_accuracy(positions, labels, n_neighbors=15)
        for positions in (chance, embedding)
    )
    assert guessed < told - 0.1
    assert abs(trustworthiness(data, chance) - 0.5) < 0.1


def test_measures_do_not_depend_on_the_order_of_the_rows(data, embedding, rng):
    order = rng.permutation(POINTS)
    np.testing.assert_allclose(
        trustworthiness(data[order], embedding[order]),
        trustworthiness(data, embedding),
        rtol=1e-6,
    )


RENAMED = {
    "knn_recall": "neighborhood_preservation",
    "shepard_kendall": "shepard(..., correlation='kendall')",
    "stability_stress": "stability(..., correlation='stress')",
}


@pytest.mark.parametrize("name", RENAMED)
def test_names_of_the_first_version_go_on_with_a_warning(name, data, embedding):
    with pytest.warns(DeprecationWarning, match="is now") as warned:
        measure = getattr(metrics, name)
    assert f"is now `aljax.metrics.{RENAMED[name]}`" in str(warned[0].message)
    assert warned[0].filename == __file__
    if name == "knn_recall":
        now = neighborhood_preservation(data, embedding)
        assert measure(data, embedding) == now
    if name == "shepard_kendall":
        now = metrics.shepard(data, embedding, correlation="kendall")
        assert measure(data, embedding) == now
    with pytest.raises(AttributeError, match="no attribute 'stability_kendall'"):
        _ = metrics.stability_kendall
