"""Grids: a few lines of YAML in, the settings of every row of a sweep out.

    product: {alignment_regularisation: {log: [0.01, 1, 5]}, seed: [0, 1, 2]}
    zip: {min_dist: [0, 0.1], spread: [1, 2]}
    random: {count: 10, seed: 0, draw: {repulsion_strength: {log: [0.5, 2]}}}

Where more than one of the three is given, each row of one meets each of the others.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from aljax.config import number
from aljax.errors import InputError
from experiments.composition import GRID, check_names

SPACINGS = {"log": np.geomspace, "linear": np.linspace}
Row = dict[str, Any]


def expand(grid: Any) -> list[Row]:
    """Returns the settings of each row, by name.

    Raises:
        InputError: The grid is empty, cannot be read, or names a way that does not
            exist (the error tells the nearest).
    """
    ways = {"product": _listed, "zip": _listed, "random": _drawn}
    _check_mapping(GRID, grid, "product, zip or random")
    check_names(grid, ways, "way to make a grid", above=f"{GRID}.")
    parts = [rows(way, grid[way]) for way, rows in ways.items() if grid.get(way)]
    names = [name for part in parts for name in (part[0] if part else ())]
    for name in names:
        if names.count(name) > 1:
            raise InputError(GRID, f"has {name} in two parts", "it in one of them")
    rows = [
        {name: value for part in combined for name, value in part.items()}
        for combined in itertools.product(*parts)
    ]
    if not parts or not rows:
        expected = "at least one row, as in task.grid.product.min_dist=[0.1,0.3]"
        raise InputError(GRID, "is empty", expected)
    return rows


def _listed(way: str, axes: Any) -> list[Row]:
    """Returns the rows of `product` or `zip`: lists as they are, or ranges."""
    name = f"{GRID}.{way}"
    _check_mapping(name, axes, "names and their values")
    values = {axis: _values(f"{name}.{axis}", source) for axis, source in axes.items()}
    if way == "product":
        rows = itertools.product(*values.values())
    elif len({*map(len, values.values())}) == 1:
        rows = zip(*values.values(), strict=True)
    else:
        counts = {axis: len(listed) for axis, listed in values.items()}
        got = f"has lists of different lengths, {counts}"
        remedy = "Use product for all combinations."
        raise InputError(name, got, "as many values of each name", remedy)
    return [dict(zip(values, row, strict=True)) for row in rows]


def _values(name: str, source: Any) -> list[Any]:
    if _is_list(source):
        return list(source)
    spacing, (low, high, count) = _spacing(name, source, 3)
    return SPACINGS[spacing](low, high, int(count)).tolist()


def _drawn(way: str, random: Any) -> list[Row]:
    name, options = f"{GRID}.{way}", ("count", "seed", "draw")
    if not isinstance(random, Mapping) or {*random} != {*options}:
        raise InputError(name, f"is {random!r}", ", ".join(options))
    for option in ("count", "seed"):
        number(0, whole=True)(f"{name}.{option}", random[option])
    _check_mapping(f"{name}.draw", random["draw"], "names and where to draw them from")
    rng = np.random.default_rng(random["seed"])
    draws = {
        axis: _draw(f"{name}.draw.{axis}", source, rng, random["count"])
        for axis, source in random["draw"].items()
    }
    rows = zip(*draws.values(), strict=True)
    return [dict(zip(draws, row, strict=True)) for row in rows]


def _draw(name: str, source: Any, rng: np.random.Generator, count: int) -> list[Any]:
    if _is_list(source) and source:
        return [source[place] for place in rng.integers(len(source), size=count)]
    spacing, (low, high) = _spacing(name, source, 2)
    if spacing == "log":
        return np.exp(rng.uniform(np.log(low), np.log(high), count)).tolist()
    return rng.uniform(low, high, count).tolist()


def _spacing(name: str, source: Any, numbers: int) -> tuple[str, list[float]]:
    """Returns the kind of a range, and its two ends (and count)."""
    spacing = next(iter(source), "") if isinstance(source, Mapping) else ""
    ends = source[spacing] if spacing in SPACINGS and len(source) == 1 else None
    form = "[low, high, count]" if numbers == 3 else "[low, high]"
    if (
        not _is_list(ends)
        or len(ends) != numbers
        or not all(isinstance(end, int | float) for end in ends)
        or not np.isfinite(ends).all()
        or (spacing == "log" and min(ends) <= 0)
        or (numbers == 3 and (ends[2] < 1 or ends[2] != int(ends[2])))
    ):
        expected = f"a list of values, {{log: {form}}} with ends above 0, or "
        raise InputError(name, f"is {source!r}", expected + f"{{linear: {form}}}")
    return spacing, list(ends)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _check_mapping(name: str, value: Any, expected: str) -> None:
    if not isinstance(value, Mapping) or not value:
        raise InputError(name, f"is {value!r}", expected)
