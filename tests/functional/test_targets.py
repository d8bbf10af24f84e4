"""Targets go upstream byte for byte, or they are refused before anybody is asked; nothing is redirected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.keyed import (
    ARTIFACTS,
    BEARER,
    MOUNTS,
    SEARCH,
    ask,
    assert_nobody_was_asked,
    assert_refused,
    only,
)
from tests.support.auth_service import AuthService
from tests.support.client import raw_exchange, request
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

QUERIES = [
    "?",
    "?a=b&a=c&x=%2F&y=+&z",
    "?order_by=b&order_by=a&order_by=b",
    "?f=%c3%a9&g=%C3%A9&h=%7e~",
    '?q={}|"<>^`\\',
    "?filter=name='a b'".replace(" ", "%20"),
    "?filter=name+LIKE+%25x%25+AND+tag.`a`!='1'",
    "?a=b?c=d/e//f/../g/./h",
    "?a;b&&=&=",
    "?path=..%2f..%2fetc",
    "?@:!$'()*,;=[]",
    "?x=%41%61%2e%2E",
    "?page_token=" + "A0_-=" * 1500,
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:24])
def test_a_query_passes_byte_for_byte(shared_proxy: Proxy, upstream: RecordingUpstream, query: str) -> None:
    assert ask(shared_proxy, "GET", f"/api/mlflow{SEARCH}{query}").status == 200
    assert only(upstream).target == f"{SEARCH}{query}".encode()


NAMES = [
    "with%20space",
    "100%25",
    "50%2525off",
    "a+b",
    "caf%c3%a9",
    "caf%C3%A9/%e6%97%a5%E6%9C%AC.txt",
    "%41%2d%7E",
    "~(1)!*'",
    "a;v=1,b&c=d$e",
    "model:v1@prod=x",
    'odd{}|^`"<>',
    "hash%23and%3Fquestion",
    "trailing/",
    "...",
    "..hidden/x..",
    "double//slash",
    "%ff%fe",
    "n" * 8000,
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:24])
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_name_passes_byte_for_byte(shared_proxy: Proxy, upstream: RecordingUpstream, method: str, name: str) -> None:
    path = f"{ARTIFACTS}/1/{name}"
    assert ask(shared_proxy, method, f"/mlflow{path}", body=b"x" if method == "PUT" else None).status == 200
    assert only(upstream).line == f"{method} {path} HTTP/1.1".encode()


MALFORMED = {
    "dot segments": "/api/2.0/mlflow/../../admin",
    "one dot": "/api/2.0/mlflow/./experiments/search",
    "dot at the end": "/api/2.0/mlflow-artifacts/artifacts/1/..",
    "encoded dots": "/api/2.0/mlflow-artifacts/artifacts/%2e%2e/x",
    "half encoded dots": "/api/2.0/mlflow-artifacts/artifacts/.%2e/x",
    "dots encoded twice": "/api/2.0/mlflow-artifacts/artifacts/%252e%252e/x",
    "dots encoded thrice": "/api/2.0/mlflow-artifacts/artifacts/%25252e%25252e/x",
    "dots with a parameter": "/api/2.0/mlflow-artifacts/artifacts/..;/x",
    "encoded slash": "/api/2.0/mlflow-artifacts/artifacts/a%2fb",
    "upper case encoded slash": "/api/2.0/mlflow-artifacts/artifacts/a%2Fb",
    "slash encoded twice": "/api/2.0/mlflow-artifacts/artifacts/a%252fb",
    "backslash": "/api/2.0/mlflow-artifacts/artifacts/a\\b",
    "encoded backslash": "/api/2.0/mlflow-artifacts/artifacts/a%5cb",
    "encoded NUL": "/api/2.0/mlflow-artifacts/artifacts/a%00b",
    "encoded line end": "/api/2.0/mlflow-artifacts/artifacts/a%0d%0ab",
    "encoded DEL": "/api/2.0/mlflow-artifacts/artifacts/a%7fb",
    "fragment": "/api/2.0/mlflow/experiments/search#x",
    "fragment in the query": "/api/2.0/mlflow/experiments/search?a=1#x",
    "bad escape": "/api/2.0/mlflow-artifacts/artifacts/%zz",
    "lone percent": "/api/2.0/mlflow-artifacts/artifacts/%",
    "cut escape": "/api/2.0/mlflow-artifacts/artifacts/%2",
    "bad escape in the query": "/api/2.0/mlflow/experiments/search?x=%zz&y=%41",
    "a raw non-ASCII byte": "/api/2.0/mlflow-artifacts/artifacts/caf\xe9",
    "a raw non-ASCII byte in the query": "/api/2.0/mlflow/experiments/search?x=\xe9",
}


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("case", MALFORMED)
def test_a_target_in_doubt_is_refused_before_anybody_is_asked(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, case: str, mount: str
) -> None:
    response = ask(shared_proxy, "GET", mount + MALFORMED[case])
    assert_refused(response, 400, "BAD_REQUEST")
    assert_nobody_was_asked(upstream, auth_service)


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/mlflow/version",
        "http://127.0.0.1/mlflow/version",
        "@evil.example/mlflow/version",
        ".evil.example/mlflow/version",
        ":80/mlflow/version",
        "*",
        "//evil.example/mlflow/version",
        "//mlflow/version",
        "mlflow/version",
        "?mlflow",
        "evil.example:443",
        "/mlflow/../version",
        "/api/mlflow/../../version",
        "/mlflow/a b",
        "/mlflow/\x01version",
    ],
)
def test_another_form_of_target_is_refused_before_anybody_is_asked(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, target: str
) -> None:
    for method in ("GET", "OPTIONS"):
        assert_refused(request(shared_proxy.port, method, target, [BEARER]), 400, "BAD_REQUEST")
    assert_nobody_was_asked(upstream, auth_service)


@pytest.mark.parametrize("host", ["", "a,b", "a/b", "user@h", "a b", "[::1", "a:port", "a\x7f", "\xe9"])
def test_a_host_in_doubt_is_refused(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, host: str
) -> None:
    response = request(shared_proxy.port, "GET", "/mlflow/version", [("Host", host), BEARER])
    assert_refused(response, 400, "BAD_REQUEST")
    assert_nobody_was_asked(upstream, auth_service)


@pytest.mark.parametrize(
    "head",
    [
        "GET /mlflow/version HTTP/1.1\r\n\r\n",
        "GET /mlflow/version HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /mlflow/version HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /mlflow/version HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /mlflow/version HTTP/1.1 x\r\nHost: a\r\n\r\n",
        "GET  /mlflow/version HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /mlflow/version\r\n\r\n",
    ],
)
def test_a_head_in_doubt_is_refused(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, head: str
) -> None:
    received = raw_exchange(shared_proxy.port, head.encode())
    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 ")), received
    assert b'"error_code": "BAD_REQUEST"' in received
    assert_nobody_was_asked(upstream, auth_service)


@pytest.mark.parametrize(
    "target",
    [
        "/mlflow/api/2.0/mlflow/no/such",
        "/api/mlflow/admin",
        "/mlflow/API/2.0/mlflow/experiments/search",
        "/API/mlflow/version",
        "/mlflow/api//2.0/mlflow/experiments/search",
        "/mlflow//version",
        f"/mlflow{SEARCH}/",
        f"{SEARCH}/",
        "/mlflow/version/",
        "/mlflowx/version",
        "/mlflow/api/2.0/mlflow/%65xperiments/search",
        "/graphql",
        "/static-files/x.js",
        "/",
        "/.envy",
        "/health/x",
    ],
)
def test_an_unknown_route_is_404_and_nobody_is_asked(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, target: str
) -> None:
    for headers in ([], [BEARER]):
        response = request(shared_proxy.port, "GET", target, headers)
        assert_refused(response, 404, "ENDPOINT_NOT_FOUND")
    assert_nobody_was_asked(upstream, auth_service)


def test_a_request_line_of_15_kb_passes_and_one_of_17_is_refused(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    def target(size: int) -> str:
        start = f"/mlflow{SEARCH}?filter="
        return start + "x" * (size - len(f"GET {start} HTTP/1.1"))

    assert ask(shared_proxy, "GET", target(15 * 1024)).status == 200
    assert len(only(upstream).line) == 15 * 1024 - len("/mlflow")
    upstream.reset()
    auth_service.reset()
    assert_refused(ask(shared_proxy, "GET", target(17 * 1024)), 414, "BAD_REQUEST")
    assert_nobody_was_asked(upstream, auth_service)


@pytest.fixture(scope="module")
def prefixed(session_upstream: RecordingUpstream, session_auth_service: AuthService) -> Iterator[Proxy]:
    """A proxy of the external style in front of a static prefix."""
    url, auth = f"{session_upstream.url}/static/base/", session_auth_service.url
    with Proxy(
        {
            "MLFLOW_SERVER_URL": url,
            "MLFLOW_API_STYLE": "ajax-api",
            "MLFLOW_NATIVE_ARTIFACTS": "false",
            "HOKUSAI_AUTH_SERVICE_URL": auth,
        }
    ) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("asked", "arrives"),
    [
        ("/api/2.0/mlflow/runs/get?a=%2F&a=", "/ajax-api/2.0/mlflow/runs/get?a=%2F&a="),
        ("/api/3.0/mlflow/traces/%c3%a9", "/ajax-api/3.0/mlflow/traces/%c3%a9"),
        (f"{ARTIFACTS}/a%20b/api/2.0/mlflow/x", "/ajax-api/2.0/mlflow-artifacts/artifacts/a%20b/api/2.0/mlflow/x"),
        ("/ajax-api/2.0/mlflow/runs/get?x", "/ajax-api/2.0/mlflow/runs/get?x"),
        ("/version?", "/version?"),
    ],
)
def test_prefix_and_style_change_the_front_of_the_path_alone(
    prefixed: Proxy, upstream: RecordingUpstream, asked: str, arrives: str
) -> None:
    for mount in MOUNTS:
        upstream.reset()
        assert ask(prefixed, "GET", mount + asked).status == 200
        assert only(upstream).target == f"/static/base{arrives}".encode()
