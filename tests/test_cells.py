"""The search by cells, in small: leaves are made smaller, so that there are several."""

import importlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
from helpers import programs
from test_determinism import CPUS, ENVIRONMENT

from aljax.graph import cells as module
from aljax.graph.approximate import _search_leaf, approximate_knn
from aljax.graph.cells import make_cells, principal_axes
from aljax.graph.exact import exact_knn

K = 10
LEAF = 512


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


def recall(knn: Any, exact: Any) -> float:
    """The share of true neighbors, those at an equal distance counted as such."""
    near = np.asarray(knn.distances)[1:]
    radius = np.asarray(exact.distances)[-1]
    return float((near <= radius * (1 + 1e-4) + 1e-6).mean())


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
    assert recall(knn, exact_knn(data, K)) > 0.99


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
def test_angles_are_searched_as_well(metric):
    data = clouds(1500)
    data *= 10.0 ** np.linspace(-8, 8, len(data))[:, None]
    data[[3, 7]] = 0.0
    knn, exact = (f(data, K, metric=metric) for f in (approximate_knn, exact_knn))
    assert recall(knn, exact) > 0.98
    assert np.asarray(knn.indices)[:2, 3].tolist() == [3, 7]


def test_wide_rows_are_compared_along_the_axes_of_their_variance():
    data = clouds(1500, 300)
    axes = principal_axes(data - data.mean(axis=0), 0)
    assert axes is not None
    assert axes.shape == (300, 32)
    np.testing.assert_allclose(axes.T @ axes, np.eye(32), atol=1e-6)
    knn = approximate_knn(data, K)
    check_table(knn, data)
    assert recall(knn, exact_knn(data, K)) > 0.98


def test_rows_without_axes_are_compared_along_all(rng):
    data = rng.normal(size=(600, 600))
    assert principal_axes(data, 0) is None
    assert recall(approximate_knn(data, K), exact_knn(data, K)) > 0.9


def test_a_seed_gives_its_bits_again():
    data = clouds(1500, 300)
    tables = [approximate_knn(data, K, seed=seed) for seed in (1, 1)]
    jax.tree.map(np.testing.assert_array_equal, *tables)


def test_every_row_has_one_place_and_every_block_few_rows():
    data = clouds(1300).astype(np.float32)
    cells = make_cells(data, len(data))
    members = np.asarray(cells.members)
    assert sorted(members[members >= 0]) == [*range(len(data))]
    counts, starts = np.asarray(cells.counts), np.asarray(cells.starts)
    assert counts.sum() == len(data)
    assert counts.max() <= module.BLOCK
    for start, count, center in zip(starts, counts, cells.centers, strict=True):
        block = data[members[start : start + count]]
        if count:
            np.testing.assert_allclose(center, block.mean(axis=0), rtol=1e-4, atol=1e-5)
    assert np.isinf(np.asarray(cells.half_norms)[members < 0]).all()


def equal(_):
    return np.full((900, 4), 0.1)


def few_distinct(rng):
    return rng.normal(size=(5, 4))[rng.integers(5, size=900)]


def two_far_clouds(rng):
    return rng.normal(size=(900, 4)) + 1e6 * (np.arange(900) % 2)[:, None]


def of_all_norms(rng):
    return rng.normal(size=(900, 4)) * rng.lognormal(sigma=3, size=(900, 1))


def one_far_away(rng):
    return rng.normal(size=(900, 4)) + 1e9 * (np.arange(900) == 17)[:, None]


def on_a_line(_):
    return np.arange(900.0)[:, None] ** 3 * np.ones(4)


@pytest.mark.parametrize(
    "make",
    [equal, few_distinct, two_far_clouds, of_all_norms, one_far_away, on_a_line],
)
def test_data_of_any_kind_are_searched(rng, make):
    data = make(rng)
    knn = approximate_knn(data, K)
    check_table(knn, data)
    assert recall(knn, exact_knn(data, K)) > 0.95


@pytest.mark.parametrize("n_neighbors", [2, 100, 599])
def test_neighbors_may_be_few_or_more_than_a_cell_holds(n_neighbors):
    data = clouds(600)
    knn = approximate_knn(data, n_neighbors)
    check_table(knn, data)
    assert recall(knn, exact_knn(data, n_neighbors)) > 0.98


def test_rows_that_met_too_few_others_are_compared_with_all(monkeypatch):
    data = clouds(1500)
    search = importlib.import_module("aljax.graph.approximate")
    monkeypatch.setattr(search, "probed", lambda *_: 1)
    knn = approximate_knn(data, 90)
    check_table(knn, data)
    assert recall(knn, exact_knn(data, 90)) > 0.999


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
