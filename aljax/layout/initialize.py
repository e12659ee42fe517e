"""Starting maps: graphs (and data) in, one rough map for each slice out.

The slices' starts are made one by one, then chained: each is turned, by the
rotation R that minimises sum |y_i R - z_i'|^2 over mates, onto the one before
(orthogonal Procrustes: Schönemann 1966, Psychometrika 31).  Host side, in
float64 on one thread, with signs fixed: the same graph gives the same bits.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, eigsh
from threadpoolctl import threadpool_limits

from aljax.graph.relations import Relations

EXTENT = 10.0  # half-width of a start (map units), as umap-learn's
JITTER = 1e-4  # parts coincident points
EIGEN_TOLERANCE = 1e-4

Start = Float[np.ndarray, "_ components"]


def initial_maps(
    init: str | Sequence[Start],
    adjacency: Sequence[scipy.sparse.csr_matrix],
    data: Sequence[np.ndarray | None],
    relations: Relations,
    *,
    n_components: int,
    seed: int,
) -> list[Start]:
    """One starting map for each slice, chained along the mates.

    Args:
        init: "spectral", "pca", "random", or the user's own maps, which are taken
            as they are.
        adjacency: Each slice's symmetric graph.
        data: Each slice's data; None where only a graph is known.
        relations: The mates, for the chain.
        n_components: Dimensions of the maps.
        seed: Seeds random starts and the jitter.

    Raises:
        ValueError: "pca" without data, or maps of the wrong number or shape.
    """
    rng = np.random.default_rng(seed)
    if not isinstance(init, str):
        return _check_given(
            init, [matrix.shape[0] for matrix in adjacency], n_components
        )
    maps: list[Start] = []
    with threadpool_limits(1):
        for t, matrix in enumerate(adjacency):
            if init == "random":
                start = rng.uniform(-EXTENT, EXTENT, (matrix.shape[0], n_components))
            elif init == "pca":
                start = _pca_of(data[t], t, n_components)
            else:
                start = spectral(matrix, n_components, data=data[t])
            start = start + rng.normal(scale=JITTER, size=start.shape)
            maps.append(_turn_onto(maps[-1], start, relations, t) if t else start)
    return maps


def _check_given(
    init: Sequence[Start], sizes: Sequence[int], n_components: int
) -> list[Start]:
    if len(init) != len(sizes):
        raise ValueError(
            f"`init` has {len(init)} maps for {len(sizes)} slices; give one array "
            "(points, components) for each slice."
        )
    maps = [np.asarray(start, dtype=float) for start in init]
    for t, (start, size) in enumerate(zip(maps, sizes, strict=True)):
        if start.shape != (size, n_components) or not np.isfinite(start).all():
            raise ValueError(
                f"`init[{t}]` has shape {start.shape}"
                f"{'' if np.isfinite(start).all() else ' and values not finite'}; "
                f"expected finite positions of shape {(size, n_components)}."
            )
    return maps


def pca(data: Float[np.ndarray, "points features"], n_components: int) -> Start:
    """The leading principal components, scaled to the extent of a start.

    Components beyond the data's own dimensions are 0.
    """
    exact = np.asarray(data, dtype=np.float64)
    centred = exact - exact.mean(axis=0)
    centred = centred / (np.abs(centred).max() or 1.0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = _fix_signs(vectors[:, ::-1][:, :n_components])
    start = np.zeros((exact.shape[0], n_components))
    start[:, : axes.shape[1]] = centred @ axes
    return _expand(start)


def _pca_of(data: np.ndarray | None, t: int, n_components: int) -> Start:
    if data is None:
        raise ValueError(
            f"`init` is 'pca', but slice {t} is a graph without data; give its data, "
            "or use another start."
        )
    return pca(data, n_components)


def spectral(
    adjacency: scipy.sparse.csr_matrix,
    n_components: int,
    *,
    data: Float[np.ndarray, "points features"] | None = None,
) -> Start:
    """The smoothest vectors on the graph; connected components side by side.

    Each component larger than the map has dimensions to spare is laid out by the
    leading nontrivial eigenvectors of D^-1/2 A D^-1/2; a smaller one, or one for
    which ARPACK does not converge, by chance.  Several components are placed by the
    PCA of their data's means (on a circle, where there are no data), each with a share
    of the extent that grows with the root of its share of the points.

    Args:
        adjacency: Symmetric weights, `(points, points)`.
        n_components: Dimensions of the map.
        data: The rows behind the graph, to place components.

    Source: Belkin & Niyogi (2003), "Laplacian eigenmaps".
    """
    points = adjacency.shape[0]
    count, labels = connected_components(adjacency, directed=False)
    if count == 1:
        return _expand(_eigenvectors(adjacency, n_components))
    centres = _place(labels, count, n_components, data)
    start = np.zeros((points, n_components))
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(labels))[:-1]):
        local = _expand(_eigenvectors(adjacency[rows][:, rows], n_components))
        share = np.sqrt(rows.size / points) / 2
        start[rows] = centres[labels[rows[0]]] + local * share
    return _expand(start)


def _eigenvectors(adjacency: scipy.sparse.csr_matrix, n_components: int) -> Start:
    points = adjacency.shape[0]
    rng = np.random.default_rng(points)
    by_chance = rng.normal(size=(points, n_components))
    if points <= 2 * n_components + 2:
        return by_chance
    degree = np.asarray(adjacency.sum(axis=1), dtype=np.float64).ravel()
    scale = scipy.sparse.diags(1 / np.sqrt(degree))
    normalized = scale @ adjacency.astype(np.float64) @ scale
    try:
        values, vectors = eigsh(
            normalized,
            k=n_components + 1,
            which="LA",
            v0=rng.normal(size=points),
            tol=EIGEN_TOLERANCE,  # pyright: ignore[reportArgumentType]
        )
    except ArpackError:
        warnings.warn(
            f"the spectral start of {points} points did not converge: it is random.",
            stacklevel=2,
        )
        return by_chance
    leading = np.argsort(values)[::-1][1:]
    return _fix_signs(vectors[:, leading])


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


def _turn_onto(before: Start, start: Start, relations: Relations, t: int) -> Start:
    mates = relations.get((t - 1, 1))
    if mates is None or not mates.rows.size:
        return start
    return turn_onto(start, start[mates.others], before[mates.rows])


def turn_onto(
    positions: Float[np.ndarray, "points components"],
    here: Float[np.ndarray, "mates components"],
    there: Float[np.ndarray, "mates components"],
) -> Start:
    """Positions moved by the rotation and shift that best bring mates together.

    Args:
        positions: What is moved.
        here: The mates' positions among them.
        there: Where those should come to lie.
    """
    left, _, right = np.linalg.svd(
        (here - here.mean(axis=0)).T @ (there - there.mean(axis=0))
    )
    return (positions - here.mean(axis=0)) @ (left @ right) + there.mean(axis=0)


def _expand(start: Start) -> Start:
    centred = start - start.mean(axis=0)
    return centred * (EXTENT / (np.abs(centred).max() or 1.0))


def _fix_signs(vectors: np.ndarray) -> np.ndarray:
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return vectors * np.where(signs == 0, 1, signs)
