import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import pytest
from helpers import (
    NEIGHBORS,
    assert_same_links,
    assert_same_maps,
    digit_windows,
    make_data,
    make_relations,
    programs,
    refused,
)

from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.fit import fit
from aljax.graph.exact import exact_knn
from aljax.layout.optimize import run_in_place
from aljax.layout.problem import stack
from aljax.metrics import displacement, trustworthiness
from aljax.relations.strengths import measure_moves, scales_of
from aljax.update import SHORT, cut, update

pytestmark = pytest.mark.usefixtures("as_users_run_it")
SIZES = (41, 48, 45, 44, 47)
DATA = make_data(SIZES)
DICTS = make_relations(SIZES)
IDS = [[f"row {i}" for i in range(start, start + n)] for start, n in enumerate(SIZES)]
WINDOW = 3
KEY = jax.random.key(1)


def lay_out(
    slices=3, relations=None, *, graph=None, n_epochs=20, **layout
) -> AlignedEmbedding:
    return fit(
        DATA[:slices],
        DICTS[: slices - 1] if relations is None else relations,
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS) if graph is None else graph,
        layout=LayoutConfig(n_epochs=n_epochs, **layout),
        alignment=AlignmentConfig(alignment_window_size=WINDOW),
        slice_labels=[*"abcde"][:slices],
    )


def append(fitted, relations=None, *, data=None, key=KEY, **settings: Any):
    t = len(fitted.maps)
    relations = DICTS[t - 1] if relations is None else relations
    return update(
        fitted, DATA[t] if data is None else data, relations, key=key, **settings
    )


@pytest.fixture(scope="module")
def base() -> AlignedEmbedding:
    return lay_out()


@pytest.fixture(scope="module")
def longer(base) -> AlignedEmbedding:
    return append(base)


@pytest.fixture(scope="module")
def by_ids() -> AlignedEmbedding:
    return lay_out(relations=IDS[:3])


def test_updates_share_one_program_whatever_the_length(request):
    # The first of the file: what it compiles serves the others.
    compiled: Any = run_in_place
    compiled.clear_cache()
    base = request.getfixturevalue("base")
    longer = append(lay_out(1))
    before = programs(run_in_place)
    for _ in range(3):
        longer = append(longer)
    append(append(base))
    assert programs(run_in_place) == before


def test_an_update_appends_a_slice_and_leaves_the_others_to_the_last_bit(base, longer):
    assert_same_maps(longer.maps[:3], base.maps)
    assert longer.maps[3].shape == (44, 2)
    assert longer.maps[3].dtype == base.maps[0].dtype
    assert np.isfinite(longer.maps[3]).all()
    np.testing.assert_array_equal(longer.data[3], DATA[3])
    assert {*longer.seconds} >= {"graph", "relations", "start", "layout"}


@pytest.mark.parametrize("move", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_as_many_slices_move_as_may(base, move):
    longer = append(base, move=move)
    assert_same_maps(longer.maps[: 3 - move], base.maps[: 3 - move])
    assert (np.asarray(longer.history.attraction) > 0).all()  # of no empty slices
    assert longer.history.attraction.shape == (2, 4)
    for t in range(3 - move, 3):
        assert (np.abs(longer.maps[t] - base.maps[t]).max(axis=1) > 1e-3).all()


def test_an_update_changes_nothing_of_what_it_is_given(base):
    fitted = lay_out()
    longer = append(append(fitted, move=3), keep=2)
    assert len(longer.maps) == 2
    assert_same_maps(fitted.maps, base.maps)
    assert_same_links(fitted.relations, base.relations)
    for name in ("maps", "graphs", "data", "pinned", "point_weights"):
        assert len(getattr(fitted, name)) == 3
    assert fitted.slice_labels == ("a", "b", "c")
    assert (fitted.layout, fitted.graph) == (base.layout, base.graph)


def test_the_same_key_gives_the_same_map_and_another_key_another(base, longer):
    assert_same_maps(append(base).maps, longer.maps)
    other = append(base, key=jax.random.key(2))
    assert np.abs(other.maps[3] - longer.maps[3]).max() > 1e-3


@pytest.mark.parametrize("ids", [False, True])
def test_relations_after_updates_are_those_of_a_fit_of_all(base, by_ids, ids):
    start, steps = (by_ids, IDS[3:]) if ids else (base, DICTS[2:])
    longer = start
    for step in steps:
        longer = append(longer, step)
    whole = lay_out(5, IDS if ids else DICTS, n_epochs=0)
    assert longer.relations.keys() == whole.relations.keys()
    whole_first = {pair: whole.relations[pair] for pair in longer.relations}
    assert_same_links(longer.relations, whole_first)
    assert longer.ids == whole.ids
    assert longer.slice_labels == (*"abc", 3, 4)
    for name in ("a", "learning_rate", "alignment_regularisation"):
        one, other = getattr(longer.params, name), getattr(whole.params, name)
        np.testing.assert_array_equal(one, other)


def test_members_absent_from_the_last_slice_are_found_by_their_ids(by_ids):
    ids = [[None] * 48, IDS[3]]
    longer = by_ids
    with pytest.warns(UserWarning, match="has no mates"):
        longer = append(longer, ids[0], data=DATA[1])
    longer = append(longer, ids[1], data=DATA[3])
    assert longer.relations[2, 2].rows.size > 30
    assert longer.relations[3, 1].rows.size == 0


def test_a_dict_serves_where_there_are_ids_and_passes_them_on(by_ids):
    longer = append(by_ids, {5: 0, 7: 43})
    assert longer.ids is not None
    assert (longer.ids[3][0], longer.ids[3][43]) == (IDS[2][5], IDS[2][7])
    assert {*longer.ids[3][1:43]} == {None}


def test_pairs_relate_the_new_slice_to_any_before(base):
    pairs = np.array([[0, 1], [2, 1], [3, 4]])
    longer = append(base, {(0, 3): (pairs, [1.0, 2.0, 3.0]), (3, 2): pairs[:, ::-1]})
    assert longer.relations[0, 3].rows.tolist() == [0, 2, 3]
    assert longer.relations[2, 1].others.tolist() == [1, 1, 4]
    fall = np.exp(-2) * np.array([0.5, 1.0, 3.0])
    np.testing.assert_allclose(longer.relations[0, 3].strengths, fall)
    assert np.isfinite(longer.maps[3]).all()
    assert_same_maps(longer.maps[:3], base.maps)


@pytest.mark.slow
def test_old_slices_can_be_dropped():
    graph = GraphConfig(n_neighbors=[NEIGHBORS, 7, 8])
    longer = lay_out(graph=graph, min_dist=[0.1, 0.2, 0.3])
    for count, kept in ((3, "bcd"), (3, "cde")):
        given = {"slice_label": kept[-1], "settings": {"n_neighbors": 9}}
        at = ord(kept[-1]) - ord("a")
        longer = append(longer, DICTS[at - 1], data=DATA[at], keep=count, **given)
        assert longer.slice_labels == tuple(kept)
        for name in ("maps", "graphs", "data", "pinned", "point_weights"):
            assert len(getattr(longer, name)) == count
        assert longer.relations.keys() == {(0, 1), (0, 2), (1, 1)}
        assert longer.params.a.shape == (count,)
    assert longer.graph.n_neighbors == (8, 9, 9)
    assert longer.layout.min_dist == (0.3, 0.3, 0.3)
    for t, size in enumerate(SIZES[2:]):
        assert longer.maps[t].shape == (size, 2)
        np.testing.assert_array_equal(longer.data[t], DATA[t + 2])


def test_dropping_slices_drops_their_ids_and_changes_no_map(by_ids):
    longer, shorter = append(by_ids, IDS[3]), append(by_ids, IDS[3], keep=2)
    assert_same_maps(shorter.maps, longer.maps[2:])
    assert shorter.ids == longer.ids[2:]
    assert cut(longer, 0, 2).relations.keys() == {(0, 1)}
    again = append(shorter, IDS[4], data=DATA[4])
    assert again.relations.keys() == {(0, 1), (0, 2), (1, 1)}


def test_the_new_slice_may_have_settings_of_its_own(base, longer):
    settings = {"n_neighbors": 9, "min_dist": 0.5, "learning_rate": 0.5}
    rate = LayoutConfig().learning_rate
    plain, own = longer, append(base, settings=settings)
    assert own.graphs[3].neighbors.shape[0] > plain.graphs[3].neighbors.shape[0]
    assert own.graph.n_neighbors == (NEIGHBORS,) * 3 + (9,)
    assert own.layout.min_dist == (0.1, 0.1, 0.1, 0.5)
    np.testing.assert_allclose(own.params.learning_rate, [rate, rate, rate, 0.5])
    assert own.params.a[3] != plain.params.a[3]
    assert np.abs(own.maps[3] - plain.maps[3]).max() > 0.1
    slow = append(base, settings={"learning_rate": 1e-6}, move=3)
    assert np.abs(slow.maps[2] - base.maps[2]).max() > 0.1  # at its own rate
    again = append(own)
    assert again.layout.min_dist == (0.1, 0.1, 0.1, 0.5, 0.5)
    assert plain.layout.min_dist == 0.1


def test_pinned_rows_stay_where_their_slice_moves(base):
    mask = np.arange(SIZES[2]) < 20
    held = dataclasses.replace(base, pinned=[None, None, mask])
    longer = append(held, move=3)
    np.testing.assert_array_equal(longer.maps[2][mask], base.maps[2][mask])
    assert (longer.maps[2][~mask] != base.maps[2][~mask]).all()
    assert longer.pinned[3] is None
    weights = [None, None, np.full(SIZES[2], 30.0)]
    heavy = append(dataclasses.replace(base, point_weights=weights), move=3)
    mates, light = heavy.relations[2, 1], append(base, move=3)
    lengths = [
        np.linalg.norm(m.maps[2][mates.rows] - m.maps[3][mates.others], axis=1).mean()
        for m in (heavy, light)
    ]
    assert lengths[0] < 0.7 * lengths[1]


def test_neighbors_may_be_given_instead_of_data(base, longer):
    of_knn = append(base, data=exact_knn(DATA[3], NEIGHBORS))
    np.testing.assert_array_equal(of_knn.maps[3], longer.maps[3])
    assert of_knn.data[3] is None


def test_without_mates_the_slice_is_laid_out_with_a_warning(base):
    with pytest.warns(UserWarning, match=r"^slice 3 \('d'\) has no mates .*nothing"):
        longer = append(base, {}, slice_label="d")
    assert np.isfinite(longer.maps[3]).all()


def test_progress_is_told_and_changes_nothing(base, longer):
    epochs, shown = [], []

    def watch(state):
        epochs.append(int(state.epoch))
        shown[:] = state.unstack()

    told = append(base, progress=watch)
    assert epochs == [*range(1, 21)]
    assert_same_maps(shown, told.maps)
    np.testing.assert_array_equal(told.maps[3], longer.maps[3])


# The options, the argument that is named, and words of the rest of the message.
REFUSED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "a row beyond the last slice": (
        {"relations": {45: 45}},
        "relations",
        ("from row 45", "rows 0 to 44 of slice 2 ('c')"),
    ),
    "a dict that fits backwards": (
        {"relations": {0: 0, 43: 44}},
        "relations",
        ("to row 44", "fit reversed"),
    ),
    "ids where there are none": (
        {"relations": IDS[3]},
        "relations",
        ("is a list", "a dict", "where `fit` was given ids"),
    ),
    "pairs of two old slices": (
        {"relations": {(0, 1): [[0, 0]]}},
        "relations",
        ("slices 0 and 1", "new slice, 3"),
    ),
    "move below 0": ({"move": -1}, "move", ("is -1", "of at least 0")),
    "a fraction": ({"move": 1.5}, "move", ("is 1.5",)),
    "keep nothing": ({"keep": 0}, "keep", ("is 0", "of at least 1")),
    "an unknown setting": (
        {"settings": {"min_dsit": 1}},
        "settings",
        ("'min_dsit'", "did you mean `min_dist`"),
    ),
    "a and b": ({"settings": {"a": 1.0}}, "settings", ("'a'", "`min_dist` and")),
    "min_dist beside a and b": (
        {"base": {"a": 1.5, "b": 0.9}, "settings": {"min_dist": 0.9}},
        "settings",
        ("'min_dist'", "`a` and `b`"),
    ),
    "NaN": ({"data": np.full((9, 5), np.nan)}, "new_slice", ("nan in row 0",)),
    "no function": ({"progress": 5}, "progress", ("is an int", "a function")),
    "no settings": ({"settings": 5}, "settings", ("is an int", "settings by name")),
    "ids that repeat": (
        {"base": "by_ids", "relations": ["new", "new", *IDS[3][2:]]},
        "relations",
        ("slice 3 (3) repeats 'new' in rows 0 and 1",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_updates_that_do_not_fit_are_refused(base, by_ids, case):
    options, name, words = REFUSED[case]
    options = dict(options)
    changed = options.pop("base", None)
    if isinstance(changed, dict):
        layout = dataclasses.replace(base.layout, **changed)
        base = dataclasses.replace(base, layout=layout)
    with refused(name, *words):
        append(by_ids if changed == "by_ids" else base, **options)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_that_arrive_one_window_at_a_time_stay_aligned(seed):
    windows, dicts, _ = digit_windows()
    maps = fit(windows[:2], dicts[:1], key=jax.random.key(seed))
    for t in range(2, 5):
        maps = update(maps, windows[t], dicts[t - 1], key=jax.random.key(seed + t))
    trust = [trustworthiness(x, y) for x, y in zip(windows, maps.maps, strict=False)]
    assert displacement(maps.maps, maps.relations) <= 0.06
    assert np.mean(trust) >= 0.975


def test_pairs_beyond_the_window_pull_as_in_fit(base):
    pairs = {(0, 3): np.column_stack([np.arange(30), np.arange(30)])}
    strong = dataclasses.replace(base.alignment, alignment_regularisation=50)
    apart = []
    for one in (base, dataclasses.replace(base, alignment=strong)):
        first, *_, last = append(one, pairs).maps
        apart.append(np.linalg.norm(last[:30] - first[:30], axis=1).mean())
    assert apart[1] < apart[0] / 2


def test_pairs_beyond_the_window_may_move_along(base):
    narrow = dataclasses.replace(base.alignment, alignment_window_size=1)
    pairs = {(1, 3): np.column_stack([np.arange(30), np.arange(30)])}
    longer = append(dataclasses.replace(base, alignment=narrow), pairs, move=2)
    assert (longer.maps[2] != base.maps[2]).any()
    assert longer.relations.keys() >= {(1, 2)}


def test_a_wide_window_costs_no_more_than_there_are_slices(base, monkeypatch):
    stacked = []

    def count(graphs, *given, **options):
        stacked.append(len(graphs))
        return stack(graphs, *given, **options)

    monkeypatch.setattr(sys.modules["aljax.update"], "stack", count)
    wide = dataclasses.replace(base.alignment, alignment_window_size=1000)
    still = dataclasses.replace(base.layout, n_epochs=0)  # the problem is made alone
    longer = append(dataclasses.replace(base, alignment=wide, layout=still))
    assert longer.relations.keys() >= {(2, 1), (1, 2), (0, 3)}
    assert stacked == [1 + SHORT]


def test_without_labels_new_slices_are_called_by_numbers_not_yet_taken(base):
    once = append(base, keep=3)
    again = append(once, DICTS[3], data=DATA[4], keep=3, slice_label=np.nan)
    assert again.slice_labels == ("c", 3, 4)


def test_the_unit_of_motion_is_that_of_the_whole_sequence(monkeypatch):
    data = [one * 3.0**t for t, one in enumerate(DATA)]
    asked: list[Any] = []

    def measured(*given: Any) -> Any:
        asked.append(measure_moves(*given))
        return asked[-1]

    monkeypatch.setattr(sys.modules["aljax.update"], "measure_moves", measured)
    motion = AlignmentConfig(alignment_window_size=1, motion_fidelity=1.0)
    settings: Any = {
        "key": KEY,
        "graph": GraphConfig(n_neighbors=NEIGHBORS),
        "layout": LayoutConfig(n_epochs=0),
        "alignment": motion,
    }
    shorter = fit(data[:4], DICTS[:3], **settings)
    longer = update(shorter, data[4], DICTS[3], key=KEY)
    expected = measure_moves(longer.relations, data, scales_of(data, longer.graphs))
    (moves,) = asked
    np.testing.assert_allclose(moves[max(moves)].moves, expected[3, 1].moves, rtol=1e-6)


def test_what_was_given_may_change_after_the_fit():
    mask, weights = np.zeros(SIZES[0], bool), np.ones(SIZES[0])
    mask[:5] = True
    fitted = fit(
        DATA[:2],
        DICTS[:1],
        key=KEY,
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(n_epochs=0),
        start=[np.zeros((SIZES[0], 2)), None],
        pinned=[mask, None],
        point_weights=[weights, None],
    )
    mask[:], weights[:] = True, 9
    held, counted = fitted.pinned[0], fitted.point_weights[0]
    assert held is not None
    assert counted is not None
    assert held.sum() == 5
    assert counted.max() == 1


def test_a_short_sequence_moves_and_keeps_what_it_has(base):
    whole, more = append(base, move=3, keep=4), append(base, move=30, keep=50)
    assert_same_maps(whole.maps, more.maps)
