"""The one redirect of ours, and MLflow's own: never a word about the internal host."""

from __future__ import annotations

import pytest

from tests.functional.keyed import ARTIFACT, BEARER, SEARCH, ask, only
from tests.support.client import request
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream


@pytest.mark.parametrize("mount", ["/mlflow", "/api/mlflow"])
def test_a_bare_mount_is_sent_to_the_mount_with_a_slash(
    shared_proxy: Proxy, upstream: RecordingUpstream, mount: str
) -> None:
    for query in ("", "?a=%2F&a"):
        response = ask(shared_proxy, "GET", mount + query, [("Host", "registry.hokus.ai")])
        assert 301 <= response.status <= 308
        assert response.header("Location") == f"{mount}/{query}"
    assert upstream.requests == []


@pytest.mark.parametrize("path", [SEARCH, ARTIFACT, "/version", "/graphql", "/"])
def test_nothing_else_is_redirected(shared_proxy: Proxy, upstream: RecordingUpstream, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        for target in (f"/mlflow{path}", f"/mlflow{path}/", f"/mlflow/{path}", path):
            for headers in ([], [BEARER]):
                response = request(shared_proxy.port, method, target, headers, b"{}")
                assert not 300 <= response.status < 400 and response.header("Location") is None, (method, target)


def redirected(proxy: Proxy, upstream: RecordingUpstream, location: str, status: int = 302) -> str | None:
    """The Location that the client gets for one that MLflow sends."""
    upstream.respond_with(status, [("Location", location), ("Content-Length", "2")], b"at")
    response = ask(proxy, "POST", f"/api/mlflow{SEARCH}", body=b"{}")
    assert (response.status, response.body) == (status, b"at")
    assert only(upstream).body == b"{}"  # followed by nobody
    return response.header("Location")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_mlflows_is_passed_on_and_not_followed(
    shared_proxy: Proxy, upstream: RecordingUpstream, status: int
) -> None:
    assert redirected(shared_proxy, upstream, "/a/b?c=%2F", status) == "/api/mlflow/a/b?c=%2F"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("{upstream}/a?b=c&b=%2f", "/api/mlflow/a?b=c&b=%2f"),
        ("{upstream}", "/api/mlflow/"),
        ("http://127.0.0.1:1/a", "/api/mlflow/a"),
        ("/#/experiments/1", "/api/mlflow/#/experiments/1"),
        ("next/page?x", "next/page?x"),
        ("https://bucket.example/signed?X=%2F&Y", "https://bucket.example/signed?X=%2F&Y"),
    ],
)
def test_a_location_never_names_the_internal_host(
    shared_proxy: Proxy, upstream: RecordingUpstream, location: str, expected: str
) -> None:
    assert redirected(shared_proxy, upstream, location.format(upstream=upstream.url)) == expected


def test_a_static_prefix_is_taken_off_where_it_is_one(proxy_env: dict[str, str], upstream: RecordingUpstream) -> None:
    with Proxy({**proxy_env, "MLFLOW_SERVER_URL": f"{upstream.url}/base"}) as proxy:
        assert redirected(proxy, upstream, "/base/x?y") == "/api/mlflow/x?y"
        upstream.reset()
        assert redirected(proxy, upstream, f"{upstream.url}/base") == "/api/mlflow/"
        upstream.reset()
        assert "/api/mlflowment" not in str(redirected(proxy, upstream, "/basement/x"))


def test_a_malformed_location_is_no_fault_of_ours(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.respond_with(302, [("Location", "http://[x"), ("Content-Length", "0")])
    response = ask(shared_proxy, "GET", f"/api/mlflow{SEARCH}")
    assert response.status in (302, 502)
    assert ask(shared_proxy, "GET", "/live").status == 200
