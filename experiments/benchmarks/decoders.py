"""From positions in a map to data: ours and its rivals, one small function each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

import aljax
from experiments.benchmarks.peers import load_umap

UMAP_LEARN = "umap-learn"
NEIGHBORS = 15  # of the inverse distance weighting


@dataclass(frozen=True)
class Placed:
    """A map with held-out rows placed on it.

    Attributes:
        rows: What was mapped.
        embedding: Where it lies.
        held: Rows that were not.
        positions: Where its transform places them.
        transform: Places more rows.
        model: umap-learn's model, where it made the map.
        curve: a and b of the map's membership curve.
    """

    rows: np.ndarray
    embedding: np.ndarray
    held: np.ndarray
    positions: np.ndarray
    transform: Callable[[np.ndarray], np.ndarray]
    model: Any
    curve: tuple[float, float]


def umap_map(rows: np.ndarray, held: np.ndarray) -> Placed:
    """Fits umap-learn's map (random_state 42), rows placed by its transform."""
    model: Any = load_umap().UMAP(random_state=42).fit(rows)
    positions = _in_parts(model.transform, held)
    curve = (float(model._a), float(model._b))
    placed = rows, model.embedding_, held, positions
    return Placed(*placed, model.transform, model, curve)


def place_by_aljax(rows: np.ndarray, held: np.ndarray) -> Placed:
    """Fits our map, rows placed by our transform."""
    fitted = aljax.fit([rows], key=jax.random.key(0))

    def transform(new: np.ndarray) -> np.ndarray:
        return aljax.transform(fitted, 0, np.asarray(new, np.float32))

    curve = (float(fitted.params.a[0]), float(fitted.params.b[0]))
    placed = rows, fitted.slices()[0], held, transform(held)
    return Placed(*placed, transform, None, curve)


def _ours(placed: Placed, **options: Any) -> np.ndarray:
    a, b = placed.curve
    arrays = placed.positions, placed.embedding, placed.rows
    return np.asarray(aljax.inverse_transform(*arrays, a=a, b=b, **options).points)


def umap_inverse(placed: Placed) -> np.ndarray:
    """Calls umap-learn's inverse; a map of others is set as its own."""
    model = placed.model
    if model is None:
        model = load_umap().UMAP(random_state=42).fit(placed.rows)
        model.embedding_ = placed.embedding.astype(np.float32)
    positions = placed.positions.astype(np.float32)
    return _in_parts(model.inverse_transform, positions)


def _in_parts(call: Callable[[np.ndarray], Any], rows: np.ndarray) -> np.ndarray:
    """Calls on the first 200 rows, then on the others: figures are read on both."""
    return np.concatenate(
        [call(part) for part in (rows[:200], rows[200:]) if len(part)]
    )


def inverse_distances(placed: Placed) -> np.ndarray:
    """Returns the mean of 15 map neighbors, weighted by one over their distance."""
    model = KNeighborsRegressor(NEIGHBORS, weights="distance")
    return model.fit(placed.embedding, placed.rows).predict(placed.positions)


def _chosen(model: Any, grid: dict[str, list[Any]], placed: Placed) -> np.ndarray:
    """Predicts by a rival at its best settings, from 3-fold cross-validation."""
    scale = placed.embedding.std()
    search = GridSearchCV(model, grid, scoring="neg_mean_squared_error", cv=3)
    search.fit(placed.embedding / scale, placed.rows)
    return np.asarray(search.predict(placed.positions / scale))


def kernel_ridge(placed: Placed) -> np.ndarray:
    """Fits scikit-learn's kernel ridge regression with a Gaussian kernel."""
    grid = {"gamma": [3.0, 10.0, 30.0, 100.0], "alpha": [0.1, 1.0]}
    return _chosen(KernelRidge(kernel="rbf"), grid, placed)


def perceptron(placed: Placed) -> np.ndarray:
    """Fits scikit-learn's multi-layer perceptron, two layers of 256, stopped early."""
    model = MLPRegressor(
        hidden_layer_sizes=(256, 256), early_stopping=True, max_iter=500, random_state=0
    )
    return _chosen(model, {"alpha": [1e-4, 1e-2]}, placed)


DECODERS: dict[str, Callable[[Placed], np.ndarray]] = {
    "aljax": _ours,
    "aljax, mean": lambda placed: _ours(placed, method="mean"),
    "umap-learn": umap_inverse,
    "inverse distances, k = 15": inverse_distances,
    "kernel ridge (RBF)": kernel_ridge,
    "MLPRegressor": perceptron,
    "mean of all rows": lambda placed: np.broadcast_to(
        placed.rows.mean(axis=0), placed.held.shape
    ),
}
