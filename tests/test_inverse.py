import dataclasses
from datetime import datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.spatial
from helpers import make_data, make_relations, programs, refused
from jax.test_util import check_grads

import aljax
from aljax.config import InverseConfig, find_ab_params
from aljax.errors import InputError
from aljax.graph.knn import capacity_for
from aljax.inverse import gradient_map, inverse_transform, reconstruct
from aljax.inverse.neighborhood import nearest_rows
from aljax.inverse.read import read_neighbors
from aljax.inverse.reconstruct import blend

POINTS, FEATURES, NEIGHBORS = 90, 4, 12
CAPACITY = capacity_for(POINTS)
SIZES = (48, 48, 48)  # of slices, which share a program
A, B = find_ab_params(1.0, 0.1)
WIDER = [("mean", 1), ("mean", 8), ("linear", 8)]


def make_map(components=2, points=POINTS, seed=0):
    """A map, and data that are a smooth function of it."""
    rng = np.random.default_rng(seed)
    embedding = rng.normal(scale=3, size=(points, components))
    wave = rng.normal(size=(components, FEATURES))
    return embedding, np.sin(embedding @ wave / 3)


def make_queries(components=2, count=7, seed=1):
    return np.random.default_rng(seed).normal(scale=2, size=(count, components))


def slow_weights(query, embedding, method):
    """The formulas of `neighborhood.py` in a loop over neighbors."""
    squared = ((embedding - query) ** 2).sum(axis=1)
    order = np.argsort(squared)[: NEIGHBORS + 1]
    near, edge = squared[order[:-1]], squared[order[-1]]
    weights = np.array(
        [
            (1 - (s - near[0]) / (edge - near[0])) ** 2
            / (1 + A * (s / near.mean()) ** B)
            for s in near
        ]
    )
    weights /= weights.sum()
    if method == "mean":
        return order[:-1], weights
    position = embedding[order[:-1]]
    middle = sum(w * p for w, p in zip(weights, position, strict=True))
    spread = sum(
        w * np.outer(p - middle, p - middle)
        for w, p in zip(weights, position, strict=True)
    )
    ridged = spread + np.trace(spread) / len(query) * np.eye(len(query))
    slope = np.linalg.inv(ridged) @ (query - middle)
    reach = np.sqrt(1 + (query - middle) @ slope)
    return order[:-1], weights * (1 + (position - middle) @ slope / reach)


def slow_distance(query, neighbors):
    """That to the nearest 3, by theirs to their own nearest 3 among 15."""
    near, count = neighbors[:15], min(3, len(neighbors) - 1)
    apart = np.linalg.norm(near - query, axis=1)[:count]
    between = np.sort(np.linalg.norm(near[:, None] - near, axis=2))[:, 1 : count + 1]
    return apart.sum() / between.sum(axis=1).mean()


@pytest.mark.parametrize(
    ("method", "components"),
    [
        *(("mean", 2), ("linear", 2), ("linear", 1)),
        *(pytest.param(*of, marks=pytest.mark.slow) for of in WIDER),
    ],
)
def test_weights_are_those_of_the_formula(method, components):
    embedding, data = make_map(components)
    queries = make_queries(components)
    found = inverse_transform(
        queries, embedding, data, method=method, n_neighbors=NEIGHBORS
    )
    for query, rows, weights, point in zip(
        queries, found.neighbors, found.weights, found.points, strict=True
    ):
        expected_rows, expected = slow_weights(query, embedding, method)
        np.testing.assert_array_equal(rows, expected_rows)
        # float32, and a floor of 1e-9 squared radii under every denominator
        np.testing.assert_allclose(weights, expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(point, expected @ data[expected_rows], atol=1e-4)
    for count in (2, 3, NEIGHBORS):
        fewer = inverse_transform(
            queries, embedding, data, method=method, n_neighbors=count
        )
        near = embedding[np.asarray(fewer.neighbors)]
        expected = [*map(slow_distance, queries, near)]
        np.testing.assert_allclose(fewer.distance, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("points", "count"), [(9, 8), (40, 5), (1003, 21), (64, 16)])
def test_the_search_is_exact(rng, points, count):
    embedding = rng.normal(size=(points, 3)).astype(np.float32)
    query = rng.normal(size=3).astype(np.float32)
    found = jax.jit(nearest_rows, static_argnums=2)(query, embedding, count)
    expected = np.argsort(((embedding - query) ** 2).sum(axis=1))[:count]
    np.testing.assert_array_equal(found, expected)


def test_the_linear_method_finds_a_plane_that_the_mean_misses():
    embedding, _ = make_map()
    plane = np.array([[1.0, 2.0, 0.0, 3.0], [0.5, -1.0, 2.0, 0.0]])
    data, queries = embedding @ plane, make_queries(count=32)
    errors = [
        np.abs(
            np.asarray(inverse_transform(queries, embedding, data, method=m).points)
            - queries @ plane
        ).mean()
        for m in ("linear", "mean")
    ]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
def test_derivatives_and_data_are_as_exact_far_from_the_origin(place):
    embedding, data = make_map(points=CAPACITY)  # JAX's arrays keep their shape
    queries, moved = make_queries(count=20), place(data.round(2) + 1e4)
    count: dict[str, Any] = {"n_neighbors": NEIGHBORS}
    found = inverse_transform(queries, embedding, moved, **count)
    near = inverse_transform(
        queries, embedding, np.asarray(moved, float) - 1e4, **count
    )
    spacing = np.spacing(np.float32(1e4)) if place is jnp.asarray else 1e-5
    np.testing.assert_allclose(found.points - 1e4, near.points, atol=spacing)
    slopes = [
        gradient_map(embedding, rows, resolution=5, **count).norm
        for rows in (moved, np.asarray(moved, float) - 1e4)
    ]
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-4)


def test_a_cell_far_out_leaves_the_rest_of_its_column_exact():
    embedding, data = make_map()
    queries, far = make_queries(count=20), data.copy()
    far[5, 2] = 1e12
    expected = inverse_transform(queries, embedding, data)
    found = inverse_transform(queries, embedding, far)
    without = (np.asarray(found.neighbors) != 5).all(axis=1)
    assert 0 < without.sum() < len(queries)
    np.testing.assert_allclose(
        found.points[without], expected.points[without], atol=1e-6
    )


@pytest.mark.parametrize("bounds", [None, "data", (1.7e9, 1.7e9 + 9e4)])
def test_times_come_back_to_the_second(rng, bounds):
    times = np.sort(rng.integers(1_700_000_000, 1_700_090_000, POINTS))
    embedding = np.column_stack([(times - 1.7e9) / 1e4, rng.normal(size=POINTS)])
    wide = np.repeat(times[:, None], FEATURES, axis=1)
    found = inverse_transform(embedding[::3], embedding, wide, bounds=bounds)
    rows, weights = np.asarray(found.neighbors), np.asarray(found.weights, float)
    weights = weights / weights.sum(axis=1, keepdims=True)
    expected = ((times - 1.7e9)[rows] * weights).sum(axis=1) + 1.7e9
    if bounds is not None:
        expected = np.clip(expected, times.min(), times.max())
    for column in np.asarray(found.points).T:
        np.testing.assert_allclose(column, expected, atol=0.5)


def test_bounds_can_be_traced():
    embedding, data = make_map()
    queries = make_queries()

    def points(high):
        return inverse_transform(queries, embedding, data, bounds=(-high, high)).points

    bound = jax.jit(points)(jnp.asarray(0.2))
    np.testing.assert_allclose(bound, points(0.2), atol=1e-6)
    assert np.abs(bound).max() == pytest.approx(0.2)
    both = jax.vmap(points)(jnp.asarray([0.2, 0.5]))
    np.testing.assert_allclose(both[1], points(0.5), atol=1e-6)
    slope = jax.grad(lambda high: jnp.sum(jnp.abs(points(high))))(0.2)
    assert slope == np.sum(np.isclose(np.abs(bound), 0.2))  # of values at a bound


@pytest.mark.parametrize("options", [{}, {"method": "mean"}])
def test_a_query_does_not_depend_on_the_others(options):
    embedding, data = make_map()
    queries = make_queries(count=70)
    together = inverse_transform(queries, embedding, data, **options).points
    alone = inverse_transform(queries[41:42], embedding, data, **options).points
    np.testing.assert_array_equal(together[41:42], alone)


def test_rows_may_stand_in_any_order(rng):
    embedding, data = make_map()
    order = rng.permutation(POINTS)
    queries = make_queries()
    one = inverse_transform(queries, embedding, data)
    other = inverse_transform(queries, embedding[order], data[order])
    np.testing.assert_array_equal(order[np.asarray(other.neighbors)], one.neighbors)
    np.testing.assert_allclose(other.points, one.points, atol=1e-5)


def test_near_counts_of_queries_share_a_program():
    embedding, data = make_map()
    inverse_transform(make_queries(count=3), embedding, data)
    before = programs(reconstruct._blockwise)
    inverse_transform(make_queries(count=29), embedding, data, a=2.0, b=0.9)
    assert programs(reconstruct._blockwise) == before


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"method": "mean"}])
def test_jit_and_eager_agree(options):
    embedding, data = (jnp.asarray(one) for one in make_map())
    queries = jnp.asarray(make_queries())

    def points(*arrays):
        return inverse_transform(*arrays, **options).points

    np.testing.assert_allclose(
        jax.jit(points)(queries, embedding, data),
        points(queries, embedding, data),
        atol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"method": "linear"},
        {"method": "mean"},
        {"metric": "cosine"},
    ],
)
def test_derivatives_are_those_of_finite_differences(options):
    with jax.enable_x64(True):
        embedding, data = (jnp.asarray(one) for one in make_map())
        queries = jnp.asarray(make_queries(count=3))

        def points(*arrays):
            return inverse_transform(*arrays, n_neighbors=8, **options).points

        tolerance = 1e-6
        arrays = (queries, embedding, data)
        check_grads(points, arrays, 1, eps=1e-6, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("method", ["linear", "mean"])
def test_of_more_points_at_one_place_than_neighbors_the_first_count(rng, method):
    data, embedding = rng.normal(size=(12, 3)), np.ones((12, 2))
    answer = inverse_transform(
        embedding[:1], embedding, data, n_neighbors=5, method=method
    )
    np.testing.assert_allclose(answer.weights, np.full((1, 5), 0.2), rtol=1e-6)
    mean = data[np.asarray(answer.neighbors[0])].mean(axis=0)
    np.testing.assert_allclose(answer.points[0], mean, rtol=1e-5)


@pytest.mark.parametrize(
    "method", [pytest.param("mean", marks=pytest.mark.slow), "linear"]
)
def test_derivatives_are_finite_where_points_coincide(method):
    embedding, data = make_map()
    embedding[:30] = embedding[0]

    def total(queries, embedding):
        found = inverse_transform(
            queries, embedding, data, method=method, n_neighbors=8
        )
        return jnp.sum(found.points**2)

    queries = jnp.asarray(embedding[:1])
    gradient = jax.jit(jax.grad(total, (0, 1)))  # one program: compiling takes time
    for leaf in gradient(queries, jnp.asarray(embedding)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize(("options", "far"), [({}, 30), ({"method": "mean"}, 1)])
def test_results_are_continuous_where_neighbors_change(options, far):
    embedding, data = make_map()
    start, end = np.array([[-6.0, 2.0], [7.0, -1.0]]) * far

    def at(share):
        found = inverse_transform(
            start + share[:, None] * (end - start),
            embedding,
            data,
            n_neighbors=8,
            **options,
        )
        return np.sort(found.neighbors, axis=1), np.asarray(found.points)

    with jax.enable_x64(True):
        line = np.linspace(0, 1, 256)  # by 32, as below: all calls share a program
        sets = np.concatenate([at(part)[0] for part in np.split(line, 8)])
        changed = np.flatnonzero((sets[1:] != sets[:-1]).any(axis=1))[:32]
        assert changed.size > 10
        before, after = line[changed], line[changed + 1]
        sets = at(before)[0]
        for _ in range(45):
            middle = (before + after) / 2
            same = (at(middle)[0] == sets).all(axis=1)
            before, after = (
                np.where(same, middle, before),
                np.where(same, after, middle),
            )
        (sets, points), (other_sets, others) = at(before), at(after)
    assert (sets != other_sets).any(axis=1).all()
    # The bound: a millionth of the data's extent, where a weight of 1/8 that came and
    # went at once would be a tenth.
    assert np.abs(points - others).max() < 1e-6 * np.ptp(data)


def test_outside_the_hull_it_says_so_and_levels_off():
    embedding, data = make_map()
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.column_stack([np.cos(angle), np.sin(angle)])
    near, far = (
        inverse_transform(radius * ring, embedding, data) for radius in (60.0, 1e30)
    )
    assert not np.asarray(near.inside).any()
    assert (np.asarray(near.distance) > 3).all()
    assert (np.asarray(far.distance) > np.asarray(near.distance)).all()
    assert np.abs(far.points).max() < 3  # of data within [-1, 1]
    middle = inverse_transform(np.zeros((1, 2)), embedding, data)
    assert np.asarray(middle.inside).all()


def test_what_is_inside_has_neighbors_on_all_sides():
    embedding, data = make_map()
    queries = np.random.default_rng(3).normal(scale=5, size=(128, 2))
    found = inverse_transform(queries, embedding, data)
    offsets = embedding[np.asarray(found.neighbors)] - queries[:, None]
    angles = np.sort(np.arctan2(offsets[..., 1], offsets[..., 0]), axis=1)
    gaps = np.diff(angles, axis=1, append=angles[:, :1] + 2 * np.pi).max(axis=1)
    near = np.asarray(found.distance) <= 3
    # But where the half-space is hardly one: it is sought in a limited number of steps.
    plain = np.abs(gaps - np.pi) > 0.1
    assert plain.sum() > 110
    expected = (gaps < np.pi) & near
    assert 20 < expected.sum() < 100
    np.testing.assert_array_equal(np.asarray(found.inside)[plain], expected[plain])


def test_a_gap_between_clusters_is_a_guess():
    embedding, data = make_map(points=2 * POINTS)
    embedding[POINTS:] += 100
    between = inverse_transform([[50.0, 50.0]], embedding, data)
    assert not np.asarray(between.inside).any()
    assert np.asarray(between.distance) > 10


def test_bounds_hold():
    embedding, data = make_map()
    queries = make_queries(count=32) * 4
    free = np.asarray(inverse_transform(queries, embedding, data).points)
    low, high = np.full(FEATURES, -0.2), 0.3
    bound = inverse_transform(queries, embedding, data, bounds=(low, high)).points
    np.testing.assert_allclose(bound, np.clip(free, low, high))
    assert free.max() > 0.3
    within = np.asarray(
        inverse_transform(queries, embedding, data, bounds="data").points
    )
    # float32 keeps the data's own extremes to rounding only
    assert (within <= data.max(axis=0) + 1e-6).all()
    assert (within >= data.min(axis=0) - 1e-6).all()


def test_cosine_averages_directions_whatever_their_lengths(rng):
    embedding, data = make_map()
    longer = data * rng.uniform(1, 9, size=(POINTS, 1))
    queries = make_queries()

    def directions(data):
        found = inverse_transform(queries, embedding, data, metric="cosine").points
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    np.testing.assert_allclose(directions(longer), directions(data), atol=1e-4)


def test_settings_may_come_in_a_config_or_by_name():
    embedding, data = make_map()
    queries = make_queries()
    config = InverseConfig(method="mean", n_neighbors=NEIGHBORS, bounds=(-0.5, 0.5))
    one = inverse_transform(queries, embedding, data, config=config)
    named = {"method": "mean", "n_neighbors": NEIGHBORS, "bounds": (-0.5, 0.5)}
    other = inverse_transform(queries, embedding, data, **named)
    np.testing.assert_array_equal(one.points, other.points)
    both = inverse_transform(queries, embedding, data, config=config, bounds=None)
    assert np.abs(both.points - one.points).max() > 0
    counts = [read_neighbors(None, points) for points in (3, 50, 300, 9000)]
    assert counts == [2, 10, 25, 60]  # a twelfth of the points, 10 to 60


def test_steps_of_refinement_do_nothing_and_say_so():
    embedding, data = make_map()
    queries = make_queries()
    plain = inverse_transform(queries, embedding, data, refine_steps=0)
    with pytest.warns(DeprecationWarning, match="`refine_steps` does nothing"):
        steps = inverse_transform(queries, embedding, data, refine_steps=5)
    np.testing.assert_array_equal(plain.points, steps.points)


def test_the_gradient_map_follows_finite_differences():
    with jax.enable_x64(True):
        embedding, data = make_map()
        found = gradient_map(embedding, data, resolution=5, n_neighbors=8)
        at = np.array([[found.axes[0, 2], found.axes[1, 3]]])
        columns = []
        for step in 1e-6 * np.eye(2):
            ends = [
                inverse_transform(at + s, embedding, data, n_neighbors=8).points
                for s in (step, -step)
            ]
            columns.append((ends[0] - ends[1])[0] / 2e-6)
        expected = np.linalg.norm(columns)
    np.testing.assert_allclose(found.norm[2, 3], expected, rtol=1e-5)


@pytest.mark.parametrize("components", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_gradient_map_has_an_axis_for_each_component(components):
    found = gradient_map(*make_map(components), resolution=4)
    assert found.norm.shape == (4,) * components
    assert np.isfinite(found.norm).all()


@pytest.fixture(scope="module")
def fitted():
    return aljax.fit(
        make_data(SIZES),
        make_relations(SIZES),
        key=jax.random.key(0),
        graph=aljax.GraphConfig(n_neighbors=6),
        layout=aljax.LayoutConfig(n_epochs=20, min_dist=[0.1, 0.3, 0.2]),
    )


def test_a_slice_is_inverted_in_its_own_frame_with_its_own_curve(fitted):
    queries = fitted.slices()[1][:5]
    found = fitted.inverse_transform(queries, slice=1)
    a, b = find_ab_params(1.0, 0.3)
    expected = inverse_transform(queries, fitted.slices()[1], fitted.data[1], a=a, b=b)
    np.testing.assert_allclose(found.points, expected.points, atol=1e-5)
    last = fitted.inverse_transform(queries)
    np.testing.assert_array_equal(
        last.points, fitted.inverse_transform(queries, slice=2).points
    )


@pytest.mark.parametrize("metric", ["l1", "correlation", max])
def test_a_metric_without_averages_is_refused_with_one_that_serves(fitted, metric):
    graph = dataclasses.replace(fitted.graph, metric=metric)
    maps, queries = dataclasses.replace(fitted, graph=graph), fitted.maps[1][:5]
    with refused("metric", "slice 1", str(getattr(metric, "__name__", metric))):
        maps.inverse_transform(queries, slice=1)
    found = maps.inverse_transform(queries, slice=1, metric="euclidean")
    expected = fitted.inverse_transform(queries, slice=1)
    np.testing.assert_array_equal(found.points, expected.points)


def test_a_model_that_a_traced_program_asks_first_answers_later_ones(fitted):
    maps = dataclasses.replace(fitted)  # without frames

    @jax.jit
    def between(queries, high):
        bounds = (-high, high)
        return maps.inverse_transform(queries, slice=0.5, bounds=bounds).points

    queries = jnp.asarray(fitted.slices()[1][:5])
    traced = between(queries, 0.2)
    found = maps.inverse_transform(queries, slice=0.5, bounds=(-0.2, 0.2))
    np.testing.assert_allclose(traced, found.points, atol=1e-6)
    rows = fitted.data[0][:3]
    np.testing.assert_array_equal(maps.transform(rows, 0), fitted.transform(rows, 0))


def test_between_slices_the_blend_is_continuous_and_exact_at_its_ends(fitted):
    queries = fitted.slices()[1][:5]
    path = [
        fitted.inverse_transform(queries, slice=t).points
        for t in (0, 1e-6, 0.5, 1 - 1e-6, 1)
    ]
    np.testing.assert_allclose(path[1], path[0], atol=1e-4)
    np.testing.assert_allclose(path[2], (path[0] + path[4]) / 2, atol=1e-5)
    np.testing.assert_allclose(path[3], path[4], atol=1e-4)
    halfway = fitted.inverse_transform(queries, slice=0.5)
    ends = [fitted.inverse_transform(queries, slice=t) for t in (0, 1)]
    first, second = [
        dataclasses.replace(end, inside=jnp.array(inside, bool))
        for end, inside in zip(ends, ([0, 0, 1, 1, 1], [0, 1, 0, 1, 1]), strict=True)
    ]
    mixed = blend(dataclasses.replace(first, columns=(*"abcde",)), second, 0.5)
    assert np.array(mixed.inside).tolist() == [0, 0, 0, 1, 1]
    assert mixed.columns == (*"abcde",)
    np.testing.assert_allclose(halfway.distance, mixed.distance, rtol=1e-6)
    ones = np.asarray(halfway.weights.sum(axis=1))
    np.testing.assert_allclose(ones, 1, rtol=1e-5)


def test_a_trajectory_is_every_slice_in_turn(fitted):
    queries = fitted.slices()[1][:5]
    path = fitted.inverse_trajectory(queries, bounds=(-0.1, 0.1))
    assert len(path) == len(SIZES)
    for t, found in enumerate(path):
        one = fitted.inverse_transform(queries, slice=t, bounds=(-0.1, 0.1))
        np.testing.assert_array_equal(found.points, one.points)


def test_no_queries_are_an_empty_result(fitted):
    for nothing in ([], np.zeros((0, 2))):
        assert fitted.inverse_transform(nothing).points.shape == (0, 5)


MAP, DATA = make_map()
ZEROS = np.zeros((1, 2))
SIGNS = np.resize([[1], [-1]], (POINTS, 1))
RAGGED: list = [[0.0, 1.0], [2.0]]
# Changed arguments, the name in the error, and words of it.
BAD = [
    ({"queries": np.zeros((1, 3))}, "queries", "3 components, but the map has 2"),
    ({"queries": [[np.nan, 0]]}, "queries", "nan"),
    ({"queries": [[0, 0], [np.inf, 0]]}, "queries", "row 1"),
    ({"queries": np.zeros(2)}, "queries", "shape (2,)"),
    ({"queries": [["a", "b"]]}, "queries", "numbers"),
    ({"queries": RAGGED}, "queries", "numbers"),
    ({"embedding": MAP[None]}, "embedding", "shape (1, 90, 2)"),
    ({"embedding": MAP * np.nan}, "embedding", "row 0"),
    ({"embedding": MAP[1:]}, "embedding", "89 rows and `data` has 90"),
    ({"embedding": MAP[:0], "data": DATA[:0]}, "embedding", "shape (0, 2)"),
    ({"embedding": MAP[:2], "data": DATA[:2]}, "n_neighbors", "2 rows"),
    ({"data": scipy.sparse.csr_matrix(DATA)}, "data", "sparse"),
    ({"data": np.full((POINTS, FEATURES), np.nan)}, "data", "NaN"),
    ({"data": np.full((POINTS, FEATURES), 1e300) * SIGNS}, "data", "too large"),
    ({"data": np.ones((POINTS, 2)) * 1j}, "data", "complex"),
    ({"bounds": (1, 0)}, "bounds", "lo is above its hi"),
    ({"bounds": (0, None)}, "bounds", "an end that is no number"),
    ({"bounds": "dat"}, "bounds", "'dat'"),
    ({"bounds": ([0, 0], 1)}, "bounds", "end of shape (2,)"),
    ({"bounds": 3}, "bounds", "is 3"),
    ({"n_neighbors": 90}, "n_neighbors", "90 rows"),
    ({"metric": "manhattan"}, "metric", "'manhattan'"),
    ({"method": "lineer"}, "method", "'lineer'"),
    ({"a": 1.0}, "b", "None"),
    ({"a": -1.0, "b": 1.0}, "a", "-1.0"),
    ({"a": 1.0, "b": np.ones(2)}, "b", "array"),
    ({"a": "1", "b": 1.0}, "a", "'1'"),
    ({"config": "mean"}, "config", "a str"),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("changed", "name", "words"), BAD)
def test_bad_input_is_refused_by_both(changed, name, words):
    given = {"queries": ZEROS, "embedding": MAP, "data": DATA} | changed
    with pytest.raises(InputError) as error:
        inverse_transform(**given)
    assert error.value.name == name
    assert words in error.value.got
    if not {"queries", "bounds"} & {*changed}:
        del given["queries"]
        with pytest.raises(InputError) as error:
            gradient_map(**given, resolution=2)
        assert error.value.name == name


@pytest.mark.usefixtures("as_users_run_it")
def test_a_setting_that_is_unknown_or_a_grid_that_is_too_fine_is_refused():
    with pytest.raises((ValueError, TypeError), match="did you mean `bounds`"):
        inverse_transform(ZEROS, MAP, DATA, bound=3)
    with pytest.raises(InputError) as error:
        gradient_map(MAP, DATA, resolution=2000)
    assert error.value.name == "resolution"


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("outside", [3, -4, 2.5, -0.5, np.nan, "last"])
def test_a_slice_outside_of_the_sequence_is_refused(fitted, outside):
    with pytest.raises(InputError) as error:
        fitted.inverse_transform(ZEROS, slice=outside)
    assert error.value.name == "slice"
    assert str(outside) in error.value.got


LABELED = {
    "text": (["2023-01", "2023-02", "2024-01"], "2023-02", "2023-2", "2023-02"),
    "years": ([1950, 1960, 1970], 1960, 1969, "1970"),
    "days": (
        [datetime(2023, 4, d) for d in (1, 2, 3)],
        "2023-04-02",
        "2023-04-22",
        "2",
    ),
    "times": (
        [datetime(2023, 4, d) for d in (1, 2, 3)],
        np.datetime64("2023-04-02"),
        datetime(2024, 1, 1),
        "2023-04-03",
    ),
    "pairs": ([("a", 1), ("a", 2), ("b", 1)], ("a", 2), ("b", 2), "('b', 1)"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("kind", LABELED)
def test_a_slice_may_be_called_by_its_label(fitted, kind):
    labels, second, other, nearest = LABELED[kind]
    maps = dataclasses.replace(fitted, slice_labels=tuple(labels))
    assert maps.index(second) == maps.index(1) == maps.index(-2) == 1
    assert maps.frame(second) is maps.frame(1)
    by_label = maps.inverse_transform(ZEROS, slice=second).points
    np.testing.assert_array_equal(
        by_label, maps.inverse_transform(ZEROS, slice=1).points
    )
    rows = fitted.data[1][:3]
    np.testing.assert_allclose(maps.transform(rows, slice=second), maps.maps[1][:3])
    for door in (
        maps.index,
        maps.frame,
        lambda t: maps.inverse_transform(ZEROS, slice=t),
    ):
        with pytest.raises(InputError) as error:
            door(other)
        assert error.value.name == "slice"
        assert nearest in error.value.remedy


@pytest.mark.usefixtures("as_users_run_it")
def test_indices_come_before_labels_and_a_label_of_two_slices_is_refused(fitted):
    maps = dataclasses.replace(fitted, slice_labels=(2, "a", "a"))
    assert maps.index(2) == 2
    assert maps.index("2") == 0
    with pytest.raises(InputError) as error:
        maps.index("a")
    assert "slices 1, 2" in error.value.got
    shares = dataclasses.replace(fitted, slice_labels=(0.1, 0.5, 1.5))
    assert [*map(shares.index, (0.1, 0.5, 1, 1.5))] == [0, 1, 1, 2]


@pytest.mark.usefixtures("as_users_run_it")
def test_a_label_that_is_a_fraction_is_no_place_between_other_slices(fitted):
    maps = dataclasses.replace(fitted, slice_labels=(0.0, 0.5, 1.0))
    assert [*map(maps.index, (0.0, 0.5, 1.0, 1))] == [0, 1, 2, 1]
    rows = fitted.data[2][:3]
    placed = maps.transform(rows, slice=np.float64(1))
    np.testing.assert_array_equal(placed, maps.transform(rows, slice=2))
    for label, t in ((0.5, 1), (1.0, 2), (np.float32(1), 2)):
        with pytest.raises(InputError) as error:
            maps.inverse_transform(ZEROS, slice=label)
        assert error.value.name == "slice"
        assert f"slice {t}" in error.value.got
    between, nearly = (
        maps.inverse_transform(ZEROS, slice=place).points
        for place in (0.5 + 1e-6, 0.25)
    )
    halfway = fitted.inverse_transform(ZEROS, slice=0.5).points
    np.testing.assert_allclose(between, halfway, atol=1e-4)
    assert not np.allclose(nearly, halfway, atol=1e-4)
    same = dataclasses.replace(fitted, slice_labels=(0.0, 1.0, 2.0))
    at_two = same.inverse_transform(ZEROS, slice=2.0).points
    np.testing.assert_array_equal(at_two, same.inverse_transform(ZEROS, slice=2).points)


@pytest.mark.usefixtures("as_users_run_it")
def test_slices_without_data_or_of_other_features_are_refused(fitted):
    first, second, third = fitted.data
    uneven = dataclasses.replace(fitted, data=[first, second[:, :3], None])
    for slice, words in ((0.5, "5 and 3 features"), (2, "slice 2")):  # noqa: A001
        with pytest.raises(InputError) as error:
            uneven.inverse_transform(ZEROS, slice=slice)
        assert error.value.name == "slice"
        assert words in error.value.got
    assert third.shape == (SIZES[2], 5)
