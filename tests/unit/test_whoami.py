"""app/blueprints/whoami.py: what is told, and in whose name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from app import scope as scopes
from app.blueprints.whoami import SETTINGS, described, families, make_blueprint, origin
from app.permissions import permits
from app.policy import read_routes
from app.scope import Principal, Route
from tests.unit import samples

HOSTS = ("registry.example.org", "api.example.org")


def told(principal: Principal, host: str = "registry.example.org", **options: Any) -> dict[str, Any]:
    """The answer to a principal."""
    app = Flask("test")
    app.register_blueprint(
        make_blueprint(read_routes(), lambda route, who: permits(route.access, who), HOSTS, **options)
    )
    environ = {scopes.KEY: samples.scope(principal=principal), "HTTP_HOST": host}
    answer = app.test_client().get("/mlflow/whoami", environ_overrides=environ)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    body: dict[str, Any] = json.loads(answer.data)
    return body


def test_a_principal_is_described_as_it_is_known() -> None:
    known = Principal(
        "u", "k", frozenset({"b", "a"}), 7, "u@example.org", frozenset({"r"}), True, "2999-01-31T00:00:00Z"
    )
    assert described(known) == {
        "key_id": "k",
        "user_id": "u",
        "email": "u@example.org",
        "scopes": ["a", "b"],
        "roles": ["r"],
        "is_admin": True,
        "expires_at": "2999-01-31T00:00:00Z",
    }
    unknown = described(Principal("u", "k"))
    assert (unknown["email"], unknown["expires_at"], unknown["is_admin"]) == (None, None, False)


def test_without_a_counter_the_limit_itself_is_told() -> None:
    assert told(samples.principal())["limits"] == {"rate_limit_per_hour": 1000}


def test_a_counter_is_asked_about_the_principal_and_what_it_says_is_told() -> None:
    asked: list[Principal] = []

    def remaining(principal: Principal) -> dict[str, Any]:
        asked.append(principal)
        return {"remaining": 3, "resets_in_seconds": 60}

    limits = told(samples.principal("x"), remaining=remaining)["limits"]
    assert limits == {"rate_limit_per_hour": 1000, "remaining": 3, "resets_in_seconds": 60}
    assert asked == [samples.principal("x")]


def test_families_go_by_what_the_scopes_open() -> None:
    reader, writer, admin = (
        told(samples.principal(scope))["families"] for scope in ("", "model:write", "registry:admin")
    )
    assert [list(one) for one in (reader, writer, admin)] == [["admin", "read", "use", "write"]] * 3
    assert reader["read"] == writer["read"] == admin["read"] and "tracking.runs" in reader["read"]
    assert (reader["write"], reader["use"], reader["admin"]) == ([], [], [])
    assert "tracking.runs" in writer["write"] and (writer["use"], writer["admin"]) == ([], [])
    assert admin["write"] == [] and "registry.webhooks" in admin["admin"] and "gateway.invoke" in admin["use"]


def test_a_family_is_told_once_and_only_by_the_classes_that_are_open() -> None:
    routes = [Route("GET", f"/{n}", "f", "a", access, True) for n, access in enumerate(("read", "read", "write"))]
    assert families(routes) == {"read": ["f"], "write": ["f"], "use": [], "admin": []}


# --- in whose name ---


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("registry.example.org", "https://registry.example.org"),
        ("api.example.org", "https://api.example.org"),
        ("API.Example.ORG:443", "https://api.example.org"),
        ("127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("127.0.0.2", "http://127.0.0.2"),
        ("localhost:8001", "http://localhost:8001"),
        ("[::1]:8001", "http://[::1]:8001"),
        ("[::1]", "http://[::1]"),
        # whatever else a client writes there
        ("evil.example", "https://registry.example.org"),
        ("registry.example.org.evil.example", "https://registry.example.org"),
        ("localhost.evil.example:80", "https://registry.example.org"),
        ("127.0.0.1.evil.example", "https://registry.example.org"),
        ("192.0.2.1:8001", "https://registry.example.org"),
        ("[2001:db8::1]:8001", "https://registry.example.org"),
        ("", "https://registry.example.org"),
    ],
)
def test_the_host_header_counts_when_it_is_one_of_ours(host: str, expected: str) -> None:
    assert origin(host, HOSTS) == expected


def test_where_there_is_no_public_host_the_user_fills_it_in() -> None:
    assert origin("evil.example", ()) == "https://<host>"


@pytest.mark.parametrize("client", SETTINGS)
def test_the_settings_of_each_client_hold_the_documented_address_and_a_place_for_the_key(client: str) -> None:
    text = told(samples.principal(), "api.example.org:443")["settings"][client]
    assert "https://api.example.org/api/mlflow" in text
    assert text.count("<your key>") == 1 and text.endswith("\n")
    assert "{" not in text.replace("init({", "")


def test_there_are_settings_for_each_client_of_the_contract() -> None:
    assert set(told(samples.principal())["settings"]) == {"python", "r", "java", "typescript", "otlp"}
