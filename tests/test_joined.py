"""Graphs of the same rows joined, and models made of two."""

from typing import Any

import numpy as np
import pytest
from helpers import import_umap, make_data, refused
from scipy.optimize import brentq

import aljax
from aljax.graph.joined import alone, both, either

pytestmark = pytest.mark.usefixtures("as_users_run_it")
DATA = make_data()[0]
QUICK: dict[str, Any] = {"n_neighbors": 6, "n_epochs": 0, "random_state": 0}
JOINS: Any = (both, either, alone)


def one_map(**parameters: Any) -> Any:
    return aljax.UMAP(**QUICK | parameters)


@pytest.fixture(scope="module")
def models() -> list[Any]:
    return [
        one_map().fit(DATA[:, :3]).set_params(n_epochs=None),
        one_map(n_neighbors=9, min_dist=0.4, learning_rate=1.0).fit(DATA[:, 2:]),
    ]


def slow_power(row: np.ndarray) -> float:
    """The power at which a row sums to log2 15, or the end that is nearest to it."""

    def missed(m: float) -> float:
        return (row**m).sum() - np.log2(15)

    low, high = 1e-9, 1e9
    if missed(low) * missed(high) > 0:
        return low if missed(low) < 0 else high
    return float(brentq(missed, low, high))  # pyright: ignore[reportArgumentType]


def slow_join(left: np.ndarray, right: np.ndarray, join: Any) -> np.ndarray:
    """The weights before they are restored, pair by pair, from their definition."""
    rest = np.where(right > 0, 1 - right, 0)
    faint = [max(side[side > 0].min() / 2, 1e-8) for side in (left, right)]
    joined = np.zeros_like(left)
    for i, j in np.argwhere((left > 0) | ((right > 0) & (join is not alone))):
        u, v = left[i, j] or faint[0], right[i, j] or faint[1]
        if join is both:
            joined[i, j] = u * (right[i, j] or min(faint[1], 1e-4))
        elif join is either:
            joined[i, j] = u + v - u * v
        else:
            unsaid = min(max(rest[right > 0].min() / 2, 1e-8), 1e-4)
            joined[i, j] = u * (rest[i, j] if right[i, j] else unsaid)
    joined /= joined.max(axis=1, keepdims=True)
    for row in joined if join is not alone else ():
        row[row > 0] **= slow_power(row[row > 0])
    return joined + joined.T - joined * joined.T


@pytest.mark.parametrize("join", JOINS)
def test_joined_graphs_are_what_their_definition_says(models, join):
    left, right = (model.maps_.graphs[0] for model in models)
    found = join(left, right).to_sparse().toarray()
    u, v = (graph.to_sparse().toarray().astype(float) for graph in (left, right))
    np.testing.assert_allclose(found, slow_join(u, v, join), atol=2e-4)


def test_a_model_is_made_of_two(models, tmp_path):
    left, right = models
    made: Any = [left * right, left + right, left - right]
    for model, join in zip(made, JOINS, strict=True):
        expected = join(left.maps_.graphs[0], right.maps_.graphs[0]).to_sparse()
        np.testing.assert_array_equal(model.graph_.toarray(), expected.toarray())
        assert model.embedding_.shape == (len(DATA), 2)
    result = made[0]
    assert (result.n_epochs, result.learning_rate) == (0, 1.0)
    assert result.a == pytest.approx((left._a + right._a) / 2)
    energies = {"n_components": 5, "output_metric": "gaussian_energy"}
    ellipses = one_map(**energies).fit(DATA)
    assert (ellipses - ellipses).embedding_.shape == (len(DATA), 5)
    for model in ellipses - left, left - ellipses:
        assert (model.n_components, model.output_metric) == (2, "euclidean")
    with refused("slice", "a graph", "`transform`"):
        result.transform(DATA[:, :3])
    result.save(tmp_path / "it")
    assert aljax.UMAP.load(tmp_path / "it").graph_.shape == result.graph_.shape
    with refused("other", "38 rows", "the 41 of the first"):
        _ = left * one_map().fit(DATA[3:])
    with refused("other", "41 rows"):
        _ = left - one_map(unique=True).fit(DATA)  # in another order
    with pytest.raises(TypeError):
        _ = left + 1


@pytest.mark.slow  # numba compiles umap-learn for half a minute
def test_joined_graphs_are_those_of_umap_learn(models):
    theirs = import_umap("umap.umap_")
    left, right = (model.graph_ for model in models)
    met = theirs.general_simplicial_set_intersection
    for join, weights in (
        (both, met(left, right, 0.5)),
        (either, theirs.general_simplicial_set_union(left, right)),
        (alone, met(left, right, weight=0.5, right_complement=True)),
    ):
        expected = theirs.reset_local_connectivity(weights, join is not alone)
        found = join(*(model.maps_.graphs[0] for model in models)).to_sparse()
        np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-4)
