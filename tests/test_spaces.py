"""Maps in other spaces: umap-learn's distances, in every term and in new rows."""

import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    NEIGHBORS,
    SIZES,
    import_umap,
    make_data,
    make_maps,
    make_problem,
    refused,
)

import aljax
from aljax.config import SPACES, AlignmentConfig, LayoutConfig
from aljax.layout import Implicit, solve_layout
from aljax.layout.objective import aligned_loss
from aljax.layout.problem import layout_params, stack_maps
from aljax.layout.shifts import draw_shifts
from aljax.layout.spaces import DISTANCES, lifted, squared_distance
from aljax.metrics import trustworthiness

GRAPH = aljax.GraphConfig(n_neighbors=NEIGHBORS)
NAMES = [name for name in SPACES if name != "euclidean"]
SIGMA = np.array([1.0, 2.0, 0.5])
VINV = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
KWDS = {
    "minkowski": {"p": 3.0},
    "wminkowski": {"w": SIGMA, "p": 3.0},
    "seuclidean": {"sigma": SIGMA},
    "mahalanobis": {"vinv": VINV},
}


def torus(x, y, around=2 * np.pi):
    apart = jnp.abs(x - y) % around
    return jnp.sqrt(jnp.sum(jnp.minimum(apart, around - apart) ** 2))


def space_of(name, **kwds):
    config = LayoutConfig(
        output_metric=name, n_components=SPACES.get(name) or 3, output_metric_kwds=kwds
    )
    return layout_params(config, AlignmentConfig(), slices=1).space


def lengths(name, x, y):
    """d^2 of points (components, pairs), as the losses read it."""
    space = space_of(name, **KWDS.get(name, {}))

    @jax.jit
    def squared(x, y):
        return squared_distance(lifted(x, space), lifted(y, space), space)

    return squared(x, y)


def test_every_space_has_a_distance():
    assert {*NAMES} == {*DISTANCES}


@pytest.mark.parametrize("name", NAMES)
def test_distances_are_those_of_umap_learn(name, rng):
    compiled = import_umap("umap.distances").named_distances_with_gradients[name]
    known = compiled.py_func  # in Python: to compile it takes longer than to run it
    x, y = 1.5 * rng.normal(size=(2, SPACES[name] or 3, 20))
    wanted = [
        known(i.copy(), j.copy(), *KWDS.get(name, {}).values())[0]
        for i, j in zip(x.T, y.T, strict=True)
    ]
    with jax.enable_x64(True):
        squared = lengths(name, x, y)
    # umap-learn's own formula of the hyperboloid cancels for near points.
    np.testing.assert_allclose(squared, np.maximum(wanted, 0) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    "name", [*NAMES, torus], ids=lambda n: getattr(n, "__name__", n)
)
def test_gradients_are_finite_at_equal_opposite_and_far_points(name):
    x = np.ones((SPACES.get(name) or 3, 6), np.float32)
    x[0] = 0.0, 0.0, np.pi / 2, 1.0, 1e3, 1e-9
    y = np.zeros_like(x)
    y[0, 2], y[:, 3] = -np.pi / 2, x[:, 3]
    gradient = np.asarray(jax.jit(jax.grad(lambda x: lengths(name, x, y).sum()))(x))
    assert np.isfinite(gradient).all()
    assert not gradient[:, 3].any()


def test_every_term_reads_the_distance():
    problem = make_problem()[2]
    maps = stack_maps(make_maps(SIZES), problem)
    shifts = draw_shifts(jax.random.key(0), problem.n_points, n_shifts=24)
    wide = {"output_metric": torus, "output_metric_kwds": {"around": 1e4}}
    terms, wanted = (
        jax.jit(aligned_loss)(maps, problem, params, shifts)
        for layout in (LayoutConfig(**wide), LayoutConfig())
        for params in [layout_params(layout, AlignmentConfig(), slices=3)]
    )
    for name, values in vars(wanted).items():
        np.testing.assert_allclose(getattr(terms, name), values, rtol=1e-5)


@pytest.fixture(scope="module")
def spheres() -> aljax.AlignedEmbedding:
    layout = LayoutConfig(output_metric="haversine", n_epochs=100)
    ids = [[*range(size)] for size in SIZES]
    key = jax.random.key(0)
    return aljax.fit(make_data(), ids, key=key, graph=GRAPH, layout=layout)


def vectors(maps):
    on_sphere = jax.jit(partial(lifted, space=space_of("haversine")))
    return [np.asarray(on_sphere(y.T)).T for y in maps]


def test_sequences_lie_on_one_sphere(spheres):
    on_sphere = vectors(spheres.maps)
    for rows, vector in zip(make_data(), on_sphere, strict=True):
        assert trustworthiness(rows, vector, n_neighbors=NEIGHBORS) > 0.75
    mates = np.linalg.norm(on_sphere[0] - on_sphere[1][: SIZES[0]], axis=1)
    others = np.linalg.norm(on_sphere[0] - np.roll(on_sphere[0], 20, axis=0), axis=1)
    assert mates.mean() < 0.3 * others.mean()


def test_new_rows_lie_beside_their_likes_on_the_sphere(spheres):
    rows = make_data()[0]
    np.testing.assert_array_equal(spheres.transform(rows[:5], 0), spheres.maps[0][:5])
    near, placed = vectors([spheres.maps[0], spheres.transform(rows + 1e-3, 0)])
    products = placed @ near.T
    nearer = (products > np.diag(products)[:, None]).sum(axis=1)
    assert np.mean(nearer < 5) > 0.9  # of 41 rows
    angles = np.arccos(np.clip(products, -1, 1))
    assert np.median(np.diag(angles)) < 0.2 * np.median(angles)


def test_models_are_saved_with_their_space(spheres, tmp_path):
    spheres.save(tmp_path / "maps.aljax")
    again = aljax.load(tmp_path / "maps.aljax")
    assert again.params.space == spheres.params.space == ("haversine", ())
    assert again.layout == spheres.layout
    rows = make_data()[0][:3] + 0.1
    np.testing.assert_array_equal(again.transform(rows, 0), spheres.transform(rows, 0))


def test_functions_are_pickled_and_not_saved(tmp_path):
    model = aljax.UMAP(NEIGHBORS, output_metric=torus, n_epochs=0, random_state=0)
    model.fit(make_data()[0])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.embedding_, model.embedding_)
    with refused("parameters/output_metric", "function"):
        model.save(tmp_path / "model.aljax")


def test_what_a_space_does_not_have_is_refused(spheres):
    with refused("n_components", "is 3", "haversine", "2"):
        LayoutConfig(output_metric="haversine", n_components=3)
    with refused("densmap", "haversine", "Euclidean"):
        LayoutConfig(output_metric="haversine", densmap=True)
    with refused("output_metric_kwds", "p", "None"):
        LayoutConfig(output_metric_kwds={"p": 3})
    with refused("output_metric_kwds", "minkowski", "q"):
        space_of("minkowski", q=3)
    for wrong in (lambda x: x, lambda x, y: x - y, lambda x, y: float(x[0] - y[0])):
        with refused("output_metric", "lambda", "two points", "jax.numpy"):
            space_of(wrong)
    with refused("output_metric", "haversine", "Euclidean maps"):
        spheres.inverse_transform(spheres.maps[0][:1])
    model = aljax.UMAP(NEIGHBORS, output_metric="haversine", n_epochs=0)
    with refused("output_metric", "haversine", "euclidean"):
        _ = model.fit(make_data()[0]).rad_emb_
    together = AlignmentConfig(frame="population")
    with refused("frame", "population", "mates"):
        call = partial(aljax.prepare, make_data(), key=jax.random.key(0))
        call(layout=spheres.layout, alignment=together)
    with refused("params", "haversine", "Unrolled"):
        problem, maps = make_problem()[2], spheres.maps
        start = stack_maps(maps, problem)
        solve_layout(problem, spheres.params, start, adjoint=Implicit())
