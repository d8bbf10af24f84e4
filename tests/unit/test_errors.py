"""app/errors.py: the one family, the one JSON shape."""

from __future__ import annotations

import json

import pytest

from app import errors
from app.errors import ProxyError, code_for_status, no_such_endpoint, payload, render, status_line
from tests.unit import samples

# What the MLflow client retries for minutes (mlflow/utils/request_utils.py), so only what may pass by itself.
RETRIED = {408, 429, 500, 502, 503, 504}

# (status, error_code, outcome) of every error with a fixed status: CONTRACT's table and the log's vocabulary.
FAMILY = {
    "AuthUnavailable": (503, "TEMPORARILY_UNAVAILABLE", "auth_unavailable"),
    "Overloaded": (503, "TEMPORARILY_UNAVAILABLE", "rate_limited"),
    "BadRequest": (400, "BAD_REQUEST", "client_error"),
    "BodyTooLarge": (413, "INVALID_PARAMETER_VALUE", "client_error"),
    "ClientGone": (400, "BAD_REQUEST", "client_gone"),
    "EndpointNotFound": (404, "ENDPOINT_NOT_FOUND", "client_error"),
    "MethodNotAllowed": (405, "BAD_REQUEST", "client_error"),
    "Drained": (503, "TEMPORARILY_UNAVAILABLE", "proxy_error"),
    "OwnFault": (500, "INTERNAL_ERROR", "proxy_error"),
    "PermissionDenied": (403, "PERMISSION_DENIED", "auth_denied"),
    "RateLimited": (429, "REQUEST_LIMIT_EXCEEDED", "rate_limited"),
    "Unauthenticated": (401, "UNAUTHENTICATED", "auth_denied"),
    "UpstreamBroken": (502, "INTERNAL_ERROR", "upstream_error"),
    "UpstreamTimeout": (504, "DEADLINE_EXCEEDED", "upstream_timeout"),
    "UpstreamUnreachable": (502, "TEMPORARILY_UNAVAILABLE", "upstream_unreachable"),
}
PASSING = {  # what may be over when the client asks again
    "AuthUnavailable",
    "Drained",
    "Overloaded",
    "OwnFault",
    "RateLimited",
    "UpstreamBroken",
    "UpstreamTimeout",
    "UpstreamUnreachable",
}


def family() -> dict[str, type[ProxyError]]:
    found = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    return {name: kind for name, kind in found.items() if issubclass(kind, ProxyError) and kind is not ProxyError}


def test_every_error_has_the_status_code_and_outcome_of_the_contract() -> None:
    found = {
        name: (kind.status, kind.error_code, kind.outcome)
        for name, kind in family().items()
        if name != "ArtifactsDisabled"  # its status is configured
    }
    assert found == FAMILY


def test_nothing_permanent_has_a_status_that_clients_retry() -> None:
    assert {name for name, (status, _, _) in FAMILY.items() if status in RETRIED} == PASSING


def test_a_vanished_client_is_no_oserror_because_urllib3_would_swallow_it() -> None:
    assert not issubclass(errors.ClientGone, OSError)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "BAD_REQUEST"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "ENDPOINT_NOT_FOUND"),
        (405, "BAD_REQUEST"),
        (409, "RESOURCE_CONFLICT"),
        (413, "INVALID_PARAMETER_VALUE"),
        (422, "BAD_REQUEST"),
        (429, "REQUEST_LIMIT_EXCEEDED"),
        (499, "CANCELLED"),
        (500, "INTERNAL_ERROR"),
        (501, "NOT_IMPLEMENTED"),
        (502, "INTERNAL_ERROR"),
        (503, "TEMPORARILY_UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (599, "INTERNAL_ERROR"),
        (999, "INTERNAL_ERROR"),
    ],
)
def test_a_status_has_mlflows_code(status: int, code: str) -> None:
    assert code_for_status(status) == code


@pytest.mark.parametrize(
    ("status", "line"),
    [(200, "200 OK"), (404, "404 Not Found"), (299, "299 299"), (999, "999 999")],
)
def test_a_status_line_always_has_a_phrase(status: int, line: str) -> None:
    assert status_line(status) == line


def test_an_error_leaves_in_the_shape_that_the_client_parses() -> None:
    error = errors.BadRequest("No.", kind="k")
    assert json.loads(payload(error, "req-1")) == {
        "error_code": "BAD_REQUEST",
        "message": "No.",
        "request_id": "req-1",
    }


def test_more_fields_of_an_error_stand_beside_the_three() -> None:
    error = errors.PermissionDenied("No.", required_scope="a or b", current_scopes=["c"])
    assert json.loads(payload(error, "r")) == {
        "error_code": "PERMISSION_DENIED",
        "message": "No.",
        "request_id": "r",
        "required_scope": "a or b",
        "current_scopes": ["c"],
    }


@pytest.mark.parametrize(
    ("status", "code"), [(503, "TEMPORARILY_UNAVAILABLE"), (501, "NOT_IMPLEMENTED")], ids=["as today", "no retries"]
)
def test_switched_off_artifacts_answer_as_they_do_today(status: int, code: str) -> None:
    error = errors.ArtifactsDisabled(status)
    assert (error.status, json.loads(payload(error, "r"))) == (
        status,
        {
            "error_code": code,
            "error": "ARTIFACTS_DISABLED",
            "message": "Artifact storage is not configured. Please contact your administrator.",
            "request_id": "r",
        },
    )


def test_rendering_gives_status_headers_and_body_and_notes_the_error_for_the_log() -> None:
    scope = samples.scope()
    error = errors.RateLimited("Slow down.", kind="key", headers=[("Retry-After", "7")])
    status, headers, body = render(error, scope)
    assert (status, headers, body) == (
        "429 Too Many Requests",
        [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Retry-After", "7"),
        ],
        payload(error, "req-1"),
    )
    assert (scope.outcome, scope.error_code, scope.error_kind) == ("rate_limited", "REQUEST_LIMIT_EXCEEDED", "key")


def test_text_beyond_ascii_counts_in_bytes() -> None:
    _, headers, body = render(errors.BadRequest("\u20ac\u00e9"), samples.scope())
    assert dict(headers)["Content-Length"] == str(len(body))
    assert json.loads(body)["message"] == "\u20ac\u00e9"


def test_an_error_without_a_kind_is_logged_under_its_name() -> None:
    assert errors.UpstreamBroken("x").kind == "UpstreamBroken"


def test_our_own_bug_has_a_fixed_text() -> None:
    assert (str(errors.OwnFault()), errors.OwnFault().kind) == (
        "The proxy failed to handle this request.",
        "exception",
    )


def test_an_unknown_endpoint_is_named_without_its_query() -> None:
    error = no_such_endpoint(samples.scope("POST", "/nowhere?secret=1"))
    assert (error.message, error.kind) == ("404: there is no endpoint POST /nowhere.", "unknown_route")


def test_two_errors_share_no_headers() -> None:
    first, second = errors.BadRequest("a"), errors.BadRequest("b")
    first.headers.append(("X", "y"))
    assert second.headers == []
