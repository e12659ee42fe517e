import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from helpers import SIZES, assert_same_links, make_graphs, make_links, pairs_of

from aljax.config import AlignmentConfig
from aljax.graph.fuzzy import FuzzyGraph
from aljax.relations.mates import Links
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
    assert links[0, 2].weights is None


def test_pairs_given_backwards_by_their_key_are_the_same():
    pair, weights = np.array([[2, 1], [0, 1], [0, 0]]), [0.5, 1.0, 2.0]
    forward = make_links({(0, 1): (pair, weights)}, (3, 2))
    backward = make_links({(1, 0): (pair[:, ::-1], weights)}, (3, 2))
    assert_same_links(forward, backward)
    assert forward[0, 1].weights is not None
    np.testing.assert_array_equal(forward[0, 1].weights, [2.0, 1.0, 0.5])


@pytest.mark.parametrize("none", [[], np.zeros((0, 2)), ([], [])])
def test_there_may_be_no_pairs(none):
    with pytest.warns(UserWarning, match="^slice 1 has no mates"):
        links = make_links({(0, 1): none}, (2, 2))
    assert pairs_of(links[0, 1]) == []


PAIR = [[0, 0], [1, 1]]
BAD_PAIRS: dict[str, tuple[Any, str]] = {
    "a slice": ({0: PAIR}, "^`relations` has the key 0; expected pairs of slices"),
    "names": ({("a", "b"): PAIR}, r"^`relations` has the key \('a', 'b'\)"),
    "ragged": ({(0, 1): [[0, 1], [2]]}, r"^`relations\[0, 1\]` is no array"),
    "three": ({(0, 1, 2): PAIR}, r"^`relations` has the key \(0, 1, 2\)"),
    "itself": (
        {(1, 1): PAIR},
        r"key \(1, 1\); expected two different slices of 0 to 2",
    ),
    "no such slice": ({(0, 3): PAIR}, r"key \(0, 3\); expected two different slices"),
    "below 0": ({(-1, 0): PAIR}, r"key \(-1, 0\); expected two different slices"),
    "both ways": ({(0, 1): PAIR, (1, 0): PAIR}, r"both \(1, 0\) and \(0, 1\)"),
    "a row beyond": (
        {(0, 2): [[0, 0], [1, 2]]},
        r"`relations\[0, 2\]` has row 2 in its column 1, but slice 2 \('c'\) has 2",
    ),
    "a row below 0": (
        {(2, 1): [[1, -1]]},
        r"`relations\[2, 1\]` has row -1 in its column 1, but slice 1 \('b'\) has 2",
    ),
    "triples": ({(0, 1): [[0, 0, 1]]}, r"`relations\[0, 1\]` has shape \(1, 3\)"),
    "fractions": ({(0, 1): [[0.0, 1.0]]}, "dtype float64; expected whole numbers"),
    "a pair twice": ({(0, 1): [[0, 0], [0, 0]]}, "has a pair of rows twice"),
}
BAD_WEIGHTS: dict[str, tuple[Any, str]] = {
    "negative": (
        [1.0, -0.5],
        r"have -0\.5 at 1; expected finite numbers of at least 0",
    ),
    "NaN": ([np.nan, 1.0], "have nan at 0"),
    "infinite": ([1.0, np.inf], "have inf at 1"),
    "too few": ([1.0], r"have shape \(1,\); expected \(2,\)"),
    "text": (["much", "little"], "expected numbers"),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_pairs_that_do_not_fit_are_refused(case):
    relations, said = BAD_PAIRS[case]
    with pytest.raises(ValueError, match=said):
        make_links(relations, (2, 2, 2), labels=LABELS)


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_of_pairs_that_do_not_fit_are_refused(case):
    weights, said = BAD_WEIGHTS[case]
    named = r"^`relations\[0, 1\]`: the weights between slice 0 \('a'\) and slice 1 .*"
    with pytest.raises(ValueError, match=named + said):
        make_links({(0, 1): (PAIR, weights)}, (2, 2), labels=LABELS)


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
    links = {(0, 2): Links(np.array([1, 2]), np.array([5, 4]), np.array([0.25, 4.0]))}
    mates = relate(links, graphs, alignment_strengths=strengths, alignment_decay=2.0)
    np.testing.assert_allclose(mates[0, 2].strengths, np.exp(-2) * np.array([0.25, 4]))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_strengths_fall_with_the_offset_as_asked(graphs, decay):
    links = make_links([[*range(n)] for n in SIZES], SIZES)
    uniform = relate(
        links, graphs, alignment_strengths="uniform", alignment_decay=decay
    )
    flat = relate(links, graphs, alignment_decay=0.0)
    fallen = relate(links, graphs, alignment_decay=decay)
    for (t, offset), mates in uniform.items():
        fall = np.exp(-decay * (offset - 1))
        np.testing.assert_allclose(mates.strengths, fall)
        np.testing.assert_allclose(
            fallen[t, offset].strengths, fall * flat[t, offset].strengths
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alignment_strengths": "jacard"}, "did you mean `jaccard`"),
        ({"alignment_decay": -1.0}, "^`alignment_decay` is -1"),
        ({"alignment_decay": np.nan}, "^`alignment_decay` is nan"),
    ],
)
def test_settings_of_the_strengths_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        AlignmentConfig(**settings)
