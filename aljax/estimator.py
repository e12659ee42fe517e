"""The scikit-learn face: umap-learn's names over `fit`, defaults from the configs."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from aljax.align import fit
from aljax.checks import check_names
from aljax.config import (
    AlignmentConfig,
    GraphConfig,
    LayoutConfig,
    PerSliceFloat,
    PerSliceInt,
)
from aljax.embedding import AlignedEmbedding
from aljax.graph.dicts import turn_one, turn_reversed
from aljax.stream import update
from aljax.tables import read_slice, read_slices
from aljax.unseen import transform

Map = Float[np.ndarray, "points components"]


@dataclass(eq=False, repr=False)
class _Settings(BaseEstimator):
    """The fields of `GraphConfig` and `LayoutConfig` as constructor parameters."""

    n_neighbors: PerSliceInt = GraphConfig.n_neighbors
    n_components: int = LayoutConfig.n_components
    metric: str = GraphConfig.metric
    metric_kwds: Mapping[str, Any] | None = GraphConfig.metric_kwds
    n_epochs: int | None = LayoutConfig.n_epochs
    learning_rate: PerSliceFloat = LayoutConfig.learning_rate
    init: str | Sequence[Any] | np.ndarray = LayoutConfig.init
    min_dist: PerSliceFloat = LayoutConfig.min_dist
    spread: PerSliceFloat = LayoutConfig.spread
    set_op_mix_ratio: PerSliceFloat = GraphConfig.set_op_mix_ratio
    local_connectivity: PerSliceFloat = GraphConfig.local_connectivity
    repulsion_strength: PerSliceFloat = LayoutConfig.repulsion_strength
    negative_sample_rate: PerSliceFloat = LayoutConfig.negative_sample_rate
    a: PerSliceFloat | None = LayoutConfig.a
    b: PerSliceFloat | None = LayoutConfig.b
    random_state: int | np.random.RandomState | None = None
    knn_method: str = GraphConfig.knn_method
    n_shifts: int | None = LayoutConfig.n_shifts

    def __new__(cls, *_: Any, **parameters: Any) -> Any:
        check_names(cls, parameters)
        return super().__new__(cls)

    def _fit(
        self,
        slices: Sequence[np.ndarray],
        relations: Any,
        **changed: Any,
    ) -> AlignedEmbedding:
        given = self.get_params(deep=False) | changed

        def settings(cls: type) -> dict[str, Any]:
            names = [field.name for field in dataclasses.fields(cls)]
            return {name: given[name] for name in names if name in given}

        return fit(
            slices,
            relations,
            key=self._key(),
            graph=GraphConfig(**settings(GraphConfig)),
            layout=LayoutConfig(**settings(LayoutConfig)),
            alignment=AlignmentConfig(**settings(AlignmentConfig)),
        )

    def _key(self) -> jax.Array:
        return jax.random.key(check_random_state(self.random_state).randint(2**31))


@dataclass(eq=False, repr=False)
class AlignedUMAP(_Settings):
    """A sequence of related data sets as maps that stay comparable.

    Its parameters are the fields of `GraphConfig`, `LayoutConfig` and
    `AlignmentConfig`, with their meaning and defaults, and `random_state`: an int, a
    NumPy `RandomState`, or None for another result at every fit.

    Attributes:
        embeddings_: For each slice its map, `(points, components)`.
        maps_: The same as an `AlignedEmbedding`.
        n_features_in_: Columns of the first slice.
    """

    alignment_regularisation: float = AlignmentConfig.alignment_regularisation
    alignment_window_size: int = AlignmentConfig.alignment_window_size
    alignment_strengths: str = AlignmentConfig.alignment_strengths
    alignment_decay: float = AlignmentConfig.alignment_decay
    motion_fidelity: float = AlignmentConfig.motion_fidelity

    def fit(
        self,
        X: Sequence[Any],  # noqa: N803
        y: None = None,
        *,
        relations: Any = None,
    ) -> "AlignedUMAP":
        """Lay the slices out.

        Args:
            X: For each slice its data, `(points, features)`.
            y: Not supported yet; None.
            relations: Who is who, as `aljax.fit` takes it: dicts, ids or pairs.  A
                dict that is evidently reversed is turned, with a warning.

        Raises:
            ValueError: As `aljax.fit` does; or labels were given.
        """
        _refuse_labels(y)
        slices = _read_data(X)
        self.maps_ = self._fit(slices, turn_reversed(relations, slices))
        self.embeddings_ = self.maps_.slices()
        self.n_features_in_ = slices[0].shape[1]
        return self

    def fit_transform(
        self,
        X: Sequence[Any],  # noqa: N803
        y: None = None,
        *,
        relations: Any = None,
    ) -> list[Map]:
        """`fit`, then the maps."""
        return self.fit(X, y, relations=relations).embeddings_

    def update(
        self,
        X: Any,  # noqa: N803
        y: None = None,
        *,
        relations: Any,
        move: int = 0,
        keep: int | None = None,
        **settings: Any,
    ) -> "AlignedUMAP":
        """Append a slice, aligned with those before, as `aljax.update` does.

        Args:
            X: The new slice's data, `(points, features)`.
            y: Not supported yet; None.
            relations: A dict {row of the last slice: row of the new one}, the new
                rows' ids, or pairs.  A dict that is evidently reversed is turned,
                with a warning.
            move: How many of the last slices may move with the new one.
            keep: How many slices to keep, the new one included; None keeps all.
            **settings: The new slice's own n_neighbors, min_dist, ...

        Raises:
            ValueError: As `aljax.update` does.
            NotFittedError: `fit` comes first.
        """
        check_is_fitted(self)
        _refuse_labels(y)
        data = read_slice(X, "`X`")
        last, count = self.maps_.data[-1], len(self.maps_.maps)
        if isinstance(relations, Mapping) and isinstance(data, np.ndarray):
            sizes = [len(self.maps_.maps[-1]), len(data)]
            relations = turn_one(relations, count - 1, sizes, [last, data])
        self.maps_ = update(
            self.maps_,
            data,
            relations,
            key=self._key(),
            move=move,
            keep=keep,
            settings=settings,
        )
        self.embeddings_ = self.maps_.slices()
        return self

    def transform(self, X: Any, slice: int = -1) -> Map:  # noqa: A002, N803
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
        slice: float = -1,  # noqa: A002
    ) -> Float[np.ndarray, "queries features"]:
        """Data for positions `Z` in the map of a slice, or between two (a fraction)."""
        check_is_fitted(self)
        return np.asarray(self.maps_.inverse_transform(Z, slice=slice).points)


@dataclass(eq=False, repr=False)
class UMAP(_Settings):
    """One data set as a map: the case of a single slice.

    Its parameters are the fields of `GraphConfig` and `LayoutConfig`, with their
    meaning and defaults, and `random_state`: an int, a NumPy `RandomState`, or None
    for another result at every fit.

    Attributes:
        embedding_: The map, `(points, components)`.
        maps_: The same as an `AlignedEmbedding` of one slice.
        n_features_in_: Columns of the data.
    """

    def fit(self, X: Any, y: None = None) -> "UMAP":  # noqa: N803
        """Lay the data out.

        Args:
            X: The data, `(points, features)`.
            y: Not supported yet; None.

        Raises:
            ValueError: As `aljax.fit` does; or labels were given.
        """
        _refuse_labels(y)
        (data,) = _read_data([X])
        init = self.init if isinstance(self.init, str) else [self.init]
        self.maps_ = self._fit([data], None, init=init)
        self.embedding_ = self.maps_.slices()[0]
        self.n_features_in_ = data.shape[1]
        return self

    def fit_transform(self, X: Any, y: None = None) -> Map:  # noqa: N803
        """`fit`, then the map."""
        return self.fit(X, y).embedding_

    def transform(self, X: Any) -> Map:  # noqa: N803
        """Places unseen rows in the map, as `aljax.transform` does."""
        check_is_fitted(self)
        return transform(self.maps_, 0, X)

    def inverse_transform(
        self,
        X: Any,  # noqa: N803
    ) -> Float[np.ndarray, "queries features"]:
        """Data for positions in the map, as `aljax.inverse_transform` makes them."""
        check_is_fitted(self)
        return np.asarray(self.maps_.inverse_transform(X).points)


def _refuse_labels(y: Any) -> None:
    if y is not None:
        raise ValueError(
            "`y` was given; labels do not shape the maps yet. Pass None, and the "
            "labels to the picture instead."
        )


def _read_data(slices: Sequence[Any]) -> list[np.ndarray]:
    data = []
    for t, one in enumerate(read_slices(slices)):
        if not isinstance(one, np.ndarray):
            raise ValueError(
                f"`X[{t}]` is a {type(one).__name__}; the estimators take data. Pass "
                "neighbours or graphs to `aljax.fit`."
            )
        data.append(one)
    return data
