"""The whole app between a scripted key source and a scripted MLflow, and a client that asks it."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, ClassVar

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from app.errors import AuthUnavailable, Unauthenticated
from app.scope import Principal
from tests.unit import samples
from tests.unit.samples import KEY

READER = "hk_test_two" + "0" * 9
MLFLOW = re.compile(r"http://mlflow\.internal:5000/.*")


class Keys:
    """The key source in place of the auth service: knows two keys, notes every question, may be away."""

    asked: ClassVar[list[str]]
    away: ClassVar[bool]

    def __init__(self, *_: Any) -> None: ...

    def validate(self, key: str, client_ip: str) -> Principal:
        Keys.asked.append(key)
        if Keys.away:
            raise AuthUnavailable("503: away.")
        if key == KEY:
            return Principal("alice", "key-1", frozenset({"admin"}), 1_000_000)
        if key == READER:
            return Principal("bob", "key-2", frozenset({"model:read"}))
        raise Unauthenticated("")


def new_client(**variables: str) -> FlaskClient:
    """A client of an app of its own, for tests of what an app remembers; of keys that is nothing unless told to.

    It may send what it likes, unless told otherwise.
    """
    variables = {"RATE_LIMIT_BURST": "1000000 per second", **variables}
    forgetful = dict.fromkeys(("AUTH_CACHE_SECONDS", "AUTH_CACHE_HARD_SECONDS", "AUTH_STALE_SECONDS"), "0")
    return create_app(samples.settings(**{**forgetful, **variables})).test_client()


client = cache(new_client)


def ask(asker: FlaskClient, method: str, path: str, key: str | None = None, **headers: str) -> TestResponse:
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    answer = asker.open(path, method=method, headers=headers, buffered=True)
    answer.close()  # as gunicorn does; it ends the request
    return answer


def sample_path(pattern: str) -> str:
    return re.sub(r"\{\w+(:path)?\}", "one", pattern)


def error_code(answer: TestResponse) -> str:
    """The error code of an answer, which must be in our one shape."""
    body = json.loads(answer.data)
    assert answer.content_type == "application/json"
    assert {"error_code", "message", "request_id"} <= set(body)
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return str(body["error_code"])


def environ(method: str = "GET", target: str = "/mlflow/version", **variables: Any) -> dict[str, Any]:
    """What gunicorn hands over for a well-formed request."""
    return {
        "REQUEST_METHOD": method,
        "RAW_URI": target,
        "PATH_INFO": "/decoded",
        "SCRIPT_NAME": "/script",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "registry.hokus.ai",
        "REMOTE_ADDR": "192.0.2.1",
        **variables,
    }
