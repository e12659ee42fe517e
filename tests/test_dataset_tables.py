from pathlib import Path

import numpy as np
import pytest
from helpers import make_data, refused

from experiments.data import sources
from experiments.data.dataset import related_by_ids
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
    settings = ["data.slice=year", "data.id=name", "layout.n_epochs=2", "name=swept"]
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
    with refused("row_ids", "slice 0 (1985)", "'a'"):
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
    monkeypatch.chdir(tmp_path)
    settings = ["data.slice=year", "data.id=name", "layout.n_epochs=2"]
    settings += ["graph.n_neighbors=5", "compilation_cache=null"]
    assert main(["data=table", f"data.path={table}", *settings]) == 0
    assert "1985" in capsys.readouterr().out
    with np.load("results/table/embedding.npz") as arrays:
        assert arrays["slice_0"].shape == (28, 2)
        assert arrays["ids_0"].dtype.kind == "U"


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
