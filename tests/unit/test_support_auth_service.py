"""The scripted auth service answers as the production one does, and as it is told."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.auth_service import VALIDATE_PATH, AuthService, new_key
from tests.support.client import RawResponse, request

BODY = json.dumps({"service_id": "platform"}).encode()


def validate(service: AuthService, key: str) -> RawResponse:
    return request(service.port, "POST", VALIDATE_PATH, [("Authorization", f"Bearer {key}")], BODY)


def test_a_granted_key_gets_its_fields_and_any_other_a_401() -> None:
    key = new_key()
    with AuthService() as service:
        service.grant(key, user_id="alice", scopes=["model:read"])
        granted = validate(service, key)
        assert (granted.status, granted.json()["user_id"], granted.json()["scopes"]) == (200, "alice", ["model:read"])
        assert validate(service, new_key()).status == 401
        basic = [("Authorization", f"Basic {key}")]
        assert request(service.port, "POST", VALIDATE_PATH, basic, BODY).status == 401
        service.revoke(key)
        assert validate(service, key).status == 401


def test_only_the_agreed_path_and_method_are_served() -> None:
    with AuthService() as service:
        assert request(service.port, "POST", "/api/api/v1/keys/validate", body=BODY).status == 404
        assert request(service.port, "GET", VALIDATE_PATH).status == 404
        assert [call.method for call in service.calls] == ["POST", "GET"]


def test_calls_are_recorded_with_credential_and_body() -> None:
    with AuthService() as service:
        validate(service, "some")
        request(service.port, "POST", VALIDATE_PATH, body=b"no json")
    first, second = service.calls
    assert (first.authorization, first.body) == ("Bearer some", {"service_id": "platform"})
    assert (second.authorization, second.body) == (None, b"no json")


def test_a_forced_answer_holds_until_the_reset() -> None:
    key = new_key()
    with AuthService() as service:
        service.grant(key)
        service.answer(503, b"<html>", [("Retry-After", "7")])
        forced = validate(service, key)
        assert (forced.status, forced.body, forced.header("Retry-After")) == (503, b"<html>", "7")
        service.reset()
        assert service.calls == []
        assert validate(service, key).status == 200


def test_a_delay_holds_the_answer_back_but_not_the_exit() -> None:
    with AuthService() as service:
        service.delay(0.2)
        before = time.monotonic()
        validate(service, "some")
        assert time.monotonic() - before >= 0.2
        service.delay(60)
        with pytest.raises(TimeoutError):
            request(service.port, "POST", VALIDATE_PATH, body=BODY, timeout=0.1)
    assert time.monotonic() - before < 5
