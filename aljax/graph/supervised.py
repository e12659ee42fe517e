"""Labels and values that shape a slice's graph: a fuzzy intersection with the data's.

Classes weaken the edges that leave a class:

    w'(i, j) = w(i, j) e^(-d),    d = 0 within a class, 2.5 / (1 - p) between two,
                                      1 where one is unknown

Ranks, counts and texts weaken edges likewise, by 2.5 / (1 - p) times

    ordinal   d(i, j) = |y_i - y_j| / h                          h = (max y - min y) / 2
    count     d(i, j) = sum_(k = y_i)^(y_j - 1) -log P(k) / h    h = half the whole sum
    string    d(i, j) = edits(y_i, y_j) / h                      h = longest y / 3

which are 0 (equal) to about 2.  P is the Poisson distribution with the mean of y, and
edits counts the letters that are inserted, deleted or replaced; texts that are more
than h edits apart may count as h.  Values have a fuzzy graph v of their own (directed):

    w'(i, j) = w(i, j)^min(1, (1 - p) / p)  v(i, j)^min(1, p / (1 - p))

where an edge that only one of the two has counts in the other as half of its weakest.
p is `target_weight`, the weight of the target relative to the data.  Either way each
row's strongest edge is then made 1 again, and the two directions of an edge are joined
by fuzzy union.

Source: McInnes, Healy & Melville (2018), arXiv:1802.03426, sections 3.1 and 5.6
(intersection of fuzzy sets), with the constants of umap-learn; and its `distances.py`,
but that P is exact there for counts above 20 only.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from aljax.columns import as_column, is_missing
from aljax.config import GraphConfig
from aljax.errors import InputError, warn
from aljax.graph.fuzzy import FuzzyGraph, directed, memberships
from aljax.graph.knn import as_floats, on_device, side_by_side
from aljax.graph.neighbors import find_neighbors
from aljax.graph.slices import Slice, warn_of_degrees

CLASSES = "categorical"
# On single numbers these are the distance that the exact search knows.
SAME_ON_NUMBERS = ("l1", "manhattan", "chebyshev", "minkowski")
UNKNOWN = -1
UNKNOWN_DISTANCE = 1.0
FAR = 2.5  # far distance at target_weight 0; it grows as 1 / (1 - target_weight)
FAINTEST, FAINT = 1e-8, 1e-4  # bounds of an edge that is absent
SPAN = 1e8  # counts, each of which takes 32 bytes
Edges = Int[np.ndarray, "edges"]
Distances = Float[np.ndarray, "edges"]


def intersect(
    graph: FuzzyGraph,
    y: Any,
    settings: GraphConfig,
    n_neighbors: int,
    *,
    seed: int,
    name: str,
) -> FuzzyGraph:
    """Returns a slice's graph intersected with its classes or values.

    Args:
        graph: The graph.
        y: A class, rank, count, text or value for each row, or a row of values.
        settings: Those of targets say which.
        n_neighbors: Neighbors among values, where `target_n_neighbors` is -1.
        seed: Seeds the approximate search for them.
        name: The argument that `y` came by, for errors.
    """
    rows, metric = graph.neighbors.shape[1], settings.target_metric
    if metric == CLASSES:
        classes = read_classes(y, rows, name)
        return intersect_classes(graph, classes, settings.target_weight)
    if metric in DISCRETE:
        read, apart = DISCRETE[metric]
        edges = _edges(graph)
        between = apart(read(y, rows, name), edges.row, edges.col)
        distance = np.where(between > 0, _scale(settings.target_weight), 0.0)
        return _weakened(graph, edges, distance * np.maximum(between, FAINTEST))
    values = read_values(y, rows, name)
    if settings.target_n_neighbors != -1:
        n_neighbors = settings.target_n_neighbors
    if n_neighbors >= rows:
        got = f"is {n_neighbors}, but the slice has {rows} rows"
        raise InputError("target_n_neighbors", got, "less than its rows", "Lower it.")
    kwds = settings.target_metric_kwds
    if values.shape[1] == 1 and metric in SAME_ON_NUMBERS and not kwds:
        metric = "euclidean"
    try:
        warn_of_degrees([Slice(rows, values, f"`{name}`", metric)])
        knn = find_neighbors(
            values, n_neighbors, metric=metric, metric_kwds=kwds, seed=seed
        )
    except InputError as error:
        remedy = f"{error.remedy} Or use {CLASSES!r}.".strip()
        statement = error.got, error.expected, remedy
        raise InputError(f"target_{error.name}", *statement) from error
    joined, unit = side_by_side([knn])
    strengths = np.asarray(memberships(joined, 1.0, unit))[:, :rows]
    lists = np.asarray(knn.indices)
    return intersect_values(graph, lists, strengths, settings.target_weight)


def warn_of_keywords(target_metric: Any) -> None:
    """Warns of keywords beside a target metric that takes none."""
    if target_metric in (CLASSES, *DISCRETE):
        why = f"`target_metric={target_metric!r}` takes none"
        warn(f"`target_metric_kwds` does nothing here: {why}.")


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


def read_numbers(y: Any, rows: int, name: str) -> Float[np.ndarray, "rows"]:
    """Returns a number for each row."""
    return read_values(read_column(y, rows, name), rows, name)[:, 0]


def read_counts(y: Any, rows: int, name: str) -> Float[np.ndarray, "rows"]:
    """Returns a count for each row.

    Raises:
        InputError: A value is not a whole number of at least 0, or they span too many.
    """
    counts = read_numbers(y, rows, name)
    wrong = (counts < 0) | (counts % 1 != 0)
    if wrong.any():
        row = int(wrong.argmax())
        got = f"has {counts[row]} in row {row}"
        raise InputError(name, got, "whole numbers of at least 0, for they are counts")
    if np.ptp(counts) > SPAN:
        got = f"spans {np.ptp(counts):g} counts"
        remedy = 'Set target_metric="euclidean", and give logarithms of them.'
        raise InputError(name, got, f"at most {SPAN:g}, which are summed up", remedy)
    return counts


def ordinal(y: np.ndarray, heads: Edges, tails: Edges) -> Distances:
    """Returns distances between ranks, along edges."""
    return np.abs(y[heads] - y[tails]) / (np.ptp(y) / 2 or 1.0)


def count(y: np.ndarray, heads: Edges, tails: Edges) -> Distances:
    """Returns distances between counts, along edges."""
    from scipy.special import gammaln

    steps = np.arange(y.min(), y.max())
    mean = y.mean() or 1.0
    surprise = mean - steps * np.log(mean) + gammaln(steps + 1)
    sums = np.concatenate([[0.0], np.cumsum(surprise)])
    place = (y - y.min()).astype(int)
    return np.abs(sums[place[heads]] - sums[place[tails]]) / (sums[-1] / 2 or 1.0)


def string(y: Sequence[str], heads: Edges, tails: Edges) -> Distances:
    """Returns distances between texts, along edges; each pair is compared once."""
    kinds, codes = np.unique(np.array(y, object), return_inverse=True)
    texts = kinds.tolist()
    most = max(map(len, texts)) / 3 or 1.0
    pairs = codes[heads] * len(texts) + codes[tails]
    distinct, pair_of_edge = np.unique(pairs, return_inverse=True)
    ends = (divmod(pair, len(texts)) for pair in distinct.tolist())
    lengths = [edits(texts[i], texts[j], most) for i, j in ends]
    return np.array(lengths, float)[pair_of_edge] / most


def edits(left: str, right: str, most: float) -> float:
    """Returns the edit distance of two texts, or `most` once it is sure to be more.

    Source: Wagner & Fischer (1974), "The string-to-string correction problem".
    """
    if abs(len(left) - len(right)) > most:
        return most
    row: list[int] = [*range(len(right) + 1)]
    for i, letter in enumerate(left, 1):
        above, row = row, [i]
        for j, other in enumerate(right, 1):
            change = above[j - 1] + (letter != other)
            row.append(min(above[j] + 1, row[-1] + 1, change))
        if min(row) > most:
            return most
    return row[-1]


# For each the reader of the target, and the distances along edges.
DISCRETE: dict[Any, tuple[Callable[..., Any], Callable[..., Distances]]] = {
    "ordinal": (read_numbers, ordinal),
    "count": (read_counts, count),
    "string": (read_texts, string),
}


def intersect_classes(
    graph: FuzzyGraph, classes: Int[np.ndarray, "points"], target_weight: float
) -> FuzzyGraph:
    """Weakens the graph's edges that leave a class, or whose class is unknown."""
    edges = _edges(graph)
    heads, tails = classes[edges.row], classes[edges.col]
    distance = np.where(heads == tails, 0.0, _scale(target_weight))
    distance[(heads == UNKNOWN) | (tails == UNKNOWN)] = UNKNOWN_DISTANCE
    return _weakened(graph, edges, distance)


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
    x = np.maximum(entries(left, rows, columns), least_left)
    y = np.maximum(entries(right, rows, columns), least_right)
    shares = np.array([1 - target_weight, target_weight])
    of_data, of_values = shares / shares.max()
    edges.data = x**of_data * y**of_values
    # The data's neighbors stand last: the farthest of them stays at the end.
    repeated = (neighbors[1:, None] == listed[None]).any(axis=1)
    added = np.where(repeated, listed[:1], neighbors[1:])
    lists = np.concatenate([listed[:1], added, listed[1:]])
    return _on_lists(graph, lists, restored(edges.tocsr()))


def entries(matrix: Any, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns entries of a sparse matrix, 0 where none is stored."""
    return np.asarray(matrix[rows, columns], float).ravel()


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
    values = entries(weights, heads, tails)
    mutual = entries(listed, tails, heads) > 0
    halved = np.where(heads == tails, 0.0, values / (1 + mutual))
    return FuzzyGraph(
        on_device(neighbors, np.int32),
        as_floats(halved.reshape(neighbors.shape)),
        as_floats(np.asarray(weights.sum(axis=1)).ravel()),
        graph.radii,
    )
