"""One more slice: a finished sequence and new data in, a longer sequence out.

Only the slices within the window of those that move are laid out again, those that do
not move pinned; so the time of an update does not grow with the sequence (but for one
pass over the data, if motion is asked for).
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aljax.config import GraphConfig, LayoutConfig, number, per_slice
from aljax.embedding import AlignedEmbedding, check_fitted
from aljax.errors import instance, nearest_name, slice_name
from aljax.fit import Progress, check_key, check_label, epochs, optimize, seeds, timed
from aljax.graph.build import build_graphs
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import Slice, dense_only, read_slice, slices_of
from aljax.layout.initialize import from_mates
from aljax.layout.optimize import init
from aljax.layout.problem import layout_params, stack, stack_maps, unstack_maps
from aljax.relations.mates import Mates, Relations, chain
from aljax.relations.read import (
    SliceIds,
    from_dict,
    from_ids,
    from_pairs,
    read_slice_ids,
    warn_alone,
)
from aljax.relations.strengths import check_comparable, measure_moves, relate, scales_of

SHORT = 8  # a window up to which all updates share a program


OF_GRAPH = ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
OF_LAYOUT = ("min_dist", "spread", "a", "b", "learning_rate", "repulsion_strength")
OF_LAYOUT += ("negative_sample_rate",)


def update(
    fitted: AlignedEmbedding,
    new_slice: Any,
    relations: Any,
    *,
    key: jax.Array,
    move: int = 0,
    keep: int | None = None,
    settings: Mapping[str, Any] | None = None,
    slice_label: Hashable = None,
    y: Any = None,
    precomputed_knn: Any = None,
    progress: Progress | None = None,
) -> AlignedEmbedding:
    """Append a slice to a sequence of maps, aligned with those before.

    Rows of the new slice start at their mates; rows without any at the weighted mean
    of their placed neighbours; groups that nothing leads to beside the frame.

    Args:
        fitted: The sequence so far; it is not changed.
        new_slice: The new data `(points, features)`, or its `KNN` or `FuzzyGraph`.
        relations: Who is who, in the direction of `fit`: a dict {row of the last
            slice: row of the new one}; or the new rows' ids, if `fit` was given ids;
            or pairs {(s, t): array (m, 2)} with t the new slice's index.
        key: Decides what is left to chance: the same key gives the same map.
        move: How many of the last slices may move with the new one (0 leaves all as
            they are, to the last bit).
        keep: How many slices to keep, the new one included; older ones are dropped,
            so that memory stays bounded.  None keeps all.
        settings: The new slice's own settings, by the names of the per-slice
            settings of `GraphConfig` and `LayoutConfig`; the last slice's hold for
            the rest.
        slice_label: What the new slice is called, where the others have labels.
        y: The new rows' classes or values, as `fit` takes them, or None.
        precomputed_knn: The new rows' neighbours, as `fit` takes them, or None.
        progress: Called about 20 times during the layout with the state so far.

    Returns:
        A new `AlignedEmbedding`, with the new slice last.

    Raises:
        ValueError: As `fit` does; or a dict that is evidently reversed, ids where
            there are none, `move` or `keep` out of range, an unknown setting.
    """
    check_key(key)
    check_fitted(fitted)
    count = len(fitted.maps)
    if progress is not None:
        instance("progress", progress, Callable, "a function of the state, or None")
    number(0, high=count, whole=True)("move", move)
    number(1, high=count + 1, whole=True, optional=True)("keep", keep)
    graph, layout = extend_settings(fitted, settings or {})
    labels = extend_labels(fitted, slice_label)
    name = slice_name(count, labels)
    given = read_slice(new_slice, "new_slice", name=name, metric=graph.metric)
    slices = [*slices_of([*map(len, fitted.maps)], fitted.data, labels), given]
    links, ids = read_new_links(fitted, relations, slices)
    knn_seed, start_seed = seeds(key, 2)
    seconds: dict[str, float] = {}
    if fitted.alignment.motion_fidelity > 0:
        check_comparable([one.dense for one in slices])
    with timed("graph", seconds):
        own = {
            name: per_slice(name, getattr(graph, name), count + 1)[-1]
            for name in OF_GRAPH
        }
        (new,) = build_graphs(
            [given],
            dataclasses.replace(graph, **own),
            seed=knn_seed,
            precomputed_knn=[precomputed_knn],
            y=[y],
        )
    graphs = [*fitted.graphs, new]
    with timed("relations", seconds):
        related = fitted.relations | relate(
            links,
            graphs,
            alignment_strengths=fitted.alignment.alignment_strengths,
            alignment_decay=fitted.alignment.alignment_decay,
        )
    with timed("start", seconds):
        start = from_mates(
            count,
            new.to_sparse(),
            [*fitted.maps, None],
            {pair: related[pair] for pair in links},
            n_components=layout.n_components,
            seed=start_seed,
        )
    longer = dataclasses.replace(
        fitted,
        maps=[*fitted.maps, start],
        graphs=graphs,
        relations=related,
        data=[one.features for one in slices],
        params=layout_params(layout, fitted.alignment, slices=count + 1),
        seconds=seconds,
        pinned=[*fitted.pinned, None],
        point_weights=[*fitted.point_weights, None],
        ids=ids,
        slice_labels=labels,
        graph=graph,
        layout=layout,
    )
    with timed("layout", seconds):
        moved = _lay_out(longer, move, key, progress)
    return moved if keep is None else _drop(moved, count + 1 - keep)


def _lay_out(
    longer: AlignedEmbedding, move: int, key: jax.Array, progress: Progress | None
) -> AlignedEmbedding:
    """The last `move` + 1 slices laid out, those in their window pinned.

    The stack always has as many slices, empty ones in front where the sequence is
    short: one compiled program for all updates (unless pairs reach beyond the window).
    """
    count = len(longer.maps)
    moving = (o for t, o in longer.relations if t + o >= count - move - 1)
    window = max(longer.alignment.alignment_window_size, *moving, 1)
    if window > SHORT:  # as far as there are slices, by steps
        window = min(window, -(-count // SHORT) * SHORT)
    size = move + 1 + window
    first = count - size  # below 0 where the sequence is short
    real = range(max(first, 0), count)
    components = longer.layout.n_components
    empty = [_empty_graph(longer.graphs[-1])] * -min(first, 0)
    maps = [np.zeros((0, components))] * len(empty) + [longer.maps[t] for t in real]
    pinned: list[Any] = [None] * len(empty)
    for t in real:
        pinned.append(
            longer.pinned[t]
            if t >= count - move - 1
            else np.ones(len(longer.maps[t]), bool)
        )
    graphs = empty + [longer.graphs[t] for t in real]
    related = _window_of(longer.relations, first, size, window)
    if longer.alignment.motion_fidelity > 0:
        data = dense_only(longer.data)
        held = [data[-1][:0]] * len(empty) + [data[t] for t in real]
        scales = scales_of(data, longer.graphs)  # one unit for the whole sequence
        related = measure_moves(related, held, scales)
    problem = stack(
        graphs,
        related,
        key=key,
        pinned=pinned,
        point_weights=[None] * len(empty) + [longer.point_weights[t] for t in real],
    )
    params = jax.tree.map(
        lambda leaf: leaf[jnp.clip(jnp.arange(first, count), 0)] if leaf.ndim else leaf,
        longer.params,
    )
    state = init(
        stack_maps(maps, problem),
        n_epochs=epochs(longer.layout, longer.graphs[-1 - move :]),
    )
    state = optimize(problem, params, state, longer.layout, key=key, progress=progress)
    fresh = unstack_maps(state.maps, problem)[-move - 1 :]
    history = jax.tree.map(lambda term: term[:, len(empty) :], state.losses())
    return dataclasses.replace(
        longer, maps=longer.maps[: -move - 1] + fresh, history=history
    )


def _empty_graph(like: FuzzyGraph) -> FuzzyGraph:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[..., :0]), like)


def _window_of(relations: Relations, first: int, size: int, window: int) -> Relations:
    """The relations within the last slices, renumbered; pairs without any empty."""
    nobody = Mates(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    found: Relations = {}
    for t in range(size):
        for offset in range(1, size - t):
            mates = relations.get((first + t, offset))
            if mates is not None or offset <= window:
                found[t, offset] = nobody if mates is None else mates
    return found


def _drop(fitted: AlignedEmbedding, first: int) -> AlignedEmbedding:
    """The sequence from slice `first` on."""

    def cut(config: Any, names: Sequence[str]) -> Any:
        values = {name: getattr(config, name) for name in names}
        return dataclasses.replace(
            config, **{n: v[first:] for n, v in values.items() if isinstance(v, tuple)}
        )

    return dataclasses.replace(
        fitted,
        maps=fitted.maps[first:],
        graphs=fitted.graphs[first:],
        relations={
            (t - first, offset): mates
            for (t, offset), mates in fitted.relations.items()
            if t >= first
        },
        data=fitted.data[first:],
        params=jax.tree.map(
            lambda leaf: leaf[first:] if leaf.ndim else leaf, fitted.params
        ),
        pinned=fitted.pinned[first:],
        point_weights=fitted.point_weights[first:],
        ids=fitted.ids and fitted.ids[first:],
        slice_labels=fitted.slice_labels and fitted.slice_labels[first:],
        graph=cut(fitted.graph, OF_GRAPH),
        layout=cut(fitted.layout, OF_LAYOUT),
    )


def extend_settings(
    fitted: AlignedEmbedding, settings: Mapping[str, Any]
) -> tuple[GraphConfig, LayoutConfig]:
    """The settings with one more value where they are per slice.

    Raises:
        ValueError: A name that is no per-slice setting.
    """
    instance("settings", settings, Mapping, "settings by name")
    for name in settings:
        if name not in OF_GRAPH + OF_LAYOUT:
            hint = nearest_name(name, OF_GRAPH + OF_LAYOUT)
            raise ValueError(f"`settings` has {name!r}, which is not per slice: {hint}")
    if fitted.layout.a is None and {"a", "b"} & {*settings}:
        raise ValueError(
            "`settings` has a or b, but the sequence was fitted to `min_dist` and "
            "`spread`; give those."
        )
    if fitted.layout.a is not None and {"min_dist", "spread"} & {*settings}:
        raise ValueError(
            "`settings` has min_dist or spread, but the sequence was fitted with `a` "
            "and `b`; give those."
        )

    def extend(config: Any, names: Sequence[str]) -> Any:
        changed = {}
        for name in names:
            value = getattr(config, name)
            values = per_slice(name, value, len(fitted.maps))
            last = settings.get(name, values[-1])
            if isinstance(value, tuple) or last != value:
                changed[name] = [*values, last]
        return dataclasses.replace(config, **changed)

    # A start that was given is no setting of the slices to come.
    layout = dataclasses.replace(fitted.layout, init="spectral")
    return extend(fitted.graph, OF_GRAPH), extend(layout, OF_LAYOUT)


def extend_labels(
    fitted: AlignedEmbedding, label: Hashable
) -> tuple[Hashable, ...] | None:
    """The slices' labels with the new one's; without one its index, or the next free.

    Raises:
        ValueError: A label that cannot be hashed.
    """
    check_label(label, "slice_label")
    if fitted.slice_labels is None:
        return None if label is None else (*range(len(fitted.maps)), label)
    if label is None:
        taken = fitted.slice_labels
        label = next(one for one in count(len(fitted.maps)) if one not in taken)
    return (*fitted.slice_labels, label)


def read_new_links(
    fitted: AlignedEmbedding, relations: Any, slices: Sequence[Slice]
) -> tuple[Relations, tuple[SliceIds, ...] | None]:
    """The links of the new slice with those before, and everyone's ids.

    Args:
        fitted: The sequence so far.
        relations: As `update` takes them.
        slices: The slices, the new one included.

    Raises:
        ValueError: As `update` has them.
    """
    new = len(fitted.maps)
    window = fitted.alignment.alignment_window_size
    ids = fitted.ids
    if isinstance(relations, Mapping) and any(isinstance(k, tuple) for k in relations):
        links = from_pairs(relations, slices)
        for t, offset in links:
            if t + offset != new:
                raise ValueError(
                    f"`relations` has pairs of slices {t} and {t + offset}; expected "
                    f"pairs with the new slice, {new}."
                )
        ids = None
    elif isinstance(relations, Mapping):
        links = _follow(fitted, from_dict(relations, new - 1, slices, name="relations"))
        if ids is not None:
            of = dict(
                zip(links[new - 1, 1].others, links[new - 1, 1].rows, strict=True)
            )
            rows = range(slices[new].rows)
            ids = (*ids, tuple(ids[-1][of[r]] if r in of else None for r in rows))
    else:
        if ids is None:
            raise ValueError(
                f"`relations` is a {type(relations).__name__}; expected a dict {{row "
                "of the last slice: row of the new one}, or pairs. Ids serve where "
                "`fit` was given ids, and no update pairs since."
            )
        ids = (*ids, read_slice_ids(relations, slices[new], name="relations"))
        near = max(0, new - window)
        joined = from_ids(ids[near:], window=window)
        links = {
            (t + near, o): v for (t, o), v in joined.items() if t + near + o == new
        }
    warn_alone(links, slices, first=new)
    return links, ids


def _follow(fitted: AlignedEmbedding, step: Mates) -> Relations:
    """A dict from the last slice on, chained back along the window."""
    new = len(fitted.maps)
    links = {(new - 1, 1): step}
    for offset in range(2, fitted.alignment.alignment_window_size + 1):
        before = fitted.relations.get((new - offset, offset - 1))
        if before is not None:
            links[new - offset, offset] = chain(before, step)
    return links
