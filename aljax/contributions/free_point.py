"""One free point among the fixed points of a map, followed as its data change.

    grad_y L(y; w(x)) = f,     dy/dx = -H^-1 d^2L / dy dw  dw/dx,     H = d^2L / dy^2

is where a row x comes to lie: L is the loss of one point (`layout.objective`'s, of all
that touches it), w the weights of its edges, and f the force that the layout left at
the place where the point stands, held along the way.  On the straight path from x_0
to x_1, which is followed back from the point's place in the map,

    y_1 - y_0 = sum_j int dy/dx_j dx_j

says how far each column j of the data moved it.  Lists of neighbors have soft ends of
a small width h, so that the derivative sees rows that enter and leave them:

    v_c = exp(-max(0, d_c - rho) / sigma) g_c,    g_c = g((r - d_c) / h),
    sum_c g_c = k - 1,    sum_c v_c = log2 k.

Source: integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365), of an
equilibrium by the implicit function theorem.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, Int

from aljax.layout.losses import NEAR, attraction_of_pairs, repulsion_of_pairs

STEPS = 40  # of the path
CORRECTIONS = 2  # of the place at each step, by Newton's method
FARTHEST = 1.0  # that one of them goes (map units)
BISECTIONS = 24
WIDTH = 0.25  # of a list's end, in units of the range of its distances
STIFFNESS = 0.2  # the least curvature, in units of the point's degree
TINY = 1e-12


class Rows(NamedTuple):
    """The rows that may be a member's neighbors on its path, and their own lists.

    `first` and `last` are the squared distances to them at both ends of the path; for
    angles the products with their directions.
    """

    first: Float[Array, "rows"]
    last: Float[Array, "rows"]
    places: Float[Array, "components rows"]
    present: Bool[Array, "rows"]
    rho: Float[Array, "rows"]
    sigma: Float[Array, "rows"]
    reach: Float[Array, "rows"]
    width: Float[Array, "rows"]


class Mates(NamedTuple):
    """A member's mates: how strongly they pull, and how far they should be.

    `pulls` has for each mate a constant, and what is multiplied by the member's degree;
    `first`, `last` and `path` are squares of distances in the data, times the square of
    motion_fidelity.
    """

    places: Float[Array, "components mates"]
    pulls: Float[Array, "2 mates"]
    first: Float[Array, "mates"]
    last: Float[Array, "mates"]
    path: Float[Array, "mates"]


class Member(NamedTuple):
    """A member's place, its row, and squared lengths: of both ends and of the path."""

    place: Float[Array, "components"]
    row: Int[Array, ""]
    squares: Float[Array, "3"]


class Rivals(NamedTuple):
    """The points that repel, how strongly (0 for padding), and the map's curve."""

    places: Float[Array, "components rivals"]
    rows: Int[Array, "rivals"]
    degrees: Float[Array, "rivals"]
    repulsion: Float[Array, "rivals"]
    a: Float[Array, ""]
    b: Float[Array, ""]


class Surroundings(NamedTuple):
    """All that touches a member: near rows, its mates, itself, and the rivals."""

    rows: Rows
    mates: Mates
    member: Member
    rivals: Rivals


class Lists(NamedTuple):
    """The settings of lists: k, local connectivity, and the mix of both directions.

    `grain` is the least sigma, and the least spread of a list that makes its width.
    """

    k: Float[Array, ""]
    local_connectivity: Float[Array, ""]
    mix: Float[Array, ""]
    grain: Float[Array, ""]


class Way(NamedTuple):
    """The start of a path, and the derivatives along it, summed.

    With x the path's first row, column j moved the point by
    dx_j (of_self[0] x_j + of_self[1] dx_j + sum_c of_rows_c x_cj); by what its mates
    should be away likewise, with `to_self` and `to_mates`.  The last entry is not of
    the point's place, but of the loss there less that at the start.  `lists` is how far
    changed lists moved the point, which is a part of that.
    """

    start: Float[Array, "components"]
    of_self: Float[Array, "2 places"]
    of_rows: Float[Array, "places rows"]
    to_self: Float[Array, "2 places"]
    to_mates: Float[Array, "places mates"]
    lists: Float[Array, "components"]


def gate(depth: Array) -> Array:
    """0 up to -1, 1 from 1 on, and smooth between."""
    depth = jnp.clip(depth, -1.0, 1.0)
    return 0.5 + 0.75 * depth - 0.25 * depth**3


def root(missed: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Returns the root of a growing function, with the derivatives of that root.

    Without a root between the ends it is the end that is nearer to 0, and stands.
    """

    def halve(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = missed(middle) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    ends = stop_gradient(low), stop_gradient(high)
    crosses = (missed(ends[0]) <= 0) & (missed(ends[1]) >= 0)
    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, ends)
    place = stop_gradient((low + high) / 2)
    slope = stop_gradient(jax.grad(missed)(place))
    return place - missed(place) / jnp.where(crosses & (slope > TINY), slope, jnp.inf)


def nearest_first(distances: Array, rows: Rows) -> Array:
    """Distances of the rows that are there, sorted; inf after them."""
    return jnp.sort(jnp.where(rows.present, distances, jnp.inf))


def connected(distances: Array, lists: Lists, rows: Rows) -> Array:
    """Returns rho: the distance to the nearest row, or between nearest ones, or 0."""
    ordered = nearest_first(distances, rows)
    rank = jnp.clip(lists.local_connectivity, 0.0, lists.k - 1)
    low, fraction = jnp.floor(rank).astype(int), rank - jnp.floor(rank)
    before = jnp.where(low > 0, ordered[jnp.maximum(low - 1, 0)], 0.0)
    return before + jnp.where(fraction > 0, fraction * (ordered[low] - before), 0.0)


def weights(
    distances: Float[Array, "rows"],
    listing: Float[Array, "rows"],
    rows: Rows,
    lists: Lists,
    width: Float[Array, ""],
) -> Float[Array, "rows"]:
    """Returns a member's weights of edges; `listing` are distances that make lists."""
    highest = jnp.max(jnp.where(rows.present, listing, 0.0)) + width

    def entered(reach: Array) -> Array:
        return jnp.where(rows.present, gate((reach - listing) / width), 0.0)

    def missed(reach: Array) -> Array:
        return jnp.sum(entered(reach)) - (lists.k - 1)

    listed = entered(root(missed, jnp.zeros_like(highest) - width, highest))
    excess = jnp.maximum(distances - connected(distances, lists, rows), 0.0)

    def members(log_sigma: Array) -> Array:
        return listed * jnp.exp(-excess * jnp.exp(-log_sigma))

    lowest, highest = jnp.log(lists.grain + TINY), jnp.log(64 * highest + TINY)
    target = jnp.log2(lists.k)
    forward = members(root(lambda log: jnp.sum(members(log)) - target, lowest, highest))
    backward = jnp.exp(-jnp.maximum(distances - rows.rho, 0.0) / rows.sigma)
    backward = backward * gate((rows.reach - listing) / rows.width) * rows.present
    mutual = forward * backward
    return lists.mix * (forward + backward - mutual) + (1 - lists.mix) * mutual


def along(s: Array, first: Array, last: Array, path: Array) -> Array:
    """Squared distances at s of a straight path, from those at its ends."""
    return jnp.maximum((1 - s) * first + s * last - s * (1 - s) * path, TINY)


def reciprocal(squared: Array) -> Array:
    """Returns 1 / d of squared lengths d^2; 0 where d is 0 and has no derivative."""
    return jnp.where(squared > TINY, 1 / jnp.sqrt(squared), 0.0)


def distances_at(
    s: Array, rows: Rows, member: Member, angles: bool
) -> tuple[Array, Array, Array]:
    """Distances at s of the path, p and q; they grow by p x + q x_c with the row x."""
    begin, end, path = member.squares
    if not angles:
        squared = along(s, rows.first, rows.last, path)
        return jnp.sqrt(squared), reciprocal(squared), -reciprocal(squared)
    squared = along(s, begin, end, path)
    by_length = reciprocal(squared)
    cosines = ((1 - s) * rows.first + s * rows.last) * by_length
    return 1 - cosines, cosines * by_length**2, jnp.full_like(cosines, -by_length)


def summed(
    energy: Callable[[Array], Array], apart: Array, shares: Array
) -> tuple[Array, Array, Array]:
    """Returns each pair's force, and all forces' weighted sum and its derivative.

    `energy` is of squared lengths of `apart`, the differences from the pairs' ends.
    """
    squared = jnp.sum(apart**2, axis=0)
    ones = jnp.ones_like(squared)
    first, second = jax.jvp(
        lambda q: jax.jvp(energy, (q,), (ones,))[1], (squared,), (ones,)
    )
    hessian = 4 * (shares * second * apart) @ apart.T
    hessian += 2 * jnp.sum(shares * first) * jnp.eye(len(apart))
    forces = 2 * first * apart
    return forces, forces @ shares, hessian


class Sources(NamedTuple):
    """The force on a point, and how the point moves with what makes the force."""

    force: Float[Array, "components"]
    inverse: Float[Array, "components components"]
    by_weight: Float[Array, "components rows"]
    by_reach: Float[Array, "components mates"]


def sources(y: Array, strengths: Array, reach: Array, around: Surroundings) -> Sources:
    """Returns the gradient of L at y, H^-1, and how the settled place changes."""
    rows, mates, member, rivals = around
    degree = jnp.sum(strengths)
    curve = {"a": rivals.a, "b": rivals.b}
    pulls = partial(attraction_of_pairs, **curve)
    near, pulled, soft = summed(pulls, y[:, None] - rows.places, 2 * strengths)
    pushes = partial(repulsion_of_pairs, **curve)
    repulsion = jnp.where(rivals.rows == member.row, 0.0, rivals.repulsion)
    shares = repulsion * (degree + rivals.degrees)
    far, pushed, stiff = summed(pushes, y[:, None] - rivals.places, shares)

    def off(squared: Array) -> Array:
        return (jnp.sqrt(squared + NEAR) - reach) ** 2

    apart = y[:, None] - mates.places
    holds = mates.pulls[0] + degree * mates.pulls[1]
    to_mates, held, tied = summed(off, apart, holds)
    by_weight = 2 * near + (far @ repulsion + to_mates @ mates.pulls[1])[:, None]
    by_reach = -2 * holds * apart / jnp.sqrt(jnp.sum(apart**2, axis=0) + NEAR)
    values, vectors = jnp.linalg.eigh(soft + stiff + tied)
    stiffness = jnp.maximum(jnp.abs(values), STIFFNESS * degree + TINY)
    inverse = (vectors / stiffness) @ vectors.T
    force = pulled + pushed + held
    return Sources(force, inverse, -inverse @ by_weight, -inverse @ by_reach)


def loss_between(
    places: tuple[Array, Array], strengths: Array, reach: Array, around: Surroundings
) -> tuple[Array, Array]:
    """Returns derivatives of the loss at the second place less that at the first.

    They are by the edges' weights and by how far mates should be.
    """
    rows, mates, member, rivals = around
    holds = mates.pulls[0] + jnp.sum(strengths) * mates.pulls[1]

    def at(y: Array) -> tuple[Array, Array]:
        near, far, apart = (
            jnp.sum((y[:, None] - others.places) ** 2, axis=0)
            for others in (rows, rivals, mates)
        )
        itself = rivals.rows == member.row
        pushes = repulsion_of_pairs(far, rivals.a, rivals.b)
        pushed = jnp.sum(jnp.where(itself, 0.0, rivals.repulsion) * pushes)
        missed = jnp.sqrt(apart + NEAR) - reach
        pushed += mates.pulls[1] @ missed**2
        pulled = 2 * attraction_of_pairs(near, rivals.a, rivals.b)
        return pulled + pushed, -2 * holds * missed

    return jax.tree.map(lambda x, y: y - x, *map(at, places))


def follow(around: Surroundings, lists: Lists, angles: bool) -> Way:
    """Follows one member back along its path."""
    rows, mates, member, _ = around
    distances = partial(distances_at, rows=rows, member=member, angles=angles)

    def spread(s: Array) -> Array:
        ordered = nearest_first(distances(s)[0], rows)
        count = jnp.minimum(lists.k - 1, jnp.sum(rows.present))
        return jnp.maximum(ordered[count.astype(int) - 1] - ordered[0], lists.grain)

    width = WIDTH * jnp.mean(jax.vmap(spread)(jnp.linspace(0.0, 1.0, 3))) + TINY
    edges = partial(weights, rows=rows, lists=lists, width=width)

    def reach_at(s: Array) -> Array:
        return jnp.sqrt(along(s, mates.first, mates.last, mates.path))

    def visit(carry: tuple, s: Array) -> tuple[tuple, tuple[Array, Array]]:
        y, before, moving, left = carry
        far = distances(s)[0]
        strengths, reach = edges(far, far), reach_at(s)
        y = y + moving.by_weight @ (strengths - before[0])
        y = y + moving.by_reach @ (reach - before[1])

        def correct(_: Any, state: tuple[Array, Sources]) -> tuple[Array, Sources]:
            y, around_y = state
            step = around_y.inverse @ (around_y.force - left)
            length = jnp.sqrt(jnp.sum(step**2) + TINY)
            y = y - step * jnp.minimum(1.0, FARTHEST / length)
            return y, sources(y, strengths, reach, around)

        # The first round moves nothing: it reads what the guess has for sources.
        rounds = jnp.where(s == 1, 1, 1 + CORRECTIONS)
        guess = moving._replace(force=left)
        y, moving = jax.lax.fori_loop(0, rounds, correct, (y, guess))
        left = jnp.where(s == 1, moving.force, left)
        carry = y, (strengths, reach), moving, left
        return carry, (moving.by_weight, moving.by_reach)

    first = sources(member.place, rows.first, mates.first, around)
    zeros = jax.tree.map(jnp.zeros_like, first)
    nothing = jnp.zeros_like(rows.first), jnp.zeros_like(mates.first)
    carry = member.place, nothing, zeros, zeros.force
    looks = jnp.linspace(1.0, 0.0, STEPS + 1)
    (start, *_), moving = jax.lax.scan(visit, carry, looks)

    def read(s: Array, moving: tuple[Array, Array]) -> Way:
        far, of_member, other = distances(s)
        strengths, pull_back = jax.vjp(edges, far, far)
        ends = start, member.place
        losses = loss_between(ends, strengths, reach_at(s), around)
        share = jnp.where((s == 0) | (s == 1), 0.5, 1.0) / STEPS
        by_weight, by_reach = (
            share * jnp.vstack([place, loss[None]])
            for place, loss in zip(moving, losses, strict=True)
        )
        within, listed = jax.vmap(pull_back)(by_weight)
        by_edge, to_mates = within + listed, by_reach / reach_at(s)
        rates = jax.jvp(lambda s: distances(s)[0], (s,), (jnp.ones_like(s),))[1]
        of_self, to_self = (
            jnp.stack([sums, s * sums])
            for sums in (by_edge @ of_member, to_mates.sum(axis=1))
        )
        lists = listed[:-1] @ rates
        return Way(start, of_self, by_edge * other, to_self, -to_mates, lists)

    ways = jax.vmap(read)(looks, moving)
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), ways)._replace(start=start)


@partial(jax.jit, static_argnames="angles")
def follow_all(around: Surroundings, lists: Lists, *, angles: bool) -> Way:
    """Follows members, whose leaves have a first axis for them, along their paths."""
    axes: Any = 0, 0, 0, None  # the rivals are those of all members
    follow_one = partial(follow, angles=angles)
    return jax.vmap(follow_one, in_axes=(Surroundings(*axes), None))(around, lists)
