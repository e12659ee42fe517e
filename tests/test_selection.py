"""The weight chosen on hidden mates: who is hidden, and what is chosen."""

import jax
import numpy as np
import pytest
from helpers import NEIGHBORS, SIZES, make_data, make_relations, refused

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import InputError
from aljax.selection import (
    choose,
    hide_members,
    members,
    select_alignment,
    split,
)
from aljax.sweep import SweepProblem
from experiments.tasks import selection
from experiments.tasks.selection import interval

WEIGHTS = np.array([0.01, 0.1, 1.0, 10.0])


@pytest.fixture(scope="module")
def problem() -> SweepProblem:
    return SweepProblem(
        make_data(),
        make_relations(),
        GraphConfig(n_neighbors=NEIGHBORS),
        LayoutConfig(n_epochs=40),
        AlignmentConfig(alignment_regularisation=0.01),
    )


@pytest.fixture(scope="module")
def begun(problem):
    return problem.prepared(jax.random.key(0))


def follow(row: int) -> list[int | None]:
    """The rows of one member of slice 0, along the dicts."""
    at: list[int | None] = [row]
    for relation in make_relations():
        at.append(relation.get(at[-1]) if at[-1] is not None else None)
    return at


def test_members_are_what_the_dicts_chain(begun):
    labels = members(begun.relations, np.array(SIZES))
    for row in range(SIZES[0]):
        for t, there in enumerate(follow(row)):
            if there is not None:
                assert labels[t][there] == labels[0][row]
    joined = sum(len(own) for own in labels) - len(np.unique(np.concatenate(labels)))
    assert joined == sum(map(len, make_relations()))  # each link joins one row more


def test_a_hidden_member_loses_all_its_links_and_nobody_else_any(begun, rng):
    away = hide_members(begun, 0.3, rng)
    visible, hidden = split(begun.relations, away)
    for (t, offset), mates in begun.relations.items():
        for rows, others, *_ in (visible[t, offset], hidden[t, offset]):
            assert len(rows) == len(others)
        seen = visible[t, offset]
        assert not away[t][seen.rows].any()
        assert not away[t + offset][seen.others].any()
        gone = hidden[t, offset]
        assert away[t][gone.rows].all()
        assert away[t + offset][gone.others].all()
        assert len(seen.rows) + len(gone.rows) == len(mates.rows)
    labels = np.concatenate(members(begun.relations, np.array(SIZES)))
    related = np.bincount(labels) > 1
    of_hidden = np.unique(labels[np.concatenate(away)])
    assert len(of_hidden) == round(0.3 * related.sum())


def curve(hidden, trust, noise=0.001):
    rng = np.random.default_rng(0)
    steps = noise * rng.normal(size=(2, len(WEIGHTS), 5))
    return np.array(hidden)[:, None] + steps[0], np.array(trust)[:, None] + steps[1]


def test_the_choice_is_the_least_weight_that_is_as_near_as_the_nearest():
    hidden, trust = curve([0.5, 0.3, 0.1, 0.1], [0.98, 0.98, 0.98, 0.98])
    hidden[3] = hidden[2]
    assert choose(WEIGHTS, hidden, trust, reference=0.1)[0] == 1.0


def test_the_choice_loses_no_trustworthiness_against_the_reference():
    hidden, trust = curve([0.5, 0.3, 0.1, 0.05], [0.98, 0.98, 0.98, 0.9])
    choice, why = choose(WEIGHTS, hidden, trust, reference=0.1)
    assert choice == 1.0
    assert "lost from 10 on" in why


def test_a_loss_that_other_seeds_may_find_beyond_the_spread_is_not_taken():
    hidden, trust = curve([0.5, 0.3, 0.1, 0.05], [0.98] * 4, noise=0.0)
    trust += [0.001, -0.001, 0.001, -0.001, 0.0]  # the spread over seeds: .001
    trust[3] -= 0.0008
    assert choose(WEIGHTS, hidden, trust, reference=0.1)[0] == WEIGHTS[3]
    trust[3] += [0.001, -0.001, 0.0, 0.0, 0.0]
    assert choose(WEIGHTS, hidden, trust, reference=0.1)[0] == WEIGHTS[2]


def test_the_choice_is_never_worse_than_the_reference():
    hidden, trust = curve([0.1, 0.3, 0.4, 0.5], [0.9, 0.98, 0.98, 0.98])
    assert choose(WEIGHTS, hidden, trust, reference=0.1)[0] == 0.1


def test_the_reference_stays_where_the_evidence_does_not_tell_it_apart():
    hidden, trust = curve([0.5, 0.1, 0.1, 0.3], [0.98, 0.98, 0.98, 0.98], noise=0.0)
    trust += [0.001, -0.001, 0.001, -0.001, 0.0]  # the spread over seeds
    hidden[1:3] += [[0.01, -0.01, 0.01, -0.01, 0.0], [-0.01, 0.02, 0.0, 0.01, 0.0]]
    assert choose(WEIGHTS, hidden, trust, reference=WEIGHTS[0])[0] == WEIGHTS[1]
    choice, why = choose(WEIGHTS, hidden, trust, reference=WEIGHTS[2])
    assert choice == WEIGHTS[2]
    assert why.startswith(f"stays at {choice:g}")
    trust[1] += 0.1  # now the lesser weight keeps more
    assert choose(WEIGHTS, hidden, trust, reference=WEIGHTS[2])[0] == WEIGHTS[1]


def test_intervals_are_students():
    values = np.array([[1.0, 2.0, 3.0, 4.0]])
    mean, half = interval(values)
    assert mean[0] == 2.5
    np.testing.assert_allclose(
        half[0], 3.182446 * np.std(values, ddof=1) / 2, rtol=1e-6
    )


def test_hidden_mates_come_nearer_under_a_weight_that_aligns(problem):
    told = []
    found = select_alignment(
        problem,
        key=jax.random.key(0),
        weights=[1.0],
        n_seeds=2,
        progress=lambda *counts: told.append(counts),
    )
    assert told == [(done, 4) for done in (1, 2, 3, 4)]
    assert found.weights.tolist() == [0.01, 1.0]
    assert found.hidden.shape == found.trustworthiness.shape == (2, 2)
    assert found.hidden[1].mean() < found.hidden[0].mean()
    assert found.choice in found.weights
    assert f"{found.hidden[0].mean():.4f}" in found.why


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "name", "said"),
    [
        ({"weights": []}, "weights", "is []"),
        ({"weights": 0.1}, "weights", "is 0.1"),
        ({"weights": [0.0]}, "weights[0]", "above 0"),
        ({"weights": [0.1, "a"]}, "weights[1]", "is 'a'"),
        ({"weights": [np.inf]}, "weights[0]", "is inf"),
        ({"n_seeds": 1}, "n_seeds", "at least 2"),
        ({"n_seeds": 2.5}, "n_seeds", "is 2.5"),
        ({"hidden_share": "a"}, "hidden_share", "is 'a'"),
        (
            {"problem": SweepProblem(make_data(), visible=dict)},
            *("problem.visible", "None"),
        ),
        ({"problem": make_data()}, "problem", "is a list"),
        ({"key": 0}, "key", "is 0"),
        ({"hidden_share": 1.0}, "hidden_share", "is 1.0"),
    ],
)
def test_bad_input_is_named(problem, options, name, said):
    with refused(name, said):
        select_alignment(**{"problem": problem, "key": jax.random.key(0), **options})


@pytest.mark.usefixtures("as_users_run_it")
def test_members_to_hide_are_needed(problem):
    alone = problem._replace(relations=[{0: 0}, {0: 0}])
    with refused("relations", "join 1 members"):
        select_alignment(alone, key=jax.random.key(0), n_seeds=2)


@pytest.mark.usefixtures("as_users_run_it")
def test_members_without_mates_in_the_next_slice_are_not_hidden(problem, rng):
    """Hidden mates are compared between consecutive slices only."""
    pair = np.stack([np.arange(30)] * 2, axis=1)
    apart = problem._replace(relations={(0, 2): pair})
    with pytest.warns(UserWarning, match="has no mates"):
        begun = apart.prepared(jax.random.key(0))
    with refused("relations", "join 0 members"):
        hide_members(begun, 0.2, rng)
    mixed = problem._replace(relations={(0, 1): pair[:4], (0, 2): pair[10:]})
    away = hide_members(mixed.prepared(jax.random.key(0)), 0.5, rng)
    assert [*map(sum, away)] == [2, 2, 0]


def test_the_command_heeds_settings_and_tells_what_it_refuses(monkeypatch, capsys):
    called = []

    def refuse(problem, *, key, n_seeds):
        called.append((problem.relations[0], jax.random.key_data(key)[1], n_seeds))
        raise InputError("relations", "join nobody", "somebody")

    monkeypatch.setattr(selection, "select_alignment", refuse)
    words = ["digits_sequence", "by_ids=true", "seed=3", "--seeds", "2"]
    with pytest.raises(SystemExit):
        selection.main(words)
    ((relation, seed, n_seeds),) = called
    assert isinstance(relation, list)  # of ids
    assert (int(seed), n_seeds) == (3, 2)
    assert "`relations` join nobody" in capsys.readouterr().err
