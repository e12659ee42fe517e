"""Sequences in which some steps of members are held still, and their maps.

A step is held by the member's row before it in place of the row after it.  Rows that
vary by noise are held at their mean: m - d/2 and m + d/2, with a difference d drawn
anew, for the mean m of two such rows tells nothing of their difference.
"""

import math
import warnings
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from aljax.checks import one_of
from aljax.embedding import AlignedEmbedding
from aljax.errors import InputError
from aljax.fit import lay_out, prepare
from aljax.graph.knn import Rows
from aljax.relations.mates import Members, Relations
from aljax.relations.strengths import relate

STRETCH = 4.0  # times the median step: the longest that noise is taken to be


class Steps(NamedTuple):
    """The steps of members that are in slices t and t + 1."""

    step: Int[np.ndarray, "steps"]
    member: Int[np.ndarray, "steps"]
    before: Int[np.ndarray, "steps"]  # rows, those of all slices put end to end
    after: Int[np.ndarray, "steps"]


def steps_of(members: Members) -> Steps:
    """Returns the steps of all members, slice by slice."""
    starts = np.cumsum([0, *map(len, members.codes)])
    parts = [np.zeros((4, 0), int)]
    for t, (code, later) in enumerate(pairwise(members.codes)):
        member, before, after = np.intersect1d(code, later, return_indices=True)
        ends = starts[t] + before, starts[t + 1] + after
        parts.append(np.stack([np.full(len(member), t), member, *ends]))
    return Steps(*np.hstack(parts))


def joined(maps: AlignedEmbedding) -> Rows:
    """Returns the data of all slices put end to end."""
    if len(maps.maps) < 2:
        raise InputError("maps", "has one slice", "at least two to move between")
    for t, data in enumerate(maps.data):
        if data is None:
            got = f"has no data of {maps.slice_name(t)}"
            remedy = "Save a model with its data, and fit rows, not graphs."
            raise InputError("maps", got, "a model with the data of all slices", remedy)
    tables: Any = maps.data
    widths = sorted({data.shape[1] for data in tables})
    if len(widths) > 1:
        got = f"has slices of {widths} columns"
        raise InputError("maps", got, "slices with the same columns")
    sparse = any(map(scipy.sparse.issparse, tables))
    rows: Any = scipy.sparse.vstack(tables, "csr") if sparse else np.concatenate(tables)
    return rows


def differences(
    noise: Any,
    rows: Rows,
    steps: Steps,
    maps: AlignedEmbedding,
    rng: np.random.Generator,
) -> Float[np.ndarray, "steps columns"] | None:
    """Returns for each step a difference by noise alone, drawn anew; None without it.

    Raises:
        InputError: `noise` is no deviation, nor "estimate", or the rows are sparse.
    """
    if noise is None:
        return None
    if not isinstance(rows, np.ndarray):
        expected = "None: sparse rows cannot vary in every column"
        raise InputError("noise", f"is {noise!r}", expected)
    if isinstance(noise, str):
        one_of("estimate", beside="deviations of the columns")("noise", noise)
        return _estimate(rows[steps.after] - rows[steps.before], rng)
    deviation = _read_deviation(noise, rows.shape[1])
    if maps.scaling is not None:
        units = np.stack([columns.unit for columns in maps.scaling.columns])
        deviation = (deviation / units)[steps.step]
    normal = rng.normal(size=(len(steps.step), rows.shape[1]))
    return math.sqrt(2) * deviation * normal


def _read_deviation(noise: Any, columns: int) -> np.ndarray:
    try:
        deviation = np.asarray(noise, dtype=float)
        if (
            deviation.shape in ((), (columns,))
            and (deviation >= 0).all()
            and deviation.max() < np.inf
        ):
            return deviation
    except (TypeError, ValueError):
        pass
    expected = f"a number of at least 0, or one for each of {columns} columns"
    raise InputError("noise", f"is {noise!r}", expected + ', or "estimate"')


def _estimate(
    apart: Float[np.ndarray, "steps columns"], rng: np.random.Generator
) -> Float[np.ndarray, "steps columns"]:
    """Draws as many differences of rows that vary by noise alone, if most steps do.

    They are steps below the median length, half of them stretched to lengths as far
    above it, in ratio: columns vary together as they do in the data, and noise may have
    heavier tails than normal noise.
    """
    length = np.linalg.norm(apart, axis=1)
    median = np.median(length)
    chosen = rng.choice(np.flatnonzero(length <= median), len(apart))
    ratio = np.minimum(median / np.maximum(length[chosen], 1e-30), STRETCH)
    factor = rng.choice([-1, 1], len(apart)) * ratio ** rng.choice([0, 2], len(apart))
    return factor[:, None] * apart[chosen]


def hold(
    rows: Rows,
    steps: Steps,
    chosen: Bool[np.ndarray, "steps"],
    noise: Float[np.ndarray, "steps columns"] | None,
) -> Rows:
    """Returns rows with some steps held, by noise apart if there is any."""
    before, after = steps.before[chosen], steps.after[chosen]
    if noise is None:
        source = np.arange(rows.shape[0])
        source[after] = before
        return rows[source]
    data = np.array(rows)
    mean = (rows[before] + rows[after]) / 2
    data[before], data[after] = mean - noise[chosen] / 2, mean + noise[chosen] / 2
    return data


def weighted(maps: AlignedEmbedding) -> Relations:
    """Returns the mates of slices whose strengths are the user's, not the graphs'."""
    settings = maps.alignment
    plain: Any = {
        pair: mates._replace(strengths=None) for pair, mates in maps.relations.items()
    }
    related = relate(
        plain,
        maps.graphs,
        alignment_strengths=settings.alignment_strengths,
        alignment_decay=settings.alignment_decay,
    )
    return {
        pair: mates
        for pair, mates in maps.relations.items()
        if not np.allclose(mates.strengths, related[pair].strengths)
    }


def laid_out(
    maps: AlignedEmbedding, rows: Rows, key: jax.Array, kept: Relations
) -> list[Float[np.ndarray, "_ components"]]:
    """Returns maps of other rows with all else as in a model."""
    ends = np.cumsum([0, *map(len, maps.maps)])
    data = [rows[start:end] for start, end in pairwise(ends)]
    pairs = {
        (t, t + offset): np.column_stack([mates.rows, mates.others])
        for (t, offset), mates in maps.relations.items()
    }
    start = maps.maps if any(mask is not None for mask in maps.pinned) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit gave them
        prepared = prepare(
            data,
            pairs,
            key=key,
            graph=maps.graph,
            layout=maps.layout,
            alignment=maps.alignment,
            start=start,
            pinned=maps.pinned,
            point_weights=maps.point_weights,
            scale="none",
            visible=lambda related: related | kept,
        )
    return lay_out(prepared, None, key=key).maps
