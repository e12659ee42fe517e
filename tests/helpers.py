"""Small problems, and slow references: loops over the formulas of the papers."""

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import root_scalar
from sklearn.datasets import load_digits

from aljax.config import GraphConfig
from aljax.errors import InputError
from aljax.graph.build import build_graphs
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import read_slices, slices_of
from aljax.layout.problem import AlignedProblem, LayoutParams, stack
from aljax.relations.mates import Relations
from aljax.relations.read import read_relations
from aljax.relations.strengths import relate
from aljax.tables import sliding_windows

# All three round up to one capacity, so the tests share compiled programs.
SIZES = (41, 48, 45)
CAPACITY = 48
NEIGHBORS = 6
FEATURES = 5
PEERS = 'pip install "aljax[peers]"'


def import_umap(module: str) -> ModuleType:
    """A module of umap-learn, whose import warns of an absent tensorflow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(module, reason=PEERS)


@contextmanager
def refused(name: str, *words: str) -> Iterator[None]:
    """The block raises an error of the argument, with these words in its parts."""
    with pytest.raises(InputError) as raised:
        yield
    error = raised.value
    assert error.name == name
    told = f"{error.got}; {error.expected}. {error.remedy}"
    for word in words:
        assert word in told, f"{word!r} is not in {told!r}"


_compiled: list[tuple[str, threading.Thread]] = []


def _hear(event: str, duration_secs: float, **about: Any) -> None:
    del duration_secs
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append((about["fun_name"], threading.current_thread()))


jax.monitoring.register_event_duration_secs_listener(_hear)


@contextmanager
def compiled() -> Iterator[list[tuple[str, threading.Thread]]]:
    """The programs that the block compiles, by name, and the threads that do it."""
    programs: list[tuple[str, threading.Thread]] = []
    before = len(_compiled)
    yield programs
    programs += _compiled[before:]


def programs(*jitted: Any) -> list[int]:
    """How many programs each jitted function has been compiled to."""
    return [function._cache_size() for function in jitted]


def make_data(sizes=SIZES, features=FEATURES, seed=0) -> list[np.ndarray]:
    """Slices cut from one noisy cloud, so that rows that relate are alike."""
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(max(sizes), features))
    noise = [0.1 * rng.normal(size=(size, features)) for size in sizes]
    return [
        (cloud[:size] + extra).astype(np.float32)
        for size, extra in zip(sizes, noise, strict=True)
    ]


def digit_windows() -> tuple[list[np.ndarray], list[dict[int, int]], list[np.ndarray]]:
    """The sequence that is measured: windows of 400 digits, sorted by their ink."""
    given: Any = load_digits()
    order = np.argsort(given.data.sum(axis=1))
    data, labels = given.data[order].astype(np.float32), given.target[order]
    windows, relations = sliding_windows(data, 400, 150)
    classes, _ = sliding_windows(labels, 400, 150)
    return windows[:10], relations[:9], classes[:10]


def make_relations(sizes=SIZES, related=30, seed=0) -> list[dict[int, int]]:
    """Random one-to-one dicts that leave some rows of every slice without a mate."""
    rng = np.random.default_rng(seed)
    return [
        dict(
            zip(
                rng.choice(before, related, replace=False).tolist(),
                rng.choice(after, related, replace=False).tolist(),
                strict=True,
            )
        )
        for before, after in pairwise(sizes)
    ]


def make_links(
    relations, sizes=SIZES, window=2, *, data=None, labels=None
) -> Relations:
    """The mates of relations given in any way, between slices of some sizes."""
    slices = slices_of(sizes, data, labels)
    return read_relations(relations, slices, alignment_window_size=window)


def make_graphs(sizes=SIZES, n_neighbors=NEIGHBORS) -> list[FuzzyGraph]:
    return build_graphs(
        read_slices(make_data(sizes)), GraphConfig(n_neighbors=n_neighbors)
    )


def make_problem(
    sizes=SIZES, *, window=2, capacity: int | None = CAPACITY, seed=0
) -> tuple[list[FuzzyGraph], Relations, AlignedProblem]:
    """Ragged slices with partial relations, stacked."""
    graphs = make_graphs(sizes)
    dicts = make_relations(sizes, related=min(30, min(sizes)))
    relations = relate(make_links(dicts, sizes, window), graphs)
    key = jax.random.key(seed)
    return graphs, relations, stack(graphs, relations, key=key, capacity=capacity)


def make_maps(sizes=SIZES, components=2, seed=0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(size, components)) for size in sizes]


def assert_same_maps(maps, others) -> None:
    """Two sequences of maps are the same to the last bit."""
    for one, other in zip(maps, others, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_slope(loss: Any, at: Any, *, rtol: float, eps: float) -> None:
    """The gradient of a loss is its slope along a random line, by finite differences.

    `loss` returns a value and its gradient: one program, so that none is compiled here.
    """
    rng = np.random.default_rng(0)
    line = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), at)

    def value(step: float) -> float:
        there = jax.tree.map(lambda leaf, by: np.asarray(leaf) + step * by, at, line)
        return float(loss(there)[0])

    slope = (value(eps) - value(-eps)) / (2 * eps)
    parts = jax.tree.map(lambda leaf, by: np.vdot(leaf, by), loss(at)[1], line)
    assert sum(jax.tree.leaves(parts)) == pytest.approx(slope, rel=rtol)


def pairs_of(link: Any) -> list[tuple[int, int]]:
    """The linked rows of two slices."""
    return [*zip(link.rows.tolist(), link.others.tolist(), strict=True)]


def assert_same_links(one, other) -> None:
    """Mates are the same to the last bit, in the same order."""
    assert [*one] == [*other]
    for key, link in one.items():
        for given, again in zip(link, other[key], strict=True):
            assert (given is None) == (again is None)
            np.testing.assert_array_equal(given, again)


def slow_rho(distances: np.ndarray, local_connectivity: float) -> float:
    """The `local_connectivity`-th nearest positive distance, by hand."""
    positive = [0.0, *sorted(d for d in distances.tolist() if d > 0)]
    if len(positive) - 1 < local_connectivity:
        return positive[-1]
    whole = math.floor(local_connectivity)
    part = local_connectivity - whole
    above = positive[whole + 1] if part > 0 else positive[whole]
    return positive[whole] + part * (above - positive[whole])


def slow_sigma(distances: np.ndarray, rho: float, mean: float) -> float:
    """The root of sum_j exp(-max(0, d_j - rho) / sigma) = log2 k (arXiv:1802.03426).

    `distances` are one row's, its own 0 first; `mean` is that of all rows, which
    bounds sigma from below where rho is 0.
    """
    excess = np.maximum(distances[1:] - rho, 0)
    target = math.log2(len(distances))
    floor = 1e-3 * (distances.mean() if rho > 0 else mean)

    def gap(sigma: float) -> float:
        return float(np.exp(-excess / sigma).sum()) - target

    unit = float(excess.max()) or 1.0
    if gap(1e-6 * unit) >= 0:
        return floor
    found = root_scalar(gap, bracket=(1e-6 * unit, 1e6 * unit), xtol=1e-14)
    return max(float(found.root), floor)


def slow_memberships(
    indices: np.ndarray, distances: np.ndarray, local_connectivity: float
) -> np.ndarray:
    """v(i, j) as a dense matrix, from tables of shape (points, neighbors)."""
    points = len(indices)
    directed = np.zeros((points, points))
    for i in range(points):
        rho = slow_rho(distances[i], local_connectivity)
        sigma = slow_sigma(distances[i], rho, distances.mean())
        for j, distance in zip(indices[i], distances[i], strict=True):
            if j != i:
                directed[i, j] = math.exp(-max(0.0, distance - rho) / sigma)
    return directed


def slow_union(directed: np.ndarray, mix: float) -> np.ndarray:
    """Fuzzy union and intersection of the two directions, mixed."""
    symmetric = np.zeros_like(directed)
    for i, j in np.argwhere(directed + directed.T > 0):
        v, back = directed[i, j], directed[j, i]
        symmetric[i, j] = mix * (v + back - v * back) + (1 - mix) * v * back
    return symmetric


def slow_window(dicts: list[dict[int, int]], window: int) -> dict:
    """{(slice, offset): {row: mate}} by following every row along the dicts."""
    mates: dict[tuple[int, int], dict[int, int]] = {}
    for t in range(len(dicts)):
        for row in dicts[t]:
            at = row
            for offset in range(1, min(window, len(dicts) - t) + 1):
                mates.setdefault((t, offset), {})
                if at not in dicts[t + offset - 1]:
                    break
                at = dicts[t + offset - 1][at]
                mates[t, offset][row] = at
    return mates


def slow_jaccard(
    row: int,
    mates: dict[int, int],
    before: scipy.sparse.csr_matrix,
    after: scipy.sparse.csr_matrix,
) -> float:
    """|f(N_i) & N_i'| / |f(N_i) | N_i'| with sets; 1 where both are empty."""
    image = set(mates.values())
    mapped = {mates[int(j)] for j in before[row].indices if int(j) in mates}
    there = {int(j) for j in after[mates[row]].indices} & image
    either = mapped | there
    return len(mapped & there) / len(either) if either else 1.0


def slow_attraction(y: np.ndarray, graph: FuzzyGraph, a: float, b: float) -> float:
    """2 sum_{i<j} w_ij log(1 + a |y_i - y_j|^(2b))."""
    weights = graph.to_sparse().toarray()
    total = 0.0
    for i in range(len(y)):
        for j in range(i):
            squared = float(((y[i] - y[j]) ** 2).sum())
            total += 2 * weights[i, j] * math.log1p(a * squared**b)
    return total


def slow_repulsion(y: np.ndarray, degrees: np.ndarray, a: float, b: float) -> float:
    """sum_{i<k} (d_i + d_k) / (2 (n - 1)) log(1 + 1 / p_ik)."""
    total = 0.0
    for i in range(len(y)):
        for k in range(i):
            p = a * (float(((y[i] - y[k]) ** 2).sum()) + 1e-3) ** b
            share = (degrees[i] + degrees[k]) / (2 * (len(y) - 1))
            total += share * math.log1p(1 / p)
    return total


def slow_terms(
    maps: list[np.ndarray],
    graphs: list[FuzzyGraph],
    relations: Relations,
    params: LayoutParams,
    point_weights: list[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attraction, repulsion and alignment of each slice, in the user's row order."""
    a, b, gamma, rate = (
        np.asarray(leaf, dtype=float)
        for leaf in (
            params.a,
            params.b,
            params.repulsion_strength,
            params.negative_sample_rate,
        )
    )
    degrees = [graph.to_sparse().toarray().sum(axis=1) for graph in graphs]
    attraction = [
        slow_attraction(y, graph, a[t], b[t])
        for t, (y, graph) in enumerate(zip(maps, graphs, strict=True))
    ]
    repulsion = [
        gamma[t] * rate[t] * slow_repulsion(y, degrees[t], a[t], b[t])
        for t, y in enumerate(maps)
    ]
    alignment = np.zeros(len(maps))
    weighing = point_weights or [np.ones(len(y)) for y in maps]
    pulls = [d * w for d, w in zip(degrees, weighing, strict=True)]
    for (t, offset), mates in relations.items():
        u = t + offset
        for i, k, s in zip(*mates[:3], strict=True):
            pull = pulls[t][i] * (2 + rate[t]) + pulls[u][k] * (2 + rate[u])
            squared = float(((maps[t][i] - maps[u][k]) ** 2).sum())
            alignment[t] += pull / 4 * s * squared
    strength = float(params.alignment_regularisation)
    return np.array(attraction), np.array(repulsion), strength * alignment
