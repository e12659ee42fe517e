"""The objective of a whole sequence: the terms of `layout.losses`, put together.

    L = sum_slices attraction + repulsion + alignment (+ density)

Everything here is a pure function of its arguments on one device; `layout.sharding`
puts the same functions on many.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aljax.errors import InputError
from aljax.layout.losses import (
    DensityTerms,
    LossTerms,
    alignment,
    attraction,
    radii_in_map,
    unlike_density,
)
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.shifts import Shifts, repulsion
from aljax.layout.spaces import lifted

LARGE = 2**22  # points of a sequence whose pairs take some gigabytes
AT_ONCE = 2**20  # of its points, those whose pairs are in memory together


def aligned_loss(
    maps: Float[Array, "slices components points"],
    problem: AlignedProblem,
    params: LayoutParams,
    shifts: Shifts,
) -> LossTerms:
    """Returns the objective of a whole sequence, term by term and slice by slice.

    Args:
        maps: Stacked maps, as from `stack_maps` (map units).
        problem: The graphs and mates.
        params: The settings that change no shape.
        shifts: The pairs that repel, as from `draw_shifts`.
    """
    parts = {"repulsion": repulsion, "ahead": ahead, "over": over_slices}
    return terms_of(maps, problem, params, shifts, **parts)


def over_slices(function: Callable[..., Array]) -> Callable[..., Array]:
    """Returns a function of one slice as one of all.

    `LARGE` sequences are summed up some slices at a time, and what their derivatives
    need is made anew: memory then follows the largest slice, and not their number.
    """

    def mapped(maps: Array, *others: Any) -> Array:
        slices, *_, points = maps.shape
        batch = max(1, AT_ONCE // max(1, points))  # slices may have no rows
        if slices * points <= LARGE or slices <= batch:
            return jax.vmap(function)(maps, *others)
        checkpointed = jax.checkpoint(
            lambda leaves: function(*leaves), prevent_cse=False
        )
        return jax.lax.map(
            checkpointed, (maps, *others), batch_size=batch if batch > 1 else None
        )

    return mapped


def terms_of(
    maps: Float[Array, "slices components points"],
    problem: AlignedProblem,
    params: LayoutParams,
    shifts: Any,
    *,
    repulsion: Callable[..., Array],
    ahead: Callable[[Array, Sequence[int]], Array],
    over: Callable[..., Callable[..., Array]] = jax.vmap,
) -> LossTerms:
    """Returns the objective, given how a slice's pairs and later slices are read.

    `shifts` is what `repulsion` reads; `over` makes functions of one slice functions
    of all.
    """
    space, maps = params.space, lifted(maps, params.space)
    attracted = over(partial(attraction, space=space))(
        maps, problem.neighbors, problem.weights, params.a, params.b
    )
    repelled = over(partial(repulsion, space=space))(
        maps, problem.degrees, problem.n_points, shifts, params.a, params.b
    )
    offsets = problem.offsets
    pull = problem.pulls * (2 + params.negative_sample_rate)[:, None]
    reach = None if problem.moves is None else params.motion_fidelity * problem.moves
    pulled = partial(alignment, space=space)
    over_offsets = jax.vmap(pulled, in_axes=(None, 0, 0, 0, None, 0, 0))
    aligned = over(over_offsets)(
        maps,
        ahead(maps, offsets),
        problem.mates,
        problem.strengths,
        pull,
        ahead(pull, offsets),
        reach,
    )
    terms = LossTerms(attracted, repelled, jnp.sum(aligned, axis=1))
    return weighed(terms, params, partial(densities, maps, problem, params))


def check_terms(terms: Any, history: LossTerms) -> LossTerms:
    """Checks that a loss returns the terms that are recorded, a number a slice each.

    Raises:
        InputError: It returns something else.
    """
    if type(terms) is not type(history):
        name = type(history).__name__
        type_name = "an array" if isinstance(terms, jax.Array) else type(terms).__name__
        got = f"returns {type_name}"
        remedy = "Give the class of its terms to `init` as `terms`."
        remedy = remedy if isinstance(terms, LossTerms) else ""
        raise InputError("loss", got, f"{name}, as `aligned_loss` does", remedy)
    slices = history.attraction.shape[-1]
    for name, value in vars(terms).items():
        if jnp.shape(value) != (slices,):
            got = f"returns `{name}` of shape {jnp.shape(value)}"
            raise InputError("loss", got, f"({slices},), one number for each slice")
    return terms


def ahead(
    values: Float[Array, "slices ..."], offsets: Sequence[int]
) -> Float[Array, "slices offsets ..."]:
    """Returns the values so many slices after each, around the end of the sequence."""
    if not offsets:
        return jnp.zeros((values.shape[0], 0, *values.shape[1:]), values.dtype)
    later = [jnp.roll(values, -o, axis=0) for o in offsets]
    return jnp.stack(later, axis=1)


def densities(
    maps: Float[Array, "slices components points"],
    problem: AlignedProblem,
    params: LayoutParams,
) -> Float[Array, "slices"]:
    """sum_i d_i (1 - corr(R, r)) of each slice, R in the data and r in the map."""
    tables: Any = (problem.neighbors, problem.shares, params.a, params.b)
    of_maps = jax.vmap(radii_in_map)(maps, *tables)
    points: Any = (problem.radii, of_maps, problem.degrees, params.dens_var_shift)
    return jax.vmap(unlike_density)(*points)


def weighed(
    terms: LossTerms, params: LayoutParams, densities: Callable[[], Array]
) -> LossTerms:
    """Returns the terms times their weights; the density's where it is set and acts.

    It does from a weight of 0 on, at which the loss has a slope by the weight, and not
    at -0, which `in_epoch` sets in epochs without it.
    """
    repulsion_strength = params.repulsion_strength * params.negative_sample_rate
    terms = LossTerms(
        attraction=terms.attraction,
        repulsion=repulsion_strength * terms.repulsion,
        alignment=params.alignment_regularisation * terms.alignment,
    )
    weights = params.dens_lambda
    if weights is None:
        return terms
    none, acts = jnp.zeros_like(terms.attraction), ~jnp.signbit(weights)
    values = jax.lax.cond(jnp.any(acts), densities, lambda: none)
    return DensityTerms(**vars(terms), density=jnp.where(acts, weights, 0.0) * values)


def in_epoch(
    params: LayoutParams, epoch: Int[Array, ""], n_epochs: Int[Array, ""]
) -> LayoutParams:
    """Returns an epoch's settings: a density acts in the last `dens_frac` of them."""
    if params.dens_lambda is None:
        return params
    share: Any = params.dens_frac
    begun = epoch + 1 > (1 - share) * n_epochs
    weights = jnp.where(begun, params.dens_lambda, -0.0)  # whose sign says: not yet
    return eqx.tree_at(lambda p: p.dens_lambda, params, weights)
