"""Scanners: answered 404 and nothing else, before anybody is asked, and without filling the log."""

from __future__ import annotations

import itertools

import pytest

from app.scanners import EXACT, FOLDERS
from tests.functional.keyed import SEARCH, ask, assert_nobody_was_asked, begun, head
from tests.support.auth_service import AuthService
from tests.support.client import RawResponse, raw_exchange, request
from tests.support.fleet import Start
from tests.support.proxy import Line, Proxy
from tests.support.response import read_response
from tests.support.upstream import RecordingUpstream

NAMES = itertools.count()
EVENT = "scanner_request_rejected"
PATHS = [*EXACT, *(f"{folder}config" for folder in FOLDERS)]


@pytest.fixture
def proxy(start: Start, proxy_env: dict[str, str]) -> Proxy:
    """A proxy of one's own: its log tells how many there were."""
    return start(proxy_env)


def scan(
    proxy: Proxy, path: str, method: str = "GET", *headers: tuple[str, str], body: bytes | None = None
) -> RawResponse:
    answer = request(proxy.port, method, path, headers, body)
    assert (answer.status, answer.body, answer.complete) == (404, b"", True), (path, answer.raw)
    assert answer.header("Content-Length") == "0" and answer.header("Cache-Control") == "no-store"
    assert answer.header("Content-Type") is None
    return answer


def test_noise_is_answered_with_nothing_and_costs_nobody_anything(
    proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    for path in PATHS:
        for target in (path, path.upper(), f"{path}?key=secret-query"):
            scan(proxy, target)
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"):
        scan(proxy, "/.env", method)
    assert_nobody_was_asked(upstream, auth_service)
    assert {line["path"] for line in proxy.lines("proxy_request")} == {"/health"}  # asked while it started
    assert len(proxy.lines(EVENT)) == 10  # a minute
    assert "secret-query" not in proxy.output


def test_the_rare_line_says_who_asked_for_what(proxy: Proxy) -> None:
    name = f"scan-{next(NAMES)}"
    who = (("X-Forwarded-For", "192.0.2.66, 203.0.113.9"), ("User-Agent", "zgrab/" + "0" * 300))
    answer = scan(proxy, "/.git/config?x", "GET", ("X-Request-ID", name), *who)
    assert answer.header("X-Request-ID") == name
    line: Line = proxy.wait_line(lambda line: line["event"] == EVENT)
    assert {field: line[field] for field in line if field != "ts"} == {
        "event": EVENT,
        "level": "INFO",
        "request_id": name,
        "method": "GET",
        "path": "/.git/config",
        "suppressed": 0,
        "client_ip": "203.0.113.9",
        "user_agent": "zgrab/" + "0" * 194,
    }


def test_a_good_key_makes_no_difference(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    assert ask(shared_proxy, "GET", "/actuator/health").status == 404
    assert upstream.requests == []


def test_the_connection_serves_on_also_behind_a_body_that_nobody_read(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    noise = head("POST", "/boaform/admin/formlogin", ("Content-Length", "5000")) + b"x" * 5000
    with begun(shared_proxy, noise + head("GET", "/live")) as sock:
        assert read_response(sock, "POST").status == 404
        assert read_response(sock, "GET").status == 200


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/.env%00", 400),
        ("//.env", 400),
        ("http://127.0.0.1/.env", 400),
        ("/mlflow/.env", 404),
        ("/api/mlflow/.git/config", 404),
        ("/api/jsonwsx", 404),
    ],
)
def test_what_only_looks_like_noise_is_refused_as_ever(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService, target: str, status: int
) -> None:
    name = f"scan-{next(NAMES)}"
    data = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request-ID: {name}\r\n\r\n".encode()
    received = raw_exchange(shared_proxy.port, data)
    assert received.startswith(b"HTTP/1.1 %d " % status) and b'"error_code"' in received
    assert shared_proxy.access_line(name)["status"] == status
    assert_nobody_was_asked(upstream, auth_service)


def test_patterns_can_be_added_and_our_own_paths_win(
    start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream
) -> None:
    proxy = start({**proxy_env, "SCANNER_FILTER_EXTRA_PATTERNS": "/xmlrpc.php, /vendor/, /, /mlflow/, /live"})
    for path in ("/xmlrpc.php", "/XMLRPC.php?a", "/vendor/phpunit", "/anything/at/all"):
        scan(proxy, path)
    assert request(proxy.port, "GET", "/live").status == 200
    for mount in ("/api/mlflow", "/mlflow", ""):
        assert ask(proxy, "POST", f"{mount}{SEARCH}", body=b"{}").status == 200
    assert len(upstream.requests) == 3


def test_the_filter_can_be_switched_off(start: Start, proxy_env: dict[str, str], upstream: RecordingUpstream) -> None:
    proxy = start({**proxy_env, "SCANNER_FILTER_ENABLED": "false"})
    name = f"scan-{next(NAMES)}"
    answer = request(proxy.port, "GET", "/.env", [("X-Request-ID", name)])
    assert (answer.status, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert proxy.access_line(name)["outcome"] == "client_error" and proxy.lines(EVENT) == []
