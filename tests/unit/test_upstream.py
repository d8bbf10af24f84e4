"""app/upstream.py: the one table from the library's errors to ours, and the framing; sockets are in functional."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from requests import exceptions as library
from responses import matchers
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError, ProtocolError

from app.errors import ClientGone, UpstreamBroken
from app.inbound import Body
from app.outbound import Manner
from app.upstream import BROKEN, TOO_SLOW, UNREACHABLE, Upstream, UpstreamRequest, explain, framed
from app.wire import ExactAdapter
from tests.unit import samples
from tests.unit.samples import headers_of

URL = "http://mlflow.internal:5000/"
POOL = HTTPConnectionPool("mlflow.internal")
CONNECTION = HTTPConnection("mlflow.internal")


def outgoing(**fields: Any) -> UpstreamRequest:
    given = {"method": "GET", "target": "/x?y", "headers": [("Host", "h")], "body": None, "read_timeout": 9.0}
    return UpstreamRequest(**{**given, **fields})


def body(length: int | None) -> Body:
    environ = {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": str(length)}
    return Body({**environ, "wsgi.input": None}, samples.scope(), None)


REFUSED = NewConnectionError(CONNECTION, "refused at 192.0.2.7")
UNKNOWN = NameResolutionError("mlflow.internal", CONNECTION, socket.gaierror("unknown"))
TABLE: dict[str, tuple[requests.RequestException, str, int, str, str, str]] = {
    "connecting took too long": (
        library.ConnectTimeout("x"), "connect_timeout", 504, "DEADLINE_EXCEEDED", "upstream_timeout", TOO_SLOW),
    "the answer took too long": (
        library.ReadTimeout("x"), "read_timeout", 504, "DEADLINE_EXCEEDED", "upstream_timeout", TOO_SLOW),
    "sending took too long": (
        library.ConnectionError(ProtocolError("Connection aborted.", TimeoutError("timed out"))),
        "write_timeout", 504, "DEADLINE_EXCEEDED", "upstream_timeout", TOO_SLOW),
    "nobody listens": (
        library.ConnectionError(MaxRetryError(POOL, "/", REFUSED)),
        "connect", 502, "TEMPORARILY_UNAVAILABLE", "upstream_unreachable", UNREACHABLE),
    "nobody listens, not wrapped": (
        library.ConnectionError(REFUSED),
        "connect", 502, "TEMPORARILY_UNAVAILABLE", "upstream_unreachable", UNREACHABLE),
    "the name is unknown": (
        library.ConnectionError(MaxRetryError(POOL, "/", UNKNOWN)),
        "connect", 502, "TEMPORARILY_UNAVAILABLE", "upstream_unreachable", UNREACHABLE),
    "the certificate is not trusted": (
        library.SSLError("x"), "tls", 502, "TEMPORARILY_UNAVAILABLE", "upstream_unreachable", UNREACHABLE),
    "the connection ended": (
        library.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError())),
        "no_answer", 502, "INTERNAL_ERROR", "upstream_error", BROKEN),
    "the status line is none": (
        library.ConnectionError(ProtocolError("x")), "no_answer", 502, "INTERNAL_ERROR", "upstream_error", BROKEN),
    "an error of the socket": (
        library.ConnectionError(OSError("x")), "no_answer", 502, "INTERNAL_ERROR", "upstream_error", BROKEN),
    "an error without a cause": (
        library.ConnectionError(), "no_answer", 502, "INTERNAL_ERROR", "upstream_error", BROKEN),
    "two lengths": (
        library.InvalidHeader("x"), "protocol", 502, "INTERNAL_ERROR", "upstream_error", BROKEN),
    "anything else of the library": (
        library.RequestException("x"), "protocol", 502, "INTERNAL_ERROR", "upstream_error", BROKEN),
}  # fmt: skip


@pytest.mark.parametrize(("error", "kind", "status", "code", "outcome", "message"), TABLE.values(), ids=TABLE)
def test_an_error_of_the_library_is_one_of_ours(
    error: requests.RequestException, kind: str, status: int, code: str, outcome: str, message: str
) -> None:
    found = explain(error)
    assert (found.kind, found.status, found.error_code, found.outcome, found.message) == (
        kind,
        status,
        code,
        outcome,
        message,
    )


@pytest.mark.parametrize("error", [case[0] for case in TABLE.values()], ids=TABLE)
@responses.activate
def test_sending_raises_that_error_and_notes_attempt_and_time(error: requests.RequestException) -> None:
    responses.get(URL, body=error)
    scope = samples.scope()
    with pytest.raises(type(explain(error))) as raised:
        Upstream(samples.settings().upstream).send(outgoing(), scope)
    assert (raised.value.kind, raised.value.__cause__) == (explain(error).kind, error)
    assert (scope.attempts, scope.upstream_status, scope.upstream_seconds is not None) == (1, None, True)


def test_no_message_names_what_is_internal() -> None:
    told = [explain(case[0]).message for case in TABLE.values()]
    assert [text for text in told if "mlflow.internal" in text or "192.0.2" in text or "5000" in text] == []


@responses.activate
def test_what_the_body_raises_passes_as_it_is() -> None:
    gone = ClientGone("x")
    responses.get(URL, body=gone)
    with pytest.raises(ClientGone) as raised:
        Upstream(samples.settings().upstream).send(outgoing(), samples.scope())
    assert raised.value is gone


@responses.activate
def test_an_answer_is_given_unread_with_its_status_noted() -> None:
    how = {"timeout": (3.0, 9.0), "stream": True, "verify": True, "cert": None}
    responses.get(URL, status=418, body=b"body", match=[matchers.request_kwargs_matcher(how)])
    scope = samples.scope()
    answer = Upstream(samples.settings().upstream).send(outgoing(), scope)
    assert (answer.status_code, answer.raw.read(), scope.upstream_status, scope.attempts) == (418, b"body", 418, 1)


@responses.activate
def test_certificates_are_used_as_configured(tmp_path: Path) -> None:
    ca, cert = samples.pem(tmp_path / "ca", "CERTIFICATE"), samples.pem(tmp_path / "cert", "CERTIFICATE")
    key = samples.pem(tmp_path / "key", "PRIVATE KEY")
    how = {"verify": ca, "cert": (cert, key)}
    responses.get("https://mlflow.internal/", match=[matchers.request_kwargs_matcher(how)])
    upstream = Upstream(
        samples.settings(
            MLFLOW_SERVER_URL="https://mlflow.internal",
            MLFLOW_CA_BUNDLE_PATH=ca,
            MLFLOW_CLIENT_CERT_PATH=cert,
            MLFLOW_CLIENT_KEY_PATH=key,
        ).upstream
    )
    assert upstream.send(outgoing(), samples.scope()).status_code == 200


@responses.activate
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    responses.get(URL, status=status, headers={"Location": "http://evil.example/"})
    answer = Upstream(samples.settings().upstream).send(outgoing(), samples.scope())
    assert (answer.status_code, len(responses.calls)) == (status, 1)


@responses.activate
@pytest.mark.parametrize("status", [101, 102, 103, 199])
def test_an_interim_answer_is_none_and_its_connection_is_not_used_again(status: int) -> None:
    responses.get(URL, status=status, body=b"the real answer follows")
    scope = samples.scope()
    with pytest.raises(UpstreamBroken) as raised:
        Upstream(samples.settings().upstream).send(outgoing(), scope)
    assert (raised.value.kind, scope.upstream_status) == ("unexpected_1xx", status)


@responses.activate
def test_method_target_and_headers_are_sent_as_they_are_whatever_the_url() -> None:
    responses.add("PROPFIND", URL)
    headers = [("Host", "h"), ("X-a", "1"), ("x-A", "2")]
    upstream = Upstream(samples.settings(MLFLOW_SERVER_URL="http://mlflow.internal:5000/base").upstream)
    upstream.send(outgoing(method="PROPFIND", target="/a/../%2e?", headers=headers), samples.scope())
    sent = responses.calls[0].request
    assert (sent.method, sent.url) == ("PROPFIND", URL)
    lines = headers_of(sent).head("PROPFIND").split(b"\r\n")
    assert lines == [b"PROPFIND /a/../%2e? HTTP/1.1", b"Host: h", b"X-a: 1", b"x-A: 2", b"", b""]


@responses.activate
def test_what_travels_with_the_headers_is_what_was_configured_and_asked_for() -> None:
    responses.get(URL)
    client = object()
    upstream = Upstream(samples.settings(WRITE_TIMEOUT_SECONDS="7").upstream)
    upstream.send(outgoing(fresh=True, client=client), samples.scope())
    sent = headers_of(responses.calls[0].request)
    assert sent.manner == Manner("/x?y", 7.0, fresh=True, client=client)


def test_only_the_upstreams_origin_has_the_exact_adapter() -> None:
    session = Upstream(samples.settings().upstream)._session
    assert isinstance(session.get_adapter(URL), ExactAdapter)


# --- exactly one framing header, made from the body itself ---


@pytest.mark.parametrize(
    ("length", "framing"),
    [(0, ("Content-Length", "0")), (7, ("Content-Length", "7")), (10**13, ("Content-Length", "10000000000000")),
     (None, ("Transfer-Encoding", "chunked"))],
    ids=["an empty body", "seven bytes", "ten terabytes", "chunked"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_body_has_exactly_one_framing_header(method: str, length: int | None, framing: tuple[str, str]) -> None:
    assert framed(outgoing(method=method, body=body(length))) == [("Host", "h"), framing]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_no_body_has_no_framing_header(method: str) -> None:
    assert framed(outgoing(method=method)) == [("Host", "h")]


@responses.activate
@pytest.mark.parametrize("length", [0, 7, None])
def test_requests_adds_no_second_framing_header(length: int | None) -> None:
    responses.put(URL)
    Upstream(samples.settings().upstream).send(outgoing(method="PUT", body=body(length)), samples.scope())
    names = {name.lower() for name in responses.calls[0].request.headers}
    assert names & {"content-length", "transfer-encoding"} == {
        "transfer-encoding" if length is None else "content-length"
    }
