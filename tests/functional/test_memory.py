"""A body is never held: its size does not show in the proxy's memory, and a sender feels a slow receiver."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from tests.functional.keyed import ARTIFACT, SEARCH, ask, assert_refused
from tests.support.auth_service import AuthService
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk

BLOCK = os.urandom(1_000_000)
COUNT = 200
DIGEST = hashlib.sha256(BLOCK * COUNT).hexdigest()
MOST_GROWTH_KB = 32 * 1024
LIMIT = 10_000


@pytest.fixture(scope="module")
def fresh(large: RecordingUpstream, session_auth_service: AuthService) -> Iterator[Proxy]:
    """A proxy that has not grown yet, with a small limit for JSON bodies."""
    urls = {"MLFLOW_SERVER_URL": large.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    with Proxy({**urls, "MAX_JSON_BODY_BYTES": str(LIMIT), "WRITE_TIMEOUT_SECONDS": "30"}) as proxy:
        yield proxy


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_200_mb_up_leave_no_trace_in_memory(fresh: Proxy, large: RecordingUpstream, framing: str) -> None:
    large.reset()
    assert ask(fresh, "PUT", f"/mlflow{ARTIFACT}", (), b"warm").status == 200
    before = fresh.rss_kb()
    headers = [("Content-Length", str(COUNT * len(BLOCK)))] if framing == "length" else []
    response = ask(fresh, "PUT", f"/mlflow{ARTIFACT}", headers, (BLOCK for _ in range(COUNT)), timeout=60.0)
    assert response.status == 200
    seen = large.wait_for(2)[1]
    assert (seen.body_size, seen.sha256, seen.complete) == (COUNT * len(BLOCK), DIGEST, True)
    assert fresh.peak_rss_kb() - before < MOST_GROWTH_KB


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_200_mb_down_leave_no_trace_in_memory(fresh: Proxy, large: RecordingUpstream, framing: str) -> None:
    large.reset()
    frames = {"length": b"Content-Length: %d\r\n" % (COUNT * len(BLOCK)), "chunked": b"Transfer-Encoding: chunked\r\n"}

    def pour(conn: socket.socket, recorded: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\n" + frames.get(framing, b"") + b"\r\n")
        for _ in range(COUNT):
            conn.sendall(chunk(BLOCK) if framing == "chunked" else BLOCK)
        if framing == "chunked":
            conn.sendall(chunk(b""))
        if framing == "close":
            conn.close()

    large.script(pour)
    digest = hashlib.sha256()
    before = fresh.rss_kb()
    response = ask(fresh, "GET", f"/mlflow{ARTIFACT}", sink=digest.update, timeout=60.0)
    assert response.complete and digest.hexdigest() == DIGEST
    assert fresh.peak_rss_kb() - before < MOST_GROWTH_KB


def test_a_slow_upstream_slows_its_client_down(fresh: Proxy, large: RecordingUpstream) -> None:
    large.reset()
    large.script_head(lambda conn, _: large.stopping.wait(1.0))
    taken = 0
    most = 0

    def blocks() -> Iterator[bytes]:
        nonlocal taken, most
        start = time.monotonic()
        for _ in range(60):
            yield BLOCK
            taken += len(BLOCK)
            if time.monotonic() - start < 0.8:
                most = taken

    large.script(lambda conn, _: conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert ask(fresh, "PUT", f"/mlflow{ARTIFACT}", (), blocks(), timeout=30.0).status == 200
    assert most < 40_000_000, "the client could send all of it while the upstream read nothing"


@pytest.mark.parametrize("body", [b"x" * LIMIT, [b"x" * (LIMIT - 1), b"x"]], ids=len)
def test_a_json_body_at_the_limit_passes(fresh: Proxy, large: RecordingUpstream, body: bytes | list[bytes]) -> None:
    large.reset()
    assert ask(fresh, "POST", f"/mlflow{SEARCH}", (), body).status == 200
    assert large.wait_for(1)[0].body_size == LIMIT


@pytest.mark.parametrize("body", [b"x" * (LIMIT + 1), [b"x" * LIMIT, b"x"], [b"x" * 5_000_000]], ids=len)
def test_a_json_body_over_the_limit_is_413_without_retry_after(
    fresh: Proxy, large: RecordingUpstream, body: bytes | list[bytes]
) -> None:
    large.reset()
    response = ask(fresh, "POST", f"/mlflow{SEARCH}", (), body)
    assert_refused(response, 413, "INVALID_PARAMETER_VALUE")
    assert response.header("Retry-After") is None
    for seen in large.requests:
        seen.wait_closed(1.0)
        assert not seen.complete


def test_an_artifact_has_no_limit(fresh: Proxy, large: RecordingUpstream) -> None:
    large.reset()
    assert ask(fresh, "PUT", f"/mlflow{ARTIFACT}", (), b"x" * (LIMIT + 1)).status == 200
