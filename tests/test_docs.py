import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_code_of_the_readme_runs_as_it_stands():
    names, settings = {}, []
    for block in re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL):
        exec(block, names)
        settings.append(names["maps"].layout.min_dist)
    assert [one.shape for one in names["positions"]] == [(400, 2)] * 10
    assert settings[1] == 0.2
    assert np.isfinite(names["positions"][0]).all()
    assert all(type(one) is np.ndarray for one in names["maps"].maps)
    assert len(names["maps"].maps) == 3
    assert names["positions_of_new_rows"].shape == (50, 2)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_test_that_a_page_names_is_there(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    written = "".join(file.read_text() for file in (ROOT / "tests").glob("*.py"))
    for name in re.findall(r"`(test_\w+)`", text):
        assert f"def {name}(" in written, name
