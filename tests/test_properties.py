"""Sequences of any kind through `prepare`, `fit`, `update` and `transform`."""

import dataclasses
import inspect
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest
from helpers import make_data, make_relations
from hostile import (  # noqa: F401
    LONG,
    counted,
    data,
    dicts,
    examples,
    hopeless,
    hopeless_relations,
    ids,
    pairs,
    refusal,
    refused_for,
    relations,
    scales,
    settings_of,
    trial,
    unchecked,
)
from hypothesis import given
from hypothesis import strategies as st

import aljax
from aljax.sweep import SweepProblem, sweep

# Slices of equal rows are drawn, too.
pytestmark = pytest.mark.filterwarnings("ignore:rows do not differ")
KEY = jax.random.key(0)
CONFIGS = (aljax.GraphConfig, aljax.LayoutConfig, aljax.AlignmentConfig)
SETTINGS = {field.name for config in CONFIGS for field in dataclasses.fields(config)}
# In CI all slices that are laid out have one capacity, so they share programs; tiny
# ones have as many neighbors as rows, so they have few sizes.
MOST, SLICES = (300, 3) if LONG else (16, 2)
TINY = (1, 4)
tiny = st.integers(1, MOST) if LONG else st.sampled_from(TINY)
size = st.one_of(*[st.integers(9, MOST)] * 4, tiny)
FITTED = (16, 13)
added = size if LONG else st.sampled_from([16, 16, 16, *TINY])


def names_of(function: Any) -> set[str]:
    return {*inspect.signature(function).parameters} | SETTINGS


def check_maps(maps: Any, sizes: list[int], components: int = 2) -> None:
    assert [one.shape for one in maps] == [(n, components) for n in sizes]
    assert all(np.isfinite(one).all() for one in maps)


def check_graphs(graphs: Any, sizes: list[int]) -> None:
    for graph, points in zip(graphs, sizes, strict=True):
        neighbors, weights = np.asarray(graph.neighbors), np.asarray(graph.weights)
        assert neighbors.shape == weights.shape == (neighbors.shape[0], points)
        assert ((neighbors >= 0) & (neighbors < points)).all()
        assert ((weights >= 0) & (weights <= 1 + 1e-6)).all()
        assert graph.degrees.shape == (points,)
        assert np.isfinite(graph.degrees).all()


def check_mates(mates: Any, sizes: list[int]) -> None:
    for (t, offset), one in mates.items():
        for rows, count in ((one.rows, sizes[t]), (one.others, sizes[t + offset])):
            assert ((rows >= 0) & (rows < count)).all()
        assert (np.isfinite(one.strengths) & (one.strengths >= 0)).all()


@st.composite
def sequences(draw: Any) -> tuple[list[int], dict[str, Any]]:
    """Slices of any sizes, how they relate, what is said of their rows: all fine."""
    sizes = draw(st.lists(size, min_size=1, max_size=SLICES))
    given = {
        "slices": [draw(data(n, wrong=False)) for n in sizes],
        "relations": draw(relations(sizes, wrong=False)),
        "key": KEY,
        "graph": aljax.GraphConfig(
            n_neighbors=draw(st.sampled_from([5, 5, 2] if LONG else [5])),
            metric=draw(st.sampled_from(["euclidean", "euclidean", "cosine"])),
        ),
    }
    if draw(st.integers(0, 9)) == 0:
        rng = np.random.default_rng(len(sizes))
        given["point_weights"] = [rng.random(n) * draw(scales) for n in sizes]
    return sizes, given


@st.composite
def one_mistake(draw: Any) -> tuple[str, dict[str, Any]]:
    """A sequence in which one argument is wrong, and that argument's name."""
    sizes, given = draw(sequences())
    name = draw(st.sampled_from(["slices", "relations", *BAD]))
    if name == "slices":
        t = draw(st.integers(0, len(sizes) - 1))
        given[name][t] = draw(hopeless(sizes[t]))
        return f"slices[{t}]", given
    bad = (
        hopeless_relations(sizes) if name == "relations" else st.sampled_from(BAD[name])
    )
    return name, given | {name: draw(bad)}


BAD: dict[str, list[Any]] = {
    "point_weights": [1, [None] * 9, [-1.0] * 9, "ab"],
    "pinned": [True, [None] * 9, [[True]] * 9],
    "slice_labels": [[1] * 9, "a" * 9, 3],
}


@examples(40)
@given(sequences(), st.sampled_from(["spectral", "pca", "random"]))
def test_what_is_prepared_is_whole_and_finite(sequence, init):
    sizes, given = sequence
    layout = aljax.LayoutConfig(init=init, n_epochs=1)
    with trial("prepare"):
        found = aljax.prepare(**given, layout=layout)
        check_graphs(found.graphs, sizes)
        check_mates(found.relations, sizes)
        leaves = jax.tree.leaves((found.problem, found.params, found.state.maps))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
        assert found.state.maps.shape[:2] == (len(sizes), 2)


@examples(40)
@given(one_mistake())
def test_a_mistake_is_named(mistake):
    name, given = mistake
    with trial("a mistake"):
        refused_for(name, lambda: aljax.prepare(**given))


@st.composite
def layouts(draw: Any, *, extreme: bool) -> dict[str, Any]:
    """Settings that change no shape, each as small or large as can be if `extreme`."""
    positive: Any = st.floats(0.5, 2)
    if extreme:
        positive = st.one_of(st.just(1.0), st.floats(1e-3, 1e3), scales)
    names = ("learning_rate", "repulsion_strength", "negative_sample_rate", "spread")
    drawn = {name: draw(positive) for name in names}
    drawn["min_dist"] = drawn["spread"] * draw(st.floats(0, 1 if extreme else 0.5))
    if draw(st.booleans()):
        drawn |= {"a": draw(positive), "b": draw(st.floats(0.5, 5 if extreme else 1))}
    return drawn


@examples(15)
@given(st.data(), sequences(), st.booleans())
def test_maps_are_whole_and_finite(drawn, sequence, extreme):
    sizes, given = sequence
    settings = drawn.draw(layouts(extreme=extreme))
    weight = drawn.draw(scales) if extreme else 0.07
    with trial("fit"):
        found = refusal(
            lambda: aljax.fit(
                **given,
                layout=aljax.LayoutConfig(**settings, n_epochs=3, n_shifts=4),
                alignment=aljax.AlignmentConfig(alignment_regularisation=weight),
            ),
            SETTINGS,
            fine=not extreme,
        )
        if found is None:
            return
        check_maps(found.maps, sizes)
        check_graphs(found.graphs, sizes)
        assert np.isfinite(found.history.total()).all()


@cache
def fitted(by_ids: bool = False) -> aljax.AlignedEmbedding:
    rows = [[*range(n)] for n in FITTED]
    return aljax.fit(
        make_data(FITTED, features=3),
        rows if by_ids else make_relations(FITTED, related=9),
        key=KEY,
        graph=aljax.GraphConfig(n_neighbors=5),
        layout=aljax.LayoutConfig(n_epochs=3, n_shifts=4),
        alignment=aljax.AlignmentConfig(alignment_window_size=1),
    )


@st.composite
def appended(draw: Any) -> tuple[int, dict[str, Any]]:
    """A new slice, its number of rows, and how it joins the sequence: all fine."""
    points, by_ids = draw(added), draw(st.booleans())
    forms = [
        dicts(FITTED[1], points, wrong=False),
        pairs([FITTED[1], points], wrong=False).map(
            lambda made: {(1, 2): made.get((0, 1), [])}
        ),
    ]
    forms += [ids(points, wrong=False)] * by_ids
    return points, {
        "fitted": fitted(by_ids),
        "new_slice": draw(data(points, wrong=False)),
        "relations": draw(st.one_of(*forms)),
        "move": draw(st.sampled_from([0, 0, 0, 2])),
        "keep": draw(st.sampled_from([None, None, 1, 3])),
        "settings": draw(st.sampled_from([{}, {"min_dist": 0.5}, {"n_neighbors": 99}])),
    }


@examples(15)
@given(appended())
def test_what_is_appended_is_whole_and_finite(new):
    points, given = new
    with trial("update"):
        longer = aljax.update(key=KEY, **given)
        kept = [*FITTED, points][-(given["keep"] or 3) :]
        check_maps(longer.maps, kept)
        check_graphs(longer.graphs, kept)
        check_mates(longer.relations, kept)


NOT_APPENDED: dict[str, Any] = {
    "new_slice": size.flatmap(hopeless),
    "relations": st.sampled_from([3, "ab", {99: 0}, {0: 99}, {(0, 1): []}, {"a": 0}]),
    "move": st.sampled_from([-1, None, True, 0.5]),
    "keep": st.sampled_from([0, "2", 1.5]),
    "settings": st.sampled_from([{"x": 1}, {"a": 1.0}, 3]),
}


@examples(20)
@given(appended(), st.data())
def test_a_mistake_in_an_update_is_named(new, drawn):
    name = drawn.draw(st.sampled_from([*NOT_APPENDED]))
    given = new[1] | {name: drawn.draw(NOT_APPENDED[name])}
    with trial("update"):
        refused_for(name, lambda: aljax.update(key=KEY, **given))


@examples(15)
@given(
    st.integers(1, 200).flatmap(lambda n: data(n, wrong=False)),
    st.sampled_from([0, 1, -1, -2]),
)
def test_unseen_rows_come_to_lie_somewhere(rows, t):
    with trial("transform"):
        check_maps([aljax.transform(fitted(), t, rows)], [np.shape(rows)[0]])


@examples(15)
@given(data(9, wrong=False), hopeless(9), st.sampled_from([2, -3, 0.5, None, "0"]))
def test_a_mistake_in_new_rows_is_named(rows, wrong, t):
    with trial("transform"):
        refused_for("new_rows", lambda: aljax.transform(fitted(), 0, wrong))
        refused_for("slice", lambda: aljax.transform(fitted(), t, rows))


@examples(10)
@given(
    st.sampled_from(CONFIGS).flatmap(lambda c: st.tuples(st.just(c), settings_of(c)))
)
def test_a_setting_holds_or_is_named(given):
    config, settings = given
    with trial("config"):
        made = refusal(lambda: config(**settings), {*settings, "a", "b"})
        if made is None:
            return
        hash(made)
        # What a config took must not fail later, but for want of memory or time.
        large = {"n_epochs", "n_components", "n_shifts", "metric", "metric_kwds"}
        if {*settings} & large:
            return
        configs: dict[Any, Any] = {c: c() for c in CONFIGS} | {config: made}
        graph, layout, alignment = configs.values()
        problem = SweepProblem(
            make_data(FITTED, features=3),
            make_relations(FITTED, related=9),
            graph,
            layout,
            alignment,
        )
        refusal(lambda: problem.prepared(KEY), SETTINGS)


@examples(3)
@given(st.data())
def test_a_sweep_lays_out_all_rows_or_none(drawn):
    fine = drawn.draw(st.booleans())
    names = ["min_dist", "alignment_regularisation", "repulsion_strength"]
    names, values = (names, st.floats(0, 1)) if fine else ([*names, "x", "a"], scales)
    row = st.dictionaries(st.sampled_from(names), values, max_size=2)
    settings = drawn.draw(st.lists(row, min_size=int(fine), max_size=2))
    size = drawn.draw(st.sampled_from([16, 16, 9, 4]))
    problem = SweepProblem(
        [drawn.draw(data(size, wrong=not fine)), make_data((16,), features=3)[0]],
        drawn.draw(relations([size, 16], wrong=not fine)),
        aljax.GraphConfig(n_neighbors=5),
        aljax.LayoutConfig(n_epochs=3, n_shifts=4),
    )
    with trial("sweep"):
        found = refusal(
            lambda: sweep(problem, settings, keys=KEY),
            SETTINGS | {*SweepProblem._fields, "settings"},
            fine=fine,
        )
        if found is not None:
            for maps, points in zip(found.maps, (size, 16), strict=True):
                assert maps.shape == (len(settings), points, 2)
                assert np.isfinite(maps).all()
