"""Processes that agree before they start, as threads with one store between them."""

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pytest

from aljax.config import GraphConfig
from aljax.distributed import agreement, meeting
from aljax.distributed.agreement import Agreement, SharedError, digest
from aljax.errors import InputError


class Store:
    """A part of the client of JAX's coordination service, in one process."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def key_value_set(self, key: str, value: str, *, allow_overwrite: bool) -> None:
        assert allow_overwrite
        self.said[key] = value

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        return [(k, v) for k, v in [*self.said.items()] if k.startswith(key)]


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return, or the errors that they raise."""
    ended: list[Any] = [None] * len(calls)

    def run(i: int) -> None:
        try:
            ended[i] = calls[i]()
        except InputError as error:
            ended[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return ended


@pytest.fixture
def agreements(monkeypatch) -> list[Agreement]:
    monkeypatch.setattr(agreement.global_state, "client", Store())
    monkeypatch.setattr(agreement.global_state, "num_processes", 3)
    made = []
    for process in range(3):
        monkeypatch.setattr(agreement.global_state, "process_id", process)
        made.append(Agreement("test"))
    return made


def test_answers_are_those_of_all_in_their_order(agreements):
    asked = [lambda a=a: a.answers("name", f"p{a.process}") for a in agreements]
    assert in_threads(*asked) == [["p0", "p1", "p2"]] * 3


def test_what_differs_is_named_in_all(agreements):
    seeds = [0, 7, 0]
    errors = in_threads(
        *[
            lambda a=a: a.same("settings", {"seed": seeds[a.process], "epochs": 3})
            for a in agreements
        ]
    )
    for error in errors:
        assert isinstance(error, SharedError)
        assert (error.name, error.got) == (
            "seed",
            "is 0 in processes 0, 2, 7 in process 1",
        )


def test_a_failure_in_one_process_ends_the_others(agreements):
    def call(a: Agreement) -> None:
        with a.together("reading"):
            if a.process == 1:
                raise InputError("slices[3]", "is missing", "a file")

    errors = in_threads(*[lambda a=a: call(a) for a in agreements])
    assert [error.name for error in errors] == ["processes", "slices[3]", "processes"]
    assert "process 1, that ended: `slices[3]` is missing" in errors[0].got


def test_a_name_that_is_stated_by_one_differs():
    found = [*agreement.differences([{"a": "1", "b": "2"}, {"a": "1"}])]
    assert found == [("b", "is 2 in process 0, not stated in process 1")]


def test_digests_are_of_contents():
    ids = [np.array([1, 2]), np.array(["a", "b", "c"])]
    assert digest(ids) == digest([one.copy() for one in ids])
    values: list[Any] = [ids, ids[::-1], [{0: 1}], [{1: 0}], [{0: 1}, {0: 1}], None]
    values += [{(0, 1): ids[0]}, {(0, 2): ids[0]}, ids[0], ids[0].astype(float), "a"]
    values += [["a", None], ["b", None]]
    assert len({*map(digest, values)}) == len(values)


def test_functions_are_stated_by_name_and_long_values_by_sum():
    def metric(x, y, weights=""):
        return x @ y + len(weights)

    stated = agreement.statement_of(graph=GraphConfig(metric=metric))
    assert stated["graph.metric"].endswith("metric>")
    assert agreement.stated([0.5] * 900).startswith("900 of sum ")
    weighted = [partial(metric, weights="1 " * count) for count in (200, 200, 201)]
    sums = [agreement.stated(one) for one in weighted]
    assert sums[0] == sums[1] != sums[2]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def meet(process: int, count: int = 2, *, port: int, seconds: float = 20) -> list[int]:
    watch = meeting.Watch(
        time.monotonic() + seconds, seconds, said.append, lambda: None
    )
    lines = meeting.meet(f"127.0.0.1:{port}", count, process, watch)
    for line in lines.values():
        line.close()
    return sorted(lines)


def ring(port: int, words: Any) -> None:
    """Calls process 0, as soon as it listens, and hangs up."""
    for _ in range(500):
        with suppress(OSError):
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.sendall(json.dumps(words).encode() + b"\n")
            return
        time.sleep(0.01)


said: list[str] = []


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    said.clear()
    monkeypatch.setattr(meeting, "GRACE", 0.5)


def test_processes_meet_whoever_comes_first():
    port = free_port()
    met = in_threads(*[lambda i=i: meet(i, 3, port=port) for i in (2, 0, 1)])
    assert met == [[0], [1, 2], [0]]
    assert f"process 0: waiting for processes 1, 2 at 127.0.0.1:{port}" in said


def test_a_process_that_is_begun_again_is_met():
    port = free_port()

    def call() -> list[int]:
        ring(port, {"process": 1, "processes": 3})
        return meet(1, 3, port=port)

    met = in_threads(lambda: meet(0, 3, port=port), call, lambda: meet(2, 3, port=port))
    assert met == [[1, 2], [0], [0]]


def test_a_process_that_hangs_up_while_it_calls_again_is_let_in():
    (left, gone), (caller, again) = socket.socketpair(), socket.socketpair()
    gone.close()
    again.sendall(json.dumps({"process": 1, "processes": 3}).encode() + b"\n")
    watch = meeting.Watch(time.monotonic() + 5, 5, said.append, lambda: None)
    came = {1: left}
    with again, caller:
        assert meeting._enter(caller, came, 3, watch) is None
        assert came == {1: caller}


@pytest.mark.parametrize(
    ("calls", "got"),
    [
        ([(0, 3), (1, 3)], "process 2 did not come within 1 s"),
        ([(0, 2), (1, 3)], "process 1 expects 3 processes, not 2"),
        ([(0, 3), (1, 3), (1, 3)], "two processes call themselves 1"),
    ],
)
def test_all_who_came_are_told_why_the_meeting_failed(calls, got):
    port = free_port()
    errors = in_threads(
        *[lambda i=i, n=n: meet(i, n, port=port, seconds=1) for i, n in calls]
    )
    for error in errors:
        assert error.name == "coordinator"
        assert got in error.got


def test_a_port_in_use_and_who_listens_there_are_told():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            for _ in range(2):
                with server.accept()[0] as line:
                    line.sendall(b"SSH-2.0\r\n")

        threading.Thread(target=answer, daemon=True).start()
        ours, theirs = in_threads(
            *[lambda i=i: meet(i, port=port, seconds=0.5) for i in (0, 1)]
        )
    assert "process 0 cannot listen (Address already in use)" in ours.got
    assert "another program listens" in theirs.got


@pytest.mark.parametrize(
    ("address", "got"),
    [
        ("127.0.0.1", "is '127.0.0.1'"),
        ("127.0.0.1:0", "is '127.0.0.1:0'"),
        ("127.0.0.1:x", "is '127.0.0.1:x'"),
        ("host.invalid:1234", "no host is found"),
    ],
)
def test_addresses_that_cannot_be_are_refused(address, got):
    with pytest.raises(InputError) as raised:
        meeting.connect(address, 2, 1, timeout=5, log=None)
    assert raised.value.name == "coordinator"
    assert got in raised.value.got


def test_a_caller_who_is_no_process_is_let_go():
    port = free_port()

    def call() -> list[int]:
        ring(port, ["GET"])
        return meet(1, port=port)

    assert in_threads(lambda: meet(0, port=port), call) == [[1], [0]]
