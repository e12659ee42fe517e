"""Derivatives of a layout that is a minimum: of the exact loss, or of an anchored one.

Both settle the start by more epochs at a low rate, find the minimum by Newton's method
(`layout.newton`) and give it the derivative of the implicit function theorem
(`layout.minimum`).
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from aljax.config import number
from aljax.errors import InputError
from aljax.graph.knn import capacity_for
from aljax.layout.losses import terms_in
from aljax.layout.minimum import (
    Anchor,
    Maps,
    Minimum,
    Pairs,
    Theta,
    find_minimum,
    following,
    moving,
    slope,
)
from aljax.layout.optimize import init, run, shifts_of
from aljax.layout.problem import AlignedProblem, LayoutParams
from aljax.layout.shifts import draw_shifts

HIGH, LOW = 3.0, 0.3  # of the rate, in epochs that seek a minimum or an anchor
DESCENT = 300  # steps along the exact gradient that follow them
RATE = 0.1  # of these, in map units
MEMORY = 8 * 2**30  # bytes
DESCENDING = optax.scale_by_adam(b1=0.9, b2=0.99)


class Solution(eqx.Module):
    """A layout to differentiate.

    Attributes:
        maps: The layout, stacked (map units).
        slope: The largest entry of the gradient of its loss there (loss per map unit);
            NaN where the epochs were unrolled.
        converged: True where that is below the tolerance; False where it is not, or
            was not asked.
        curvature: The lowest curvature that conjugate gradients met there (loss per
            square map unit): at or below 0 the layout is a saddle, whose derivatives
            say nothing.  NaN where the epochs were unrolled.
    """

    maps: Maps
    slope: Float[Array, ""]
    converged: Bool[Array, ""]
    curvature: Float[Array, ""]


class Implicit(eqx.Module):
    """Derivatives of a minimum of the exact loss, over all pairs.

    Those of what does not change when linked maps are shifted or turned together are
    exact; others are those of the layout that moves least.  Pinned rows stay, and so
    do rows without an edge, which no minimum holds.  It stores the curvature of each
    pair, 4 numbers for two components, or for slices of n rows about 9 n^2 numbers
    with what makes them.

    Attributes:
        tolerance: Largest entry of the gradient of a minimum (loss per map unit, above
            0).
        rtol: Residual of the linear systems of the derivatives, by their right-hand
            sides (above 0).
        settle: Epochs before the search, which begin at 3 times the rate (at least 0),
            and are followed by 300 steps along the exact gradient; 0 for neither.
        max_steps: Newton steps (at least 1).
        memory: Bytes that the curvature of all pairs may take.
        throw: If True, a layout that did not converge, or that has a direction without
            positive curvature, raises a RuntimeError; under `jit`, where nothing can be
            raised, its maps and derivatives are NaN.  If False, `converged` and
            `curvature` say so, and the maps are those at which the search ended.
    """

    tolerance: float = 1e-3
    rtol: float = 1e-3
    settle: int = eqx.field(static=True, default=10_000)
    max_steps: int = eqx.field(static=True, default=2_000)
    memory: int = eqx.field(static=True, default=MEMORY)
    throw: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        _check(self)

    def at(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps
    ) -> tuple["Implicit", Maps]:
        """Checks that the pairs fit into memory, and settles the start."""
        slices, components, points = start.shape
        entries = slices * points**2 * (components**2 + components + 3)
        check_memory("problem", entries * start.dtype.itemsize, self.memory)
        if self.settle:
            start = settled(problem, params, start, epochs=self.settle, rate=HIGH)
            start = descended(Theta(problem, params, None), start)
        return self, start

    def theta(self, problem: AlignedProblem, params: LayoutParams) -> Theta:
        """What the minimum depends on."""
        return Theta(problem, params, None)


class Anchored(eqx.Module):
    """Derivatives of a layout that springs hold at a constant one, for larger sizes.

    It is the minimum of L + ridge / 2 |Y - Yc|^2, Yc being the settled start, with the
    repulsion of all pairs that are near in Yc and of `n_shifts` fixed shifts that stand
    for the others.  Its derivatives are exact for that; those of the exact minimum
    they resemble where the springs are weak, and the less the more local a measure is.
    It stores 6 numbers for each edge, mate, near pair and shifted point.

    Attributes:
        ridge: Stiffness of the springs (loss per square map unit, at least 0).
        near: Distance within which all pairs repel (map units, at least 0).
        n_shifts: Shifts that stand for the others (at least 1).
        tolerance: See `Implicit`.
        rtol: See `Implicit`.
        settle: Epochs at .3 of the rate that lead to Yc (at least 0).
        max_steps: See `Implicit`.
        memory: Bytes that the curvature of the pairs may take.
        throw: See `Implicit`.
        anchor: Yc and the pairs, as `at` makes them; None to make them on the host,
            which `jit` and `vmap` over the start or the problem do not allow.
    """

    ridge: float = 0.1
    near: float = eqx.field(static=True, default=0.7)
    n_shifts: int = eqx.field(static=True, default=32)
    tolerance: float = 1e-3
    rtol: float = 1e-3
    settle: int = eqx.field(static=True, default=3_000)
    max_steps: int = eqx.field(static=True, default=2_000)
    memory: int = eqx.field(static=True, default=MEMORY)
    throw: bool = eqx.field(static=True, default=True)
    anchor: Anchor | None = None

    def __check_init__(self) -> None:
        _check(self)
        for name in ("ridge", "near"):
            _number(0)(name, getattr(self, name))
        number(1, whole=True)("n_shifts", self.n_shifts)

    def at(
        self, problem: AlignedProblem, params: LayoutParams, start: Maps
    ) -> tuple["Anchored", Maps]:
        """The same with its anchor, and the layout to start from.

        Raises:
            InputError: If it is traced, or the pairs do not fit into memory.
        """
        if self.anchor is not None:
            return self, start
        if any(isinstance(leaf, Tracer) for leaf in (start, *jax.tree.leaves(problem))):
            remedy = "Make it before: adjoint, _ = adjoint.at(problem, params, start)."
            raise InputError("adjoint", "has no anchor, in a trace", "one", remedy)
        if self.settle:
            start = settled(problem, params, start, epochs=self.settle, rate=LOW)
        pairs = _pairs(problem, start, self)
        anchor = Anchor(start, pairs, jnp.asarray(self.ridge, start.dtype))
        return eqx.tree_at(lambda a: a.anchor, self, anchor, is_leaf=_is_none), start

    def theta(self, problem: AlignedProblem, params: LayoutParams) -> Theta:
        """What the minimum depends on."""
        assert self.anchor is not None
        ridge = jnp.asarray(self.ridge, self.anchor.ridge.dtype)
        return Theta(
            problem, params, eqx.tree_at(lambda a: a.ridge, self.anchor, ridge)
        )


def _is_none(value: Any) -> bool:
    return value is None


def _number(low: float, **options: Any) -> Any:
    """A check of a number that lets traced ones through."""
    check = number(low, **options)

    def of(name: str, value: Any) -> None:
        if not isinstance(value, jax.Array):
            check(name, value)

    return of


def _check(adjoint: Implicit | Anchored) -> None:
    for name in ("tolerance", "rtol"):
        _number(0, open_low=True)(name, getattr(adjoint, name))
    for name in ("max_steps", "memory"):
        number(1, whole=True)(name, getattr(adjoint, name))
    number(0, whole=True)("settle", adjoint.settle)


def check_memory(name: str, needed: int, memory: int) -> None:
    """Checks that the curvature of pairs fits into memory.

    Raises:
        InputError: It does not; the message says the bytes.
    """
    if needed > memory:
        got = f"has pairs whose curvature takes about {needed:,} bytes"
        remedy = "Raise `memory`, lower `near`, or use Anchored instead of Implicit."
        raise InputError(name, got, f"at most `memory`, {memory:,} bytes", remedy)


@partial(jax.jit, static_argnames=("epochs", "shifts"))
def _settled(
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
    *,
    epochs: int,
    rate: float | Float[Array, ""],
    shifts: int,
) -> Maps:
    paced = eqx.tree_at(lambda p: p.learning_rate, params, rate * params.learning_rate)
    held = eqx.tree_at(lambda p: p.free, problem, moving(problem).astype(start.dtype))
    state = init(start, n_epochs=epochs, terms=terms_in(params))
    return run(held, paced, state, epochs, key=jax.random.key(0), n_shifts=shifts).maps


def settled(
    problem: AlignedProblem, params: LayoutParams, start: Maps, **pace: Any
) -> Maps:
    """The maps after `epochs` more, at `rate` times the layout's own."""
    return _settled(problem, params, start, shifts=shifts_of(problem), **pace)


@jax.jit
def descended(theta: Theta, start: Maps) -> Maps:
    """The maps after steps along the exact gradient."""
    moves = moving(theta.problem)[:, None]

    def step(count: Array, now: tuple[Maps, Any]) -> tuple[Maps, Any]:
        maps, moments = now
        updates, moments = DESCENDING.update(slope(theta, maps) * moves, moments)
        rate = RATE * (1 - count / DESCENT) ** 2
        return maps - rate * moves * jnp.asarray(updates), moments

    return jax.lax.fori_loop(0, DESCENT, step, (start, DESCENDING.init(start)))[0]


def _pairs(problem: AlignedProblem, center: Maps, adjoint: Anchored) -> Pairs:
    """All pairs near in the center, and those that some shifts make of the others."""
    from scipy.spatial import KDTree

    slices, components, _ = center.shape
    sizes, positions = np.asarray(problem.n_points), np.asarray(center)
    trees = [KDTree(y[:, :n].T) for y, n in zip(positions, sizes, strict=True)]
    near = [tree.count_neighbors(tree, adjoint.near) // 2 for tree in trees]
    edges = problem.neighbors.size + problem.mates.size
    most = slices * (max(near) + adjoint.n_shifts * int(sizes.max())) + edges
    numbers = (components**2 + 2 * components + 1) * center.dtype.itemsize + 16
    check_memory("near", int(most * numbers), adjoint.memory)
    shifts = draw_shifts(jax.random.key(0), problem.n_points, n_shifts=adjoint.n_shifts)
    kept = []
    for t, tree in enumerate(trees):
        all_near = tree.query_pairs(adjoint.near, output_type="ndarray")
        steps, weights = (np.asarray(leaf[t]) for leaf in shifts)
        heads = np.tile(np.arange(sizes[t]), len(steps))
        tails = (heads + np.repeat(steps, sizes[t])) % sizes[t]
        apart = np.linalg.norm(tree.data[heads] - tree.data[tails], axis=1)
        far = (apart > adjoint.near) & (heads != tails)
        pairs = np.vstack([all_near, np.stack([heads[far], tails[far]], axis=1)])
        counts = np.repeat(weights, sizes[t])[far]
        kept.append((pairs, np.concatenate([np.ones(len(all_near)), counts])))
    width = capacity_for(max(len(counts) for _, counts in kept))
    heads, tails = np.zeros((2, slices, width), np.int32)
    weights = np.zeros((slices, width))
    for t, (pairs, counts) in enumerate(kept):
        order = np.lexsort(pairs.T[::-1])  # neighbors in memory are read together
        heads[t, : len(pairs)], tails[t, : len(pairs)] = pairs[order].T
        weights[t, : len(pairs)] = counts[order]
    return Pairs(
        jnp.asarray(heads), jnp.asarray(tails), jnp.asarray(weights, center.dtype)
    )


def solve_minimum(
    adjoint: Implicit | Anchored,
    problem: AlignedProblem,
    params: LayoutParams,
    start: Maps,
) -> Solution:
    """The minimum that a search from the start leads to, with its derivative."""
    frozen: Any = jax.lax.stop_gradient((problem, params, start))
    check_start(frozen[2], params)
    made, begun = adjoint.at(*frozen)
    theta = made.theta(problem, params)
    at: Any = jax.lax.stop_gradient(theta)
    limits: Any = {"tolerance": adjoint.tolerance, "rtol": adjoint.rtol}
    found = find_minimum(at, begun, max_steps=adjoint.max_steps, **limits)
    found = jax.lax.stop_gradient(found)
    converged = found.slope < adjoint.tolerance
    point = found.point
    if adjoint.throw:
        raise_unless_minimum(adjoint, found)
        point = jnp.where(converged & (found.lowest > 0), point, jnp.nan)
    maps = following(point, theta, adjoint.rtol)
    return Solution(maps, found.slope, converged, found.lowest)


def check_start(start: Maps, params: LayoutParams) -> None:
    """Checks that a start is Euclidean, and finite where it is not traced."""
    if params.space is not None:
        got = f"lie in the space {params.space[0]!r}"
        raise InputError("params", got, "Euclidean maps", "Use Unrolled.")
    if not isinstance(start, Tracer) and not bool(jnp.isfinite(start).all()):
        raise InputError(
            "start", "has entries that are not finite", "a finished layout"
        )


def raise_unless_minimum(adjoint: Implicit | Anchored, found: Minimum) -> None:
    """Raises if a search ended elsewhere, where its results are not traced."""
    if isinstance(found.slope, Tracer):
        return
    ended, before = float(found.slope), float(found.before)
    if not ended < adjoint.tolerance:
        raise RuntimeError(
            f"the layout did not converge: the largest entry of its gradient is "
            f"{ended:.2g} after {int(found.steps)} steps and was {before:.2g} at the "
            f"settled start, above `tolerance`, {adjoint.tolerance:g}. Raise `settle`, "
            "`max_steps` or `tolerance`, or use double precision (jax_enable_x64), or "
            "Anchored."
        )
    raise_unless_positive(float(found.lowest))


def raise_unless_positive(lowest: float) -> None:
    """Raises if conjugate gradients met a direction without positive curvature."""
    if not lowest > 0:
        raise RuntimeError(
            f"the layout is a saddle: its loss has a curvature of {lowest:.2g} along a "
            "direction, so it has no derivatives. Lower `tolerance`, raise `settle`, "
            "or use Anchored with a larger `ridge`."
        )


def __getattr__(name: str) -> Any:
    """The functions that had their home here before version 0.2."""
    if name in ("graph_of", "reweigh", "solve_layout"):
        from aljax.layout import adjoint

        return getattr(adjoint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
