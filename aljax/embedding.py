"""What a layout leaves: a sequence of maps, with all that led to them."""

import dataclasses
import os
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.exports import RowValues, to_anndata, to_frame
from aljax.graph.relations import Relations
from aljax.io import read, write
from aljax.layout.losses import LossTerms
from aljax.layout.problem import AlignedProblem, LayoutParams, unstack_maps


class AlignedEmbedding(eqx.Module):
    """A sequence of maps that stay comparable, and all that led to them.

    Attributes:
        maps: The maps, padded and shuffled; `slices()` gives them in the order given.
        problem: The graphs and mates that the maps were fitted to.
        params: The settings that change no shape.
        history: The loss terms of every tenth epoch, `(epochs, slices)`.
        relations: The mates between slices, in the rows of the user.
        data: Each slice's data; None where only its graph was given.
        seconds: How long each stage took, compilation included.
        graph: The settings of the graphs.
        layout: The settings of the layout.
        alignment: The settings of the alignment.
    """

    maps: Float[Array, "slices components points"]
    problem: AlignedProblem
    params: LayoutParams
    history: LossTerms
    relations: Relations
    data: list[np.ndarray | None]
    seconds: dict[str, float]
    graph: GraphConfig = eqx.field(static=True)
    layout: LayoutConfig = eqx.field(static=True)
    alignment: AlignmentConfig = eqx.field(static=True)

    def slices(self) -> list[Float[np.ndarray, "_ components"]]:
        """The maps, `(points, components)` each, in the order of the rows given."""
        return unstack_maps(self.maps, self.problem)

    def save(self, path: str | os.PathLike[str], *, with_data: bool = True) -> None:
        """Write the model to a file: arrays and JSON, whole or not at all.

        Args:
            path: Where, as in "maps.aljax"; a file that is there is replaced.
            with_data: Whether the data go along.  Without them the file is small and
                gives no row away, but cannot place new rows or map positions back.

        Raises:
            ValueError: A place that cannot be written.
        """
        kept = self.data if with_data else [None] * len(self.data)
        write(path, dataclasses.replace(self, data=kept))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "AlignedEmbedding":
        """Read a model that `save` wrote, bit for bit.

        Raises:
            ValueError: No such file, or one that is truncated, altered or of a newer
                format.
        """
        return read(path, cls)

    def to_frame(
        self,
        *,
        ids: RowValues | None = None,
        labels: RowValues | None = None,
        **columns: Any,
    ) -> Any:
        """All points as one long table: see `aljax.exports.to_frame`."""
        return to_frame(self.slices(), ids=ids, labels=labels, **columns)

    def to_anndata(
        self,
        *,
        ids: RowValues | None = None,
        labels: RowValues | None = None,
        **columns: Any,
    ) -> Any:
        """All points and their data: see `aljax.exports.to_anndata`."""
        frame = self.to_frame(ids=ids, labels=labels, **columns)
        return to_anndata(frame, self.data)
