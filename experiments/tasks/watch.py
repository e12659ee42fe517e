"""Ends a process of a distributed run as soon as another fails or falls silent.

A process waits for the others inside compiled programs, where Python is not asked.  So
a thread tells that this process lives, and reads what the others say; a second one
looks whether the first gets answers; and one for each line to another process sees it
closed, by the system, as soon as that process is dead.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any, Self

from aljax.distributed.agreement import Agreement, SharedError
from aljax.distributed.meeting import LINES

PAUSE = 1  # seconds between two signs of life
LEAVING = threading.Lock()


class Watch:
    """While it is entered, the processes of a run watch each other."""

    def __init__(self, agreement: Agreement, timeout: float) -> None:
        """Nothing is watched yet.

        Args:
            agreement: That of the run.
            timeout: Seconds of silence (above 0) after which a process is given up.
        """
        self._agreement, self._timeout = agreement, timeout
        self._answered = time.monotonic()
        self._over = threading.Event()
        self._failed = False

    def __enter__(self) -> Self:
        lines = [partial(self._hear, process) for process in LINES]
        for task in (self._listen, self._guard, *lines):
            threading.Thread(target=task, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._failed = error[0] is not None
        self._over.set()

    def _listen(self) -> None:
        """Gives signs of life, and reads those of the others."""
        signs: dict[str, tuple[str, float]] = {}
        beat = 0
        while not self._over.wait(PAUSE):
            beat += 1
            try:
                self._agreement.put("alive", str(beat))
                messages = self._agreement.said()
                self._agreement.check_failed(messages)
            except SharedError as error:
                return self._end(str(error))
            except RuntimeError:
                continue  # `_guard` sees it
            self._answered = time.monotonic()
            for name, sign in messages.items():
                place, process = name.split("/", 1)
                if place != "alive":
                    continue
                if signs.get(name, ("", 0.0))[0] != sign:
                    signs[name] = sign, time.monotonic()
                if time.monotonic() - signs[name][1] > self._timeout:
                    self._end(self._silent(process))

    def _guard(self) -> None:
        while not self._over.wait(PAUSE):
            if time.monotonic() - self._answered > self._timeout:
                self._end(self._silent("0"))

    def _hear(self, process: int) -> None:
        """Waits until the line to a process is closed; it says nothing there."""
        LINES[process].settimeout(None)
        with suppress(OSError):
            LINES[process].recv(1)
        if process:  # else nobody can be asked
            with suppress(SharedError, RuntimeError):
                messages = self._agreement.said()
                self._agreement.check_failed(messages)
                if not self._agreement.heard(process, messages):
                    self._end(f"process {process} died")
        else:
            self._end("process 0 died")
            time.sleep(PAUSE)  # perhaps the main thread has failed, and knows why
            if self._failed:  # but asks process 0, which does not answer
                leave("process 0 died")

    def _silent(self, process: str) -> str:
        return f"process {process} has been silent for {self._timeout:g} s"

    def _end(self, why: str) -> None:
        if not self._over.is_set():
            self._over.set()
            leave(why)


def leave(why: str, status: int = 1) -> Any:
    """Ends the process with a line; Python's own exit would wait for the others.

    The first thread that comes here says why, and any other waits for the end.
    """
    LEAVING.acquire()
    line = f"\nerror: {why.rstrip('.')}; no results were written."
    print(line, file=sys.stderr, flush=True)  # below a bar, if there is one
    sys.stdout.flush()
    os._exit(status)
