"""Bodies are passed on from their first byte, both ways, and nobody who left keeps anything open."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from tests.functional.exchanges import (
    BLOCK,
    CHUNKED_CUTS,
    EMPTY,
    FRAMINGS,
    LEAVING,
    OK,
    assert_a_cut_never_ends_well,
    assert_download_cut_when_left,
    assert_upload_cut_when_left,
    part,
    pour,
    slowest_drop,
    upload_head,
    wait_until,
)
from tests.functional.keyed import ARTIFACT, SEARCH, ask, begun, head, only
from tests.support.client import read_response
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk


def wait_for_bytes(seen: Recorded, size: int) -> None:
    wait_until(lambda: seen.body_size >= size, 1.0, f"{size} bytes upstream")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_block_reaches_the_upstream_before_the_next_was_sent(
    shared_proxy: Proxy, upstream: RecordingUpstream, framing: str
) -> None:
    send_in_steps(shared_proxy, upstream, framing, BLOCK, 262_144)  # what is beyond the proxy's own block may wait


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_small_block_does_not_wait_for_more(shared_proxy: Proxy, upstream: RecordingUpstream, framing: str) -> None:
    send_in_steps(shared_proxy, upstream, framing, b"b" * 1000, 1000)


def send_in_steps(proxy: Proxy, upstream: RecordingUpstream, framing: str, block: bytes, passed: int) -> None:
    """Send three blocks, each after the upstream has got `passed` bytes of each one before it."""
    with begun(proxy, upload_head(framing, 3 * len(block))) as sock:
        for count in (1, 2, 3):
            sock.sendall(part(framing, block))
            (seen,) = upstream.wait_for(1, heads=True)
            wait_for_bytes(seen, count * passed)
        if framing == "chunked":
            sock.sendall(chunk(b""))
        assert read_response(sock).status == 200
    assert only(upstream).body == 3 * block


@pytest.mark.parametrize("framing", [*FRAMINGS, "close"])
def test_a_drip_is_passed_on_drop_by_drop(shared_proxy: Proxy, upstream: RecordingUpstream, framing: str) -> None:
    assert slowest_drop(shared_proxy, upstream, ARTIFACT, framing, count=4, pause=0.15) < 0.12


def test_the_head_of_an_answer_does_not_wait_for_its_body(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    def slow(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Early: yes\r\n\r\n")
        upstream.stopping.wait(0.7)
        conn.sendall(b"ok")

    upstream.script(slow)
    start = time.monotonic()
    with begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}")) as sock:
        assert sock.recv(12) == b"HTTP/1.1 200"
        assert time.monotonic() - start < 0.5


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_upload_that_was_left_is_cut_upstream(
    shared_proxy: Proxy, upstream: RecordingUpstream, framing: str, how: str
) -> None:
    assert_upload_cut_when_left(shared_proxy, upstream, framing, how)


@pytest.mark.parametrize("cut", CHUNKED_CUTS)
def test_a_chunked_upload_cut_anywhere_never_ends_well(
    shared_proxy: Proxy, upstream: RecordingUpstream, cut: bytes
) -> None:
    assert_a_cut_never_ends_well(shared_proxy, upstream, cut)


@pytest.mark.parametrize("how", LEAVING)
def test_a_download_that_was_left_is_cut_upstream(shared_proxy: Proxy, upstream: RecordingUpstream, how: str) -> None:
    pour(upstream)
    assert_download_cut_when_left(shared_proxy, upstream, how)


@pytest.mark.parametrize("said", [b"", OK + b"Content-Length: 100\r\n\r\nsome"], ids=["nothing yet", "a part"])
def test_a_client_that_left_while_the_upstream_is_silent_cancels_too(
    shared_proxy: Proxy, upstream: RecordingUpstream, said: bytes
) -> None:
    def silent(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(said)
        upstream.stopping.wait(3.0)
        conn.close()

    upstream.script(silent)
    with begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}", ("X-Request-ID", "left-in-silence"))):
        (seen,) = upstream.wait_for(1)
        time.sleep(0.7)
        left = time.monotonic()
    assert seen.wait_closed(2.0) - left < 1.0
    line = shared_proxy.access_line("left-in-silence")
    assert (line["outcome"], line["error_kind"]) == ("client_gone", "client_left")


def test_a_half_closed_client_gets_its_whole_answer(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.respond_with(200, [("Content-Length", str(len(BLOCK)))], BLOCK)
    with begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}")) as sock:
        sock.shutdown(socket.SHUT_WR)
        response = read_response(sock)
    assert response.complete and response.body == BLOCK


@pytest.mark.parametrize("ending", ["keeps the connection", "closes", "stops reading"])
@pytest.mark.parametrize("status", [401, 413, 507])
def test_an_early_answer_reaches_a_client_that_is_still_sending(
    shared_proxy: Proxy, upstream: RecordingUpstream, status: int, ending: str
) -> None:
    body = b'{"error_code": "X", "message": "early"}'
    close = b"Connection: close\r\n" if ending == "closes" else b""
    words = b"HTTP/1.1 %d Early\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"

    def refuse(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(words % (status, close, len(body)) + body)
        if ending == "closes":
            with contextlib.suppress(OSError):  # by now the proxy may have read it all, and cut the connection
                conn.shutdown(socket.SHUT_WR)
        if ending == "stops reading":
            upstream.stopping.wait(2.0)

    upstream.script_head(refuse)
    stop = time.monotonic() + 3.0

    def blocks() -> Iterator[bytes]:
        while time.monotonic() < stop:
            yield BLOCK
            time.sleep(0.02)

    start = time.monotonic()
    response = ask(shared_proxy, "PUT", f"/mlflow{ARTIFACT}", (), blocks())
    assert (response.status, response.body) == (status, body)
    assert time.monotonic() - start < 1.5
    (seen,) = upstream.requests
    seen.wait_closed(1.0)
    assert not seen.complete  # what was not sent is never made to look whole
    upstream.reset()
    assert ask(shared_proxy, "GET", "/mlflow/version").status == 200


def test_slow_requests_do_not_delay_others(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.script(
        lambda conn, seen: upstream.stopping.wait(1.0) if ARTIFACT.encode() in seen.line else conn.sendall(EMPTY)
    )
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}")))
            stack.enter_context(begun(shared_proxy, upload_head("length", 1000)))
        upstream.wait_for(40, heads=True)
        start = time.monotonic()
        assert ask(shared_proxy, "GET", f"/mlflow{SEARCH}").status == 200
        assert time.monotonic() - start < 0.5
