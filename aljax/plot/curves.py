"""Motion between slices: each member's smooth path through the maps it is in.

Between the slices t and t + 1, with u = time - t, the path is the cubic

    y(t + u) = h00 y_t + h10 m_t + h01 y_(t+1) + h11 m_(t+1)

(Hermite's basis) with slopes m_t = (y_(t+1) - y_(t-1)) / 2, one-sided at the ends of
a member's stay.  It meets every map exactly, and a slice without the member ends it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from aljax.plot.given import Map, Members


class Tracks(NamedTuple):
    """Where each member is in each slice; NaN where it is not.

    Attributes:
        positions: `(slices, members, components)`.
        slopes: The path's derivative there, per slice.
    """

    positions: Float[np.ndarray, "slices members components"]
    slopes: Float[np.ndarray, "slices members components"]

    def at(self, time: float) -> Float[np.ndarray, "members components"]:
        """Positions at a time from 0 to slices - 1; NaN in gaps."""
        t = min(int(time), max(len(self.positions) - 2, 0))
        u = time - t
        if u == 0:
            return self.positions[t]
        if u == 1:
            return self.positions[t + 1]
        return (
            (2 * u**3 - 3 * u**2 + 1) * self.positions[t]
            + (u**3 - 2 * u**2 + u) * self.slopes[t]
            + (3 * u**2 - 2 * u**3) * self.positions[t + 1]
            + (u**3 - u**2) * self.slopes[t + 1]
        )

    def fading(
        self, time: float
    ) -> tuple[Float[np.ndarray, "members components"], Float[np.ndarray, "members"]]:
        """Positions, and opacity (0 to 1): who leaves or comes fades where it is."""
        t = min(int(time), max(len(self.positions) - 2, 0))
        u, where = time - t, self.at(time)
        here = np.isfinite(self.positions[t, :, 0])
        there = np.isfinite(self.positions[min(t + 1, len(self.positions) - 1), :, 0])
        opacity = here * (1.0 - u) + there * u
        where = np.where((here & ~there)[:, None], self.positions[t], where)
        ends = self.positions[min(t + 1, len(self.positions) - 1)]
        return np.where((there & ~here)[:, None], ends, where), opacity


def track(maps: Sequence[Map], members: Members) -> Tracks:
    """The members' paths through a sequence of maps."""
    components = maps[0].shape[1]
    positions = np.full((len(maps), len(members.names), components), np.nan)
    for t, (one, codes) in enumerate(zip(maps, members.codes, strict=True)):
        positions[t, codes] = one
    nothing = np.full_like(positions[:1], np.nan)
    before = positions - np.concatenate([nothing, positions[:-1]])
    after = np.concatenate([positions[1:], nothing]) - positions
    only = np.where(np.isnan(before), after, before)
    slopes = np.where(np.isnan(before + after), only, (before + after) / 2)
    return Tracks(positions, slopes)
