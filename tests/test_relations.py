import pickle
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from helpers import (
    import_umap,
    make_graphs,
    make_links,
    make_relations,
    refused,
    slow_jaccard,
    slow_window,
)

from aljax.graph.fuzzy import FuzzyGraph
from aljax.relations.mates import Mates, Relations
from aljax.relations.strengths import relate

SIZES = (41, 48, 45, 41, 44)
WINDOW = 3


@pytest.fixture(scope="module")
def dicts() -> list[dict[int, int]]:
    return make_relations(SIZES)


@pytest.fixture(scope="module")
def graphs() -> list[FuzzyGraph]:
    return make_graphs(SIZES)


@pytest.fixture(scope="module")
def relations(dicts, graphs) -> Relations:
    return relate(make_links(dicts, SIZES, WINDOW), graphs)  # warns of nothing


@pytest.fixture(scope="module")
def adjacency(graphs) -> list[scipy.sparse.csr_matrix]:
    return [graph.to_sparse() for graph in graphs]


def as_dict(mates) -> dict[int, int]:
    return dict(zip(mates.rows.tolist(), mates.others.tolist(), strict=True))


@pytest.mark.parametrize("window", [1, 2, WINDOW, 9])
def test_mates_are_those_reached_by_following_the_dicts(dicts, graphs, window):
    related = relate(make_links(dicts, SIZES, window), graphs)
    slow = slow_window(dicts, window)
    assert related.keys() == slow.keys()
    for key, mates in related.items():
        assert as_dict(mates) == slow[key]
        assert len(mates.rows) == len(slow[key])


def test_strengths_are_overlaps_of_neighborhoods(relations, adjacency):
    assert 0 < relations[0, WINDOW].rows.size < relations[0, 1].rows.size
    overlaps = []
    for (t, offset), mates in relations.items():
        pairs = as_dict(mates)
        slow = [
            slow_jaccard(row, pairs, adjacency[t], adjacency[t + offset])
            for row in pairs
        ]
        expected = np.exp(1 - offset) * np.array(slow)
        np.testing.assert_allclose(mates.strengths, expected, rtol=1e-12)
        overlaps += slow
    assert 0 <= min(overlaps) < max(overlaps) <= 1


def test_mates_of_identical_slices_have_full_strength(graphs):
    rows = {i: i for i in range(SIZES[0])}
    links = make_links([rows, rows], SIZES[:1] * 3)
    related = relate(links, [graphs[0]] * 3)
    assert (related[0, 1].strengths == 1).all()
    np.testing.assert_allclose(related[0, 2].strengths, np.exp(-1), rtol=1e-12)


def test_strengths_follow_a_permutation_of_a_slices_rows(dicts, graphs, relations, rng):
    place = rng.permutation(SIZES[1])
    order = np.argsort(place)
    middle = graphs[1]
    moved = FuzzyGraph(
        jnp.asarray(place[np.asarray(middle.neighbors)][:, order]),
        middle.weights[:, order],
        middle.degrees[order],
    )
    renamed = [
        {row: int(place[other]) for row, other in dicts[0].items()},
        {int(place[row]): other for row, other in dicts[1].items()},
        *dicts[2:],
    ]
    links = make_links(renamed, SIZES, WINDOW)
    related = relate(links, [graphs[0], moved, *graphs[2:]])
    for key in ((0, 1), (0, 2)):
        by_row = [
            dict(zip(found.rows.tolist(), found.strengths.tolist(), strict=True))
            for found in (related[key], relations[key])
        ]
        assert by_row[0] == by_row[1]


def test_overlaps_equal_umap_learns(dicts, relations, adjacency, monkeypatch):
    aligned = import_umap("umap.aligned_umap")
    # As plain Python: so few points take less time than numba's compilation.
    for name in ("in1d", "intersect1d", "union1d"):
        monkeypatch.setattr(aligned, name, getattr(aligned, name).py_func)
    table = aligned.expand_relations(dicts, WINDOW)
    theirs = aligned.build_neighborhood_similarities.py_func(
        [matrix.indptr for matrix in adjacency],
        [matrix.indices for matrix in adjacency],
        table,
    )
    compared = 0
    for (t, offset), mates in relations.items():
        if t + offset == len(dicts):
            continue  # umap-learn never relates anything to its last slice
        there = table[t, WINDOW + offset]
        np.testing.assert_array_equal(there[mates.rows], mates.others)
        overlap = theirs[t, WINDOW + offset, mates.rows] * np.exp(1 - offset)
        np.testing.assert_allclose(mates.strengths, overlap, rtol=1e-5)
        compared += mates.rows.size
    assert compared > 100


@pytest.mark.usefixtures("as_users_run_it")
def test_rows_may_be_any_kind_of_integer():
    relation: dict = {np.int64(2): np.uint8(3)}
    link = make_links([relation], (5, 5))[0, 1]
    assert (link.rows.tolist(), link.others.tolist()) == ([2], [3])


@pytest.mark.parametrize("none", [None, []])
def test_a_single_slice_needs_no_relations(none):
    assert make_links(none, (5,)) == {}


OF_1 = "rows 0 to 5 of slice 1"
# The relations, the argument that is named, and words of the rest of the message.
REFUSED: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "none for several slices": (None, "relations", ("is None for 3 slices", "2 dicts")),
    "a dict alone": ({0: 0}, "relations", ("the key 0", "or a list of dicts")),
    "too few": ([{0: 0}], "relations", ("has 1 dicts for 3 slices", "2 dicts")),
    "a list of pairs": ([{0: 0}, [(0, 0)]], "relations[1]", ("is a list", "a dict")),
    "a key beyond": ([{0: 0}, {7: 6}], "relations[1]", ("from row 7", OF_1)),
    "a value beyond": ([{0: 9}, {0: 0}], "relations[0]", ("to row 9", OF_1)),
    "a key below 0": ([{-1: 0}, {0: 0}], "relations[0]", ("from row -1", "slice t+1")),
    "a fraction": ([{0.5: 0}, {0: 0}], "relations[0]", ("0.5 (float)",)),
    "text": ([{0: 0}, {"a": 0}], "relations[1]", ("'a' (str)", "row of slice 1")),
    "a huge row": ([{0: 0}, {2**70: 0}], "relations[1]", (str(2**70),)),
    "a bool": ([{True: 0}, {0: 0}], "relations[0]", ("True (bool)",)),
    "two rows to one": (
        [{0: 3, 2: 3}, {0: 0}],
        "relations[0]",
        ("rows 0 and 2", "same row 3", "one mate for each row of slice 1"),
    ),
    "fits only backwards": (
        [{0: 0, 1: 7}, {0: 0}],
        "relations[0]",
        ("row 7", "fit reversed", "new: old"),
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("case", REFUSED)
def test_dicts_that_do_not_fit_are_refused(case):
    relations, name, words = REFUSED[case]
    with refused(name, *words):
        make_links(relations, (8, 6, 8))


@pytest.mark.usefixtures("as_users_run_it")
def test_a_slice_without_rows_takes_no_dict():
    with refused("relations[1]", "from row 2", "no row, for slice 1 has none"):
        make_links([{}, {2: 2}], (8, 0, 8))


def test_an_empty_dict_relates_nothing(graphs):
    links = make_links([{}, {0: 0}], SIZES[:3])
    related = relate(links, graphs[:3])
    sizes = {key: mates.rows.size for key, mates in related.items()}
    assert sizes == {(0, 1): 0, (0, 2): 0, (1, 1): 1}


def test_mates_of_the_pickles_of_an_older_version_are_found():
    assert pickle.loads(b"caljax.graph.relations\nMates\n.") is Mates
