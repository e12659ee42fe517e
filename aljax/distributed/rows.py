"""One slice whose rows are shared out: each process has some, and gets their positions.

Blocks of rows visit one process after the other, so that each meets all others:

    nearest rows -> memberships both ways -> places in the layout -> layout by points

A process holds its rows, one visiting block, and a few numbers for each row of all.
"""

import itertools
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from aljax.config import SYNONYMS, AlignmentConfig, GraphConfig, LayoutConfig, per_slice
from aljax.distributed.agreement import Agreement, presence, setup_here, statement_of
from aljax.distributed.exchange import (
    devices_of_all,
    from_ahead,
    from_all,
    from_one,
    sum_of_all,
)
from aljax.distributed.keeping import show
from aljax.errors import InputError, kind_of
from aljax.graph.approximate import SAMPLE, warn_of_few
from aljax.graph.conditioning import DEVICE_METRICS
from aljax.graph.exact import hold, nearest_held
from aljax.graph.fuzzy import memberships, united
from aljax.graph.knn import KNN, as_floats, on_device, round_up
from aljax.graph.neighbors import EXACT_OPERATIONS, find_neighbors, is_cheap
from aljax.graph.queries import in_cells, nearest_of_many
from aljax.graph.slices import read_slices
from aljax.keys import check_key, seeds
from aljax.layout.losses import LossTerms
from aljax.layout.optimize import epochs, init, shifts_of
from aljax.layout.problem import AlignedProblem, layout_params
from aljax.layout.sharding import check_random, mesh_of, round_to, widths_of
from aljax.layout.spectral import EXTENT, JITTER, axes_of, expand
from aljax.progress import Progress, read_progress, timed
from aljax.running import optimize

CALLS = itertools.count()  # so that every process calls the same fit by one name
PART = 8192  # rows that are summed, or whose lists are merged, at once
STARTS, METHODS = ("pca", "random"), ("auto", "exact", "approximate")


class FittedRows(NamedTuple):
    """The map of a slice whose rows are shared out, on every process.

    Attributes:
        positions: Where all rows lie: those of process 0 first.
        own: Which of them are this process's.
        history: The loss, as in `AlignedEmbedding`.
        neighbors: The nearest rows of each of its own, counted over all processes.
        seconds: What the stages took.
    """

    positions: Float[np.ndarray, "all components"]
    own: range
    history: LossTerms
    neighbors: KNN
    seconds: dict[str, float]


class Shares(NamedTuple):
    """The rows of the slice that each process has: `ends[p]` to `ends[p + 1]`."""

    ends: list[int]
    process: int

    @property
    def all(self) -> int:
        """Returns the number of all rows."""
        return self.ends[-1]

    @property
    def here(self) -> range:
        """Returns the rows of this process."""
        return self.of(self.process)

    @property
    def most(self) -> int:
        """Returns the most rows that a process has."""
        return max(last - first for first, last in itertools.pairwise(self.ends))

    def of(self, process: int) -> range:
        """Returns the rows of a process."""
        return range(*self.ends[process : process + 2])

    def visitors(self, local: np.ndarray) -> Iterator[tuple[range, np.ndarray]]:
        """Yields the rows, and which they are, of each process; this one's first.

        They are handed on in a ring: a process holds its own and one visitor.
        """
        visitor, count = local, len(self.ends) - 1
        for step in range(count):
            yield self.of((self.process + step) % count), visitor
            if step + 1 < count:
                visitor = from_ahead(visitor, 1)


def fit_rows(
    rows: Any,
    *,
    key: jax.Array,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(init="pca"),
    progress: Progress | bool | None = None,
) -> FittedRows:
    """Lays out one slice whose rows are shared out over the processes.

    It is the layout that `aljax.fit([all rows], key=key)` makes, from the same start
    and with the same neighbors where these are exact; maps differ by rounding.

    Args:
        rows: This process's rows `(rows, features)`, more than `n_neighbors`; those of
            process 0 come first.  A memory-mapped array is read in parts.
        key: The same on every process.
        graph: How rows become a graph, the same on every process; "euclidean", "cosine"
            and "correlation" are the metrics that it can have.
        layout: How the graph becomes a map; it starts from "pca" or "random".
        progress: Called about 20 times during the layout, on every process; what it
            raises in one ends the layout in all.  True shows a bar.

    Returns:
        The positions of all rows, and the neighbors of this process's.

    Raises:
        InputError: As `aljax.fit` does; or a setting needs all rows in one process; or
            the processes state different settings, or another one fails: all raise.
    """
    agreement = Agreement(f"rows {next(CALLS)}")
    with agreement.together("arguments"):
        check_key(key)
        progress = read_progress(progress)
        check_random()
        _check_settings(graph, layout)
        data = _read(rows, graph)
        params = layout_params(layout, AlignmentConfig(), slices=1)
    agreement.same(
        "settings",
        setup_here()
        | statement_of(graph=graph, layout=layout)
        | {
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "columns of rows": data.shape[1],
            "type of rows": data.dtype,
            "progress": presence(progress),
        },
    )
    ends = itertools.accumulate(from_all(len(data)), initial=0)
    shares = Shares([*ends], jax.process_index())
    n_neighbors, local_connectivity, mix_ratio = (
        per_slice(name, getattr(graph, name), 1)[0]
        for name in ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
    )
    with agreement.together("rows"):
        if len(data) <= n_neighbors:
            got = f"has {len(data)} rows in process {jax.process_index()}"
            raise InputError("rows", got, f"more than {n_neighbors} (`n_neighbors`)")
    knn_seed, start_seed = seeds(key, 2)
    seconds: dict[str, float] = {}
    with timed("neighbors", seconds):
        metric = SYNONYMS.get(graph.metric, graph.metric)
        search: Any = {"metric": metric, "method": graph.knn_method}
        neighbors = nearest_of_all(data, shares, n_neighbors, seed=knn_seed, **search)
    with timed("graph", seconds):
        weights, degrees = graph_of_own(
            neighbors, shares, local_connectivity, mix_ratio
        )
    mesh = mesh_of(devices_of_all(), 1)
    with timed("start", seconds):
        start = _start(data, shares, layout, start_seed)
    with timed("stack", seconds):
        problem, place = _stack(neighbors, weights, degrees, shares, key, mesh)
        stacked = np.zeros((1, layout.n_components, problem.order.shape[1]))
        stacked[0][:, place] = start.T
        state = init(as_floats(stacked), n_epochs=epochs(layout, [shares.all]))
    if progress is not None:
        progress = partial(show, progress, None, agreement)
    n_shifts = shifts_of(problem, layout.n_shifts)
    widths = widths_of(problem) | {"points": len(problem.order[0])}  # of all rows
    options: dict[str, Any] = {"mesh": mesh, "widths": widths, "progress": progress}
    with timed("layout", seconds):
        state = optimize(problem, params, state, n_shifts, key=key, **options)
    positions = np.asarray(state.maps)[0][:, place].T
    return FittedRows(positions, shares.here, state.losses(), neighbors, seconds)


def _check_settings(graph: GraphConfig, layout: LayoutConfig) -> None:
    metric = SYNONYMS.get(graph.metric, graph.metric)
    plain, far = metric in DEVICE_METRICS, graph.disconnection_distance
    listed = ", ".join(METHODS)
    situation = "where rows are shared by processes"
    for name, value, fits, expected in (
        ("metric", graph.metric, plain, ", ".join(DEVICE_METRICS)),
        ("metric_kwds", graph.metric_kwds, not graph.metric_kwds, "None"),
        ("knn_method", graph.knn_method, graph.knn_method in METHODS, listed),
        ("disconnection_distance", far, far is None, "None"),
        ("init", layout.init, layout.init in STARTS, " or ".join(map(repr, STARTS))),
        ("densmap", layout.densmap, not layout.densmap, "False"),
    ):
        if not fits:
            remedy = "Other settings need all rows in one process: `aljax.fit`."
            raise InputError(name, f"is {value!r}", f"{expected} {situation}", remedy)


def _read(rows: Any, graph: GraphConfig) -> np.ndarray:
    """Returns a process's rows, finite.

    Raises:
        InputError: They are not dense numbers.
    """
    try:
        data = read_slices([rows], metric=graph.metric)[0].content
    except InputError as error:
        raise error.renamed("rows") from error.__cause__
    if not isinstance(data, np.ndarray):
        got = f"is {kind_of(rows)}"
        raise InputError("rows", got, "a dense array (rows, features)")
    return data


def _start(
    data: np.ndarray, shares: Shares, layout: LayoutConfig, seed: int
) -> Float[np.ndarray, "all components"]:
    """Returns the start of all rows, as `initial_maps` makes it of one process's."""
    rng, shape = np.random.default_rng(seed), (shares.all, layout.n_components)
    if layout.init == "random":
        start = rng.uniform(-EXTENT, EXTENT, shape)
    else:
        start = _pca(data, shares, layout.n_components)
    return start + rng.normal(scale=JITTER, size=shape)


def _pca(
    data: np.ndarray, shares: Shares, n_components: int
) -> Float[np.ndarray, "all components"]:
    blocks = [data[first : first + PART] for first in range(0, len(data), PART)]
    sums = np.sum([block.sum(axis=0, dtype=float) for block in blocks], axis=0)
    center = np.sum(from_all(sums), axis=0) / shares.all
    unit = max(from_all(max(np.abs(x - center).max() for x in blocks))) or 1.0
    features = data.shape[1]
    spread = np.zeros((features, features))
    with threadpool_limits(1):  # the same bits on any number of threads
        for block in blocks:
            centered = (block - center) / unit
            spread += centered.T @ centered
        spread = sum_of_all(spread)
        axes = axes_of(spread, n_components) if jax.process_index() == 0 else None
        axes = from_one(axes)
        start = np.zeros((shares.all, n_components))
        local = np.concatenate([(block - center) / unit @ axes for block in blocks])
        start[shares.here.start : shares.here.stop, : axes.shape[1]] = local
    return expand(sum_of_all(start))


def _stack(
    knn: KNN,
    weights: np.ndarray,
    degrees: np.ndarray,
    shares: Shares,
    key: jax.Array,
    mesh: Mesh,
) -> tuple[AlignedProblem, Int[np.ndarray, "all"]]:
    """Returns the problem, with tables of this process's places; and the places.

    Places are drawn for all rows, so that a process's points are of all processes.
    """
    devices, count = mesh.devices.size, jax.process_count()
    capacity = round_to(round_up(shares.all), devices)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    order = np.arange(capacity, dtype=np.int32)
    order[: shares.all] = rng.permutation(shares.all)
    place = np.argsort(order)[: shares.all].astype(np.int32)
    width = capacity // count
    own_places = range(jax.process_index() * width, (jax.process_index() + 1) * width)
    # Column 0 of every list is the row itself: it weighs nothing, so it is left out.
    itself = np.arange(own_places.start, own_places.stop, dtype=np.int32)
    neighbors = np.tile(itself, (len(weights) - 1, 1))
    placed = np.zeros(neighbors.shape)
    visits = shares.visitors(np.asarray(knn.indices).T), shares.visitors(weights.T)
    for (span, lists), (_, values) in zip(*visits, strict=True):
        places = place[span.start : span.stop]
        rows = np.flatnonzero((own_places.start <= places) & (places < own_places.stop))
        neighbors[:, places[rows] - own_places.start] = place[lists[rows, 1:].T]
        placed[:, places[rows] - own_places.start] = values[rows, 1:].T
    pulls = np.zeros(capacity)
    pulls[: shares.all] = degrees[order[: shares.all]]
    nobody = np.tile(itself, (1, 0, 1, 1))
    problem = AlignedProblem(
        neighbors=on_device(neighbors[None]),
        weights=as_floats(placed[None]),
        degrees=as_floats(pulls[None]),
        n_points=on_device([shares.all], np.int32),
        mates=on_device(nobody),
        strengths=as_floats(np.zeros(nobody.shape)),
        pulls=as_floats(pulls[None]),
        free=as_floats(np.ones((1, capacity))),
        order=on_device(order[None]),
        offsets=(),
    )
    return problem, place


def nearest_of_all(
    data: np.ndarray,
    shares: Shares,
    n_neighbors: int,
    *,
    metric: str,
    method: str,
    seed: int,
) -> KNN:
    """Returns the nearest of all rows to each of this process's, itself first."""
    own_span = shares.here
    searched = EXACT_OPERATIONS * shares.most / shares.all
    # The same choice in all: by the largest share.
    whole = np.broadcast_to(data[:1], (shares.most, data.shape[1]))
    exactly = method == "exact" or (method == "auto" and is_cheap(whole, searched))
    method = "exact" if exactly else "approximate"
    options: Any = {"metric": metric, "knn_method": method, "seed": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is not found here: others come
        knn = find_neighbors(data, n_neighbors, **options)
    best = np.asarray(knn.indices) + np.int32(own_span.start), np.array(knn.distances)
    best[1][0] = -1  # a row is its own first neighbor
    sampled = np.linspace(0, len(data) - 1, min(SAMPLE, len(data))).astype(int)
    true: list[np.ndarray] = []  # distances of some rows to the nearest of each block
    for span, visiting in shares.visitors(data):
        most = min(n_neighbors - (span != own_span), len(span))
        if not exactly:
            true.append(nearest_held(data[sampled], hold(visiting, metric), most)[1])
        if span == own_span:
            continue
        if exactly:
            table = nearest_held(data, hold(visiting, metric), most)
        else:
            table = nearest_of_many(data, in_cells(visiting, metric), most)
        _merge(best, (table[0].T + np.int32(span.start), table[1].T))
    indices, distances = best
    if not exactly:
        farthest = np.sort(np.hstack(true))[:, n_neighbors - 1]
        is_found = distances[1:, sampled] <= farthest * (1 + 1e-4)
        warn_of_few(float(is_found.mean()), data.shape[1])
    distances[0] = 0
    return KNN(on_device(indices), as_floats(distances))


Lists = tuple[Int[np.ndarray, "_ rows"], Float[np.ndarray, "_ rows"]]


def _merge(best: Lists, more: Lists) -> None:
    """Puts the nearest of both where the best are; of equally near ones the first."""
    for first in range(0, best[0].shape[1], PART):
        block = np.s_[:, first : first + PART]
        pairs = zip(best, more, strict=True)
        met = [np.vstack([table[block], other[block]]) for table, other in pairs]
        order = np.lexsort(met, axis=0)[: len(best[0])]
        for table, values in zip(best, met, strict=True):
            table[block] = np.take_along_axis(values, order, axis=0)


def graph_of_own(
    knn: KNN, shares: Shares, local_connectivity: float, mix_ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights of this process's lists, and the degrees of all rows."""
    own_rows = np.arange(shares.here.start, shares.here.stop)
    indices, distances = map(np.asarray, (knn.indices, knn.distances))
    total = np.sum(from_all(distances.sum(dtype=float)))
    unit = as_floats(total / (len(indices) * shares.all) or 1.0)
    # Rows are told from their neighbors by their place here.
    local = KNN(knn.indices - shares.here.start, knn.distances)
    forward = np.asarray(memberships(local, local_connectivity, unit))
    backward, mutual = np.zeros_like(forward), np.zeros(forward.shape, bool)
    visits = shares.visitors(indices.T), shares.visitors(forward.T)
    for (span, lists), (_, strengths) in zip(*visits, strict=True):
        for column, ends in enumerate(indices):
            inside = (span.start <= ends) & (ends < span.stop) & (ends != own_rows)
            rows = np.flatnonzero(inside)
            listed = ends[rows] - span.start
            backed = lists[listed] == own_rows[rows, None]
            mutual[column, rows] = backed.any(axis=1)
            backward[column, rows] = np.where(backed, strengths[listed], 0).sum(axis=1)
    both_ways = jnp.asarray(forward), jnp.asarray(backward)
    weights = np.asarray(united(*both_ways, jnp.asarray(mutual), mix_ratio))
    degrees = np.bincount(indices.ravel(), weights.ravel(), minlength=shares.all)
    degrees[own_rows] += weights.sum(axis=0)
    return weights, sum_of_all(degrees)
