import dataclasses
from functools import partial
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    CAPACITY,
    SIZES,
    make_data,
    make_maps,
    make_problem,
    make_relations,
    programs,
    refused,
)

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.fit import fit
from aljax.graph.exact import _search
from aljax.graph.fuzzy import FuzzyGraph, edge_degrees, fuzzy_simplicial_set
from aljax.layout.losses import LossTerms
from aljax.layout.objective import aligned_loss
from aljax.layout.optimize import (
    RECORDS,
    check_finite,
    default_shifts,
    init,
    recorded_epochs,
    run,
    run_in_place,
    shifts_of,
    step,
)
from aljax.layout.problem import (
    AlignedProblem,
    LayoutParams,
    layout_params,
    stack,
    stack_maps,
)
from aljax.layout.shifts import draw_shifts

EPOCHS = 30
EXACT = CAPACITY // 2
FEW = 5  # shifts that leave something to chance
PLAIN = optax.identity()  # plain gradient descent

one_step = jax.jit(step, static_argnames=("n_shifts", "optimizer"))


def make_params(**settings) -> LayoutParams:
    strength = settings.pop("alignment_regularisation", 0.1)
    alignment = AlignmentConfig(alignment_regularisation=strength)
    return layout_params(LayoutConfig(**settings), alignment, slices=len(SIZES))


@pytest.fixture(scope="module")
def problem() -> AlignedProblem:
    return make_problem()[2]


def layout(problem, params, key, *, stops=(EPOCHS,), maps=None):
    state = init(stack_maps(maps or make_maps(), problem), n_epochs=EPOCHS)
    for stop in stops:
        state = run(problem, params, state, stop, key=key, n_shifts=FEW)
    return state


def same_bits(one, other) -> bool:
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize(
    "stops", [(1, 2, EPOCHS), (7, 7, 20, EPOCHS), (29, 2 * EPOCHS)]
)
def test_chunks_of_any_length_equal_a_straight_run_bit_for_bit(problem, key, stops):
    params = make_params()
    whole = layout(problem, params, key)
    assert same_bits(layout(problem, params, key, stops=stops), whole)
    assert int(whole.epoch) == EPOCHS


def test_a_run_stops_at_a_whole_number_of_any_type(problem, key):
    with jax.enable_x64(True):
        state = init(jnp.zeros((3, 2, CAPACITY)), n_epochs=EPOCHS)
        of_stop = partial(run, problem, make_params(), state, key=key, n_shifts=FEW)
        ended = jax.eval_shape(of_stop, jnp.arange(EPOCHS)[7])  # of 64 bits
    assert ended.maps.shape == state.maps.shape


def test_the_same_key_gives_the_same_bits_and_another_key_another_map(problem):
    states = [
        layout(problem, make_params(), jax.random.key(seed)) for seed in (0, 0, 1)
    ]
    assert same_bits(states[0], states[1])
    assert not np.allclose(states[0].maps, states[2].maps, atol=1e-2)


def test_settings_that_change_no_shape_share_one_program(problem, key):
    state = layout(problem, make_params(), key)
    before = programs(run)
    for settings in (
        {"alignment_regularisation": 0.0},
        {"min_dist": 0.3},
        {"spread": 2.0},
        {"learning_rate": [0.5, 1.0, 2.0]},
        {"repulsion_strength": 2.0, "negative_sample_rate": 3.0},
        {"a": 1.0, "b": 1.0},
    ):
        other = layout(problem, make_params(**settings), key)
        assert not np.allclose(other.maps, state.maps, atol=1e-3), settings
    layout(problem, make_params(), jax.random.key(1), stops=(3, EPOCHS))
    assert programs(run) == before


def test_a_second_fit_compiles_nothing(key):
    def lay_out(sizes, **settings):
        strength = AlignmentConfig(settings.pop("strength", 0.1))
        fit(
            make_data(sizes),
            make_relations(sizes),
            key=key,
            graph=GraphConfig(n_neighbors=6),
            layout=LayoutConfig(n_epochs=2, **settings),
            alignment=strength,
        )
        return programs(run_in_place, _search, fuzzy_simplicial_set)

    before = lay_out(SIZES)
    assert lay_out(SIZES, min_dist=0.3, learning_rate=0.5, strength=1.0) == before
    assert lay_out(SIZES[::-1]) == before
    assert lay_out((42, 43, 44)) == before


def test_a_step_takes_the_gradient_and_nothing_else(problem, key):
    params = make_params(learning_rate=[0.1, 0.2, 0.3])
    state = init(stack_maps(make_maps(), problem), n_epochs=4, optimizer=PLAIN)
    after = one_step(problem, params, state, key=key, n_shifts=EXACT, optimizer=PLAIN)
    shifts = draw_shifts(key, problem.n_points, n_shifts=EXACT)

    def loss(maps):
        terms = aligned_loss(maps, problem, params, shifts)
        return terms.total(), terms

    gradient, terms = jax.jit(jax.grad(loss, has_aux=True))(state.maps)
    rate = np.asarray(params.learning_rate)[:, None, None]
    # A gradient is a sum of terms of both signs, added up in another order.
    expected = np.asarray(state.maps) - rate * np.asarray(gradient)
    np.testing.assert_allclose(after.maps, expected, rtol=1e-5, atol=1e-5)
    for kept, now in zip(
        jax.tree.leaves(after.history), jax.tree.leaves(terms), strict=True
    ):
        np.testing.assert_allclose(kept[0], now, rtol=1e-5)
        assert (np.asarray(kept)[1:] == 0).all()
    assert int(after.epoch) == 1
    for epoch, n_epochs in ((6, 4), (0, 0)):  # beyond the last epoch nothing moves
        clock = {"epoch": jnp.int32(epoch), "n_epochs": jnp.int32(n_epochs)}
        ended = dataclasses.replace(state, **clock)
        kept = one_step(
            problem, params, ended, key=key, n_shifts=EXACT, optimizer=PLAIN
        )
        np.testing.assert_array_equal(kept.maps, state.maps)


def test_any_number_of_epochs_is_one_program_and_a_history_of_as_many_rows(
    problem, key
):
    before = None
    for n_epochs, rows in ((EPOCHS, 3), (7, 1), (1_000, 100), (1_050, 96)):
        state = init(stack_maps(make_maps(), problem), n_epochs=n_epochs)
        late = dataclasses.replace(state, epoch=jnp.int32(n_epochs - 2))
        ended = run(problem, make_params(), late, n_epochs, key=key, n_shifts=FEW)
        assert programs(run) == (before or programs(run))
        before = programs(run)
        assert ended.losses().attraction.shape == (rows, len(SIZES))
        assert len(ended.history.attraction) == RECORDS
        epochs = recorded_epochs(rows + 1, n_epochs)
        assert epochs[rows - 1] < n_epochs <= epochs[rows]
    assert recorded_epochs(105, 1_050)[-1] == 1_040  # of a file of version 0.1


class FourTerms(LossTerms):
    centering: jax.Array


def test_a_loss_of_ones_own_is_followed_and_recorded(problem, key):
    def centered(maps, problem, params, shifts):
        terms = vars(aligned_loss(maps, problem, params, shifts))
        return FourTerms(**terms, centering=jnp.sum(maps[:, 0] ** 2, axis=-1))

    far = [y + np.array([30.0, 30.0]) for y in make_maps()]
    state = init(stack_maps(far, problem), n_epochs=EPOCHS, terms=FourTerms)
    options = {"key": key, "n_shifts": EXACT, "loss": centered}
    ended = run(problem, make_params(), state, EPOCHS, **options)
    middle = np.mean(np.asarray(ended.maps)[:, :, :41], axis=(0, 2))
    assert abs(middle[0]) < 5 < 20 < middle[1]
    recorded = ended.losses()
    assert recorded.centering.shape == (3, len(SIZES))
    np.testing.assert_allclose(
        recorded.total(), sum(v.sum(axis=1) for v in vars(recorded).values()), rtol=1e-5
    )


def test_a_run_has_derivatives_in_forward_mode(problem, key):
    def pulled(maps, *_):  # zeros, as of padding, get gradients of 0
        of_slices = jnp.sum(maps**4, axis=(1, 2))
        return LossTerms(of_slices, 0 * of_slices, 0 * of_slices)

    def value(scale):
        start = init(scale * stack_maps(make_maps(), problem), n_epochs=EPOCHS)
        options = {"key": key, "n_shifts": FEW, "loss": pulled}
        return jnp.mean(run(problem, make_params(), start, 5, **options).maps ** 2)

    along = jax.jit(lambda scale: jax.jvp(value, (scale,), (1.0,)))
    up, down = (along(1 + side)[0] for side in (0.004, -0.004))
    np.testing.assert_allclose(along(1.0)[1], (up - down) / 0.008, rtol=2e-3)


def test_a_state_that_nobody_keeps_gives_its_memory_and_any_other_stays(problem, key):
    options = {"key": key, "n_shifts": FEW}
    kept, given = (
        init(stack_maps(make_maps(), problem), n_epochs=EPOCHS) for _ in "ab"
    )
    plain = run(problem, make_params(), kept, EPOCHS, **options)
    in_place = run_in_place(problem, make_params(), given, EPOCHS, **options)
    assert same_bits(plain, in_place)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(kept))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))


def test_real_sizes_decide_the_number_of_shifts_unless_they_are_traced(problem):
    edge = eqx.tree_at(
        lambda p: (p.n_points, p.degrees),
        problem,
        (np.array([2_000, 1_000, 1_000], np.int32), jnp.zeros((3, 2_048))),
    )
    assert shifts_of(edge) == default_shifts(2_000, 4_000) == 40
    assert shifts_of(edge, 5) == 5
    traced = []
    jax.eval_shape(lambda p: traced.append(shifts_of(p)), edge)
    assert traced == [default_shifts(2_048, 3 * 2_048)] == [64]


def test_the_rate_falls_with_the_square_of_the_epochs_left(problem, key):
    params = make_params()
    plain = {"key": key, "n_shifts": EXACT, "optimizer": PLAIN}
    state = init(stack_maps(make_maps(), problem), n_epochs=4, optimizer=PLAIN)
    moved = []
    for epoch in range(4):
        late = dataclasses.replace(state, epoch=jnp.asarray(epoch, jnp.int32))
        after = one_step(problem, params, late, **plain)
        moved.append(np.asarray(after.maps) - np.asarray(state.maps))
    for epoch, move in enumerate(moved):
        np.testing.assert_allclose(move, moved[0] * (1 - epoch / 4) ** 2, atol=1e-4)
    assert np.abs(moved[3]).max() > 0.01


def test_every_epoch_draws_pairs_of_its_own(problem, key):
    state = init(stack_maps(make_maps(), problem), n_epochs=9, optimizer=PLAIN)
    moved = []
    for epoch in (0, 1):
        late = dataclasses.replace(state, epoch=jnp.asarray(epoch, jnp.int32))
        after = one_step(
            problem, make_params(), late, key=key, n_shifts=FEW, optimizer=PLAIN
        )
        move = np.asarray(after.maps) - np.asarray(state.maps)
        moved.append(move / (1 - epoch / 9) ** 2)
    assert np.abs(moved[0] - moved[1]).max() > 0.1


def test_a_step_does_not_depend_on_the_capacity(key):
    params = make_params()
    moved = []
    for capacity in (CAPACITY, 64):
        _, _, problem = make_problem(capacity=capacity)
        state = init(stack_maps(make_maps(), problem), n_epochs=2, optimizer=PLAIN)
        after = one_step(problem, params, state, key=key, n_shifts=FEW, optimizer=PLAIN)
        moved.append(np.asarray(after.maps))
    for t, size in enumerate(SIZES):
        np.testing.assert_allclose(
            moved[1][t, :, :size], moved[0][t, :, :size], rtol=1e-5, atol=1e-5
        )
        assert (moved[1][t, :, size:] == 0).all()


def test_the_loss_falls_and_is_recorded_every_tenth_epoch(problem, key):
    far = [30 * y for y in make_maps()]  # so that the loss falls by more than chance
    state = layout(problem, make_params(), key, maps=far)
    total = np.asarray(state.history.total())
    assert state.losses().total().shape == (3,)
    assert total[2] < total[1] < total[0]
    early = layout(problem, make_params(), key, stops=(11,), maps=far)
    assert (early.recorded(), state.recorded()) == (2, 3)
    np.testing.assert_array_equal(np.asarray(early.history.total())[:2], total[:2])


def test_points_of_padding_stay_where_they_are(problem, key):
    maps = np.asarray(layout(problem, make_params(), key).maps)
    for t, size in enumerate(SIZES):
        assert (maps[t, :, size:] == 0).all()


def test_single_precision_agrees_with_double_after_an_epoch():
    maps = []
    for double in (False, True):
        with jax.enable_x64(double):
            _, _, problem = make_problem()
            state = init(stack_maps(make_maps(), problem), n_epochs=2, optimizer=PLAIN)
            maps.append(
                one_step(
                    problem,
                    make_params(learning_rate=0.01),
                    state,
                    key=jax.random.key(0),
                    n_shifts=EXACT,
                    optimizer=PLAIN,
                ).maps
            )
    assert [one.dtype for one in maps] == [np.float32, np.float64]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-5, atol=1e-5)


def test_hubs_do_not_fly_out(key):
    # A star: every point's only neighbor is point 0.
    points = 200
    neighbors = np.tile(np.arange(points, dtype=np.int32), (2, 1))
    neighbors[1, 1:], neighbors[1, 0] = 0, 1
    weights = np.zeros((2, points), dtype=np.float32)
    weights[1] = 1.0
    weights[1, :2] = 0.5  # the edge that stands in both lists
    star = FuzzyGraph(
        jnp.asarray(neighbors),
        jnp.asarray(weights),
        jax.jit(edge_degrees)(jnp.asarray(neighbors), jnp.asarray(weights)),
    )
    assert float(star.degrees[0]) == points - 1
    problem = stack([star], {}, key=key)
    assert problem.neighbors.shape[1] == 1  # as wide as the lists, not as the degree
    params = layout_params(LayoutConfig(), AlignmentConfig(), slices=1)
    start = stack_maps([5 * make_maps([points])[0]], problem)
    state = run(problem, params, init(start, n_epochs=300), 300, key=key, n_shifts=20)
    placed = np.asarray(state.maps)[0, :, :points]
    radius = np.linalg.norm(placed - np.median(placed, axis=1)[:, None], axis=0)
    assert radius.max() < 5 * np.percentile(radius, 99)
    assert radius.max() > 0.1


@pytest.mark.slow
def test_an_epoch_needs_as_much_memory_for_a_point_in_slices_of_any_size(problem, key):
    def needed(points: int) -> float:
        """Bytes a point while an epoch of such slices runs."""

        def widened(leaf):
            kept = [points if n == CAPACITY else n for n in leaf.shape]
            return jax.ShapeDtypeStruct(kept, leaf.dtype)

        state = init(stack_maps(make_maps(), problem), n_epochs=EPOCHS)
        given = jax.tree.map(widened, (problem, make_params(), state))
        compiled = one_step.lower(*given, key=key, n_shifts=16).compile()
        memory = compiled.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes / points

    assert needed(100_000) <= 1.1 * needed(10_000)


@pytest.mark.parametrize("points", [1, 5, 20, 79, 80, 400, 1600, 70_000, 10**7])
def test_the_number_of_shifts_suits_the_slice(points):
    shifts = default_shifts(points, points)
    assert 6 <= shifts <= 64
    assert points * shifts <= 640_000 or shifts == 16 or shifts == 6
    # Of a longer sequence no more: its epochs are not cheap.
    assert default_shifts(points, 10 * points) <= shifts


@pytest.mark.parametrize("climbing", [optax.adam(0.1), optax.sgd(2.0), optax.scale(-1)])
def test_an_optimizer_that_climbs_is_refused(problem, key, climbing):
    start = stack_maps(make_maps(), problem)
    with refused("optimizer", "turns a gradient of 1 into -", "optax.scale_by_adam()"):
        init(start, n_epochs=2, optimizer=climbing)
    state, wrong = init(start, n_epochs=2), {"optimizer": climbing}
    with refused("optimizer", "by which the layout would climb"):
        run(problem, make_params(), state, 2, key=key, n_shifts=2, **wrong)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "kind", ["adam", optax.adam, optax.scale_by_backtracking_linesearch(9)]
)
def test_what_transforms_no_gradient_alone_is_no_optimizer(problem, kind):
    with refused("optimizer", "an optax transformation of gradients alone"):
        init(stack_maps(make_maps(), problem), n_epochs=2, optimizer=kind)


def by_component(slope, _):
    across, up = jnp.moveaxis(slope, 1, 0)
    return jnp.stack([across, up / 2], axis=1)


def with_noise(slope, _):
    noise = np.random.default_rng(5).normal(size=slope.shape)  # -.8 of one number
    return slope + 3 * noise


@pytest.mark.parametrize(
    "rule",
    [
        optax.stateless(by_component),
        optax.stateless(lambda slope, _: jnp.matmul(np.eye(2), cast(Any, slope))),
        optax.stateless(with_noise),
    ],
)
def test_a_rule_of_maps_alone_or_with_noise_is_no_climb(problem, rule):
    state = init(stack_maps(make_maps(), problem), n_epochs=2, optimizer=rule)
    assert int(state.epoch) == 0


class Pulled(LossTerms):
    """Terms with a further one."""

    pull: jax.Array


def attraction(terms):
    return terms.attraction


def pulled(*arguments):
    terms = aligned_loss(*arguments)
    return Pulled(**vars(terms), pull=jnp.sum(arguments[0] ** 2, axis=(1, 2)))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda *x: aligned_loss(*x).total(), ["an array", "LossTerms"]),
        (lambda *_: None, ["returns NoneType"]),
        (
            lambda *x: dataclasses.replace(aligned_loss(*x), attraction=1.0),
            ["shape ()"],
        ),
        (pulled, ["returns Pulled", "to `init` as `terms`"]),
    ],
)
def test_a_loss_that_returns_no_terms_is_refused(problem, key, loss, words):
    state = init(stack_maps(make_maps(), problem), n_epochs=2)
    with refused("loss", *words):
        run(problem, make_params(), state, 2, key=key, n_shifts=2, loss=loss)


@pytest.mark.parametrize("far", [np.nan, np.inf, -2e18])
def test_maps_whose_distances_are_not_finite_are_refused(far):
    maps = np.zeros((1, 2, 3), np.float32)
    check_finite(jnp.asarray(maps + np.float32(9e17)))
    maps[0, 1, 2] = far
    with refused("learning_rate"):
        check_finite(jnp.asarray(maps))
