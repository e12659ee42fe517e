"""Tables as users have them: numbers for names, categories, gaps, long ids."""

import itertools
import shlex
import warnings

import numpy as np
import pytest
from helpers import make_data, refused

import aljax
from aljax.errors import InputError
from experiments.composition import compose
from experiments.data import sources
from experiments.data.columns import csv_options
from experiments.results.contents import colors
from experiments.run import main

pd = pytest.importorskip("pandas", reason="run: pip install pandas")
pytestmark = [
    pytest.mark.usefixtures("as_users_run_it"),
    pytest.mark.filterwarnings("default"),
]
NEEDED = ["data=table", "data.path=x.csv", "data.slice=month", "data.id=shop"]
COLUMNS = {"slice": "month", "id": "shop", "features": None, "label": None}


@pytest.fixture
def frame():
    values = np.vstack(make_data((12, 12, 12), features=2))
    table = pd.DataFrame(values, columns=["first", "second"])
    table["month"] = np.repeat(["2020-01", "2020-02", "2020-03"], 12)
    table["shop"] = [f"s{i}" for i in range(12)] * 3
    return table


def load(frame, folder, ending=".csv", **changed):
    path = folder / f"table{ending}"
    if ending == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return sources.load("table", path=str(path), **{**COLUMNS, **changed})


def test_columns_that_are_named_by_numbers_can_be_chosen(frame, tmp_path):
    named = frame.rename(columns={"first": "2019", "second": "2020"})
    dataset = load(named, tmp_path, features=[2020])  # as Hydra reads 2020
    assert dataset.columns == ("2020",)
    np.testing.assert_allclose(dataset.slices[1][:, 0], frame["second"][12:24])


def test_columns_without_names_have_their_numbers(frame, tmp_path):
    frame.to_csv(tmp_path / "bare.csv", index=False, header=False)
    options = {"path": str(tmp_path / "bare.csv"), "csv": {"header": None}}
    dataset = sources.load("table", **{**COLUMNS, "slice": "2", "id": "3"}, **options)
    assert dataset.columns == ("0", "1")
    assert dataset.ids[0].tolist() == frame["shop"][:12].tolist()


def test_a_number_for_a_name_is_told_how_to_be_quoted(frame, tmp_path):
    with refused("data.slice", "'data.slice=\"2\"'"):
        load(frame, tmp_path, slice=2)


def test_a_cell_is_named_by_its_row_where_others_were_dropped(frame, tmp_path):
    frame.loc[[0, 5], "month"] = None
    frame.loc[[1, 20], "first"] = np.inf
    with refused("data.path", "row 1 (month 2020-01, shop s1)", "2 such cells"):
        load(frame, tmp_path, missing="drop")
    frame.loc[1, "first"] = 0
    with refused("data.path", "row 20 (month 2020-02, shop s8)"):
        load(frame, tmp_path, missing="drop")


def test_an_ordered_category_keeps_its_order_as_from_python(frame, tmp_path):
    pytest.importorskip("pyarrow", reason="run: pip install pyarrow")
    order = ["mid", "low", "high"]
    labels = pd.Categorical(np.repeat(order, 12), categories=order, ordered=True)
    dataset = load(frame.assign(month=labels), tmp_path, ".parquet")
    cut = aljax.slices_from_table(frame[["first", "second"]], labels, frame["shop"])
    assert dataset.titles == [*cut.labels] == order
    np.testing.assert_array_equal(dataset.slices[0], cut.slices[0])
    assert any("in the order of their category" in note for note in dataset.notes)


def test_months_of_a_time_zone_are_months(frame, tmp_path, recwarn):
    pytest.importorskip("pyarrow", reason="run: pip install pyarrow")
    months = pd.to_datetime(np.repeat(["2020-01", "2020-02", "2020-03"], 12))
    more = pd.to_datetime(np.repeat(["2020-05", "2020-06", "2020-07"], 12))
    both = pd.concat([frame.assign(month=months), frame.assign(month=more)])
    both["month"] = both["month"].dt.tz_localize("Europe/Berlin")
    dataset = load(both, tmp_path, ".parquet")
    assert not [*recwarn]
    assert "1 after 2020-03-01 00:00:00+01:00" in dataset.notes[-1]


@pytest.mark.parametrize("named", [False, True])
def test_an_index_is_a_column_if_it_has_a_name(named, frame, tmp_path):
    pytest.importorskip("pyarrow", reason="run: pip install pyarrow")
    if named:
        frame = frame.set_index("shop")
    months = tmp_path / "months"
    months.mkdir()
    for month, rows in frame.groupby("month"):  # the later ones do not begin at row 0
        rows.drop(columns="month").to_parquet(months / f"{month}.parquet")
    apart = sources.load("parquet", path=str(months), id="shop")
    together = load(frame, tmp_path, ".parquet")
    assert apart.columns == together.columns == ("first", "second")
    for one, other in zip(apart.slices, together.slices, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(apart.ids, together.ids, strict=True):
        assert one.tolist() == other.tolist()


def run(frame, folder, *overrides):
    frame.to_csv(folder / "table.csv", index=False)
    options = {"path": folder / "table.csv", "slice": "month", "id": "shop"}
    words = [f"data.{name}={value}" for name, value in options.items()]
    quick = ["layout.n_epochs=2", "graph.n_neighbors=5", "compilation_cache=null"]
    return main(["data=table", *words, *quick, f"results={folder}", *overrides])


def test_rows_without_ids_are_nobody_in_all_that_is_written(frame, tmp_path):
    frame["shop"] = [*range(12)] * 3
    frame.loc[[0, 1, 12], "shop"] = None
    dataset = load(frame, tmp_path)
    names = [ids.tolist() for ids in dataset.ids]
    assert [*map(len, map(set, names))] == [12] * 3
    assert names[0][:3] == ["(row 0)", "(row 1)", "2"]
    shared = [{*a} & {*b} for a, b in itertools.pairwise(names)]
    assert [*map(len, shared)] == [10, 11]  # as the relations have it
    pytest.importorskip("plotly", reason="run: pip install 'aljax[plot]'")
    assert run(frame, tmp_path, "motion=true") == 0
    assert (tmp_path / "table" / "displacement.png").exists()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_whole_numbers_beside_a_gap_stay_whole(ending, frame, tmp_path):
    pytest.importorskip("pyarrow", reason="run: pip install pyarrow")
    frame["month"] = np.repeat([2019, 2020, 2021], 12)
    frame["shop"] = [*range(12)] * 3
    frame["kind"] = [1, 2, None] * 12
    frame.loc[0, "month"] = frame.loc[13, "shop"] = None
    dataset = load(frame, tmp_path, ending, missing="drop", label="kind")
    assert dataset.titles == ["2019", "2020", "2021"]
    assert dataset.notes[-1] == "slices (3): 2019, 2020, 2021"
    assert dataset.ids[1][:3].tolist() == ["0", "(row 13)", "2"]
    assert colors(dataset)["labels"][1].tolist() == [1, 2, None] * 4
    halves = frame.assign(month=frame["month"] + 0.5, kind=frame["kind"] + 0.5)
    dataset = load(halves, tmp_path, ending, missing="drop", label="kind")
    assert dataset.titles == ["2019.5", "2020.5", "2021.5"]
    assert colors(dataset)["labels"][1][:2].tolist() == [1.5, 2.5]


def test_motion_where_nobody_recurs_leaves_out_a_picture(frame, tmp_path, capsys):
    pytest.importorskip("plotly", reason="run: pip install 'aljax[plot]'")
    frame["shop"] = [f"s{i}" for i in range(len(frame))]
    assert run(frame, tmp_path, "motion=true") == 0
    assert "displacement.png is not drawn" in capsys.readouterr().err
    written = {file.name for file in (tmp_path / "table").iterdir()}
    assert {"explorer.html", "metrics.json"} <= written
    assert "displacement.png" not in written


@pytest.mark.parametrize(
    ("changed", "name", "words"),
    [
        ({"dates": "%Q"}, "data.dates", ["is '%Q'", "'%d/%m/%Y'"]),
        ({"csv": {"chunksize": 3}}, "data.csv", ["chunksize", "whole table"]),
        ({"csv": {"iterator": True}}, "data.csv", ["iterator", "whole table"]),
    ],
)
def test_options_that_cannot_be_read_by_are_refused(
    changed, name, words, frame, tmp_path
):
    with refused(name, *words):
        load(frame, tmp_path, **changed)


def test_a_mark_at_the_end_of_each_line_is_told_with_what_mends_it(frame, tmp_path):
    head, *rows = frame.to_csv(index=False).splitlines()
    path = tmp_path / "ends.csv"
    path.write_text("\n".join([head, *(f"{row}," for row in rows)]))
    options = {"path": str(path), **COLUMNS}
    with refused("data.path", "'data.csv={index_col: False}'"):
        sources.load("table", **options)
    dataset = sources.load("table", csv={"index_col": False}, **options)
    assert dataset.columns == ("first", "second")


def test_a_remedy_can_be_typed_as_it_is(frame, tmp_path):
    name = 'net, "income" (EUR)'
    many = pd.concat([frame] * 2, ignore_index=True).rename(columns={"first": name})
    many["shop"] = [f"s{row}" for row in range(len(many))]
    many[name] = [str(row) if row % 3 else f"no{row}" for row in range(len(many))]
    with pytest.raises(InputError) as raised:
        load(many, tmp_path)
    (word,) = [word for word in shlex.split(raised.value.remedy) if "leave_out" in word]
    composed = compose([*NEEDED, word.rstrip(".")])
    assert composed["data"]["leave_out"] == [name]
    options = {"header": None, "dtype": {"shop": "str"}, "sep": "\t"}
    (word,) = shlex.split(csv_options(options))
    assert compose([*NEEDED, word])["data"]["csv"] == {**options, "sep": r"\t"}
    options = {"na_values": ["NaN", "inf", "true", "null", "\\", 'a\\"b', "${x}", "-"]}
    (word,) = shlex.split(csv_options(options))
    assert compose([*NEEDED, word])["data"]["csv"] == options


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("cell", ["inf", "NaN "])
def test_what_stands_for_missing_values_can_be_told(ending, cell, frame, tmp_path):
    frame.loc[3, "first"] = np.inf
    if cell != "inf":
        frame["first"] = frame["first"].astype(str).replace("inf", cell)
    with pytest.raises(InputError) as raised:
        load(frame, tmp_path, ending)
    (word,) = [x for x in shlex.split(raised.value.remedy) if x.startswith("data.csv=")]
    csv = compose([*NEEDED, word.rstrip(";")])["data"]["csv"]
    dataset = load(frame, tmp_path, ending, csv=csv, missing="drop")
    assert [*map(len, dataset.slices)] == [11, 12, 12]


@pytest.mark.parametrize("known", [-999, {"first": -999}])
def test_a_number_that_stands_for_missing_values_needs_no_list(known, frame, tmp_path):
    frame.loc[3, "first"] = -999
    options = {"csv": {"na_values": known}, "missing": "drop"}
    dataset = load(frame.assign(kind="x"), tmp_path, **options)
    assert [*map(len, dataset.slices)] == [11, 12, 12]
    with refused("data.path", '{na_values: [-999, "?"]}'):
        load(frame.replace({"first": {-999: "?"}}), tmp_path, **options)


def test_large_ids_that_empty_cells_would_round_are_refused(frame, tmp_path):
    members = {name: 2**53 + 2 * row for row, name in enumerate(frame["shop"].unique())}
    frame["shop"] = frame["shop"].map(members).astype("Int64")
    frame.loc[1, "shop"] = None
    with refused("data.id", "'shop'", "rounded", "'data.csv={dtype: {shop: str}}'"):
        load(frame, tmp_path)
    with refused("data.id", "rounded", "{dtype: {shop: str}}"):
        load(
            frame.drop(columns="month").assign(month=1),
            tmp_path,
            csv={"dtype": "float"},
        )
    unspeakable = frame.rename(columns={"shop": "größe (cm)"}), tmp_path
    with refused("data.id", "rounded", "'data.csv={dtype: str}'"):
        load(*unspeakable, id="größe (cm)")
    for *table, shop, types in (
        (*unspeakable, "größe (cm)", "str"),
        (frame, tmp_path, "shop", {"shop": "str"}),
    ):
        dataset = load(*table, id=shop, csv={"dtype": types})
        assert str(2**53 + 4) in {*map(str, dataset.ids[0])}


def test_parts_of_a_long_column_are_of_one_type(frame, tmp_path, monkeypatch):
    frame["shop"] = [f"{i}" for i in range(11)] + ["s"] + [*map(str, range(12))] * 2
    whole = load(frame, tmp_path).relations
    read_csv, warned = pd.read_csv, []

    def in_parts(path, **options):  # as pandas reads more than 100,000 rows
        table = read_csv(path, **options)
        if not options.get("low_memory", True):
            return table
        warned.append("mixed")
        warnings.warn("mixed", pd.errors.DtypeWarning, stacklevel=1)
        later = table["shop"][12:].astype(int)
        return table.assign(shop=[*table["shop"][:12], *later])

    monkeypatch.setattr(pd, "read_csv", in_parts)
    assert load(frame, tmp_path).relations == whole
    assert warned
