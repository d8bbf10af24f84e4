"""app/incoming.py: whether anybody may use the connection after an answer. In doubt nobody may."""

from __future__ import annotations

import socket

import pytest

from app.chunks import CRUMBS
from tests.unit.answering import CHUNKED, CONTINUE, OK, OTHER, Ends, both_ends, cut, scripted, secured, whole

ends = pytest.fixture(both_ends)


CLEAN: dict[str, tuple[bytes, str]] = {
    "a length": (OK + b"Content-Length: 2\r\n\r\nok", "GET"),
    "no bytes": (OK + b"Content-Length: 0\r\n\r\n", "GET"),
    "chunks": (OK + CHUNKED + b"2\r\nok\r\n0\r\n\r\n", "GET"),
    "chunks and trailers": (OK + CHUNKED + b"2\r\nok\r\n0\r\nX: y\r\n\r\n", "GET"),
    "HEAD": (OK + b"Content-Length: 2\r\n\r\n", "HEAD"),
    "204": (b"HTTP/1.1 204 X\r\n\r\n", "GET"),
}


@pytest.mark.parametrize(("wire", "method"), CLEAN.values(), ids=CLEAN)
def test_after_a_whole_answer_the_connection_may_be_used_again(ends: Ends, wire: bytes, method: str) -> None:
    answer = ends.answer(wire, method=method)
    whole(answer)
    answer.release_conn()
    assert ends.released == [True]


@pytest.mark.parametrize("surplus", [OTHER, b"\r\n", b"\x00", CONTINUE])
@pytest.mark.parametrize("size", [1, 13, 100_000], ids=lambda size: f"pieces of {size}")
@pytest.mark.parametrize(("wire", "method"), CLEAN.values(), ids=CLEAN)
def test_what_follows_an_answer_is_nobodys(wire: bytes, method: str, size: int, surplus: bytes) -> None:
    """What was read of it is never given to anybody; what was not makes the socket readable, which the pool sees."""
    released: list[bool] = []
    steps = cut(wire, size) if size < len(wire) else []
    last = steps.pop() if steps else wire
    answer = scripted(*steps, last + surplus, method=method, released=released)
    assert whole(answer) == (b"ok" if b"ok" in wire else b"")
    answer.release_conn()
    unread = answer._sock.recv(1000)
    assert released == [unread == surplus] and surplus.endswith(unread)


def test_surplus_that_was_read_with_the_head_spoils_the_connection(ends: Ends) -> None:
    for wire, method in CLEAN.values():
        ends.released.clear()
        answer = ends.answer(wire + OTHER, method=method)
        whole(answer)
        answer.release_conn()
        assert (ends.released, has_more(ends.upstream)) == ([False], False)


def test_surplus_that_begins_where_a_reading_of_chunks_ended_spoils_the_connection(ends: Ends) -> None:
    body = b"x" * 4084
    wire = b"ff4\r\n" + body + b"\r\n0\r\n\r\n"
    assert len(wire) == CRUMBS
    answer = ends.answer(OK + CHUNKED + wire + OTHER)
    assert whole(answer, 100_000) == body
    answer.release_conn()
    assert (ends.released, has_more(ends.upstream)) == ([False], False)


def has_more(sock: socket.socket) -> bool:
    sock.settimeout(0.0)
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return False


@pytest.mark.parametrize(
    "wire",
    [
        OK + b"Content-Length: 5\r\n\r\nok",
        OK + CHUNKED + b"2\r\nok\r\n",
        OK + CHUNKED + b"2\r\nok\r\n0\r\n",
        OK + b"\r\nok",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["not whole", "chunks", "the last chunk's line", "until the end", "told to close", "HTTP/1.0"],
)
def test_a_connection_on_which_more_may_come_is_not_used_again(ends: Ends, wire: bytes) -> None:
    answer = ends.answer(wire)
    assert answer.read1(100) == b"ok"
    answer.release_conn()
    assert ends.released == [False]


def test_an_answer_that_was_not_read_spoils_the_connection(ends: Ends) -> None:
    ends.answer(OK + b"Content-Length: 2\r\n\r\n", b"ok").release_conn()
    assert ends.released == [False]


def test_a_request_that_was_cut_short_spoils_the_connection(ends: Ends) -> None:
    answer = ends.answer(CLEAN["a length"][0])
    answer.cut_short = True
    assert whole(answer) == b"ok"
    answer.release_conn()
    assert ends.released == [False]


@pytest.mark.parametrize("read", [True, False])
def test_what_is_closed_is_not_used_again(ends: Ends, read: bool) -> None:
    answer = ends.answer(CLEAN["a length"][0])
    if read:
        whole(answer)
    answer.close()
    assert ends.released == [False]


@pytest.mark.parametrize(("first", "verdict"), [("release_conn", True), ("close", False)])
def test_there_is_one_verdict_and_no_second(ends: Ends, first: str, verdict: bool) -> None:
    """The connection may be another's by then."""
    answer = ends.answer(CLEAN["a length"][0])
    whole(answer)
    for method in (first, "close", "release_conn", "close"):
        getattr(answer, method)()
    assert ends.released == [verdict]


@pytest.mark.parametrize("surplus", [0, 1, 43])
def test_over_tls_what_was_decrypted_and_not_read_spoils_the_connection(ends: Ends, surplus: int) -> None:
    """The socket does not become readable by it, so the pool would never see it."""
    answer, sock = secured(ends, OK + b"Content-Length: 2\r\n\r\n", b"ok")
    assert whole(answer.read_head("GET")) == b"ok"
    sock.held_back = surplus
    answer.release_conn()
    assert ends.released == [not surplus]
