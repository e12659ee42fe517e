"""Moves explained by columns: what is summed, derived, named and refused."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import aljax
from aljax.contributions import free_point
from aljax.contributions.free_point import (
    Lists,
    Mates,
    Member,
    Rivals,
    Rows,
    Surroundings,
)
from aljax.contributions.paths import Paths, follow_paths
from aljax.errors import InputError
from aljax.layout.losses import attraction_of_pairs, repulsion_of_pairs
from aljax.project import memberships
from aljax.scaling import Units

COLUMNS = ["a", "b", "c", "shift", "e"]
CROSSING = [f"member {row}" for row in range(5)]
lengths = partial(np.linalg.norm, axis=-1)


@pytest.fixture(scope="module")
def maps():
    """Two groups of 30, five members of the first of which go over by one column."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=(60, 5))
    before[30:, 3] += 8
    after = before + 0.1 * rng.normal(size=before.shape)
    after[:5, 3] += 8
    ids = [f"member {row}" for row in range(60)]
    frames = [pd.DataFrame(rows, columns=pd.Index(COLUMNS)) for rows in (before, after)]
    names = [ids, [*ids[:59], "new"]]
    settings = {"graph": aljax.GraphConfig(n_neighbors=8), "scale": "none"}
    return aljax.fit(
        frames, names, key=jax.random.key(0), slice_labels=["then", "now"], **settings
    )


@pytest.fixture(scope="module")
def crossing(maps):
    return aljax.explain(maps, CROSSING, between=("then", "now"))


def test_contributions_add_up_to_the_move_and_name_what_made_it(maps, crossing):
    places = [positions[:5] for positions in maps.maps]
    np.testing.assert_allclose(crossing.moves, places[1] - places[0], rtol=1e-6)
    parts = crossing.values.sum(axis=1) + crossing.others + crossing.unexplained
    np.testing.assert_allclose(parts, crossing.moves, atol=1e-6)
    share = lengths(crossing.unexplained) / lengths(crossing.moves)
    assert np.median(share) < 0.05
    assert (crossing.order()[:, 0] == 3).all()
    assert np.median(crossing.along[:, 3] / lengths(crossing.moves)) > 0.5
    assert (lengths(crossing.lists) > 0).all()


def test_tables_take_members_and_columns_that_are_tuples(crossing):
    members, columns = tuple(enumerate(CROSSING)), tuple(enumerate(COLUMNS))
    table = replace(crossing, members=members, columns=columns).to_frame()
    assert {*table.member} == {*members}
    assert table.column[0] == (3, "shift")


@pytest.mark.parametrize("fidelity", [0.0, 0.5])
def test_a_contribution_is_the_derivative_of_the_place_solved_again(maps, fidelity):
    faithful = replace(maps.params, motion_fidelity=jnp.asarray(fidelity))
    maps = replace(maps, params=faithful)
    rows = np.array([10, 11, 12, 40, 41, 42])
    last = maps.data[1][rows].astype(float)
    for column in range(2):
        step = np.zeros_like(last)
        step[:, column] = 0.02
        ways = [
            follow_paths(maps, 1, Paths(last + s, last, rows)) for s in (step, -step)
        ]
        moved = ways[1].starts - ways[0].starts  # the places, each solved by Newton
        said = ways[0].columns[:, column] - ways[1].columns[:, column]
        assert (np.abs(ways[0].columns[:, 2:]) == 0).all()
        np.testing.assert_allclose(said, moved, atol=0.05 * lengths(moved).max())


@pytest.mark.parametrize(
    "metric", ["cosine", pytest.param("correlation", marks=pytest.mark.slow)]
)
def test_moves_of_angles_are_explained_by_the_columns_that_turned(maps, metric):
    graph = aljax.GraphConfig(n_neighbors=8, metric=metric)
    turned = aljax.fit(
        maps.data, maps.ids, key=jax.random.key(0), graph=graph, scale="none"
    )
    told = aljax.explain(turned, CROSSING, between=(0, 1))
    assert told.values.shape == (5, 5, 2)
    assert told.mean().order()[0, 0] == 3
    share = lengths(told.unexplained) / lengths(told.moves)
    assert np.median(share) < 0.05


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_columns_of_counts_move_members_within_the_map(maps, metric):
    rng = np.random.default_rng(1)
    before = rng.poisson(0.7, (60, 5)).astype(float)
    changed = rng.choice([-1, 0, 1], (60, 5), p=[0.15, 0.7, 0.15])
    after = np.maximum(0, before + changed)  # many rows equally far, some all zeros
    graph = replace(maps.graph, metric=metric)
    counts = aljax.fit(
        [before, after],
        [range(60)] * 2,
        key=jax.random.key(0),
        graph=graph,
        scale="none",
    )
    told = aljax.explain(counts, [*range(8, 16)], between=(0, 1))
    width = np.ptp(np.concatenate(counts.maps))
    for part in (told.values.sum(axis=1), told.lists, told.leaps):
        assert lengths(part).max() < 2 * width


def test_changes_that_all_rows_share_move_nobody(maps, crossing):
    grown = [maps.data[0], maps.data[1] + np.array([0, 50, 0, 0, 0], np.float32)]
    told = aljax.explain(replace(maps, data=grown), CROSSING, between=(0, 1))
    np.testing.assert_allclose(told.values, crossing.values, atol=0.01)


def test_a_group_has_the_mean_of_its_members_and_of_one_it_is_itself(maps, crossing):
    mean = crossing.mean()
    np.testing.assert_allclose(mean.values[0], crossing.values.mean(axis=0))
    np.testing.assert_allclose(mean.moves[0], crossing.moves.mean(axis=0), rtol=1e-5)
    alone = aljax.explain(maps, CROSSING[2], between=(0, 1))
    assert alone.members == alone.mean().members == ("member 2",)
    np.testing.assert_array_equal(alone.values[0], crossing.values[2])


def test_a_table_names_members_and_columns_the_farthest_first(crossing):
    frame = crossing.to_frame()
    assert [*frame.columns] == ["member", "column", "x", "y", "along", "length"]
    assert len(frame) == 25
    assert frame.member[:5].unique() == ["member 0"]
    assert frame.column[0] == "shift"
    assert {*frame.column[:5]} == {*COLUMNS}
    assert frame.length[:5].is_monotonic_decreasing
    assert "5 members" in repr(crossing)
    assert repr(crossing).splitlines()[1].split()[1] == "shift"


def test_bars_and_pictures_show_the_columns_that_moved_the_group(crossing):
    pytest.importorskip("matplotlib", reason="pip install -e '.[plot]'")
    (ax,) = aljax.plot.contributions(crossing, 2).axes
    named = [label.get_text() for label in ax.get_yticklabels()]
    assert named[0] == "shift"
    assert named[2:] == ["3 other columns", "other members", "unexplained"]
    mean = crossing.mean()
    total = sum(bar.get_width() for bar in ax.patches)
    np.testing.assert_allclose(total, lengths(mean.moves)[0], rtol=1e-4)
    (ax,) = aljax.plot.contributions(crossing, 2, color={"rest": "red"}).axes
    assert [bar.get_facecolor() == (1, 0, 0, 1) for bar in ax.patches[2:]] == [True] * 3
    picture = aljax.plot.contributions(crossing, image_shape=(1, 5)).axes[0].images[0]
    np.testing.assert_allclose(picture.get_array(), mean.along, rtol=1e-6)
    with pytest.raises(InputError) as error:
        aljax.plot.contributions(crossing, image_shape=(2, 3))
    assert error.value.name == "image_shape"


def test_places_are_explained_from_where_the_mean_row_lies(maps):
    at = aljax.explain(maps, [f"member {row}" for row in range(30, 38)], at="now")
    assert (at.others == 0).all()
    assert (at.mean().order()[0, 0]) == 3
    parts = at.values.sum(axis=1) + at.unexplained
    np.testing.assert_allclose(parts, at.moves, atol=1e-6)


def test_other_coordinates_scale_contributions_and_pinned_members_have_none(
    maps, crossing
):
    units = Units(np.full(2, 100.0), np.full(2, 10.0))
    far = replace(maps, maps=[units.undo(y) for y in maps.maps], coordinates=units)
    told = aljax.explain(far, CROSSING, between=(0, 1))
    for name in ("values", "moves", "others"):
        apart = np.abs(getattr(told, name) - 10 * getattr(crossing, name)).max()
        assert apart < 1e-2
    held = replace(maps, pinned=[None, np.arange(60) < 2])
    with pytest.raises(InputError) as error:
        aljax.explain(held, CROSSING, between=(0, 1))
    assert error.value.name == "members"
    assert "'member 0'" in error.value.got


def pieces():
    """One member of 20 rows, 3 mates and 6 rivals, of which one is itself."""
    rng = np.random.default_rng(3)
    near, positive = rng.uniform(1, 4, size=20), rng.uniform(0.5, 2, size=(4, 20))
    curve = np.asarray(1.6), np.asarray(0.9)
    leaves = {
        Rows: (near**2, near**2, rng.normal(size=(2, 20)), near > 0, *positive),
        Mates: (rng.normal(size=(2, 3)), rng.uniform(size=(2, 3)), *np.ones((3, 3))),
        Member: (rng.normal(size=2), np.asarray(4), np.ones(3)),
        Rivals: (rng.normal(size=(2, 6)), np.arange(6), *np.ones((2, 6)), *curve),
    }
    return [kind(*map(jnp.asarray, of)) for kind, of in leaves.items()]


def test_forces_are_derivatives_of_the_loss_of_one_point():
    around = Surroundings(*pieces())
    rows, mates, member, rivals = around
    weights, reach = jnp.linspace(0.1, 1, 20), jnp.asarray([0.2, 0.0, 1.0])

    def loss(y, weights, reach):
        curve = {"a": rivals.a, "b": rivals.b}
        squared, far, apart = (
            jnp.sum((y[:, None] - part.places) ** 2, axis=0)
            for part in (rows, rivals, mates)
        )
        degree = weights.sum()
        pushed = (degree + rivals.degrees) * repulsion_of_pairs(far, **curve)
        holds = mates.pulls[0] + degree * mates.pulls[1]
        return (
            2 * weights @ attraction_of_pairs(squared, **curve)
            + pushed.sum()
            - pushed[4]
            + holds @ (jnp.sqrt(apart + 1e-8) - reach) ** 2
        )

    @jax.jit
    def both(y, weights, reach):
        force = jax.grad(loss)
        slopes = jax.jacfwd(force, argnums=(0, 1, 2))(y, weights, reach)
        made = free_point.sources(y, weights, reach, around)
        places = member.place + 1, y
        at = (jax.grad(loss, argnums=(1, 2))(place, weights, reach) for place in places)
        between = free_point.loss_between(places, weights, reach, around)
        return made, force(y, weights, reach), slopes, [*at], between

    made, force, slopes, at, between = both(member.place, weights, reach)
    np.testing.assert_allclose(made.force, force, rtol=1e-4)
    inverse = np.linalg.inv(slopes[0])
    np.testing.assert_allclose(made.inverse, inverse, rtol=1e-3)
    np.testing.assert_allclose(made.by_weight, -inverse @ slopes[1], rtol=1e-3)
    np.testing.assert_allclose(
        made.by_reach, -inverse @ slopes[2], rtol=1e-3, atol=1e-5
    )
    for said, before, after in zip(between, *at, strict=True):
        np.testing.assert_allclose(said, after - before, rtol=1e-3, atol=1e-4)


def test_soft_lists_become_those_of_the_graph():
    rows = pieces()[0]._replace(reach=jnp.full(20, -9.0))
    distances = np.sqrt(rows.first)
    lists = Lists(*map(jnp.asarray, (8.0, 1.0, 1.0, 0.0)))

    @jax.jit
    def edges(distances, width):
        return free_point.weights(distances, distances, rows, lists, width)

    hard = edges(jnp.asarray(distances), jnp.asarray(1e-4))
    order = np.argsort(distances)[:7]
    near = np.sort(distances[order])[:, None]
    expected = memberships(jnp.asarray(near), jnp.asarray(1.0))[:, 0]
    np.testing.assert_allclose(hard[order], expected, atol=1e-3)
    assert jnp.sum(hard > 0) == 7


def test_angles_have_the_distances_and_slopes_of_the_metric():
    rng = np.random.default_rng(4)
    first, last, others = (rng.normal(size=shape) for shape in (6, 6, (9, 6)))
    others /= lengths(others)[:, None]
    squares = [x @ x for x in (first, last, last - first)]
    rows = pieces()[0]._replace(first=others @ first, last=others @ last)
    member = pieces()[2]._replace(squares=jnp.asarray(squares))
    at = partial(free_point.distances_at, rows=rows, member=member, angles=True)
    found, own, other = jax.jit(at)(jnp.asarray(0.3))
    x = 0.7 * first + 0.3 * last

    def cosine(x):
        return 1 - others @ x / (x @ x) ** 0.5

    np.testing.assert_allclose(found, cosine(x), rtol=1e-5)
    slopes = own[:, None] * x + other[:, None] * others
    np.testing.assert_allclose(slopes, jax.jit(jax.jacrev(cosine))(x), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "members", "asked", "name", "got"),
    [
        ({}, [], {"between": (0, 1)}, "members", "empty"),
        ({}, ["member 59"], {"between": (0, 1)}, "members", "slice 1 ('now')"),
        ({}, ["member 1", "nobody"], {"at": 0}, "members", "'nobody'"),
        ({}, [["member 1"]], {"at": 0}, "members", "hashed"),
        ({}, "member 1", {"between": (1, "now")}, "between", "twice"),
        ({}, "member 1", {"between": (0, 7)}, "between", "7"),
        ({}, "member 1", {"between": 1}, "between", "1"),
        ({}, "member 1", {"at": "later"}, "at", "later"),
        ({}, "member 1", {}, "between", "None"),
        ({}, "member 1", {"at": 0, "between": (0, 1)}, "between", "beside"),
        ({"ids": None, "relations": {}}, 1, {"between": (0, 1)}, "between", "mates"),
        ({"ids": None}, 60, {"at": 0}, "members", "60"),
        ({}, "member 1", {"at": 0, "columns": ["a"]}, "columns", "1 names"),
        ({"data": [None, None]}, "member 1", {"at": 0}, "maps", "no data"),
        ({"columns": (tuple(COLUMNS), tuple("abcde"))}, "member 1", {"between": (0, 1)},
         "between", "columns differ"),
        ({"graph": aljax.GraphConfig(metric="precomputed")}, "member 1", {"at": 0},
         "metric", "precomputed"),
    ],
)  # fmt: skip
def test_bad_input_is_named(maps, change, members, asked, name, got):
    changed = replace(maps, **change)
    with pytest.raises(InputError) as error:
        aljax.explain(changed, members, **asked)
    assert error.value.name == name
    assert got in error.value.got


def test_one_slice_has_no_moves(maps):
    names = "maps", "data", "graphs", "pinned", "point_weights"
    alone = {name: getattr(maps, name)[:1] for name in names}
    with pytest.raises(InputError) as error:
        aljax.explain(replace(maps, **alone), "member 1", between=(0, 1))
    assert error.value.name == "between"


def test_rows_without_an_id_are_nobodys_mates(rng):
    before = rng.normal(size=(40, 3))
    after = before + 0.1 * rng.normal(size=before.shape)
    after[20:] += 3  # the usual change, if these were mates of each other
    named = [f"member {row}" for row in range(20)]
    nobody = [[*named, *[None] * 20] for _ in range(2)]
    others = [[*named, *[f"{side} {row}" for row in range(20)]] for side in "ab"]
    missing, distinct = (
        aljax.explain(
            aljax.fit([before, after], ids, key=jax.random.key(0)),
            "member 3",
            between=(0, 1),
        )
        for ids in (nobody, others)
    )
    np.testing.assert_array_equal(missing.values, distinct.values)
