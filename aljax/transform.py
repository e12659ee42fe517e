"""New rows into a finished map: data in, positions out, and nothing moves."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse
from jaxtyping import Array, Float, Int

from aljax.config import per_slice
from aljax.embedding import AlignedEmbedding, check_fitted
from aljax.errors import InputError
from aljax.graph.exact import QUERY_BLOCK as BLOCK
from aljax.graph.exact import nearest
from aljax.graph.fuzzy import membership_strengths, smooth_knn_dist
from aljax.graph.knn import KNN, Rows, as_floats
from aljax.graph.slices import PRECOMPUTED, read_rows
from aljax.layout.losses import attraction_of_pairs, repulsion_of_pairs
from aljax.layout.optimize import ADAM

EPOCHS = 30
RIVALS = 500  # points that stand for all in the repulsion


class Frame(NamedTuple):
    """A placed slice, as new points see it; `rivals` are those that repel."""

    embedding: Float[Array, "components points"]
    rivals: Float[Array, "components rivals"]
    rival_degrees: Float[Array, "rivals"]
    a: Float[Array, ""]
    b: Float[Array, ""]
    repulsion: Float[Array, ""]


def transform(
    fitted: AlignedEmbedding,
    slice: int,  # noqa: A002
    new_rows: Any,
) -> Float[np.ndarray, "queries components"]:
    """Places unseen rows in the map of one slice, without moving anything.

    A row starts at the mean of its nearest rows' positions, weighted by membership,
    and follows the layout's loss for a few epochs, the slice's points held fixed.
    Where it comes to lie depends on no other row of the call.

    Args:
        fitted: The maps.
        slice: Which of them (negative counts from the end).
        new_rows: The rows `(queries, features)`, with the slice's columns; or, with
            the metric "precomputed", their distances to the slice's rows,
            `(queries, points)`.

    Returns:
        Positions in the slice's map; a row of the slice itself has its own position
        (of equal rows the first one's).

    Raises:
        ValueError: A slice that is not there or has no data, rows of another width,
            values that are not finite, or a metric in which new rows cannot be
            searched.
    """
    check_fitted(fitted)
    t = fitted.index(slice)
    count = len(fitted.maps)
    n_neighbors = per_slice("n_neighbors", fitted.graph.n_neighbors, count)[t]
    local = per_slice("local_connectivity", fitted.graph.local_connectivity, count)[t]
    # As in the graph, a row counts as its own first neighbour.
    nearest, distances = _nearest(fitted, t, new_rows, n_neighbors - 1)
    frame = _frame(fitted, t)
    placed = np.zeros((len(nearest), frame.embedding.shape[0]))
    for start in range(0, len(placed), BLOCK):
        stop = min(start + BLOCK, len(placed))
        found = project(
            jnp.asarray(_block(nearest[start:stop], np.int32)),
            as_floats(_block(distances[start:stop], np.float64)),
            frame,
            local_connectivity=as_floats(local),
            learning_rate=as_floats(fitted.params.learning_rate[t]),
            n_epochs=EPOCHS,
        )
        placed[start:stop] = np.asarray(found).T[: stop - start]
    return placed.astype(frame.embedding.dtype)


def _nearest(
    fitted: AlignedEmbedding, t: int, new_rows: Any, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """The slice's rows nearest to each new one, and how far they are."""
    metric, name = fitted.graph.metric, fitted.slice_name(t)
    if metric == PRECOMPUTED:
        points = len(fitted.maps[t])
        rows = _read_rows(new_rows, points, name)
        if not isinstance(rows, np.ndarray) or rows.min(initial=0) < 0:
            raise ValueError(
                f"`new_rows` for {name} is sparse or has values below 0; expected its "
                f"distances to the slice's {points} rows, all of them."
            )
        return nearest(rows, rows, n_neighbors, metric=metric)
    data = fitted.data_of(t, "transform")
    rows = _read_rows(new_rows, data.shape[1], name)
    if not isinstance(data, np.ndarray):
        rows = scipy.sparse.csr_matrix(rows)
    elif not isinstance(rows, np.ndarray):
        rows = rows.toarray()
    return nearest(
        rows, data, n_neighbors, metric=metric, metric_kwds=fitted.graph.metric_kwds
    )


def _read_rows(new_rows: Any, columns: int, name: str) -> Rows:
    # No rows are no slice, but have their places: none.
    shape = () if scipy.sparse.issparse(new_rows) else getattr(new_rows, "shape", ())
    none = len(shape) == 2 and shape[0] == 0
    try:
        rows = np.asarray(new_rows) if none else read_rows(new_rows, "new_rows")
    except InputError as error:
        raise error.of(name) from error.__cause__
    if rows.shape[1] != columns:
        raise ValueError(
            f"`new_rows` has {rows.shape[1]} columns, but {name} has {columns}; "
            "expected the same features."
        )
    return rows


def _frame(fitted: AlignedEmbedding, t: int) -> Frame:
    """The slice as queries see it, with evenly spread rivals for the repulsion."""
    embedding = fitted.maps[t]
    points = len(embedding)
    order = np.random.default_rng(points).permutation(points)[:RIVALS]
    degrees = np.asarray(fitted.graphs[t].degrees)
    params = fitted.params
    rate = params.repulsion_strength[t] * params.negative_sample_rate[t]
    return Frame(
        embedding=as_floats(embedding.T),
        rivals=as_floats(embedding[order].T),
        rival_degrees=as_floats(degrees[order]),
        a=params.a[t],
        b=params.b[t],
        repulsion=rate * points / len(order) / (2 * max(points - 1, 1)),
    )


def _block(rows: np.ndarray, dtype: type) -> np.ndarray:
    """A block's table, points last, padded with its first row."""
    padded = np.concatenate([rows, np.repeat(rows[:1], BLOCK - len(rows), axis=0)])
    return padded.T.astype(dtype)


def memberships(
    distances: Float[Array, "neighbors queries"], local_connectivity: Float[Array, ""]
) -> Float[Array, "neighbors queries"]:
    """How strongly each query belongs to each of its neighbours, as in the graph.

    Args:
        distances: To the nearest rows, nearest first (units of the metric).
        local_connectivity: As in `smooth_knn_dist`.
    """
    # The table's form has the point itself first: here it stands for no row.
    own = jnp.where(jnp.arange(len(distances) + 1) == 0, 0, -1).astype(jnp.int32)

    def one(nearest: Float[Array, "neighbors"]) -> Float[Array, "neighbors"]:
        table = KNN(own[:, None], jnp.pad(nearest, (1, 0))[:, None])
        sigma, rho = smooth_knn_dist(table, local_connectivity=local_connectivity)
        return membership_strengths(table, sigma, rho)[1:, 0]

    # One by one: the table's unit is the mean distance of all that are in it.
    return jax.vmap(one, in_axes=1, out_axes=1)(distances)


def loss(
    queries: Float[Array, "components queries"],
    neighbors: Int[Array, "neighbors queries"],
    strengths: Float[Array, "neighbors queries"],
    frame: Frame,
) -> Float[Array, ""]:
    """The sum of L over all queries."""
    difference = queries[:, None, :] - frame.embedding[:, neighbors]
    squared = jnp.sum(difference**2, axis=0)
    attracted = attraction_of_pairs(squared, frame.a, frame.b)
    pulled = 2 * jnp.sum(strengths * attracted)
    apart = jnp.sum((queries[:, None, :] - frame.rivals[:, :, None]) ** 2, axis=0)
    repelled = repulsion_of_pairs(apart, frame.a, frame.b)
    weights = jnp.sum(strengths, axis=0) + frame.rival_degrees[:, None]
    return pulled + frame.repulsion * jnp.sum(weights * repelled)


@partial(jax.jit, static_argnames="n_epochs")
def project(
    neighbors: Int[Array, "neighbors queries"],
    distances: Float[Array, "neighbors queries"],
    frame: Frame,
    *,
    local_connectivity: Float[Array, ""],
    learning_rate: Float[Array, ""],
    n_epochs: int,
) -> Float[Array, "components queries"]:
    """Where queries come to lie: at their neighbours' mean, then down their loss.

    Args:
        neighbors: For each query its nearest points, nearest first.
        distances: And how far they are (units of the metric).
        frame: The placed slice.
        local_connectivity: As the slice's graph has it.
        learning_rate: Length of the first step (map units).
        n_epochs: How many steps.

    Returns:
        Positions; a query at distance 0 of a point lies where the point does.
    """
    strengths = memberships(distances, local_connectivity)
    shares = strengths / jnp.sum(strengths, axis=0)
    start = jnp.sum(frame.embedding[:, neighbors] * shares, axis=1)

    def epoch(i: Int[Array, ""], carry: tuple[Array, optax.OptState]) -> tuple:
        here, moments = carry
        gradient = jax.grad(loss)(here, neighbors, strengths, frame)
        updates, moments = ADAM.update(gradient, moments)
        rate = learning_rate * (1 - i / n_epochs) ** 2
        return here - rate * jnp.asarray(updates), moments

    placed, _ = jax.lax.fori_loop(0, n_epochs, epoch, (start, ADAM.init(start)))
    return jnp.where(distances[0] == 0, frame.embedding[:, neighbors[0]], placed)
