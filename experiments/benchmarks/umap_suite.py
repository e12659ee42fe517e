"""Runs umap-learn's own tests with its estimators replaced by those of aljax.

    git clone --depth 1 --branch release-0.5.12 https://github.com/lmcinnes/umap
    python -m experiments.benchmarks.umap_suite umap [-k EXPRESSION ...]

umap-learn's repository has the tests, its distributions do not.  They run in a
temporary copy, in this process, with `UMAP` and `AlignedUMAP` of aljax in the modules
of the installed umap-learn; its other functions, such as `nearest_neighbors`, stay.  A
test applies if it makes or takes an estimator.  Prints how many pass, the error of each
that fails, and why others do not apply.  Further arguments are pytest's.
"""

import argparse
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import aljax
from aljax.errors import InputError
from aljax.umap_parameters import Parameters
from experiments import command

ELSEWHERE = {
    "test_parametric_umap.py": "trains a network with keras, which aljax does not",
    "test_plot.py": "draws with umap.plot, which reads umap-learn's private fields",
}
FUNCTIONS = "calls functions of umap-learn alone, no estimator"
CLONE = (
    "git clone --depth 1 --branch release-{} https://github.com/lmcinnes/umap source"
)
FLAGS = (
    *("-q", "-rN", "--no-header", "--tb=no", "--disable-warnings"),
    *("-p", "no:cacheprovider", "-c", "/dev/null"),
)


def swap(folder: Path) -> None:
    """Puts aljax's estimators into umap-learn's modules, beside a folder of tests."""
    import umap
    import umap.aligned_umap
    import umap.umap_

    for module in (umap, umap.umap_, umap.aligned_umap):
        for name in ("UMAP", "AlignedUMAP"):
            if hasattr(module, name):
                setattr(module, name, getattr(aljax, name))
    umap.__path__.append(str(folder))


class Ledger:
    """A plugin of pytest that writes down what came of each test, and why.

    Attributes:
        outcomes: For each test "passed", "failed" or "not applicable", and the reason.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, tuple[str, str]] = {}
        self.made = 0  # estimators, since a test began

    def pytest_runtest_setup(self) -> None:
        """Begins to count the estimators that are made."""
        self.made = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        """Writes a test's outcome down."""
        report = yield
        takes_estimator = any(isinstance(v, Parameters) for v in item.funcargs.values())
        if report.skipped:
            reason = str(call.excinfo.value) if call.excinfo else "skipped"
            self.outcomes[item.name] = "not applicable", f"skipped there: {reason}"
        elif report.failed:
            reason = call.excinfo.exconly().splitlines()[0]
            self.outcomes[item.name] = "failed", reason
        elif report.when == "call":
            self.outcomes[item.name] = "passed", ""
        if report.when == "call" and not (self.made or takes_estimator):
            self.outcomes[item.name] = "not applicable", FUNCTIONS
        return report

    def count(self, new: Any) -> Any:
        """Returns a class's `__new__` that counts what it makes."""

        def counted(cls: type, *values: Any, **parameters: Any) -> Any:
            self.made += 1
            return new(cls, *values, **parameters)

        return counted


def run(source: Path, options: list[str]) -> dict[str, tuple[str, str]]:
    """Returns the outcome of each test, and its reason.

    Raises:
        InputError: The folder has no tests of umap-learn.
    """
    tests = source / "umap" / "tests"
    if not tests.is_dir():
        import umap

        remedy = f"Get one: {CLONE.format(umap.__version__)}"
        expected = "a checkout of umap-learn, with umap/tests"
        raise InputError("source", f"is {str(source)!r}", expected, remedy)
    ledger = Ledger()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "umap")
        shutil.copytree(tests, folder / "tests")
        (folder / "__init__.py").touch()
        swap(folder)
        counting = ledger.count(Parameters.__new__)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Parameters, "__new__", staticmethod(counting))
            flags = [*FLAGS, f"--rootdir={scratch}"]
            flags += [f"--ignore={folder / 'tests' / name}" for name in ELSEWHERE]
            pytest.main([*flags, *options, str(folder / "tests")], plugins=[ledger])
    return ledger.outcomes


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    arguments, options = parser.parse_known_args()
    outcomes = run(arguments.source, options)
    passed = [name for name, (got, _) in outcomes.items() if got == "passed"]
    failed = {name: why for name, (got, why) in outcomes.items() if got == "failed"}
    others = Counter(why for got, why in outcomes.values() if got == "not applicable")
    print(f"\nnot applicable: {others.total()}")
    for why, count in others.items():
        print(f"  {count:3} {why}")
    for module, why in ELSEWHERE.items():
        print(f"  {module}: {why}")
    print(f"\nfailed: {len(failed)}")
    for name, why in failed.items():
        print(f"  {name}: {why}")
    print(f"\n{len(passed) + len(failed)} tests apply, {len(passed)} pass")
    return int(bool(failed))


if __name__ == "__main__":
    command.finish(main)
