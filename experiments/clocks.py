"""Measures a run's cost: seconds of its stages, of compilation, and memory."""

import math
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

from experiments.interrupts import Interrupts

COMPILATION = "/jax/core/compile/backend_compile_duration"


class CompileClock:
    """Counts what XLA has compiled since this was made, and for how long."""

    def __init__(self) -> None:
        self.programs = 0
        self._spans: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        del kwargs
        if event == COMPILATION:
            self.programs += 1
            end = time.perf_counter()
            self._spans.append((end - duration_secs, end))

    @property
    def seconds(self) -> float:
        """The seconds in which programs were compiled, by one thread or by several."""
        total, until = 0.0, -math.inf
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        return total


def clocked(call: Callable[[], Any]) -> tuple[Any, float]:
    """Returns what a call returns, and its seconds until that is computed."""
    began = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - began


def peak_memory() -> float:
    """Returns the most memory that this process has held so far, in MiB."""
    with suppress(OSError):  # Linux, where `getrusage` counts that of the parent, too
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


@contextmanager
def told_warnings() -> Iterator[None]:
    """Prints warnings as they come, without the line of Python that gave them."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _tell(message)
        yield


def _tell(message: Warning | str) -> None:
    print(f"warning: {message}", file=sys.stderr)


@contextmanager
def stage(
    name: str, seconds: dict[str, float], interrupts: Interrupts
) -> Iterator[None]:
    """Writes down how long a stage takes, and stops after it where that was asked.

    Its warnings are printed after it, below its progress bar.
    """
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as heard:
        try:
            yield
        finally:
            for warning in heard:
                _tell(warning.message)
    seconds[name] = time.perf_counter() - start
    interrupts.check()
