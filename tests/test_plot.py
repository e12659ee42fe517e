import base64
import datetime
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.image
import matplotlib.style
import numpy as np
import pytest
from helpers import SIZES, make_data, make_maps, make_relations, refused
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import aljax
from aljax import plot
from aljax.errors import InputError
from aljax.layout.losses import DensityTerms, LossTerms
from aljax.metrics import neighborhood_preservation
from aljax.plot import film
from aljax.plot.colors import PALETTE, UNKNOWN, color_by, palette
from aljax.plot.maps import LARGE, neighbor_change
from aljax.plot.read import Tracks, read_maps, read_members
from aljax.plot.style import NAME

IDS = [np.arange(size) + 10 * t for t, size in enumerate(SIZES)]
LABELS = [np.arange(size) % 4 for size in SIZES]
INSTALL = "pip install 'aljax[plot]'"
# How colors are seen without one kind of cone (Machado, Oliveira & Fernandes 2009).
SIGHT = {
    "full": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.fixture(scope="module")
def fitted() -> aljax.AlignedUMAP:
    model = aljax.AlignedUMAP(n_neighbors=6, n_epochs=20, random_state=0)
    return model.fit(make_data(), relations=make_relations())


def texts(panel) -> list[Any]:
    return [one for one in panel.texts if one.get_gid() == NAME and one.get_visible()]


def extent(name) -> Any:
    """Where a name stands, without the line to its place."""
    return Text.get_window_extent(name)


def check_names(figure) -> int:
    """Count the names, none of which may touch the frame or another."""
    figure.draw_without_rendering()
    count = 0
    for panel in figure.axes:
        frame = panel.get_window_extent()
        boxes = [extent(one) for one in texts(panel)]
        for i, box in enumerate(boxes):
            assert frame.x0 <= box.x0
            assert box.x1 <= frame.x1
            assert frame.y0 <= box.y0
            assert box.y1 <= frame.y1
            assert not box.count_overlaps(boxes[:i])
        count += len(boxes)
    return count


def colors_of(panel) -> np.ndarray:
    return panel.collections[0].get_facecolors()


def test_slices_share_bounds_and_colors(fitted):
    figure = plot.slices(fitted, LABELS, heading="three")
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert len(panels) == 3
    assert len({panel.get_xlim() for panel in panels}) == 1
    assert len({panel.get_ylim() for panel in panels}) == 1
    assert [len(np.asarray(p.collections[0].get_offsets())) for p in panels] == [*SIZES]
    assert len(np.unique(colors_of(panels[0]), axis=0)) == 4
    (legend,) = figure.legends
    assert [one.get_text() for one in legend.get_texts()] == ["0", "1", "2", "3"]
    assert check_names(figure) >= 3
    assert [panel.get_title() for panel in panels] == ["0", "1", "2"]


def test_of_many_slices_some_are_drawn_and_the_title_says_so(rng):
    maps = [*rng.normal(size=(31, 9, 2))]
    figure = plot.slices(maps, titles=[f"year {t}" for t in range(31)])
    panels = [panel for panel in figure.axes if panel.get_visible()]
    titles = [panel.get_title() for panel in panels]
    assert len({*titles}) == 24
    assert (titles[0], titles[-1]) == ("year 0", "year 30")
    for title, panel in zip(titles, panels, strict=True):
        drawn = np.asarray(panel.collections[0].get_offsets())
        of_slice = maps[int(title.removeprefix("year "))]
        np.testing.assert_array_equal(np.sort(drawn, axis=0), np.sort(of_slice, axis=0))
    assert figure.get_suptitle().startswith("24 of 31 maps")
    assert figure.get_figwidth() * 150 < 2400
    whole = plot.slices(maps, limit=None)
    assert len([panel for panel in whole.axes if panel.get_visible()]) == 31


def test_every_form_of_a_model_is_the_same_picture(fitted):
    forms = [fitted, fitted.maps_, fitted.embeddings_, tuple(fitted.embeddings_)]
    drawn = [plot.points(one, LABELS[1], slice=1) for one in forms]
    alone = plot.points(fitted.embeddings_[1], LABELS[1])
    for figure in [*drawn, alone]:
        np.testing.assert_array_equal(
            figure.axes[0].collections[0].get_offsets(),
            drawn[0].axes[0].collections[0].get_offsets(),
        )


def test_points_draws_where_it_is_told(fitted):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot.points(fitted, LABELS[-1], ax=right) is figure
    assert not left.collections
    assert len(right.collections[0].get_offsets()) == SIZES[-1]
    assert len(right.legend(loc="upper left").get_texts()) == 4
    assert check_names(figure) == 4


def test_long_names_at_the_edge_stay_inside():
    corners = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1], [0.98, 0.98]], 5, axis=0)
    names = np.repeat([f"a very long name {i}" for i in range(5)], 5)
    figure = plot.points(corners.astype(float), names)
    assert check_names(figure) == 5
    small = plot.slices([corners.astype(float)] * 3, names)
    assert check_names(small) > 3


@pytest.mark.parametrize("classes", [2, 10, 11, 40, 41, 256])
def test_any_number_of_classes_has_a_color_each(classes, rng):
    labels = np.arange(300) % classes
    assert len(np.unique(palette(classes), axis=0)) == classes
    figure = plot.points(rng.normal(size=(300, 2)), labels)
    assert len(np.unique(colors_of(figure.axes[0]), axis=0)) == classes
    assert bool(figure.legends) == (classes <= 40)
    check_names(figure)


def test_the_legend_stays_inside_of_the_figure(rng):
    for names in ([*map(str, range(10))], [f"some long name {i}" for i in range(30)]):
        labels = np.array(names)[np.arange(300) % len(names)]
        figure = plot.points(rng.normal(size=(300, 2)), labels)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.axes[0].get_window_extent().y0


def oklab(rgb: np.ndarray) -> np.ndarray:
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(np.clip(rgb, 0, 1) @ np.transpose(to_lms)) @ np.transpose(to_lab)


def closest(rgba: np.ndarray, seen: Any) -> float:
    """The least distance between two colors as they are seen, in OKLab."""
    rgb = rgba[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lab = oklab(linear @ np.transpose(seen))
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    return float(apart[~np.eye(len(lab), dtype=bool)].min())


@pytest.mark.parametrize("kind", SIGHT)
def test_the_default_colors_stay_apart_for_all(kind):
    from matplotlib import colormaps

    ours = closest(palette(len(PALETTE)), SIGHT[kind])
    usual = closest(colormaps["tab10"](np.arange(10))[:, :3], SIGHT[kind])
    assert ours > usual
    assert ours > 0.04  # twice what is just noticed side by side
    assert closest(palette(40), SIGHT[kind]) > 0.04


def test_many_colors_stay_apart_from_each_other_and_from_the_unknown():
    assert closest(palette(40), SIGHT["full"]) > 0.04
    assert closest(palette(256), SIGHT["full"]) > 0.015
    with_gray = np.vstack([palette(40), to_rgba(UNKNOWN)])
    assert closest(with_gray, SIGHT["full"]) > 0.04
    np.testing.assert_array_equal(palette(40)[:20], palette(20))


def test_values_have_a_bar_and_the_unknown_are_gray():
    values = [np.linspace(t, t + 1, size) for t, size in enumerate(SIZES)]
    values[0][0] = np.nan
    figure = plot.slices(make_maps(), values=values)
    bar = figure.axes[-1]
    assert bar.get_ylim() == pytest.approx((values[0][1], values[2][-1]))
    coloring = color_by([np.array(["a", None], object)], None, [2])
    np.testing.assert_allclose(coloring.points[0][1], [200 / 255] * 3 + [1])
    assert coloring.classes == ["a"]


@pytest.mark.parametrize("how", ["labels", "values", "plain"])
def test_large_maps_are_drawn_by_density(rng, how):
    pytest.importorskip("datashader", reason=INSTALL)
    large = rng.normal(size=(LARGE + 1, 2))
    given: dict[str, Any] = {
        "labels": {"labels": (large[:, 0] > 0).astype(int)},
        "values": {"values": large[:, 1]},
        "plain": {},
    }[how]
    panel = plot.points(large, **given).axes[0]
    (image,) = panel.images
    pixels = np.asarray(image.get_array())
    left, right = np.array_split(pixels, 2, axis=1)
    assert (pixels[..., 3] > 0).mean() > 0.1
    if how == "labels":  # y points up and x to the right, as in the map
        hue = [half[..., :3][half[..., 3] > 0].mean(axis=0) for half in (left, right)]
        assert hue[0][2] > hue[0][0]  # blue
        assert hue[1][0] > hue[1][2]  # rose
    asked = plot.points(large[:2000], density=True).axes[0]
    assert asked.images
    assert not asked.collections


def test_a_density_lies_where_its_points_do(rng):
    pytest.importorskip("datashader", reason=INSTALL)
    corner = rng.uniform(size=(500, 2)) * 0.1 + np.array([0.0, 0.9])
    points = np.concatenate([corner, [[1.0, 0.0]]])
    panel = plot.points(points, density=True).axes[0]
    opacity = np.asarray(panel.images[0].get_array())[..., 3]
    half = len(opacity) // 2
    assert opacity[:half, :half].sum() > 10 * opacity[half:, :half].sum()


@pytest.mark.parametrize("components", [1, 3])
def test_maps_of_any_dimension_are_drawn(components):
    figure = plot.slices(make_maps(components=components), LABELS)
    drawn = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert drawn.shape == (SIZES[0], 2)


def test_a_class_is_named_close_to_its_points_or_in_the_legend_alone(rng):
    labels = np.array([f"class number {i}" for i in range(10)])[np.arange(60) % 10]
    figure = plot.slices([rng.normal(size=(60, 2))] * 8, [labels] * 8)
    names = [name for panel in figure.axes for name in texts(panel)]
    assert 8 <= len(names) < 80
    for name in names:
        moved = name.axes.transData.transform([name.xy, name.get_position()])
        assert abs(np.diff(moved[:, 1])) <= 1.5 * extent(name).height
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == sorted({*labels.tolist()})


def test_colors_are_asked_for_as_in_matplotlib():
    classes, points = np.array(["a", "b", "b"]), np.eye(3)[:, :2]

    def drawn(**given) -> list[Any]:
        return colors_of(plot.points(points, **given).axes[0]).tolist()

    def rgba(*names) -> list[Any]:
        order = np.random.default_rng(0).permutation(3)
        return [[*to_rgba(names[row])] for row in order]

    assert drawn(color="k") == rgba("k", "k", "k")
    named = {"b": "tab:red"}
    assert drawn(labels=classes, color=named) == rgba(PALETTE[0], "tab:red", "tab:red")
    assert drawn(labels=classes, color=["r", "g"]) == rgba("r", "g", "g")
    ends = [matplotlib.colormaps["magma"](end) for end in (0.0, 0.5, 1.0)]
    assert drawn(values=[0, 1, 2], cmap="magma") == rgba(*ends)


def test_names_rings_and_lines_are_seen_in_a_dark_style(rng):
    maps = [rng.normal(size=(12, 2)) for _ in range(2)]
    ids, classes = np.arange(12), np.arange(12) % 3
    history = LossTerms(*jnp.ones((3, 2, 2)))
    with matplotlib.style.context("dark_background"):
        figure = plot.compare(maps, labels=[classes] * 2, ids=[ids] * 2, n_neighbors=3)
        figures = figure, plot.loss(history)
    (halo,) = texts(figure.axes[0])[0].get_path_effects()
    rings = np.asarray(figure.axes[0].collections[1].get_edgecolor())
    assert to_hex(halo._gc["foreground"]) == "#000000"
    np.testing.assert_array_equal(rings[0], np.ones(4))
    np.testing.assert_array_equal(figures[1].axes[0].lines[0].get_color(), np.ones(4))


def test_pictures_of_several_maps_are_drawn_into_axes_of_the_user(fitted):
    figure = Figure()
    axes = figure.subplots(2, 2)
    assert plot.slices(fitted, LABELS, ax=axes[0], limit=2) is figure
    two = {"n_neighbors": 5, "ax": axes[1]}
    assert plot.compare(fitted, 0, 1, LABELS, **two) is figure
    assert all(len(panel.collections[0].get_offsets()) for panel in axes.ravel())
    with refused("ax", "has 2 axes", "3 panels"):
        plot.slices(fitted, ax=axes[0])


def test_a_notebook_shows_a_figure():
    picture: Any = plot.points(np.eye(3)[:, :2])
    assert picture._repr_png_().startswith(b"\x89PNG")


def test_titles_are_the_labels_of_the_slices():
    model = aljax.fit(
        make_data(),
        make_relations(),
        key=jax.random.key(0),
        graph=aljax.GraphConfig(n_neighbors=6),
        layout=aljax.LayoutConfig(n_epochs=0),
        slice_labels=["Jan 2020", "Feb 2020", "Mar 2020"],
    )
    for name in (1, "Feb 2020"):
        assert plot.points(model, slice=name).axes[0].get_title() == "Feb 2020"
    both = plot.compare(model, "Jan 2020", "Mar 2020", n_neighbors=5)
    assert [panel.get_title()[:8] for panel in both.axes[:2]] == [
        "Jan 2020",
        "Mar 2020",
    ]
    with refused("second", "'Mai 2020'", "'Mar 2020'"):
        plot.compare(model, 0, "Mai 2020")
    assert plot.points(model, title="").axes[0].get_title() == ""
    shown = [panel.get_title() for panel in plot.slices(model).axes]
    assert shown == ["Jan 2020", "Feb 2020", "Mar 2020"]


def test_loss_has_a_line_for_each_term(fitted):
    (axis,) = plot.loss(fitted).axes
    names = [line.get_label() for line in axis.lines]
    assert names == ["total", "attraction", "repulsion", "alignment"]
    total = np.asarray(axis.lines[0].get_ydata())
    np.testing.assert_allclose(total, fitted.maps_.history.total())
    panel = Figure().subplots()
    plot.loss(fitted, color={"total": "red", "alignment": "#00ff00"}, ax=panel)
    hues = [to_hex(line.get_color()) for line in panel.lines]
    assert hues == ["#ff0000", *map(to_hex, PALETTE[:2]), "#00ff00"]
    with refused("color", "'pull'", "alignment"):
        plot.loss(fitted, color={"pull": "red"})
    (axis,) = plot.loss(DensityTerms(*jnp.ones((4, 35, 2)))).axes
    assert [line.get_label() for line in axis.lines] == [*names, "density"]
    (axis,) = plot.loss(LossTerms(*jnp.ones((3, 1, 2)))).axes
    assert [line.get_marker() for line in axis.lines] == ["o"] * 4  # a point is no line


@pytest.mark.parametrize(
    ("n_epochs", "rows", "last"), [(None, 35, 340), (1500, 100, 1485)]
)
def test_the_loss_is_drawn_over_the_epochs_that_were_recorded(n_epochs, rows, last):
    history = LossTerms(*jnp.ones((3, rows, 2)))
    layout = aljax.LayoutConfig(n_epochs=n_epochs)
    (axis,) = plot.loss(SimpleNamespace(history=history, layout=layout)).axes
    assert np.asarray(axis.lines[0].get_xdata())[[0, -1]].tolist() == [0, last]


def test_every_picture_is_listed_and_has_a_docstring():
    assert {*plot.__all__} <= {*dir(plot)}
    assert all(getattr(plot, name).__doc__ for name in plot.__all__)


def test_displacement_names_those_who_move_most():
    maps = [np.random.default_rng(0).normal(size=(30, 2)) for _ in range(3)]
    maps = [maps[0], maps[0] + 0.01, maps[0] + 0.02]
    maps[1] = maps[1].copy()
    maps[1][7] += 5
    figure = plot.displacement(maps, ids=np.array([f"who {i}" for i in range(30)]))
    named = [one.get_text() for one in texts(figure.axes[0])]
    assert named.count("who 7") == 2  # there and back
    check_names(figure)


def test_displacement_of_single_rows_and_of_nobody_who_moves_is_drawn():
    for place in (1.0, 0.0):
        maps = [np.zeros((1, 2)), np.full((1, 2), place)]
        (axis,) = plot.displacement(maps, ids=[["a"], ["a"]]).axes
        assert axis.get_ylabel() == "displacement, in units of the maps"
        assert axis.get_ylim()[1] > place * 2**0.5


def test_displacement_passes_over_slices_without_rows():
    data = make_data()
    data[1] = data[1][:0]
    ids = [np.arange(len(x)) for x in data]
    settings = {"layout": aljax.LayoutConfig(n_epochs=0), "scale": "none"}
    graph = aljax.GraphConfig(n_neighbors=6)
    data, ids = [*data, data[2]], [*ids, ids[2]]
    maps = aljax.fit(data, ids, key=jax.random.key(0), graph=graph, **settings)
    assert len(plot.displacement(maps).axes[0].collections)


@pytest.mark.parametrize("slices", [10, 70])
def test_displacement_of_any_length_is_readable(rng, slices):
    steps = rng.normal(size=(slices, 50, 2)) * rng.uniform(size=(slices, 50, 1)) ** 3
    maps = [*steps.cumsum(axis=0)]
    figure = plot.displacement(maps, ids=np.array([f"member {i}" for i in range(50)]))
    assert figure.get_figwidth() <= 8  # 2,400 pixels at 300 an inch
    assert 12 <= check_names(figure) <= 36
    (axis,) = figure.axes
    (marks,) = [c for c in axis.collections if len(np.asarray(c.get_offsets())) > 1]
    places = axis.transData.transform(np.asarray(marks.get_offsets()))
    assert not sum(extent(one).count_contains(places) for one in texts(axis))
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert all(box.x1 < other.x1 for box, other in pairwise(boxes))
    assert len(boxes) <= 12
    moved = np.linalg.norm(np.diff(maps, axis=0), axis=2)
    radii = [np.linalg.norm(y - y.mean(axis=0), axis=1) for y in maps]
    highest = np.asarray(marks.get_offsets())[:, 1].max()
    assert highest == pytest.approx(moved.max() / np.median(radii))


def test_members_follow_relations_and_ids_alike(fitted):
    found = read_members(fitted, None)
    for t, relation in enumerate(make_relations()):
        for row, other in relation.items():
            assert found.codes[t][row] == found.codes[t + 1][other]
    assert all(len(np.unique(codes)) == len(codes) for codes in found.codes)
    ids = [np.array(found.names)[codes] for codes in found.codes]
    again = read_members(read_maps(fitted), ids)
    for one, other in zip(found.codes, again.codes, strict=True):
        np.testing.assert_array_equal(one, other)


def test_ids_of_nobody_are_members_of_their_own():
    maps = [np.zeros((3, 2))] * 2
    members = read_members(maps, [np.array(["a", None, None], object)] * 2)
    assert len(members.names) == 5
    assert members.codes[0][0] == members.codes[1][0]


@pytest.mark.parametrize(
    "ids", [[("p", 0), ("p", 1), (1, 0)], [1, "1", ("p", 0)], [2**60, 2**60 + 1, 0.5]]
)
def test_ids_of_any_kind_find_their_mates(ids):
    maps = [np.zeros((4, 2))] * 2
    members = read_members(maps, [[*ids, None], [None, *ids[::-1]]])
    assert len(members.names) == 5
    np.testing.assert_array_equal(members.codes[0][:3], members.codes[1][:0:-1])


def test_what_is_missing_is_unknown_in_every_picture(tmp_path):
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    maps = make_maps((4, 4))
    ids = [["a", pd.NA, "b", 1], ["a", pd.NA, "b", 1]]
    assert plot.displacement(maps, ids=ids).axes
    assert plot.points(maps[0], ["a", pd.NA, "b", "a"]).axes
    assert plot.points(maps[0], values=[1, pd.NA, None, 2.0]).axes
    assert plot.points(maps[0], [("p", 1), ("p", 1), ("q", 0), None]).axes
    assert plot.explore(maps, tmp_path / "maps.html", ids, ids=ids).exists()
    colored = color_by([["a", np.nan, 1, "1"]], None, [4])
    assert colored.codes is not None
    assert colored.codes[0].tolist() == [2, -1, 0, 1]  # 1, '1', 'a'
    whole = pd.Series([2**53 + 1, None, 2**53, 3], dtype="Int64")  # no floats hold them
    assert color_by([whole], None, [4]).classes == ["3", *map(str, whole[[2, 0]])]
    names = [str(2**53 + 1), "", str(2**53)]
    assert read_members(maps, [whole, whole]).names[:3] == names


def test_curves_meet_every_map_and_end_at_gaps(rng):
    maps = rng.normal(size=(6, 4, 2))
    ids = [np.arange(4)] * 6
    ids[3] = np.array([0, 1, 2, 9])  # member 3 is away
    tracks = Tracks([*maps], read_members([*maps], ids))
    for t in range(6):
        np.testing.assert_array_equal(tracks.at(t)[:3], maps[t][:3])
    near = tracks.at(2 + 1e-6) - tracks.at(2)
    past = tracks.at(2) - tracks.at(2 - 1e-6)
    np.testing.assert_allclose(near[:3], past[:3], atol=1e-9)  # no corner
    assert np.isnan(tracks.at(2.5)[3]).all()
    assert np.isnan(tracks.at(3.5)[3]).all()
    where, opacity = tracks.fading(2.25)
    np.testing.assert_array_equal(where[3], maps[2][3])
    np.testing.assert_allclose(opacity, [1, 1, 1, 0.75, 0.25])
    straight = np.arange(5.0)[:, None, None] * np.array([1.0, -2.0])
    line = Tracks([*straight], read_members([*straight], [np.array([0])] * 5))
    np.testing.assert_allclose(line.at(1.3)[0], [1.3, -2.6])


def test_trajectories_are_curves_in_pieces(tmp_path):
    pytest.importorskip("plotly", reason=INSTALL)
    maps = make_maps()
    figure: Any = plot.trajectories(maps, LABELS, ids=IDS, titles=["a", "b", "c"])
    assert [trace.name for trace in figure.data] == ["0", "1", "2", "3"]
    assert figure.layout.scene.zaxis.ticktext == ("a", "b", "c")
    trace = figure.data[0]
    x = np.asarray(trace.x)
    np.testing.assert_allclose(x[0], maps[0][0, 0], rtol=1e-6)
    assert np.isnan(x[[1, -1]]).all()  # member 0 is in the first slice alone
    assert not (np.isnan(x[:-1]) & np.isnan(x[1:])).any()
    everywhere = [np.arange(5)] * 3
    few: Any = plot.trajectories([y[:5] for y in maps], ids=everywhere, limit=4)
    assert len(few.data[0].x) == 4 * 18  # 2 x 8 + 1 steps, and a gap
    assert "4 of 5" in few.layout.title.text
    page = tmp_path / "curves.html"
    plot.save(figure, page)
    assert "plotly" in page.read_text("utf-8")
    assert "<script src" not in page.read_text("utf-8")


def test_trajectories_of_many_slices_stay_small(monkeypatch, rng):
    curves = pytest.importorskip("aljax.plot.curves", reason=INSTALL)
    monkeypatch.setattr(curves, "POINTS", 500)
    maps = [*rng.normal(size=(41, 5, 2))]
    figure: Any = plot.trajectories(maps, ids=np.arange(5))
    assert len(figure.data[0].x) == 5 * (40 * 2 + 1 + 1)  # two a step, and a gap
    axis = figure.layout.scene.zaxis
    assert (axis.ticktext[0], axis.ticktext[-1]) == ("0", "40")
    assert len(axis.ticktext) == len(axis.tickvals) == 16


def test_trajectories_by_value_share_a_scale():
    pytest.importorskip("plotly", reason=INSTALL)
    values = [np.linspace(0, 1, size) for size in SIZES]
    figure: Any = plot.trajectories(make_maps(), values=values, ids=IDS)
    assert (figure.data[0].line.cmin, figure.data[0].line.cmax) == (0, 1)


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        count = getattr(film, "n_frames", 1)
        shots = []
        for i in range(count):
            film.seek(i)
            shots.append(np.asarray(film.convert("RGB")).astype(int))
    return shots


def test_a_film_moves_smoothly(tmp_path):
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), -1).reshape(-1, 2)
    maps = [grid + np.array([2.0 * t, 0.0]) for t in range(2)]
    path = tmp_path / "film.gif"
    ids = np.arange(16)
    figure = plot.animate(maps, path, ids=ids, fps=4, dpi=40)
    assert isinstance(figure, Figure)
    shots = frames(path)
    assert len(shots) >= 5
    centers = [np.argwhere(one[40:].sum(axis=2) < 300)[:, 1].mean() for one in shots]
    assert all(a <= b + 0.5 for a, b in pairwise(centers))
    assert len(np.unique(np.round(centers))) >= 4


def test_a_film_of_many_slices_is_short(tmp_path, rng):
    maps = [*rng.normal(size=(300, 9, 2))]
    plot.animate(maps, tmp_path / "film.gif", ids=np.arange(9), fps=2, dpi=20)
    assert 30 <= len(frames(tmp_path / "film.gif")) <= 42


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt-get")
def test_a_film_as_mp4(tmp_path):
    path = tmp_path / "film.mp4"
    plot.animate(make_maps(), path, ids=IDS, fps=2, dpi=41)
    assert path.read_bytes()[4:8] == b"ftyp"


def test_inverse_grid_frames_guesses_in_red():
    maps, rng = make_maps()[0], np.random.default_rng(0)
    queries = rng.normal(size=(9, 2))
    inside = np.arange(9) != 4
    found = SimpleNamespace(points=rng.uniform(size=(9, 64)), inside=inside)
    figure = plot.inverse_grid(maps, queries, found, LABELS[0])
    images = [axis for axis in figure.axes if axis.images]
    assert len(images) == 9
    np.testing.assert_array_equal(
        images[2].images[0].get_array(), found.points[2].reshape(8, 8)
    )
    red = [axis.spines["top"].get_linewidth() > 1 for axis in images]
    assert red == [*~inside]
    wide = plot.inverse_grid(maps, queries, found.points, shape=(4, 16), columns=2)
    assert len([axis for axis in wide.axes if axis.get_visible()]) == 1 + 9
    colors = 1.1 * found.points[:2, :12]  # a bit above 1, as a reconstruction may be
    for images in (colors, 255 * colors):
        figure = plot.inverse_grid(maps, queries[:2], images, shape=(2, 2, 3))
        shown: Any = figure.axes[1].images[0].get_array()
        np.testing.assert_allclose(shown.ravel(), colors[0].clip(0, 1))
    mine = Figure()
    axes = mine.subplots(1, 2)
    drawn = plot.inverse_grid(maps, queries, found, cmap="magma", ax=axes)
    assert drawn is mine
    assert len(axes[0].collections) == 2
    assert [panel.images[0].cmap.name for panel in axes[1].child_axes] == ["magma"] * 9
    with refused("ax", "has 1 axes", "2 panels"):
        plot.inverse_grid(maps, queries, found, ax=axes[0])


def test_gradient_map_has_x_to_the_right():
    axes = np.stack([np.linspace(0, 1, 20), np.linspace(0, 1, 20)])
    norm = np.ones((20, 20))
    norm[-1, 0] = 50  # at x = 1, y = 0
    given = SimpleNamespace(axes=axes, norm=norm)
    figure = plot.gradient_map(np.random.default_rng(0).uniform(size=(9, 2)), given)
    mesh = figure.axes[0].collections[0]
    drawn = np.asarray(mesh.get_array()).reshape(20, 20)
    assert drawn[0, -1] == 50


def test_files_are_of_the_resolution_asked_for(tmp_path):
    figure = plot.points(make_maps()[0])
    plot.save(figure, tmp_path / "map.png")
    shape = matplotlib.image.imread(tmp_path / "map.png").shape
    width, height = figure.get_size_inches()
    assert shape[:2] == (round(height * 300), round(width * 300))
    plot.save(figure, tmp_path / "map.pdf")
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF")


def test_files_are_written_whole_into_folders_that_are_made(tmp_path, monkeypatch):
    path = tmp_path / "new" / "maps.gif"

    def broken(*_: Any) -> Any:
        yield Image.new("RGB", (8, 8))
        raise RuntimeError

    for kept in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(film, "_frames", broken)
            with pytest.raises(RuntimeError):
                plot.animate(make_maps(), path, ids=IDS, fps=1)
        assert path.exists() == kept
        assert [*path.parent.iterdir()] == [path] * kept
        plot.animate(make_maps(), path, ids=IDS, fps=1, dpi=20)
    figure = plot.points(make_maps()[0])
    plot.save(figure, tmp_path / "a" / "b" / "map.png", dpi=20)
    assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == ["map.png"]
    with refused("path", "cannot be written"):
        plot.save(figure, path / "map.png")


TWO = [np.zeros((3, 2)), np.ones((3, 2))]
SAME = [1, 2, 3]
WRONG: Any = "a"
BETWEEN: Any = 1.5
HERE: Any = TWO
LINE = SimpleNamespace(axes=np.zeros((1, 3)), norm=np.zeros(3))
GRID = SimpleNamespace(axes=np.zeros((2, 3)), norm=np.zeros((3, 4)))
REFUSED: list[tuple[Any, str, str]] = [
    (lambda: plot.points(aljax.UMAP()), "model", "UMAP that is not fitted"),
    (lambda: plot.points("maps"), "model", "shape ()"),
    (lambda: plot.points(np.zeros(3)), "model", "shape (3,)"),
    (lambda: plot.slices([]), "model", "empty list"),
    (lambda: plot.slices(TWO, limit=0), "limit", "0"),
    (lambda: plot.points(np.full((3, 2), np.nan)), "model", "row 0 of slice 0"),
    (lambda: plot.points(TWO, slice=2), "slice", "-2 to 1"),
    (lambda: plot.points(TWO, slice=BETWEEN), "slice", "1.5"),
    (lambda: plot.points(TWO[0], SAME, values=SAME), "labels", "both given"),
    (lambda: plot.points(TWO[0], color="tab:rde"), "color", "'tab:rde'"),
    (lambda: plot.points(TWO[0], SAME, color={4: "k"}), "color", "has 4"),
    (lambda: plot.points(TWO[0], SAME, color=["k", "r"]), "color", "each of 3"),
    (lambda: plot.points(TWO[0], SAME, color=["k", "r", 5]), "color[2]", "is 5"),
    (lambda: plot.points(TWO[0], values=SAME, color="k"), "color", "`cmap`"),
    (lambda: plot.points(TWO[0], values=SAME, cmap="magmo"), "cmap", "'magmo'"),
    (lambda: plot.points(TWO[0], SAME, cmap="magma"), "cmap", "`values`"),
    (lambda: plot.points(TWO[0], values=["a", "b", "c"]), "values", "numbers"),
    (lambda: plot.points(np.zeros((300, 2)), np.arange(300)), "labels", "300"),
    (lambda: plot.slices(TWO, titles=["a"]), "titles", "each of 2 slices"),
    (lambda: plot.loss(TWO), "model", "no history"),
    (lambda: plot.displacement(TWO), "ids", "None"),
    (lambda: plot.displacement(TWO, ids=[SAME, [4, 5, 6]]), "model", "no member"),
    (lambda: plot.displacement(TWO, ids=[[1, 1, 3], SAME]), "ids", "slice 0"),
    (lambda: plot.trajectories(TWO[0]), "model", "one slice"),
    (lambda: plot.trajectories(TWO, ids=SAME, limit=-1), "limit", "-1"),
    (lambda: plot.trajectories(TWO, ids=SAME, limit=WRONG), "limit", "'a'"),
    (lambda: plot.animate(TWO, "film.avi", ids=SAME), "path", ".gif or .mp4"),
    (lambda: plot.animate(WRONG, HERE), "path", "list"),
    (lambda: plot.animate(TWO[0], "film.gif"), "model", "one slice"),
    (lambda: plot.animate(TWO, "film.gif", fps=0), "fps", "0"),
    (lambda: plot.animate(TWO, "film.gif", ids=SAME, seconds=0), "seconds", "0"),
    (lambda: plot.animate(TWO, "film.gif", ids=SAME, dpi=0), "dpi", "0"),
    (lambda: plot.animate(TWO, "film.gif", ids=SAME, dpi=WRONG), "dpi", "'a'"),
    (lambda: plot.inverse_grid(TWO[0], TWO[0], np.zeros((2, 4))), "images", "2"),
    (lambda: plot.inverse_grid(TWO[0], [1], TWO[0]), "queries", "(1,)"),
    (lambda: plot.inverse_grid(TWO[0], TWO[0][:0], TWO[0]), "queries", "(0, 2)"),
    (lambda: plot.inverse_grid(TWO[0], TWO[0], np.zeros((3, 5))), "shape", "5 values"),
    (lambda: plot.gradient_map(TWO[0][:, :1], LINE), "gradients", "(1, 3)"),
    (lambda: plot.gradient_map(TWO[0], GRID), "gradients", "(3, 4)"),
    (lambda: plot.save(Figure(), "map.docx"), "path", ".png"),
    (lambda: plot.explore(TWO, "maps.png", ids=SAME), "path", ".html"),
]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("draw", "name", "words"), REFUSED)
def test_bad_input_is_refused(draw, name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        draw()
    assert refused.value.name == name
    assert words in f"{refused.value.got}; {refused.value.expected}"
    assert not [*tmp_path.iterdir()]


def test_classes_that_do_not_fit_a_map_are_refused():
    with refused("labels", "(2,)"):
        plot.points(TWO[0], [1, 2])


def test_mp4_without_ffmpeg_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match=r"ffmpeg is not installed"):
        plot.animate(TWO, "film.mp4", ids=np.arange(3))


def test_a_missing_library_is_said_with_its_remedy():
    code = """
import sys
import aljax
for missing, name in (
    ("plotly", "trajectories"), ("PIL", "animate"), ("matplotlib", "points")
):
    there = sys.modules.pop(missing, None)
    sys.modules[missing] = None
    try:
        getattr(aljax.plot, name)
    except ImportError as error:
        print(error)
    sys.modules.pop(missing)
    if there:
        sys.modules[missing] = there
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for line, missing in zip(said, ("plotly", "PIL", "matplotlib"), strict=True):
        assert line.startswith(missing)
        assert line.endswith("pip install 'aljax[plot]'")


def test_what_the_main_job_draws_needs_matplotlib_alone():
    code = """
import sys
for missing in ("plotly", "datashader", "pandas", "anndata"):
    sys.modules[missing] = None
from aljax.plot import displacement, inverse_grid, loss, save, slices
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_map_takes_a_column_of_a_frame():
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    one = np.random.default_rng(0).normal(size=(60, 2))
    classes = pd.Series(np.arange(60) % 3).astype(str).astype("category")
    assert plot.points(one, classes).axes
    assert plot.points(one, values=pd.Series(np.arange(60.0))).axes


@pytest.mark.parametrize("components", [1, 3])
def test_neighbors_are_those_in_the_whole_maps(rng, tmp_path, components):
    before = rng.normal(size=(40, components))
    order = rng.permutation(40)
    ids = [np.arange(40), order]
    same, other = before[order], before[order].copy()
    other[:, -1] = rng.normal(size=40) * 9  # the last component, which is not drawn
    for after, low, high in ((same, 0, 0), (other, 0.5, 1)):
        pair = [before, after]
        heading = plot.compare(pair, ids=ids, n_neighbors=5).get_suptitle()
        by_data = plot.compare(pair, ids=ids, n_neighbors=5, data=pair).get_suptitle()
        assert heading == by_data
        assert low <= int(heading.split("%")[0]) / 100 <= high
        page = plot.explore(pair, tmp_path / "it.html", ids=ids).read_text()
        text = page.split('"neighbors changed",')[1].split('"rows":["')[1].split('"')[0]
        changed = np.frombuffer(base64.b64decode(text), np.uint8) / 254
        assert low <= changed.mean() <= high


def test_neighbors_that_are_equally_far_are_those_of_the_measure(rng):
    before = rng.permutation(np.indices((8, 5)).reshape(2, -1).T.astype(float))
    after = np.vstack([before[:30], rng.permutation(before[30:])])
    measured = neighborhood_preservation(before, after, n_neighbors=5, per_point=True)
    np.testing.assert_allclose(neighbor_change(before, after, 5), 1 - measured)


@pytest.mark.parametrize("components", [1, 2])
def test_slices_without_rows_have_empty_pictures(rng, tmp_path, components):
    maps = [rng.normal(size=(size, components)) for size in (5, 0, 4)]
    ids = [[*"abcde"], [], [*"bcde"]]
    assert len(plot.slices(maps).axes) == 3
    plot.points(maps, slice=1)
    plot.compare(maps, 0, 2, ids=ids, n_neighbors=1)
    plot.explore(maps, tmp_path / "it.html", ids=ids)
    plot.animate(maps, tmp_path / "it.gif", ids=ids, fps=2, dpi=40)
    plot.trajectories(maps, ids=ids)
    with refused("model", "shape (0, 2)"):
        plot.points(np.zeros((0, 2)))


def test_estimators_are_drawn_as_their_embeddings_have_them(tmp_path):
    first, second, _ = make_data((40, 40, 40))
    slices = [np.vstack([first, first[:4]]), second]
    settings: Any = {"n_neighbors": 6, "n_epochs": 0, "random_state": 0}
    model = aljax.AlignedUMAP(**settings, unique=True)
    model.fit(slices, relations=[{row: row for row in range(3, 40)}])
    labels = [np.arange(44) % 3, np.arange(40) % 3]
    plot.slices(model, labels)
    members = read_members(model, None)
    assert [*map(len, members.codes)] == [44, 40]
    assert members.names[:44] == [f"0-{row}" for row in range(44)]
    np.testing.assert_array_equal(members.codes[1][3:], members.codes[0][3:40])
    plot.animate(model, tmp_path / "it.gif", labels, fps=2, dpi=40)
    one = aljax.UMAP(**settings, unique=True).fit(slices[0])
    plot.points(one, labels[0])
    one.embedding_ = one.embedding_ + 10
    np.testing.assert_array_equal(read_maps(one)[0], one.embedding_)
    with refused("model", "has a graph alone", "Fit with"):
        plot.points(aljax.UMAP(**settings, transform_mode="graph").fit(first))


@pytest.mark.parametrize("unit", ["ns", "s"])
def test_times_are_classes_and_ids_by_their_names(unit, tmp_path):
    days = np.array(["2020-01-01", "2021-06-01", "NaT"], f"M8[{unit}]")
    assert color_by([days], None, [3]).classes == ["2020-01-01", "2021-06-01"]
    day = datetime.datetime(2021, 6, 1)
    hues = color_by([days], None, [3], color={day: "red"}).palette
    np.testing.assert_array_equal(hues[1], to_rgba("red"))
    spans = days[:2] - days[0]
    names = ["0:00:00", "517 days, 0:00:00"]
    assert color_by([spans], None, [2]).classes == names
    assert read_members([TWO[0]], [days]).names == [
        "2020-01-01 00:00:00",
        "2021-06-01 00:00:00",
        "",
    ]
    page = plot.explore(TWO[0], tmp_path / "it.html", [days], ids=[days]).read_text()
    assert '["2020-01-01","2021-06-01"]' in page


def test_texts_of_the_data_are_no_formulas(tmp_path):
    maps = make_maps()
    signs = [r"$\bar$", "$1-$2", "$_$", "x", "<i>y</i>"]
    labels = [np.array(signs)[np.arange(len(y)) % 5] for y in maps]
    ids = [[f"${r}_$" for r in range(len(y))] for y in maps]
    titles = [f"$^${t}" for t in range(len(maps))]
    drawn = [
        plot.slices(maps, labels, titles=titles),
        plot.displacement(maps, ids=ids, titles=titles),
        plot.compare(maps, 0, 1, labels, ids=ids, titles=titles),
    ]
    for number, figure in enumerate(drawn):
        plot.save(figure, tmp_path / f"{number}.png", dpi=50)
        written = [text.get_text() for text in figure.findobj(Text)]
        assert not [text for text in written if re.search(r"(?<!\\)\$", text)]
    small: Any = {"fps": 4, "seconds": 1, "dpi": 40}
    plot.animate(maps, tmp_path / "film.gif", labels, ids=ids, titles=titles, **small)
    plotly = pytest.importorskip("plotly", reason=INSTALL)
    assert plotly
    curves: Any = plot.trajectories(maps, labels, ids=ids)
    names = {one.name for one in curves.data}
    assert "&lt;i&gt;y&lt;/i&gt;" in names


def test_long_titles_are_drawn_in_lines_within_the_figure(tmp_path):
    maps, long, formula = (
        make_maps(),
        "a title that is very long " * 5,
        r"$\alpha$ " * 20,
    )
    titles: Any = ["short", long, "word" * 40]
    small: Any = {"dpi": 20, "seconds": 0.2, "fps": 5}
    figures: Any = [
        plot.points(maps[0], title=long),
        plot.slices(maps, titles=titles, heading=long),
        plot.displacement(maps, ids=IDS, heading=long),
        plot.animate(maps, tmp_path / "film.gif", ids=IDS, titles=titles, **small),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        frame = figure.bbox.padded(1)
        for text in [panel.title for panel in figure.axes] + [*figure.texts]:
            assert frame.containsx(text.get_window_extent().x0)
            assert frame.contains(*text.get_window_extent().max)
    assert plot.points(maps[0], title=formula).axes[0].get_title() == formula
