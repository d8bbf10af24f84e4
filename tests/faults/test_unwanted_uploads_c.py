"""Uploads that nobody wants: no key, no end, or larger than what is taken: C09, C10, C13."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from tests.faults.scenes import Prober
from tests.functional.exchanges import BLOCK, Pouring
from tests.functional.keyed import ARTIFACT, SEARCH, ask, assert_refused, begun, head
from tests.support.client import open_connection, read_response
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream, chunk

pytestmark = pytest.mark.faults

GIGABYTES = 4_000_000_000
MEGABYTE = 1_000_000
LIMIT = 100_000  # MAX_JSON_BODY_BYTES of `hasty`
FRAMES = {"length": f"Content-Length: {GIGABYTES}", "chunked": "Transfer-Encoding: chunked"}


def unknown(framing: str) -> bytes:
    """The head of an upload without a key."""
    return f"PUT /mlflow{ARTIFACT} HTTP/1.1\r\nHost: a\r\n{FRAMES[framing]}\r\n\r\n".encode()


def unread(client: socket.socket) -> int:
    """Bytes of this client's that wait in the proxy's kernel, unread."""
    own, port = (f"0100007F:{end[1]:04X}" for end in (client.getsockname(), client.getpeername()))
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[1:3] == [port, own]:
            return int(fields[4].partition(":")[2], 16)
    return 0


def taken_while(client: Pouring, sock: socket.socket) -> int:
    """Bytes that the proxy has read of what a client poured until it was cut."""
    taken = 0
    while client.cut_at is None and client.is_pouring():
        waiting = unread(sock)
        taken = client.sent - waiting if waiting else taken
        time.sleep(0.01)
    return taken


@pytest.mark.parametrize("framing", FRAMES)
def test_c09_four_gigabytes_without_a_key_are_refused_for_less_than_one_megabyte(
    hasty: Proxy, upstream: RecordingUpstream, framing: str
) -> None:
    block = chunk(BLOCK) if framing == "chunked" else BLOCK
    with Prober(hasty) as health, open_connection(hasty.port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # hardly anything waits on this side
        sock.sendall(unknown(framing))
        start = time.monotonic()
        with Pouring(sock, lambda: block, 4.0, whole=framing == "chunked") as client:
            assert read_response(sock).status == 401
            assert time.monotonic() - start < 0.5
            taken = taken_while(client, sock)
    assert client.cut_at is not None, "it could go on sending for 4 s"
    assert 0 < taken <= MEGABYTE
    assert health.p99_ms < 100.0, health.took_ms[-5:]
    assert upstream.requests == []


def test_c09_refused_uploads_in_crumbs_cost_little(hasty: Proxy, upstream: RecordingUpstream) -> None:
    """Thirty clients without a key, each with as many chunks of one byte as fit into the sockets' buffers."""
    crumbs = chunk(b"a") * 70_000
    with Prober(hasty, 0.01) as health, contextlib.ExitStack() as stack:
        for _ in range(30):
            sock = stack.enter_context(open_connection(hasty.port))
            sock.sendall(unknown("chunked"))
            with contextlib.suppress(OSError):
                sock.sendall(crumbs)
            assert read_response(sock).status == 401
        time.sleep(0.3)
    assert health.p99_ms < 100.0, health.took_ms[-5:]


@pytest.mark.parametrize("framing", FRAMES)
def test_c10_a_refused_client_that_keeps_sending_byte_by_byte_is_closed_within_five_seconds(
    hasty: Proxy, upstream: RecordingUpstream, framing: str
) -> None:
    def byte() -> bytes:
        time.sleep(0.2)
        return b"1\r\na\r\n" if framing == "chunked" else b"a"

    with open_connection(hasty.port) as sock:
        sock.sendall(unknown(framing))
        start = time.monotonic()
        with Pouring(sock, byte, 6.0) as client:
            assert read_response(sock).status == 401
    assert client.cut_at is not None and client.cut_at - start < 5.0
    assert upstream.requests == []


def test_c13_a_length_over_the_limit_is_refused_before_anything_is_read(
    hasty: Proxy, upstream: RecordingUpstream
) -> None:
    with begun(hasty, head("POST", f"/mlflow{SEARCH}", ("Content-Length", str(LIMIT + 1)))) as sock:
        start = time.monotonic()
        assert_refused(read_response(sock), 413, "INVALID_PARAMETER_VALUE")
        assert time.monotonic() - start < 0.5
    assert upstream.requests == []


def test_c13_chunks_over_the_limit_are_refused_while_they_come(hasty: Proxy, upstream: RecordingUpstream) -> None:
    with begun(hasty, head("POST", f"/mlflow{SEARCH}", ("Transfer-Encoding", "chunked"))) as sock:
        sock.sendall(chunk(b"x" * LIMIT))
        time.sleep(0.2)
        sock.sendall(chunk(b"x"))
        assert_refused(read_response(sock), 413, "INVALID_PARAMETER_VALUE")
    for seen in upstream.requests:
        seen.wait_closed(1.0)
        assert not seen.complete


@pytest.mark.parametrize("framing", FRAMES)
def test_c13_what_follows_a_413_is_drained_for_a_while_only(
    hasty: Proxy, upstream: RecordingUpstream, framing: str
) -> None:
    frame = ("Content-Length", str(GIGABYTES)) if framing == "length" else ("Transfer-Encoding", "chunked")
    block = chunk(BLOCK) if framing == "chunked" else BLOCK
    with Prober(hasty) as health, open_connection(hasty.port) as sock:
        sock.sendall(head("POST", f"/mlflow{SEARCH}", frame))
        with Pouring(sock, lambda: block, 4.0, whole=framing == "chunked") as client:
            response = read_response(sock)
    assert_refused(response, 413, "INVALID_PARAMETER_VALUE")
    assert response.header("Retry-After") is None, "the MLflow client would send all of it again"
    assert client.cut_at is not None and client.sent <= 20 * MEGABYTE, client.sent
    assert health.p99_ms < 100.0, health.took_ms[-5:]
    assert ask(hasty, "GET", f"/mlflow{SEARCH}").status == 200
