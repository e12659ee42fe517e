"""Ctrl-C that ends a run cleanly.

Python's own answer, a KeyboardInterrupt wherever the program happens to be, is lost or
crashes when that is inside some library's import or compilation, and comes minutes
late when that is inside a compiled loop.  Here a thread listens: the first Ctrl-C is
remembered, and a run asks for it between its stages; the second ends the process.
"""

import os
import signal
import socket
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run that was stopped, and can be gone on with."""


class Interrupts:
    """While it is entered, Ctrl-C and a request to terminate are remembered."""

    def __init__(self) -> None:
        self.seen: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only it may
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._former_descriptor = signal.set_wakeup_fd(
                self._writer.fileno(), warn_on_full_buffer=False
            )
            self._listener = threading.Thread(target=self._listen, daemon=True)
            self._listener.start()
            for number in SIGNALS:
                self._handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._handlers:
            signal.set_wakeup_fd(self._former_descriptor)
            self._writer.close()
            self._listener.join()
            self._reader.close()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.seen = self.seen or number

    def _listen(self) -> None:
        """Reads the signals' numbers, which the system's handler writes at once."""
        n_signals = 0
        while numbers := self._reader.recv(1):
            if numbers[0] not in SIGNALS:
                continue
            n_signals += 1
            if n_signals > 1:
                os.write(2, b"stopped at once\n")
                os._exit(128 + numbers[0])  # what is on the disk is whole at any time
            self.seen = self.seen or numbers[0]
            # Not `print`: the signal may have come while it was printing.
            os.write(2, b"\nstopping (again to stop at once)\n")

    def check(self) -> None:
        """Raises KeyboardInterrupt if it has been asked for."""
        if self.seen is not None:
            raise KeyboardInterrupt

    def exit_status(self) -> int:
        """Returns the exit status that a shell reports after the signal."""
        return 128 + (self.seen or signal.SIGINT)
