"""New rows into a finished map: data in, positions out, and nothing moves.

    L_i = 2 sum_j v_ij log(1 + a |y_i - y_j|^(2b))                  over its neighbors
        + gamma m n / (2 R (n - 1)) sum_r (v_i + d_r) log(1 + 1 / p_ir)

is the layout's loss of one free point i: v_ij are its memberships and v_i their sum;
R of the slice's points stand for all n in the repulsion, evenly spread.
"""

from functools import cached_property, partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse
from jaxtyping import Array, Float, Int

from aljax.columns import arrange, names_of
from aljax.compilation import check_fork
from aljax.config import SYNONYMS, GraphConfig, InverseConfig
from aljax.errors import InputError, warn
from aljax.graph.conditioning import EXACT_METRICS
from aljax.graph.exact import QUERY_BLOCK as BLOCK
from aljax.graph.exact import (
    HeldRows,
    hold,
    nearest,
    nearest_held,
)
from aljax.graph.fuzzy import membership_strengths, smooth_knn_dist
from aljax.graph.knn import KNN, Rows, as_floats, capacity_for, on_device
from aljax.graph.known import nearest_known
from aljax.graph.neighbors import is_cheap
from aljax.graph.queries import HeldCells, hold_cells, nearest_in_cells
from aljax.graph.slices import PRECOMPUTED, read_rows, warn_of_degrees
from aljax.inverse.read import HeldMap, read_config, read_map
from aljax.inverse.reconstruct import Reconstruction, reconstruct
from aljax.inverse.weights import Curve
from aljax.layout.initialize import beside
from aljax.layout.losses import attraction_of_pairs, repulsion_of_pairs
from aljax.layout.optimize import ADAM
from aljax.layout.problem import LayoutParams

EPOCHS = 30
ABSENT = -1.0  # the distance to a row that is no neighbor
RIVALS = 500  # points that stand for all in the repulsion


def transform(
    fitted: Any,
    slice: int,  # noqa: A002
    new_rows: Any,
) -> Float[np.ndarray, "queries components"]:
    """Returns unseen rows' places in the map of one slice, without moving anything.

    A row starts at the mean of its nearest rows' positions, weighted by membership,
    and follows the layout's loss for a few epochs, the slice's points held fixed.
    Where it comes to lie depends on no other row of the call.

    Args:
        fitted: The maps, as `aljax.fit` returns them.
        slice: The slice (negative counts from the end).
        new_rows: The rows `(queries, features)`, with the slice's columns; or, with
            the metric "precomputed", their distances to the slice's rows,
            `(queries, points)`; inf, or not stored, where two are unrelated.

    Returns:
        Positions in the slice's map; a row of the slice itself has its own position
        (of equal rows the first one's).

    Raises:
        InputError: The slice does not exist or has no data, rows have another width
            or are not finite, or new rows cannot be searched in the metric.
    """
    check_fitted(fitted)
    return fitted.frame(slice).transform(new_rows)


def check_fitted(fitted: Any) -> None:
    """Checks that an argument is a sequence of maps."""
    if not hasattr(fitted, "frame"):
        raise InputError(
            "fitted",
            f"is a {type(fitted).__name__}",
            "the AlignedEmbedding that `aljax.fit` returns, or an estimator's `maps_`",
        )


class Frame(eqx.Module):
    """One slice of a model, held ready for new rows and for positions in its map.

    The slice is centered, scaled and put on the device once, at the first call that
    needs it; `AlignedEmbedding.frame` makes one frame of each slice.

    Attributes:
        positions: The slice's map.
        data: Its rows; None where only its graph, neighbors or distances are known.
        degrees: Its points' degrees in the graph.
        params: The layout's settings, of this slice.
        graph: The graph's settings, of this slice.
        name: The slice in messages, such as "slice 2 ('b')".
        columns: The names of its columns, if it was a frame.
    """

    positions: Float[np.ndarray, "points components"]
    data: Rows | None
    degrees: Any
    params: LayoutParams
    graph: GraphConfig = eqx.field(static=True)
    name: str = eqx.field(static=True)
    columns: tuple[str, ...] | None = eqx.field(static=True, default=None)

    def transform(self, rows: Any) -> Float[np.ndarray, "queries components"]:
        """Returns unseen rows' places in the map: see `aljax.transform`."""
        # As in the graph, a row counts as its own first neighbor.
        most: Any = self.graph.n_neighbors
        count = max(min(most, len(self.positions)) - 1, 1)
        rows_near, distances = self.nearest(rows, count)
        if isinstance(self.data, np.ndarray) and self.graph.metric != PRECOMPUTED:
            names = len(self.data[0]), self.name, self.columns
            put_equal_first(_read_new(rows, *names), self.data, rows_near, distances)
        far = distances >= self.graph.farthest
        alone = far[:, 0]
        distances = np.where(far, ABSENT, distances)
        distances[alone] = 1.0  # any number: they are put elsewhere
        placed = np.zeros((len(rows_near), self.positions.shape[1]))
        for start in range(0, len(placed), BLOCK):
            part = np.s_[start : start + BLOCK]
            block = project(
                on_device(_block(rows_near[part], np.int32)),
                as_floats(_block(distances[part], np.float64)),
                self._anchors,
                local_connectivity=as_floats(self.graph.local_connectivity),
                learning_rate=as_floats(self.params.learning_rate),
                n_epochs=EPOCHS,
            )
            placed[part] = np.asarray(block).T[: len(placed) - start]
        if alone.any():
            warn(
                f"{alone.sum()} of {len(alone)} new rows have no neighbor in "
                f"{self.name}: they are put beside the map."
            )
            placed[alone] = beside(self.positions, np.zeros((1, placed.shape[1])))
        return placed.astype(self._anchors.embedding.dtype)

    def inverse(
        self, queries: Any, *, config: InverseConfig | None = None, **settings: Any
    ) -> Reconstruction:
        """Returns data for positions in the map: see `aljax.inverse_transform`.

        Args:
            queries: Positions, `(queries, components)`.
            config: How positions become data.
            **settings: Settings of `InverseConfig` by name.
        """
        held = self._held_map  # refuses a slice without data before its metric
        if len(self.positions) < 3:
            got = f"names {self.name}, which has {len(self.positions)} rows"
            raise InputError("slice", got, "a slice of at least 3")
        if "metric" not in settings and getattr(config, "metric", None) is None:
            settings["metric"] = self.graph.metric
        config = read_config(config, settings)
        a, b = (jnp.asarray(value, float) for value in (self.params.a, self.params.b))
        return reconstruct(queries, held, Curve(a, b), config)

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
            embedding=padded(self.positions.T, capacity_for(points)),
            rivals=padded(self.positions[order].T, RIVALS),
            rival_degrees=padded(np.asarray(self.degrees)[order], RIVALS),
            a=params.a,
            b=params.b,
            repulsion=padded(np.full(len(order), rate * often * share), RIVALS),
        )

    @cached_property
    def _held_map(self) -> HeldMap:
        return read_map(self.positions, self._data_for("inverse_transform"))

    @cached_property
    def _held_rows(self) -> HeldRows | HeldCells:
        metric = SYNONYMS.get(self.graph.metric, self.graph.metric)
        data, method = np.asarray(self.data), self.graph.knn_method
        if method != "approximate" and (method == "exact" or is_cheap(data)):
            return hold(data, metric)
        return hold_cells(data, metric)

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

    def nearest(self, new_rows: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the `count` rows nearest to each new one, and how far they are."""
        check_fork()
        graph, points = self.graph, len(self.positions)
        if graph.metric == PRECOMPUTED:
            rows = _read_new(new_rows, points, self.name, gaps=True)
            try:
                return nearest_known(rows, count)
            except InputError as error:
                raise error.renamed("new_rows").of(self.name) from None
        data = self._data_for("transform")
        rows = _read_new(new_rows, data.shape[1], self.name, self.columns)
        if graph.metric == "haversine":
            warn_of_degrees([("`new_rows`", rows)])
        if not isinstance(data, np.ndarray):
            rows = scipy.sparse.csr_matrix(rows)
        elif not isinstance(rows, np.ndarray):
            rows = rows.toarray()
        metric = SYNONYMS.get(graph.metric, graph.metric)
        exact = metric in EXACT_METRICS and not graph.metric_kwds
        if exact and isinstance(data, np.ndarray):
            held = self._held_rows
            if isinstance(held, HeldRows):
                return nearest_held(np.asarray(rows), held, count)
            return nearest_in_cells(np.asarray(rows), held, count)
        kwds = graph.metric_kwds
        return nearest(rows, data, count, metric=metric, metric_kwds=kwds)


def _read_new(
    new_rows: Any,
    columns: int,
    name: str,
    names: tuple[str, ...] | None = None,
    *,
    gaps: bool = False,
) -> Rows:
    if isinstance(new_rows, list) and not new_rows:
        new_rows = np.zeros((0, columns))
    try:
        rows = read_rows(new_rows, "new_rows", empty=True, gaps=gaps)
        if rows.shape[1] == columns:
            rows = arrange(rows, names_of(new_rows), names, "new_rows")
    except InputError as error:
        raise error.of(name) from error.__cause__
    if rows.shape[1] != columns:
        width = f"has {rows.shape[1]} columns, but {name} has {columns}"
        raise InputError("new_rows", width, "the same features")
    return rows


def put_equal_first(
    rows: Rows, data: np.ndarray, near: np.ndarray, distances: np.ndarray
) -> None:
    """Puts the first row that equals a new one before its neighbors, in place.

    Rounding may find others as near, or no distance between rows that differ.
    """
    dense = rows if isinstance(rows, np.ndarray) else rows.toarray()
    dense, nearest = dense.astype(data.dtype), np.full(len(dense), len(data))
    for column in near.T:
        equal = (data[column] == dense).all(axis=1)
        nearest = np.where(equal, np.minimum(nearest, column), nearest)
    found = nearest < len(data)
    near[found, 0], distances[found, 0] = nearest[found], 0.0


def _block(rows: np.ndarray, dtype: type) -> np.ndarray:
    """A block's table, points last, padded with its first row."""
    padded = np.concatenate([rows, np.repeat(rows[:1], BLOCK - len(rows), axis=0)])
    return padded.T.astype(dtype)


class Anchors(NamedTuple):
    """The fixed points of a slice that pull new ones, and those that repel them.

    `repulsion` is a number, or one for each rival: 0 for padding.
    """

    embedding: Float[Array, "components points"]
    rivals: Float[Array, "components rivals"]
    rival_degrees: Float[Array, "rivals"]
    a: Float[Array, ""]
    b: Float[Array, ""]
    repulsion: Float[Array, "..."]


def memberships(
    distances: Float[Array, "neighbors queries"], local_connectivity: Float[Array, ""]
) -> Float[Array, "neighbors queries"]:
    """Returns how strongly each query belongs to its neighbors, as in the graph.

    Args:
        distances: To the nearest rows, nearest first (units of the metric); below 0
            where a row is no neighbor.
        local_connectivity: As in `smooth_knn_dist`.
    """
    # The table's form has the point itself first, by its number: no neighbor has one.
    itself = jnp.arange(distances.shape[1], dtype=jnp.int32)
    distances = jnp.pad(distances, ((1, 0), (0, 0)), constant_values=ABSENT)
    table = KNN(jnp.where(distances < 0, itself, -1), jnp.maximum(distances, 0.0))
    # Each query by its own unit: it depends on no other.
    mean = jnp.mean(table.distances, axis=0)
    sigma, rho = smooth_knn_dist(
        table,
        local_connectivity=local_connectivity,
        unit=jnp.where(mean > 0, mean, 1.0),
    )
    return membership_strengths(table, sigma, rho)[1:]


def loss(
    queries: Float[Array, "components queries"],
    neighbors: Int[Array, "neighbors queries"],
    strengths: Float[Array, "neighbors queries"],
    anchors: Anchors,
) -> Float[Array, ""]:
    """Returns the sum of L over all queries."""
    difference = queries[:, None, :] - anchors.embedding[:, neighbors]
    squared = jnp.sum(difference**2, axis=0)
    pulled = strengths * attraction_of_pairs(squared, anchors.a, anchors.b)
    apart = jnp.sum((queries[:, None, :] - anchors.rivals[:, :, None]) ** 2, axis=0)
    repelled = repulsion_of_pairs(apart, anchors.a, anchors.b)
    weights = jnp.sum(strengths, axis=0) + anchors.rival_degrees[:, None]
    repelled = anchors.repulsion[..., None] * weights * repelled
    return 2 * jnp.sum(pulled) + jnp.sum(repelled)


@partial(jax.jit, static_argnames="n_epochs")
def project(
    neighbors: Int[Array, "neighbors queries"],
    distances: Float[Array, "neighbors queries"],
    anchors: Anchors,
    *,
    local_connectivity: Float[Array, ""],
    learning_rate: Float[Array, ""],
    n_epochs: int,
) -> Float[Array, "components queries"]:
    """Returns where queries come to lie: from their neighbors' mean, down their loss.

    Args:
        neighbors: For each query its nearest points, nearest first.
        distances: And how far they are (units of the metric).
        anchors: The placed slice.
        local_connectivity: As the slice's graph has it.
        learning_rate: Length of the first step (map units).
        n_epochs: How many steps.

    Returns:
        Positions; a query at distance 0 of a point lies where the point does.
    """
    strengths = memberships(distances, local_connectivity)
    shares = strengths / jnp.sum(strengths, axis=0)
    start = jnp.sum(anchors.embedding[:, neighbors] * shares, axis=1)

    def epoch(i: Int[Array, ""], carry: tuple[Array, optax.OptState]) -> tuple:
        here, moments = carry
        gradient = jax.grad(loss)(here, neighbors, strengths, anchors)
        updates, moments = ADAM.update(gradient, moments)
        rate = learning_rate * (1 - i / n_epochs) ** 2
        return here - rate * jnp.asarray(updates), moments

    placed, _ = jax.lax.fori_loop(0, n_epochs, epoch, (start, ADAM.init(start)))
    return jnp.where(distances[0] == 0, anchors.embedding[:, neighbors[0]], placed)
