"""A scripted MLflow and a scripted auth service that fail on demand, and proxies in front of them.

What MLflow does is chosen by a word in the request target (`fault-html-404`), what the auth service does by the key.
So one proxy, and one client process, can go through all of it. Both tell in their answers what must stay internal.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.error_rows import AUTH_MOODS
from tests.support.fleet import fleet
from tests.support.process import REPOSITORY
from tests.support.proxy import Proxy
from tests.support.upstream import Recorded, RecordingUpstream

LIMITS = {  # of the proxies' patience and of a JSON body
    "READ_TIMEOUT_SECONDS": "0.6",
    "ARTIFACT_READ_TIMEOUT_SECONDS": "0.6",
    "AUTH_TIMEOUT_SECONDS": "0.6",
    "MAX_JSON_BODY_BYTES": "8192",
    "AUTH_CACHE_SECONDS": "0",  # every request asks, so that each row meets the mood of its key
    "AUTH_CACHE_HARD_SECONDS": "0",
}
HANG_SECONDS = 3.0  # longer than each of these
KEYS = {mood: f"hk_test_{secrets.token_urlsafe(24)}" for mood in ("good", "reader", "unknown", "limited", *AUTH_MOODS)}
# Two of these before each key that the auth service fails, and its failures stay too few for the breaker to open.
ILL = {"limited", *AUTH_MOODS}
SCOPES = {"good": ["mlflow:read", "mlflow:write"], "reader": ["mlflow:read", "model:read"]}
INTERNAL_PATH = "/srv/mlflow/internal/store.py"
PAGE = "<!doctype html><title>{status}</title><p>{where} {path}</p><pre>Traceback (most recent call last):</pre>"
TYPES = {"html": "text/html; charset=utf-8", "text": "text/plain"}
MISSING = '{"error_code":"RESOURCE_DOES_NOT_EXIST",  "message":"No such experiment."}'  # as MLflow itself says it
EXPERIMENT = {"experiment": {"experiment_id": "1", "name": "fault-none", "lifecycle_stage": "active"}}

# The app as it is, and behind its edge a fault that nobody foresaw, which knows a path and the key.
BUGGY = """
import os
from flask import request
from app import create_app
from app.settings import Settings

app = create_app(Settings.from_env(os.environ))
served = app.front


@app.before_request
def bug():
    if request.blueprint != "health":
        raise RuntimeError(f"{__file__} {os.environ['MLFLOW_SERVER_URL']} {dict(request.headers)}")


def outer_bug(environ, start_response):
    if "outside-of-flask" in environ.get("QUERY_STRING", ""):
        raise RuntimeError(f"{__file__} {environ}")
    return served(environ, start_response)


app.front = outer_bug
"""


class Faults:
    """`mlflow` and `auth` are started RecordingUpstreams; this answers for them as the requests ask."""

    def __init__(self, mlflow: RecordingUpstream, auth: RecordingUpstream) -> None:
        self.mlflow, self.auth = mlflow, auth
        mlflow.script(self._answer_as_mlflow)
        auth.script(self._answer_as_auth)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a proxy in front of the two."""
        return {"MLFLOW_SERVER_URL": self.mlflow.url, "HOKUSAI_AUTH_SERVICE_URL": self.auth.url, **LIMITS}

    def internals(self) -> list[str]:
        """What no answer may hold: addresses, paths, the words of a stack trace, keys."""
        words = ["127.0.0.1", "localhost", INTERNAL_PATH, str(REPOSITORY), "site-packages", "Traceback", ".py"]
        return [str(self.mlflow.port), str(self.auth.port), *words, *KEYS.values()]

    def _answer_as_mlflow(self, conn: socket.socket, request: Recorded) -> None:
        match = re.search(rb"fault-([a-z]+)-?([a-z0-9]*)", request.target)
        kind, detail = (match[1].decode(), match[2].decode()) if match else ("none", "")
        if kind in TYPES:
            page = PAGE.format(status=detail, where=self.mlflow.url, path=INTERNAL_PATH)
            page = "" if request.method == b"HEAD" else page
            _send(conn, int(detail), TYPES[kind], page, "Retry-After: 9\r\n" if detail == "429" else "")
        elif kind == "json":
            _send(conn, int(detail), "application/json", MISSING)
        elif kind == "host":
            _send(conn, 403, "text/plain", f"Invalid Host header {self.mlflow.url} - possible DNS rebinding attack")
        elif kind == "nonsense":
            conn.sendall(b"this is not HTTP\r\n\r\n")
            conn.close()
        elif kind == "hangs":
            self.mlflow.stopping.wait(0.0 if detail == "up" else HANG_SECONDS)
            conn.close()
        else:
            _send(conn, 200, "application/json", json.dumps(EXPERIMENT))

    def _answer_as_auth(self, conn: socket.socket, request: Recorded) -> None:
        sent = b"".join(request.values("Authorization")).decode().removeprefix("Bearer ")
        mood = next((mood for mood, key in KEYS.items() if key == sent), "unknown")
        who = {"user_id": "user-1", "key_id": "key-1", "scopes": SCOPES.get(mood, [])}
        page = PAGE.format(status=500, where=self.auth.url, path=INTERNAL_PATH)
        yes = json.dumps(who)  # which only a 200 makes a yes
        moved = f"Location: {self.auth.url}/api/login\r\n"
        answers: dict[str, Callable[[], None]] = {
            "unknown": lambda: _send(conn, 401, "application/json", '{"detail": "Invalid or expired API key"}'),
            "limited": lambda: _send(conn, 429, "application/json", "{}", "Retry-After: 7\r\n"),
            "auth-500": lambda: _send(conn, 500, "text/html", page),
            "auth-403": lambda: _send(conn, 403, "application/json", yes),
            "auth-garbage": lambda: _send(conn, 200, "text/html", page),
            "auth-list": lambda: _send(conn, 200, "application/json", json.dumps([who])),
            "auth-moved": lambda: _send(conn, 302, "application/json", yes, moved),
            "auth-slow": lambda: self._hang(conn),
            "auth-cut": conn.close,
        }
        answers.get(mood, lambda: _send(conn, 200, "application/json", yes))()

    def _hang(self, conn: socket.socket) -> None:
        self.auth.stopping.wait(HANG_SECONDS)
        conn.close()


@contextlib.contextmanager
def started(scratch: Path) -> Iterator[tuple[Faults, dict[str, Proxy]]]:
    """The two servers and a proxy for each name that the rows know; `scratch` is an empty directory."""
    with RecordingUpstream() as mlflow, RecordingUpstream() as auth, closed_port() as away, fleet() as start:
        faults = Faults(mlflow, auth)
        off = {**faults.env, "MLFLOW_SERVE_ARTIFACTS": "false"}
        yield (
            faults,
            {
                "usual": start(faults.env),
                "off_503": start(off),
                "off_501": start({**off, "ARTIFACTS_DISABLED_STATUS": "501"}),
                "mlflow_away": start({**faults.env, "MLFLOW_SERVER_URL": f"http://127.0.0.1:{away}"}),
                "auth_away": start({**faults.env, "HOKUSAI_AUTH_SERVICE_URL": f"http://127.0.0.1:{away}"}),
                "buggy": start(faults.env, buggy_copy(scratch)),
            },
        )


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port on 127.0.0.1 that refuses connections and that nobody else gets."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def buggy_copy(directory: Path) -> Path:
    """A directory that serves the app with a bug in it."""
    for name in ("app", "gunicorn.conf.py"):
        (directory / name).symlink_to(REPOSITORY / name)
    (directory / "wsgi.py").write_text(BUGGY)
    return directory


def _send(conn: socket.socket, status: int, content_type: str, body: str, more: str = "") -> None:
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    conn.sendall((head + body).encode())
