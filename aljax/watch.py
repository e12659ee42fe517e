"""Gradients that are not finite, caught at the stage that they come from."""

from functools import partial
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def watch(values: Tree, stage: str) -> Tree:
    """The same values; a gradient that reaches them and is not finite raises.

    Args:
        values: Arrays in any tree.
        stage: Names what the gradient comes from, for the error.

    Raises:
        RuntimeError: While the gradient is computed, from compiled code too.
    """
    moving, fixed = eqx.partition(values, eqx.is_inexact_array)
    return eqx.combine(_watched(stage, moving), fixed)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _watched(stage: str, values: Any) -> Any:
    del stage
    return values


def _forward(stage: str, values: Any) -> tuple[Any, None]:
    del stage
    return values, None


def _backward(stage: str, _: None, gradient: Any) -> tuple[Any]:
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)]
    message = (
        f"the gradient that comes out of the {stage} is not finite; look for rows at "
        "distance 0, settings that are far too large, or float32 where x64 is needed."
    )
    return (eqx.error_if(gradient, ~jnp.all(jnp.array(finite)), message),)


_watched.defvjp(_forward, _backward)
