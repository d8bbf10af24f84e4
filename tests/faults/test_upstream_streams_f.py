"""Bodies to and from a MLflow that drips, pauses, stops, or answers before it has read all: F10, F13, F14, F16, F20."""

from __future__ import annotations

import gzip
import select
import socket
import time
from collections.abc import Iterator

import pytest

from tests.functional.exchanges import BLOCK, EMPTY, FRAMINGS, OK, assert_unharmed, part, slowest_drop, upload_head
from tests.functional.keyed import ARTIFACT, SEARCH, ask, assert_refused, begun, only
from tests.support.client import read_response
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, reset_connection

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("framing", [*FRAMINGS, "close"])
def test_f10_a_drip_is_passed_on_byte_by_byte_for_as_long_as_it_drips(
    hasty: Proxy, upstream: RecordingUpstream, framing: str
) -> None:
    """It takes twice the read timeout; each byte comes well within it."""
    assert slowest_drop(hasty, upstream, SEARCH, framing, count=8, pause=0.25) < 0.2


ENDINGS = ("closes", "keeps reading", "stops reading")
EARLY = b'{"error_code": "X", "message": "early"}'


def answer_early(upstream: RecordingUpstream, status: int, ending: str) -> list[float]:
    """Let MLflow answer a moment after the head of an upload; gives the list that the time of it is noted in."""
    close = b"Connection: close\r\n" if ending == "closes" else b""
    answer = b"HTTP/1.1 %d Early\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
    answered: list[float] = []

    def refuse(conn: socket.socket, _: Recorded) -> None:
        upstream.stopping.wait(0.1)  # the first block is on its way
        answered.append(time.monotonic())
        conn.sendall(answer % (status, close, len(EARLY), EARLY))
        if ending == "closes":
            conn.close()
        elif ending == "stops reading":
            upstream.stopping.wait(2.0)

    upstream.script_head(refuse)
    return answered


def send_until_answered(sock: socket.socket) -> None:
    """Send for as long as there is room and nothing to read, at most 3 s."""
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        readable, writable, _ = select.select([sock], [sock], [], 0.1)
        if readable:
            return
        if writable:
            sock.send(BLOCK)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("status", [401, 413, 507])
def test_f13_an_early_answer_is_there_within_a_second(
    hasty: Proxy, upstream: RecordingUpstream, status: int, ending: str
) -> None:
    answered = answer_early(upstream, status, ending)
    with begun(hasty, upload_head("length", 10_000_000_000)) as sock:
        send_until_answered(sock)
        response = read_response(sock)
    assert (response.status, response.body) == (status, EARLY)
    assert time.monotonic() - answered[0] < 1.0
    (seen,) = upstream.requests
    assert not seen.complete
    if ending != "closes":
        seen.wait_closed(1.0)
    assert_unharmed(hasty, upstream)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_f13_an_early_answer_does_not_wait_for_a_client_that_pauses(
    hasty: Proxy, upstream: RecordingUpstream, ending: str, framing: str
) -> None:
    answered = answer_early(upstream, 413, ending)
    with begun(hasty, upload_head(framing, 10_000_000_000) + part(framing, BLOCK)) as sock:
        response = read_response(sock)
    assert (response.status, response.body) == (413, EARLY)
    assert time.monotonic() - answered[0] < 0.7


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("pause", "status"), [(0.6, 200), (2.5, 504)])
def test_f14_a_mlflow_that_stops_reading_is_waited_for_up_to_the_write_timeout(
    hasty: Proxy, upstream: RecordingUpstream, pause: float, status: int, framing: str
) -> None:
    def blocks() -> Iterator[bytes]:
        for _ in range(100):
            yield BLOCK

    upstream.script_head(lambda conn, _: upstream.stopping.wait(pause))
    upstream.script(lambda conn, _: conn.sendall(EMPTY))
    headers = [("Content-Length", str(100 * len(BLOCK)))] if framing == "length" else []
    start = time.monotonic()
    response = ask(hasty, "PUT", f"/mlflow{ARTIFACT}", headers, blocks())
    if status == 200:
        assert response.status == 200 and only(upstream).body_size == 100 * len(BLOCK)
    else:
        assert_refused(response, 504, "DEADLINE_EXCEEDED")
        assert time.monotonic() - start < 2.0
        upstream.wait_for(1, timeout=10.0)
        assert not upstream.requests[0].complete
    assert_unharmed(hasty, upstream)


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
def test_f16_a_body_that_ends_with_its_connection_is_whole_after_a_fin_alone(
    hasty: Proxy, upstream: RecordingUpstream, version: bytes, end: str
) -> None:
    """To the client it goes in chunks, so that it knows, whatever it speaks upstream."""

    def script(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(OK.replace(b"HTTP/1.1", version) + b"\r\n" + BLOCK)
        upstream.stopping.wait(0.1)
        if end == "RST":
            reset_connection(conn)
        else:
            conn.close()

    upstream.script(script)
    response = ask(hasty, "GET", f"/mlflow{ARTIFACT}")
    assert response.framing == "chunked"
    if end == "FIN":
        assert response.complete and response.body == BLOCK
    else:
        assert response.reset and not response.complete
    assert_unharmed(hasty, upstream)


CODED = {
    "gzip": ("gzip", gzip.compress(b"x" * 10_000)),
    "brotli": ("br", b"\x0b\x02\x80hello\x03"),
    "a wrong name": ("gzip", b"this is not gzip"),
    "two codings": ("gzip, br", b"\x00\x01\x02"),
    "an unknown one": ("made-up", b"\xff\xfe"),
}


@pytest.mark.parametrize("asked", [None, "gzip", "br;q=0.5, *;q=0"])
@pytest.mark.parametrize("case", CODED)
def test_f20_a_coded_body_passes_untouched(
    hasty: Proxy, upstream: RecordingUpstream, case: str, asked: str | None
) -> None:
    coding, body = CODED[case]
    upstream.respond_with(200, [("Content-Encoding", coding), ("Content-Length", str(len(body)))], body)
    response = ask(hasty, "GET", f"/mlflow{ARTIFACT}", [("Accept-Encoding", asked)] if asked else [])
    assert (response.header("Content-Encoding"), response.body) == (coding, body)
    assert response.header("Content-Length") == str(len(body))
    assert only(upstream).values("Accept-Encoding") == ([asked.encode()] if asked else [])


def test_f20_a_coded_error_passes_untouched_too(hasty: Proxy, upstream: RecordingUpstream) -> None:
    body = gzip.compress(b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}')
    headers = [("Content-Type", "application/json"), ("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))]
    upstream.respond_with(404, headers, body)
    response = ask(hasty, "GET", f"/mlflow{SEARCH}", [("Accept-Encoding", "gzip")])
    assert (response.status, response.header("Content-Encoding"), response.body) == (404, "gzip", body)
