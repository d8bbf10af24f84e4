"""app/probes.py: what one answer says about MLflow, and what the checks say together."""

from __future__ import annotations

import pytest

from app.probes import Check, judge, overall


@pytest.mark.parametrize(
    ("status", "text", "auth", "expected"),
    [
        (200, "3.17.2", "strip", Check("healthy", "ok", 200, 1.5, "", "3.17.2")),
        (204, "", "strip", Check("healthy", "ok", 204, 1.5)),
        (401, "x", "forward", Check("healthy", "ok", 401, 1.5)),
        (401, "x", "strip", Check("unhealthy", "MLflow answered 401.", 401, 1.5, "status_401")),
        (401, "x", "replace", Check("unhealthy", "MLflow answered 401.", 401, 1.5, "status_401")),
        (308, "x", "strip", Check("unhealthy", "MLflow answered 308.", 308, 1.5, "status_308")),
        (404, "x", "strip", Check("unhealthy", "MLflow answered 404.", 404, 1.5, "status_404")),
        (403, "no", "strip", Check("unhealthy", "MLflow answered 403.", 403, 1.5, "status_403")),
        (
            403,
            "Invalid Host header - x",
            "strip",
            Check("unhealthy", "MLflow answered 403.", 403, 1.5, "upstream_host_rejected"),
        ),
        (503, "x", "forward", Check("unhealthy", "MLflow answered 503.", 503, 1.5, "status_503")),
    ],
)
def test_an_answer_says_whether_mlflow_is_healthy(status: int, text: str, auth: str, expected: Check) -> None:
    assert judge(status, text, 1.5, auth) == expected


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["healthy", "healthy"], "healthy"),
        (["healthy", "disabled"], "healthy"),
        (["disabled", "unhealthy"], "unhealthy"),
        ([], "healthy"),
    ],
)
def test_what_is_switched_off_counts_as_well(statuses: list[str], expected: str) -> None:
    assert overall({str(index): Check(status, "") for index, status in enumerate(statuses)}) == expected
