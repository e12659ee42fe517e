"""New rows into a finished map: data in, positions out, and nothing moves."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from aljax.config import per_slice
from aljax.embedding import AlignedEmbedding
from aljax.graph.knn import as_floats
from aljax.graph.queries import BLOCK, query_knn
from aljax.layout.project import Frame, project
from aljax.tables import read_slice

EPOCHS = 30
RIVALS = 500  # points that stand for all in the repulsion


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
        new_rows: The rows `(queries, features)`, with the slice's columns.

    Returns:
        Positions in the slice's map; a row of the slice itself has its own position
        (of equal rows the first one's).

    Raises:
        ValueError: A slice that is not there or has no data, rows of another width,
            values that are not finite, or a metric in which new rows cannot be
            searched.
    """
    t = fitted.index(slice)
    data = fitted.data_of(t, "transform")
    rows = _read_rows(new_rows, data, fitted.slice_name(t))
    count = len(fitted.maps)
    n_neighbors = per_slice("n_neighbors", fitted.graph.n_neighbors, count)[t]
    local = per_slice("l", fitted.graph.local_connectivity, count)[t]
    # As in the graph, a row counts as its own first neighbour.
    nearest, distances = query_knn(
        data,
        rows,
        n_neighbors - 1,
        metric=fitted.graph.metric,
        metric_kwds=fitted.graph.metric_kwds,
    )
    frame = _frame(fitted, t)
    placed = np.zeros((len(rows), frame.embedding.shape[0]))
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
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


def _read_rows(new_rows: Any, data: np.ndarray, name: str) -> np.ndarray:
    none = np.ndim(new_rows) == 2 and len(new_rows) == 0
    rows = (
        np.asarray(new_rows) if none else read_slice(new_rows, f"`new_rows` for {name}")
    )
    if not isinstance(rows, np.ndarray) or rows.shape[1] != data.shape[1]:
        width = rows.shape[1] if isinstance(rows, np.ndarray) else "no"
        raise ValueError(
            f"`new_rows` has {width} columns, but {name} has {data.shape[1]}; expected "
            "the same features."
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
