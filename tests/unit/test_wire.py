"""app/wire.py, the pure parts: headers that carry the target. What travels on a socket is in tests/functional."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import pytest
from urllib3 import HTTPResponse
from urllib3.util import SKIP_HEADER

from app.wire import (
    ExactConnection,
    ExactTLSConnection,
    Manner,
    Outbound,
)

# Everything that requests or urllib3 would rewrite: dot segments cannot come here, but nobody may touch them either.
TARGETS = ["/", "/a?", "/a//b", "/%2e%2E", "/a/../b", "/%41%7e", '/{x}|"<>^`', "/a?x=%zz&y=%41", "/a??b#"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_target_survives_the_copies_that_urllib3_makes(target: str) -> None:
    copied = Outbound([("A", "b")], Manner(target, 7.0)).copy().copy()
    assert (type(copied), copied.manner.target, copied.manner.write_timeout, copied["a"]) == (
        Outbound,
        target,
        7.0,
        "b",
    )


def test_headers_keep_their_spelling_and_order() -> None:
    pairs = [("Host", "h"), ("x-LOWER-Upper", "1"), ("User-Agent", "u"), ("Accept-Encoding", "gzip")]
    assert list(Outbound(pairs, Manner("/", 1.0)).items()) == pairs


def test_repeated_headers_are_joined_whatever_their_spelling() -> None:
    assert list(Outbound([("A", "1"), ("B", "2"), ("a", "3")], Manner("/", 1.0)).items()) == [
        ("a", "1, 3"),
        ("B", "2"),
        *[(name, SKIP_HEADER) for name in ("User-Agent", "Accept-Encoding")],
    ]


@pytest.mark.parametrize("name", ["User-Agent", "Accept-Encoding"])
def test_what_the_client_did_not_send_nobody_sends(name: str) -> None:
    assert Outbound([], Manner("/", 1.0))[name] == SKIP_HEADER
    assert Outbound([(name.lower(), "x")], Manner("/", 1.0))[name] == "x"


class Line:
    """A connection and the other end of its socket."""

    def __init__(self, connection: ExactConnection) -> None:
        self.connection = connection
        self._ours, self.theirs = socket.socketpair()
        connection.sock, connection.idle_since = self._ours, float("inf")

    def request(self, headers: Outbound, body: Any = None, method: str = "PUT") -> None:
        chunked = "Transfer-Encoding" in headers
        self.connection.request(method, "/chosen/by/requests", body, headers, chunked=chunked, preload_content=False)

    @property
    def sent(self) -> bytes:
        """What has arrived at the other end."""
        return self.theirs.recv(1 << 20)

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(ExactConnection("mlflow", 5000, timeout=3.0))
    yield made
    made.close()


@pytest.mark.parametrize("target", TARGETS)
def test_the_target_is_sent_byte_for_byte_and_no_header_is_added(line: Line, target: str) -> None:
    line.request(Outbound([("Host", "mlflow:5000"), ("A", "caf\xe9")], Manner(target, 7.0)), method="GET")
    assert line.sent == b"GET %b HTTP/1.1\r\nHost: mlflow:5000\r\nA: caf\xe9\r\n\r\n" % target.encode()


def test_a_body_of_known_length_is_sent_as_it_is_with_that_length_alone(line: Line) -> None:
    line.request(Outbound([("Host", "h"), ("Content-Length", "6")], Manner("/x", 7.0)), iter([b"abc", b"def"]))
    assert line.sent == b"PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabcdef"


def test_a_chunked_body_is_sent_in_chunks_without_a_length(line: Line) -> None:
    line.request(
        Outbound([("Host", "h"), ("Transfer-Encoding", "chunked")], Manner("/x", 7.0)), iter([b"abc", b"defg"])
    )
    assert line.sent == (
        b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    )


def test_a_body_that_breaks_is_never_ended_as_if_it_were_whole(line: Line) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"abc"
        raise RuntimeError("the client went away")

    with pytest.raises(RuntimeError):
        line.request(Outbound([("Host", "h"), ("Transfer-Encoding", "chunked")], Manner("/x", 7.0)), breaking())
    assert line.sent.endswith(b"\r\n\r\n3\r\nabc\r\n")


def test_sending_has_a_timeout_of_its_own(line: Line) -> None:
    line.request(Outbound([("Host", "h")], Manner("/x", 7.0)))
    assert line.connection.sock.gettimeout() == 7.0


def test_an_answer_that_comes_early_stops_the_sending(line: Line) -> None:
    def body() -> Iterator[bytes]:
        yield b"abc"
        line.theirs.sendall(b"HTTP/1.1 413 Too Large\r\n\r\n")
        yield b"def"

    with pytest.raises(BrokenPipeError):
        line.request(Outbound([("Host", "h"), ("Content-Length", "6")], Manner("/x", 7.0)), body())
    assert (line.connection.cut_short, line.sent[-7:]) == (True, b"\r\n\r\nabc")


def ask(line: Line, answer: bytes) -> HTTPResponse:
    """Send a request, and read the answer that the other end gives."""
    line.request(Outbound([("Host", "h")], Manner("/x", 7.0)), method="GET")
    line.connection.timeout = 5.0
    line.theirs.sendall(answer)
    return line.connection.getresponse()


def test_idling_begins_with_the_answer_and_its_connection_is_kept(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.wire.monotonic", lambda: 1000.0)
    answer = ask(line, b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 1\r\n\r\nx")
    assert (answer.status, answer.read(), line.connection.idle_since) == (207, b"x", 1000.0)
    assert line.connection.sock is not None


def test_after_an_early_answer_the_connection_is_not_kept_but_the_answer_can_be_read(line: Line) -> None:
    line.request(Outbound([("Host", "h")], Manner("/x", 7.0)), method="GET")
    line.connection.cut_short, line.connection.timeout = True, 5.0
    line.theirs.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
    answer = line.connection.getresponse()
    assert (line.connection.sock, answer.status, answer.read()) == (None, 413, b"large")


def test_a_connection_whose_answer_is_none_has_idled_too(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.wire.monotonic", lambda: 1000.0)
    with pytest.raises(HTTPException):
        ask(line, b"no HTTP at all\r\n\r\n")
    assert line.connection.idle_since == 1000.0


def test_a_connection_on_which_something_came_unasked_is_not_used_again(line: Line) -> None:
    assert line.connection.is_connected
    line.theirs.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert not line.connection.is_connected


def test_a_connection_that_was_ended_is_not_used_again(line: Line) -> None:
    line.theirs.close()
    assert not line.connection.is_connected
    assert not ExactConnection("mlflow").is_connected


def test_an_upstream_that_takes_no_more_bytes_is_waited_for_as_long_as_writing_may_take(line: Line) -> None:
    with pytest.raises(TimeoutError):
        line.request(Outbound([("Host", "h"), ("Content-Length", "99999999")], Manner("/x", 0.05)), endless())
    assert not line.connection.cut_short


def test_an_upstream_that_takes_no_more_bytes_but_answers_is_listened_to(line: Line) -> None:
    def body() -> Iterator[bytes]:
        threading.Timer(0.05, line.theirs.sendall, [b"HTTP/1.1 413 Too Large\r\n\r\n"]).start()
        yield from endless()

    with pytest.raises(BrokenPipeError):
        line.request(Outbound([("Host", "h"), ("Content-Length", "99999999")], Manner("/x", 5.0)), body())
    assert line.connection.cut_short


def endless() -> Iterator[bytes]:
    """More than any socket's buffers hold."""
    return itertools.repeat(b"x" * (1 << 20))


def test_over_tls_a_readable_socket_is_no_answer() -> None:
    line = Line(ExactTLSConnection("mlflow"))
    line.theirs.sendall(b"session ticket")
    assert list(line.connection._until_answered([b"abc", b"def"])) == [b"abc", b"def"]
    line.close()


@pytest.mark.parametrize(("idle", "connects"), [(2.9, 0), (3.1, 1), (600.0, 1)])
def test_a_connection_that_idled_longer_than_uvicorn_keeps_it_is_made_anew(
    line: Line, monkeypatch: pytest.MonkeyPatch, idle: float, connects: int
) -> None:
    others: list[socket.socket] = []

    def connect(self: ExactConnection) -> None:
        self.sock, other = socket.socketpair()
        others.append(other)

    monkeypatch.setattr(ExactConnection, "connect", connect)
    monkeypatch.setattr("app.wire.monotonic", lambda: 1000.0)
    line.connection.idle_since = 1000.0 - idle
    line.request(Outbound([("Host", "h")], Manner("/x", 7.0)), method="GET")
    assert len(others) == connects
    for other in [*others, *([line.connection.sock] if others else [])]:
        other.close()
