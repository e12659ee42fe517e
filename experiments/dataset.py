"""What every source of data makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """A sequence of slices, how they relate, and what is known about their rows.

    Attributes:
        slices: The data, `(points, features)` each.
        relations: For each pair of consecutive slices {row of t: row of t+1}.
        ids: For each slice its rows' members: the same id in two slices is the same
            member.
        titles: A few words on each slice.
        labels: For each slice a label for each row, if there are any.
    """

    slices: Sequence[np.ndarray]
    relations: Sequence[Mapping[int, int]]
    ids: Sequence[np.ndarray]
    titles: Sequence[str]
    labels: Sequence[np.ndarray] | None = None
