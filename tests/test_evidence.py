"""Relations that the data contradict, and dicts that they show to be reversed."""

import warnings
from itertools import combinations
from typing import Any

import jax
import numpy as np
import pytest
from helpers import assert_same_links, make_links, refused
from sklearn.datasets import load_digits
from sklearn.neighbors import kneighbors_graph

import aljax
from aljax.graph.build import build_graphs
from aljax.graph.slices import read_slices
from aljax.relations import evidence
from aljax.relations.evidence import BLUR, Overlap, check_evidence, judge, overlap
from aljax.relations.mates import Mates
from aljax.relations.read import ReversedError, names_of_dicts
from aljax.relations.strengths import relate

SIZE, STEP, SLICES = 120, 40, 4
DIGITS = load_digits(return_X_y=True)[0]
LABELS = ["a", "b", "c", "d"]
NAMES = [f"slice {t} ({label!r})" for t, label in enumerate(LABELS)]
KEY = jax.random.key(0)
NO_LAYOUT = aljax.LayoutConfig(n_epochs=0, init="random")


def windows() -> tuple[list[np.ndarray], list[dict[int, int]]]:
    """Windows over digits, each seen through features of its own."""
    rng = np.random.default_rng(0)
    rows = DIGITS[rng.permutation(1797)[: SIZE + STEP * (SLICES - 1)]]
    cut, relations = aljax.sliding_windows(rows, SIZE, STEP)
    return [part @ rng.normal(size=(64, 12)) for part in cut], relations


DATA, RIGHT = windows()
SHIFTED = {row: (other + 1) % SIZE for row, other in RIGHT[0].items()}
BACK = [{new: old for old, new in relation.items()} for relation in RIGHT]
ANY_ROW = dict(enumerate(np.random.default_rng(1).permutation(SIZE).tolist()))


@pytest.fixture(scope="module")
def graphs():
    return build_graphs(read_slices(DATA), aljax.GraphConfig())


def look(relations, graphs, **settings) -> None:
    """Relates the windows as `fit` does."""
    links = make_links(relations, [SIZE] * SLICES, window=3)
    relate(links, graphs, names=NAMES, dicts=names_of_dicts(relations), **settings)


def binary(graph):
    matrix = graph.to_sparse()
    matrix.data[:] = 1
    return matrix


def test_agreement_is_that_of_its_formula(graphs):
    mates = Mates(*np.array([*RIGHT[0].items()]).T)
    before, after = (binary(graph) for graph in graphs[:2])
    image, shared, chance, most = {*RIGHT[0].values()}, 0, 0.0, 0.0
    for row, other in RIGHT[0].items():
        mapped = {RIGHT[0][j] for j in before[row].indices.tolist() if j in RIGHT[0]}
        there = {*after[other].indices.tolist()} & image
        shared += len(mapped & there)
        chance += len(mapped) * len(there) / (len(image) - 1)
        most += (len(mapped) + len(there)) / 2
    found = judge(overlap(mates, before, after))
    assert found.agreement == pytest.approx((shared - chance) / (most - chance))
    assert found.share == pytest.approx(shared / (2 * most - shared))
    assert found.chance == pytest.approx(chance / (2 * most - chance))
    assert found.blur == pytest.approx(2 * (2 * chance + 20) ** 0.5 / (most - chance))
    near = found._replace(agreement=0.04, blur=0.01, chance=0.1)
    assert near._replace(share=0.17).near_chance  # below 1.8 times that by chance
    assert not near._replace(share=0.19).near_chance
    assert not near._replace(share=0.17, agreement=0.06).near_chance


@pytest.mark.parametrize("together", [1, 100, 2**15])
def test_slices_that_are_looked_at_together_overlap_as_alone(
    graphs, rng, monkeypatch, together
):
    monkeypatch.setattr(evidence, "TOGETHER", together)
    sides = [binary(graph) for graph in graphs[:3]]
    sides[1] = sides[1][:30, :30]
    nobody = np.zeros(0, int)
    relations = {
        (0, 1): Mates(np.arange(20), rng.permutation(30)[:20]),
        (0, 2): Mates(nobody, nobody),
        (1, 1): Mates(np.arange(30).repeat(2), rng.permutation(SIZE)[:60]),
    }
    looked = evidence.overlaps(relations, relations, sides.__getitem__)
    for (pair, mates), (looked_pair, found) in zip(
        relations.items(), looked, strict=True
    ):
        t, offset = pair
        assert looked_pair == pair
        for leaf, alone in zip(
            found, overlap(mates, sides[t], sides[t + offset]), strict=True
        ):
            np.testing.assert_array_equal(leaf, alone)


def test_many_neighbors_of_many_rows_agree_as_few_do():
    # Their products exceed the 32 bits in which SciPy counts them.
    counts = np.full(30_000, 300, np.int32)
    verdict = judge(Overlap(counts * 0.5, counts, counts, counts.size))
    chance = 300 / (counts.size - 1)
    assert verdict.agreement == pytest.approx((0.5 - chance) / (1 - chance))


def test_rows_that_are_matched_at_random_agree_by_chance(graphs, rng):
    before, after = (binary(graph) for graph in graphs[:2])
    random = [
        judge(overlap(Mates(np.arange(SIZE), rng.permutation(SIZE)), before, after))
        for _ in range(100)
    ]
    agreements = [found.agreement for found in random]
    assert np.mean(agreements) == pytest.approx(0, abs=0.005)
    assert np.mean([found.near_chance for found in random]) > 0.95
    assert 2 * np.std(agreements) < random[0].blur < 4 * np.std(agreements)


@pytest.mark.parametrize("strengths", ["jaccard", "uniform"])
def test_right_relations_are_not_warned_of(graphs, strengths):
    look(RIGHT, graphs, alignment_strengths=strengths)


WRONG = {
    "shifted": ([SHIFTED, *RIGHT[1:]], [(0, 1)]),
    "two shifted": ([SHIFTED, SHIFTED, RIGHT[2]], [(0, 1), (1, 2)]),
    "any rows": ([RIGHT[0], ANY_ROW, RIGHT[2]], [(1, 2)]),
    "ids of another slice": (
        [[*range(STEP * t, STEP * t + SIZE)] for t in (0, 2, 1, 3)],
        [(0, 1), (1, 2), (2, 3)],
    ),
    "pairs of another direction": (
        {(0, 1): np.array([*BACK[0].items()]), (1, 2): np.array([*RIGHT[1].items()])},
        [(0, 1)],
    ),
    "pairs of far slices": ({(0, 3): np.array([*SHIFTED.items()])}, [(0, 3)]),
}


TURNED = {"ids of another slice": (1, 2), "pairs of another direction": (0, 1)}


@pytest.mark.parametrize("strengths", ["jaccard", "uniform"])
@pytest.mark.parametrize("case", WRONG)
def test_relations_near_chance_are_warned_of_once(graphs, case, strengths, recwarn):
    warnings.simplefilter("always")
    relations, pairs = WRONG[case]
    look(relations, graphs, alignment_strengths=strengths)
    (warned,) = recwarn
    for pair in combinations(range(SLICES), 2):
        between = "between {} and {}".format(*(NAMES[t] for t in pair))
        assert (between in str(warned.message)) == (pair in pairs)
        hinted = f"reversed?) {between}" in str(warned.message)
        assert hinted == (TURNED.get(case) == pair)


def adjacency(rows: np.ndarray, n_neighbors: int):
    """A symmetric matrix of ones at neighbors."""
    directed = kneighbors_graph(rows, n_neighbors - 1)
    return directed.maximum(directed.T).tocsr()


@pytest.mark.parametrize(
    ("size", "n_neighbors", "mates"),
    [(9, 5, 9), (20, 15, 20), (120, 15, 12), (40, 39, 40)],
)
def test_too_few_mates_or_too_wide_neighborhoods_say_nothing(
    rng, size, n_neighbors, mates
):
    data = [adjacency(rng.normal(size=(size, 4)), n_neighbors) for _ in range(2)]
    found = judge(overlap(Mates(np.arange(mates), np.arange(mates)), *data))
    assert not found.near_chance or found.blur > BLUR


@pytest.mark.parametrize("noise", [0, 2, 4, 6, 8])
def test_noise_hides_relations_but_does_not_contradict_them(rng, noise):
    digits = DIGITS[:600]
    noisy = [digits + noise * rng.normal(size=digits.shape) for _ in range(2)]
    same = Mates(np.arange(600), np.arange(600))
    found = judge(overlap(same, *(adjacency(rows, 15) for rows in noisy)))
    assert found.blur < BLUR
    assert found.agreement > 0.015
    assert not found.near_chance


def test_dicts_that_the_graphs_show_to_be_reversed_are_an_error(graphs):
    with refused(
        "relations[0]", "is reversed", f"rows of {NAMES[0]} mapped", "new: old"
    ):
        look([BACK[0], *RIGHT[1:]], graphs)
    with pytest.raises(ReversedError) as raised:
        look([RIGHT[0], *BACK[1:]], graphs)
    assert raised.value.dicts == {1: "relations[1]", 2: "relations[2]"}
    assert "`relations[2]`" in raised.value.remedy


def test_a_slice_that_is_related_to_itself_reversed_is_not(graphs):
    swap = {row: row ^ 1 for row in range(SIZE)}
    links = make_links([swap], [SIZE] * 2)
    with pytest.warns(UserWarning, match="contradict") as warned:
        relate(links, [graphs[0]] * 2, names=NAMES, dicts={0: ""})
    assert "reversed?" not in str(warned[0].message)
    assert str(warned[0].message).endswith("Check the order of rows and slices.")
    weighted = {at: m._replace(strengths=np.ones(SIZE)) for at, m in links.items()}
    with pytest.warns(UserWarning, match="of a coupling its `evidence` says"):
        relate(weighted, [graphs[0]] * 2, names=NAMES)


def distances(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


def clusters(rng: np.random.Generator) -> list[Any]:
    """Two slices of 4 clusters, each of 15 rows and 15 more in reverse order."""
    centers = 10 * rng.normal(size=(4, 3))
    centers = np.concatenate([centers, centers[::-1]])
    rows = np.repeat(centers, 15, axis=0)
    rows = rows + rng.normal(size=rows.shape)
    return [adjacency(rows + 0.3 * rng.normal(size=rows.shape), 10) for _ in range(2)]


@pytest.mark.parametrize(
    ("others", "order"),
    [
        (np.arange(120), None),
        (np.roll(np.arange(120), 1), "shifted back by a row"),
        (np.roll(np.arange(120), -1), "shifted by a row"),
        (np.arange(120)[::-1], "in reverse order"),
    ],
)
def test_other_orders_that_agree_more_contradict_mates(rng, others, order, recwarn):
    sides, mates = clusters(rng), Mates(np.arange(120), others)
    assert not judge(overlap(mates, *sides)).near_chance  # rows of a cluster are alike
    check_evidence({(0, 1): mates}, sides.__getitem__, names=NAMES, dicts={})
    assert len(recwarn) == (order is not None)
    if order:
        right = judge(overlap(Mates(np.arange(120), np.arange(120)), *sides))
        assert f"{order} {right.share:.2g})" in str(recwarn[0].message)


@pytest.mark.parametrize("shift", [0, 1])
def test_series_that_are_off_by_a_row_are_warned_of(rng, shift, recwarn):
    series = np.cumsum(rng.normal(size=(200, 3)), axis=0)  # all shifts agree somewhat
    later = (series + 0.1 * rng.normal(size=series.shape)) @ rng.normal(size=(3, 5))
    off = {row: row + shift for row in range(200 - shift)}
    aljax.fit([series, later], [off], key=KEY, layout=NO_LAYOUT)
    said = ["shifted by a row" in str(warned.message) for warned in recwarn]
    assert said == [True] * shift


@pytest.mark.parametrize("precomputed", [False, True])
def test_every_door_warns_and_estimators_turn(precomputed):
    data = [distances(rows) for rows in DATA] if precomputed else DATA
    metric = "precomputed" if precomputed else "euclidean"
    graph, settings = (
        aljax.GraphConfig(metric=metric),
        {"key": KEY, "layout": NO_LAYOUT},
    )
    with pytest.warns(
        UserWarning, match=r"contradict.*slice 0 \('x'\) and slice 1 \('y'\)"
    ):
        fitted = aljax.fit(
            data[:2], [SHIFTED], graph=graph, slice_labels=["x", "y"], **settings
        )
    with pytest.warns(
        UserWarning, match=r"contradict.*between slice 1 \('y'\) and slice 2"
    ):
        aljax.update(fitted, data[2], SHIFTED, key=KEY)
    with refused("relations", "is reversed", "rows of slice 1 ('y') mapped"):
        aljax.update(fitted, data[2], BACK[1], key=KEY)
    bare: Any = {"metric": metric, "n_epochs": 0, "init": "random", "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = aljax.AlignedUMAP(**bare).fit(data[:3], relations=RIGHT[:2])
    with pytest.warns(UserWarning, match="is reversed and was read") as warned:
        turned = aljax.AlignedUMAP(**bare).fit(data[:3], relations=BACK[:2])
    assert [("`relations[0]`" in str(one.message)) for one in warned] == [True]
    assert "relations[1]" in str(warned[0].message)
    assert_same_links(right.maps_.relations, turned.maps_.relations)
    with pytest.warns(UserWarning, match="from slice 3 to slice 2"):
        turned.update(data[3], relations=BACK[2])
    right.update(data[3], relations=RIGHT[2])
    assert_same_links(right.maps_.relations, turned.maps_.relations)


def test_dicts_that_fit_only_reversed_are_turned_at_once():
    rows = DATA[0][:, :4]
    slices = [rows[:40], rows[:50], rows[:60]]
    wrong = [{49: 9, 0: 0}, {59: 9, 0: 0}]
    bare: Any = {"n_epochs": 0, "init": "random", "random_state": 0, "n_neighbors": 5}
    with refused("relations[0]", "from row 49", "fit reversed", "relations[1]"):
        make_links(wrong, [40, 50, 60])
    with pytest.warns(UserWarning, match="is reversed and was read") as warned:
        model = aljax.AlignedUMAP(**bare).fit(slices, relations=wrong)
    assert len(warned) == 1
    assert model.maps_.relations[0, 1].others.tolist() == [0, 49]
