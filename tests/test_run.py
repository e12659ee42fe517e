import dataclasses
import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import matplotlib.image
import numpy as np
import pytest
import yaml
from helpers import refused
from matplotlib.figure import Figure

import aljax
from aljax import metrics, plot
from aljax.selection import Selection
from experiments import clocks, composition, run, settings
from experiments.data import sources
from experiments.data.dataset import Dataset
from experiments.results import contents
from experiments.results.folder import folder_beside, publish
from experiments.run import main
from experiments.tasks import fit, selection

ROOT = Path(__file__).parents[1]
FILES = {"slices.png", "loss.png", "maps.aljax"}
FILES |= {"embedding.npz", "metrics.json", "config.yaml"}
QUICK = ["compilation_cache=null", "layout.n_epochs=20"]
DIGITS = ["experiment=digits_sequence", *QUICK, "data.size=60", "data.step=20"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a small run of the digits."""
    root = tmp_path_factory.mktemp("run")
    assert main([*DIGITS, "data.size=600", "data.step=400", f"results={root}"]) == 0
    return root / "digits_sequence"


@pytest.fixture
def own(rng, tmp_path):
    """The overrides for a user's two slices of 40 rows."""
    data = rng.normal(size=(60, 4))
    np.savez(tmp_path / "own.npz", data[:40], data[20:])
    (tmp_path / "mates.json").write_text(
        json.dumps([{str(row): row - 20 for row in range(20, 40)}])
    )
    return ["data=files", "data.path=own.npz", "data.relations=mates.json", *QUICK]


def refusal(arguments, capsys):
    assert main([*arguments, "compilation_cache=null"]) == 1
    message = capsys.readouterr().err.rpartition("\r")[2]  # the bar is wiped off
    if message.startswith("fit 100%"):  # it stays where the fit was not what failed
        message = message.partition("\n")[2]
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert not Path("results").exists()
    return message


def test_a_run_leaves_all_its_files(finished):
    assert {file.name for file in finished.iterdir()} == FILES < set(contents.FILES)
    assert [one.name for one in finished.parent.iterdir()] == [finished.name]
    for picture in ("slices.png", "loss.png"):
        assert matplotlib.image.imread(finished / picture).std() > 0.01


def test_embedding_is_whole_and_holds_no_pickle(finished):
    with np.load(finished / "embedding.npz", allow_pickle=False) as arrays:
        for t in range(3):
            assert arrays[f"slice_{t}"].dtype == np.float32
            assert arrays[f"slice_{t}"].shape == (600, 2)
            assert arrays[f"labels_{t}"].shape == arrays[f"ids_{t}"].shape == (600,)
        assert len(arrays.files) == 10
        assert len(arrays["slice_labels"]) == 3
        np.testing.assert_array_equal(arrays["ids_0"][400:], arrays["ids_1"][:200])


def test_the_folder_holds_the_model(finished):
    model = aljax.load(finished)
    with np.load(finished / "embedding.npz") as arrays:
        for t, positions in enumerate(model.slices()):
            np.testing.assert_array_equal(arrays[f"slice_{t}"], positions)
    assert model.frame(0).data is not None
    with refused("path", "arrays of a run", "maps.aljax"):
        aljax.load(finished / "embedding.npz")


def test_metrics_are_those_of_the_maps(finished):
    kept = json.loads((finished / "metrics.json").read_text())
    with np.load(finished / "embedding.npz") as arrays:
        accuracy = metrics.knn_accuracy(arrays["slice_1"], arrays["labels_1"])
    assert kept["slices"][1]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert len(kept["slices"]) == 3
    assert len(kept["displacement"]) == 2
    assert kept["means"]["displacement"] == pytest.approx(
        np.mean(kept["displacement"]), abs=1e-5
    )
    assert kept["seed"] == 0
    assert kept["versions"]["jax"] == jax.__version__
    stages = {"load", "fit", "measure", "draw", "of which compilation"}
    assert set(kept["seconds"]) == stages
    assert kept["graph_recall"] == pytest.approx(1, abs=0.01)
    assert 100 < kept["peak_memory_mib"] < 100_000


def test_programs_that_threads_compile_at_once_take_their_time_once():
    clock = clocks.CompileClock()
    tell = jax.monitoring.record_event_duration_secs
    for seconds in (1.0, 3.0, 2.0):  # all end now
        tell(clocks.COMPILATION, seconds, fun_name="made up")
    assert clock.programs == 3
    assert clock.seconds == pytest.approx(3, abs=0.5)


def test_the_kept_config_repeats_the_run(finished, capsys):
    config = str(finished / "config.yaml")
    assert main(["--config", config, f"results={finished.parent}"]) == 0
    assert "digits_sequence-2" in capsys.readouterr().out
    again = finished.with_name("digits_sequence-2")
    with (
        np.load(finished / "embedding.npz") as first,
        np.load(again / "embedding.npz") as second,
    ):
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])


def test_own_files_run_and_say_so(own, capsys):
    assert main(own) == 0
    out, err = capsys.readouterr()
    assert {file.name for file in Path("results/files").iterdir()} == FILES
    assert "files: 2 slices, 80 rows" in out
    assert "trust" in out
    assert "results in results/files/" in out
    assert all(term in err for term in ("attraction=", "repulsion=", "alignment="))


def test_auto_leaves_its_curve_among_the_results(own, monkeypatch, capsys, tmp_path):
    weights, seeds = np.array([0.1, 0.7]), np.ones((2, 2))
    curve = Selection(weights, seeds, seeds, 0.7, 0.1, "is chosen")
    monkeypatch.setattr(selection, "select_alignment", lambda *_, **__: curve)
    loaded = []
    load = sources.load

    def count(**options):
        loaded.append(load(**options))
        return loaded[-1]

    monkeypatch.setattr(sources, "load", count)

    def run(kept, _):
        assert sources.take(kept.data) is loaded[0]
        kept.save(tmp_path)
        return tmp_path

    monkeypatch.setattr(fit, "run", run)
    assert main([*own, "alignment.alignment_regularisation=auto"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("files: alignment_regularisation is chosen by mates")
    assert "selection.png" in out
    assert len(loaded) == 1
    assert json.loads((tmp_path / "selection.json").read_text())["choice"] == 0.7
    assert matplotlib.image.imread(tmp_path / "selection.png").std() > 0.01
    kept = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert kept["alignment"]["alignment_regularisation"] == 0.7


def test_motion_is_drawn_where_asked_for(own, capsys):
    assert main([*own, "motion=true"]) == 0
    files = {file.name for file in Path("results/files").iterdir()}
    assert files == set(contents.FILES) - {"inverse.png"}
    assert "animation.gif" in capsys.readouterr().out


@pytest.mark.filterwarnings("default")
def test_motion_of_a_single_slice_is_told_not_to_be_drawn(own, capsys):
    data = np.load("own.npz")["arr_0"]
    np.save("alone.npy", data)
    alone = [text for text in own if "relations" not in text]
    still = ["data.path=alone.npy", "motion=true", "layout.n_epochs=0"]
    assert main([*alone, *still]) == 0
    assert "motion=true draws nothing" in capsys.readouterr().err


def test_motion_without_its_package_is_refused_before_the_fit(own, capsys, monkeypatch):
    monkeypatch.setattr(contents, "find_spec", lambda _: None)
    assert "pip install 'aljax[plot]'" in refusal([*own, "motion=true"], capsys)
    assert not Path("results").exists()


def test_a_folder_that_exists_is_left_alone(own):
    Path("results/files").mkdir(parents=True)
    Path("results/files-2").touch()
    assert main(own) == 0
    assert {one.name for one in Path("results").iterdir()} == {
        *("files", "files-2", "files-3")
    }
    assert not [*Path("results/files").iterdir()]


def test_a_disk_that_is_full_before_the_pictures_is_told(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with refused("results", f"is {tmp_path}, where there is no room"):  # noqa: SIM117
        with folder_beside(tmp_path) as beside:
            monkeypatch.setattr(os, "replace", fail)
            plot.save(Figure(), beside / "slices.png")


def test_a_rename_that_comes_second_takes_the_next_number(tmp_path, monkeypatch):
    beside = tmp_path / ".beside"
    beside.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").touch()
    first, look = iter([False]), os.path.lexists  # the other is made after the look
    monkeypatch.setattr(
        os.path, "lexists", lambda path: next(first, True) and look(path)
    )
    assert publish(beside, "run") == tmp_path / "run-2"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")])
@pytest.mark.parametrize("stage", ["write_pictures", "write_json", "publish"])
def test_a_run_that_fails_leaves_its_layout_and_no_results(
    own, monkeypatch, capsys, error, stage
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(contents, "write_pictures", lambda *_: None)  # they take long
    room = contents if stage == "write_pictures" else fit
    monkeypatch.setattr(room, stage, fail)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError):
            main(own)
    else:
        assert main(own) == 130
    assert "the layout is kept in " in capsys.readouterr().err
    assert [one.name for one in Path("results").iterdir()] == ["files.checkpoints"]


def test_an_error_inside_is_no_refusal(own, monkeypatch):
    monkeypatch.setattr(aljax, "fit", lambda *_, **__: np.zeros(2).reshape(3))
    with pytest.raises(ValueError, match="reshape"):
        main(own)


def test_one_slice_no_epochs_no_labels(rng):
    np.save("one.npy", rng.normal(size=(25, 4)))
    overrides = ["compilation_cache=null", "layout.n_epochs=0"]
    for components in (1, 3):
        name = f"name=maps{components}"
        shape = f"layout.n_components={components}"
        assert main(["data=files", "data.path=one.npy", name, shape, *overrides]) == 0
    kept = json.loads(Path("results/maps3/metrics.json").read_text())
    assert kept["displacement"] == []
    assert kept["means"] == dict.fromkeys(kept["means"])  # too small for k = 15


def test_former_names_of_settings_are_read_with_a_warning():
    with pytest.warns(DeprecationWarning, match="`task.training..* is now"):
        composed = composition.compose(
            ["experiment=encoder", "task.training.epochs=40", "task.training.last=9"]
        )
    training = composed["task"]["training"]
    assert training["adjoint"] == "unrolled"
    assert training["unrolled"] == {"n_epochs": 40, "last": 9}


def test_every_setting_can_be_overridden():
    defaults = composition.dataclass_defaults()
    overrides = [
        f"{section}.{name}={'null' if value is None else value}"
        for section, values in defaults.items()
        for name, value in values.items()
    ]
    composed = composition.compose(["data=digits_sequence", *overrides])
    built = settings.build(composed)
    assert built.graph == aljax.GraphConfig()
    assert built.layout == aljax.LayoutConfig()
    assert built.alignment == aljax.AlignmentConfig()
    composed = composition.compose(
        [
            *("experiment=digits_sequence", "layout.min_dist=[.1,.2]", "layout=quick"),
            *("alignment.alignment_regularisation=0.5", "graph.metric_kwds={p: 3}"),
            *("data.step=100", "seed=7", "results=~/maps"),
        ]
    )
    built = settings.build(composed)
    assert built.layout == aljax.LayoutConfig(min_dist=[0.1, 0.2], n_epochs=100)
    assert built.alignment.alignment_regularisation == 0.5
    assert built.graph.metric_kwds == {"p": 3}
    assert built.data == {"source": "digits_sequence", "size": 400, "step": 100}
    assert (built.seed, built.results) == (7, Path.home() / "maps")


def test_settings_that_look_like_references_are_kept_as_text(tmp_path):
    csv = composition.spelled({"na_values": ["${x}", "\\${y}"]})
    table = ["data=table", "data.path=x.csv", "data.slice=year", "data.id=name"]
    composed = composition.compose([*table, f"data.csv={csv}"])
    settings.build(composed).save(tmp_path)
    assert composition.compose([], tmp_path / "config.yaml") == composed


def test_configs_repeat_no_default():
    for group, names in composition.choices().items():
        for name in names:
            file = composition.CONFIG.parent / group / f"{name}.yaml"
            config = yaml.safe_load(file.read_text())
            assert group != "experiment" or config["name"] == name
            for section, values in composition.dataclass_defaults().items():
                given = config if group == section else config.get(section, {})
                assert all(values[key] != given[key] for key in given)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("layout.min_dsit=.2", ["`layout.min_dsit`", "`layout.min_dist`"]),
        ("+layout.min_dsit=.2", ["`layout.min_dsit`", "`layout.min_dist`"]),
        ("alignmnt.x=1", ["`alignmnt`", "`alignment`"]),
        ("sead=1", ["`sead`", "`seed`"]),
        ("layout.min_dist.x=1", ["`layout.min_dist.x`", "`layout.min_dist`"]),
        ("layout=quik", ["`layout=quik`", "`layout=quick`"]),
        ("data.stp=5", ["`data.stp`", "`data.step`"]),
        ("layout.min_dist=abc", ["`layout.min_dist` is 'abc'", "number"]),
        ("layout.min_dist=.1,.2", ["layout.min_dist=[0.1,0.2]"]),
        ("layout.min_dist=[.1", ["`layout.min_dist=[.1`", "cannot be read"]),
        ("data.slice=größe", ["cannot be read", "\"data.slice='größe'\""]),
        ("layout.min_dist=[.1,.2]", ["`min_dist` has 2 values", "87 slices"]),
        ("layout.init=pcaa", ["`layout.init` is 'pcaa'", "`pca`"]),
        ("layout.a=1", ["`layout.b` is None"]),
        ("graph=5", ["`graph` is 5"]),
        ("seed=x", ["`seed` is 'x'", "whole number"]),
        ("motion=maybe", ["`motion` is 'maybe'", "true or false"]),
        ("seed=-1", ["`seed` is -1", "at most 4294967295"]),
        ("seed=true", ["`seed` is True"]),
        ("hydra.run.dir=out", ["`hydra.run.dir` is a setting of Hydra", "-m"]),
        ("name=../x", ["`name` is '../x'"]),
        ("data.size=big", ["`data.size` is 'big'", "whole number"]),
        (f"name={'x' * 201}", ["`name` has 201 bytes", "200"]),
        ("name=one.checkpoints-2", ["`name` is 'one.checkpoints-2'", "unfinished"]),
        ("+task.memory=5", ["`task.memory` is not a setting of task fit"]),
        ("task.name=encoder", ["`task.width` is missing", "encoder"]),
        ("task.name=feature_weights", ["`task.noise_columns` is missing"]),
        ("data.size=0", ["`data.size` is 0", "at least 1"]),
        ("data.size=2000", ["`data.size` is 2000", "1797"]),
    ],
)
def test_a_wrong_setting_is_named(override, named, capsys):
    message = refusal([*DIGITS, override], capsys)
    assert all(name in message for name in named)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "experiment=digits_sequence"),
        (["experiment=digits_sequnce"], "`experiment=digits_sequence`"),
        (["digits_sequence"], "`experiment=digits_sequence`"),
        (["data=fles"], "`data=files`"),
        (["data=files"], "Add data.path=..., which `--help data.path` explains."),
        (["data=files", "data.path=nowhere"], "nothing is there"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["-m", "--config", "a.yaml", "data=digits"], "`-m` and `--config` are set"),
        (["-m", "data=digits", "seed=0,1", "layout.min_dst=3"], "`layout.min_dist`"),
        (["data=digits", "-m", "seed=0,1", "layout.min_dst=3"], "`layout.min_dist`"),
        (["-m", "data=digits", "a b"], "`a b` cannot be read"),
        (["shops.csv"], "`data=table data.path=shops.csv`"),
        (["--data.slice=month"], "no dashes: data.slice=month."),
        (["--list"], "`--list` is not an option"),
        (["--reproduce", "."], "which has no config.yaml"),
        (["experiment=encoder", "task.width=-1"], "`task.width` is -1"),
        (["experiment=encoder", "task.training.steps=0"], "`task.training.steps` is 0"),
        (["experiment=feature_weights", "task.known_rows=9999"], "`task.known_rows`"),
        (["experiment=feature_weights", "task.against=unroled"], "`unrolled`"),
        (["experiment=slice_metrics", "task.slices=1"], "`task.slices` is 1"),
        (["experiment=readable", "task.penalty=-1"], "`task.penalty` is -1"),
        (["experiment=alignment_weights", "task.grid=[-1]"], "`task.grid[0]` is -1"),
        (["experiment=alignment_weights", "task.grid=1"], "`task.grid` is 1"),
        (
            ["experiment=alignment_weights", "data=walk", "data.points=2"],
            "has 2 rows in slice 0; expected at least 3 in each",
        ),
        (["experiment=digits_sequence", "results=/dev/null"], "cannot be written"),
        (["experiment=digits_sequence", "results=nothing/x"], "cannot be written"),
    ],
)
def test_a_wrong_choice_is_named(arguments, hint, capsys):
    Path("nothing").symlink_to("/nowhere/x")
    assert hint in refusal(arguments, capsys)


def test_results_are_tried_before_anything_is_computed(monkeypatch, capsys):
    monkeypatch.setattr(selection, "resolved", lambda *_: pytest.fail("computed"))
    auto = "alignment.alignment_regularisation=auto"
    words = ["experiment=digits_sequence", auto, "results=/dev/null"]
    assert "cannot be written" in refusal(words, capsys)


def test_a_reader_that_leaves_early_sees_no_trace():
    command = f"{shlex.quote(sys.executable)} -m experiments.run --help | head -n 1"
    shown = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert shown.stdout.count("\n") == 1
    assert not shown.stderr


def test_help_finds_settings_by_a_word(capsys):
    assert main(["--help", "min_dist"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("=")[0].strip() for line in shown] == [
        *("layout.min_dist", "layout.a", "layout.b")
    ]
    assert "`min_dist`" in refusal(["--help", "min_dst"], capsys)


def test_help_explains_every_setting_on_two_screens(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") <= 100
    assert "...\n" not in out
    assert "digits_sequence " in out
    assert re.search(r"data.relations=null +A JSON list", out)
    assert re.search(r"motion=false +Draws how members move", out)
    for last in ('or "uniform"', '"mates" or "auto"', '"pynndescent" or "auto"'):
        assert f"{last}\n" in out  # all values that a setting takes
    assert "exp(" not in out  # whose argument would be cut
    for section in composition.SECTIONS.values():
        for field in dataclasses.fields(section):
            assert re.search(rf"\.{field.name}=\S+ +\S", out), field.name


def test_help_describes_the_choices(capsys):
    assert main(["--help", "experiment", "data", "task"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"experiment=digits_sequence +The digits", out)
    assert re.search(r"data=files +data.path=\?\?\? data.relations=null", out)
    assert re.search(r"sweep +A sweep from the command line", out)


def start(*arguments):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), HOME=str(Path.cwd()))
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_programs_are_kept_and_loaded_in_silence(own):
    written = []
    for _ in range(2):
        arguments = [one for one in own if "cache" not in one]
        process = start(*arguments)
        _, err = process.communicate()
        assert process.returncode == 0, err
        assert all(
            line.startswith("fit") for line in err.split("\n")[0].split("\r")[1:]
        )
        assert "machine" not in err
        written.append(sorted(os.listdir(".cache/aljax")))
    assert written[0]
    assert {one.name for one in Path.cwd().iterdir()} - {".cache", ".config"} == {
        *("own.npz", "mates.json", "results")
    }
    assert [name for name in written[1] if "-cache" in name] == [
        name for name in written[0] if "-cache" in name
    ]


def test_ctrl_c_ends_a_run_cleanly(own):
    process = start(*own, "layout.n_epochs=2000")
    while not Path("results/files.checkpoints").exists():  # it loads, or compiles
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "stopped; the layout is kept in " in err
    assert err.splitlines()[-1].endswith("layout.n_epochs=2000 resume=true")
    assert "Traceback" not in err
    assert [one.name for one in Path("results").iterdir()] == ["files.checkpoints"]


@pytest.mark.slow
def test_a_grid_of_the_map_is_read_back_and_drawn(tmp_path, capsys):
    assert main([*DIGITS, "data.size=900", "data.step=400", "inverse={grid: 3}"]) == 0
    assert "inverse.png" in capsys.readouterr().out
    folder = tmp_path / "results" / "digits_sequence"
    assert matplotlib.image.imread(folder / "inverse.png").std() > 0.01


def test_a_grid_is_drawn_where_labels_are_quantities(rng, tmp_path):
    rows = rng.normal(size=(300, 4))
    labels = [rng.normal(size=300)]  # more than there are colors of classes
    dataset = Dataset([rows], [], [np.arange(300)], ["all"], labels=labels)
    layout = aljax.LayoutConfig(n_epochs=0)
    maps = aljax.fit([rows], key=jax.random.key(0), layout=layout)
    words = ["data=digits", "layout.n_epochs=0", "inverse={grid: 2}"]
    drawn = settings.build(composition.compose(words))
    contents.draw(tmp_path, drawn, dataset, maps)
    assert (tmp_path / "inverse.png").exists()


def test_data_that_are_no_images_cannot_be_drawn_as_such(rng, tmp_path, capsys):
    np.savez(tmp_path / "own.npz", rng.normal(size=(60, 5)))
    given = ["data=files", "data.path=own.npz", *QUICK, "inverse={grid: 3}"]
    assert "5 features" in refusal(given, capsys)


def test_what_is_not_installed_is_said_with_the_command(monkeypatch, capsys):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'hydra'", name="hydra.core")

    monkeypatch.setattr(run, "_main", missing)
    assert main([]) == 1
    assert "hydra.core is not installed; run: pip install" in capsys.readouterr().err


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("min_dist=0.2", "`layout.min_dist`"),
        ("layout.n_epochs=None", "or null"),
        ("layout.n_neighbors=5", "`graph.n_neighbors`"),
    ],
)
def test_a_setting_in_the_wrong_place_is_told_the_right_one(
    override, hint, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    said = refusal([*DIGITS, override], capsys)
    assert f"`{override.partition('=')[0]}`" in said
    assert hint in said
