"""Runs that are stopped, killed or short of disk, and what they leave."""

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from filelock import Timeout
from helpers import refused

from aljax import Checkpoints
from experiments.benchmarks import resume
from experiments.data import dataset, sources
from experiments.results import contents, records, report
from experiments.results import folder as claims
from experiments.results.reproduce import differing_arrays
from experiments.run import main
from experiments.tasks import fit

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The overrides for two slices of 40 rows, of which 20 are in both."""
    folder = tmp_path_factory.mktemp("own")
    data = np.random.default_rng(0).normal(size=(60, 4))
    np.savez(folder / "own.npz", data[:40], data[20:])
    np.savez(folder / "other.npz", data[:40], data[19:59])
    mates = [{str(row): row - 20 for row in range(20, 40)}]
    (folder / "mates.json").write_text(json.dumps(mates))
    return [
        *("data=files", f"data.path={folder}/own.npz", "name=own"),
        *(f"data.relations={folder}/mates.json", "compilation_cache=null"),
        "layout.n_epochs=40",
    ]


@pytest.fixture(scope="module")
def unbroken(asked, tmp_path_factory):
    """The folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert main([*asked, f"results={folder}"]) == 0
    return folder / "own"


@pytest.fixture(autouse=True)
def _elsewhere(asked, unbroken, tmp_path, monkeypatch):
    del asked, unbroken  # made before pictures, which take long, are left out
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contents, "write_pictures", lambda *_: None)


@contextmanager
def signal_at(epoch, number=signal.SIGINT):
    """A signal arrives in the chunk that ends at an epoch."""
    keep = Checkpoints.keep

    def interrupted(self, state):
        keep(self, state)
        if int(state.epoch) == epoch:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "keep", interrupted)
        yield


def names(folder="results"):
    return sorted(one.name for one in Path(folder).iterdir())


def test_a_stopped_run_says_how_to_go_on_and_does(asked, unbroken, capfd):
    with signal_at(20, signal.SIGTERM):
        assert main(asked) == 143
    err = capfd.readouterr().err
    kept = Path("results/own.checkpoints/epoch_0000020")
    assert "stopping (again to stop at once)" in err
    assert f"stopped; the layout is kept in {kept}." in err
    assert names() == ["own.checkpoints"]
    said = shlex.split(err.splitlines()[-1])
    assert said == ["python", "-m", "experiments.run", *asked, "resume=true"]
    assert main(said[3:]) == 0
    assert f"going on from {kept}" in capfd.readouterr().out
    assert names() == ["own"]
    assert not differing_arrays(unbroken, Path("results/own"))
    assert "resume: false" in Path("results/own/config.yaml").read_text()


def test_what_was_stopped_is_left_alone_refused_or_gone_on_with(
    asked, unbroken, capsys
):
    with signal_at(20):
        assert main(asked) == 130
    assert main(asked) == 0  # a run that is not asked to go on starts anew
    assert names() == ["own", "own.checkpoints"]
    capsys.readouterr()
    other_data = asked[1].replace("own.npz", "other.npz")
    for other, named in [
        ("layout.min_dist=0.3", "`layout.min_dist` is 0.3 and was 0.1"),
        ("seed=1", "`seed` is 1 and was 0"),
        (other_data, "`data` is"),
    ]:
        assert main([*asked, other, "resume=true"]) == 1
        err = capsys.readouterr().err
        assert "own.checkpoints/epoch_0000020, which is of another" in err
        assert named in err
    assert names() == ["own", "own.checkpoints"]
    with claims.held(Path("results/own.checkpoints")):  # another process has it
        assert main([*asked, "resume=true"]) == 0
    assert "own.checkpoints is in use by another run" in capsys.readouterr().out
    assert main([*asked, "resume=true"]) == 0
    assert names() == ["own", "own-2", "own-3"]
    for name in names():
        assert not differing_arrays(unbroken, Path("results") / name)


def test_a_full_disk_publishes_nothing_and_keeps_the_layout(asked, unbroken, capsys):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "write_json", fail)
        assert main(asked) == 1
    err = capsys.readouterr().err
    assert "error: `results` is results, where there is no room (No space left" in err
    assert "resume=true goes on from it" in err
    assert names() == ["own.checkpoints"]
    assert main([*asked, "resume=true"]) == 0
    assert names() == ["own"]
    assert not differing_arrays(unbroken, Path("results/own"))


def test_a_result_says_what_it_was_made_of(unbroken):
    kept = json.loads((unbroken / "metrics.json").read_text())
    assert len(kept["data"]) == len(dataset.SUM) + 64
    assert kept["commit"] == report.commit()
    assert kept["seed"] == 0
    assert {"jax", "numpy", "pynndescent"} < set(kept["versions"])
    assert kept["machine"]["model"] == records.processor()
    if (ROOT / ".git").exists() and shutil.which("git"):
        head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        found = subprocess.run(head, capture_output=True, text=True, check=True)
        assert str(kept["commit"]).startswith(found.stdout.strip())


def test_the_sum_of_the_data_is_of_all_that_they_hold():
    rows = np.arange(6.0)
    given = {
        "slices": [rows.reshape(3, 2), rows.reshape(3, 2)],
        "relations": [{0: 1}],
        "ids": [np.arange(3), np.array(["a", "b", "c"], object)],
        "titles": ["", ""],
    }
    others = [
        given | {"slices": [rows.reshape(2, 3), rows.reshape(3, 2)]},
        given | {"relations": [{0: 2}]},
        given | {"ids": [np.arange(3), np.array(["a", "b", "d"], object)]},
        given | {"labels": [rows[:3], rows[:3]]},
    ]
    sums = {dataset.digest(dataset.Dataset(**one)) for one in (given, *others)}
    assert len(sums) == 5
    assert dataset.digest(dataset.Dataset(**given)) in sums


def test_a_result_is_reproduced_and_what_differs_is_named(unbroken, capsys):
    folder = shutil.copytree(unbroken, Path("old/own"))
    kept = json.loads((folder / "metrics.json").read_text())
    kept["versions"]["jax"] = "0.1"
    (folder / "metrics.json").write_text(json.dumps(kept))
    with mock.patch.object(sources, "load", wraps=sources.load) as load:
        assert main(["--reproduce", str(folder)]) == 0
    assert load.call_count == 1
    out = capsys.readouterr().out
    assert out.startswith("the same data and settings.")
    assert "what else differs: `jax` is " in out
    assert f"the same bits: {Path('old/own-2').absolute()}" in out


@pytest.mark.parametrize("changed", ["seed", "layout.min_dist", "data"])
def test_other_data_or_settings_are_not_run_again(unbroken, asked, changed, capsys):
    folder = shutil.copytree(unbroken, Path("old/own"))
    value = {"seed": 1, "layout.min_dist": 0.3}.get(changed)
    others = asked[1].replace("own.npz", "other.npz")
    override = others if value is None else f"{changed}={value}"
    assert main(["--reproduce", str(folder), override, "results=new"]) == 1
    out, err = capsys.readouterr()
    if changed == "data":
        assert err == "not run again, for the data have other values.\n"
    else:
        assert err.startswith(f"not run again, for `{changed}` is ")
        assert err.count(" and was ") == 1
    assert not out
    assert not Path("new").exists()


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """A table, and a folder with its file and the results of a run on it."""
    pd = pytest.importorskip("pandas", reason="run: pip install pandas")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 99, (80, 4)), columns=[*"wxyz"])
    table["year"] = np.repeat([2001, 2002], 40)
    table["shop"] = [f"s{i}" for i in range(40)] * 2
    table["kind"] = ["a", "b"] * 40
    folder = tmp_path_factory.mktemp("shops")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        table.to_csv("shops.csv", index=False)
        given = ["data=table", "data.path=shops.csv", "data.slice=year"]
        given += ["data.id=shop", "data.label=kind", "name=shops"]
        assert main([*given, "layout.n_epochs=2", "compilation_cache=null"]) == 0
    return table, folder


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("ids, relations", lambda f: f.assign(shop=f["shop"].replace("s3", "s99"))),
        ("labels", lambda f: f.assign(kind=f["kind"].replace("b", "c"))),
        ("slice labels", lambda f: f.assign(year=f["year"].replace(2001, 2000))),
    ],
)
def test_the_part_of_the_data_that_is_another_is_told(shops, part, change, capsys):
    table, folder = shops
    shutil.copytree(folder / "results", "results")
    change(table).to_csv("shops.csv", index=False)
    assert main(["--reproduce", "results/shops"]) == 1
    err = capsys.readouterr().err
    assert err == f"not run again, for the data have other {part}.\n"


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "embedding.npz"])
def test_what_is_no_result_is_not_reproduced(unbroken, capsys, name):
    folder = shutil.copytree(unbroken, Path("broken"))
    (folder / name).unlink()
    assert main(["--reproduce", str(folder)]) == 1
    assert f"`--reproduce` is broken, which has no {name}" in capsys.readouterr().err
    assert main(["--reproduce", str(folder / "metrics.json")]) == 1
    assert f"`--reproduce` is broken, which has no {name}" in capsys.readouterr().err


def test_a_truncated_result_is_refused_before_it_is_run_again(unbroken, capsys):
    folder = shutil.copytree(unbroken, Path("broken"))
    whole = (folder / "embedding.npz").read_bytes()
    (folder / "embedding.npz").write_bytes(whole[: len(whole) // 2])
    assert main(["--reproduce", str(folder)]) == 1
    assert "embedding.npz cannot be read" in capsys.readouterr().err
    assert main(["--config", str(folder / "config.yaml"), "data=table"]) == 1
    assert "`data=table` names a file of settings" in capsys.readouterr().err
    assert not Path("results").exists()


def test_only_folders_of_checkpoints_are_swept(asked):
    kept = {"own.checkpoints": "metrics.json", "own.checkpoints-notes": "mine.txt"}
    for folder, file in kept.items():
        Path("results", folder).mkdir(parents=True)
        Path("results", folder, file).touch()
    Path("results/own.checkpoints-2/epoch_0000001.half").mkdir(parents=True)
    assert main(asked) == 0
    assert {*names()} == {"own", *kept}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("resume=maybe", "`resume` is 'maybe'; expected true or false"),
        ("checkpoint_epochs=0", "`checkpoint_epochs` is 0"),
        ("checkpoint_seconds=often", "`checkpoint_seconds` is 'often'"),
        ("checkpoint_epoch=3", "`checkpoint_epochs`"),
    ],
)
def test_a_wrong_setting_is_named(asked, override, named, capsys):
    assert main([*asked, override]) == 1
    assert named in capsys.readouterr().err
    assert not Path("results").exists()


def test_no_two_hold_one_folder():
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:

        def claim(_):
            names = claims.numbered(Path("results/own.checkpoints"))
            return stack.enter_context(claims.made(names))

        folders = [*pool.map(claim, range(24))]
        assert len({*folders}) == 24
        claims.sweep(folders, lambda _: True)  # each is held
        assert all(folder.is_dir() for folder in folders)
        with pytest.raises(Timeout), claims.held(folders[0]):
            pass
    claims.sweep(folders[:20], lambda _: True)
    assert len(names()) == 4


def test_a_run_that_begins_meanwhile_leaves_a_finished_one_alone(tmp_path, monkeypatch):
    exists = os.path.lexists

    def begin(path):
        monkeypatch.undo()
        claims.check_writable(tmp_path)
        return exists(path)

    with claims.folder_beside(tmp_path) as beside:
        (beside / "metrics.json").touch()
        monkeypatch.setattr(os.path, "lexists", begin)
        assert claims.publish(beside, "own") == tmp_path / "own"
    assert [file.name for file in tmp_path.rglob("*")] == ["own", "metrics.json"]


def test_a_place_that_makes_no_folders_is_refused(monkeypatch):
    def mkdir(path, **_):  # as /proc answers
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with refused("results", "No such file or directory"):
        claims.check_writable(Path())


def test_what_killed_runs_left_is_swept(asked):
    for name in (".unfinished-dead", "own.checkpoints"):
        Path("results", name).mkdir(parents=True)
    Path("results/.unfinished-dead/embedding.npz").touch()
    with claims.made([Path("results/.unfinished-alive")]):
        assert main(asked) == 0
        assert names() == [".unfinished-alive", "own"]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_run_at_once_and_loses_nothing(asked, number):
    # Chunks take so long that only the thread that listens can answer.
    long = [*asked, "layout.n_epochs=100000000"]
    process = start(*long)
    while not Path("results/own.checkpoints").exists():
        time.sleep(0.02)
    time.sleep(10)  # the layout runs
    process.send_signal(number)
    time.sleep(0.5)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + number
    assert "stopping (again to stop at once)" in err
    assert "stopped at once" in err
    assert "Traceback" not in err
    assert main(asked) == 0  # and what it left is swept
    assert names() == ["own"]


def test_a_run_killed_while_it_removes_its_checkpoints_leaves_no_trap(
    asked, monkeypatch
):
    folder = Path("results/own.checkpoints")
    (folder / "00000004").mkdir(parents=True)
    with monkeypatch.context() as dead:
        dead.setattr(shutil, "rmtree", lambda *_, **__: None)
        claims.discard(folder)
    assert [one.startswith(claims.UNFINISHED) for one in names()] == [True]
    assert main([*asked, "resume=true"]) == 0
    assert names() == ["own"]


@pytest.mark.slow
def test_two_runs_at_the_same_second_have_a_folder_each(asked, unbroken):
    processes = [start(*asked, "checkpoint_epochs=2") for _ in range(2)]
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert names() == ["own", "own-2"]
    for name in names():
        assert not differing_arrays(unbroken, Path("results") / name)


@pytest.mark.slow
def test_runs_that_are_killed_end_with_the_same_bits(tmp_path, asked):
    longer = [
        *(one for one in asked if not one.startswith(("name", "comp", "layout.n_e"))),
        *("name=run", "layout.n_epochs=20000", "checkpoint_epochs=500"),
    ]
    record = resume.kill(tmp_path, longer, kills=20, seed=0)
    assert record["kills"] == 20
    assert record["whole"]
    assert record["same"] == record["finished"] >= 1
