"""Slices cut into rows: the same objective, and work that follows the points."""

import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import optax
import pytest
from helpers import NEIGHBORS, compiled
from sklearn.datasets import load_digits

import aljax
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.layout import objective, packing
from aljax.layout.objective import aligned_loss
from aljax.layout.shifts import draw_shifts
from aljax.metrics import displacement, trustworthiness

LENGTH = 32
SIZES = (130, 20, 15, 53)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(packing, "SHORTEST", LENGTH)
    monkeypatch.setattr(packing, "SPARED", 0)


def given(sizes=SIZES) -> dict[str, Any]:
    """Slices of some sizes, their ids, and settings of their graphs."""
    rng = np.random.default_rng(0)
    return {
        "slices": [rng.normal(size=(size, 5)).astype(np.float32) for size in sizes],
        "relations": [[*range(size)] for size in sizes],
        "graph": GraphConfig(n_neighbors=NEIGHBORS),
    }


def prepared(sizes=SIZES, **alignment: Any) -> Any:
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 2, size=size) for size in sizes]
    return aljax.prepare(
        **given(sizes),
        key=jax.random.key(0),
        layout=LayoutConfig(min_dist=[0.1, 0.2, 0.3, 0.05][: len(sizes)], n_epochs=20),
        alignment=AlignmentConfig(alignment_window_size=2, **alignment),
        point_weights=weights,
    )


def packed_of(begun: Any) -> tuple[packing.Rows, packing.Packed]:
    rows = packing.rows_for(begun.problem.n_points, begun.state)
    assert rows is not None
    return rows, packing.pack(begun.problem, begun.params, begun.state, rows)


@pytest.mark.parametrize(
    "motion_fidelity", [pytest.param(0.0, marks=pytest.mark.slow), 1.0]
)
def test_loss_and_gradient_are_those_of_the_whole_slices(motion_fidelity):
    begun = prepared(motion_fidelity=motion_fidelity)
    rows, packed = packed_of(begun)
    everything = max(SIZES) // 2  # shifts that meet every pair of points
    whole, cut = (
        draw_shifts(jax.random.key(1), problem.n_points, n_shifts=everything)
        for problem in (begun.problem, packed.problem)
    )

    def of_whole(maps):
        terms = aligned_loss(maps, begun.problem, begun.params, whole)
        return terms.total(), terms

    def of_rows(maps):
        terms = packing.packed_loss(maps, packed.problem, packed.params, cut)
        return terms.total(), terms

    steep, terms = jax.jit(jax.grad(of_whole, has_aux=True))(begun.state.maps)
    slope, of_row = jax.jit(jax.grad(of_rows, has_aux=True))(packed.state.maps)
    for name in ("attraction", "repulsion", "alignment"):
        summed = np.add.reduceat(np.asarray(getattr(of_row, name)), rows.starts)
        assert (summed[:-1] > 0).all()
        np.testing.assert_allclose(summed, getattr(terms, name), rtol=1e-5)
    moved = dataclasses.replace(packed.state, maps=slope)
    state = packing.unpack(moved, begun.problem, rows)
    scale = float(np.abs(steep).max())
    np.testing.assert_allclose(state.maps, steep, atol=1e-5 * scale)


@pytest.mark.slow
def test_rows_a_few_at_a_time_give_the_same_in_less_memory(monkeypatch):
    _, packed = packed_of(prepared(motion_fidelity=1.0))
    arguments = packed.state.maps, packed.problem, packed.params
    shifts = draw_shifts(jax.random.key(1), packed.problem.n_points, n_shifts=4)

    def evaluated():
        loss = lambda *those: packing.packed_loss(*those).total()  # noqa: E731
        program = jax.jit(jax.value_and_grad(loss)).lower(*arguments, shifts).compile()
        used: Any = program.memory_analysis()
        return program(*arguments, shifts), used.temp_size_in_bytes

    (total, slope), size = evaluated()
    monkeypatch.setattr(objective, "LARGE", 1)
    monkeypatch.setattr(objective, "AT_ONCE", 2 * LENGTH)
    (of_few, slope_of_few), size_of_few = evaluated()
    assert size_of_few < 0.8 * size
    assert float(of_few) == pytest.approx(float(total), rel=1e-6)
    scale = float(np.abs(slope).max())
    np.testing.assert_allclose(slope_of_few, slope, atol=1e-5 * scale)


def test_a_state_comes_back_as_it_was():
    begun = prepared()
    rows, packed = packed_of(begun)
    assert packed.state.maps.shape == (rows.number, 2, LENGTH)
    back = packing.unpack(packed.state, begun.problem, rows)
    for was, now in zip(*map(jax.tree.leaves, (begun.state, back)), strict=True):
        np.testing.assert_array_equal(was, now)


def test_rows_hold_all_points_once_and_little_else():
    begun = prepared()
    rows, packed = packed_of(begun)
    assert rows.sizes == SIZES
    assert rows.number * rows.length < 1.5 * sum(SIZES)
    degrees = np.asarray(packed.problem.degrees).ravel()
    for t, (span, size) in enumerate(zip(rows.spans(), SIZES, strict=True)):
        np.testing.assert_array_equal(degrees[span], begun.problem.degrees[t, :size])
    assert degrees.sum() == pytest.approx(float(begun.problem.degrees.sum()))


@pytest.mark.parametrize("sizes", [(60, 60, 60), (130,), (60, 50, 64)])
def test_slices_of_like_sizes_stay_whole(sizes):
    begun = prepared(sizes)
    assert packing.rows_for(begun.problem.n_points, begun.state) is None


def test_slices_stay_whole_where_padding_adds_few_points(monkeypatch):
    padded = 5 * packing.round_up(2000)
    plan = packing.plan([2000, *[20] * 4], padded // 5)
    assert plan is not None
    spared = padded - plan.number * plan.length
    monkeypatch.setattr(packing, "SPARED", spared)
    assert packing.plan([2000, *[20] * 4], padded // 5) is None


@pytest.mark.usefixtures("as_users_run_it")
def test_slices_stay_whole_for_moments_of_another_shape():
    factored = optax.scale_by_sm3()  # keeps a number for each slice, and more
    layout = LayoutConfig(n_epochs=3)
    key = jax.random.key(0)
    with compiled() as programs:
        fitted = aljax.fit(**given(), key=key, layout=layout, optimizer=factored)
    assert [name for name, _ in programs if "run" in name] == ["jit(run)"]
    assert all(np.isfinite(y).all() for y in fitted.maps)


@pytest.fixture(scope="module")
def ragged() -> dict[str, Any]:
    """Few digits, then all that there are, then few again."""
    digits: Any = load_digits()
    data = digits.data.astype(np.float32)
    rows = [np.arange(0, 900, step) for step in (6, 4, 1, 6)]
    return {"slices": [data[r] for r in rows], "relations": [r.tolist() for r in rows]}


@pytest.mark.slow
def test_maps_are_as_good_as_those_of_whole_slices(ragged, monkeypatch):
    key, layout = jax.random.key(0), LayoutConfig(n_epochs=100)
    packed = aljax.fit(**ragged, key=key, layout=layout)
    monkeypatch.setattr(sys.modules["aljax.fit"], "rows_for", lambda *_: None)
    whole = aljax.fit(**ragged, key=key, layout=layout)
    assert any((x != y).any() for x, y in zip(packed.maps, whole.maps, strict=True))
    trust = {
        name: np.mean([*map(trustworthiness, ragged["slices"], fitted.maps)])
        for name, fitted in {"packed": packed, "whole": whole}.items()
    }
    assert trust["packed"] > trust["whole"] - 0.005
    apart = (displacement(fitted.maps, fitted.relations) for fitted in (packed, whole))
    assert next(apart) < 1.1 * next(apart)
    ends = (float(fitted.history.total()[-1]) for fitted in (packed, whole))
    assert next(ends) == pytest.approx(next(ends), rel=0.02)


def test_a_layout_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    seen = []

    def stop(state: Any) -> None:
        seen.append(state.maps.shape)
        if len(seen) == 5:
            raise KeyboardInterrupt

    kept = given() | {"key": jax.random.key(0), "layout": LayoutConfig(n_epochs=40)}
    straight = aljax.fit(**kept)
    made = aljax.Checkpoints(tmp_path, epochs=2)
    with pytest.raises(KeyboardInterrupt), made:
        aljax.fit(**kept, checkpoints=made, progress=stop)
    assert {*seen} == {(4, 2, 160)}  # as the problem's, not as the rows'
    again, left = aljax.Checkpoints(tmp_path, resume=True), []
    went_on = {"checkpoints": again, "progress": lambda state: left.append(state.epoch)}
    resumed = aljax.fit(**kept, **went_on)
    assert left[0] > 2  # the first chunk is not laid out again
    for was, now in zip(straight.maps, resumed.maps, strict=True):
        np.testing.assert_array_equal(was, now)
