"""app/auth_service.py: what an answer of the auth service means, status by status and field by field."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from app.auth_service import MOST_BYTES, judge, read_principal
from app.errors import AuthUnavailable, ProxyError, RateLimited, Unauthenticated
from app.scope import Principal
from tests.unit.samples import PRINCIPAL, YES


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in YES.items() if key != name}


def test_a_401_is_the_one_no() -> None:
    with pytest.raises(Unauthenticated):
        judge(401, b"whatever", "")


@pytest.mark.parametrize("status", [*range(200, 600)])
def test_no_other_status_is_a_no_and_only_200_may_be_a_yes(status: int) -> None:
    if status in (200, 401):
        return
    with pytest.raises(ProxyError) as raised:
        judge(status, json.dumps(YES).encode(), "")
    assert (type(raised.value), raised.value.status) == (
        (RateLimited, 429) if status == 429 else (AuthUnavailable, 503)
    )


@pytest.mark.parametrize(
    ("given", "sent"),
    [("", "60"), ("7", "7"), ("0", "0"), ("1" * 5000, "60"), ("\u0667", "60"),
     ("1.5", "60"), ("-1", "60"), ("soon", "60"), ("7\r\nX: y", "60"),
     ("Thu, 01 Jan 1970 00:00:00 GMT", "60")],
)  # fmt: skip  # several cases a line
def test_a_limit_of_the_auth_service_is_told_in_whole_seconds(given: str, sent: str) -> None:
    with pytest.raises(RateLimited) as raised:
        judge(429, b"", given)
    assert raised.value.headers == [("Retry-After", sent)]


@pytest.mark.parametrize(
    "text", ["psycopg2.errors.UndefinedTable: relation", "UndefinedTable", "psycopg2.ProgrammingError: x"]
)
def test_a_schema_behind_its_code_is_an_event_of_its_own(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(AuthUnavailable):
        judge(500, text.encode(), "")
    assert [(record.name, record.message, record.__dict__["status"]) for record in caplog.records] == [
        ("app.auth", "auth_service_schema_error", 500)
    ]


@pytest.mark.parametrize(("status", "body"), [(500, b"other"), (403, b"UndefinedTable"), (502, b"")])
def test_other_faults_are_no_such_event(status: int, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AuthUnavailable):
        judge(status, body, "")
    assert caplog.records == []


# --- what a yes says ---


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (YES, PRINCIPAL),
        ({**YES, "valid": True}, PRINCIPAL),
        ({**YES, "more": {"a": 1}}, PRINCIPAL),
        ({**without("user_id"), "user": {"id": "user-1"}}, PRINCIPAL),
        ({**YES, "user": {"id": "user-2"}}, PRINCIPAL),
        ({**YES, "user_id": "", "user": {"id": "user-1"}}, PRINCIPAL),
        ({"user_id": "u", "key_id": "k"}, Principal("u", "k", frozenset(), 1000)),
        ({"user_id": "a.b_c:d@e-F9", "key_id": "k" * 128}, Principal("a.b_c:d@e-F9", "k" * 128)),
    ],
)
def test_a_well_formed_yes_is_a_principal(fields: dict[str, Any], expected: Principal) -> None:
    assert read_principal(json.dumps(fields).encode()) == expected


NO_YES: dict[str, bytes] = {
    "a yes that goes on for too long": json.dumps(YES).encode().ljust(MOST_BYTES + 1),
    "nothing": b"",
    "an empty object": b"{}",
    "a list": b"[]",
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a text": b'"yes"',
    "a list of a yes": json.dumps([YES]).encode(),
    "HTML": b"<html><body>200 OK</body></html>",
    "cut off": json.dumps(YES).encode()[:-5],
    "two objects": json.dumps(YES).encode() * 2,
    "no UTF-8": b'{"user_id": "\xff", "key_id": "k"}',
    "a NUL": b"\x00",
    "brackets without end": b"[" * MOST_BYTES,
    "objects without end": b'{"a":' * 10_000,
    "a number of five thousand digits": b'{"user_id": "u", "key_id": "k", "rate_limit_per_hour": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("body", NO_YES.values(), ids=NO_YES)
def test_a_body_that_is_no_yes_is_an_outage(body: bytes) -> None:
    with pytest.raises(AuthUnavailable):
        read_principal(body)


@pytest.mark.parametrize("valid", [False, None, 0, 1, "true", "false", [], {}, [True]])
def test_valid_must_be_true_when_it_is_there(valid: Any) -> None:
    with pytest.raises(AuthUnavailable):
        read_principal(json.dumps({**YES, "valid": valid}).encode())


BAD_IDS: dict[str, Any] = {
    "missing": None,
    "empty": "",
    "a number": 7,
    "true": True,
    "a list": ["user-1"],
    "an object": {"id": "user-1"},
    "a line break": "user-1\r\nX-Hokusai-User-Id: admin",
    "a line break at its end": "user-1\n",
    "a NUL": "user-1\x00",
    "a space": "user 1",
    "a comma": "user-1,admin",
    "an emoji": "\U0001f600",
    "a letter beyond ASCII": "us\xe9r",
    "another script's digit": "\u0661",
    "129 characters": "u" * 129,
    "ten kilobytes": "u" * 10_000,
}


@pytest.mark.parametrize("name", ["user_id", "key_id"])
@pytest.mark.parametrize("value", BAD_IDS.values(), ids=BAD_IDS)
def test_an_id_that_could_not_be_a_header_is_an_outage(name: str, value: Any) -> None:
    with pytest.raises(AuthUnavailable):
        read_principal(json.dumps({**YES, name: value}).encode())


@pytest.mark.parametrize("value", [*BAD_IDS.values()], ids=BAD_IDS)
def test_a_nested_id_that_could_not_be_a_header_is_an_outage(value: Any) -> None:
    with pytest.raises(AuthUnavailable):
        read_principal(json.dumps({**without("user_id"), "user": {"id": value}}).encode())


@pytest.mark.parametrize("user", [None, "user-1", ["user-1"], 7, {}, {"ID": "user-1"}])
def test_a_user_that_is_no_object_with_an_id_names_nobody(user: Any) -> None:
    with pytest.raises(AuthUnavailable):
        read_principal(json.dumps({**without("user_id"), "user": user}).encode())


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["a", "b", "a"], {"a", "b"}),
        ([], set()),
        (None, set()),
        ("admin", set()),
        ({"admin": True}, set()),
        (["a", 1, None, ["admin"], {"admin": 1}], {"a"}),
        (7, set()),
    ],
)
def test_scopes_are_the_texts_of_a_list_and_nothing_else(scopes: Any, expected: set[str]) -> None:
    assert read_principal(json.dumps({**YES, "scopes": scopes}).encode()).scopes == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(1, 1), (50, 50), (0, 1000), (-5, 1000), (None, 1000), (True, 1000), (2.5, 1000), ("50", 1000), ([], 1000)],
)
def test_a_limit_is_a_positive_whole_number_or_a_thousand(limit: Any, expected: int) -> None:
    assert read_principal(json.dumps({**YES, "rate_limit_per_hour": limit}).encode()).rate_limit_per_hour == expected


@pytest.mark.parametrize(
    ("fields", "bound"),
    [
        ({}, False),
        ({"ip_bound": True}, True),
        ({"ip_bound": False}, False),
        ({"ip_bound": None, "allowed_ips": None}, False),
        ({"allowed_ips": []}, False),
        ({"allowed_ips": ["203.0.113.0/24"]}, True),
        ({"ip_bound": False, "allowed_ips": ["203.0.113.9"]}, True),
        ({"ip_bound": "yes"}, True),
        ({"allowed_ips": "203.0.113.9"}, True),
    ],
)
def test_a_key_that_may_be_bound_to_addresses_is_taken_for_one(fields: dict[str, Any], bound: bool) -> None:
    """Wrongly bound costs a call, wrongly free lets somebody in."""
    assert read_principal(json.dumps({**YES, **fields}).encode()).ip_bound is bound


# --- who is more than a user: for the lock-down of the registry ---


def read(**fields: Any) -> Principal:
    """The principal of a yes with some more fields."""
    return read_principal(json.dumps({"user_id": "user-1", "key_id": "key-1", **fields}).encode())


@pytest.mark.parametrize("value", [None, False, 1, "true", "True", [True], {"is_admin": True}, {}], ids=repr)
def test_nothing_but_true_makes_an_admin(value: Any) -> None:
    assert [read(is_admin=value).is_admin, read(user={"is_admin": value}).is_admin] == [False, False]


def test_email_roles_and_is_admin_are_read_from_either_place_and_the_outer_one_wins() -> None:
    fields = {"email": "a@example.org", "roles": ["r"], "is_admin": True}
    for principal in (read(**fields), read(user=fields), read(email=None, roles=None, is_admin=None, user=fields)):
        assert (principal.email, principal.roles, principal.is_admin) == ("a@example.org", frozenset({"r"}), True)
    outer = read(email="b@example.org", roles=[], is_admin=False, user=fields)
    assert (outer.email, outer.roles, outer.is_admin) == ("b@example.org", frozenset(), False)


@pytest.mark.parametrize(
    "value",
    [None, "", 7, ["a@example.org"], "a", "@example.org", "a@", "a b@example.org", "a@b,c@d", "a@b\r\nX: y", "a@b@c"],
    ids=repr,
)
def test_what_is_no_address_is_none(value: Any) -> None:
    assert read(email=value).email == ""


@pytest.mark.parametrize("value", [None, "admin", {"admin": 1}, 7, [1, None, ["admin"]]], ids=repr)
def test_roles_are_the_texts_of_a_list_and_nothing_else(value: Any) -> None:
    assert read(roles=value).roles == frozenset()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2999-01-31T00:00:00Z", "2999-01-31T00:00:00+00:00"),
        ("2999-01-31T02:00:00.5+02:00", "2999-01-31T02:00:00+02:00"),
        ("2999-01-31T00:00:00", ""),
        ("2999-01-31", ""),
        ("soon", ""),
        (32472144000, ""),
        (None, ""),
    ],
)
def test_an_expiry_is_told_when_it_is_a_moment(value: Any, expected: str) -> None:
    assert read(expires_at=value).expires_at == expected
