"""U01-U10 of the catalogue, as far as tests/functional does not have them: rewriting headers, and what is denied.

The shapes of MLflow's vulnerabilities (U09) are in test_cve_shapes_u.py.
"""

from __future__ import annotations

import secrets

import pytest

from tests.functional.keyed import BEARER, MOUNTS, SEARCH, assert_nobody_was_asked, assert_refused, only
from tests.support.auth_service import AuthService, new_key
from tests.support.client import request
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

ADMIN_ROUTE = "/mlflow/api/2.0/mlflow/webhooks"
# What some server or framework somewhere takes a path, a prefix or a method from.
REWRITING = [
    *("SCRIPT_NAME", "Script-Name", "PATH_INFO", "Path-Info", "X-Script-Name", "X-Forwarded-Prefix"),
    *("X-Forwarded-Uri", "X-Forwarded-Path", "X-Original-URL", "X-Original-URI", "X-Rewrite-URL", "X-Original-Path"),
    *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Forwarded-Method", "X-Forwarded-Host"),
    *("Forwarded", "Destination", "X-Accel-Redirect", "X-Sendfile", "Proxy-Connection", "X-Envoy-Original-Path"),
]
VALUES = ["/mlflow", ADMIN_ROUTE, "/health", "/../..", "http://evil.example/", "DELETE", "\xe9", "", "%2e%2e%2f", "a,b"]


@pytest.fixture
def writer(auth_service: AuthService) -> tuple[str, str]:
    """The header with a new key that may read and write: a key may send only so many requests at once."""
    key = auth_service.grant(
        new_key(),
        user_id="w",
        key_id=f"w-{secrets.token_hex(4)}",
        scopes=["model:read", "model:write", "mlflow:access"],
    )
    return "Authorization", f"Bearer {key}"


@pytest.mark.parametrize("name", REWRITING)
def test_u08_no_header_changes_what_is_asked_for(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, writer: tuple[str, str], name: str
) -> None:
    for value in VALUES:
        for mount in MOUNTS:
            upstream.reset()
            response = request(shared_proxy.port, "GET", f"{mount}{SEARCH}?a=%2F", [writer, (name, value)])
            assert response.status == 200, (name, value)
            assert only(upstream).line == f"GET {SEARCH}?a=%2F HTTP/1.1".encode()
    upstream.reset()
    auth_service.reset()
    for value in VALUES:
        unknown = request(shared_proxy.port, "GET", "/mlflow/no/such", [writer, (name, value)])
        assert_refused(unknown, 404, "ENDPOINT_NOT_FOUND")
        assert request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", [(name, value)]).status == 401
    assert_nobody_was_asked(upstream, auth_service)


# --- U10: the routes of facts/proxy-reliability.md, section 4.2, for a key that may read and write ---

# By path below a mount: 403 where an admin or gateway scope is missing, 404 where nobody may ask.
DENIED = {
    ("GET", "/ajax-api/3.0/mlflow/assistant/config"): 403,
    ("PUT", "/ajax-api/3.0/mlflow/assistant/config"): 403,
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"): 403,
    ("POST", "/ajax-api/3.0/mlflow/assistant/skills/install"): 403,
    ("POST", "/ajax-api/3.0/jobs/"): 403,
    ("POST", "/ajax-api/3.0/jobs/search"): 403,
    ("GET", "/ajax-api/3.0/jobs/x"): 403,
    ("POST", "/gateway/mlflow/v1/chat/completions"): 403,
    ("POST", "/gateway/proxy/x/y/z"): 403,
    ("POST", "/gateway/x/mlflow/invocations"): 403,
    ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"): 403,
    ("GET", "/ajax-api/2.0/mlflow/gateway-proxy"): 403,
    ("GET", "/ajax-api/3.0/mlflow/gateway/secrets/list"): 403,
    ("GET", "/api/3.0/mlflow/gateway/secrets/list"): 403,
    ("POST", "/api/2.0/mlflow/webhooks"): 403,
    ("GET", "/api/2.0/mlflow/webhooks"): 403,
    ("POST", "/ajax-api/2.0/mlflow/webhooks"): 403,
    ("POST", "/api/2.0/mlflow/webhooks/x/test"): 403,
    ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke"): 403,
    ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"): 403,
    ("POST", "/ajax-api/3.0/mlflow/issues/invoke"): 403,
    ("POST", "/api/2.0/mlflow/users/create"): 403,
    ("POST", "/ajax-api/3.0/mlflow/ui-telemetry"): 404,
    ("GET", "/metrics"): 404,
    ("GET", "/signup"): 404,
    ("POST", "/api/2.0/mlflow/users/create-ui"): 404,
    ("GET", "/docs"): 404,
    ("GET", "/openapi.json"): 404,
    ("GET", "/admin"): 404,
}


@pytest.mark.parametrize("mount", MOUNTS)
def test_u10_what_is_denied_is_denied_without_a_word_to_mlflow(
    shared_proxy: Proxy, upstream: RecordingUpstream, writer: tuple[str, str], mount: str
) -> None:
    found, expected = {}, {}
    for (method, path), status in DENIED.items():
        at_the_root = mount or path.startswith(("/api/", "/ajax-api/"))
        expected[method, path] = status if at_the_root else 404
        found[method, path] = request(shared_proxy.port, method, mount + path, [writer], b"{}").status
    assert found == expected
    assert upstream.requests == []


def spellings(path: str) -> list[str]:
    """The same path, for a server that decodes, merges, cuts off or ignores case."""
    first, _, last = path[1:].partition("/")
    name = path.rpartition("/")[2] or first
    escaped = path[: len(path) - len(name)] + f"%{ord(name[0]):02x}{name[1:]}" if name else path
    twice = escaped.replace("%", "%25")
    return [
        *(escaped, twice, path.upper(), path.title(), f"/{path}", path.replace("/", "//"), f"{path}/", f"{path}//"),
        *(f"/x/..{path}", f"/x/%2e%2e{path}", f"/.{path}", path.replace("/", "/./"), f"{path};x", f"{path}%20"),
        *(path.replace("/", "%2f"), "/" + path[1:].replace("/", "%2F"), path.replace("/", "\\"), f"{path}%00"),
        *(f"{path}.json", f"{path}#", f"/{first};/{last}", f"/{first}%3b/{last}", f"{path}%0d%0a", f"{path}/."),
        *(f"/api/2.0/mlflow{path}", f"/v1/traces{path}", f"/version{path}", f"/health{path}", f"/health/..{path}"),
    ]


@pytest.mark.parametrize("mount", MOUNTS)
def test_u10_no_spelling_of_it_gets_through_or_comes_to_mean_it(
    shared_proxy: Proxy, upstream: RecordingUpstream, writer: tuple[str, str], mount: str
) -> None:
    found = {
        (method, spelling, response.status)
        for method, path in DENIED
        for spelling in spellings(path)
        for response in [request(shared_proxy.port, method, mount + spelling, [writer], b"{}")]
    }
    assert {one for one in found if one[2] not in (400, 403, 404)} == set()
    assert upstream.requests == []


def test_u10_a_denied_route_is_denied_by_every_method(
    shared_proxy: Proxy, upstream: RecordingUpstream, writer: tuple[str, str]
) -> None:
    paths = {path for _, path in DENIED} - {"/ajax-api/3.0/mlflow/issues/invoke"}  # to other methods an issue's id
    found = {
        request(shared_proxy.port, method, f"/mlflow{path}", [writer], b"{}").status
        for path in paths
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    }
    assert found == {403, 404}
    assert upstream.requests == []


def test_u10_without_a_key_nobody_hears_of_it(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    for (method, path), status in DENIED.items():
        response = request(shared_proxy.port, method, f"/mlflow{path}", (), b"{}")
        assert response.status == (401 if status == 403 else 404)
    assert_nobody_was_asked(upstream, auth_service)


def test_u10_an_admin_may(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    """So that the refusals above are the scopes' doing."""
    allowed = [asked for asked, status in DENIED.items() if status == 403]
    assert {request(shared_proxy.port, m, f"/mlflow{path}", [BEARER], b"{}").status for m, path in allowed} == {200}
    assert len(upstream.requests) == len(allowed)
