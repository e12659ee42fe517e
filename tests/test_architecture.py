"""Imports run one way, up the list below; rooms are small and have a place."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import aljax

PACKAGE = Path(aljax.__file__).parent
ORDER = [
    "errors",
    "columns",
    "compilation",
    "keys",
    "checks",
    "curve",
    "config",
    "graph.knn",
    "graph.conditioning",
    "graph.rows",
    "graph.function",
    "graph.pairs",
    "graph.exact",
    "graph.cells",
    "graph.approximate",
    "graph.queries",
    "graph.descent",
    "graph.fuzzy",
    "graph.slices",
    "scaling",
    "spreads",
    "graph.neighbors",
    "graph.supervised",
    "graph.joined",
    "graph.build",
    "relations.mates",
    "relations.read",
    "relations.evidence",
    "relations.strengths",
    "relations.anchors",
    "relations.transport",
    "relations.sides",
    "relations.drift",
    "relations.plan",
    "couple",
    "tables",
    "layout.spectral",
    "layout.spaces",
    "layout.problem",
    "layout.coordinates",
    "layout.initialize",
    "layout.finish",
    "layout.losses",
    "layout.shifts",
    "layout.objective",
    "layout.optimize",
    "layout.packing",
    "layout.ahead",
    "layout.sharding",
    "layout.leaves",
    "layout.newton",
    "layout.minimum",
    "layout.implicit",
    "layout.adjoint",
    "layout.outer",
    "inverse",
    "project",
    "new_rows",
    "transform",
    "files",
    "consistency",
    "export",
    "embedding",
    "contributions",
    "checkpoints",
    "progress",
    "running",
    "fit",
    "distributed",
    "update",
    "repeats",
    "metrics.ranks",
    "metrics.maps",
    "metrics.distances",
    "metrics.motion",
    "metrics.held",
    "metrics.moved",
    "sweep",
    "selection",
    "umap_parameters",
    "single_map",
    "estimator",
    "plot",
]
# Methods that open onto a room above, which they import when they are called.
DOORS = {
    "embedding": {"aljax.update", "aljax.plot"},
    "layout.implicit": {"aljax.layout.adjoint"},
}
EXPERIMENTS = PACKAGE.parent / "experiments"
ORDER_OF_EXPERIMENTS = [
    *("composition", "settings", "interrupts", "clocks"),
    *(
        "data.archives",
        "data.packages",
        "data.dataset",
        "data.fashion",
        "data.dates",
        "data.columns",
        "data.files",
        "data.tables",
        "data.places",
        "data.stores",
    ),
    *("data.sorting", "data.sequences", "data.baseball"),
    *("data.countries", "data.senate", "data.speeches", "data.sources"),
    *("results.folder", "results.records", "results.report"),
    *("results.contents", "results.resume"),
    *(
        "command",
        "benchmarks.peers",
        "benchmarks.cases",
        "benchmarks.fresh",
        "benchmarks.race",
    ),
    *("tasks.grid", "tasks.tradeoff", "tasks.training"),
    *(
        "tasks.alignment_weights",
        "tasks.selection",
        "tasks.perform",
        "tasks.fit",
        "tasks.sweep",
    ),
    *("tasks.feature_weights", "tasks.slice_metrics", "tasks.encoder"),
    *("tasks.readable",),
    *("tasks.watch", "tasks.distributed"),
    *("tasks.multirun",),
    *("results.reproduce", "usage", "run"),
    *("benchmarks", "evaluation.dynamic_tsne", "evaluation.methods"),
    *("evaluation.profiles", "evaluation.scores", "evaluation.tables"),
    *("evaluation", "tutorials", "versions", "__main__"),
]
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = {
    path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in MODULES
}
HEAVY = [
    *("matplotlib", "plotly", "datashader", "PIL", "pandas", "anndata"),
    *("sklearn", "pynndescent", "numba", "hydra", "umap", "tqdm", "orbax"),
    *("scipy.linalg", "scipy.optimize", "scipy.spatial", "scipy.stats"),
]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too, by its full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def place(name: str) -> int | None:
    """Where a module, or a room of one, stands in the order."""
    places = [i for i, room in enumerate(ORDER) if f"{name}.".startswith(f"{room}.")]
    return places[0] if places else None


@pytest.mark.parametrize("path", MODULES, ids=NAMES.__getitem__)
def test_imports_run_up_the_list(path):
    if path.name == "__init__.py":
        return
    own = place(NAMES[path])
    assert own is not None, f"{NAMES[path]} has no place in the order"
    for name in imports(path):
        if not name.startswith("aljax."):
            assert name != "aljax", f"{NAMES[path]} imports the package itself"
            continue
        other = place(name.removeprefix("aljax."))
        door = any(f"{name}.".startswith(f"{d}.") for d in DOORS.get(NAMES[path], ()))
        if other is not None and not door:
            assert other <= own, f"{NAMES[path]} imports {name} from below"


ROOMS = sorted(p for p in EXPERIMENTS.rglob("*.py") if p.name != "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(EXPERIMENTS).with_suffix("").parts)


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_imports_of_experiments_run_up_their_list(path):
    def stands(name: str) -> int | None:
        order = ORDER_OF_EXPERIMENTS
        rooms = [room for room in order if f"{name}.".startswith(f"{room}.")]
        folder = (EXPERIMENTS / name.replace(".", "/")).is_dir()
        return order.index(max(rooms, key=len)) if rooms and not folder else None

    own = stands(name_of(path))
    assert own is not None, f"{name_of(path)} has no place in the order"
    for name in imports(path):
        other = stands(name.removeprefix("experiments."))
        if name.startswith("experiments.") and other is not None:
            assert other <= own, f"{name_of(path)} imports {name} from below"
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=NAMES.__getitem__)
def test_the_library_knows_nothing_of_experiments(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"experiments", "hydra", "omegaconf", "umap", "tests"}
    if not NAMES[path].startswith("plot"):
        assert not roots & {"matplotlib", "plotly"}


@pytest.mark.parametrize("path", MODULES, ids=NAMES.__getitem__)
def test_no_module_is_large_or_a_place_for_anything(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "util", "base", "helpers", "common", "misc")


def test_importing_the_library_loads_nothing_heavy():
    # SciPy before 1.14 loads its linalg with its sparse matrices.
    code = "import sys, scipy.sparse; others = {*sys.modules}; import aljax; "
    code += "print(*{*sys.modules} - others)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "aljax.fit" in loaded
    assert not {*HEAVY} & {*loaded}


@pytest.mark.parametrize("room", ["layout", *aljax.ROOMS])
def test_a_room_lists_its_public_names_alone_and_each_is_documented(room):
    module = importlib.import_module(f"aljax.{room}")
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name


def test_every_public_name_exists_and_is_documented():
    for name in aljax.__all__:
        assert getattr(aljax, name).__doc__, name
