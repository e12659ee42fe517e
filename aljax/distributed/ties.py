"""The mates and anchors of this process's slices, also in those of other processes.

Every process has to call these at the same places of its program.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from aljax.config import AlignmentConfig
from aljax.couple import Coupling
from aljax.distributed.agreement import Agreement
from aljax.distributed.exchange import (
    Spread,
    from_ahead,
    from_all,
    slices_ahead,
    slices_of_all,
)
from aljax.errors import InputError, kind_of, slice_name
from aljax.graph.fuzzy import FuzzyGraph
from aljax.graph.slices import Slice, ids_of, slices_of
from aljax.relations.anchors import (
    agree,
    anchors,
    compared,
    far_lags,
    landmarks,
    nearer,
    pairs_to_hold,
    warn_alone,
    width,
    with_anchors,
)
from aljax.relations.mates import Relations, linked
from aljax.relations.read import check_keys, names_of_dicts, read_relations
from aljax.relations.strengths import check_comparable, measure_moves, relate, scales_of


class Ties(NamedTuple):
    """The pairs that hold this process's slices, counted from its first.

    Attributes:
        related: Mates of its slices, also in those of the processes after it.
        within: Those of them that are both its own.
        anchors: The pairs that hold the frame; None where mates alone do.
        pulling: All pairs that pull in the layout.
        offsets: How many slices apart pairs may be, the same on all processes.
    """

    related: Relations
    within: Relations
    anchors: Relations | None
    pulling: Relations
    offsets: list[int]


def all_relations(relations: Any, local: Sequence[Slice]) -> Any:
    """Returns relations as they came, or where there are none the rows' names.

    Raises:
        InputError: They are a `Coupling`, or are to be made of the data of all slices.
    """
    if isinstance(relations, str | Coupling):
        got, expected = f"is {kind_of(relations)}", "dicts, ids or pairs of rows"
        remedy = "Among processes give `aljax.couple(slices, key=key).relations`."
        raise InputError("relations", got, expected, remedy)
    if relations is not None:
        return relations
    named = slices_of_all([slice_.ids for slice_ in local])
    return ids_of([Slice(0, ids=ids) for ids in named])


def tie(
    relations: Any,
    dense: Sequence[np.ndarray | None],
    graphs: Sequence[FuzzyGraph],
    spread: Spread,
    *,
    alignment: AlignmentConfig,
    frame: str,
    slice_labels: Sequence[Hashable] | None,
    agreement: Agreement,
) -> Ties:
    """Relates this process's slices to each other and to those after them.

    Args:
        relations: Of the whole sequence, as `fit` takes them.
        dense: The data of this process's slices.
        graphs: Their graphs.
        spread: Which slices are whose.
        alignment: How strongly mates are held together.
        frame: The rule that `frame_of` chose.
        slice_labels: The names of all slices.
        agreement: Tells all processes if `relations` are refused in one.

    Raises:
        InputError: `relations` do not fit the slices, or these cannot be compared.
    """
    local, count = spread.local, len(spread.sizes)
    window = window_of(relations, alignment, count)
    in_reach = range(local.start, min(local.stop + window, count))
    ahead = slices_ahead(graphs, spread, in_reach[len(local) :])
    names = [slice_name(t, slice_labels) for t in in_reach]
    dicts = names_of_dicts(relations).items()
    with agreement.together("relations"):
        with counted_from(local.start):
            links = own_links(relations, in_reach, spread, dense, alignment)
            if alignment.motion_fidelity > 0:
                check_comparable(dense)
        related = relate(
            links,
            [*graphs, *ahead],
            alignment_strengths=alignment.alignment_strengths,
            alignment_decay=alignment.alignment_decay,
            names=names,
            dicts={t - local.start: name for t, name in dicts if t in in_reach},
        )
    within = {(t, o): mates for (t, o), mates in related.items() if t + o < len(local)}
    held = anchors_of(related, dense, graphs, spread, frame)
    pulling = linked(with_anchors(related, held or {}))
    told = [name * bool(spread.sizes[t]) for t, name in zip(local, names, strict=False)]
    warn_alone(within, held or {}, told)
    offsets = {*range(1, window + 1)}
    offsets |= set() if held is None else {*far_lags(count)}
    if alignment.motion_fidelity > 0:
        reached = range(local.stop, min(local.stop + max(offsets), count))
        pulling = moves_of(pulling, dense, graphs, spread, reached)
    return Ties(related, within, held, pulling, sorted(offsets))


def window_of(relations: Any, alignment: AlignmentConfig, count: int) -> int:
    """Returns how far ahead of a slice its mates may be, of `count` slices.

    Raises:
        ValueError: As `check_keys`.
    """
    far = []
    if isinstance(relations, Mapping):
        check_keys(relations, count)
        far = [abs(s - t) for s, t in relations]
    return max([alignment.alignment_window_size, *far])


def own_links(
    relations: Any,
    in_reach: range,
    spread: Spread,
    data: Sequence[np.ndarray | None],
    alignment: AlignmentConfig,
) -> Any:
    """Returns the links from this process's slices, counted from its first.

    Raises:
        ValueError: As `read_relations`, where the slices are counted so.
    """
    first, local = spread.local.start, spread.local
    in_share = relations
    if isinstance(relations, Mapping):
        in_share = {
            (s - first, t - first): pairs
            for (s, t), pairs in relations.items()
            if min(s, t) in local
        }
    elif relations is not None:
        dicts = len(relations) != len(spread.sizes)  # to the next slice each
        in_share = relations[first : in_reach.stop - dicts]
    held = [*data, *[None] * (len(in_reach) - len(local))]
    slices = slices_of(spread.sizes[first : in_reach.stop], held)
    window = alignment.alignment_window_size
    links = read_relations(in_share, slices, alignment_window_size=window)
    return {(t, o): link for (t, o), link in links.items() if t < len(local)}


@contextmanager
def counted_from(first: int) -> Iterator[None]:
    """Lets errors say which slice the numbers of this process's are counted from."""
    try:
        yield
    except InputError as error:
        remedy = f"{error.remedy} Slices are counted from {first}.".lstrip()
        raise InputError(error.name, error.got, error.expected, remedy) from error


def moves_of(
    relations: Relations,
    data: Sequence[np.ndarray | None],
    graphs: Sequence[FuzzyGraph],
    spread: Spread,
    ahead: range,
) -> Relations:
    """Returns this process's mates with their moves, in the unit of all slices.

    Raises:
        InputError: Processes have other columns.
    """
    columns = from_all(width(data[0]))
    if len({*columns}) > 1:
        got = f"is above 0, but slices have {', '.join(map(str, columns))} columns"
        expected = "as many on all processes, for mates are compared in the data"
        raise InputError("motion_fidelity", got, expected)
    scales = slices_of_all(scales_of(data, graphs))
    later = slices_ahead(data, spread, ahead)
    return measure_moves(relations, [*data, *later], scales)


def with_next(
    data: Sequence[np.ndarray | None], relations: Relations, spread: Spread
) -> list[np.ndarray | None]:
    """Returns this process's slices, and of the next one the rows that `nearer` reads.

    Args:
        data: This process's slices, of as many columns in all.
        relations: Their mates, counted from the first.
        spread: Which slices are whose.
    """
    after, processes = spread.local.stop, jax.process_count()
    if processes == 1:
        return [*data]
    read = compared(relations.get((len(data) - 1, 1)))[1]
    asked = from_ahead(read, processes - 1)  # by the process before
    came = from_ahead(np.asarray(data[0])[asked], 1)
    rows = np.zeros((spread.sizes[after] if len(read) else 0, came.shape[1]))
    rows[read] = came
    return [*data, rows]


def anchors_of(
    relations: Relations,
    data: Sequence[np.ndarray | None],
    graphs: Sequence[FuzzyGraph],
    spread: Spread,
    frame: str,
) -> Relations | None:
    """Returns the anchors of this process's slices in later ones, as `hold` has them.

    Args:
        relations: The mates of this process's slices, counted from its first.
        data: These slices.
        graphs: Their graphs.
        spread: Which slices are whose.
        frame: As `AlignmentConfig.frame`.

    Returns:
        None, on all processes, where mates alone hold the frame.

    Raises:
        InputError: `frame` is "population", and slices have other columns.
    """
    first, sizes = spread.local.start, spread.sizes
    pairs = [
        (t, lag)
        for t, lag in pairs_to_hold(len(spread.sizes))
        if sizes[t] and sizes[t + lag]
    ]
    columns = slices_of_all([*map(width, data)])
    agreed = agree(columns, [])
    shares = nearer(with_next(data, relations, spread), relations) if agreed else []
    agreed = agree(columns, slices_of_all(shares))
    if frame == "population" and (len({*columns}) > 1 or not columns[0]):
        got = f"is 'population', but slices have {sorted({*columns})} dense columns"
        raise InputError("frame", got, "as many in each", "Set it to 'auto'.")
    if not pairs or frame == "mates" or (frame == "auto" and not agreed):
        return None
    marks = slices_of_all(
        [landmarks(np.asarray(x), g) for x, g in zip(data, graphs, strict=True)]
    )
    with threadpool_limits(1):  # as in one process
        return {
            (t - first, lag): anchors(marks[t], marks[t + lag])
            for t, lag in pairs
            if t in spread.local
        }
