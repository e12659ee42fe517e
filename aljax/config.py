"""Settings: frozen dataclasses that check every value, and compare by content.

A `per_slice` setting takes one value for all slices, or a list with one for each.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from reprlib import repr as brief
from typing import Any, TypeGuard

import numpy as np

from aljax.errors import LARGEST, InputError, check_names, nearest_name

Check = Callable[[str, Any], None]
PerSliceFloat = float | Sequence[float]
PerSliceInt = int | Sequence[int]
SMALLEST = 1e-6  # spread of a curve whose a and b single precision can hold
METHODS = ("linear", "mean")  # of the inverse transform
INVERTIBLE = ("euclidean", "cosine")  # metrics that it knows


def is_listed(value: Any) -> TypeGuard[Sequence[Any]]:
    """Returns True for a list, tuple or array with one value for each slice."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Any, whole: bool) -> TypeGuard[float]:
    kind = numbers.Integral if whole else numbers.Real
    if not isinstance(value, kind) or isinstance(value, bool | np.bool_):
        return False
    return math.isfinite(float(value))  # pyright: ignore[reportArgumentType]


def number(
    low: float,
    *,
    high: float = math.inf,
    whole: bool = False,
    open_low: bool = False,
    optional: bool = False,
    remedy: str = "",
) -> Check:
    """Makes a check that a value is a number in [low, high], or (low, high]."""
    expected = "a whole number" if whole else "a finite number"
    expected += f" above {low:g}" if open_low else f" of at least {low:g}"
    expected += f" and at most {high:g}" if high < math.inf else ""
    expected += ", or None" if optional else ""
    expected += remedy

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        inside = _is_number(value, whole) and low <= value <= high
        if not inside or (open_low and value == low):
            raise InputError(name, f"is {value!r}", expected)

    return check


def one_of(*choices: str, optional: bool = False) -> Check:
    """Makes a check that a value is one of a few names."""

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str) or value not in choices:
            hint = nearest_name(str(value), choices).rstrip(".")
            expected = f"one of {', '.join(choices)} ({hint})"
            raise InputError(name, f"is {value!r}", expected)

    return check


def _metric(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InputError(
            name, f"is {value!r}", "the name of a metric, such as 'euclidean'"
        )


def _keywords(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, Mapping):
        expected = "a dict of keyword arguments for the metric, or None"
        raise InputError(name, f"is {value!r}", expected)


def _start(name: str, value: Any) -> None:
    if is_listed(value) and len(value):
        return  # positions, the old spelling of `fit(start=...)`, which reads them
    one_of("spectral", "pca", "random")(name, value)


def _target_neighbors(name: str, value: Any) -> None:
    if not isinstance(value, numbers.Integral) or value != -1:  # as n_neighbors
        number(2, whole=True)(name, value)


def _bounds(name: str, value: Any) -> None:
    pair = is_listed(value) and len(value) == 2
    if not (value is None or pair or (isinstance(value, str) and value == "data")):
        raise InputError(name, f"is {value!r}", 'None, "data" or a pair (lo, hi)')


def _each(check: Check) -> Check:
    def check_each(name: str, value: Any) -> None:
        listed = is_listed(value)
        # None stands for the whole setting, never for a slice of it.
        entries = ["" if one is None else one for one in value] if listed else [value]
        try:
            for entry in entries or [""]:
                check(name, entry)
        except InputError as error:
            expected = f"{error.expected}, or a list with one for each slice"
            raise InputError(name, f"is {value!r}", expected) from None

    return check_each


def _setting(default: Any, check: Check, *, per_slice: bool = False) -> Any:
    checked = _each(check) if per_slice else check
    return field(default=default, metadata={"check": checked, "per_slice": per_slice})


def _content(value: Any) -> Any:
    """Returns a setting as a value that can be hashed: arrays by shape, type, bytes."""
    if getattr(value, "ndim", 0) and hasattr(value, "__array__"):
        array = np.asarray(value)
        held = tuple(array.ravel()) if array.dtype.hasobject else array.tobytes()
        return array.shape, array.dtype.str, held
    if isinstance(value, Mapping):
        return frozenset((name, _content(entry)) for name, entry in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_content, value))
    return value


class _Settings:
    """Strict names, checked values, and equality and hash by content."""

    def __new__(cls, *_: Any, **settings: Any) -> Any:
        check_names(cls, settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, spec.name)
            spec.metadata["check"](spec.name, value)
            if is_listed(value):  # copies: a hash must not change later
                object.__setattr__(self, spec.name, tuple(value))
            elif isinstance(value, Mapping):
                object.__setattr__(self, spec.name, dict(value))

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return _content(vars(self)) == _content(vars(other))

    def __hash__(self) -> int:
        return hash((type(self), _content(vars(self))))


@dataclass(frozen=True, eq=False)
class GraphConfig(_Settings):
    """Settings that turn each slice's data into a weighted graph of neighbors.

    Attributes:
        n_neighbors: How many neighbors a row is compared with, itself included
            (per slice; whole, at least 2, less than the rows of the slice).
            Small values show detail, large ones the overall arrangement.
        metric: The distance between rows: euclidean, cosine, or any other name that
            pynndescent knows; or "precomputed": then a slice is its rows'
            distances, `(points, points)`, all of them or, as a sparse matrix, those
            of the nearest.
        metric_kwds: Keyword arguments for the metric, such as `{"p": 3}`.
        local_connectivity: How many nearest neighbors count as fully connected
            (per slice; at least 0, fractions interpolate).
        set_op_mix_ratio: 1 joins the two directions of an edge by fuzzy union, 0 by
            fuzzy intersection, values between mix them (per slice; 0 to 1).
        knn_method: "exact", "approximate" (pynndescent), or "auto": exact as long
            as it is expected to be the faster of the two.
        target_metric: How `y` is compared: "categorical" for classes, or the
            distance between values (a metric, as above).
        target_metric_kwds: Keyword arguments for that metric.
        target_n_neighbors: How many values a value is compared with, itself included
            (whole, at least 2); -1 takes `n_neighbors`.
        target_weight: Weight of `y` relative to the data: 0 ignores `y`, 1 uses only
            `y`.

    Raises:
        InputError: A name, type or value is none of the above.
    """

    n_neighbors: PerSliceInt = _setting(15, number(2, whole=True), per_slice=True)
    metric: str = _setting("euclidean", _metric)
    metric_kwds: Mapping[str, Any] | None = _setting(None, _keywords)
    local_connectivity: PerSliceFloat = _setting(1.0, number(0), per_slice=True)
    set_op_mix_ratio: PerSliceFloat = _setting(1.0, number(0, high=1), per_slice=True)
    knn_method: str = _setting("auto", one_of("auto", "exact", "approximate"))
    target_metric: str = _setting("categorical", _metric)
    target_metric_kwds: Mapping[str, Any] | None = _setting(None, _keywords)
    target_n_neighbors: int = _setting(-1, _target_neighbors)
    target_weight: float = _setting(0.5, number(0, high=1))


@dataclass(frozen=True, eq=False)
class LayoutConfig(_Settings):
    """Settings that turn the graphs into maps.

    Attributes:
        n_components: Dimensions of the maps (whole, at least 1).
        min_dist: How close points may lie in the map (per slice; map units, at
            least 0, at most `spread`).
        spread: The scale of the map's membership curve (per slice; map units,
            above 0).
        a, b: The membership curve itself, instead of `min_dist` and `spread` (per
            slice; a 1e-36 to 1e36, b at least 0.5; both or neither).
        n_epochs: Steps of the optimizer (whole; 0 returns the start).  None chooses by
            size: 350, or 250 for slices of more than 20,000 points.
        learning_rate: Length of the first step, in map units for each coordinate; it
            falls to 0 with the square of the epochs left (per slice; above 0).
        init: The start: "spectral", "pca" or "random"; `fit(start=...)` takes maps.
        repulsion_strength: Weight of the repulsion (per slice; at least 0).
        negative_sample_rate: Repelling pairs for each attracting one, on average
            (per slice; at least 0, fractions allowed).
        n_shifts: How many circular shifts estimate the repulsion in each epoch
            (whole).  It changes the noise of the estimate, never its mean; half
            the number of points makes it exact.  None chooses by size.

    Raises:
        InputError: A name, type or value is none of the above.
    """

    n_components: int = _setting(2, number(1, whole=True))
    min_dist: PerSliceFloat = _setting(0.1, number(0), per_slice=True)
    spread: PerSliceFloat = _setting(1.0, number(0, open_low=True), per_slice=True)
    a: PerSliceFloat | None = _setting(
        None, number(1 / LARGEST, high=LARGEST, optional=True), per_slice=True
    )
    b: PerSliceFloat | None = _setting(None, number(0.5, optional=True), per_slice=True)
    n_epochs: int | None = _setting(None, number(0, whole=True, optional=True))
    learning_rate: PerSliceFloat = _setting(
        3.0, number(0, open_low=True), per_slice=True
    )
    init: str | Sequence[Any] = _setting("spectral", _start)
    repulsion_strength: PerSliceFloat = _setting(1.0, number(0), per_slice=True)
    negative_sample_rate: PerSliceFloat = _setting(5.0, number(0), per_slice=True)
    n_shifts: int | None = _setting(None, number(1, whole=True, optional=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_both(self.a, self.b)
        # Before the data are read; of lists when there are slices to count.
        listed = is_listed(self.min_dist) or is_listed(self.spread)
        if self.a is None and not listed:
            _check_curve(self.spread, self.min_dist)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, eq=False)
class AlignmentConfig(_Settings):
    """Settings of how strongly, and how far along the sequence, mates hold.

    Attributes:
        alignment_regularisation: Weight of the pull between mates (at least 0;
            0 lays the slices out independently).
        alignment_window_size: The farthest slice, before and after, in which a row
            has mates (slices; whole, at least 1).
        alignment_strengths: How strongly a mate holds: "jaccard", by the overlap of
            the two rows' neighborhoods, or "uniform", all alike.  Mates that come
            with weights of their own are held by those.
        alignment_decay: How fast strengths fall along the window, as
            exp(-alignment_decay (offset - 1)) (at least 0; 0 holds far mates as
            strongly as near ones).
        motion_fidelity: How far mates are asked to lie apart, in map units for every
            unit that they lie apart in the data (at least 0; the data's unit is a
            row's usual distance to its k-th neighbor).  0 pulls them together
            however far the data moved; above 0 all slices need the same columns.

    Raises:
        InputError: A name, type or value is none of the above.
    """

    alignment_regularisation: float = _setting(
        0.07, number(0, remedy=" (`aljax.selection.select_alignment` can choose it)")
    )
    alignment_window_size: int = _setting(3, number(1, whole=True))
    alignment_strengths: str = _setting("jaccard", one_of("jaccard", "uniform"))
    alignment_decay: float = _setting(1.0, number(0))
    motion_fidelity: float = _setting(0.0, number(0))


@dataclass(frozen=True, eq=False)
class InverseConfig(_Settings):
    """Settings that turn positions in a map into data.

    Attributes:
        method: "linear" (local ridge regression) or "mean" (local average).
        n_neighbors: Map points that each position's data are made of (2 to points
            - 1).  None takes a twelfth of the points, at least 10 and at most 60.
        bounds: None, `(lo, hi)` (numbers, or one for each feature), or "data": each
            feature within its range in the data.
        metric: "euclidean", or "cosine": directions and lengths are averaged apart.
            None takes that of the model, or euclidean.

    Raises:
        InputError: A name, type or value is none of the above.
    """

    method: str = _setting("linear", one_of(*METHODS))
    n_neighbors: int | None = _setting(None, number(2, whole=True, optional=True))
    bounds: str | tuple[Any, Any] | None = _setting(None, _bounds)
    metric: str | None = _setting(None, one_of(*INVERTIBLE, optional=True))


CONFIGS = {"graph": GraphConfig, "layout": LayoutConfig, "alignment": AlignmentConfig}


def check_extra(function: str, extra: Mapping[str, Any], names: Sequence[str]) -> None:
    """Checks that a function was given no keyword beyond its own `names`.

    Raises:
        TypeError: It was; the message says which config has it, or the nearest name.
    """
    for name, value in extra.items():
        for section, config in CONFIGS.items():
            if name in (field.name for field in dataclasses.fields(config)):
                place = f"{section}=aljax.{config.__name__}({name}={brief(value)})"
                if function == "update":
                    place = f"settings={{{name!r}: {brief(value)}}}"
                raise TypeError(
                    f"`{name}` is a setting of {config.__name__}: "
                    f"{function}(..., {place})"
                )
        hint = nearest_name(name, names)
        raise TypeError(f"`{name}` is not an argument of `{function}`: {hint}")


def per_slice(name: str, value: Any, slices: int) -> list[Any]:
    """Returns one value for each slice, from one for all or a list of them.

    Raises:
        InputError: The list's length is not the number of slices.
    """
    if not is_listed(value):
        return [value] * slices
    if len(value) != slices:
        raise InputError(
            name,
            f"has {len(value)} values, but there are {slices} slices",
            "one value for each slice, or a single value for all",
        )
    return list(value)


def of_slices(settings: Any, own: range, slices: int) -> Any:
    """Returns the settings of some of the slices: lists are cut, all else stays.

    Raises:
        InputError: A list's length is not the number of slices.
    """
    cut = {
        name: per_slice(name, value, slices)[own.start : own.stop]
        for name, value in vars(settings).items()
        if is_listed(value)
    }
    return dataclasses.replace(settings, **cut)


def check_both(a: Any, b: Any) -> None:
    """Checks that both or neither of a curve's parameters are set."""
    if (a is None) != (b is None):
        missing = "a" if a is None else "b"
        raise InputError(
            missing,
            "is None although its partner is not",
            "both `a` and `b`, or neither",
            "With neither, they are fitted to `min_dist` and `spread`.",
        )


def _check_curve(spread: float, min_dist: float) -> None:
    if not 0 <= min_dist <= spread:
        raise InputError(
            "min_dist",
            f"is {min_dist:g} and `spread` is {spread:g}",
            "0 <= min_dist <= spread",
            "Lower `min_dist` or raise `spread`.",
        )
    if not SMALLEST <= spread <= 1 / SMALLEST:
        expected = f"{SMALLEST:g} to {1 / SMALLEST:g} map units: maps are about 20 wide"
        raise InputError("spread", f"is {spread:g}", expected)


@lru_cache(maxsize=256)
def find_ab_params(spread: float, min_dist: float) -> tuple[float, float]:
    """Returns the curve 1 / (1 + a d^(2b)) nearest to the one of `min_dist`.

    The target is 1 up to `min_dist` and exp(-(d - min_dist) / spread) beyond, fitted
    by least squares at 300 distances up to 3 `spread`.  The fit is in units of
    `spread` and over log a and log b, so neither can turn negative.

    Args:
        spread: Scale of the curve (map units, above 0).
        min_dist: Distance up to which points count as together (map units, 0 to
            `spread`).

    Returns:
        a and b.

    Raises:
        InputError: `min_dist` is above `spread`, or `spread` is not in map units.

    Source: McInnes, Healy & Melville (2018), arXiv:1802.03426, section 3.2 and
        appendix C (the membership function's smooth approximation).
    """
    from scipy.optimize import least_squares

    _check_curve(spread, min_dist)
    distance = np.linspace(0, 3, 300)[1:]
    target = np.exp(-np.maximum(distance - min_dist / spread, 0))

    def residual(log_ab: np.ndarray) -> np.ndarray:
        log_a, log_b = log_ab
        return 1 / (1 + np.exp(log_a + 2 * np.exp(log_b) * np.log(distance))) - target

    a, b = np.exp(least_squares(residual, x0=[0.0, 0.0]).x)
    return float(a * spread ** (-2 * b)), float(b)
