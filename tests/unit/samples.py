"""The smallest things a unit test needs: an environment that is complete, settings made of it, a request's scope."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from requests import PreparedRequest

from app.outbound import Outbound
from app.scope import Principal, RequestScope
from app.settings import Settings

ENVIRONMENT = {
    "MLFLOW_SERVER_URL": "http://mlflow.internal:5000",
    "HOKUSAI_AUTH_SERVICE_URL": "http://auth.internal:8000",
}
YES: dict[str, Any] = {  # what the auth service says of a good key
    "user_id": "user-1",
    "key_id": "key-1",
    "scopes": ["model:read", "model:write"],
    "rate_limit_per_hour": 50,
}
PRINCIPAL = Principal("user-1", "key-1", frozenset({"model:read", "model:write"}), 50)  # whom it vouches for with that
KEY = "hk_test_one" + "0" * 9  # made up, and as long as a key must be


def settings(**variables: str) -> Settings:
    """Settings of the complete environment with some variables changed; an empty one counts as not set."""
    return Settings.from_env({**ENVIRONMENT, **variables})


def scope(method: str = "GET", target: str = "/mlflow/version", **fields: Any) -> RequestScope:
    """A request's scope as the edge opens it, with some fields changed."""
    made = RequestScope(request_id="req-1", method=method, target=target, client_ip="203.0.113.9")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def principal(*scopes: str) -> Principal:
    """A user with some scopes."""
    return Principal("user-1", "key-1", frozenset(scopes))


def headers_of(request: PreparedRequest) -> Outbound:
    """The headers of a request to MLflow as app/upstream.py gives them to requests."""
    headers: object = request.headers  # by its type one of requests' own
    assert isinstance(headers, Outbound)
    return headers


def pem(path: Path, kind: str) -> str:
    """Write a file that looks like a PEM file of this kind, and give its path."""
    path.write_text(f"-----BEGIN {kind}-----\n-----END {kind}-----\n")
    return str(path)
