import re
import warnings

import numpy as np
import pytest
import scipy.sparse
from helpers import SIZES, make_data, make_graphs, make_maps, make_relations

from aljax.errors import InputError
from aljax.layout import initialize as module
from aljax.layout.initialize import initial_maps
from aljax.layout.spectral import EXTENT, JITTER, spectral
from aljax.relations.mates import Mates


@pytest.fixture(scope="module")
def adjacency() -> list[scipy.sparse.csr_matrix]:
    return [graph.to_sparse() for graph in make_graphs()]


def related(pairs: dict[int, int]) -> Mates:
    rows, others = np.array([*pairs.items()], dtype=int).reshape(-1, 2).T
    return Mates(rows, others, np.ones(rows.size))


@pytest.mark.parametrize("init", ["spectral", "tswspectral", "pca", "random"])
def test_a_start_has_the_extent_the_shape_and_the_bits_it_should(adjacency, init):
    def start(seed, first=0):
        tables, options = (adjacency[first:], make_data()[first:], {}), {"seed": seed}
        options |= {"n_components": 3, "before": SIZES[:first]}
        return initial_maps(init, *tables, **options)

    maps = start(0)
    np.testing.assert_array_equal(start(0, first=2)[0], maps[2])
    for one, again, other, size in zip(maps, start(0), start(1), SIZES, strict=True):
        assert one.shape == (size, 3)
        assert 0.9 * EXTENT < np.abs(one).max() <= EXTENT + 10 * JITTER
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()


@pytest.mark.parametrize("init", ["spectral", "tswspectral", "pca"])
def test_only_the_jitter_is_left_to_chance(adjacency, init):
    maps = [
        initial_maps(init, adjacency, make_data(), {}, n_components=2, seed=seed)
        for seed in (0, 1)
    ]
    for one, other in zip(*maps, strict=True):
        assert np.abs(one - other).max() < 10 * JITTER


@pytest.mark.parametrize("init", ["spectral", "tswspectral", "pca", "random"])
def test_constant_data_give_distinct_finite_starts(init):
    graph = make_graphs()[0].to_sparse()
    data = np.full((SIZES[0], 3), 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start = initial_maps(init, [graph], [data], {}, n_components=2, seed=0)[0]
    assert np.isfinite(start).all()
    assert len(np.unique(start, axis=0)) == SIZES[0]


def test_the_chain_turns_each_start_onto_the_one_before(rng):
    before = rng.normal(size=(30, 2))
    turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    place = rng.permutation(30)
    start = np.empty_like(before)
    start[place] = before @ turn + np.array([5.0, -2.0])
    some = related({i: int(place[i]) for i in range(10)})
    turned = module._turn_onto(before, start, {(0, 1): some}, 1)
    np.testing.assert_allclose(turned[place], before, atol=1e-12)


def test_the_chain_keeps_the_shape_of_every_start(rng):
    before, start = rng.normal(size=(20, 2)), rng.normal(size=(25, 2))
    mates = related({i: i for i in range(20)})
    turned = module._turn_onto(before, start, {(2, 1): mates}, 3)

    def gaps(y):
        return np.linalg.norm(y[:, None] - y, axis=2)

    np.testing.assert_allclose(gaps(turned), gaps(start), atol=1e-12)
    distance = np.linalg.norm(turned[:20] - before)
    for angle in np.linspace(0, 2 * np.pi, 60):
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        for mirror in (np.eye(2), np.diag([1.0, -1.0])):
            moved = (start - start[:20].mean(axis=0)) @ turn @ mirror
            moved += before.mean(axis=0)
            assert np.linalg.norm(moved[:20] - before) >= distance - 1e-12


def test_slices_without_mates_are_left_as_they_are(rng):
    before, start = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
    for relations in ({}, {(0, 1): related({})}, {(0, 2): related({0: 1})}):
        assert module._turn_onto(before, start, relations, 1) is start


def test_related_copies_start_in_the_same_place(adjacency):
    rows = related({i: i for i in range(SIZES[0])})
    data = make_data()[0]
    maps = initial_maps(
        "pca",
        [adjacency[0]] * 2,
        [data, data[:, ::-1] * np.array([1, -1, 1, -1, 1])],
        {(0, 1): rows},
        n_components=2,
        seed=0,
    )
    assert np.abs(maps[0] - maps[1]).max() < 10 * JITTER


def test_maps_of_the_users_own_are_taken_as_they_are(adjacency):
    given = make_maps()
    mates = {(0, 1): related({0: 1, 2: 5, 4: 7})}
    maps = initial_maps(given, adjacency, make_data(), mates, n_components=2, seed=0)
    for one, other in zip(maps, given, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("absent", "joined"),
    [
        ([0], [(0, 1)]),
        ([2], [(1, 2)]),
        ([0, 1], [(0, 1), (1, 2)]),
        ([1, 2], [(0, 1), (1, 2)]),
    ],
)
def test_slices_without_a_start_begin_at_their_mates(adjacency, absent, joined):
    given = [None if t in absent else y for t, y in enumerate(make_maps())]
    rows = [3, 4, 9, 11]
    mates = {(t, 1): related({i: i for i in rows}) for t in range(2)}
    maps = initial_maps(given, adjacency, make_data(), mates, n_components=2, seed=0)
    for y, start, size in zip(maps, given, SIZES, strict=True):
        assert y.shape == (size, 2)
        if start is not None:
            np.testing.assert_array_equal(y, start)
    for t, other in joined:
        np.testing.assert_allclose(maps[t][rows], maps[other][rows], atol=20 * JITTER)


def test_without_any_start_the_first_slice_has_the_graphs_own(adjacency):
    mates = {(t, 1): related({i: i for i in range(30)}) for t in range(2)}
    maps = initial_maps(
        [None] * 3, adjacency, make_data(), mates, n_components=2, seed=0
    )
    np.testing.assert_allclose(maps[0], spectral(adjacency[0], 2), atol=10 * JITTER)
    for t in range(2):
        np.testing.assert_allclose(maps[t][:30], maps[t + 1][:30], atol=20 * JITTER)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda maps: [*maps[:2], "pca"], "start[2]"),
        (lambda maps: [maps[0].T, *maps[1:]], "start[0]"),
        (lambda maps: [*maps[:2], maps[2][:-1]], "start[2]"),
        (lambda maps: [maps[0], maps[1] * np.nan, maps[2]], "start[1]"),
    ],
)
def test_maps_that_do_not_fit_are_refused(adjacency, change, name):
    with pytest.raises(InputError, match=re.escape(name)):
        initial_maps(
            change(make_maps()), adjacency, make_data(), {}, n_components=2, seed=0
        )


def test_pca_of_a_graph_without_data_is_refused(adjacency):
    data = [make_data()[0], None, None]
    with pytest.raises(ValueError, match=r"^`init` is 'pca', but slice 1 is a graph"):
        initial_maps("pca", adjacency, data, {}, n_components=2, seed=0)


def test_the_chain_follows_relations_given_as_dicts(adjacency):
    dicts = make_relations()
    relations = {(t, 1): related(d) for t, d in enumerate(dicts)}
    chained = initial_maps(
        "spectral", adjacency, make_data(), relations, n_components=2, seed=0
    )
    apart = initial_maps("spectral", adjacency, make_data(), {}, n_components=2, seed=0)

    def gap(maps):
        return sum(
            np.linalg.norm(maps[t][mates.rows] - maps[t + 1][mates.others])
            for (t, _), mates in relations.items()
        )

    assert gap(chained) < gap(apart)
