import sys

import numpy as np
import pytest
from helpers import SIZES, make_data, make_maps, refused

from aljax.embedding import to_anndata, to_frame

IDS = [np.array([f"id {row}" for row in range(size)]) for size in SIZES]
LABELS = [np.arange(size) % 3 for size in SIZES]
pytestmark = pytest.mark.usefixtures("as_users_run_it")


def test_the_long_table_has_a_line_for_each_point():
    maps = make_maps()
    frame = to_frame(maps, ids=IDS, labels=LABELS, ink=[np.ones(n) for n in SIZES])
    assert [*frame] == ["slice", "row", "id", "label", "x", "y", "ink"]
    assert len(frame) == sum(SIZES)
    line = frame[(frame["slice"] == 1) & (frame["row"] == 7)].iloc[0]
    assert (line["id"], line["label"]) == ("id 7", 1)
    np.testing.assert_array_equal([line["x"], line["y"]], maps[1][7])


@pytest.mark.parametrize("components", [1, 3, 5])
def test_axes_of_any_number_have_names(components):
    frame = to_frame(make_maps(components=components))
    axes = [f"component_{i}" for i in range(5)] if components == 5 else [*"xyz"]
    assert [*frame] == ["slice", "row", *axes[:components]]


def test_one_array_stands_for_every_slice():
    maps = make_maps((5, 5))
    frame = to_frame(maps, labels=np.arange(5))
    assert frame["label"].tolist() == [*range(5), *range(5)]


def test_csv_and_parquet_hold_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow", reason="pip install 'aljax[frames]'")
    frame = to_frame(make_maps(), ids=IDS)
    frame.to_parquet(tmp_path / "maps.parquet")
    frame.to_csv(tmp_path / "maps.csv", index=False)
    pandas.testing.assert_frame_equal(
        pandas.read_parquet(tmp_path / "maps.parquet"), frame
    )
    read = pandas.read_csv(tmp_path / "maps.csv")
    np.testing.assert_allclose(read["x"], frame["x"], rtol=1e-12)
    assert [*read] == [*frame]


def test_anndata_holds_data_positions_and_the_rest():
    pytest.importorskip("anndata", reason="pip install 'aljax[anndata]'")
    maps, data = make_maps(), make_data()
    cells = to_anndata(to_frame(maps, labels=LABELS, z=IDS), data, 2)
    np.testing.assert_array_equal(cells.obsm["X_umap"], np.concatenate(maps))
    np.testing.assert_array_equal(cells.X, np.concatenate(data))
    assert [*cells.obs] == ["slice", "row", "label", "z"]
    assert cells.obs_names[SIZES[0]] == "1-0"
    without = to_anndata(to_frame(maps), [*data[:2], None], 2)
    assert without.X is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"ids": IDS[:2]}, "2 arrays for 3 slices"),
        ({"labels": [*LABELS[:2], LABELS[0]]}, "(41,) for slice 2"),
        ({"labels": np.arange(41)}, "(41,) for slice 1"),
    ],
)
def test_what_does_not_fit_is_refused(columns, said):
    with refused(next(iter(columns)), said):
        to_frame(make_maps(), **columns)


def test_a_column_of_the_table_is_not_replaced():
    with pytest.raises(ValueError, match="`x` is a column of the table already"):
        to_frame(make_maps(), x=IDS)


def test_a_missing_package_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas is not .*pip install 'aljax\[fr"):
        to_frame(make_maps())


def test_values_that_make_no_column_are_named():
    with refused("ids[0]", "[2] (list) in row 1"):
        to_frame(make_maps(), ids=[[1, [2]]] * len(SIZES))
    with refused("ids", "no value for each row"):
        to_frame(make_maps(), ids=0)  # pyright: ignore[reportArgumentType]


def test_lists_keep_what_they_hold():
    maps = make_maps((3, 3))
    ids = [[("p", 0), ("p", 1), None], [1, "1", float("nan")]]
    frame = to_frame(maps, ids=ids, labels=[[1, 2, 3], [4, 5, 6]], ink=[0, 0.5, 1])
    assert frame["id"].tolist()[:5] == [("p", 0), ("p", 1), None, 1, "1"]
    assert frame["label"].dtype.kind == "i"
    assert frame["ink"].dtype.kind == "f"


def test_ids_keep_their_kind_beside_others():
    maps = [np.zeros((2, 2)), np.zeros((2, 2))]
    frame = to_frame(maps, ids=[np.arange(2), np.array(["a", "b"])])
    assert frame["id"].tolist() == [0, 1, "a", "b"]
