"""A line to process 0 that stays open for some seconds after that process has died.

JAX ends a process by a signal, with a stack of C++, as soon as its line to the
coordinator is closed.  So it calls a relay in its own process, which calls process 0:
whoever watches the processes has time to end this one and to say why.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LINGER = 5.0  # seconds that a line stays open
SIZE = 2**16  # bytes that are passed on at a time


def relay(place: tuple[str, int]) -> str:
    """Returns an address of this machine, from where all is passed on to a place."""
    server = socket.create_server(("127.0.0.1", 0))
    _begin(_accept, server, place)
    return f"127.0.0.1:{server.getsockname()[1]}"


def _accept(server: socket.socket, place: tuple[str, int]) -> None:
    while True:
        caller, _ = server.accept()
        try:
            called = socket.create_connection(place)
        except OSError:
            caller.close()  # it will call again
            continue
        for line in (caller, called):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _begin(_pass_on, caller, called, True)
        _begin(_pass_on, called, caller, False)


def _pass_on(source: socket.socket, target: socket.socket, by_caller: bool) -> None:
    """Passes on what comes; a caller's end is passed on at once, all else later."""
    at_once = False
    with suppress(OSError):
        while data := source.recv(SIZE):
            target.sendall(data)
        at_once = by_caller
    if not at_once:
        time.sleep(LINGER)
    for line in (source, target):
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)  # the other thread sees it, and closes
    source.close()


def _begin(task: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=task, args=arguments, daemon=True).start()
