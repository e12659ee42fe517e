"""Grids: a few lines of YAML in, the settings of every row of a sweep out.

    product: {alignment_regularisation: {log: [0.01, 1, 5]}, seed: [0, 1, 2]}
    zip: {min_dist: [0, 0.1], spread: [1, 2]}
    random: {count: 10, seed: 0, draw: {repulsion_strength: {log: [0.5, 2]}}}

Where more than one of the three is given, each row of one meets each of the others.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aljax.errors import nearest_name

WAYS = ("product", "zip", "random")
SPACINGS = {"log": np.geomspace, "linear": np.linspace}
DRAWN = ("count", "seed", "draw")

Row = dict[str, Any]


def expand(grid: Any) -> list[Row]:
    """The settings of each row, by name.

    Raises:
        ValueError: A grid that is empty, cannot be read, or names a way that there is
            not; it says the nearest.
    """
    _check_mapping("task.grid", grid, "product, zip or random")
    for way in grid:
        if way not in WAYS:
            raise ValueError(
                f"`task.grid.{way}` is no way to make a grid: {nearest_name(way, WAYS)}"
            )
    named = [name for way in ("product", "zip") for name in grid.get(way) or ()]
    named += (grid.get("random") or {}).get("draw") or ()
    for name in named:
        if named.count(name) > 1:
            raise ValueError(
                f"`task.grid` has {name} in two parts; expected it in one of them."
            )
    parts = []
    if grid.get("product"):
        parts.append(_product(grid["product"]))
    if grid.get("zip"):
        parts.append(_zipped(grid["zip"]))
    if grid.get("random"):
        parts.append(_drawn(grid["random"]))
    rows = [
        {name: value for part in parts for name, value in part.items()}
        for parts in itertools.product(*parts)
    ]
    if not parts or not rows:
        raise ValueError(
            "`task.grid` is empty; expected at least one row, as in "
            "task.grid.product.alignment_regularisation=[0.1,0.3]."
        )
    return rows


def _product(axes: Any) -> list[Row]:
    _check_mapping("task.grid.product", axes, "names and their values")
    values = [_values(f"task.grid.product.{name}", axes[name]) for name in axes]
    return [dict(zip(axes, row, strict=True)) for row in itertools.product(*values)]


def _zipped(axes: Any) -> list[Row]:
    _check_mapping("task.grid.zip", axes, "names and their values")
    values = {name: _values(f"task.grid.zip.{name}", axes[name]) for name in axes}
    counts = {name: len(own) for name, own in values.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"`task.grid.zip` has lists of different lengths, {counts}; expected as "
            "many values of each name, or use product."
        )
    return [
        dict(zip(axes, row, strict=True)) for row in zip(*values.values(), strict=True)
    ]


def _drawn(random: Any) -> list[Row]:
    name = "task.grid.random"
    _check_mapping(name, random, "count, seed and draw")
    for key in (*random, *DRAWN):
        if key not in DRAWN or key not in random:
            raise ValueError(f"`{name}` has {[*random]}; expected {', '.join(DRAWN)}.")
    count, seed = random["count"], random["seed"]
    if not isinstance(count, int) or not isinstance(seed, int) or min(count, seed) < 0:
        raise ValueError(
            f"`{name}` has count {count!r} and seed {seed!r}; expected whole numbers."
        )
    _check_mapping(f"{name}.draw", random["draw"], "names and where to draw them from")
    rng = np.random.default_rng(seed)
    draws = {
        own: _draw(f"{name}.draw.{own}", source, rng, count)
        for own, source in random["draw"].items()
    }
    return [{own: values[row] for own, values in draws.items()} for row in range(count)]


def _draw(name: str, source: Any, rng: np.random.Generator, count: int) -> list[Any]:
    if isinstance(source, Sequence) and not isinstance(source, str) and source:
        return [source[place] for place in rng.integers(len(source), size=count)]
    spacing, (low, high) = _spacing(name, source, 2)
    if spacing == "log":
        return np.exp(rng.uniform(np.log(low), np.log(high), count)).tolist()
    return rng.uniform(low, high, count).tolist()


def _values(name: str, given: Any) -> list[Any]:
    if isinstance(given, Mapping):
        spacing, (low, high, count) = _spacing(name, given, 3)
        return SPACINGS[spacing](low, high, int(count)).tolist()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(
            f"`{name}` is {given!r}; expected a list of values, or a range: "
            "{log: [low, high, count]} or {linear: [low, high, count]}."
        )
    return list(given)


def _spacing(name: str, given: Any, numbers: int) -> tuple[str, list[float]]:
    """The kind of a range, and its two ends (and count)."""
    spacing = next(iter(given), None) if isinstance(given, Mapping) else None
    ends = given[spacing] if spacing in SPACINGS and len(given) == 1 else None
    form = "[low, high, count]" if numbers == 3 else "[low, high]"
    if (
        spacing is None
        or not isinstance(ends, Sequence)
        or len(ends) != numbers
        or not all(isinstance(end, int | float) for end in ends)
        or not np.isfinite(ends).all()
        or (spacing == "log" and min(ends) <= 0)
        or (numbers == 3 and (ends[2] < 1 or ends[2] != int(ends[2])))
    ):
        raise ValueError(
            f"`{name}` is {given!r}; expected {{log: {form}}} with ends above 0, or "
            f"{{linear: {form}}}."
        )
    return spacing, list(ends)


def _check_mapping(name: str, given: Any, expected: str) -> None:
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"`{name}` is {given!r}; expected {expected}.")
