import dataclasses
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from aljax.config import AlignmentConfig, LayoutConfig
from aljax.embedding import AlignedEmbedding
from aljax.fit import fit
from aljax.inverse import inverse_transform
from aljax.layout.coordinates import coordinates_of
from aljax.layout.problem import layout_params
from aljax.metrics import trustworthiness
from aljax.single_map import UMAP

pytestmark = pytest.mark.usefixtures("as_users_run_it")
ROWS, FREE = 80, np.arange(80) < 8
TRUTH = np.random.default_rng(0).uniform(-1, 1, (ROWS, 2))
RADIUS = np.linalg.norm(TRUTH, axis=1).mean()
NOISE = np.random.default_rng(1).normal(size=(ROWS, 5))
DATA = TRUTH @ np.random.default_rng(2).normal(size=(2, 5)) + 0.02 * NOISE
SAME = {i: i for i in range(ROWS)}
EARLY = LayoutConfig(n_epochs=30)


@cache
def pinned(scale: float, shift: float = 0.0, **settings: Any) -> Any:
    """A square with all rows but eight pinned, of any size and place; and its start."""
    start = np.where(FREE[:, None], 0.01 * TRUTH, TRUTH) * scale + shift
    calls: Any = {"key": jax.random.key(0), **settings}
    return fit([DATA], start=[start], pinned=[~FREE], **calls), start


@pytest.mark.parametrize(("scale", "shift"), [(0.1, 0.0), (4.0, 1e6)])
def test_free_rows_lie_among_pinned_ones_of_any_scale(scale, shift, tmp_path):
    fitted, start = pinned(scale, shift)
    (y,) = fitted.maps
    np.testing.assert_array_equal(y[~FREE], start[~FREE].astype(y.dtype))
    np.testing.assert_array_equal(fitted.transform(DATA), y)

    def miss(positions: Any, rows: Any = FREE) -> Any:
        """How far positions are from the truth, in radii of it."""
        away = (positions - shift) / scale - TRUTH[rows]
        return np.linalg.norm(away, axis=1).mean() / RADIUS

    assert miss(y[FREE]) < 0.2  # above 1 where a unit of the layout is 1
    # Of few epochs: many make what the start's rounding changes as large as the map.
    usual = pinned(10.0, layout=EARLY)[0].maps[0][FREE] / 10
    early = pinned(scale, shift, layout=EARLY)[0].maps[0][FREE]
    np.testing.assert_allclose((early - shift) / scale, usual, atol=2e-3)
    assert miss(fitted.transform(DATA[FREE] + 1e-3)) < 0.3
    inverse = fitted.inverse_transform(start[~FREE])
    assert np.abs(inverse.points - DATA[~FREE]).mean() < 0.1
    assert inverse.inside.mean() > 0.7
    units, curve = fitted.coordinates, {k: getattr(fitted.params, k)[0] for k in "ab"}
    queries, inner = (units.apply(x.astype(float)) for x in (start[~FREE], y))
    plain = inverse_transform(queries, inner, DATA, **curve)
    np.testing.assert_allclose(inverse.points, plain.points, atol=1e-3)
    held = {"positions": inner, "coordinates": None}
    placed = dataclasses.replace(fitted.frame(0), **held).transform(DATA + 1e-3)
    found = units.apply(fitted.transform(DATA + 1e-3))
    np.testing.assert_allclose(found, placed, atol=1e-3)
    fitted.save(tmp_path / "maps.aljax")
    loaded = AlignedEmbedding.load(tmp_path / "maps.aljax")
    longer = loaded.update(DATA, SAME, key=jax.random.key(1))
    np.testing.assert_array_equal(longer.maps[0], y)
    assert miss(longer.maps[1], np.arange(ROWS)) < 0.25
    double = y + 1e-9 * scale * TRUTH  # as of a fit in double precision
    loaded = dataclasses.replace(loaded, maps=[double], layout=LayoutConfig(n_epochs=0))
    longer = loaded.update(DATA, SAME, key=jax.random.key(1))
    np.testing.assert_array_equal(longer.maps[0], double)
    moved = loaded.update(DATA, SAME, key=jax.random.key(1), move=1)
    np.testing.assert_array_equal(moved.maps[0][~FREE], double[~FREE])


def test_progress_and_layouts_of_no_epochs_have_the_coordinates_of_pinned_rows():
    shown: list[Any] = []
    fitted, _ = pinned(1.0, 7.0)
    pinned.__wrapped__(1.0, 7.0, progress=shown.append)
    np.testing.assert_allclose(shown[-1].unstack()[0], fitted.maps[0], rtol=1e-5)
    fitted, start = pinned(1.0, 7.0, layout=LayoutConfig(n_epochs=0))
    np.testing.assert_allclose(fitted.maps[0], start, rtol=1e-6)


def test_the_unit_is_as_wide_as_maps_of_so_many_rows_usually_are():
    params = layout_params(
        LayoutConfig(a=[1.0, 2.0], b=0.5), AlignmentConfig(), slices=2
    )
    start, few = [100 * TRUTH, 100 * TRUTH[:40] + 7], np.arange(40) % 3 == 0
    units: Any = coordinates_of(start, [~FREE, few], params)
    fixed = np.concatenate([start[0][~FREE], start[1][few]])
    np.testing.assert_allclose(units.center, fixed.mean(axis=0))
    spread = np.sqrt(((fixed - fixed.mean(axis=0)) ** 2).mean())
    usual = 1 / 1.5 * 0.23 * np.sqrt(60)  # of 60 rows on average, where 1.5 d = 1
    np.testing.assert_allclose(units.unit, spread / usual)
    assert coordinates_of(start, [None, None], params) is None


def test_one_pinned_row_leaves_the_unit():
    held = [np.arange(ROWS) == 3]
    (y,) = fit([DATA], key=jax.random.key(0), start=[TRUTH], pinned=held).maps
    np.testing.assert_array_equal(y[3], TRUTH[3].astype(y.dtype))
    assert 1 < y.std() < 10


@pytest.mark.parametrize(("scale", "shift"), [(1e4, 0.0), (1.0, 1e6), (1e12, -1e15)])
def test_starts_far_from_the_scale_of_a_layout_are_brought_to_it(scale, shift):
    start = np.random.default_rng(3).uniform(-9, 9, (ROWS, 2)) * scale + shift
    model = UMAP(init=start, random_state=0).fit(DATA)
    assert 1 < model.embedding_.std() < 10
    assert np.abs(model.embedding_.mean(axis=0)).max() < 10
    assert trustworthiness(DATA, model.embedding_) > 0.9  # .5 where points do not meet
    model.set_params(n_epochs=0).fit(DATA)
    np.testing.assert_allclose(model.embedding_, start, rtol=1e-6)


@pytest.mark.parametrize("part", ["center", "unit"])
def test_coordinates_that_do_not_fit_are_refused(part, tmp_path):
    fitted, _ = pinned(1.0)
    wrong = dataclasses.replace(fitted.coordinates, **{part: np.full(2, np.nan)})
    dataclasses.replace(fitted, coordinates=wrong).save(tmp_path / "maps.aljax")
    with pytest.raises(ValueError, match="`coordinates`"):
        AlignedEmbedding.load(tmp_path / "maps.aljax")
