"""app/passthrough.py: MLflow's answer as ours, and its error pages as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest
import requests
from urllib3 import HTTPHeaderDict, HTTPResponse
from werkzeug import Response

from app.errors import ProxyError, payload
from app.passthrough import PEEK, page_error, respond, server_timing
from app.scope import RequestScope
from app.upstream_url import Base, parse_base
from tests.unit import samples

BASE = parse_base("http://mlflow.internal:5000")
PREFIXED = parse_base("http://mlflow.internal:5000/base")
OWN = [("X-Content-Type-Options", "nosniff"), ("Server-Timing", "auth;dur=0.0, upstream;dur=0.0")]


def answer(status: int, headers: Sequence[tuple[str, str]] = (), body: Any = b"", **more: Any) -> requests.Response:
    """What the upstream's session gives: an answer with its body unread."""
    given = requests.Response()
    given.status_code = status
    stream = io.BytesIO(body) if isinstance(body, bytes) else body
    given.raw = HTTPResponse(
        stream, HTTPHeaderDict(headers), status, preload_content=False, decode_content=False, **more
    )
    return given


def proxied(
    given: requests.Response, scope: RequestScope | None = None, base: Base = BASE
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of the response made of an answer."""
    response = respond(given, scope or samples.scope(), {}, base)
    return response.status_code, list(response.headers), b"".join(blocks_of(response))


def blocks_of(response: Response) -> Iterable[bytes]:
    """Flask's could be of text too; ours never are."""
    return cast("Iterable[bytes]", response.response)


# --- answers ---


@pytest.mark.parametrize("status", [200, 201, 206, 302, 299, 404, 500, 503, 999])
def test_status_headers_and_body_of_json_pass(status: int) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", "9"), ("ETag", '"x"'), ("A", "1"), ("A", "2")]
    assert proxied(answer(status, headers, b'{"a":"b"}')) == (status, [*headers, *OWN], b'{"a":"b"}')


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none(status: int) -> None:
    assert proxied(answer(status, [("ETag", '"x"')], b"")) == (status, [("ETag", '"x"'), *OWN], b"")


def test_bytes_and_coding_are_not_touched() -> None:
    headers = [("Content-Type", "application/x"), ("Content-Encoding", "gzip"), ("Content-Range", "bytes 0-1/2")]
    assert proxied(answer(206, headers, b"no gzip")) == (206, [*headers, *OWN], b"no gzip")


def test_a_missing_content_type_stays_missing() -> None:
    assert proxied(answer(200, [], b"x")) == (200, OWN, b"x")


def test_html_that_is_no_error_passes() -> None:
    assert proxied(answer(200, [("Content-Type", "text/html")], b"<html>")) == (
        200,
        [("Content-Type", "text/html"), *OWN],
        b"<html>",
    )


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/problem+json", "text/json"]
)
def test_an_error_in_json_is_mlflows_own_and_passes(kind: str) -> None:
    status, headers, body = proxied(answer(400, [("content-type", kind)], b'{"error_code":"X"}'))
    assert (status, headers[0], body) == (400, ("content-type", kind), b'{"error_code":"X"}')


def test_timings_are_told_in_milliseconds() -> None:
    assert server_timing(samples.scope()) == "auth;dur=0.0, upstream;dur=0.0"
    scope = samples.scope(auth_seconds=0.00123, upstream_seconds=1.5)
    assert server_timing(scope) == "auth;dur=1.2, upstream;dur=1500.0"


def test_a_location_that_is_no_address_does_not_break_the_answer() -> None:
    status, _, body = proxied(answer(302, [("Location", "http://[broken/")], b"x"))
    assert (status, body) == (302, b"x")


def test_location_is_rewritten_in_the_answer_whatever_its_spelling() -> None:
    scope = samples.scope(mount="/mlflow")
    _, headers, _ = proxied(answer(307, [("LOCATION", "http://mlflow.internal:5000/base/x")]), scope, PREFIXED)
    assert headers == [("LOCATION", "/mlflow/x"), *OWN]


def test_a_body_shorter_than_announced_never_ends_well() -> None:
    response = respond(
        answer(200, [("Content-Length", "9"), ("Content-Type", "a/b")], b"short"), samples.scope(), {}, BASE
    )
    with pytest.raises(ConnectionResetError):
        b"".join(blocks_of(response))


# --- error pages ---


def page(status: int, body: bytes = b"<html>at 192.0.2.7</html>", scope: RequestScope | None = None) -> ProxyError:
    headers = [("Content-Type", "text/html"), ("Retry-After", "3"), ("Allow", "GET"), ("X-Internal", "mlflow.internal")]
    with pytest.raises(ProxyError) as raised:
        respond(answer(status, headers, body), scope or samples.scope(), {}, BASE)
    return raised.value


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, "BAD_REQUEST", "client_error"),
        (401, "UNAUTHENTICATED", "client_error"),
        (403, "PERMISSION_DENIED", "client_error"),
        (404, "ENDPOINT_NOT_FOUND", "client_error"),
        (405, "BAD_REQUEST", "client_error"),
        (413, "INVALID_PARAMETER_VALUE", "client_error"),
        (429, "REQUEST_LIMIT_EXCEEDED", "client_error"),
        (500, "INTERNAL_ERROR", "upstream_error"),
        (501, "NOT_IMPLEMENTED", "upstream_error"),
        (502, "INTERNAL_ERROR", "upstream_error"),
        (503, "TEMPORARILY_UNAVAILABLE", "upstream_error"),
        (504, "DEADLINE_EXCEEDED", "upstream_error"),
    ],
)
def test_an_error_page_becomes_mlflows_json_with_its_status(status: int, code: str, outcome: str) -> None:
    error = page(status)
    assert (error.status, error.error_code, error.outcome, error.kind, error.headers) == (
        status,
        code,
        outcome,
        "upstream_page",
        [("Retry-After", "3"), ("Allow", "GET"), ("Server-Timing", server_timing(samples.scope()))],
    )
    assert json.loads(payload(error, "r")) == {
        "error_code": code,
        "message": f"{status}: MLflow answered with an error page.",
        "request_id": "r",
    }


@pytest.mark.parametrize("kind", [None, "text/html; charset=utf-8", "text/plain", "application/octet-stream", ""])
def test_an_error_in_anything_but_json_is_a_page(kind: str | None) -> None:
    with pytest.raises(ProxyError):
        respond(answer(500, [] if kind is None else [("Content-Type", kind)], b"x"), samples.scope(), {}, BASE)


# Every action that moves an artifact's bytes, with the family that the route table gives it.
ARTIFACT_FAMILIES = {
    "artifacts.proxy": "artifacts.download",
    "artifacts.mpu": "artifacts.mpu.create",
    "artifacts.presigned": "artifacts.presigned-download",
    "artifacts.list": "runs.artifacts.list",
    "ui.artifacts": "runs.artifacts.download",
    "tracking.logged-models": "logged-models.artifacts.download",
    "traces": "traces.artifacts.download",
}


@pytest.mark.parametrize(("family", "action"), ARTIFACT_FAMILIES.items())
def test_an_artifact_that_is_not_there_is_a_resource_that_is_not_there(family: str, action: str) -> None:
    scope = samples.scope(target="/mlflow/get-artifact?path=x", family=family, action=action)
    error = page(404, scope=scope)
    assert (error.status, error.error_code, error.message) == (
        404,
        "RESOURCE_NOT_FOUND",
        "The requested resource was not found: /mlflow/get-artifact",
    )


@pytest.mark.parametrize("family", ["tracking.runs", "registry.models", "ui.static", "ui.page", ""])
def test_elsewhere_a_404_page_is_an_endpoint_that_is_not_there(family: str) -> None:
    assert page(404, scope=samples.scope(family=family)).error_code == "ENDPOINT_NOT_FOUND"


def test_an_artifact_path_with_another_status_is_no_missing_resource() -> None:
    assert page(403, scope=samples.scope(family="artifacts.proxy")).error_code == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    "text", [b"Invalid Host header", b"Invalid Host header - possible DNS rebinding attack detected"]
)
def test_a_refused_host_header_is_the_operators_fault_and_not_the_clients(text: bytes) -> None:
    error = page(403, text)
    assert (error.status, error.error_code, error.kind, error.outcome, error.message) == (
        502,
        "INTERNAL_ERROR",
        "upstream_host_rejected",
        "upstream_error",
        "502: MLflow does not accept this proxy's requests.",
    )


@pytest.mark.parametrize(("status", "text"), [(400, b"Invalid Host header"), (403, b"Permission denied")])
def test_other_refusals_are_not_taken_for_that(status: int, text: bytes) -> None:
    assert page(status, text).kind == "upstream_page"


class Counting(io.BytesIO):
    """A page that notes how much of it was read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(size)
        self.taken += len(block)
        return block


def test_no_more_than_a_peek_of_a_page_is_read_and_its_connection_is_closed() -> None:
    stream = Counting(b"x" * (PEEK * 10))
    page_error(answer(500, [], stream), samples.scope())
    assert (stream.taken, stream.closed) == (PEEK, True)


class Failing(io.RawIOBase):
    """A body of some blocks and then an error."""

    def __init__(self, error: Exception, *blocks: bytes) -> None:
        self._script: list[bytes | Exception] = [*blocks, error]

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    read1 = read


def test_a_page_that_breaks_off_or_does_not_decode_is_still_an_error_page() -> None:
    headers = [("Content-Encoding", "gzip")]
    assert page_error(answer(500, headers, b"no gzip"), samples.scope()).kind == "upstream_page"
    assert page_error(answer(500, [], Failing(ConnectionResetError())), samples.scope()).kind == "upstream_page"
