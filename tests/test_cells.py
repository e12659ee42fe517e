"""The search by cells, in small: leaves are made smaller, so that there are several."""

import gc
import importlib
import subprocess
import sys
import weakref
from typing import Any

import jax
import numpy as np
import pytest
from helpers import programs
from scipy.spatial.distance import cdist
from test_determinism import CPUS, ENVIRONMENT

import aljax
from aljax.graph import cells as module
from aljax.graph.approximate import _search_leaf, approximate_knn
from aljax.graph.cells import grow, make_cells, principal_axes, project
from aljax.graph.exact import HeldRows
from aljax.graph.queries import (
    hold_cells,
    in_cells,
    nearest_in_cells,
    nearest_of_many,
)

K = 10
NEAR = K - 1  # neighbors of new rows, as a map with K of each row looks them up
LEAF = 512
SEARCH = importlib.import_module("aljax.graph.approximate")
QUERIES = importlib.import_module("aljax.graph.queries")


@pytest.fixture(autouse=True)
def small_leaves(monkeypatch):
    monkeypatch.setattr(module, "LEAF", LEAF)


def clouds(points: int, features: int = 20, seed: int = 0) -> np.ndarray:
    """Clusters of rows that vary along a few axes, and a little along all."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(scale=2, size=(8, features))
    turn = rng.normal(size=(6, features))
    rows = centers[rng.integers(8, size=points)]
    rows = rows + rng.normal(size=(points, 6)) @ turn
    return rows + 0.1 * rng.normal(size=rows.shape)


def true_neighbors(
    queries: np.ndarray, data: np.ndarray, count: int, metric: Any = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """The rows nearest to each query and their distances, by comparison with all."""
    lengths = np.nan_to_num(cdist(queries, data, metric), nan=1.0)  # of rows of zeros
    rows = np.argsort(lengths, axis=1)[:, :count]
    return rows, np.take_along_axis(lengths, rows, axis=1)


def recall(knn: Any, data: np.ndarray, metric: str = "euclidean") -> float:
    """The share of true neighbors, those at an equal distance counted as such."""
    near = np.asarray(knn.distances)
    radius = true_neighbors(data, data, len(near), metric)[1][:, -1]
    return float((near[1:] <= radius * (1 + 1e-4) + 1e-6).mean())


def check_table(knn: Any, data: np.ndarray) -> None:
    """Each row comes first, no neighbor twice, distances are true and rise."""
    indices, distances = np.asarray(knn.indices), np.asarray(knn.distances)
    np.testing.assert_array_equal(indices[0], np.arange(len(data)))
    assert (distances[0] == 0).all()
    assert (np.diff(distances, axis=0) >= 0).all()
    ranked = np.sort(indices, axis=0)
    assert (ranked[1:] > ranked[:-1]).all()
    rows = np.asarray(data, dtype=float)
    true = np.linalg.norm(rows[indices] - rows, axis=2)
    np.testing.assert_allclose(distances, true, rtol=1e-4, atol=1e-5 * true.max())


def test_most_neighbors_are_found_at_their_distances():
    data = clouds(1500)
    knn = approximate_knn(data, K)
    check_table(knn, data)
    assert recall(knn, data) > 0.99


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
def test_angles_are_searched_as_well(metric):
    data = clouds(1500, 19)  # searched with one column more
    data *= 10.0 ** np.linspace(-8, 8, len(data))[:, None]
    data[[3, 7]] = 0.0
    knn = approximate_knn(data, K, metric=metric)
    assert recall(knn, data, metric) > 0.98
    assert np.asarray(knn.indices)[:2, 3].tolist() == [3, 7]


def test_wide_rows_are_compared_along_the_axes_of_their_variance():
    data = clouds(1500, 300)
    axes = principal_axes(data - data.mean(axis=0), 0)
    assert axes is not None
    assert axes.shape == (300, 32)
    np.testing.assert_allclose(axes.T @ axes, np.eye(32), atol=1e-6)
    knn = approximate_knn(data, K)
    check_table(knn, data)
    assert recall(knn, data) > 0.98


def test_rows_of_a_part_of_a_leaf_are_put_along_the_axes_as_well():
    data = clouds(700, 300).astype(np.float32)  # padded to a leaf and a half
    axes = principal_axes(data, 0)
    assert axes is not None
    padded = np.pad(data, ((0, 68), (0, 0)))
    along = project(jax.device_put(padded), jax.device_put(axes), len(data))
    np.testing.assert_allclose(along, data @ axes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
def test_axes_are_those_of_the_variance_where_rows_share_a_direction(rng, metric):
    """Such as logarithms of counts, some columns of which are always large."""
    typical = 10 * rng.lognormal(sigma=1.5, size=299)
    varied = rng.normal(scale=0.1, size=(1500, 12)) @ rng.normal(size=(12, 299))
    data = np.log1p(rng.poisson(typical * np.exp(varied)))
    assert recall(approximate_knn(data, K, metric=metric), data, metric) > 0.95


@pytest.mark.slow
def test_rows_without_axes_are_compared_along_all(rng):
    data = rng.normal(size=(600, 600))
    assert principal_axes(data, 0) is None
    assert recall(approximate_knn(data, K), data) > 0.9


def test_a_seed_gives_its_bits_again():
    data = clouds(1500, 300)
    tables = [approximate_knn(data, K, seed=seed) for seed in (1, 1)]
    jax.tree.map(np.testing.assert_array_equal, *tables)


def test_every_row_has_one_place_and_every_block_few_rows():
    data = clouds(1300).astype(np.float32)
    cells = make_cells(data, len(data))
    members = np.asarray(cells.placed.members)
    assert sorted(members[members >= 0]) == [*range(len(data))]
    counts, starts = np.asarray(cells.blocks.counts), np.asarray(cells.blocks.starts)
    assert counts.sum() == len(data)
    assert counts.max() <= module.BLOCK
    centers = np.asarray(cells.blocks.centers)
    for start, count, center in zip(starts, counts, centers, strict=True):
        block = data[members[start : start + count]]
        if count:
            np.testing.assert_allclose(center, block.mean(axis=0), rtol=1e-4, atol=1e-5)
    assert np.isinf(np.asarray(cells.placed.half_norms)[members < 0]).all()


def test_the_nearest_blocks_hold_the_neighbors_where_cells_are_crowded(rng):
    """Cells around rows far out leave many of the others in a few."""
    data = np.pad(np.exp(2.5 * rng.normal(size=(1300, 3))), ((0, 0), (0, 17)))
    cells = make_cells((data / data.max()).astype(np.float32), len(data))
    places = np.argsort(cells.placed.members)[-1300:]
    starts = np.asarray(cells.blocks.starts)[: cells.leaves[-1]]
    block = np.searchsorted(starts, places, side="right") - 1
    centers = np.stack([data[block == b].mean(axis=0) for b in range(len(starts))])
    probed = np.argsort(cdist(data, centers), axis=1)[:, :4]
    near = block[true_neighbors(data, data, K)[0]]
    found = (near[:, :, None] == probed[:, None]).any(axis=2).mean()
    assert found > 0.7


def test_rows_of_all_sizes_need_no_double_precision(monkeypatch, rng):
    data = np.exp(2.5 * rng.normal(size=(1500, 20)))
    monkeypatch.setattr(jax, "enable_x64", None)
    knn = approximate_knn(data, K)
    check_table(knn, data)
    assert recall(knn, data) > 0.9
    rows, _ = nearest_in_cells(data[:40], in_cells(data, "euclidean"), NEAR)
    assert rows[:, 0].tolist() == [*range(40)]


def equal(_):
    return np.full((1500, 4), 0.1)


def few_distinct(rng):
    return rng.normal(size=(5, 4))[rng.integers(5, size=1500)]


def two_far_clouds(rng):
    return rng.normal(size=(1500, 4)) + 1e6 * (np.arange(1500) % 2)[:, None]


def of_all_norms(rng):
    return rng.normal(size=(1500, 4)) * rng.lognormal(sigma=3, size=(1500, 1))


def one_far_away(rng):
    return rng.normal(size=(1500, 4)) + 1e9 * (np.arange(1500) == 17)[:, None]


def on_a_line(_):
    return np.arange(1500.0)[:, None] ** 3 * np.ones(4)


@pytest.mark.parametrize(
    "make",
    [equal, few_distinct, two_far_clouds, of_all_norms, one_far_away, on_a_line],
)
def test_data_of_any_kind_are_searched(rng, make):
    data = np.pad(make(rng), ((0, 0), (0, 16)))  # the columns of other tests
    knn = approximate_knn(data, K)
    check_table(knn, data)
    assert recall(knn, data) > 0.95


@pytest.mark.parametrize("n_neighbors", [2, pytest.param(599, marks=pytest.mark.slow)])
def test_neighbors_may_be_few_or_more_than_a_cell_holds(n_neighbors):
    data = clouds(600)
    knn = approximate_knn(data, n_neighbors)
    check_table(knn, data)
    assert recall(knn, data) > 0.98


def test_rows_that_met_too_few_others_are_compared_with_all(monkeypatch):
    data = clouds(1500)
    monkeypatch.setattr(SEARCH, "probed", lambda *_: 1)
    knn = approximate_knn(data, 90)
    check_table(knn, data)
    assert recall(knn, data) > 0.999


def test_rows_that_fill_the_space_evenly_are_warned_of(rng, monkeypatch):
    for room in (SEARCH, QUERIES):
        monkeypatch.setattr(room, "probed", lambda *_: 4)
    data = rng.normal(size=(1500, 60))  # as no other test has them
    with pytest.warns(UserWarning, match=r"finds \d+% .* 60 columns .* far out"):
        approximate_knn(data, K)
    assert isinstance(hold_cells(data, "euclidean"), HeldRows)


def test_near_sizes_share_their_programs():
    approximate_knn(clouds(1400), K)
    before = programs(_search_leaf, module._cut)
    for size in (1290, 1333, 1500):
        approximate_knn(clouds(size), K)
    assert programs(_search_leaf, module._cut) == before


IN_A_PROCESS = """
import hashlib, os, sys
os.sched_setaffinity(0, {int(cpu) for cpu in sys.argv[1].split(",")})
import numpy as np
from aljax.graph import neighbors
neighbors.EXACT_OPERATIONS = 0
data = np.load(sys.argv[2])
knn = neighbors.find_neighbors(data, 10)
assert not {"numba", "pynndescent"} & {*sys.modules}
content = np.asarray(knn.indices).tobytes() + np.asarray(knn.distances).tobytes()
print(hashlib.sha256(content).hexdigest())
"""


@pytest.mark.skipif(len(CPUS) < 2, reason="needs Linux and two CPUs")
@pytest.mark.slow
def test_one_core_finds_the_bits_that_two_find_and_nothing_loads_numba(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, clouds(5000, 300).astype(np.float32))
    command = [sys.executable, "-c", IN_A_PROCESS]
    runs = [
        subprocess.run(
            [*command, ",".join(map(str, cpus)), str(path)],
            capture_output=True,
            text=True,
            check=True,
            env=ENVIRONMENT,
        ).stdout
        for cpus in (CPUS[:1], CPUS[:2])
    ]
    assert runs[0] == runs[1]


@pytest.fixture(scope="module")
def held() -> Any:
    module.LEAF = LEAF
    return hold_cells(clouds(1500), "euclidean")


def test_queries_find_most_of_their_neighbors(held):
    data, queries = held.data, clouds(200, seed=1)
    rows, distances = nearest_in_cells(queries, held, NEAR)
    exact, near = true_neighbors(queries, data, NEAR)
    assert (distances <= near[:, -1:] * (1 + 1e-4)).mean() > 0.98
    first = rows[:, 0] == exact[:, 0]
    np.testing.assert_allclose(distances[first, 0], near[first, 0], rtol=1e-4)
    true = np.linalg.norm(data[rows] - queries[:, None], axis=2)
    np.testing.assert_allclose(distances, true, rtol=1e-4)


def test_each_row_of_the_slice_finds_itself_first(held):
    rows, distances = nearest_in_cells(held.data, held, NEAR)
    np.testing.assert_array_equal(rows[:, 0], np.arange(len(held.data)))
    assert (distances[:, 0] == 0).all()
    assert (distances[:, 1] > 0).all()


def test_of_equal_rows_queries_find_the_first():
    data = np.concatenate([clouds(700), clouds(700)])
    held: Any = hold_cells(data, "euclidean")
    rows, distances = nearest_in_cells(data[700:], held, NEAR)
    np.testing.assert_array_equal(rows[:, :2], np.arange(700)[:, None] + [0, 700])
    assert (distances[:, :2] == 0).all()


def test_what_a_query_finds_does_not_depend_on_the_others(held):
    queries = clouds(140, seed=1)
    together = nearest_in_cells(queries, held, NEAR)
    for some in ([0], [139], [7, 3, 130], [*range(60, 140)]):
        for one, other in zip(
            nearest_in_cells(queries[some], held, NEAR), together, strict=True
        ):
            np.testing.assert_array_equal(one, other[some])
    assert nearest_in_cells(queries[:0], held, NEAR)[0].shape == (0, NEAR)


def test_queries_that_float32_cannot_compare_are_compared_exactly(held):
    away = clouds(5, seed=1) + 1e30
    distances = nearest_in_cells(away, held, NEAR)[1]
    np.testing.assert_allclose(distances, np.sqrt(20) * 1e30, rtol=1e-5)


def test_a_map_of_many_rows_is_asked_by_cells(monkeypatch):
    data = clouds(1500).astype(np.float32)
    maps = aljax.fit(
        [data],
        key=jax.random.key(0),
        graph=aljax.GraphConfig(n_neighbors=K, knn_method="approximate"),
        layout=aljax.LayoutConfig(n_epochs=0),
    )
    room = importlib.import_module("aljax.graph.neighbors")
    monkeypatch.setattr(room, "nearest_held", None)  # cannot be called
    placed = maps.transform(data[:50])
    np.testing.assert_array_equal(placed, maps.maps[0][:50])


@pytest.mark.parametrize(("features", "metric"), [(20, "euclidean"), (300, "cosine")])
def test_many_new_rows_are_looked_up_in_tiles(features, metric, rng):
    centers, mix = 5 * rng.normal(size=(20, features)), rng.normal(size=(4, features))
    made = centers[rng.integers(20, size=6000)] + rng.normal(size=(6000, 4)) @ mix
    rows, queries = np.split(made.astype(np.float32), [5000])
    queries[0], queries[1] = rows[17], 1e6
    held = in_cells(rows, metric)
    near, lengths = nearest_of_many(queries, held, 10)
    exact, distances = true_neighbors(queries, rows, 10, metric)
    shared = [len({*a} & {*b}) for a, b in zip(near, exact, strict=True)]
    assert np.mean(shared) > 9.5
    assert (near[0, 0], lengths[0, 0]) == (17, pytest.approx(0, abs=1e-6))
    same = near == exact
    np.testing.assert_allclose(lengths[same], distances[same], rtol=1e-4, atol=1e-6)


def test_new_rows_far_fewer_than_those_of_the_slice_choose_from_blocks_near_each(
    rng, monkeypatch
):
    for room in (SEARCH, QUERIES):
        monkeypatch.setattr(room, "CHOICE", 96)
    made = np.zeros((13000, 20))  # as many columns as in other tests
    made[:, :3] = rng.normal(size=(13000, 3))
    rows, queries = np.split(made.astype(np.float32), [12000])
    lengths = nearest_of_many(queries, in_cells(rows, "euclidean"), 10)[1]
    exact = true_neighbors(queries, rows, 10)[1]
    assert (lengths <= exact[:, -1:] * (1 + 1e-4)).mean() > 0.95


def test_leaves_keep_no_rows(rng):
    points = rng.normal(size=(2000, 3))
    kept = weakref.ref(points)
    gc.disable()
    try:
        grow(points)
        del points
        assert kept() is None
    finally:
        gc.enable()
