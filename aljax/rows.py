"""What a user says of single rows: which stay where they are, how much each counts."""

from collections.abc import Hashable, Sequence, Sized
from typing import Any

import numpy as np

from aljax.config import LayoutConfig
from aljax.graph.build import one_for_each
from aljax.graph.links import Slices, read_weights
from aljax.layout.problem import PerRow


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
    pinned: PerRow, known: Slices, layout: LayoutConfig
) -> list[np.ndarray | None]:
    """Checked masks: one for each slice or None, where positions were given.

    Raises:
        ValueError: A mask of the wrong shape or type, or without positions.
    """
    masks = one_for_each("pinned", pinned, len(known.sizes))
    for t, mask in enumerate(masks):
        if mask is None:
            continue
        mask = np.array(mask)  # a copy: it is kept
        if mask.shape != (known.sizes[t],) or mask.dtype != bool:
            raise ValueError(
                f"`pinned[{t}]` has shape {mask.shape} and dtype {mask.dtype}, but "
                f"{known.name(t)} has {known.sizes[t]} rows; expected a mask of shape "
                f"({known.sizes[t]},), True where a row stays."
            )
        if mask.any() and not _has_start(layout, t):
            raise ValueError(
                f"`pinned[{t}]` holds {mask.sum()} rows of {known.name(t)}, but "
                "`init` has no positions for it; give `init` as a list with an array "
                "(points, components) for that slice."
            )
        masks[t] = mask
    return masks


def _has_start(layout: LayoutConfig, t: int) -> bool:
    init = layout.init
    return not isinstance(init, str) and t < len(init) and init[t] is not None


def read_point_weights(point_weights: PerRow, known: Slices) -> list[np.ndarray | None]:
    """Checked weights: for each slice one for each row, or None.

    Raises:
        ValueError: Weights that are negative, NaN or of the wrong length.
    """
    weights = one_for_each("point_weights", point_weights, len(known.sizes))
    return [
        read_weights(one, known.sizes[t], f"`point_weights[{t}]` of {known.name(t)}")
        for t, one in enumerate(weights)
    ]
