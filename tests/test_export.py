"""Every program lowers for every platform, though only one of them is at hand."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import NEIGHBORS, SIZES, make_data, make_maps, make_problem
from jax import export

from aljax.config import AlignmentConfig, LayoutConfig
from aljax.graph.approximate import _search_leaf
from aljax.graph.cells import _cut, make_cells
from aljax.graph.exact import _search, exact_knn
from aljax.graph.fuzzy import fuzzy_simplicial_set
from aljax.graph.queries import _look_up
from aljax.layout.optimize import init, step
from aljax.layout.packing import Rows, pack, packed_loss
from aljax.layout.problem import layout_params, stack_maps
from aljax.metrics.ranks import place_neighbors

PLATFORMS = ("cpu", "cuda", "tpu")
POINTS = 48


def one_layout_step():
    _, _, problem = make_problem()
    params = layout_params(LayoutConfig(), AlignmentConfig(), slices=len(SIZES))
    state = init(stack_maps(make_maps(), problem), n_epochs=10)
    return lambda *given: step(*given, key=jax.random.key(0), n_shifts=8), (
        problem,
        params,
        state,
    )


def one_packed_step():
    _, (problem, params, state) = one_layout_step()
    options: dict[str, Any] = {"n_shifts": 8, "loss": packed_loss}
    return lambda *given: step(*given, key=jax.random.key(0), **options), pack(
        problem, params, state, Rows(16, 9, SIZES, (0, 3, 6))
    )


def exact_search():
    data = jnp.asarray(make_data([POINTS])[0])
    return lambda x, n: _search(x, n, NEIGHBORS), (data, jnp.asarray(POINTS))


def search_by_cells():
    data = make_data([POINTS])[0]
    cells = make_cells(data, POINTS)
    leaf = np.array([0, *cells.leaves], np.int32)
    search = partial(_search_leaf, places=cells.places, n_neighbors=NEIGHBORS)
    return search, (cells.placed, cells.blocks, leaf)


def queries_in_cells():
    data = make_data([POINTS])[0]
    cells = make_cells(data, POINTS)
    look_up = partial(_look_up, n_neighbors=NEIGHBORS)
    asked = jnp.asarray(data[:4]), jnp.arange(4, dtype=jnp.int32), jnp.asarray(4)
    return look_up, (cells.placed, cells.blocks, cells.axes, *asked)


def cells_of_a_leaf():
    data = jnp.asarray(make_data([POINTS])[0])
    return lambda x, n: _cut(x, n, cells=4), (data, jnp.asarray(POINTS))


def fuzzy_graph():
    return fuzzy_simplicial_set, (exact_knn(make_data([POINTS])[0], NEIGHBORS),)


def ranks():
    data = jnp.asarray(make_data([POINTS])[0])
    rows = jnp.arange(POINTS, dtype=jnp.int32)
    return lambda *given: place_neighbors(*given, 5, width=8), (
        data,
        data[:, :2],
        jnp.asarray(POINTS),
        rows,
    )


PROGRAMS = [
    *(one_layout_step, one_packed_step, exact_search, search_by_cells),
    *(cells_of_a_leaf, queries_in_cells, fuzzy_graph, ranks),
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_lower_for_cpu_gpu_and_tpu(program):
    function, given = program()
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*given)
    assert exported.platforms == PLATFORMS


SLOW = [pytest.param(p, marks=pytest.mark.slow) for p in PROGRAMS if p != fuzzy_graph]


@pytest.mark.parametrize("program", [fuzzy_graph, *SLOW])
def test_lowered_programs_compute_the_same(program):
    function, given = program()
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*given)
    expected = jax.tree.leaves(jax.jit(function)(*given))
    for found, leaf in zip(
        jax.tree.leaves(exported.call(*given)), expected, strict=True
    ):
        # Adam divides a gradient by its own size: rounding decides where it is 0.
        np.testing.assert_allclose(found, leaf, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "program",
    [exact_search, search_by_cells, cells_of_a_leaf, queries_in_cells, ranks],
)
def test_distances_are_not_computed_in_fewer_bits_than_they_have(program):
    # By default products are taken in TF32 on a GPU and in bfloat16 on a TPU: of
    # 10 and 7 bits, which lose neighbors as an offset of the data does.
    function, given = program()
    text = jax.jit(function).lower(*given).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    for line in products:
        assert "precision = [HIGHEST, HIGHEST]" in line
