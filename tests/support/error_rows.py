"""The error table of the contract as data: how each row is provoked, and what has to come back.

The words `fault-…` in targets and the names of keys are understood by the servers of faults.py, the names of proxies by
its `Proxies`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

AUTH_MOODS = ("auth-500", "auth-403", "auth-garbage", "auth-list", "auth-moved", "auth-slow", "auth-cut")


@dataclass(frozen=True)
class Row:
    """One row of the contract's error table: how to provoke it, and what has to come back.

    `message` is a part of the message, `call` what a user of the MLflow client writes, `headers` some of the answer's,
    `extra` the body's fields beyond the three of every error. `key` empty means that none is sent.
    """

    name: str
    status: int
    error_code: str
    message: str
    target: str = ""
    call: str = ""
    key: str = "good"
    method: str = "GET"
    body: bytes | None = None
    proxy: str = "usual"
    headers: dict[str, str] = field(default_factory=dict)
    extra: frozenset[str] = frozenset()

    @property
    def retried(self) -> bool:
        """True when the MLflow client tries again (mlflow/utils/request_utils.py)."""
        return self.status in (408, 429, 500, 502, 503, 504)


def rest(name: str, status: int, error_code: str, message: str, **more: Any) -> Row:
    """A row met by a call of the tracking API."""
    word = more.pop("fault", "none")
    target = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name=fault-{word}"
    return Row(name, status, error_code, message, target, f"client.get_experiment_by_name('fault-{word}')", **more)


def artifact(name: str, status: int, error_code: str, message: str, **more: Any) -> Row:
    """A row met by the download of an artifact."""
    word = more.pop("fault", "none")
    target = f"/api/2.0/mlflow-artifacts/artifacts/fault-{word}/model.bin"
    return Row(name, status, error_code, message, target, f"download('fault-{word}/model.bin')", **more)


def create(name: str, status: int, error_code: str, message: str, **more: Any) -> Row:
    """A row met by a call that writes: a large one, so that the proxy's limit is met when the key is good."""
    body = json.dumps({"name": "fault-none", "artifact_location": "x" * 9000}).encode()
    call = "client.create_experiment('fault-none', artifact_location='x' * 9000)"
    target = "/api/2.0/mlflow/experiments/create"
    return Row(name, status, error_code, message, target, call, method="POST", body=body, **more)


def raw(name: str, status: int, error_code: str, message: str, target: str, **more: Any) -> Row:
    """A row that no method of the client meets, only its function for any endpoint."""
    method = more.get("method", "GET")
    return Row(name, status, error_code, message, target, f"http_request_safe(creds(), {target!r}, {method!r})", **more)


OFF = "Artifact storage is not configured. Please contact your administrator."
PAGE = "MLflow answered with an error page."
KEY_SAYS = "MLFLOW_TRACKING_TOKEN"
AUTH_SAYS = "Your key is not at fault"
AWAY, NO_AUTH = {"proxy": "mlflow_away"}, {"proxy": "auth_away", "headers": {"Retry-After": "2"}}
AUTH_ILL = {"headers": {"Retry-After": "2"}}

ROWS = (
    raw("encoded slash", 400, "BAD_REQUEST", "Malformed request", "/api/2.0/mlflow/experiments%2fget"),
    raw("key in the query", 400, "BAD_REQUEST", KEY_SAYS, "/api/2.0/mlflow/experiments/get?api_key=1"),
    rest("no key", 401, "UNAUTHENTICATED", f"no API key was sent. Set {KEY_SAYS}", key=""),
    rest("refused key", 401, "UNAUTHENTICATED", "sent as Bearer was not accepted", key="unknown"),
    artifact("refused key for an artifact", 401, "UNAUTHENTICATED", KEY_SAYS, key="unknown"),
    create(
        "scope missing",
        403,
        "PERMISSION_DENIED",
        "experiments.create",
        key="reader",
        extra=frozenset({"required_scope", "current_scopes"}),
    ),
    raw("unknown endpoint", 404, "ENDPOINT_NOT_FOUND", "no endpoint GET", "/api/2.0/mlflow/no/such/endpoint"),
    raw("unknown endpoint, no key", 404, "ENDPOINT_NOT_FOUND", "no endpoint", "/api/2.0/mlflow/no/such", key=""),
    artifact("artifact page 404", 404, "RESOURCE_NOT_FOUND", "The requested resource was not found", fault="html-404"),
    rest("page 404", 404, "ENDPOINT_NOT_FOUND", PAGE, fault="html-404"),
    rest("text 400", 400, "BAD_REQUEST", PAGE, fault="text-400"),
    rest("page 401", 401, "UNAUTHENTICATED", PAGE, fault="html-401"),
    rest("page 403", 403, "PERMISSION_DENIED", PAGE, fault="html-403"),
    rest("text 429", 429, "REQUEST_LIMIT_EXCEEDED", PAGE, fault="text-429", headers={"Retry-After": "9"}),
    rest("page 500", 500, "INTERNAL_ERROR", PAGE, fault="html-500"),
    rest("page 501", 501, "NOT_IMPLEMENTED", PAGE, fault="html-501"),
    rest("page 503", 503, "TEMPORARILY_UNAVAILABLE", PAGE, fault="html-503"),
    rest("page 504", 504, "DEADLINE_EXCEEDED", PAGE, fault="html-504"),
    artifact("artifact page 500", 500, "INTERNAL_ERROR", PAGE, fault="html-500"),
    artifact("artifacts off", 503, "TEMPORARILY_UNAVAILABLE", OFF, proxy="off_503", extra=frozenset({"error"})),
    artifact("artifacts off for good", 501, "NOT_IMPLEMENTED", OFF, proxy="off_501", extra=frozenset({"error"})),
    rest("key over its rate", 429, "REQUEST_LIMIT_EXCEEDED", "too many", key="limited", headers={"Retry-After": "7"}),
    create("body over the limit", 413, "INVALID_PARAMETER_VALUE", "larger than the 8192 bytes"),
    rest("host rejected", 502, "INTERNAL_ERROR", "MLflow does not accept this proxy", fault="host-rejected"),
    rest("MLflow away", 502, "TEMPORARILY_UNAVAILABLE", "cannot be reached", **AWAY),
    artifact("MLflow away for an artifact", 502, "TEMPORARILY_UNAVAILABLE", "cannot be reached", **AWAY),
    rest("MLflow hangs up", 502, "INTERNAL_ERROR", "without a complete answer", fault="hangs-up"),
    rest("MLflow talks nonsense", 502, "INTERNAL_ERROR", "without a complete answer", fault="nonsense"),
    rest("MLflow too slow", 504, "DEADLINE_EXCEEDED", "in time", fault="hangs"),
    artifact("MLflow too slow for an artifact", 504, "DEADLINE_EXCEEDED", "in time", fault="hangs"),
    rest("auth service away", 503, "TEMPORARILY_UNAVAILABLE", AUTH_SAYS, **NO_AUTH),
    *(rest(mood, 503, "TEMPORARILY_UNAVAILABLE", AUTH_SAYS, key=mood, **AUTH_ILL) for mood in AUTH_MOODS),
    rest("our own bug", 500, "INTERNAL_ERROR", "The proxy failed to handle this request.", proxy="buggy"),
)
