"""Run by test_sharding.py where JAX sees 8 virtual CPU devices; prints JSON.

python on_devices.py [devices,slices,window,epochs,x64 ...]
"""

import json
import sys

import jax
import numpy as np
from helpers import NEIGHBORS, make_data, make_relations, programs

import aljax
from aljax.config import AlignmentConfig, LayoutConfig
from aljax.fit import Prepared
from aljax.layout.optimize import run
from aljax.layout.sharding import collect, mesh_of, place, sharded_loss
from experiments.benchmarks.scale import collectives

SHIFTS = 5


def problem_of(slices: int, window: int, epochs: int) -> Prepared:
    """What a fit of so many epochs begins with."""
    sizes = [(41, 48, 45)[t % 3] for t in range(slices)]
    frame = "population" if slices == 12 else "mates"  # with anchors 10 slices away
    return aljax.prepare(
        make_data(sizes),
        make_relations(sizes),
        key=jax.random.key(0),
        graph=aljax.GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(n_epochs=epochs),
        alignment=AlignmentConfig(alignment_window_size=window, frame=frame),
    )


def compare(devices: int, slices: int, window: int, epochs: int) -> dict:
    """The farthest that many devices' maps are from one's, and what they sent."""
    prepared = problem_of(slices, window, epochs)
    problem, params, state = prepared.problem, prepared.params, prepared.state
    key, start = jax.random.key(0), state.maps
    one = run(problem, params, state, epochs, key=key, n_shifts=SHIFTS)
    mesh = mesh_of(jax.devices()[:devices], slices)
    placed = place(problem, params, state, key=key, mesh=mesh)
    with jax.set_mesh(mesh):
        options = {"key": placed.key, "n_shifts": SHIFTS, "loss": sharded_loss}
        lowered = run.lower(*placed[:3], epochs, **options)
        text = lowered.compile().as_text()
        began = programs(run)[0]
        ended = run(*placed[:3], epochs // 2, **options)
        ended = run(*placed[:2], ended, epochs, **options)
        many = collect(ended, problem, mesh=mesh)
    moved = np.abs(np.asarray(many.maps) - np.asarray(one.maps)).max()
    lost = np.abs(np.asarray(many.history.total() / one.history.total())[0] - 1)
    return {
        "mesh": dict(mesh.shape),
        "map": problem.order.shape[1] * 2 * start.dtype.itemsize,
        "dtype": str(start.dtype),
        "moved": float(moved),
        "began": float(np.abs(np.asarray(one.maps) - np.asarray(start)).max()),
        "lost": float(lost),
        "programs": programs(run)[0] - began,
        "collectives": collectives(text or "", devices),
    }


def fitted(devices: int | None, seed: int = 0) -> aljax.AlignedEmbedding:
    sizes = (41, 48, 45)
    return aljax.fit(
        make_data(sizes),
        make_relations(sizes),
        key=jax.random.key(seed),
        graph=aljax.GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(n_epochs=1, densmap=True),
        devices=devices,
    )


def main(cases: list[str]) -> None:
    found = []
    for case in cases:
        *numbers, double = map(int, case.split(","))
        with jax.enable_x64(bool(double)):
            found.append(compare(*numbers))
    pairs = zip(fitted(None).maps, fitted(4).maps, strict=True)
    moved = max(float(np.abs(one - many).max()) for one, many in pairs)
    print(json.dumps({"cases": found, "fit": moved}))


if __name__ == "__main__":
    main(sys.argv[1:])
