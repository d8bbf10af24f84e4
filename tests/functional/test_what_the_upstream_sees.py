"""The whole request as it arrives at MLflow, compared as a whole: request line, every header in order, every byte."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import pytest

from tests.functional.keyed import ARTIFACT, BEARER, MOUNTS, SEARCH, ask, only
from tests.support.auth_service import AuthService
from tests.support.client import Header, open_connection, raw_exchange, read_response, request
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

RAW_CHUNKS = re.compile(rb"(?:[0-9a-fA-F]+\r\n.+\r\n)*0\r\n\r\n", re.DOTALL)
ROUTES = [
    ("GET", "/api/2.0/mlflow/experiments/get"),
    ("GET", ARTIFACT),
    ("POST", "/api/2.0/mlflow/runs/create"),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/1/model.bin"),
    ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
    ("PUT", ARTIFACT),
    ("PATCH", "/api/2.0/mlflow/registered-models/update"),
    ("DELETE", "/api/2.0/mlflow/registered-models/delete"),
    ("DELETE", ARTIFACT),
]
JSON = b'{"name": "caf\xc3\xa9", "n": 1}\r\n\r\n\x00'
LARGE = os.urandom(600_000)  # several of the proxy's blocks

FRAMINGS = {
    "none": ([], None),
    "length": ([("Content-Length", b"%d" % len(JSON))], JSON),
    "zero": ([("Content-Length", b"0")], b""),
    "chunked": ([], [JSON[:5], JSON[5:]]),
    "large": ([("Content-Length", b"%d" % len(LARGE))], LARGE),
    "large chunked": ([], [LARGE[:100_001], LARGE[100_001:]]),
}


def own_headers(upstream: RecordingUpstream, seen: Recorded) -> list[tuple[bytes, bytes]]:
    """What the proxy adds, in order. The one hole is the made request id, whose form alone is known."""
    (made,) = seen.values("X-Request-ID")
    assert re.fullmatch(rb"[0-9a-f]{32}", made)
    return [
        (b"Host", b"127.0.0.1:%d" % upstream.port),
        (b"X-Request-ID", made),
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Hokusai-User-Id", b"user-good"),
        (b"X-Hokusai-API-Key-Id", b"key-good"),
    ]


def framing_of(case: str) -> list[tuple[bytes, bytes]]:
    headers, body = FRAMINGS[case]
    if body is None:
        return []
    if not headers:
        return [(b"Transfer-Encoding", b"chunked")]
    return [(b"Content-Length", b"%d" % len(b"".join([body] if isinstance(body, bytes) else body)))]


@pytest.mark.parametrize("case", FRAMINGS)
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part.rpartition("/")[2])
def test_the_whole_request_is_as_the_client_sent_it(
    shared_proxy: Proxy, upstream: RecordingUpstream, method: str, path: str, case: str
) -> None:
    framing, body = FRAMINGS[case]
    extra: Sequence[Header] = [("Accept", "*/*"), ("User-Agent", "mlflow-python-client/3.17.2"), ("X-Thing", "1")]
    response = ask(shared_proxy, method, f"/api/mlflow{path}?a=1&a=2", [*extra, *framing], body)
    assert (response.status, response.body) == (200, b'{"ok": true}')

    seen = only(upstream)
    assert seen.line == f"{method} {path}?a=1&a=2 HTTP/1.1".encode()
    sent = [(b"Accept", b"*/*"), (b"User-Agent", b"mlflow-python-client/3.17.2"), (b"X-Thing", b"1")]
    assert seen.headers == sent + own_headers(upstream, seen) + framing_of(case)
    expected = b"" if body is None else body if isinstance(body, bytes) else b"".join(body)
    assert seen.body == expected
    if case.endswith("chunked"):
        assert RAW_CHUNKS.fullmatch(seen.raw_body) and seen.trailers == []
    else:
        assert seen.raw_body == expected


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_bare_request_gets_nothing_invented(shared_proxy: Proxy, upstream: RecordingUpstream, method: str) -> None:
    assert ask(shared_proxy, method, f"/mlflow{ARTIFACT}").status == 200
    seen = only(upstream)
    assert seen.line == f"{method} {ARTIFACT} HTTP/1.1".encode()
    assert seen.headers == own_headers(upstream, seen)
    assert seen.raw_body == b""


def test_a_content_type_is_the_last_of_the_clients_headers(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    sent = [("Content-Type", 'application/json; charset="UTF-8"'), ("Accept", "text/plain;q=0.5, */*")]
    ask(shared_proxy, "POST", f"/mlflow{SEARCH}", sent, b"{}")
    seen = only(upstream)
    assert seen.headers == [
        (b"Accept", b"text/plain;q=0.5, */*"),
        (b"Content-Type", b'application/json; charset="UTF-8"'),
        *own_headers(upstream, seen),
        (b"Content-Length", b"2"),
    ]


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if not route[1].startswith("/ajax-api")])
def test_all_mounts_mean_the_same_request(
    shared_proxy: Proxy, upstream: RecordingUpstream, method: str, path: str
) -> None:
    for mount in MOUNTS:
        ask(shared_proxy, method, f"{mount}{path}?x=%2f&x=", [("X-Request-ID", "same-id")], JSON)
    seen = upstream.wait_for(3)
    assert len(seen) == 3
    assert len({request.raw_head + request.raw_body for request in seen}) == 1
    assert seen[0].target == f"{path}?x=%2f&x=".encode()


@pytest.mark.parametrize("path", [SEARCH, "/api/2.0/mlflow-artifacts/mpu/create/1/x"])
def test_a_request_inside_a_body_stays_a_body(shared_proxy: Proxy, upstream: RecordingUpstream, path: str) -> None:
    smuggled = b"0\r\n\r\nGET /api/2.0/mlflow/runs/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
    for body in (smuggled, [smuggled[:3], smuggled[3:]]):
        upstream.reset()
        assert ask(shared_proxy, "POST", f"/api/mlflow{path}", (), body).status == 200
        seen = only(upstream)
        assert (seen.target, seen.body) == (path.encode(), smuggled)
        assert ask(shared_proxy, "GET", "/mlflow/version").status == 200
        assert [request.target for request in upstream.wait_for(2)] == [path.encode(), b"/version"]


@pytest.mark.parametrize("target", ["/mlflow/no/such/route", "/health", f"/mlflow{SEARCH}"])
def test_a_body_that_is_not_read_is_never_taken_for_a_request(
    shared_proxy: Proxy, upstream: RecordingUpstream, target: str
) -> None:
    """CL.0: answered without reading the body, which holds a request; a real one follows on the connection."""
    inner = b"GET /mlflow/version HTTP/1.1\r\nHost: a\r\n%b: %b\r\n\r\n" % tuple(part.encode() for part in BEARER)
    outer = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (target.encode(), len(inner), inner)
    last = b"GET /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = raw_exchange(shared_proxy.port, outer + last, responses=3)
    assert received.count(b"HTTP/1.1 ") == 2 and b'"status":"ok"' in received
    assert upstream.requests == []


REFUSED_FRAMINGS = {
    "length and chunked": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": "Content-Length: 5,5\r\n\r\nhello",
    "a signed length": "Content-Length: +5\r\n\r\nhello",
    "gzip, chunked": "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "identity, chunked": "Transfer-Encoding: identity, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked twice": "Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked in two headers": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "xchunked": "Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked with a parameter": "Transfer-Encoding: chunked;q=1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "an empty coding": "Transfer-Encoding: \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "space before the colon": "Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "folded": "Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "bare line feed": "X: y\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a control character": "X: y\x00z\r\nContent-Length: 5\r\n\r\nhello",
    "an upgrade to h2c in a bad header": "Upgrade h2c\r\n\r\n",
}


@pytest.mark.parametrize("case", REFUSED_FRAMINGS)
def test_a_framing_in_doubt_is_refused_before_anybody_is_asked(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, case: str
) -> None:
    head = f"POST /mlflow{SEARCH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{BEARER[0]}: {BEARER[1]}\r\n"
    received = raw_exchange(shared_proxy.port, (head + REFUSED_FRAMINGS[case]).encode("latin-1"), responses=2)
    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), received
    assert b'"error_code": "BAD_REQUEST"' in received and received.count(b"HTTP/1.1 ") == 1
    assert upstream.requests == [] and auth_service.calls == []


@pytest.mark.parametrize("size", [b"0x5", b"+5", b"-1", b"5_0", b" 5", b"5;", b";", b"g", b"", b"5\n", b"4"])
def test_a_chunk_that_is_none_is_400_and_never_ends_well_upstream(
    shared_proxy: Proxy, upstream: RecordingUpstream, size: bytes
) -> None:
    def body() -> list[bytes]:
        return [b"3\r\nabc\r\n" + size + b"\r\nhello\r\n0\r\n\r\n"]

    response = ask(shared_proxy, "PUT", f"/mlflow{ARTIFACT}", [("Transfer-Encoding", "chunked")], body())
    assert response.status == 400 and response.json()["error_code"] == "BAD_REQUEST"
    for seen in upstream.wait_for(1):
        seen.wait_closed(1.0)
        assert not seen.complete and not seen.raw_body.endswith(b"0\r\n\r\n")


def test_trailers_of_a_request_are_not_merged_into_its_headers(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    body = [b"5\r\nhello\r\n0\r\nX-Hokusai-User-Id: evil\r\nX-Check: 1\r\n\r\n"]
    ask(shared_proxy, "PUT", f"/mlflow{ARTIFACT}", [("Transfer-Encoding", "chunked")], body)
    seen = only(upstream)
    assert seen.values("X-Hokusai-User-Id") == [b"user-good"]
    assert (seen.body, seen.trailers, seen.values("X-Check")) == (b"hello", [], [])


def test_upgrades_are_not_made(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    asked = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQ")]
    response = ask(shared_proxy, "GET", "/mlflow/version", asked)
    assert (response.status, response.interim) == (200, [])
    assert only(upstream).headers == own_headers(upstream, only(upstream))
    response = ask(shared_proxy, "GET", "/mlflow/version", [("Connection", "Upgrade"), ("Upgrade", "websocket")])
    assert response.status in (200, 400) and response.interim == []
    assert not any(seen.values("Upgrade") or seen.values("Connection") for seen in upstream.requests)


def test_requests_on_one_connection_are_answered_in_turn(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.script(lambda conn, seen: conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + seen.body[:5]))
    with open_connection(shared_proxy.port) as sock:
        for word in (b"first", b"other", b"third"):
            part = b"POST /mlflow%b HTTP/1.1\r\nHost: a\r\n%b: %b\r\nContent-Length: 5\r\n\r\n%b"
            sock.sendall(part % (SEARCH.encode(), *(item.encode() for item in BEARER), word))
        assert [read_response(sock).body for _ in range(3)] == [b"first", b"other", b"third"]


def test_a_method_nobody_needs_is_refused(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    for method in ("TRACE", "CONNECT", "FOO", "get"):
        response = request(shared_proxy.port, method, "/mlflow/version", [BEARER])
        assert response.status in (400, 405), method
        assert response.json()["error_code"] == "BAD_REQUEST"
    assert upstream.requests == []
