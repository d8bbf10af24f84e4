"""The contract's error table, byte by byte: one JSON shape on every mount, and nothing internal in any of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.auth_service import new_key
from tests.support.client import RawResponse, raw_exchange, request
from tests.support.error_rows import ROWS, Row
from tests.support.faults import ILL, KEYS, MISSING, Faults, started
from tests.support.proxy import Proxy

MOUNTS = ("/api/mlflow", "/mlflow", "")
FIELDS = {"error_code", "message", "request_id"}
BY_NAME = {row.name: row for row in ROWS}
Running = tuple[Faults, dict[str, Proxy]]
PATH = "/api/2.0/mlflow/experiments/get"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("buggy")) as (faults, proxies):
        yield faults, proxies


def ask(proxy: Proxy, row: Row, mount: str = "", method: str = "") -> RawResponse:
    headers = [("X-Request-ID", "asked-for")]
    for _ in range(2 if row.key in ILL else 0):
        assert request(proxy.port, "GET", mount + PATH, [("Authorization", f"Bearer {new_key()}")]).status == 401
    if row.key:
        headers.append(("Authorization", f"Bearer {KEYS[row.key]}"))
    return request(proxy.port, method or row.method, mount + row.target, headers, row.body)


def everything(response: RawResponse) -> str:
    return response.raw.decode("latin-1")


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_error_is_one_json_shape_and_tells_nothing_internal(running: Running, row: Row, mount: str) -> None:
    faults, proxies = running
    response = ask(proxies[row.proxy], row, mount)
    body = response.json()
    assert (response.status, body["error_code"]) == (row.status, row.error_code), body
    assert row.message in body["message"]
    assert set(body) == FIELDS | row.extra
    assert (body["request_id"], response.header("X-Request-ID")) == ("asked-for", "asked-for")
    assert response.header("Content-Type") == "application/json"
    assert response.header("Retry-After") == row.headers.get("Retry-After")
    assert response.complete and response.header("Content-Length") == str(len(response.body))
    text = everything(response)
    assert [word for word in faults.internals() if word in text] == []


# Why the answer to a HEAD is a 403, MLflow tells in a body that is not there.
HEADS = [row for row in ROWS if row.method == "GET" and row.name != "host rejected"]


@pytest.mark.parametrize("row", HEADS, ids=lambda row: row.name)
def test_a_head_is_answered_with_the_same_status_and_no_body(running: Running, row: Row) -> None:
    _, proxies = running
    response = ask(proxies[row.proxy], row, "/mlflow", "HEAD")
    assert (response.status, response.header("Content-Type")) == (row.status, "application/json")
    assert response.header("X-Request-ID") == "asked-for"


@pytest.mark.parametrize(("name", "code"), [("artifacts off", 503), ("artifacts off for good", 501)])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_artifacts_that_are_switched_off_say_so_exactly(running: Running, name: str, code: int, method: str) -> None:
    faults, proxies = running
    asked = len(faults.mlflow.requests)
    response = ask(proxies[BY_NAME[name].proxy], BY_NAME[name], "/api/mlflow", method)
    assert response.status == code
    assert response.json() == {
        "error_code": {503: "TEMPORARILY_UNAVAILABLE", 501: "NOT_IMPLEMENTED"}[code],
        "error": "ARTIFACTS_DISABLED",
        "message": "Artifact storage is not configured. Please contact your administrator.",
        "request_id": "asked-for",
    }
    assert response.values("Retry-After") == []
    assert len(faults.mlflow.requests) == asked


def test_a_missing_scope_is_named_with_those_there_are(running: Running) -> None:
    _, proxies = running
    body = ask(proxies["usual"], BY_NAME["scope missing"], "/mlflow").json()
    assert {"model:write", "mlflow:write", "mlflow:access"} <= set(body["required_scope"].split(" or "))
    assert body["current_scopes"] == ["mlflow:read", "model:read"]


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_missing_artifact_is_named_by_the_path_that_was_asked_for(running: Running, mount: str) -> None:
    _, proxies = running
    row = BY_NAME["artifact page 404"]
    message = ask(proxies["usual"], row, mount).json()["message"]
    assert message == f"The requested resource was not found: {mount}{row.target}"


def test_a_rejected_host_is_logged_with_the_fix_for_the_operator(running: Running) -> None:
    _, proxies = running
    ask(proxies["usual"], BY_NAME["host rejected"])
    line = proxies["usual"].wait_line(lambda line: line["event"] == "upstream_host_rejected")
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in line["fix"] and line["target_url"] and line["level"] == "ERROR"


def test_an_answer_of_mlflow_in_json_is_not_touched(running: Running) -> None:
    _, proxies = running
    target = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=fault-json-404"
    response = request(proxies["usual"].port, "GET", target, [("Authorization", f"Bearer {KEYS['good']}")])
    assert (response.status, response.body) == (404, MISSING.encode())


HOST = b"Host: registry.hokus.ai\r\n"
MALFORMED = {
    "no host": (b"GET " + PATH.encode() + b" HTTP/1.1\r\n\r\n", 400),
    "bad host": (b"GET " + PATH.encode() + b" HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "absolute target": (b"GET http://registry.hokus.ai/version HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "dot segment": (b"GET /mlflow/../version HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "encoded dot segment": (b"GET /mlflow/%2e%2e/version HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "encoded backslash": (b"GET /mlflow/api/2.0/a%5Cb HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "bad escape": (b"GET /mlflow/api/2.0/a%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "encoded nul": (b"GET /mlflow/api/2.0/a%00b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two lengths": (b"POST /version HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "bad length": (b"POST /version HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "length beside chunks": (
        b"POST /version HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "another coding": (
        b"POST /version HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "no header": (b"GET /version HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n", 400),
    "no request at all": (b"\x16\x03\x01\x02\x00 \r\n\r\n", 400),
    "another method": (b"TRACE /version HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "long line": (b"GET /version?" + b"x" * 17000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "long header": (b"GET /version HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * 17000 + b"\r\n\r\n", 431),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused_in_the_same_shape_before_anybody_is_asked(running: Running, name: str) -> None:
    faults, proxies = running
    asked = len(faults.mlflow.requests), len(faults.auth.requests)
    data, status = MALFORMED[name]
    head, _, body = raw_exchange(proxies["usual"].port, data).partition(b"\r\n\r\n")
    answer = json.loads(body)
    assert head.split()[1] == b"%d" % status
    assert set(answer) == FIELDS and answer["error_code"] == "BAD_REQUEST"
    assert re.search(rb"(?i)\r\ncontent-type: application/json\r\n", head + b"\r\n")
    assert f"X-Request-ID: {answer['request_id']}".encode() in head
    told = (head + body).replace(answer["request_id"].encode(), b"")  # made up: it may hold the digits of a port
    assert [word for word in faults.internals() if word.encode() in told] == []
    assert (len(faults.mlflow.requests), len(faults.auth.requests)) == asked


def test_a_bug_outside_of_flask_gives_the_same_fixed_text(running: Running) -> None:
    faults, proxies = running
    response = request(proxies["buggy"].port, "GET", "/version?outside-of-flask", [("X-API-Key", KEYS["good"])])
    assert (response.status, response.json()["message"]) == (500, BY_NAME["our own bug"].message)
    told = everything(response).replace(response.json()["request_id"], "")
    assert [word for word in faults.internals() if word in told] == []


def test_a_bug_is_logged_with_its_place_and_without_what_it_says(running: Running) -> None:
    _, proxies = running
    ask(proxies["buggy"], BY_NAME["our own bug"])
    line = proxies["buggy"].wait_line(lambda line: line["event"] == "unhandled_exception")
    assert "RuntimeError at" in line["exc_info"] and "in bug" in line["exc_info"]
    assert [mood for mood, key in KEYS.items() if key in proxies["buggy"].output] == []
