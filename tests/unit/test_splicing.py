"""app/splicing.py between real TCP sockets: a pipe that has an end, a patience, and a size worth it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import pytest

from app import splicing
from app.errors import ClientGone
from app.incoming import LARGE, BrokenOff, Incoming
from app.splicing import Pipe, pipe_between
from app.watch import PATIENCE_SECONDS

DATA = bytes(range(256)) * 64


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, not waiting for anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    return near, far


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket, socket.socket, socket.socket]]:
    """MLflow's end and ours of one connection, ours and the client's of the other."""
    mlflow, source = tcp_pair()
    sink, client = tcp_pair()
    source.setblocking(False)
    sink.setblocking(False)
    client.settimeout(5.0)
    yield mlflow, source, sink, client
    for sock in (mlflow, source, sink, client):
        sock.close()


@pytest.fixture
def pipe(ends: tuple[socket.socket, ...]) -> Iterator[Pipe]:
    made = pipe_between(ends[1], ends[2])
    assert made is not None
    yield made
    made.close()


def test_what_goes_in_comes_out(ends: tuple[socket.socket, ...], pipe: Pipe) -> None:
    mlflow, source, sink, client = ends
    mlflow.sendall(DATA)
    assert pipe.take(source, 1000) == 1000
    pipe.give(sink, 1000, 1.0)
    assert client.recv(2000) == DATA[:1000]
    assert source.recv(10) == DATA[1000:1010]


def test_nothing_just_now_is_not_the_end(ends: tuple[socket.socket, ...], pipe: Pipe) -> None:
    mlflow, source, _, _ = ends
    with pytest.raises(BlockingIOError):
        pipe.take(source, 1000)
    mlflow.close()
    assert pipe.take(source, 1000) == 0


def test_a_client_that_takes_nothing_is_not_waited_for_longer_than_told(
    ends: tuple[socket.socket, ...], pipe: Pipe
) -> None:
    mlflow, source, sink, _ = ends
    source.setblocking(True)
    with pytest.raises(TimeoutError):
        while True:  # until the client's buffers are full
            mlflow.sendall(DATA)
            pipe.give(sink, pipe.take(source, len(DATA)), 0.05)


def test_a_client_that_left_is_noticed(ends: tuple[socket.socket, ...], pipe: Pipe) -> None:
    mlflow, source, sink, client = ends
    client.close()
    with pytest.raises(OSError) as caught:
        for _ in range(100):
            mlflow.sendall(b"x")
            pipe.give(sink, pipe.take(source, 1), 0.05)
    assert isinstance(caught.value, BrokenPipeError | ConnectionResetError)


def test_tls_is_made_here_and_so_needs_no_pipe(ends: tuple[socket.socket, ...]) -> None:
    with ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="mlflow.invalid") as secured:
        assert pipe_between(secured, ends[1]) is None
        assert pipe_between(ends[1], secured) is None
    assert pipe_between(ends[1], None) is None


def test_without_a_descriptor_left_it_is_done_the_other_way(
    ends: tuple[socket.socket, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe2", none_left)
    assert pipe_between(ends[1], ends[2]) is None


def test_a_tiny_pipe_is_given_back(ends: tuple[socket.socket, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splicing, "WORTH", 2 * splicing.SIZE)
    before = len(os.listdir("/proc/self/fd"))
    assert pipe_between(ends[1], ends[2]) is None
    assert len(os.listdir("/proc/self/fd")) == before


def answer(
    source: socket.socket, length: int, read_timeout: float = 5.0, client: socket.socket | None = None
) -> Incoming:
    incoming = Incoming(source, client, read_timeout, lambda _: None)
    incoming._buffer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length
    return incoming.read_head("GET")


def test_only_a_large_body_of_known_length_is_worth_a_pipe(ends: tuple[socket.socket, ...]) -> None:
    _, source, sink, _ = ends
    assert answer(source, LARGE - 1).pipe_to(sink) is None
    found = answer(source, LARGE).pipe_to(sink)
    assert found is not None
    found.close()
    begun = answer(source, LARGE)
    begun._buffer = b"some of it"
    assert begun.pipe_to(sink) is None, "what was read already would be overtaken"


def test_moving_goes_to_the_length_and_no_further(ends: tuple[socket.socket, ...], pipe: Pipe) -> None:
    mlflow, source, _, _ = ends
    incoming = answer(source, 10)
    mlflow.sendall(b"0123456789surplus")
    assert incoming.move(pipe, 4) == 4
    assert incoming.length_remaining == 6
    assert incoming.move(pipe, 100) == 6
    assert incoming.length_remaining == 0
    assert incoming.read1(10) == b""


def test_a_body_that_ends_early_is_told_apart(ends: tuple[socket.socket, ...], pipe: Pipe) -> None:
    mlflow, source, _, _ = ends
    incoming = answer(source, 10)
    mlflow.close()
    with pytest.raises(BrokenOff):
        incoming.move(pipe, 10)


def test_a_silent_upstream_is_given_the_read_timeout(ends: tuple[socket.socket, ...], pipe: Pipe) -> None:
    with pytest.raises(TimeoutError):
        answer(ends[1], 10, PATIENCE_SECONDS / 5).move(pipe, 10)


def test_a_client_that_left_while_the_upstream_is_silent_is_noticed(
    ends: tuple[socket.socket, ...], pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would hold MLflow, and its own slot, for the read timeout: a quarter of an hour."""
    monkeypatch.setattr("app.incoming.PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr("app.watch.GRACE_SECONDS", 0.01)
    _, source, sink, client = ends
    client.close()
    with pytest.raises(ClientGone) as raised:
        answer(source, 10, client=sink).move(pipe, 10)
    assert raised.value.kind == "client_left"
