"""An auth service that says to each key what the test wants, on raw sockets, and how the tests of validation ask.

To a key that nobody spoke of it says 401. What `ill` does, it does to everybody.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.access import asking
from tests.support.auth_service import new_key
from tests.support.client import RawResponse
from tests.support.fleet import Start
from tests.support.proxy import Line, Proxy
from tests.support.upstream import Recorded, RecordingUpstream

ADMIN = "/mlflow/api/2.0/mlflow/webhooks"
SHORT = {
    "AUTH_TIMEOUT_SECONDS": "0.5",
    "AUTH_CACHE_SECONDS": "0.5",
    "AUTH_CACHE_HARD_SECONDS": "1",
    "AUTH_STALE_SECONDS": "30",
}
HARD_SECONDS = 1.0
Says = Callable[[socket.socket], object]


def answer(status: int, body: object = b"", *headers: tuple[str, str]) -> Says:
    """Say this: bytes as they are, anything else as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{name}: {text}\r\n" for name, text in headers)
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Length: {len(raw)}\r\n{more}\r\n"
    return lambda conn: conn.sendall(head.encode("latin-1") + raw)


def yes(**fields: Any) -> Says:
    return answer(200, {"user_id": "user-1", "key_id": "key-1", "scopes": ["model:write"], **fields})


NO = answer(401, {"detail": "Invalid or expired API key"})


class ScriptedAuth:
    """In front of a started RecordingUpstream, whose `url` the proxy asks."""

    def __init__(self, server: RecordingUpstream) -> None:
        self.server = server
        self.says: dict[str, Says] = {}
        self.ill: Says | None = None
        server.script(self._answer)

    def grant(self, **fields: Any) -> str:
        """A new key that is good from now on."""
        key = new_key()
        self.says[key] = yes(**fields)
        return key

    def asked(self, key: str | None = None) -> int:
        """How often it was asked, about one key or in all."""
        sent = [b"".join(seen.values("Authorization")) for seen in list(self.server.requests)]
        return len(sent) if key is None else sent.count(f"Bearer {key}".encode())

    def addresses(self) -> list[str]:
        """The client addresses it was told, in order."""
        return [json.loads(seen.body)["client_ip"] for seen in list(self.server.requests)]

    def _answer(self, conn: socket.socket, seen: Recorded) -> None:
        key = b"".join(seen.values("Authorization")).decode().removeprefix("Bearer ")
        says = self.ill or self.says.get(key, NO)
        with contextlib.suppress(OSError):  # whoever asked may have hung up meanwhile
            says(conn)


@contextlib.contextmanager
def scripted_auth() -> Iterator[ScriptedAuth]:
    with RecordingUpstream() as server:
        yield ScriptedAuth(server)


def proxy_of(start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, workers: int, **env: str) -> Proxy:
    """A proxy in front of the two, whose limit of requests from one address is no matter here."""
    urls = {"MLFLOW_SERVER_URL": upstream.url, "HOKUSAI_AUTH_SERVICE_URL": auth.server.url}
    roomy = {"RATE_LIMIT_PER_ADDRESS": "100000 per minute"}
    return start({**urls, **roomy, "PROXY_WORKERS": str(workers), **env})


def line(proxy: Proxy, response: RawResponse) -> Line:
    """The access line of an answered request."""
    name = response.header("X-Request-ID")
    assert name is not None
    return proxy.access_line(name)


def ask_at_once(proxy: Proxy, keys: list[str]) -> list[RawResponse]:
    """A request for each key, all at the same time."""
    return asking.ask_at_once(proxy, keys, together=len(keys))


def assert_outage(response: RawResponse) -> None:
    """A 503 that says that it passes."""
    assert (response.status, response.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE"), response.body
    assert 1 <= int(response.header("Retry-After") or 0) <= 60
    assert "Your key is not at fault" in response.json()["message"]


def warm(proxy: Proxy, key: str, workers: int) -> None:
    """Ask until every worker has answered once; the kernel chooses who serves a connection."""
    served: set[int] = set()
    deadline = time.monotonic() + 20
    while len(served) < workers:
        assert time.monotonic() < deadline, f"only {served} of {proxy.pids()} got a request"
        answers = ask_at_once(proxy, [key] * 8 * workers)
        assert {response.status for response in answers} == {200}
        served |= {line(proxy, response)["worker"] for response in answers}
