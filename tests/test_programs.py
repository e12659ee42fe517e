"""Programs do not grow with the number of sizes: JAX tells of each it compiles."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import NEIGHBORS, compiled, refused

from aljax import (
    GraphConfig,
    LayoutConfig,
    enable_compilation_cache,
    fit,
    inverse_transform,
    metrics,
)
from aljax.graph.build import build_graphs
from aljax.graph.knn import SMALL, capacity_for
from aljax.graph.slices import read_slices

MANY = (67, 72, 84, 97, 111, 122, 128)
EQUAL = (128,) * len(MANY)
FEATURES = 7  # as no other test has them: nothing is compiled before
QUICK = {
    "graph": GraphConfig(n_neighbors=NEIGHBORS),
    "layout": LayoutConfig(n_epochs=2),
}


def ragged(sizes, features=FEATURES) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(size, features)).astype(np.float32) for size in sizes]


def lay_out(sizes):
    ids = [list(range(size)) for size in sizes]
    return fit(ragged(sizes), ids, key=jax.random.key(0), **QUICK)


@pytest.fixture(scope="module")
def maps():
    return lay_out(MANY)


def test_a_fit_of_many_sizes_shares_the_programs_of_equal_ones():
    with compiled() as of_equal:
        lay_out(EQUAL)
    assert any("fuzzy_simplicial_set" in name for name, _ in of_equal)
    with compiled() as of_many:
        lay_out(MANY)
    assert len(of_many) <= 2


def test_another_size_of_the_same_capacity_compiles_nothing_in_the_graph():
    config = QUICK["graph"]
    build_graphs(read_slices(ragged([70])), config)
    with compiled() as names:
        for size in MANY:
            build_graphs(read_slices(ragged([size])), config)
    assert not names


def test_measures_of_many_sizes_share_their_programs():
    def measure(sizes, *n_neighbors):
        for data in ragged(sizes):
            embedding, labels = data[:, :2], np.arange(len(data)) % 3
            for k in n_neighbors:
                metrics.trustworthiness(data, embedding, n_neighbors=k)
                metrics.neighborhood_preservation(data, embedding, n_neighbors=k)
            metrics.knn_accuracy(embedding, labels)

    measure([70], 15)
    with compiled() as names:
        measure(MANY, 0.05, 15)
    assert not names


def test_new_rows_of_slices_of_many_sizes_share_their_programs(maps):
    (rows,) = ragged([9])
    maps.transform(rows, slice=-1)
    with compiled() as names:
        placed = [maps.transform(rows, slice=t) for t in range(len(MANY))]
    assert not names
    assert {positions.shape for positions in placed} == {(9, 2)}


def test_the_inverse_in_slices_of_many_sizes_shares_its_programs(maps):
    (positions,) = ragged([9], 2)
    maps.inverse_transform(positions, slice=-1)
    with compiled() as names:
        counts = {
            maps.inverse_transform(positions[: t + 1], slice=t).neighbors.shape
            for t in range(len(MANY))
        }
        maps.inverse_transform(positions, slice=0, n_neighbors=14)
    assert not names
    assert counts == {(t + 1, 10) for t in range(len(MANY))}


def test_couplings_of_other_data_share_their_programs():
    def fitted(seed: int) -> int:
        rng = np.random.default_rng(seed)
        members = rng.normal(size=(240, FEATURES))
        slices = [
            members[rng.permutation(240)[:180]] + rng.normal(0, 0.05, (180, FEATURES))
            for _ in range(3)
        ]
        maps = fit(slices, "transport", key=jax.random.key(0), **QUICK)
        return max(
            int(np.bincount(pair.rows).max()) for pair in maps.relations.values()
        )

    first = fitted(0)
    with compiled() as names:
        others = {fitted(seed) for seed in range(1, 4)}
    assert others - {first}  # mates of a row
    assert not names


def test_a_padded_map_is_inverted_as_one_that_is_not():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(9, 2))
    embedding, data = (rng.normal(size=(70, width)) for width in (2, FEATURES))
    padded, unpadded = (
        inverse_transform(queries, place(embedding), place(data), n_neighbors=11)
        for place in (np.asarray, jnp.asarray)
    )
    np.testing.assert_array_equal(padded.neighbors, unpadded.neighbors)
    np.testing.assert_array_equal(padded.inside, unpadded.inside)
    np.testing.assert_allclose(padded.points, unpadded.points, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(padded.distance, unpadded.distance, rtol=1e-5)


def test_a_graph_has_the_same_bits_alone_and_beside_others():
    slices, config = read_slices(ragged((70, 40, 128))), QUICK["graph"]
    together = build_graphs(slices, config)
    for one, graph in zip(slices, together, strict=True):
        (alone,) = build_graphs([one], config)
        jax.tree.map(np.testing.assert_array_equal, alone, graph)


def test_slices_beyond_a_batch_or_of_other_settings_have_the_same_graphs(monkeypatch):
    slices = read_slices(ragged((70, 40, 128, 60)))
    config = GraphConfig(
        n_neighbors=[6, 5, 6, 5],
        local_connectivity=[1.0, 2.0, 1.5, 1.0],
        set_op_mix_ratio=[1.0, 0.5, 0.0, 1.0],
    )
    together = build_graphs(slices, config)
    monkeypatch.setattr("aljax.graph.build.BATCH", 100)
    apart = build_graphs(slices, config)
    jax.tree.map(np.testing.assert_array_equal, together, apart)
    assert [graph.neighbors.shape[0] for graph in together] == [6, 5, 6, 5]


FILLS_A_CACHE = """
import sys, jax, aljax
print(aljax.enable_compilation_cache(sys.argv[1]))
jax.jit(lambda x: 3 * x)(1.0)
"""


def test_programs_are_kept_for_later_processes(tmp_path):
    folder = tmp_path / "a" / "cache"
    command = [sys.executable, "-c", FILLS_A_CACHE, str(folder)]
    for _ in range(2):
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == str(folder)
    assert [path.name.split("-")[0] for path in folder.glob("*-cache")] == [
        "jit__lambda"
    ]


def test_a_cache_where_a_file_is_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with refused("folder", str(path), "a folder"):
        enable_compilation_cache(path)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_cache_in_what_is_no_folder_is_refused():
    with refused("folder", "an int"):
        enable_compilation_cache(5)  # pyright: ignore[reportArgumentType]


def test_capacities_are_few_and_add_at_most_half_to_large_slices():
    capacities = [capacity_for(points) for points in range(1, 4097)]
    for points, capacity in enumerate(capacities, 1):
        assert points <= capacity <= max(SMALL[1], 2 * points)
        assert capacity <= 1.5 * points or points <= SMALL[-1]
    assert len({*capacities}) == len(SMALL) + 6


FORKS = """
import os
from types import SimpleNamespace

import jax
import numpy as np

import aljax
from aljax import compilation
from aljax.graph import find_neighbors
from aljax.layout import graph_of, init, solve_layout
from aljax.metrics import local_radii, trustworthiness


def in_a_child(compute, patience):
    compilation.PATIENCE = patience
    child = os.fork()
    if child == 0:
        try:
            print(compute(), flush=True)
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)


in_a_child(compilation.check_fork, 60)
jax.jit(lambda: 1)()
data = np.eye(9)
model = SimpleNamespace(frame=None)
for door in (
    lambda: trustworthiness(data, data[:, :2], n_neighbors=3),
    lambda: local_radii(data, n_neighbors=3),
    lambda: find_neighbors(data, 3),
    lambda: aljax.explain(model, [0], at=0),
    lambda: graph_of(data, np.zeros((3, 9), int)),
    lambda: init(data[None], n_epochs=3),
    lambda: solve_layout(None, None, data[None], adjoint="implicit"),
):
    in_a_child(door, 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_forked_process_computes_unless_jax_had_run_before():
    command = [sys.executable, "-W", "ignore", "-c", FORKS]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300
    )
    before, *after = ran.stdout.strip().splitlines()
    assert before == "None"
    assert len(after) == 7
    assert all('"spawn"' in line for line in after)
