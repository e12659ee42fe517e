import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import aljax
from aljax.errors import REMEDY, check_jax

ROOT = Path(aljax.__file__).parents[1]
IMPORT = """
import sys
from importlib import metadata
metadata.version = lambda name: "0.10.2"
try:
    import aljax
except ImportError as error:
    print(error, "jax" in sys.modules)
"""


@pytest.mark.parametrize("broken", ["jax", "jaxlib"])
@pytest.mark.parametrize("version", ["0.10.2", "0.8.3", "0.4.38"])
def test_a_release_that_is_excluded_is_refused(broken, version, monkeypatch):
    known = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: version if name == broken else known(name)
    )
    with pytest.raises(ImportError, match=rf"^{broken} {version} .*pip install"):
        check_jax()


@pytest.mark.parametrize(
    "version", ["0.9.0", "0.10.1", "0.11.0rc1", "1.0", "0.12.dev1"]
)
def test_other_releases_are_let_through(version, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda _: version)
    check_jax()


def test_an_import_says_so_before_jax_is_loaded():
    said = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert re.match("jax 0.10.2 miscompiles", said)
    assert said.endswith("False\n")


def test_the_remedy_is_the_pin():
    pins = (ROOT / "pyproject.toml").read_text()
    (pin,) = re.findall("'(.*)'", REMEDY)
    assert f'"{pin}"' in pins
