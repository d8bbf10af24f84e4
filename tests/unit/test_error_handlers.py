"""app/error_handlers.py: whatever was raised behind the edge leaves in our one shape."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from flask import Flask, abort
from werkzeug import exceptions

from app import error_handlers
from app import scope as scopes
from app.errors import RateLimited, UpstreamBroken
from app.scope import RequestScope
from tests.unit import samples


def answer(error: Exception | int) -> tuple[int, dict[str, Any], RequestScope, dict[str, str]]:
    """Status, body, scope and headers of the answer to a request whose endpoint raises an error."""
    app, scope = Flask("test"), samples.scope(target="/mlflow/x?secret", target_url="http://mlflow.internal:5000/x")
    error_handlers.register(app)

    def endpoint() -> str:
        if isinstance(error, int):
            abort(error)
        raise error

    app.add_url_rule("/x", "x", endpoint)
    got = app.test_client().get("/x", environ_base={scopes.KEY: scope})
    assert got.content_type == "application/json"
    return got.status_code, json.loads(got.data), scope, dict(got.headers)


def test_an_error_that_a_stage_raised_is_answered_as_it_says() -> None:
    status, body, scope, headers = answer(RateLimited("Slow.", kind="key", headers=[("Retry-After", "7")]))
    assert (status, body) == (
        429,
        {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Slow.", "request_id": "req-1"},
    )
    assert (scope.outcome, scope.error_code, scope.error_kind) == ("rate_limited", "REQUEST_LIMIT_EXCEEDED", "key")
    assert (headers["Retry-After"], headers["Cache-Control"]) == ("7", "no-store")


@pytest.mark.parametrize("status", [404, 405])
def test_what_flask_does_not_know_is_an_endpoint_that_is_not_there(status: int) -> None:
    found, body, scope, _ = answer(status)
    assert (found, body["error_code"], body["message"], scope.outcome) == (
        404,
        "ENDPOINT_NOT_FOUND",
        "404: there is no endpoint GET /mlflow/x.",
        "client_error",
    )


@pytest.mark.parametrize(
    ("status", "code"), [(400, "BAD_REQUEST"), (413, "INVALID_PARAMETER_VALUE"), (418, "BAD_REQUEST")]
)
def test_another_refusal_of_the_frameworks_is_the_clients_error(status: int, code: str) -> None:
    found, body, scope, _ = answer(status)
    assert (found, body["error_code"], body["message"], scope.outcome, scope.error_kind) == (
        status,
        code,
        f"{status}: the request could not be handled.",
        "client_error",
        "framework",
    )


def test_a_fault_of_the_frameworks_is_ours() -> None:
    status, body, scope, _ = answer(exceptions.InternalServerError("text with hk_test_secret"))
    assert (status, body["error_code"], scope.outcome) == (500, "INTERNAL_ERROR", "proxy_error")
    assert "hk_test_secret" not in json.dumps(body)


def test_our_own_bug_has_a_fixed_text_and_its_place_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status, body, scope, _ = answer(KeyError("hk_test_secret"))
    assert (status, body) == (
        500,
        {
            "error_code": "INTERNAL_ERROR",
            "message": "The proxy failed to handle this request.",
            "request_id": "req-1",
        },
    )
    (record,) = [found for found in caplog.records if found.name == "app.errors"]
    assert (record.message, record.__dict__["request_id"], record.exc_info is not None) == (
        "unhandled_exception",
        "req-1",
        True,
    )
    assert (scope.outcome, scope.error_kind) == ("proxy_error", "exception")


def test_a_refused_host_is_an_event_of_its_own_with_the_fix_and_without_the_fix_for_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        _, body, _, _ = answer(UpstreamBroken("502: x", kind="upstream_host_rejected"))
    (record,) = caplog.records
    assert (record.message, record.__dict__["target_url"]) == (
        "upstream_host_rejected",
        "http://mlflow.internal:5000/x",
    )
    assert "--allowed-hosts" in record.__dict__["fix"]
    assert "mlflow.internal" not in json.dumps(body)


def test_an_ordinary_error_writes_no_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    answer(RateLimited("x"))
    assert caplog.records == []
