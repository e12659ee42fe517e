"""The scikit-learn face: umap-learn's names over `fit`, defaults from the configs."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from aljax.align import AlignedEmbedding, fit
from aljax.checks import check_names, is_listed
from aljax.config import (
    AlignmentConfig,
    GraphConfig,
    LayoutConfig,
    PerSliceFloat,
    PerSliceInt,
)
from aljax.graph.relations import RelationDict, as_pairs, is_reversed
from aljax.tables import read_slices

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
        relations: Sequence[RelationDict] | None,
        **changed: Any,
    ) -> AlignedEmbedding:
        given = self.get_params(deep=False) | changed

        def settings(cls: type) -> dict[str, Any]:
            names = [field.name for field in dataclasses.fields(cls)]
            return {name: given[name] for name in names if name in given}

        seed = check_random_state(self.random_state).randint(2**31)
        return fit(
            slices,
            relations,
            key=jax.random.key(seed),
            graph=GraphConfig(**settings(GraphConfig)),
            layout=LayoutConfig(**settings(LayoutConfig)),
            alignment=AlignmentConfig(**settings(AlignmentConfig)),
        )


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
    motion_fidelity: float = AlignmentConfig.motion_fidelity

    def fit(
        self,
        X: Sequence[Any],  # noqa: N803
        y: None = None,
        *,
        relations: Sequence[RelationDict] | None = None,
    ) -> "AlignedUMAP":
        """Lay the slices out.

        Args:
            X: For each slice its data, `(points, features)`.
            y: Not supported yet; None.
            relations: For each pair of consecutive slices a dict {row of slice t: row
                of slice t+1}.  One that is evidently reversed is turned, with a
                warning.

        Raises:
            ValueError: As `aljax.fit` does; or labels were given.
        """
        _refuse_labels(y)
        slices = _read_data(X)
        self.maps_ = self._fit(slices, _turn_reversed(relations, slices))
        self.embeddings_ = self.maps_.slices()
        self.n_features_in_ = slices[0].shape[1]
        return self

    def fit_transform(
        self,
        X: Sequence[Any],  # noqa: N803
        y: None = None,
        *,
        relations: Sequence[RelationDict] | None = None,
    ) -> list[Map]:
        """`fit`, then the maps."""
        return self.fit(X, y, relations=relations).embeddings_


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


def _turn_reversed(
    relations: Sequence[RelationDict] | None, slices: Sequence[np.ndarray]
) -> Sequence[RelationDict] | None:
    """The relations with those read backwards that evidently are."""
    if not is_listed(relations) or len(relations) != len(slices) - 1:
        return relations  # `fit` says what is wrong with them
    turned = list(relations)
    for t, relation in enumerate(turned):
        two = slices[t : t + 2]
        if is_reversed(as_pairs(relation, t), [len(one) for one in two], two):
            warnings.warn(
                f"`relations[{t}]` is reversed and was read from slice {t + 1} to "
                f"slice {t}; relations map rows of slice t to rows of slice t+1.",
                stacklevel=3,
            )
            turned[t] = {new: old for old, new in relation.items()}
    return turned
