"""The whole flow, composed: slices and relations in, an `AlignedEmbedding` out."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from aljax.checkpoints import Checkpoints
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.errors import LARGEST, instance
from aljax.graph.build import build_graphs
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import Rows
from aljax.graph.slices import (
    Slice,
    one_for_each,
    read_slices,
)
from aljax.layout.initialize import initial_maps
from aljax.layout.losses import aligned_loss
from aljax.layout.optimize import (
    LayoutState,
    Loss,
    default_epochs,
    init,
    run,
    run_in_place,
    shifts_of,
)
from aljax.layout.problem import (
    AlignedProblem,
    LayoutParams,
    PerRow,
    layout_params,
    stack,
    stack_maps,
    unstack_maps,
)
from aljax.layout.sharding import Devices, collect, place, read_devices, sharded_loss
from aljax.relations.mates import Relations, linked, read_weights
from aljax.relations.read import SliceIds, is_ids, read_ids, read_relations
from aljax.relations.strengths import check_comparable, measure_moves, relate, scales_of

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
        history=state.losses(),
        seconds=seconds,
        pinned=prepared.pinned,
        point_weights=prepared.point_weights,
        ids=prepared.ids,
        slice_labels=None if slice_labels is None else tuple(slice_labels),
        graph=graph,
        layout=layout,
        alignment=alignment,
    )


class Prepared(NamedTuple):
    """All that a layout needs, and the stages' products on the way."""

    problem: AlignedProblem
    params: LayoutParams
    state: LayoutState
    graphs: list[FuzzyGraph]
    relations: Relations
    data: list[Rows | None]
    pinned: list[np.ndarray | None]
    point_weights: list[np.ndarray | None]
    ids: tuple[SliceIds, ...] | None
    seconds: dict[str, float]


def prepare(
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
    visible: Callable[[Relations], Relations] | None = None,
) -> Prepared:
    """Everything of `fit` up to the first epoch: graphs, relations, problem and state.

    Args, Raises: As `fit` has them; and `visible`, which of the mates the start and
    the layout know of (None for all).
    """
    check_key(key)
    instance("graph", graph, GraphConfig, "aljax.GraphConfig(...)")
    instance("layout", layout, LayoutConfig, "aljax.LayoutConfig(...)")
    instance("alignment", alignment, AlignmentConfig, "aljax.AlignmentConfig(...)")
    check_labels(slice_labels, slices)
    given = read_slices(slices, slice_labels, metric=graph.metric)
    dense = [one.dense for one in given]
    knn_seed, start_seed = seeds(key, 2)
    moving = alignment.motion_fidelity > 0
    if moving:
        check_comparable(dense)
    params = layout_params(layout, alignment, slices=len(given))
    window = alignment.alignment_window_size
    links = read_relations(relations, given, alignment_window_size=window)
    held = read_pinned(pinned, given, layout)
    weighing = read_point_weights(point_weights, given)
    seconds: dict[str, float] = {}
    with timed("graph", seconds):
        graphs = build_graphs(
            given,
            graph,
            seed=knn_seed,
            precomputed_knn=precomputed_knn,
            y=y,
        )
    with timed("relations", seconds):
        related = relate(
            links,
            graphs,
            alignment_strengths=alignment.alignment_strengths,
            alignment_decay=alignment.alignment_decay,
        )
        related = visible(related) if visible else related
    with timed("start", seconds):
        start = initial_maps(
            layout.init,
            [one.to_sparse() for one in graphs],
            dense,
            related,
            n_components=layout.n_components,
            seed=start_seed,
        )
    with timed("stack", seconds):
        pulling = linked(related)
        if moving:
            pulling = measure_moves(pulling, dense, scales_of(dense, graphs))
        problem = stack(
            graphs,
            pulling,
            key=key,
            pinned=held,
            point_weights=weighing,
        )
        state = init(stack_maps(start, problem), n_epochs=epochs(layout, graphs))
    ids = read_ids(relations, given) if is_ids(relations) else None
    return Prepared(
        problem=problem,
        params=params,
        state=state,
        graphs=graphs,
        relations=related,
        data=[one.features for one in given],
        pinned=held,
        point_weights=weighing,
        ids=ids,
        seconds=seconds,
    )


@contextmanager
def timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    """Write down how long a stage takes."""
    began = perf_counter()
    yield
    seconds[stage] = perf_counter() - began


def epochs(layout: LayoutConfig, graphs: Sequence[FuzzyGraph]) -> int:
    """How many epochs a layout has: as set, or by the size of the largest slice."""
    if layout.n_epochs is not None:
        return layout.n_epochs
    return default_epochs(max(one.degrees.shape[0] for one in graphs))


def check_key(key: Any) -> None:
    """Refuse what is no key, or several."""
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return
        if key.dtype == jnp.uint32 and key.shape == jax.random.PRNGKey(0).shape:
            return
    raise ValueError(
        f"`key` is {key!r}; expected a key by itself, as jax.random.key(0)."
    )


def seeds(key: jax.Array, count: int) -> list[int]:
    """Seeds for the host's own generators, without a program to compile."""
    data = np.asarray(jax.random.key_data(key)).ravel()
    return np.random.SeedSequence(data.tolist()).generate_state(count).tolist()


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
    if checkpoints:
        unpad = partial(collect, problem=problem, mesh=mesh) if mesh else None
        options = {"n_shifts": shifts_of(problem, layout.n_shifts), "collect": unpad}
        state = checkpoints.begin(problem, params, state, key=key, **options)
    if mesh is None:
        return optimize(problem, params, state, layout, key=key, **calls)
    placed = place(problem, params, state, key=key, mesh=mesh, widths=widths)
    with jax.set_mesh(mesh):
        calls |= {"key": placed.key, "loss": sharded_loss}
        ended = optimize(*placed[:3], layout, **calls)
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
    loss: Loss = aligned_loss,
) -> LayoutState:
    """Run the layout to its last epoch, in one chunk or with calls between.

    The state's memory is used for the new one, unless a call may keep it.

    Raises:
        ValueError: The maps are no longer finite.
    """
    n_shifts = shifts_of(problem, layout.n_shifts)
    options = {"key": key, "n_shifts": n_shifts, "loss": loss}
    advance = run if progress or checkpoints else run_in_place
    n_epochs, begun = int(state.n_epochs), int(state.epoch)
    chunk = max(1, -(-n_epochs // (CHUNKS if progress or checkpoints else 1)))
    chunk = min(chunk, checkpoints.epochs or chunk) if checkpoints else chunk
    for stop in range(begun + chunk, n_epochs + chunk, chunk):
        stop = min(stop, n_epochs)
        state = advance(problem, params, state, stop, **options)
        if checkpoints:
            checkpoints.keep(state)
        if progress:
            progress(state)
    check_finite(state.maps)
    return state


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


def check_labels(labels: Sequence[Hashable] | None, slices: Any) -> None:
    """Refuse slice labels that are not one for each slice, such as years."""
    if labels is None or not isinstance(slices, Sized):
        return  # what is no list of slices is refused as such
    if not isinstance(labels, Sequence | np.ndarray) or getattr(labels, "ndim", 1) != 1:
        raise ValueError(
            f"`slice_labels` is {labels!r}; expected a list with one for each slice."
        )
    if len(labels) != len(slices):
        raise ValueError(
            f"`slice_labels` has {len(labels)} labels for {len(slices)} slices; "
            "expected one for each."
        )
    for t, label in enumerate(labels):
        check_label(label, f"slice_labels[{t}]")


def check_label(label: Any, name: str) -> None:
    """Refuse a slice's label that cannot be hashed, as a static field must be."""
    try:
        hash(label)
    except TypeError as error:
        raise ValueError(
            f"`{name}` is {label!r}; expected text, a number or a tuple."
        ) from error


def read_pinned(
    pinned: PerRow, slices: Sequence[Slice], layout: LayoutConfig
) -> list[np.ndarray | None]:
    """Checked masks: one for each slice or None, where positions were given.

    Raises:
        ValueError: A mask of the wrong shape or type, or without positions.
    """
    masks = one_for_each("pinned", pinned, len(slices))
    for t, mask in enumerate(masks):
        if mask is None:
            continue
        mask = np.array(mask)  # a copy: it is kept
        if mask.shape != (slices[t].rows,) or mask.dtype != bool:
            raise ValueError(
                f"`pinned[{t}]` has shape {mask.shape} and dtype {mask.dtype}, but "
                f"{slices[t].name} has {slices[t].rows} rows; expected a mask of shape "
                f"({slices[t].rows},), True where a row stays."
            )
        if mask.any() and not _has_start(layout, t):
            raise ValueError(
                f"`pinned[{t}]` holds {mask.sum()} rows of {slices[t].name}, but "
                "`init` has no positions for it; give `init` as a list with an array "
                "(points, components) for that slice."
            )
        masks[t] = mask
    return masks


def _has_start(layout: LayoutConfig, t: int) -> bool:
    init = layout.init
    return not isinstance(init, str) and t < len(init) and init[t] is not None


def read_point_weights(
    point_weights: PerRow, slices: Sequence[Slice]
) -> list[np.ndarray | None]:
    """Checked weights: for each slice one for each row, or None.

    Raises:
        ValueError: Weights that are negative, NaN or of the wrong length.
    """
    weights = one_for_each("point_weights", point_weights, len(slices))
    return [
        read_weights(one, slices[t].rows, f"point_weights[{t}]", slices[t].name)
        for t, one in enumerate(weights)
    ]
