"""Checks that the parts of a model that was read from a file fit each other."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import scipy.sparse

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.files import FileError
from aljax.graph.fuzzy import FuzzyGraph, check_graph
from aljax.layout.losses import LossTerms
from aljax.layout.problem import LayoutParams
from aljax.relations.mates import Mates
from aljax.scaling import Scaling, Units

LISTS = ("maps", "graphs", "data", "pinned", "point_weights")
KINDS = dict.fromkeys(LISTS, list) | {
    "params": LayoutParams,
    "history": LossTerms,
    "relations": dict,
    "seconds": dict,
    "graph": GraphConfig,
    "layout": LayoutConfig,
    "alignment": AlignmentConfig,
    "ids": tuple | None,
    "slice_labels": tuple | None,
    "columns": tuple | None,
    "coordinates": Units | None,
    "scaling": Scaling | None,
}
ADDED = dict.fromkeys(("columns", "coordinates", "scaling"))  # since version 0.1


def check_parts(parts: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Checks that the parts of a loaded `AlignedEmbedding` are mutually consistent.

    Args:
        parts: By name, as `read` returns them.
        path: Their file.

    Raises:
        FileError: If a part is missing, or of another class, shape or length than the
            others imply, or speaks of rows that are not there; it names the part.
    """
    try:
        flaw = next(_flaws(ADDED | {**parts}), None)
    except Exception as error:
        flaw = "it", f"parts as `save` wrote them ({error!r})"
    if flaw is not None:
        got = f"is {path}, which is truncated or altered: `{flaw[0]}` does not fit the"
        raise FileError("path", f"{got} rest", flaw[1])


def _flaws(parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields parts that do not fit, and what is expected of them.

    What follows a part relies on it: only the first is certain.
    """
    for name, kind in KINDS.items():
        if not isinstance(parts[name], kind):
            yield name, f"{kind}"
    maps, ids = parts["maps"], parts["ids"]
    sizes = [*map(len, maps)]
    for name in (*LISTS, "ids", "slice_labels", "columns"):
        if parts[name] is not None and len(parts[name]) != len(sizes):
            yield name, f"one for each of {len(sizes)} slices"
    if ids is not None and [*map(len, ids)] != sizes:
        yield "ids", "one for each row"
    for t, positions in enumerate(maps):
        finite = _are_rows(positions, sizes[t], 2, "f") and np.isfinite(positions).all()
        if not finite or positions.shape[1] != maps[0].shape[1]:
            yield f"maps[{t}]", "finite (points, components), as many in each"
    for t, size in enumerate(sizes):
        graph, data = parts["graphs"][t], parts["data"][t]
        if not isinstance(graph, FuzzyGraph) or len(graph.degrees) != size:
            yield f"graphs[{t}]", f"a FuzzyGraph of {size} points"
        name = f"graphs[{t}]"
        try:
            check_graph(graph, name)
            name = f"data[{t}]"
            if isinstance(data, scipy.sparse.csr_matrix):
                data.check_format(full_check=True)  # SciPy reads beyond it otherwise
        except ValueError as error:
            yield name, f"a whole one ({error})"
        for name, axes in (("data", 2), ("pinned", 1), ("point_weights", 1)):
            values = parts[name][t]
            if values is not None and not _are_rows(values, size, axes, "biuf"):
                yield f"{name}[{t}]", f"numbers for {size} rows"
    for key, mates in parts["relations"].items():
        t, offset = key
        if not 0 <= t < t + offset < len(sizes) or not isinstance(mates, Mates):
            yield f"relations[{key}]", "mates of two slices"
        count = len(mates.strengths)
        for values, size in ((mates.rows, sizes[t]), (mates.others, sizes[t + offset])):
            rows = _are_rows(values, count, 1, "iu") and (values < size) & (values >= 0)
            if not np.all(rows):
                yield f"relations[{key}]", "rows of two slices"
        for values in (mates.strengths, mates.moves):
            if values is not None and not _are_rows(values, count, 1, "f"):
                yield f"relations[{key}]", "a number for each pair"
    if (units := parts["coordinates"]) is not None:
        finite = np.isfinite([units.center, units.unit]).all()
        if units.center.shape != maps[0].shape[1:] or not finite:
            yield "coordinates", "a center and a unit for each component"
    if (scaling := parts["scaling"]) is not None:
        if len(scaling.columns) != len(sizes):
            yield "scaling", f"one for each of {len(sizes)} slices"
        for units, data in zip(scaling.columns, parts["data"], strict=True):
            width = len(units.unit) if data is None else data.shape[1]
            leaves = jax.tree.leaves(units)
            if any(x.shape != (width,) or not np.isfinite(x).all() for x in leaves):
                yield "scaling", f"numbers for {width} columns"
    for leaf in jax.tree.leaves(parts["params"]):
        if leaf.shape not in ((), (len(sizes),)):
            yield "params", "a value for each slice"


def _are_rows(values: Any, size: int, axes: int, dtype_kinds: str) -> bool:
    """Tells whether values are numbers of some kinds, a row for each point."""
    fits = isinstance(values, np.ndarray | scipy.sparse.csr_matrix)
    fits = fits and values.ndim == axes and values.shape[0] == size
    return fits and values.dtype.kind in dtype_kinds
