import errno
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from helpers import make_data, refused

import aljax
from experiments.data import sources
from experiments.data.dataset import related_by_ids
from experiments.data.dates import in_order
from experiments.data.fashion import CLASSES
from experiments.run import main

pytestmark = pytest.mark.usefixtures("as_users_run_it")

COLUMNS = {"slice": "year", "id": "name", "features": None, "label": None}


@pytest.fixture
def table(tmp_path):
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    x, y = make_data((30, 28), features=2)
    frame = pd.DataFrame(np.vstack([x, y]), columns=["first", "second"])
    frame["year"] = [1990] * 30 + [1985] * 28
    frame["name"] = [f"m{i}" for i in range(30)] + [f"m{i}" for i in range(2, 30)]
    frame["kind"] = ["a", "b"] * 29
    path = tmp_path / "long.csv"
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def load(path, **changed):
    return sources.load("table", path=str(path), **{**COLUMNS, **changed})


def test_a_table_becomes_slices_in_the_order_of_their_labels(table):
    dataset = sources.load("table", path=str(table), **{**COLUMNS, "label": "kind"})
    assert dataset.titles == ["1985", "1990"]
    assert [one.shape for one in dataset.slices] == [(28, 2), (30, 2)]
    rows = {one: row for row, one in enumerate(dataset.relations[1])}
    mates = [rows[one] for one in dataset.relations[0]]
    assert len({*mates}) == 28
    assert dataset.labels is not None
    assert {*np.concatenate(dataset.labels)} == {"a", "b"}


def test_labels_are_plain_and_who_has_none_is_unknown(table, tmp_path):
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    frame = pd.read_csv(table)
    frame.loc[frame["name"] == "m5", "kind"] = None
    path = tmp_path / "gaps.csv"
    frame.to_csv(path, index=False)
    dataset = sources.load("table", path=str(path), **{**COLUMNS, "label": "kind"})
    assert dataset.labels is not None
    assert {one.dtype.kind for one in dataset.labels} == {"U"}  # no pickle in a file
    assert {*np.concatenate(dataset.labels)} == {"a", "b", "unknown"}


def test_a_table_can_be_swept(table, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    frame = pd.read_csv(table)
    more = frame.assign(name="other " + frame["name"], first=frame["first"] + 1)
    pd.concat([frame, more]).to_csv("twice.csv", index=False)
    settings = ["data.slice=year", "data.id=name", "layout.n_epochs=0", "name=swept"]
    settings += ["graph.n_neighbors=5", "compilation_cache=null", "task.name=sweep"]
    settings += ["+task.grid={product: {min_dist: [0.1, 0.2]}}"]
    assert main(["data=table", "data.path=twice.csv", *settings]) == 0
    (head, *rows) = Path("results/swept/sweep.csv").read_text().splitlines()
    assert "displacement" in head
    assert len(rows) == 2


def test_the_features_are_the_other_numeric_columns_unless_named(table):
    dataset = sources.load(
        "table", path=str(table), **{**COLUMNS, "features": ["first"]}
    )
    assert dataset.slices[0].shape == (28, 1)


def test_errors_say_what_is_wrong_with_the_table(table, tmp_path):
    with refused("data.slice", "'yaer'", "`year`"):
        load(table, slice="yaer")
    with refused("data.features", "'frist'", "`first`"):
        load(table, features=["frist"])
    with refused("data.id", "slice 0 (1985)", "'a'"):
        load(table, id="kind")
    broken, text = tmp_path / "broken.parquet", tmp_path / "text.csv"
    broken.write_bytes(b"PAR1 and no more")
    text.write_text("year,name\n1990,a\n1990,b\n")
    for path in (tmp_path / "none.csv", tmp_path / "long.txt", broken):
        with refused("data.path", str(path)):
            load(path)
    with refused("data.features", str(text), "year and name"):
        load(text)


@pytest.mark.slow
def test_a_table_runs_from_the_command_line(table, capsys, monkeypatch, tmp_path):
    pandas = pytest.importorskip("pandas", reason="run: pip install pandas")
    monkeypatch.chdir(tmp_path)
    settings = ["data.slice=year", "data.id=name", "layout.n_epochs=2"]
    settings += ["graph.n_neighbors=5", "compilation_cache=null", "data.scale=standard"]
    assert main(["data=table", f"data.path={table}", *settings]) == 0
    assert "1985" in capsys.readouterr().out
    maps = aljax.load("results/table")
    rows = pandas.read_csv(table).query("year == 1985")
    held = {name: row for row, name in enumerate(maps.ids[0])}
    order = [held[name] for name in rows["name"]]
    placed = maps.transform(rows[["second", "first"]], slice="1985")
    np.testing.assert_array_equal(placed, maps.maps[0][order])
    with np.load("results/table/embedding.npz") as arrays:
        assert arrays["slice_0"].shape == (28, 2)
        assert arrays["ids_0"].dtype.kind == "U"


MONTHS = [f"{month} {year}" for year in (2020, 2021) for month in ("Feb", "Mar", "Apr")]


@pytest.fixture
def shops():
    """Returns a function that writes a table of shops by month, with changes."""
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"month": np.repeat(MONTHS, 12), "shop": [*range(12)] * 6})
    for name, unit in (("area", 1), ("staff", 1), ("sales", 1e4)):
        frame[name] = rng.normal(size=72) * unit
    frame["city"], frame["code"] = "1.1.2020", frame["shop"] * 7 + 4000
    frame["line"] = range(72)

    def write(path, change=lambda frame: frame, **options):
        change(frame.copy()).to_csv(path, index=False, **options)
        return path

    return write


def read(path, **changed):
    columns = {"slice": "month", "id": "shop", "features": ["area", "staff"]}
    return load(path, **{**columns, **changed})


def test_how_a_table_was_read_is_told(shops, tmp_path):
    def change(frame):
        return frame.assign(page="https://shops.example/a-shop")

    with pytest.warns(UserWarning, match="column") as warned:
        dataset = read(shops(tmp_path / "a.csv", change), features=None)
    assert dataset.titles == MONTHS
    left, compared, order, lacking = dataset.notes
    assert "city (dates, as '1.1.2020')" in left
    assert "page (text, as 'https://shops.example...')" in left
    assert lacking.endswith("9 after Apr 2020")
    assert "sales (sd" in compared
    assert "as dates (%b %Y): Feb 2020" in order
    said = " ".join(str(one.message) for one in warned)
    assert "1 of 5 columns ('sales')" in said
    assert "data.scale=standard" in said
    assert "'line' numbers the rows" in said
    assert "data.leave_out=[line]" in said
    assert "'code' is a code" in said


@pytest.mark.parametrize("scale_by", ["table", "slice"])
def test_columns_are_compared_in_units_of_their_spread(shops, tmp_path, scale_by):
    path = shops(tmp_path / "a.csv")
    dataset = read(path, scale="standard", scale_by=scale_by)
    rows = np.vstack(dataset.slices)
    groups = dataset.slices if scale_by == "slice" else [rows]
    for group in groups:
        np.testing.assert_allclose(group.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(group.std(axis=0), 1)
    robust = np.vstack(read(path, scale="robust").slices)
    np.testing.assert_allclose(np.median(robust, axis=0), 0, atol=1e-9)
    with refused("data.scale", "'standrad'", "`standard`"):
        read(path, scale="standrad")
    low, high = np.percentile(robust, [25, 75], axis=0)
    np.testing.assert_allclose(high - low, 1)


def test_missing_values_are_named_dropped_or_filled(shops, tmp_path):
    def gap(frame):
        frame.loc[[5, 17], "staff"] = np.nan
        return frame

    path = shops(tmp_path / "a.csv", gap)
    with refused("data.missing", "'staff'", "month Feb 2020, shop 5", "2 such cells"):
        read(path)
    assert sum(map(len, read(path, missing="drop").slices)) == 70
    filled, whole = read(path, missing="median"), read(shops(tmp_path / "b.csv"))
    staff = np.concatenate([rows[:, 1] for rows in whole.slices])
    others = np.delete(staff, [5, 17])

    def worse(frame):
        frame["staff"] = np.nan
        frame.loc[0, "staff"], frame.loc[0, "area"] = 1, np.nan
        return frame

    path = shops(tmp_path / "d.csv", worse)
    with refused("data.missing", "[NAME]; more than half is missing in staff"):
        read(path)
    with refused("data.missing", "72 rows", "more than half is missing in staff"):
        read(path, missing="drop")
    assert "staff" in read(path, missing="median").notes[0]
    assert filled.slices[0][5, 1] == pytest.approx(np.median(others))

    def endless(frame):
        frame.loc[0, "area"] = np.inf
        return frame

    path = shops(tmp_path / "c.csv", endless)
    with refused("data.path", "'area' has inf", "shop 0", '{na_values: ["inf"]}'):
        read(path, missing="drop")
    assert (
        sum(map(len, read(path, missing="drop", csv={"na_values": ["inf"]}).slices))
        == 71
    )


def worded(frame, count):
    """The table with words in the first cells of a column."""
    words = [f"n {row}" for row in range(count)]
    return frame.assign(area=[*words, *frame["area"][count:]])


def test_a_file_that_may_not_be_read_is_named(shops, tmp_path, monkeypatch):
    path = shops(tmp_path / "a.csv")
    denied = PermissionError(errno.EACCES, "Permission denied", str(path))
    monkeypatch.setattr(Path, "open", Mock(side_effect=denied))
    with refused("data.path", "a.csv", "Permission denied", "may read"):
        read(path)


def test_a_column_of_numbers_but_for_some_cells_is_refused(shops, tmp_path):
    def dash(frame):
        frame["sales"] = frame["sales"].astype(object)
        frame.loc[3, "sales"] = "-"
        return frame

    path = shops(tmp_path / "a.csv", dash)
    with refused(
        "data.path",
        "'sales'",
        "'-' in row 3 (month Feb 2020, shop 3)",
        'na_values: ["-"]',
    ):
        read(path, features=None)
    path_of_ten = shops(tmp_path / "b.csv", lambda f: worded(f, 10))
    with refused("data.path", "{na_values: [x, ", '"n 9"]}'):
        read(path_of_ten, csv={"na_values": ["x"]})
    given = {"features": ["area", "sales"], "csv": {"na_values": ["-"]}}
    assert len(read(path, missing="drop", **given).slices[0]) == 11
    with refused("data.features", "'city'", "dates"):
        read(path, features=["city"])


def spelled(number, mark):
    """Returns a function that writes the numbers of a table in other marks."""

    def change(frame):
        for name in ("area", "staff", "sales"):
            column = (1e6 * frame[name]).map(lambda value: number.format(value))
            for before, after in mark:
                column = column.str.replace(before, after)
            frame[name] = column
        return frame

    return change


def filled(column, value, rows: Any = slice(None)):
    def change(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[rows, column] = value
        return frame

    return change


GERMAN = [(",", "_"), (".", ","), ("_", ".")]
FRENCH = [(",", "\u202f"), (".", ","), ("-", "\u2212")]
# A change of the table, how it is written, the setting that is named, words of the
# message, and what it says to set, with which the table is read.
BAD: dict[str, tuple] = {
    "a wrong separator": (None, {"sep": ";"}, "data.path", ['sep: ";"'], {"sep": ";"}),
    "tabs": (None, {"sep": "\t"}, "data.path", ['{sep: "\\t"}'], {"sep": "\\t"}),
    "spaces": (
        lambda f: f.assign(month=f["month"].str.replace(" ", "-")),
        {"sep": " "},
        "data.path",
        ['{sep: " "}'],
        {"sep": " "},
    ),
    "an encoding": (
        lambda f: f.assign(größe="é"),
        {"encoding": "latin-1"},
        "data.path",
        ["utf-8", "{encoding: cp1252}", "Cyrillic"],
        {"encoding": "cp1252"},
    ),
    "two bytes a letter": (
        None,
        {"encoding": "utf-16"},
        "data.path",
        ["{encoding: utf-16}"],
        {"encoding": "utf-16"},
    ),
    "two bytes, unmarked": (
        None,
        {"encoding": "utf-16-le"},
        "data.path",
        ["{encoding: utf-16-le}"],
        {"encoding": "utf-16-le"},
    ),
    "another separator": (
        None,
        {"sep": "^"},
        "data.path",
        ['{sep: "^"}'],
        {"sep": "^"},
    ),
    "a packed file": (
        None,
        {"compression": "gzip"},
        "data.path",
        ["{compression: gzip}"],
        {"compression": "gzip"},
    ),
    "a decimal comma": (
        None,
        {"decimal": ","},
        "data.path",
        ["'area'", '{decimal: ","}'],
        {"decimal": ","},
    ),
    "thousands": (
        spelled("{:,.2f}", []),
        {},
        "data.path",
        ["'area'", '{thousands: ","}'],
        {"thousands": ","},
    ),
    "thousands by points": (
        spelled("{:,.2f}", GERMAN),
        {},
        "data.path",
        ['{decimal: ",", thousands: "."}'],
        {"decimal": ",", "thousands": "."},
    ),
    "thousands by narrow spaces": (
        spelled("{:,.2f}", FRENCH),
        {},
        "data.path",
        ['{decimal: ",", thousands: " "}'],
        {"decimal": ",", "thousands": " "},
    ),
    "thousands by apostrophes": (
        spelled("{:,.2f}", [(",", "'")]),
        {},
        "data.path",
        ["""{thousands: "'"'"'"}"""],
        {"thousands": "'"},
    ),
    "a decimal comma, and words": (
        lambda f: filled("area", "k.A.", [3])(spelled("{:.1f}", [(".", ",")])(f)),
        {},
        "data.path",
        ["72 of 72 cells", '{decimal: ","}'],
        {"decimal": ",", "na_values": ["k.A."]},
    ),
    "a decimal comma in a cell among points": (
        filled("area", "3,5", 3),
        {},
        "data.path",
        ["1 of 72 cells", "'3,5' in row 3", '{na_values: ["3,5"]}', "mend them"],
        {"na_values": ["3,5"]},
    ),
    "a decimal comma in a column among points": (
        lambda f: f.assign(area=f["area"].map("{:.1f}".format).str.replace(".", ",")),
        {},
        "data.path",
        ["'area'", "as other columns are", "data.leave_out=[area]"],
        None,
    ),
    "a blank": (filled("area", " ", 3), {}, "data.missing", ["'area'", "no value"], {}),
    "text in some cells": (
        filled("area", "n.v.", [3, 4]),
        {},
        "data.path",
        ["2 of 72 cells", "'area'", "'n.v.' in row 3", "{na_values: [n.v.]}"],
        {"na_values": ["n.v."]},
    ),
    "too large a value": (
        filled("area", 1e300, 3),
        {},
        "data.path",
        ["'area' has 1e+300 in row 3", '{na_values: ["1e+300"]}'],
        {"na_values": ["1e+300"]},
    ),
    "many texts in some cells": (
        lambda f: worded(f, 25),
        {},
        "data.path",
        ["25 of 72 cells", "data.leave_out=[area]"],
        None,
    ),
    "no rows": (lambda f: f.iloc[:0], {}, "data.path", ["no rows"], None),
    "constant columns": (
        lambda f: f.assign(area=1, staff=2),
        {},
        "data.features",
        ["area, staff", "same value"],
        None,
    ),
    "no ids": (filled("shop", None), {}, "data.id", ["empty", "data.id=null"], None),
    "ids twice in a slice": (
        filled("shop", 4, 3),
        {},
        "data.id",
        ["'Feb 2020'", "repeats 4 in rows 3 and 4", "data.id=null"],
        None,
    ),
    "a slice for each row": (
        lambda f: f.assign(month=range(72)),
        {},
        "data.slice",
        ["'month'", "72 values in 72 rows"],
        None,
    ),
    "a slice for each two": (
        lambda f: f.assign(month=np.arange(72) // 2),
        {},
        "data.slice",
        ["36 values in 72 rows"],
        None,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_named_with_a_remedy_that_works(case, shops, tmp_path):
    change, options, name, words, csv = BAD[case]
    path = shops(tmp_path / "a.csv", change or (lambda frame: frame), **options)
    with refused(name, *words):
        read(path)
    if csv is not None:
        assert np.isfinite(
            np.vstack(read(path, csv=csv, missing="median").slices)
        ).all()


@pytest.mark.parametrize(
    ("line", "text", "said", "csv"),
    [
        (0, "Sales of 2020\n\n", "{skiprows: 2}", {"skiprows": 2}),
        (9, "1,2,", "Mend line 10", {"on_bad_lines": "skip"}),
        (9, '"', "{quoting: 3}", {"quoting": 3}),
    ],
)
def test_lines_that_are_no_rows_are_told(line, text, said, csv, shops, tmp_path):
    path = shops(tmp_path / "a.csv")
    lines = path.read_text().splitlines(keepends=True)
    lines[line] = text + lines[line]
    path.write_text("".join(lines))
    with refused("data.path", said):
        read(path)
    kept = read(path, csv=csv, id="line", slice="code")
    assert sum(map(len, kept.slices)) >= 71


def test_points_that_stand_for_thousands_are_not_taken_for_decimal_ones(
    shops, tmp_path
):
    def change(frame):
        frame["area"] = frame["area"].map("{:.1f}".format).str.replace(".", ",")
        frame = frame.drop(columns="sales")
        return frame.assign(
            staff=[f"{row + 3}.{row * 13 + 11:03d}" for row in range(72)]
        )

    path = shops(tmp_path / "a.csv", change)
    with refused("data.path", "'area'", '{decimal: ","}'):
        read(path)
    with refused("data.path", "'staff'", '{decimal: ",", thousands: "."}'):
        read(path, csv={"decimal": ","})
    dataset = read(path, csv={"decimal": ",", "thousands": "."})
    assert np.vstack(dataset.slices)[0, 1] == 3011


def test_options_that_pandas_refuses_are_told(shops, tmp_path):
    path = shops(tmp_path / "a.csv")
    for options in ({"encoding": "latn-1"}, {"seperator": ";"}):
        with refused("data.csv", str(options)):
            read(path, csv=options)
    with refused("data.path", '{encoding: utf-8, sep: ","}'):
        read(path, csv={"encoding": "utf-8", "sep": ";"})
    (tmp_path / "b.csv").touch()
    with refused("data.path", "empty"):
        read(tmp_path / "b.csv")


@pytest.mark.parametrize("unit", ["{:.1f} kg", "EUR {:.2f}"])
def test_columns_are_left_out_by_name_and_numbers_with_units_are_told(
    unit, shops, tmp_path
):
    def weighed(frame):
        return frame.assign(weight=frame["area"].map(unit.format))

    path = shops(tmp_path / "a.csv", weighed)
    with pytest.warns(UserWarning, match="'weight' is left out.* (kg|EUR)?"):
        dataset = read(path, features=None, leave_out=["line", "code"], scale="robust")
    assert dataset.columns == ("area", "staff", "sales")
    with refused("data.leave_out", "'lines'", "`line`"):
        read(path, leave_out=["lines"])


def test_rows_without_slice_or_id_are_told(shops, tmp_path):
    def change(frame):
        frame["staff"], frame["shop"] = 1, frame["shop"].astype(object)
        frame.loc[[3, 70], "shop"] = None
        frame.loc[5, "month"] = None
        return frame

    path = shops(tmp_path / "a.csv", change)
    with refused("data.slice", "empty in 1 of 72 rows", "data.missing=drop"):
        read(path)
    notes = "\n".join(read(path, missing="drop").notes)
    assert "columns that are constant, and tell nothing: staff" in notes
    assert "rows without shop, which have no mates: 2" in notes
    assert "rows dropped for they have no month: 1" in notes
    path = shops(tmp_path / "b.csv", lambda frame: frame.iloc[:12])
    with pytest.warns(UserWarning, match="one slice"):
        read(path)


def test_codes_with_gaps_and_rounded_constants_are_told(shops, tmp_path):
    def change(frame):
        frame.loc[[3, 70], "code"] = None
        return frame.assign(tax=0.19)

    path = shops(tmp_path / "a.csv", change)
    chosen = {"features": ["area", "code", "tax"], "scale": "standard"}
    with pytest.warns(UserWarning, match="'code' is a code"):
        dataset = read(path, missing="median", **chosen)
    assert "columns that are constant, and tell nothing: tax" in dataset.notes


def test_a_wide_table_is_read(shops, tmp_path):
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    wide = np.random.default_rng(0).normal(size=(72, 1000))
    genes = pd.DataFrame(wide).add_prefix("gene")
    path = shops(tmp_path / "a.csv", lambda frame: frame.join(genes))
    dataset = read(path, features=None, leave_out=["sales", "line", "code"])
    assert dataset.slices[0].shape == (12, 1002)
    assert "and 982 more" in dataset.notes[1]


@pytest.mark.parametrize(
    ("spelling", "order", "said"),
    [
        ("%d/%m/%Y", None, "as dates (%d/%m/%Y)"),
        ("%Y-%m-%d", None, "as dates (%Y-%m-%d)"),
        ("week %V", None, "as text"),
        ("%d/%m/%y", "%d/%m/%y", "as dates (%d/%m/%y)"),
    ],
)
def test_slices_stand_in_the_order_of_their_dates(spelling, order, said):
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    days = pd.date_range("2020-01-20", periods=8, freq="7D").delete(3)
    column = pd.Series([day.strftime(spelling) for day in days])
    told: list[str] = []
    ordered = in_order(column.sample(frac=1, random_state=0), order, told)
    assert [*ordered.categories] == [*column]
    assert said in told[0]
    assert len(told) == 1 or "1 after" in told[1]
    assert (len(told) == 2) == ("%d" in spelling)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Q3 2019", "Q4 2019", "Q1 2020"], "as text, by year"),
        (["4Q19", "1Q20", "2Q20"], "as text, by year"),
        (["W49 2019", "W52 2019", "W01 2020"], "as text, by year"),
        (["Aug 2020", "Sept 2020", "Oct 2020"], "as dates (%b %Y)"),
        (["January", "February", "March"], "as dates (%B)"),
        (["20/12/2019 08:00", "02/01/2020 09:30"], "as dates (%d/%m/%Y %H:%M)"),
        (["12/20/1994 0:00:00", "1/2/1995 0:00:00"], "as dates (%m/%d/%Y %H:%M:%S)"),
        (["30/9/1994 11:30 PM", "1/10/1994 1:00 AM"], "as dates (%d/%m/%Y %I:%M %p)"),
        (["201911", "201912", "202001"], "as dates (%Y%m)"),
        (["2019M11", "2019M12", "2020M01"], "as dates (%YM%m)"),
        (["2019年11月", "2019年12月", "2020年1月"], "as dates (%Y年%m月)"),
        (["Nov'19", "Dec'19", "Jan'20"], "as dates (%b %y)"),
        (["Nov19", "Dec19", "Jan20"], "as dates (%b %y)"),
        (["Aug. 2020", "Sept. 2020", "Oct. 2020"], "as dates (%b %Y)"),
        (["Mon, 23 Dec 2019", "Mon, 30 Dec 2019"], "as dates (%d %b %Y)"),
        (["1999/00", "2000/01", "2001/02"], "as text: 1999/00"),
        (["wave 9", "wave 10"], "as text: wave 9"),
        (["high", "low"], "number them, as '1 low'"),
        ([201911, 201912, 202001, 202002], "slices (4): 201911"),
    ],
)
def test_other_spellings_of_time_stand_in_their_order(labels, said):
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    told: list[str] = []
    ordered = in_order(pd.Series(labels).sample(frac=1, random_state=0), None, told)
    assert [*getattr(ordered, "categories", labels)] == labels
    assert said in told[0]
    assert len(told) == 1  # nothing is missing in between


def test_dates_that_can_be_read_in_two_ways_are_asked_for():
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    column = pd.Series(["03/04/2020", "05/02/2020"])
    with pytest.warns(UserWarning, match="data.dates"):
        in_order(column, None, [])
    for other in ("Mär 2020", "1. März 2020"):
        with pytest.warns(UserWarning, match=f"'{other}' look like dates"):
            in_order(pd.Series([other, other.replace("Mär", "Feb")]), None, [])
    with pytest.warns(UserWarning, match=r"%y-%b and %d-%b.*data.dates='%y-%b'"):
        in_order(pd.Series(["19-Dec", "20-Mar", "20-Apr"]), None, [])
    for other in ("202003", "Mar 2020"):
        with pytest.warns(UserWarning, match=f"dates .%Y-%m.*'{other}' is not"):
            in_order(pd.Series(["2020-01", "2020-02", other]), None, [])
    told: list[str] = []
    ordered = in_order(column, "%d/%m/%Y", told)
    assert [*ordered.categories] == ["05/02/2020", "03/04/2020"]
    with refused("data.dates", "'03/04/2020'"):
        in_order(column, "%Y-%m", told)


def test_rows_are_named_by_labels_as_the_table_spells_them(tmp_path):
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    frame = pd.DataFrame({"year": [70, 71] * 3, "id": [1, 1, 2, 2, 3, 3]})
    frame["wage"] = [1.5, 2.5, 3.5, 4.5, 5.5, np.nan]  # all columns are numbers
    path = tmp_path / "wages.csv"
    frame.to_csv(path, index=False)
    columns = {"slice": "year", "id": "id", "features": None, "label": None}
    with refused("data.missing", "no value in row 5 (year 71, id 3)"):
        sources.load("table", path=str(path), **columns)


def test_years_that_are_missing_are_told():
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    told: list[str] = []
    in_order(pd.Series([2001, 2003, 2001, 2007, 2009, 2011]), None, told)
    assert told[0] == "slices (5): 2001, 2003, 2007, 2009, 2011"
    assert told[1] == "slices missing in between: 1 after 2003"
    for last, shown in ((7, "1, 2, 3, 4, 5, 6, 7"), (8, "1, 2, 3, ..., 6, 7, 8")):
        told.clear()
        in_order(pd.Series(range(1, last + 1)), None, told)
        assert told == [f"slices ({last}): {shown}"]


def test_ids_relate_the_digits_as_their_dicts_do():
    dataset = sources.load("digits_sequence", size=400, step=150)
    by_ids = related_by_ids(dataset).relations
    for t, relation in enumerate(dataset.relations):
        later = {one: row for row, one in enumerate(by_ids[t + 1])}
        same = {r: later[one] for r, one in enumerate(by_ids[t]) if one in later}
        assert same == relation


def test_classes_come_and_go():
    fashion = {"slices": 3, "classes": 2, "images": 5, "folder": None}
    try:
        dataset = sources.load("fashion_growing", **fashion)
    except ValueError as error:
        pytest.skip(str(error))
    assert dataset.labels is not None
    two = [{*CLASSES[t : t + 2]} for t in range(3)]
    assert [{*one.tolist()} for one in dataset.labels] == two
    assert {*dataset.relations[0]} & {*dataset.relations[1]}
    with refused("data.slices", "12 classes", "at most 10"):
        sources.load("fashion_growing", **{**fashion, "slices": 11})


@pytest.mark.slow
def test_a_stream_is_fitted_and_appended(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = ["data.size=600", "data.step=300", "layout.n_epochs=2", "first=2"]
    small += ["graph.n_neighbors=5", "compilation_cache=null"]
    assert main(["experiment=digits_stream", *small]) == 0
    out, _ = capsys.readouterr()
    assert "4 slices" in out
    assert main(["experiment=digits_stream", *small, "first=9"]) == 1
    assert "`first` is 9, but there are 4 slices" in capsys.readouterr().err
