import datetime
import decimal
import fractions
import ipaddress
import pathlib
import uuid
from typing import Any

import jax
import numpy as np
import pandas
import pytest
from helpers import (
    NEIGHBORS,
    assert_same_links,
    assert_same_maps,
    digit_windows,
    make_data,
    make_links,
    pairs_of,
    refused,
)

import aljax
from aljax import files
from aljax.columns import as_plain
from aljax.config import GraphConfig
from aljax.errors import InputError
from aljax.files import READ
from aljax.fit import prepare
from aljax.graph.slices import slices_of
from aljax.relations.mates import Mates, chain, members_by_id
from aljax.relations.read import is_ids, read_ids
from aljax.tables import sliding_windows

pytestmark = pytest.mark.usefixtures("as_users_run_it")
LABELS = ("a", "b", "c")


def test_ids_link_the_digits_as_their_dicts_do():
    windows, dicts, _ = digit_windows()
    ids = [np.arange(start, start + 400) for start in range(0, 1500, 150)]
    sizes = [len(one) for one in windows]
    assert len(windows) == 10
    by_dicts = make_links(dicts, sizes, 3, data=windows)
    assert_same_links(make_links(ids, sizes, 3), by_dicts)
    assert by_dicts[0, 2].rows.size == 100


def test_a_fit_by_ids_has_the_problem_of_one_by_dicts():
    windows, dicts = sliding_windows(make_data([96])[0], 48, 24)
    ids, _ = sliding_windows(np.array([f"row {i}" for i in range(96)]), 48, 24)
    graph = GraphConfig(n_neighbors=NEIGHBORS)
    by_dicts, by_ids = (
        prepare(windows, relations, key=jax.random.key(0), graph=graph)
        for relations in (dicts, ids)
    )
    assert_same_links(by_dicts.relations, by_ids.relations)
    leaves = [jax.tree.leaves((one.problem, one.state)) for one in (by_dicts, by_ids)]
    assert_same_maps(*leaves)
    assert by_dicts.ids is None
    assert by_ids.ids == tuple(tuple(of.tolist()) for of in ids)


def test_a_member_absent_from_a_slice_between_ties_those_around_it():
    ids = [["x", "y", "z"], ["z", "w"], ["y", "x", "z"]]
    links = make_links(ids, (3, 2, 3))
    assert pairs_of(links[0, 1]) == [(2, 0)]
    assert pairs_of(links[1, 1]) == [(0, 2)]
    assert pairs_of(links[0, 2]) == [(0, 1), (1, 0), (2, 2)]
    chained = make_links([{2: 0}, {0: 2}], (3, 2, 3))
    assert pairs_of(chained[0, 2]) == [(2, 2)]


def test_ids_link_within_the_window_only():
    links = make_links([[7]] * 5, (1,) * 5, window=2)
    assert [*links] == [(t, o) for t in range(4) for o in (1, 2) if t + o < 5]


IDS: dict[str, Any] = {
    "strings": ["x", "y"],
    "tuples": [("x", 1), ("y", 2)],
    "an array of strings": np.array(["x", "y"]),
    "an array of whole numbers": np.array([4, 2], np.int16),
    "an array of dates": np.array(["2020-01-01", "2021-01-01"], "datetime64[D]"),
    "an array of objects": np.array(["x", 3], dtype=object),
    "numbers of any library": [np.int64(1), 2],
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_may_be_anything_that_can_be_hashed(kind):
    ids = IDS[kind]
    assert pairs_of(make_links([ids, ids[::-1]], (2, 2))[0, 1]) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("dtype", ["object", "category", "string"])
def test_ids_may_be_columns_of_pandas_with_missing_values(dtype):
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    column = pandas.Series(["x", None, "y"], dtype=dtype)
    links = make_links([column, column.iloc[::-1]], (3, 3))
    assert pairs_of(links[0, 1]) == [(0, 2), (2, 0)]


def test_none_and_nan_are_nobodys():
    nan = float("nan")
    ids = [[None, nan, 5, None], [nan, None, 5, nan]]
    assert pairs_of(make_links(ids, (4, 4))[0, 1]) == [(2, 2)]


BAD_IDS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "for two slices": ([[1], [2]], "relations", ("ids for 2 slices", "3 sequences")),
    "too many": ([[1, 2], [1, 2], [1, 2]], "relations[2]", ("2 ids", "its 1 rows")),
    "text": ([[1, 2], "xy", [1]], "relations[1]", ("slice 1 ('b') is a str",)),
    "lists": (
        [[1, 2], [1, [2]], [1]],
        "relations[1]",
        ("[2] (list) in row 1", "cannot be hashed"),
    ),
    "repeated": (
        [["x", "x"], [1, 2], [1]],
        "relations[0]",
        ("slice 0 ('a') repeats 'x' in rows 0 and 1;", "every id at most once"),
    ),
    "many repeated": (
        [[1, 2], [*"abcdeabcde"], [1]],
        "relations[1]",
        ("'a' in rows 0 and 5; 'b'", "; 'c'", "; and 2 more"),
    ),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_ids_that_do_not_fit_are_refused(case):
    ids, name, words = BAD_IDS[case]
    sizes = (2, 10 if case == "many repeated" else 2, 1)
    with refused(name, *words):
        make_links(ids, sizes, labels=LABELS)


@pytest.mark.parametrize("kind", ["one object", "equal arrays", "arrays of text"])
def test_slices_with_the_ids_of_the_one_before_share_them_and_their_mates(kind):
    column = [*range(5, 9)]
    same = {
        "one object": [column] * 3,
        "equal arrays": [np.array(column) for _ in range(3)],
        "arrays of text": [np.array([*map(str, column)]) for _ in range(3)],
    }[kind]
    ids, sizes = [*same, same[0][::-1]], (4,) * 4
    first, second, third, last = read_ids(ids, slices_of(sizes))
    assert first is second is third
    assert last == first[::-1]
    links, apart = make_links(ids, sizes, 2), make_links([*map(list, ids)], sizes, 2)
    assert_same_links(links, apart)
    assert links[0, 1].rows is links[1, 1].rows is links[0, 2].rows
    assert pairs_of(links[2, 1]) == [(0, 3), (1, 2), (2, 1), (3, 0)]
    with pytest.raises(InputError, match="of slice 1 has 4 ids"):
        read_ids(ids, slices_of((4, 5, 4, 4)))


def test_days_of_numpy_and_of_pandas_are_the_same_ids():
    days = np.array(["2020-01-01", "2020-02-01"], "datetime64[D]")
    ids = [days, pandas.Series(pandas.to_datetime(days[::-1])), days]
    assert pairs_of(make_links(ids, (2,) * 3)[0, 1]) == [(0, 1), (1, 0)]
    codes = members_by_id(ids, [2] * 3).codes
    assert [code.tolist() for code in codes] == [[0, 1], [1, 0], [0, 1]]


def test_equal_ids_of_other_types_are_kept_as_they_came():
    ids = [np.array([1, 2]), np.array([1.0, 2.0]), [1, 2], np.array([1, 2], np.int8)]
    read = read_ids(ids, slices_of([2] * 4))
    assert [[type(one) for one in of] for of in read[:2]] == [[int] * 2, [float] * 2]
    assert pairs_of(make_links(ids, (2,) * 4)[0, 1]) == [(0, 0), (1, 1)]


def test_only_sequences_without_dicts_are_ids():
    assert is_ids([[1], np.array([2])])
    assert is_ids(np.ones((2, 3)))
    for other in (None, [], "text", 5, [{0: 0}], [[1], {0: 0}], {(0, 1): [[0, 0]]}):
        assert not is_ids(other)


def test_a_chain_keeps_every_mate_of_a_row():
    first = Mates(np.array([0, 1, 2]), np.array([5, 5, 6]))
    second = Mates(np.array([5, 6, 6]), np.array([7, 8, 9]))
    expected = [(0, 7), (1, 7), (2, 8), (2, 9)]
    assert pairs_of(chain(first, second)) == expected


def test_ids_are_kept_as_plain_values_whichever_library_they_are_from(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    days = pandas.date_range("2020-01-01", periods=3)
    ids = [
        [*np.arange(2), pandas.NA],
        [*map(np.str_, "ab"), float("nan")],
        [days[0], days[1].to_datetime64(), days[2].date()],
    ]
    read = read_ids(ids, slices_of([3] * 3))
    assert read[:2] == ((0, 1, None), ("a", "b", None))
    assert not any(isinstance(one, np.generic) for of in read for one in of)
    files.write(tmp_path / "ids", "ids", {"ids": read})
    assert files.read(tmp_path / "ids", "ids") == {"ids": read}


KINDS = {
    "uuid": [uuid.UUID(int=i) for i in range(45)],
    "bytes": [bytes([i]) for i in range(45)],
    "decimal": [decimal.Decimal(i) / 3 for i in range(45)],
    "frozenset": [frozenset([i, "a"]) for i in range(45)],
    "period": [*pandas.period_range("2000", periods=45, freq="Y")],
    "interval": [
        *pandas.interval_range(0, 5),
        *pandas.interval_range(pandas.Timestamp("2000"), periods=40),
    ],
    "zone": [*pandas.date_range("2000", periods=45, tz="Europe/Berlin")],
    "nanoseconds": [*pandas.date_range("2000", periods=45, tz="UTC", freq="1ns")],
    "numpy's": np.datetime64("2000-01-01T00:00:00.000000999") + np.arange(45),
    "spans": [*pandas.timedelta_range("1D", periods=45)],
    "plain": [
        *(pathlib.Path("a", str(i)) for i in range(5)),
        *(ipaddress.ip_address(i) for i in range(4)),
        ipaddress.ip_network("10.0.0.0/24"),
        *(fractions.Fraction(i, 7) for i in range(2, 8)),
        *(datetime.timedelta(-1, i, 1) for i in range(5)),
        *(datetime.time(i, 30, tzinfo=datetime.UTC) for i in range(5)),
        *(complex(i, -1) for i in range(19)),
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_labels_of_any_kind_come_back_equal(kind, tmp_path):
    values = KINDS[kind]
    maps = aljax.fit(
        make_data((45, 45)),
        [values, values],
        key=jax.random.key(0),
        layout=aljax.LayoutConfig(n_epochs=0),
        slice_labels=values[:2],
    )
    maps.save(tmp_path / "maps")
    loaded = aljax.load(tmp_path / "maps")
    assert loaded.ids == maps.ids
    assert loaded.slice_labels == maps.slice_labels == tuple(as_plain(values[:2]))
    assert maps.relations[0, 1].rows.size == 45
    assert loaded.index(values[1]) == 1
    longer = maps.update(
        make_data((45, 45))[0],
        values,
        key=jax.random.key(1),
        slice_label=values[2],
    )
    assert longer.index(values[2]) == 2


@pytest.mark.parametrize(
    "labels",
    [
        np.unique([2001, 2000]),
        pandas.Index(["a", "b"]),
        pandas.Series(["a", "b"], index=[7, 9]),
        pandas.date_range("2000", periods=2),
        jax.numpy.arange(2),
        np.array([1, 2], "m8[s]"),
    ],
    ids=str,
)
def test_labels_may_be_a_column(labels):
    maps = aljax.fit(
        make_data((45, 45)),
        [range(45), range(45)],
        key=jax.random.key(0),
        layout=aljax.LayoutConfig(n_epochs=0),
        slice_labels=labels,
    )
    assert maps.slice_labels == tuple(labels)
    if not isinstance(maps.slice_labels[0], int):
        assert maps.index([*labels][1]) == 1


def test_a_short_text_is_no_fraction_of_a_billion_digits():
    with pytest.raises(ValueError, match="1e99"):
        READ["Fraction"]("1e999999999")


@pytest.mark.parametrize("role", ["ids", "slice_labels"])
def test_what_cannot_be_saved_is_named_with_what_can(role, tmp_path):
    values = [*map(range, range(45))]
    maps = aljax.fit(
        make_data((45, 45)),
        [values if role == "ids" else range(45)] * 2,
        key=jax.random.key(0),
        layout=aljax.LayoutConfig(n_epochs=0),
        slice_labels=values[:2] if role == "slice_labels" else None,
    )
    place = "ids/0/0" if role == "ids" else "slice_labels/0"
    with refused(place, "a range", f"text to `fit` as `{role}`"):
        maps.save(tmp_path / "maps")
