"""What headers pass on the wire towards the client, and that bodies come as MLflow sent them."""

from __future__ import annotations

import gzip
import re

import pytest

from app.headers import HOP_BY_HOP, UPSTREAM_ONLY
from tests.functional.keyed import ARTIFACT, SEARCH, ask
from tests.support.client import RawResponse
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream, chunk

# Written out, so that a name that is dropped from the sets by mistake is missed here.
NEVER_DOWN = {
    *("keep-alive", "proxy-connection", "te", "trailer", "upgrade", "set-cookie", "proxy-authenticate"),
    *("server", "server-timing", "x-request-id", "date"),
}
TIMING = re.compile(r"auth;dur=\d+\.\d, upstream;dur=\d+\.\d")
OURS = {"server", "date", "connection", "x-content-type-options", "server-timing", "x-request-id"}


def answered(
    proxy: Proxy, upstream: RecordingUpstream, status: int, headers: list[tuple[str, str]], body: bytes = b""
) -> RawResponse:
    """What the client gets for an answer of MLflow's, sent as it stands."""
    upstream.respond_with(status, headers, body)
    return ask(proxy, "GET", f"/mlflow{ARTIFACT}")


def theirs(response: RawResponse) -> list[tuple[str, str]]:
    """The headers that are not the proxy's own, in order."""
    return [(name, value) for name, value in response.headers if name.lower() not in OURS]


@pytest.mark.parametrize("name", sorted((NEVER_DOWN | HOP_BY_HOP | UPSTREAM_ONLY) - {"transfer-encoding"}))
def test_a_name_about_the_upstream_does_not_get_through(
    shared_proxy: Proxy, upstream: RecordingUpstream, name: str
) -> None:
    for spelling in (name, name.upper(), name.replace("-", "_")):
        planted = [(spelling, "planted"), ("Content-Length", "2"), (spelling, "planted")]
        response = answered(shared_proxy, upstream, 200, planted, b"ok")
        assert response.body == b"ok" and response.complete
        assert "planted" not in {value for _, value in response.headers}


def test_what_connection_lists_is_removed(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    headers = [
        ("Connection", "x-one, X-TWO"),
        ("X-One", "1"),
        ("x-two", "2"),
        ("X-Three", "3"),
        ("Content-Length", "0"),
    ]
    response = answered(shared_proxy, upstream, 200, headers)
    assert theirs(response) == [("X-Three", "3"), ("Content-Length", "0")]


def test_all_else_passes_and_repeated_headers_stay_apart_in_order(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    headers = [
        ("Link", "</a>; rel=next, </b>"),
        ("X-Tag", "b"),
        ("Content-Length", "2"),
        ("X-Tag", "a"),
        ("link", "</c>"),
        ("WWW-Authenticate", "Basic"),
        ("Vary", "Accept"),
        ("WWW-Authenticate", 'Bearer realm="x"'),
        ("vary", "Origin"),
        ("X-MLflow-Odd_name", "1"),
    ]
    response = answered(shared_proxy, upstream, 200, headers, b"ok")
    assert by_name(theirs(response)) == by_name(headers)


def by_name(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Order matters among headers of one name only (RFC 9110 section 5.3); sorted() keeps it."""
    return sorted(((name.lower(), value) for name, value in headers), key=lambda pair: pair[0])


@pytest.mark.parametrize("value", ["caf\xe9", "caf\xc3\xa9 \xe6\x97\xa5", "\x80\xff", "a\tb", 'x="\\"', "v" * 12_000])
def test_bytes_of_a_value_survive_on_the_way_down(shared_proxy: Proxy, upstream: RecordingUpstream, value: str) -> None:
    response = answered(shared_proxy, upstream, 200, [("X-Name", value), ("Content-Length", "0")])
    assert response.values("X-Name") == [value]


def test_cookies_are_neither_passed_on_nor_kept(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    planted = [("Set-Cookie", "session=alice; Path=/"), ("Set-Cookie", "b=1"), ("Content-Length", "0")]
    assert answered(shared_proxy, upstream, 200, planted).values("Set-Cookie") == []
    ask(shared_proxy, "GET", f"/mlflow{SEARCH}")
    assert upstream.wait_for(2)[1].values("Cookie") == []


def test_nothing_is_invented(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    response = answered(shared_proxy, upstream, 200, [("Content-Length", "6")], b"<html>")
    assert theirs(response) == [("Content-Length", "6")]
    assert {name.lower() for name, _ in response.headers} == OURS | {"content-length"}
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert TIMING.fullmatch(response.header("Server-Timing") or "")


def test_the_upstream_cannot_weaken_nosniff(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    headers = [("X-Content-Type-Options", "none"), ("Content-Length", "0")]
    assert answered(shared_proxy, upstream, 200, headers).values("X-Content-Type-Options") == ["nosniff"]


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "zstd"])
@pytest.mark.parametrize("chunked", [False, True])
def test_coded_bytes_are_not_touched(
    shared_proxy: Proxy, upstream: RecordingUpstream, coding: str, chunked: bool
) -> None:
    body = gzip.compress(b"model" * 200_000)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    headers = [("Content-Encoding", coding), ("ETag", 'W/"1"'), ("Content-Type", "application/x-model"), framing]
    response = answered(shared_proxy, upstream, 200, headers, chunk(body) + chunk(b"") if chunked else body)
    assert response.body == body and response.complete
    assert response.framing == ("chunked" if chunked else "length")
    assert theirs(response) == [framing, *headers[:-1]] if chunked else theirs(response) == headers


def test_a_range_passes_as_it_is(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    headers = [("Content-Range", "bytes 5-9/100"), ("Accept-Ranges", "bytes"), ("ETag", '"e"'), ("Content-Length", "5")]
    response = answered(shared_proxy, upstream, 206, headers, b"bytes")
    assert (response.status, response.body, theirs(response)) == (206, b"bytes", headers)
    headers = [("Content-Type", "application/json"), ("Content-Range", "bytes */100"), ("Content-Length", "2")]
    response = answered(shared_proxy, upstream, 416, headers, b"{}")
    assert (response.status, response.body, theirs(response)) == (416, b"{}", headers)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none(shared_proxy: Proxy, upstream: RecordingUpstream, status: int) -> None:
    headers = [("ETag", '"e"')]
    response = answered(shared_proxy, upstream, status, headers)
    assert (response.status, response.body, response.framing, theirs(response)) == (status, b"", "none", headers)
    assert answered(shared_proxy, upstream, 200, [("Content-Length", "2")], b"ok").body == b"ok"


def test_head_tells_the_length_and_sends_nothing(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.respond_with(200, [("Content-Length", "123456"), ("ETag", '"e"')])
    response = ask(shared_proxy, "HEAD", f"/mlflow{ARTIFACT}")
    assert theirs(response) == [("Content-Length", "123456"), ("ETag", '"e"')] and response.body == b""


@pytest.mark.parametrize("status", [200, 201, 202, 299, 400, 404, 409, 418, 429, 499, 500, 501, 503, 599])
def test_a_status_and_its_json_pass_as_they_are(shared_proxy: Proxy, upstream: RecordingUpstream, status: int) -> None:
    body = b'{"error_code": "X", "message": "as MLflow says"}'
    headers = [("Content-Type", "application/json"), ("Retry-After", "1"), ("Content-Length", str(len(body)))]
    response = answered(shared_proxy, upstream, status, headers, body)
    assert (response.status, response.body, theirs(response)) == (status, body, headers)
    assert TIMING.fullmatch(response.header("Server-Timing") or "")


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_server_timing_is_on_an_answer_made_from_a_page_too(
    shared_proxy: Proxy, upstream: RecordingUpstream, status: int
) -> None:
    headers = [("Content-Type", "text/html"), ("Retry-After", "7"), ("Content-Length", "6")]
    response = answered(shared_proxy, upstream, status, headers, b"<html>")
    assert response.status == status and response.json()["error_code"]
    assert response.values("Retry-After") == ["7"]
    assert TIMING.fullmatch(response.header("Server-Timing") or "")
