"""The grid of map positions that a run reads back as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DIAGONALS = np.array([[-1, 1], [1, 1], [-1, -1], [1, -1]])  # read as a page is
SHARE = 0.97  # of the points lie nearer to the middle than a corner


@dataclass(frozen=True)
class InverseGrid:
    """A grid between four corners.

    Attributes:
        grid: Positions along each side (2 to 20).
        corners: Four positions, from the upper left by row; None takes points of the
            map far out along its diagonals.
    """

    grid: int = 10
    corners: Sequence[Sequence[float]] | None = None


def read_grid(given: Any) -> InverseGrid | None:
    """The section `inverse` of the settings.

    Raises:
        ValueError: An unknown name, a size out of range, corners that are not four.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping) or not {*given} <= {"grid", "corners"}:
        raise ValueError(
            f"`inverse` is {given!r}; expected null, or its settings `grid` and "
            "`corners`, as in inverse={grid: 10}."
        )
    read = InverseGrid(**given)
    if type(read.grid) is not int or not 2 <= read.grid <= 20:
        raise ValueError(
            f"`inverse.grid` is {read.grid!r}; expected a whole number from 2 to 20."
        )
    if read.corners is not None:
        try:
            shape = np.asarray(read.corners, float).shape
        except (TypeError, ValueError):
            shape = ()
        if shape != (4, 2):
            raise ValueError(
                f"`inverse.corners` is {read.corners!r}; expected four positions "
                "[x, y] in the map, from the upper left by row."
            )
    return read


def positions(grid: InverseGrid, plane: np.ndarray) -> np.ndarray:
    """The grid's positions, by row, blended linearly between its corners.

    Source: the example of umap-learn's tutorial on inverse transforms.
    """
    if grid.corners is None:
        last = int(SHARE * (len(plane) - 1))
        apart = (plane - plane.mean(axis=0)) @ DIAGONALS.T
        corners = plane[np.argsort(apart, axis=0)[last]]
    else:
        corners = np.asarray(grid.corners, float)
    shares = np.linspace(0, 1, grid.grid)
    down, right = (
        one.ravel()[:, None] for one in np.meshgrid(shares, shares, indexing="ij")
    )
    upper = (1 - right) * corners[0] + right * corners[1]
    lower = (1 - right) * corners[2] + right * corners[3]
    return (1 - down) * upper + down * lower
