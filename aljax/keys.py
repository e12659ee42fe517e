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
        if _is_key(key) and key.ndim == 0:
            return key
        if key.dtype == jnp.uint32 and key.shape == jax.random.PRNGKey(0).shape:
            return key
    got = "is missing" if key is None else f"is {key!r}"
    remedy = "The same key gives the same maps." if key is None else ""
    raise InputError("key", got, "a key by itself: key=jax.random.key(0)", remedy)


def as_numbers(array: Any) -> Any:
    """Returns the numbers of keys, which NumPy cannot read; other arrays stay."""
    return jax.random.key_data(array) if _is_key(array) else array


def as_keys(numbers: Any, like: Any) -> Any:
    """Returns numbers as keys of the kind that `like` is, or as they are."""
    if not _is_key(like):
        return numbers
    return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(like))


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def seeds(key: jax.Array, count: int) -> list[int]:
    """Returns seeds for NumPy's generators, without a program to compile."""
    data = np.asarray(jax.random.key_data(key)).ravel().tolist()
    return np.random.SeedSequence(data).generate_state(count).tolist()
