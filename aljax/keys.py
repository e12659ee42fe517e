"""Random keys of JAX, and seeds for NumPy that are made of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aljax.compilation import check_fork
from aljax.errors import InputError


def check_key(key: Any) -> jax.Array:
    """Returns a key of JAX, of the new or the old style, after a check."""
    check_fork()
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        if key.dtype == jnp.uint32 and key.shape == jax.random.PRNGKey(0).shape:
            return key
    got = "is missing" if key is None else f"is {key!r}"
    remedy = "The same key gives the same maps." if key is None else ""
    raise InputError("key", got, "a key by itself: key=jax.random.key(0)", remedy)


def seeds(key: jax.Array, count: int) -> list[int]:
    """Returns seeds for NumPy's generators, without a program to compile."""
    data = np.asarray(jax.random.key_data(key)).ravel().tolist()
    return np.random.SeedSequence(data).generate_state(count).tolist()
