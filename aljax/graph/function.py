"""Distances by a function of two rows: the user's own, or one of pynndescent's.

A function takes two rows and the metric's keyword arguments, and returns their
distance, or the distance and its gradient (as for umap-learn).  Of sparse rows it takes
indices and values: `metric(indices, values, other_indices, other_values)`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from aljax.graph.knn import Rows

Metric = Any  # a name, or a function of two rows
MANY = 1e5  # pairs of rows that are worth the second in which numba compiles a loop


def is_compiled(metric: Metric) -> bool:
    """Returns whether a metric is a function that numba compiles."""
    return hasattr(metric, "py_func")


def all_pairs(
    rows: Rows, others: Rows, metric: Callable[..., Any], kwds: Mapping[str, Any]
) -> Float[np.ndarray, "rows others"]:
    """Returns the distances of rows to others.

    Raises:
        TypeError: The function does not take the keyword arguments.
        ValueError: numba cannot compile the function for these rows.
    """
    arguments = _ordered(metric, kwds, 2 if isinstance(rows, np.ndarray) else 4)
    if not is_compiled(metric):
        return _one_by_one(rows, others, metric, arguments)
    from numba.core.errors import NumbaError

    try:
        if isinstance(rows, np.ndarray) and len(rows) * len(others) > MANY:
            between = plain(metric, rows, kwds)
            return _loop(between)(rows, others, *arguments)
        return _one_by_one(rows, others, metric, arguments)
    except NumbaError as error:
        message = str(error).partition("\n")[0]
        raise ValueError(
            f"numba cannot compile it for these rows: {message}"
        ) from error


def plain(metric: Any, rows: np.ndarray, kwds: Mapping[str, Any]) -> Any:
    """Returns a compiled function of dense rows without its gradient, if it has one."""
    ends = rows[0].copy(), rows[-1].copy()
    value = metric(*ends, *_ordered(metric, kwds, 2))
    return _first(metric) if isinstance(value, tuple) else metric


def _ordered(metric: Any, kwds: Mapping[str, Any], sides: int) -> tuple[Any, ...]:
    """Keyword arguments as the function has them after its rows, defaults included."""
    signature = inspect.signature(getattr(metric, "py_func", metric))
    bound = signature.bind(*[None] * sides, **kwds)
    bound.apply_defaults()
    return bound.args[sides:]


def _one_by_one(rows: Rows, others: Rows, metric: Any, arguments: Any) -> np.ndarray:
    values = [
        [metric(*i, *j, *arguments) for j in _sides(others)] for i in _sides(rows)
    ]
    lengths = [[d[0] if isinstance(d, tuple) else d for d in row] for row in values]
    array = np.array(lengths, float)
    if array.ndim > 2:
        raise ValueError(f"it returns an array of shape {array.shape[2:]}")
    return array


def _sides(rows: Rows) -> list[tuple[Any, ...]]:
    if isinstance(rows, np.ndarray):
        return [(row,) for row in rows]
    ends = zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    return [(rows.indices[i:j], rows.data[i:j]) for i, j in ends]


@cache
def _first(metric: Any) -> Any:
    import numba

    return numba.njit(lambda x, y, *arguments: metric(x, y, *arguments)[0])


@cache
def _loop(metric: Any) -> Any:
    """Compares all pairs in one compiled loop, a row for each thread."""
    import numba

    def lengths(rows: Any, others: Any, *arguments: Any) -> Any:
        distances = np.empty((len(rows), len(others)))
        for i in numba.prange(len(rows)):
            for j in range(len(others)):
                distances[i, j] = metric(rows[i], others[j], *arguments)
        return distances

    return numba.njit(parallel=True)(inspect.unwrap(lengths))  # as it was written
