"""A layout of two processes that are killed or stopped goes on in two, or in one."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from test_distributed import PATIENCE, RUN, begin, ended, folders, line, runs

from aljax.checkpoints import PATTERN
from experiments.results.reproduce import differing_arrays
from experiments.run import main

__all__ = ["folders"]
LONG = ("layout.n_epochs=600", "checkpoint_epochs=30", "resume=true")


def until_kept(processes: list[subprocess.Popen[str]], folder: Path) -> None:
    """Waits for a checkpoint."""
    end = time.monotonic() + PATIENCE
    while not [*folder.glob(PATTERN)]:
        assert time.monotonic() < end
        assert processes[0].poll() is None, ended(processes)
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_a_run_goes_on_where_it_was_killed_or_stopped(
    folders, tmp_path, monkeypatch, capsys, process
):
    monkeypatch.chdir(tmp_path)
    kept = Path("results/cut.checkpoints")
    for number in (signal.SIGKILL, signal.SIGTERM):
        processes = begin(folders, *LONG, "name=cut")
        output = processes[process].stdout
        assert output is not None
        while f"process {process} of 2" not in output.readline():
            assert processes[process].poll() is None
        until_kept(processes, kept)
        processes[process].send_signal(number)
        found = ended(processes)
        if number == signal.SIGKILL:
            assert found[process][0] == -number
            line(found[1 - process])
        else:
            assert found[process][0] == 128 + number
            assert "the layout is kept in " in line(found[0], found[0][0])
            assert line(found[1], found[1][0])
    shutil.copytree(kept, "results/alone.checkpoints")
    went_on = runs(folders, *LONG, "name=cut")
    assert "going on from" in went_on[0][1]
    assert not kept.exists()
    straight = runs(folders, *LONG, "name=straight")
    assert [status for status, *_ in went_on + straight] == [0] * 4
    assert not differing_arrays(Path("results/straight"), Path("results/cut"))
    # One process goes on, too, with data of which it reads all.
    for t in (2, 3):
        shutil.copy(folders[1] / f"slice{t}.npy", folders[0])
    words = [*RUN, *LONG, f"data.path={folders[0]}", "name=alone"]
    assert main(words) == 0
    assert "going on from" in capsys.readouterr().out
    shared, alone = (
        json.loads(Path(f"results/{name}/metrics.json").read_text())["means"]
        for name in ("cut", "alone")
    )
    assert shared["trustworthiness"] == pytest.approx(
        alone["trustworthiness"], abs=0.03
    )
