"""Measures what devices cost and send, and models a layout too large for one.

    python -m experiments.benchmarks.scale [epochs model neighbors rows]

`epochs` runs 1, 2, 4 and 8 virtual CPU devices, each in a process of its own;
`neighbors` builds the graphs of 20 slices x 50,000 rows, each slice in a process of
its own (two at once), as it would be on machines of their own; `rows` shares the
400,000 rows of one slice by 1, 2 and 4 processes.  It prints a table for each and
writes `results/benchmarks/scale.json`.
"""

import math
import os
import re
import sys
import tempfile
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import aljax
import aljax.distributed
from aljax.layout.optimize import bytes_of_row, default_shifts, init, run
from aljax.layout.problem import AlignedProblem, layout_params
from aljax.layout.sharding import VIRTUAL, mesh_of, place, sharded_loss
from experiments.benchmarks.cases import clusters
from experiments.benchmarks.neighbors import recall_of_others
from experiments.benchmarks.parts import Row, alone, run_parts
from experiments.benchmarks.resume import free_address
from experiments.clocks import clocked, peak_memory

DEVICES = (1, 2, 4, 8)
NEIGHBORS, WINDOW, COMPONENTS = 14, 3, 2
EPOCHS, REPEATS = 20, 5
ROWS, SLICES = 50_000, 20
SHARED = 400_000, 64  # rows and columns of the slice that processes share
# For each slice of the window its map, its gradient back, and pulls (half as much); of
# every tenth epoch, which is recorded, the map and pulls once more.
MAPS_SENT = 2.65
# The layout that the model is asked for.
LARGE = {"slices": 1000, "points": 1_000_000, "devices": 64}
SIZES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "f16": 2, "pred": 1}
RECORDED = 0.1  # of the epochs: what stands in the branch that records the loss
# Bytes sent by a device for each byte of the result, at most.
FACTORS = {
    "collective-permute": 1,
    "all-gather": 1,
    "all-to-all": 1,
    "reduce-scatter": 1,
    "all-reduce": 2,
}
LINE = re.compile(rf"= (.*?) ({'|'.join(FACTORS)})(?:-start)?\((.*)")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One exchange of an epoch: `sent` bytes by a device, on average over epochs."""

    kind: str
    largest: int
    sent: float


def collectives(text: str, devices: int) -> list[Collective]:
    """Returns all exchanges of an epoch.

    Args:
        text: The program of `run`, as `lower(...).compile().as_text()` has it.
        devices: How many it runs on.
    """
    exchanges = []
    for line in text.splitlines():
        match = LINE.search(line)
        if match is None:
            continue
        arrays = [_bytes(*array) for array in ARRAY.findall(match[1])]
        pairs = re.search(r"source_target_pairs=\{\{(.*?)\}\}", line)
        share = (pairs[1].count("},{") + 1) / devices if pairs else 1.0
        frequency = RECORDED if "cond/" in line else 1.0
        sent = sum(arrays) * FACTORS[match[2]] * share * frequency
        exchanges.append(Collective(match[2], max(arrays), sent))
    return exchanges


def _bytes(kind: str, shape: str) -> int:
    return SIZES[kind] * math.prod(map(int, filter(None, shape.split(","))))


def made_up(slices: int, points: int) -> AlignedProblem:
    """Returns arrays of a problem's shapes: the data do not matter for the cost."""
    rng = np.random.default_rng(0)
    table, mates = (slices, NEIGHBORS, points), (slices, WINDOW, 1, points)
    ahead = np.arange(1, WINDOW + 1)[None, :, None, None]
    exists = np.arange(slices)[:, None, None, None] + ahead < slices
    full, integers = np.full((slices, points), NEIGHBORS / 2, np.float32), np.int32
    arrays: dict[str, Any] = {
        "neighbors": rng.integers(points, size=table, dtype=integers),
        "weights": rng.uniform(size=table).astype(np.float32),
        "degrees": full,
        "n_points": np.full(slices, points, integers),
        "mates": rng.integers(points, size=mates, dtype=integers),
        "strengths": (np.ones(mates) * exists).astype(np.float32),
        "pulls": full,
        "free": np.ones_like(full),
        "order": np.tile(np.arange(points, dtype=integers), (slices, 1)),
    }
    offsets = tuple(range(1, WINDOW + 1))
    return AlignedProblem(**jax.tree.map(jnp.asarray, arrays), offsets=offsets)


def on(case: tuple[int, int, int]) -> Row:
    """Measures seconds and bytes of an epoch on the first devices of this process.

    Args:
        case: The numbers of devices, slices and points.
    """
    devices, slices, points = case
    problem = made_up(slices, points)
    params = layout_params(aljax.LayoutConfig(), aljax.AlignmentConfig(), slices=slices)
    rng = np.random.default_rng(1)
    start = rng.normal(size=(slices, COMPONENTS, points)).astype(np.float32)
    state = init(jnp.asarray(start), n_epochs=10_000)
    mesh = mesh_of(jax.devices()[:devices], slices)
    key = jax.random.key(0)
    placed = place(problem, params, state, key=key, mesh=mesh)
    options = {
        "key": placed.key,
        "n_shifts": default_shifts(points, slices * points),
        "loss": sharded_loss,
    }
    with jax.set_mesh(mesh):
        compiled = run.lower(*placed[:3], EPOCHS, **options).compile()
        exchanges = collectives(compiled.as_text() or "", devices)
        state = jax.block_until_ready(run(*placed[:3], EPOCHS, **options))
        seconds = []
        for repeat in range(REPEATS):
            stop = EPOCHS * (repeat + 2)
            call = partial(run, *placed[:2], state, stop, **options)
            state, took = clocked(call)
            seconds.append(took / EPOCHS)
    memory = compiled.memory_analysis()
    sent = sum(exchange.sent for exchange in exchanges)
    n_bytes = memory and memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return {
        "devices": devices,
        "mesh": " x ".join(map(str, mesh.shape.values())),
        "slices x points": f"{slices} x {points:,}",
        "ms per epoch": 1000 * float(np.median(seconds)),
        "KB sent per device and epoch": sent / 1000,
        "maps": sent / (COMPONENTS * 4 * points),
        "kinds": ", ".join(sorted({exchange.kind for exchange in exchanges})) or "none",
        "MB per device": n_bytes / 1e6 if n_bytes else None,
    }


def epochs() -> list[Row]:
    """Times an epoch on 1 to 8 virtual devices: many slices, and one that is cut."""
    rows: list[Row] = []
    for shape, devices in product(((16, 5_000), (1, 80_000)), DEVICES):
        rows += alone(on, [(devices, *shape)], flags=f"{VIRTUAL}={devices}")
    print(f"{os.cpu_count()} real cores: seconds say what cutting costs, no speed-up.")
    return rows


def model() -> list[Row]:
    """Models memory and bytes of the large layout, from shapes and counted bytes.

    Memory is that of `bytes_of_row`, which follows XLA's own reports; bytes are those
    that `epochs` counts, in maps: they do not hang on how many slices a device has.
    """
    slices, points, devices = LARGE.values()
    per_device = -(-slices // devices)
    small = made_up(1, 1000)
    shifts = default_shifts(points, slices * points)
    options: Any = {"components": COMPONENTS, "n_shifts": shifts}
    slice_bytes = bytes_of_row(small, **options) * points / 1000
    sent = MAPS_SENT * WINDOW * COMPONENTS * 4 * points
    tables = sum(leaf.nbytes for leaf in jax.tree.leaves(small)) * points / 1000
    return [
        {
            "layout": f"{slices:,} x {points:,} on {devices}",
            "slices per device": per_device,
            "GB per device, problem": per_device * tables / 1e9,
            "GB per device, epoch": per_device * slice_bytes / 1e9,
            "MB sent per device and epoch": sent / 1e6,
        }
    ]


def neighbors() -> list[Row]:
    """Builds graphs of 20 slices x 50,000 rows, each slice a job of its own."""
    rows, total_seconds = clocked(lambda: alone(job, range(SLICES), at_once=2))
    graph, start = (
        float(np.median([row[stage] for row in rows])) for stage in ("graph", "start")
    )
    return [
        {
            "slices x rows": f"{SLICES} x {ROWS:,}",
            "graph s, median": graph,
            "start s, median": start,
            "MB per job, most": max(row["peak"] for row in rows),
            "s in all, two at once": total_seconds,
        }
    ]


def job(t: int) -> Row:
    """Builds the graph of one slice, as a job that knows of no other."""
    data = clusters(1, ROWS, seed=t)
    seconds = aljax.prepare(data.slices, key=jax.random.key(0)).seconds
    return seconds | {"peak": peak_memory()}


def rows() -> list[Row]:
    """Lays out one slice whose rows 1, 2 and 4 processes share on this machine."""
    points, features = SHARED
    (rows,) = clusters(1, points, features).slices
    data = np.random.default_rng(1).permutation(rows)
    trust_rows = np.random.default_rng(2).choice(points, 20_000, replace=False)
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/rows.npy", data.astype(np.float32))
        for count in (1, 2, 4):
            address = free_address()
            cases = [(folder, address, count, process) for process in range(count)]
            shares = alone(share_of_rows, cases, at_once=count)
            lists = [np.load(f"{folder}/near_{p}.npy") for p in range(count)]
            recall = recall_of_others(data, np.concatenate(lists, axis=1))
            positions = np.load(f"{folder}/positions.npy")
            trust = aljax.metrics.trustworthiness(
                data[trust_rows], positions[trust_rows], rows=np.arange(1000)
            )
            slowest = {name: max(row[name] for row in shares) for name in shares[0]}
            table.append(
                {"processes": count, "rows each": points // count}
                | slowest
                | {"recall": recall, "trust": trust}
            )
    return table


def share_of_rows(case: tuple[str, str, int, int]) -> Row:
    """Lays out the rows of a file together with other processes, and keeps its part."""
    folder, address, count, process = case
    if count > 1:
        aljax.distributed.connect(address, count, process, log=None)
    all_rows = np.load(f"{folder}/rows.npy", mmap_mode="r")
    local = np.array(np.array_split(all_rows, count)[process])
    fitted = aljax.distributed.fit_rows(local, key=jax.random.key(0))
    np.save(f"{folder}/near_{process}.npy", np.asarray(fitted.neighbors.indices))
    if process == 0:
        np.save(f"{folder}/positions.npy", fitted.positions)
    stages = {f"{name} s": fitted.seconds[name] for name in ("neighbors", "layout")}
    memory = {"share MiB": local.nbytes / 2**20, "peak MiB": peak_memory()}
    return stages | memory


if __name__ == "__main__":
    sys.exit(run_parts("scale", epochs, model, neighbors, rows))
