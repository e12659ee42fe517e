import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from helpers import (
    NEIGHBORS,
    make_data,
    make_graphs,
    make_maps,
    make_relations,
    refused,
)
from scipy.sparse import csr_matrix
from test_sharding import HERE

import aljax.distributed
from aljax import Coupling, load
from aljax.config import AlignmentConfig, GraphConfig, LayoutConfig
from aljax.distributed import exchange, ties
from aljax.distributed.agreement import Agreement
from aljax.distributed.exchange import Spread
from aljax.errors import InputError
from aljax.graph.slices import Slice
from aljax.layout.sharding import VIRTUAL
from aljax.relations.anchors import nearer
from aljax.relations.mates import Mates
from experiments.data import sources
from experiments.data.dataset import digests
from experiments.run import main

KEY = jax.random.key(0)
MOTION = "motion_fidelity"
PATIENCE = 240  # seconds until a process counts as hanging
SIZES = (41, 48, 45, 43)
RUN = [
    *("data=files", "data.relations=mates.json", "layout.n_epochs=50"),
    *("graph.n_neighbors=6", "compilation_cache=null"),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(arguments: list[str], **extra: str) -> subprocess.Popen[str]:
    env = os.environ | {
        "XLA_FLAGS": f"{VIRTUAL}=2",
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=env | extra,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each; none may be left running."""
    found = []
    try:
        for one in processes:
            output, errors = one.communicate(timeout=PATIENCE)
            found.append((one.returncode, output, errors))
    finally:
        for one in processes:
            one.kill()
            one.wait()
    return found


def workers(case: str, count: int = 2, **extra: str) -> list[tuple[int, str, str]]:
    port = str(free_port())
    script = str(HERE / "on_processes.py")
    return ended(
        [start([script, port, str(count), str(i), case], **extra) for i in range(count)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_processes_give_the_maps_of_one_device(count):
    found = workers("same", count)
    assert [status for status, *_ in found] == [0] * count, found
    for name, moved in json.loads(found[0][1].splitlines()[-1]).items():
        assert moved < 1e-5, name


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_share_rows_give_the_map_of_one_device(count):
    found = workers("shared rows", count)
    assert [status for status, *_ in found] == [0] * count, found
    for name, moved in json.loads(found[0][1].splitlines()[-1]).items():
        assert moved < 1e-5, name


@pytest.mark.slow
def test_processes_that_share_rows_say_what_differs():
    for status, _, errors in workers("other rows"):
        assert status == 1
        assert "`columns of rows` is 5 in process 0, 4 in process 1" in errors
    for status, _, errors in workers("few rows"):
        assert status == 1
        assert "3 rows in process 1" in errors


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_stops_the_others_with_an_error(dies):
    found = workers("dies", DIES=str(dies))
    assert found[dies][0] == -9
    status, _, errors = found[1 - dies]
    assert status not in (0, None)
    assert errors.strip()


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """For each process a folder in which the other's slices cannot be read."""
    made = []
    for mine in (range(2), range(2, 4)):
        folder = tmp_path / f"data{len(made)}"
        folder.mkdir()
        for t, data in enumerate(make_data(SIZES)):
            kept = data if t in mine else np.full_like(data, np.nan)
            np.save(folder / f"slice{t}.npy", kept)
        made.append(folder)
    text = json.dumps(
        [{str(k): v for k, v in r.items()} for r in make_relations(SIZES)]
    )
    (tmp_path / "mates.json").write_text(text)
    return made


def begin(
    folders: list[Path], *extra: str, theirs: Sequence[str] = (), **env: str
) -> list[subprocess.Popen[str]]:
    """Two processes; `theirs` and the environment are the second one's only."""
    address = f"coordinator=127.0.0.1:{free_port()}"
    common = ["-m", "experiments.run", *RUN, "distributed=true", address, "processes=2"]
    common += extra
    own: list[tuple[Sequence[str], dict[str, str]]] = [((), {}), (theirs, env)]
    return [
        start([*common, f"data.path={folder}", f"process_id={i}", *more], **other)
        for i, (folder, (more, other)) in enumerate(zip(folders, own, strict=True))
    ]


def runs(folders: list[Path], *extra: str, **more: Any) -> list[tuple[int, str, str]]:
    return ended(begin(folders, *extra, **more))


def line(found: tuple[int, str, str], status: int = 1) -> str:
    """The error in which a process ended, which is one line."""
    assert found[0] == status, found
    errors = [text for text in found[2].replace("\r", "\n").split("\n") if text.strip()]
    assert sum(text.startswith("error: ") for text in errors) == 1, errors
    assert "Traceback" not in found[2]
    return next(text for text in errors if text.startswith("error: "))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        (["seed=7"], ["`seed` is 0 in process 0, 7 in process 1"]),
        (
            ["graph.n_neighbors=5", "alignment.alignment_regularisation=.5"],
            [
                "`graph.n_neighbors` is 6 in process 0, 5 in process 1",
                "0.07 in process",
            ],
        ),
        (["layout.n_epochs=40"], ["`layout.n_epochs` is 50 in process 0, 40"]),
        (["by_ids=true"], ["`by_ids` is False in process 0, True in process 1"]),
    ],
)
def test_settings_that_differ_are_refused_in_all(
    folders, tmp_path, monkeypatch, theirs, named
):
    monkeypatch.chdir(tmp_path)
    for found in runs(folders, theirs=theirs):
        for part in named:
            assert part in line(found)
    assert not Path("results").exists()


@pytest.mark.slow
def test_data_that_differ_are_refused_in_all(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    half = [*json.loads(Path("mates.json").read_text())[:1], {}, {}]
    Path("half.json").write_text(json.dumps(half))
    for found in runs(folders, theirs=["data.relations=half.json"]):
        assert "`relations` is 3 of sum " in line(found)
    (folders[1] / "slice3.npy").unlink()
    for found in runs(folders):
        assert "`slices` is 4 in process 0, 3 in process 1" in line(found)
    ours, theirs = runs(folders, theirs=["data.path=nowhere"])
    assert "`data.path` is nowhere" in line(theirs)
    assert "process 1, that ended: `data.path` is nowhere" in line(ours)
    assert not Path("results").exists()


@pytest.mark.slow
def test_other_code_and_devices_are_refused_in_all(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("aljax", "experiments", "configs"):
        shutil.copytree(HERE.parent / room, tmp_path / "other" / room)
    with (tmp_path / "other/aljax/keys.py").open("a") as file:
        file.write("# another version\n")
    for found in runs(folders, PYTHONPATH=str(tmp_path / "other")):
        assert "`aljax` is of code " in line(found)
    for found in runs(folders, XLA_FLAGS=f"{VIRTUAL}=1"):
        assert "`devices` is 2 x cpu in process 0, 1 x cpu in process 1" in line(found)


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_a_process_that_is_alone_says_for_whom_it_waits(process, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = f"127.0.0.1:{free_port()}"
    by_hand = [f"coordinator={address}", "processes=2", f"process_id={process}"]
    words = ["-m", "experiments.run", *RUN, "data.path=data", "distributed=true"]
    alone = start([*words, *by_hand, "timeout=4"])
    assert alone.stderr is not None
    said = alone.stderr.readline()
    assert f"process {process}: waiting for process {1 - process} at {address}" in said
    began = time.monotonic()
    (found,) = ended([alone])
    assert time.monotonic() - began < 10
    reason = ["process 1 did not come", "process 0 did not answer"][process]
    assert f"where {reason} within 4 s" in line(found)


@pytest.mark.slow
def test_a_stopped_process_ends_the_other(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    processes = begin(folders, "timeout=5", "layout.n_epochs=20000")
    said, bar = "", processes[0].stderr
    assert bar is not None
    while "attraction=" not in said:  # some epochs are over
        said += bar.read(1)
        assert processes[0].poll() is None
    processes[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    (found,) = ended(processes[:1])
    assert time.monotonic() - began < 30
    assert "process 1 has been silent for 5 s" in line(found)
    processes[1].send_signal(signal.SIGCONT)
    ended(processes[1:])


def test_scaled_data_have_the_digests_of_what_processes_read(folders, tmp_path):
    for t, data in enumerate(make_data(SIZES)):
        np.save(folders[0] / f"slice{t}.npy", data)
    paths = {"path": str(folders[0]), "relations": str(tmp_path / "mates.json")}
    options: Any = {"source": "files", **paths, "labels": None, "scale_by": "slice"}
    read = [sources.load(**options, scale=how) for how in ("none", "standard")]
    assert not np.array_equal(read[0].slices[0], read[1].slices[0])
    assert digests(read[0]) == digests(read[1])


@pytest.mark.slow
def test_a_run_reads_its_own_slices_and_process_0_writes(
    folders, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    more = ["layout.densmap=true", "data.scale=standard", "data.scale_by=slice"]
    found = runs(folders, *more)
    assert [status for status, *_ in found] == [0, 0], found
    assert [one.name for one in Path("results").iterdir()] == ["files"]
    assert "results in" in found[0][1]
    assert "results in" not in found[1][1]
    for t, data in enumerate(make_data(SIZES)):
        np.save(folders[0] / f"slice{t}.npy", data)
    assert main([*RUN, *more, f"data.path={folders[0]}", "name=alone"]) == 0
    shared, alone = (
        json.loads(Path(f"results/{name}/metrics.json").read_text())
        for name in ("files", "alone")
    )
    assert len(shared["slices"]) == 4
    assert shared["means"]["trustworthiness"] == pytest.approx(
        alone["means"]["trustworthiness"], abs=0.03
    )
    with np.load("results/files/embedding.npz") as arrays:
        assert [arrays[f"slice_{t}"].shape for t in range(4)] == [
            (size, 2) for size in SIZES
        ]
    ours, its = (load(f"results/{name}") for name in ("files", "alone"))
    assert [len(positions) for positions in ours.maps] == [*SIZES]
    parts = ([model.graphs, model.scaling] for model in (ours, its))
    for a, b in zip(*map(jax.tree.leaves, parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    again = ["-m", "experiments.run", "--reproduce", "results/files"]
    same = ended([start([*again, f"process_id={i}"]) for i in range(2)])
    assert [status for status, *_ in same] == [0, 0], same
    assert "the same bits: " in same[0][1]
    assert main(["--reproduce", "results/files", "distributed=false"]) == 1
    assert "what else differs: `processes` is 1 and was 2." in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_is_scaled_and_filled_as_in_one_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.concatenate(make_data(SIZES)) * [1, 10, 1e4, 0.1, 1]
    frame = pd.DataFrame(dict(zip("abcde", rows.T, strict=True))).assign(
        year=np.repeat(range(4), SIZES), who=[i for size in SIZES for i in range(size)]
    )
    frame.loc[::9, "b"] = np.nan
    frame.to_csv("long.csv", index=False)
    table = ["data=table", "data.path=long.csv", "data.slice=year", "data.id=who"]
    table += ["data.scale=standard", "data.missing=median", "layout.n_epochs=50"]
    table += ["graph.n_neighbors=6", "compilation_cache=null"]
    port = f"coordinator=127.0.0.1:{free_port()}"
    shared = ["-m", "experiments.run", *table, "distributed=true", port, "processes=2"]
    found = ended([start([*shared, f"process_id={i}"]) for i in range(2)])
    assert [status for status, *_ in found] == [0, 0], found
    assert "missing values, filled by the column's median: 20" in found[0][1]
    assert main([*table, "name=alone"]) == 0
    models: Any = [load(f"results/{name}") for name in ("table", "alone")]
    assert models[0].columns == models[1].columns == (tuple("abcde"),) * 4
    units = [model.scaling.columns[3] for model in models]
    for name in ("center", "unit", "fill"):
        np.testing.assert_array_equal(*[getattr(one, name) for one in units])


@pytest.mark.slow
def test_a_process_whose_input_is_refused_stops_the_other(
    folders, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    ours, theirs = runs([folders[0], folders[0]])  # process 1 finds NaN in its slices
    assert "slice2" in line(theirs)
    assert "process 1, that ended: `data.path` of slice2" in line(ours)
    assert not Path("results").exists()


@pytest.mark.slow
def test_no_cluster_is_said_so():
    environment = {"KUBERNETES_SERVICE_HOST": ""}
    ((status, _, errors),) = ended(
        [
            start(
                ["-m", "experiments.run", "data=digits_sequence", "distributed=true"],
                **environment,
            )
        ]
    )
    assert status == 1
    assert "error: `coordinator` is not set, and no cluster is detected" in errors


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["devices=99"], ["`devices` is 99", f"{VIRTUAL}=99"]),
        (["devices=0"], ["`devices` is 0", "at least 1"]),
        (["devices=all"], ["`devices` is 'all'"]),
        (["distributed=2"], ["`distributed` is 2", "true or false"]),
        (["coordinator=a:1"], ["`coordinator` is set; expected distributed=true"]),
        (
            ["distributed=true", "coordinator=a:1", "processes=2"],
            ["`process_id` is null", "coordinator=HOST:PORT"],
        ),
        (
            ["distributed=true", "coordinator=a", "processes=2", "process_id=0"],
            ["`coordinator` is 'a'", "HOST:PORT"],
        ),
        (
            ["distributed=true", "coordinator=a:1", "processes=2", "process_id=2"],
            ["`process_id` is 2", "0 to 1"],
        ),
        (["distributed=true", "devices=1"], ["`devices` does not go with"]),
        (["distributed=true", "first=2"], ["`first` does not go with"]),
        (
            ["distributed=true", "alignment.alignment_regularisation=auto"],
            ["`alignment_regularisation` is auto"],
        ),
        (["experiment=digits_sweep", "devices=1"], ["`devices` is 1", "sweep"]),
    ],
)
def test_what_cannot_be_spread_is_refused(
    overrides, named, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    data = [] if overrides[0].startswith("experiment") else ["data=digits_sequence"]
    small = ["data.size=60", "data.step=400", "compilation_cache=null"]
    assert main([*data, *overrides, *small]) == 1
    message = capsys.readouterr().err
    for part in named:
        assert part in message
    assert not Path("results").exists()


def test_other_processes_columns_have_to_be_as_many(monkeypatch):
    data, graphs = make_data(SIZES), make_graphs(SIZES)
    monkeypatch.setattr(ties, "from_all", lambda _: [4, 3])
    spread = Spread(range(4), 4, [*SIZES])
    with pytest.raises(InputError, match=r"`motion_fidelity` .* 4, 3 columns"):
        ties.moves_of({}, data, graphs, spread, range(0))


@pytest.mark.usefixtures("as_users_run_it")  # labels may be a column
def test_slices_without_mates_or_rows_start_as_in_fit():
    data = make_data((41, 0, 45, 43))
    ids = [[f"{t}-{row}" for row in range(len(x))] for t, x in enumerate(data)]
    options = {
        "key": KEY,
        "graph": GraphConfig(n_neighbors=NEIGHBORS, disconnection_distance=1.5),
        "layout": LayoutConfig(n_epochs=0),
        "slice_labels": pd.Series([2020, 2021, 2022, 2023], index=[7, 6, 5, 4]),
    }
    with pytest.warns(UserWarning, match="slice") as told:
        shared = aljax.distributed.fit(data, ids, n_slices=len(data), **options)
    with pytest.warns(UserWarning, match="slice") as told_alone:
        alone = aljax.fit(data, ids, **options)
    messages = [str(warning.message) for warning in told]
    assert any("slice 2 (2022) has no mates" in text for text in messages)
    assert any("without an edge" in text for text in messages)
    assert messages == [str(warning.message) for warning in told_alone]
    assert shared.slice_labels == alone.slice_labels
    assert shared.ids == alone.ids
    maps, history = aljax.distributed.gather(shared, len(data))
    assert history.total().shape == (0,)
    for ours, its in zip(maps, alone.maps, strict=True):
        np.testing.assert_allclose(ours, its, atol=1e-5)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_slice_without_start_lies_at_mates_that_are_anchors_too():
    data = make_data((41,) * 12)
    options: Any = {
        "key": KEY,
        "graph": GraphConfig(n_neighbors=NEIGHBORS),
        "layout": LayoutConfig(n_epochs=0),
        "alignment": AlignmentConfig(alignment_window_size=10, frame="population"),
        "start": [*make_maps((41,) * 11), None],
    }
    ids = [range(41)] * 12
    shared = aljax.distributed.fit(data, ids, n_slices=12, **options)
    alone = aljax.fit(data, ids, **options)
    np.testing.assert_array_equal(shared.maps[-1], alone.maps[-1])


def test_rows_of_anndata_are_related_by_their_names():
    anndata = pytest.importorskip("anndata", reason="pip install 'aljax[anndata]'")
    options: Any = {"key": KEY, "layout": LayoutConfig(n_epochs=0)}
    options["graph"] = GraphConfig(n_neighbors=NEIGHBORS)
    cells = [anndata.AnnData(x) for x in make_data(SIZES)]
    shared = aljax.distributed.fit(cells, n_slices=len(cells), **options)
    alone = aljax.fit(cells, **options)
    assert shared.ids == alone.ids
    for pair, mates in alone.relations.items():
        np.testing.assert_array_equal(shared.relations[pair].rows, mates.rows)
    plain = [make_data(SIZES)[0], *cells[1:]]
    with refused("relations", "is None for 4 slices"):
        aljax.distributed.fit(plain, n_slices=len(cells), **options)


def test_starts_are_one_for_each_slice_of_a_process():
    with refused("start", "has 3 entries for 4 slices"):
        options: Any = {"start": make_maps(SIZES[:3]), "n_slices": 4, "key": KEY}
        aljax.distributed.fit(make_data(SIZES), [{}] * 3, **options)


def test_settings_of_a_config_are_answered_as_in_fit():
    wrong: Any = {"n_neighbors": 5, "n_slices": 4, "key": KEY}
    with pytest.raises(TypeError, match=r"graph=aljax.GraphConfig\(n_neighbors=5\)"):
        aljax.distributed.fit(make_data(SIZES), [{}] * 3, **wrong)


@pytest.mark.parametrize("relations", ["transport", Coupling((), {}, (), ())])
def test_relations_that_need_all_data_are_refused(relations):
    with refused("relations", "dicts, ids or pairs", "couple(slices"):
        aljax.distributed.fit(make_data(SIZES), relations, n_slices=4, key=KEY)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("read", "settings", "name"),
    [
        (csr_matrix, {"alignment": AlignmentConfig(motion_fidelity=1)}, MOTION),
        (csr_matrix, {"layout": LayoutConfig(n_epochs=0, init="pca")}, "init"),
        (None, {"layout": LayoutConfig(n_epochs=0, densmap=True)}, "slices[3]"),
    ],
)
def test_what_is_refused_in_one_process_is_told_to_all(
    read, settings, name, monkeypatch
):
    told = []

    @contextmanager
    def together(*_):
        try:
            yield
        except InputError as error:
            told.append(error.name)
            raise

    monkeypatch.setattr(Agreement, "together", together)
    data, graphs = make_data(SIZES), make_graphs(SIZES)
    last = read(data[3]) if read else replace(graphs[3], radii=None)
    options = {"key": KEY, "graph": GraphConfig(n_neighbors=NEIGHBORS)}
    ids = [range(size) for size in SIZES]
    with pytest.raises(InputError):
        aljax.distributed.fit([*data[:3], last], ids, n_slices=4, **options, **settings)
    assert told == [name]


def test_columns_in_another_order_in_another_process_are_refused(monkeypatch):
    theirs = [("a", "b", "c"), ("b", "a")]
    monkeypatch.setattr(exchange, "from_all", lambda local: [theirs, local])
    local = [Slice(0, columns=(*"abc",)), Slice(0), Slice(0, columns=(*"abcd",))]
    exchange.check_columns(local)
    with refused("slices", "process 1 have the columns ('a', 'b'), others ('b', 'a')"):
        exchange.check_columns([Slice(0, columns=(*"ab",))])


def test_mates_in_the_next_process_are_compared_as_in_one(monkeypatch):
    before, after = data = [make_data((300, 300))[t][:, :: 1 - 2 * t] for t in (0, 1)]
    mates = {(0, 1): Mates(np.arange(300), np.arange(300)[::-1])}
    asked = []

    def from_ahead(rows, _):
        asked.append(rows)
        return np.zeros(0, int) if len(asked) == 1 else after[asked[0]]

    monkeypatch.setattr(ties, "from_ahead", from_ahead)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    ours = ties.with_next([before], mates, Spread(range(1), 1, [300, 300]))
    assert nearer(ours, mates) == nearer(data, mates)


@pytest.mark.parametrize("ids", [list, np.array])
def test_ids_may_be_an_array(ids):
    data = make_data((40, 40, 40))
    given = ids([[*range(40)]] * 3)
    alignment = AlignmentConfig(alignment_window_size=1)
    spread = Spread(range(1, 2), 1, [40] * 3)
    links = ties.own_links(given, range(1, 3), spread, data[1:2], alignment)
    assert [(pair, len(mates.rows)) for pair, mates in links.items()] == [((0, 1), 40)]


@pytest.mark.parametrize("key", [0, (-1, 0), (0, 3)])
def test_keys_that_are_no_pairs_of_slices_are_refused(key):
    with pytest.raises(ValueError, match=re.escape(f"`relations` has the key {key!r}")):
        ties.window_of({key: [[0, 0]]}, AlignmentConfig(), 3)
