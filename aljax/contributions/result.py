"""An explanation: moves, cut into the parts that columns made."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from aljax.columns import as_column
from aljax.errors import optional
from aljax.export import axis_names

SHOWN = 5  # columns that a text shows


class Contributions(eqx.Module):
    """The share that each column of the data has in the moves of members of a map.

    `end - start` is the sum of `values` over the columns, `others` and `unexplained`.

    Attributes:
        members: The members' ids, or their rows.
        columns: The names of the columns, or their numbers.
        values: How far each column moved each member (map units).
        start: The members' places before: in the map of slice t, or where a row would
            lie that is the mean of the slice.
        end: The members' places after, in the map of slice u.
        others: How far they would have moved with their own data unchanged, because the
            others moved.
        lists: How much of the sum over columns came from rows that entered or left
            lists of neighbors.
        leaps: How much of that sum no derivative saw: members leap where the loss has
            several minima.  It is shared out by how much each column changed the loss
            at the end of the way, less that at its start.
        unexplained: The part of the leaps whose shares would cancel out.
        title: The names of the slices.
    """

    members: tuple[Any, ...] = eqx.field(static=True)
    columns: tuple[Any, ...] = eqx.field(static=True)
    values: Float[np.ndarray, "members columns components"]
    start: Float[np.ndarray, "members components"]
    end: Float[np.ndarray, "members components"]
    others: Float[np.ndarray, "members components"]
    lists: Float[np.ndarray, "members components"]
    leaps: Float[np.ndarray, "members components"]
    unexplained: Float[np.ndarray, "members components"]
    title: str = eqx.field(static=True)

    @property
    def moves(self) -> Float[np.ndarray, "members components"]:
        """The members' moves (map units)."""
        return self.end - self.start

    @property
    def along(self) -> Float[np.ndarray, "members columns"]:
        """The contributions along the members' moves (map units)."""
        moves = self.moves
        lengths = np.linalg.norm(moves, axis=1, keepdims=True)
        units = np.divide(moves, lengths, out=np.zeros_like(moves), where=lengths > 0)
        return np.einsum("mjc,mc->mj", self.values, units)

    def mean(self) -> "Contributions":
        """Returns the contributions to the mean move of all members, as of one."""
        count = len(self.members)
        mean = jax.tree.map(lambda leaf: leaf.mean(axis=0, keepdims=True), self)
        return replace(mean, members=(f"mean of {count}",)) if count > 1 else mean

    def order(self) -> np.ndarray:
        """Returns for each member its columns, those that moved it farthest first."""
        return np.argsort(-np.linalg.norm(self.values, axis=2), axis=1, kind="stable")

    def to_frame(self) -> Any:
        """Returns a table with a line for each member and column, far ones first.

        Its columns are member, column, x, y (z, or component_0, ... for maps of more),
        along (the part along the member's move) and length, in map units.

        Raises:
            ImportError: pandas is not installed.
        """
        pandas = optional("pandas", "frames")
        order = self.order()
        count, width, components = self.values.shape
        rows = np.repeat(np.arange(count), width), order.ravel()
        values = self.values[rows]
        names = as_column([*self.columns], "columns").astype(object)
        members = as_column([*self.members], "members").astype(object)
        table = {"member": members[rows[0]], "column": names[rows[1]]}
        table |= dict(zip(axis_names(components), values.T, strict=True))
        table |= {"along": self.along[rows], "length": np.linalg.norm(values, axis=1)}
        return pandas.DataFrame(table).infer_objects()

    def __repr__(self) -> str:
        mean = self.mean()
        length = np.linalg.norm(mean.moves)
        named = (
            self.members[0]
            if len(self.members) == 1
            else f"{len(self.members)} members"
        )
        names, bars = bars_of(mean, 0, SHOWN)
        count = min(SHOWN, len(self.columns))
        names[count:] = [f"({name})" for name in names[count:]]
        lines = [f"Contributions: {named}, {self.title}, move {length:.3g}, of it"]
        pairs = zip(names, bars, strict=True)
        lines += [f"  {bar:+.3g}  {name}" for name, bar in pairs]
        return "\n".join(lines)


def bars_of(
    contributions: Contributions, member: int, n_columns: int
) -> tuple[list[str], np.ndarray]:
    """Returns the names and lengths of one member's bars, along its move."""
    first, rest = np.split(contributions.order()[member], [n_columns])
    along, move = contributions.along[member], contributions.moves[member]
    unit = move / (np.linalg.norm(move) or 1.0)
    names, bars = [str(contributions.columns[j]) for j in first], [*along[first]]
    if rest.size:
        names.append(f"{rest.size} other columns")
        bars.append(along[rest].sum())
    names += ["other members", "unexplained"]
    beside = contributions.others[member], contributions.unexplained[member]
    return names, np.array([*bars, *(remainder @ unit for remainder in beside)])
