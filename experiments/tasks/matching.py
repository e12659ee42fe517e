"""Rows that are the same members in all slices: some link them, others judge maps."""

from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from aljax.metrics import displacement
from aljax.relations.mates import Mates
from experiments.tasks.training import Rows


def same(rows: Int[np.ndarray, " rows"]) -> dict[int, int]:
    """Returns the relation of two slices in which these rows are the same members."""
    return dict(zip(rows.tolist(), rows.tolist(), strict=True))


def apart(maps: Rows, rows: Int[Array, " rows"]) -> Float[Array, ""]:
    """Returns mates' mean squared distance by the maps' mean squared radius.

    Mates are the same rows of consecutive maps.
    """
    squared = [jnp.sum((y[rows] - z[rows]) ** 2, axis=1) for y, z in pairwise(maps)]
    radii = [jnp.mean(jnp.sum((y - y.mean(axis=0)) ** 2, axis=1)) for y in maps]
    return jnp.mean(jnp.stack(squared)) / jnp.mean(jnp.stack(radii))


class Matching(NamedTuple):
    """Batches of rows that are the same members in all slices.

    Half of those that are known link the slices, and the others judge the maps; which
    half it is, is drawn anew for each search.
    """

    known: Int[np.ndarray, " known"]
    hidden: Int[np.ndarray, " hidden"]
    seed: int
    slices: int = 2

    @classmethod
    def split(cls, rows: int, seed: int, slices: int = 2) -> "Matching":
        """Returns one that knows half of the rows."""
        order = np.random.default_rng(seed).permutation(rows)
        known, hidden = np.split(order, [rows // 2])
        return cls(known, hidden, seed, slices)

    def __call__(self, search: int) -> tuple[list[dict[int, int]], Array]:
        """Returns the links of the slices, and the rows that judge the maps."""
        shuffled = np.random.default_rng([self.seed, search]).permutation(self.known)
        linked, judged = np.split(shuffled, [len(shuffled) // 2])
        return [same(linked)] * (self.slices - 1), jnp.asarray(judged)

    def displacement(self, maps: list[np.ndarray]) -> float:
        """Returns the displacement of hidden mates, in radii of the maps."""
        mates = Mates(self.hidden, self.hidden, np.ones(len(self.hidden)))
        return displacement(maps, {(t, 1): mates for t in range(self.slices - 1)})

    @property
    def links(self) -> list[dict[int, int]]:
        """The relations of all rows that are known."""
        return [same(self.known)] * (self.slices - 1)
