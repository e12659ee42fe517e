"""Whether the parts of a model fit each other: a file can be unharmed and still lie."""

import os
from typing import Any

import jax
import numpy as np
import scipy.sparse

from aljax.arrays import DAMAGE
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.files import FileError
from aljax.graph.fuzzy import FuzzyGraph, check_graph
from aljax.layout.losses import LossTerms
from aljax.layout.problem import LayoutParams
from aljax.relations.mates import Mates

KINDS = {
    "params": LayoutParams,
    "history": LossTerms,
    "graph": GraphConfig,
    "layout": LayoutConfig,
    "alignment": AlignmentConfig,
    "relations": dict,
    "seconds": dict,
}
PER_SLICE = ("graphs", "data", "pinned", "point_weights")


def check_file(model: Any, path: str | os.PathLike[str]) -> None:
    """`check_whole` of a model that was read from a file.

    Raises:
        FileError: Parts that do not fit each other.
    """
    try:
        check_whole(model)
    except DAMAGE as error:
        raise FileError(
            f"`path` is {path}, which is truncated or altered: {error}"
        ) from error


def check_whole(model: Any) -> None:
    """Refuse a model whose parts do not belong together.

    Args:
        model: An `AlignedEmbedding` made of parts of any kind.

    Raises:
        ValueError: A part of another class, shape or length than the others imply, or
            rows that are not there; it names the part.
    """
    for name, kind in KINDS.items():
        _require(isinstance(getattr(model, name), kind), name, f"a {kind.__name__}")
    _require(isinstance(model.maps, list) and len(model.maps) > 0, "maps", "a list")
    sizes = [_check_map(one, f"maps[{t}]") for t, one in enumerate(model.maps)]
    columns = {one.shape[1] for one in model.maps}
    _require(len(columns) == 1, "maps", "as many components in each")
    for name in PER_SLICE:
        part = getattr(model, name)
        fits = isinstance(part, list) and len(part) == len(sizes)
        _require(fits, name, f"a list of {len(sizes)}")
    for t, size in enumerate(sizes):
        _check_graph(model.graphs[t], size, f"graphs[{t}]")
        _check_data(model.data[t], size, f"data[{t}]")
        _check_rows(model.pinned[t], size, 1, f"pinned[{t}]")
        _check_rows(model.point_weights[t], size, 1, f"point_weights[{t}]")
    _check_relations(model.relations, sizes)
    for leaf in jax.tree.leaves(model.params):
        _require(leaf.shape in ((), (len(sizes),)), "params", "a value for each slice")
    for name, counts in (("ids", sizes), ("slice_labels", None)):
        part = getattr(model, name)
        if part is not None:
            fits = isinstance(part, tuple) and len(part) == len(sizes)
            fits = fits and (counts is None or [*map(len, part)] == counts)
            _require(fits, name, "one for each")


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"`{name}` does not fit the rest; expected {expected}.")


def _check_map(one: Any, name: str) -> int:
    fits = isinstance(one, np.ndarray) and one.ndim == 2 and one.dtype.kind == "f"
    _require(fits and bool(np.isfinite(one).all()), name, "finite (points, components)")
    return len(one)


def _check_graph(graph: Any, size: int, name: str) -> None:
    _require(isinstance(graph, FuzzyGraph), name, "a FuzzyGraph")
    check_graph(graph, name)
    fits = len(graph.degrees) == size
    _require(fits, name, f"lists of neighbours for {size} points")


def _check_data(values: Any, size: int, name: str) -> None:
    if not isinstance(values, scipy.sparse.csr_matrix):
        return _check_rows(values, size, 2, name)
    try:
        values.check_format(full_check=True)  # SciPy reads beyond arrays otherwise
    except ValueError as error:
        _require(False, name, f"sparse rows ({error})")
    fits = values.shape[0] == size and values.dtype.kind in "biuf"
    _require(fits, name, f"numbers for {size} rows")


def _check_rows(values: Any, size: int, axes: int, name: str) -> None:
    fits = isinstance(values, np.ndarray) and values.ndim == axes
    fits = fits and len(values) == size and values.dtype.kind in "biuf"
    _require(values is None or fits, name, f"numbers for {size} rows")


def _check_relations(relations: Any, sizes: list[int]) -> None:
    for key, mates in relations.items():
        t, offset = key if isinstance(key, tuple) and len(key) == 2 else (-1, 0)
        fits = isinstance(t, int) and isinstance(offset, int)
        fits = fits and 0 <= t < t + offset < len(sizes) and isinstance(mates, Mates)
        _require(fits, f"relations[{key}]", "mates of two slices")
        rows, others, strengths = (np.asarray(part) for part in mates[:3])
        fits = rows.ndim == 1 and rows.shape == others.shape == strengths.shape
        fits = fits and _are_rows(rows, sizes[t])
        fits = fits and _are_rows(others, sizes[t + offset])
        _require(fits, f"relations[{key}]", "rows of two slices")


def _are_rows(values: np.ndarray, size: int) -> bool:
    whole = values.dtype.kind in "iu"
    return whole and bool(((values >= 0) & (values < size)).all())
