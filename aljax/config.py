"""Checks of settings: each refuses a value by naming it, what came and what fits."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeGuard

import numpy as np

from aljax.errors import LARGEST, InputError, check_names, nearest_name

Check = Callable[[str, Any], None]


PerSliceFloat = float | Sequence[float]
PerSliceInt = int | Sequence[int]
SMALLEST = 1e-6  # spread of a curve whose a and b single precision can hold


def is_listed(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether a per-slice setting was given as a list, one value for each slice."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)


def _reject(name: str, value: Any, expected: str) -> None:
    raise InputError(name, f"is {value!r}", expected)


def _is_number(value: Any, whole: bool) -> bool:
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
    per_slice: bool = False,
    optional: bool = False,
    remedy: str = "",
) -> Check:
    """A check that a value is a number in [low, high], or a list of such."""
    expected = "a whole number" if whole else "a finite number"
    expected += f" above {low:g}" if open_low else f" of at least {low:g}"
    expected += f" and at most {high:g}" if high < math.inf else ""
    expected += ", or a list with one for each slice" if per_slice else ""
    expected += ", or None" if optional else ""
    expected += remedy

    def inside(value: Any) -> bool:
        if not _is_number(value, whole):
            return False
        return (value > low if open_low else value >= low) and value <= high

    def check(name: str, value: Any) -> None:
        if value is None and optional:
            return
        values = list(value) if per_slice and is_listed(value) else [value]
        if not values or not all(inside(v) for v in values):
            _reject(name, value, expected)

    return check


def one_of(*choices: str) -> Check:
    """A check that a value is one of a few names."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            hint = nearest_name(str(value), choices)
            _reject(name, value, f"one of {', '.join(choices)} ({hint.rstrip('.')})")

    return check


def metric_name(name: str, value: Any) -> None:
    """Check that a value can name a metric."""
    if not isinstance(value, str) or not value:
        _reject(name, value, "the name of a metric, such as 'euclidean'")


def optional_mapping(name: str, value: Any) -> None:
    """Check that a value is a mapping or None."""
    if value is not None and not isinstance(value, Mapping):
        _reject(name, value, "a dict of keyword arguments for the metric, or None")


def start(name: str, value: Any) -> None:
    """Check that a value names a start, or could be the maps themselves."""
    if is_listed(value) and len(value):
        return  # positions: `layout.initialize` checks them against the slices
    one_of("spectral", "pca", "random")(name, value)


def _setting(default: Any, check: Check, **options: Any) -> Any:
    return field(default=default, metadata={"check": check}, **options)


def _target_neighbors(name: str, value: Any) -> None:
    if not isinstance(value, numbers.Integral) or value != -1:  # as n_neighbors
        number(2, whole=True)(name, value)


class _Settings:
    """What the three dataclasses share: strict names, types and ranges."""

    def __new__(cls, *_: Any, **settings: Any) -> Any:
        check_names(cls, settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, spec.name)
            spec.metadata["check"](spec.name, value)
            if is_listed(value):  # a tuple can be hashed, as a static field must be
                object.__setattr__(self, spec.name, tuple(value))


@dataclass(frozen=True)
class GraphConfig(_Settings):
    """How each slice's data becomes a weighted neighbour graph.

    Attributes:
        n_neighbors: How many neighbours a row is compared with, itself included
            (per slice; whole, at least 2, less than the rows of the slice).
            Small values show detail, large ones the overall arrangement.
        metric: The distance between rows: euclidean, cosine, or any other name that
            pynndescent knows; or "precomputed": then a slice is its rows'
            distances, `(points, points)`, all of them or, as a sparse matrix, those
            of the nearest.
        metric_kwds: Keyword arguments for the metric, such as `{"p": 3}`.
        local_connectivity: How many nearest neighbours count as fully connected
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
        target_weight: The say of `y` against that of the data (0 to 1).

    Raises:
        ValueError: A name, type or value that is none of the above.
    """

    n_neighbors: PerSliceInt = _setting(15, number(2, whole=True, per_slice=True))
    metric: str = _setting("euclidean", metric_name)
    metric_kwds: Mapping[str, Any] | None = _setting(None, optional_mapping, hash=False)
    local_connectivity: PerSliceFloat = _setting(1.0, number(0, per_slice=True))
    set_op_mix_ratio: PerSliceFloat = _setting(1.0, number(0, high=1, per_slice=True))
    knn_method: str = _setting("auto", one_of("auto", "exact", "approximate"))
    target_metric: str = _setting("categorical", metric_name)
    target_metric_kwds: Mapping[str, Any] | None = _setting(
        None, optional_mapping, hash=False
    )
    target_n_neighbors: int = _setting(-1, _target_neighbors)
    target_weight: float = _setting(0.5, number(0, high=1))


@dataclass(frozen=True)
class LayoutConfig(_Settings):
    """How the graphs become maps.

    Attributes:
        n_components: Dimensions of the maps (whole, at least 1).
        min_dist: How close points may lie in the map (per slice; map units, at
            least 0, at most `spread`).
        spread: The scale of the map's membership curve (per slice; map units,
            above 0).
        a, b: The membership curve itself, instead of `min_dist` and `spread` (per
            slice; a 1e-36 to 1e36, b at least 0.5; both or neither).
        n_epochs: Steps of the optimiser (whole; 0 returns the start).  None chooses by
            size: 350, or 250 for slices of more than 20,000 points.
        learning_rate: Length of the first step, in map units for each coordinate; it
            falls to 0 with the square of the epochs left (per slice; above 0).
        init: The start: "spectral", "pca", "random", or a list with one array
            `(points, components)` for each slice.
        repulsion_strength: Weight of the repulsion (per slice; at least 0).
        negative_sample_rate: Repelling pairs for each attracting one, on average
            (per slice; at least 0, fractions allowed).
        n_shifts: How many circular shifts estimate the repulsion in each epoch
            (whole).  It changes the noise of the estimate, never its mean; half
            the number of points makes it exact.  None chooses by size.

    Raises:
        ValueError: A name, type or value that is none of the above.
    """

    n_components: int = _setting(2, number(1, whole=True))
    min_dist: PerSliceFloat = _setting(0.1, number(0, per_slice=True))
    spread: PerSliceFloat = _setting(1.0, number(0, open_low=True, per_slice=True))
    a: PerSliceFloat | None = _setting(
        None, number(1 / LARGEST, high=LARGEST, per_slice=True, optional=True)
    )
    b: PerSliceFloat | None = _setting(None, number(0.5, per_slice=True, optional=True))
    n_epochs: int | None = _setting(None, number(0, whole=True, optional=True))
    learning_rate: PerSliceFloat = _setting(
        3.0, number(0, open_low=True, per_slice=True)
    )
    init: str | Sequence[Any] = _setting("spectral", start, compare=False)
    repulsion_strength: PerSliceFloat = _setting(1.0, number(0, per_slice=True))
    negative_sample_rate: PerSliceFloat = _setting(5.0, number(0, per_slice=True))
    n_shifts: int | None = _setting(None, number(1, whole=True, optional=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.a is None) != (self.b is None):
            missing = "a" if self.a is None else "b"
            raise ValueError(
                f"`{missing}` is None although its partner is given; give both `a` and "
                "`b`, or neither to have them fitted to `min_dist` and `spread`."
            )
        # Before the data are read; of lists when there are slices to count.
        listed = is_listed(self.min_dist) or is_listed(self.spread)
        if self.a is None and not listed:
            _check_curve(self.spread, self.min_dist)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class AlignmentConfig(_Settings):
    """How strongly, and how far along the sequence, mates are held together.

    Attributes:
        alignment_regularisation: Weight of the pull between mates (at least 0;
            0 lays the slices out independently).
        alignment_window_size: The farthest slice, before and after, in which a row
            has mates (slices; whole, at least 1).
        alignment_strengths: How strongly a mate holds: "jaccard", by the overlap of
            the two rows' neighbourhoods, or "uniform", all alike.  Mates that come
            with weights of their own are held by those.
        alignment_decay: How fast strengths fall along the window, as
            exp(-alignment_decay (offset - 1)) (at least 0; 0 holds far mates as
            strongly as near ones).
        motion_fidelity: How far mates are asked to lie apart, in map units for every
            unit that they lie apart in the data (at least 0; the data's unit is a
            row's usual distance to its k-th neighbour).  0 pulls them together
            however far the data moved; above 0 all slices need the same columns.

    Raises:
        ValueError: A name, type or value that is none of the above.
    """

    alignment_regularisation: float = _setting(
        0.07, number(0, remedy=" (`aljax.selection.select_alignment` can choose it)")
    )
    alignment_window_size: int = _setting(3, number(1, whole=True))
    alignment_strengths: str = _setting("jaccard", one_of("jaccard", "uniform"))
    alignment_decay: float = _setting(1.0, number(0))
    motion_fidelity: float = _setting(0.0, number(0))


def per_slice(name: str, value: Any, slices: int) -> list[Any]:
    """One value for each slice, from one for all or a list of the right length.

    Raises:
        ValueError: The list's length is not the number of slices.
    """
    if not is_listed(value):
        return [value] * slices
    if len(value) != slices:
        raise ValueError(
            f"`{name}` has {len(value)} values, but there are {slices} slices; give "
            "one value for each slice, or a single value for all."
        )
    return list(value)


def of_slices(settings: Any, own: range, slices: int) -> Any:
    """The settings of some slices: lists are cut, all else stays.

    Raises:
        ValueError: A list's length is not the number of slices.
    """
    cut = {
        name: per_slice(name, value, slices)[own.start : own.stop]
        for name, value in vars(settings).items()
        if is_listed(value)
    }
    return dataclasses.replace(settings, **cut)


def _check_curve(spread: float, min_dist: float) -> None:
    if not 0 <= min_dist <= spread:
        raise ValueError(
            f"`min_dist` is {min_dist:g} and `spread` is {spread:g}; expected "
            "0 <= min_dist <= spread. Lower `min_dist` or raise `spread`."
        )
    if not SMALLEST <= spread <= 1 / SMALLEST:
        raise ValueError(
            f"`spread` is {spread:g}; expected {SMALLEST:g} to {1 / SMALLEST:g} map "
            "units: maps are about 20 wide."
        )


@lru_cache(maxsize=256)
def find_ab_params(spread: float, min_dist: float) -> tuple[float, float]:
    """The curve 1 / (1 + a d^(2b)) nearest to the one `min_dist` asks for.

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
        ValueError: `min_dist` above `spread`, or a `spread` in no unit of a map.

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
