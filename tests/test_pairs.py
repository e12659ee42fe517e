import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from helpers import SIZES, assert_same_links, make_graphs, make_links, pairs_of, refused

from aljax.config import AlignmentConfig
from aljax.graph.fuzzy import FuzzyGraph
from aljax.relations.mates import Mates
from aljax.relations.strengths import relate

pytestmark = pytest.mark.usefixtures("as_users_run_it")
LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def graphs() -> list[FuzzyGraph]:
    return make_graphs(SIZES)


def test_a_slice_that_is_held_by_one_before_the_last_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_links({(0, 1): [[0, 0]], (0, 2): [[0, 0]]}, (1, 1, 1))


def test_pairs_relate_any_two_slices_many_to_many():
    pair = np.array([[2, 1], [0, 1], [0, 0]])
    links = make_links({(0, 2): pair, (0, 1): [[1, 1]]}, (3, 2, 2), window=1)
    assert [*links] == [(0, 1), (0, 2)]
    assert pairs_of(links[0, 2]) == [(0, 0), (0, 1), (2, 1)]
    assert links[0, 2].strengths is None


def test_pairs_given_backwards_by_their_key_are_the_same():
    pair, weights = np.array([[2, 1], [0, 1], [0, 0]]), [0.5, 1.0, 2.0]
    forward = make_links({(0, 1): (pair, weights)}, (3, 2))
    backward = make_links({(1, 0): (pair[:, ::-1], weights)}, (3, 2))
    assert_same_links(forward, backward)
    assert forward[0, 1].strengths is not None
    np.testing.assert_array_equal(forward[0, 1].strengths, [2.0, 1.0, 0.5])


@pytest.mark.parametrize("none", [[], np.zeros((0, 2)), ([], [])])
def test_there_may_be_no_pairs(none):
    links = make_links({(0, 1): none}, (2, 2))
    assert pairs_of(links[0, 1]) == []


PAIR = [[0, 0], [1, 1]]
KEYS = "two different slices of 0 to 2"
OF_0_1 = "of slice 0 ('a') and slice 1 ('b')"
BAD_PAIRS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "a slice": ({0: PAIR}, "relations", ("the key 0", KEYS)),
    "names": ({("a", "b"): PAIR}, "relations", ("('a', 'b')", KEYS)),
    "itself": ({(1, 1): PAIR}, "relations", ("(1, 1)", KEYS)),
    "no such slice": ({(0, 3): PAIR}, "relations", ("(0, 3)", KEYS)),
    "below 0": ({(-1, 0): PAIR}, "relations", ("(-1, 0)", KEYS)),
    "both ways": ({(0, 1): PAIR, (1, 0): PAIR}, "relations", ("(0, 1) and (1, 0)",)),
    "ragged": ({(0, 1): [[0, 1], [2]]}, "relations[0, 1]", ("is not an array",)),
    "a row beyond": (
        {(0, 2): [[0, 0], [1, 2]]},
        "relations[0, 2]",
        ("column 1 row 2", "rows 0 to 1 of slice 2 ('c')"),
    ),
    "a row below 0": ({(2, 1): [[1, -1]]}, "relations[2, 1]", ("column 1 row -1",)),
    "triples": ({(0, 1): [[0, 0, 1]]}, "relations[0, 1]", ("(1, 3)", "(m, 2)")),
    "fractions": ({(0, 1): [[0.0, 1.0]]}, "relations[0, 1]", ("float64", "whole")),
    "a pair twice": ({(0, 1): [[0, 0]] * 2}, "relations[0, 1]", ("rows twice",)),
} | {
    f"weights that are {kind}": (
        {(0, 1): (PAIR, weights)},
        "relations[0, 1][1]",
        (f"{OF_0_1} {got}", "2 finite numbers of at least 0"),
    )
    for kind, weights, got in (
        ("negative", [1.0, -0.5], "has -0.5 at 1"),
        ("NaN", [np.nan, 1.0], "has nan at 0"),
        ("infinite", [1.0, np.inf], "has inf at 1"),
        ("too few", [1.0], "has shape (1,)"),
        ("text", ["much", "little"], "cannot be read as numbers"),
    )
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_pairs_that_do_not_fit_are_refused(case):
    relations, name, words = BAD_PAIRS[case]
    with refused(name, *words):
        make_links(relations, (2, 2, 2), labels=LABELS)


def slow_overlap(
    pair: tuple[int, int],
    pairs: list[tuple[int, int]],
    before: scipy.sparse.csr_matrix,
    after: scipy.sparse.csr_matrix,
) -> float:
    """|f(N_i) & N_k'| / |f(N_i) | N_k'| by sets, f leading to all mates of a row."""
    mapped = {k for i, k in pairs if i in before[pair[0]].indices}
    there = {*after[pair[1]].indices.tolist()} & {k for _, k in pairs}
    either = mapped | there
    return len(mapped & there) / len(either) if either else 1.0


def test_overlaps_of_many_to_many_mates_are_those_of_sets(graphs, rng):
    cells = rng.choice(41 * 48, 150, replace=False)
    links = make_links({(0, 1): np.column_stack(np.divmod(cells, 48))}, SIZES[:2])
    mates = relate(links, graphs)[0, 1]
    pairs = pairs_of(mates)
    assert pairs == sorted(pairs)
    assert pairs == pairs_of(links[0, 1])
    adjacency = [graph.to_sparse() for graph in graphs[:2]]
    expected = [
        slow_overlap((i, k), pairs, *adjacency)
        / max(sum(i == row for row, _ in pairs), sum(k == other for _, other in pairs))
        for i, k in pairs
    ]
    assert 0 <= min(expected) < max(expected)
    np.testing.assert_allclose(mates.strengths, expected, rtol=1e-12)


def test_several_mates_of_a_row_pull_as_much_as_their_mean(graphs):
    pair, weights = [[3, 5], [3, 6], [3, 9], [4, 7]], [0.5, 1.0, 3.0, 2.0]
    mates = relate(make_links({(0, 1): (pair, weights)}, SIZES[:2]), graphs)[0, 1]
    assert mates.strengths[:3].sum() == pytest.approx(1.5)
    np.testing.assert_allclose(mates.strengths[:3] * 3, weights[:3])
    assert mates.strengths[3] == 2.0


@pytest.mark.parametrize("strengths", ["jaccard", "uniform"])
def test_weights_of_the_user_come_before_overlaps(graphs, strengths):
    links = {(0, 2): Mates(np.array([1, 2]), np.array([5, 4]), np.array([0.25, 4.0]))}
    mates = relate(links, graphs, alignment_strengths=strengths, alignment_decay=2.0)
    np.testing.assert_allclose(mates[0, 2].strengths, np.exp(-2) * np.array([0.25, 4]))


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_strengths_fall_with_the_offset_as_asked(graphs, decay):
    links = make_links([[*range(n)] for n in SIZES], SIZES)
    uniform = relate(
        links, graphs, alignment_strengths="uniform", alignment_decay=decay
    )
    flat = relate(links, graphs, alignment_decay=0.0)
    fallen = relate(links, graphs, alignment_decay=decay)
    for pair, mates in uniform.items():
        fall = np.exp(-decay * (pair[1] - 1))
        np.testing.assert_allclose(mates.strengths, fall)
        np.testing.assert_allclose(fallen[pair].strengths, fall * flat[pair].strengths)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("alignment_strengths", "jacard", "did you mean `jaccard`"),
        ("alignment_decay", -1.0, "is -1"),
        ("alignment_decay", np.nan, "is nan"),
    ],
)
def test_settings_of_the_strengths_that_do_not_fit_are_refused(name, value, words):
    with refused(name, words):
        AlignmentConfig(**{name: value})
