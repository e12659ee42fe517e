"""Which members moved: on planted motion, and against a slow threshold."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse

import aljax
from aljax.errors import InputError
from aljax.metrics import moved
from aljax.metrics.held import differences, hold, joined, laid_out, steps_of, weighted
from aljax.metrics.moved import call
from aljax.relations.mates import Members

MEMBERS, MOVERS, COLUMNS = 96, 32, 6
SETTINGS = {
    "graph": aljax.GraphConfig(n_neighbors=8),
    "layout": aljax.LayoutConfig(n_epochs=60),
    "alignment": aljax.AlignmentConfig(
        alignment_regularisation=3.0, motion_fidelity=1.0
    ),
}


@pytest.fixture(scope="module")
def slices():
    """Three slices of two groups: the first members cross from slice 1 to slice 2."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(MEMBERS, COLUMNS))
    start[::2] += 6
    end = start.copy()
    end[:MOVERS] = end[:MOVERS][::-1]
    return [start, start.copy(), end]


@pytest.fixture(scope="module")
def names():
    return [f"m{i}" for i in range(MEMBERS)]


@pytest.fixture(scope="module")
def maps(slices, names):
    key = jax.random.key(0)
    return aljax.fit(slices, [names] * 3, key=key, scale="none", **SETTINGS)


@pytest.fixture(scope="module")
def steps():
    return steps_of(Members([np.arange(MEMBERS)] * 3, []))


@pytest.fixture(scope="module")
def moves(maps):
    return moved(maps, key=jax.random.key(1), replicas=4)


def test_planted_movers_are_called_and_few_others(moves):
    called = moves.members.called
    assert called[:MOVERS].mean() >= 0.9
    assert called[MOVERS:].sum() <= 0.2 * called.sum()


def test_moves_on_a_sphere_are_as_long_as_they_are_there(slices, names):
    # In angles, which wrap around, nobody was called.
    key, layout = (
        jax.random.key(0),
        replace(SETTINGS["layout"], output_metric="haversine"),
    )
    settings = SETTINGS | {"layout": layout}
    maps = aljax.fit(slices, [names] * 3, key=key, scale="none", **settings)
    called = moved(maps, key=jax.random.key(1), replicas=4).members.called
    assert called[:MOVERS].mean() > 0.8
    assert called[MOVERS:].sum() <= 4


def test_the_step_of_the_move_is_called_and_not_the_step_before(moves):
    crossing = moves.steps.called[(moves.step == 1) & (moves.member < MOVERS)]
    before = moves.steps.called[(moves.step == 0) & (moves.member < MOVERS)]
    assert crossing.mean() >= 0.9
    assert before.mean() <= 0.2


def test_a_members_statistic_is_the_sum_over_its_steps(moves):
    total = np.bincount(moves.member, moves.steps.statistic)
    np.testing.assert_allclose(moves.members.statistic, total, rtol=1e-6)


def test_frames_have_a_line_for_each_member_and_each_step(moves, names):
    members, steps = moves.to_frame(), moves.to_frame("steps")
    assert [*members] == ["member", "statistic", "called"]
    assert [*steps] == ["step", "member", "statistic", "called"]
    assert [*members.member] == names
    assert [*steps.step] == [0] * MEMBERS + [1] * MEMBERS
    assert [*steps.called] == moves.steps.called.tolist()
    assert members.called.sum() == moves.rows()[2].sum()


def test_moves_say_how_many_there_are(moves):
    assert f"{moves.members.called.sum()} of 96 members" in repr(moves)
    assert f"{moves.steps.called.sum()} of 192 steps" in repr(moves)


def test_a_replica_that_holds_nobody_is_the_fit(maps, slices):
    again = laid_out(maps, np.concatenate(slices), jax.random.key(0), {})
    np.testing.assert_array_equal(again[2], maps.maps[2])


def test_weights_of_the_user_are_kept_and_strengths_of_graphs_are_not(maps):
    assert weighted(maps) == {}
    mates = maps.relations[0, 1]
    told = mates._replace(strengths=np.full(MEMBERS, 0.25))
    assert [*weighted(replace(maps, relations={(0, 1): told}))] == [(0, 1)]


def test_held_steps_take_the_row_before_and_leave_all_others(maps, steps):
    rows = joined(maps)
    chosen = (steps.step == 1) & (steps.member < 5)
    expected = rows.copy()
    expected[2 * MEMBERS : 2 * MEMBERS + 5] = rows[MEMBERS : MEMBERS + 5]
    np.testing.assert_array_equal(hold(rows, steps, chosen, None), expected)
    stored = replace(maps, data=[*map(scipy.sparse.csr_matrix, maps.data)])
    sparse: Any = hold(joined(stored), steps, chosen, None)
    np.testing.assert_array_equal(sparse.toarray(), expected)
    with pytest.raises(InputError) as error:
        moved(stored, key=jax.random.key(0), noise=1.0)
    assert error.value.name == "noise"


def test_noise_leaves_the_mean_of_a_held_step_but_not_its_length(maps, steps, rng):
    rows = joined(maps)
    sd = np.arange(COLUMNS) / 10
    drawn: Any = differences(sd, rows, steps, maps, rng)
    np.testing.assert_allclose(drawn.std(axis=0), 2**0.5 * sd, rtol=0.2)
    held = hold(rows, steps, steps.step == 1, drawn)
    before, after = held[MEMBERS : 2 * MEMBERS], held[2 * MEMBERS :]
    mean = (rows[MEMBERS : 2 * MEMBERS] + rows[2 * MEMBERS :]) / 2
    np.testing.assert_allclose((before + after) / 2, mean, atol=1e-6)
    np.testing.assert_allclose(after - before, drawn[MEMBERS:], atol=1e-6)


def test_estimated_noise_varies_as_the_still_members_do(maps, steps, slices, rng):
    mix = rng.normal(size=(COLUMNS, COLUMNS))
    apart = rng.normal(size=(3 * MEMBERS, COLUMNS)) @ mix
    rows = np.concatenate(slices) + apart
    drawn: Any = differences("estimate", rows, steps, maps, rng)
    ratio = drawn.std(axis=0) / (2**0.5 * np.linalg.norm(mix, axis=0))
    assert ((ratio > 0.8) & (ratio < 2.2)).all()  # a sixth of the steps are moves
    likeness = np.corrcoef(drawn.T)[np.triu_indices(COLUMNS, 1)]
    truth = np.corrcoef(apart.T)[np.triu_indices(COLUMNS, 1)]
    assert np.corrcoef(likeness, truth)[0, 1] > 0.8


def test_noise_is_in_the_units_of_the_data(slices, steps, names, rng):
    still = SETTINGS | {"layout": aljax.LayoutConfig(n_epochs=0), "scale": "standard"}
    scaled = aljax.fit(slices, [names] * 3, key=jax.random.key(0), **still)
    drawn: Any = differences(1.0, joined(scaled), steps, scaled, rng)
    expected = 2**0.5 / np.std(np.concatenate(slices), axis=0)
    np.testing.assert_allclose(drawn.std(axis=0), expected, rtol=0.2)


@pytest.mark.parametrize("q", [0.1, 0.3])
def test_the_threshold_is_that_of_knockoffs(rng, q):
    statistic = np.append(rng.normal(size=60) + rng.choice([0, 3], 60), np.nan)
    fits = [
        size
        for size in np.abs(statistic)
        if (1 + (statistic <= -size).sum()) / max((statistic >= size).sum(), 1) <= q
    ]
    expected = statistic >= min(fits, default=np.inf)
    np.testing.assert_array_equal(call(statistic, q), expected)
    assert expected.any()
    assert not call(-np.abs(statistic), q).any()


def test_members_of_one_slice_are_not_called_or_listed(slices, names):
    ids = [names, names, [*names[1:], "stranger"]]
    short = {**SETTINGS, "layout": aljax.LayoutConfig(n_epochs=2)}
    maps = aljax.fit(slices, ids, key=jax.random.key(0), scale="none", **short)
    moves = moved(maps, key=jax.random.key(1), replicas=3)
    assert not moves.members.called[moves.names.index("stranger")]
    assert "stranger" not in [*moves.to_frame().member]
    assert (moves.to_frame("steps").member == names[0]).sum() == 1


def parts(maps, *chosen):
    """A model of some of the slices, in which nobody has mates."""
    kept = "maps", "data", "graphs", "pinned", "point_weights"
    few: Any = {name: [getattr(maps, name)[t] for t in chosen] for name in kept}
    return replace(maps, relations={}, ids=None, **few)


@pytest.mark.parametrize(
    ("change", "name", "got"),
    [
        ({"q": 0}, "q", "is 0"),
        ({"q": 1}, "q", "is 1"),
        ({"q": 0.01}, "maps", "96 members"),
        ({"noise": -1.0}, "noise", "-1.0"),
        ({"noise": [1.0, 2.0]}, "noise", "[1.0, 2.0]"),
        ({"noise": "estimated"}, "noise", "estimated"),
        ({"replicas": 1}, "replicas", "is 1"),
        ({"key": None}, "key", "missing"),
    ],
)
def test_arguments_out_of_range_are_named(maps, change, name, got):
    with pytest.raises(InputError) as error:
        moved(maps, **{"key": jax.random.key(0), **change})
    assert error.value.name == name
    assert got in error.value.got


def test_too_few_members_say_the_least_number(maps):
    with pytest.raises(InputError) as error:
        moved(maps, key=jax.random.key(0), q=0.001)
    assert "1000" in error.value.expected


def test_models_that_cannot_tell_are_refused(maps):
    broken = {
        "one slice": parts(maps, 0),
        "no member": parts(maps, 0, 1),
        "no data": replace(maps, data=[*maps.data[:2], None]),
        "[5, 6] columns": replace(maps, data=[*maps.data[:2], maps.data[2][:, 1:]]),
        "is a list": maps.maps,
    }
    for got, model in broken.items():
        with pytest.raises(InputError) as error:
            moved(model, key=jax.random.key(0))
        assert error.value.name == "maps"
        assert got in error.value.got
