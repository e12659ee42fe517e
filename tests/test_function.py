"""Functions as metrics, of values as of rows."""

from typing import Any

import numba
import numpy as np
import pytest
import scipy.sparse
from helpers import import_umap, make_data, refused

import aljax
from aljax.config import GraphConfig
from aljax.graph import function
from aljax.graph.build import build_graphs
from aljax.graph.neighbors import find_neighbors
from aljax.graph.slices import read_slices

pytestmark = pytest.mark.usefixtures("as_users_run_it")
DATA = make_data()[0]
NEW = make_data()[1][:5]
BARE: dict[str, Any] = {"n_neighbors": 6, "n_epochs": 0, "random_state": 0}


def minkowski(x: Any, y: Any, scale: float = 1.0, p: float = 2.0) -> float:
    return scale * (np.abs(x - y) ** p).sum() ** (1 / p)


compiled: Any = numba.njit(minkowski)


@numba.njit
def with_gradient(x: Any, y: Any) -> Any:
    return np.abs(x - y).sum(), np.sign(x - y)


def with_gradient_too(x: Any, y: Any) -> Any:
    return with_gradient.py_func(x, y)  # pyright: ignore


def of_sparse(i: Any, v: Any, j: Any, w: Any) -> float:
    """The Manhattan distance."""
    row = dict(zip(i.tolist(), v.tolist(), strict=True))
    for column, value in zip(j.tolist(), w.tolist(), strict=True):
        row[column] = row.get(column, 0.0) - value
    return sum(map(abs, row.values()))


def tables(metric: Any, data: Any = DATA, **options: Any) -> list[np.ndarray]:
    knn = find_neighbors(data, 6, metric=metric, **options)
    return [np.asarray(knn.indices), np.asarray(knn.distances)]


@pytest.mark.parametrize(
    ("metric", "kwds", "named", "many"),
    [
        (minkowski, {"p": 3.0}, "minkowski", 0),
        (compiled, {"p": 3.0}, "minkowski", np.inf),
        pytest.param(  # in a compiled loop
            *(with_gradient, {}, "manhattan", 0), marks=pytest.mark.slow
        ),
        (with_gradient, {}, "manhattan", np.inf),
        (with_gradient_too, {}, "manhattan", 0),
    ],
)
def test_neighbors_are_those_of_the_metric_by_its_name(
    metric, kwds, named, many, monkeypatch
):
    monkeypatch.setattr(function, "MANY", many)
    indices, distances = tables(named, metric_kwds=kwds)
    found = tables(metric, metric_kwds=kwds)
    np.testing.assert_array_equal(found[0], indices)
    np.testing.assert_allclose(found[1], distances, rtol=1e-5)


def test_sparse_rows_come_as_indices_and_values():
    sparse = scipy.sparse.csr_matrix(np.where(np.abs(DATA) < 0.3, 0, DATA))
    indices, distances = tables("manhattan", sparse)
    found = tables(of_sparse, sparse)
    np.testing.assert_array_equal(found[0], indices)
    np.testing.assert_allclose(found[1], distances, rtol=1e-5)


def test_new_rows_are_placed_by_the_function(tmp_path):
    model: Any = aljax.UMAP(**BARE, metric=with_gradient).fit(DATA)
    named: Any = aljax.UMAP(**BARE, metric="manhattan").fit(DATA)
    np.testing.assert_allclose(model.transform(NEW), named.transform(NEW), atol=0.01)
    with refused("metric", "with_gradient", "cosine"):
        model.inverse_transform(model.embedding_[:2])
    with refused("parameters/metric", "cannot be saved"):
        model.save(tmp_path / "it")
    assert not [*tmp_path.iterdir()]


def test_values_are_compared_by_a_function():
    graphs = [
        build_graphs(
            read_slices([DATA]),
            GraphConfig(n_neighbors=6, target_metric=metric),
            y=[DATA[:, :2]],
        )[0].to_sparse()
        for metric in (with_gradient_too, "manhattan")
    ]
    assert abs(graphs[0] - graphs[1]).max() < 1e-5


@pytest.mark.parametrize(
    ("metric", "options", "words"),
    [
        (minkowski, {"metric_kwds": {"q": 3.0}}, ["minkowski", "'q'"]),
        (lambda _x, _y: np.nan, {}, ["nan between some rows", "0 for equal rows"]),
        (lambda x, y: -abs(x - y).sum(), {}, ["<lambda>, which is -"]),
        (lambda x, y: abs(x - y), {}, ["shape (5,)", "a function of two rows"]),
        (lambda x: x.sum(), {}, ["too many positional", "a function of two rows"]),
        (minkowski, {"knn_method": "pynndescent"}, ["numba.njit", "exact"]),
        ("hellinger", {}, ["hellinger", "at least 0"]),
    ],
)
def test_functions_that_do_not_fit_are_refused(metric, options, words):
    with refused("metric", *words):
        tables(metric, **options)


@pytest.mark.slow  # pynndescent and umap-learn are compiled
def test_pynndescent_and_umap_learn_take_the_same_functions():
    umap = import_umap("umap")
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    indices, _ = tables("manhattan", rows)
    found, _ = tables(with_gradient, rows, knn_method="pynndescent")
    assert (found == indices).mean() > 0.97
    for metric in (minkowski, compiled, with_gradient):
        with pytest.warns(UserWarning, match="gradient|n_jobs"):
            theirs = umap.UMAP(**BARE, metric=metric).fit(DATA)
        ours: Any = aljax.UMAP(**BARE, metric=metric).fit(DATA)
        weights = ours.graph_.toarray()
        weights[weights < weights.max() / 500] = 0
        np.testing.assert_allclose(weights, theirs.graph_.toarray(), atol=1e-4)
