"""app/forward.py: the one forwarding function, over an upstream that only takes notes."""

from __future__ import annotations

import io
import logging
from typing import Any, cast

import pytest
import requests
from flask import Flask, Response
from urllib3 import HTTPResponse

from app import scope as scopes
from app.errors import ArtifactsDisabled, BodyTooLarge, UpstreamTimeout
from app.forward import Forwarder, Profile, client_headers
from app.native import NativeRoutes
from app.policy import RouteTable
from app.scope import RequestScope
from app.settings import Settings
from app.upstream import UpstreamRequest
from tests.unit import samples
from tests.unit.arriving import CHUNKED, body_environ, chunked, of_length
from tests.unit.samples import KEY

PROFILE = Profile(read_timeout=9.0, most_body=None)
OWN = [
    ("Host", "mlflow.internal:5000"),
    ("X-Request-ID", "req-1"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Hokusai-User-Id", "user-1"),
    ("X-Hokusai-API-Key-Id", "key-1"),
]


class Upstream:
    """Notes what it is to send, reads the body, and answers 200."""

    def __init__(self, settings: Settings) -> None:
        self.base = settings.upstream.base
        self.sent: list[UpstreamRequest] = []
        self.bodies: list[bytes] = []
        self.error: Exception | None = None

    def send(self, outgoing: UpstreamRequest, scope: RequestScope) -> requests.Response:
        self.sent.append(outgoing)
        self.bodies.append(b"".join(bytes(block) for block in outgoing.body or ()))
        if self.error:
            raise self.error
        answer = requests.Response()
        answer.status_code = 200
        answer.raw = HTTPResponse(io.BytesIO(b"answer"), {"Content-Type": "a/b"}, 200, preload_content=False)
        return answer


def forward(
    method: str = "GET",
    rest: str = "/version",
    suffix: str = "",
    environ: dict[str, Any] | None = None,
    profile: Profile = PROFILE,
    upstream: Upstream | None = None,
    **variables: str,
) -> tuple[Upstream, RequestScope, Response]:
    """Forward one request of alice's on the mount /mlflow."""
    settings = samples.settings(**variables)
    upstream = upstream or Upstream(settings)
    scope = samples.scope(method, f"/mlflow{rest}{suffix}", mount="/mlflow", rest=rest)
    scope.principal, scope.route = samples.principal(), RouteTable.load().find(method, rest)
    with Flask("test").test_request_context("/", method=method) as context:
        for name in [name for name in context.request.environ if name.startswith(("HTTP_", "CONTENT_"))]:
            del context.request.environ[name]
        context.request.environ.update({scopes.KEY: scope, **(environ or {})})
        response = Forwarder(settings, cast(Any, upstream), NativeRoutes("false", str))(profile)
    return upstream, scope, response


def test_a_request_goes_up_as_it_came_with_our_headers_in_place_of_the_clients() -> None:
    upstream, scope, response = forward(
        "POST",
        "/api/2.0/mlflow/runs/create",
        "?a=b&a=c&x=%2F&y=+&z",
        {
            "HTTP_HOST": "registry.hokus.ai",
            "HTTP_AUTHORIZATION": f"Bearer {KEY}",
            "HTTP_X_API_KEY": KEY,
            "HTTP_X_HOKUSAI_USER_ID": "admin",
            "HTTP_X_FORWARDED_FOR": "198.51.100.1",
            "HTTP_X_MLFLOW_WORKSPACE": "team-a",
            "HTTP_ACCEPT": "*/*",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": "2",
            "wsgi.input": io.BytesIO(b"{}"),
        },
    )
    (sent,) = upstream.sent
    assert (sent.method, sent.target, sent.headers, sent.read_timeout, upstream.bodies) == (
        "POST",
        "/api/2.0/mlflow/runs/create?a=b&a=c&x=%2F&y=+&z",
        [("X-Mlflow-Workspace", "team-a"), ("Accept", "*/*"), ("Content-Type", "application/json"), *OWN],
        9.0,
        [b"{}"],
    )
    assert (scope.upstream_path, scope.target_url) == (
        "/api/2.0/mlflow/runs/create",
        "http://mlflow.internal:5000/api/2.0/mlflow/runs/create",
    )
    assert (response.status_code, response.headers["Content-Type"]) == (200, "a/b")


def test_prefix_and_style_are_applied_and_noted() -> None:
    upstream, scope, _ = forward(
        rest="/api/2.0/mlflow/runs/get",
        suffix="?run_id=1",
        MLFLOW_SERVER_URL="https://mlflow.internal/base",
        MLFLOW_API_STYLE="ajax-api",
    )
    assert (upstream.sent[0].target, scope.upstream_path, scope.target_url) == (
        "/base/ajax-api/2.0/mlflow/runs/get?run_id=1",
        "/base/ajax-api/2.0/mlflow/runs/get",
        "https://mlflow.internal/base/ajax-api/2.0/mlflow/runs/get",
    )
    assert upstream.sent[0].headers[0] == ("Host", "mlflow.internal")


@pytest.mark.parametrize(
    ("variables", "authorization"),
    [
        ({}, []),
        ({"MLFLOW_UPSTREAM_AUTH": "forward"}, [f"Bearer {KEY}"]),
        ({"MLFLOW_UPSTREAM_AUTH": "replace", "MLFLOW_UPSTREAM_AUTHORIZATION": "Bearer service"}, ["Bearer service"]),
    ],
    ids=["strip", "forward", "replace"],
)
def test_the_clients_credential_is_stripped_forwarded_or_replaced(
    variables: dict[str, Any], authorization: list[str]
) -> None:
    upstream, _, _ = forward(environ={"HTTP_AUTHORIZATION": f"Bearer {KEY}"}, **variables)
    assert [value for name, value in upstream.sent[0].headers if name == "Authorization"] == authorization


@pytest.mark.parametrize("name", ["HTTP_X_API_KEY", "HTTP_AUTHORIZATION"])
@pytest.mark.parametrize("mode", ["strip", "replace"])
def test_no_key_goes_up_that_is_not_to_be_forwarded(mode: str, name: str) -> None:
    more: dict[str, Any] = {"MLFLOW_UPSTREAM_AUTHORIZATION": "Bearer service"} if mode == "replace" else {}
    upstream, _, _ = forward(environ={name: KEY}, MLFLOW_UPSTREAM_AUTH=mode, **more)
    assert KEY not in repr(upstream.sent[0].headers)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("framing", "wire", "length"),
    [(of_length(3), b"abc", 3), (of_length(0), b"", 0), (CHUNKED, chunked(b"abc"), None)],
    ids=["of known length", "empty", "chunked"],
)
def test_a_body_survives_with_its_framing_whatever_the_method(
    method: str, framing: str, wire: bytes, length: int | None
) -> None:
    upstream, scope, _ = forward(method, environ=body_environ(framing, wire))
    (sent,) = upstream.sent
    assert sent.body is not None
    content = b"" if length == 0 else b"abc"
    assert (sent.body.length, upstream.bodies, scope.bytes_in) == (length, [content], len(content))


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
def test_no_body_stays_no_body(method: str) -> None:
    assert forward(method)[0].sent[0].body is None


def test_without_a_principal_nobody_is_named() -> None:
    """It cannot come to this behind the gate; if it does, MLflow must not be told a name."""
    made, names = samples.settings(), {"X-Hokusai-User-Id", "X-Hokusai-API-Key-Id"}
    own = Forwarder(made, cast(Any, Upstream(made)), NativeRoutes("false", str))._own_headers(samples.scope())
    assert names & {name for name, _ in own} == set()


def test_a_body_over_the_profiles_limit_never_reaches_mlflow() -> None:
    settings = samples.settings()
    upstream = Upstream(settings)
    environ = {"CONTENT_LENGTH": "11", "wsgi.input": io.BytesIO(b"x" * 11)}
    with pytest.raises(BodyTooLarge):
        forward("POST", environ=environ, profile=Profile(9.0, 10), upstream=upstream)
    assert upstream.sent == []


@pytest.mark.parametrize("status", [503, 501])
def test_a_profile_that_is_switched_off_never_reaches_mlflow(status: int) -> None:
    upstream = Upstream(samples.settings())
    with pytest.raises(ArtifactsDisabled) as raised:
        forward(profile=Profile(9.0, None, status), upstream=upstream)
    assert (raised.value.status, upstream.sent) == (status, [])


def test_what_the_upstream_raises_passes_and_where_it_went_is_noted() -> None:
    upstream = Upstream(samples.settings())
    upstream.error = UpstreamTimeout("x")
    with pytest.raises(UpstreamTimeout):
        forward(upstream=upstream)


def test_the_routing_decision_is_told_step_by_step_only_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "app.routing"):
        forward(rest="/api/2.0/mlflow/runs/get", suffix="?run_id=secret")
        assert caplog.records == []
        forward(
            rest="/api/2.0/mlflow/runs/get",
            suffix="?run_id=secret",
            environ={"HTTP_AUTHORIZATION": f"Bearer {KEY}", "HTTP_ACCEPT": "*/*"},
            MLFLOW_PROXY_DEBUG="true",
            MLFLOW_API_STYLE="ajax-api",
        )
    (record,) = caplog.records
    told = {name: value for name, value in record.__dict__.items() if name in STEPS}
    assert (record.message, told) == ("routing_decision", STEPS)
    assert [word for word in (KEY, "secret") if word in repr(record.__dict__)] == []


STEPS = {
    "request_id": "req-1",
    "path": "/mlflow/api/2.0/mlflow/runs/get",
    "mount": "/mlflow",
    "rest": "/api/2.0/mlflow/runs/get",
    "route": "/api/2.0/mlflow/runs/get",
    "family": "",
    "style": "ajax-api",
    "prefix": "",
    "target_url": "http://mlflow.internal:5000/ajax-api/2.0/mlflow/runs/get",
    "upstream_headers": "Accept,Host,X-Forwarded-For,X-Hokusai-API-Key-Id,X-Hokusai-User-Id,X-Request-ID",
}


def test_headers_come_out_of_the_environ_as_pairs() -> None:
    assert client_headers(
        {
            "HTTP_X_MLFLOW_WORKSPACE": "a",
            "HTTP_ACCEPT": "*/*",
            "CONTENT_TYPE": "text/x",
            "CONTENT_LENGTH": "7",
            "REMOTE_ADDR": "192.0.2.1",
            "SERVER_NAME": "x",
            "wsgi.input": "x",
        }
    ) == [("X-Mlflow-Workspace", "a"), ("Accept", "*/*"), ("Content-Type", "text/x")]


@pytest.mark.parametrize("environ", [{}, {"CONTENT_TYPE": ""}], ids=["absent", "empty"])
def test_no_content_type_is_invented(environ: dict[str, str]) -> None:
    assert client_headers(environ) == []
