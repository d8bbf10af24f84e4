"""Fixtures of the unit tests: what the whole app needs around it, and a clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
import responses

from tests.support.clock import Clock
from tests.unit.scripted import MLFLOW, Keys


@pytest.fixture(autouse=True)
def no_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library `responses` looks for Retry-After in every answer; ours have their headers in `raw` alone."""
    monkeypatch.setattr(requests.Response, "headers", {}, raising=False)


@pytest.fixture
def clock() -> Clock:
    """Stands still; give it to what asks for one."""
    return Clock()


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the scripted key source in the auth service's place."""
    monkeypatch.setattr("app.auth_service.AuthService", Keys)
    Keys.asked, Keys.away = [], False


@pytest.fixture
def mlflow() -> Iterator[responses.RequestsMock]:
    """MLflow, answering JSON to everything; `calls` holds what it was asked."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            mock.add(method, MLFLOW, json={"from": "mlflow"})
        yield mock
