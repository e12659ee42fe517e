"""The whole flow, composed: slices and relations in, an `AlignedEmbedding` out."""

from collections.abc import Callable, Hashable, Sequence, Sized
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Float

from aljax.checkpoints import Checkpoints
from aljax.columns import check_labels
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig, check_extra
from aljax.couple import coupled
from aljax.embedding import AlignedEmbedding, Record
from aljax.errors import instance
from aljax.graph.build import build_graphs
from aljax.graph.slices import Slice, ids_of, of_rows, one_for_each, read_slices
from aljax.keys import check_key, seeds
from aljax.layout.ahead import Ahead, program_of
from aljax.layout.coordinates import brought_near, coordinates_of, inward, outward
from aljax.layout.finish import finish, frame_of, warn_isolated
from aljax.layout.initialize import (
    Starts,
    initial_maps,
    read_mask,
    read_start,
    read_starts,
)
from aljax.layout.losses import terms_in
from aljax.layout.optimize import ADAM, LayoutState, epochs, init, shifts_of
from aljax.layout.problem import (
    AlignedProblem,
    PerRow,
    layout_params,
    stack,
    stack_maps,
    unstack_maps,
)
from aljax.layout.sharding import Devices, read_devices
from aljax.progress import Progress, read_progress, timed
from aljax.relations.anchors import hold, warn_alone, with_anchors
from aljax.relations.mates import Relations, linked, read_pull
from aljax.relations.read import is_ids, names_of_dicts, read_ids, read_relations
from aljax.relations.strengths import check_comparable, measure_moves, relate, scales_of
from aljax.running import optimize
from aljax.scaling import scaled
from aljax.spreads import warn_of_columns


def fit(
    slices: Sequence[Any],
    relations: Any = None,
    *,
    key: jax.Array | None = None,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    slice_labels: Sequence[Hashable] | None = None,
    start: Starts = None,
    pinned: PerRow = None,
    point_weights: PerRow = None,
    y: Sequence[Any] | None = None,
    precomputed_knn: Any = None,
    scale: Any = None,
    scale_by: str = "all",
    missing: str = "error",
    optimizer: optax.GradientTransformation | None = None,
    progress: Progress | bool | None = None,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
    **settings: Any,
) -> AlignedEmbedding:
    """Lays a sequence of related data sets out as maps that stay comparable.

    Args:
        slices: For each slice the data `(points, features)`: an array, a pandas or
            polars frame, a SciPy sparse matrix or an `AnnData` (its X); or the result
            of another tool, a `KNN` (see `as_knn`), a `FuzzyGraph`, or, with the metric
            "precomputed", distances `(points, points)`; inf where two are unrelated.
        relations: The rows that belong together.  Either for each pair of consecutive
            slices a dict {row of slice t: row of slice t+1}; or for each slice its
            rows' ids, which relate equal ones in all slices within the window; or
            pairs of rows of any two slices, {(s, t): array (m, 2)} or, with weights of
            at least 0, {(s, t): (array, weights)}; or a `Coupling`; or "transport", to
            find them in the data as `aljax.couple` does.  A single slice needs none,
            and `AnnData` have ids, their rows' names.
        key: Decides the order of the points, the random part of the start and the
            pairs that repel: the same key gives the same maps.  It has to be given, as
            jax.random.key(0).
        graph: How data become graphs.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        slice_labels: The slices' names, such as years.
        start: For each slice the map to start from, `(points, components)`, or None
            to start it from its mates; None alone starts as `layout.init` says.  Maps
            that are far too wide for a layout are brought to its scale.
        pinned: For each slice a mask `(points,)` of the rows that stay where `start`
            puts them, to the last bit, or None where all may move.  Their coordinates
            may have any scale and origin, and those of all maps are then the same.
        point_weights: For each slice how strongly each row pulls at its mates
            (at least 0); None for 1.
        y: For each slice its rows' classes (-1 for unknown), or values where
            `graph.target_metric` is a metric, or None.  Rows that are alike in it are
            drawn together, by a fuzzy intersection with the data's graph.
        precomputed_knn: For each slice its rows' neighbors, or None: a `KNN`,
            (indices, distances), each `(points, neighbors)`, the row itself included,
            or a sparse matrix of distances.  The data stay at hand for new rows.
        scale: The columns' units: "standard" (mean 0, deviation 1), "robust" (median 0,
            quartiles 1 apart), or those of a fitted `StandardScaler`, `RobustScaler` or
            `MinMaxScaler`; "none" leaves them, and so does None, which warns if a few
            columns decide alone.  The model applies it to new rows, and answers in the
            units of the user.
        scale_by: The rows that units and medians are measured on: "all", or those of
            each "slice".
        missing: "error", or "median", which fills a gap with its column's median.
        optimizer: The update rule, an optax transformation without a learning rate,
            such as `optax.scale_by_rms()`; None for Adam.  It is static: a new object
            compiles anew, so make it once.  A checkpoint does not know it.
        progress: Called about 20 times during the layout with the state so far, whose
            `unstack()` returns the maps as `fit` does: in the order of the rows; True
            shows a bar.
        checkpoints: Keeps the layout in a folder while it runs, so that a later call
            can go on from there: see `aljax.Checkpoints`.
        devices: The devices that the layout is spread over: their number (at most as
            many as there are), a list of them, or a mesh with the axes `slices` and
            `points`; None for JAX's default device.  The slices are shared out first;
            devices that are left share a slice's points.  Rounding differs from one
            device's; for slices of very different sizes the pairs that repel differ
            from those of None, too.
        **settings: Settings that belong in a config: an error says in which.

    Returns:
        The maps, with all that led to them.

    Raises:
        InputError: Input does not fit together; the message names the argument, the
            value that came, the values that it can take, and a remedy.
        TypeError: A keyword is a setting of a config, or unknown.
    """
    check_extra(fit, settings)
    key, progress = check_key(key), read_progress(progress)
    if checkpoints is not None:
        instance("checkpoints", checkpoints, Checkpoints, "aljax.Checkpoints(folder)")
    # An argument that is not a list is refused with the data.
    mesh = read_devices(devices, len(slices) if isinstance(slices, Sized) else 1)
    options: dict[str, Any] = {"progress": progress, "checkpoints": checkpoints}
    program = program_of(optimizer, **options)
    ahead = None if mesh else Ahead(program, optimizer or ADAM)
    prepared = prepare(
        slices,
        relations,
        key=key,
        graph=graph,
        layout=layout,
        alignment=alignment,
        slice_labels=slice_labels,
        start=start,
        pinned=pinned,
        point_weights=point_weights,
        y=y,
        precomputed_knn=precomputed_knn,
        scale=scale,
        scale_by=scale_by,
        missing=missing,
        optimizer=optimizer,
        ahead=ahead,
    )
    options |= {"optimizer": optimizer, "ahead": ahead}
    return lay_out(prepared, mesh, key=key, **options)


class Prepared(Record):
    """A `Record`, the problem, first state, anchors, and where the user has pins."""

    problem: AlignedProblem
    state: LayoutState
    anchors: Relations
    fixed: Starts = None

    def maps_of(self, state: LayoutState) -> list[Float[np.ndarray, "_ components"]]:
        """Returns the maps of a state in the order of the rows, in one frame.

        A layout of no epochs returns its start.
        """
        maps = unstack_maps(state.maps, self.problem)
        if int(state.n_epochs):
            laid_out = self.anchors, self.graphs, self.relations, self.alignment
            maps = finish(maps, *laid_out, stay=self.pinned, weights=self.point_weights)
        return outward(self.coordinates, maps, self.fixed, self.pinned)


def prepare(
    slices: Sequence[Any],
    relations: Any = None,
    *,
    key: jax.Array | None = None,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    slice_labels: Sequence[Hashable] | None = None,
    start: Starts = None,
    pinned: PerRow = None,
    point_weights: PerRow = None,
    y: Sequence[Any] | None = None,
    precomputed_knn: Any = None,
    scale: Any = None,
    scale_by: str = "all",
    missing: str = "error",
    optimizer: optax.GradientTransformation | None = None,
    visible: Callable[[Relations], Relations] | None = None,
    ahead: Ahead | None = None,
) -> Prepared:
    """Returns everything that `fit` makes before the first epoch.

    Takes the arguments of `aljax.fit` but `progress`, `checkpoints` and `devices`, and
    `visible`, a function that returns the mates that the start and the layout see, and
    `ahead`, which begins to compile programs before neighbors are searched.
    """
    key = check_key(key)
    instance("graph", graph, GraphConfig, "aljax.GraphConfig(...)")
    instance("layout", layout, LayoutConfig, "aljax.LayoutConfig(...)")
    instance("alignment", alignment, AlignmentConfig, "aljax.AlignmentConfig(...)")
    slice_labels = check_labels(slice_labels, slices)
    layout, start = read_start(start, layout)
    ids = relations if is_ids(relations) else None
    reading: Any = {"metric": graph.metric, "missing": missing, "ids": ids}
    unscaled = read_slices(slices, slice_labels, **reading)
    read, scaling = scaled(unscaled, scale, scale_by, missing, precomputed_knn)
    if precomputed_knn is None:
        warn_of_columns(read if scale is None else unscaled, ids, scale)
    dense = [slice_.dense for slice_ in read]
    knn_seed, start_seed = seeds(key, 2)
    if alignment.motion_fidelity > 0:
        check_comparable(dense)
    params = layout_params(layout, alignment, slices=len(read))
    frame = frame_of(layout, alignment)
    window = alignment.alignment_window_size
    relations = ids_of(read) if relations is None else relations
    pairing = {"window": window, "metric": graph.metric}
    relations = coupled(relations, read, key=key, **pairing)
    links = read_relations(relations, read, alignment_window_size=window)
    sizes = [slice_.rows for slice_ in read]
    start, masks, weights = read_of_rows(read, start, pinned, point_weights, layout)
    coordinates = coordinates_of(start, masks, params)
    begin = inward(coordinates, start or ())
    if layout.n_epochs != 0:  # else the start is returned
        begin = brought_near(begin, masks, params)
    if ahead and y is None and precomputed_knn is None:
        configs: Any = {"graph": graph, "layout": layout, "alignment": alignment}
        ahead.begin(read, links, params, key=key, **configs)
    seconds: dict[str, float] = {}
    with timed("graph", seconds):
        targets = {"precomputed_knn": precomputed_knn, "y": y}
        wait = ahead.wait_to_weigh if ahead else None
        graphs = build_graphs(read, graph, seed=knn_seed, wait=wait, **targets)
    with timed("relations", seconds):
        related = relate(
            links,
            graphs,
            alignment_strengths=alignment.alignment_strengths,
            alignment_decay=alignment.alignment_decay,
            names=[slice_.name for slice_ in read],
            dicts=names_of_dicts(relations),
        )
        related = visible(related) if visible else related
        anchors = hold(related, dense, graphs, frame=frame)
        held = with_anchors(related, anchors)
        warn_alone(links, anchors, [slice_.name * bool(slice_.rows) for slice_ in read])
        warn_isolated(graphs, [slice_.name for slice_ in read])
    with timed("start", seconds):
        maps = initial_maps(
            begin or layout.init,
            (fuzzy.to_sparse() for fuzzy in graphs),
            dense,
            held,
            n_components=layout.n_components,
            seed=start_seed,
        )
    with timed("stack", seconds):
        pulling = linked(held)
        if alignment.motion_fidelity > 0:
            pulling = measure_moves(pulling, dense, scales_of(dense, graphs))
        per_row: Any = {"pinned": masks, "point_weights": weights}
        problem = stack(graphs, pulling, key=key, densmap=layout.densmap, **per_row)
        n_epochs = epochs(layout, sizes)
        stacked = stack_maps(maps, problem)
        optimizer, terms = optimizer or ADAM, terms_in(params)
        state = init(stacked, n_epochs=n_epochs, optimizer=optimizer, terms=terms)
    return Prepared(
        problem=problem,
        params=params,
        state=state,
        anchors=anchors,
        fixed=start,
        coordinates=coordinates,
        scaling=scaling,
        graphs=graphs,
        relations=related,
        data=[slice_.features for slice_ in read],
        pinned=masks,
        point_weights=weights,
        ids=read_ids(relations, read) if is_ids(relations) else None,
        seconds=seconds,
        slice_labels=None if slice_labels is None else tuple(slice_labels),
        columns=tuple(slice_.columns for slice_ in read),
        graph=graph,
        layout=layout,
        alignment=alignment,
    )


def read_of_rows(
    slices: Sequence[Slice],
    start: Starts,
    pinned: PerRow,
    point_weights: PerRow,
    layout: LayoutConfig,
) -> tuple[Starts, list[np.ndarray | None], list[np.ndarray | None]]:
    """Returns where rows start, which stay there, and how strongly they pull."""
    if start is not None:
        start = one_for_each("start", start, len(slices))
        sizes = [slice_.rows for slice_ in slices]
        start = read_starts(start, sizes, layout.n_components)
    masks = of_rows("pinned", pinned, slices, partial(read_mask, start=start))
    return start, masks, of_rows("point_weights", point_weights, slices, read_pull)


def lay_out(
    prepared: Prepared,
    mesh: Mesh | None,
    *,
    n_shifts: int | None = None,
    ahead: Ahead | None = None,
    **options: Any,
) -> AlignedEmbedding:
    """Returns the maps of a prepared layout; the other arguments are `optimize`'s."""
    n_shifts = n_shifts or shifts_of(prepared.problem, prepared.layout.n_shifts)
    options["maps_of"] = prepared.maps_of
    start = prepared.problem, prepared.params, prepared.state
    with timed("layout", prepared.seconds):
        if ahead:
            ahead.wait_to_lay_out()
        state = optimize(*start, n_shifts, mesh=mesh, **options)
    maps = prepared.maps_of(state)
    return AlignedEmbedding(maps=maps, history=state.losses(), **prepared.record())
