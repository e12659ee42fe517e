"""Measures of a sequence: against slow loops, and on motions known by construction."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from helpers import make_data, make_maps
from scipy.stats import pearsonr, spearmanr

from aljax import metrics
from aljax.errors import InputError
from aljax.relations.mates import Mates

K = 4
STABILITY = ["pearson", "spearman", "stress"]


def measure_of(name: Any) -> Any:
    """A measure by its name, or the stability of a kind."""
    if name in STABILITY:
        return partial(metrics.stability, correlation=name)
    return getattr(metrics, name)


def mates(rows, others) -> Mates:
    return Mates(np.array(rows, int), np.array(others, int), np.ones(len(rows)))


RELATIONS = {
    (0, 1): mates([*range(20)], [*range(20)]),
    (0, 2): mates([0], [0]),  # not consecutive: does not count
    (1, 1): mates([*range(10, 26)], [*range(5, 21)]),
}


@pytest.fixture(scope="module")
def data():
    return [one.astype(float) for one in make_data()]


@pytest.fixture(scope="module")
def maps():
    return make_maps()


def still(points: int) -> dict:
    return {(0, 1): mates(range(points), range(points))}


def slow_moves(positions) -> np.ndarray:
    return np.array(
        [
            np.sqrt(sum((positions[t][i] - positions[t + 1][j]) ** 2))
            for t in (0, 1)
            for i, j, _ in zip(*RELATIONS[t, 1][:3], strict=True)
        ]
    )


def slow_radius(maps) -> float:
    return float(
        np.median([np.sqrt(sum((p - y.mean(axis=0)) ** 2)) for y in maps for p in y])
    )


def slow_nearest(rows, i) -> list[int]:
    others = [j for j in range(len(rows)) if j != i]
    return sorted(others, key=lambda j: sum((rows[i] - rows[j]) ** 2))[:K]


def slow_kept(data) -> np.ndarray:
    kept = []
    for t in (0, 1):
        rows, others, *_ = RELATIONS[t, 1]
        before, after = data[t][rows], data[t + 1][others]
        kept += [
            len({*slow_nearest(before, i)} & {*slow_nearest(after, i)}) / K
            for i in range(len(rows))
        ]
    return np.array(kept)


def test_displacement_of_each_pair_of_mates(maps):
    expected = slow_moves(maps) / slow_radius(maps)
    each = metrics.displacement(maps, RELATIONS, per_point=True)
    np.testing.assert_allclose(each, expected)
    np.testing.assert_allclose(metrics.displacement(maps, RELATIONS), expected.mean())


def test_displacement_is_0_where_nothing_moves_and_has_no_units(maps):
    y = maps[0]
    assert metrics.displacement([y, y.copy()], still(41)) == 0
    moved = metrics.displacement([y, y + 0.5], still(41))
    assert moved > 0
    nine = metrics.displacement([9 * y, 9 * (y + 0.5)], still(41))
    np.testing.assert_allclose(nine, moved)


@pytest.mark.parametrize("relations", [{}, {(0, 1): mates([], [])}])
def test_displacement_of_nothing_is_not_a_number(relations, maps):
    assert np.isnan(metrics.displacement(maps, relations))


def test_stability_equals_slow_loops(data, maps):
    dx, dy = slow_moves(data), slow_moves(maps)
    alpha = sum(dx * dy) / sum(dy * dy)
    expected = {
        "pearson": pearsonr(dx, dy)[0],
        "spearman": spearmanr(dx, dy)[0],
        "stress": (sum((dx - alpha * dy) ** 2) / sum(dx * dx)) ** 0.5,
    }
    for name, value in expected.items():
        measure = measure_of(name)
        np.testing.assert_allclose(measure(data, maps, RELATIONS), value, rtol=1e-9)
        each = measure(data, maps, RELATIONS, per_point=True)
        assert each.shape == dx.shape
        mean = each.mean() ** 0.5 if name == "stress" else each.mean()
        np.testing.assert_allclose(mean, value, rtol=1e-9)


def test_maps_that_move_as_the_data_are_stable(data):
    planes = [3 * one[:, :2] for one in data]
    found = [measure_of(name)(planes, planes, RELATIONS) for name in STABILITY]
    np.testing.assert_allclose(found, [1, 1, 0], atol=1e-12)


def test_stability_is_undefined_where_the_data_stand_still(maps, data):
    for name in STABILITY:
        measure = measure_of(name)
        assert np.isnan(measure([data[0], data[0]], maps[:1] * 2, still(41)))
        assert np.isnan(measure(data, maps, {}))
        assert measure(data, maps, {}, per_point=True).shape == (0,)


@pytest.mark.parametrize("angle", [0.7, 3.0])
def test_drift_is_no_motion(maps, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pair = [maps[0], maps[0] @ turn + [5, -2]]
    assert metrics.displacement(pair, still(41)) > 1
    left = metrics.displacement_without_drift(pair, still(41))
    np.testing.assert_allclose(left, 0, atol=1e-12)
    pair[1][7] += [100, 0]
    assert metrics.displacement_without_drift(pair, still(41)) > 0.1
    each = metrics.displacement_without_drift(pair, still(41), per_point=True)
    assert each.argmax() == 7


def test_coherence_equals_slow_loops(data, maps):
    expected = []
    for t in (0, 1):
        rows, others, *_ = RELATIONS[t, 1]
        before, after = maps[t][rows], maps[t + 1][others]
        left, _, right = np.linalg.svd(
            (after - after.mean(0)).T @ (before - before.mean(0))
        )
        moved = (after - after.mean(0)) @ left @ right - (before - before.mean(0))
        unit = moved / np.sqrt((moved**2).sum(axis=1))[:, None]
        for i in range(len(rows)):
            near = slow_nearest(data[t][rows], i)
            expected.append(np.mean([sum(unit[i] * unit[j]) for j in near]))
    found = metrics.coherence(data, maps, RELATIONS, n_neighbors=K, per_point=True)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    mean = metrics.coherence(data, maps, RELATIONS, n_neighbors=K)
    np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-9)


def test_groups_that_move_together_are_coherent_and_chance_is_not(rng):
    group = np.repeat([0.0, 50.0], 100)
    before = rng.normal(size=(200, 2)) + group[:, None]
    together = before + np.where(group > 0, 4, -4)[:, None]
    slices = [before, before]
    found = metrics.coherence(slices, [before, together], still(200))
    assert found > 0.99
    by_chance = before + rng.normal(size=before.shape)
    found = metrics.coherence(slices, [before, by_chance], still(200))
    assert abs(found) < 0.05


def test_false_and_missed_motion_equal_slow_loops(data, maps):
    moved, kept = slow_moves(maps), slow_kept(data)
    settings = {"n_neighbors": K, "per_point": True}
    false = metrics.false_motion(data, maps, RELATIONS, **settings)
    assert false.size > 3
    np.testing.assert_allclose(false, moved[kept >= 0.8] / slow_radius(maps))
    missed = metrics.missed_motion(data, maps, RELATIONS, **settings)
    expected = [np.mean(moved >= m) for m in moved[kept <= 0.2]]
    np.testing.assert_allclose(missed, expected)


def test_false_and_missed_motion_say_what_they_mean(rng):
    before = rng.normal(size=(200, 3))
    after = before.copy()
    after[:30] = rng.normal(size=(30, 3))  # these change their neighbors
    flat, slices = before[:, :2], [before, after]
    right, wrong = flat.copy(), flat.copy()
    right[:30] += 5
    wrong[30:] += 5
    for measure in (metrics.false_motion, metrics.missed_motion):
        good = measure(slices, [flat, right], still(200))
        bad = measure(slices, [flat, wrong], still(200))
        assert good < bad
        assert bad > 0.9
    assert metrics.missed_motion(slices, [flat, flat], still(200)) == 1
    assert metrics.false_motion(slices, [flat, flat], still(200)) == 0
    assert np.isnan(metrics.missed_motion([before] * 2, [flat, right], still(200)))


def test_few_mates_have_no_neighborhoods_to_compare(data, maps):
    few = {(0, 1): mates(range(8), range(8))}
    for measure in (metrics.coherence, metrics.false_motion, metrics.missed_motion):
        assert np.isnan(measure(data, maps, few, n_neighbors=K))


def test_maps_of_one_place_have_no_unit(maps):
    same = [np.ones_like(one) for one in maps]
    assert np.isnan(metrics.displacement(same, RELATIONS))
    assert np.isnan(metrics.displacement_without_drift(same, RELATIONS))


@pytest.mark.parametrize("name", ["displacement", "displacement_without_drift"])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_units_of_maps_do_not_matter(name, scale, maps):
    large = [one.astype(np.float32) * np.float32(scale) for one in maps]
    measure = measure_of(name)
    plain = measure(maps, RELATIONS)
    np.testing.assert_allclose(measure(large, RELATIONS), plain, rtol=1e-4)


NEIGHBORLY = ["coherence", "false_motion", "missed_motion"]


@pytest.mark.parametrize("name", NEIGHBORLY)
def test_a_share_of_the_mates_is_a_number_of_neighbors(name, data, maps):
    measure, first = measure_of(name), {(0, 1): RELATIONS[0, 1]}  # of 20 mates
    share = measure(data, maps, first, n_neighbors=0.2)
    np.testing.assert_equal(share, measure(data, maps, first, n_neighbors=4))


MAPS, DATA = make_maps(), [x.astype(float) for x in make_data()]
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"data": [DATA[0][:, :4], *DATA[1:]]}, "data", "[4, 5]"),
    ({"data": [DATA[0], DATA[1] * np.nan, DATA[2]]}, "data[1]", "nan"),
    ({"maps": [MAPS[0][:, 0], *MAPS[1:]]}, "maps[0]", "(41,)"),
    ({"maps": [MAPS[0], MAPS[1][:, [0, 1, 1]], MAPS[2]]}, "maps", "[2, 3]"),
    ({"maps": [MAPS[0], [[1.0, 2.0], [1.0]]]}, "maps[1]", "array"),
    ({"relations": {(0, 1): mates([0], [48])}}, "relations[0, 1].others", "row 48"),
    ({"relations": {(2, 1): mates([0], [0])}}, "relations[2, 1].others", "row 0"),
    ({"correlation": "kendall"}, "correlation", "stress"),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("given", "name", "words"), REFUSED)
def test_sequences_that_cannot_be_measured_are_refused(given, name, words):
    with pytest.raises(InputError) as refused:
        metrics.stability(
            **{"data": DATA, "maps": MAPS, "relations": RELATIONS} | given
        )
    assert refused.value.name == name
    assert words in f"{refused.value.got}; {refused.value.expected}"


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("wrong", [0, 0.5, np.nan, True, "a", None])
def test_numbers_of_neighbors_out_of_range_are_named(wrong):
    with pytest.raises(InputError) as refused:
        metrics.coherence(DATA, MAPS, RELATIONS, n_neighbors=wrong)
    assert refused.value.name == "n_neighbors"


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("given", [[{0: 0}], None, {(0, 1): np.zeros((3, 2), int)}])
def test_relations_as_users_say_them_are_refused(given):
    with pytest.raises(InputError) as refused:
        metrics.displacement(MAPS, given)
    assert refused.value.name == "relations"
    assert "fitted.relations" in str(refused.value)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", ["displacement", "displacement_without_drift"])
def test_sparse_maps_are_measured_as_dense_ones(maps, name):
    measure = getattr(metrics, name)
    sparse = [scipy.sparse.csr_matrix(positions) for positions in maps]
    assert measure(sparse, RELATIONS) == measure(maps, RELATIONS) > 0
