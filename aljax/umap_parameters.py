"""Both estimators share this: umap-learn's parameters, and how they reach `fit`.

Defaults are those of the configs, and umap-learn's where nothing here reads the
parameter: `POINTLESS` ones do nothing, those of `OF_ONE_MAP` have no other value in a
sequence.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from functools import partial
from typing import Any, ClassVar

import jax
import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from aljax.compilation import check_fork
from aljax.config import (
    CONFIGS,
    YES_NO,
    GraphConfig,
    LayoutConfig,
    PerSliceFloat,
    PerSliceInt,
    is_listed,
    number,
    one_of,
    per_slice,
)
from aljax.consistency import check_parts
from aljax.embedding import AlignedEmbedding, parts_of
from aljax.errors import InputError, nearest_name, warn
from aljax.files import read, write
from aljax.fit import fit
from aljax.graph.build import FEWEST
from aljax.graph.slices import Slice, check_unique
from aljax.metrics.distances import local_radii
from aljax.progress import Bar, Progress
from aljax.relations.read import turning
from aljax.repeats import distinct

POINTLESS = (
    *("low_memory", "n_jobs", "transform_queue_size", "angular_rp_forest"),
    *("transform_seed", "force_approximation_algorithm"),
)
OF_ONE_MAP = {  # what only `UMAP` has
    "transform_mode": "For graphs without a layout use `aljax.prepare(...).graphs`",
}
Path = str | os.PathLike[str]


@dataclass(eq=False, repr=False)
class Parameters(BaseEstimator):
    """The parameters of both estimators, in the order of umap-learn's first four."""

    n_neighbors: PerSliceInt = GraphConfig.n_neighbors
    n_components: int = LayoutConfig.n_components
    metric: Any = GraphConfig.metric
    metric_kwds: Mapping[str, Any] | None = GraphConfig.metric_kwds
    _: KW_ONLY
    output_metric: Any = LayoutConfig.output_metric
    output_metric_kwds: Mapping[str, Any] | None = LayoutConfig.output_metric_kwds
    n_epochs: int | None = LayoutConfig.n_epochs
    learning_rate: PerSliceFloat = LayoutConfig.learning_rate
    init: str | Sequence[Any] | np.ndarray = LayoutConfig.init
    min_dist: PerSliceFloat = LayoutConfig.min_dist
    spread: PerSliceFloat = LayoutConfig.spread
    low_memory: bool = True
    n_jobs: int | None = -1
    set_op_mix_ratio: PerSliceFloat = GraphConfig.set_op_mix_ratio
    local_connectivity: PerSliceFloat = GraphConfig.local_connectivity
    repulsion_strength: PerSliceFloat = LayoutConfig.repulsion_strength
    negative_sample_rate: PerSliceFloat = LayoutConfig.negative_sample_rate
    transform_queue_size: float = 4.0
    a: PerSliceFloat | None = LayoutConfig.a
    b: PerSliceFloat | None = LayoutConfig.b
    random_state: int | np.random.RandomState | None = None
    angular_rp_forest: bool = False
    target_n_neighbors: int = GraphConfig.target_n_neighbors
    target_metric: Any = GraphConfig.target_metric
    target_metric_kwds: Mapping[str, Any] | None = GraphConfig.target_metric_kwds
    target_weight: float = GraphConfig.target_weight
    transform_seed: int = 42
    transform_mode: str = "embedding"
    force_approximation_algorithm: bool = False
    verbose: bool = False
    tqdm_kwds: Mapping[str, Any] | None = None
    unique: bool = False
    densmap: bool = LayoutConfig.densmap
    dens_lambda: PerSliceFloat = LayoutConfig.dens_lambda
    dens_frac: PerSliceFloat = LayoutConfig.dens_frac
    dens_var_shift: PerSliceFloat = LayoutConfig.dens_var_shift
    output_dens: bool = False
    disconnection_distance: float | None = GraphConfig.disconnection_distance
    precomputed_knn: Any = (None, None, None)
    knn_method: str = GraphConfig.knn_method
    n_shifts: int | None = LayoutConfig.n_shifts
    devices: int | None = None
    # For each row where it stands among the distinct ones, and the argument that shaped
    # the graph beside the data, if any; of a sequence, lists with one for each slice.
    _unique_inverse_ = None
    _shaped_by = None
    _absent: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *_: Any, **parameters: Any) -> Any:
        """Checks the names; an error suggests the nearest right one."""
        names = cls._get_param_names()
        for name in parameters:
            if name not in names:
                message = f"`{name}` is not a parameter of {cls.__name__}: "
                raise TypeError(message + nearest_name(name, names))
        return super().__new__(cls)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.metric == "precomputed"
        return tags

    def _fit(
        self, slices: Sequence[Slice], relations: Any, **changed: Any
    ) -> tuple[AlignedEmbedding, list[np.ndarray] | None]:
        """Calls `aljax.fit` with these parameters; `changed` replaces some of them.

        Returns the maps and, if `unique` makes them of the distinct rows, for each row
        of each slice where it stands among these.
        """
        self._check_parameters()
        values, row_kinds = self.get_params(deep=False) | changed, None
        passed = ("y", "precomputed_knn", "devices", "scale", "scale_by", "missing")
        try:
            if values["unique"]:
                check_unique(self.metric, self.precomputed_knn)
                window = values.get("alignment_window_size", 1)
                of_rows = {name: values[name] for name in ("y", "init")}
                reduced = distinct(slices, relations, window=window, **of_rows)
                slices, relations, row_kinds, of_kinds = reduced
                values |= of_kinds
            options = {name: values[name] for name in passed if name in values}
            if is_listed(values["init"]):
                options["start"] = values.pop("init")
            for section, config in CONFIGS.items():
                names = values.keys() & {field.name for field in fields(config)}
                options[section] = config(**{name: values[name] for name in names})
            options |= {"key": self._key(), "progress": self._progress()}
            return turning(partial(fit, slices, **options), relations), row_kinds
        except InputError as error:
            raise error.renamed(self._named(error.name)) from error.__cause__

    def _named(self, argument: str) -> str:
        """Returns the user's name of an argument of `aljax.fit`."""
        return argument.replace("start", "init")

    def _check_parameters(self) -> None:
        """Warns of parameters that do nothing, raises for those of `_absent`."""
        defaults = {field.name: field.default for field in fields(self)}
        for name, why in self._absent.items():
            value = getattr(self, name)
            if value != defaults[name]:
                raise InputError(name, f"is {value!r}", repr(defaults[name]), f"{why}.")
        YES_NO("unique", self.unique)
        one_of("embedding", "graph")("transform_mode", self.transform_mode)
        if self.n_jobs not in (-1, None):
            number(1, whole=True)("n_jobs", self.n_jobs)
        idle = [n for n in POINTLESS if getattr(self, n) != defaults[n]]
        if idle:
            names = ", ".join(f"`{name}`" for name in idle)
            warn(f"{names} of umap-learn {'do' if idle[1:] else 'does'} nothing here.")

    def _progress(self) -> Progress | None:
        return Bar(**(self.tqdm_kwds or {})) if self.verbose else None

    def save(self, path: Path, *, with_data: bool = True) -> None:
        """Writes the fitted model to a file: arrays and JSON, whole or not at all.

        Args:
            path: Where; a file that is there is replaced.
            with_data: If the data go along; without them new rows cannot be placed
                nor positions mapped back.

        Raises:
            ValueError: A parameter that cannot be kept in a file, such as a
                `RandomState`; a place that cannot be written.
        """
        check_is_fitted(self)
        laid_out = hasattr(self, "embedding_")  # where others may have been assigned
        maps = self._placed() if laid_out else self.maps_
        parameters = self.get_params(deep=False)
        parameters["precomputed_knn"] = _without_index(parameters["precomputed_knn"])
        if not isinstance(parameters.get("scale"), str | None):
            parameters["scale"] = maps.scaling  # a transformer of scikit-learn
        names = getattr(self, "feature_names_in_", None)
        parts = {
            "parameters": parameters,
            "maps": parts_of(maps, with_data=with_data),
            "n_features": vars(self)["n_features_in_"],
            "feature_names": None if names is None else names.tolist(),
            "unique_inverse": self._unique_inverse_,
            "shaped_by": self._shaped_by,
        }
        write(path, type(self).__name__, parts)

    @classmethod
    def load(cls, path: Path) -> Any:
        """Returns a model that `save` wrote: the same parameters and the same bits.

        Raises:
            ValueError: No such file, or one that is damaged, of a newer format, of
                another estimator, or of parts that do not fit each other.
        """
        parts = read(path, cls.__name__)
        model: Any = cls(**parts["parameters"])
        model.n_features_in_ = parts["n_features"]
        if parts["feature_names"] is not None:
            model.feature_names_in_ = np.array(parts["feature_names"], dtype=object)
        model._unique_inverse_ = parts.get("unique_inverse")  # files of 0.1 have none
        model._shaped_by = parts.get("shaped_by")
        check_parts(parts["maps"], path)
        model._keep(AlignedEmbedding(**parts["maps"]))
        return model

    def _keep(self, maps: AlignedEmbedding) -> None:
        """Makes fitted maps those of this model."""
        self.maps_ = maps

    def _placed(self) -> AlignedEmbedding:
        """Returns the maps, with positions that the user set, if any."""
        return self.maps_

    def _of_rows(self, values: list[Any]) -> list[Any]:
        """Returns values of all rows, by those of the distinct ones, or as they are."""
        row_kinds: Any = self._unique_inverse_
        if row_kinds is None:
            return values
        row_kinds = [row_kinds] if isinstance(row_kinds, np.ndarray) else row_kinds
        pairs = zip(values, row_kinds, strict=True)
        return [of_distinct[kind_of_row] for of_distinct, kind_of_row in pairs]

    def _radii(self) -> tuple[list[Any], list[Any]]:
        """Returns the logarithms of each slice's local radii, in data and map."""
        check_is_fitted(self)
        maps = self._placed()
        if not maps.layout.euclidean:
            got = f"is {maps.layout.output_metric!r}, in which radii are not defined"
            raise InputError("output_metric", got, "'euclidean'")
        inside = [graph.radii for graph in maps.graphs]
        if any(radii is None for radii in inside):
            got = "have no `radii`, as in models of version 0.1"
            raise InputError("graphs", got, "graphs made of data", "Fit again.")
        counts = per_slice("n_neighbors", maps.graph.n_neighbors, len(maps.maps))
        outside = [
            local_radii(positions, n_neighbors=min(k, max(len(positions), FEWEST) - 1))
            for positions, k in zip(maps.maps, counts, strict=True)
        ]
        return self._of_rows([*map(np.asarray, inside)]), self._of_rows(outside)

    def _key(self) -> jax.Array:
        check_fork()
        try:
            state = check_random_state(self.random_state)
        except ValueError as error:
            expected = "a whole number from 0 to 2**32 - 1, a `RandomState`, or None"
            got = f"is {self.random_state!r}"
            raise InputError("random_state", got, expected) from error
        return jax.random.key(state.randint(2**31))


def shaped_by(y: Any, knn: Any) -> str:
    """Returns the argument that shapes a slice's graph beside its data, if any."""
    listed = isinstance(knn, list | tuple)
    none = all(table is None for table in knn) if listed else knn is None
    return "y" if y is not None else "" if none else "precomputed_knn"


def _without_index(knn: Any) -> Any:
    """Returns neighbors, of one slice or of each, without what searched them."""
    if not isinstance(knn, list | tuple):
        return knn
    table = getattr(knn[0], "ndim", 0) == 2 if len(knn) == 3 else False
    if table and not scipy.sparse.issparse(knn[0]):  # then the third is an index
        return (*knn[:2], None)
    return type(knn)(map(_without_index, knn))
