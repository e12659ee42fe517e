"""Ctrl-C that ends a run cleanly.

Python's own answer, a KeyboardInterrupt wherever the program happens to be, is lost or
crashes when that is inside some library's import or compilation.  Here the first
Ctrl-C is remembered, and a run asks for it between its stages; a second one is
Python's.
"""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While it is entered, Ctrl-C and a request to terminate are remembered."""

    def __init__(self) -> None:
        self.seen: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only it may
            for one in SIGNALS:
                self._handlers[one] = signal.signal(one, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one, handler in self._handlers.items():
            signal.signal(one, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.seen is not None:
            raise KeyboardInterrupt
        self.seen = number
        # Not `print`: it fails if the signal came while it was printing.
        os.write(2, b"\nstopping (again to stop at once)\n")

    def check(self) -> None:
        """Raise KeyboardInterrupt if it has been asked for."""
        if self.seen is not None:
            raise KeyboardInterrupt

    def exit_status(self) -> int:
        """What a shell reports for a program that the signal ended."""
        return 128 + (self.seen or signal.SIGINT)
