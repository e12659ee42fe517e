"""Update rules: optax transformations that make steps of the gradient of the loss."""

from contextlib import suppress
from functools import lru_cache

import jax
import jax.numpy as jnp
import optax

from aljax.errors import InputError

# Made once: a transformation made anew for every call would compile anew.
ADAM = optax.scale_by_adam(b1=0.5, b2=0.9)


@lru_cache(maxsize=16)
def check_descends(
    optimizer: optax.GradientTransformation, shape: tuple[int, ...]
) -> None:
    """Checks by an update that a rule of maps keeps the sign of the gradient."""
    if optimizer is ADAM:
        return
    expected = "an optax transformation of gradients alone, as optax.scale_by_rms()"
    if not hasattr(optimizer, "update"):
        remedy = "Call it, if it is a function that makes one."
        raise InputError("optimizer", f"is {optimizer!r}", expected, remedy)

    def moved(shape: tuple[int, ...]) -> float:
        with jax.ensure_compile_time_eval():
            slope = jnp.ones(shape)
            updates, _ = optimizer.update(slope, optimizer.init(slope), slope)
            return float(jnp.asarray(updates).mean())

    # Of one number, which compiles least, unless the rule is one of maps alone or draws
    # noise that exceeds the number.
    with suppress(Exception):
        if moved((1, 1, 1)) >= 0:
            return
    try:
        length = moved(shape)
    except TypeError as error:  # a search along a line asks for the loss
        raise InputError("optimizer", f"fails: {error}", expected) from error
    if length < 0:
        raise InputError(
            "optimizer",
            f"turns a gradient of 1 into {length:g}, by which the layout would climb",
            "an update rule that keeps the sign of the gradient",
            "The layout subtracts what it returns, times its own `learning_rate`: pass "
            "optax.scale_by_adam() for optax.adam(0.1).",
        )
