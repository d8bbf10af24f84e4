"""The audit trail: each access line says what a request was about, and nobody pays for it or can bend it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable

import pytest

from tests.functional.keyed import ARTIFACT, ARTIFACTS, MOUNTS, ask, begun, head, only
from tests.support.auth_service import AuthService, new_key
from tests.support.client import request
from tests.support.proxy import Proxy
from tests.support.response import read_response
from tests.support.upstream import RecordingUpstream, chunk

NAMES = itertools.count()
DELETE = "/api/2.0/mlflow/registered-models/delete"
REGISTER = "/api/2.0/mlflow/model-versions/create"
LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"
JSON = ("Content-Type", "application/json")
CREATED = b'{"model_version": {"name": "churn", "version": "7", "description": "secret-answer"}}'


def new_id() -> str:
    return f"audit-{next(NAMES)}"


def resource(
    proxy: Proxy, method: str, target: str, body: bytes | Iterable[bytes] | None = None, *headers: tuple[str, str]
) -> str:
    """Send a request, which must succeed; what its line says that it was about."""
    name = new_id()
    answer = ask(proxy, method, target, [("X-Request-ID", name), JSON, *headers], body)
    assert answer.status == 200, answer.raw
    return str(proxy.access_line(name)["resource"])


@pytest.mark.parametrize("mount", MOUNTS)
def test_the_same_on_every_mount(shared_proxy: Proxy, upstream: RecordingUpstream, mount: str) -> None:
    body = b'{"name": "churn", "version": "7"}'
    assert resource(shared_proxy, "DELETE", mount + DELETE, body) == "registered-model:churn"
    assert resource(shared_proxy, "PUT", f"{mount}{ARTIFACTS}/1/a%20b.bin", b"x") == "artifact:1/a b.bin"
    assert resource(shared_proxy, "GET", f"{mount}/api/2.0/mlflow/runs/get?run_id=r-1") == "run:r-1"
    upstream.respond_with(200, None, CREATED)
    assert resource(shared_proxy, "POST", mount + REGISTER, b'{"name": "churn"}') == "model-version:churn/7"


def test_the_body_reaches_mlflow_and_the_answer_the_client_byte_for_byte(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    body = b'  {"name" : "ch\\u0075rn"}\n'
    upstream.respond_with(200, None, CREATED)
    answer = ask(shared_proxy, "POST", f"/mlflow{REGISTER}", [JSON], body)
    assert (only(upstream).body, answer.body) == (body, CREATED)


def test_without_an_announced_length_it_is_the_same(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    pieces = [b'{"na', b'me": "churn"', b"}"]
    assert resource(shared_proxy, "DELETE", f"/mlflow{DELETE}", pieces) == "registered-model:churn"
    upstream.respond_with(200, [JSON, ("Transfer-Encoding", "chunked")], chunk(CREATED) + chunk(b""))
    assert resource(shared_proxy, "POST", f"/mlflow{REGISTER}", pieces) == "model-version:churn/7"


def test_the_media_type_hides_nothing(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    """MLflow reads the body of a DELETE or PATCH as JSON whatever it is called (mlflow/server/validation.py)."""
    name = new_id()
    ask(shared_proxy, "DELETE", f"/mlflow{DELETE}", [("X-Request-ID", name)], b'{"name": "churn"}')
    assert shared_proxy.access_line(name)["resource"] == "registered-model:churn"


@pytest.mark.parametrize("framed", [True, False])
def test_a_body_over_64_kib_streams_by_unread(shared_proxy: Proxy, upstream: RecordingUpstream, framed: bool) -> None:
    small, large = b'{"name": "churn"}'.ljust(65_536), b'{"name": "churn"}'.ljust(65_537)
    for body, told in ((small, "registered-model:churn"), (large, "")):
        upstream.reset()
        sent = body if framed else [body[:40_000], body[40_000:]]
        assert resource(shared_proxy, "DELETE", f"/mlflow{DELETE}", sent) == told
        assert only(upstream).body == body


def test_a_body_that_is_still_coming_does_not_wait_for_the_trail(
    shared_proxy: Proxy, upstream: RecordingUpstream
) -> None:
    """What was sent is at MLflow before the rest is: nobody gathers it first."""
    name, first, rest = new_id(), b'{"name": ', b'"churn"}'
    framing = (("Content-Length", "17"), JSON, ("X-Request-ID", name))
    with begun(shared_proxy, head("DELETE", f"/mlflow{DELETE}", *framing) + first) as sock:
        (seen,) = upstream.wait_for(1, heads=True)
        deadline = time.monotonic() + 5
        while seen.body != first:
            assert time.monotonic() < deadline, f"MLflow has {seen.body!r} after 5 s"
            time.sleep(0.01)
        sock.sendall(rest)
        assert read_response(sock, "DELETE").status == 200
    assert shared_proxy.access_line(name)["resource"] == "registered-model:churn"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[" * 65_536,
        b'{"name":' * 8_000,
        b'{"name": 1e999}',
        b"\xff" * 100,
        b'{"name": ' + b"9" * 60_000 + b"}",
    ],
    ids=["empty", "cut", "deep", "deep objects", "endless", "no text", "a number of 60000 digits"],
)
def test_an_odd_body_is_mlflows_business(shared_proxy: Proxy, upstream: RecordingUpstream, body: bytes) -> None:
    upstream.respond_with(200, None, body)
    for path in (REGISTER, LOG_BATCH):
        assert resource(shared_proxy, "POST", f"/mlflow{path}", body) == ""
    assert "unhandled_exception" not in shared_proxy.output


def test_a_line_has_one_line_whatever_a_name_holds(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    odd = 'a\r\n{"event": "forged"}\u2028\x1b[31m\ud800'
    body = json.dumps({"name": odd + "x" * 1000}).encode()
    told = resource(shared_proxy, "DELETE", f"/mlflow{DELETE}", body)
    assert told == r'registered-model:a\r\n{"event": "forged"}\u2028\x1b[31m\ud800' + "x" * (256 - len(odd))
    assert shared_proxy.lines("forged") == []


def test_who_was_refused_is_told_with_what_the_target_says(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    """Nobody reads the body of a request that goes no further."""
    reader = new_key()
    auth_service.grant(reader, user_id="reader", key_id="key-reader", scopes=["model:read"])
    for key, status in ((reader, 403), (new_key(), 401)):
        for method, target, told in (("PUT", ARTIFACT, "artifact:1/model.bin"), ("DELETE", DELETE, "")):
            name = new_id()
            sent = [("Authorization", f"Bearer {key}"), ("X-Request-ID", name), JSON]
            assert request(shared_proxy.port, method, f"/mlflow{target}", sent, b'{"name": "churn"}').status == status
            line = shared_proxy.access_line(name)
            assert (line["resource"], line["outcome"]) == (told, "auth_denied")


def test_what_mlflow_refused_to_create_is_told_by_its_name(shared_proxy: Proxy, upstream: RecordingUpstream) -> None:
    upstream.respond_with(400, None, CREATED)
    name = new_id()
    ask(shared_proxy, "POST", f"/mlflow{REGISTER}", [("X-Request-ID", name), JSON], b'{"name": "churn"}')
    line = shared_proxy.access_line(name)
    assert (line["resource"], line["outcome"]) == ("model-version:churn", "client_error")


def test_nothing_but_names_is_told(shared_proxy: Proxy) -> None:
    """Last in this file."""
    assert "secret-answer" not in shared_proxy.output
