"""A05, A06 and A12 of the catalogue: how often the auth service is asked, and how soon a no of its is heard."""

from __future__ import annotations

import socket
import time

import pytest

from tests.access.asking import ask
from tests.access.vouching import (
    HARD_SECONDS,
    NO,
    SHORT,
    Says,
    ScriptedAuth,
    ask_at_once,
    assert_outage,
    line,
    proxy_of,
    warm,
    yes,
)
from tests.support.auth_service import new_key
from tests.support.fleet import Start
from tests.support.upstream import RecordingUpstream

both = pytest.mark.parametrize("workers", [1, 4])


# --- A05 ---


def slowly(says: Says, seconds: float) -> Says:
    def say(conn: socket.socket) -> None:
        time.sleep(seconds)
        says(conn)

    return say


@both
def test_a05_200_requests_with_a_cold_key_ask_once_in_each_worker(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, workers: int
) -> None:
    key = new_key()
    auth.says[key] = slowly(yes(), 0.5)
    proxy = proxy_of(start, upstream, auth, workers)
    answers = ask_at_once(proxy, [key] * 200)
    assert [response.status for response in answers] == [200] * 200
    served = {line(proxy, response)["worker"] for response in answers}
    assert auth.asked() == len(served) <= workers
    sources = [line(proxy, response)["auth_source"] for response in answers]
    assert set(sources) <= {"service", "cache"} and sources.count("service") >= 1
    assert len(upstream.wait_for(200)) == 200


@both
def test_a05_200_requests_with_an_unknown_key_ask_once_in_each_worker(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, workers: int
) -> None:
    key = new_key()
    auth.says[key] = slowly(NO, 0.5)
    proxy = proxy_of(start, upstream, auth, workers)
    answers = ask_at_once(proxy, [key] * 200)
    assert [response.status for response in answers] == [401] * 200
    assert auth.asked() == len({line(proxy, response)["worker"] for response in answers}) <= workers
    assert upstream.requests == []


def test_no_more_calls_at_once_than_are_allowed(start: Start, upstream: RecordingUpstream, auth: ScriptedAuth) -> None:
    """The others are told at once to come again, and a warm key needs nobody."""
    busy, most = [0], [0]

    def say(conn: socket.socket) -> None:
        busy[0] += 1
        most.append(busy[0])
        time.sleep(0.4)
        busy[0] -= 1
        NO(conn)

    proxy = proxy_of(start, upstream, auth, 1, AUTH_MAX_CONCURRENT="5")
    known = auth.grant()
    warm(proxy, known, 1)
    keys = [new_key() for _ in range(30)]
    auth.says.update(dict.fromkeys(keys, say))
    answers = ask_at_once(proxy, [*keys, *[known] * 10])
    assert {response.status for response in answers[30:]} == {200}
    refused = [response for response in answers[:30] if response.status == 503]
    assert len(refused) >= 20 and {response.status for response in answers[:30]} == {401, 503}
    for response in refused:
        assert_outage(response)
        assert line(proxy, response)["error_kind"] == "auth_busy"
    assert max(most) <= 5


# --- A06 ---


@both
def test_a06_a_revoked_key_is_refused_within_the_hard_limit(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, workers: int
) -> None:
    key = auth.grant()
    proxy = proxy_of(start, upstream, auth, workers, **SHORT)
    warm(proxy, key, workers)
    response = ask(proxy, key)
    assert (response.status, line(proxy, response)["auth_source"]) == (200, "cache")
    auth.says[key] = NO
    revoked_at = time.monotonic()
    while time.monotonic() - revoked_at < HARD_SECONDS:
        assert {response.status for response in ask_at_once(proxy, [key] * 8)} <= {200, 401}
        time.sleep(0.05)
    answers = ask_at_once(proxy, [key] * 50)
    assert [response.status for response in answers] == [401] * 50


def test_a06_a_key_in_use_is_asked_for_again_behind_its_users_back(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth
) -> None:
    """D01: a slow auth service slows nobody down who was known a moment ago."""
    key = auth.grant()
    proxy = proxy_of(
        start, upstream, auth, 1, **{**SHORT, "AUTH_CACHE_HARD_SECONDS": "20", "AUTH_TIMEOUT_SECONDS": "9"}
    )
    warm(proxy, key, 1)
    auth.says[key] = slowly(yes(), 2.0)
    deadline = time.monotonic() + 10
    slowest = 0.0
    while auth.asked() < 3:
        assert time.monotonic() < deadline
        response = ask(proxy, key)
        seen = line(proxy, response)
        assert (response.status, seen["auth_source"]) == (200, "cache")
        slowest = max(slowest, seen["auth_ms"])
        time.sleep(0.02)
    assert slowest < 1000


# --- A12 ---


@both
def test_a12_a_bound_key_is_asked_about_again_from_another_address(
    start: Start, upstream: RecordingUpstream, auth: ScriptedAuth, workers: int
) -> None:
    key = auth.grant(allowed_ips=["203.0.113.9"])
    proxy = proxy_of(start, upstream, auth, workers)
    warm(proxy, key, workers)
    known = auth.asked()
    assert known == workers
    auth.says[key] = NO  # as it is for everybody else
    refused = ask(proxy, key, address="198.51.100.7")
    assert (refused.status, auth.addresses()[known:]) == (401, ["198.51.100.7"])
    assert [response.status for response in ask_at_once(proxy, [key] * 40)] == [200] * 40
    assert auth.asked() == known + 1, "where it was good it still is, for its minute"


def test_a12_a_key_that_is_good_anywhere_is_not(start: Start, upstream: RecordingUpstream, auth: ScriptedAuth) -> None:
    key = auth.grant(allowed_ips=[], ip_bound=False)
    proxy = proxy_of(start, upstream, auth, 1)
    for number in range(10):
        assert ask(proxy, key, address=f"198.51.100.{number}").status == 200
    assert auth.addresses() == ["198.51.100.0"]
