"""A small classifier, watched while it learns: pixels - 64 - 64 - 10, ReLU, Adam."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

UPDATES = 5  # of the weights, from one snapshot to the next
BATCH = 100
RATE = 1e-3


@eqx.filter_jit
def layer_values(
    network: eqx.nn.MLP, images: Float[Array, "images pixels"]
) -> list[Float[Array, "images _"]]:
    """Returns the values of each layer: after ReLU, and those of the last without."""
    values, x = [], images
    for layer in network.layers:
        x = jax.vmap(layer)(x)
        values.append(x)
        x = jax.nn.relu(x)
    return [*map(jax.nn.relu, values[:-1]), values[-1]]


def training(
    images: Float[np.ndarray, "images pixels"],
    classes: Int[np.ndarray, "images"],
    *,
    snapshots: int,
    seed: int,
) -> Iterator[eqx.nn.MLP]:
    """Yields the network before and during training, so many times, `UPDATES` apart.

    Args:
        images: What the network learns from.
        classes: What they show (0 to 9).
        snapshots: How many networks there are.
        seed: Of the weights and of the batches.
    """
    key = jax.random.key(seed)
    network = eqx.nn.MLP(images.shape[1], 10, 64, depth=2, key=key)
    optimizer = optax.adam(RATE)
    state = optimizer.init(eqx.filter(network, eqx.is_array))
    rng = np.random.default_rng(seed)

    @eqx.filter_jit
    def update(network, state, x: Array, y: Array):
        def loss(network):
            logits = jax.vmap(network)(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        gradient = eqx.filter_grad(loss)(network)
        steps, state = optimizer.update(gradient, state)
        return eqx.apply_updates(network, steps), state

    yield network
    for _ in range(snapshots - 1):
        for _ in range(UPDATES):
            rows = rng.choice(len(images), BATCH, replace=False)
            batch = jnp.asarray(images[rows]), jnp.asarray(classes[rows])
            network, state = update(network, state, *batch)
        yield network
