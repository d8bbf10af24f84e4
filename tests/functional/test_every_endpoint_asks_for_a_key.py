"""The route table walked over the wire, on every mount: nothing but health and OPTIONS is to be had without a key.

The whole table is asked through the served proxy, on connections that are kept open, and nobody behind the proxy may
hear of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest

from app.policy import NEVER, read_routes
from app.scope import Route
from tests.support.auth_service import AuthService
from tests.support.client import RawResponse, open_connection, read_response, request
from tests.support.proxy import Proxy
from tests.support.route_table import filled
from tests.support.upstream import RecordingUpstream

MOUNTS = ("/api/mlflow", "/mlflow", "")
ROUTES = read_routes()
# The health paths of the contract (section 6), and nothing else, are public.
ROOT_HEALTH = ("/health", "/live", "/ready")
MOUNTED_HEALTH = ("/health", "/health/mlflow", "/health/mlflow/detailed")
PUBLIC = (*ROOT_HEALTH, *(mount + path for mount in MOUNTS[:2] for path in MOUNTED_HEALTH))
# What the bare host serves (contract, section 1): the REST, artifact, OTLP and version families.
AT_THE_ROOT = re.compile(r"/(api|ajax-api)/.*|/v1/traces|/version")
Asked = tuple[str, str]


def served(route: Route, mount: str) -> bool:
    return route.access != NEVER and (bool(mount) or AT_THE_ROOT.fullmatch(route.path) is not None)


def asked_on(mount: str) -> list[tuple[Route, str]]:
    """All routes with their path on a mount, without those that are health paths there."""
    pairs = [(route, mount + filled(route.path)) for route in ROUTES]
    return [(route, path) for route, path in pairs if path not in PUBLIC]


def answers(port: int, asked: Sequence[Asked]) -> Iterator[tuple[Asked, RawResponse]]:
    """The answer to each (method, path), one after the other on one connection, without a credential."""
    with open_connection(port) as connection:
        for method, path in asked:
            framing = "" if method in ("GET", "HEAD", "OPTIONS") else "Content-Length: 0\r\n"
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: registry.hokus.ai\r\n{framing}\r\n".encode())
            yield (method, path), read_response(connection, method)


def heard_nothing(upstream: RecordingUpstream, auth_service: AuthService) -> bool:
    return not upstream.requests and not auth_service.calls


@pytest.mark.parametrize("mount", MOUNTS)
def test_every_endpoint_asks_for_a_key_or_is_not_there(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, mount: str
) -> None:
    pairs = asked_on(mount)
    expected = [(401, "UNAUTHENTICATED") if served(route, mount) else (404, "ENDPOINT_NOT_FOUND") for route, _ in pairs]
    wrong = []
    requests = [(route.method, path) for route, path in pairs]
    for (asked, response), (status, code) in zip(answers(shared_proxy.port, requests), expected, strict=True):
        if (response.status, response.json()["error_code"]) != (status, code):
            wrong.append((*asked, response.status, status))
    assert wrong == []
    assert expected.count((401, "UNAUTHENTICATED")) > (200 if mount == "" else 500), "the table has become small"
    assert heard_nothing(upstream, auth_service)


@pytest.mark.parametrize("mount", MOUNTS)
def test_a_head_without_a_key_is_refused_as_a_get_is(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, mount: str
) -> None:
    paths = [("HEAD", path) for route, path in asked_on(mount) if route.method == "GET" and served(route, mount)]
    assert [asked for asked, response in answers(shared_proxy.port, paths) if response.status != 401] == []
    assert heard_nothing(upstream, auth_service)


@pytest.mark.parametrize("mount", MOUNTS)
def test_options_names_the_methods_without_a_key(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, mount: str
) -> None:
    methods: dict[str, set[str]] = {}
    for route, path in asked_on(mount):
        if served(route, mount):
            methods.setdefault(path, set()).add(route.method)
    wrong = []
    for (_, path), response in answers(shared_proxy.port, [("OPTIONS", path) for path in methods]):
        allowed = set((response.header("Allow") or "").split(", "))
        wanted = methods[path] | {"OPTIONS"} | ({"HEAD"} if "GET" in methods[path] else set())
        if response.status != 204 or not wanted <= allowed or response.body:
            wrong.append((path, response.status, allowed))
    assert wrong == []
    assert heard_nothing(upstream, auth_service)


@pytest.mark.parametrize("path", PUBLIC)
def test_options_on_a_health_path_names_what_it_takes(shared_proxy: Proxy, path: str) -> None:
    [(_, response)] = answers(shared_proxy.port, [("OPTIONS", path)])
    assert response.status == 204
    assert set((response.header("Allow") or "").split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_options_on_an_unknown_path_is_answered_404(shared_proxy: Proxy) -> None:
    unknown = ["/", "/mlflow/no/such", "/api/mlflow/signup", "/no/such", "/api/mlflow/metrics"]
    found = {
        path: response.status for (_, path), response in answers(shared_proxy.port, [("OPTIONS", p) for p in unknown])
    }
    assert found == dict.fromkeys(unknown, 404)


@pytest.mark.parametrize("path", PUBLIC)
def test_the_health_paths_are_public(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, path: str
) -> None:
    for method in ("GET", "HEAD"):
        response = request(shared_proxy.port, method, path)
        assert (response.status, response.header("Content-Type")) == (200, "application/json")
    assert auth_service.calls == []


NO_HEALTH_PATHS = [
    *(path + end for path in PUBLIC for end in ("//", "/x", "x", ";x", "%20", "/.", "%2f")),
    *(f"{mount}{path}" for path in PUBLIC for mount in ("/x", "/api", "/mlflow/api/2.0/mlflow")),
    *(path.upper() for path in PUBLIC),
    *(path.replace("heal", "he%61l") for path in PUBLIC),
    *("/health/mlflow", "/health/mlflow/detailed", "/mlflow/live", "/mlflow/ready", "/api/health/mlflow", "/metrics"),
    *("/", "/mlflow", "/mlflow/", "/api/mlflow", "/api/mlflow/", "/favicon.ico", "/robots.txt", "/static/x", "/docs"),
]


@pytest.mark.usefixtures("upstream")
def test_nothing_beside_the_health_paths_is_public(shared_proxy: Proxy) -> None:
    asked = [("GET", path) for path in NO_HEALTH_PATHS if path not in PUBLIC]
    found = {path: response.status for (_, path), response in answers(shared_proxy.port, asked)}
    assert {path: status for path, status in found.items() if status not in (400, 401, 404)} == {}


@pytest.mark.usefixtures("upstream")
def test_a_health_path_with_a_slash_behind_it_is_another_path(shared_proxy: Proxy) -> None:
    asked = [("GET", path + "/") for path in PUBLIC]
    found = {path: response.status for (_, path), response in answers(shared_proxy.port, asked)}
    assert found == dict.fromkeys((path + "/" for path in PUBLIC), 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_health_path_is_read_only(shared_proxy: Proxy, upstream: RecordingUpstream, method: str) -> None:
    found = {path: response.status for (_, path), response in answers(shared_proxy.port, [(method, p) for p in PUBLIC])}
    assert found == dict.fromkeys(PUBLIC, 404)
    assert not upstream.requests


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get"])
def test_a_method_that_no_client_sends_is_refused(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, method: str
) -> None:
    [(_, response)] = answers(shared_proxy.port, [(method, "/mlflow/version")])
    assert response.status in (400, 405)
    assert heard_nothing(upstream, auth_service)
