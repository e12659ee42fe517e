"""The estimator of one map: umap-learn's names over `fit` of a single slice."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from aljax.columns import arrange, by_number, by_rows, is_anndata, names_of
from aljax.config import find_ab_params, of_slices, one_of
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError, kind_of
from aljax.graph.fuzzy import FuzzyGraph, bipartite_graph
from aljax.graph.joined import alone, both, either
from aljax.graph.knn import KNN, Rows
from aljax.graph.rows import stacked
from aljax.graph.slices import PRECOMPUTED, Slice, read_rows, read_slice
from aljax.spreads import OF_PIPELINES, warn_of_columns
from aljax.transform import transform
from aljax.umap_parameters import Parameters, shaped_by

Map = Float[np.ndarray, "points components"]
Finite = bool | str
GRAPH = "graph"  # the `transform_mode` without a layout


@dataclass(eq=False, repr=False)
class UMAP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Parameters):
    """One data set as a map: the case of a single slice.

    Its parameters are those of `AlignedUMAP`, but for the fields of `AlignmentConfig`;
    `precomputed_knn` is one pair (indices, distances).  With `unique=True` repeated
    rows are laid out once, and share a position.  With `transform_mode="graph"`
    nothing is laid out: `fit_transform` and `transform` return graphs.

    Attributes:
        embedding_: The map, `(points, components)`.
        graph_: The fuzzy graph, a symmetric sparse matrix (with `unique=True` of the
            distinct rows, in the order of `maps_.data[0]`).
        maps_: The map as an `AlignedEmbedding` of one slice.
        rad_orig_: The rows' local radii in the data (logarithms).
        rad_emb_: Those in the map.
        n_features_in_: Columns of the data.
        feature_names_in_: Their names, where it was a frame.
    """

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        ensure_all_finite: Finite = True,
    ) -> "UMAP":
        """Lays the data out.

        Args:
            X: The data, `(points, features)`: an array, a pandas or polars frame, a
                SciPy sparse matrix, or (precomputed) distances `(points, points)`.
            y: The rows' classes (-1 for unknown) or values, as `target_metric` says,
                or None.
            ensure_all_finite: True, False or "allow-nan".  Only distances may have
                values that are not finite, and they always may; and where `metric` is
                a function, rows may have NaN with either of the others.

        Raises:
            ValueError: As `aljax.fit` does.
        """
        rows = self._validate(X, ensure_all_finite, reset=True)
        data = self._slice_of(rows, names_of(X))
        if not shaped_by(None, self.precomputed_knn):
            warn_of_columns([data], remedies=OF_PIPELINES)
        self._lay_out(data, y, self.init)
        return self

    def fit_transform(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        ensure_all_finite: Finite = True,
    ) -> Any:
        """Fits, and returns the map, or the graph if `transform_mode` is "graph".

        With `output_dens` it returns `(map, rad_orig_, rad_emb_)`.
        """
        self.fit(X, y, ensure_all_finite)
        if self.transform_mode == GRAPH:
            return self.graph_
        if self.output_dens:
            return self.embedding_, self.rad_orig_, self.rad_emb_
        return self.embedding_

    def update(
        self,
        X: Any,  # noqa: N803
        ensure_all_finite: Finite = True,
    ) -> "UMAP":
        """Adds rows, and lays all of them out again from where they are.

        New rows start where `transform` places them.

        Args:
            X: The new rows, `(points, features)`.
            ensure_all_finite: As `fit` takes it.

        Raises:
            InputError: The model was fitted with `y`, with known neighbors or to
                distances, or was saved without its data.
            NotFittedError: `fit` comes first.
        """
        check_is_fitted(self)
        new = self._validate(X, ensure_all_finite, reset=False)
        rows, start = self._raw_data, "random"  # of a graph without positions
        why = f"of `{self._shaped_by}`" if self._shaped_by else ""
        why = why or ("without rows" if rows is None else "")
        why = why or ("of scaled columns" if self.maps_.scaling else "")
        if rows is None or why:
            got = f"comes to a model {why}"
            remedy = "Fit all rows together."
            raise InputError("X", got, "a model of data alone", remedy)
        if self.transform_mode != GRAPH:
            placed = self.transform(X, ensure_all_finite)
            start = np.concatenate([self.embedding_, placed])
        columns = None if self.maps_.columns is None else self.maps_.columns[0]
        self._lay_out(self._slice_of(stacked(rows, new), columns), None, start)
        return self

    def transform(
        self,
        X: Any,  # noqa: N803
        ensure_all_finite: Finite = True,
    ) -> Any:
        """Places unseen rows in the map, as `aljax.transform` does.

        With `transform_mode="graph"` it returns their memberships in the rows of the
        data, a sparse matrix `(queries, points)`.

        Raises:
            InputError: The model has one row, or rows do not fit.
        """
        check_is_fitted(self)
        rows = self._validate(X, ensure_all_finite, reset=False)
        if len(self.maps_.maps[0]) == 1:
            got, remedy = "comes to a model of a single row", "Fit more rows."
            raise InputError("X", got, "a model of at least two", remedy)
        if self.transform_mode == GRAPH:
            return self._graph_to(rows)
        return transform(self._placed(), 0, rows)

    def inverse_transform(
        self,
        X: Any,  # noqa: N803
        **settings: Any,
    ) -> Float[np.ndarray, "queries features"]:
        """Data for positions in the map, as `aljax.inverse_transform` makes them.

        `settings` are those of `InverseConfig` by name, such as `bounds="data"`.
        """
        check_is_fitted(self)
        return np.asarray(self._placed().inverse_transform(X, **settings).points)

    def __mul__(self, other: "UMAP") -> "UMAP":
        """Returns a model of what the graphs of both say: see `aljax.graph.joined`."""
        return self._joined(other, both)

    def __add__(self, other: "UMAP") -> "UMAP":
        """Returns a model of what the graph of either says."""
        return self._joined(other, either)

    def __sub__(self, other: "UMAP") -> "UMAP":
        """Returns a model of what this one's graph says and the other's does not."""
        return self._joined(other, alone)

    def _joined(self, other: Any, join: Callable[..., FuzzyGraph]) -> "UMAP":
        """Returns a model without data, of this one's settings or those between both.

        Raises:
            InputError: The models have other rows.
            NotFittedError: One of them is not fitted.
        """
        if not isinstance(other, UMAP):
            return NotImplemented
        check_is_fitted(self)
        check_is_fitted(other)
        (left,), (right,) = self.maps_.graphs, other.maps_.graphs
        sizes = [len(graph.degrees) for graph in (left, right)]
        row_kinds: Any = self._unique_inverse_, other._unique_inverse_
        if sizes[0] != sizes[1] or not np.array_equal(*row_kinds):
            got, expected = f"has {sizes[1]} rows", f"the {sizes[0]} of the first model"
            raise InputError("other", got, expected)
        result: Any = UMAP(**self.get_params(deep=False) | _between(self, other))
        graph = read_slice(join(left, right), "other")
        result._unique_inverse_ = row_kinds[0]
        result.n_features_in_ = vars(self)["n_features_in_"]
        maps, _ = result._fit([graph], None, precomputed_knn=None, unique=False)
        result._keep(maps)
        return result

    def _named(self, argument: str) -> str:
        return super()._named(argument).removesuffix("[0]")  # of the only slice

    def _slice_of(self, rows: Rows, columns: Any) -> Slice:
        """Returns the rows as the only slice of a sequence."""
        # Gaps that a function compares stay, as nothing fills them here.
        gaps = "median" if callable(self.metric) else "error"
        data = read_slice(rows, "X", metric=self.metric, missing=gaps)
        return replace(data, columns=columns)

    def _lay_out(self, data: Slice, y: Any, start: Any) -> None:
        """Fits a slice; positions to start from have a row for each of its rows."""
        known = shaped_by(None, self.precomputed_knn)
        changed: dict[str, Any] = {
            "init": start if isinstance(start, str) else [start],
            "y": None if y is None else [y],
            "precomputed_knn": [self.precomputed_knn] if known else None,
            "scale": "none",  # pipelines scale, and `fit` warns
        }
        if self.transform_mode == GRAPH:
            changed |= {"init": "random", "n_epochs": 0}
        maps, row_kinds = self._fit([data], None, **changed)
        self._unique_inverse_ = row_kinds and row_kinds[0]
        self._shaped_by = shaped_by(y, self.precomputed_knn)
        self._keep(maps)

    def _graph_to(self, rows: Rows) -> scipy.sparse.csr_matrix:
        frame, data = self.maps_.frame(0), self.maps_.data[0]
        comparable = data is not None and data.shape == rows.shape
        if comparable and not abs(data - rows).max():
            return self.graph_
        graph: Any = frame.graph
        near, distances = frame.nearest(rows, self._n_neighbors)
        return bipartite_graph(
            near,
            distances,
            len(self.maps_.maps[0]),
            farthest=graph.farthest,
            local_connectivity=graph.local_connectivity,
        )

    def _placed(self) -> AlignedEmbedding:
        """Returns the map, with positions that were set as `embedding_`, if any."""
        if not hasattr(self, "embedding_"):
            got = "was 'graph' when the model was fitted"
            remedy = "Fit again for positions."
            raise InputError("transform_mode", got, "'embedding'", remedy)
        kind_of_row: Any = self._unique_inverse_
        rows = self.maps_.maps[0]
        expected = (len(rows if kind_of_row is None else kind_of_row), rows.shape[1])
        positions = np.asarray(self.embedding_)
        real = positions.dtype.kind in "iuf" and np.isfinite(positions).all()
        if positions.shape != expected or not real:
            got = f"has shape {positions.shape}" + ", and not all finite" * (not real)
            remedy = "Assign the positions of all rows, in their order."
            raise InputError("embedding_", got, f"numbers {expected}", remedy)
        if kind_of_row is not None:
            positions = positions[np.unique(kind_of_row, return_index=True)[1]]
        if not np.array_equal(positions, rows):
            dtype = np.result_type(positions, rows)  # of floats, as maps are
            self.maps_ = replace(self.maps_, maps=[positions.astype(dtype)])
        return self.maps_

    @property
    def graph_(self) -> scipy.sparse.csr_matrix:
        """The fuzzy graph."""
        check_is_fitted(self)
        return self.maps_.graphs[0].to_sparse()

    @property
    def rad_orig_(self) -> np.ndarray:
        """The rows' local radii in the data, as logarithms."""
        return self._radii()[0][0]

    @property
    def rad_emb_(self) -> np.ndarray:
        """The rows' local radii in the map, as logarithms."""
        return self._radii()[1][0]

    # umap-learn's private names, which its own tools and others read.

    @property
    def _a(self) -> float:
        return self._curve()[0]

    @property
    def _b(self) -> float:
        return self._curve()[1]

    @property
    def _n_neighbors(self) -> int:
        setting: Any = of_slices(self.maps_.graph, 0, 1).n_neighbors
        return min(setting, max(len(self.maps_.maps[0]), 3) - 1)

    @property
    def _raw_data(self) -> Rows | None:
        rows = self.maps_.data[0]
        return None if rows is None else self._of_rows([rows])[0]

    def _curve(self) -> tuple[float, float]:
        layout: Any = of_slices(self.maps_.layout, 0, 1)
        if layout.a is not None:
            return layout.a, layout.b
        return find_ab_params(layout.spread, layout.min_dist)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _validate(self, data: Any, allowed: Finite = True, *, reset: bool) -> Any:
        check_data(data, "X")
        one_of("True", "False", "allow-nan")("ensure_all_finite", str(allowed))
        names, columns = names_of(data), None if reset else self.maps_.columns
        arranged: Any = by_rows if self.metric == PRECOMPUTED else by_number
        if self.metric == PRECOMPUTED and getattr(data, "ndim", 2) == 1:
            read_rows(data, "X", gaps=np.inf)  # which says how to make it square
        rows: Any = read_rows(data, "X") if is_anndata(data) else arranged(data)
        if not reset and isinstance(data, list) and not len(data):
            rows = np.zeros((0, vars(self)["n_features_in_"]))
        # Functions may compare rows with gaps; distances have them where unrelated.
        finite = allowed if callable(self.metric) else self.metric != PRECOMPUTED
        if not reset and self.maps_.scaling and self.maps_.scaling.missing == "median":
            finite = "allow-nan"  # the sequence that this map is of fills them
        try:
            rows = validate_data(
                self,
                rows,
                reset=reset,
                accept_sparse="csr",
                ensure_all_finite=finite,
                ensure_min_samples=int(reset),
            )
        except ValueError as error:
            if allowed is True or "contains" not in str(error):
                raise
            got = f"is {allowed!r}, and `X` has values that are not finite"
            remedy = "Fill them, or set `metric='precomputed'` and give distances that "
            remedy += "leave them out, such as sklearn's `nan_euclidean_distances(X)`."
            expected = "True, for rows are compared in all columns"
            raise InputError("ensure_all_finite", got, expected, remedy) from error
        return rows if columns is None else arrange(rows, names, columns[0], "X")

    def _keep(self, maps: AlignedEmbedding) -> None:
        super()._keep(maps)
        if self.transform_mode == GRAPH:
            vars(self).pop("embedding_", None)
            self._n_features_out = len(maps.maps[0])
            return
        # A copy, so that `_placed` can tell when the user has moved it in place.
        (self.embedding_,) = self._of_rows([np.array(maps.maps[0])])
        self._n_features_out = self.embedding_.shape[1]


def _between(left: UMAP, right: UMAP) -> dict[str, Any]:
    """Settings of a model made of two: the smaller or the mean, as in umap-learn."""

    def of(name: str, choose: Callable[..., Any]) -> Any:
        return choose([getattr(left, name), getattr(right, name)])

    means = ("_a", "_b", "repulsion_strength", "negative_sample_rate")
    epochs = [n for n in (left.n_epochs, right.n_epochs) if n is not None]
    smaller = {name: of(name, min) for name in ("n_components", "learning_rate")}
    chosen = {name.strip("_"): float(of(name, np.mean)) for name in means}
    joint = {"init": "spectral", "transform_mode": "embedding"}
    joint |= {"densmap": False, "output_dens": False}  # a joined graph has no radii
    spaces = [(model.output_metric, model.n_components) for model in (left, right)]
    if spaces[0] != spaces[1]:
        joint |= {"output_metric": "euclidean", "output_metric_kwds": None}
    return {**smaller, **chosen, **joint, "n_epochs": max(epochs, default=None)}


def check_data(data: Any, name: str) -> None:
    """Checks that a slice is data, which estimators take, not made of data."""
    if isinstance(data, KNN | FuzzyGraph):
        got, remedy = f"is {kind_of(data)}", "Pass neighbors as "
        remedy += "`precomputed_knn`, or graphs to `aljax.fit`."
        raise InputError(name, got, "data", remedy)
