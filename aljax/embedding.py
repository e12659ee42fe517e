"""The result of a layout: a sequence of maps, with all that led to them."""

import base64
import dataclasses
import html
import io
import numbers
import os
from collections.abc import Hashable
from functools import cached_property
from reprlib import repr as brief
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from aljax.columns import RowValues, find_label, plain_label
from aljax.config import (
    AlignmentConfig,
    GraphConfig,
    InverseConfig,
    LayoutConfig,
    number,
    of_slices,
)
from aljax.consistency import check_parts
from aljax.errors import InputError, in_words, slice_name, warn
from aljax.export import to_anndata, to_frame
from aljax.files import read, write
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import Rows, as_floats
from aljax.inverse.reconstruct import Reconstruction, blend
from aljax.layout.losses import LossTerms
from aljax.layout.problem import LayoutParams
from aljax.relations.mates import Relations
from aljax.relations.read import SliceIds
from aljax.scaling import Scaling, Units
from aljax.transform import Frame, Placement

SHOWN = 8  # slices that a text or picture of a model shows
DRAWN = 2000  # points of a slice that its picture shows


class Record(eqx.Module):
    """All that leads to a sequence of maps; `Prepared` and `AlignedEmbedding` have it.

    Attributes:
        graphs: For each slice its fuzzy graph.
        relations: The mates between slices, in the rows of the user.
        data: Each slice's data, without gaps and in the units of `scaling`, as its
            graph was made of them; None where only its graph, neighbors or distances
            are known.
        params: The settings that change no shape, a value for each slice.
        seconds: How long each stage took, compilation included.
        pinned: For each slice which rows stay where they are, if any.
        point_weights: For each slice how strongly its rows pull, if not all alike.
        ids: For each slice its rows' ids, if relations were given so.
        slice_labels: The slices' labels, such as years, if they have any.
        columns: For each slice the names of its columns, if it was a frame.
        coordinates: The center and unit of the layout in the user's coordinates, if
            pinned rows have others than the layout; maps are in the user's.
        scaling: The units of the data's columns and what fills their gaps, if `fit`
            was asked for them.
        graph: The settings of the graphs.
        layout: The settings of the layout.
        alignment: The settings of the alignment.
    """

    graphs: list[FuzzyGraph]
    relations: Relations
    data: list[Rows | None]
    params: LayoutParams
    seconds: dict[str, float]
    pinned: list[np.ndarray | None]
    point_weights: list[np.ndarray | None]
    ids: tuple[SliceIds, ...] | None = eqx.field(static=True)
    slice_labels: tuple[Hashable, ...] | None = eqx.field(static=True)
    graph: GraphConfig = eqx.field(static=True)
    layout: LayoutConfig = eqx.field(static=True)
    alignment: AlignmentConfig = eqx.field(static=True)
    columns: tuple[tuple[Hashable, ...] | None, ...] | None = eqx.field(
        static=True, default=None, kw_only=True
    )
    coordinates: Units | None = eqx.field(default=None, kw_only=True)
    scaling: Scaling | None = eqx.field(default=None, kw_only=True)

    def record(self) -> dict[str, Any]:
        """Returns these attributes by name."""
        names = [field.name for field in dataclasses.fields(Record)]
        return {name: getattr(self, name) for name in names}

    def slice_name(self, t: int | np.integer) -> str:
        """Returns a slice's index, and its label if it has one."""
        return slice_name(int(t), self.slice_labels)


class AlignedEmbedding(Record):
    """A sequence of maps that stay comparable, with the attributes of a `Record`.

    Attributes:
        maps: For each slice its map, in the order of the rows given.
        history: The loss terms of every tenth epoch, `(epochs, slices)`, of the
            layout that made these maps: of `fit`, or of the slices that the last
            `update` touched.
    """

    maps: list[Float[np.ndarray, "_ components"]]
    history: LossTerms

    def slices(self) -> list[Float[np.ndarray, "_ components"]]:
        """Returns the maps, `(points, components)`, in the order of the rows given."""
        return list(self.maps)

    def parts(self, *, with_data: bool) -> dict[str, Any]:
        """Returns all attributes by name.  Deprecated."""
        message = (
            "`AlignedEmbedding.parts` is deprecated: use `save`, or the attributes."
        )
        warn(message, DeprecationWarning)
        return parts_of(self, with_data=with_data)

    def save(self, path: str | os.PathLike[str], *, with_data: bool = True) -> None:
        """Writes the model to a file: arrays and JSON, whole or not at all.

        Args:
            path: The file, as in "maps.aljax"; one that is there is replaced.
            with_data: Saves the data, too.  Without them the file is small and
                gives no row away, but cannot place new rows or map positions back.

        Raises:
            InputError: The place cannot be written.
        """
        write(path, "AlignedEmbedding", parts_of(self, with_data=with_data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "AlignedEmbedding":
        """Reads a model that `save` wrote, bit for bit.

        Args:
            path: The file, or the folder of a run, which has `maps.aljax`.

        Raises:
            InputError: There is no such file, or it is truncated, altered, of a newer
                format or of parts that do not fit each other.
        """
        parts = read(path, "AlignedEmbedding")
        check_parts(parts, path)
        return cls(**parts)

    def frame(self, slice: Any = -1) -> Frame:  # noqa: A002
        """Returns one slice, held ready for new rows and for positions in its map.

        A frame is made once for each slice: later calls are fast.  It does not see
        changes that are made to the model's arrays in place.

        Raises:
            InputError: The slice does not exist.
        """
        t = self.index(slice)
        kept = t, bool(jax.config.read("jax_enable_x64"))
        if kept not in self._frames:
            self._frames[kept] = Frame(
                positions=self.maps[t],
                data=self.data[t],
                fuzzy=self.graphs[t],
                params=jax.tree.map(
                    lambda leaf: as_floats(np.asarray(leaf)[t]) if leaf.ndim else leaf,
                    self.params,
                ),
                graph=of_slices(self.graph, t, len(self.maps)),
                name=self.slice_name(t),
                columns=None if self.columns is None else self.columns[t],
                coordinates=self.coordinates,
                scaling=None if self.scaling is None else self.scaling.columns[t],
            )
        return self._frames[kept]

    @cached_property
    def _frames(self) -> dict[tuple[int, bool], Frame]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the frames out of pickles and copies."""
        return {name: value for name, value in vars(self).items() if name != "_frames"}

    def transform(
        self,
        rows: Any,
        slice: Any = -1,  # noqa: A002
    ) -> Float[np.ndarray, "queries components"]:
        """Returns unseen rows' places in the map of a slice: see `aljax.transform`."""
        return self.frame(slice).transform(rows)

    def place(
        self,
        rows: Any,
        slice: Any = -1,  # noqa: A002
    ) -> Placement:
        """Returns unseen rows' places and how sure they are: see `aljax.place`."""
        return self.frame(slice).place(rows)

    def update(
        self,
        new_slice: Any,
        relations: Any,
        *,
        key: jax.Array | None = None,
        **options: Any,
    ) -> "AlignedEmbedding":
        """Returns the sequence with one more slice: see `aljax.update`."""
        from aljax.update import update

        return update(self, new_slice, relations, key=key, **options)

    def index(self, slice: Any) -> int:  # noqa: A002
        """Returns the index of a slice: counted from the end where negative.

        Args:
            slice: An index, or else a slice's label: itself, or its text, such as
                "2023-04-01" of a time.  A number within the sequence is an index: of
                the months 1 to 12, 3 is the fourth and "3" the third.

        Raises:
            InputError: The slice does not exist; a remedy suggests the nearest label.
        """
        slice = plain_label(slice)  # noqa: A001
        index = isinstance(slice, numbers.Integral) and self._is_position(slice)
        if self.slice_labels is not None and not index:
            return find_label(slice, self.slice_labels)
        count = len(self.maps)
        number(-count, high=count - 1, whole=True)("slice", slice)
        return int(slice) % count

    def _is_position(self, value: Any) -> bool:
        """Tells if a value is a number within the sequence, which no label can be."""
        count, real = len(self.maps), isinstance(value, numbers.Real)
        return real and not isinstance(value, bool) and -count <= value <= count - 1

    def inverse_transform(
        self,
        queries: Any,
        *,
        slice: Any = -1,  # noqa: A002
        config: InverseConfig | None = None,
        **settings: Any,
    ) -> Reconstruction:
        """Returns data for positions in the frame of a slice, or between two.

        Between slices s and s + 1 what both make of a position is blended: continuous
        in `slice`, and each slice's own at its end.  `neighbors` are then those in
        slice s, followed by those in s + 1; `inside` holds where both do.

        Args:
            queries: Positions, `(queries, components)`.
            slice: The slice (negative counts from the end), its label, or a fraction
                between two.
            config: How positions become data.
            **settings: Settings of `InverseConfig` by name.

        Raises:
            InputError: As `aljax.inverse_transform` does; or the slice does not exist.
        """
        t, share = self._locate(slice)
        first = self.frame(t).inverse(queries, config=config, **settings)
        if not share:
            return first
        second = self.frame(t + 1).inverse(queries, config=config, **settings)
        return blend(first, second, share)

    def inverse_trajectory(
        self, queries: Any, *, config: InverseConfig | None = None, **settings: Any
    ) -> list[Reconstruction]:
        """Returns `inverse_transform` of the same positions in every slice."""
        return [
            self.inverse_transform(queries, slice=t, config=config, **settings)
            for t in range(len(self.maps))
        ]

    def _locate(self, time: Any) -> tuple[int, float]:
        """Finds the slice at or before a position, and how far beyond it that is."""
        position = plain_label(time)
        if self._is_position(position) and position >= 0:
            self._check_place(position)
            return int(position), float(position % 1)
        if self.slice_labels is None:  # an error says that fractions are taken, too
            number(-len(self.maps), high=len(self.maps) - 1)("slice", position)
        return self.index(position), 0.0

    def _check_place(self, position: Any) -> None:
        """Checks that a fraction is not the label of a slice that lies elsewhere."""
        floats = [x if isinstance(x, float) else None for x in self.slice_labels or ()]
        if isinstance(position, float) and position in floats:
            t = floats.index(position)
            if t != position:
                got = f"is {position}, the label of slice {t} and another place"
                remedy = f"Pass {t} for the slice, or {position} + 1e-6 for the place."
                expected = "a label or a fraction, not both"
                raise InputError("slice", got, expected, remedy)

    def to_frame(
        self,
        *,
        ids: RowValues | None = None,
        labels: RowValues | None = None,
        **columns: Any,
    ) -> Any:
        """Returns all points as one long table: see `aljax.embedding.to_frame`.

        Ids that `fit` was given, and the slices' labels, are in it.
        """
        ids = self.ids if ids is None else ids
        columns = {"slice_labels": self.slice_labels} | columns
        return to_frame(self.slices(), ids=ids, labels=labels, **columns)

    def to_anndata(
        self,
        *,
        ids: RowValues | None = None,
        labels: RowValues | None = None,
        **columns: Any,
    ) -> Any:
        """Returns all points and their data: see `aljax.embedding.to_anndata`.

        Ids that `fit` was given, and the names of slices and columns, are in it; the
        data are in the units of the user.
        """
        data, scaling = self.data, self.scaling
        if scaling is not None:
            pairs = zip(scaling.columns, data, strict=True)
            data = [None if rows is None else units.undo(rows) for units, rows in pairs]
        frame = self.to_frame(ids=ids, labels=labels, **columns)
        names = {*(self.columns or ())}
        name = names.pop() if len(names) == 1 else None
        return to_anndata(frame, data, self.maps[0].shape[1], name)

    def _table(self) -> tuple[str, list[tuple[str, str, str]]]:
        """Returns a title, and the index, rows and label of each slice shown."""
        count = len(self.maps)
        rows = sum(map(len, self.maps))
        plural = "s" * (count != 1)
        title = f"{type(self).__name__}: {count} slice{plural}, {rows} rows, "
        title += f"{self.maps[0].shape[1]} components"
        labels = self.slice_labels or [""] * count
        lines = [
            (str(t), str(len(positions)), brief(in_words(label)).strip("'\""))
            for t, (positions, label) in enumerate(zip(self.maps, labels, strict=True))
        ]
        if count > SHOWN:
            lines[SHOWN // 2 : -SHOWN // 2] = [("...", "...", "")]
        return title, lines

    def __repr__(self) -> str:
        title, lines = self._table()
        table = [f"{t:>7} {rows:>9}  {label}" for t, rows, label in lines]
        head = "  slice      rows" + "  label" * bool(self.slice_labels)
        return "\n".join([title, head, *map(str.rstrip, table)])

    def _repr_html_(self) -> str:
        title, lines = self._table()
        names = ("slice", "rows", "label")[: 2 + bool(self.slice_labels)]
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in line[: len(names)])}"
            "</tr>"
            for line in lines
        )
        table = f"<p>{title}</p><table><tr>{head}</tr>{body}</table>"
        if not any(map(len, self.maps)):  # of days without rows
            return table
        try:
            from aljax.plot import slices
        except ImportError:  # matplotlib is an extra
            return table
        shown = np.unique(np.linspace(0, len(self.maps) - 1, SHOWN).round().astype(int))
        maps = [self.maps[t][:: 1 + len(self.maps[t]) // DRAWN] for t in shown]
        picture = io.BytesIO()
        titles = [self.slice_name(t) for t in shown]
        slices(maps, titles=titles).savefig(picture, format="png", dpi=60)
        encoded = base64.b64encode(picture.getvalue()).decode()
        return f'{table}<img src="data:image/png;base64,{encoded}"/>'


def parts_of(maps: AlignedEmbedding, *, with_data: bool) -> dict[str, Any]:
    """Returns all attributes of a sequence by name, as a file holds them."""
    data = maps.data if with_data else [None] * len(maps.data)
    laid_out = {"maps": maps.maps, "history": maps.history}
    return maps.record() | {"data": data} | laid_out
