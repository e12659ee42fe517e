"""One fit by one method in a process that does nothing else, for the benchmark.

    python -m experiments.benchmarks.fresh CALL.pickle

CALL.pickle is the method's name and arguments, as the benchmark has written them.  The
process imports what the method needs and no more: its time from start to end is what a
user waits for a first map.
"""

import atexit
import gc
import pickle
import subprocess
import sys

from experiments.benchmarks.peers import METHODS

# Linux counts the memory of the process that starts another as that one's, too, so a
# small one stands between.
BETWEEN = """
import os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
print(status, time.perf_counter() - began, usage.ru_maxrss / 1024)
"""


def run_python(*arguments: str) -> tuple[float, float]:
    """Returns the seconds of a process of Python, start to end, and its peak in MiB.

    Raises:
        RuntimeError: It ended by an error.
    """
    command = [sys.executable, "-W", "ignore", *arguments]
    between = [sys.executable, "-c", BETWEEN, *command]
    told = subprocess.run(between, stdout=subprocess.PIPE, text=True, check=True)
    status, seconds, peak = map(float, told.stdout.split())
    if status:
        raise RuntimeError(f"{' '.join(command)} failed with status {status:.0f}.")
    return seconds, peak


def main(path: str) -> None:
    """Fits once, says nothing, and ends as processes do that run no command of ours."""
    atexit.unregister(gc.freeze)
    with open(path, "rb") as file:
        method, *arguments = pickle.load(file)
    METHODS[method](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
