"""Programs are compiled while rows are searched, under the shapes that come out."""

import threading

import jax
import numpy as np
import optax
import pytest
from helpers import assert_same_maps, compiled

from aljax import AlignmentConfig, GraphConfig, LayoutConfig, fit, prepare
from aljax.fit import lay_out
from aljax.layout import packing
from aljax.layout.ahead import Ahead
from aljax.layout.optimize import ADAM

KEY = jax.random.key(0)
FEW = GraphConfig(n_neighbors=5)
WIDE = AlignmentConfig(alignment_window_size=3)
MATES = AlignmentConfig(frame="mates")
MOTION = AlignmentConfig(motion_fidelity=1.0)
SPHERE = LayoutConfig(output_metric="haversine")
# Every fifth slice has mates in the next one, but for a row.
GAPS = [[(t % 5 == 4, t % 5 == 0 and t, i) for i in range(5)] for t in range(12)]
RING = (np.arange(12)[:, None] + np.arange(5)) % 12


class Recorder:
    """A program that keeps the shapes it is lowered with, and cannot be compiled."""

    arguments: tuple = ()

    def lower(self, *arguments, **options):
        assert (options["n_shifts"], options["optimizer"]) == (40, ADAM)
        self.arguments = arguments
        return self

    def compile(self):
        raise RuntimeError("out of memory")


def slices(count, rows=12, noise=0.1):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(rows, 3))
    return [base + rng.normal(0, noise, base.shape) for _ in range(count)]


def same(count, rows=12):
    return [{i: i for i in range(rows)}] * (count - 1)


def shapes(tree):
    return jax.tree.map(lambda leaf: (np.shape(leaf), np.dtype(leaf.dtype)), tree)


# Slices of few rows: their graphs share two programs.
CASES = {
    "dicts": (slices(3), same(3), {}),
    "window": (slices(4), [[*range(12)]] * 4, {"alignment": WIDE}),
    "several mates": (slices(2), {(0, 1): [(0, i) for i in range(7)]}, {}),
    "anchors": (slices(12, 5), same(12, 5), {}),
    "no anchors": (slices(12, 5), same(12, 5), {"alignment": MATES}),
    "gaps": (slices(12, 5), GAPS, {}),
    "densmap": (slices(3), same(3), {"layout": LayoutConfig(densmap=True)}),
    "components": (slices(3), same(3), {"layout": LayoutConfig(n_components=3)}),
    "motion": (slices(3), same(3), {"alignment": MOTION}),
    "motion alone": (slices(1), None, {"alignment": MOTION}),
    "fewer neighbors": (slices(2), same(2), {"graph": GraphConfig(n_neighbors=[4, 5])}),
    "tiny": ([slices(1)[0], slices(1)[0][:2]], [{0: 0, 1: 1}], {}),
    "sphere": (slices(3), same(3), {"layout": SPHERE}),
}


@pytest.mark.parametrize(("data", "relations", "settings"), CASES.values(), ids=CASES)
@pytest.mark.filterwarnings(
    "ignore:`n_neighbors` reaches", "ignore:.*no mates", "ignore:.*without an edge"
)
def test_the_shapes_are_those_that_come_out(data, relations, settings):
    program = Recorder()
    ahead = Ahead(program, ADAM)
    options = {"graph": FEW, **settings}
    prepared = prepare(data, relations, key=KEY, ahead=ahead, **options)
    ahead.wait_to_lay_out()  # which raises nothing: the call itself will
    problem, params, state, _ = program.arguments
    assert shapes(problem) == shapes(prepared.problem)
    assert shapes(params) == shapes(prepared.params)
    assert shapes(state) == shapes(prepared.state)


@pytest.mark.parametrize("layout", [LayoutConfig(), LayoutConfig(densmap=True)])
def test_the_shapes_of_slices_that_are_cut_are_those_of_their_rows(monkeypatch, layout):
    monkeypatch.setattr(packing, "SHORTEST", 4)
    monkeypatch.setattr(packing, "SPARED", 0)
    data = [slices(1)[0], *(rows[:6] for rows in slices(8))]
    relations = [{0: 3, 1: 1}, *same(8, 6)]
    program = Recorder()
    ahead = Ahead(program, ADAM)
    options = {"graph": FEW, "layout": layout, "alignment": WIDE}
    begun = prepare(data, relations, key=KEY, ahead=ahead, **options)
    cut = packing.rows_for(begun.problem.n_points, begun.state)
    assert cut is not None
    packed = packing.pack(begun.problem, begun.params, begun.state, cut)
    for expected, made in zip(program.arguments, packed, strict=False):
        assert shapes(expected) == shapes(made)


@pytest.mark.parametrize(
    "settings",
    [
        {"layout": LayoutConfig(n_epochs=0)},
        {"y": [np.arange(12) % 2] * 2},
        {"precomputed_knn": [(RING, np.tile(np.arange(5.0), (12, 1)))] * 2},
    ],
    ids=["no epochs", "y", "neighbors"],
)
def test_nothing_is_compiled_whose_shapes_are_unknown(settings):
    program = Recorder()
    ahead = Ahead(program, ADAM)
    prepare(slices(2), same(2), key=KEY, graph=FEW, ahead=ahead, **settings)
    assert not program.arguments
    ahead.wait_to_lay_out()


def test_an_optimizer_whose_start_cannot_be_traced_is_left_to_the_call():
    def zeros(params):
        return np.zeros_like(np.asarray(params))

    def update(updates, state, params=None):
        del params
        return updates, state

    program, optimizer = Recorder(), optax.GradientTransformation(zeros, update)
    ahead = Ahead(program, optimizer)
    options = {"graph": FEW, "ahead": ahead, "optimizer": optimizer}
    prepare(slices(2), same(2), key=KEY, **options)
    assert not program.arguments


def test_rows_of_many_mates_are_left_to_the_call(monkeypatch):
    monkeypatch.setattr(packing, "SHORTEST", 4)
    monkeypatch.setattr(packing, "SPARED", 0)
    data = [slices(1)[0], *(rows[:6] for rows in slices(9))]
    program = Recorder()
    for window in (packing.FEW + 1, packing.FEW):
        alignment = AlignmentConfig(alignment_window_size=window, frame="mates")
        options = {"graph": FEW, "alignment": alignment}
        ahead = Ahead(program, ADAM)
        ids = [[*range(len(rows))] for rows in data]
        prepare(data, ids, key=KEY, ahead=ahead, **options)
        assert bool(program.arguments) == (window == packing.FEW)
        ahead.wait_to_lay_out()


def test_a_layout_is_compiled_once_in_a_thread_under_the_callers_settings():
    layout = LayoutConfig(n_epochs=3, n_shifts=3)  # as no other test has them
    with jax.enable_x64(True), compiled() as programs:
        fit(slices(2), same(2), key=KEY, graph=FEW, layout=layout)
    threads = dict(programs)
    assert len(threads) == len(programs)
    for name in ("run", "fuzzy_simplicial_set"):
        assert threads[f"jit({name})"] is not threading.main_thread()


def test_maps_are_the_same_where_the_shapes_were_not_foreseen():
    # Mates as far apart as anchors are, which may be the same, or not.
    arguments = slices(12, 5, noise=2.0), [[*range(5)]] * 12
    options = {
        "graph": GraphConfig(n_neighbors=4),
        "layout": LayoutConfig(n_epochs=3),
        "alignment": AlignmentConfig(alignment_window_size=11, frame="population"),
    }
    with compiled() as programs:
        maps = fit(*arguments, key=KEY, **options)
    plain = lay_out(prepare(*arguments, key=KEY, **options), None, key=KEY)
    assert len([name for name, _ in programs if "run" in name]) == 2
    assert_same_maps(maps.slices(), plain.slices())
