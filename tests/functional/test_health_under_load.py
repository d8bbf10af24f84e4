"""Health while transfers are under way, and while the proxy is told to end."""

from __future__ import annotations

import contextlib
import signal
import socket
import statistics
import time
from collections.abc import Iterator

import pytest

from tests.support.auth_service import GOOD_KEY
from tests.support.client import RawResponse, open_connection, read_response, request
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk

ARTIFACT = "/api/mlflow/api/2.0/mlflow-artifacts/artifacts/model.bin"
HEAD = f"{ARTIFACT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {GOOD_KEY}\r\n"
TRANSFERS = 60
QUICK_SECONDS = 0.1  # the contract's
PATHS = ("/health", "/live", "/ready", "/api/mlflow/health", "/mlflow/health")


def trickle(upstream: RecordingUpstream) -> None:
    """Let MLflow send downloads piece by piece, for ever."""

    def answer(conn: socket.socket, recorded: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not upstream.stopping.wait(0.05):
            conn.sendall(chunk(bytes(1000)))

    upstream.script(answer)


@contextlib.contextmanager
def transfers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Uploads that stand still half-way and downloads that trickle, half of each."""
    with contextlib.ExitStack() as stack:
        open_ones = []
        for number in range(count):
            connection = stack.enter_context(open_connection(port))
            upload = f"PUT {HEAD}Content-Length: 1000000\r\n\r\n".encode() + bytes(1000)
            connection.sendall(upload if number % 2 else f"GET {HEAD}\r\n".encode())
            open_ones.append(connection)
        yield open_ones


def timed(port: int, path: str) -> tuple[float, RawResponse]:
    begun = time.monotonic()
    response = request(port, "GET", path)
    return time.monotonic() - begun, response


def test_health_answers_quickly_while_transfers_are_under_way(
    proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    trickle(upstream)
    with Proxy(proxy_env) as proxy, transfers(proxy.port, TRANSFERS) as connections:
        upstream.wait_for(TRANSFERS, timeout=20, heads=True)
        found = [timed(proxy.port, path) for _ in range(4) for path in PATHS]
        for connection in connections:
            connection.close()
    assert {response.status for _, response in found} == {200}
    seconds = [took for took, _ in found]
    assert statistics.median(seconds) < QUICK_SECONDS, seconds
    assert max(seconds) < 1.0, seconds  # one hiccup of a busy machine is not a fault of the proxy


def test_the_report_on_mlflow_does_not_wait_for_transfers(
    proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    def answer(conn: socket.socket, recorded: Recorded) -> None:
        if b"model.bin" in recorded.target:
            upstream.stopping.wait(10)
        else:
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    upstream.script(answer)
    with Proxy({**proxy_env, "UPSTREAM_POOL_SIZE": "4"}) as proxy, transfers(proxy.port, 20):
        upstream.wait_for(20, heads=True)
        took, response = timed(proxy.port, "/api/mlflow/health/mlflow")
        assert response.status == 200 and took < 1.0
        upstream.drop_connections()


@pytest.fixture
def slow_download(upstream: RecordingUpstream) -> Iterator[bytes]:
    """A download that MLflow sends within two seconds or so, and what it holds."""
    pieces = [bytes([number]) * 1000 for number in range(20)]

    def answer(conn: socket.socket, recorded: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")
        for piece in pieces:
            upstream.stopping.wait(0.1)
            conn.sendall(piece)

    upstream.script(answer)
    yield b"".join(pieces)


def test_a_draining_proxy_says_so_and_finishes_what_is_under_way(
    proxy_env: dict[str, str], upstream: RecordingUpstream, slow_download: bytes
) -> None:
    """The load balancer keeps its connections: on one of them it learns that it must send nothing more."""
    with Proxy(proxy_env) as proxy:
        with open_connection(proxy.port) as balancer, open_connection(proxy.port) as transfer:
            assert ready(balancer).status == 200
            transfer.sendall(f"GET {HEAD}\r\n".encode())
            upstream.wait_for(1)
            proxy.send_signal(signal.SIGTERM)
            proxy.wait_line(lambda line: "term" in str(line.get("message")))
            time.sleep(0.3)
            drained = ready(balancer)
            assert (drained.status, drained.json()["status"]) == (503, "draining")
            download = read_response(transfer)
            assert (download.status, download.complete, download.body) == (200, True, slow_download)
        assert proxy.wait_exit() == 0


def ready(connection: socket.socket) -> RawResponse:
    connection.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
    return read_response(connection)
