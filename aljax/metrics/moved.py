"""Moves that are real: how much farther members go than if their data stood still.

    W = |y(t+1) - y(t)| free - |y(t+1) - y(t)| held,    called where W >= T,
    T = the least T with (1 + #{W <= -T}) / #{W >= T} <= q

Members that stand still are dragged by those that move, alike under every key, so the
null is made, not assumed: each step is held still once, its data replaced by those
before it, with all else alike.  Every layout holds the even steps of a part of the
members and the odd steps of another part, and the rest, who meet as many held members,
are free.  A step of a member that stands still has the same data in all layouts: its W
is as often below 0 as above.
"""

import math
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from aljax.checks import number, one_of
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError, instance, optional
from aljax.keys import check_key, seeds
from aljax.layout.spaces import distances
from aljax.metrics.held import (
    Steps,
    differences,
    hold,
    joined,
    laid_out,
    steps_of,
    weighted,
)
from aljax.metrics.motion import in_radii
from aljax.relations.mates import Members, members_by_id, members_by_relations

FEWEST = 3  # replicas: two hold a member, and in the others it is free


class Calls(NamedTuple):
    """Members, or steps, that are said to have moved.

    Attributes:
        statistic: How much farther each goes free than held, in radii of the maps; of a
            member the sum over its steps, NaN if it is in no two consecutive slices.
        called: Whether that is more than chance leaves, at the rate asked for.
    """

    statistic: Float[np.ndarray, "_"]
    called: Bool[np.ndarray, "_"]


class Moves(eqx.Module):
    """The result of `moved`: the members that moved, and the steps in which they did.

    Attributes:
        members: Of each member whether it moved at all.
        steps: Of each step, a member in slices t and t + 1, whether it moved there.
        step: The steps' earlier slices.
        member: The steps' members, as places in `members`.
        names: The members' ids, or the slices and rows in which they are first met.
        codes: For each slice its rows' members, as places in `members`.
        q: The false discovery rate that was asked for, of members and of steps.
    """

    members: Calls
    steps: Calls
    step: Int[np.ndarray, "steps"]
    member: Int[np.ndarray, "steps"]
    names: tuple[Any, ...] = eqx.field(static=True)
    codes: list[Int[np.ndarray, "_"]]
    q: float = eqx.field(static=True)

    def rows(self) -> list[Bool[np.ndarray, "_"]]:
        """Returns for each slice which of its rows are of members that moved."""
        return [self.members.called[code] for code in self.codes]

    def to_frame(self, of: Literal["members", "steps"] = "members") -> Any:
        """Returns a pandas frame with a line for each member, or for each step.

        Its columns are (step, for steps, the earlier slice,) member, statistic and
        called.  Members that are in no two consecutive slices are left out.
        """
        one_of("members", "steps")("of", of)
        pandas = optional("pandas", "frames")
        listed = np.flatnonzero(np.isfinite(self.members.statistic))
        calls: Calls = getattr(self, of)
        members = listed
        columns: dict[str, Any] = {}
        if of == "steps":
            members, listed = self.member, np.arange(len(self.member))
            columns["step"] = self.step
        columns["member"] = [self.names[code] for code in members]
        columns |= {name: x[listed] for name, x in calls._asdict().items()}
        return pandas.DataFrame(columns)

    def __repr__(self) -> str:
        counts = [
            f"{calls.called.sum():,} of {np.isfinite(calls.statistic).sum():,} {kind}"
            for kind, calls in (("members", self.members), ("steps", self.steps))
        ]
        return f"Moves: {' and '.join(counts)} moved, at a false rate of {self.q:g}"


def moved(
    maps: Any,
    *,
    key: jax.Array | None = None,
    q: float = 0.1,
    replicas: int = 8,
    noise: Any = None,
) -> Moves:
    """Says which members moved, and in which steps, at a false discovery rate of q.

    Each replica costs a fit.  The statistic is the module's W, and its threshold that
    of the knockoff filter.  Only data can tell motion from rest: slices whose rows are
    measured with noise all move, unless the noise is told.

    Args:
        maps: A fitted estimator or an `AlignedEmbedding`, of slices with the same
            columns.  Graphs are built of the data anew: neighbors, `y` or an optimizer
            that the fit was given are not in the model.
        key: Draws who is held when, and lays the replicas out.
        q: The share of the called that may be called wrongly (above 0, below 1).
        replicas: Layouts (at least 3).  More hold fewer members at once.
        noise: The standard deviation of what a row's values vary by though its member
            stands still, in the units of the data (at least 0): a number, or one for
            each column.  "estimate" draws it from the steps below the median, as most
            have to be of members that stand still; None for data without noise.

    Returns:
        Members and steps with their statistics, and which are called.

    Raises:
        InputError: `maps` has one slice, no member in two consecutive slices, fewer of
            them than the threshold takes, no data, or slices of different columns; or
            an argument is out of range.

    Source: the threshold is knockoff+ of Barber & Candès (2015), "Controlling the false
        discovery rate via knockoffs", Annals of Statistics 43.  W is our own.
    """
    maps = getattr(maps, "maps_", maps)  # an estimator's
    instance("maps", maps, AlignedEmbedding, "the result of `aljax.fit`")
    number(FEWEST, whole=True)("replicas", replicas)
    number(0, high=1, open_low=True)("q", q)
    if q == 1:
        raise InputError("q", "is 1", "a share above 0 and below 1")
    key = check_key(key)
    rows = joined(maps)
    sizes = [*map(len, maps.maps)]
    if maps.ids is None:
        members = members_by_relations(maps.relations, sizes)
    else:
        members = members_by_id(maps.ids, sizes)
    steps = steps_of(members)
    _check_enough(steps, q)
    rng = np.random.default_rng(seeds(key, 3)[-1])  # two are the layouts'
    group = rng.permutation(len(members.names)) % replicas
    even = steps.step % 2 == 0
    run = (group[steps.member] - ~even) % replicas  # the replica that holds a step
    noises = differences(noise, rows, steps, maps, rng)
    kept = weighted(maps)
    lengths = []
    for k in range(replicas):
        data = hold(rows, steps, run == k, noises)
        positions = np.concatenate(laid_out(maps, data, key, kept))
        ends = positions[steps.before], positions[steps.after]
        lengths.append(distances(*ends, maps.params.space))
    excess = in_radii(_excess(np.array(lengths), run, even), maps.maps)
    return _moves(excess, steps, members, maps, q)


def _excess(
    lengths: Float[np.ndarray, "replicas steps"],
    run: Int[np.ndarray, "steps"],
    even: Bool[np.ndarray, "steps"],
) -> Float[np.ndarray, "steps"]:
    """Returns the median excess of steps' lengths, their members free, over held.

    A member's other steps are held in the replica before, or after.  The median of
    lengths, which are skewed, is as often above as below another length.
    """
    each, free = np.arange(len(run)), lengths.astype(float)
    held = free[run, each]
    free[run, each] = np.nan
    free[(run + np.where(even, -1, 1)) % len(lengths), each] = np.nan
    return np.nanmedian(free, axis=0) - held


def _moves(
    excess: np.ndarray, steps: Steps, members: Members, maps: AlignedEmbedding, q: float
) -> Moves:
    count = len(members.names)
    total = np.bincount(steps.member, excess, count)
    total[np.bincount(steps.member, minlength=count) == 0] = np.nan
    names: dict[int, Any] = dict(enumerate(members.names))
    for code, ids in zip(members.codes, maps.ids or (), strict=bool(maps.ids)):
        names |= dict(zip(code.tolist(), ids, strict=True))
    return Moves(
        members=Calls(total, call(total, q)),
        steps=Calls(excess, call(excess, q)),
        step=steps.step,
        member=steps.member,
        names=tuple(names.values()),
        codes=members.codes,
        q=q,
    )


def call(statistic: Float[np.ndarray, "_"], q: float) -> Bool[np.ndarray, "_"]:
    """Returns which statistics reach the threshold of knockoff+; NaN never does.

    It is the least T > 0 with (1 + #{W <= -T}) / #{W >= T} <= q; none may be.
    """
    ordered = np.sort(statistic[np.isfinite(statistic)])
    sizes = np.unique(np.abs(ordered[ordered != 0]))
    above = len(ordered) - np.searchsorted(ordered, sizes)
    below = np.searchsorted(ordered, -sizes, side="right")
    fits = 1 + below <= q * above
    return statistic >= (sizes[fits][0] if fits.any() else np.inf)


def _check_enough(steps: Steps, q: float) -> None:
    """Checks that the threshold can be reached if all members move."""
    count, least = len(np.unique(steps.member)), math.ceil(1 / q - 1e-9)
    if not count:
        got = "has no member in two consecutive slices, so none moves"
        raise InputError("maps", got, "slices that share members")
    if count < least:
        got = f"has {count} members in two consecutive slices"
        remedy = "A larger `q` takes fewer."
        raise InputError("maps", got, f"at least {least}, for 1 / q are called", remedy)
