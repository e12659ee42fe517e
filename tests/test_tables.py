import warnings
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from helpers import NEIGHBORS, make_data, refused

from aljax.columns import alike
from aljax.config import GraphConfig, LayoutConfig
from aljax.fit import fit
from aljax.graph.slices import read_slices
from aljax.tables import slices_from_table, sliding_windows

pytestmark = pytest.mark.usefixtures("as_users_run_it")
YEARS = [2002, 1997, 2002, 1997, 2007, 2002]
NAMES = ["Chad", "Chad", "Peru", "Iran", "Iran", None]
VALUES = np.arange(12.0).reshape(6, 2)


def columns(library: str) -> tuple[Any, Any, Any]:
    """The table's values, years and names as some library holds them."""
    if library == "numpy":
        return VALUES, np.array(YEARS), np.array(NAMES, dtype=object)
    if library == "lists":
        return VALUES.tolist(), YEARS, NAMES
    module = pytest.importorskip(library, reason=f"pip install {library}")
    frame = {"one": VALUES[:, 0], "two": VALUES[:, 1], "year": YEARS, "name": NAMES}
    table = module.DataFrame(frame)
    if library == "pandas":
        table.index = [5, 5, 3, 2, 1, 0]  # plays no part
    return table[["one", "two"]], table["year"], table["name"]


@pytest.mark.parametrize("library", ["numpy", "lists", "pandas", "polars"])
def test_a_long_table_is_cut_by_its_labels_in_their_order(library):
    cut = slices_from_table(*columns(library))
    assert cut.labels == [1997, 2002, 2007]
    assert [one.tolist() for one in cut.rows] == [[1, 3], [0, 2, 5], [4]]
    for values, rows in zip(cut.slices, cut.rows, strict=True):
        np.testing.assert_array_equal(values, VALUES[rows])
    assert cut.ids == [["Chad", "Iran"], ["Chad", "Peru", None], ["Iran"]]


def test_text_and_dates_may_label_slices():
    texts = slices_from_table(VALUES[:3], ["b", "a", "b"], [1, 1, 2])
    assert texts.labels == ["a", "b"]
    days = np.array(["2020-02-01", "2020-01-01", "2020-02-01"], "datetime64[D]")
    dates = slices_from_table(VALUES[:3], days, [1, 1, 2])
    assert dates.labels == sorted(days.tolist())[:2]
    times = slices_from_table(VALUES[:3], days.astype("datetime64[ns]"), [1, 1, 2])
    assert [str(one)[:10] for one in times.labels] == [*map(str, dates.labels)]


def test_a_category_of_pandas_serves_as_labels_and_ids():
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    table = pandas.DataFrame({"year": ["b", "a", "b"], "name": ["x", "x", "y"]})
    kinds = table.astype("category")
    cut = slices_from_table(VALUES[:3], kinds["year"], kinds["name"])
    assert (cut.labels, cut.ids) == (["a", "b"], [["x"], ["x", "y"]])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_slices_of_a_frame_are_arrays_that_a_model_knows_the_columns_of(library):
    module = pytest.importorskip(library, reason=f"pip install {library}")
    frame = module.DataFrame({"area": [1.0, 2.0, None], "staff": [4, 5, 6]})
    cut = slices_from_table(frame, [7, 6, 7], [1, 1, 2], missing="keep")
    early, late = cut.slices
    assert {part.columns for part in cut.slices} == {("area", "staff")}
    assert [part.columns for part in read_slices([early])] == [("area", "staff")]
    np.testing.assert_array_equal(late, [[1, 4], [np.nan, 6]])
    apart = early - late[:1]  # of rows that have other numbers in the frame
    assert (apart.tolist(), type(apart)) == ([[1.0, 1.0]], np.ndarray)
    assert early[:, 1].tolist() == [5.0]
    assert isinstance(early.mean(), np.floating)
    assert float(jax.jit(jax.numpy.sum)(early)) == 7.0
    swapped = frame[["staff", "area"]][:2]
    (rows,) = slices_from_table(swapped, [6, 6], [1, 2]).slices
    np.testing.assert_array_equal(alike([early, rows], "data")[1], [[1, 4], [2, 5]])
    other = frame.rename(
        {"staff": "crew"}, **{} if library == "polars" else {"axis": 1}
    )
    with pytest.warns(DeprecationWarning, match="lacks.*'staff'.*by their place"):
        (*_, kept) = alike([frame, other], "data")
    assert kept is other


def test_text_in_a_frame_is_told_with_its_column_and_a_remedy():
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame({"area": np.arange(6), "size": ["3,5"] * 6})
    with refused("values", "row 0, column 1 ('size')", "6 such", 'decimal=","'):
        slices_from_table(frame, YEARS, NAMES)
    frame["size"] = [1, 2, "n.v.", 3, None, 4]
    with refused("values", "'n.v.'", "column 1 ('size')", "pandas.to_numeric"):
        slices_from_table(frame, YEARS, NAMES)
    frame["size"] = ["1", "2", "3,5", "4", "5", "6"]
    with refused("values", "'3,5'", "row 2", "pandas.to_numeric"):
        slices_from_table(frame, YEARS, NAMES)
    frame["size"] = [f"{size} kg" for size in range(6)]
    with refused("values", "'0 kg'", "row 0", "column.str.replace"):
        slices_from_table(frame, YEARS, NAMES)
    frame["size"] = [1, 2, np.nan, 4, 5, np.nan]
    gap = ["nan in row 2", "('size') of slice 2002", "id 'Peru'", "2 such values"]
    with refused("values", *gap, '"keep"'):
        slices_from_table(frame, YEARS, NAMES)
    with refused("slices", "DataFrame", "slices_from_table"):
        fit(frame, key=jax.random.key(0))


def test_a_cut_table_is_shown_in_a_line():
    shown = repr(slices_from_table(VALUES, YEARS, NAMES))
    assert shown == "TableSlices of 3 slices, 6 rows: 1997 to 2007"


def test_rows_with_gaps_are_left_out_where_asked_for():
    gaps = np.where(VALUES == 5, np.nan, VALUES)
    cut = slices_from_table(gaps, YEARS, NAMES, missing="drop")
    assert [part.tolist() for part in cut.rows] == [[1, 3], [0, 5], [4]]
    assert cut.ids[1] == ["Chad", None]
    with refused("missing", "'drop'", "each of the 6 rows"):
        slices_from_table(VALUES * [1, np.nan], YEARS, NAMES, missing="drop")
    with refused("missing", "'median'", "error, drop, keep"):
        slices_from_table(gaps, YEARS, NAMES, missing="median")


@pytest.mark.parametrize(
    ("labels", "said"), [([3] * 12, "one slice"), ([*range(12)], "each")]
)
def test_labels_that_hardly_cut_are_warned_of(labels, said):
    with pytest.warns(UserWarning, match=f"{said}.*(3|12)"):
        slices_from_table(np.ones((12, 2)), labels, range(12))


def test_the_slices_of_a_table_can_be_laid_out():
    data = np.concatenate(make_data())
    years = np.repeat([1997, 2002, 2007], [41, 48, 45])
    names = [f"row {i}" for size in (41, 48, 45) for i in range(size)]
    order = np.random.default_rng(0).permutation(len(data))
    cut = slices_from_table(data[order], years[order], np.array(names)[order])
    maps = fit(
        cut.slices,
        cut.ids,
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=LayoutConfig(n_epochs=0),
        slice_labels=cut.labels,
    )
    assert maps.slice_labels == (1997, 2002, 2007)
    assert maps.slice_name(1) == "slice 1 (2002)"
    for (t, offset), mates in maps.relations.items():
        assert mates.rows.size == min((41, 48, 45)[t], (41, 48, 45)[t + offset])
        for row, other in zip(mates.rows, mates.others, strict=True):
            assert cut.ids[t][row] == cut.ids[t + offset][other]


TOO_LARGE = VALUES.copy()
TOO_LARGE[3, 1] = -1e300
COLUMN = "one for each of the 6 rows"
# What is changed, the argument that is named, and words of the rest of the message.
REFUSED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "ids twice in a slice": (
        {"row_ids": ["Chad", "Iran", "Chad", "Iran", "Iran", "Peru"]},
        "row_ids",
        ("slice 0 (1997) repeats 'Iran' in rows 1 and 3",),
    ),
    "too few labels": ({"slice_labels": YEARS[:4]}, "slice_labels", ("4", COLUMN)),
    "too many ids": ({"row_ids": [*range(7)]}, "row_ids", ("has 7 entries", COLUMN)),
    "a label of None": (
        {"slice_labels": [2002, None, *YEARS[2:]]},
        "slice_labels",
        ("None in row 1", "labels"),
    ),
    "a label of NaN": (
        {"slice_labels": np.array([1.0, 2.0, np.nan, 1.0, 2.0, 1.0])},
        "slice_labels",
        ("nan in row 2",),
    ),
    "labels that cannot be sorted": (
        {"slice_labels": [2002, "1997", *YEARS[2:]]},
        "slice_labels",
        ("cannot be sorted", "labels of one kind"),
    ),
    "labels that cannot be hashed": (
        {"slice_labels": [[2002]] * 6},
        "slice_labels",
        ("[2002] (list) in row 0",),
    ),
    "ids that cannot be hashed": (
        {"row_ids": [*NAMES[:5], ["Mali"]]},
        "row_ids",
        ("slice 1 (2002) has ['Mali'] (list) in row 2", "cannot be hashed"),
    ),
    "values that are missing": (
        {"values": np.where(VALUES == 5, np.nan, VALUES)},
        "values",
        ("nan in row 2, column 1",),
    ),
    "values that are words": ({"values": [["a", "b"]] * 6}, "values", ("'a'",)),
    "values too large": ({"values": TOO_LARGE}, "values", ("row 3", "below 1e+36")),
    "sparse values": (
        {"values": scipy.sparse.csr_matrix(VALUES)},
        "values",
        ("sparse", "an array or a frame"),
    ),
    "a number as labels": (
        {"slice_labels": 3},
        "slice_labels",
        ("is an int", "column"),
    ),
    "text as ids": ({"row_ids": "years"}, "row_ids", ("is a str", "a column")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_do_not_fit_are_refused(case):
    changed, name, words = REFUSED[case]
    columns = {"values": VALUES, "slice_labels": YEARS, "row_ids": NAMES} | changed
    with refused(name, *words):
        slices_from_table(**columns)


@pytest.mark.parametrize(
    ("data", "size", "step", "name"),
    [
        *((rows, 1, 1, "data") for rows in ({0: 1, 1: 2}, 3, None)),
        *((VALUES, wrong, 1, "size") for wrong in (1.5, "2", 0, 7)),
        *((VALUES, 1, wrong, "step") for wrong in (1.5, None, 0)),
    ],
)
def test_windows_that_do_not_fit_are_refused(data, size, step, name):
    with refused(name):
        sliding_windows(data, size, step)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_an_ordered_category_says_in_which_order_slices_stand(library):
    module = pytest.importorskip(library, reason=f"pip install {library}")
    order = ["low", "mid", "high", "never"]
    levels = ["mid", "high", "low"]
    if library == "pandas":
        column = module.Series(module.Categorical(levels, order, ordered=True))
    else:
        column = module.Series(levels, dtype=module.Enum(order))
    assert slices_from_table(VALUES[:3], column, [1, 1, 1]).labels == order[:3]


def test_windows_of_a_frame_go_by_place_whatever_its_index_is():
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    frame = pandas.DataFrame(VALUES, index=np.arange(6.0)[::-1])
    windows, relations = sliding_windows(frame, size=4, step=2)
    assert [one.to_numpy().tolist() for one in windows] == [
        VALUES[:4].tolist(),
        VALUES[2:].tolist(),
    ]
    assert relations == [{2: 0, 3: 1}]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_single_column_is_told_how_to_become_a_table(library):
    module = pytest.importorskip(library, reason=f"pip install {library}")
    column = module.DataFrame({"area": VALUES[:, 0]})["area"]
    with refused("values", "shape (6,)", "`.to_frame()`"):
        slices_from_table(column, YEARS, NAMES)
    with refused("slices[0]", "shape (6,)", "`.to_frame()`"):
        read_slices([column])
    with refused("slices[0]", "shape (6,)", "squareform"):
        read_slices([column], metric="precomputed")
    assert len(slices_from_table(column.to_frame(), YEARS, NAMES).slices) == 3


@pytest.mark.parametrize("kind", ["coo", "csc", "dia"])
def test_windows_of_sparse_rows_of_any_kind_are_cut(kind):
    rows = scipy.sparse.csr_matrix(VALUES).asformat(kind)
    windows, relations = sliding_windows(rows, 4, 2)
    np.testing.assert_array_equal(windows[1].toarray(), VALUES[2:])
    assert relations == [{2: 0, 3: 1}]


def test_windows_of_anndata_are_cut():
    anndata = pytest.importorskip("anndata", reason="pip install 'aljax[anndata]'")
    windows, _ = sliding_windows(anndata.AnnData(VALUES), 4, 2)
    np.testing.assert_array_equal(windows[1].X, VALUES[2:])


def test_windows_of_sparse_rows_are_those_of_dense_ones():
    windows, _ = sliding_windows(scipy.sparse.csr_matrix(VALUES), size=4, step=2)
    dense, _ = sliding_windows(VALUES, size=4, step=2)
    for one, other in zip(windows, dense, strict=True):
        np.testing.assert_array_equal(one.toarray(), other)


@pytest.mark.parametrize(
    ("labels", "warned"),
    [
        (("Apr 2020", "Feb 2020"), True),
        (("01/02/2020", "02/01/2020"), True),
        (("3.2020", "12.2020"), True),
        (("2 May 2020", "12 April 2020"), True),
        (("2020-04", "2020-05"), False),
        (("2020-04-01", "2020-05-01"), False),
        (("May 2, 2020", "Apr-20"), True),
        (("Q1 2020", "Q4 2019"), True),
        (("01/02/2020 10:00", "02/01/2020 11:30"), True),
        (("May", "June"), True),
        (("September", "February"), True),
        (("Mary", "Janet"), False),
        (("10-19", "20-29"), False),
        (("a", "b"), False),
        (("1", "2"), False),
        ((2020, 2021), False),
    ],
)
def test_labels_that_look_like_dates_in_another_order_are_warned_of(labels, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        slices_from_table(VALUES[:2], labels, ["a", "a"])
    assert ["to_datetime" in str(one.message) for one in caught] == [True] * warned
