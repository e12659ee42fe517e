"""The supported range of packages, tested at both ends in environments of their own.

    python -m experiments.versions

makes an environment with the oldest packages that pyproject.toml allows and one with
the newest (by uv, whose `--resolution lowest-direct` pip does not have), runs the tests
in each, checks that the pins of the installed packages hold together (`pip check`) and
prints a table.  It needs PyPI, 5 GB of disk and half an hour.  Words after `--tests` go
to pytest, such as files of tests.
`--pins` only looks at what is installed here, without a network: that every package of
pyproject.toml is pinned from below, is there and fits its pin, and that nothing that is
installed contradicts another.  It knows of no advisories: those need a network, as in
`pipx run pip-audit`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}


def requirements() -> list[str]:
    """Returns the library's requirements at run time, from pyproject.toml."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["dependencies"]


def check_pins() -> list[str]:
    """Lists the installed packages that break a pin; no network is used."""
    from packaging.requirements import Requirement

    wrong = []
    for text in requirements():
        pin = Requirement(text)
        if not any(bound.operator in (">=", "==", "~=") for bound in pin.specifier):
            wrong.append(f"{text} has no lower bound")
        try:
            version = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{pin.name} is not installed")
            continue
        if not pin.specifier.contains(version, prereleases=True):
            wrong.append(f"{pin.name} {version} is installed, against {text}")
    checked = _run([sys.executable, "-m", "pip", "check"])
    return wrong + (checked.stdout.splitlines() if checked.returncode else [])


def run_at(end: str, folder: Path, tests: Sequence[str] = ()) -> tuple[str, str]:
    """Returns the jax installed at an end of the range, and the tests' verdict."""
    python = str(folder / end / "bin" / "python")
    _call([sys.executable, "-m", "venv", str(folder / end)])
    _call([python, "-m", "pip", "install", "--quiet", "uv"])
    install = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    # Old releases without a wheel for this Python may not build any more, but Hydra
    # needs a parser that has never had one.
    install += ["--only-binary", ":all:", "--no-binary", "antlr4-python3-runtime"]
    install += ["--resolution", RESOLUTIONS[end]]
    _call([*install, "-e", f"{ROOT}[test]"])
    installed = _call([python, "-c", "import jax; print(jax.__version__)"])
    tested = _run([python, "-m", "pytest", "-p", "no:cacheprovider", *tests])
    counts = re.findall(r"(?m)^.*\b(?:passed|failed|error).*$", tested.stdout)
    verdict = counts[-1] if counts else tested.stdout[-500:] + tested.stderr[-500:]
    failed = re.findall(r"(?m)^(?:FAILED|ERROR) .*$", tested.stdout)
    _call([python, "-m", "pip", "check"])
    return installed.strip(), "; ".join([verdict.strip(), *failed])


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def _call(command: Sequence[str]) -> str:
    completed = _run(command)
    if completed.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{completed.stdout}{completed.stderr}")
    return completed.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--pins", action="store_true", help="only what is installed")
    parser.add_argument(
        "--ends", nargs="*", choices=RESOLUTIONS, default=[*RESOLUTIONS]
    )
    parser.add_argument("--tests", nargs="*", default=[], help="files, all by default")
    options = parser.parse_args(arguments)
    if options.pins:
        wrong = check_pins()
        print("\n".join(wrong) or "all pins hold")
        return int(bool(wrong))
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for end in options.ends:
            version, verdict = run_at(end, Path(folder), options.tests)
            failed |= "failed" in verdict or "error" in verdict
            print(f"{end}: jax {version}: {verdict}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
