"""Couplings of slices without ids, and what they know about who is missing."""

from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import refused
from scipy.sparse import csr_array

import aljax
from aljax.couple import _largest, _strengths
from aljax.relations.drift import Move, moved, telling
from aljax.relations.plan import _nulls
from aljax.relations.sides import seen, side_of
from aljax.relations.transport import plan_of, steps_for, transport_plan
from experiments.data.dataset import Dataset, among, coupled, leading_to
from experiments.data.sources import load

KEY = jax.random.key(0)
SHORT, UNMOVED = (aljax.LayoutConfig(n_epochs=count) for count in (5, 0))
POINTS, LEFT = 60, 45


def cut(rng, count=LEFT, slices=3, shift=0.0):
    """Slices of the same members, some missing and all shuffled, and their members."""
    members = rng.normal(size=(POINTS, 6))
    ids = [rng.permutation(POINTS)[:count] for _ in range(slices)]
    data = [
        members[rows] + shift * t + rng.normal(scale=0.05, size=(count, 6))
        for t, rows in enumerate(ids)
    ]
    return data, ids


@pytest.fixture(scope="module")
def slices():
    return cut(np.random.default_rng(0))


@pytest.fixture(scope="module")
def coupling(slices):
    return aljax.couple(slices[0], key=KEY)


def right(coupling, ids):
    """For each plan the share of mates that come first in it."""
    shares = []
    for t, plan in enumerate(coupling.plans):
        order = np.lexsort((-plan.mass, plan.rows))
        rows, first = np.unique(plan.rows[order], return_index=True)
        others = plan.others[order][first]
        common = np.isin(ids[t][rows], ids[t + 1])
        shares.append((ids[t + 1][others] == ids[t][rows])[common].mean())
    return min(shares)


def test_members_are_found_and_the_missing_called(slices, coupling):
    _, ids = slices
    assert right(coupling, ids) > 0.95
    for t, (here, there) in enumerate(coupling.has_mate()):
        recurs = np.isin(ids[t], ids[t + 1])
        assert here.sum() > 0.8 * recurs.sum()
        assert (here & ~recurs).sum() <= 0.2 * here.sum()
        assert there.shape == ids[t + 1].shape
        mass, _ = coupling.mass[t]
        assert mass[recurs].min() > mass[~recurs].mean()
    assert (coupling.evidence > 0.6).all()
    assert not any(both.any() for both, _ in coupling.has_mate(1e-9))


@pytest.mark.parametrize("strangers", [0, 60, 120, 200])
def test_so_many_are_called_wrongly_as_asked_and_no_fewer_without_need(
    strangers, coupling
):
    from scipy.stats import false_discovery_control

    plan = coupling.plans[0]  # but for its masses, which are drawn
    rng, wrong, found, plainly = np.random.default_rng(0), [], [], []
    recurs = np.arange(200) >= strangers
    for _ in range(100):
        null, mass = np.sort(rng.uniform(size=2000)), rng.uniform(size=200)
        mass[recurs] **= 0.1
        read = plan._replace(strict=(mass, mass), null=(null, null))
        called, _ = aljax.Coupling((read,), {}, (200, 200), ("a", "b")).has_mate(0.2)[0]
        wrong.append((called & ~recurs).sum() / max(called.sum(), 1))
        found.append((called & recurs).sum())
        p_values = (2001 - np.searchsorted(null, mass)) / 2001
        plainly.append(((false_discovery_control(p_values) <= 0.2) & recurs).sum())
    assert np.mean(wrong) <= 0.2 + 3 * np.std(wrong) / np.sqrt(len(wrong))
    assert np.mean(found) >= np.mean(plainly) * (1.1 if 0 < strangers < 200 else 1)


@pytest.mark.filterwarnings("ignore:no row is seen")
def test_strangers_are_called_as_often_among_many_rows_as_among_few(rng):
    data = [rng.normal(size=(size, 6)) for size in (64, 32) * 3]
    called = aljax.couple(data, key=KEY, drift=False).has_mate(1.0)
    shares = [
        [rows.mean() for rows in pair[:: (-1) ** t]] for t, pair in enumerate(called)
    ]
    among_few, among_many = np.mean(shares, axis=0)
    assert among_few == pytest.approx(among_many, abs=0.1)


def test_shares_of_farther_slices_follow_from_the_steps(slices, coupling):
    _, ids = slices
    assert [*coupling.relations] == [(0, 1), (0, 2), (1, 2)]
    pairs, weights = coupling.relations[0, 2]
    companions = np.maximum(*(np.bincount(side)[side] for side in pairs.T))
    heavy = weights / companions > 0.5
    assert (ids[0][pairs[heavy, 0]] == ids[2][pairs[heavy, 1]]).mean() > 0.95
    head, *steps = repr(coupling).split("\n")
    assert head.startswith("Coupling of 3 slices")
    assert len(steps) == 2
    frame = coupling.to_frame()
    assert [*frame] == ["slice", "row", "other_slice", "other_row", "strength"]
    assert frame.strength.sum() == pytest.approx(
        sum(
            (w / np.maximum(*(np.bincount(side)[side] for side in p.T))).sum()
            for p, w in coupling.relations.values()
        )
    )


def test_strangers_pull_less_than_they_couple(slices, coupling):
    _, ids = slices
    rows, mass = coupling.relations[0, 1][0][:, 0], coupling.mass[0][0]
    strengths = coupling.to_frame().query("slice == 0 and other_slice == 1").strength
    pull = np.bincount(rows, strengths, LEFT)
    recurs = np.isin(ids[0], ids[1])
    assert np.median((pull / mass)[recurs]) > 0.9
    assert np.median((pull / mass)[~recurs]) < 0.7


def test_what_pulls_is_largest_on_either_side_and_less_where_a_row_has_little(rng):
    mass = rng.uniform(0.01, 0.6, (6, 9)) * (rng.random((6, 9)) < 0.8)
    ranks = [(-mass).argsort(axis).argsort(axis) for axis in (0, 1)]
    expected = mass * ((ranks[0] < 2) | (ranks[1] < 2))
    kept = _largest(csr_array(mass), 2)
    np.testing.assert_array_equal(kept.toarray(), expected)
    rows, others = kept.nonzero()
    of_rows, of_others = (expected.sum(axis) for axis in (1, 0))
    share = np.sqrt(np.minimum(np.minimum(of_rows[rows], of_others[others]), 1))
    np.testing.assert_allclose(_strengths(kept), expected[rows, others] * share)


def test_units_of_rows_follow_a_move_and_a_change_of_space(slices):
    side = side_of(slices[0][0].astype(np.float32), 30)
    there = moved(side, Move(3.0, np.ones(6, np.float32)), side.rows.mean(axis=0))
    expected = side_of(there.rows, 30).squared
    np.testing.assert_allclose(there.squared, expected, rtol=1e-4)
    flat = seen(side, np.eye(6, 2))
    apart = ((flat.rows[:, None] - flat.rows[side.near]) ** 2).sum(axis=2)
    np.testing.assert_allclose(flat.units, apart.min(axis=1), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:no row is seen")  # with the move left in
def test_couplings_hold_at_any_scale_order_and_common_move(slices, coupling):
    data, ids = slices
    far = [1000 * rows + 7e3 * t for t, rows in enumerate(data)]
    order = np.random.default_rng(1).permutation(LEFT)
    moved = aljax.couple([far[0][order], *far[1:]], key=KEY, drift=True)
    place = np.argsort(order)
    expected = np.bincount(coupling.plans[0].rows, coupling.plans[0].mass, LEFT)
    np.testing.assert_allclose(moved.mass[0][0][place], expected, rtol=0.1, atol=0.02)
    assert right(aljax.couple(far, key=KEY), ids) > 0.95
    np.testing.assert_allclose(moved.plans[1].shift, 7e3, rtol=0.05)
    still = aljax.couple(far, key=KEY, drift=False)
    assert max(mass.sum() for mass in still.mass[0]) < 1e-3


def test_a_change_of_scale_is_no_change(slices, coupling):
    data, ids = slices
    wider = [1.6**t * rows + 3 * t for t, rows in enumerate(data)]
    widened = aljax.couple(wider, key=KEY)
    assert right(widened, ids) > 0.95
    plans = zip(widened.plans, coupling.plans, strict=True)
    for t, (plan, same) in enumerate(plans):
        assert plan.scale / same.scale == pytest.approx(1.6, rel=0.02)
        arrays = wider[t], wider[t + 1], plan.shift, plan.into
        x, y, shift, into = map(jnp.asarray, arrays)
        pairs = np.asarray(plan.candidates.rows), np.asarray(plan.candidates.others)
        moved, kept = np.zeros((2, LEFT, LEFT))
        move = {"shift": shift, "scale": plan.scale, "into": into}
        moved[pairs] = transport_plan(x, y, plan.candidates, **move)
        kept[plan.rows, plan.others] = plan.mass
        np.testing.assert_allclose(moved, kept, atol=2e-3)


def test_a_row_far_out_moves_no_other(slices):
    data, ids = slices
    wrong = [rows.copy() for rows in data]
    for rows, cell in zip(wrong, (1e3, 1e5), strict=False):
        rows[0, 2] = cell
    coupled = aljax.couple(wrong, key=KEY)
    assert right(coupled, ids) > 0.9
    assert [plan.scale for plan in coupled.plans] == pytest.approx([1, 1], rel=0.05)


def test_columns_of_noise_tell_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    members, n_noise = rng.normal(size=(200, 5)), 15
    ids = [rng.permutation(200)[:150] for _ in range(2)]
    data = [
        np.hstack([members[rows], rng.normal(scale=0.3, size=(150, n_noise))])
        for rows in ids
    ]
    coupling = aljax.couple(data, key=KEY)
    assert right(coupling, ids) > 0.95
    into = coupling.plans[0].into
    assert into is not None
    weights = np.linalg.norm(into, axis=1)
    assert weights[:5].min() > 1.5 * weights[5:].max()
    monkeypatch.setattr("aljax.relations.plan.telling", lambda *_: None)
    assert right(aljax.couple(data, key=KEY), ids) < 0.8


@pytest.mark.parametrize("columns", [1, 4, 300])
def test_directions_are_those_of_the_likelihood_ratio(columns):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, columns)) * rng.uniform(0.2, 2, columns)
    y = x + 0.1 * rng.normal(size=x.shape)
    rows = np.repeat(np.arange(120), 2)
    others, mass = np.sort([rows[::2], (rows[::2] + 1) % 120], axis=0).T.ravel(), 0.5
    into = telling(x, y, rows, others, np.full(240, mass), rng)
    assert into is not None
    assert into.shape[1] <= min(columns, 100)
    if columns > 100:
        return
    apart = np.cov((x[rows] - y[others]).T, bias=True).reshape(columns, -1)
    center = (x[rows] - y[others]).mean(axis=0)
    apart = apart + np.outer(center, center)
    apart = apart / 2 + np.eye(columns) * np.trace(apart) / columns / 2
    spread = np.cov(x.T, bias=True) + np.cov(y.T, bias=True)
    spread = spread.reshape(columns, -1)
    ratio = np.linalg.inv(apart) - np.linalg.inv(spread)
    np.testing.assert_allclose(into @ into.T, ratio, rtol=1e-6, atol=1e-9)


def test_no_direction_tells_rows_that_are_alike(rng):
    same = np.zeros((20, 3))
    rows = np.arange(20)
    assert telling(same, same, rows, rows, np.ones(20), rng) is None
    assert telling(same, same, rows[:0], rows[:0], np.ones(0), rng) is None


def test_metrics_have_other_names(slices, coupling):
    again = aljax.couple(slices[0], key=KEY, metric="l2")
    for one, other in zip(again.plans, coupling.plans, strict=True):
        np.testing.assert_array_equal(one.mass, other.mass)


def test_one_slice_and_one_candidate_are_told_of_as_more_are(slices, coupling):
    first = slices[0][:1]
    of_one = aljax.couple(first, key=KEY).to_frame()
    assert [*of_one] == [*coupling.to_frame()]
    # Without a second the null has no units, and nobody is called.
    assert side_of(first[0], 1).squared.shape == (LEFT, 2)


def test_strangers_are_warned_of(rng):
    data = [rng.normal(size=(LEFT, 6)) for _ in range(2)]
    with pytest.warns(UserWarning, match="evidence"):
        coupling = aljax.couple(data, key=KEY)
    assert not any(called.any() for called in coupling.has_mate()[0])
    assert coupling.evidence[0] < 0.6


def test_fit_and_update_take_transport(slices):
    data, _ = slices
    two = aljax.fit(data[:2], "transport", key=KEY, layout=SHORT)
    coupled = aljax.couple(data[:2], key=KEY)
    by_hand = aljax.fit(data[:2], coupled, key=KEY, layout=SHORT)
    for mine, other in zip(two.maps, by_hand.maps, strict=True):
        np.testing.assert_array_equal(mine, other)
    mates = two.relations[0, 1]
    pull = np.bincount(mates.rows, mates.strengths)
    frame = coupled.to_frame()
    expected = np.bincount(frame["row"], frame.strength)
    np.testing.assert_allclose(pull, expected, rtol=1e-5)
    start = aljax.fit(data[:2], coupled, key=KEY, layout=UNMOVED)
    longer = aljax.update(start, data[2], "transport", key=KEY)
    assert {*longer.relations} == {(0, 1), (0, 2), (1, 1)}  # by slice and offset
    right_pairs = aljax.couple(data, key=KEY).relations[1, 2][0]
    np.testing.assert_array_equal(longer.relations[1, 1].rows, right_pairs[:, 0])


def test_a_coupling_of_other_slices_is_refused(slices):
    data, _ = slices
    of_two = aljax.couple(data[1:3], key=KEY)
    sizes = [str((LEFT,) * count) for count in (2, 3)]
    with refused("relations", "2 slices of", *sizes):
        aljax.fit(data[:3], of_two, key=KEY, layout=SHORT)
    two = aljax.fit(data[:2], "transport", key=KEY, layout=UNMOVED)
    with refused("relations", *sizes, "the new one last"):
        two.update(data[2], of_two, key=KEY)
    model = aljax.AlignedUMAP(random_state=0, unique=True, n_epochs=1)
    with refused("relations", *sizes):
        model.fit(data[:3], relations=of_two)


def test_nobody_is_coupled_where_the_window_has_no_rows(slices):
    data, _ = slices
    window = aljax.AlignmentConfig(alignment_window_size=1)
    two = [data[0], data[1][:0]]
    maps = aljax.fit(two, "transport", key=KEY, alignment=window, layout=UNMOVED)
    longer = maps.update(data[2][:0], "transport", key=KEY, move=2)
    assert [len(positions) for positions in longer.maps] == [LEFT, 0, 0]
    assert not any(mates.rows.size for mates in longer.relations.values())


def test_known_rows_join_slices_of_other_columns(rng):
    members, later = rng.normal(size=(LEFT, 4)), rng.permutation(LEFT)
    turned = members[later] @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    turned = np.pad(turned, ((0, 0), (0, 1)))
    # As many as the other tests have columns.
    here, there = np.arange(6), np.argsort(later)[:6]
    pairs = np.column_stack([here, there])
    coupling = aljax.couple([members, turned], known={(0, 1): pairs}, key=KEY)
    plan = coupling.plans[0]
    order = np.lexsort((-plan.mass, plan.rows))
    near = plan.rows[order] < 6
    np.testing.assert_array_equal(plan.others[order][near], there)
    np.testing.assert_allclose(plan.mass[plan.rows < 6], 1.0)
    assert all((plan.strict[t][rows] == 1).all() for t, rows in enumerate(pairs.T))
    assert {*plan.rows.tolist()} == {*range(LEFT)}
    assert right(coupling, [np.arange(LEFT), later]) > 0.95
    with pytest.raises(aljax.InputError) as error:
        aljax.couple([members, turned], key=KEY)
    assert error.value.name == "slice 0"
    assert error.value.got == "has 4 columns and slice 1 has 5"


def test_the_plan_is_that_of_ott(rng):
    geometry = pytest.importorskip(
        "ott.geometry.geometry", reason="pip install ott-jax", exc_type=ImportError
    )
    from ott.problems.linear.linear_problem import LinearProblem
    from ott.solvers.linear.sinkhorn import Sinkhorn

    costs = jnp.asarray(2 * rng.random((8, 11)), jnp.float32)
    share = 0.5 / 0.55
    ones = {"a": jnp.ones(8), "b": jnp.ones(11), "tau_a": share, "tau_b": share}
    problem = LinearProblem(geometry.Geometry(costs, epsilon=0.05), **ones)
    solve = jax.jit(Sinkhorn(threshold=1e-6, max_iterations=2000))
    dense = solve(problem).matrix
    pairs = (jnp.asarray(side) for side in np.divmod(np.arange(88), 11))
    steps = steps_for(0.05, 0.5)
    ours = plan_of(costs.ravel(), *pairs, 0.05, 0.5, steps, sizes=(8, 11))
    np.testing.assert_allclose(ours.reshape(8, 11), dense, atol=2e-4)


def test_the_plan_has_derivatives(slices):
    data, _ = slices
    with jax.enable_x64(True):
        x, y = (jnp.asarray(rows) for rows in data[:2])
        plan = aljax.couple(data[:2], key=KEY, drift=False).plans[0]
        assert plan.into is None
        compared = x, y, plan.candidates
        into = jnp.asarray(np.random.default_rng(3).normal(size=(6, 4)))
        way = jnp.asarray(np.random.default_rng(2).normal(size=x.shape))

        @jax.jit  # one program: compiling is what takes time
        def pulls(x, reach):
            def pull(x):
                moved = x, *compared[1:]
                mass = transport_plan(*moved, reach=reach, into=into, n_steps=20)
                return jnp.sum(mass**2)

            value, ahead = jax.jvp(pull, (x,), (way,))
            return value, ahead, jnp.vdot(jax.grad(pull)(x), way)

        step = 1e-5 * np.asarray(way)
        above, below = (pulls(x + sign * step, 0.5)[0] for sign in (1, -1))
        numeric = (above - below) / 2e-5
        np.testing.assert_allclose(pulls(x, 0.5)[1:], [numeric] * 2, rtol=1e-5)
        pairs = np.asarray(plan.candidates.rows), np.asarray(plan.candidates.others)
        exact = np.zeros((LEFT, LEFT))
        exact[pairs] = transport_plan(*compared)
        kept = np.zeros_like(exact)
        kept[plan.rows, plan.others] = plan.mass
    np.testing.assert_allclose(exact, kept, atol=2e-3)


@pytest.mark.filterwarnings("ignore:no row is seen")
@pytest.mark.parametrize("sizes", [(12, 0, 12), (1, 12), (2, 3, 2), (1, 2, 2)])
def test_few_rows_are_coupled(rng, sizes):
    data = [rng.normal(size=(size, 3)) for size in sizes]
    coupling = aljax.couple(data, key=KEY)
    for (before, after), two in zip(coupling.mass, pairwise(sizes), strict=True):
        assert (len(before), len(after)) == two
        assert np.isfinite(before).all()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"reach": 0}, "reach"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": 1e-9}, "epsilon"),  # would take hours
        ({"reach": 1e6}, "epsilon"),
        ({"drift": "no"}, "drift"),
        ({"n_mates": 0}, "n_mates"),
        ({"candidates": 1.5}, "candidates"),
        ({"window": 0}, "window"),
        ({"metric": "manhattan"}, "metric"),
        ({"slice_labels": ["a"]}, "slice_labels"),
        ({"slice_labels": [1, 2, 3, 4]}, "slice_labels"),
        ({"known": {(0, 1): [[0, 99]]}}, "known[0, 1]"),
        ({"known": {(0, 2): [[0, 1]]}}, "known"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_settings_out_of_range_are_named(slices, arguments, name):
    with pytest.raises(aljax.InputError) as error:
        aljax.couple(slices[0], key=KEY, **arguments)
    assert error.value.name == name


@pytest.mark.parametrize(
    ("slices", "key", "name"), [([], KEY, "slices"), ([np.ones((4, 2))], None, "key")]
)
def test_no_slices_and_no_key_are_named(slices, key, name):
    with pytest.raises(aljax.InputError) as error:
        aljax.couple(slices, key=key)
    assert error.value.name == name


def test_a_misspelled_name_of_relations_is_answered(slices):
    with pytest.raises(aljax.InputError) as error:
        aljax.fit(slices[0], "transpot", key=KEY)
    assert (error.value.name, error.value.got) == ("relations", "is 'transpot'")
    assert "transport" in error.value.expected


@pytest.mark.filterwarnings("ignore:no row is seen")
def test_a_table_without_ids_is_coupled(rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pip install 'aljax[frames]'")
    table = pandas.DataFrame(rng.normal(size=(3 * LEFT, 6)), columns=[*"abcdef"])
    table["year"] = np.repeat([2001, 2002, 2003], LEFT)
    table.to_csv(tmp_path / "survey.csv", index=False)
    settings = {"slice": "year", "id": None, "features": None, "label": None}
    dataset = load("table", path=str(tmp_path / "survey.csv"), **settings)
    assert {*dataset.relations} == {(0, 1), (0, 2), (1, 2)}
    assert {*among(dataset.relations, 2)} == {(0, 1)}
    assert {*leading_to(dataset.relations, 2)} == {(0, 2), (1, 2)}
    np.testing.assert_array_equal(np.concatenate(dataset.ids), np.arange(3 * LEFT))
    assert "come again" in dataset.notes[-1]


def test_files_are_coupled_where_they_are_asked_to(slices, tmp_path):
    np.savez(tmp_path / "s.npz", *(rows.astype(np.float32) for rows in slices[0]))
    files = {"path": str(tmp_path / "s.npz"), "labels": None}
    dataset = load("files", relations="transport", **files)
    assert {*dataset.relations} == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(aljax.InputError) as error:
        load("files", relations=None, **files)
    assert "transport" in error.value.remedy


def test_shares_of_long_sequences_are_told_in_part(monkeypatch):
    long = SimpleNamespace(
        has_mate=lambda: [(np.ones(2), np.ones(2))] * 9, relations={}
    )
    monkeypatch.setattr("experiments.data.dataset.couple", lambda *_, **__: long)
    (note,) = coupled(Dataset([], None, [], [])).notes
    assert note.endswith("100%, 100% and 1 more")


def test_strangers_of_slices_without_rows_are_none():
    nobody, some = np.zeros((0, 3)), np.ones((5, 3))
    for before, after in ((nobody, nobody), (nobody, some), (some, nobody)):
        nulls = _nulls(side_of(before, 4), side_of(after, 4), 0.1)
        assert [null.size for null in nulls] == [0, 0]
