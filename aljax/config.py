"""Settings: frozen dataclasses that check every value, and compare by content.

A `per_slice` setting takes one value for all slices, or a list with one for each.
"""

import dataclasses
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from reprlib import repr as brief
from typing import Any

import numpy as np

from aljax.checks import Check, check_of, each, is_listed, number, one_of, unless
from aljax.curve import check_both, check_curve
from aljax.curve import find_ab_params as find_ab_params  # its documented place
from aljax.errors import LARGEST, InputError, nearest_name

PerSliceFloat = float | Sequence[float]
PerSliceInt = int | Sequence[int]


def _setting(default: Any, check: Check, *, per_slice: bool = False) -> Any:
    return field(default=default, metadata={"check": check, "per_slice": per_slice})


def _per_slice(default: Any, check: Check) -> Any:
    return _setting(default, each(check), per_slice=True)


SYNONYMS = {  # of pynndescent, scikit-learn, SciPy and umap-learn
    "l2": "euclidean",
    **dict.fromkeys(("l1", "cityblock", "taxicab"), "manhattan"),
    **dict.fromkeys(("linf", "linfty", "linfinity"), "chebyshev"),
    "standardised_euclidean": "seuclidean",
    "weighted_minkowski": "wminkowski",
}
# The distance of rows that share nothing, or point in opposite directions.
FARTHEST = {
    **dict.fromkeys(("jaccard", "dice", "hellinger", "sokalsneath", "russellrao"), 1.0),
    **dict.fromkeys(("kulsinski", "hamming", "braycurtis"), 1.0),
    **dict.fromkeys(("cosine", "correlation", "yule"), 2.0),
}
_METRIC = check_of(
    lambda v: callable(v) or (isinstance(v, str) and v),
    "the name of a metric, such as 'euclidean', or a function of two rows",
)
_METHODS = one_of("auto", "exact", "approximate", "pynndescent")
_KEYWORDS = check_of(
    lambda v: isinstance(v, Mapping), "a dict of keyword arguments for the metric", True
)
YES_NO = check_of(lambda v: isinstance(v, bool | np.bool_), "True or False")
_STARTS = one_of("spectral", "tswspectral", "pca", "random")
_AUTO = unless(
    lambda v: isinstance(v, numbers.Integral) and v == -1, number(2, whole=True)
)
_DISTANCE = unless(
    lambda v: isinstance(v, float) and v == math.inf,
    number(0, open_low=True, optional=True),
)
SPACES = {  # the spaces of maps, and their components where they have a number of them
    **dict.fromkeys(("euclidean", "manhattan", "chebyshev", "minkowski", "wminkowski")),
    **dict.fromkeys(("seuclidean", "mahalanobis", "canberra", "braycurtis", "cosine")),
    **dict.fromkeys(("correlation", "softmax_hellinger", "hyperboloid")),
    "haversine": 2,
    "spherical_gaussian_energy": 3,
    "diagonal_gaussian_energy": 4,
    "gaussian_energy": 5,
}
_OUTPUT = unless(
    lambda v: callable(v) or (isinstance(v, str) and v in SYNONYMS), one_of(*SPACES)
)
_BOUNDS = check_of(
    lambda v: v == "data" if isinstance(v, str) else is_listed(v) and len(v) == 2,
    '"data" or a pair (lo, hi)',
    optional=True,
)


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
        names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore
        for name in settings:
            if name not in names:
                got, hint = "is not a setting", nearest_name(name, names)
                raise InputError(name, got, f"one of {cls.__name__}", hint)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, spec.name)
            spec.metadata["check"](spec.name, value)
            if is_listed(value) or isinstance(value, Mapping):
                # A copy: a hash must not change later.
                copied = tuple(value) if is_listed(value) else dict(value)
                object.__setattr__(self, spec.name, copied)

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
            (per slice; whole, at least 2; in a slice of as many rows or fewer the rows
            less 1).  Small values show detail, large ones the overall arrangement.
        metric: The distance between rows: euclidean, cosine, correlation, or any other
            name that pynndescent knows; or "precomputed": then a slice is its rows'
            distances, `(points, points)`, all of them or, as a sparse matrix, those
            of the nearest.  Or a function of two rows, see `aljax.graph.function`.
        metric_kwds: Keyword arguments for the metric, such as `{"p": 3}`.
        local_connectivity: How many nearest neighbors count as fully connected
            (per slice; at least 0, fractions interpolate).
        set_op_mix_ratio: 1 joins the two directions of an edge by fuzzy union, 0 by
            fuzzy intersection, values between mix them (per slice; 0 to 1).
        knn_method: "exact", "approximate", "pynndescent" or "auto".  The second finds
            most neighbors by a program on the device (in metrics other than euclidean,
            cosine and correlation by pynndescent, with a warning); "auto" is exact as
            long as that is cheap (of 784 columns about 40,000 rows in these three
            metrics, about 3,000 in others), else approximate.
        disconnection_distance: Rows this far apart or farther are no neighbors (units
            of the metric, above 0; inf for none).  None takes the metric's largest
            distance: 1 for jaccard, dice, hellinger, sokalsneath, russellrao,
            kulsinski, hamming and braycurtis, 2 for cosine, correlation and yule.
        target_metric: How `y` is compared: "categorical" (classes), "ordinal" (ranks),
            "count" (counts), "string" (texts) or a metric (the distance between values,
            as above).
        target_metric_kwds: Keyword arguments for that metric.
        target_n_neighbors: How many values a value is compared with, itself included
            (whole, at least 2); -1 takes `n_neighbors`.
        target_weight: Weight of `y` relative to the data: 0 ignores `y`, 1 uses only
            `y`.

    Raises:
        InputError: A name, type or value is none of the above.
    """

    n_neighbors: PerSliceInt = _per_slice(15, number(2, whole=True))
    metric: Any = _setting("euclidean", _METRIC)
    metric_kwds: Mapping[str, Any] | None = _setting(None, _KEYWORDS)
    local_connectivity: PerSliceFloat = _per_slice(1.0, number(0))
    set_op_mix_ratio: PerSliceFloat = _per_slice(1.0, number(0, high=1))
    knn_method: str = _setting("auto", _METHODS)
    disconnection_distance: float | None = _setting(None, _DISTANCE)
    target_metric: Any = _setting("categorical", _METRIC)
    target_metric_kwds: Mapping[str, Any] | None = _setting(None, _KEYWORDS)
    target_n_neighbors: int = _setting(-1, _AUTO)
    target_weight: float = _setting(0.5, number(0, high=1))

    @property
    def farthest(self) -> float:
        """Returns the distance from which on rows are no neighbors."""
        if self.disconnection_distance is not None:
            return float(self.disconnection_distance)
        return FARTHEST.get(self.metric, math.inf)


@dataclass(frozen=True, eq=False)
class LayoutConfig(_Settings):
    """Settings that turn the graphs into maps.

    Attributes:
        n_components: Dimensions of the maps (whole, at least 1).
        min_dist: How close points may lie in the map (per slice; map units, at
            least 0, at most `spread`).
        spread: The scale of the map's membership curve (per slice; map units,
            above 0).
        a: With `b`, shapes the map's membership curve instead of `min_dist` and
            `spread` (per slice; 1e-36 to 1e36).
        b: With `a`, shapes that curve instead of `min_dist` and `spread` (per slice; at
            least 0.5).
        n_epochs: Steps of the optimizer (whole; 0 returns the start).  None: 350,
            or 250 if the largest slice that may move has more than 20,000 points.
        learning_rate: Length of the first step, in map units for each coordinate; it
            falls to 0 with the square of the epochs left (per slice; above 0).
        init: The start: "spectral", "tswspectral" (the same by another solver), "pca"
            or "random"; `fit(start=...)` takes maps.
        repulsion_strength: Weight of the repulsion (per slice; at least 0).
        negative_sample_rate: Repelling pairs for each attracting one, on average
            (per slice; at least 0, fractions allowed).
        n_shifts: Circular shifts that estimate the repulsion of an epoch (whole): more
            make less noise, and half the points none.  None chooses by size.
        densmap: True keeps densities: rows sparse in the data are sparse in the map.
        dens_lambda: Weight of densMAP's term (per slice; at least 0).
        dens_frac: The last share of epochs, in which it acts (per slice; 0 to 1).
        dens_var_shift: Added to the variance of the map's log radii, so that small
            differences are not blown up (per slice; at least 0).
        output_metric: The distance in the maps: "euclidean", another name of
            `aljax.layout.spaces`, such as "haversine" (a sphere), "hyperboloid" or
            "gaussian_energy", or a function of two points that JAX can trace.
        output_metric_kwds: Further arguments of that distance, by name.

    Raises:
        InputError: A name, type or value is none of the above.
    """

    n_components: int = _setting(2, number(1, whole=True))
    min_dist: PerSliceFloat = _per_slice(0.1, number(0))
    spread: PerSliceFloat = _per_slice(1.0, number(0, open_low=True))
    a: PerSliceFloat | None = _per_slice(
        None, number(1 / LARGEST, high=LARGEST, optional=True)
    )
    b: PerSliceFloat | None = _per_slice(None, number(0.5, optional=True))
    n_epochs: int | None = _setting(None, number(0, whole=True, optional=True))
    learning_rate: PerSliceFloat = _per_slice(3.0, number(0, open_low=True))
    # Positions are the old spelling of `fit(start=...)`, which reads them.
    init: str | Sequence[Any] = _setting(
        "spectral", unless(lambda v: is_listed(v) and len(v), _STARTS)
    )
    repulsion_strength: PerSliceFloat = _per_slice(1.0, number(0))
    negative_sample_rate: PerSliceFloat = _per_slice(5.0, number(0))
    n_shifts: int | None = _setting(None, number(1, whole=True, optional=True))
    densmap: bool = _setting(False, YES_NO)
    dens_lambda: PerSliceFloat = _per_slice(2.0, number(0))
    dens_frac: PerSliceFloat = _per_slice(0.3, number(0, high=1))
    dens_var_shift: PerSliceFloat = _per_slice(0.1, number(0))
    output_metric: Any = _setting("euclidean", _OUTPUT)
    output_metric_kwds: Mapping[str, Any] | None = _setting(None, _KEYWORDS)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_space()
        check_both(self.a, self.b)
        # Before the data are read; of lists when there are slices to count.
        listed = is_listed(self.min_dist) or is_listed(self.spread)
        if self.a is None and not listed:
            check_curve(self.spread, self.min_dist)  # pyright: ignore[reportArgumentType]

    def _check_space(self) -> None:
        metric, components = self.output_metric, self.n_components
        setting, required = f"`output_metric={metric!r}`", SPACES.get(metric)
        if required not in (None, components):
            got, expected = f"is {components} beside {setting}", f"{required}"
            raise InputError("n_components", got, expected)
        if self.densmap and not self.euclidean:
            got, remedy = f"is True beside {setting}", "Densities are Euclidean."
            raise InputError("densmap", got, "False", remedy)
        if self.euclidean and self.output_metric_kwds:
            got = f"is {self.output_metric_kwds!r} beside {setting}"
            raise InputError("output_metric_kwds", got, "None")

    @property
    def euclidean(self) -> bool:
        """Tells if the maps are Euclidean."""
        return self.output_metric in ("euclidean", "l2")


@dataclass(frozen=True, eq=False)
class AlignmentConfig(_Settings):
    """Settings of how strongly, and how far along the sequence, mates hold.

    Attributes:
        alignment_regularisation: Weight of the pull between mates (at least 0;
            0 lays the slices out independently).
        alignment_window_size: The farthest slice, before and after, in which a row
            has mates (slices; whole, at least 1).
        alignment_strengths: How strongly a mate holds: "jaccard" (by the overlap of
            the two rows' neighborhoods) or "uniform" (all alike).  Mates that come
            with weights of their own are held by those.
        alignment_decay: How fast strengths fall along the window (at least 0; 0 holds
            far mates as strongly as near ones).  A mate so many slices off has the
            factor exp(-alignment_decay (offset - 1)).
        motion_fidelity: How far mates are asked to lie apart, in map units for every
            unit that they lie apart in the data (at least 0; the data's unit is a
            row's usual distance to its k-th neighbor).  0 pulls them together
            however far the data moved; above 0 all slices need the same columns.
        frame: What holds maps that lie far apart: "population", "mates" or "auto".
            The population are rows that are nearest in the data of slices 10, 30, 90,
            ... apart (all slices need the same columns).  With "mates" nothing holds
            them but mates within the window, as in version 0.1, so that maps drift
            where all members change in one direction.  "auto" takes the population
            where slices have as many columns and mates are nearer to each other in the
            data than to others.

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
    frame: str = _setting("auto", one_of("auto", "population", "mates"))


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

    method: str = _setting("linear", one_of("linear", "mean"))
    n_neighbors: int | None = _setting(None, number(2, whole=True, optional=True))
    bounds: str | tuple[Any, Any] | None = _setting(None, _BOUNDS)
    metric: str | None = _setting(
        None, one_of("euclidean", "l2", "cosine", optional=True)
    )


CONFIGS = {"graph": GraphConfig, "layout": LayoutConfig, "alignment": AlignmentConfig}


# What newcomers give to `fit`, and where it belongs.
ELSEWHERE = {
    "loss": "`aljax.layout.run(loss=...)` takes your own.",
    "random_state": "pass key=jax.random.key(0).",
    "seed": "pass key=jax.random.key(0).",
    "labels": "did you mean `y`? Pictures take `labels`.",
    "ids": "pass them as `relations`, a list for each slice.",
}


def check_extra(function: Callable[..., Any], extra: Mapping[str, Any]) -> None:
    """Checks that a function, whose last parameter takes the `extra`, was given none.

    Raises:
        TypeError: It was; the message says which config has it, or the nearest name.
    """
    for name, value in extra.items():
        for section, config in CONFIGS.items():
            if name in config.__dataclass_fields__:
                place = f"{section}=aljax.{config.__name__}({name}={brief(value)})"
                call = f"{function.__name__}(..., {place})"
                if function.__name__ == "update":
                    call = "an update takes that of the fit."
                    if config.__dataclass_fields__[name].metadata["per_slice"]:
                        call = f"update(..., settings={{{name!r}: {brief(value)}}})"
                raise TypeError(f"`{name}` is a setting of {config.__name__}: {call}")
        names = [*inspect.signature(function).parameters][:-1]
        hint = ELSEWHERE.get(name) or nearest_name(name, names)
        got = f"`{name}` is not an argument of `{function.__name__}`"
        raise TypeError(f"{got}: {hint}")


def per_slice(name: str, value: Any, slices: int) -> list[Any]:
    """Returns one value for each slice, from one for all or a list of them.

    Raises:
        InputError: The list's length is not the number of slices.
    """
    if not is_listed(value):
        return [value] * slices
    if len(value) != slices:
        got = f"has {len(value)} values, but there are {slices} slices"
        raise InputError(name, got, "one for each slice, or a single one for all")
    return list(value)


def of_slices(settings: Any, chosen: slice | int, slices: int) -> Any:
    """Returns the settings of some slices, or of one: lists are cut, all else stays.

    Raises:
        InputError: A list's length is not the number of slices.
    """
    listed = {name: value for name, value in vars(settings).items() if is_listed(value)}
    cut = {name: per_slice(name, v, slices)[chosen] for name, v in listed.items()}
    return dataclasses.replace(settings, **cut)
