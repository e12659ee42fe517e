"""densMAP: local radii, the density of the loss, and maps that keep densities."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    NEIGHBORS,
    SIZES,
    assert_same_maps,
    make_data,
    make_graphs,
    make_maps,
    make_relations,
    refused,
)
from scipy.spatial.distance import cdist
from sklearn.base import clone

import aljax
from aljax.layout import graph_of, packing, reweigh
from aljax.layout.losses import DensityTerms
from aljax.layout.objective import aligned_loss
from aljax.layout.optimize import ADAM, run, shifts_of
from aljax.layout.problem import layout_params, stack, stack_maps
from aljax.layout.shifts import draw_shifts
from aljax.metrics import density_preservation, local_radii
from aljax.sweep import SweepProblem, sweep

CONFIG = aljax.LayoutConfig(
    densmap=True, dens_lambda=[2.0, 0.0, 1.0], dens_var_shift=0.2, n_epochs=20
)
SINGLE = aljax.LayoutConfig(densmap=True, n_epochs=0)
GRAPH = aljax.GraphConfig(n_neighbors=NEIGHBORS)


def prepared(layout: aljax.LayoutConfig = CONFIG, sizes=SIZES) -> Any:
    return aljax.prepare(
        make_data(sizes),
        make_relations(sizes, related=15),
        key=jax.random.key(0),
        graph=GRAPH,
        layout=layout,
    )


def slow_radii(weights, squared) -> np.ndarray:
    """log(sum_j w_ij d_ij^2 / sum_j w_ij), point by point."""
    rows = zip(weights, squared, strict=True)
    return np.array([np.log((w @ d) / w.sum() + 1e-8) for w, d in rows])


def slow_density(graph, positions, radii, a, b, shift) -> float:
    """sum_i d_i (1 - corr(R, r)) over the symmetric graph."""
    weights = graph.to_sparse().toarray()
    squared = cdist(positions, positions) ** 2
    of_map = slow_radii((weights > 0) / (1 + a * squared**b), squared)
    x, y = np.asarray(radii) - np.mean(radii), of_map - np.mean(of_map)
    correlation = (x * y).mean() / np.sqrt((x**2).mean() * ((y**2).mean() + shift))
    return weights.sum() * (1 - correlation)


def test_radii_are_those_of_the_paper():
    graphs: list[Any] = make_graphs()
    for data, graph in zip(make_data(), graphs, strict=True):
        expected = slow_radii(graph.to_sparse().toarray(), cdist(data, data) ** 2)
        np.testing.assert_allclose(graph.radii, expected, rtol=1e-4, atol=1e-4)
        found = local_radii(data, n_neighbors=NEIGHBORS)
        np.testing.assert_array_equal(found, graph.radii)


def test_radii_follow_the_unit_of_the_data_whatever_it_is():
    data = make_data()[0]
    usual = local_radii(data, n_neighbors=NEIGHBORS)
    for unit in (1e-12, 1e12):
        scaled = local_radii(data * np.float32(unit), n_neighbors=NEIGHBORS)
        np.testing.assert_allclose(scaled, usual + 2 * np.log(unit), atol=1e-4)
    alike = local_radii(np.ones_like(data), n_neighbors=NEIGHBORS)
    np.testing.assert_allclose(alike, np.log(1e-8), rtol=1e-5)


def density_of(loss, problem, params) -> Any:
    """A function of maps and radii: the sum of the densities, each, and gradients."""
    shifts = draw_shifts(jax.random.key(0), problem.n_points, n_shifts=5)

    def of(maps, radii):
        changed = dataclasses.replace(problem, radii=radii)
        density = loss(maps, changed, params, shifts).density
        return density.sum(), density

    return jax.jit(jax.value_and_grad(of, argnums=(0, 1), has_aux=True))


def test_density_is_that_of_loops_over_the_graph_and_moves_as_its_slope_says():
    with jax.enable_x64(True):
        graphs, maps = make_graphs(), make_maps()
        problem = stack(graphs, {}, key=jax.random.key(0), densmap=True)
        params = layout_params(CONFIG, aljax.AlignmentConfig(), slices=len(SIZES))
        density = density_of(aligned_loss, problem, params)
        at: Any = (stack_maps(maps, problem), problem.radii)
        at, params = jax.tree.map(np.asarray, (at, params))
        (_, found), slopes = density(*at)
        for t, graph in enumerate(graphs):
            curve = float(params.a[t]), float(params.b[t]), 0.2
            radii = np.asarray(graph.radii)
            slow = slow_density(graph, maps[t], radii, *curve)
            np.testing.assert_allclose(
                found[t], params.dens_lambda[t] * slow, rtol=1e-5
            )
        way = [np.cos(np.arange(x.size)).reshape(x.shape) for x in at]
        ahead, back = (
            density(*(x + step * w for x, w in zip(at, way, strict=True)))[0][0]
            for step in (1e-6, -1e-6)
        )
        along = sum(np.vdot(slope, w) for slope, w in zip(slopes, way, strict=True))
        np.testing.assert_allclose(
            (float(ahead) - float(back)) / 2e-6, along, rtol=1e-5
        )
        assert np.all(np.asarray(slopes[0])[0, :, SIZES[0] :] == 0)  # padding
        _, (coinciding, _) = density(np.zeros_like(at[0]), at[1])
        assert np.isfinite(coinciding).all()


@pytest.mark.slow
def test_packed_slices_have_the_density_of_whole_ones(monkeypatch):
    monkeypatch.setattr(packing, "SHORTEST", 32)
    monkeypatch.setattr(packing, "SPARED", 0)
    layout = dataclasses.replace(CONFIG, dens_lambda=[2.0, 0.5, 0.0, 1.0])
    begun = prepared(layout, sizes=(130, 20, 15, 53))
    rows = packing.rows_for(begun.problem.n_points, begun.state)
    assert rows is not None
    cut = packing.pack(begun.problem, begun.params, begun.state, rows)
    found, whole = (
        density_of(loss, problem, params)(state.maps, problem.radii)
        for loss, (problem, params, state) in (
            (packing.packed_loss, cut),
            (aligned_loss, (begun.problem, begun.params, begun.state)),
        )
    )
    joined = np.add.reduceat(np.asarray(found[0][1]), rows.starts)
    np.testing.assert_allclose(joined, whole[0][1], rtol=1e-4)
    assert np.count_nonzero(found[0][1]) == np.count_nonzero(joined) == 3
    slope = dataclasses.replace(cut.state, maps=found[1][0])
    slope = packing.unpack(slope, begun.problem, rows).maps
    np.testing.assert_allclose(slope, whole[1][0], rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def fitted() -> Any:
    layout = dataclasses.replace(CONFIG, dens_frac=[0.4, 0.4, 1.0])
    return aljax.fit(
        make_data(),
        make_relations(related=15),
        key=jax.random.key(0),
        graph=GRAPH,
        layout=layout,
        progress=lambda _: None,  # runs in chunks
    )


def test_the_density_acts_in_the_last_epochs_where_it_has_weight(fitted):
    assert isinstance(fitted.history, DensityTerms)
    early, late = np.asarray(vars(fitted.history)["density"])  # epochs 0 and 10
    assert early[0] == early[1] == late[0] == late[1] == 0
    assert early[2] > late[2] > 0


def test_a_run_in_chunks_has_the_bits_of_an_unbroken_one(fitted):
    begun = prepared(fitted.layout)
    options: Any = {"key": jax.random.key(0), "n_shifts": shifts_of(begun.problem)}
    options["optimizer"] = ADAM  # as `fit` calls it: one program
    state = run(begun.problem, begun.params, begun.state, 20, **options)
    assert_same_maps(begun.maps_of(state), fitted.maps)


def test_files_bring_maps_with_densities_back(fitted, tmp_path):
    fitted.save(tmp_path / "maps.aljax")
    loaded = aljax.load(tmp_path / "maps.aljax")
    assert loaded.layout == fitted.layout
    np.testing.assert_array_equal(
        vars(loaded.history)["density"], vars(fitted.history)["density"]
    )
    np.testing.assert_array_equal(loaded.graphs[2].radii, fitted.graphs[2].radii)


@pytest.mark.slow
def test_updates_follow_the_density_of_the_new_slice(fitted):
    new = make_data((46,), seed=1)[0]
    longer = fitted.update(
        new, {0: 0}, key=jax.random.key(0), settings={"dens_lambda": 3.0}
    )
    assert longer.layout.dens_lambda == (2.0, 0.0, 1.0, 3.0)
    history: Any = longer.history
    assert history.density[-1, -1] > 0
    np.testing.assert_array_equal(longer.maps[2], fitted.maps[2])


def test_graphs_without_distances_are_refused(fitted):
    graphs = [dataclasses.replace(graph, radii=None) for graph in make_graphs()]
    with refused("slices[0]", "without `radii`", "Give data"):
        aljax.fit(graphs, make_relations(), key=jax.random.key(0), layout=CONFIG)
    with refused("new_slice", "without `radii`", "Give data"):
        fitted.update(graphs[0], {0: 0}, key=jax.random.key(0))


def test_sweeps_have_rows_with_and_without_a_density():
    problem = SweepProblem(make_data()[:1], graph=GRAPH, layout=SINGLE)
    settings = [{"densmap": False}, {"dens_lambda": 0.5}]
    rows = sweep(problem, settings, keys=jax.random.key(0))
    loss: Any = rows.loss
    assert loss.density.shape == loss.attraction.shape == (2, 1)
    assert [row["density"] for row in rows.table()] == [0, 0]


def test_radii_and_weights_move_with_the_data_and_densities_with_their_weight():
    data = make_data()[0]
    begun = aljax.prepare([data], key=jax.random.key(0), graph=GRAPH, layout=SINGLE)
    shifts = draw_shifts(jax.random.key(0), begun.problem.n_points, n_shifts=5)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def slopes(data, weight):
        problem = reweigh(begun.problem, [graph_of(data, begun.graphs[0].neighbors)])
        params = dataclasses.replace(begun.params, dens_lambda=weight)
        terms: Any = aligned_loss(begun.state.maps, problem, params, shifts)
        return terms.density.sum()

    moved, weighed = slopes(jnp.asarray(data), jnp.array([2.0]))
    assert np.isfinite(moved).all()
    assert np.any(moved != 0)
    _, unweighed = slopes(jnp.asarray(data), jnp.array([0.0]))
    np.testing.assert_allclose(unweighed, weighed, rtol=1e-6)
    assert float(weighed[0]) > 0


def clusters() -> np.ndarray:
    """Three groups as large as each other, each as scattered as it likes."""
    rng = np.random.default_rng(0)
    parts = [
        10 * center + scatter * rng.normal(size=(40, 5))
        for center, scatter in zip(np.eye(5), (0.1, 0.5, 2.0), strict=False)
    ]
    return np.concatenate(parts).astype(np.float32)


def test_densities_are_kept_where_asked_for():
    data = clusters()
    model = aljax.UMAP(n_epochs=200, random_state=0, densmap=True, output_dens=True)
    again: Any = clone(model)
    plain = again.set_params(dens_lambda=0.0).fit(data)
    positions, inside, outside = model.fit_transform(data)
    np.testing.assert_array_equal(positions, model.embedding_)
    kept = density_preservation(data, positions)
    assert kept == pytest.approx(np.corrcoef(inside, outside)[0, 1], abs=1e-6)
    assert kept > 0.85
    assert kept > density_preservation(data, plain.embedding_) + 0.3
    np.testing.assert_array_equal(model.rad_orig_, inside)
    np.testing.assert_array_equal(model.rad_emb_, outside)


def test_repeated_rows_have_the_radii_of_their_row():
    rows = make_data()[0]
    model = aljax.UMAP(n_epochs=0, unique=True, output_dens=True, n_neighbors=6)
    positions, *radii = model.fit_transform(np.concatenate([rows, rows[:3]]))
    for values in (positions, *radii):
        assert len(values) == len(rows) + 3
        np.testing.assert_array_equal(values[-3:], values[:3])
