"""The estimator of a sequence: umap-learn's names over `fit` and `update`."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted, validate_data

from aljax.config import AlignmentConfig, of_slices
from aljax.embedding import AlignedEmbedding
from aljax.graph.rows import chosen, distinct_rows
from aljax.graph.slices import (
    check_unique,
    one_for_each,
    read_slice,
    read_slices,
    slices_of,
)
from aljax.relations.read import is_ids, turning
from aljax.repeats import new_among_kinds, with_rows
from aljax.scaling import scaled
from aljax.single_map import UMAP as UMAP
from aljax.single_map import Map, check_data
from aljax.spreads import warn_of_columns
from aljax.transform import transform
from aljax.umap_parameters import OF_ONE_MAP, Parameters, shaped_by
from aljax.update import cut, update


@dataclass(eq=False, repr=False)
class AlignedUMAP(Parameters):
    """A sequence of related data sets as maps that stay comparable.

    Its parameters are the fields of `GraphConfig`, `LayoutConfig` and
    `AlignmentConfig`, with their meaning and defaults, and umap-learn's others, of
    which `docs/from_umap_learn.md` has a table: `random_state` (an int, a NumPy
    `RandomState`, or None for another result at every fit), `verbose` (a progress
    bar with the terms of the loss) and `precomputed_knn` (for each slice
    (indices, distances), or None).  `scale`, `scale_by` and `missing` are those of
    `aljax.fit`: the model applies them to new rows, and answers in their units.
    With `unique=True` the equal rows of a slice are laid out once, and share their
    mates and a position; `graphs_` and `maps_` are of the distinct rows, and units
    (`scale`) and medians (`missing`) of all.

    Attributes:
        embeddings_: For each slice its map, `(points, components)`.
        graphs_: For each slice its fuzzy graph, a symmetric sparse matrix.
        maps_: The sequence as an `AlignedEmbedding`.
        mappers_: For each slice a fitted `UMAP`, whose map is that of the sequence.
        n_models_: The number of slices.
        rad_orig_: For each slice its rows' local radii in the data (logarithms).
        rad_emb_: For each slice its rows' local radii in the map.
        n_features_in_: Columns of the first slice.
        feature_names_in_: Their names, where it was a frame.
    """

    _: KW_ONLY
    low_memory: bool = False
    alignment_regularisation: float = AlignmentConfig.alignment_regularisation
    alignment_window_size: int = AlignmentConfig.alignment_window_size
    alignment_strengths: str = AlignmentConfig.alignment_strengths
    alignment_decay: float = AlignmentConfig.alignment_decay
    motion_fidelity: float = AlignmentConfig.motion_fidelity
    frame: str = AlignmentConfig.frame
    scale: Any = None
    scale_by: str = "all"
    missing: str = "error"
    _absent = OF_ONE_MAP

    def fit(
        self,
        X: Sequence[Any],  # noqa: N803
        y: Sequence[Any] | None = None,
        *,
        relations: Any = None,
    ) -> "AlignedUMAP":
        """Lays the slices out.

        Args:
            X: For each slice its data, `(points, features)`: an array, a pandas or
                polars frame, a SciPy sparse matrix, or (precomputed) distances.
            y: For each slice its rows' classes (-1 for unknown) or values, as
                `target_metric` says, or None.
            relations: The mates, as `aljax.fit` takes them.  A dict that is evidently
                reversed is turned, with a warning.

        Raises:
            ValueError: As `aljax.fit` does.
        """
        ids = relations if is_ids(relations) else None
        reading: Any = {"metric": self.metric, "missing": self.missing, "ids": ids}
        slices = read_slices(X, **reading)
        for t, slice_ in enumerate(slices):
            check_data(slice_.content, f"X[{t}]")
        validate_data(self, X[0], skip_check_array=True)
        knn = self.precomputed_knn
        if isinstance(knn, tuple) and all(table is None for table in knn):
            knn = None  # umap-learn's default, a triple
        changed: dict[str, Any] = {"y": y, "precomputed_knn": knn}
        scaling = None
        if self.unique:  # units and medians are of all rows, not of the distinct ones
            if self.scale is not None:
                warn_of_columns(slices, ids, self.scale)
                changed["scale"] = "none"
            slices, scaling = scaled(slices, self.scale, self.scale_by, self.missing)
            changed["missing"] = "error"
        maps, self._unique_inverse_ = self._fit(slices, relations, **changed)
        maps = maps if scaling is None else replace(maps, scaling=scaling)
        knn = [knn] if scipy.sparse.issparse(knn) else knn
        arguments = ("y", y), ("precomputed_knn", knn)
        given = (one_for_each(*argument, len(slices)) for argument in arguments)
        self._shaped_by = [*map(shaped_by, *given)]
        self._keep(maps)
        return self

    def fit_transform(
        self,
        X: Sequence[Any],  # noqa: N803
        y: Sequence[Any] | None = None,
        *,
        relations: Any = None,
    ) -> Any:
        """Fits, and returns the maps.

        With `output_dens` it returns `(maps, rad_orig_, rad_emb_)`.
        """
        maps = self.fit(X, y, relations=relations).embeddings_
        return (maps, self.rad_orig_, self.rad_emb_) if self.output_dens else maps

    def update(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        *,
        relations: Any,
        move: int = 0,
        keep: int | None = None,
        precomputed_knn: Any = None,
        **settings: Any,
    ) -> "AlignedUMAP":
        """Appends a slice, aligned with those before, as `aljax.update` does.

        Args:
            X: The new slice's data, `(points, features)`.
            y: Its rows' classes or values, as in `fit`.
            relations: The mates, as `aljax.update` takes them.  A dict that is
                evidently reversed is turned, with a warning.
            move: How many of the last slices may move with the new one.
            keep: How many slices to keep, the new one included; None keeps all.
            precomputed_knn: Its rows' (indices, distances), or None.
            **settings: The new slice's own n_neighbors, min_dist, ... (what is set
                after `fit` by `set_params` does not count).

        Raises:
            ValueError: As `aljax.update` does.
            NotFittedError: `fit` comes first.
        """
        check_is_fitted(self)
        check_data(X, "X")
        scaling, others = self.maps_.scaling, self.maps_.columns or ()
        missing = "error" if scaling is None else scaling.missing
        reading: Any = {"metric": self.metric, "missing": missing}
        new = read_slice(X, "X", others=others, **reading)
        fitted, row_kinds = self.maps_, self._unique_inverse_
        if row_kinds is not None:
            check_unique(self.metric, precomputed_knn)
            if scaling is not None:
                fitted = replace(fitted, scaling=None)
                new, scaling = scaling.extended(new)
            first, kind_of_row = distinct_rows(new.content)  # pyright: ignore
            slices = [*slices_of([*map(len, row_kinds)]), new]
            row_kinds = [*row_kinds, kind_of_row]
            y = None if y is None else chosen(y, first, new.rows, "y")
            relations = new_among_kinds(self.maps_, relations, slices, row_kinds)
            new = with_rows(new, first)
        call = partial(
            update,
            fitted,
            new,
            key=self._key(),
            move=move,
            keep=keep,
            settings=settings,
            y=y,
            precomputed_knn=precomputed_knn,
            progress=self._progress(),
        )
        maps = turning(call, relations)
        if row_kinds is not None:
            row_kinds = row_kinds[-len(maps.maps) :]
            scaling = scaling and scaling[-len(maps.maps) :]
            maps = replace(maps, scaling=scaling)
        self._unique_inverse_ = row_kinds
        shaped = self._shaped_by or [""] * self.n_models_
        shaped = [*shaped, shaped_by(y, precomputed_knn)]
        self._shaped_by = shaped[-len(maps.maps) :]
        self._keep(maps)
        return self

    def transform(self, X: Any, slice: Any = -1) -> Map:  # noqa: A002, N803
        """Places unseen rows in the map of one slice, as `aljax.transform` does.

        Args:
            X: The rows, `(points, features)`.
            slice: In which slice's map.
        """
        check_is_fitted(self)
        return transform(self.maps_, slice, X)

    def inverse_transform(
        self,
        Z: Any,  # noqa: N803
        slice: Any = -1,  # noqa: A002
        **settings: Any,
    ) -> Float[np.ndarray, "queries features"]:
        """Data for positions `Z` in the map of a slice, or between two (a fraction).

        `settings` are those of `InverseConfig` by name, such as `bounds="data"`.
        """
        check_is_fitted(self)
        read = self.maps_.inverse_transform(Z, slice=slice, **settings)
        return np.asarray(read.points)

    def _keep(self, maps: AlignedEmbedding) -> None:
        super()._keep(maps)
        # Copies, for frames do not see what the user changes in place.
        self.embeddings_ = self._of_rows([*map(np.array, maps.slices())])
        vars(self).pop("mappers_", None)

    @cached_property
    def mappers_(self) -> "list[UMAP]":
        """Returns a fitted `UMAP` for each slice, made once."""
        check_is_fitted(self)
        return [*map(self._mapper, range(self.n_models_))]

    def _mapper(self, t: int) -> UMAP:
        """Returns a fitted `UMAP` of one slice's map."""
        maps = cut(self.maps_, t, t + 1)
        parameters = {"random_state": self.random_state, "unique": self.unique}
        for config in (maps.graph, maps.layout):
            parameters |= vars(of_slices(config, 0, 1))
        mapper: Any = UMAP(**parameters)
        mapper._unique_inverse_ = self._unique_inverse_ and self._unique_inverse_[t]
        mapper._shaped_by = self._shaped_by[t] if self._shaped_by else ""
        (data,), names = maps.data, maps.columns and maps.columns[0]
        mapper.n_features_in_ = len(maps.maps[0]) if data is None else data.shape[1]
        if names is not None and all(isinstance(name, str) for name in names):
            mapper.feature_names_in_ = np.array(names, dtype=object)
        mapper._keep(maps)
        return mapper

    @property
    def graphs_(self) -> list[scipy.sparse.csr_matrix]:
        """For each slice its fuzzy graph."""
        check_is_fitted(self)
        return [graph.to_sparse() for graph in self.maps_.graphs]

    @property
    def rad_orig_(self) -> list[np.ndarray]:
        """For each slice its rows' local radii in the data, as logarithms."""
        return self._radii()[0]

    @property
    def rad_emb_(self) -> list[np.ndarray]:
        """For each slice its rows' local radii in the map, as logarithms."""
        return self._radii()[1]

    @property
    def n_models_(self) -> int:
        """The number of slices."""
        check_is_fitted(self)
        return len(self.maps_.maps)
