"""One more slice: a finished sequence and new data in, a longer sequence out.

The layout has only the slices that may move and those that hold them: within their
window, or tied to them by anchors or pairs.  Of these the ones that may not move are
pinned.  So the time of an update does not grow with the sequence (but for one pass over
the data, with `motion_fidelity`).
"""

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax

from aljax.columns import check_label, is_missing, plain_label
from aljax.config import (
    GraphConfig,
    LayoutConfig,
    check_extra,
    number,
    of_slices,
    per_slice,
)
from aljax.couple import coupled
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError, instance, kind_of, nearest_name, slice_name
from aljax.graph.build import build_graphs
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.knn import on_device
from aljax.graph.slices import Slice, dense_only, read_slice, slices_of, warn_of_degrees
from aljax.keys import check_key, seeds
from aljax.layout.coordinates import inward, outward
from aljax.layout.finish import finish, frame_of, warn_isolated
from aljax.layout.initialize import from_mates
from aljax.layout.losses import terms_in
from aljax.layout.optimize import ADAM, LayoutState, epochs, init, shifts_of
from aljax.layout.problem import (
    LayoutParams,
    layout_params,
    radii_of,
    stack,
    stack_maps,
    unstack_maps,
)
from aljax.progress import Progress, read_progress, timed
from aljax.relations.anchors import hold, warn_alone, with_anchors
from aljax.relations.mates import Relations
from aljax.relations.read import (
    SliceIds,
    follow,
    from_dict,
    from_ids,
    from_pairs,
    is_dict,
    read_slice_ids,
)
from aljax.relations.strengths import check_comparable, measure_moves, relate, scales_of
from aljax.running import optimize
from aljax.transform import check_fitted

SHORT = 8  # a window up to which all updates share a program


def update(
    fitted: AlignedEmbedding,
    new_slice: Any,
    relations: Any,
    *,
    key: jax.Array | None = None,
    move: int = 0,
    keep: int | None = None,
    settings: Mapping[str, Any] | None = None,
    slice_label: Hashable = None,
    y: Any = None,
    precomputed_knn: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    progress: Progress | bool | None = None,
    **extra: Any,
) -> AlignedEmbedding:
    """Returns the sequence with one more slice, aligned with those before.

    Rows of the new slice start at their mates; rows without any at the weighted mean
    of their placed neighbors; groups that nothing leads to beside the map.

    Args:
        fitted: The sequence so far; it is not changed.
        new_slice: The new data `(points, features)`, or its `KNN` or `FuzzyGraph`.
        relations: The mates, in the direction of `fit`: a dict {row of the last slice:
            row of the new one}; or the new rows' ids, if `fit` was given ids; or pairs
            {(s, t): array (m, 2)} with t the new slice's index; or "transport", to find
            them in the data; or a `Coupling` of all slices, the new one last; None for
            the ids of an `AnnData`.
        key: Decides what is left to chance: the same key gives the same map.
        move: How many of the last slices, at most, may move with the new one (0 leaves
            all as they are, to the last bit).
        keep: How many slices to keep at most, the new one included; older ones are
            dropped, so that memory stays bounded.  None keeps all.
        settings: The new slice's own settings, by the names of the per-slice
            settings of `GraphConfig` and `LayoutConfig`; the last slice's hold for
            the rest.
        slice_label: The new slice's label; None for its index.
        y: The new rows' classes or values, as `fit` takes them, or None.
        precomputed_knn: The new rows' neighbors, as `fit` takes them, or None.
        optimizer: The update rule, as `fit` takes it.
        progress: Called about 20 times during the layout with the state so far, whose
            `unstack()` returns all maps as `update` does; True shows a bar.
        **extra: Settings that belong in `settings`: an error says so.

    Returns:
        A new `AlignedEmbedding`, with the new slice last.

    Raises:
        ValueError: As `fit` does; or a dict that is evidently reversed, ids where
            there are none, `move` or `keep` out of range, an unknown setting.
    """
    check_extra(update, extra)
    key, progress = check_key(key), read_progress(progress)
    check_fitted(fitted)
    count = len(fitted.maps)
    number(0, whole=True)("move", move)
    number(1, whole=True, optional=True)("keep", keep)
    move = min(move, count)
    graph, layout = _extend_settings(fitted, settings or {})
    labels = _extend_labels(fitted, slice_label)
    name = slice_name(count, labels)
    columns, scaling = fitted.columns or (None,) * count, fitted.scaling
    reading: Any = {"name": name, "metric": graph.metric, "others": columns}
    if scaling is not None:
        reading["missing"] = scaling.missing
    added = read_slice(new_slice, "new_slice", **reading)
    warn_of_degrees([added])
    if scaling is not None:
        added, scaling = scaling.extended(added, precomputed_knn)
    slices = [*slices_of([*map(len, fitted.maps)], fitted.data, labels), added]
    relations = added.ids if relations is None else relations
    window = fitted.alignment.alignment_window_size
    pairing: Any = {"window": window, "metric": graph.metric, "new": True}
    relations = coupled(relations, slices, key=key, **pairing)
    mates, ids = _new_mates(fitted, relations, slices)
    knn_seed, start_seed = seeds(key, 2)
    seconds: dict[str, float] = {}
    dense = [slice_.dense for slice_ in slices]
    if fitted.alignment.motion_fidelity > 0:
        check_comparable(dense)
    with timed("graph", seconds):
        (new,) = build_graphs(
            [added],
            of_slices(graph, slice(count, None), count + 1),
            seed=knn_seed,
            precomputed_knn=[precomputed_knn],
            y=[y],
        )
    if layout.densmap:
        radii_of(new, "new_slice")
    graphs = [*fitted.graphs, new]
    with timed("relations", seconds):
        related = fitted.relations | relate(
            mates,
            graphs,
            alignment_strengths=fitted.alignment.alignment_strengths,
            alignment_decay=fitted.alignment.alignment_decay,
            names=[slice_.name for slice_ in slices],
            dicts={count - 1: "relations"} if is_dict(relations) else {},
        )
        moving = range(count - move, count + 1)
        frame = frame_of(layout, fitted.alignment)
        anchors = hold(related, dense, graphs, frame=frame, among=moving)
        held = with_anchors(related, anchors)
        named = [slice_.name * bool(slice_.rows) for slice_ in slices]
        warn_alone(mates, anchors, named, first=count)
        warn_isolated([new], [added.name])
    placed = inward(fitted.coordinates, fitted.maps)
    with timed("start", seconds):
        start = from_mates(
            count,
            new.to_sparse(),
            [*placed, None],
            {(t, o): pairs for (t, o), pairs in held.items() if t + o == count},
            n_components=layout.n_components,
            seed=start_seed,
        )
    longer = dataclasses.replace(
        fitted,
        maps=[*placed, start],
        graphs=graphs,
        relations=related,
        data=[slice_.features for slice_ in slices],
        params=layout_params(layout, fitted.alignment, slices=count + 1),
        seconds=seconds,
        pinned=[*fitted.pinned, None],
        point_weights=[*fitted.point_weights, None],
        ids=ids,
        slice_labels=labels,
        columns=(*columns, added.columns),
        scaling=scaling,
        graph=graph,
        layout=layout,
    )
    all_rows = [np.ones(len(y), bool) for y in placed[: count - move]]
    stay = [*all_rows, *longer.pinned[count - move :]]

    def finished(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
        if layout.n_epochs != 0:  # else the start is returned
            laid_out = anchors, graphs, related, fitted.alignment
            maps = finish(maps, *laid_out, stay=stay, weights=longer.point_weights)
        first, positions = count - move, [*fitted.maps, None]
        held = positions[first:], stay[first:]
        placed = outward(fitted.coordinates, maps[first:], *held)
        # Single precision rounds pinned rows of a model in double precision.
        for t, (before, rows) in enumerate(zip(*held, strict=True)):
            if before is not None and rows is not None and rows.any():
                placed[t] = np.where(rows[:, None], before, placed[t])
        return [*fitted.maps[:first], *placed]

    options: Any = {"key": key, "progress": progress, "optimizer": optimizer}
    with timed("layout", seconds):
        grown = _lay_out(longer, held, move, stay, finished, **options)
    return grown if keep is None else cut(grown, max(count + 1 - keep, 0), count + 1)


def _lay_out(
    longer: AlignedEmbedding,
    held: Relations,
    move: int,
    stay: Sequence[np.ndarray | None],
    finished: Callable[[Sequence[np.ndarray]], list[np.ndarray]],
    **options: Any,
) -> AlignedEmbedding:
    """Lays out the last `move` + 1 slices, with those that hold them pinned.

    `stay` tells for each slice which rows do not move, None for none; `finished` puts
    the layout's maps into one frame and the coordinates of the user; the others are
    the arguments of `optimize`.

    Those are the slices of the window and those that anchors or pairs reach.  The
    stack always has room for the window, empty slices in front where the sequence is
    short: updates share a few compiled programs.
    """
    total = len(longer.maps)
    moving = range(total - move - 1, total)
    window = longer.alignment.alignment_window_size
    if window > SHORT:  # as far as there are slices, by steps
        window = min(window, -(-total // SHORT) * SHORT)
    begin = moving.start - window  # below 0 where the sequence is short
    far = sorted({t for t, o in held if t + o in moving and t < begin})
    near = range(max(begin, 0), total)
    shown = [*[None] * max(-begin, 0), *far, *near]
    place = {t: i for i, t in enumerate(shown) if t is not None}

    def within(values: Sequence[Any], filler: Any) -> list[Any]:
        return [filler if t is None else values[t] for t in shown]

    related = {
        (place[t], place[t + offset] - place[t]): mates
        for (t, offset), mates in held.items()
        if t + offset in place and (t in near or t + offset in moving)
    }
    beyond = far or any(offset > window for _, offset in related)
    if longer.alignment.motion_fidelity > 0:
        data = dense_only(longer.data)
        scales = scales_of(data, longer.graphs)  # one unit for the whole sequence
        related = measure_moves(related, within(data, data[-1][:0]), scales)
    problem = stack(
        within(longer.graphs, _without_points(longer.graphs[-1])),
        related,
        key=options["key"],
        pinned=within(stay, None),
        point_weights=within(longer.point_weights, None),
        offsets=range(1, len(shown) if beyond else window + 1),
        densmap=longer.layout.densmap,
    )
    params = _of_rows(longer.params, [t or 0 for t in shown])
    maps = within(longer.maps, np.zeros((0, longer.layout.n_components)))
    state = init(
        stack_maps(maps, problem),
        n_epochs=epochs(longer.layout, map(len, longer.maps[-1 - move :])),
        optimizer=options["optimizer"] or ADAM,
        terms=terms_in(params),
    )
    n_shifts = shifts_of(problem, longer.layout.n_shifts)

    def maps_of(state: LayoutState) -> list[np.ndarray]:
        fresh = unstack_maps(state.maps, problem)[-move - 1 :]
        return finished(longer.maps[: -move - 1] + fresh)

    state = optimize(problem, params, state, n_shifts, maps_of=maps_of, **options)
    history = jax.tree.map(lambda term: term[:, -len(near) :], state.losses())
    return dataclasses.replace(longer, maps=maps_of(state), history=history)


def _of_rows(params: LayoutParams, rows: Any) -> LayoutParams:
    """Returns the settings of some slices, by NumPy, for nothing to compile."""
    return jax.tree.map(
        lambda x: on_device(np.asarray(x)[rows]) if x.ndim else x, params
    )


def _without_points(graph: FuzzyGraph) -> FuzzyGraph:
    return jax.tree.map(lambda leaf: on_device(np.asarray(leaf)[..., :0]), graph)


def cut(fitted: AlignedEmbedding, first: int, stop: int) -> AlignedEmbedding:
    """Returns the sequence from slice `first` to before slice `stop`."""
    count, kept = len(fitted.maps), slice(first, stop)
    fields = ["maps", "graphs", "data", "pinned", "point_weights"]
    fields += ["ids", "slice_labels", "columns", "scaling"]  # these may be None
    values = {name: getattr(fitted, name) for name in fields}
    chosen = {name: value and value[kept] for name, value in values.items()}
    for name in ("graph", "layout"):
        chosen[name] = of_slices(getattr(fitted, name), kept, count)
    relations = {
        (t - first, offset): mates
        for (t, offset), mates in fitted.relations.items()
        if t >= first and t + offset < stop
    }
    params = _of_rows(fitted.params, kept)
    return dataclasses.replace(fitted, relations=relations, params=params, **chosen)


def _extend_settings(
    fitted: AlignedEmbedding, settings: Mapping[str, Any]
) -> tuple[GraphConfig, LayoutConfig]:
    """Returns the settings with the new slice's, where they may differ by slice."""
    instance("settings", settings, Mapping, "settings by name")
    # A start that was given is not a setting of the slices to come.
    configs = fitted.graph, dataclasses.replace(fitted.layout, init="spectral")
    names = [
        field.name
        for config in configs
        for field in dataclasses.fields(config)
        if field.metadata["per_slice"]
    ]
    curves = [("min_dist", "spread"), ("a", "b")]
    curve, other = curves if fitted.layout.a is None else reversed(curves)
    for name in settings:
        if name not in names:
            got, hint = f"has {name!r}", nearest_name(name, names)
            raise InputError("settings", got, "names of per-slice settings", hint)
        if name in other:
            got = f"has {name!r}, but the sequence was fitted otherwise"
            raise InputError("settings", got, f"`{curve[0]}` and `{curve[1]}`")

    def extend(config: Any) -> Any:
        changed = {}
        for name, value in vars(config).items():
            if name in names:
                values = per_slice(name, value, len(fitted.maps))
                last = settings.get(name, values[-1])
                if isinstance(value, tuple) or last != value:
                    changed[name] = [*values, last]
        return dataclasses.replace(config, **changed)

    return extend(configs[0]), extend(configs[1])


def _extend_labels(
    fitted: AlignedEmbedding, label: Hashable
) -> tuple[Hashable, ...] | None:
    """Returns the slices' labels with the new one's, or with the next free index."""
    check_label(label := plain_label(label), "slice_label")
    label = None if is_missing(label) else label
    labels, new = fitted.slice_labels, len(fitted.maps)
    if labels is None:
        return None if label is None else (*range(new), label)
    free = next(i for i in itertools.count(new) if i not in labels)
    return (*labels, free if label is None else label)


def _new_mates(
    fitted: AlignedEmbedding, relations: Any, slices: Sequence[Slice]
) -> tuple[Relations, tuple[SliceIds, ...] | None]:
    """Returns the mates of the new slice in those before, and the ids of all rows."""
    new, ids = len(fitted.maps), fitted.ids
    window = fitted.alignment.alignment_window_size
    if not isinstance(relations, Mapping):
        if ids is None:
            got = f"is {kind_of(relations)}"
            expected = "a dict {row of the last slice: row of the new one}, or pairs"
            remedy = "Ids serve where `fit` was given ids, and no update pairs since."
            raise InputError("relations", got, expected, remedy)
        ids = (*ids, read_slice_ids(relations, slices[new], name="relations"))
        mates = from_ids(ids, window=window, first=new)
    elif not is_dict(relations):
        mates, ids = from_pairs(relations, slices), None
        for t, offset in mates:
            if t + offset != new:
                got = f"has pairs of slices {t} and {t + offset}"
                raise InputError("relations", got, f"pairs with the new slice, {new}")
    else:
        step = from_dict(relations, new - 1, slices, name="relations")
        mates = follow(fitted.relations, step, new - 1, window=window)
        if ids is not None:
            named = dict(zip(step.others.tolist(), step.rows.tolist(), strict=True))
            named = {other: ids[-1][row] for other, row in named.items()}
            ids = (*ids, tuple(named.get(row) for row in range(slices[new].rows)))
    return mates, ids
