"""app/permissions.py: denials, and the lock-down of the registry. Which scope opens what is in test_policy.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.permissions import Permissions
from app.policy import read_routes
from app.policy_settings import PolicySettings
from app.scope import Principal, Route
from tests.unit import samples

OPEN = Permissions(PolicySettings())
LOCKED = Permissions(PolicySettings(locked=True, admin_emails=frozenset({"admin@example.org"})))
WRITER = samples.principal("model:read", "model:write")

CREATE = Route("POST", "/api/2.0/mlflow/registered-models/create", "registry.models", "models.create", "write", True)
GET = replace(CREATE, method="GET", action="models.get", access="read")
VERSION = replace(CREATE, family="registry.versions")
RUN = replace(CREATE, family="tracking.runs", action="runs.create")

ADMINS = {
    "is_admin": replace(WRITER, is_admin=True),
    "email": replace(WRITER, email="admin@example.org"),
    "email in capitals": replace(WRITER, email="Admin@Example.ORG"),
    "scope": samples.principal("model:write", "registry:admin"),
    "role": replace(WRITER, roles=frozenset({"model-registry:admin"})),
}
OTHERS = {
    "a writer": WRITER,
    "another email": replace(WRITER, email="admin@example.org.evil.example"),
    "another role": replace(WRITER, roles=frozenset({"admins", "Admin"})),
    "full access": samples.principal("full_access", "write", "mlflow:access"),
}


@pytest.mark.parametrize("route", [CREATE, VERSION], ids=["models", "versions"])
@pytest.mark.parametrize("principal", ADMINS.values(), ids=ADMINS)
def test_an_admin_may_change_the_locked_registry(principal: Principal, route: Route) -> None:
    assert LOCKED.denial(route, principal) is None and LOCKED.allows(route, principal)


@pytest.mark.parametrize("route", [CREATE, VERSION], ids=["models", "versions"])
@pytest.mark.parametrize("principal", OTHERS.values(), ids=OTHERS)
def test_nobody_else_may(principal: Principal, route: Route) -> None:
    denial = LOCKED.denial(route, principal)
    assert denial is not None and not LOCKED.allows(route, principal)
    assert (denial.status, denial.error_code, denial.kind) == (403, "PERMISSION_DENIED", "registry_locked")
    assert denial.extra == {
        "error": "REGISTRY_ADMIN_REQUIRED",
        "required_scope": "admin or mlflow:admin or model-registry:admin or registry:admin",
        "current_scopes": sorted(principal.scopes),
    }


@pytest.mark.parametrize("principal", OTHERS.values(), ids=OTHERS)
def test_everybody_reads_the_locked_registry_and_writes_elsewhere(principal: Principal) -> None:
    assert [LOCKED.denial(route, principal) for route in (GET, RUN)] == [None, None]


@pytest.mark.parametrize("principal", [*ADMINS.values(), *OTHERS.values()], ids=[*ADMINS, *OTHERS])
def test_an_open_registry_asks_for_a_write_scope_alone(principal: Principal) -> None:
    assert OPEN.denial(CREATE, principal) is None


@pytest.mark.parametrize("permissions", [OPEN, LOCKED], ids=["open", "locked"])
def test_an_admins_key_for_reading_stays_one(permissions: Permissions) -> None:
    reader = Principal("u", "k", frozenset({"model:read"}), email="admin@example.org", is_admin=True)
    denial = permissions.denial(CREATE, reader)
    assert denial is not None and denial.kind == "scope_write" and "error" not in denial.extra


def test_nobody_without_an_address_is_the_one_with_an_empty_one() -> None:
    assert Permissions(PolicySettings(locked=True)).denial(CREATE, WRITER) is not None


def test_a_principal_is_allowed_exactly_what_it_is_not_denied() -> None:
    for permissions in (OPEN, LOCKED):
        for principal in (*ADMINS.values(), *OTHERS.values(), samples.principal()):
            for route in read_routes():
                assert permissions.allows(route, principal) is (permissions.denial(route, principal) is None)


def test_the_lock_down_concerns_every_change_of_models_and_versions_and_nothing_else() -> None:
    closed = {route.action for route in read_routes() if LOCKED.denial(route, WRITER) != OPEN.denial(route, WRITER)}
    shut = {
        r.action for r in read_routes() if r.family in ("registry.models", "registry.versions") and r.access != "read"
    }
    assert {action.partition(".")[0] for action in shut} == {"registered-models", "model-versions"}
    open_denials = {route.action for route in read_routes() if OPEN.denial(route, WRITER)}
    assert closed - open_denials == shut


# --- the settings ---

EMAIL_NAMES = (
    "REGISTRY_ADMIN_USER_EMAILS",
    "REGISTRY_ADMIN_USER_EMAIL",
    "ADMIN_BLOG_USER_EMAILS",
    "ADMIN_BLOG_USER_EMAIL",
)


def test_by_default_scopes_are_enforced_and_the_registry_is_open_to_writers() -> None:
    policy = samples.settings().policy
    assert (policy.report, policy.locked, policy.admin_emails) == (False, False, frozenset())
    assert policy.admin_scopes == {"admin", "mlflow:admin", "registry:admin", "model-registry:admin"}


@pytest.mark.parametrize("name", EMAIL_NAMES)
def test_addresses_of_admins_are_read_under_each_name_in_use(name: str) -> None:
    policy = samples.settings(**{name: " Ann@Example.org,,bob@example.org "}).policy
    assert policy.admin_emails == {"ann@example.org", "bob@example.org"}


def test_of_several_names_the_first_that_is_set_counts_alone() -> None:
    for first in range(len(EMAIL_NAMES)):
        given = {name: f"user{number}@example.org" for number, name in enumerate(EMAIL_NAMES) if number >= first}
        assert samples.settings(**given).policy.admin_emails == {f"user{first}@example.org"}


def test_mode_lock_and_scopes_are_read() -> None:
    policy = samples.settings(POLICY_MODE="report", REGISTRY_LOCKDOWN="true", REGISTRY_ADMIN_SCOPES="one, two").policy
    assert (policy.report, policy.locked, policy.admin_scopes) == (True, True, frozenset({"one", "two"}))
