"""app/drain.py: a body that nobody read. Under gunicorn and gevent: functional/test_refused_uploads.py."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.body import Body, ChunkedReader, EOFReader, LengthReader
from gunicorn.http.unreader import SocketUnreader

from app import drain


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(True)
    with ours, theirs:
        yield ours, theirs


def of_length(ours: socket.socket, length: int) -> Any:
    return Body(LengthReader(SocketUnreader(ours), length))


def chunked(ours: socket.socket) -> Any:
    return over_chunks(SocketUnreader(ours))


def over_chunks(unreader: SocketUnreader) -> Any:
    return Body(ChunkedReader(SimpleNamespace(unreader=unreader), unreader))


def test_a_body_that_was_read_and_one_that_never_was_need_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"abc")
    body = of_length(ours, 3)
    assert (drain.is_unread(body), body.read(3), drain.is_unread(body)) == (True, b"abc", False)
    assert drain.finish(body, ours) and drain.finish(of_length(ours, 0), ours)
    assert not drain.is_unread(Body(EOFReader(SocketUnreader(ours))))


def test_a_small_body_is_read_and_the_connection_goes_on(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"abc" + b"3\r\ndef\r\n0\r\n\r\n" + b"GET / HTTP/1.1")
    first = of_length(ours, 3)
    assert drain.finish(first, ours)
    second = over_chunks(first.reader.unreader)
    assert drain.finish(second, ours)
    assert (first.reader.unreader.read(), ours.gettimeout()) == (b"GET / HTTP/1.1", None)


def test_a_body_that_broke_is_not_read_on_as_if_it_had_not(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it ends nobody knows: what looks like its end may be a request that somebody hid in it."""
    monkeypatch.setattr(drain, "LINGER_SECONDS", 0.01)
    ours, theirs = pair
    theirs.sendall(b"0\r\n\r\nGET / HTTP/1.1")
    body = chunked(ours)
    body.failed = True
    assert not drain.finish(body, ours)


@pytest.mark.parametrize("make", [lambda ours: of_length(ours, drain.SMALL + 1), chunked], ids=["of length", "chunked"])
def test_of_a_large_body_a_bounded_part_is_read_and_the_connection_ends(
    pair: tuple[socket.socket, socket.socket], make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LINGER_SECONDS", 0.2)
    monkeypatch.setattr(drain, "SMALL", 1000)
    ours, theirs = pair
    theirs.setblocking(False)
    sent = theirs.send(b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"y" * 60_000)
    begun = time.monotonic()
    assert not drain.finish(make(ours), ours)
    assert time.monotonic() - begun < 1.0 and sent > 8192
    theirs.setblocking(True)
    assert theirs.recv(1) == b"", "no more is to come, and the client was not told"


def test_a_client_that_closes_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * 10)
    theirs.close()
    begun = time.monotonic()
    assert not drain.finish(of_length(ours, 1_000_000), ours)
    assert time.monotonic() - begun < 1.0


def test_a_slow_small_body_is_not_waited_for_long(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LINGER_SECONDS", 0.1)
    begun = time.monotonic()
    assert not drain.finish(of_length(pair[0], 10), pair[0])
    assert time.monotonic() - begun < 1.0


def test_a_body_that_failed_is_not_read_on(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    body = of_length(ours, 3)
    body.failed = True
    assert not drain.finish(body, ours)


def test_a_chunk_that_is_none_ends_the_connection_and_nothing_else(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"no chunk\r\n")
    assert not drain.finish(chunked(ours), ours)
