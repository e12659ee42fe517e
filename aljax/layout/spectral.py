"""Starts of a slice by itself: principal components, or the graph's smoothest vectors.

Host side, in float64, with signs fixed: on one thread the same graph gives the same
bits.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float

from aljax.errors import warn

EXTENT = 10.0  # half-width of a start (map units), as umap-learn's
JITTER = 1e-4  # parts coincident points
EIGEN_TOLERANCE = 1e-4
NOISE = 1e-3  # on the diagonal of a graph that is too regular for ARPACK
NOTHING = 1e-12
STEPS = 500  # of LOBPCG

Start = Float[np.ndarray, "_ components"]
Eigen = tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_ _"]]
Solver = Callable[..., Eigen]  # of a matrix, how many, and a vector to begin with


def pca(data: Float[np.ndarray, "points features"], n_components: int) -> Start:
    """Returns the leading principal components, scaled to the extent of a start.

    Components beyond the data's own dimensions are 0.
    """
    exact = np.asarray(data, dtype=np.float64)
    centered = exact - exact.mean(axis=0)
    centered = centered / (np.abs(centered).max() or 1.0)
    if centered.shape[1] > centered.shape[0]:
        *_, rows = np.linalg.svd(centered, full_matrices=False)
        axes = _fix_signs(rows.T[:, :n_components])
    else:
        axes = axes_of(centered.T @ centered, n_components)
    start = np.zeros((exact.shape[0], n_components))
    start[:, : axes.shape[1]] = centered @ axes
    return expand(start)


def axes_of(
    spread: Float[np.ndarray, "features features"], n_components: int
) -> Float[np.ndarray, "features _"]:
    """Returns the principal axes, as columns, of a matrix of second moments."""
    vectors = np.linalg.eigh(spread)[1][:, ::-1]
    return _fix_signs(vectors[:, :n_components])


def spectral(
    adjacency: scipy.sparse.csr_matrix,
    n_components: int,
    *,
    data: Float[np.ndarray, "points features"] | None = None,
    solve: Solver | None = None,
) -> Start:
    """Returns the smoothest vectors on the graph; connected components side by side.

    Each component larger than the map has dimensions to spare is laid out by the
    leading nontrivial eigenvectors of D^-1/2 A D^-1/2; a smaller one, or one for
    which the solver does not converge, by chance.  Several components are placed by the
    PCA of their data's means (on a circle, where there are no data), each with a share
    of the extent that grows with the root of its share of the points.

    Args:
        adjacency: Symmetric weights, `(points, points)`.
        n_components: Dimensions of the map.
        data: The rows behind the graph, to place components.
        solve: Finds the leading eigenvectors: `arpack`, the default, or `warm_lobpcg`.

    Source: Belkin & Niyogi (2003), "Laplacian eigenmaps".
    """
    from scipy.sparse.csgraph import connected_components  # a tenth of the import

    points, solve = adjacency.shape[0], solve or arpack
    count, labels = connected_components(adjacency, directed=False)
    if count == 1:
        return expand(_eigenvectors(adjacency, n_components, solve))
    centers = _place(labels, count, n_components, data)
    start = np.zeros((points, n_components))
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(labels))[:-1]):
        inner = adjacency[rows][:, rows]
        local = expand(_eigenvectors(inner, n_components, solve))
        share = np.sqrt(rows.size / points) / 2
        start[rows] = centers[labels[rows[0]]] + local * share
    return expand(start)


def _eigenvectors(
    adjacency: scipy.sparse.csr_matrix, n_components: int, solve: Solver
) -> Start:
    from scipy.sparse.linalg import ArpackError

    points = adjacency.shape[0]
    rng = np.random.default_rng(points)
    by_chance = rng.normal(size=(points, n_components))
    if points <= 2 * n_components + 2:
        return by_chance
    degree = np.asarray(adjacency.sum(axis=1), dtype=np.float64).ravel()
    scale = scipy.sparse.diags(1 / np.sqrt(degree))
    normalized = scale @ adjacency.astype(np.float64) @ scale
    v0 = rng.normal(size=points)
    try:
        try:
            values, vectors = solve(normalized, n_components + 1, v0)
        except _RestartError:
            noise = scipy.sparse.diags(NOISE * rng.uniform(size=points))
            values, vectors = solve(normalized + noise, n_components + 1, v0)
    except (ArpackError, np.linalg.LinAlgError, _RestartError):
        warn(f"the spectral start of {points} points did not converge: it is random.")
        return by_chance
    leading = np.argsort(values)[::-1][1:]
    return _fix_signs(vectors[:, leading])


class _RestartError(Exception):
    """ARPACK is about to go on from a vector that depends on earlier calls."""


def warm_lobpcg(matrix: Any, count: int, v0: Float[np.ndarray, "_"]) -> Eigen:
    """Returns the largest eigenvalues and their vectors, by LOBPCG.

    It begins with the leading singular vectors of a randomized SVD; `arpack` was
    faster on all graphs that were measured.

    Source: Knyazev (2001), SIAM J. Sci. Comput. 23; Halko, Martinsson & Tropp (2011),
        SIAM Review 53, for the singular vectors.
    """
    from scipy.sparse.linalg import lobpcg
    from sklearn.utils.extmath import randomized_svd

    shifted = matrix + scipy.sparse.identity(matrix.shape[0])  # no value is below 0
    begin, _, _ = randomized_svd(shifted, count, random_state=len(v0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that end short of the tolerance
        eigenpairs = lobpcg(
            matrix, begin, largest=True, tol=EIGEN_TOLERANCE / 100, maxiter=STEPS
        )
    return eigenpairs[0], eigenpairs[1]


def arpack(matrix: Any, count: int, v0: Float[np.ndarray, "_"]) -> Eigen:
    """Returns the largest eigenvalues and their vectors.

    Rows that repeat can leave ARPACK nowhere to go: then it continues from a vector
    of its own, which has no part in the product before.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    product = v0

    def multiply(vector: np.ndarray) -> np.ndarray:
        nonlocal product
        vector = vector.ravel()
        if abs(vector @ product) < NOTHING:
            raise _RestartError
        product = matrix @ vector
        return product

    operator = LinearOperator(matrix.shape, multiply, dtype=float)  # pyright: ignore
    return eigsh(operator, count, which="LA", v0=v0, tol=EIGEN_TOLERANCE)  # pyright: ignore


def _place(
    labels: np.ndarray, count: int, n_components: int, data: np.ndarray | None
) -> Start:
    if data is None and n_components == 1:
        return np.linspace(-EXTENT, EXTENT, count)[:, None]
    if data is None:
        angle = 2 * np.pi * np.arange(count) / count
        circle = np.zeros((count, n_components))
        circle[:, 0] = EXTENT * np.cos(angle)
        circle[:, 1:2] = EXTENT * np.sin(angle)[:, None]
        return circle
    members = scipy.sparse.csr_matrix(
        (np.ones(labels.size), (labels, range(labels.size)))
    )
    means = (members @ np.asarray(data, dtype=float)) / np.bincount(labels)[:, None]
    return pca(means, n_components)


def expand(start: Start) -> Start:
    """Centers a start, and scales it to its extent."""
    centered = start - start.mean(axis=0)
    return centered * (EXTENT / (np.abs(centered).max() or 1.0))


def _fix_signs(vectors: np.ndarray) -> np.ndarray:
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1, signs)
