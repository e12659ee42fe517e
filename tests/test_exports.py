import dataclasses
import sys
from typing import Any

import jax
import numpy as np
import pandas
import pytest
import scipy.sparse
from helpers import NEIGHBORS, SIZES, make_data, make_maps, refused

from aljax.config import GraphConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding, to_anndata, to_frame
from aljax.fit import fit
from aljax.graph.slices import Slice, ids_of, read_slices

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


@pytest.fixture(scope="module")
def named() -> AlignedEmbedding:
    """A sequence with ids, labels and names of columns, whose last slice is sparse."""
    frames: list[Any] = [pandas.DataFrame(one) for one in make_data()]
    for t, frame in enumerate(frames):
        frame.columns = [*"abcde"]
        frames[t] = frame[[*("edcba" if t == 1 else "abcde")]]
    layout = LayoutConfig(n_epochs=0, init="random")
    maps = fit(
        frames,
        [[f"id {row}" for row in range(size)] for size in SIZES],
        key=jax.random.key(0),
        graph=GraphConfig(n_neighbors=NEIGHBORS),
        layout=layout,
        slice_labels=[2001, 2002, 2003],
    )
    data = [*maps.data[:2], scipy.sparse.csr_matrix(maps.data[2])]
    return dataclasses.replace(maps, data=data)


def test_a_model_gives_its_names_to_tables(named):
    frame = named.to_frame()
    assert [*frame] == ["slice", "slice_label", "row", "id", "x", "y"]
    assert frame["id"].tolist() == [one for ids in IDS for one in ids]
    assert frame["slice_label"].tolist() == [2001 + t for t in frame["slice"]]
    other = named.to_frame(ids=[np.arange(size) for size in SIZES])
    assert other["id"].tolist() == other["row"].tolist()
    renamed = named.to_frame(slice_labels=["a", "b", "c"])
    assert renamed["slice_label"].tolist() == ["abc"[t] for t in renamed["slice"]]


@pytest.mark.filterwarnings("ignore:The '.*' option is deprecated")  # anndata's
def test_a_model_comes_back_out_of_anndata(named, tmp_path):
    anndata = pytest.importorskip("anndata", reason="pip install 'aljax[anndata]'")
    cells = named.to_anndata()
    assert scipy.sparse.issparse(cells.X)
    np.testing.assert_array_equal(cells.X.toarray(), np.concatenate(make_data()))
    assert [*cells.var_names] == [*"abcde"]
    assert cells.obs["slice_label"].cat.categories.tolist() == ["2001", "2002", "2003"]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    held = anndata.read_h5ad(tmp_path / "cells.h5ad")
    parts = []
    for t in range(3):
        parts.append(held[held.obs["slice"].astype(int) == t].copy())
        parts[t].obs_names = parts[t].obs["id"].astype(str)
    parts[1] = parts[1][:, [*"edcba"]]
    read = read_slices(parts)
    assert ids_of(read) == [*named.ids]
    for one, frame in zip(read, named.data, strict=True):
        assert one.columns == tuple("abcde")
        assert abs(one.features - frame).max() == 0
    with refused("slices[0]", "without X"):
        read_slices([anndata.AnnData(obs=held.obs)])


@pytest.mark.filterwarnings("ignore:The '.*' option is deprecated")  # anndata's
@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        ([7, None, 9], ["7", None, "9"]),
        ([("a", 1), ("a", 2), "b"], ["('a', 1)", "('a', 2)", "b"]),
        (np.array(["2020-01-01", "2020-01-02", "NaT"], "M8[ns]"), None),
        ([1, 2, 3], [1, 2, 3]),
    ],
)
def test_files_of_anndata_hold_ids_of_any_kind(ids, texts, tmp_path):
    anndata = pytest.importorskip("anndata", reason="pip install 'aljax[anndata]'")
    maps = make_maps((3,))
    frame = to_frame(maps, ids=[ids], labels=[[True, None, "b"]])
    cells = to_anndata(frame, [None], 2)
    cells.write_h5ad(tmp_path / "it.h5ad")
    held = anndata.read_h5ad(tmp_path / "it.h5ad").obs
    days = ["2020-01-01 00:00:00", "2020-01-02 00:00:00", None]
    expected = days if texts is None else texts
    for row, expected_text in enumerate(expected):
        text = held["id"].iloc[row]
        assert text == expected_text or (text != text and expected_text is None)
    assert held["label"].tolist()[::2] == ["True", "b"]


def test_repeated_names_of_rows_are_no_ids_of_a_single_slice():
    one = Slice(3, ids=("a", "b", "a"))
    assert ids_of([one]) is None
    assert ids_of([one, one]) == [one.ids] * 2  # refused where they are read
    assert ids_of([one, Slice(3)]) is None


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
