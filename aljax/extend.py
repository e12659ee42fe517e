"""What one more slice adds to a sequence: settings, labels and links."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from itertools import count
from typing import Any

from aljax.checks import instance, nearest_name
from aljax.config import GraphConfig, LayoutConfig, per_slice
from aljax.embedding import AlignedEmbedding
from aljax.graph.dicts import read_dict
from aljax.graph.ids import SliceIds, join_ids, read_slice_ids
from aljax.graph.links import Correspondence, Links, Slices, chain
from aljax.graph.pairs import read_pairs
from aljax.graph.relations import warn_alone
from aljax.rows import check_label

OF_GRAPH = ("n_neighbors", "local_connectivity", "set_op_mix_ratio")
OF_LAYOUT = ("min_dist", "spread", "a", "b", "learning_rate", "repulsion_strength")
OF_LAYOUT += ("negative_sample_rate",)


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
    fitted: AlignedEmbedding, relations: Any, known: Slices
) -> tuple[Correspondence, tuple[SliceIds, ...] | None]:
    """The links of the new slice with those before, and everyone's ids.

    Args:
        fitted: The sequence so far.
        relations: As `update` takes them.
        known: The slices, the new one included.

    Raises:
        ValueError: As `update` has them.
    """
    new = len(fitted.maps)
    window = fitted.alignment.alignment_window_size
    ids = fitted.ids
    if isinstance(relations, Mapping) and any(isinstance(k, tuple) for k in relations):
        links = read_pairs(relations, known)
        for t, offset in links:
            if t + offset != new:
                raise ValueError(
                    f"`relations` has pairs of slices {t} and {t + offset}; expected "
                    f"pairs with the new slice, {new}."
                )
        ids = None
    elif isinstance(relations, Mapping):
        links = _follow(fitted, read_dict(relations, new - 1, known, name="relations"))
        if ids is not None:
            of = dict(
                zip(links[new - 1, 1].others, links[new - 1, 1].rows, strict=True)
            )
            rows = range(known.sizes[new])
            ids = (*ids, tuple(ids[-1][of[r]] if r in of else None for r in rows))
    else:
        if ids is None:
            raise ValueError(
                f"`relations` is a {type(relations).__name__}; expected a dict {{row "
                "of the last slice: row of the new one}, or pairs. Ids serve where "
                "`fit` was given ids, and no update pairs since."
            )
        ids = (*ids, read_slice_ids(relations, new, known))
        near = max(0, new - window)
        joined = join_ids(ids[near:], window=window)
        links = {
            (t + near, o): v for (t, o), v in joined.items() if t + near + o == new
        }
    warn_alone(links, known, first=new)
    return links, ids


def _follow(fitted: AlignedEmbedding, step: Links) -> Correspondence:
    """A dict from the last slice on, chained back along the window."""
    new = len(fitted.maps)
    links = {(new - 1, 1): step}
    for offset in range(2, fitted.alignment.alignment_window_size + 1):
        before = fitted.relations.get((new - offset, offset - 1))
        if before is not None:
            links[new - offset, offset] = chain(Links(before.rows, before.others), step)
    return links
