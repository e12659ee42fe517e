"""Where umap-learn's AlignedUMAP is wrong and aljax is not: one test for each point.

docs/method.md cites these by name; the numbers are those of its list.
"""

import pickle

import jax
import numpy as np
import pytest
from helpers import (
    NEIGHBORS,
    assert_same_maps,
    import_umap,
    make_data,
    make_graphs,
    make_links,
    make_maps,
    make_relations,
    programs,
    refused,
)

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.fit import fit
from aljax.graph.exact import _search
from aljax.graph.fuzzy import fuzzy_simplicial_set
from aljax.layout import ahead
from aljax.layout.objective import aligned_loss
from aljax.layout.optimize import run_in_place
from aljax.layout.problem import layout_params, stack, stack_maps, unstack_maps
from aljax.layout.shifts import draw_shifts
from aljax.relations.mates import Mates, Relations
from aljax.relations.strengths import relate
from aljax.tables import sliding_windows
from aljax.update import update

SIZES = (41, 48, 45, 44)
WINDOW = 3
SHIFTS = 3  # so few that the key decides which pairs repel
LAST = len(SIZES) - 1
GRAPH, START = GraphConfig(n_neighbors=NEIGHBORS), LayoutConfig(n_epochs=0)


def lay_out(*, seed=0, relations=None, start=None, **layout) -> AlignedEmbedding:
    return fit(
        make_data(SIZES),
        make_relations(SIZES) if relations is None else relations,
        key=jax.random.key(seed),
        graph=GRAPH,
        layout=LayoutConfig(**{"n_epochs": 20, "n_shifts": SHIFTS, **layout}),
        alignment=AlignmentConfig(alignment_window_size=WINDOW),
        start=start,
    )


@pytest.fixture(scope="module")
def plain() -> AlignedEmbedding:
    return lay_out()


@pytest.fixture(scope="module")
def relations() -> Relations:
    links = make_links(make_relations(SIZES), SIZES, WINDOW)
    return relate(links, make_graphs(SIZES))


def alignment_forces(relations: Relations) -> list[np.ndarray]:
    """How the alignment alone moves each row of each slice."""
    problem = stack(make_graphs(SIZES), relations, key=jax.random.key(0))
    params = layout_params(LayoutConfig(), AlignmentConfig(), slices=len(SIZES))
    shifts = draw_shifts(jax.random.key(0), problem.n_points, n_shifts=4)

    @jax.jit
    @jax.grad
    def force(maps):
        return aligned_loss(maps, problem, params, shifts).alignment.sum()

    return unstack_maps(force(stack_maps(make_maps(SIZES), problem)), problem)


@pytest.mark.parametrize(
    "setting",
    [
        {"min_dist": [0.1, 0.5, 0.1, 0.1]},
        {"spread": [1.0, 2.0, 1.0, 1.0]},
        {"a": [3.0] * 4, "b": [0.9] * 4},
        {"a": [1.577] * 4, "b": [0.9, 1.5, 0.9, 0.9]},
        {"learning_rate": [1.0, 0.5, 1.0, 1.0]},
        {"repulsion_strength": [1.0, 3.0, 1.0, 1.0]},
        {"negative_sample_rate": [5.0, 1.0, 5.0, 5.0]},
        {"init": "pca"},
    ],
)
def test_1_every_setting_matters_in_the_joint_layout(plain, setting):
    changed = lay_out(**setting).slices()
    for t in range(len(SIZES)):
        # Slices are coupled: what changes one of them moves all, if by little.
        assert (changed[t] != plain.slices()[t]).any()
    assert np.abs(changed[1] - plain.slices()[1]).max() > 0.1


def test_2_the_last_slice_is_linked_from_every_slice_within_the_window(relations):
    for offset in range(1, WINDOW + 1):
        assert relations[LAST - offset, offset].rows.size > 0
    forces = alignment_forces({(LAST - 1, 1): relations[LAST - 1, 1]})
    assert np.abs(forces[LAST - 1]).max() > 0
    assert np.abs(forces[LAST]).max() > 0


def test_2_the_farthest_offset_of_the_window_is_visited_from_both_ends(relations):
    forces = alignment_forces({(0, WINDOW): relations[0, WINDOW]})
    assert np.abs(forces[0]).max() > 0
    assert np.abs(forces[WINDOW]).max() > 0
    for between in range(1, WINDOW):
        assert (forces[between] == 0).all()


def test_2_umap_learn_links_nothing_forward_to_its_last_slice():
    aligned = import_umap("umap.aligned_umap")
    table = aligned.expand_relations(make_relations(SIZES), WINDOW)
    assert (table[LAST - 1, WINDOW + 1] == -1).all()
    assert (table[LAST, WINDOW - 1] >= 0).any()  # although it does so backward


def test_3_members_absent_from_a_slice_between_can_be_mates_all_the_same():
    strengths = np.ones(1)
    across = {(0, 2): Mates(np.array([4]), np.array([7]), strengths)}
    forces = alignment_forces(across)
    assert np.abs(forces[0][4]).max() > 0
    np.testing.assert_allclose(forces[0][4], -forces[2][7], rtol=1e-5)
    moved = [np.abs(force).sum(axis=1) > 0 for force in forces]
    assert [int(rows.sum()) for rows in moved] == [1, 0, 1, 0]


@pytest.mark.usefixtures("as_users_run_it")
def test_4_relations_are_checked():
    first, *rest = make_relations(SIZES)
    for relations, name, words in (
        ([first], "relations", "1 dicts for 4 slices"),
        ([{0: 48}, *rest], "relations[0]", "to row 48"),
        ([{47: 0}, *rest], "relations[0]", "would fit reversed"),
        ([{0: 1, 1: 1}, *rest], "relations[0]", "the same row 1"),
    ):
        with refused(name, words):
            lay_out(relations=relations)


def test_5_rows_beyond_the_related_ones_read_nothing_that_is_not_theirs():
    few = [{i: i for i in range(3)} for _ in SIZES[1:]]
    related = relate(make_links(few, SIZES, WINDOW), make_graphs(SIZES))
    for force in alignment_forces(related):
        assert (force[3:] == 0).all()
    assert all(np.isfinite(y).all() for y in lay_out(relations=few).slices())


def test_6_the_key_seeds_the_joint_stage():
    start = make_maps(SIZES)
    maps = [lay_out(seed=seed, start=start).maps for seed in (0, 0, 1)]
    assert_same_maps(maps[0], maps[1])
    assert np.abs(maps[0][0] - maps[2][0]).max() > 0.1


@pytest.mark.usefixtures("as_users_run_it")
def test_7_update_notices_a_reversed_dict():
    data = np.random.default_rng(0).normal(size=(60, 5))
    windows, (shared,) = sliding_windows(data, 40, 20)
    fitted = fit([windows[0]], key=jax.random.key(0), graph=GRAPH, layout=START)
    turned = {new: old for old, new in shared.items()}
    with refused("relations", "is reversed"):
        update(fitted, windows[1], turned, key=jax.random.key(1))
    aligned = update(fitted, windows[1], shared, key=jax.random.key(1))
    assert len(aligned.relations[0, 1].rows) == 20


def test_8_each_fit_is_one_layout_and_a_second_one_compiles_nothing(plain, monkeypatch):
    before = programs(run_in_place, _search, fuzzy_simplicial_set)
    calls = []

    def counted(*arguments, **settings):
        calls.append(settings)
        return run_in_place(*arguments, **settings)

    vars(counted)["lower"] = run_in_place.lower
    monkeypatch.setattr(ahead, "run_in_place", counted)
    again = lay_out(min_dist=0.3)
    assert len(calls) == 1
    assert programs(run_in_place, _search, fuzzy_simplicial_set) == before
    assert [y.shape for y in again.maps] == [y.shape for y in plain.maps]


def test_9_an_embedding_can_be_pickled(plain):
    back = pickle.loads(pickle.dumps(plain))
    assert_same_maps(back.maps, plain.maps)
    assert back.layout == plain.layout
    assert back.relations.keys() == plain.relations.keys()
    assert jax.tree.structure(back) == jax.tree.structure(plain)
