"""app/incoming.py: waiting for the head of MLflow's answer, and asking amid an upload whether it has begun."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest

from app import watch
from app.answer_head import MOST_BYTES, BadHead
from app.errors import ClientGone
from app.incoming import BrokenOff
from app.watch import PATIENCE_SECONDS
from tests.unit.answering import CHUNKED, CONTINUE, OK, OTHER, Ends, both_ends, cut, scripted, secured, whole

ends = pytest.fixture(both_ends)


# --- what is no head is not waited for ---

NO_HEAD: dict[str, bytes] = {
    "garbage": b"\x00\x01garbage",
    "one wrong byte": b"h",
    "another protocol": b"HTTP/2",
    "another case": b"http/1.1 200 OK\r\n",
    "a line before it": b"\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x0a",
    "lines that end in LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "one line that ends in LF": OK + b"X: y\n",
    "garbage after a 100": CONTINUE + b"garbage",
    "too much of it": OK + b"X: y\r\n" * (MOST_BYTES // 6),
    "a line without an end": OK + b"X: " + b"y" * MOST_BYTES,
    "a 100 without an end": b"HTTP/1.1 100 " + b"y" * MOST_BYTES,
}


@pytest.mark.parametrize("wire", NO_HEAD.values(), ids=NO_HEAD)
@pytest.mark.parametrize("size", [1, 65536])
def test_garbage_is_refused_before_it_ends(wire: bytes, size: int) -> None:
    with pytest.raises(BadHead):
        scripted(*cut(wire, size if len(wire) < 1000 else 65536), TimeoutError("nothing more comes"))


def test_garbage_on_an_open_connection_is_refused_at_once(ends: Ends) -> None:
    ends.mlflow.sendall(b"garbage")
    with pytest.raises(BadHead):
        ends.incoming(60.0).read_head("GET")


# --- waiting for a head ---


def test_silence_ends_at_the_read_timeout(ends: Ends) -> None:
    for said in (b"", b"HTTP/1.1 200 OK\r\n"):
        ends.mlflow.sendall(said)
        with pytest.raises(TimeoutError):
            ends.incoming(0.05).read_head("GET")


def test_silence_amid_a_body_ends_at_the_read_timeout(ends: Ends) -> None:
    ends.mlflow.sendall(OK + b"Content-Length: 5\r\n\r\nok")
    answer = ends.incoming(0.05).read_head("GET")
    assert answer.read1(5) == b"ok"
    with pytest.raises(TimeoutError):
        answer.read1(5)


def test_a_body_that_drips_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read timeout is about each block, for as long as there are any."""
    clock = iter(range(1000))
    monkeypatch.setattr("app.incoming.monotonic", lambda: float(next(clock)))
    assert whole(scripted(OK + b"Content-Length: 50\r\n\r\n", *[b"x"] * 50)) == b"x" * 50


def test_a_client_that_left_amid_a_body_ends_the_waiting_but_not_the_reading(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.incoming.PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.02)
    ends.browser.close()
    ends.mlflow.sendall(OK + b"Content-Length: 5\r\n\r\nok")
    answer = ends.incoming(60.0).read_head("GET")
    assert answer.read1(5) == b"ok", "what is there is given"
    with pytest.raises(ClientGone) as raised:
        answer.read1(5)
    assert raised.value.kind == "client_left"
    answer.release_conn()
    assert ends.released == [False]


@pytest.mark.parametrize("drop", [b"X", CONTINUE], ids=["a header that does not end", "one 100 after another"])
def test_a_head_that_drips_is_late_at_the_read_timeout_too(drop: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("app.incoming.monotonic", lambda: float(next(clock)))
    begun = CONTINUE if drop == CONTINUE else OK
    with pytest.raises(TimeoutError):
        scripted(begun, *[drop] * 50, b": y\r\nContent-Length: 0\r\n\r\n")


def test_an_answer_that_takes_its_time_is_waited_for_and_the_client_looked_at(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.incoming.PATIENCE_SECONDS", 0.02)
    looks: list[tuple[Any, Any]] = []

    def looked(upstream: Any, client: Any, timeout: float) -> None:
        assert 0 < timeout < 5.0
        looks.append((upstream, client))
        ends.mlflow.sendall(OTHER if len(looks) == 3 else b"")

    monkeypatch.setattr("app.incoming.await_answer", looked)
    assert whole(ends.incoming().read_head("GET")) == b"other"
    assert looks == [(ends.upstream, ends.client)] * 3


def test_an_answer_that_comes_at_once_is_read_without_a_look_at_the_client(ends: Ends) -> None:
    ends.browser.close()
    assert whole(ends.answer(OTHER)) == b"other"


def test_the_first_waiting_is_no_longer_than_the_read_timeout(ends: Ends) -> None:
    ends.mlflow.sendall(OTHER)
    ends.incoming(read_timeout=PATIENCE_SECONDS / 2).read_head("GET")
    assert ends.upstream.gettimeout() == PATIENCE_SECONDS / 2


def test_a_client_that_left_ends_the_waiting(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.incoming.PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.02)
    ends.browser.close()
    with pytest.raises(ClientGone) as raised:
        ends.incoming(60.0).read_head("GET")
    assert raised.value.kind == "client_left"


# --- whether an answer has begun, asked amid an upload ---


@pytest.mark.parametrize(
    ("said", "begun"),
    [
        (b"", False),
        (b"H", True),
        (OK, True),
        (b"garbage", True),
        (OTHER, True),
        (b"HTTP/1.1 ", False),
        (CONTINUE[:-1], False),
        (CONTINUE, False),
        (CONTINUE * 2, False),
        (CONTINUE + b"HTTP/1.1 1", False),
        (CONTINUE + OTHER, True),
        (b"HTTP/1.1 101 X\r\n\r\n", True),
        (b"HTTP/1.1 200", True),
    ],
    ids=repr,
)
def test_an_unasked_100_is_no_answer_and_less_than_that_none_yet(ends: Ends, said: bytes, begun: bool) -> None:
    ends.upstream.settimeout(0.2)  # nobody waits that long
    answer = ends.incoming()
    ends.mlflow.sendall(said)
    if said == b"H":
        assert not answer.has_begun()  # it may become a 100
        ends.mlflow.sendall(b"x")
    assert (answer.has_begun(), answer.has_begun()) == (begun, begun)


def test_the_end_of_the_connection_is_an_answer_too(ends: Ends) -> None:
    answer = ends.incoming()
    ends.mlflow.sendall(CONTINUE)
    assert not answer.has_begun()
    ends.mlflow.close()
    assert answer.has_begun()
    with pytest.raises(BrokenOff):
        answer.read_head("PUT")


def test_a_reset_is_an_answer_too(ends: Ends) -> None:
    answer = ends.incoming()
    ends.upstream.sendall(b"x")
    ends.mlflow.close()  # with something unread: the other end is reset
    assert answer.has_begun()
    with pytest.raises(BrokenOff):
        answer.read_head("PUT")


def test_what_was_read_by_asking_is_part_of_the_answer(ends: Ends) -> None:
    answer = ends.incoming()
    wire = CONTINUE + OK + b"Content-Length: 2\r\n\r\nok"
    for part in cut(wire, 1):
        ends.mlflow.sendall(part)
        answer.has_begun()
    assert (answer.read_head("PUT").status, whole(answer)) == (200, b"ok")
    answer.release_conn()
    assert ends.released == [True]


def test_a_100_that_began_while_sending_ends_while_waiting(ends: Ends) -> None:
    answer = ends.incoming()
    ends.mlflow.sendall(CONTINUE[:15])
    assert not answer.has_begun()
    ends.mlflow.sendall(CONTINUE[15:] + OTHER)
    assert whole(answer.read_head("PUT")) == b"other"


def test_a_100_that_does_not_end_is_not_kept_for_ever(ends: Ends) -> None:
    answer = ends.incoming()
    ends.mlflow.sendall(b"HTTP/1.1 100 ")
    asked = 0
    while not answer.has_begun() and asked < 100:
        ends.mlflow.sendall(b"x" * 65536)
        asked += 1
    assert asked <= MOST_BYTES // 65536 + 1
    with pytest.raises(BadHead):
        answer.read_head("PUT")


# --- the same over TLS ---


def test_over_tls_a_readable_socket_is_no_answer(ends: Ends) -> None:
    ends.mlflow.sendall(b"session ticket")
    answer, sock = secured(ends, ssl.SSLWantReadError(), CONTINUE, OTHER)
    assert [answer.has_begun() for _ in range(3)] == [False, False, True]
    assert sock.timeouts == [0.0, 0.0, 0.0]


def test_over_tls_what_was_decrypted_is_an_answer_though_the_socket_is_not_readable(ends: Ends) -> None:
    answer, _ = secured(ends, OTHER, pending=len(OTHER))
    assert answer.has_begun()


@pytest.mark.parametrize("error", [ssl.SSLEOFError(8, "EOF"), ConnectionResetError()])
def test_over_tls_an_end_without_its_sign_is_one(ends: Ends, error: OSError) -> None:
    ends.mlflow.close()
    answer, _ = secured(ends, error)
    assert answer.has_begun()
    answer, _ = secured(ends, OK + b"\r\nsome", error)
    assert answer.read_head("GET").read1(9) == b"some"
    with pytest.raises(OSError):
        answer.read1(9)


# --- an upstream with Nagle's algorithm on keeps the body back until the head is acknowledged ---


@pytest.mark.parametrize(
    ("steps", "acknowledged"),
    [
        ((OK + b"Content-Length: 2\r\n\r\n", b"ok"), True),
        ((OK + CHUNKED, b"0\r\n\r\n"), True),
        ((OK + b"Content-Length: 2\r\n\r\nok",), False),
        ((OK + b"Content-Length: 0\r\n\r\n",), False),
    ],
    ids=["body to come", "chunks to come", "all here", "no body"],
)
def test_a_head_that_came_alone_is_acknowledged_at_once(steps: tuple[bytes, ...], acknowledged: bool) -> None:
    sock: Any = scripted(*steps)._sock
    assert ((socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1) in sock.options) is acknowledged
