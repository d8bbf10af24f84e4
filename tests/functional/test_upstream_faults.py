"""What a client gets when MLflow is away, slow or breaks the protocol: the right status or a cut, never a mix-up."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.functional.exchanges import OK, answer_raw, assert_unharmed
from tests.functional.keyed import ARTIFACT, BEARER, SEARCH, ask, assert_refused, begun, head, only
from tests.support.auth_service import AuthService
from tests.support.client import read_response, request
from tests.support.process import free_port
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream, chunk


@pytest.mark.parametrize("end", ["FIN", "RST"])
@pytest.mark.parametrize(
    "begun_answer",
    [
        OK + b"Content-Length: 1000\r\n\r\nsome",
        OK + b"Content-Length: 1000\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n400\r\nsome",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["length", "length, nothing", "chunked", "inside a chunk", "no chunk", "chunked, nothing"],
)
def test_a_body_that_breaks_off_never_looks_complete(
    shared_proxy: Proxy, upstream: RecordingUpstream, begun_answer: bytes, end: str
) -> None:
    answer_raw(upstream, begun_answer, end=end)
    name = uuid.uuid4().hex
    response = ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}", [("X-Request-ID", name)])
    assert not response.complete and response.fault is None
    assert response.reset, "a FIN looks like a clean end to a client of HTTP/1.0"
    line = shared_proxy.access_line(name)
    assert (line["outcome"], line["upstream_status"]) == ("upstream_aborted", 200)
    assert_unharmed(shared_proxy, upstream)


def test_a_body_without_an_end_of_its_own_is_cut_by_a_reset_alone(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    answer_raw(upstream, OK + b"\r\nsome", end="FIN")
    response = ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}")
    assert response.complete and response.body == b"some"
    answer_raw(upstream, OK + b"\r\nsome", end="RST")
    response = ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}")
    assert response.reset and not response.complete


def test_a_client_of_http_1_0_sees_a_reset_too(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    answer_raw(upstream, OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n", end="FIN")
    with begun(shared_proxy, head("GET", f"/mlflow{ARTIFACT}").replace(b"HTTP/1.1", b"HTTP/1.0", 1)) as sock:
        response = read_response(sock)
    assert response.reset and not response.complete


BROKEN = {
    "nothing": b"",
    "no status line": b"\x00\x01garbage\r\n\r\n",
    "half a status line": b"HTTP/1.1 2",
    "half a head": OK + b"Content-Le",
    "a status of five digits": b"HTTP/1.1 99999 OK\r\nContent-Length: 0\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "102": b"HTTP/1.1 102 Processing\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nother",
    "103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nother",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\nother",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 5\r\n\r\nother",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nother",
    "a length that is none": OK + b"Content-Length: many\r\n\r\nother",
    "length and chunked": OK + b"Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nother\r\n0\r\n\r\n",
    "an unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\nother",
    "NUL in a value": OK + b"X-A: a\x00b\r\nContent-Length: 5\r\n\r\nother",
    "a control character in a value": OK + b"X-A: a\x01b\r\nContent-Length: 5\r\n\r\nother",
    "a space in a name": OK + b"X A: b\r\nContent-Length: 5\r\n\r\nother",
    "more headers than anybody sends": OK + b"X-A: b\r\n" * 1000 + b"Content-Length: 5\r\n\r\nother",
    "a header of 70 KB": OK + b"X-A: " + b"b" * 70_000 + b"\r\nContent-Length: 5\r\n\r\nother",
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_answer_that_breaks_the_protocol_is_502(shared_proxy: Proxy, upstream: RecordingUpstream, case: str) -> None:
    answer_raw(upstream, BROKEN[case], end="FIN")
    assert_refused(ask(shared_proxy, "GET", f"/mlflow{SEARCH}", timeout=3.0), 502, "INTERNAL_ERROR")
    assert len(upstream.requests) == 1
    assert_unharmed(shared_proxy, upstream)


@pytest.mark.parametrize("case", ["half a head", "a space in a name", "length and chunked"])
def test_no_library_logs_the_query_of_a_broken_answer(
    shared_proxy: Proxy, upstream: RecordingUpstream, case: str
) -> None:
    answer_raw(upstream, BROKEN[case], end="FIN")
    with contextlib.suppress(TimeoutError):
        ask(shared_proxy, "GET", f"/mlflow{SEARCH}?x=secret-{len(case)}", timeout=0.5)
    assert f"secret-{len(case)}" not in shared_proxy.output


def test_the_same_length_twice_is_one_length_or_502(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    answer_raw(upstream, OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nother")
    response = ask(shared_proxy, "GET", f"/mlflow{SEARCH}")
    assert response.fault is None and response.status in (200, 502)
    assert_unharmed(shared_proxy, upstream)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 2\r\n\r\nok-and-more",
        OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 5\r\n\r\nother",
        b"HTTP/1.1 204 No Content\r\n\r\nother",
        b"HTTP/1.1 304 Not Modified\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nother",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
        OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["more", "two answers", "204 with bytes", "304 with bytes", "100", "trailers", "closing", "HTTP/1.0"],
)
def test_what_follows_an_answer_is_nobodys(shared_proxy: Proxy, upstream: RecordingUpstream, data: bytes) -> None:
    answer_raw(upstream, data)
    response = ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}")
    assert response.complete and response.body == (b"ok" if response.status == 200 else b"")
    assert_unharmed(shared_proxy, upstream)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_the_upstream_closed_is_replaced(
    shared_proxy: Proxy, upstream: RecordingUpstream, method: str
) -> None:
    body = b"{}" if method == "POST" else None
    for _ in range(5):
        assert ask(shared_proxy, method, f"/mlflow{SEARCH}", (), body).status == 200
        upstream.drop_connections()
        time.sleep(0.02)
    assert ask(shared_proxy, method, f"/mlflow{SEARCH}", (), body).status == 200
    assert len(upstream.wait_for(6)) == 6


def test_a_connection_is_used_again(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    ask(shared_proxy, "GET", "/mlflow/version")
    before = upstream.connections
    for method, target, body in (("GET", SEARCH, None), ("GET", ARTIFACT, None), ("POST", SEARCH, b"{}")) * 3:
        assert ask(shared_proxy, method, f"/mlflow{target}", (), body).status == 200
    assert upstream.connections == before


def test_an_upload_goes_out_on_a_fresh_connection(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    """Its body cannot be sent again, should a pooled connection be closed at that very moment."""
    ask(shared_proxy, "GET", "/mlflow/version")
    before = upstream.connections
    for body in ([b"x"], b"x"):
        assert ask(shared_proxy, "PUT", f"/mlflow{ARTIFACT}", (), body).status == 200
    assert upstream.connections == before + 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_is_sent_twice(shared_proxy: Proxy, upstream: RecordingUpstream, method: str) -> None:
    """Closed without an answer after the request was read: it may have been done, so it is not sent again."""
    assert ask(shared_proxy, "GET", f"/mlflow{SEARCH}").status == 200
    upstream.reset()
    answer_raw(upstream, b"", end="FIN")
    assert_refused(ask(shared_proxy, method, f"/mlflow{SEARCH}"), 502, "INTERNAL_ERROR")
    assert only(upstream).method == method.encode()


@pytest.fixture(scope="module")
def hasty(session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Iterator[Proxy]:
    """A proxy with timeouts of half a second, and one of two for artifacts."""
    urls = {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}
    short = {"READ_TIMEOUT_SECONDS": "0.5", "WRITE_TIMEOUT_SECONDS": "0.5", "ARTIFACT_READ_TIMEOUT_SECONDS": "2"}
    with Proxy({**urls, **short}) as proxy:
        yield proxy


def test_an_upstream_that_does_not_answer_is_504(hasty: Proxy, upstream: RecordingUpstream) -> None:
    upstream.script(lambda conn, _: upstream.stopping.wait(1.2))
    start = time.monotonic()
    response = ask(hasty, "POST", f"/mlflow{SEARCH}", (), b"{}")
    assert_refused(response, 504, "DEADLINE_EXCEEDED")
    assert 0.4 < time.monotonic() - start < 1.1
    only(upstream).wait_closed(1.0)
    assert_unharmed(hasty, upstream)


def test_an_upstream_that_falls_silent_amid_its_answer_is_cut(hasty: Proxy, upstream: RecordingUpstream) -> None:
    answer_raw(upstream, OK + b"Content-Length: 100\r\n\r\nsome")
    response = ask(hasty, "GET", f"/mlflow{SEARCH}")
    assert response.reset and not response.complete
    only(upstream).wait_closed(1.0)


def test_an_upstream_that_does_not_read_is_504(hasty: Proxy, upstream: RecordingUpstream) -> None:
    upstream.script_head(lambda conn, _: upstream.stopping.wait(2.5))
    start = time.monotonic()
    response = ask(hasty, "PUT", f"/mlflow{ARTIFACT}", (), (b"b" * 1_000_000 for _ in range(100)))
    assert_refused(response, 504, "DEADLINE_EXCEEDED")
    assert time.monotonic() - start < 2.0


def test_a_transfer_that_makes_progress_is_never_cut(hasty: Proxy, upstream: RecordingUpstream) -> None:
    def drip(conn: socket.socket, recorded: Recorded) -> None:
        conn.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(6):
            upstream.stopping.wait(0.2)
            conn.sendall(chunk(b"x"))
        conn.sendall(chunk(b""))

    def slow() -> Iterator[bytes]:
        for _ in range(3):
            yield b"b" * 300_000
            time.sleep(0.4)

    upstream.script(drip)
    response = ask(hasty, "POST", f"/mlflow{SEARCH}", (), slow())
    assert response.complete and response.body == b"xxxxxx"


def test_an_upstream_that_refuses_connections_is_502(proxy_env: dict[str, str]) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with Proxy({**proxy_env, "MLFLOW_SERVER_URL": nowhere}) as proxy:
        for method, target, body in (("GET", SEARCH, None), ("PUT", ARTIFACT, b"x" * 300_000)):
            start = time.monotonic()
            response = request(proxy.port, method, f"/mlflow{target}", [BEARER], body)
            assert_refused(response, 502, "TEMPORARILY_UNAVAILABLE")
            assert time.monotonic() - start < 0.5
