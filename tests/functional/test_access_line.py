"""One JSON line for every request, however it ended, with the fields of the contract and nothing secret in any line."""

from __future__ import annotations

import itertools
import re
import socket
import time

import pytest

from tests.functional.keyed import ARTIFACT, BEARER, SEARCH, ask, begun, head
from tests.support.auth_service import GOOD_KEY, AuthService, new_key
from tests.support.client import raw_exchange, request
from tests.support.proxy import Line, Proxy
from tests.support.upstream import Recorded, RecordingUpstream

TEXTS = (
    "event ts level request_id trace_id method path upstream_path target_url mount family action resource outcome "
    "auth_source error_code error_kind client_ip user_id key_id user_agent version"
).split()
COUNTS = "status upstream_status attempts bytes_in bytes_out worker".split()
TIMES = "duration_ms upstream_ms ttfb_ms auth_ms".split()
OUTCOMES = (
    "ok client_error auth_denied auth_unavailable rate_limited upstream_error upstream_timeout upstream_unreachable "
    "upstream_aborted client_gone proxy_error"
).split()
NAMES = itertools.count()
TRACE = "0af7651916cd43dd8448eb211c80319c"


def new_id() -> str:
    return f"line-{next(NAMES)}"


def the_line(proxy: Proxy, request_id: str) -> Line:
    """The one access line of a request, checked for its form."""
    proxy.access_line(request_id)
    time.sleep(0.02)  # a second one would come at once
    (line,) = [line for line in proxy.lines("proxy_request") if line["request_id"] == request_id]
    assert_form(line)
    return line


def assert_form(line: Line) -> None:
    assert set(line) == {*TEXTS, *COUNTS, *TIMES}
    assert {name for name in TEXTS if type(line[name]) is not str} == set()
    assert {name for name in COUNTS if type(line[name]) is not int or line[name] < 0} == set()
    assert {name for name in TIMES if type(line[name]) not in (int, float) or line[name] < 0} == set()
    assert line["event"] == "proxy_request" and line["outcome"] in OUTCOMES and line["level"] in ("INFO", "WARNING")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])


def test_an_ok_request(shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService) -> None:
    name, query = new_id(), "?page_token=secret-query"
    key = auth_service.grant(new_key(), user_id="user-good", key_id="key-good")  # one that nobody remembers
    upstream.respond_with(200, body=b'{"runs": ["secret-answer"]}')
    trace = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
    sent = [("Authorization", f"Bearer {key}"), ("X-Request-ID", name), trace, ("User-Agent", "mlflow/3")]
    sent.append(("X-Forwarded-For", "203.0.113.9"))
    request(shared_proxy.port, "POST", f"/api/mlflow{SEARCH}{query}", sent, b'{"filter": "secret-body"}')
    line = the_line(shared_proxy, name)
    expected = {
        **{"trace_id": TRACE, "method": "POST", "user_agent": "mlflow/3"},
        "path": f"/api/mlflow{SEARCH}",
        "upstream_path": SEARCH,
        "target_url": f"{upstream.url}{SEARCH}",
        "mount": "/api/mlflow",
        "action": "experiments.search",
        "outcome": "ok",
        "level": "INFO",
        "status": 200,
        "upstream_status": 200,
        **{"error_code": "", "error_kind": "", "attempts": 1},
        "bytes_in": 25,
        "bytes_out": 27,
        "client_ip": "203.0.113.9",
        "user_id": "user-good",
        "key_id": "key-good",
        "auth_source": "service",
    }
    assert {field: line[field] for field in expected} == expected
    assert line["worker"] in shared_proxy.pids()
    assert line["duration_ms"] >= line["ttfb_ms"] >= line["upstream_ms"] > 0 and line["auth_ms"] > 0


def test_the_line_says_where_the_key_was_known_from(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    key, found = auth_service.grant(new_key()), []
    for sent in (key, key, new_key()):
        name = new_id()
        headers = [("Authorization", f"Bearer {sent}"), ("X-Request-ID", name)]
        request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", headers)
        found.append(the_line(shared_proxy, name)["auth_source"])
    assert found == ["service", "cache", ""]


@pytest.mark.parametrize(("mount", "shown"), [("/mlflow", "/mlflow"), ("/api/mlflow", "/api/mlflow"), ("", "/")])
@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("POST", "/api/2.0/mlflow/runs/create", "runs.create"),
        ("POST", "/api/2.0/mlflow/model-versions/create", "model-versions.create"),
        ("PUT", ARTIFACT, "artifacts.upload"),
        ("GET", ARTIFACT, "artifacts.download"),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete", "registered-models.delete"),
    ],
)
def test_the_line_says_what_was_done(
    shared_proxy: Proxy, upstream: RecordingUpstream, mount: str, shown: str, method: str, path: str, action: str
) -> None:
    name = new_id()
    ask(shared_proxy, method, mount + path, [("X-Request-ID", name)], b"{}")
    line = the_line(shared_proxy, name)
    assert (line["action"], line["mount"], line["path"], line["upstream_path"]) == (action, shown, mount + path, path)


def test_bytes_are_counted_as_they_were(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    for body in (b"b" * 700_001, [b"b" * 300_000, b"b" * 400_001]):
        name = new_id()
        upstream.respond_with(200, [("Content-Length", "300000")], b"d" * 300_000)
        ask(shared_proxy, "PUT", f"/mlflow{ARTIFACT}", [("X-Request-ID", name)], body)
        line = the_line(shared_proxy, name)
        assert (line["bytes_in"], line["bytes_out"]) == (700_001, 300_000)
    name = new_id()
    ask(shared_proxy, "HEAD", f"/mlflow{ARTIFACT}", [("X-Request-ID", name)])
    assert the_line(shared_proxy, name)["bytes_out"] == 0


@pytest.mark.parametrize(
    ("target", "status", "outcome", "code"),
    [
        ("/mlflow/no/such", 404, "client_error", "ENDPOINT_NOT_FOUND"),
        ("/mlflow/%2e%2e/x?secret-query", 400, "client_error", "BAD_REQUEST"),
        (f"/mlflow{SEARCH}?api_key=secret-query", 400, "client_error", "BAD_REQUEST"),
    ],
)
def test_a_clients_error(
    shared_proxy: Proxy, upstream: RecordingUpstream, target: str, status: int, outcome: str, code: str
) -> None:
    name = new_id()
    response = ask(shared_proxy, "GET", target, [("X-Request-ID", name)])
    line = the_line(shared_proxy, name)
    assert (line["status"], line["outcome"], line["error_code"]) == (status, outcome, code)
    assert response.status == status and line["bytes_out"] == len(response.body)
    assert line["path"] == target.partition("?")[0] and line["error_kind"]
    assert (line["upstream_status"], line["attempts"], line["target_url"]) == (0, 0, "")


def test_an_error_of_mlflows(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    for status, outcome, level in ((404, "client_error", "INFO"), (500, "upstream_error", "WARNING")):
        name = new_id()
        upstream.respond_with(status, body=b'{"error_code": "X"}')
        ask(shared_proxy, "GET", f"/mlflow{SEARCH}", [("X-Request-ID", name)])
        line = the_line(shared_proxy, name)
        assert (line["status"], line["upstream_status"]) == (status, status)
        assert (line["outcome"], line["level"]) == (outcome, level)


def test_a_refused_key(shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService) -> None:
    unknown, poor = new_key(), auth_service.grant(new_key(), user_id="poor", key_id="key-poor", scopes=["model:read"])
    for key, status, user in ((unknown, 401, ""), (poor, 403, "poor")):
        name = new_id()
        sent = [("Authorization", f"Bearer {key}"), ("X-Request-ID", name)]
        request(shared_proxy.port, "POST", "/mlflow/api/2.0/mlflow/runs/create", sent, b"{}")
        line = the_line(shared_proxy, name)
        assert (line["status"], line["outcome"], line["user_id"]) == (status, "auth_denied", user)
        assert key not in shared_proxy.output and line["auth_ms"] > 0


def test_an_auth_service_that_is_away(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    auth_service.answer(500)
    name = new_id()
    key = auth_service.grant(new_key())  # one that nobody remembers
    request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", [("Authorization", f"Bearer {key}"), ("X-Request-ID", name)])
    line = the_line(shared_proxy, name)
    assert (line["status"], line["outcome"]) == (503, "auth_unavailable")


def test_an_answer_that_broke_off(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    def half(conn: socket.socket, _: Recorded) -> None:
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        conn.close()

    upstream.script(half)
    name = new_id()
    ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}", [("X-Request-ID", name)])
    line = the_line(shared_proxy, name)
    assert (line["outcome"], line["status"], line["bytes_out"]) == ("upstream_aborted", 200, 4)
    assert line["error_kind"]


def test_a_client_that_left(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    name = new_id()
    fields = (("Content-Length", "5000000"), ("X-Request-ID", name))
    with begun(shared_proxy, head("PUT", f"/mlflow{ARTIFACT}", *fields) + b"b" * 300_000) as sock:
        upstream.wait_for(1, heads=True)
        sock.close()
    line = the_line(shared_proxy, name)
    assert line["outcome"] == "client_gone" and 262_144 <= line["bytes_in"] <= 300_000


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET /mlflow/version?secret-query HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
        (b"GET /mlflow/" + b"x" * 17_000 + b"?secret-query HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /mlflow/version HTTP/1.1\r\n" + b"X-A: b\r\n" * 101 + b"\r\n", 431),
    ],
)
def test_a_request_that_gunicorn_refused(
    shared_proxy: Proxy, upstream: RecordingUpstream, data: bytes, status: int
) -> None:
    time.sleep(0.02)  # the line of the request before this one
    before = len(shared_proxy.lines("proxy_request"))
    received = raw_exchange(shared_proxy.port, data)
    name = received.partition(b"X-Request-ID: ")[2].partition(b"\r\n")[0].decode()
    line = the_line(shared_proxy, name)
    assert len(shared_proxy.lines("proxy_request")) == before + 1
    assert (line["status"], line["outcome"], line["error_code"]) == (status, "client_error", "BAD_REQUEST")
    assert line["bytes_out"] == len(received.partition(b"\r\n\r\n")[2])


def test_every_request_of_a_connection_has_its_line(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    names = [new_id() for _ in range(3)]
    with begun(shared_proxy, b"".join(head("GET", "/live", ("X-Request-ID", name)) for name in names)):
        for name in names:
            assert the_line(shared_proxy, name)["status"] == 200


def test_debug_adds_the_routing_decision(proxy_env: dict[str, str], upstream: RecordingUpstream) -> None:
    with Proxy({**proxy_env, "MLFLOW_PROXY_DEBUG": "true"}) as proxy:
        sent = [("X-Request-ID", "routed"), ("X-Secret", "secret-value")]
        ask(proxy, "POST", f"/api/mlflow{SEARCH}?a=secret-query", sent, b'{"x": "secret-body"}')
        line = the_line(proxy, "routed")
        (steps,) = proxy.lines("routing_decision")
        assert {field: steps[field] for field in ("request_id", "path", "mount", "rest", "route", "target_url")} == {
            "request_id": "routed",
            "path": line["path"],
            "mount": "/api/mlflow",
            "rest": SEARCH,
            "route": SEARCH,
            "target_url": line["target_url"],
        }
        assert steps["style"] == "api" and steps["family"] == line["family"]
        assert "secret-" not in proxy.output and GOOD_KEY not in proxy.output


def test_without_debug_there_is_no_routing_decision(shared_proxy: Proxy) -> None:
    assert shared_proxy.lines("routing_decision") == []


def test_no_line_of_the_whole_run_holds_a_key_a_query_or_a_body(shared_proxy: Proxy) -> None:
    """Last in this file: everything above has gone through the same proxy."""
    output = shared_proxy.output
    assert GOOD_KEY not in output and BEARER[1] not in output
    assert "secret-query" not in output and "secret-body" not in output and "secret-answer" not in output
    for line in shared_proxy.lines("proxy_request"):
        assert_form(line)
        assert "?" not in line["path"] + line["upstream_path"] + line["target_url"]
