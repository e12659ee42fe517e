from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from helpers import NEIGHBORS, make_data

from aljax.config import GraphConfig, LayoutConfig
from aljax.fit import fit
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


def test_the_index_of_a_frame_plays_no_part():
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    table = pandas.DataFrame({"year": YEARS, "name": NAMES}, index=[5, 5, 3, 2, 1, 0])
    cut = slices_from_table(pandas.DataFrame(VALUES), table["year"], table["name"])
    assert [one.tolist() for one in cut.rows] == [[1, 3], [0, 2, 5], [4]]


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
        layout=LayoutConfig(n_epochs=2),
        slice_labels=cut.labels,
    )
    assert maps.slice_labels == (1997, 2002, 2007)
    assert maps.slice_name(1) == "slice 1 (2002)"
    for (t, offset), mates in maps.relations.items():
        assert mates.rows.size == min((41, 48, 45)[t], (41, 48, 45)[t + offset])
        for row, other in zip(mates.rows, mates.others, strict=True):
            assert cut.ids[t][row] == cut.ids[t + offset][other]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ids twice in a slice": (
        {"row_ids": ["Chad", "Iran", "Chad", "Iran", "Iran", "Peru"]},
        r"`row_ids`: .*slice 0 \(1997\) repeat: 'Iran' in rows 0 and 1",
    ),
    "too few labels": (
        {"slice_labels": YEARS[:4]},
        "`slice_labels` has 4 entries, but `values` has 6 rows",
    ),
    "too many ids": (
        {"row_ids": [*range(7)]},
        "`row_ids` has 7 entries, but `values` has 6 rows",
    ),
    "a label of None": (
        {"slice_labels": [2002, None, *YEARS[2:]]},
        "`slice_labels` has None in row 1; expected a label",
    ),
    "a label of NaN": (
        {"slice_labels": np.array([1.0, 2.0, np.nan, 1.0, 2.0, 1.0])},
        "`slice_labels` has nan in row 2; expected a label",
    ),
    "labels that cannot be sorted": (
        {"slice_labels": [2002, "1997", *YEARS[2:]]},
        "`slice_labels` cannot be sorted .*expected labels of one kind",
    ),
    "labels that cannot be hashed": (
        {"slice_labels": [[2002]] * 6},
        r"`slice_labels` has \[2002\] in row 0; expected a label",
    ),
    "ids that cannot be hashed": (
        {"row_ids": [*NAMES[:5], ["Mali"]]},
        r"slice 1 \(2002\) have \['Mali'\] \(list\) in row 2, which cannot be hashed",
    ),
    "values that are missing": (
        {"values": np.where(VALUES == 5, np.nan, VALUES)},
        "`values` has nan in row 2, column 1",
    ),
    "values that are words": (
        {"values": [["a", "b"]] * 6},
        "`values` has .*'a'.* in row 0",
    ),
    "values of one dimension": ({"values": VALUES[:, 0]}, "`values` has shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_do_not_fit_are_refused(case):
    changed, said = REFUSED[case]
    given = {"values": VALUES, "slice_labels": YEARS, "row_ids": NAMES} | changed
    with pytest.raises(ValueError, match=said):
        slices_from_table(**given)


def test_of_many_ids_that_repeat_the_first_are_named():
    with pytest.raises(ValueError, match=r"'a' in rows 0 and 5; .*'c' .*and 2 more"):
        slices_from_table(np.zeros((10, 1)), [1] * 10, [*"abcdeabcde"])


@pytest.mark.parametrize("value", [1e36, -1e300])
def test_values_too_large_for_distances_are_refused(value):
    values = VALUES.copy()
    values[3, 1] = value
    with pytest.raises(ValueError, match=r"^`values` .*row 3, column 1.*below 1e\+36"):
        slices_from_table(values, YEARS, NAMES)


def test_whole_numbers_beyond_all_floats_are_refused():
    values = [[10**400, 1.0]] * len(YEARS)
    with pytest.raises(ValueError, match=r"^`values` has dtype object"):
        slices_from_table(values, YEARS, NAMES)


@pytest.mark.parametrize("column", [3, None, "years"])
def test_what_is_no_column_is_refused(column):
    with pytest.raises(ValueError, match=r"^`slice_labels` is a .*a column"):
        slices_from_table(VALUES, column, NAMES)
    with pytest.raises(ValueError, match=r"^`row_ids` is a .*a column"):
        slices_from_table(VALUES, YEARS, column)


@pytest.mark.parametrize("rows", [{0: 1, 1: 2}, 3, None])
def test_what_has_no_rows_has_no_windows(rows):
    with pytest.raises(ValueError, match=r"^`data` is a "):
        sliding_windows(rows, 1, 1)


@pytest.mark.parametrize("wrong", [1.5, "2", None, True])
def test_windows_are_of_whole_rows(wrong):
    with pytest.raises(ValueError, match=r"^`size` is"):
        sliding_windows(VALUES, wrong, 1)
    with pytest.raises(ValueError, match=r"^`step` is"):
        sliding_windows(VALUES, 1, wrong)


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


def test_windows_of_sparse_rows_are_those_of_dense_ones():
    windows, _ = sliding_windows(scipy.sparse.csr_matrix(VALUES), size=4, step=2)
    dense, _ = sliding_windows(VALUES, size=4, step=2)
    for one, other in zip(windows, dense, strict=True):
        np.testing.assert_array_equal(one.toarray(), other)
