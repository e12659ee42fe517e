"""What a layout leaves: a sequence of maps, with all that led to them."""

import dataclasses
import numbers
import os
from collections.abc import Hashable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from aljax.columns import RowValues, per_row
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.errors import instance, optional, slice_name
from aljax.files import check_parts, read, write
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import Rows
from aljax.graph.slices import dense_only
from aljax.inverse import Reconstruction, inverse_trajectory, inverse_transform_at
from aljax.layout.losses import LossTerms
from aljax.layout.problem import LayoutParams
from aljax.relations.mates import Relations
from aljax.relations.read import SliceIds

AXES = ("x", "y", "z")
OWN = ("slice", "row", "id", "label")


class AlignedEmbedding(eqx.Module):
    """A sequence of maps that stay comparable, and all that led to them.

    Attributes:
        maps: For each slice its map, in the order of the rows given.
        graphs: For each slice its fuzzy graph.
        relations: The mates between slices, in the rows of the user.
        data: Each slice's data; None where only its graph, neighbours or distances
            were given.
        params: The settings that change no shape, a value for each slice.
        history: The loss terms of every tenth epoch, `(epochs, slices)`, of the
            layout that made these maps: of `fit`, or of the slices that the last
            `update` touched.
        seconds: How long each stage took, compilation included.
        pinned: For each slice which rows stay where they are, if any.
        point_weights: For each slice how strongly its rows pull, if not all alike.
        ids: For each slice its rows' ids, if relations were given so.
        slice_labels: What the slices are called, if they have names.
        graph: The settings of the graphs.
        layout: The settings of the layout.
        alignment: The settings of the alignment.
    """

    maps: list[Float[np.ndarray, "_ components"]]
    graphs: list[FuzzyGraph]
    relations: Relations
    data: list[Rows | None]
    params: LayoutParams
    history: LossTerms
    seconds: dict[str, float]
    pinned: list[np.ndarray | None]
    point_weights: list[np.ndarray | None]
    ids: tuple[SliceIds, ...] | None = eqx.field(static=True)
    slice_labels: tuple[Hashable, ...] | None = eqx.field(static=True)
    graph: GraphConfig = eqx.field(static=True)
    layout: LayoutConfig = eqx.field(static=True)
    alignment: AlignmentConfig = eqx.field(static=True)

    def slices(self) -> list[Float[np.ndarray, "_ components"]]:
        """The maps, `(points, components)` each, in the order of the rows given."""
        return list(self.maps)

    def slice_name(self, t: int) -> str:
        """A slice's index, and its label if it has one."""
        return slice_name(t, self.slice_labels)

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
        parts = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        write(path, "AlignedEmbedding", parts | {"data": kept})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "AlignedEmbedding":
        """Read a model that `save` wrote, bit for bit.

        Raises:
            ValueError: No such file, or one that is truncated, altered, of a newer
                format or of parts that do not fit each other.
        """
        parts = read(path, "AlignedEmbedding")
        check_parts(parts, path)
        return cls(**parts)

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
        return to_anndata(frame, dense_only(self.data), self.maps[0].shape[1])

    def index(self, slice: int) -> int:  # noqa: A002
        """The index of a slice, counted from the end where negative.

        Raises:
            ValueError: There is no such slice.
        """
        count = len(self.maps)
        whole = isinstance(slice, numbers.Integral) and not isinstance(slice, bool)
        if not whole or not -count <= slice < count:
            raise ValueError(
                f"`slice` is {slice!r}; expected a slice's index from {-count} to "
                f"{count - 1}."
            )
        return int(slice) % count

    def data_of(self, t: int, asker: str) -> Rows:
        """A slice's data.

        Raises:
            ValueError: They are not known.
        """
        data = self.data[t]
        if data is None:
            raise ValueError(
                f"`{asker}` needs the data of {self.slice_name(t)}, which was given as "
                "neighbours, a graph or distances, or saved without; fit or load it "
                "with its data."
            )
        return data

    def inverse_transform(
        self,
        queries: Any,
        *,
        slice: float = -1,  # noqa: A002
        **options: Any,
    ) -> Reconstruction:
        """Data for positions in the frame of a slice, or between two.

        Args:
            queries: Positions, `(queries, components)`.
            slice: Which (negative counts from the end), or a fraction between two,
                where what both make of a position is blended.
            options: `method`, `n_neighbors`, `bounds`, `refine_steps` as in
                `aljax.inverse_transform`.

        Raises:
            ValueError: As `aljax.inverse_transform` does; or a slice outside of the
                sequence.
        """
        bound = self._inverse_options() | options
        return inverse_transform_at(
            queries, self.slices(), self.data, slice=slice, **bound
        )

    def inverse_trajectory(self, queries: Any, **options: Any) -> list[Reconstruction]:
        """What stands at the same positions in every slice, in their order.

        Args:
            queries: Positions, `(queries, components)`.
            options: As in `inverse_transform`.

        Raises:
            ValueError: As `aljax.inverse_transform` does.
        """
        bound = self._inverse_options() | options
        return inverse_trajectory(queries, self.slices(), self.data, **bound)

    def _inverse_options(self) -> dict[str, Any]:
        return {"a": self.params.a, "b": self.params.b, "metric": self.graph.metric}


def check_fitted(fitted: Any) -> None:
    """Refuse what is no sequence of maps."""
    remedy = "what `aljax.fit` returns, or an estimator's `maps_`"
    instance("fitted", fitted, AlignedEmbedding, remedy)


def to_frame(
    maps: Sequence[Float[np.ndarray, "_ components"]],
    *,
    ids: RowValues | None = None,
    labels: RowValues | None = None,
    **columns: RowValues,
) -> Any:
    """One long table: a line for each point of each slice.

    Write it with `.to_parquet("maps.parquet")` or `.to_csv("maps.csv", index=False)`.

    Args:
        maps: One map for each slice.
        ids: For each slice its rows' ids; kept out of the table where None.
        labels: For each slice its rows' labels; likewise.
        columns: More of that kind, by name.

    Returns:
        A pandas `DataFrame` with the columns slice, row, id, label, x, y, (z, or
        component_0, component_1, ... for maps of more), then the others.

    Raises:
        ValueError: Values that do not fit the slices, or a name that is taken.
        ImportError: pandas is not installed.
    """
    pandas = optional("pandas", "frames")
    sizes = [len(one) for one in maps]
    components = maps[0].shape[1]
    axes = _axes(components)
    for name in columns:
        if name in (*OWN, *axes):
            raise ValueError(f"`{name}` is a column of the table already; rename it.")
    table: dict[str, np.ndarray] = {
        "slice": np.repeat(np.arange(len(sizes)), sizes),
        "row": np.concatenate([np.arange(size) for size in sizes]),
    }
    for name, argument, values in (("id", "ids", ids), ("label", "labels", labels)):
        if values is not None:
            table[name] = _joined(per_row(argument, values, sizes))
    table |= dict(zip(axes, np.concatenate(maps).T, strict=True))
    for name, values in columns.items():
        table[name] = _joined(per_row(name, values, sizes))
    return pandas.DataFrame(table)


def _joined(columns: Sequence[np.ndarray]) -> np.ndarray:
    """One column of all slices; NumPy would make text of numbers beside text."""
    numeric = {one.dtype.kind in "biuf" for one in columns}
    if len(numeric) > 1:
        columns = [one.astype(object) for one in columns]
    return np.concatenate(columns)


def to_anndata(frame: Any, data: Sequence[np.ndarray | None], components: int) -> Any:
    """The points of all slices as one `AnnData`, for single-cell tools.

    Args:
        frame: What `to_frame` made of the maps.
        data: Each slice's data; left out where any is missing or where their columns
            differ in number.
        components: Dimensions of the maps.

    Returns:
        An `AnnData` with the data in `X`, the positions in `obsm["X_umap"]`, and
        everything else in `obs`.

    Raises:
        ImportError: anndata is not installed.
    """
    anndata = optional("anndata", "anndata")
    axes = [*_axes(components)]
    known = [one for one in data if one is not None]
    same = len(known) == len(data) and len({one.shape[1] for one in known}) == 1
    obs = frame.drop(columns=axes).astype({"slice": "category"})
    obs.index = [
        f"{t}-{row}" for t, row in zip(frame["slice"], frame["row"], strict=True)
    ]
    return anndata.AnnData(
        X=np.concatenate(known) if same else None,
        obs=obs,
        obsm={"X_umap": frame[axes].to_numpy()},
    )


def _axes(components: int) -> tuple[str, ...]:
    if components > len(AXES):
        return tuple(f"component_{i}" for i in range(components))
    return AXES[:components]
