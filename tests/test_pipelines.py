"""Training through a layout: what it follows, and that it reaches its module."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_data, make_problem, make_relations, refused

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.layout import (
    Anchored,
    Unrolled,
    layout_params,
    stack_maps,
)
from aljax.sweep import SweepProblem
from experiments import settings
from experiments.composition import compose
from experiments.interrupts import Interrupts
from experiments.tasks import alignment_weights, encoder, feature_weights, readable
from experiments.tasks import training as loop
from experiments.tasks.alignment_weights import HiddenMates, learn_weights, weighed
from experiments.tasks.alignment_weights import draw as draw_weights
from experiments.tasks.encoder import magnitudes
from experiments.tasks.feature_weights import (
    FeatureWeights,
    held_out_accuracy,
    soft_neighbor_loss,
)
from experiments.tasks.readable import Linear, misread, reader
from experiments.tasks.slice_metrics import covered
from experiments.tasks.training import (
    Encoding,
    Matching,
    Training,
    apart,
    labeled_rows,
    read_training,
    square_images,
    train,
)

KEY = jax.random.key(0)
QUICK = Training(3, 0.1, 2, 0.5, Unrolled(KEY, n_epochs=6, last=3))
ASKED = {"steps": 3, "rate": 0.1, "refresh": 2, "map_rate": 0.5, "adjoint": "anchored"}


def test_the_soft_neighbor_loss_is_the_share_of_like_neighbors(rng):
    positions, labels = rng.normal(size=(8, 2)), np.array([0, 0, 0, 1, 1, 1, 1, 1])
    total = 0.0
    for i in range(8):
        near = [
            0.0 if i == j else 1 / (1 + ((positions[i] - positions[j]) ** 2).sum())
            for j in range(8)
        ]
        alike = sum(
            n for n, label in zip(near, labels, strict=True) if label == labels[i]
        )
        total -= np.log(alike / sum(near)) / 8
    found = jax.jit(soft_neighbor_loss)(positions, labels)
    np.testing.assert_allclose(found, total, rtol=1e-4)


def test_held_out_rows_are_judged_by_known_ones_alone(rng):
    centers = np.repeat([[0.0, 0.0], [9.0, 0.0]], 30, axis=0)
    positions, labels = centers + rng.normal(size=(60, 2)), np.repeat([3, 7], 30)
    known = np.arange(0, 60, 2)
    assert held_out_accuracy(positions, labels, known) == 1.0
    swapped = labels.copy()
    swapped[1::2] = 10 - swapped[1::2]  # the labels of held-out rows, all wrong
    assert held_out_accuracy(positions, swapped, known) == 0.0


def test_magnitudes_forget_where_a_picture_lies(rng):
    images = rng.uniform(size=(5, 8, 8))
    rolled = np.roll(images, (2, 3), axis=(1, 2)).reshape(5, -1)
    found = magnitudes(images.reshape(5, -1))
    np.testing.assert_allclose(found, magnitudes(rolled), rtol=1e-6)
    assert found.shape == (5, 64)


def test_weights_have_a_geometric_mean_of_one():
    weights = FeatureWeights(jnp.array([1.0, 2.0, 6.0]))(jnp.ones((1, 3)))
    np.testing.assert_allclose(np.prod(np.asarray(weights)), 1, rtol=1e-5)


def test_noise_covers_another_band_of_each_slice(rng):
    images = rng.uniform(size=(5, 16)).astype(np.float32)
    noisy = covered(images, 2, 9.0, seed=0)
    changed = (noisy != images).any(axis=1)
    assert changed[0].tolist() == [True] * 8 + [False] * 8
    assert changed[1].tolist() == [False] * 8 + [True] * 8
    assert np.abs(noisy).max() > 2


def test_known_members_link_or_judge_and_hidden_ones_do_neither(rng):
    matching = Matching.split(20, 0, slices=3)
    links, judged = matching(1)
    linked = set(links[0])
    assert len(links) == 2
    assert linked | {*np.asarray(judged).tolist()} == {*matching.known.tolist()}
    assert len(linked) == len(judged) == 5
    assert linked != set(matching(2)[0][0])
    assert {*matching.hidden.tolist()} == {*range(20)} - {*matching.known.tolist()}
    y, z = rng.normal(size=(2, 20, 2))
    far = sum(
        ((one - other) ** 2).sum(axis=1).mean() for one, other in ((y, z), (z, y))
    )
    radii = [((one - one.mean(axis=0)) ** 2).sum(axis=1).mean() for one in (y, z, y)]
    found = jax.jit(apart)([y, z, y], np.arange(20))
    np.testing.assert_allclose(found, far / 2 / np.mean(radii), rtol=1e-5)


def test_a_reader_reads_what_is_linear_in_the_positions(rng):
    positions = rng.normal(size=(40, 2))
    targets, misreading = 1 + positions @ [2.0, -3.0], jax.jit(misread)
    found = jax.jit(reader)(positions, targets)
    np.testing.assert_allclose(found, [1, 2, -3], rtol=0.02)
    drawn = rng.permutation(40)
    assert float(misreading([positions], (drawn, targets[drawn]))) < 1e-4
    assert float(misreading([positions], (drawn, targets))) > 1
    twice = Linear(jnp.asarray(np.eye(2)))(jnp.asarray(positions))
    np.testing.assert_allclose(twice, 2 * positions, rtol=1e-6)


@pytest.fixture
def by_hand(monkeypatch):
    """Gradients of |x|^2, whose second step is at a saddle."""
    calls = []

    def gradient(outer, *_, of, start, **__):
        calls.append((outer, np.asarray(of)))
        curvature = jnp.asarray(-1.0 if len(calls) == 2 else 1.0)
        maps = SimpleNamespace(maps=start + 1)
        return SimpleNamespace(
            value=jnp.sum(of**2), gradient=2 * of, solution=maps, curvature=curvature
        )

    monkeypatch.setattr(loop.aljax, "hypergradient", gradient)
    return calls


def test_the_loop_follows_gradients_but_not_those_of_saddles(by_hand):
    held = []

    def hold(_, count, maps):
        held.append((count, None if maps is None else float(maps)))
        gradient: Any = loop.aljax.hypergradient
        return partial(gradient, len(held), start=jnp.zeros(()))

    settings = QUICK._replace(steps=6)
    last, told = train(jnp.array([1.0, -1.0]), hold, training=settings)
    assert held == [(0, None), (2, 1.0), (4, 1.0)]
    assert [outer for outer, _ in by_hand] == [1, 1, 2, 2, 3, 3]
    points = [of for _, of in by_hand]
    np.testing.assert_array_equal(points[1], points[2])  # a saddle says nothing
    assert told["saddles"] == 1
    np.testing.assert_allclose(np.abs(points[1]), 0.9, rtol=1e-3)
    assert np.all(np.diff(np.abs([*points, last])[2:], axis=0) < 0)
    assert told["losses"][-1] < told["losses"][0]


@pytest.mark.usefixtures("by_hand")
def test_a_penalty_turns_the_gradient():
    def hold(*_):
        gradient: Any = loop.aljax.hypergradient
        return partial(gradient, None, start=jnp.zeros(()))

    settings = QUICK._replace(steps=1)
    out, _ = train(
        jnp.array([1.0, -1.0]),
        hold,
        training=settings,
        penalty=lambda of: -9 * jnp.sum(of**2),
    )
    np.testing.assert_allclose(out, [1.1, -1.1], rtol=1e-3)


def test_settings_of_a_training_are_read():
    options = {"anchored": {"ridge": 2.0}, "unrolled": {"n_epochs": 5}}
    anchored = read_training(ASKED | options).adjoint
    assert isinstance(anchored, Anchored)
    assert anchored.ridge == 2.0
    unrolled = read_training(ASKED | options, "unrolled")
    assert isinstance(unrolled.adjoint, Unrolled)
    assert (unrolled.steps, unrolled.rate, unrolled.refresh) == (3, 0.1, 2)


@pytest.mark.parametrize(
    ("changed", "name", "got"),
    [
        ({"steps": 0}, "task.training.steps", "is 0"),
        ({"rate": -1.0}, "task.training.rate", "is -1.0"),
        ({"stesp": 3}, "task.training", "stesp"),
        ({"adjoint": "anchord"}, "task.training.adjoint", "anchord"),
        ({"anchored": {"ridge": -1}}, "task.training.anchored.ridge", "is -1"),
        ({"anchored": {"rigde": 1}}, "task.training.anchored", "rigde"),
    ],
)
def test_a_wrong_setting_of_a_training_is_named(changed, name, got):
    with refused(name, got):
        read_training(ASKED | changed)


def test_images_have_to_be_square():
    built: Any = SimpleNamespace(data={"source": "diabetes"})
    rows, labels = labeled_rows(built)
    assert rows.shape == (442, 10)
    np.testing.assert_allclose(rows.std(axis=0), 1, rtol=1e-5)
    assert labels.max() == 346
    with refused("data.source", "10 columns"):
        square_images(built)
    with refused("data.source", "has 442 rows", "at least 443"):
        labeled_rows(built, 443)


@pytest.mark.parametrize("components", [1, 3])
def test_pictures_of_tasks_show_maps_of_any_components(components, rng):
    maps = {when: rng.normal(size=(40, components)) for when in ("before", "after")}
    scores = {kind: dict.fromkeys(maps, 0.5) for kind in ("read", "trustworthiness")}
    assert readable._draw(maps, scores, np.arange(40)).axes[0].collections
    views, labels = {when: [y, y] for when, y in maps.items()}, np.repeat([0, 1], 20)
    figure = encoder._draw(views, scores["read"], labels, np.arange(5))
    assert len(figure.axes[3].lines) >= 5  # names may be tied to points, too


def test_weights_of_columns_take_words_for_labels_and_no_noise(rng, monkeypatch):
    task, labeled = (
        feature_weights,
        (rng.normal(size=(40, 4)), np.repeat(["a", "b"], 20)),
    )
    report = dict.fromkeys(task.REPORTED, 1.0)
    monkeypatch.setattr(task, "labeled_rows", lambda _: labeled)
    monkeypatch.setattr(task, "train", lambda module, *_, **__: (module, report))
    monkeypatch.setattr(task, "fitted_maps", lambda *_: [labeled[0][:, :2]])
    monkeypatch.setattr(task, "write_results", lambda _, record, *__, **___: record)
    words = ["experiment=feature_weights", "task.known_rows=20", "task.against=null"]
    record: Any = task.run(settings.build(compose(words)), Interrupts())
    assert record["recovered"] == [None]


def test_the_loss_of_hidden_mates_is_that_of_its_formula(rng, monkeypatch):
    problem = make_problem((20, 20, 20), capacity=24)[2]
    spent, maps = rng.normal(size=(2, 3)), rng.normal(size=(3, 20, 2))
    terms = SimpleNamespace(attraction=spent[0], repulsion=spent[1])
    asked = []
    monkeypatch.setattr(
        alignment_weights, "aligned_loss", lambda *of: asked.append(of) or terms
    )
    place = np.argsort(np.asarray(problem.order), axis=1)
    members = [(np.array([3, 1]), np.array([0, 2])), (np.array([5]), np.array([4]))]
    places: Any = [
        tuple(jnp.asarray(place[t + end][of]) for end, of in enumerate((a, b)))
        for t, (a, b) in enumerate(members)
    ]
    outer: Any = HiddenMates(places, problem, "params", "shifts", jnp.asarray(2.0))
    far = [
        np.linalg.norm(maps[t][a] - maps[t + 1][b], axis=1).mean()
        for t, (a, b) in enumerate(members)
    ]
    radii = [np.sqrt(((y - y.mean(axis=0)) ** 2).sum(axis=1).mean()) for y in maps]
    degrees = np.asarray(problem.degrees).sum(axis=1)
    expected = np.mean(far) / np.mean(radii) + 2 * np.mean(spent.sum(axis=0) / degrees)
    found = jax.jit(lambda maps: outer(maps))(stack_maps([*maps], problem))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert asked[0][2:] == ("params", "shifts")


def test_slices_move_alone_at_a_share_of_the_common_pace():
    params = layout_params(LayoutConfig(), AlignmentConfig(0.1), slices=3)
    _, scaled = weighed(None, params, jnp.array([1.0, 1.0, 0.0, 0.0]))
    logs = np.log(np.asarray(scaled.alignment_regularisation) / 0.1)
    np.testing.assert_allclose(logs, [1.3, 1, 1], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is empty.*")
@pytest.mark.parametrize("adjoint", ["unrolled", "anchored"])
def test_training_reaches_every_network_through_the_maps(adjoint):
    views = [jnp.asarray(rows) for rows in make_data((40, 40))]
    modules = [FeatureWeights(jnp.zeros(5)) for _ in views]
    soft = Anchored(ridge=5.0, settle=20, tolerance=1.0, rtol=0.1, throw=False)
    settings = QUICK if adjoint == "unrolled" else QUICK._replace(adjoint=soft)
    hold = Encoding(views, apart, Matching.split(40, 0), settings, KEY)
    trained, told = train(modules, hold, training=settings)
    assert len(told["losses"]) == QUICK.steps
    assert np.isfinite(told["losses"]).all()
    for module in trained:
        assert np.abs(module.logs).max() > 1e-3


@pytest.mark.slow
def test_weights_of_slices_are_learned():
    problem = SweepProblem(
        make_data(),
        make_relations(),
        GraphConfig(n_neighbors=6),
        LayoutConfig(n_epochs=20),
    )
    soft = Anchored(ridge=5.0, settle=5, tolerance=1.0, rtol=0.1, throw=False)
    settings = QUICK._replace(adjoint=soft, refresh=1)
    options = {"cost": 1.0, "hidden_share": 0.3}
    weights, told = learn_weights(problem, key=KEY, training=settings, **options)
    assert weights.shape == (3,)
    assert (weights > 0).all()
    assert len({*weights.tolist()}) > 1
    assert len(told["losses"]) == 3


def test_a_picture_of_weights_shows_all_and_says_how_far_apart_slices_are():
    scores = {"apart": 0.5, "preservation": 0.4}
    weights = np.array([0.3, 0.3001, 0.0])
    figure = draw_weights(weights, scores, [scores | {"weight": 0.1}], ["a", "b", "c"])
    left, right = figure.axes
    assert left.get_ylim()[1] > 0.32  # room for the marks
    assert right.get_xlabel().startswith("nearest rows 2 slices apart")
