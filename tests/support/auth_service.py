"""A scripted auth service: POST /api/v1/keys/validate, as the production service answers it.

The caller's key comes as `Authorization: Bearer`, the JSON body names the service and the client's address. A granted
key gets 200 with its fields, any other key 401, any other path 404. `answer()` and `delay()` make it ill.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

VALIDATE_PATH = "/api/v1/keys/validate"
GOOD_KEY = f"hk_test_{secrets.token_urlsafe(32)}"  # the one key of the shared fixtures, new in every test run
ALL_SCOPES = [
    "model:read",
    "model:write",
    "mlflow:read",
    "mlflow:write",
    "mlflow:access",
    "mlflow:admin",
    "registry:admin",
    "model-registry:admin",
    "gateway:use",
    "admin",
    "write",
    "full_access",
]


def new_key() -> str:
    """A key nobody has granted yet, well formed."""
    return f"hk_test_{secrets.token_urlsafe(32)}"


@dataclass(frozen=True)
class AuthCall:
    """One call as it came; `body` is the decoded JSON, or the bytes when it was not JSON."""

    method: str
    path: str
    authorization: str | None
    body: Any
    headers: list[tuple[str, str]]


@dataclass(frozen=True)
class ForcedAnswer:
    status: int
    body: bytes
    headers: list[tuple[str, str]]


class AuthService:
    """Context manager. `url` is the base without `/api`; `calls` are in order of arrival; `reset()` keeps grants."""

    def __init__(self) -> None:
        self.calls: list[AuthCall] = []
        self._grants: dict[str, dict[str, Any]] = {}
        self._forced: ForcedAnswer | None = None
        self._delay_seconds = 0.0
        self._stopping = threading.Event()
        self._errors: list[BaseException] = []

    def __enter__(self) -> AuthService:
        self._server = _Server(("127.0.0.1", 0), self)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="auth service")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if error is None and self._errors:
            raise BaseExceptionGroup("in threads of the auth service", self._errors)

    def grant(self, key: str, **fields: Any) -> str:
        """Let this key in with these fields of the 200 answer (defaults: a user without scopes); gives the key back."""
        defaults = {"user_id": "user-test", "key_id": "key-test", "service_id": "platform", "scopes": []}
        self._grants[key] = {**defaults, "rate_limit_per_hour": 1_000_000, **fields}
        return key

    def revoke(self, key: str) -> None:
        del self._grants[key]

    def answer(self, status: int, body: object = b"", headers: Sequence[tuple[str, str]] = ()) -> None:
        """Answer every call so, whatever the key: bytes and str as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self._forced = ForcedAnswer(status, raw, list(headers))

    def delay(self, seconds: float) -> None:
        """Wait so long before each answer."""
        self._delay_seconds = seconds

    def reset(self) -> None:
        """Forget calls, the forced answer and the delay; granted keys stay."""
        self.calls = []
        self._forced = None
        self._delay_seconds = 0.0

    def decide(self, call: AuthCall) -> ForcedAnswer:
        """Record the call, then say what to answer."""
        self.calls.append(call)
        forced = self._forced
        self._stopping.wait(self._delay_seconds)
        if forced:
            return forced
        if (call.method, call.path) != ("POST", VALIDATE_PATH):
            return _json_answer(404, {"detail": "Not Found"})
        scheme, _, key = (call.authorization or "").partition(" ")
        if scheme != "Bearer" or key not in self._grants:
            return _json_answer(401, {"detail": "Invalid or expired API key"})
        return _json_answer(200, self._grants[key])

    def note_error(self, error: BaseException) -> None:
        self._errors.append(error)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], service: AuthService) -> None:
        self.service = service
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.service.note_error(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        call = AuthCall(
            self.command, self.path, self.headers.get("Authorization"), _decoded(raw), list(self.headers.items())
        )
        self._send(self.server.service.decide(call))

    do_GET = do_PUT = do_HEAD = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr: the calls are in `calls`."""

    def _send(self, answer: ForcedAnswer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in answer.headers):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def _json_answer(status: int, body: Mapping[str, Any]) -> ForcedAnswer:
    return ForcedAnswer(status, json.dumps(body).encode(), [("Content-Type", "application/json")])


__all__ = ["ALL_SCOPES", "GOOD_KEY", "VALIDATE_PATH", "AuthCall", "AuthService", "new_key"]
