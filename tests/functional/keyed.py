"""Requests that carry the good key, as most functional tests send them, and the routes they are sent to."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tests.support.auth_service import GOOD_KEY, AuthService
from tests.support.client import Header, RawResponse, open_connection, request
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

BEARER = ("Authorization", f"Bearer {GOOD_KEY}")
MOUNTS = ("/api/mlflow", "/mlflow", "")
SEARCH = "/api/2.0/mlflow/experiments/search"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
ARTIFACT = f"{ARTIFACTS}/1/model.bin"


def ask(
    proxy: Proxy,
    method: str,
    target: str,
    headers: Sequence[Header] = (),
    body: bytes | Iterable[bytes] | None = None,
    **options: Any,
) -> RawResponse:
    """One request with the good key in front of `headers`; `options` as for `request`."""
    return request(proxy.port, method, target, [BEARER, *headers], body, **options)


def head(method: str, target: str, *headers: tuple[str, str]) -> bytes:
    """A request's head with the good key, byte for byte, for tests that send the body themselves."""
    pairs = [("Host", "127.0.0.1"), BEARER, *headers]
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs), "", ""]
    return "\r\n".join(lines).encode("latin-1")


@contextlib.contextmanager
def begun(proxy: Proxy, data: bytes, timeout: float = 10.0) -> Iterator[socket.socket]:
    """A connection on which `data` was sent, and on which nothing was read yet."""
    with open_connection(proxy.port, timeout) as sock:
        sock.sendall(data)
        yield sock


def only(upstream: RecordingUpstream) -> Recorded:
    """The one request that reached the upstream, whole and well framed."""
    (seen,) = upstream.wait_for(1)
    assert seen.complete and seen.fault is None, f"{seen.fault}: {seen.raw_head!r}"
    return seen


def assert_refused(response: RawResponse, status: int, error_code: str) -> dict[str, Any]:
    """An error in our JSON shape and nothing of another shape; gives the body."""
    assert response.status == status, (response.status, response.body, response.fault)
    assert response.complete and response.header("Content-Type") == "application/json"
    body: dict[str, Any] = response.json()
    assert body["error_code"] == error_code and isinstance(body["message"], str) and body["message"]
    assert body["request_id"] == response.header("X-Request-ID")
    return body


def assert_nobody_was_asked(upstream: RecordingUpstream, auth_service: AuthService) -> None:
    """Neither MLflow nor the auth service saw anything."""
    assert [seen.line for seen in upstream.requests] == []
    assert upstream.connections == 0 and auth_service.calls == []
