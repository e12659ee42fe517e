"""Slices of few rows, or of none, take part in a sequence."""

import jax
import numpy as np
import pandas
import pytest
import scipy.sparse
from helpers import NEIGHBORS, make_data, refused

import aljax
from aljax.graph.build import fitting_neighbors
from aljax.graph.slices import read_slices
from aljax.sweep import SweepProblem, sweep

pytestmark = pytest.mark.usefixtures("as_users_run_it")
DATA = make_data((45, 45, 45))
GRAPH = aljax.GraphConfig(n_neighbors=NEIGHBORS)
LAYOUT = aljax.LayoutConfig(n_epochs=60)


def lay_out(sizes, **options) -> aljax.AlignedEmbedding:
    slices = [data[:size] for data, size in zip(DATA, sizes, strict=True)]
    ids = [list(range(size)) for size in sizes]
    settings = {"key": jax.random.key(0), "graph": GRAPH, "layout": LAYOUT}
    return aljax.fit(slices, ids, **settings | options)


@pytest.mark.filterwarnings("ignore:.*without an edge")
@pytest.mark.parametrize("init", ["spectral", "pca", "random"])
@pytest.mark.parametrize("sizes", [(45, 2, 45), (1, 45, 0), (0, 45, 2)])
def test_rows_of_tiny_slices_stand_at_their_mates(sizes, init, tmp_path):
    maps = lay_out(sizes, layout=aljax.LayoutConfig(n_epochs=60, init=init))
    assert [*map(len, maps.maps)] == [*sizes]
    for t, size in enumerate(sizes):
        if size < 3:
            mates = maps.maps[1 if t != 1 else 0][:size]
            np.testing.assert_allclose(maps.maps[t], mates, atol=1e-2)
    maps.save(tmp_path / "maps")
    assert repr(aljax.load(tmp_path / "maps")) == repr(maps)


def test_updates_take_tiny_slices_and_go_on_after_them():
    maps, key = lay_out((45, 45, 45)), jax.random.key(1)
    maps = maps.update(DATA[0][:0], [], key=key)
    with pytest.warns(UserWarning, match="1 row of slice 4 is without an edge"):
        maps = maps.update(DATA[0][:1], [0], key=key)
    maps = maps.update(DATA[0], list(range(45)), key=key)
    assert [*map(len, maps.maps)] == [45, 45, 45, 0, 1, 45]
    np.testing.assert_allclose(maps.maps[4], maps.maps[2][:1], atol=1e-2)
    assert maps.transform(DATA[0][:3], slice=4).shape == (3, 2)
    with refused("slice", "slice 3, which has no rows"):
        maps.transform(DATA[0], slice=3)
    with refused("slice", "slice 3, which has no rows"):
        maps.inverse_transform(np.zeros((1, 2)), slice=3)
    empty = {"key": key, "keep": 1}
    maps = maps.update(DATA[0][:0], [], **empty).update(DATA[0][:0], [], **empty)
    assert [*map(len, maps.maps)] == [0]


@pytest.mark.filterwarnings("ignore:.*no mates in the slices before it")
def test_rows_of_a_tiny_slice_without_mates_stand_beside_the_maps():
    with pytest.warns(UserWarning, match="2 rows of slice 1"):
        maps = aljax.fit(
            [DATA[0], DATA[1][:2, :4], DATA[2]],
            {(0, 2): np.stack([np.arange(45)] * 2, axis=1)},
            key=jax.random.key(0),
            graph=GRAPH,
            layout=LAYOUT,
        )
    low, high = maps.maps[0].min(axis=0), maps.maps[0].max(axis=0)
    extent = (high - low).max()
    assert (maps.maps[1][:, 0] > high[0]).all()
    assert (np.abs(maps.maps[1] - (low + high) / 2) < extent).all()


def test_slices_without_rows_do_not_cut_a_sequence_without_ids():
    settings = {"key": jax.random.key(0), "graph": GRAPH, "layout": LAYOUT}
    slices = [DATA[0], DATA[0][:0], DATA[0]]
    maps = aljax.fit(slices, "transport", **settings)
    assert maps.relations[0, 2].rows.size >= 45
    maps = maps.update(DATA[0][:0], "transport", key=jax.random.key(1))
    maps = maps.update(DATA[0], "transport", key=jax.random.key(1))
    assert maps.relations[2, 2].rows.size >= 45


def test_fit_reduces_n_neighbors_of_short_slices_with_one_warning():
    with pytest.warns(UserWarning, match="reaches") as raised:
        maps = lay_out((45, 5, 4), slice_labels="abc")
    assert len(raised) == 1
    said = str(raised[0].message)
    assert "slice 1 ('b') (5 rows), slice 2 ('c') (4 rows)" in said
    assert [len(graph.neighbors) for graph in maps.graphs] == [NEIGHBORS, 4, 3]
    placed = maps.transform(DATA[2][:3], slice=2)
    np.testing.assert_array_equal(placed, maps.maps[2][:3])


def test_a_sequence_without_any_rows_is_refused():
    with refused("slices", "no rows"):
        lay_out((0, 0, 0))


KINDS = [np.asarray, scipy.sparse.csr_matrix, pandas.DataFrame]


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_have_no_places(kind):
    maps = lay_out((45, 45, 45))
    for nothing in (kind(DATA[0][:0]), []):
        assert maps.transform(nothing).shape == (0, 2)


def test_a_row_is_inside_a_slice_of_one_row_where_it_equals_it():
    with pytest.warns(UserWarning, match="without an edge"):
        maps = lay_out((45, 1, 45))
    placement = maps.place(DATA[1][:2], 1)
    assert placement.inside.tolist() == [True, False]
    assert placement.distance.tolist() == [0, np.inf]


def test_small_slices_of_a_table_can_be_left_out():
    years = [2000] * 3 + [2001] * 40 + [2002] * 2
    cut = aljax.slices_from_table(DATA[0], years, range(45), min_rows=3)
    assert cut.labels == [2000, 2001]
    assert [*map(len, cut.rows)] == [3, 40]
    with refused("min_rows", "is 0"):
        aljax.slices_from_table(DATA[0], years, range(45), min_rows=0)


def test_slices_without_rows_are_measured_and_drawn(tmp_path):
    maps = lay_out((45, 0, 45))
    metrics = aljax.metrics
    assert np.isnan(metrics.displacement(maps.maps, maps.relations))
    drift = metrics.center_drift(maps.maps, per_point=True)
    np.testing.assert_array_equal(np.isnan(drift), [False, True, False])
    assert metrics.center_drift(maps.maps) == drift[2]
    for none in ([], [np.zeros((0, 2))]):
        assert np.isnan(metrics.center_drift(none))
        assert np.isnan(metrics.displacement(none, {}))
        assert np.isnan(metrics.frame_displacement(none, none))
    data = [data[: len(y)] for data, y in zip(DATA, maps.maps, strict=True)]
    assert np.isnan(metrics.frame_displacement(data, maps.maps, lag=1))
    assert metrics.frame_displacement(data, maps.maps, lag=2) >= 0
    assert len(aljax.plot.slices(maps).axes) >= 3
    aljax.plot.explore(maps, tmp_path / "maps.html")
    assert (tmp_path / "maps.html").stat().st_size > 1000


def test_a_sequence_with_a_slice_without_rows_is_swept():
    slices = [data[:size] for data, size in zip(DATA, (45, 0, 45), strict=True)]
    ids = [list(range(len(rows))) for rows in slices]
    problem = SweepProblem(slices, ids, graph=GRAPH, layout=LAYOUT)
    swept = sweep(problem, [{"min_dist": 0.2}], keys=jax.random.key(0))
    assert [y.shape for y in swept.maps] == [(1, 45, 2), (1, 0, 2), (1, 45, 2)]
    assert 0.5 < swept.metrics["trustworthiness"][0] <= 1


@pytest.mark.filterwarnings("ignore:.*without an edge")
def test_a_slice_of_two_rows_is_refused_by_name_where_positions_lie_between():
    with refused("slice", "2 rows", "at least 3"):
        lay_out((45, 2, 45)).inverse_transform([[0.0, 0.0]], slice=1)


def test_of_many_short_slices_some_are_named():
    short = read_slices([np.ones((3, 2))] * 20)
    with pytest.warns(match=r"of slice 0 \(3 .*, slice 7 \(3 rows\) and 12 more: "):
        assert fitting_neighbors([15] * 20, short) == [2] * 20
