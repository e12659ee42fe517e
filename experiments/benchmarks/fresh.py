"""One fit by one method in a process that does nothing else, for the benchmark.

    python -m experiments.benchmarks.fresh CALL.pickle

CALL.pickle is the method's name and arguments, as the benchmark has written them.  The
process imports what the method needs and no more: its time from start to end is what a
user waits for a first map.
"""

import pickle
import sys

from experiments.benchmarks.peers import METHODS


def main(path: str) -> None:
    """Fits once, and says nothing."""
    with open(path, "rb") as file:
        method, *arguments = pickle.load(file)
    METHODS[method](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
