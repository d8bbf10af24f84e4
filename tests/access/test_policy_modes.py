"""POLICY_MODE=report and REGISTRY_LOCKDOWN, served: what passes, what does not, and what the log says of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functional.keyed import assert_refused
from tests.support.auth_service import AuthService, new_key
from tests.support.client import RawResponse, request
from tests.support.fleet import Start
from tests.support.proxy import Proxy
from tests.support.upstream import RecordingUpstream

CREATE_MODEL = ("POST", "/mlflow/api/2.0/mlflow/registered-models/create")
CREATE_VERSION = ("POST", "/api/2.0/mlflow/model-versions/create")
GET_MODEL = ("GET", "/api/mlflow/api/2.0/mlflow/registered-models/get?name=m")
CREATE_RUN = ("POST", "/mlflow/api/2.0/mlflow/runs/create")
WEBHOOK = ("POST", "/mlflow/api/2.0/mlflow/webhooks")
ADMIN = "admin@example.org"


@pytest.fixture(scope="module")
def urls(session_upstream: RecordingUpstream, session_auth_service: AuthService) -> dict[str, str]:
    return {"MLFLOW_SERVER_URL": session_upstream.url, "HOKUSAI_AUTH_SERVICE_URL": session_auth_service.url}


@pytest.fixture(scope="module")
def reporting(start: Start, urls: dict[str, str]) -> Proxy:
    return start({**urls, "POLICY_MODE": "report"})


@pytest.fixture(scope="module")
def locked(start: Start, urls: dict[str, str]) -> Proxy:
    return start({**urls, "REGISTRY_LOCKDOWN": "true", "ADMIN_BLOG_USER_EMAIL": ADMIN})


@pytest.fixture(scope="module")
def locked_and_reporting(start: Start, urls: dict[str, str]) -> Proxy:
    return start({**urls, "REGISTRY_LOCKDOWN": "true", "POLICY_MODE": "report"})


def granted(auth_service: AuthService, *scopes: str, **fields: Any) -> str:
    return auth_service.grant(new_key(), user_id="user-1", key_id="key-1", scopes=list(scopes), **fields)


def ask(proxy: Proxy, key: str | None, asked: tuple[str, str], request_id: str = "") -> RawResponse:
    headers = [("Authorization", f"Bearer {key}")] if key else []
    headers += [("X-Request-ID", request_id)] if request_id else []
    method, target = asked
    return request(proxy.port, method, target, headers, b"{}" if method == "POST" else None)


# --- report ---


@pytest.mark.parametrize(
    ("asked", "action", "required"),
    [
        (
            CREATE_RUN,
            "runs.create",
            "admin or full_access or mlflow:access or mlflow:admin or mlflow:write or model:write or write",
        ),
        (WEBHOOK, "webhooks.create", "admin or mlflow:admin or model-registry:admin or registry:admin"),
    ],
    ids=["write", "admin"],
)
def test_report_lets_pass_what_it_would_refuse_and_says_so(
    reporting: Proxy,
    upstream: RecordingUpstream,
    auth_service: AuthService,
    asked: tuple[str, str],
    action: str,
    required: str,
) -> None:
    key = granted(auth_service, "model:read")
    assert ask(reporting, key, asked, f"report-{action}").status == 200
    assert len(upstream.requests) == 1
    line = reporting.wait_line(lambda line: line.get("request_id") == f"report-{action}" and "required" in line)
    assert {name: line[name] for name in ("event", "level", "action", "required", "key_id")} == {
        "event": "policy_would_deny",
        "level": "WARNING",
        "action": action,
        "required": required,
        "key_id": "key-1",
    }
    assert set(line) == {"event", "ts", "level", "request_id", "action", "required", "key_id"}
    assert reporting.access_line(f"report-{action}")["outcome"] == "ok"
    assert key not in reporting.output


def test_report_says_nothing_of_what_is_allowed(
    reporting: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    assert ask(reporting, granted(auth_service, "model:write"), CREATE_RUN, "allowed").status == 200
    assert ask(reporting, granted(auth_service), GET_MODEL, "allowed").status == 200
    reporting.access_line("allowed")
    said = reporting.lines("policy_would_deny")
    assert [line for line in said if line["request_id"] == "allowed"] == []


def test_report_opens_nothing_to_nobody_and_nothing_that_is_nobodys(
    reporting: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    assert_refused(ask(reporting, None, CREATE_RUN), 401, "UNAUTHENTICATED")
    assert_refused(ask(reporting, new_key(), CREATE_RUN), 401, "UNAUTHENTICATED")
    key = granted(auth_service, "admin")
    for path in ("/mlflow/metrics", "/mlflow/signup", "/mlflow/ajax-api/3.0/mlflow/ui-telemetry", "/mlflow/no/such"):
        assert_refused(ask(reporting, key, ("GET", path)), 404, "ENDPOINT_NOT_FOUND")
    assert upstream.requests == []


# --- the lock-down of the registry ---


@pytest.mark.parametrize("asked", [CREATE_MODEL, CREATE_VERSION], ids=["model", "version"])
def test_a_locked_registry_is_changed_by_its_admins_alone(
    locked: Proxy, upstream: RecordingUpstream, auth_service: AuthService, asked: tuple[str, str]
) -> None:
    writer = granted(auth_service, "model:write", "model:read", email="somebody@example.org")
    body = assert_refused(ask(locked, writer, asked), 403, "PERMISSION_DENIED")
    assert body["error"] == "REGISTRY_ADMIN_REQUIRED" and "Admin access required" in body["message"]
    assert body["required_scope"] == "admin or mlflow:admin or model-registry:admin or registry:admin"
    assert body["current_scopes"] == ["model:read", "model:write"]
    assert upstream.requests == []
    for admin in (
        granted(auth_service, "model:write", is_admin=True),
        granted(auth_service, "model:write", email=ADMIN.upper()),
        granted(auth_service, "model:write", user={"email": ADMIN}),
        granted(auth_service, "model:write", "registry:admin"),
        granted(auth_service, "model:write", roles=["mlflow:admin"]),
    ):
        assert ask(locked, admin, asked).status == 200
    assert len(upstream.requests) == 5


def test_everything_else_is_as_it_was(locked: Proxy, upstream: RecordingUpstream, auth_service: AuthService) -> None:
    reader, writer = granted(auth_service, "model:read"), granted(auth_service, "model:write")
    assert [ask(locked, key, GET_MODEL).status for key in (reader, writer)] == [200, 200]
    assert [ask(locked, key, CREATE_RUN).status for key in (reader, writer)] == [403, 200]
    assert ask(locked, granted(auth_service, "model:read", is_admin=True), CREATE_MODEL).status == 403
    assert len(upstream.requests) == 3


def test_by_default_the_registry_is_open_to_writers(
    shared_proxy: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    assert ask(shared_proxy, granted(auth_service, "model:write"), CREATE_MODEL).status == 200


def test_report_reports_the_lock_down_too(
    locked_and_reporting: Proxy, upstream: RecordingUpstream, auth_service: AuthService
) -> None:
    key = granted(auth_service, "model:write")
    assert ask(locked_and_reporting, key, CREATE_MODEL, "locked").status == 200
    line = locked_and_reporting.wait_line(lambda line: line.get("event") == "policy_would_deny")
    assert (line["request_id"], line["action"]) == ("locked", "registered-models.create")
