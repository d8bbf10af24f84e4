"""app/wire.py: one request through the pool, over the loopback: its errors, and the connection back in the pool."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from app.answer_head import BadHead
from app.errors import ClientGone
from app.incoming import BrokenOff
from app.wire import ExactPool
from tests.support.upstream import Recorded, RecordingUpstream
from tests.unit.answering import CHUNKED, OK, OTHER, whole
from tests.unit.requesting import POOL_SIZE, ask

LENGTH = ("Content-Length", "6")


@pytest.fixture
def pool(upstream: RecordingUpstream) -> Iterator[ExactPool]:
    """A pool in front of the recording upstream; at the end it has as many connections back as it has given."""
    made = ExactPool("127.0.0.1", upstream.port, maxsize=POOL_SIZE)
    yield made
    assert made.pool is not None and made.pool.qsize() == POOL_SIZE
    made.close()


def say(upstream: RecordingUpstream, wire: bytes, close: bool = False) -> None:
    """Answer everybody with these bytes."""

    def script(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(wire)
        if close:
            conn.close()

    upstream.script(script)


def assert_next(pool: ExactPool, upstream: RecordingUpstream, *, anew: bool) -> None:
    """The next request gets its own answer, on a connection made anew or on the one that was there."""
    upstream.reset()
    upstream.respond_with(200, [("Content-Length", "4")], b"next")
    answer = ask(pool)
    assert whole(answer) == b"next"
    answer.release_conn()
    assert (upstream.connections, len(upstream.requests)) == (int(anew), 1)


def test_a_request_arrives_as_it_was_given(pool: ExactPool, upstream: RecordingUpstream) -> None:
    answer = ask(pool, ("x-A", "1"), ("X-a", "2"), LENGTH, body=[b"abc", b"def"])
    assert (answer.status, whole(answer)) == (200, b'{"ok": true}')
    answer.release_conn()
    (seen,) = upstream.wait_for(1)
    assert seen.raw_head == (b"PUT /exact? HTTP/1.1\r\nHost: h\r\nx-A: 1\r\nX-a: 2\r\nContent-Length: 6\r\n\r\n")
    assert (seen.body, seen.complete, seen.fault) == (b"abcdef", True, None)


@pytest.mark.parametrize(
    ("wire", "method", "anew"),
    [
        (OTHER, "release_conn", False),
        (OK + CHUNKED + b"5\r\nother\r\n0\r\n\r\n", "release_conn", False),
        (OTHER, "close", True),
        (OTHER + b"surplus", "release_conn", True),
        (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nother", "release_conn", True),
        (OTHER.replace(b"1.1", b"1.0"), "release_conn", True),
    ],
    ids=["of a length", "chunked", "closed", "surplus", "told to close", "HTTP/1.0"],
)
def test_a_connection_is_put_back_or_closed(
    pool: ExactPool, upstream: RecordingUpstream, wire: bytes, method: str, anew: bool
) -> None:
    say(upstream, wire)
    answer = ask(pool)
    assert whole(answer) == b"other"
    getattr(answer, method)()
    assert_next(pool, upstream, anew=anew)


def test_surplus_that_comes_after_the_connection_was_put_back_is_nobodys(
    pool: ExactPool, upstream: RecordingUpstream
) -> None:
    went_back = threading.Event()

    def script(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(OTHER)
        went_back.wait(5.0)
        conn.sendall(OTHER)

    upstream.script(script)
    answer = ask(pool)
    assert whole(answer) == b"other"
    answer.release_conn()
    went_back.set()
    assert pool.pool is not None
    sock = pool.pool.queue[-1].sock  # the connection that was put back
    sock.settimeout(5.0)
    assert sock.recv(1, socket.MSG_PEEK) == b"H"
    assert_next(pool, upstream, anew=True)


def test_idling_begins_when_the_connection_goes_back(
    pool: ExactPool, upstream: RecordingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("app.wire.monotonic", lambda: now)
    answer = ask(pool)
    now += 600.0  # a long download
    whole(answer)
    answer.release_conn()
    now += 2.9
    assert_next(pool, upstream, anew=False)
    now += 3.1
    assert_next(pool, upstream, anew=True)


def test_an_upload_that_wants_one_gets_a_fresh_connection(pool: ExactPool, upstream: RecordingUpstream) -> None:
    assert_next(pool, upstream, anew=True)
    answer = ask(pool, LENGTH, body=[b"abcdef"], fresh=True)
    whole(answer)
    answer.release_conn()
    assert upstream.connections == 2
    assert_next(pool, upstream, anew=False)


# --- no answer ---


def test_an_answer_that_is_late_is_a_read_timeout(pool: ExactPool, upstream: RecordingUpstream) -> None:
    over = threading.Event()
    upstream.script(lambda *_: over.wait(5.0))
    with pytest.raises(ReadTimeoutError):
        ask(pool, read=0.05)
    (seen,) = upstream.wait_for(1)
    assert seen.wait_closed(2.0)
    over.set()
    assert_next(pool, upstream, anew=True)


@pytest.mark.parametrize(
    ("wire", "close", "cause"),
    [
        (b"garbage", False, BadHead),
        (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", False, BadHead),
        (OK + b"X: a\x00b\r\n\r\n", False, BadHead),
        (OK + b"Content-Le", True, BrokenOff),
        (b"", True, BrokenOff),
    ],
    ids=["garbage", "two lengths", "a control character", "half a head", "nothing"],
)
def test_an_answer_that_is_none_breaks_the_protocol(
    pool: ExactPool, upstream: RecordingUpstream, wire: bytes, close: bool, cause: type[Exception]
) -> None:
    say(upstream, wire, close)
    with pytest.raises(ProtocolError) as raised:
        ask(pool)
    assert isinstance(raised.value.__cause__, cause)
    assert len(upstream.wait_for(1)) == 1, "nothing is sent twice"
    assert_next(pool, upstream, anew=True)


def test_a_write_that_takes_too_long_is_no_read_timeout(pool: ExactPool, upstream: RecordingUpstream) -> None:
    over = threading.Event()
    upstream.script_head(lambda *_: over.wait(5.0))
    with pytest.raises(ProtocolError) as raised:
        ask(pool, ("Content-Length", "99999999999"), body=iter(lambda: b"x" * (1 << 20), b""), write=0.1)
    over.set()
    assert isinstance(raised.value.args[-1], TimeoutError)
    (seen,) = upstream.wait_for(1)
    assert not seen.complete
    assert_next(pool, upstream, anew=True)


# --- requests that break off ---


@pytest.mark.parametrize("error", [ClientGone("gone"), RuntimeError("x"), KeyboardInterrupt()], ids=repr)
def test_what_the_body_raises_passes_and_its_connection_is_cut(
    pool: ExactPool, upstream: RecordingUpstream, error: BaseException
) -> None:
    def breaking() -> Iterator[bytes]:
        yield b"abc"
        raise error

    with pytest.raises(type(error)) as raised:
        ask(pool, ("Transfer-Encoding", "chunked"), body=breaking())
    assert raised.value is error
    (seen,) = upstream.wait_for(1)
    assert (seen.complete, seen.raw_body) == (False, b"3\r\nabc\r\n")
    assert_next(pool, upstream, anew=True)


def test_an_early_answer_is_read_and_its_connection_not_used_again(
    pool: ExactPool, upstream: RecordingUpstream
) -> None:
    answered = threading.Event()

    def refuse(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(OTHER)
        answered.set()

    def body() -> Iterator[bytes]:
        yield b"abc"
        answered.wait(5.0)
        yield b"def"

    upstream.script_head(refuse)
    answer = ask(pool, LENGTH, body=body())
    assert (answer.cut_short, whole(answer)) == (True, b"other")
    answer.release_conn()
    (seen,) = upstream.wait_for(1)
    assert not seen.complete
    assert_next(pool, upstream, anew=True)


def test_a_header_with_a_line_end_is_refused_and_nothing_is_sent(pool: ExactPool, upstream: RecordingUpstream) -> None:
    assert_next(pool, upstream, anew=True)
    upstream.reset()
    with pytest.raises(ValueError, match="line end inside a header"):
        ask(pool, ("A", "b\r\nContent-Length: 9"))
    assert upstream.requests == []
    assert_next(pool, upstream, anew=True)
    assert b"9" not in upstream.requests[0].raw_head
