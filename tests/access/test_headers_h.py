"""H01-H12 of the catalogue, as far as tests/functional does not have them: identities, cookies, conditions, codings."""

from __future__ import annotations

import gzip

import pytest

from tests.functional.keyed import ARTIFACT, SEARCH, ask, only
from tests.support.auth_service import AuthService, new_key
from tests.support.client import request
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

ALICE, BOB = "user-alice", "user-bob"


@pytest.fixture
def keys(auth_service: AuthService) -> dict[str, str]:
    """A key of Alice's and one of Bob's."""
    return {user: auth_service.grant(new_key(), user_id=user, key_id=f"key-of-{user}") for user in (ALICE, BOB)}


@pytest.mark.parametrize(
    "name", ["X-Hokusai-User-Id", "x_hokusai_user_id", "x-hokusai-user-id", "X-HOKUSAI-USER-ID", "X-Hokusai_User-Id"]
)
@pytest.mark.parametrize("connection", ["keep-alive", "close, X-Hokusai-User-Id, X-Hokusai-API-Key-Id, Authorization"])
def test_h01_h02_nobody_can_pass_for_somebody_else(
    shared_proxy: Proxy, upstream: RecordingUpstream, keys: dict[str, str], name: str, connection: str
) -> None:
    headers = [("Authorization", f"Bearer {keys[BOB]}"), ("Connection", connection), (name, ALICE), (name, "admin")]
    assert (
        request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", [*headers, ("X-Hokusai-Scopes", "admin")]).status == 200
    )
    seen = only(upstream)
    ours = [(key.lower(), value) for key, value in seen.headers if b"hokusai" in key.lower().replace(b"_", b"-")]
    assert sorted(ours) == [(b"x-hokusai-api-key-id", b"key-of-user-bob"), (b"x-hokusai-user-id", BOB.encode())]
    assert ALICE.encode() not in seen.raw_head


def test_h07_a_cookie_that_mlflow_gives_one_user_never_comes_back_from_another(
    shared_proxy: Proxy, upstream: RecordingUpstream, keys: dict[str, str]
) -> None:
    upstream.respond_with(200, [("Set-Cookie", "session=of-alice; Path=/; HttpOnly"), ("Content-Length", "0")])
    for user in (ALICE, BOB, ALICE):
        headers = [("Authorization", f"Bearer {keys[user]}"), ("Cookie", f"session=by-{user}; AWSALB=x")]
        response = request(shared_proxy.port, "GET", f"/mlflow{SEARCH}", headers)
        assert (response.status, response.values("Set-Cookie")) == (200, [])
    assert len(upstream.requests) == 3
    for seen in upstream.requests:
        assert seen.values("Cookie") == [] and b"session" not in seen.raw_head


@pytest.mark.parametrize(
    ("asked", "status", "headers", "body"),
    [
        (("Range", "bytes=5-9"), 206, [("Content-Range", "bytes 5-9/100"), ("Content-Length", "5")], b"bytes"),
        (("If-None-Match", 'W/"e", "f"'), 304, [("ETag", '"f"')], b""),
        (("If-Modified-Since", "Sat, 21 Nov 2026 12:00:00 GMT"), 304, [("ETag", '"f"')], b""),
        (("If-Range", '"f"'), 200, [("Content-Length", "5"), ("ETag", '"g"')], b"whole"),
        (("If-Match", '"f"'), 412, [("Content-Type", "application/json"), ("Content-Length", "2")], b"{}"),
        (
            ("Range", "bytes=200-"),
            416,
            [("Content-Type", "application/json"), ("Content-Range", "bytes */100"), ("Content-Length", "2")],
            b"{}",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_h08_conditions_and_ranges_pass_and_so_do_their_answers(
    shared_proxy: Proxy,
    upstream: RecordingUpstream,
    asked: tuple[str, str],
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    upstream.respond_with(status, headers, body)
    response = ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}", [asked])
    assert (response.status, response.body, response.complete) == (status, body, True)
    assert [response.header(name) for name, _ in headers] == [value for _, value in headers]
    assert only(upstream).values(asked[0]) == [asked[1].encode()]


@pytest.mark.parametrize("sent", [None, "gzip", "identity", "br;q=1, *;q=0"])
def test_h09_codings_are_between_mlflow_and_the_client(
    shared_proxy: Proxy, upstream: RecordingUpstream, sent: str | None
) -> None:
    coded = gzip.compress(b"model" * 1000)
    upstream.respond_with(200, [("Content-Encoding", "gzip"), ("Content-Length", str(len(coded)))], coded)
    response = ask(shared_proxy, "GET", f"/mlflow{ARTIFACT}", [("Accept-Encoding", sent)] if sent else [])
    assert (response.body, response.header("Content-Encoding")) == (coded, "gzip")
    assert only(upstream).values("Accept-Encoding") == ([sent.encode()] if sent else [])
