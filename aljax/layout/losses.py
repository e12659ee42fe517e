"""The objective: maps in, one number out, no end held constant in any term.

    L = 2 sum_edges w_ij log(1 + a |y_i - y_j|^(2b))                      attraction
      + gamma m sum_{i<k} (d_i + d_k) / (2(n - 1)) log(1 + 1 / p_ik)      repulsion
      + lambda sum_mates s (d_i (2 + m) + d_i' (2 + m')) / 4 |y_i - z_i'|^2  alignment

with p = a (|y_i - y_k|^2 + 1e-3)^b, d the degrees, m = negative_sample_rate,
gamma = repulsion_strength, lambda = alignment_regularisation, s the mates' strengths.
With motion_fidelity kappa > 0 mates are held kappa delta apart, delta being how far
they lie apart in the data:

    |y_i - z_i'|^2 becomes ((|y_i - z_i'|^2 + 1e-8)^(1/2) - kappa delta)^2.

With densmap each slice adds, over its points with edges,

      + dens_lambda sum_i d_i (1 - corr(R_i, r_i))                        density

where R_i are the local radii of the data (logarithms, of `graph.fuzzy`) and r_i those
of the map, weighted by the map's memberships q = 1 / (1 + a |y|^(2b)):

    r_i = log(sum_j q_ij |y_i - y_j|^2 / sum_j q_ij + 1e-8)    over the graph's edges,
    corr(R, r) = cov(R, r) / (var R (var r + dens_var_shift))^(1/2).

The functions here are of one slice, or of one pair of slices; `layout.shifts` sums the
repulsion, and `layout.objective` weighs the terms and puts them together.

Source: attraction and repulsion are the loss that umap-learn's sampling follows
(Damrich & Hamprecht 2021, arXiv:2103.14608, eq. 10), with negatives free to move.
Density is densMAP's term (Narayan, Berger & Cho 2021, Nature Biotechnology 39), with
the weight, sum_i d_i, that it has in umap-learn.
"""

import operator
from collections.abc import Callable
from functools import reduce

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aljax.graph.fuzzy import edge_degrees
from aljax.layout.problem import LayoutParams
from aljax.layout.spaces import Space, squared_distance

SOFTENING = 1e-3  # umap-learn's: keeps the repulsion finite for coincident points
TINY = 1e-12  # keeps the gradient of |y|^(2b) finite there
NEAR = 1e-8  # and this those of |y| and log |y|^2


class LossTerms(eqx.Module):
    """The three terms of the objective, each one number for each slice.

    The alignment of a pair of slices counts for the earlier.  A loss with a term of
    its own returns a subclass that has the term as another field.
    """

    attraction: Float[Array, "*epochs slices"]
    repulsion: Float[Array, "*epochs slices"]
    alignment: Float[Array, "*epochs slices"]

    def total(self) -> Float[Array, "*epochs"]:
        """Returns the objective: all terms of all slices."""
        return jnp.sum(reduce(operator.add, jax.tree.leaves(self)), axis=-1)


class DensityTerms(LossTerms):
    """The terms of a densMAP; the density counts in the epochs that it acts in."""

    density: Float[Array, "*epochs slices"]


def terms_in(params: LayoutParams) -> type[LossTerms]:
    """Returns the class of the terms that settings ask for."""
    return LossTerms if params.dens_lambda is None else DensityTerms


def log_p(
    squared: Float[Array, "..."],
    a: Float[Array, "..."],
    b: Float[Array, "..."],
    softening: float = TINY,
) -> Float[Array, "..."]:
    """Returns log p, p = a (squared + softening)^b, which can exceed single precision.

    log(1 + p) is then softplus(log p), and the membership 1 / (1 + p) is
    sigmoid(-log p).
    """
    return jnp.log(a) + b * jnp.log(squared + softening)


@jax.custom_jvp
def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + exp x), as `jax.nn` has it, with a derivative that takes one exp."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


softplus.defjvps(lambda change, _, x: change * jax.nn.sigmoid(x))


def attraction_of_pairs(
    squared: Float[Array, "..."], a: Float[Array, ""], b: Float[Array, ""]
) -> Float[Array, "..."]:
    """log(1 + a |y|^(2b)) for each pair, from its squared distance |y|^2."""
    return softplus(log_p(squared, a, b))


def repulsion_of_pairs(
    squared: Float[Array, "..."], a: Float[Array, ""], b: Float[Array, ""]
) -> Float[Array, "..."]:
    """log(1 + 1 / (a (|y|^2 + 1e-3)^b)) for each pair, from its squared distance."""
    return softplus(-log_p(squared, a, b, SOFTENING))


def misfit_of_mates(
    squared: Float[Array, "..."], reach: Float[Array, "..."] | None = None
) -> Float[Array, "..."]:
    """|y_i - z_i'|^2 for each pair, or with `reach` (|y_i - z_i'| - reach)^2."""
    return squared if reach is None else (jnp.sqrt(squared + NEAR) - reach) ** 2


def attraction(
    embedding: Float[Array, "components points"],
    neighbors: Int[Array, "neighbors points"],
    weights: Float[Array, "neighbors points"],
    a: Float[Array, ""],
    b: Float[Array, ""],
    among: Float[Array, "components others"] | None = None,
    *,
    space: Space = None,
) -> Float[Array, ""]:
    """2 sum_edges w_ij log(1 + a |y_i - y_j|^(2b)) over one slice's directed list.

    Neighbors are places in `among`, where it is there.
    """
    others = embedding if among is None else among
    squared = squared_distance(embedding[:, None, :], others[:, neighbors], space)
    return 2 * jnp.sum(weights * attraction_of_pairs(squared, a, b))


def alignment(
    embedding: Float[Array, "components points"],
    other: Float[Array, "components others"],
    mates: Int[Array, "mates points"],
    strengths: Float[Array, "mates points"],
    pull: Float[Array, "points"],
    other_pull: Float[Array, "others"],
    reach: Float[Array, "mates points"] | None = None,
    *,
    space: Space = None,
) -> Float[Array, ""]:
    """sum_mates (pull_i + pull'_i') / 4 s |y_i - z_i'|^2 between two slices.

    With `reach`, kappa delta, it is the distance's difference from that which is
    squared, and mates are held as far apart as the data say.

    A point's pull is d_i (2 + m), times its weight: umap-learn moves mates together
    once for every end of an edge and every negative sample that touches a point.
    """
    squared = squared_distance(embedding[:, None, :], other[:, mates], space)
    misfit = misfit_of_mates(squared, reach)
    return jnp.sum((pull + other_pull[mates]) / 4 * strengths * misfit)


def radii_in_map(
    embedding: Float[Array, "components points"],
    neighbors: Int[Array, "neighbors points"],
    shares: Float[Array, "neighbors points"],
    a: Float[Array, "..."],
    b: Float[Array, "..."],
) -> Float[Array, "points"]:
    """log(sum_j q_ij |y_i - y_j|^2 / sum_j q_ij + 1e-8) over each point's edges."""
    difference = embedding[:, None, :] - embedding[:, neighbors]
    squared = jnp.sum(difference**2, axis=0)
    q = shares * jax.nn.sigmoid(-log_p(squared, a, b))
    total, spread = (edge_degrees(neighbors, values) for values in (q, q * squared))
    return jnp.log(spread / jnp.where(total > 0, total, 1.0) + NEAR)


def unlike_density(
    radii: Float[Array, "*rows points"],
    of_map: Float[Array, "*rows points"],
    degrees: Float[Array, "*rows points"],
    var_shift: Float[Array, "..."],
    total: Callable[[Array], Array] = jnp.sum,
) -> Float[Array, "..."]:
    """sum_i d_i (1 - corr(R, r)) over one slice's points with edges.

    `total` sums over a slice.
    """
    linked = (degrees > 0).astype(degrees.dtype)
    count = jnp.maximum(total(linked), 1)
    x, y = (linked * (r - total(linked * r) / count) for r in (radii, of_map))
    varying = (total(x**2) / count + TINY) * (total(y**2) / count + var_shift + TINY)
    return total(degrees) * (1 - total(x * y) / count / jnp.sqrt(varying))
