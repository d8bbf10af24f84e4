"""app/inbound.py, app/passthrough.py: what they leave in the scope for the access line, and what they do not touch."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
import requests

from app.errors import BodyTooLarge, ClientGone
from app.inbound import Body
from app.passthrough import respond
from app.policy import RouteTable, read_routes
from app.resource import MOST_BYTES, resource_of
from app.scope import RequestScope
from tests.unit import samples
from tests.unit.arriving import CHUNKED, body_environ, chunked, of_length
from tests.unit.test_passthrough import BASE, answer, blocks_of

TABLE = RouteTable(read_routes())
DELETE = ("DELETE", "/api/2.0/mlflow/registered-models/delete")
REGISTER = ("POST", "/api/2.0/mlflow/model-versions/create")
JSON = [("Content-Type", "application/json")]
CREATED = b'{"model_version": {"name": "churn", "version": "7"}}'


def on(route: tuple[str, str]) -> RequestScope:
    method, path = route
    return samples.scope(method, path, rest=path, route=TABLE.find(method, path))


def passed(scope: RequestScope, environ: dict[str, Any], most: int | None = None) -> bytes:
    """A body's way up: what MLflow gets of it."""
    return b"".join(bytes(block) for block in Body(environ, scope, most))


# --- the way up ---


def test_a_small_body_is_kept_in_whatever_pieces_it_comes() -> None:
    body = b'{"name": "churn"}'
    for environ in (
        body_environ(of_length(17), body),
        body_environ(of_length(17), *(body[i : i + 1] for i in range(17))),
        body_environ(CHUNKED, chunked(body[:5], body[5:])),
        body_environ(CHUNKED, *(chunked(body)[i : i + 1] for i in range(len(chunked(body))))),
    ):
        scope = on(DELETE)
        assert passed(scope, environ) == scope.kept_body == body
        assert resource_of(scope) == "registered-model:churn"


@pytest.mark.parametrize("framing", ["of known length", "chunked"])
@pytest.mark.parametrize("more", [0, 1, 300_000])
def test_a_body_is_kept_up_to_a_size_and_passes_at_any(framing: str, more: int) -> None:
    body = b'{"name": "churn"}'.ljust(MOST_BYTES + more)
    scope = on(DELETE)
    pieces = [body[:30_000], body[30_000:]]
    environ = (
        body_environ(of_length(len(body)), *pieces) if framing != "chunked" else body_environ(CHUNKED, chunked(*pieces))
    )
    assert passed(scope, environ) == body
    assert scope.kept_body == (b"" if more else body)
    assert resource_of(scope) == ("" if more else "registered-model:churn")


@pytest.mark.parametrize(
    "route",
    [
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/a.bin"),
        ("POST", "/api/2.0/mlflow/runs/search"),
        ("PATCH", "/api/2.0/mlflow/traces/tr-1/tags"),
        ("POST", "/v1/traces"),
        ("GET", "/api/2.0/mlflow/runs/get"),
    ],
)
def test_where_the_body_names_nothing_it_is_not_kept(route: tuple[str, str]) -> None:
    scope = on(route)
    assert passed(scope, body_environ(of_length(2), b"{}")) == b"{}"
    assert scope.kept_body == b""


def test_without_a_route_nothing_is_kept() -> None:
    scope = samples.scope()
    assert (passed(scope, body_environ(of_length(2), b"{}")), scope.kept_body) == (b"{}", b"")


def test_what_came_of_a_body_that_broke_off_names_nothing() -> None:
    scope = on(DELETE)
    with pytest.raises(ClientGone):
        passed(scope, body_environ(of_length(17), b'{"name": "churn"'))
    assert resource_of(scope) == ""


def test_a_limit_still_holds() -> None:
    with pytest.raises(BodyTooLarge):
        passed(on(DELETE), body_environ(CHUNKED, chunked(b"12345", b"678901")), most=10)


def test_a_kept_block_is_a_copy() -> None:
    """The next block overwrites the one before (app/inbound.py, blocks_of_length)."""
    scope = on(DELETE)
    first, second = b'{"name": "ch', b'urn"}       '
    blocks = iter(Body(body_environ(of_length(24), first, second), scope, None))
    next(blocks)
    kept = bytes(scope.kept_body)
    next(blocks)
    assert (kept, scope.kept_body) == (first, first + second)


# --- the way down ---


def handed_on(given: requests.Response, scope: RequestScope) -> bytes:
    """An answer's way down: what the client gets of it."""
    return b"".join(blocks_of(respond(given, scope, {}, BASE)))


def test_the_answer_to_what_creates_something_is_kept() -> None:
    scope = on(REGISTER)
    assert handed_on(answer(200, JSON, CREATED), scope) == CREATED
    assert resource_of(scope) == "model-version:churn/7"


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (201, JSON, CREATED),
        (200, [("content-type", "application/json; charset=utf-8")], CREATED),
        (200, [*JSON, ("Content-Length", str(len(CREATED)))], CREATED),
        (200, JSON, CREATED.ljust(MOST_BYTES)),
    ],
)
def test_small_json_is_kept(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    scope = on(REGISTER)
    assert handed_on(answer(status, headers, body), scope) == scope.kept_answer == body


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (404, JSON, CREATED),
        (302, JSON, CREATED),
        (200, [("Content-Type", "text/html")], CREATED),
        (200, [], CREATED),
        (200, [*JSON, ("Content-Encoding", "gzip")], gzip.compress(CREATED, mtime=0)),
        (200, [*JSON, ("Content-Length", str(MOST_BYTES + 1))], CREATED.ljust(MOST_BYTES + 1)),
        (200, JSON, CREATED.ljust(MOST_BYTES + 1)),
        (200, JSON, CREATED.ljust(1_000_000)),
    ],
)
def test_anything_else_passes_and_is_not_kept(status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    scope = on(REGISTER)
    assert handed_on(answer(status, headers, body), scope) == body
    assert (scope.kept_answer, resource_of(scope)) == (b"", "")


@pytest.mark.parametrize("route", [DELETE, ("GET", "/api/2.0/mlflow/model-versions/get")])
def test_where_the_answer_creates_nothing_it_is_not_kept(route: tuple[str, str]) -> None:
    scope = on(route)
    assert (handed_on(answer(200, JSON, CREATED), scope), scope.kept_answer) == (CREATED, b"")
