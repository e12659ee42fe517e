"""The whole flow, composed: slices and relations in, an `AlignedEmbedding` out."""

from collections.abc import Callable, Hashable, Mapping, Sequence, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from aljax.checkpoints import Checkpoints
from aljax.checks import LARGEST, instance
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.layout.mesh import Devices, read_devices
from aljax.layout.optimize import LayoutState, default_shifts, run
from aljax.layout.problem import AlignedProblem, LayoutParams, PerRow, unstack_maps
from aljax.layout.sharding import collect, place
from aljax.stages import prepare, timed

Progress = Callable[[LayoutState], None]
CHUNKS = 20  # how often `progress` is called


def fit(
    slices: Sequence[Any],
    relations: Any = None,
    *,
    key: jax.Array,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    slice_labels: Sequence[Hashable] | None = None,
    pinned: PerRow = None,
    point_weights: PerRow = None,
    y: Sequence[Any] | None = None,
    precomputed_knn: Sequence[Any] | None = None,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
) -> AlignedEmbedding:
    """Lay a sequence of related data sets out as maps that stay comparable.

    Args:
        slices: For each slice the data `(points, features)`: an array, a pandas or
            polars frame, or a SciPy sparse matrix; or what another tool made of them,
            a `KNN` (see `as_knn`), a `FuzzyGraph`, or, with the metric "precomputed",
            distances `(points, points)`.
        relations: Who is who.  Either for each pair of consecutive slices a dict {row
            of slice t: row of slice t+1}; or for each slice its rows' ids, which
            relate equal ones in all slices within the window; or pairs of rows of
            any two slices, {(s, t): array (m, 2)} or, with weights of at least 0,
            {(s, t): (array, weights)}.  A single slice needs none.
        key: Decides the order of the points, the random part of the start and the
            pairs that repel: the same key gives the same maps.
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        slice_labels: What the slices are called, such as years.
        pinned: For each slice a mask `(points,)` of the rows that stay where
            `layout.init` puts them, to the last bit; None for none of a slice.
        point_weights: For each slice how strongly each row pulls at its mates
            (at least 0); None for 1.
        y: For each slice what its rows are, or None: classes (-1 for unknown), or
            values where `graph.target_metric` is a metric.  Rows that are alike in
            it are drawn together, by a fuzzy intersection with the data's graph.
        precomputed_knn: For each slice its rows' neighbours, or None: a `KNN` or
            (indices, distances), each `(points, neighbors)`, the row itself included.
            The data stay at hand for new rows and the inverse.
        progress: Called about 20 times during the layout with the state so far.
        checkpoints: Where the layout is kept while it runs, and gone on from: see
            `aljax.Checkpoints`.
        devices: What the layout is spread over: how many devices (1 to those that
            there are), a list of them, or a mesh with the axes `slices` and `points`;
            None for JAX's default device.  The slices are shared out first; devices
            that are left share a slice's points.  Rounding differs from one device's.

    Returns:
        The maps, with what led to them.

    Raises:
        ValueError: Input that does not fit together; the message names the argument,
            what came, what was expected and what to do.
    """
    if checkpoints is not None:
        instance("checkpoints", checkpoints, Checkpoints, "aljax.Checkpoints(folder)")
    if progress is not None:
        instance("progress", progress, Callable, "a function of the state, or None")
    # What is no list is refused with the data.
    mesh = read_devices(devices, len(slices) if isinstance(slices, Sized) else 1)
    prepared = prepare(
        slices,
        relations,
        key=key,
        graph=graph,
        layout=layout,
        alignment=alignment,
        slice_labels=slice_labels,
        pinned=pinned,
        point_weights=point_weights,
        y=y,
        precomputed_knn=precomputed_knn,
    )
    seconds = dict(prepared.seconds)
    problem, params = prepared.problem, prepared.params
    with timed("layout", seconds):
        state = optimize_on(
            mesh,
            problem,
            params,
            prepared.state,
            layout,
            key=key,
            progress=progress,
            checkpoints=checkpoints,
        )
    return AlignedEmbedding(
        maps=unstack_maps(state.maps, problem),
        graphs=prepared.graphs,
        relations=prepared.relations,
        data=prepared.data,
        params=params,
        history=state.history,
        seconds=seconds,
        pinned=prepared.pinned,
        point_weights=prepared.point_weights,
        ids=prepared.ids,
        slice_labels=None if slice_labels is None else tuple(slice_labels),
        graph=graph,
        layout=layout,
        alignment=alignment,
    )


def optimize_on(
    mesh: Mesh | None,
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    layout: LayoutConfig,
    *,
    key: jax.Array,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    widths: Mapping[str, int] | None = None,
) -> LayoutState:
    """`optimize` on the devices of a mesh; None for JAX's default device.

    Args, Raises: As `place` and `optimize` have them.
    """
    calls: dict[str, Any] = {"progress": progress, "checkpoints": checkpoints}
    if mesh is None:
        return optimize(problem, params, state, layout, key=key, **calls)
    placed = place(problem, params, state, key=key, mesh=mesh, widths=widths)
    with jax.set_mesh(mesh):
        ended = optimize(*placed[:3], layout, key=placed.key, **calls)
        return collect(ended, problem, mesh=mesh)


def optimize(
    problem: AlignedProblem,
    params: LayoutParams,
    state: LayoutState,
    layout: LayoutConfig,
    *,
    key: jax.Array,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> LayoutState:
    """Run the layout to its last epoch, in one chunk or with calls between.

    Raises:
        ValueError: The maps are no longer finite.
    """
    n_shifts = shifts_of(problem, layout)
    if checkpoints:
        state = checkpoints.begin(problem, params, state, key=key, n_shifts=n_shifts)
    n_epochs, begun = int(state.n_epochs), int(state.epoch)
    chunk = max(1, -(-n_epochs // (CHUNKS if progress or checkpoints else 1)))
    chunk = min(chunk, checkpoints.epochs or chunk) if checkpoints else chunk
    for stop in range(begun + chunk, n_epochs + chunk, chunk):
        stop = min(stop, n_epochs)
        state = run(problem, params, state, stop, key=key, n_shifts=n_shifts)
        if checkpoints:
            checkpoints.keep(state)
        if progress:
            progress(state)
    check_finite(state.maps)
    return state


def shifts_of(problem: AlignedProblem, layout: LayoutConfig) -> int:
    """How many shifts estimate the repulsion: what was asked for, or what suits."""
    if layout.n_shifts is not None:
        return layout.n_shifts
    sizes = np.asarray(problem.n_points)
    return default_shifts(int(sizes.max()), int(sizes.sum()))


def check_finite(maps: Float[Array, "*rows slices components points"]) -> None:
    """Refuse maps in which distances are not finite.

    Raises:
        ValueError: They are not; it says which settings may be to blame.
    """
    shards = [np.asarray(shard.data) for shard in jnp.asarray(maps).addressable_shards]
    if not all(np.abs(one).max(initial=0) < LARGEST**0.5 for one in shards):
        raise ValueError(
            "distances in the maps are not finite; `learning_rate`, "
            "`repulsion_strength` or `alignment_regularisation` may be far too large, "
            "or `init` too wide."
        )
