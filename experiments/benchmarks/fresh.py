"""One fit by one method in a process that does nothing else, for the benchmark.

    python -m experiments.benchmarks.fresh CALL.pickle

CALL.pickle is the method's name and arguments, as the benchmark has written them.  The
process imports what the method needs and no more: its time from start to end is what a
user waits for a first map.
"""

import atexit
import gc
import os
import pickle
import subprocess
import sys
import time

from experiments.benchmarks.peers import METHODS


def run_python(*arguments: str) -> tuple[float, float]:
    """Returns the seconds of a process of Python, start to end, and its peak in MiB.

    Raises:
        RuntimeError: It ended by an error.
    """
    command = [sys.executable, "-W", "ignore", *arguments]
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed with status {status}.")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main(path: str) -> None:
    """Fits once, says nothing, and ends as processes do that run no command of ours."""
    atexit.unregister(gc.freeze)
    with open(path, "rb") as file:
        method, *arguments = pickle.load(file)
    METHODS[method](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
