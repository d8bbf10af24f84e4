"""Clients that are slow, silent, or never close, hundreds of them: C04-C08."""

from __future__ import annotations

import socket
import time

import pytest

from tests.faults.scenes import GET_ARTIFACT, Prober, assert_quick, ended, many
from tests.functional.exchanges import FRAMINGS, part, pour, upload_head, wait_until
from tests.functional.keyed import ARTIFACT, SEARCH, ask, head
from tests.support.client import open_connection, read_response
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

pytestmark = pytest.mark.faults

QUICK_MS = 100.0
HEAD_SECONDS = 5.0  # ALB_IDLE_TIMEOUT_SECONDS of `hasty`, and five more


def drip_heads(socks: list[socket.socket], seconds: float) -> float:
    """Send each a byte of a header once a second; gives after how many seconds the last of them was closed."""
    begun = time.monotonic()
    while not all(ended(sock) for sock in socks):
        assert time.monotonic() - begun < seconds, f"{sum(not ended(sock) for sock in socks)} are still open"
        for sock in socks:
            try:
                sock.send(b"a")
            except OSError:
                continue
        time.sleep(1.0)
    return time.monotonic() - begun


def test_c04_slow_heads_are_closed_at_the_head_timeout_and_slow_nobody_down(hasty: Proxy) -> None:
    with Prober(hasty) as health, many(hasty, 300, b"GET /mlflow/version HTTP/1.1\r\nHost: a\r\nX-Slow: ") as socks:
        time.sleep(HEAD_SECONDS / 2)
        assert not any(ended(sock) for sock in socks[:10])
        drip_heads(socks, HEAD_SECONDS)
    assert health.p99_ms < QUICK_MS, health.took_ms[-5:]


@pytest.mark.parametrize("kind", ["artifacts", "JSON"])
def test_c05_slow_bodies_are_closed_at_the_idle_timeout_and_slow_nobody_down(
    hasty: Proxy, upstream: RecordingUpstream, kind: str
) -> None:
    """One byte and no more, where 1 s of silence is one too many; MLflow sees each of them cut."""
    json = head("POST", f"/mlflow{SEARCH}", ("Content-Length", "1000"))

    def measure() -> Prober:
        upstream.reset()
        with (
            Prober(hasty, 0.01) as health,
            many(hasty, 300, (upload_head("length", 1000) if kind == "artifacts" else json) + b"a") as socks,
        ):
            upstream.wait_for(300, heads=True, timeout=10.0)
            wait_until(lambda: all(ended(sock) for sock in socks), 6.0, "all 300 closed")
            for seen in upstream.wait_for(300):
                assert not seen.complete
                seen.wait_closed(1.0)
        return health

    assert_quick(measure, QUICK_MS)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("method", "target"), [("PUT", ARTIFACT), ("POST", SEARCH)])
def test_c05_a_body_that_stops_coming_is_cut_at_the_idle_timeout_and_not_later(
    hasty: Proxy, upstream: RecordingUpstream, method: str, target: str, framing: str
) -> None:
    frame = ("Content-Length", "1000") if framing == "length" else ("Transfer-Encoding", "chunked")
    with open_connection(hasty.port) as sock:
        sock.sendall(head(method, f"/mlflow{target}", frame) + part(framing, b"a"))
        stopped = time.monotonic()
        (seen,) = upstream.wait_for(1, heads=True)
        assert 0.9 < seen.wait_closed(4.0) - stopped < 1.6
        wait_until(lambda: ended(sock), 4.0, "the client's connection closed too")


def test_c05_a_slow_body_that_makes_progress_is_never_cut(hasty: Proxy, upstream: RecordingUpstream) -> None:
    with open_connection(hasty.port) as sock:
        sock.sendall(upload_head("length", 5))
        for number in range(5):
            time.sleep(0.6)
            sock.sendall(b"%d" % number)
        assert read_response(sock).status == 200
    assert upstream.wait_for(1)[0].body == b"01234"


def slow_reader(proxy: Proxy, data: bytes, window: int) -> socket.socket:
    """A connection whose kernel takes about `window` bytes ahead, with `data` sent on it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.settimeout(10.0)
    sock.connect(("127.0.0.1", proxy.port))
    sock.sendall(data)
    return sock


def test_c06_clients_that_read_nothing_are_cut_at_the_idle_timeout_in_flat_memory(
    hasty: Proxy, upstream: RecordingUpstream
) -> None:
    pour(upstream)
    before = hasty.rss_kb()
    socks = [slow_reader(hasty, GET_ARTIFACT, 1024) for _ in range(50)]
    try:
        begun = time.monotonic()
        closed = [seen.wait_closed(6.0) for seen in upstream.wait_for(50, timeout=10.0)]
        assert 0.9 < max(closed) - begun < 5.0
        assert hasty.peak_rss_kb() - before < 50 * 1024
    finally:
        for sock in socks:
            sock.close()


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize("framing", [b"Content-Length: 100000000000\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_c06_what_such_a_client_reads_later_does_not_look_whole(
    hasty: Proxy, upstream: RecordingUpstream, framing: bytes, version: bytes
) -> None:
    pour(upstream, framing)
    with slow_reader(hasty, GET_ARTIFACT.replace(b"HTTP/1.1", version, 1), 1024) as sock:
        upstream.wait_for(1)[0].wait_closed(5.0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        response = read_response(sock, sink=len)
    assert response.status in (0, 200) and not response.complete


def test_c06_a_slow_reader_that_makes_progress_is_never_cut(hasty: Proxy, upstream: RecordingUpstream) -> None:
    """Where 1 s without a byte taken is too long: some bytes every 50 ms for 4 s, then all the rest."""
    size = 20_000_000
    upstream.respond_with(200, [("Content-Length", str(size))], b"b" * size)
    slow_until = time.monotonic() + 4.0
    with slow_reader(hasty, GET_ARTIFACT, 30_000) as sock:
        response = read_response(sock, sink=lambda _: time.sleep(0.05 if time.monotonic() < slow_until else 0.0))
    assert response.complete and response.body_size == size, response.body_size


def test_c07_connections_on_which_nothing_is_sent_slow_nobody_down(hasty: Proxy, upstream: RecordingUpstream) -> None:
    with many(hasty, 500) as socks:
        with Prober(hasty) as health:
            for _ in range(20):
                assert ask(hasty, "GET", f"/mlflow{ARTIFACT}").status == 200
                time.sleep(0.05)
        assert not any(ended(sock) for sock in socks[:10])
    assert health.p99_ms < QUICK_MS, health.took_ms[-5:]


def test_c08_clients_that_ask_for_a_close_and_do_not_close_hold_nothing(
    hasty: Proxy, upstream: RecordingUpstream
) -> None:
    (worker,) = hasty.pids()
    closing = head("GET", f"/mlflow{SEARCH}", ("Connection", "close"))
    with Prober(hasty) as health, many(hasty, 50, closing) as socks:
        for sock in socks:
            assert read_response(sock).status == 200
        wait_until(lambda: all(ended(sock) for sock in socks), 1.0, "all closed by the proxy")
        time.sleep(2.0)  # what a linger on the worker's main thread would take
    assert health.p99_ms < QUICK_MS, health.took_ms[-5:]
    assert hasty.pids() == [worker] and "WORKER TIMEOUT" not in hasty.output
