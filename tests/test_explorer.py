"""The explorer as its users meet it: a file, opened in a browser without a network."""

import base64
import io
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from helpers import refused

from aljax.contributions import Contributions
from aljax.metrics import Calls, Moves
from aljax.plot import explore

SIZES = (60, 50, 60)
IDS = [np.array([f"p{row + shift}" for row in range(60)]) for shift in (0, 10, 20)]
IDS[1] = IDS[1][:50]
PATIENCE = 180_000  # milliseconds, for machines that are busy or draw in software
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# WebGL is drawn in software; a container has no sandbox to offer.
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
CROSS = "\N{MULTIPLICATION SIGN}"
MARK = "</script><b>p3 & co</b>"  # an id that must stay text


def some_maps() -> list[np.ndarray]:
    """Members of the same id lie at about the same place."""
    base = np.random.default_rng(0).uniform(size=(80, 2))
    return [
        base[shift : shift + size] + np.array([0.15 * t, 0.02 * t])
        for t, (shift, size) in enumerate(zip((0, 10, 20), SIZES, strict=True))
    ]


def write(folder: Path) -> Path:
    ids = [one.astype(object) for one in IDS]
    ids[0][3] = MARK
    return explore(
        some_maps(),
        folder / "maps.html",
        [np.arange(size) % 4 for size in SIZES],
        ids=ids,
        columns={
            "ink": [np.linspace(0, 1.5, size) for size in SIZES],
            "day": [20190101 + np.arange(size) for size in SIZES],
            "word": ids,
        },
        titles=["first", "second", "third"],
        heading="Maps <of> three slices",
    )


def payload(path: Path) -> dict:
    found = re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found.group(1))


def test_the_page_holds_all_and_refers_to_nothing(tmp_path):
    page = write(tmp_path)
    text = page.read_text("utf-8")
    assert not re.search(r"https?://|src=|@import|url\(", text)
    content = payload(page)
    assert content["slices"]["counts"] == [*SIZES]
    assert len(content["members"]) == 80
    assert MARK in content["members"]
    assert MARK not in text
    kinds = {one["name"]: one["kind"] for one in content["columns"]}
    assert kinds == {
        "label": "class",
        "ink": "value",
        "day": "value",
        "word": "class",
        "neighbors changed": "value",
    }


def test_the_page_says_whose_neighbors_changed(tmp_path, rng):
    first = rng.normal(size=(60, 2))
    second = first * 2 + 5  # all moves, and nobody against the others
    third = second.copy()
    third[:3] = -50 * np.arange(1, 4)[:, None]
    ids = np.arange(60)
    content = payload(
        explore([first, second, third], tmp_path / "maps.html", ids=[ids, ids, ids])
    )
    (column,) = content["columns"]
    shares = [np.frombuffer(base64.b64decode(x), np.uint8) for x in column["rows"]]
    assert shares[0].tolist() == [0] * 60  # to the next, for there is none before
    assert column["rows"][1] == ""  # the same
    near, later = (
        np.argsort(np.linalg.norm(y[:, None] - y, axis=2), axis=1)[:, 1:16]
        for y in (second, third)
    )
    lost = [1 - len({*a} & {*b}) / 15 for a, b in zip(near, later, strict=True)]
    np.testing.assert_array_equal(shares[2], np.rint(np.multiply(lost, 254)))
    assert content["slices"]["members"]["rows"][1:] == ["", ""]  # as before


def test_slices_of_7000_stay_small(tmp_path, rng):
    page = explore(
        [rng.normal(size=(7000, 2)) for _ in range(3)],
        tmp_path / "large.html",
        [rng.integers(0, 10, 7000) for _ in range(3)],
        ids=[np.arange(7000) + 3000 * t for t in range(3)],
        columns={"ink": [rng.normal(size=7000) for _ in range(3)]},
    )
    assert page.stat().st_size < 3.6e6


def test_slices_without_rows_are_not_as_before(tmp_path, rng):
    sizes = (0, 0, 3, 0)
    maps = [rng.normal(size=(size, 2)) for size in sizes]
    path = explore(maps, tmp_path / "it.html", ids=[np.arange(size) for size in sizes])
    rows = payload(path)["slices"]["members"]["rows"]
    assert rows == [None, "", "AAEC", None]


@pytest.mark.usefixtures("as_users_run_it")
def test_bad_input_is_refused(tmp_path):
    with refused("ids", "is None"):
        explore(some_maps(), tmp_path / "maps.html")
    with refused("ink", "1 arrays"):
        explore(some_maps(), tmp_path / "a.html", ids=IDS, columns={"ink": [IDS[0]]})
    assert not [*tmp_path.iterdir()]


def complain(said: list[str], message) -> None:
    if message.type == "error":
        said.append(message.text)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page in a headless browser that is cut off from every network."""
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    path = write(tmp_path_factory.mktemp("explorer"))
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            timeout=PATIENCE,
            args=FLAGS,
        )
        yield open_page(browser, path)
        browser.close()


def open_page(browser, path: Path):
    """The page, which keeps what it asked for and complained of."""
    opened = browser.new_context(offline=True).new_page()
    opened.set_default_timeout(PATIENCE)
    opened.set_viewport_size({"width": 900, "height": 640})
    opened.asked, opened.said = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("console", lambda message: complain(opened.said, message))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.goto(path.as_uri())
    opened.wait_for_function("window.explorer && !!document.title")
    return opened


def picture(page) -> np.ndarray:
    """The stage as it is seen, without what hovers."""
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)
    shot = page.locator("#stage").screenshot(timeout=PATIENCE)
    return matplotlib.image.imread(io.BytesIO(shot))[..., :3]


def reach(page, name: str) -> list[float]:
    return page.evaluate("(name) => window.explorer.screen(name)", name)


def set_time(page, time: float) -> None:
    """As if the slider had been dragged there."""
    page.locator("#time").evaluate(
        "(slider, time) => { slider.value = time;"
        " slider.dispatchEvent(new Event('input')); }",
        time,
    )
    page.wait_for_timeout(200)


@pytest.mark.slow
def test_it_opens_without_a_request_or_a_complaint(page):
    assert len(page.asked) == 1
    assert page.asked[0].startswith("file://")
    assert not page.said
    assert page.title() == "Maps <of> three slices"
    assert page.locator("#heading").inner_text() == "Maps <of> three slices"
    assert (picture(page) < 0.9).any(axis=2).mean() > 0.005  # points are drawn


@pytest.mark.slow
def test_the_slider_moves_points_smoothly(page):
    set_time(page, 0)
    before, first = picture(page), reach(page, "p30")
    set_time(page, 0.5)
    halfway, middle = picture(page), reach(page, "p30")
    set_time(page, 1)
    last = reach(page, "p30")
    assert np.abs(before - halfway).max() > 0.3
    assert first[0] < middle[0] < last[0]
    assert page.locator("#title").inner_text() == "second"
    # A dot is where the page says: its own color, not the white of the stage.
    set_time(page, 0.5)
    box = page.locator("#stage").bounding_box()
    x, y = round(middle[0] - box["x"]), round(middle[1] - box["y"])
    assert picture(page)[y - 1 : y + 2, x - 1 : x + 2].min() < 0.8


@pytest.mark.slow
def test_play_runs_to_the_end_and_stops(page):
    set_time(page, 1.5)
    page.select_option("#speed", "2")
    page.click("#play")
    page.wait_for_function("window.explorer.view.time === 2")
    page.wait_for_function("document.querySelector('#play').textContent === 'Play'")
    assert page.locator("#title").inner_text() == "third"


@pytest.mark.slow
def test_hover_names_the_point_with_its_columns(page):
    set_time(page, 0)
    page.mouse.move(*reach(page, "p31"))
    page.wait_for_function("document.querySelector('#tip').style.display === 'block'")
    assert page.locator("#tip").inner_text().splitlines() == [
        *("p31", "label: 3", "ink: 0.78814", "day: 20190132", "word: p31"),
        "neighbors changed: 0",
    ]
    page.mouse.move(*reach(page, MARK))
    page.wait_for_function(
        "(mark) => document.querySelector('#tip b').textContent === mark", arg=MARK
    )


@pytest.mark.slow
def test_search_chooses_goes_there_and_draws_a_trail(page):
    set_time(page, 0)
    before = picture(page)
    page.fill("#find", "p79")  # in the last slice alone
    page.press("#find", "Enter")
    assert page.evaluate("window.explorer.view.time") == 2
    page.fill("#find", "P30")
    page.press("#find", "Enter")
    assert page.locator("#chosen button").all_inner_texts() == [
        f"{CROSS} p79",
        f"{CROSS} p30",
    ]
    set_time(page, 0)
    assert np.abs(before - picture(page)).max() > 0.3
    page.fill("#find", "nobody")
    assert page.locator("#found").inner_text() == "no such id"
    page.fill("#find", "")
    for _ in range(2):
        page.locator("#chosen button").first.click()
    assert page.evaluate("window.explorer.chosen.size") == 0


@pytest.mark.slow
def test_titles_below_the_slider_stand_apart_and_lead_there(page):
    marks = page.locator("#ticks span")
    assert marks.all_inner_texts() == ["first", "second", "third"]
    boxes = [mark.bounding_box() for mark in marks.all()]
    assert all(a["x"] + a["width"] < b["x"] for a, b in pairwise(boxes))
    marks.nth(1).click()
    page.wait_for_function("window.explorer.view.time === 1")


@pytest.mark.slow
def test_colors_follow_the_column(page):
    set_time(page, 0)
    before = picture(page)
    page.select_option("#color", label="ink")
    assert np.abs(before - picture(page)).max() > 0.3
    assert page.locator(".ends").inner_text().split() == ["0", "1.5"]
    page.select_option("#color", label="label")
    faded = page.locator("#legend button").first
    faded.click()
    assert np.abs(before - picture(page)).max() > 0.3
    assert "off" in (faded.get_attribute("class") or "")
    faded.click()
    assert not page.said


@pytest.mark.slow
def test_a_long_sequence_has_short_trails_and_titles_that_stand_apart(page, tmp_path):
    times = np.arange(200.0)
    maps = [np.array([[t, 0.0], [0.0, t]]) for t in times]  # both walk straight on
    path = explore(maps, tmp_path / "long.html", ids=[["a", "b"]] * 200)
    long = open_page(page.context.browser, path)
    boxes = [mark.bounding_box() for mark in long.locator("#ticks span").all()]
    assert 4 < len(boxes) < 40
    assert all(a["x"] + a["width"] < b["x"] for a, b in pairwise(boxes))
    long.evaluate("explorer.choose(0)")
    long.click("#stage", position={"x": 5, "y": 5})
    for time in (*range(0, 200, 7), 100):  # past what is kept, and back
        set_time(long, time)
    x, y = reach(long, "a")
    box = long.locator("#stage").bounding_box()
    row = round(y - box["y"])
    drawn = np.flatnonzero((picture(long)[row - 2 : row + 3] < 0.9).any(axis=(0, 2)))
    set_time(long, 99)
    wide = (drawn.max() - drawn.min()) / (x - reach(long, "a")[0])
    assert 23 < wide < 40  # twelve slices to each side, and a name
    assert not long.said


@pytest.mark.slow
def test_slices_without_rows_show_nobody(page, tmp_path):
    maps = [np.zeros((0, 2)), np.eye(2), np.zeros((0, 2))]
    ids = [[], ["a", "b"], []]
    path = explore(maps, tmp_path / "gaps.html", [[], [0, 1], []], ids=ids)
    shown = open_page(page.context.browser, path)
    for time, members in ((0, 0), (1, 2), (2, 0)):
        set_time(shown, time)
        assert sum(reach(shown, name) is not None for name in "ab") == members
    assert not shown.said


@pytest.mark.slow
def test_a_switch_grays_who_is_not_called(page, tmp_path):
    called = np.arange(9) < 3
    steps = np.zeros(0, int)
    moves = Moves(
        members=Calls(called * 1.0, called),
        steps=Calls(steps * 1.0, steps > 0),
        step=steps,
        member=steps,
        names=tuple("abcdefghi"),
        codes=[np.arange(9)] * 2,
        q=0.1,
    )
    maps = [np.stack([np.arange(9.0), 0 * np.arange(9.0)], axis=1)] * 2
    path = explore(maps, tmp_path / "m.html", ids=[[*"abcdefghi"]] * 2, moves=moves)
    opened = open_page(page.context.browser, path)
    opened.select_option("#color", label="nothing")
    grayed = picture(opened)
    opened.uncheck("#gray")
    dark = [(seen.min(axis=2) < 0.5).sum() for seen in (grayed, picture(opened))]
    assert 2.4 < dark[1] / dark[0] < 3.6  # nine members, of whom three were called
    assert page.locator("#real").is_hidden()  # no moves
    assert not opened.said


def explanation(names: tuple[str, ...], scale: float = 1.0) -> Contributions:
    """Members carried along x by "up", and half as far back by "down"."""
    count, nothing = len(names), np.zeros((len(names), 2))
    values = np.zeros((count, 9, 2))
    values[:, 4, 0], values[:, 7, 0] = 2 * scale, -scale
    columns = [*"abcd", "up", *"ef", "down", "g"]
    ends = np.tile([1.0, 0.0], (count, 1))
    rest = dict.fromkeys(("others", "lists", "leaps", "unexplained"), nothing)
    return Contributions(
        names, tuple(columns), values, start=nothing, end=ends, **rest, title="1 to 2"
    )


def test_the_page_says_what_moved_members(tmp_path):
    path = tmp_path / "maps.html"
    plain = payload(explore(some_maps(), path, ids=IDS))
    assert plain["explained"] == []
    given = [explanation(("p30", "p31"))]
    content = payload(explore(some_maps(), path, ids=IDS, explained=given))
    (of,) = content["explained"]
    assert of["title"] == "1 to 2"
    assert {content["members"][int(e)] for e in of["members"]} == {"p30", "p31"}
    for bars in of["members"].values():
        assert bars[:2] == [["up", 2.0], ["down", -1.0]]
        ends = [["3 other columns", 0.0], ["other members", 0.0], ["unexplained", 0.0]]
        assert bars[6:] == ends
    tiny = explanation(("p30",), scale=1.23e-5)
    content = payload(explore(some_maps(), path, ids=IDS, explained=tiny))
    (bars,) = content["explained"][0]["members"].values()
    assert bars[:2] == [["up", 2.46e-5], ["down", -1.23e-5]]
    for wrong in (explanation(("nobody",)), given[0].mean(), "p30"):
        with refused("explained", ""):
            explore(some_maps(), path, ids=IDS, explained=wrong)


@pytest.mark.slow
def test_a_chosen_member_shows_what_moved_it(page, tmp_path):
    given = [explanation(("p30",)), explanation(("p30",), scale=1.23e-5)]
    path = explore(some_maps(), tmp_path / "m.html", ids=IDS, explained=given)
    opened = open_page(page.context.browser, path)
    for name in ("p31", "p30"):
        opened.fill("#find", name)
        opened.press("#find", "Enter")
    headings = opened.locator("#why h2").all_inner_texts()
    assert headings == 2 * ["What moved p30, 1 to 2"]
    lines = opened.locator("#why .part").all_inner_texts()
    assert [line.split() for line in lines[:2]] == [["up", "+2"], ["down", "-1"]]
    texts = [line.split()[-1] for line in lines[len(lines) // 2 :][:2]]
    assert texts == ["+0.000025", "-0.000012"]
    boxes = [bar.bounding_box() for bar in opened.locator("#why b").all()[:2]]
    assert boxes[0]["width"] == pytest.approx(2 * boxes[1]["width"], rel=0.05)
    assert boxes[1]["x"] < boxes[0]["x"]
    opened.locator("#chosen button").nth(1).click()
    assert opened.locator("#why h2").count() == 0
    assert not opened.said
