"""The frame of a sequence: maps far apart stay comparable where members age."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import scipy.optimize
import scipy.spatial
from helpers import refused

import aljax
from aljax.graph.build import build_graphs
from aljax.graph.slices import read_slices
from aljax.layout.finish import finish, firm_of, settle
from aljax.layout.initialize import turn_onto
from aljax.metrics import center_drift, frame_displacement, stability
from aljax.relations.anchors import (
    Landmarks,
    agree,
    anchors,
    hold,
    lags,
    landmarks,
    nearer,
    warn_alone,
    with_anchors,
)
from aljax.relations.mates import Mates
from aljax.relations.strengths import scales_of

LIFE, BIRTHS, SLICES = 8, 12, 24  # slices a member lives, born in each, of the sequence
GRAPH = aljax.GraphConfig(n_neighbors=8)


def aging(slices=SLICES, seed=0):
    """Members of two columns of style and one of age; the population stays."""
    rng = np.random.default_rng(seed)
    style = rng.normal(size=(slices + LIFE, BIRTHS, 2))
    data, ids = [], []
    for t in range(slices):
        born = range(t, t + LIFE)
        ages = [(t + LIFE - b) / LIFE for b in born]
        rows = [
            np.column_stack([style[b], np.full(BIRTHS, 6 * age)])
            for b, age in zip(born, ages, strict=True)
        ]
        data.append(np.concatenate(rows).astype(np.float32))
        ids.append([f"{b}-{i}" for b in born for i in range(BIRTHS)])
    return data, ids


def fit(data, relations, *, epochs=100, **alignment):
    return aljax.fit(
        data,
        relations,
        key=jax.random.key(0),
        graph=GRAPH,
        layout=aljax.LayoutConfig(n_epochs=epochs),
        alignment=aljax.AlignmentConfig(**alignment),
    )


@pytest.fixture(scope="module")
def fitted():
    data, ids = aging()
    return {frame: fit(data, ids, frame=frame) for frame in ("auto", "mates")}


@pytest.fixture(scope="module")
def short():
    data, ids = aging(slices=4)
    return fit(data, ids)


def test_the_frame_holds_where_members_age(fitted):
    data, _ = aging()
    drift = {frame: center_drift(model.maps) for frame, model in fitted.items()}
    assert drift["auto"] < 0.8 < 4 < drift["mates"]
    far = [frame_displacement(data, m.maps, lag=20) for m in fitted.values()]
    assert far[0] < 0.9 < 4 < far[1]


def test_updates_keep_the_frame_and_earlier_maps_to_the_bit(short):
    data, ids = aging(slices=14)  # of which the last are held by those ten before
    model = short
    for t in range(4, 14):
        longer = aljax.update(model, data[t], ids[t], key=jax.random.key(t))
        for before, after in zip(model.maps, longer.maps, strict=False):
            np.testing.assert_array_equal(before, after)
        model = longer
    assert center_drift(model.maps) < 0.8


def test_lengths_that_follow_the_data_stay_while_the_frame_holds():
    rng = np.random.default_rng(0)
    start, pace = rng.normal(size=(90, 3)), rng.gamma(2, 0.5, size=(90, 1))
    data = [(start + step * pace * [0.3, 0, 0]).astype(np.float32) for step in range(8)]
    mates, faithful = [range(90)] * 8, dict[str, Any](alignment_regularisation=3.0)
    faithful |= {"motion_fidelity": 1.0}
    auto, alone = (fit(data, mates, frame=f, **faithful) for f in ("auto", "mates"))
    steps = {pair: m for pair, m in auto.relations.items() if pair[1] == 1}
    read = [stability(data, model.maps, steps) for model in (auto, alone)]
    assert read[0] > read[1] - 0.03 > 0.8
    apart = [frame_displacement(data, model.maps, lag=7) for model in (auto, alone)]
    assert apart[0] < 0.98 * apart[1]


def test_a_short_sequence_is_moved_as_a_whole_alone(short):
    without = fit(*aging(slices=4), frame="mates")
    assert not np.allclose(short.maps[3], without.maps[3], atol=0.1)
    for ours, theirs in zip(short.maps, without.maps, strict=True):
        lengths = [
            scipy.spatial.distance.pdist(y.astype(float)) for y in (ours, theirs)
        ]
        np.testing.assert_allclose(*lengths, rtol=1e-4, atol=1e-4)


def test_a_layout_of_no_epochs_returns_its_start(rng):
    data, ids = aging(slices=4)
    start = [rng.normal(size=(len(rows), 2)).astype(np.float32) for rows in data]
    still = {"layout": aljax.LayoutConfig(n_epochs=0), "graph": GRAPH}
    model = aljax.fit(data, ids, key=jax.random.key(0), start=start, **still)
    for ours, given in zip(model.maps, start, strict=True):
        np.testing.assert_array_equal(ours, given)


def test_updates_leave_pinned_rows_of_slices_that_move(short):
    data, ids = aging(slices=5)
    mask = np.arange(len(data[3])) < 10
    held = dataclasses.replace(short, pinned=[None, None, None, mask])
    longer = held.update(data[4], ids[4], key=jax.random.key(1), move=1)
    np.testing.assert_array_equal(longer.maps[3][mask], short.maps[3][mask])
    assert (longer.maps[3][~mask] != short.maps[3][~mask]).any(axis=1).all()


def test_slices_that_share_no_members_are_held_by_nearest_rows():
    data, _ = aging(slices=4)
    nobody = [[f"{t}-{row}" for row in range(len(data[t]))] for t in range(4)]
    apart = {}
    rules = {"auto": "nearest in the data hold", "mates": "nothing holds the maps"}
    for frame, rule in rules.items():
        with pytest.warns(UserWarning, match=rule) as told:
            model = fit(data, nobody, frame=frame)
        assert [str(one.message)[:8] for one in told] == ["slice 1 "]
        apart[frame] = frame_displacement(data, model.maps)
    assert apart["auto"] < 0.7 * apart["mates"]


def graphs_of(data):
    return build_graphs(read_slices(data), GRAPH, seed=0)


def test_anchors_are_the_mutual_nearest_rows_with_the_strengths_of_the_formula():
    data, _ = aging()
    graphs = graphs_of(data)
    steps = {(t, 1): Mates(*np.zeros((3, 1), int)) for t in range(SLICES - 1)}
    held = hold(steps, data, graphs, frame="population")
    assert {*held} == {(t, lag) for lag in (1, 3, 10) for t in range(SLICES - lag)}
    here, there = data[1].astype(float), data[11].astype(float)
    apart = np.linalg.norm(here[:, None] - there[None], axis=2)
    reach = [np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)[:, 7]
             for x in (here, there)]  # fmt: skip
    expected = [
        (i, j, 0.06 * np.exp(-(apart[i, j] ** 2) / (reach[0][i] * reach[1][j])))
        for i in range(len(here))
        for j in range(len(there))
        if apart[i].argmin() == j and apart[:, j].argmin() == i
    ]
    mates = held[1, 10]
    np.testing.assert_array_equal(mates.rows, [i for i, _, _ in expected])
    np.testing.assert_array_equal(mates.others, [j for _, j, _ in expected])
    np.testing.assert_allclose(mates.strengths, [s for *_, s in expected], rtol=1e-6)
    marks = [landmarks(data[t], graphs[t]) for t in (1, 11)]
    far = anchors(*(mark._replace(data=mark.data + 1e8) for mark in marks))
    np.testing.assert_array_equal(far.others, mates.others)


def test_rows_with_fewer_neighbors_reach_the_farthest_that_they_have(rng):
    data = rng.normal(size=(60, 3))
    graph = aljax.GraphConfig(n_neighbors=8, disconnection_distance=1.0)
    (built,) = build_graphs(read_slices([data]), graph)
    lists = np.asarray(built.neighbors)
    apart = np.linalg.norm(data[lists] - data, axis=2).max(axis=0)
    assert (lists[-1] == np.arange(60)).sum() > 0
    np.testing.assert_allclose(landmarks(data, built).reach, apart)
    (scale,) = scales_of([data], [built])
    assert scale == pytest.approx(np.median(apart[apart > 0]))


def test_a_slice_whose_mates_are_linked_by_a_later_slice_is_not_alone():
    mates, names = Mates(np.arange(3), np.arange(3)), ["a", "b", "c", "", "e"]
    links = {(0, 2): mates, (1, 1): mates}
    warn_alone(links, {}, names[:4])
    with pytest.warns(UserWarning, match="^e has no mates in .*: nothing holds"):
        warn_alone(links, {}, names)


def test_a_landmark_stands_for_its_share_of_the_larger_slice(rng):
    rows = rng.normal(size=(6, 2))
    one = Landmarks(np.arange(6), rows, np.full(6, 2.0), 1.0)
    other = one._replace(data=rows + 0.1)
    alone = anchors(one, other).strengths
    more = one._replace(share=4.0), other._replace(share=4.0)
    for pair in ((more[0], other), (one, more[1]), more):
        np.testing.assert_allclose(anchors(*pair).strengths, 4 * alone)
    np.testing.assert_array_equal(anchors(one._replace(share=99.0), other).strengths, 1)


def test_rows_are_compared_where_most_mates_are_nearer_than_chance():
    assert agree([5, 5], [0.8, 0.7])
    assert agree([5, 5], [])
    assert not agree([5, 5], [0.6, 0.7])
    assert not agree([5, 4], [1.0])
    assert not agree([0, 0], [])


def test_lags_grow_by_three():
    assert [lags(n) for n in (10, 11, 91, 512)] == [
        *([1, 3], [1, 3, 10], [1, 3, 10, 30, 90], [1, 3, 10, 30, 90, 270])
    ]


def test_anchors_pull_from_ten_slices_apart_on_and_where_there_are_no_mates():
    anchor = Mates(np.array([0]), np.array([1]), np.ones(1))
    mates = {(0, 1): anchor, (1, 1): anchor.where(np.zeros(1, bool))}
    held = {(s, lag): anchor for s in (0, 1) for lag in (1, 3, 10, 30)}
    pulling = with_anchors(mates, held)
    assert {pair for pair in pulling if pulling[pair].rows.size} == {
        *((0, 1), (0, 10), (0, 30)),
        *((1, 1), (1, 10), (1, 30)),
    }
    assert pulling[0, 1] is anchor


def test_a_pair_that_is_both_counts_as_mates():
    mates = {(0, 10): Mates(np.array([0, 2]), np.array([1, 1]), np.ones(2))}
    held = {(0, 10): Mates(np.array([0, 1]), np.array([1, 0]), np.full(2, 0.05))}
    rows, others, strengths, _ = with_anchors(mates, held)[0, 10]
    assert [*zip(rows, others, strengths, strict=True)] == [
        *((0, 1, 1), (1, 0, 0.05), (2, 1, 1))
    ]


def test_maps_settle_by_shifts_and_turns_alone(rng):
    square = rng.normal(size=(9, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    maps = [square, square @ turn + 5, square @ turn.T - 2]
    every = np.arange(9)
    held = {(t, 1): Mates(every, every, np.ones(9)) for t in range(2)}
    for y in settle(maps, held, {}):
        np.testing.assert_allclose(y, square, atol=1e-12)
    stay = settle(maps, held, {}, fixed=[1])
    np.testing.assert_array_equal(stay[1], maps[1])
    np.testing.assert_allclose(stay[2], maps[1], atol=1e-12)


def test_a_mask_that_pins_nobody_is_none(rng):
    maps, data = ([*rng.normal(size=(2, 9, columns))] for columns in (2, 3))
    every = np.arange(9)
    held = {(0, 1): Mates(every, every, np.ones(9))}
    sets = [graphs_of(data), {}, aljax.AlignmentConfig()]

    def finished(*stay):
        return finish(maps, held, *sets, stay=stay, weights=[None, None])[1]

    np.testing.assert_array_equal(finished(None, every < 0), finished(None, None))
    np.testing.assert_array_equal(finished(None, every < 1), maps[1])


def test_a_map_settles_where_anchors_and_lengths_pull_least(rng):
    maps = [rng.normal(size=(30, 2)) for _ in range(2)]
    every, far = np.arange(30), rng.permutation(30)[:12]
    held = {(0, 1): Mates(far, far[::-1], rng.uniform(1, 3, 12))}
    firm = {(0, 1): Mates(every, every, rng.uniform(0.1, 1, 30))}
    apart = np.linalg.norm(maps[1] - maps[0], axis=1)

    def loss(y):
        near = np.linalg.norm(y[far[::-1]] - maps[0][far], axis=1)
        changed = np.linalg.norm(y - maps[0], axis=1) - apart
        return (held[0, 1].strengths @ near**2) + (firm[0, 1].strengths @ changed**2)

    def moved(motion):
        turn = scipy.spatial.transform.Rotation.from_euler("z", motion[0])
        return maps[1] @ turn.as_matrix()[:2, :2] + motion[1:]

    least = scipy.optimize.minimize(lambda motion: loss(moved(motion)), np.zeros(3))
    first, second = settle(maps, held, firm)
    np.testing.assert_array_equal(first, maps[0])
    assert loss(maps[1]) > 1.1 * least.fun
    assert loss(second) < 1.01 * least.fun


@pytest.mark.parametrize("given", [(), (0,), (1,), (0, 1)])
def test_the_weights_of_both_rows_say_how_strongly_they_hold(rng, given):
    maps, drawn = rng.normal(size=(2, 9, 2)), rng.random((2, 9))
    pairs = Mates(np.arange(9), np.arange(9)[::-1].copy(), rng.random(9))
    weights = [drawn[t] if t in given else None for t in (0, 1)]
    before, after = (drawn[t] if t in given else np.ones(9) for t in (0, 1))
    strengths = pairs.strengths * (before[pairs.rows] + after[pairs.others]) / 2
    ends = maps[1][pairs.others], maps[0][pairs.rows]
    expected = turn_onto(maps[1], *ends, strengths)
    settled = settle([*maps], {(0, 1): pairs}, {}, weights=weights if given else None)
    np.testing.assert_allclose(settled[1], expected)
    times = rng.integers(1, 4, 9)
    repeated = turn_onto(maps[1], *(np.repeat(end, times, axis=0) for end in ends))
    np.testing.assert_allclose(turn_onto(maps[1], *ends, times * 1.0), repeated)


def test_some_mates_stand_for_all_whose_lengths_stay():
    rows = np.arange(1100)
    many = Mates(rows, rows, np.linspace(0, 1, 1100))
    near, far = {(0, 1): many, (2, 9): many}, {(0, 10): many}
    firm = firm_of(near | far, aljax.AlignmentConfig(motion_fidelity=0.5))
    assert firm.keys() == near.keys()
    np.testing.assert_array_equal(firm[2, 9].others, many.others[::3])
    np.testing.assert_allclose(firm[0, 1].strengths, 3 * many.strengths[::3])
    assert firm_of(near, aljax.AlignmentConfig()) == {}


def test_maps_go_along_with_one_of_two_rows(rng):
    shape = rng.normal(size=(9, 2))
    maps = [shape, shape[:2] + 4, shape + 4]  # the last two belong on the first
    every, two = np.arange(9), np.arange(2)
    pairs = np.array([0, 1, 1])
    held = {(0, 1): Mates(pairs, pairs, np.ones(3))}
    held[0, 2] = Mates(every, every, np.ones(9))
    firm = {(1, 1): Mates(two, two, np.full(2, 1e-9))}
    settled = settle(maps, held, firm)
    np.testing.assert_allclose(settled[1], shape[:2], atol=1e-6)
    np.testing.assert_allclose(settled[2], shape, atol=1e-4)
    for y, before in zip(settle(maps, {}, firm), maps, strict=True):
        np.testing.assert_array_equal(y, before)
    maps = [shape, shape + 4, shape - 9, shape[:2] + 1]  # the third may not move
    held = {(0, 1): Mates(every, every, np.ones(9))}
    settled = settle(maps, held, {(2, 1): firm[1, 1]}, fixed=[2])
    np.testing.assert_allclose(settled[1], shape, atol=1e-6)
    np.testing.assert_allclose(settled[3], maps[3], atol=1e-6)


def test_columns_that_mean_other_things_hold_no_frame():
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(40, 3)) for _ in range(12)]  # members, in other words
    same = {(t, 1): Mates(np.arange(40), np.arange(40), np.ones(40)) for t in range(11)}
    assert abs(np.mean(nearer(data, same)) - 0.5) < 0.1
    graphs = graphs_of(data)
    assert hold(same, data, graphs, frame="auto") == {}
    assert len(hold(same, data, graphs, frame="population")) == 22
    data[3] = data[3][:, :2]
    assert hold(same, data, graphs, frame="auto") == {}
    with refused("frame", "slice 3 has 2 columns", "'auto'"):
        hold(same, data, graphs, frame="population")
    with refused("frame", "slice 5 is sparse, distances, neighbors or a graph"):
        hold(same, [*data[4:9], None], graphs, frame="population")


def test_rows_that_are_all_alike_hold_without_warnings():
    data, ids = aging()
    data[11] = np.ones_like(data[11])
    alike = {(0, 1): Mates(*np.zeros((3, 2), int))}
    assert nearer([data[11]] * 2, alike) == [0.5]  # as by chance
    model = fit(data, ids, epochs=10)
    assert all(np.isfinite(y).all() for y in model.maps)


def test_many_rows_are_held_by_landmarks():
    data = np.random.default_rng(0).normal(size=(600, 3))
    marks = landmarks(data, graphs_of([data])[0])
    assert len({*marks.rows.tolist()}) == 512
    assert marks.share == 600 / 512


@pytest.mark.usefixtures("as_users_run_it")
def test_measures_match_columns_by_their_names(rng):
    pair: Any = rng.normal(size=(2, 9, 3))
    maps = [rows[:, :2] for rows in pair]
    names = pandas.Index([*"abc"])
    frames: Any = [pandas.DataFrame(rows, columns=names) for rows in pair]
    frames[1] = frames[1][[*"cab"]]
    relations = {(0, 1): Mates(np.arange(9), np.arange(9), np.ones(9))}
    assert frame_displacement(frames, maps) == frame_displacement(pair, maps)
    assert stability(frames, maps, relations) == stability(pair, maps, relations)
    with pytest.warns(DeprecationWarning, match=re.escape("['d']")):
        frame_displacement([frames[0], frames[1].rename(columns={"c": "d"})], maps)


def test_measures_of_the_frame():
    square = np.array([[0.0, 0], [0, 2], [2, 0], [2, 2]])
    far = square + np.array([3, 4])
    assert center_drift([square, square, far]) == pytest.approx(5 / np.sqrt(2))
    assert frame_displacement([square, square], [square, far]) == pytest.approx(
        5 / np.sqrt(2)
    )
    assert np.isnan(frame_displacement([square], [square]))
    every = frame_displacement([square, square], [square, far], per_point=True)
    np.testing.assert_allclose(every, 5 / np.sqrt(2))
    with refused("lag", "0"):
        frame_displacement([square], [square], lag=0)
    with refused("data", "[1, 2] columns"):
        frame_displacement([square, square[:, :1]], [square, square])
    with refused("maps", "[3]", "[4]"):
        frame_displacement([square], [square[:3]])
