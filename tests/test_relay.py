"""The line to process 0 outlives it for a while."""

import socket

import pytest

from aljax.distributed import meeting
from aljax.distributed.meeting import relay


@pytest.fixture
def lines(monkeypatch):
    """A caller's line through a relay, and the end of it at the place called."""
    monkeypatch.setattr(meeting, "LINGER", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = relay(server.getsockname()).rsplit(":", 1)
        caller = socket.create_connection((host, int(port)), 5)
        called, _ = server.accept()
    with caller, called:
        called.settimeout(5)
        yield caller, called


def test_all_is_passed_on_both_ways(lines):
    for source, target in (lines, reversed(lines)):
        sent = bytes(range(256)) * 2_000
        source.sendall(sent)
        came = b""
        while len(came) < len(sent):
            came += target.recv(2**20)
        assert came == sent


def test_a_line_stays_open_when_the_other_end_has_died(lines):
    caller, called = lines
    called.close()
    caller.settimeout(0.3)
    with pytest.raises(TimeoutError):
        caller.recv(1)
    caller.sendall(b"is anybody there")  # also to nobody
    caller.settimeout(5)
    assert caller.recv(1) == b""


def test_a_caller_that_leaves_is_gone_at_once(lines, monkeypatch):
    monkeypatch.setattr(meeting, "LINGER", 60.0)
    caller, called = lines
    caller.close()
    assert called.recv(1) == b""


def test_a_call_to_nobody_is_refused_and_may_be_made_again():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        place = gone.getsockname()
    host, port = relay(place).rsplit(":", 1)
    address = host, int(port)
    with socket.create_connection(address, 5) as caller:
        assert caller.recv(1) == b""
    with (
        socket.create_server(place) as server,
        socket.create_connection(address, 5) as caller,
        server.accept()[0] as called,
    ):
        caller.sendall(b"again")
        assert called.recv(5) == b"again"
