"""Measures of one map: against slow loops, and against zadu."""

from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.sparse
from scipy.stats import kendalltau, pearsonr, spearmanr

from aljax import metrics
from aljax.errors import InputError

POINTS, K = 60, 5
NEIGHBORHOOD = [
    "trustworthiness",
    "continuity",
    "neighborhood_preservation",
    "neighborhood_jaccard",
]
CORRELATIONS = {"pearson": pearsonr, "spearman": spearmanr, "kendall": kendalltau}
DISTANCE = [*CORRELATIONS, "normalized_stress"]


def measure_of(name: Any) -> Any:
    """A measure by its name, or the Shepard correlation of a kind."""
    if name in CORRELATIONS:
        return partial(metrics.shepard, correlation=name)
    return getattr(metrics, name)


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(POINTS, 6))


@pytest.fixture(scope="module")
def embedding(data) -> np.ndarray:
    return data[:, :2] + 0.3 * np.random.default_rng(2).normal(size=(POINTS, 2))


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(3).integers(3, size=POINTS)


def distance(one, other) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5


def nearest(points, row: int) -> list[int]:
    others = [j for j in range(len(points)) if j != row]
    return sorted(others, key=lambda j: distance(points[row], points[j]))


def slow(name, data, embedding, i, k):
    """One row's value, from the formula."""
    n, near, seen = len(data), nearest(data, i), nearest(embedding, i)
    shared = len({*near[:k]} & {*seen[:k]})
    if name == "neighborhood_preservation":
        return shared / k
    if name == "neighborhood_jaccard":
        return shared / len({*near[:k]} | {*seen[:k]})
    if name == "continuity":
        near, seen = seen, near
    beyond = sum(max(0, near.index(j) + 1 - k) for j in seen[:k])
    return 1 - 2 * beyond / (k * (2 * n - 3 * k - 1))


def slow_distances(points, pairs):
    return np.array([distance(points[i], points[j]) for i, j in pairs])


def slow_of_distances(name, d, e):
    if name == "normalized_stress":
        alpha = sum(d * e) / sum(e * e)
        return (sum((d - alpha * e) ** 2) / sum(d * d)) ** 0.5
    found: Any = CORRELATIONS[name](d, e)
    return found.statistic


@pytest.mark.parametrize("name", NEIGHBORHOOD)
@pytest.mark.parametrize("rows", [None, np.array([7, 3, 50])])
def test_neighborhoods_equal_slow_loops_row_by_row(name, rows, data, embedding):
    measure = measure_of(name)
    chosen = range(POINTS) if rows is None else rows
    expected = [slow(name, data, embedding, i, K) for i in chosen]
    found = measure(data, embedding, n_neighbors=K, rows=rows, per_point=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    mean = measure(data, embedding, n_neighbors=K, rows=rows)
    np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-6)


@pytest.mark.parametrize("name", NEIGHBORHOOD)
def test_of_neighbors_that_are_equally_far_the_earlier_row_is_nearer(name):
    rng = np.random.default_rng(7)
    data = np.round(rng.normal(size=(POINTS, 6)))
    embedding = np.round(3 * rng.normal(size=(POINTS, 2)))
    found = measure_of(name)(data, embedding, n_neighbors=K, per_point=True)
    expected = [slow(name, data, embedding, i, K) for i in range(POINTS)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", DISTANCE)
def test_distances_equal_slow_loops(name, data, embedding):
    measure = measure_of(name)
    pairs = [*combinations(range(POINTS), 2)]
    d, e = slow_distances(data, pairs), slow_distances(embedding, pairs)
    expected = slow_of_distances(name, d, e)
    np.testing.assert_allclose(measure(data, embedding), expected, rtol=1e-9)
    each = measure(data, embedding, per_point=True)
    for i in (0, 31):
        pairs = [(i, j) for j in range(POINTS) if j != i]
        d, e = slow_distances(data, pairs), slow_distances(embedding, pairs)
        np.testing.assert_allclose(each[i], slow_of_distances(name, d, e), rtol=1e-9)
    assert each.shape == (POINTS,)


@pytest.mark.parametrize("name", DISTANCE)
def test_a_sample_of_rows_stands_for_all(name, rng):
    data = rng.normal(size=(600, 4))
    embedding = data[:, :2]
    measure = measure_of(name)
    whole = measure(data, embedding, sample=600)
    few = [measure(data, embedding, sample=300, seed=seed) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    np.testing.assert_allclose(few, whole, atol=0.05)
    each = measure(data, embedding, sample=20, per_point=True)
    assert each.shape == (600,)
    assert np.isfinite(each).all()


def test_labels_equal_slow_loops(embedding, labels):
    expected = [
        sum(labels[j] == labels[i] for j in nearest(embedding, i)[:K]) / K
        for i in range(POINTS)
    ]
    found = metrics.neighborhood_hit(embedding, labels, n_neighbors=K, per_point=True)
    np.testing.assert_allclose(found, expected)
    mean = metrics.neighborhood_hit(embedding, labels, n_neighbors=K)
    np.testing.assert_allclose(mean, np.mean(expected))
    right = metrics.knn_accuracy(embedding, labels, n_neighbors=K, per_point=True)
    assert {*np.unique(right)} == {False, True}
    assert right.mean() == metrics.knn_accuracy(embedding, labels, n_neighbors=K)


def test_zadu_finds_the_same(data, embedding, labels):
    pytest.importorskip("zadu", reason="pip install zadu")
    from zadu.measures import (
        neighborhood_hit,
        pearson_r,
        scale_normalized_stress,
        spearman_rho,
        trustworthiness_continuity,
    )

    pair = data, embedding
    found: list[Any] = [
        trustworthiness_continuity.measure(*pair, k=K),
        neighborhood_hit.measure(embedding, labels, k=K),
        pearson_r.measure(*pair),
        spearman_rho.measure(*pair),
        scale_normalized_stress.measure(*pair),
    ]
    theirs = {name: value for one in found for name, value in one.items()}
    ours = {
        "trustworthiness": metrics.trustworthiness(*pair, n_neighbors=K),
        "continuity": metrics.continuity(*pair, n_neighbors=K),
        "neighborhood_hit": metrics.neighborhood_hit(embedding, labels, n_neighbors=K),
        "pearson_r": metrics.shepard(*pair),
        "spearman_rho": metrics.shepard(*pair, correlation="spearman"),
        "scale_normalized_stress": metrics.normalized_stress(*pair),
    }
    assert {*ours} == {*theirs}
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-6, err_msg=name)


def test_a_share_of_the_points_is_a_number_of_neighbors(data, embedding):
    for name in NEIGHBORHOOD:
        measure = measure_of(name)
        share = measure(data, embedding, n_neighbors=0.08)  # 4.8 of 60
        assert share == measure(data, embedding, n_neighbors=K)


def measures_of_rows(data, embedding, labels):
    """Each measure that has `rows`, as a function of them."""
    measures: list[Any] = [
        partial(measure_of(name), data, embedding) for name in NEIGHBORHOOD
    ]
    for name in ("neighborhood_hit", "knn_accuracy"):
        measures.append(partial(measure_of(name), embedding, labels))
    return [partial(measure, n_neighbors=K) for measure in measures]


def test_rows_may_be_a_mask(data, embedding, labels):
    mask = np.arange(POINTS) % 20 == 3  # as many as in the other test of rows
    for measure in measures_of_rows(data, embedding, labels):
        each = measure(rows=mask, per_point=True)
        np.testing.assert_array_equal(each, measure(per_point=True)[mask])


@pytest.mark.parametrize("name", NEIGHBORHOOD + DISTANCE)
def test_the_best_map_is_the_data_and_chance_is_worse(name, data, rng):
    measure = measure_of(name)
    best = 0 if name == "normalized_stress" else 1
    settings = {"n_neighbors": K} if name in NEIGHBORHOOD else {}
    # Turned and doubled: 1e-6, as float32 distances of neighbors may then tie.
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    found = measure(data, 2 * data @ turn, **settings)
    np.testing.assert_allclose(found, best, atol=1e-6)
    chance = measure(data, rng.normal(size=(POINTS, 2)), **settings)
    assert abs(chance - best) > 0.3


def test_distances_that_do_not_vary_have_no_correlation():
    corners, line = np.eye(3), np.arange(3.0)[:, None]
    for name in DISTANCE[:3]:
        assert np.isnan(measure_of(name)(corners, line))
    assert metrics.normalized_stress(line, np.zeros((3, 2))) == 1


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", NEIGHBORHOOD)
def test_errors_name_the_argument_that_is_wrong(name, data, embedding):
    wrong = embedding.copy()
    wrong[3] = np.nan
    for positions, got in ((wrong, "nan in row 3"), (embedding[:50], "50 rows")):
        with pytest.raises(InputError) as error:
            measure_of(name)(data, positions, n_neighbors=K)
        assert error.value.name == "embedding"
        assert got in error.value.got


def test_reconstruction_error(data):
    read = data + np.arange(6)
    np.testing.assert_allclose(metrics.reconstruction_error(data, read), 55 / 6)
    each = metrics.reconstruction_error(data, read, per_point=True)
    np.testing.assert_allclose(each, np.full(POINTS, 55 / 6))
    mean = np.broadcast_to(data.mean(axis=0), data.shape)
    np.testing.assert_allclose(
        metrics.reconstruction_error(data, mean), data.var(axis=0).mean()
    )


def test_intervals_hold_the_mean_as_often_as_they_say(rng):
    held, values = 0, np.zeros(1)
    for seed in range(200):
        values = rng.exponential(size=60)
        low, high = metrics.bootstrap_interval(values, level=0.9, draws=300, seed=seed)
        held += low <= 1 <= high
    # .9 of 200 less three standard errors; the exponential's skew costs a few more.
    assert 155 <= held <= 193
    assert metrics.bootstrap_interval(np.array([2.0, np.nan, 2.0])) == (2, 2)
    assert np.isnan(metrics.bootstrap_interval(np.array([np.nan]))).all()


@pytest.mark.parametrize("name", [*NEIGHBORHOOD, *DISTANCE])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_units_do_not_matter(name, scale, data, embedding):
    measure = measure_of(name)
    options = {"n_neighbors": K} if name in NEIGHBORHOOD else {}
    plain = measure(data, embedding, **options)
    scaled = measure(data * scale, embedding * scale, **options)
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)


SOME, ODD = np.eye(60)[:, :6], np.eye(60)[:, :6]
ODD[3, 1] = np.nan
LABELS = np.arange(60) % 3
HUGE: Any = [1.0, 1e300]
WORSE: Any = [*LABELS[:-1], [1]]
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    *(
        ("trustworthiness", {"data": SOME, "embedding": SOME, "n_neighbors": k}, *words)
        for k, *words in [
            (0, "n_neighbors", "0 for 60 points"),
            (-1, "n_neighbors", "below 30"),
            (30, "n_neighbors", "below 30"),
            (0.0, "n_neighbors", "share"),
            (0.5, "n_neighbors", "0.5 for 60 points"),
            (1.5, "n_neighbors", "1.5"),
            (np.nan, "n_neighbors", "nan"),
            (True, "n_neighbors", "True"),
            ("a", "n_neighbors", "a for 60 points"),
            (None, "n_neighbors", "None"),
        ]
    ),
    *(
        ("continuity", {"data": SOME, "embedding": SOME, "rows": rows}, "rows", words)
        for rows, words in [
            (np.ones(59, bool), "(59,) and dtype bool"),
            (np.zeros(60, bool), "(0,)"),
            ([], "(0,)"),
            ([3, 60], "from 3 to 60"),
            ([-1, 3], "from -1 to 3"),
            ([1.5], "float64"),
            ([[1, 2]], "(1, 2)"),
            (5, "()"),
            ("a", "<U1"),
            ([[1], [1, 2]], "object"),
        ]
    ),
    *(
        ("shepard", {"data": data, "embedding": SOME}, "data", words)
        for data, words in [
            (ODD, "row 3"),
            (np.where(np.isnan(ODD), np.inf, ODD), "row 3"),
            (np.where(np.isnan(ODD), 1e300, ODD), "below 1e+36"),
            (SOME.astype(str), "str_"),
            (np.array([[1, None]] * 60), "nan in row 0, column 1"),
            (SOME * 1j, "complex128"),
            (SOME[:, 0], "(60,)"),
            (SOME[:0], "(0, 6)"),
            ([[1.0], [1.0, 2.0]], "array"),
        ]
    ),
    ("shepard", {"data": SOME, "embedding": ODD}, "embedding", "row 3"),
    ("shepard", {"data": SOME, "embedding": SOME[1:]}, "embedding", "59 rows"),
    ("shepard", {"data": SOME, "embedding": SOME, "sample": 2}, "sample", "2"),
    (
        "shepard",
        {"data": SOME, "embedding": SOME, "correlation": "kendal"},
        "correlation",
        "kendall",
    ),
    ("trustworthiness", {"data": SOME, "embedding": SOME[1:]}, "embedding", "59 rows"),
    ("neighborhood_hit", {"embedding": SOME, "labels": LABELS[1:]}, "labels", "(59,)"),
    (
        "knn_accuracy",
        {"embedding": SOME, "labels": LABELS[:, None]},
        "labels",
        "(60, 1)",
    ),
    ("knn_accuracy", {"embedding": SOME, "labels": WORSE}, "labels", "60 points"),
    (
        "knn_accuracy",
        {"embedding": SOME, "labels": ["a"] * 59 + [None]},
        "labels",
        "no label in row 59 ",
    ),
    (
        "neighborhood_hit",
        {"embedding": SOME, "labels": np.where(LABELS, np.nan, 1)},
        "labels",
        "no label in row 1 (40 rows have none)",
    ),
    (
        "reconstruction_error",
        {"data": SOME, "reconstructed": SOME[:, 1:]},
        "reconstructed",
        "(60, 5)",
    ),
    ("bootstrap_interval", {"values": LABELS, "level": 0.0}, "level", "0.0"),
    ("bootstrap_interval", {"values": LABELS, "level": 1.0}, "level", "1.0"),
    ("bootstrap_interval", {"values": LABELS, "draws": 0}, "draws", "0"),
    ("bootstrap_interval", {"values": HUGE}, "values", "1e+300"),
    ("bootstrap_interval", {"values": ["a"]}, "values", "a list of numbers"),
    ("center_drift", {"maps": None}, "maps", "is None"),
    (
        "center_drift",
        {"maps": [np.ones((3, 2)), np.ones((3, 1))]},
        "maps",
        "[1, 2] columns",
    ),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("measure", "given", "name", "words"), REFUSED)
def test_input_that_cannot_be_measured_is_refused(measure, given, name, words):
    with pytest.raises(InputError) as refused:
        getattr(metrics, measure)(**given)
    assert refused.value.name == name
    assert words in f"{refused.value.got}; {refused.value.expected}"


@pytest.mark.usefixtures("as_users_run_it")
def test_measures_take_the_data_and_numbers_that_a_fit_takes(data):
    places = data[:, :2]
    expected = metrics.trustworthiness(data, places, n_neighbors=0.1)
    nullable = pandas.DataFrame(data).astype("Float64")
    same: list[Any] = [nullable, data.astype(object), scipy.sparse.csr_array(data)]
    shares: list[Any] = [0.1, np.float32(0.1), np.float64(0.1)]
    for given in same:
        for k in shares:
            assert metrics.trustworthiness(given, places, n_neighbors=k) == expected


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("k", [0.1, 0.4, 1])
def test_neighborhoods_need_three_points(data, k):
    for points in (1, 2):
        with pytest.raises(InputError) as refused:
            metrics.trustworthiness(data[:points], data[:points], n_neighbors=k)
        assert refused.value.name == "n_neighbors"
        assert refused.value.got == f"is {k} for {points} points"
        assert "at least 3 points" in refused.value.remedy
    with pytest.raises(InputError) as refused:
        metrics.trustworthiness(data[:22], data[:22])  # 15 by default
    assert refused.value.remedy == "Pass a share, as in `n_neighbors=0.2`."
    assert metrics.trustworthiness(data[:3], data[:3], n_neighbors=0.1) == 1


def test_neighborhoods_are_those_of_rows_beside_a_cell_far_out(data, embedding):
    measured = np.arange(len(data)) != 7  # which is as far from all
    values = []
    for cell in (50.0, 1e20):
        data = data.copy()
        data[7, 1] = cell
        values.append(metrics.trustworthiness(data, embedding, per_point=True))
    np.testing.assert_allclose(values[1][measured], values[0][measured], rtol=1e-6)
