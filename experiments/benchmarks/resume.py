"""`kill -9` at random moments, and whether what goes on ends with the same bits.

    python -m experiments.benchmarks.resume --kills 200
    python -m experiments.benchmarks.resume --kills 40 --processes 2

An unbroken run says how long one takes and which bits are right.  Then the same run,
with `resume=true`, is killed at moments drawn over a little more than that, import to
exit, again and again; whenever one comes through, its arrays are compared, and
the next begins.  Of several processes one, drawn at random, is killed, and the others
have to end by themselves.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from experiments import command
from experiments.results.reproduce import differing_arrays

RUN = (
    *("experiment=digits_sequence", "name=run", "layout.n_epochs=3000"),
    "checkpoint_epochs=50",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kills, goes on, compares; 0 where all bits are the same, else 1."""
    parser = argparse.ArgumentParser("python -m experiments.benchmarks.resume")
    parser.add_argument("overrides", nargs="*", metavar="name=value")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*RUN, *options.overrides]
        counts = {"kills": options.kills, "processes": options.processes}
        record = kill(Path(folder), arguments, seed=options.seed, **counts)
    print(json.dumps(record, indent=2))
    return 0 if record["whole"] and record["same"] == record["finished"] else 1


def kill(
    folder: Path, arguments: Sequence[str], *, kills: int, seed: int, processes: int = 1
) -> Any:
    """Kills runs at random moments, and counts what became of them.

    Args:
        folder: An empty one.
        arguments: Of the run, whose name is "run".
        kills: How many times.
        seed: Draws the moments, and who is killed.
        processes: How many share a run.

    Returns:
        The counts, as JSON has them: `kills` that met a run, runs `resumed` from a
        checkpoint, runs `finished` and those with the `same` bits, and whether what is
        left is `whole`: finished results and nothing else.

    Raises:
        RuntimeError: A run ended by an error of its own; the message has its words.
    """
    log = folder / "log.txt"
    cached = f"compilation_cache='{folder / 'cache'}'"  # it is killed, too
    seconds = 0.0
    for name in ("first", "straight"):  # the second finds its programs compiled
        began = time.perf_counter()
        straight = [*arguments, cached, f"results='{folder / name}'"]
        _run(log, _commands(straight, processes), None)
        seconds = time.perf_counter() - began
    rng = np.random.default_rng(seed)
    results = folder / "results"
    resumed = [*arguments, cached, f"results='{results}'", "resume=true"]
    log.unlink()
    killed = 0
    while killed < kills:
        moment = rng.uniform(0, 1.1 * seconds)
        victim = int(rng.integers(processes))
        killed += not _run(log, _commands(resumed, processes), moment, victim)
    _run(log, _commands(resumed, processes), None)
    finished = sorted(results.iterdir())
    whole = [result for result in finished if (result / "config.yaml").exists()]
    straight = folder / "straight" / "run"
    log_text = log.read_text(errors="replace")
    return {
        "kills": killed,
        "seconds of a straight run": round(seconds, 2),
        "resumed": log_text.count("going on from"),
        "damaged and passed over": log_text.count("is not a whole checkpoint"),
        "finished": len(whole),
        "same": sum(not differing_arrays(straight, result) for result in whole),
        "whole": finished == whole,
    }


def free_address() -> str:
    """Returns an address of this machine at which nothing listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _commands(arguments: Sequence[str], processes: int) -> list[list[str]]:
    """Returns the command of each process of a run."""
    command = [sys.executable, "-m", "experiments.run", *arguments]
    if processes == 1:
        return [command]
    address = free_address()
    command += ["distributed=true", f"coordinator={address}", f"processes={processes}"]
    return [[*command, f"process_id={i}"] for i in range(processes)]


def _run(
    log: Path, commands: list[list[str]], moment: float | None, victim: int = 0
) -> bool:
    """Runs until the end or a moment to kill one; tells if the end came first."""
    with log.open("a") as output:
        processes = [
            subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            for command in commands
        ]
        with suppress(subprocess.TimeoutExpired):
            processes[victim].wait(moment)
        ended = processes[victim].poll() is not None
        processes[victim].kill()
        for process in processes:
            process.wait()
    if ended and any(process.returncode for process in processes):
        raise RuntimeError(f"a run failed:\n{log.read_text(errors='replace')[-2000:]}")
    return ended


if __name__ == "__main__":
    command.finish(main)
