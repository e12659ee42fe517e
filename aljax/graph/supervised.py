"""Labels and values that shape a slice's graph: a fuzzy intersection with the data's.

Classes weaken the edges that leave a class:

    w'(i, j) = w(i, j) e^(-d),    d = 0 within a class, 2.5 / (1 - p) between two,
                                      1 where one is unknown

Ranks, counts and texts weaken edges likewise, by d = 2.5 / (1 - p) times the distances
of `aljax.graph.discrete`.  Values have a fuzzy graph v of their own (directed):

    w'(i, j) = w(i, j)^min(1, (1 - p) / p)  v(i, j)^min(1, p / (1 - p))

where an edge that only one of the two has counts in the other as half of its weakest.
p is `target_weight`, the weight of the target relative to the data.  Either way each
row's strongest edge is then made 1 again, and the two directions of an edge are joined
by fuzzy union.

Source: McInnes, Healy & Melville (2018), arXiv:1802.03426, sections 3.1 and 5.6
(intersection of fuzzy sets), with the constants of umap-learn.
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.columns import as_column, is_missing
from aljax.errors import InputError
from aljax.graph.fuzzy import FuzzyGraph, directed
from aljax.graph.knn import as_floats, on_device

UNKNOWN = -1
UNKNOWN_DISTANCE = 1.0
FAR = 2.5  # far distance at target_weight 0; it grows as 1 / (1 - target_weight)
FAINTEST, FAINT = 1e-8, 1e-4  # bounds of an edge that is absent


def read_classes(y: Any, rows: int, name: str) -> Int[np.ndarray, "rows"]:
    """Classes as whole numbers, -1 for unknown.

    Args:
        y: A class for each row: numbers or text; -1, None or NaN where unknown.
        rows: Rows of the slice.
        name: The argument that it came by, for errors.

    Raises:
        InputError: There is not one for each row, or one cannot be hashed.
    """
    column = read_column(y, rows, name, "a class", ", -1 where it is unknown")
    labels = [UNKNOWN if is_missing(label) else label for label in column.tolist()]
    codes: dict[Hashable, int] = {UNKNOWN: UNKNOWN}
    return np.array(
        [codes.setdefault(label, len(codes) - 1) for label in labels], np.int64
    )


def read_column(
    y: Any, rows: int, name: str, entry: str = "a value", more: str = ""
) -> np.ndarray:
    """Reads one entry for each row, of any kind; takes a table of one column, too."""
    if isinstance(y, list) and all(isinstance(i, list) and len(i) == 1 for i in y):
        y = [label for (label,) in y]
    column = as_column(y, name, exact=True)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.shape != (rows,):
        expected = f"{entry} for each of the {rows} rows{more}"
        raise InputError(name, f"has shape {column.shape}", expected)
    return column


def read_texts(y: Any, rows: int, name: str) -> list[str]:
    """Returns a text for each row.

    Raises:
        InputError: There is not one for each row, or one is not text.
    """
    texts = read_column(y, rows, name, "a text").tolist()
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(name, f"has {text!r} in row {row}", "text in every row")
    return texts


def read_values(y: Any, rows: int, name: str) -> Float[np.ndarray, "rows targets"]:
    """Values as an array, one or several for each row; `name` is the argument.

    Raises:
        InputError: There is not one for each row, or they are not finite numbers.
    """
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        got, expected = f"is not an array of numbers ({error})", "values"
        remedy = 'For classes use `target_metric="categorical"`.'
        raise InputError(name, got, expected, remedy) from error
    if values.ndim not in (1, 2) or len(values) != rows:
        expected = f"a value for each of the {rows} rows, or a row of values"
        raise InputError(name, f"has shape {values.shape}", expected)
    values = values.reshape(rows, -1)
    wrong = np.argwhere(~np.isfinite(values))
    if wrong.size:
        got = f"has {values[tuple(wrong[0])]} in row {wrong[0, 0]}"
        remedy = "Unknown ones are for classes only (-1)."
        raise InputError(name, got, "finite values", remedy)
    return values


def intersect_classes(
    graph: FuzzyGraph, classes: Int[np.ndarray, "points"], target_weight: float
) -> FuzzyGraph:
    """Weakens the graph's edges that leave a class, or whose class is unknown."""
    edges = _edges(graph)
    heads, tails = classes[edges.row], classes[edges.col]
    distance = np.where(heads == tails, 0.0, _scale(target_weight))
    distance[(heads == UNKNOWN) | (tails == UNKNOWN)] = UNKNOWN_DISTANCE
    return _weakened(graph, edges, distance)


def intersect_discrete(
    graph: FuzzyGraph, y: Any, apart: Callable[..., Any], target_weight: float
) -> FuzzyGraph:
    """Weakens the graph's edges by how far ranks, counts or texts are apart."""
    edges = _edges(graph)
    between = apart(y, edges.row, edges.col)
    distance = np.where(between > 0, _scale(target_weight), 0.0)
    return _weakened(graph, edges, distance * np.maximum(between, FAINTEST))


def _edges(graph: FuzzyGraph) -> Any:
    return graph.to_sparse().astype(np.float64).tocoo()


def _scale(target_weight: float) -> float:
    """Returns the distance of two classes."""
    return FAR / (1 - target_weight) if target_weight < 1 else np.inf


def _weakened(graph: FuzzyGraph, edges: Any, distance: np.ndarray) -> FuzzyGraph:
    edges.data *= np.exp(-distance)
    return _on_lists(graph, np.asarray(graph.neighbors), restored(edges.tocsr()))


def intersect_values(
    graph: FuzzyGraph,
    neighbors: Int[np.ndarray, "targets points"],
    strengths: Float[np.ndarray, "targets points"],
    target_weight: float,
) -> FuzzyGraph:
    """Intersects the graph with that of values; its lists hold the edges of both.

    `neighbors` are each row's nearest values, itself first, and `strengths` their
    directed memberships.
    """
    listed = np.asarray(graph.neighbors)
    left: Any = graph.to_sparse()
    right: Any = directed(neighbors, strengths)
    edges = (left + right).tocoo()
    rows, columns = edges.row, edges.col
    least_left = max(left.data.min(initial=1) / 2, FAINTEST)
    least_right = min(max(right.data.min(initial=1) / 2, FAINTEST), FAINT)
    x = np.maximum(np.asarray(left[rows, columns], float).ravel(), least_left)
    y = np.maximum(np.asarray(right[rows, columns], float).ravel(), least_right)
    shares = np.array([1 - target_weight, target_weight])
    of_data, of_values = shares / shares.max()
    edges.data = x**of_data * y**of_values
    # The data's neighbors stand last: the farthest of them stays at the end.
    repeated = (neighbors[1:, None] == listed[None]).any(axis=1)
    added = np.where(repeated, listed[:1], neighbors[1:])
    lists = np.concatenate([listed[:1], added, listed[1:]])
    return _on_lists(graph, lists, restored(edges.tocsr()))


def restored(weights: Any) -> scipy.sparse.csr_matrix:
    """Makes each row's strongest edge 1, then the union of the two directions."""
    strongest = weights.max(axis=1).toarray().ravel()
    scale = 1 / np.where(strongest > 0, strongest, 1)
    scaled = weights.multiply(scale[:, None]).tocsr()
    return (scaled + scaled.T - scaled.multiply(scaled.T)).tocsr()


def _on_lists(
    graph: FuzzyGraph,
    neighbors: Int[np.ndarray, "neighbors points"],
    weights: scipy.sparse.csr_matrix,
) -> FuzzyGraph:
    """Puts a graph of other weights on lists with each edge at one end or both."""
    points = neighbors.shape[1]
    heads, tails = np.tile(np.arange(points), len(neighbors)), neighbors.ravel()
    listed = directed(neighbors, (neighbors != np.arange(points)).astype(float))
    values = np.asarray(weights[heads, tails]).ravel()
    mutual = np.asarray(listed[tails, heads]).ravel() > 0
    halved = np.where(heads == tails, 0.0, values / (1 + mutual))
    return FuzzyGraph(
        on_device(neighbors, np.int32),
        as_floats(halved.reshape(neighbors.shape)),
        as_floats(np.asarray(weights.sum(axis=1)).ravel()),
        graph.radii,
    )
