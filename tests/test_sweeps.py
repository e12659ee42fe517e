"""Sweeps from the command line: what they write, and how they go on."""

import csv
import json
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import matplotlib.image
import numpy as np
import pytest
from helpers import refused
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

from aljax.metrics import knn_accuracy
from experiments import settings
from experiments.benchmarks import peers, race
from experiments.composition import compose, expanded
from experiments.data.dataset import Dataset
from experiments.results import contents, folder
from experiments.run import main
from experiments.tasks import multirun, sweep, tradeoff

QUICK = ["compilation_cache=null", "layout.n_epochs=3"]
GRID = "task.grid={product: {alignment_regularisation: [0.01, 1.0], seed: [0, 1]}}"
RIVALS = ("umap-learn", "umap-learn + Procrustes")


@pytest.fixture
def own(rng, tmp_path, monkeypatch):
    """The overrides for a small sweep over a user's two slices of 40 rows."""
    monkeypatch.chdir(tmp_path)
    data = rng.normal(size=(60, 4))
    np.savez(tmp_path / "own.npz", data[:40], data[20:])
    mates = [{str(row): row - 20 for row in range(20, 40)}]
    (tmp_path / "mates.json").write_text(json.dumps(mates))
    return [
        *("data=files", "data.path=own.npz", "data.relations=mates.json", *QUICK),
        *("name=swept", "task.name=sweep", f"+{GRID}"),
    ]


def lines(path: str | Path = "results/swept/sweep.csv") -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_writes_a_line_for_each_setting_and_pictures(own, monkeypatch, capsys):
    def rival(data, settings, seed):
        del settings, seed
        return [np.asarray(one[:, :2]) for one in data.slices], {}

    monkeypatch.setitem(peers.METHODS, RIVALS[0], rival)

    def missing(*_):
        raise peers.MissingPeerError("run: pip install it")

    monkeypatch.setitem(peers.METHODS, RIVALS[1], missing)
    assert main([*own, f"+task.rivals=[{', '.join(RIVALS)}]"]) == 0
    rows = lines()
    assert [(row["alignment_regularisation"], row["seed"]) for row in rows] == [
        *(("0.01", "0"), ("0.01", "1"), ("1.0", "0"), ("1.0", "1"))
    ]
    assert {"trustworthiness", "displacement", "attraction"} <= set(rows[0])
    kept = json.loads(Path("results/swept/sweep.json").read_text())
    assert len(kept["rows"]) == 4
    assert [*kept["rivals"]] == [RIVALS[0]]
    assert "umap-learn + Procrustes is left out: run: pip" in capsys.readouterr().out
    for picture in ("pareto.png", "maps.png"):
        assert matplotlib.image.imread(f"results/swept/{picture}").std() > 0.01


def test_a_sweep_that_was_stopped_runs_only_what_is_not_finished(own, monkeypatch):
    ran = []

    def counted(problem, settings, **options):
        ran.append(len(settings))
        return sweeps_sweep(problem, settings, **options)

    sweeps_sweep = sweep.sweep
    for picture in ("pareto", "multiples"):  # which take long
        monkeypatch.setattr(tradeoff, picture, lambda *_, **__: Figure())
    monkeypatch.setattr(sweep, "sweep", counted)
    write = sweep.Store.write

    def stop_after_two(store, *row):
        if len([*Path("results/swept/rows").glob("*.npz")]) == 2:
            raise KeyboardInterrupt
        write(store, *row)

    monkeypatch.setattr(sweep.Store, "write", stop_after_two)
    assert main(own) == 130
    assert not Path("results/swept/sweep.csv").exists()
    monkeypatch.setattr(sweep.Store, "write", write)
    assert main(own) == 0
    assert main(own) == 0
    assert ran == [4, 2]
    assert len(lines()) == 4
    # Other settings are other rows.
    assert main([*own, "layout.n_epochs=2"]) == 0
    assert ran == [4, 2, 4]


def test_jobs_start_in_any_folder_and_a_stop_keeps_their_rows(own, monkeypatch, capsys):
    commands = []

    def popen(command, **_):
        commands.append(command)
        signal.raise_signal(signal.SIGTERM)
        return nullcontext(SimpleNamespace(poll=lambda: -15, returncode=-15))

    monkeypatch.setattr(multirun.subprocess, "Popen", popen)
    assert main(["-m", *own, "results='ö, (b)'"]) == 143
    assert "finished settings will not be run again" in capsys.readouterr().err
    (place,) = (text for text in commands[0] if text.startswith("hydra.sweep.dir="))
    (parsed,) = OverridesParser.create().parse_overrides([place])
    assert not parsed.is_sweep_override()
    assert parsed.value() == str(Path("ö, (b)/swept/jobs").resolve())


@pytest.mark.slow
def test_jobs_of_their_own_find_the_same_rows(own):
    assert main(own) == 0
    alone = lines()
    assert main(["-m", *own, "name=jobs"]) == 0
    assert lines("results/jobs/sweep.csv") == alone
    assert not Path("multirun").exists()
    assert not Path("outputs").exists()


def test_runs_of_several_values_are_named_by_them_and_summed_up(
    own, capsys, monkeypatch
):
    def here(overrides, where, rows, interrupts):
        """Does what Hydra's own process does, in this one."""
        del interrupts
        for row in rows:
            jobs = OmegaConf.load(where / "jobs.yaml")
            jobs.merge_with_dotlist([f"job={row}", *overrides])
            multirun.job(cast(DictConfig, jobs))
        return 0

    monkeypatch.setattr(multirun, "_launch", here)
    monkeypatch.setattr(contents, "write_pictures", lambda *_: None)  # they take long
    swept = ["-m", *own[:-2], "alignment.alignment_regularisation=0.01,1"]
    assert main(swept) == 0
    folder = Path("results/swept-multirun")
    names = [f"alignment_regularisation={weight}" for weight in ("0.01", "1")]
    rows = lines(folder / "summary.csv")
    assert [row["folder"] for row in rows] == names
    for name, row in zip(names, rows, strict=True):
        means = json.loads((folder / name / "metrics.json").read_text())["means"]
        assert float(row["displacement"]) == means["displacement"]
    assert matplotlib.image.imread(folder / "summary.png").std() > 0.01
    # What is finished is not run again, and what was refused is told with its reason.
    capsys.readouterr()
    assert main([*swept, "resume=true"]) == 0
    assert "0 of 2 runs to do" in capsys.readouterr().out
    assert lines(folder / "summary.csv") == rows
    assert [one.name for one in Path("results").iterdir()] == [folder.name]
    Path("own.npz").rename("gone.npz")
    assert main(["-m", *own[:-2], "seed=0,1", "name=gone"]) == 1
    err = capsys.readouterr().err
    for seed in (0, 1):
        assert f"without results: seed={seed}: `data.path` is own.npz" in err


@pytest.mark.parametrize(
    ("overrides", "name", "words"),
    [
        (["seed=0,1", "layout.min_dits=1"], "layout.min_dits", ["`layout.min_dist`"]),
        (["layout.min_dist=0.1,5"], "layout.min_dist", ["is 5"]),
        (["seed=interval(0,1)"], "seed", ["is interval(0,1)", "seed=range(3)"]),
        (["data=digitz,mnist"], "data=digitz", ["`data=digits`"]),
        (["seed=1,1"], "-m", ["has seed=1 twice"]),
        (["task.gird.product.seed=[1]"], "task.gird", ["`task.name`"]),
        ([], "-m", ["has a single job"]),
        (["hydra/launcher=ray", "seed=0,1"], "hydra/launcher", ["aljax[ray]"]),
    ],
)
def test_several_runs_are_refused_as_one_is(
    own, overrides, name, words, capsys, monkeypatch
):
    monkeypatch.setattr(multirun, "optional_spec", lambda _: None)
    data = own[:3] if not any("data" in text for text in overrides) else []
    assert main(["-m", *data, *overrides]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: `{name}` ")
    assert all(word in err for word in words)
    assert not Path("results").exists()


def test_points_that_coincide_are_rings_and_all_are_named():
    row = {"displacement": 0.1, "trustworthiness": 0.9}
    settings = [{"min_dist": 0.1}, {"min_dist": 0.2}]
    figure = tradeoff.pareto([row, row], {}, heading="two", settings=settings)
    (axis,) = figure.axes
    points: Any = axis.collections[0]
    assert len({*points.get_sizes().tolist()}) == 2
    shown = [text.get_text() for text in axis.texts if text.get_visible()]
    assert shown == ["min_dist 0.1", "min_dist 0.2"]


def test_displacements_that_hardly_differ_can_be_read_off():
    rows = [{"displacement": d, "trustworthiness": 0.9} for d in (0.09, 0.14)]
    (axis,) = tradeoff.pareto(rows, {}, heading="two").axes
    (low, high), ticks = axis.get_xlim(), axis.get_xticks()
    assert sum(low <= tick <= high for tick in ticks) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "launcher", "options"),
    [
        ("joblib", "joblib", ["hydra.launcher.n_jobs=2"]),
        ("submitit", "submitit_local", []),
        ("ray", "ray", ["+hydra.launcher.ray.init.num_cpus=1"]),
    ],
)
def test_launchers_run_the_jobs_and_one_that_fails_ends_no_others(
    own, extra, launcher, options, capfd
):
    pytest.importorskip(
        f"hydra_plugins.hydra_{extra}_launcher", reason=f'pip install "aljax[{extra}]"'
    )
    launched = [f"hydra/launcher={launcher}", *options]
    assert main(["-m", *own, *launched]) == 0
    assert len(lines()) == 4
    swept = ["-m", *own[:-2], "data.path=nowhere.npz,own.npz", "seed=0,1"]
    assert main([*swept, *launched]) == 1
    rows = lines("results/swept-multirun/summary.csv")
    assert [row["folder"] for row in rows] == [
        "path=own.npz,seed=0",
        "path=own.npz,seed=1",
    ]
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "without results: path=nowhere.npz,seed=1: `data.path` is nowhere.npz" in err


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("override", "name", "words"),
    [
        *(
            (f"+task.grid={{product: {{{axis}}}}}", name, words)
            for axis, name, words in (
                ("min_dst: [0.1]", "settings[0]", ["`min_dst`", "`min_dist`"]),
                ("", "task.grid", ["is empty"]),
                ("seed: [-1]", "seed", ["is -1"]),
                ("min_dist: [-1]", "min_dist", ["is -1"]),
            )
        ),
        ("+task.memory=1000", "memory", ["is 1000 bytes"]),
        ("+task.memry=1000", "task.memry", ["`task.memory`"]),
        ("+task.rivals=umap-learn", "task.rivals", ["is 'umap-learn'", "a list"]),
        ("results=/dev/null/x", "results", ["is /dev/null/x"]),
        ("task.name=sweeep", "task.name", ["'sweeep'", "`sweep`"]),
    ],
)
def test_bad_input_is_named(own, override, name, words, capsys):
    kept = own[:-1] if "task.grid" in override else own
    assert main([*kept, override]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: `{name}` ")
    assert all(word in err for word in words)


@pytest.mark.filterwarnings("always")
def test_warnings_of_a_task_are_lines(own, capsys):
    assert main([*own, "compilation_cache=/dev/null/x", "+task.memory=0"]) == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: `compilation_cache` is /dev/null/x")
    assert error.startswith("error: `memory`")


def test_a_sweep_measures_no_slices_too_small_for_it(own, rng, capsys):
    data = rng.normal(size=(40, 4))
    np.savez("own.npz", data, data[:25])
    Path("mates.json").write_text(json.dumps([{str(row): row for row in range(20)}]))
    assert main([*own, "task.grid.product.seed=[0]"]) == 0
    assert float(lines()[0]["trustworthiness"]) > 0.5
    np.savez("own.npz", data[:20], data[:20])
    assert main([*own, "results=smaller"]) == 1
    assert "`data` has no slice of more than 20 rows;" in capsys.readouterr().err
    assert not Path("smaller").exists()


def test_a_sweep_leaves_the_result_of_a_fit_alone(own, capsys):
    assert main([*own[:-2], "task.name=fit"]) == 0
    before = {one.name: one.read_bytes() for one in Path("results/swept").iterdir()}
    assert main(own) == 1
    assert "has the result of a fit" in capsys.readouterr().err
    after = {one.name: one.read_bytes() for one in Path("results/swept").iterdir()}
    assert after == before


def test_a_shipped_grid_is_replaced_by_name():
    short = ["experiment=digits_sweep", "task.grid.product.seed=[3]"]
    given = compose([*short, "task.grid.product.alignment_regularisation=[0.1,0.3]"])
    assert [*given["task"]["grid"]["product"].values()] == [[0.1, 0.3], [3]]
    given = compose([*short, "task.grid={zip: {min_dist: [0, 0.1]}}"])
    assert given["task"]["grid"] == {"zip": {"min_dist": [0, 0.1]}}


def test_a_row_that_is_damaged_is_named_with_the_remedy(rng, tmp_path):
    data = [rng.normal(size=(4, 3))]
    store = sweep.Store(tmp_path, Dataset(data, [], [np.arange(4)], [""], None))
    store.write({"seed": 0}, sweep.Finished({"trustworthiness": 0.9}, [data[0][:, :2]]))
    measures, (positions,) = store.read({"seed": 0})
    assert measures == {"trustworthiness": 0.9}
    np.testing.assert_array_equal(positions, data[0][:, :2])
    path = store.path({"seed": 0})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with refused("results", path.name, "Remove it"):
            store.read({"seed": 0})


def test_a_sweep_reads_labels_as_a_fit_does(rng, tmp_path, monkeypatch):
    for name in ("trustworthiness", "neighborhood_preservation"):
        monkeypatch.setattr(race, name, lambda *_, **__: 1.0)
    rows, labels = rng.normal(size=(100, 2)), rng.integers(3, size=100).astype(float)
    labels[40:] = np.nan
    dataset = Dataset([rows], [], [np.arange(100)], [""], [labels])
    measured = sweep.Store(tmp_path, dataset).measure([rows])
    assert measured["knn_accuracy"] == knn_accuracy(rows[:40], labels[:40])
    dataset = replace(dataset, labels=[rows[:, 0]])  # quantities
    assert "knn_accuracy" not in sweep.Store(tmp_path, dataset).measure([rows])


def test_values_of_two_settings_whose_names_end_alike_are_told_apart():
    words = ["data=gaussians", "seed=0,1", "data.seed=5,6", "layout.min_dist=0.1,0.2"]
    swept = [values for values, _ in expanded(words)]
    assert len({str(values) for values in swept}) == len(swept) == 8
    assert swept[-1] == {"seed": "1", "data.seed": "6", "min_dist": "0.2"}
    (row, _), _ = expanded(["data=fashion", "data.folder=old,new"])
    assert row == {"data.folder": "old"}


def test_long_values_that_begin_alike_have_a_folder_each():
    texts = [f"min_dist={[0.1] * 60 + [last]}" for last in (0.2, 0.3)]
    names = [folder.named(text) for text in texts]
    assert len({*names}) == 2
    assert all(len(name) == settings.LONGEST for name in names)
    assert len(folder.named("größe=" + "ö" * 200).encode()) <= settings.LONGEST


def test_a_sweep_relates_rows_by_ids_where_asked_for(own, rng, monkeypatch):
    slices = [rng.normal(size=(40, 4)) for _ in range(2)]
    unrelated = Dataset(slices, [{}], [np.arange(40)] * 2, ["", ""])
    monkeypatch.setattr(sweep.sources, "take", lambda _: unrelated)
    grid = "+task.grid={product: {min_dist: [0.1]}}"
    assert main([*own[:-1], grid, "by_ids=true"]) == 0
    (row,) = lines()
    assert float(row["alignment"]) > 0
    assert "displacement" in row


def test_sweeps_that_begin_at_once_have_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda _: False)  # both look before both write
    both = [
        multirun._folder(tmp_path / "own", [{"name": name}], resume=False)
        for name in ("this", "that")
    ]
    assert both == [tmp_path / "own", tmp_path / "own-2"]


def test_a_sweep_that_was_killed_as_it_wrote_its_list_is_begun_anew(
    tmp_path, monkeypatch
):
    def killed(_, path):
        Path(path).touch()
        raise KeyboardInterrupt

    listed = tmp_path / "own", [{"name": "seed=0"}]
    with monkeypatch.context() as patch:
        patch.setattr(OmegaConf, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            multirun._folder(*listed, resume=True)
    assert multirun._folder(*listed, resume=True) == tmp_path / "own-2"
    assert multirun._folder(*listed, resume=True) == tmp_path / "own-2"


def test_maps_are_measured_by_angles_where_the_metric_compares_them(rng, tmp_path):
    turns = rng.uniform(0, 2 * np.pi, 60)
    map_ = np.column_stack([np.cos(turns), np.sin(turns)])
    dataset = Dataset([map_ * rng.uniform(1, 9, (60, 1))], [], [np.arange(60)], [""])
    by_angles = sweep.Store(tmp_path, dataset, "cosine").measure([map_])
    assert by_angles["trustworthiness"] == 1
    assert sweep.Store(tmp_path, dataset).measure([map_])["trustworthiness"] < 0.95
