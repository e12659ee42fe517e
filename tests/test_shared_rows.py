"""One slice whose rows processes share: here by one process, which is all of them.

`test_distributed.py` runs it by several.
"""

import re

import jax
import numpy as np
import pytest
import scipy.sparse
from helpers import refused

import aljax
import aljax.distributed
from aljax.distributed import rows as module
from aljax.distributed.rows import Shares, fit_rows
from aljax.graph.exact import exact_knn

KEY = jax.random.key(3)
GRAPH = aljax.GraphConfig(n_neighbors=6)
ONCE = aljax.LayoutConfig(init="pca", n_epochs=1)


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)


@pytest.mark.parametrize("init", ["pca", "random"])
def test_one_process_makes_the_layout_of_fit(data, init):
    layout = aljax.LayoutConfig(init=init, n_epochs=1)
    ours = fit_rows(data, key=KEY, graph=GRAPH, layout=layout)
    its = aljax.fit([data], key=KEY, graph=GRAPH, layout=layout)
    assert ours.own == range(len(data))
    np.testing.assert_allclose(ours.positions, its.maps[0], atol=1e-5)
    np.testing.assert_allclose(ours.history.total(), its.history.total(), rtol=1e-5)
    np.testing.assert_array_equal(ours.neighbors.indices, its.graphs[0].neighbors)


@pytest.mark.parametrize("process", [0, 1, 2])
@pytest.mark.parametrize("method", ["exact", "approximate"])
def test_blocks_that_visit_have_the_neighbors_of_all_rows(
    data, process, method, monkeypatch
):
    shares = Shares([0, 40, 90, 120], process)

    def of(other: int) -> np.ndarray:
        return data[shares.of(other).start : shares.of(other).stop]

    def from_ahead(visitor: np.ndarray, steps: int) -> np.ndarray:
        (held,) = (i for i in range(3) if np.array_equal(visitor, of(i)))
        return of((held + steps) % 3)

    monkeypatch.setattr(module, "from_ahead", from_ahead)
    own = np.s_[:, shares.here.start : shares.here.stop]
    how = {"metric": "euclidean", "method": method, "seed": 0}
    found = module.nearest_of_all(data[own[1]], shares, 6, **how)
    whole = exact_knn(data, 6)
    np.testing.assert_array_equal(found.indices, whole.indices[own])
    np.testing.assert_allclose(found.distances, whole.distances[own], atol=1e-6)


def test_progress_sees_the_map_of_all_rows(data):
    seen = []
    fit_rows(data, key=KEY, graph=GRAPH, layout=ONCE, progress=seen.append)
    assert [maps.shape for maps in seen[0].unstack()] == [(120, 2)]


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("metric", {"graph": aljax.GraphConfig(metric="manhattan")}, "euclidean"),
        ("knn_method", {"graph": aljax.GraphConfig(knn_method="pynndescent")}, "fit"),
        ("init", {"layout": aljax.LayoutConfig()}, "'pca' or 'random'"),
        ("densmap", {"layout": aljax.LayoutConfig(init="pca", densmap=True)}, "False"),
        ("rows", {"rows": scipy.sparse.eye(120, 5).tocsr()}, "dense array"),
        ("rows", {"rows": np.full((120, 5), np.nan)}, "nan in row 0"),
        ("rows", {"rows": np.ones((6, 5))}, "6 rows in process 0; more than 15"),
    ],
)  # fmt: skip
def test_settings_that_need_all_rows_and_other_input_are_refused(
    data, name, given, words
):
    with refused(name, *re.split("; ", words)):
        fit_rows(**{"rows": data, "key": KEY} | given)
