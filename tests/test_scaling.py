import dataclasses
import warnings
from typing import Any

import jax
import numpy as np
import pytest
import scipy.sparse
from helpers import NEIGHBORS, assert_same_maps, make_data, refused
from sklearn.datasets import load_digits, load_wine
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

import aljax
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.graph.slices import read_slice, read_slices
from aljax.spreads import warn_of_columns

pytestmark = pytest.mark.usefixtures("as_users_run_it")
SIZES = (41, 48, 45)
UNITS = [1.0, 10.0, 1e4, 0.1, 1.0]
RAW = [
    x.astype(float) * UNITS + [0.0, 5.0, -1e5, 3.0, t]
    for t, x in enumerate(make_data((*SIZES, 44)))
]
NEW, SLICES = RAW[3], RAW[:3]
IDS = [[f"m{i}" for i in range(size)] for size in (*SIZES, 44)]
KEY = jax.random.key(0)
KINDS = {"standard": StandardScaler, "robust": RobustScaler}


def lay_out(slices=SLICES, relations: Any = IDS[:3], **settings: Any) -> Any:
    configs: Any = {
        "graph": GraphConfig(n_neighbors=NEIGHBORS),
        "layout": LayoutConfig(n_epochs=20),
        "alignment": AlignmentConfig(alignment_window_size=2),
    }
    return aljax.fit(slices, relations, key=KEY, **configs | settings)


@pytest.mark.parametrize(("how", "by"), [("standard", "all"), ("robust", "slice")])
def test_a_model_scales_as_scikit_learn_does_and_answers_in_the_users_units(
    how, by, tmp_path
):
    groups = [np.vstack(SLICES)] * 3 if by == "all" else SLICES
    scalers = [KINDS[how]().fit(group) for group in groups]
    parts = zip(scalers, SLICES, strict=True)
    before: Any = lay_out([scaler.transform(x) for scaler, x in parts])
    made: Any = lay_out(scale=how, scale_by=by)
    made.save(tmp_path / "maps.aljax")
    fitted = aljax.load(tmp_path / "maps.aljax")
    assert_same_maps(fitted.maps, before.maps)
    assert_same_maps(fitted.data, before.data)
    rows = NEW[:5] + 0.01
    for t, scaler in enumerate(scalers):
        expected = before.transform(scaler.transform(rows), slice=t)
        np.testing.assert_array_equal(fitted.transform(rows, slice=t), expected)
        sparse = scipy.sparse.csr_matrix(rows)
        np.testing.assert_array_equal(fitted.transform(sparse, slice=t), expected)
    bounds = SLICES[1].min(axis=0), SLICES[1].max(axis=0) - 0.1
    limits = [scalers[1].transform(end[None])[0] for end in bounds]
    read = fitted.inverse_transform(fitted.maps[1], slice=1, bounds=bounds)
    inner = before.inverse_transform(before.maps[1], slice=1, bounds=limits).points
    np.testing.assert_allclose(read.points, scalers[1].inverse_transform(inner))
    assert (read.points <= bounds[1] * (1 + 1e-12) + 1e-9).all()
    for wrong, words in [((7, 5), "(7, 5)"), (([1, 2], 3), "shape (2,)")]:
        with refused("bounds", words):
            fitted.inverse_transform(fitted.maps[1], slice=1, bounds=wrong)
    scaler = scalers[0] if by == "all" else KINDS[how]().fit(NEW)
    longer: Any = fitted.update(NEW, IDS[3], key=KEY)
    expected = before.update(scaler.transform(NEW), IDS[3], key=KEY)
    assert_same_maps(longer.maps, expected.maps)
    if by == "all":
        sparse = read_slice(scipy.sparse.csr_matrix(NEW), "new")
        added, _ = longer.scaling.extended(sparse)
        np.testing.assert_array_equal(added.dense, longer.data[3])
    with refused("precomputed_knn", "scaled columns", "units"):
        fitted.update(NEW, IDS[3], key=KEY, precomputed_knn=(NEW, NEW))
    shorter: Any = fitted.update(NEW, IDS[3], key=KEY, keep=2)
    assert len(shorter.scaling.columns) == 2
    np.testing.assert_array_equal(
        shorter.transform(NEW, slice=0), longer.transform(NEW, slice=2)
    )


@pytest.mark.parametrize(
    "scaler",
    [StandardScaler(), StandardScaler(with_std=False), MinMaxScaler((-1, 2))],
    ids=["standard", "center", "range"],
)
def test_fitted_transformers_are_read_off(scaler):
    scaler.fit(np.vstack(SLICES))
    rows, scaling = aljax.scale(SLICES, scaler)
    assert scaling is not None
    for part, raw, units in zip(rows, SLICES, scaling.columns, strict=True):
        np.testing.assert_allclose(part, scaler.transform(raw), atol=1e-12)
        np.testing.assert_allclose(units.undo(part), raw, atol=1e-9)
    again, _ = aljax.scale(SLICES, scaling)
    assert_same_maps(again, rows)


def test_transformers_that_cannot_be_read_off_are_refused():
    whole = np.vstack(SLICES)
    for scaler in (StandardScaler(), PowerTransformer().fit(whole), len, np.ones(5)):
        with refused("scale", type(scaler).__name__):
            aljax.scale(SLICES, scaler)
    with refused("scale", "MinMaxScaler"):
        aljax.scale(SLICES, MinMaxScaler(clip=True).fit(whole))
    with refused("scale", "4 columns"):
        aljax.scale(SLICES, StandardScaler().fit(whole[:, :4]))
    with refused("scale", "'standrad'", "`standard`"):
        aljax.scale(SLICES, "standrad")
    with refused("scale_by", "4 to 5 columns", 'scale_by="slice"'):
        aljax.scale([SLICES[0], SLICES[1][:, :4]])
    with refused("scale", "precomputed_knn", "aljax.scale"):
        lay_out(scale="standard", precomputed_knn=[None] * 3)
    distances = np.abs(SLICES[0][:, :1] - SLICES[0][:, 0])
    with refused("scale", "slice 0"):
        precomputed = GraphConfig(metric="precomputed")
        aljax.fit([distances], key=KEY, graph=precomputed, scale="standard")


def with_gaps() -> list[np.ndarray]:
    gaps = [x.copy() for x in SLICES]
    gaps[1][[3, 9], 2] = np.nan
    gaps[2][:, 0] = np.nan
    return gaps


def test_gaps_are_filled_by_medians_of_all_rows_or_of_a_slices():
    gaps = with_gaps()
    filled, scaling = aljax.scale(gaps, None, missing="median")
    assert scaling is not None
    whole = SimpleImputer(strategy="median").fit(np.vstack(gaps))
    for part, raw in zip(filled, gaps, strict=True):
        np.testing.assert_array_equal(part, whole.transform(raw))
    filled, scaling = aljax.scale(gaps, None, by="slice", missing="median")
    assert filled[1][3, 2] == np.nanmedian(gaps[1][:, 2])
    assert filled[2][0, 0] == whole.statistics_[0]  # the slice has no value there
    (new,) = read_slices([NEW * [np.nan, 1, 1, 1, 1]], missing="median")
    assert scaling is not None
    rows: Any = scaling.extended(new)[0].content  # nor has this one
    assert (rows[:, 0] == whole.statistics_[0]).all()
    fitted: Any = lay_out(gaps, scale="standard", missing="median")
    standard = StandardScaler().fit(whole.transform(np.vstack(gaps)))
    plain = lay_out([standard.transform(whole.transform(x)) for x in gaps])
    assert_same_maps(fitted.maps, plain.maps)
    np.testing.assert_array_equal(fitted.transform(gaps[2]), fitted.maps[2])
    longer = fitted.update(np.where(NEW > 11, np.nan, NEW), IDS[3], key=KEY)
    assert np.isfinite(longer.data[3]).all()
    with refused("missing", "column 0"):
        aljax.scale([x * [np.nan, 1, 1, 1, 1] for x in gaps], None, missing="median")


def test_gaps_of_distances_are_not_filled():
    apart = [np.linalg.norm(x[:, None] - x, axis=2) for x in SLICES]
    for missing, scale, name in (
        ("median", None, "missing"),
        ("error", "robust", "scale"),
    ):
        with refused(name, "slice 0", "no columns"):
            lay_out(
                apart,
                graph=GraphConfig(n_neighbors=NEIGHBORS, metric="precomputed"),
                scale=scale,
                missing=missing,
            )


def test_gaps_are_told_with_their_place_and_number():
    with refused("slices[1]", "slice 1 ('b')", "row 3", "column 2", "id 'm3'"):
        lay_out(with_gaps(), slice_labels=[*"abc"])
    with refused("slices[1]", "47 such values in 2 slices", 'missing="median"'):
        lay_out(with_gaps())
    worse = [*SLICES[:2], np.where(SLICES[2] > 11, np.inf, SLICES[2])]
    with refused("slices[2]", "inf", "put NaN there"):
        lay_out(worse, missing="median")
    plain = lay_out(scale="none")
    fill = 'fit with `missing="median"`, which fills new rows, too'
    with refused("new_rows", fill):
        plain.transform(with_gaps()[1])
    with refused("new_slice", fill):
        plain.update(with_gaps()[1], IDS[1], key=KEY)
    model = aljax.AlignedUMAP(n_neighbors=NEIGHBORS, random_state=0, n_epochs=5)
    with refused("slices[1]", "id 'm3'"):
        model.fit(with_gaps(), relations=IDS[:3])


def test_frames_name_their_columns_in_errors_and_answers():
    pandas = pytest.importorskip("pandas", reason="pip install 'aljax[frames]'")
    names = [*"vwxyz"]
    frames = [pandas.DataFrame(x.copy(), columns=names) for x in SLICES]
    scaler = StandardScaler().fit(pandas.concat(frames)[names[::-1]])
    fitted: Any = lay_out(frames, scale=scaler)
    for scaled, plain in zip(fitted.data, aljax.scale(SLICES)[0], strict=True):
        np.testing.assert_allclose(scaled, plain, rtol=1e-9, atol=1e-12)
    answer = fitted.inverse_transform(fitted.maps[0][:2], slice=0.5).to_frame()
    assert [*answer.columns] == names
    again = fitted.transform(answer[names[::-1]], slice=0)
    np.testing.assert_array_equal(again, fitted.transform(answer.to_numpy(), slice=0))
    frames[1].loc[3, "x"] = np.nan
    with refused("slices[1]", "column 2 ('x')"):
        lay_out(frames)
    nullable = [frame.convert_dtypes() for frame in frames]
    fitted = lay_out(nullable, scale="none", missing="median")
    assert np.isfinite(fitted.data[1]).all()


def test_sparse_rows_are_scaled_without_a_center():
    dense = [np.where(x > 0, x, 0) for x in SLICES]
    sparse = [*map(scipy.sparse.csr_matrix, dense)]
    rows, scaling = aljax.scale(sparse)
    assert scaling is not None
    expected = StandardScaler(with_mean=False).fit_transform(np.vstack(dense))
    np.testing.assert_allclose(scipy.sparse.vstack(rows).toarray(), expected)
    undone = scaling.columns[0].undo(rows[0])
    np.testing.assert_allclose(undone.toarray(), dense[0])
    still = LayoutConfig(n_epochs=0)
    fitted = lay_out(sparse, scale="standard", layout=still)
    np.testing.assert_array_equal(fitted.transform(dense[0], slice=0), fitted.maps[0])
    with refused("scale", "sparse", "with_mean"):
        whole = StandardScaler().fit(np.vstack(dense))
        aljax.scale(sparse[:1], whole)


def test_gaps_of_dense_rows_are_filled_beside_sparse_ones():
    gaps = with_gaps()
    slices = [gaps[0], scipy.sparse.csr_matrix(SLICES[1]), gaps[2]]
    imputer = SimpleImputer(strategy="median")
    whole = imputer.fit(np.vstack([gaps[0], SLICES[1], gaps[2]]))
    filled, scaling = aljax.scale(slices, None, missing="median")
    assert scaling is not None
    np.testing.assert_array_equal(scaling.columns[1].fill, whole.statistics_)
    for t in (0, 2):
        np.testing.assert_array_equal(filled[t], whole.transform(gaps[t]))
    (scaled, *_), _ = aljax.scale(slices, "standard", missing="median")
    parts = [whole.transform(gaps[0]), SLICES[1], whole.transform(gaps[2])]
    standard = StandardScaler(with_mean=False).fit(np.vstack(parts))
    expected: Any = standard.transform(parts[0])
    np.testing.assert_allclose(scaled, expected)
    filled, _ = aljax.scale(slices, None, by="slice", missing="median")
    assert filled[2][0, 0] == whole.statistics_[0]  # the slice has no value there


@pytest.mark.parametrize("by", ["all", "slice"])
def test_quartiles_are_those_of_the_values_that_are_there(by):
    gaps = with_gaps()
    for x in gaps:
        x[: len(x) // 2 + 1, 1] = np.nan
    rows, scaling = aljax.scale(gaps, "robust", by=by, missing="median")
    assert scaling is not None
    groups = [np.vstack(gaps)] * 3 if by == "all" else gaps
    for t, group in enumerate(groups):
        low, high = np.nanpercentile(group[:, 1], [25, 75])
        assert scaling.columns[t].unit[1] == pytest.approx(high - low)
        assert (rows[t][: len(gaps[t]) // 2 + 1, 1] == 0).all()
    assert np.isfinite(np.vstack(rows)).all()


def test_rows_of_a_slice_are_found_in_a_narrower_type():
    whole = [np.round(x) for x in SLICES]
    fitted = lay_out(whole, scale="standard")
    assert (np.float32(whole[1]) == whole[1]).all()
    placed = fitted.transform(np.float32(whole[1]), slice=1)
    np.testing.assert_array_equal(placed, fitted.transform(whole[1], slice=1))


def test_rounding_of_units_does_not_carry_rows_beyond_bounds():
    fitted = lay_out([np.float32(x) for x in SLICES], scale="standard")
    far = 20 * make_data((60,), features=2)[0]
    lows = np.arange(5) / 10
    for low, high in ((0.1, 0.7), (lows, jax.numpy.asarray(lows + 0.6))):
        points = fitted.inverse_transform(far, slice=1, bounds=(low, high)).points
        assert points.dtype == np.float32
        assert (np.asarray(points) >= np.float32(low)).all()
        assert (np.asarray(points) <= np.float32(high)).all()

    @jax.jit
    def traced(high):
        return fitted.inverse_transform(far, bounds=(0, high)).points

    assert (np.asarray(traced(0.7)) <= np.float32(0.7)).all()


def test_units_of_each_slice_are_not_those_of_other_slices():
    _, scaling = aljax.scale(SLICES, "standard", by="slice")
    for by in ("all", "slice"):
        with refused("scale", "3 slices"):
            aljax.scale(SLICES, scaling, by=by)
    assert scaling is not None
    part, _ = aljax.scale(SLICES[:1], scaling[:1])
    np.testing.assert_array_equal(part[0], scaling.columns[0].apply(SLICES[0]))


def test_constant_columns_keep_their_unit_and_types_stay():
    data = [np.float32(np.column_stack([x, np.full(len(x), 7)])) for x in SLICES]
    rows, scaling = aljax.scale(data, by="slice")
    assert scaling is not None
    assert {part.dtype for part in rows} == {np.dtype(np.float32)}
    assert [units.unit[-1] for units in scaling.columns] == [1, 1, 1]
    assert not rows[0][:, -1].any()


def test_estimators_scale_as_fit_does(tmp_path):
    whole = StandardScaler().fit(np.vstack(SLICES))
    settings: Any = {"n_neighbors": NEIGHBORS, "random_state": 0, "n_epochs": 20}
    model = aljax.AlignedUMAP(scale=whole, missing="median", **settings)
    model.fit(SLICES, relations=IDS[:3]).save(tmp_path / "model.aljax")
    loaded = aljax.AlignedUMAP.load(tmp_path / "model.aljax")
    plain = aljax.AlignedUMAP(**settings)
    plain.fit([whole.transform(x) for x in SLICES], relations=IDS[:3])
    assert_same_maps(loaded.embeddings_, plain.embeddings_)
    gap = np.vstack([NEW[:3], [np.nan, *NEW[0][1:]]])
    np.testing.assert_array_equal(
        loaded.transform(gap)[:3], plain.transform(whole.transform(NEW[:3]))
    )
    np.testing.assert_array_equal(
        loaded.mappers_[1].transform(SLICES[1]), loaded.embeddings_[1]
    )
    np.testing.assert_array_equal(
        loaded.mappers_[-1].transform(gap), loaded.transform(gap)
    )
    with refused("X", "scaled"):
        loaded.mappers_[1].update(NEW)
    loaded.update(NEW, relations=IDS[3])
    plain.update(whole.transform(NEW), relations=IDS[3])
    assert_same_maps(loaded.embeddings_, plain.embeddings_)


@pytest.mark.parametrize("part", ["center", "unit"])
def test_units_that_do_not_fit_the_data_are_refused(part, tmp_path):
    fitted = lay_out(scale="standard")
    wrong = dataclasses.replace(fitted.scaling.columns[0], **{part: np.ones(4)})
    scaling = dataclasses.replace(fitted.scaling, columns=(wrong,) * 3)
    dataclasses.replace(fitted, scaling=scaling).save(tmp_path / "maps.aljax")
    with refused("path", "`scaling`"):
        aljax.load(tmp_path / "maps.aljax")


def told(slices: Any, ids: Any = None, scale: Any = None, **how: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_columns(read_slices(slices, **how), ids, scale)
    return [str(one.message) for one in caught]


def test_columns_that_decide_alone_are_warned_of_once():
    wines = load_wine(return_X_y=True)[0]
    (said,) = told([wines])
    assert "1 of 13 columns (12)" in said
    assert 'scale="standard"' in said
    assert len(told(SLICES)) == 1
    # A process of several may have nothing but slices without rows.
    assert not told([wines[:0]], [[]], "standard", part=True)
    with pytest.warns(UserWarning, match="hardly count") as caught:
        lay_out()
    assert [one.filename for one in caught] == [__file__]
    bare: Any = {"n_neighbors": NEIGHBORS, "n_epochs": 0, "random_state": 0}
    single = aljax.UMAP(**bare)
    with pytest.warns(UserWarning, match=r"\(12\).*StandardScaler\(\), UMAP"):
        single.fit(wines)
    single.update(wines[:3])  # not told again
    make_pipeline(StandardScaler(), single).fit(wines)
    assert not told([wines], metric="cosine")
    ranks = np.random.default_rng(0).normal(size=(60, 40)) * ([20] * 2 + [1] * 38)
    (said,) = told([ranks])
    assert "90% of the squared distances between rows come from 2 of 40" in said
    assert_same_maps(lay_out(scale="none").maps, lay_out([*SLICES], scale="none").maps)


def test_codes_and_numbers_of_rows_are_warned_of():
    rng = np.random.default_rng(0)
    ids = [[*rng.permutation(30)] for _ in range(3)]
    code = [7 * np.array(members)[:, None] + 4000 for members in ids]
    line = [np.arange(30)[:, None] + 30 * t for t in range(3)]
    noise = 1e3 * rng.normal(size=(3, 30, 2))
    coded = [*np.concatenate([noise, code], axis=2)]
    for scale in (None, "standard"):
        (said,) = told(coded, ids, scale=scale)
        assert "column 2 is a code" in said
    coded[0][3, 2] = np.nan
    (said,) = told(coded, ids, scale="robust", missing="median")
    assert "column 2 is a code" in said
    assert not told([*np.concatenate([noise, code], axis=2)])
    (said,) = told([*np.concatenate([line, noise], axis=2)])
    assert "column 0 numbers the rows" in said
    (said,) = told([x[2:] for x in np.concatenate([line, noise], axis=2)])
    assert "column 0 numbers the rows" in said  # of which some are left out
    few = [[row % 6 for row in range(30)]] * 3  # members, each in many rows
    (said,) = told([*np.concatenate([line, noise], axis=2)], few)
    assert "column 0 numbers the rows" in said
    (said,) = told(code, ids)
    assert said.endswith(
        "always the same. Rows are compared by nothing else: add columns."
    )


@pytest.mark.parametrize("scale", [None, "standard"])
def test_a_cell_far_out_is_named_where_its_column_would_be(scale):
    far = [*np.random.default_rng(0).normal(size=(3, 60, 4))]
    assert not told(far, scale=scale)
    far[1][7, 2] = 99999
    (said,) = told(far, scale=scale)
    assert "column 2, such as 99999 in row 7 of slice 1" in said
    assert 'scale="robust"' in said
    assert not told(far, scale="robust")


def test_rows_that_are_all_alike_are_warned_of():
    (said,) = told([np.ones((20, 3)), 2 * np.ones((20, 3))])
    assert "do not differ" in said


def test_usual_data_are_not_warned_of():
    images: Any = load_digits(return_X_y=True)[0]
    standard = StandardScaler().fit_transform(load_wine(return_X_y=True)[0])
    rotated = np.linalg.svd(images - images.mean(axis=0), full_matrices=False)[0]
    embedded = rotated[:, :61]  # three pixels are always blank
    for data in (images, standard, embedded, images[:, :3], images[:20]):
        assert not told([data, data], [range(len(data))] * 2)
        assert not told([data, data], scale="standard")
