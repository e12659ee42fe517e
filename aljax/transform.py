"""New rows into a finished map: data in, positions out, and nothing moves.

    distance = sum_i |x - x_i| / sum_i s_i      over the nearest rows i of x

tells a guess: s_i is the mean distance of row i to its own nearest rows.
"""

from collections.abc import Hashable
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int

from aljax.compilation import check_fork
from aljax.config import SYNONYMS, GraphConfig, InverseConfig
from aljax.errors import InputError, kind_of, warn
from aljax.graph.conditioning import DEVICE_METRICS
from aljax.graph.exact import QUERY_BLOCK as BLOCK
from aljax.graph.exact import HeldRows, Nearest, nearest
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import Rows, as_floats, beyond, capacity_for, on_device
from aljax.graph.neighbors import hold_rows, nearest_known, nearest_rows
from aljax.graph.queries import HeldCells
from aljax.graph.rows import prints_of
from aljax.graph.slices import PRECOMPUTED, Slice, warn_of_degrees
from aljax.inverse.neighborhood import Curve
from aljax.inverse.read import HeldMap, read_bounds, read_config, read_map
from aljax.inverse.reconstruct import Reconstruction, reconstruct
from aljax.layout.initialize import beside
from aljax.layout.problem import LayoutParams
from aljax.new_rows import in_form_of, put_equal_first, read_new
from aljax.project import ABSENT, Anchors, project
from aljax.scaling import Columns, Units

EPOCHS = 30
NEAREST = 5  # rows that a distance is the mean of
USUAL = 0.99  # share of a slice's own rows that lie inside, each seen as a new one
SAMPLE = 500  # of its rows, which tell how far that is
RIVALS = 500  # points that stand for all in the repulsion


class Placement(eqx.Module):
    """A placement says where new rows lie in a map, and how far from its rows.

    Attributes:
        positions: Their places in the map, as `transform` returns them.
        neighbors: The slice's rows that are nearest to each, nearest first.
        distance: The mean distance to the nearest 5 rows, in units of that of those to
            their own nearest (about 1 within the data).  Precomputed ones are in the
            graph's radii: a `FuzzyGraph.from_sparse` has none, so this is NaN.
        inside: True where `distance` is at most `limit` and the nearest row is nearer
            than `disconnection_distance`; where it is False, the place is a guess.
        limit: The `distance` that 99 of 100 of the slice's rows have at most, or inf.
    """

    positions: Float[np.ndarray, "queries components"]
    neighbors: Int[np.ndarray, "queries neighbors"]
    distance: Float[np.ndarray, "queries"]
    inside: Bool[np.ndarray, "queries"]
    limit: float


def transform(
    fitted: Any,
    slice: Any,  # noqa: A002
    new_rows: Any,
) -> Float[np.ndarray, "queries components"]:
    """Returns unseen rows' places in the map of one slice: `place(...).positions`.

    Takes the arguments of `aljax.place`, which also tells where a place is a guess.

    Raises:
        InputError: As `aljax.place` does.
    """
    check_fitted(fitted)
    return fitted.frame(slice).transform(new_rows)


def place(
    fitted: Any,
    slice: Any,  # noqa: A002
    new_rows: Any,
) -> Placement:
    """Returns unseen rows' places in the map of one slice, without moving anything.

    A row starts at the mean of its nearest rows' positions, weighted by membership,
    and follows the layout's loss for a few epochs, the slice's points held fixed.
    Where it comes to lie depends on no other row of the call.

    Every row gets a place among those of its nearest rows, even one that is like none
    of them: there `inside` is False.

    Args:
        fitted: The maps, as `aljax.fit` returns them.
        slice: The slice (negative counts from the end), or its label.
        new_rows: The rows `(queries, features)`, with the slice's columns; or, with
            the metric "precomputed", their distances to the slice's rows,
            `(queries, points)`; inf, or not stored, where two are unrelated.

    Returns:
        Positions in the slice's map, with neighbors, distance and whether it is
        inside; a row of the slice itself has its own position (of equal rows the first
        one's).

    Raises:
        InputError: The slice does not exist or has no data, rows have another width
            or are not finite, or new rows cannot be searched in the metric.

    Source: the ratio behind the local outlier factor (Breunig et al. 2000).
    """
    check_fitted(fitted)
    return fitted.frame(slice).place(new_rows)


def check_fitted(fitted: Any) -> None:
    """Checks that an argument is a sequence of maps, which this process can read."""
    check_fork()
    if not hasattr(fitted, "frame"):
        raise InputError(
            "fitted",
            f"is {kind_of(fitted)}",
            "the AlignedEmbedding that `aljax.fit` returns, or an estimator's `maps_`",
        )


class Frame(eqx.Module):
    """One slice of a model, held ready for new rows and for positions in its map.

    The slice is centered, scaled and put on the device once, at the first call that
    needs it; `AlignedEmbedding.frame` makes one frame of each slice.

    Attributes:
        positions: The slice's map.
        data: Its rows; None where only its graph, neighbors or distances are known.
        fuzzy: Its graph.
        params: The layout's settings, of this slice.
        graph: The graph's settings, of this slice.
        name: The slice in messages, such as "slice 2 ('b')".
        columns: The names of its columns, if it was a frame.
        coordinates: The layout's center and unit, if they are not 0 and 1.
        scaling: The units of its columns, if they are not the user's.
    """

    positions: Float[np.ndarray, "points components"]
    data: Rows | None
    fuzzy: FuzzyGraph
    params: LayoutParams
    graph: GraphConfig = eqx.field(static=True)
    name: str = eqx.field(static=True)
    columns: tuple[Hashable, ...] | None = eqx.field(static=True, default=None)
    coordinates: Units | None = None
    scaling: Columns | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves what a search has made for the next out of pickles and copies."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def transform(self, rows: Any) -> Float[np.ndarray, "queries components"]:
        """Returns unseen rows' places in the map: see `aljax.place`."""
        return self._put(*self._nearest(rows))

    def place(self, rows: Any) -> Placement:
        """Returns unseen rows' places and how sure they are: see `aljax.place`."""
        near, distances = self._nearest(rows)
        distance, limit = self._relative(near, distances), self._limit
        inside = (distance <= limit) & ~beyond(distances[:, 0], self.graph.farthest)
        positions = self._put(near, distances)
        return Placement(positions, near, distance, inside, limit)

    def _put(
        self, rows_near: np.ndarray, distances: np.ndarray
    ) -> Float[np.ndarray, "queries components"]:
        """Returns positions of new rows, by their nearest rows and these distances."""
        far = beyond(distances, self.graph.farthest)
        alone = far[:, 0]
        distances = np.where(far, ABSENT, distances)
        distances[alone] = 1.0  # any number: they are put elsewhere
        placed = np.zeros((len(rows_near), self.positions.shape[1]))
        for start in range(0, len(placed), BLOCK):
            chosen = np.s_[start : start + BLOCK]
            block = project(
                on_device(_block(rows_near[chosen], np.int32)),
                as_floats(_block(distances[chosen], np.float64)),
                self._anchors,
                local_connectivity=as_floats(self.graph.local_connectivity),
                learning_rate=as_floats(self.params.learning_rate),
                n_epochs=EPOCHS,
                space=self.params.space,
            )
            placed[chosen] = np.asarray(block).T[: len(placed) - start]
        if alone.any():
            warn(
                f"{alone.sum()} of {len(alone)} new rows have no neighbor in "
                f"{self.name}: they are put beside the map."
            )
            placed[alone] = beside(self._inner, np.zeros((1, placed.shape[1])))
        if self.coordinates is None:
            return placed.astype(self._anchors.embedding.dtype)
        placed, same = self.coordinates.undo(placed), distances[:, 0] == 0
        placed[same] = self.positions[rows_near[same, 0]]
        return placed.astype(self.positions.dtype)

    @cached_property
    def _inner(self) -> Float[np.ndarray, "points components"]:
        """The positions in the coordinates of the layout."""
        if self.coordinates is None:
            return self.positions
        return self.coordinates.apply(self.positions)

    def _relative(self, near: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Returns distances to nearest rows, in units of the spacing among these."""
        near, distances = near[:, :NEAREST], distances[:, :NEAREST]
        unmeasured = np.unique(near[np.isnan(self._spacings[near])])
        if unmeasured.size and self.graph.metric != PRECOMPUTED:
            self._spacings[unmeasured] = _spacing(self._near_of(unmeasured)[1])
        related = np.isfinite(distances)
        lengths = distances.sum(axis=1, where=related)
        lengths[~related[:, :1].all(axis=1)] = np.inf  # no row has others: all are 0
        spacing = self._spacings[near].sum(axis=1, where=related)
        ratios = np.zeros(len(near))
        with np.errstate(divide="ignore"):
            return np.divide(lengths, spacing, where=lengths > 0, out=ratios)

    @cached_property
    def _spacings(self) -> Float[np.ndarray, "points"]:
        """Each row's `_spacing`; NaN where no new row has asked for it yet."""
        if self.graph.metric == PRECOMPUTED and self.fuzzy.radii is not None:
            return np.exp(np.asarray(self.fuzzy.radii, float) / 2)
        return np.full(len(self.positions), np.nan)

    @cached_property
    def _limit(self) -> float:
        """The relative distance within which the slice's own rows lie, most of them."""
        points = len(self.positions)
        sample = np.random.default_rng(points).permutation(points)[:SAMPLE]
        relative = self._relative(*self._near_of(np.sort(sample)))
        return float(np.quantile(relative, USUAL, method="higher"))

    def _near_of(self, rows: np.ndarray) -> Nearest:
        """Returns the nearest other rows of rows of the slice."""
        if self.graph.metric == PRECOMPUTED:
            near = np.asarray(self.fuzzy.neighbors).T[rows, 1 : NEAREST + 1]
            return near, np.repeat(self._spacings[rows, None], near.shape[1], axis=1)
        # As many as for new rows, which saves a program, and the row is one of them.
        count = min(max(self._count, 2), len(self.positions))
        near, distances = self._search(self._data_for("place")[rows], count)
        return near[:, 1:], distances[:, 1:]

    def inverse(
        self, queries: Any, *, config: InverseConfig | None = None, **settings: Any
    ) -> Reconstruction:
        """Returns data for positions in the map: see `aljax.inverse_transform`.

        Args:
            queries: Positions, `(queries, components)`.
            config: How positions become data.
            **settings: Settings of `InverseConfig` by name.
        """
        if self.params.space is not None:
            got = f"is {self.params.space[0]!r}, as {self.name} was laid out"
            remedy = "Positions are read in Euclidean maps alone."
            raise InputError("output_metric", got, "'euclidean'", remedy)
        held = self._held_map  # refuses a slice without data before its metric
        if len(self.positions) < 3:
            got = f"names {self.name}, which has {len(self.positions)} rows"
            raise InputError("slice", got, "a slice of at least 3")
        config = read_config(config, settings, self.graph.metric, self.name)
        a, b = (jnp.asarray(value, float) for value in (self.params.a, self.params.b))
        units, ends = self.scaling, None
        if units is not None and isinstance(config.bounds, tuple):
            ends = read_bounds(config.bounds, held.original)
            config = replace(config, bounds=units.bounds(ends))
        result = reconstruct(queries, held, Curve(a, b), config)
        points = result.points if units is None else units.undo(result.points, ends)
        return replace(result, points=points, columns=self.columns)

    @cached_property
    def _anchors(self) -> "Anchors":
        """The slice as new points see it, with evenly spread rivals.

        Padded, so that slices of all sizes share a few programs.
        """
        points, params = len(self.positions), self.params
        order = np.random.default_rng(points).permutation(points)[:RIVALS]
        share = points / len(order) / (2 * max(points - 1, 1))
        rate, often = map(
            np.asarray, (params.repulsion_strength, params.negative_sample_rate)
        )

        def padded(values: Any, capacity: int) -> Array:
            room = [*((0, 0),) * (values.ndim - 1), (0, capacity - values.shape[-1])]
            return as_floats(np.pad(values, room))

        return Anchors(
            embedding=padded(self._inner.T, capacity_for(points)),
            rivals=padded(self._inner[order].T, RIVALS),
            rival_degrees=padded(np.asarray(self.fuzzy.degrees)[order], RIVALS),
            a=params.a,
            b=params.b,
            repulsion=padded(np.full(len(order), rate * often * share), RIVALS),
        )

    @cached_property
    def _held_map(self) -> HeldMap:
        rows = self._data_for("inverse_transform")
        if scipy.sparse.issparse(rows):
            got, expected = f"names {self.name}, whose rows are sparse", "dense rows"
            raise InputError("slice", got, expected, "Fit them as `rows.toarray()`.")
        held = read_map(self._inner, rows)
        return held._replace(coordinates=self.coordinates)

    @cached_property
    def _prints(self) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(prints_of(self._data_for("transform")), return_index=True)

    @cached_property
    def _held_rows(self) -> HeldRows | HeldCells:
        metric: Any = SYNONYMS.get(self.graph.metric, self.graph.metric)
        method = self.graph.knn_method
        return hold_rows(np.asarray(self.data), metric, knn_method=method)

    def _data_for(self, asker: str) -> Rows:
        if self.data is None or not self.data.shape[0]:
            raise InputError(
                "slice",
                f"names {self.name}, which has no rows, was given as neighbors, "
                "a graph or distances, or was saved without its data",
                f"a slice with data, which `{asker}` needs",
                "Fit or load it with its data.",
            )
        return self.data

    @property
    def _count(self) -> int:
        """The number of rows to look up; the graph counts the row itself, too."""
        most: Any = self.graph.n_neighbors
        return max(min(most, len(self.positions)) - 1, 1)

    def _nearest(self, new_rows: Any) -> Nearest:
        """Returns as many rows as the graph has neighbors, equal ones first."""
        rows = self._read(new_rows)
        near, distances = self._search(rows, self._count)
        if self.graph.metric != PRECOMPUTED:
            data = self._data_for("transform")
            put_equal_first(rows, data, self._prints, near, distances)
        return near, distances

    def nearest(self, new_rows: Any, count: int) -> Nearest:
        """Returns the `count` rows nearest to each new one, and how far they are."""
        return self._search(self._read(new_rows), count)

    def _read(self, new_rows: Any) -> Rows:
        """Returns new rows, checked, in the units and the format of the slice's.

        With precomputed distances they are their distances to the slice's rows.
        """
        check_fork()
        if self.graph.metric == PRECOMPUTED:
            return read_new(new_rows, len(self.positions), self.name, gaps=np.inf)
        data, units = self._data_for("transform"), self.scaling
        filled = units is not None and units.fill is not None
        gaps = np.nan if filled or callable(self.graph.metric) else None
        rows = read_new(new_rows, data.shape[1], self.name, self.columns, gaps=gaps)
        dtype = np.result_type(rows.dtype, data.dtype)  # in which its own were scaled
        rows = in_form_of(data, rows if units is None else units.filled(rows))
        rows = rows if units is None else units.apply(rows.astype(dtype, copy=False))
        warn_of_degrees([Slice(rows.shape[0], rows, "`new_rows`", self.graph.metric)])
        return rows

    def _search(self, rows: Any, count: int) -> Nearest:
        """Returns the slice's rows nearest to each of some, which are as `_read`'s."""
        if self.graph.metric == PRECOMPUTED:
            try:
                return nearest_known(rows, count)
            except InputError as error:
                raise error.renamed("new_rows").of(self.name) from None
        data, kwds = self._data_for("transform"), self.graph.metric_kwds
        metric: Any = SYNONYMS.get(self.graph.metric, self.graph.metric)
        if metric in DEVICE_METRICS and not kwds and isinstance(data, np.ndarray):
            return nearest_rows(rows, self._held_rows, count)
        return nearest(rows, data, count, metric=metric, metric_kwds=kwds)


def _spacing(distances: Float[np.ndarray, "rows neighbors"]) -> np.ndarray:
    """Returns each row's mean distance to its nearest different ones; 0 without any."""
    apart = np.sort(np.where(distances > 0, distances, np.inf), axis=1)[:, :NEAREST]
    apart = np.where(np.isinf(apart), np.nan, apart)
    counts = np.maximum(np.isfinite(apart).sum(axis=1), 1)
    return np.nansum(apart, axis=1) / counts


def _block(rows: np.ndarray, dtype: type) -> np.ndarray:
    """Returns a block's table, points last, padded with its first row."""
    padded = np.concatenate([rows, np.repeat(rows[:1], BLOCK - len(rows), axis=0)])
    return padded.T.astype(dtype)
