"""Many processes, one layout: each gives its own slices and gets their maps.

share -> fit, on every process -> gather
"""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from aljax.checkpoints import Checkpoints
from aljax.columns import check_labels
from aljax.config import (
    AlignmentConfig,
    GraphConfig,
    LayoutConfig,
    check_extra,
    number,
    of_slices,
)
from aljax.distributed.agreement import (
    Agreement,
    presence,
    setup_here,
    statement_of,
    summed,
)
from aljax.distributed.exchange import (
    Spread,
    check_columns,
    columns_of_all,
    devices_of_all,
    from_all,
    from_one,
    one_frame,
    pairs_of_all,
    slices_of_all,
    spread_of,
    starts_of_all,
)
from aljax.distributed.keeping import SharedCheckpoints, show
from aljax.distributed.ties import Ties, all_relations, counted_from, tie
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError
from aljax.fit import Prepared, lay_out, read_of_rows
from aljax.graph.build import build_graphs
from aljax.graph.knn import round_up
from aljax.graph.slices import Slice, read_slices
from aljax.keys import check_key, seeds
from aljax.layout import finish
from aljax.layout.coordinates import brought_near, coordinates_of, inward, outward
from aljax.layout.initialize import initial_maps, read_start
from aljax.layout.losses import LossTerms, terms_in
from aljax.layout.optimize import default_shifts, epochs, init
from aljax.layout.problem import PerRow, layout_params, stack, stack_maps
from aljax.layout.sharding import SLICES, check_random, mesh_of, round_to, widths_of
from aljax.progress import Progress, read_progress, timed
from aljax.relations.anchors import with_anchors
from aljax.relations.mates import Relations
from aljax.relations.read import is_ids, read_ids
from aljax.scaling import HOW, Scaling, check_scale, in_units
from aljax.spreads import warn_of_columns

FITS = itertools.count()  # so that every process calls the same fit by one name


def fit(
    slices: Sequence[Any],
    relations: Any = None,
    *,
    n_slices: int,
    key: jax.Array,
    graph: GraphConfig = GraphConfig(),
    layout: LayoutConfig = LayoutConfig(),
    alignment: AlignmentConfig = AlignmentConfig(),
    slice_labels: Sequence[Hashable] | None = None,
    start: Sequence[Any] | None = None,
    pinned: PerRow = None,
    point_weights: PerRow = None,
    y: Sequence[Any] | None = None,
    precomputed_knn: Any = None,
    scale: Any = None,
    scale_by: str = "all",
    missing: str = "error",
    progress: Progress | bool | None = None,
    checkpoints: Checkpoints | None = None,
    **settings: Any,
) -> AlignedEmbedding:
    """Fits as `aljax.fit` does, by all processes of `jax.distributed` together.

    Args:
        slices: The data of `share(n_slices).own`, this process's slices, in order.
        relations: Of the whole sequence, the same on every process: dicts, ids or
            pairs, as `aljax.fit` has them.
        n_slices: How many slices the whole sequence has.
        key: The same on every process.  The same number of processes gives the same
            bits; another gives maps that are equal by their measures.
        graph: How data become graphs; lists have a value for each slice of all.
        layout: How graphs become maps.
        alignment: How strongly mates are held together.
        slice_labels: The names of all slices.
        start: For each of this process's slices the map to start from, or None.
        pinned: For each of them a mask of the rows that stay there, or None.
        point_weights: For each of them how strongly its rows pull at mates, or None.
        y: For each of them its rows' classes or values, or None.
        precomputed_knn: For each of them its rows' neighbors, or None.
        scale: As in `aljax.fit`, of the rows of all processes together; these are
            exchanged a few columns at a time.
        scale_by: As in `aljax.fit`; by "slice" only medians for gaps are exchanged.
        missing: As in `aljax.fit`.
        progress: Called about 20 times during the layout, on every process; what it
            raises in one ends the layout in all, at the same epoch.  True shows a bar.
        checkpoints: The folder of process 0 in which the layout is kept and gone on
            from, by any number of processes; those of other processes are not used.
        **settings: Settings that belong in a config: an error says in which.

    Returns:
        The maps, graphs and data of this process's slices, and the mates among them.

    Raises:
        InputError: As `aljax.fit` does; or what needs all slices in one process; or
            the processes state different settings, or another one fails: all raise.
        TypeError: A keyword is a setting of a config, or unknown.
    """
    agreement = Agreement(f"fit {next(FITS)}")
    with agreement.together("arguments"):
        check_extra(fit, settings)
        check_key(key)
        progress = read_progress(progress)
        check_random()
        slice_labels = check_labels(slice_labels, range(n_slices))
        arguments = {"start": start, "pinned": pinned, "progress": progress}
        arguments |= {"point_weights": point_weights}
        configs = {"graph": graph, "layout": layout, "alignment": alignment}
        statement = {
            "n_slices": n_slices,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            **statement_of(**configs),
            "relations": None if relations is None else summed(relations),
            "slice_labels": slice_labels,
            "scale": scale if isinstance(scale, str | None) else type(scale).__name__,
            "scale_by": scale_by,
            "missing": missing,
            **{name: presence(value) for name, value in arguments.items()},
        }
    agreement.same("settings", setup_here() | statement)
    here, room, mesh = share(n_slices)
    slices_here = slice(here.start, here.stop)
    with agreement.together("slices"):
        reading: Any = {"metric": graph.metric, "missing": missing, "part": True}
        unscaled = read = read_slices(slices, slice_labels, first=here.start, **reading)
        widths = check_scale(read, scale, scale_by, missing, precomputed_knn)
        graph = of_slices(graph, slices_here, n_slices)
        layout_of_all, start = read_start(start, layout)
        layout = of_slices(layout_of_all, slices_here, n_slices)
        _check_share(slices, here)
        params = layout_params(layout, alignment, slices=len(here))
        start, masks, weights = read_of_rows(read, start, pinned, point_weights, layout)
    check_columns(read)
    spread = spread_of([slice_.rows for slice_ in read], here, room)
    relations = all_relations(relations, read)
    scaling = None
    if widths:
        units = scale, scale_by, missing
        read, scaling = _in_units(read, units, widths, agreement, spread)
    with agreement.together("columns seen"):
        ids = relations[slices_here] if is_ids(relations) else None
        if precomputed_knn is None:
            warn_of_columns(read if scale is None else unscaled, ids, scale)
    dense = [slice_.dense for slice_ in read]
    knn_seed, start_seed = seeds(key, 2)
    seconds: dict[str, float] = {}
    with timed("graph", seconds), agreement.together("graphs"):
        targets = {"precomputed_knn": precomputed_knn, "y": y}
        graphs = build_graphs(read, graph, seed=knn_seed, **targets)
    with timed("relations", seconds):
        ties = tie(
            relations,
            dense,
            graphs,
            spread,
            alignment=alignment,
            frame=finish.frame_of(layout, alignment),
            slice_labels=slice_labels,
            agreement=agreement,
        )
        finish.warn_isolated(graphs, [slice_.name for slice_ in read])
    begin = None if start is None else slices_of_all(start)
    pins = slices_of_all(masks)
    params_of_all = layout_params(layout_of_all, alignment, slices=n_slices)
    coordinates = coordinates_of(begin, pins, params_of_all)
    begin = inward(coordinates, begin or ())
    if layout.n_epochs != 0:  # else the start is returned
        begin = brought_near(begin, pins, params_of_all)
    if any(rows is None for rows in begin):
        mates = pairs_of_all(ties.related, spread)
        held = with_anchors(mates, pairs_of_all(ties.anchors or {}, spread))
        seeded = {"n_components": layout.n_components, "seed": start_seed}
        begin = starts_of_all(begin, spread, graphs, held, **seeded)
    with timed("start", seconds):
        with agreement.together("start"), counted_from(here.start):
            maps = initial_maps(
                begin[slices_here] or layout.init,
                (fuzzy.to_sparse() for fuzzy in graphs),
                dense,
                ties.pulling,
                n_components=layout.n_components,
                seed=start_seed,
                before=spread.sizes[: here.start],
            )
        maps = one_frame(maps, ties.pulling) if start is None else maps
    with timed("stack", seconds), agreement.together("stack"):
        problem = stack(
            graphs,
            ties.pulling,
            key=key,
            capacity=round_up(max(spread.sizes)),
            before=spread.sizes[: here.start],
            after=spread.sizes[here.stop :],
            pinned=masks,
            point_weights=weights,
            offsets=ties.offsets,
            densmap=layout.densmap,
        )
        if alignment.motion_fidelity > 0 and problem.moves is None:  # nobody has mates
            problem = replace(problem, moves=jnp.zeros_like(problem.strengths))
        stacked = stack_maps(maps, problem)
        ends = {"n_epochs": epochs(layout, spread.sizes), "terms": terms_in(params)}
        state = init(stacked, **ends)
    of_all = from_all(widths_of(problem) | {"slices": room})
    widths = {name: max(each[name] for each in of_all) for name in of_all[0]}
    prepared = Prepared(
        problem=problem,
        params=params,
        state=state,
        anchors={},  # maps of other processes are needed: see `_settled`
        fixed=start,
        coordinates=coordinates,
        scaling=scaling,
        graphs=graphs,
        relations=ties.within,
        data=[slice_.features for slice_ in read],
        pinned=masks,
        point_weights=weights,
        ids=None if ids is None else read_ids(ids, read),
        seconds=seconds,
        slice_labels=None if slice_labels is None else tuple(slice_labels[slices_here]),
        columns=tuple(slice_.columns for slice_ in read),
        graph=graph,
        layout=layout,
        alignment=alignment,
    )
    n_shifts = default_shifts(max(spread.sizes), sum(spread.sizes))
    running: dict[str, Any] = {"widths": widths}
    running["n_shifts"] = layout.n_shifts or n_shifts
    if from_all(checkpoints is not None)[0]:
        running["checkpoints"] = SharedCheckpoints(checkpoints, agreement, spread)
    if progress is not None:
        kept = running.get("checkpoints")
        running["progress"] = partial(show, progress, kept, agreement)
    fitted = lay_out(prepared, mesh, key=key, **running)
    if layout.n_epochs == 0:  # the start is returned
        return fitted
    return _settled(fitted, start, ties, spread)


def _settled(
    fitted: AlignedEmbedding,
    start: Sequence[Any] | None,
    ties: Ties,
    spread: Spread,
) -> AlignedEmbedding:
    """Returns this process's maps in the frame of the sequence, as `finish` does."""
    first, units = spread.local.start, fitted.coordinates
    lost = slices_of_all(finish.lost_rows(fitted.graphs, fitted.pinned))
    any_lost = any(map(np.any, lost))
    if ties.anchors is None and not any_lost:
        return fitted
    maps = slices_of_all(fitted.maps)
    mates: Relations = {}
    if any_lost:
        mates = pairs_of_all(ties.related, spread)
        maps = inward(units, maps)

    def fill(t: int, placed: Sequence[Any], frame: np.ndarray) -> np.ndarray:
        if t not in spread.local:
            return from_one(None)
        graph = fitted.graphs[t - first]
        return from_one(finish.filled(t, graph, placed, mates, frame))

    maps = finish.gather_lost(maps, lost, mates, fill)
    if ties.anchors is not None:
        holding = pairs_of_all(ties.anchors, spread)
        firm = pairs_of_all(finish.firm_of(ties.related, fitted.alignment), spread)
        still = slices_of_all([bool(np.any(rows)) for rows in fitted.pinned])
        fixed = {t for t, stays in enumerate(still) if stays}
        weights = slices_of_all(fitted.point_weights)
        maps = finish.settle(maps, holding, firm, fixed=fixed, weights=weights)
    maps = finish.gather_lost(maps, lost, mates, fill)[first : spread.local.stop]
    if any_lost:
        maps = outward(units, maps, start, fitted.pinned)
    return replace(fitted, maps=maps)


def gather(
    fitted: AlignedEmbedding, n_slices: int
) -> tuple[list[np.ndarray], LossTerms]:
    """Returns the maps and the history of the whole sequence, on every process.

    Args:
        fitted: What `fit` gave this process.
        n_slices: Slices of the whole sequence.
    """
    maps, histories = slices_of_all(fitted.maps), from_all(fitted.history)
    if len(maps) != n_slices:
        raise InputError("n_slices", f"is {n_slices}", f"{len(maps)}, as were fitted")
    history = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *histories)
    return maps, history


def _check_share(slices: Sequence[Any], here: range) -> None:
    if len(slices) != len(here):
        got = f"has {len(slices)} slices, but process {jax.process_index()} has others"
        expected = f"slices {here.start} to {here.stop - 1}, as `share` says"
        raise InputError("slices", got, expected)


def _in_units(
    slices: Sequence[Slice],
    units: tuple[Any, str, str],
    widths: Sequence[int],
    agreement: Agreement,
    spread: Spread,
) -> tuple[Sequence[Slice], Scaling]:
    """Returns slices in units of the rows of all processes, or of each slice.

    Raises:
        InputError: Processes have other columns, or other units.
    """
    scale, by, missing = units
    columns = slices[0].columns or sorted({*widths})
    if by == "all":
        agreement.same("columns", {"columns of slices": columns})
    alike = len({*slices_of_all(widths)}) == 1
    pool = partial(columns_of_all, spread=spread)
    made = in_units(slices, scale, by, missing, alike=alike, pool=pool)
    if by == "all" and scale not in HOW:
        first = made[1].columns[0]
        agreement.same("units", {"scale": np.array([first.center, first.unit])})
    return made


class Share(NamedTuple):
    """The part of a sequence that this process has.

    `own` are its slices, `room` how many it has room for (those of the last process
    may be fewer); `mesh` is that of all processes.
    """

    own: range
    room: int
    mesh: Mesh


def share(n_slices: int) -> Share:
    """Returns this process's share of a sequence, on all devices that there are.

    Raises:
        InputError: If there are more processes than slices can keep busy.
    """
    number(1, whole=True)("n_slices", n_slices)
    processes, process = jax.process_count(), jax.process_index()
    mesh = mesh_of(devices_of_all(), n_slices, processes=processes)
    room = round_to(n_slices, mesh.shape[SLICES]) // processes
    if (processes - 1) * room >= n_slices:
        got = f"is {processes} for {n_slices} slices, of which each takes {room}"
        expected = f"at most {-(-n_slices // room)}, so that each has a slice"
        raise InputError("processes", got, expected)
    first = process * room
    return Share(range(first, min(first + room, n_slices)), room, mesh)
