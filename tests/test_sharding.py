import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from helpers import (
    digit_windows,
    make_data,
    make_maps,
    make_problem,
    make_relations,
    refused,
)
from jax.sharding import Mesh

import aljax
from aljax.config import AlignmentConfig, LayoutConfig
from aljax.layout.optimize import init
from aljax.layout.problem import layout_params, stack_maps
from aljax.layout.sharding import VIRTUAL, mesh_of, place, read_devices, widths_of
from aljax.metrics import displacement, trustworthiness
from experiments.benchmarks.scale import collectives

HERE = Path(__file__).parent
SINGLE, DOUBLE = 1e-5, 1e-5  # after 1 epoch, and after 20


def on_devices(count: int, *arguments: str) -> str:
    """What a script prints where JAX sees so many virtual CPU devices."""
    env = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {VIRTUAL}={count}",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_cases(*cases: str) -> dict:
    found = json.loads(on_devices(8, str(HERE / "on_devices.py"), *cases))
    assert found["fit"] < SINGLE
    return found


@pytest.fixture(scope="module")
def on_eight() -> dict:
    return read_cases("8,16,2,1,0")["cases"][0]


def assert_same(case: dict) -> None:
    assert case["moved"] < (DOUBLE if case["dtype"] == "float64" else SINGLE)
    assert case["began"] > 0.1  # an epoch moves points
    assert case["lost"] < 1e-5
    assert case["programs"] == 1


def assert_boundary_maps_only(case: dict, window: int) -> None:
    """Between devices go the maps at the ends of their slices, there and back."""
    kinds = {kind for kind, _, _ in case["collectives"]}
    assert kinds == {"collective-permute"}
    assert max(largest for _, largest, _ in case["collectives"]) <= (
        window * case["map"]
    )
    # As many maps as the window is wide, their gradients back, and the pulls, which
    # are half as much; of the epochs that are recorded, maps and pulls once more.
    maps = window * (2 + 0.5 + 0.1 * 1.5)
    sent = sum(sent for *_, sent in case["collectives"])
    assert sent <= 1.01 * maps * case["map"]
    assert sent >= 2 * window * case["map"]


def test_eight_devices_give_the_maps_of_one(on_eight):
    assert on_eight["mesh"] == {"slices": 8, "points": 1}
    assert_same(on_eight)


def test_devices_exchange_only_the_maps_at_their_boundary(on_eight):
    assert_boundary_maps_only(on_eight, window=2)


@pytest.mark.slow
def test_any_shape_of_mesh_gives_the_maps_of_one_device():
    shapes = ["8,8,2", "8,1,1", "4,2,1", "8,6,3", "2,5,2", "8,3,2", "8,12,1", "4,16,3"]
    cases = [f"{one},{rest}" for one in shapes for rest in ("1,0", "20,1")]
    found = read_cases(*cases)["cases"]
    assert len(found) == len(cases)
    for case in found:
        assert_same(case)
    meshes = [tuple(case["mesh"].values()) for case in found[::2]]
    assert meshes == [(8, 1), (1, 8), (2, 2), (4, 2), (2, 1), (2, 4), (8, 1), (4, 1)]
    assert_boundary_maps_only(found[0], window=2)
    assert_boundary_maps_only(found[-2], window=3)


@pytest.mark.slow
def test_a_slice_cut_by_points_exchanges_maps_and_no_tables():
    (case,) = read_cases("8,1,1,1,0")["cases"]
    assert_same(case)
    every = [one for one in case["collectives"] if one[2] > 0]
    # The map whole to all, and its gradient, of which that of the shifts is double.
    assert max(largest for _, largest, _ in every) <= 2 * case["map"]
    assert sum(sent for *_, sent in every) <= 12 * case["map"]


def test_collectives_are_read_from_a_program():
    lines = [
        "  %p.1 = f32[2,2,48]{2,1,0} collective-permute(%x), "
        'source_target_pairs={{0,1},{1,0}}, metadata={op_name="jit(run)/while/body"}',
        '  %g = (f32[4]{0}, s32[8]{0}) all-reduce(%x), metadata={op_name="w/cond/b"}',
        "  %y = f32[9]{0} add(%g, %g)",
    ]
    found = collectives("\n".join(lines), 4)
    assert [one.kind for one in found] == ["collective-permute", "all-reduce"]
    assert [one.largest for one in found] == [768, 32]
    np.testing.assert_allclose([one.sent for one in found], [384, 9.6])


def test_slices_are_shared_out_first_and_points_by_devices_that_are_left():
    devices = jax.devices() * 8  # a mesh of one device, many times
    shapes = {
        slices: tuple(mesh_of(devices, slices).shape.values())
        for slices in (1, 2, 3, 7, 8, 9)
    }
    assert shapes == {1: (1, 8), 2: (2, 4), 3: (2, 4), 7: (4, 2), 8: (8, 1), 9: (8, 1)}
    assert mesh_of(devices, 6, processes=4).shape["slices"] == 4


def test_a_mesh_of_ones_own_leaves_the_communication_to_the_compiler():
    own = jax.make_mesh((1, 1), ("slices", "points"), devices=jax.devices()[:1])
    mesh = read_devices(own, 3)
    assert mesh is not None
    assert {kind.name for kind in mesh.axis_types} == {"Auto"}
    assert read_devices(None, 3) is None


def test_a_number_of_devices_may_be_numpys():
    mesh = read_devices(np.int64(1), 3)
    assert mesh is not None
    assert mesh.devices.tolist() == [jax.local_devices()[:1]]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("devices", "named"),
    [
        (99, ["`devices` is 99", f"there are {len(jax.devices())}", f"{VIRTUAL}=99"]),
        (0, ["`devices` is 0", "expected a number of devices"]),
        (True, ["`devices` is True"]),
        (1.5, ["`devices` is 1.5"]),
        ("cuda:0", ["`devices` is 'cuda:0'"]),
        ([], ["`devices` is empty"]),
        (["cpu"], ["`devices` has 'cpu', not a device"]),
        (jax.devices()[:1] * 2, ["`devices` has a device twice"]),
        (Mesh(jax.devices()[:1], ("x",)), ["axes ('x',)", "('slices', 'points')"]),
    ],
)
def test_devices_that_cannot_be_used_are_refused(devices, named):
    with pytest.raises(ValueError, match="`devices`") as refused:
        aljax.fit(
            make_data(),
            make_relations(),
            key=jax.random.key(0),
            devices=devices,
        )
    for part in named:
        assert part in str(refused.value)


def test_a_rule_whose_arrays_cannot_be_padded_is_refused():
    problem = make_problem()[2]
    first: Any = lambda maps: maps[:, :1, :1]  # noqa: E731
    rule = optax.GradientTransformation(first, optax.identity().update)
    params = layout_params(LayoutConfig(), AlignmentConfig(), slices=len(problem.order))
    state = init(stack_maps(make_maps(), problem), n_epochs=2)
    state = replace(state, moments=first(state.maps))
    options = {"key": jax.random.key(0), "mesh": mesh_of(jax.devices()[:1], 1)}
    options |= {"optimizer": rule}
    place(problem, params, state, **options)  # arrays that stay as they are
    widths = widths_of(problem) | {"slices": len(problem.order) + 1}
    with refused("optimizer", "other shapes than the maps'", "devices=None"):
        place(problem, params, state, widths=widths, **options)


def test_random_numbers_that_depend_on_the_devices_are_refused():
    jax.config.update("jax_threefry_partitionable", False)
    try:
        with pytest.raises(ValueError, match="jax_threefry_partitionable"):
            read_devices(1, 3)
    finally:
        jax.config.update("jax_threefry_partitionable", True)


SEEDS = """
import json, sys
import jax
from test_sharding import measured
print(json.dumps([measured(seed, 8) for seed in range(5)]))
"""


def measured(seed: int, devices: int | None) -> list[float]:
    data, relations, _ = digit_windows()
    found = aljax.fit(data, relations, key=jax.random.key(seed), devices=devices)
    pairs = zip(data, found.maps, strict=True)
    trust = [trustworthiness(rows, one, n_neighbors=15) for rows, one in pairs]
    near = {pair: m for pair, m in found.relations.items() if pair[1] == 1}
    return [float(np.mean(trust)), float(displacement(found.maps, near))]


@pytest.mark.slow
def test_whole_runs_measure_the_same_within_the_spread_of_seeds():
    many = np.array(json.loads(on_devices(8, "-c", SEEDS)))
    one = np.array([measured(seed, None) for seed in range(5)])
    spread = one.std(axis=0, ddof=1)
    gap = np.abs(many.mean(axis=0) - one.mean(axis=0))
    print("one", one.mean(axis=0), "eight", many.mean(axis=0), "spread", spread)
    # The difference of two means of five, at three standard deviations.
    assert (gap <= 3 * spread * np.sqrt(2 / 5)).all()
