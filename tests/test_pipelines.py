"""Training through a layout: what it follows, and that it reaches its module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import make_data

from experiments.tasks.encoder import Views, apart, magnitudes
from experiments.tasks.feature_weights import (
    FeatureWeights,
    held_out_accuracy,
    soft_neighbor_loss,
)
from experiments.tasks.training import Training, train

QUICK = Training(steps=3, rate=0.1, refresh=2, epochs=6, last=3, map_rate=0.5)


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
    found = soft_neighbor_loss(jnp.asarray(positions), jnp.asarray(labels))
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is empty.*")
def test_training_reaches_every_network_through_the_maps():
    views = [jnp.asarray(one) for one in make_data((40, 40))]
    module = Views(5, width=6, out=4, key=jax.random.key(0))
    known = {row: row for row in range(20)}
    trained, losses = train(
        module,
        lambda own: own(views),
        apart,
        lambda _: ([known], jnp.arange(20, 30)),
        training=QUICK,
        key=jax.random.key(1),
    )
    assert len(losses) == QUICK.steps
    assert np.isfinite(losses).all()
    for before, after in zip(module.networks, trained.networks, strict=True):
        assert np.abs(after.layers[0].weight - before.layers[0].weight).max() > 1e-3
