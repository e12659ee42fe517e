"""Sweeps: rows equal single fits, one program a shape, and bad input."""

from typing import Any

import jax
import numpy as np
import pytest
from helpers import (
    NEIGHBORS,
    SIZES,
    make_data,
    make_maps,
    make_relations,
    programs,
    refused,
)

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.fit import fit
from aljax.layout.optimize import bytes_of_row, run, run_in_place, run_rows
from aljax.relations.mates import Mates
from aljax.sweep import SweepProblem, sweep

GRAPH = GraphConfig(n_neighbors=NEIGHBORS)
ROWS = [
    {"alignment_regularisation": 0.01},
    {"alignment_regularisation": 1.0},
    {"min_dist": [0.0, 0.2, 0.5], "repulsion_strength": 2.0},
    {"learning_rate": 0.5, "spread": 2.0, "alignment_regularisation": 0.1},
    {"a": 1.2, "b": [0.7, 0.9, 1.1]},
]
SEEDS = [0, 1, 0, 2, 1]
NONE = np.zeros(0, dtype=int)
NOBODY = Mates(NONE, NONE, np.zeros(0))
MISSING: Any = None


def problem(n_epochs=20, **settings) -> SweepProblem:
    return SweepProblem(
        make_data(),
        make_relations(),
        GRAPH,
        LayoutConfig(**{"n_epochs": n_epochs, **settings}),
    )


def keys(seeds=SEEDS) -> list[jax.Array]:
    return [jax.random.key(seed) for seed in seeds]


def single(one: SweepProblem, setting, key):
    row = one.replaced(setting)
    return fit(
        row.slices,
        row.relations,
        key=key,
        graph=row.graph,
        layout=row.layout,
        alignment=row.alignment,
        start=row.start,
    )


def assert_rows_equal_fits(found, one, **tolerance):
    for row, (setting, key) in enumerate(zip(ROWS, keys(), strict=True)):
        alone = single(one, setting, key)
        for t, expected in enumerate(alone.slices()):
            np.testing.assert_allclose(found.maps[t][row], expected, **tolerance)
        for term, values in vars(alone.history).items():
            terms = getattr(found.loss, term)[row]
            np.testing.assert_allclose(terms, values[-1], rtol=1e-4, atol=1e-4)


def test_one_program_lays_out_all_rows_and_one_more_each_other_shape():
    # The first of the file: what it compiles serves the others.
    layout = {"n_epochs": 3}
    before = programs(run_rows)[0], programs(run_in_place)[0]
    sweep(problem(**layout), ROWS, keys=keys(), chunk=2)
    assert (programs(run_rows)[0], programs(run_in_place)[0]) == (
        before[0] + 1,
        before[1],
    )
    again = [{"alignment_regularisation": w} for w in (0.3, 0.2, 0.1)]
    sweep(problem(**layout), again, keys=jax.random.key(5), chunk=2)
    assert programs(run_rows)[0] == before[0] + 1
    shapes = [
        {"n_neighbors": k, "alignment_regularisation": w}
        for k in (5, NEIGHBORS)
        for w in (0.1, 0.3)
    ]
    found = sweep(problem(**layout), shapes, keys=jax.random.key(0), chunk=2)
    assert programs(run_rows)[0] == before[0] + 2
    assert np.abs(found.maps[0][0] - found.maps[0][2]).max() > 1e-3


def test_a_row_that_runs_alone_has_the_bits_of_the_single_fit():
    found = sweep(problem(), ROWS, keys=keys(), chunk=1)
    assert_rows_equal_fits(found, problem(), rtol=0)


def test_a_start_from_afar_is_brought_to_the_scale_of_each_row():
    far = [1e4 * y for y in make_maps()]
    rows = [{"min_dist": 0.1}, {"min_dist": 0.9}]
    started = problem(n_epochs=1)._replace(start=far)
    found = sweep(started, rows, keys=jax.random.key(0), chunk=1)
    for row, setting in enumerate(rows):
        alone = single(started, setting, jax.random.key(0))
        for t, expected in enumerate(alone.slices()):
            np.testing.assert_array_equal(found.maps[t][row], expected)


def test_rows_that_run_together_equal_single_fits_after_an_epoch():
    found = sweep(problem(n_epochs=1), ROWS, keys=keys(), chunk=2)
    assert_rows_equal_fits(found, problem(n_epochs=1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_rows_that_run_together_equal_single_fits_in_double_precision():
    with jax.enable_x64(True):
        found = sweep(problem(), ROWS, keys=keys(), chunk=4)
        assert_rows_equal_fits(found, problem(), rtol=1e-5, atol=1e-5)


def test_a_metric_that_a_row_does_not_have_is_nan_there():
    rows = [{"n_components": 1}, {"n_components": 2}]

    def measure(maps, _):
        return {f"of {maps[0].shape[1]}": 1.0}

    unmoved, key = problem(n_epochs=0), jax.random.key(0)
    metrics = sweep(unmoved, rows, keys=key, measure=measure).metrics
    np.testing.assert_array_equal(metrics["of 1"], [1, np.nan])
    np.testing.assert_array_equal(metrics["of 2"], [np.nan, 1])


@pytest.mark.slow
def test_shapes_make_groups_and_rows_come_back_in_their_order():
    rows = [
        {"n_components": c, "alignment_window_size": w} for c in (2, 1) for w in (2, 1)
    ]
    seen = []
    found = sweep(
        problem(n_epochs=2),
        rows,
        keys=jax.random.key(0),
        progress=lambda row, _: seen.append(row),
    )
    assert sorted(seen) == [0, 1, 2, 3]
    for row, setting in enumerate(rows):
        alone = single(problem(n_epochs=2), setting, jax.random.key(0))
        own = alone.slices()[0]
        np.testing.assert_array_equal(found.maps[0][row][:, : own.shape[1]], own)
        assert (found.maps[0][row][:, own.shape[1] :] == 0).all()


def test_the_table_has_a_row_for_each_setting():
    found = sweep(problem(), ROWS, keys=keys(), chunk=2)
    table = found.table()
    assert [{name: row[name] for name in s} for row, s in zip(table, ROWS, strict=True)]
    assert {"trustworthiness", "displacement", "attraction"} <= set(table[0])
    assert table[1]["displacement"] < table[0]["displacement"]
    assert found.metrics["displacement"].shape == (len(ROWS),)
    assert [one.shape for one in found.maps] == [(5, size, 2) for size in SIZES]


def test_metrics_of_ones_own_and_mates_that_layouts_do_not_know():
    none = problem()._replace(
        visible=lambda relations: dict.fromkeys(relations, NOBODY),
        alignment=AlignmentConfig(frame="mates"),
    )
    strong = [{"alignment_regularisation": w} for w in (0.0, 10.0)]
    found = sweep(none, strong, keys=jax.random.key(0), measure=lambda *_: {"one": 1.0})
    assert found.metrics["one"].tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(found.maps[0][0], found.maps[0][1])


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_metric_of_ones_own_sees_the_settings_of_its_row(chunk):
    def measure(_, begun):
        weights = begun.params.alignment_regularisation, begun.params.a[0]
        configs = begun.alignment.alignment_regularisation, begun.layout.min_dist
        return dict(zip("wamd", map(float, weights + configs), strict=True))

    one = problem(1, init="random")
    rows = [{}, {"alignment_regularisation": 0.5}, {"min_dist": 0.4}]
    options = {"keys": jax.random.key(0), "chunk": chunk, "measure": measure}
    found = sweep(one, rows, **options).metrics
    np.testing.assert_allclose(found["w"], [0.07, 0.5, 0.07], rtol=1e-6)
    assert found["m"].tolist() == [0.07, 0.5, 0.07]
    assert found["d"].tolist() == [0.1, 0.1, 0.4]
    assert found["a"][0] == found["a"][1] != found["a"][2]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"n_shifts": 5}, {"n_neighbors": 15}])
def test_the_memory_of_a_row_is_about_what_xla_needs(settings):
    sizes = (200, 220, 210)
    row = SweepProblem(make_data(sizes), make_relations(sizes)).replaced(settings)
    begun = row.prepared(jax.random.key(0))
    n_shifts = row.layout.n_shifts or 40
    compiled = run.lower(
        begun.problem,
        begun.params,
        begun.state,
        3,
        key=jax.random.key(0),
        n_shifts=n_shifts,
    ).compile()
    report = compiled.memory_analysis()
    assert report is not None
    needed = report.temp_size_in_bytes + report.argument_size_in_bytes
    estimate = bytes_of_row(begun.problem, components=2, n_shifts=n_shifts)
    assert 0.8 * needed < estimate < 1.5 * needed


def test_chunks_keep_to_the_memory(monkeypatch):
    begun = problem().prepared(jax.random.key(0))
    needs = bytes_of_row(begun.problem, components=2, n_shifts=40)
    sizes = []

    def counted(*arguments, **options):
        sizes.append(len(arguments[2].maps))
        return run_rows(*arguments, **options)

    monkeypatch.setattr("aljax.layout.optimize.run_rows", counted)
    sweep(problem(), ROWS, keys=keys(), chunk=5, memory=int(2.5 * needs))
    assert sizes == [2, 2, 2]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        ({"settings": []}, "settings", "is []"),
        ({"settings": ["ab"]}, "settings[0]", "is 'ab'"),
        ({"settings": [{}, 1]}, "settings[1]", "is 1"),
        ({"problem": make_data()}, "problem", "is a list"),
        ({"settings": [{"min_dits": 1}]}, "settings[0]", "`min_dist`"),
        ({"settings": [{"min_dist": -1}]}, "min_dist", "is -1"),
        ({"settings": [{"min_dist": [0.1, 0.2]}]}, "min_dist", "has 2 values"),
        ({"keys": [jax.random.key(0)] * 3}, "keys", "3 keys for 2 rows"),
        ({"keys": [0, 1]}, "key", "is 0"),
        ({"memory": 1000}, "memory", "is 1000 bytes"),
        ({"chunk": 0}, "chunk", "at least 1"),
        ({"chunk": "a"}, "chunk", "is 'a'"),
        ({"memory": "8GB"}, "memory", "is '8GB'"),
        ({"measure": 5}, "measure", "is an int"),
        ({"keys": None}, "keys", "is None"),
        ({"keys": 0}, "keys", "is 0"),
        ({"problem": SweepProblem(MISSING)}, "problem.slices", "is None"),
        ({"settings": [{"learning_rate": 1e30}] * 2}, "learning_rate", "not finite"),
    ],
)
def test_bad_input_is_named(change, name, said):
    arguments = {
        "problem": problem(n_epochs=2),
        "settings": ROWS[:2],
        "keys": jax.random.key(0),
        **change,
    }
    with refused(name, said):
        sweep(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("alignment_decay", [0.0, 2.0]),
        ("alignment_strengths", ["jaccard", "uniform"]),
        ("motion_fidelity", [0.0, 1.0]),
    ],
)
def test_settings_of_the_mates_reach_their_rows(name, values):
    data = make_data((40, 40, 40))
    problem = SweepProblem(
        data,
        [{row: row for row in range(40)}] * 2,
        graph=GraphConfig(n_neighbors=6),
        layout=LayoutConfig(n_epochs=3),
    )
    key = jax.random.key(0)
    swept = sweep(problem, [{name: value} for value in values], keys=key)
    for row, value in enumerate(values):
        one = problem.replaced({name: value})
        fitted = fit(
            data,
            one.relations,
            key=key,
            graph=one.graph,
            layout=one.layout,
            alignment=one.alignment,
        )
        np.testing.assert_array_equal(swept.maps[1][row], fitted.maps[1])


def test_keywords_of_a_metric_may_hold_arrays():
    rows = [{"metric": "minkowski", "metric_kwds": {"p": 3, "w": np.ones(5)}}] * 2
    rows[1] = {**rows[0], "metric_kwds": {"p": 3, "w": np.ones(5)}}
    found = sweep(problem(n_epochs=0), rows, keys=jax.random.key(0), chunk=2)
    np.testing.assert_array_equal(found.maps[0][0], found.maps[0][1])
    assert (found.loss.total() == 0).all()  # of no epochs none was recorded
