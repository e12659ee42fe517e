"""Processes meet before JAX connects them: who waits for whom is told, and no longer.

JAX ends a process that met nobody by a signal, with a stack of C++.  So all others
first call process 0 at the address where its coordinator will listen:

    process i:  {"process": i, "processes": n}  ->  process 0
    process 0:  {"error": null or why not}      ->  process i, once all n have come

The lines stay open, for the system closes them at once when a process dies.

JAX ends a process by a signal, too, as soon as its line to the coordinator is closed.
So it calls a relay in its own process, which calls process 0 and stays for some seconds
after that has died: whoever watches the processes has time to say why this one ends.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import jax
from jax._src.distributed import global_state

from aljax.config import number
from aljax.errors import InputError

PAUSE = 0.2  # seconds between two calls
SETTLED = 0.1  # seconds after which a line that its caller left is seen closed
GRACE = 5  # seconds more, in which process 0 says why it stopped waiting
LONGEST = 2**12  # bytes that a process says
ANSWER = "another program listens"
LINGER = 5.0  # seconds that a relay's line stays open
SIZE = 2**16  # bytes that it passes on at a time


def connect(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: float = 60,
    log: Callable[[str], Any] | None = print,
    check: Callable[[], Any] | None = None,
    **settings: Any,
) -> None:
    """Joins this process to the others, as `jax.distributed.initialize` does.

    Args:
        coordinator: HOST:PORT of process 0, as the others reach it; None where SLURM,
            Open MPI or Kubernetes says this and the next two.
        processes: How many there are (at least 1).
        process_id: Which of them this is (0 to `processes` - 1).
        timeout: Seconds to wait for the others (above 0).
        log: Called with a line that says who is waited for; None for silence.
        check: Called every second meanwhile; what it raises ends the waiting.
        **settings: Further ones of `jax.distributed.initialize`.

    Raises:
        InputError: The others have not come, the port is in use, or the host unknown.
    """
    number(0, open_low=True)("timeout", timeout)
    began = time.monotonic()
    if coordinator is not None:
        number(1, whole=True)("processes", processes)
        number(0, high=(processes or 1) - 1, whole=True)("process_id", process_id)
        said = log or (lambda _: None), check or (lambda: None)
        watch = Watch(began + timeout, timeout, *said)
        LINES.update(meet(coordinator, processes or 1, process_id or 0, watch))
    called = relay(_place(coordinator)) if coordinator and process_id else coordinator
    left = began + timeout - time.monotonic()
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            called,
            processes,
            process_id,
            initialization_timeout=max(GRACE, round(left)),
            **settings,
        )
    except ValueError as error:
        got = "is not set, and no cluster is detected (SLURM, Open MPI, Kubernetes)"
        expected = "HOST:PORT of process 0, with `processes` and `process_id`"
        raise InputError("coordinator", got, expected) from error
    except RuntimeError as error:
        got = f"is {coordinator}, where the processes did not meet ({error})"
        raise InputError("coordinator", got, "the address of process 0") from error


def identity() -> tuple[int, int]:
    """Returns which process this is, and of how many; JAX makes no devices for it."""
    return global_state.process_id, global_state.num_processes


Lines = dict[int, socket.socket]
LINES: Lines = {}  # to the processes that were met by hand


class Watch(NamedTuple):
    """The terms of a wait: its end, whom it tells, and the check that may end it."""

    end: float
    timeout: float
    log: Callable[..., Any]
    check: Callable[..., Any]

    def left(self, most: float) -> float:
        """Returns the seconds that are left, at most so many, after a check."""
        self.check()
        return min(most, max(0.0, self.end - time.monotonic()))


def meet(address: str, processes: int, process_id: int, watch: Watch) -> Lines:
    """Waits until all have come, and returns the lines to them; see `connect`."""
    place = _place(address)
    lines: Lines = {}
    if process_id == 0:
        error = _receive(address, processes, lines, watch)
    else:
        watch.log(f"process {process_id}: waiting for process 0 at {address}")
        hello = json.dumps({"process": process_id, "processes": processes})
        error = _call(place, hello, lines, watch)
    if error is not None:
        got = f"is {address}, where {error}"
        expected = "the address of process 0, which every process can reach"
        for line in lines.values():
            line.close()
        raise InputError("coordinator", got, expected)
    return lines


def _place(address: str) -> tuple[str, int]:
    """Returns the host and the port of an address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        got, expected = f"is {address!r}", "HOST:PORT, as in 10.0.0.1:9876"
        raise InputError("coordinator", got, expected)
    return host.strip("[]"), int(port)


def _receive(address: str, processes: int, lines: Lines, watch: Watch) -> str | None:
    """Waits as process 0 for all others; says why in vain, to those who came, too."""
    if processes == 1:
        return None
    dual_stack = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual_stack else socket.AF_INET
    try:
        place = "", _place(address)[1]
        server = socket.create_server(place, family=family, dualstack_ipv6=dual_stack)
    except OSError as error:
        return f"process 0 cannot listen ({os.strerror(error.errno or 0)})"
    with server:
        watch.log(f"process 0: waiting for {_others(lines, processes)} at {address}")
        error = None
        while error is None and len(lines) < processes - 1:
            if not (left := watch.left(PAUSE)):
                missing = _others(lines, processes)
                error = f"{missing} did not come within {watch.timeout:g} s"
                break
            server.settimeout(left)
            with suppress(TimeoutError):
                error = _enter(server.accept()[0], lines, processes, watch)
            if len(lines) == processes - 1:
                time.sleep(SETTLED)
            for process in [i for i in lines if not _is_open(lines[i])]:
                lines.pop(process).close()  # it will call again, if it was begun again
        for caller in lines.values():
            caller.setblocking(True)
            with suppress(OSError):
                caller.sendall(json.dumps({"error": error}).encode() + b"\n")
    return error


def _enter(
    caller: socket.socket, lines: Lines, processes: int, watch: Watch
) -> str | None:
    """Lets a caller in who says which process it is; returns what is wrong with it."""
    message = _heard(caller, watch._replace(end=time.monotonic() + GRACE))
    process, count = message.get("process"), message.get("processes")
    if not isinstance(process, int):
        caller.close()  # of whoever looks for open ports
        return None
    before = lines.get(process)
    twice = before is not None and _is_open(before)
    if before is not None and not twice:  # it left, and was begun again
        before.close()
    lines[-1 if twice else process] = caller
    if twice or process == 0:
        return f"two processes call themselves {process}"
    if count != processes:
        return f"process {process} expects {count} processes, not {processes}"
    return None


def _is_open(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1, socket.MSG_PEEK) != b""
    except OSError as error:
        return isinstance(error, BlockingIOError)


def _call(place: tuple[str, int], hello: str, lines: Lines, watch: Watch) -> str | None:
    """Calls process 0 until it answers."""
    late = f"process 0 did not answer within {watch.timeout:g} s"
    reason = late
    while left := watch.left(GRACE):
        try:
            line = lines[0] = socket.create_connection(place, left)
            line.sendall(hello.encode() + b"\n")
            message = _heard(line, watch._replace(end=watch.end + GRACE))
        except socket.gaierror as error:
            return f"no host is found ({error.strerror})"
        except OSError as error:
            reason = f"{late} ({error.strerror or error})"
        else:
            if "error" in message:
                return message["error"]
            reason = message.get("reason", reason)
            line.close()
        time.sleep(watch.left(PAUSE))
    return reason


def _heard(line: socket.socket, watch: Watch) -> dict[str, Any]:
    """Returns a line that was said, as JSON; nothing of what is none."""
    text = b""
    while b"\n" not in text and len(text) < LONGEST and (left := watch.left(PAUSE)):
        line.settimeout(left)
        try:
            more = line.recv(LONGEST)
        except TimeoutError:
            continue
        except OSError:
            break
        if not more:
            break
        text += more
    try:
        message = json.loads(text)
    except ValueError:
        return {"reason": ANSWER} if text else {}
    return message if isinstance(message, dict) else {"reason": ANSWER}


def _others(lines: dict[int, Any], processes: int) -> str:
    missing = [str(i) for i in range(1, processes) if i not in lines]
    return f"process{'es' * (len(missing) > 1)} {', '.join(missing)}"


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
